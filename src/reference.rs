//! The vocabulary of the reference, the Python module cjnfuncs `resourcelock`: import the trait, and every handle speaks
//! it.
//!
//! ```
//! # fn main() -> Result<(), resourcelock::Error> {
//! use resourcelock::reference::Reference as _;
//! use resourcelock::{ResourceLock, Timeout};
//!
//! let my_lock = ResourceLock::open("doc-reference")?;
//! if my_lock.get_lock(Timeout::DEFAULT, false, "tempmon.measure_loop #3")? {
//!     assert!(my_lock.get_lock_info().ends_with(" - tempmon.measure_loop #3"));
//!     my_lock.unget_lock(false, "at end of loop");
//! }
//! my_lock.close();
//! # ResourceLock::options().remove("doc-reference", false).map(drop)
//! # }
//! ```
//!
//! The log lines are the reference's, too.

use crate::error::Error;
use crate::escape::Escaped;
use crate::grant::LockInfo;
use crate::lock::{Latest, ResourceLock, Unreleased};
use crate::log::{Shown, debug};
use crate::timeout::Timeout;

/// What the reference's `resource_lock` can do. [`ResourceLock`] implements it.
pub trait Reference: Sized + sealed::Sealed {
    /// Requests the lock, waiting up to `timeout`: `true` if it was granted, `false` if the time ran out.
    ///
    /// With `same_process_ok`, a handle that holds already gets `true` at once, and the prior grant stands. Without, it
    /// waits like any contender, and times out. `lock_info` says who and why; what exceeds
    /// [`INFO_CAPACITY`](crate::INFO_CAPACITY) bytes is cut at a character boundary.
    ///
    /// What became of the previous holder is in [`ResourceLock::previous`].
    ///
    /// # Errors
    ///
    /// As [`ResourceLock::lock`], but for the time-out.
    fn get_lock(&self, timeout: Timeout, same_process_ok: bool, lock_info: &str) -> Result<bool, Error>;

    /// Releases the lock: `true` if it was released, `false` if it was not held, or not by this handle.
    ///
    /// With `force`, releases whoever holds; see [`ResourceLock::force_release`]. `where_called` is for the log.
    ///
    /// ```
    /// # fn main() -> Result<(), resourcelock::Error> {
    /// # use resourcelock::reference::Reference as _;
    /// # use resourcelock::{ResourceLock, Timeout};
    /// let lock = ResourceLock::open("doc-unget")?;
    /// assert!(!lock.unget_lock(false, "cleanup"), "nothing to release");
    /// lock.get_lock(Timeout::ZERO, false, "")?;
    /// let other = ResourceLock::open("doc-unget")?;
    /// assert!(!other.unget_lock(false, "cleanup"), "not its own");
    /// assert!(lock.unget_lock(false, "cleanup"));
    /// # lock.remove(false).map(drop)
    /// # }
    /// ```
    fn unget_lock(&self, force: bool, where_called: &str) -> bool;

    /// Whether any handle holds the lock; as [`ResourceLock::is_held`].
    fn is_locked(&self) -> bool;

    /// 0 if the lock is held, 1 if not: the value that the reference's semaphore would have.
    fn lock_value(&self) -> u32;

    /// When and to whom the lock was last granted; as [`ResourceLock::info`].
    fn get_lock_info(&self) -> LockInfo;

    /// Replaces the text of the present grant; as [`ResourceLock::set_info`].
    fn set_lock_info(&self, text: &str) -> bool;

    /// Whether this handle holds the lock; as [`ResourceLock::holds`]. The reference's attribute `I_have_the_lock`.
    fn i_have_the_lock(&self) -> bool;

    /// The lock's name; as [`ResourceLock::name`]. The reference's attribute `lockname`.
    fn lockname(&self) -> &str;

    /// Gives up this handle, as dropping it does. What it holds is released, unless it is
    /// [detached](ResourceLock::detach).
    ///
    /// The reference has an attribute `closed` for code that wants to know whether it may still use the handle. Here the
    /// compiler knows: a closed handle cannot be named any more. Code that opens and closes as it goes keeps an
    /// `Option<ResourceLock>`.
    ///
    /// ```compile_fail
    /// # use resourcelock::reference::Reference as _;
    /// # use resourcelock::{Error, ResourceLock};
    /// # fn main() -> Result<(), Error> {
    /// let lock = ResourceLock::open("doc-close")?;
    /// lock.close();
    /// lock.is_locked();
    /// # Ok(())
    /// # }
    /// ```
    fn close(self) {}
}

mod sealed {
    pub trait Sealed {}
}

impl sealed::Sealed for ResourceLock {}

impl Reference for ResourceLock {
    fn get_lock(&self, timeout: Timeout, same_process_ok: bool, lock_info: &str) -> Result<bool, Error> {
        if same_process_ok && self.holds() {
            self.check_name()?;
            debug!("<{}> lock already acquired - Prior grant <{}>", self.shown_name(), Shown(Latest(self)));
            return Ok(true);
        }
        self.acquire_unguarded(timeout, lock_info)
    }

    fn unget_lock(&self, force: bool, where_called: &str) -> bool {
        match self.release_own(where_called) {
            Ok(()) => return true,
            Err(_) if force && self.force_release_for(where_called) => return true,
            Err(Unreleased::NotOwned) if !force => debug!(
                "<{}> lock unget request ignored - lock not owned by current process <{}>",
                self.shown_name(),
                Shown(Escaped(where_called))
            ),
            Err(_) => {
                debug!(
                    "<{}> Extraneous lock unget request ignored <{}>",
                    self.shown_name(),
                    Shown(Escaped(where_called))
                );
            }
        }
        false
    }

    fn is_locked(&self) -> bool {
        self.log_state();
        self.is_held()
    }

    fn lock_value(&self) -> u32 {
        let value = u32::from(!self.is_held());
        debug!("<{}> semaphore = {}", self.shown_name(), value);
        value
    }

    fn get_lock_info(&self) -> LockInfo {
        self.info()
    }

    fn set_lock_info(&self, text: &str) -> bool {
        self.set_info(text)
    }

    fn i_have_the_lock(&self) -> bool {
        self.holds()
    }

    fn lockname(&self) -> &str {
        self.name()
    }
}
