//! The exit statuses: their one home. `--help` lists them from here.
//!
//! 0 and 1 answer the question that was asked; 2 is for words that make no sense; from 64 on they are those of
//! sysexits.h, and above 128 the shell's way of naming a signal.

use std::fmt::Write;
use std::process::ExitCode;

use resourcelock::Error;

/// How the command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Done = 0,
    No = 1,
    Usage = 2,
    NotALock = 65,
    Unavailable = 69,
    System = 71,
    CannotCreate = 73,
    Output = 74,
    Busy = 75,
    NoPermission = 77,
    HungUp = 129,
    Interrupted = 130,
    Terminated = 143,
}

impl Exit {
    const ALL: [Self; 13] = [
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
        Self::HungUp,
        Self::Interrupted,
        Self::Terminated,
    ];

    fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done; also the end of a trace by Ctrl-C",
            Self::No => "no: the get timed out, there was nothing to unget, or the hold was forced off",
            Self::Usage => "usage: unknown words, a bad name, directory, message or number",
            Self::NotALock => "the file of this name is no lock, one of another version, or damaged",
            Self::Unavailable => "the lock went away while it was held, or cannot be used",
            Self::System => "a system call failed",
            Self::CannotCreate => "the directory is missing, or has no space left",
            Self::Output => "the answer could not be written; a get has released the lock again",
            Self::Busy => "others keep removing and making the lock; try again",
            Self::NoPermission => "no permission",
            Self::HungUp => "ended by SIGHUP; nothing is held",
            Self::Interrupted => "ended by SIGINT (Ctrl-C); nothing is held",
            Self::Terminated => "ended by SIGTERM; nothing is held",
        }
    }

    /// The table for `--help`.
    pub(crate) fn table() -> String {
        Self::ALL.into_iter().fold(String::from("Exit status:"), |mut table, exit| {
            // Writing to a string does not fail.
            let _ = write!(table, "\n  {:>3}  {}", exit as u8, exit.meaning());
            table
        })
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
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
