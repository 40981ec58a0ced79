//! `unget`: force-releases the lock, whoever holds it.
//!
//! A person's decision: the holder, if it lives, goes on believing that it is alone until it next asks.

use resourcelock::{Error, ResourceLock};

use crate::args::Args;
use crate::exit::Exit;
use crate::output::Answer;

pub(crate) fn run(args: &Args) -> Result<Exit, Error> {
    let forced = (Answer::ForceReleased(&args.message), Exit::Done);
    let (answer, exit) = match super::open_existing(args) {
        Ok(Some(lock)) if lock.unget_lock(true, &args.message) => forced,
        Ok(_) => (Answer::Extraneous(&args.message), Exit::No),
        // Its header is damaged, so who holds cannot be told. Whoever has it open goes on with the next one.
        Err(Error::Corrupt) => {
            ResourceLock::options().dir(&args.dir).remove(&args.lock, true)?;
            forced
        }
        Err(error) => return Err(error),
    };
    Ok(super::told(super::say(args.json, super::lockname(args), &answer), exit))
}
