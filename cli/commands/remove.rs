//! `remove`: removes the lock. Whoever has it open goes on with a new one.

use resourcelock::{Error, ResourceLock, Snapshot};

use crate::args::Args;
use crate::exit::Exit;
use crate::output::Answer;

pub(crate) fn run(args: &Args) -> Result<Exit, Error> {
    let removed = super::existing(args, ResourceLock::options().dir(&args.dir).remove(&args.lock, args.force));
    let (answer, exit) = match removed {
        Ok(Some(())) => (Answer::Removed, Exit::Done),
        Ok(None) => (Answer::NothingToRemove, Exit::No),
        Err(Error::Held) => {
            let owner = super::inspect(args)?.as_ref().and_then(Snapshot::holder);
            super::complain_of_holder(super::lockname(args), owner.as_ref());
            (Answer::NotRemoved(owner), Exit::No)
        }
        Err(error) => return Err(error),
    };
    Ok(super::told(super::say(args.json, super::lockname(args), &answer), exit))
}
