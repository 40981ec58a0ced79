//! `unget`: force-releases the lock, whoever holds it.
//!
//! That is a person's decision: the holder, if it lives, believes that it is alone with the resource until it next asks.

use resourcelock::Error;

use crate::args::Args;
use crate::exit::Exit;
use crate::output::Answer;

pub(crate) fn run(args: &Args) -> Result<Exit, Error> {
    let forced = (Answer::ForceReleased(&args.message), Exit::Done);
    let (answer, exit) = match super::existing(args, super::looking(args).force_release(&args.lock)) {
        Ok(Some(true)) => forced,
        Ok(_) => (Answer::Extraneous(&args.message), Exit::No),
        // The record's header is damaged, so the holder is unknown. Open handles continue with a new record.
        Err(Error::Corrupt) => {
            super::looking(args).remove(&args.lock, true)?;
            forced
        }
        Err(error) => return Err(error),
    };
    Ok(super::printed(super::print_answer(args.json, super::lockname(args), &answer), exit))
}
