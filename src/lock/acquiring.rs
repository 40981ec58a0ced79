//! [`Acquiring`]: a request that is polled instead of slept on, for programs with an event loop.
//!
//! Invariants:
//! - it waits in a ring from its beginning, so its descriptor becomes readable when there is something to do: a wake-up, a
//!   hint that the holder has died, the end of a slice, the deadline, or the cancel token;
//! - dropped while it waits, it leaves nothing: the handoff request is withdrawn, and a wake-up that it got is passed on;
//! - a forked child's copy does nothing at all.

extern crate std;

use core::fmt;
use core::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use super::acquire::{Acquisition, Denied, Progress};
use super::guard::Guard;
use super::handle::ResourceLock;
use super::request::Request;
use crate::error::{Error, LockError};
use crate::protocol;
use crate::sys::ring::Ring;

/// A request for the lock that is on its way: [`Request::start`].
///
/// It implements [`AsFd`]: poll the descriptor for reading, and call [`poll`](Self::poll) whenever it is readable. With
/// tokio that is its `AsyncFd`; with plain epoll(7), `EPOLLIN`. Dropping it gives the request up.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use resourcelock::{Error, LockError, ResourceLock, Timeout};
///
/// let lock = ResourceLock::open("doc-acquiring")?;
/// match lock.request("would like to work").timeout(Timeout::FOREVER).start() {
///     Ok(mut acquiring) => {
///         let guard = acquiring.poll()?.ok_or("the lock was free")?;
///         assert!(guard.is_held());
///     }
///     Err(LockError::Failed(Error::NoRing)) => println!("Linux 6.7 is needed, or a sandbox forbids io_uring"),
///     Err(error) => return Err(error.into()),
/// }
/// # lock.remove(false)?;
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping it gives the request up"]
pub struct Acquiring<'a> {
    lock: &'a ResourceLock,
    /// The process that has started it.
    token: u32,
    /// `None` only while it is dropped.
    acquisition: Option<Acquisition<'a>>,
    /// The guard, until it is taken.
    granted: Option<Guard<'a>>,
    is_armed: bool,
    is_over: bool,
}

impl<'a> Request<'a> {
    /// Begins to acquire the lock without sleeping. [`Timeout::FOREVER`](crate::Timeout::FOREVER) is usual here; the
    /// program drops it when it does not want the lock any more.
    ///
    /// # Errors
    ///
    /// [`LockError::Failed`] with [`Error::NoRing`] where there is nothing to poll; else as
    /// [`ResourceLock::lock`].
    pub fn start(self) -> Result<Acquiring<'a>, LockError> {
        let (lock, wish) = (self.lock, self.wish);
        let mut acquisition = Acquisition::begin(lock, wish).map_err(|denied| lock.error_of(&denied))?;
        if !acquisition.host.ring.start() {
            return Err(LockError::Failed(Error::NoRing));
        }
        let mut acquiring = Acquiring {
            lock,
            token: lock.process.token(),
            acquisition: Some(acquisition),
            granted: None,
            is_armed: false,
            is_over: false,
        };
        acquiring.advance()?;
        Ok(acquiring)
    }
}

impl<'a> Acquiring<'a> {
    /// Goes on, without sleeping: the guard once the lock is granted, `None` until then.
    ///
    /// # Errors
    ///
    /// As [`ResourceLock::lock`], and [`LockError::Cancelled`]. After an error or the guard, and in a forked child, it
    /// returns `None` for ever.
    pub fn poll(&mut self) -> Result<Option<Guard<'a>>, LockError> {
        if self.is_parents() {
            return Ok(None);
        }
        if let (true, Some(acquisition)) = (self.is_armed, &mut self.acquisition) {
            if let Some(slept) = acquisition.host.ring.poll() {
                acquisition.wake_up(slept);
                self.is_armed = false;
                self.advance()?;
            }
        }
        Ok(self.granted.take())
    }

    fn advance(&mut self) -> Result<(), LockError> {
        let Some(acquisition) = self.acquisition.as_mut().filter(|_| !self.is_over) else { return Ok(()) };
        match acquisition.advance() {
            Ok(Progress::Sleeps(sleep)) => {
                let host = &mut acquisition.host;
                let arrival = host.arrive(sleep.waited);
                let cancel = host.cancel();
                if !host.ring.arm(self.lock, host.record(), sleep, arrival, cancel) {
                    self.is_over = true;
                    return Err(LockError::Failed(Error::NoRing));
                }
                self.is_armed = true;
                Ok(())
            }
            Ok(Progress::Granted(hold, from)) => {
                acquisition.host.leave();
                self.is_over = true;
                self.granted = Some(Guard::new(self.lock, hold, from));
                self.lock.log_contended_grant(hold, from);
                Ok(())
            }
            Err(denied) => {
                acquisition.host.leave();
                self.is_over = true;
                Err(self.lock.error_of(&denied))
            }
        }
    }

    fn is_parents(&self) -> bool {
        self.lock.process.refresh();
        self.token != self.lock.process.token()
    }
}

impl ResourceLock {
    pub(super) fn error_of(&self, denied: &Denied) -> LockError {
        match *denied {
            Denied::TimedOut(word) => LockError::TimedOut(self.summary_of(word)),
            Denied::Cancelled => LockError::Cancelled,
            Denied::Failed(error) => LockError::Failed(error),
        }
    }
}

/// Of the ring; readable when [`Acquiring::poll`] has something to do. It is the same descriptor, and open, as long as the
/// request lives.
impl AsFd for Acquiring<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self.acquisition.as_ref().and_then(|acquisition| acquisition.host.ring.ring()).map(Ring::as_fd) {
            Some(ring) => ring,
            None => unreachable!("it has a ring until it is dropped"),
        }
    }
}

impl AsRawFd for Acquiring<'_> {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl Drop for Acquiring<'_> {
    fn drop(&mut self) {
        let is_parents = self.is_parents();
        let Some(mut acquisition) = self.acquisition.take() else { return };
        if is_parents {
            // Everything that it has is the parent's: its ring, its slot, its probe.
            acquisition.host.ring.abandon();
            mem::forget(acquisition);
        } else if self.is_armed {
            acquisition.abandon();
            if acquisition.host.ring.stop() {
                // It was woken to acquire the lock: another waiter must be.
                acquisition.host.leave();
                protocol::pass_wake_up_on(&acquisition.host);
            }
        }
    }
}

impl fmt::Debug for Acquiring<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquiring").field("lock", self.lock).field("is_over", &self.is_over).finish_non_exhaustive()
    }
}
