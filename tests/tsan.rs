//! Threads that share a handle, for the thread sanitizer (`ci/tsan`): the lock's own orderings must make a plain counter
//! right. Without the sanitizer it is one more count of increments.
//!
//! A program of its own, without libtest, and with the C library's threads instead of std's: std comes compiled without
//! the sanitizer, so what its threads and channels order would be reported as races. Not threads with a handle each: the
//! record then has two addresses, which the sanitizer takes for two locks.
//!
//! Seen to fail with Relaxed instead of Acquire in `claim` and `acquire`, and instead of Release in `release`.
#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr::{null, null_mut};

use resourcelock::{ResourceLock, Timeout};

const THREADS: usize = 3;
const ROUNDS: usize = 3000;

struct Shared {
    lock: ResourceLock,
    counter: UnsafeCell<usize>,
}

extern "C" fn count(shared: *mut c_void) -> *mut c_void {
    // SAFETY: `main` keeps it until all threads have ended.
    let shared = unsafe { &*shared.cast::<Shared>() };
    for _ in 0..ROUNDS {
        let guard = shared.lock.lock(Timeout::FOREVER, "counts").unwrap();
        // SAFETY: only the one who holds the lock gets here. That it is so is what the sanitizer looks at.
        unsafe { *shared.counter.get() += 1 };
        assert!(guard.release());
    }
    null_mut()
}

fn main() {
    let name = format!("tsan-{}", std::process::id());
    let shared = Shared { lock: ResourceLock::open(&name).unwrap(), counter: UnsafeCell::new(0) };
    let argument = (&raw const shared).cast_mut().cast::<c_void>();
    let threads: Vec<libc::pthread_t> = (0..THREADS)
        .map(|_| {
            let mut thread = MaybeUninit::uninit();
            // SAFETY: `shared` outlives the thread, which is joined below.
            assert_eq!(unsafe { libc::pthread_create(thread.as_mut_ptr(), null(), count, argument) }, 0);
            // SAFETY: the call has succeeded.
            unsafe { thread.assume_init() }
        })
        .collect();
    for thread in threads {
        // SAFETY: made above, and joined once.
        assert_eq!(unsafe { libc::pthread_join(thread, null_mut()) }, 0);
    }
    let Shared { lock, counter } = shared;
    lock.remove(false).unwrap();
    assert_eq!(counter.into_inner(), THREADS * ROUNDS);
    println!("{} increments by {THREADS} threads with one handle, none lost", THREADS * ROUNDS);
}
