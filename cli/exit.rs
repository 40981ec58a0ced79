//! The exit statuses: their one home. `--help` lists them from here.
//!
//! 0 and 1 answer the question that was asked; 2 is wrong usage; from 64 on they are those of sysexits.h; a shell uses 126
//! and 127 for commands that it cannot run, and 128 plus the signal's number for a command that a signal ended.

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
    /// The status of the program that was run, or of `--conflict-exit-code`.
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
            Self::Done => "done; also a trace that Ctrl-C ended",
            Self::No => "no: timed out, not held, not found, or held and not removed",
            Self::Usage => "wrong usage, or an invalid name, directory or number",
            Self::NotALock => "the file is not a lock, is damaged, or has another version",
            Self::Unavailable => "the lock cannot be used, or its file vanished",
            Self::System => "a system call failed",
            Self::CannotCreate => "the directory is missing, full, or not on tmpfs",
            Self::Output => "writing the answer failed; a get has released the lock",
            Self::Busy => "other processes keep removing the lock; try again",
            Self::NoPermission => "permission denied",
            Self::NotRunnable => "run: PROGRAM was found but cannot be run",
            Self::NoProgram => "run: PROGRAM was not found",
            Self::HungUp => "ended by SIGHUP; nothing is held",
            Self::Interrupted => "ended by SIGINT (Ctrl-C); nothing is held",
            Self::Terminated => "ended by SIGTERM; nothing is held",
            Self::Given(_) => "run: the status of PROGRAM",
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
            Error::NotALock(_) | Error::VersionMismatch { .. } | Error::FeatureUnknown { .. } | Error::Corrupt => {
                Self::NotALock
            }
            Error::DirectoryMissing | Error::NoSpace | Error::FileSystem { .. } => Self::CannotCreate,
            Error::PermissionDenied(_) => Self::NoPermission,
            Error::Busy | Error::Held => Self::Busy,
            Error::Os { .. } | Error::Seat(_) => Self::System,
            // NotFound is an answer and no error where a command can encounter it.
            _ => Self::Unavailable,
        }
    }
}
