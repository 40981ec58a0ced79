//! [`Guard`]: a hold that ends when it goes out of scope.

use core::fmt;
use core::mem;

use super::handle::{Hold, ResourceLock};
use crate::error::Error;
use crate::grant::{Grant, Previous};
use crate::record::{End, PROGRAM_CAPACITY};
use crate::sys::clock;
use crate::word::{Fate, Word};

/// The lock, held. Dropping it releases.
///
/// It can outlive its hold: somebody may [force-release](ResourceLock::force_release) it, and a forked child has the
/// parent's guard but not the parent's hold. Such a guard releases nothing when it is dropped; [`is_held`](Self::is_held)
/// tells.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use resourcelock::{ResourceLock, Timeout};
///
/// let bus = ResourceLock::open("doc-guard")?;
/// let guard = bus.lock(Timeout::from_secs(1), "reads the sensor")?;
/// if guard.recovered() {
///     // The previous holder died or was forced off at work: bring the resource to a known state first.
/// }
/// assert!(guard.is_held());
/// drop(guard);
/// assert!(!bus.is_held());
/// # bus.remove(false)?;
/// # Ok(())
/// # }
/// ```
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct Guard<'a> {
    lock: &'a ResourceLock,
    hold: Hold,
    /// The word that this grant replaced.
    from: Word,
}

impl<'a> Guard<'a> {
    #[inline]
    pub(super) fn new(lock: &'a ResourceLock, hold: Hold, from: Word) -> Self {
        Self { lock, hold, from }
    }

    /// Whether the resource may be inconsistent, because the previous holder died or was force-released while it held.
    /// This is the test that decides whether the resource must be brought to a known state;
    /// [`previous`](Self::previous) says more.
    pub fn recovered(&self) -> bool {
        self.from.fate() != Fate::Released
    }

    /// What became of the previous holder.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use resourcelock::{Previous, ResourceLock, Timeout};
    /// # let bus = ResourceLock::open("doc-previous")?;
    /// let guard = bus.lock(Timeout::from_secs(1), "reads the sensor")?;
    /// match guard.previous() {
    ///     Previous::Released => {}
    ///     Previous::Died(Some(grant)) => println!("{} died at work: {}", grant.program(), grant.info()),
    ///     Previous::Forced(Some(grant)) => println!("{} was forced off: {}", grant.program(), grant.info()),
    ///     _ => println!("a holder left the bus in the middle of something"),
    /// }
    /// # drop(guard);
    /// # bus.remove(false)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn previous(&self) -> Previous {
        self.lock.previous_of(self.hold.number, self.from)
    }

    /// The grant of the previous holder, if it died or was force-released while it held *and* had written down who it was.
    /// To decide whether the resource must be brought to a known state, ask [`recovered`](Self::recovered).
    pub fn recovered_from(&self) -> Option<Grant> {
        match self.previous() {
            Previous::Died(grant) | Previous::Forced(grant) => grant,
            Previous::Released => None,
        }
    }

    /// The number of this grant: [`Grant::number`].
    pub fn number(&self) -> u32 {
        self.hold.number
    }

    /// Whether the lock is still held by this guard: false once somebody has force-released it.
    pub fn is_held(&self) -> bool {
        self.lock.still_holds(self.hold)
    }

    /// Whether this guard can still keep others out, for a hold that lasts: `false` once somebody has force-released it.
    ///
    /// As [`is_held`](Self::is_held), and checks whether the lock's file still has its name, if this handle has not for
    /// 100 ms. A hold on a file that was removed excludes only those that had it open by then.
    ///
    /// # Errors
    ///
    /// [`Error::Vanished`] if the file has lost its name.
    pub fn check(&self) -> Result<bool, Error> {
        self.lock.check_hold(self.hold)
    }

    /// The handle that this guard belongs to.
    pub fn handle(&self) -> &'a ResourceLock {
        self.lock
    }

    /// Replaces the info of this grant, as [`ResourceLock::set_info`].
    pub fn set_info(&self, text: &str) -> bool {
        self.is_held() && self.lock.set_info(text)
    }

    /// Names another process as the holder in the record: the program that this one has started and holds for, as
    /// `resourcelock run` does. Of `program`, the first 15 bytes are kept. It is a report: the hold stays this handle's.
    pub fn attribute_to(&self, pid: u32, program: &str) {
        if self.is_held() {
            let mut bytes = [0; PROGRAM_CAPACITY];
            let len = program.len().min(PROGRAM_CAPACITY - 1);
            bytes[..len].copy_from_slice(&program.as_bytes()[..len]);
            let mut words = bytes.chunks_exact(4).map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
            self.lock.region.record().attribute(
                self.hold.number,
                pid,
                core::array::from_fn(|_| words.next().unwrap_or(0)),
            );
        }
    }

    /// Prepares the hold for exec: from now on the seat's descriptor, which this returns, is inherited by the programs that
    /// this process starts, and by the program that it becomes. The hold lasts until the last process with that descriptor
    /// has ended or closed it, and then counts as died; nobody releases it otherwise but by
    /// [`release_grant`](ResourceLock::release_grant) or by force.
    ///
    /// The hold stays with the handle, so a program whose exec failed calls [`ResourceLock::release`].
    ///
    /// # Errors
    ///
    /// [`Error::Seat`] if the handle was opened without [`keep_across_exec`](crate::OpenOptions::keep_across_exec).
    pub fn carry_across_exec(self) -> Result<i32, Error> {
        let descriptor = self.lock.region.let_inherit()?;
        self.keep();
        Ok(descriptor)
    }

    /// The hold without its guard, for a caller that sees to the release itself.
    #[cfg(feature = "embedded-hal")]
    pub(crate) fn into_hold(self) -> Hold {
        let hold = self.hold;
        mem::forget(self);
        hold
    }

    /// Leaves the hold with the handle, without a guard: it ends with [`ResourceLock::release`], or with the handle.
    pub fn keep(self) {
        mem::forget(self);
    }

    /// Releases now: `true` if there was still something to release.
    #[inline]
    pub fn release(self) -> bool {
        let released = self.lock.release_hold(self.hold, End::Released);
        mem::forget(self);
        released
    }

    /// Releases, and leaves the resource marked inconsistent: the next grant learns what this one learnt,
    /// or, if that was an ordinary release, of a death ([`recovered`](Self::recovered)), whatever happened to the history. For a holder that cannot repair the resource, or
    /// that has itself left it in the middle of something. `true` if there was still something to release.
    ///
    /// The term is that of POSIX for robust mutexes ([pthread_mutex_consistent(3)]), where such a mutex becomes unusable;
    /// here the next holder may try. To Rust's `Mutex` it is poisoning, but on request.
    ///
    /// [pthread_mutex_consistent(3)]: https://man7.org/linux/man-pages/man3/pthread_mutex_consistent.3.html
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use resourcelock::ResourceLock;
    /// let bus = ResourceLock::open("doc-inconsistent")?;
    /// assert!(bus.try_lock("cannot reset the mux")?.release_inconsistent());
    /// assert!(bus.try_lock("can reset it")?.recovered());
    /// # bus.remove(false)?;
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "pass_on")]
    #[doc(alias = "poison")]
    pub fn release_inconsistent(self) -> bool {
        let fate = if self.from.fate() == Fate::Released { Fate::Died } else { self.from.fate() };
        let released = self.lock.release_hold_with(self.hold, End::Inconsistent, fate);
        mem::forget(self);
        released
    }

    /// Detaches the hold, so that it outlives the process: `false` if it was not held any more. See
    /// [`ResourceLock::detach`].
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use resourcelock::ResourceLock;
    ///
    /// let bus = ResourceLock::open("doc-guard-detach")?;
    /// assert!(bus.try_lock("out of order, ask Ann")?.detach());
    /// drop(bus);
    /// let bus = ResourceLock::open("doc-guard-detach")?;
    /// assert!(bus.is_held());
    /// assert!(bus.force_release());
    /// # bus.remove(false)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn detach(self) -> bool {
        let detached = self.lock.detach_hold(self.hold);
        mem::forget(self);
        detached
    }
}

impl ResourceLock {
    /// Whether `hold` still stands, and still excludes everybody; see [`Guard::check`].
    pub(crate) fn check_hold(&self, hold: Hold) -> Result<bool, Error> {
        if !self.still_holds(hold) {
            return Ok(false);
        }
        self.check_name_if_due(clock::monotonic_coarse())?;
        Ok(true)
    }
}

impl Drop for Guard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.lock.release_hold(self.hold, End::Released);
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
