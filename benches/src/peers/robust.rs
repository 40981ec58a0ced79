//! A robust process-shared mutex of POSIX threads.
#![allow(unsafe_code)]

use std::time::Duration;

use super::mapped::Mapped;
use super::semaphore::deadline;
use super::{Lock, Open, Site};

pub(super) struct Mutex(Mapped);

impl Mutex {
    fn raw(&self) -> *mut libc::pthread_mutex_t {
        self.0.address().cast()
    }
}

impl Open for Mutex {
    fn prepare(site: &Site) {
        let mutex = Self::open(site);
        // SAFETY: the next call initialises the attributes.
        let mut attributes: libc::pthread_mutexattr_t = unsafe { std::mem::zeroed() };
        // SAFETY: initialises a local structure.
        assert_eq!(unsafe { libc::pthread_mutexattr_init(&mut attributes) }, 0);
        // SAFETY: initialised above.
        assert_eq!(unsafe { libc::pthread_mutexattr_setpshared(&mut attributes, libc::PTHREAD_PROCESS_SHARED) }, 0);
        // SAFETY: as above.
        assert_eq!(unsafe { libc::pthread_mutexattr_setrobust(&mut attributes, libc::PTHREAD_MUTEX_ROBUST) }, 0);
        // SAFETY: mapped memory, large and aligned enough, that no other process uses yet.
        assert_eq!(unsafe { libc::pthread_mutex_init(mutex.raw(), &attributes) }, 0);
    }

    fn open(site: &Site) -> Self {
        Self(Mapped::open(site))
    }
}

impl Lock for Mutex {
    #[inline]
    fn hold(&mut self, patience: Duration, work: &mut dyn FnMut()) -> bool {
        let deadline = deadline(patience);
        // SAFETY: initialised by `prepare`, mapped as long as `self`.
        match unsafe { libc::pthread_mutex_timedlock(self.raw(), &deadline) } {
            0 => {}
            libc::EOWNERDEAD => {
                // SAFETY: this thread holds it.
                assert_eq!(unsafe { libc::pthread_mutex_consistent(self.raw()) }, 0);
            }
            libc::ETIMEDOUT => return false,
            error => panic!("pthread_mutex_timedlock: {error}"),
        }
        work();
        // SAFETY: this thread holds it.
        assert_eq!(unsafe { libc::pthread_mutex_unlock(self.raw()) }, 0);
        true
    }
}
