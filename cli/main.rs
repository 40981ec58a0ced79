//! The command line tool `resourcelock`: locks for shell scripts and for people who watch them.
//!
//! Thin: it parses the command line, runs one command and turns its outcome into an exit status. It uses the library's
//! public API only. Invariants of the whole tool:
//! - the exit status is true afterwards: 0 of a `get` means that the lock is held, anything else that this command does
//!   not hold it (a killed `get` leaves a dead holder, which the next grant recovers);
//! - text from a record or from the command line is escaped before it is written to a terminal;
//! - nothing panics, also if stdout or stderr is closed.

mod args;
mod commands;
mod exit;
mod json;
mod launch;
mod local_time;
mod logger;
mod output;
mod signals;
mod style;
mod table;
mod view;
mod witness;
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
