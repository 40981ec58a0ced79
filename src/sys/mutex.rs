//! A mutex among the threads of one process, with a deadline: std's has none, and the core has no std.
//!
//! Three states, after Drepper, "Futexes Are Tricky", section 5: unlocked, locked, locked with waiters.
//!
//! A thread that forks while another one holds it leaves the child a locked mutex; the child resets it before its first
//! use ([`ThreadMutex::reset`]).

#![allow(unsafe_code)]

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;
use rustix::thread::futex::{Flags, wait_bitset, wake};

use super::clock;
use super::futex::ALL;
use crate::time::Moment;

const UNLOCKED: u32 = 0;
const LOCKED: u32 = 1;
const CONTENDED: u32 = 2;

#[repr(C)]
pub(crate) struct ThreadMutex<T = ()> {
    state: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached only through `Locked`, of which there is one at a time.
unsafe impl<T: Send> Sync for ThreadMutex<T> {}

pub(crate) struct Locked<'a, T = ()>(&'a ThreadMutex<T>);

impl<T> ThreadMutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self { state: AtomicU32::new(UNLOCKED), value: UnsafeCell::new(value) }
    }

    /// Waits until `deadline`, or for ever; `None` if the time ran out.
    pub(crate) fn lock_until(&self, deadline: Option<Moment>) -> Option<Locked<'_, T>> {
        // Acquire: pairs with the Release in `unlock`.
        if self.state.compare_exchange(UNLOCKED, LOCKED, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            return Some(Locked(self));
        }
        let timespec = deadline.map(clock::timespec);
        // Acquire: as above.
        while self.state.swap(CONTENDED, Ordering::Acquire) != UNLOCKED {
            match wait_bitset(&self.state, Flags::PRIVATE, CONTENDED, timespec.as_ref(), ALL) {
                Ok(()) | Err(Errno::AGAIN | Errno::INTR) => {}
                // The state stays "with waiters", which costs the holder one needless wake-up.
                Err(Errno::TIMEDOUT) => return None,
                // No futexes, in this kernel or in this sandbox.
                Err(_) if deadline.is_some_and(|deadline| clock::monotonic() >= deadline) => return None,
                Err(_) => clock::yield_to_others(),
            }
        }
        Some(Locked(self))
    }

    pub(crate) fn lock(&self) -> Locked<'_, T> {
        loop {
            // Without a deadline, it always succeeds.
            if let Some(locked) = self.lock_until(None) {
                return locked;
            }
        }
    }

    /// Ends a lock whose [`Locked`] was forgotten: for the handlers of a fork, which cannot pass it on.
    #[cfg(feature = "std")]
    pub(super) fn release_forgotten(&self) {
        self.unlock();
    }

    fn unlock(&self) {
        // Release: pairs with the Acquire in `lock_until`.
        if self.state.swap(UNLOCKED, Ordering::Release) == CONTENDED {
            // The only error is that of a bad address; then nobody can sleep there either.
            let _ = wake(&self.state, Flags::PRIVATE, 1);
        }
    }

    /// In a forked child, which has one thread: whichever thread held it, it is not in this process. The value is what it
    /// was at the fork.
    pub(crate) fn reset(&self) {
        self.state.store(UNLOCKED, Ordering::Relaxed);
    }
}

impl<T> Deref for Locked<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: this is the one thread that has locked the mutex.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> DerefMut for Locked<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and this is the one `Locked` of it.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T> Drop for Locked<'_, T> {
    fn drop(&mut self) {
        self.0.unlock();
    }
}

// Not for Miri, which has no futexes of the kernel's.
#[cfg(all(test, not(miri)))]
mod tests {
    extern crate std;
    use core::time::Duration;

    use super::*;

    #[test]
    fn a_locked_mutex_is_not_waited_for_beyond_the_deadline() {
        let mutex = ThreadMutex::new(());
        let held = mutex.lock();
        let deadline = clock::monotonic().after(Duration::from_millis(20));
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| mutex.lock_until(Some(deadline)).is_some());
            assert!(!waiter.join().unwrap());
        });
        assert!(clock::monotonic() >= deadline);
        drop(held);
        assert!(mutex.lock_until(Some(deadline)).is_some(), "free, so the deadline does not matter");
    }

    #[test]
    fn no_increment_is_lost() {
        let (mutex, counter) = (ThreadMutex::new(()), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let _held = mutex.lock();
                        counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(counter.into_inner(), 8_000);
    }
}
