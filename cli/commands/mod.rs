//! The commands: one file each.

mod get;
mod state;
mod trace;
mod unget;

use std::io;
use std::path::Path;

use resourcelock::{Error, Escaped, ResourceLock};

use crate::args::{Args, Command};
use crate::exit::Exit;
use crate::local_time;
use crate::output;

/// Runs the command that the words ask for. What fails is said here.
pub(crate) fn run(args: Args) -> Exit {
    let name = args.lock.clone();
    log::info!("<{}> {} in {}", Escaped(&name), args.command.word(), Escaped(&args.dir));
    let outcome = match args.command {
        Command::Get => get::run(args),
        Command::Unget => unget::run(&args),
        Command::State => state::run(&args),
        Command::Trace => trace::run(&args),
    };
    outcome.unwrap_or_else(|error| output::fail(&name, error))
}

/// Opens the lock if there is one; makes none.
fn open_existing(args: &Args) -> Result<Option<ResourceLock>, Error> {
    match local_time::shown_in(ResourceLock::options().dir(&args.dir)).create(false).open(&args.lock) {
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

fn cannot_watch(name: &str, error: &io::Error) -> Exit {
    output::complain(name, &format_args!("watching for signals failed: {error}"));
    Exit::System
}
