//! [`BusError`]: the bus's own error, or why there was no transaction.

use core::fmt;

use embedded_hal::{i2c, spi};

use crate::error::{Error, LockError};
use crate::escape::Escaped;
use crate::grant::{Grant, HolderSummary};

/// Why a transaction on a locked bus failed. `E` is the error of the bus itself.
///
/// Only [`Bus`](Self::Bus) keeps the bus's `ErrorKind`. All others are `Other`, a failed reset among them: a driver takes
/// a kind for an answer to its own transaction, as one that waits for an EEPROM takes "not acknowledged" for "busy".
// The holder is told by value, because there is no heap to put it on.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[allow(clippy::large_enum_variant)]
pub enum BusError<E> {
    /// The transaction was made, and this is what the bus says.
    Bus(E),
    /// The lock was not to be had in time; this is who holds it. As [`LockError::TimedOut`]. If it is this very process,
    /// another wrapper or handle of it holds.
    TimedOut(Option<HolderSummary>),
    /// The previous holder died while it held, and the wrapper was told to [report](super::Report) that: this once. The
    /// grant is the dead holder's, if it had the time to say who it was.
    Recovered(Option<Grant>),
    /// The previous holder died while it held, and the [reset](super::Reset) that should have followed failed. It is
    /// made again before the next transaction.
    ResetFailed(E),
    /// The hold was force-released, or is a parent process's: others may use the bus. In a session it
    /// stays so until the session is ended.
    HoldLost,
    /// The lock could not be used.
    Lock(Error),
}

impl<E> From<LockError> for BusError<E> {
    fn from(error: LockError) -> Self {
        match error {
            LockError::TimedOut(holder) => Self::TimedOut(holder),
            // No wrapper passes a token on.
            LockError::Cancelled => Self::TimedOut(None),
            LockError::Failed(error) => Self::Lock(error),
        }
    }
}

impl<E> From<Error> for BusError<E> {
    fn from(error: Error) -> Self {
        Self::Lock(error)
    }
}

impl<E: i2c::Error> i2c::Error for BusError<E> {
    fn kind(&self) -> i2c::ErrorKind {
        match self {
            Self::Bus(error) => error.kind(),
            _ => i2c::ErrorKind::Other,
        }
    }
}

impl<E: spi::Error> spi::Error for BusError<E> {
    fn kind(&self) -> spi::ErrorKind {
        match self {
            Self::Bus(error) => error.kind(),
            _ => spi::ErrorKind::Other,
        }
    }
}

impl<E: fmt::Display> fmt::Display for BusError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bus(error) => error.fmt(f),
            // The words of these have their home there.
            Self::TimedOut(holder) => LockError::TimedOut(*holder).fmt(f),
            Self::Recovered(Some(dead)) => write!(
                f,
                "pid {} ({}) died holding the bus since {dead}; bring the devices to a known state, then try again",
                dead.pid(),
                Escaped(dead.program())
            ),
            Self::Recovered(None) => {
                write!(f, "a process died holding the bus; bring the devices to a known state, then try again")
            }
            Self::ResetFailed(error) => write!(f, "the reset after a process died holding the bus failed: {error}"),
            Self::HoldLost => write!(f, "the bus was taken away by a forced unget; end the session and begin again"),
            Self::Lock(error) => error.fmt(f),
        }
    }
}

// As embedded-hal-bus has it: few buses have errors that are a `core::error::Error`, so theirs is told and not pointed at.
impl<E: fmt::Debug + fmt::Display> core::error::Error for BusError<E> {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Lock(error) => Some(error),
            _ => None,
        }
    }
}
