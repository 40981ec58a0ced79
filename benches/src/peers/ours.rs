//! resourcelock with everything that it records: the time, an info of 64 bytes, the history and the counters.
//!
//! The crate is built with the features `std` and `ring`.

use std::time::Duration;

use resourcelock::reference::Reference as _;
use resourcelock::{ResourceLock, Timeout};

use super::{Lock, Open, Site, info};

fn open(site: &Site) -> ResourceLock {
    ResourceLock::open(site.name()).expect("the lock opens")
}

/// Acquires by `lock`, which returns a guard.
pub(super) struct Guarded(ResourceLock);

impl Open for Guarded {
    fn open(site: &Site) -> Self {
        Self(open(site))
    }
}

impl Lock for Guarded {
    #[inline]
    fn hold(&mut self, patience: Duration, work: &mut dyn FnMut()) -> bool {
        let Ok(guard) = self.0.lock(Timeout::from(patience), info()) else { return false };
        work();
        guard.release()
    }
}

/// Acquires by `get_lock`, for code that is ported from the reference.
pub(super) struct Called(ResourceLock);

impl Open for Called {
    fn open(site: &Site) -> Self {
        Self(open(site))
    }
}

impl Lock for Called {
    #[inline]
    fn hold(&mut self, patience: Duration, work: &mut dyn FnMut()) -> bool {
        if !self.0.get_lock(Timeout::from(patience), false, info()).expect("the lock works") {
            return false;
        }
        work();
        self.0.unget_lock(false, "bench")
    }
}
