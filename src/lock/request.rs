//! [`Request`]: a request with more to it than a timeout and an info.

use core::time::Duration;

use super::guard::Guard;
use super::handle::ResourceLock;
use super::wish::Wish;
use crate::cancel::Cancel;
use crate::error::LockError;
use crate::grant::Grant;
use crate::timeout::Timeout;

/// A request for the lock, with options: [`ResourceLock::request`].
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use core::time::Duration;
/// use resourcelock::{Cancel, ResourceLock, Timeout};
///
/// let (lock, stop) = (ResourceLock::open("doc-request")?, Cancel::new());
/// let guard = lock
///     .request("calibrates")
///     .timeout(Timeout::from_secs(10))
///     .cancel(&stop)
///     .expect_to_hold(Duration::from_secs(2))
///     .lock()?;
/// # drop(guard);
/// # lock.remove(false)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy)]
#[must_use = "a request asks for nothing until `lock` is called"]
pub struct Request<'a> {
    pub(super) lock: &'a ResourceLock,
    pub(super) wish: Wish<'a>,
}

impl<'a> Request<'a> {
    /// Sets how long to wait; [`Timeout::DEFAULT`] otherwise.
    pub fn timeout(mut self, timeout: impl Into<Timeout>) -> Self {
        self.wish.timeout = timeout.into();
        self
    }

    /// Sets a token that ends the wait.
    pub fn cancel(mut self, cancel: &'a Cancel) -> Self {
        self.wish.cancel = Some(cancel);
        self
    }

    /// States how long the holder expects to hold: those who look are told when it is overdue. In milliseconds, rounded up,
    /// at most 49 days.
    pub fn expect_to_hold(mut self, expected: Duration) -> Self {
        let millis = expected.as_nanos().div_ceil(1_000_000);
        self.wish.due_ms = u32::try_from(millis).unwrap_or(u32::MAX);
        self
    }

    /// Calls `notify` once for each holder that is overdue while this request waits, with its grant: to log it, or to tell
    /// somebody that a sensor hangs. A holder is overdue when it has held longer than it [expected](Self::expect_to_hold).
    pub fn on_overdue(mut self, notify: &'a (dyn Fn(&Grant) + Sync)) -> Self {
        self.wish.on_overdue = Some(notify);
        self
    }

    /// Sets whether to break a hold that is overdue, if the lock's maker allowed it:
    /// [`OpenOptions::allow_break`](crate::OpenOptions::allow_break), which says when that is safe. The grant then reports
    /// [`Previous::Forced`](crate::Previous::Forced), of a grant with [`Ending::Overdue`](crate::Ending::Overdue).
    pub fn break_overdue(mut self, break_overdue: bool) -> Self {
        self.wish.breaks_overdue = break_overdue;
        self
    }

    /// Acquires the lock, as [`ResourceLock::lock`].
    ///
    /// # Errors
    ///
    /// As [`ResourceLock::lock`], and [`LockError::Cancelled`].
    pub fn lock(self) -> Result<Guard<'a>, LockError> {
        self.lock.lock_as(&self.wish)
    }
}

impl ResourceLock {
    /// Begins a request with options; `info` as in [`lock`](Self::lock).
    pub fn request<'a>(&'a self, info: &'a str) -> Request<'a> {
        Request { lock: self, wish: Wish::new(Timeout::DEFAULT, info) }
    }
}

impl core::fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Request")
            .field("lock", &self.lock)
            .field("timeout", &self.wish.timeout)
            .field("info", &self.wish.info)
            .finish_non_exhaustive()
    }
}
