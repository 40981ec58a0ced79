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
use resourcelock::{Error, Escaped, Grant, Guard, Kind, OpenOptions, ResourceLock, Snapshot};

use crate::args::{Args, Command};
use crate::exit::Exit;
use crate::json::{self, Got};
use crate::local_time;
use crate::output::{self, Answer, Unwritten};
use crate::wording;

pub(crate) use generate::complete;

/// Runs the command that the words ask for. What fails is said here.
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

/// How the locks of the directory are looked at. JSON has its times in UTC, so no time zone is looked up for it.
fn looking(args: &Args) -> OpenOptions<'_> {
    let options = ResourceLock::options().dir(&args.dir).create(false);
    if args.json { options } else { local_time::shown_in(options) }
}

/// How a lock is opened, and made if there is none.
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

/// The number of a group that is given by its name or its number.
fn group_id(group: &str) -> Option<u32> {
    group.parse().ok().or_else(|| Some(Group::from_name(group).ok()??.gid.as_raw()))
}

/// Looks at the lock, if there is one; makes none.
fn inspect(args: &Args) -> Result<Option<Snapshot>, Error> {
    existing(args, looking(args).inspect(&args.lock))
}

/// Opens the lock if there is one; makes none.
fn open_existing(args: &Args) -> Result<Option<ResourceLock>, Error> {
    existing(args, looking(args).open(&args.lock))
}

fn existing<T>(args: &Args, found: Result<T, Error>) -> Result<Option<T>, Error> {
    match found {
        Ok(lock) => Ok(Some(lock)),
        // Not having found the directory is no answer about a lock: it may well be misspelt.
        Err(Error::NotFound) if !Path::new(&args.dir).is_dir() => Err(Error::DirectoryMissing),
        Err(Error::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The lock's name as the library shows it, for a lock that does not exist. The name is valid: opening it was tried.
fn lockname(args: &Args) -> &str {
    args.lock.strip_prefix('/').unwrap_or(&args.lock)
}

/// Gives the answer as text or as JSON. (The grant of a get has more to say in JSON, and says it itself.)
fn say(as_json: bool, name: &str, answer: &Answer<'_>) -> Result<(), Unwritten> {
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
        Answer::Removed => json::answer("remove", name, "removed", true),
        Answer::NothingToRemove | Answer::NotRemoved(_) => json::answer("remove", name, "removed", false),
        Answer::State { is_locked, .. } => json::answer("lock", name, "locked", *is_locked),
    })
}

/// The exit of a command that has done what it was asked, or not, and has told so or tried to.
fn told(told: Result<(), Unwritten>, exit: Exit) -> Exit {
    match told {
        Ok(()) | Err(Unwritten::Unread) => exit,
        Err(Unwritten::Failed) => Exit::Output,
    }
}

/// Says who is in the way, and what would help.
fn complain_of_holder(name: &str, owner: Option<&Grant>) {
    let Some(owner) = owner else {
        output::complain(name, &"the lock is just changing hands; try again");
        return;
    };
    let who = wording::who(owner.pid(), Some(owner));
    let message = match owner.kind() {
        Kind::Process => format!("held by {who}"),
        Kind::Detached => format!("got by {who} and held until somebody ungets it"),
        Kind::Foreign => {
            format!("held by {who} of another PID namespace; if that has died, only 'unget' helps")
        }
    };
    output::complain(name, &message);
}

/// Says that the hold was taken over from a holder that died.
fn tell_of_the_dead(guard: &Guard<'_>) {
    let dead = guard.recovered_from();
    let mut who = wording::who(guard.recovered_pid().unwrap_or_default(), dead.as_ref());
    if let Some(dead) = dead {
        who += &format!(", granted <{dead}>");
    }
    output::complain(
        guard.lock().lockname(),
        &format_args!("recovered: the previous holder died while it held: {who}; check the resource"),
    );
}

fn cannot_watch(name: &str, error: &io::Error) -> Exit {
    output::complain(name, &format_args!("watching for signals failed: {error}"));
    Exit::System
}
