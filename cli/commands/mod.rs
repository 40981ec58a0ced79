//! The commands: one file each. Here is what several of them need.

mod changes;
mod generate;
mod get;
mod history;
mod list;
mod remove;
mod run;
mod state;
mod top;
mod trace;
mod unget;
mod wait;

use std::io;
use std::path::Path;

use nix::unistd::Group;
use resourcelock::{Error, Escaped, Grant, HolderSummary, Kind, OpenOptions, Previous, ResourceLock, Snapshot};

use crate::args::{Args, Command};
use crate::exit::Exit;
use crate::json::{self, Got};
use crate::local_time;
use crate::output::{self, Answer, Unwritten};
use crate::wording;

pub(crate) use generate::complete;

/// Runs the command, and reports its error.
pub(crate) fn run(args: Args) -> Exit {
    let about = if args.lock.is_empty() && args.command.is_about_all() { &args.dir } else { &args.lock }.clone();
    log::info!("<{}> {} in {}", Escaped(&about), args.command.word(), Escaped(&args.dir));
    let outcome = match args.command {
        Command::Get => get::run(args),
        Command::Unget => unget::run(&args),
        Command::State => state::run(&args),
        Command::Trace if args.changes => changes::run(&args),
        Command::Trace => trace::run(&args),
        Command::Run => run::run(&args),
        Command::History => history::run(&args),
        Command::Wait => wait::run(&args),
        Command::Remove => remove::run(&args),
        Command::List => list::run(&args),
        Command::Top => top::run(&args),
        Command::Generate(target) => generate::run(target),
    };
    outcome.unwrap_or_else(|error| output::fail(&about, error))
}

/// Options to look at the locks of the directory. JSON has its times in UTC, so no time zone is looked up for it.
fn looking(args: &Args) -> OpenOptions<'_> {
    let options = ResourceLock::options().dir(&args.dir).create(false);
    if args.json { options } else { local_time::shown_in(options) }
}

/// Options to open a lock, and to make it if there is none.
fn making(args: &Args) -> Result<OpenOptions<'_>, Exit> {
    let mut options = looking(args).create(true);
    if let Some(mode) = args.mode {
        options = options.mode(mode);
    }
    if let Some(group) = &args.group {
        options = options.group(group_id(group).ok_or_else(|| {
            output::complain(&args.lock, &format_args!("there is no group '{}'", Escaped(group)));
            Exit::Usage
        })?);
    }
    Ok(options)
}

/// The number of a group, from its name or its number.
fn group_id(group: &str) -> Option<u32> {
    group.parse().ok().or_else(|| Some(Group::from_name(group).ok()??.gid.as_raw()))
}

/// Looks at the lock. `None` if there is none.
fn inspect(args: &Args) -> Result<Option<Snapshot>, Error> {
    existing(args, looking(args).inspect(&args.lock))
}

/// `None` for a lock that does not exist.
fn existing<T>(args: &Args, found: Result<T, Error>) -> Result<Option<T>, Error> {
    match found {
        Ok(lock) => Ok(Some(lock)),
        // A missing directory is an error: its name may be misspelt.
        Err(Error::NotFound) if !Path::new(&args.dir).is_dir() => Err(Error::DirectoryMissing),
        Err(Error::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The lock's name as the library shows it, also of a lock that does not exist.
fn lockname(args: &Args) -> &str {
    args.lock.strip_prefix('/').unwrap_or(&args.lock)
}

/// Prints the answer as text or as JSON. (`get` prints its own JSON for a grant, which has more fields.)
fn print_answer(as_json: bool, name: &str, answer: &Answer<'_>) -> Result<(), Unwritten> {
    if !as_json {
        return output::answer(name, answer);
    }
    output::print(&match answer {
        Answer::Granted(grant) => json::get(name, Got { grant: grant.as_ref(), ..Got::default() }),
        Answer::TimedOut(owner) => json::get(name, Got { holder: owner.as_ref(), ..Got::default() }),
        Answer::Released(_) | Answer::ForceReleased(_) => json::answer("unget", name, "released", true),
        Answer::Extraneous(_) | Answer::NotOwned(_) => json::answer("unget", name, "released", false),
        Answer::IsFree => json::answer("wait", name, "free", true),
        Answer::WaitTimedOut(_) => json::answer("wait", name, "free", false),
        Answer::Removed(previous) => json::remove(name, Some(previous)),
        Answer::NothingToRemove | Answer::NotRemoved(_) => json::remove(name, None),
        Answer::State { is_locked, .. } => json::answer("lock", name, "locked", *is_locked),
    })
}

/// The exit of a command that has printed its answer, or failed to.
fn printed(printed: Result<(), Unwritten>, exit: Exit) -> Exit {
    match printed {
        Ok(()) | Err(Unwritten::Unread) => exit,
        Err(Unwritten::Failed) => Exit::Output,
    }
}

/// The whole grant of the holder that an error names, as far as the lock still remembers it.
fn grant_of(lock: &ResourceLock, holder: Option<&HolderSummary>) -> Option<Grant> {
    let number = holder?.number();
    // The present grant first: the history may not know yet that it was detached.
    let present = lock.holder().filter(|grant| grant.number() == number);
    present.or_else(|| lock.history().iter().find(|grant| grant.number() == number).cloned())
}

/// Reports who holds the lock, on stderr.
fn complain_of_holder(name: &str, holder: Option<&Grant>) {
    let Some(holder) = holder else {
        output::complain(name, &"the lock is changing hands; try again");
        return;
    };
    let who = wording::who(holder);
    output::complain(
        name,
        &match holder.kind() {
            Kind::Process => format!("held by {who}"),
            Kind::Detached => format!("acquired by {who} and held until 'unget'"),
        },
    );
}

/// Reports on stderr a previous holder that did not release, so that the resource may be inconsistent.
fn report_previous(name: &str, previous: &Previous) {
    let what = match previous {
        Previous::Released => return,
        Previous::Died(_) => "recovered: the previous holder died while it held",
        Previous::Forced(_) => "the previous holder was forced off",
        _ => "the previous holder did not release",
    };
    let who = match previous.grant() {
        Some(grant) => format!("{}, granted <{grant}>", wording::who(grant)),
        None => "unknown, because it had not yet recorded its pid".to_owned(),
    };
    output::complain(name, &format_args!("{what}: {who}; check the resource"));
}

fn cannot_watch(name: &str, error: &io::Error) -> Exit {
    output::complain(name, &format_args!("cannot watch for signals: {error}"));
    Exit::System
}
