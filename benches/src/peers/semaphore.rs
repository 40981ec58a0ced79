//! glibc's named semaphore, which the reference uses.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::time::Duration;

use super::{Lock, Open, Site};

/// An open semaphore of value 0 or 1.
struct Semaphore(*mut libc::sem_t);

impl Semaphore {
    fn open(site: &Site) -> Self {
        let name = CString::new(format!("/{}", site.name())).expect("a name without NUL");
        // SAFETY: a string with its NUL; with O_CREAT, the mode and the value follow.
        let semaphore =
            unsafe { libc::sem_open(name.as_ptr(), libc::O_CREAT, 0o660 as libc::c_uint, 1 as libc::c_uint) };
        assert_ne!(semaphore, libc::SEM_FAILED, "sem_open: {}", std::io::Error::last_os_error());
        Self(semaphore)
    }

    #[inline]
    fn wait(&self) {
        // SAFETY: open until it is dropped.
        assert_eq!(unsafe { libc::sem_wait(self.0) }, 0);
    }

    #[inline]
    fn wait_until(&self, deadline: &libc::timespec) -> bool {
        // SAFETY: open until it is dropped, and reads a local structure.
        unsafe { libc::sem_timedwait(self.0, deadline) == 0 }
    }

    #[inline]
    fn post(&self) {
        // SAFETY: open until it is dropped.
        assert_eq!(unsafe { libc::sem_post(self.0) }, 0);
    }
}

impl Drop for Semaphore {
    fn drop(&mut self) {
        // SAFETY: open, and not used again.
        unsafe { libc::sem_close(self.0) };
    }
}

/// Returns the deadline of a wait that begins now, on CLOCK_REALTIME, as POSIX requires.
#[inline]
pub(super) fn deadline(patience: Duration) -> libc::timespec {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: fills in a local structure.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &mut time) };
    time.tv_sec += patience.as_secs() as libc::time_t;
    time.tv_nsec += patience.subsec_nanos() as libc::c_long;
    if time.tv_nsec >= 1_000_000_000 {
        time.tv_sec += 1;
        time.tv_nsec -= 1_000_000_000;
    }
    time
}

/// By sem_timedwait(3).
pub(super) struct Timed(Semaphore);

impl Open for Timed {
    fn open(site: &Site) -> Self {
        Self(Semaphore::open(site))
    }
}

impl Lock for Timed {
    #[inline]
    fn hold(&mut self, patience: Duration, work: &mut dyn FnMut()) -> bool {
        if !self.0.wait_until(&deadline(patience)) {
            return false;
        }
        work();
        self.0.post();
        true
    }
}

/// By sem_wait(3).
pub(super) struct Untimed(Semaphore);

impl Open for Untimed {
    fn open(site: &Site) -> Self {
        Self(Semaphore::open(site))
    }
}

impl Lock for Untimed {
    #[inline]
    fn hold(&mut self, _: Duration, work: &mut dyn FnMut()) -> bool {
        self.0.wait();
        work();
        self.0.post();
        true
    }
}
