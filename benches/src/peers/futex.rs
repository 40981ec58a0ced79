//! A mutex of nothing but a futex: free, held, or held with somebody asleep. The least that a lock between processes
//! can be: no owner, no recovery, no fairness.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::mapped::Mapped;
use super::{Lock, Open, Site};

const FREE: u32 = 0;
const HELD: u32 = 1;
const WAITED_FOR: u32 = 2;

pub(super) struct Mutex(Mapped);

impl Mutex {
    #[inline]
    fn word(&self) -> &AtomicU32 {
        // SAFETY: mapped as long as `self`, aligned, and any value is valid.
        unsafe { &*self.0.address().cast() }
    }

    #[cold]
    fn wait(&self, patience: Duration) -> bool {
        let began = Instant::now();
        // Acquire: pairs with the Release in `hold`.
        while self.word().swap(WAITED_FOR, Ordering::Acquire) != FREE {
            let Some(left) = patience.checked_sub(began.elapsed()) else { return false };
            let left = libc::timespec { tv_sec: left.as_secs() as _, tv_nsec: left.subsec_nanos() as _ };
            // SAFETY: a word that is mapped, and a structure of ours.
            unsafe { libc::syscall(libc::SYS_futex, self.word(), libc::FUTEX_WAIT, WAITED_FOR, &left) };
        }
        true
    }

    #[cold]
    fn wake(&self) {
        // SAFETY: a word that is mapped.
        unsafe { libc::syscall(libc::SYS_futex, self.word(), libc::FUTEX_WAKE, 1) };
    }
}

impl Open for Mutex {
    fn open(site: &Site) -> Self {
        Self(Mapped::open(site))
    }
}

impl Lock for Mutex {
    #[inline]
    fn hold(&mut self, patience: Duration, work: &mut dyn FnMut()) -> bool {
        // Acquire: pairs with the Release below.
        let free = self.word().compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_ok();
        if !free && !self.wait(patience) {
            return false;
        }
        work();
        // Release: pairs with the Acquire of whoever takes it next.
        if self.word().swap(FREE, Ordering::Release) == WAITED_FOR {
            self.wake();
        }
        true
    }
}
