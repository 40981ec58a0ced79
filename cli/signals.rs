//! Signals that ask the command to end: SIGINT, SIGTERM, SIGHUP.
//!
//! A thread waits for them and ends the process, so that a command ends whatever its main thread is stuck in: the wait
//! for a lock, or a write that nobody reads. What must be put in order first is the command's closure to do; it excludes
//! the main thread by a mutex, and the process ends before that is given back. A second signal finds the process at its
//! end.
//!
//! A SIGHUP that was ignored when we were started stays ignored: that is what nohup(1) is for. The same is not done for
//! SIGINT, which a shell without job control ignores for every command that it starts in the background, so that
//! `kill -INT` would leave the lock held.

use std::fs;
use std::io;
use std::process;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::exit::Exit;

/// A signal that ends the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    HangUp,
    Interrupt,
    Terminate,
}

impl Signal {
    fn from_number(number: i32) -> Option<Self> {
        match number {
            SIGHUP => Some(Self::HangUp),
            SIGINT => Some(Self::Interrupt),
            SIGTERM => Some(Self::Terminate),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::HangUp => "SIGHUP",
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }

    /// The exit of a command that this signal ended before it was done.
    pub(crate) fn exit(self) -> Exit {
        match self {
            Self::HangUp => Exit::HungUp,
            Self::Interrupt => Exit::Interrupted,
            Self::Terminate => Exit::Terminated,
        }
    }
}

/// From now on, the first of the signals runs `last_words` and ends the process with the exit that they give.
///
/// Before this returns, and if it fails, a signal ends the process as signals do.
pub(crate) fn end_with(last_words: impl FnOnce(Signal) -> Exit + Send + 'static) -> io::Result<()> {
    let mut numbers = vec![SIGINT, SIGTERM];
    if !is_ignored(SIGHUP) {
        numbers.push(SIGHUP);
    }
    let mut signals = Signals::new(numbers)?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        if let Some(signal) = signals.forever().find_map(Signal::from_number) {
            process::exit(last_words(signal) as i32);
        }
    })?;
    Ok(())
}

/// Whether this process was started with the signal ignored. Without /proc: no.
fn is_ignored(number: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // Bit 0 is signal 1 (proc_pid_status(5)).
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask >> (number - 1) & 1 == 1)
}
