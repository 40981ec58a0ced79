//! `wait`: waits until nobody holds the lock, and does not acquire it.
//!
//! Signals have their default actions: there is nothing to clean up.

use resourcelock::{Error, Snapshot};

use crate::args::Args;
use crate::exit::Exit;
use crate::output::Answer;

pub(crate) fn run(args: &Args) -> Result<Exit, Error> {
    // A lock that does not exist is free, but a missing directory is an error.
    super::inspect(args)?;
    let (answer, exit) = if super::looking(args).wait_until_free(&args.lock, args.get_timeout)? {
        (Answer::IsFree, Exit::Done)
    } else {
        let holder = super::inspect(args)?.as_ref().and_then(Snapshot::holder);
        (Answer::WaitTimedOut(holder), args.conflict)
    };
    Ok(super::printed(super::print_answer(args.json, super::lockname(args), &answer), exit))
}
