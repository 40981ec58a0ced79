//! `state`: tells whether the lock is held, and its last grant. Changes nothing, makes nothing.

use resourcelock::{Error, ResourceLock};

use crate::args::Args;
use crate::exit::Exit;
use crate::output::{self, Answer};

pub(crate) fn run(args: &Args) -> Result<Exit, Error> {
    let lock = super::open_existing(args)?;
    let printed = output::answer(super::lockname(args), &answer(lock.as_ref()));
    Ok(printed.map_or_else(output::failed, |()| Exit::Done))
}

/// A lock that does not exist is one that nobody holds or has held.
pub(super) fn answer(lock: Option<&ResourceLock>) -> Answer<'static> {
    Answer::State {
        is_locked: lock.is_some_and(ResourceLock::is_locked),
        prior: lock.and_then(ResourceLock::last_grant),
    }
}
