//! `wait`: waits until nobody holds the lock, and does not take it.
//!
//! A signal ends it as signals do: there is nothing to put in order.

use resourcelock::{Error, Snapshot};

use crate::args::Args;
use crate::exit::Exit;
use crate::output::Answer;

pub(crate) fn run(args: &Args) -> Result<Exit, Error> {
    // A lock that does not exist is free, but not one of a directory that does not exist.
    super::inspect(args)?;
    let (answer, exit) = if super::looking(args).wait_until_free(&args.lock, args.get_timeout)? {
        (Answer::IsFree, Exit::Done)
    } else {
        let owner = super::inspect(args)?.as_ref().and_then(Snapshot::holder);
        (Answer::WaitTimedOut(owner), args.conflict)
    };
    Ok(super::told(super::say(args.json, super::lockname(args), &answer), exit))
}
