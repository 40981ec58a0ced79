//! flock(2) with a timeout, as in flock(1): a timer's signal interrupts the wait.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::time::Duration;

use super::{Lock, Open, Site};

pub(super) struct Flock(File);

impl Flock {
    #[inline]
    fn flock(&self, operation: libc::c_int) -> bool {
        // SAFETY: a descriptor that is open as long as `self`.
        unsafe { libc::flock(self.0.as_raw_fd(), operation) == 0 }
    }

    #[cold]
    fn wait(&self, patience: Duration) -> bool {
        extern "C" fn ring(_: libc::c_int) {}
        // SAFETY: all zeros is an action without flags, so that the signal interrupts the call.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = ring as extern "C" fn(libc::c_int) as libc::sighandler_t;
        // SAFETY: the handler does nothing.
        assert_eq!(unsafe { libc::sigaction(libc::SIGALRM, &action, std::ptr::null_mut()) }, 0);
        // The first signal may arrive before the wait begins, so the timer repeats.
        set_timer(patience, Duration::from_millis(10));
        let granted = self.flock(libc::LOCK_EX);
        set_timer(Duration::ZERO, Duration::ZERO);
        granted
    }
}

fn set_timer(first: Duration, then: Duration) {
    let time = |duration: Duration| libc::timeval {
        tv_sec: duration.as_secs() as libc::time_t,
        tv_usec: duration.subsec_micros() as libc::suseconds_t,
    };
    let timer = libc::itimerval { it_interval: time(then), it_value: time(first) };
    // SAFETY: reads a local structure.
    assert_eq!(unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut()) }, 0);
}

impl Open for Flock {
    fn open(site: &Site) -> Self {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(site.file());
        Self(file.expect("the file opens"))
    }
}

impl Lock for Flock {
    #[inline]
    fn hold(&mut self, patience: Duration, work: &mut dyn FnMut()) -> bool {
        if !self.flock(libc::LOCK_EX | libc::LOCK_NB) && !self.wait(patience) {
            return false;
        }
        work();
        assert!(self.flock(libc::LOCK_UN));
        true
    }
}
