//! Noticing that the lock's file has lost its name: to a careless `rm`, or to logind at a logout.

use core::sync::atomic::Ordering;

use super::handle::ResourceLock;
use crate::error::Error;
use crate::time::Moment;

/// A handle that has not looked at its file's name for this long looks before it acquires.
const CHECK_NAME_EVERY_MS: u32 = 100;

impl ResourceLock {
    /// Whether the file has lost its name, if it is time to look again.
    ///
    /// # Errors
    ///
    /// [`Error::Vanished`] if so, and this handle holds.
    #[inline]
    pub(super) fn check_name_if_due(&self, now: Moment) -> Result<bool, Error> {
        if !self.is_name_check_due(now) {
            return Ok(false);
        }
        let has_lost_name = self.has_lost_name_if_due(now);
        if has_lost_name && self.holds() { Err(Error::Vanished) } else { Ok(has_lost_name) }
    }

    #[inline]
    pub(super) fn is_name_check_due(&self, now: Moment) -> bool {
        now.millis().wrapping_sub(self.name_checked_ms.load(Ordering::Relaxed)) >= CHECK_NAME_EVERY_MS
    }

    #[cold]
    pub(super) fn has_lost_name_if_due(&self, now: Moment) -> bool {
        if !self.is_name_check_due(now) {
            return false;
        }
        let has_lost_name = self.region.has_lost_name(&self.place);
        if !has_lost_name {
            self.name_is_checked(now);
        }
        has_lost_name
    }

    pub(super) fn name_is_checked(&self, now: Moment) {
        // Relaxed: at worst another thread looks too.
        self.name_checked_ms.store(now.millis(), Ordering::Relaxed);
    }
}
