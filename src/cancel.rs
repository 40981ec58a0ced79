//! [`Cancel`]: a token by which another thread, or a signal handler, ends a wait.

use core::sync::atomic::{AtomicU32, Ordering};

use crate::sys::futex;

/// A token that ends a wait for the lock: [`Request::cancel`](crate::Request::cancel).
///
/// It is an atomic, so it may be set from another thread and from a signal handler. A wait notices it at once if a signal
/// interrupts it or if it uses a ring (feature `ring`, Linux 6.7), else at the end of its slice: after 10 ms at most in the
/// first second, 60 ms later. A wait that was cancelled leaves nothing behind.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use resourcelock::{Cancel, LockError, ResourceLock, Timeout};
///
/// static STOP: Cancel = Cancel::new();
///
/// let (holder, lock) = (ResourceLock::open("doc-cancel")?, ResourceLock::open("doc-cancel")?);
/// let guard = holder.try_lock("at work")?;
/// std::thread::scope(|scope| {
///     scope.spawn(|| STOP.cancel());
///     let outcome = lock.request("would like to work").timeout(Timeout::FOREVER).cancel(&STOP).lock();
///     assert!(matches!(outcome, Err(LockError::Cancelled)));
/// });
/// # drop(guard);
/// # lock.remove(false)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Cancel(AtomicU32);

impl Cancel {
    /// Makes a token that is not set.
    pub const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Sets the token: every wait that has it ends, now and later.
    pub fn cancel(&self) {
        // Release: pairs with the Acquire in `is_cancelled`, for what the canceller did before.
        self.0.store(1, Ordering::Release);
        futex::wake_all(&self.0);
    }

    /// Whether it is set.
    pub fn is_cancelled(&self) -> bool {
        // Acquire: pairs with the Release in `cancel`.
        self.0.load(Ordering::Acquire) != 0
    }

    /// Clears the token, so that it can be used again.
    pub fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// The word that is 0 until the token is set, to wait on.
    #[cfg(feature = "ring")]
    pub(crate) fn word(&self) -> &AtomicU32 {
        &self.0
    }
}
