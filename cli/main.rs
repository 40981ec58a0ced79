//! The command line tool `resourcelock`: locks for shell scripts, and a look at them for people.
//!
//! Thin: it reads the words, runs one command and turns its outcome into an exit status. Everything stands on the
//! library's public API. Invariants of the whole tool:
//! - the status tells what is so afterwards: 0 of a `get` means that the lock is held, anything else that it is not held
//!   by us (what a killed `get` leaves is a process hold, which the next get recovers);
//! - text from a record or from the command line is escaped before it reaches a terminal;
//! - nothing panics: not for want of a reader of stdout, nor of stderr.

mod args;
mod commands;
mod exit;
mod json;
mod local_time;
mod logger;
mod output;
mod signals;
mod style;
mod table;
mod view;
mod wording;

use std::process::ExitCode;

use args::{Args, Parsed};

fn main() -> ExitCode {
    commands::complete();
    let exit = match Args::parse(std::env::args_os()) {
        Parsed::Run(args) => {
            logger::install(args.verbose);
            commands::run(args)
        }
        Parsed::Done(exit) => exit,
    };
    exit.into()
}
