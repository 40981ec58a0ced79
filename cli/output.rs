//! Output: answers on stdout, one line each; everything else on stderr.
//!
//! A line is one write, so that the lines of several programs do not mix. A closed pipe at stdout is no failure: the
//! reader did not want the answer, and the command has done its work. Any other failed write is one. Nothing here panics,
//! whatever the state of stdout and stderr.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use resourcelock::{Error, Escaped, Grant, Previous};

use crate::exit::Exit;

/// An answer about a lock, with the reference's text where it has one. `Display` prints one line, escaped.
pub(crate) enum Answer<'a> {
    Granted(Option<Grant>),
    TimedOut(Option<Grant>),
    Released(&'a str),
    ForceReleased(&'a str),
    Extraneous(&'a str),
    NotOwned(&'a str),
    IsFree,
    WaitTimedOut(Option<Grant>),
    Removed(Previous),
    NothingToRemove,
    NotRemoved(Option<Grant>),
    State { is_locked: bool, prior: Option<Grant> },
}

/// A grant as it is shown between `<` and `>`; empty if there is none.
struct Shown<'a>(&'a Option<Grant>);

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.as_ref().map_or(Ok(()), |grant| grant.fmt(f))
    }
}

impl Display for Answer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Granted(grant) => write!(f, "lock request successful - Granted <{}>", Shown(grant)),
            Self::TimedOut(owner) => write!(f, "lock request timed out - Current owner <{}>", Shown(owner)),
            Self::Released(at) => write!(f, "lock released <{}>", Escaped(at)),
            Self::ForceReleased(at) => write!(f, "lock force released <{}>", Escaped(at)),
            Self::Extraneous(at) => write!(f, "Extraneous lock unget request ignored <{}>", Escaped(at)),
            Self::NotOwned(at) => {
                write!(f, "lock unget request ignored - lock not owned by current process <{}>", Escaped(at))
            }
            Self::IsFree => write!(f, "lock is free"),
            Self::WaitTimedOut(owner) => write!(f, "lock wait timed out - Current owner <{}>", Shown(owner)),
            Self::Removed(_) => write!(f, "lock removed"),
            Self::NothingToRemove => write!(f, "Extraneous lock remove request ignored"),
            Self::NotRemoved(owner) => {
                write!(f, "lock remove request ignored - lock is held - Current owner <{}>", Shown(owner))
            }
            Self::State { is_locked, prior } => {
                let is_locked = if *is_locked { "True" } else { "False" };
                write!(f, "is currently locked? <{is_locked}> Prior info <{}>", Shown(prior))
            }
        }
    }
}

/// Why nothing was written to stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unwritten {
    /// The reader has closed the pipe.
    Unread,
    Failed,
}

/// Prints `<NAME> answer`.
pub(crate) fn answer(name: &str, answer: &Answer<'_>) -> Result<(), Unwritten> {
    print(&format!("<{}> {answer}\n", Escaped(name)))
}

/// Prints a text that is escaped already.
pub(crate) fn print(text: &str) -> Result<(), Unwritten> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Unwritten::Unread),
        Err(error) => {
            tell(&format!("resourcelock: writing to stdout failed: {error}\n"));
            Err(Unwritten::Failed)
        }
    }
}

/// The exit of a command that did its work but could not print its answer.
pub(crate) fn failed(unwritten: Unwritten) -> Exit {
    match unwritten {
        Unwritten::Unread => Exit::Done,
        Unwritten::Failed => Exit::Output,
    }
}

/// Prints a message about the lock `name` to stderr. It is escaped already.
pub(crate) fn complain(name: &str, message: &dyn Display) {
    tell(&format!("resourcelock: <{}>: {message}\n", Escaped(name)));
}

/// Prints the error of the lock `name` to stderr.
pub(crate) fn fail(name: &str, error: Error) -> Exit {
    match error {
        // The text of the error is clearer than its number.
        Error::Os { errno, .. } => {
            let message = error.to_string();
            let doing = message.split(": ").next().unwrap_or_default();
            complain(name, &format_args!("{doing}: {}", io::Error::from_raw_os_error(errno)));
        }
        _ => complain(name, &error),
    }
    error.into()
}

/// Writes to stderr. If that fails, the failure cannot be reported.
pub(crate) fn tell(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}
