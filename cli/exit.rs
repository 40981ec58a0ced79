//! The exit statuses: their one home. `--help` lists them from here.
//!
//! 0 and 1 answer the question that was asked; 2 is for words that make no sense; from 64 on they are those of
//! sysexits.h; 126 and 127 are what a shell says of commands that it cannot run; and above 128 is its way of naming a
//! signal.

use std::fmt::Write;
use std::process::ExitCode;

use resourcelock::Error;

/// How the command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Done,
    No,
    Usage,
    NotALock,
    Unavailable,
    System,
    CannotCreate,
    Output,
    Busy,
    NoPermission,
    NotRunnable,
    NoProgram,
    HungUp,
    Interrupted,
    Terminated,
    /// Whatever somebody else says: the command that was run, or `--conflict-exit-code`.
    Given(u8),
}

impl Exit {
    const ALL: [Self; 15] = [
        Self::Done,
        Self::No,
        Self::Usage,
        Self::NotALock,
        Self::Unavailable,
        Self::System,
        Self::CannotCreate,
        Self::Output,
        Self::Busy,
        Self::NoPermission,
        Self::NotRunnable,
        Self::NoProgram,
        Self::HungUp,
        Self::Interrupted,
        Self::Terminated,
    ];

    pub(crate) fn status(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::No => 1,
            Self::Usage => 2,
            Self::NotALock => 65,
            Self::Unavailable => 69,
            Self::System => 71,
            Self::CannotCreate => 73,
            Self::Output => 74,
            Self::Busy => 75,
            Self::NoPermission => 77,
            Self::NotRunnable => 126,
            Self::NoProgram => 127,
            Self::HungUp => 129,
            Self::Interrupted => 130,
            Self::Terminated => 143,
            Self::Given(status) => status,
        }
    }

    fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done; also the end of a trace by Ctrl-C",
            Self::No => "no: timed out, nothing to unget or remove, forced off, or held and so not removed",
            Self::Usage => "usage: unknown words, a bad name, directory, message or number",
            Self::NotALock => "the file of this name is no lock, one of another version, or damaged",
            Self::Unavailable => "the lock went away while it was held, or cannot be used",
            Self::System => "a system call failed",
            Self::CannotCreate => "the directory is missing, or has no space left",
            Self::Output => "the answer could not be written; a get has released the lock again",
            Self::Busy => "others keep removing and making the lock; try again",
            Self::NoPermission => "no permission",
            Self::NotRunnable => "run: the program was found but cannot be run",
            Self::NoProgram => "run: there is no such program",
            Self::HungUp => "ended by SIGHUP; nothing is held",
            Self::Interrupted => "ended by SIGINT (Ctrl-C); nothing is held",
            Self::Terminated => "ended by SIGTERM; nothing is held",
            Self::Given(_) => "run: the program's own status",
        }
    }

    /// The table for `--help`.
    pub(crate) fn table() -> String {
        let mut table = String::from("Exit status:");
        for exit in Self::ALL {
            // Writing to a string does not fail.
            let _ = write!(table, "\n  {:>3}  {}", exit.status(), exit.meaning());
        }
        table
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.status())
    }
}

impl From<Error> for Exit {
    fn from(error: Error) -> Self {
        match error {
            Error::NameInvalid(_) | Error::DeviceInvalid(_) | Error::DirectoryInvalid => Self::Usage,
            Error::NotALock(_) | Error::VersionMismatch { .. } | Error::Corrupt => Self::NotALock,
            Error::DirectoryMissing | Error::NoSpace => Self::CannotCreate,
            Error::PermissionDenied => Self::NoPermission,
            Error::Busy | Error::Held => Self::Busy,
            Error::Os { .. } => Self::System,
            // NotFound is an answer, not a failure, where a command can meet it.
            _ => Self::Unavailable,
        }
    }
}
