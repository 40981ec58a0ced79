//! A mutex that is only a futex word: free, held, or held with waiters. It is the minimum of a lock between processes:
//! it has no owner, no recovery and no fairness.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::mapped::Mapped;
use super::{INFO, Lock, Open, Site, info};

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
            // SAFETY: a word that is mapped, and reads a local structure.
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
        // Release: pairs with the Acquire of the next holder.
        if self.word().swap(FREE, Ordering::Release) == WAITED_FOR {
            self.wake();
        }
        true
    }
}

/// The mutex with the minimum that records a holder: the time of the acquire, an info, and the time of the release.
pub(super) struct Clocked(Mutex);

/// The offset of the record in the mapping, on another cache line than the word.
const RECORD_OFFSET: usize = 64;

#[repr(C)]
struct Record {
    acquired: u64,
    released: u64,
    info: [u8; INFO.len()],
}

/// Returns the time of a clock in nanoseconds.
#[inline]
fn clock(id: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: fills in a local structure.
    unsafe { libc::clock_gettime(id, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

impl Open for Clocked {
    fn open(site: &Site) -> Self {
        Self(Mutex::open(site))
    }
}

impl Lock for Clocked {
    #[inline]
    fn hold(&mut self, patience: Duration, work: &mut dyn FnMut()) -> bool {
        let record: *mut Record = self.0.0.address().wrapping_add(RECORD_OFFSET).cast();
        self.0.hold(patience, &mut || {
            let now = clock(libc::CLOCK_MONOTONIC);
            // SAFETY: within the mapping and aligned. The mutex is held, so this process alone accesses the record.
            let held = unsafe { &mut *record };
            held.acquired = now;
            let text = info();
            held.info[..text.len()].copy_from_slice(text.as_bytes());
            work();
            held.released = clock(libc::CLOCK_MONOTONIC_COARSE);
        })
    }
}
