//! resourcelock, with everything on: time, an info of 32 bytes, the ring of grants, the counters.

use std::time::Duration;

use resourcelock::{ResourceLock, Timeout};

use super::{Lock, Open, Site};

const INFO: &str = "thirty-two bytes, as many give..";
const _: () = assert!(INFO.len() == 32);

fn timeout(patience: Duration) -> Timeout {
    Timeout::try_from(patience).expect("no longer than 136 years")
}

fn open(site: &Site) -> ResourceLock {
    ResourceLock::open(site.name()).expect("a lock")
}

/// By the face for new code.
pub(super) struct Guarded(ResourceLock);

impl Open for Guarded {
    fn open(site: &Site) -> Self {
        Self(open(site))
    }
}

impl Lock for Guarded {
    #[inline]
    fn hold(&mut self, patience: Duration, work: &mut dyn FnMut()) -> bool {
        let Ok(guard) = self.0.lock(timeout(patience), INFO) else { return false };
        work();
        guard.release()
    }
}

/// By the face for ported code.
pub(super) struct Called(ResourceLock);

impl Open for Called {
    fn open(site: &Site) -> Self {
        Self(open(site))
    }
}

impl Lock for Called {
    #[inline]
    fn hold(&mut self, patience: Duration, work: &mut dyn FnMut()) -> bool {
        if !self.0.get_lock(timeout(patience), false, INFO).expect("the lock works") {
            return false;
        }
        work();
        self.0.unget_lock(false, "bench")
    }
}
