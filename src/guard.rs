//! [`Guard`]: a hold that ends when it goes out of scope.

use core::fmt;
use core::mem;

use crate::error::Error;
use crate::info::Grant;
use crate::lock::{ResourceLock, Ticket};
use crate::word::Word;

/// The lock, held. Dropping it releases.
///
/// It can outlive its hold: somebody may [force](ResourceLock::unget_lock) it, and a forked child has the parent's guard
/// but not the parent's hold. Such a guard releases nothing when it is dropped; [`is_held`](Self::is_held) tells.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use resourcelock::{ResourceLock, Timeout};
///
/// let bus = ResourceLock::open("doc-guard")?;
/// let guard = bus.lock(Timeout::from_secs(1), "reads the sensor")?;
/// if guard.recovered() {
///     // The previous holder died at work: bring the resource to a known state first.
/// }
/// assert!(guard.is_held());
/// drop(guard);
/// assert!(!bus.is_locked());
/// # bus.remove(false)?;
/// # Ok(())
/// # }
/// ```
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct Guard<'a> {
    lock: &'a ResourceLock,
    ticket: Ticket,
    died: Word,
}

impl<'a> Guard<'a> {
    #[inline]
    pub(crate) fn new(lock: &'a ResourceLock, ticket: Ticket, died: Word) -> Self {
        Self { lock, ticket, died }
    }

    /// Returns whether the previous holder died while it held the lock. The resource may be in any state: reset it.
    pub fn recovered(&self) -> bool {
        self.died != Word(0)
    }

    /// Returns the grant of the previous holder, if it died while it held the lock.
    ///
    /// Also `None` if it died between acquiring the lock and publishing its grant, a matter of a few instructions. So this
    /// is for messages; [`recovered`](Self::recovered) decides whether to reset the resource.
    pub fn recovered_from(&self) -> Option<Grant> {
        let (_, number) = self.lock.still_holds_by(self.ticket)?;
        self.lock.dead_holder(number, self.died)
    }

    /// The pid of the previous holder, if it died while it held.
    pub fn recovered_pid(&self) -> Option<u32> {
        self.recovered().then(|| self.died.pid())
    }

    /// Whether the lock is still held by this guard: false once somebody has forced it.
    pub fn is_held(&self) -> bool {
        self.lock.still_holds_by(self.ticket).is_some()
    }

    /// Whether this guard can still keep others out, for a hold that lasts: `false` once somebody has forced it.
    ///
    /// As [`is_held`](Self::is_held), and looks whether the lock's file still has its name, if this handle has not for
    /// 100 ms. A hold on a file that was removed keeps out only those who had it open by then.
    ///
    /// # Errors
    ///
    /// [`Error::Vanished`] if the file has lost its name.
    pub fn check(&self) -> Result<bool, Error> {
        self.lock.check_hold(self.ticket)
    }

    /// The handle that this guard belongs to.
    pub fn lock(&self) -> &'a ResourceLock {
        self.lock
    }

    /// The hold without its guard, for who sees to the release itself.
    #[cfg(feature = "embedded-hal")]
    pub(crate) fn into_ticket(self) -> Ticket {
        let ticket = self.ticket;
        mem::forget(self);
        ticket
    }

    /// Releases now, and tells whether there was still something to release.
    #[inline]
    pub fn release(self) -> bool {
        let released = self.lock.release_guard(self.ticket);
        mem::forget(self);
        released
    }

    /// Leaves the lock held until somebody ungets it, even when this process ends: `false` if it was not held any more.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use resourcelock::ResourceLock;
    ///
    /// let bus = ResourceLock::open("doc-guard-detach")?;
    /// assert!(bus.try_lock("out of order, ask Ann")?.detach());
    /// drop(bus);
    /// let bus = ResourceLock::open("doc-guard-detach")?;
    /// assert!(bus.is_locked());
    /// assert!(bus.unget_lock(true, "repaired"));
    /// # bus.remove(false)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn detach(self) -> bool {
        let detached = self.lock.detach_ticket(self.ticket).is_some();
        mem::forget(self);
        detached
    }
}

impl Drop for Guard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.lock.release_guard(self.ticket);
    }
}

impl fmt::Debug for Guard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("lock", self.lock)
            .field("is_held", &self.is_held())
            .field("recovered", &self.recovered())
            .finish()
    }
}
