//! `unget`: force-releases the lock, whoever holds it.
//!
//! A person's decision: the holder, if it lives, goes on believing that it is alone until it next asks.

use resourcelock::Error;

use crate::args::Args;
use crate::exit::Exit;
use crate::output::{self, Answer, Unwritten};

pub(crate) fn run(args: &Args) -> Result<Exit, Error> {
    let (answer, exit) = match super::open_existing(args)? {
        Some(lock) if lock.unget_lock(true, &args.message) => (Answer::ForceReleased(&args.message), Exit::Done),
        _ => (Answer::Extraneous(&args.message), Exit::No),
    };
    match output::answer(super::lockname(args), &answer) {
        Ok(()) | Err(Unwritten::Unread) => Ok(exit),
        Err(Unwritten::Failed) => Ok(Exit::Output),
    }
}
