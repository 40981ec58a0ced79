//! `remove`: removes the lock. Handles that are open continue with a new one.

use resourcelock::{Error, Previous, Snapshot};

use crate::args::Args;
use crate::exit::Exit;
use crate::output::Answer;

pub(crate) fn run(args: &Args) -> Result<Exit, Error> {
    let name = super::lockname(args);
    // The options of a look: the previous holder's time is shown in local time.
    let removed = super::existing(args, super::looking(args).remove(&args.lock, args.force));
    let (answer, exit) = match removed {
        Ok(Some(previous)) => {
            // The only report of it: there is no next grant of this lock. A holder that this command evicted is no news.
            if !(args.force && matches!(previous, Previous::Forced(_))) {
                super::report_previous(name, &previous);
            }
            (Answer::Removed(previous), Exit::Done)
        }
        Ok(None) => (Answer::NothingToRemove, Exit::No),
        Err(Error::Held) => {
            let holder = super::inspect(args)?.as_ref().and_then(Snapshot::holder);
            super::complain_of_holder(name, holder.as_ref());
            (Answer::NotRemoved(holder), Exit::No)
        }
        Err(error) => return Err(error),
    };
    Ok(super::printed(super::print_answer(args.json, name, &answer), exit))
}
