//! The clock and the sleep of 32-bit kernels before Linux 5.1, whose times have 32 bits.
//!
//! rustix falls back to them where the kernel lacks the newer calls (ENOSYS). Sandboxes that were written before those calls
//! existed refuse them instead (EPERM: libseccomp before 2.4.2, Docker before 20.10), and permit the old ones.
#![allow(unsafe_code)]

use rustix::io::Errno;

use super::syscall::{result, syscall3};
use crate::time::Moment;

#[cfg(target_arch = "arm")]
const CLOCK_GETTIME: isize = 263;
#[cfg(target_arch = "x86")]
const CLOCK_GETTIME: isize = 265;
const NANOSLEEP: isize = 162;

/// `struct old_timespec32`.
#[repr(C)]
struct OldTimespec {
    sec: i32,
    nsec: i32,
}

/// Reads the clock of this number, as in clock_gettime(2).
pub(super) fn clock_gettime(clock: u32) -> Result<Moment, Errno> {
    let mut time = OldTimespec { sec: 0, nsec: 0 };
    // SAFETY: the call writes one `struct old_timespec32`, and touches no other memory.
    let returned = unsafe { syscall3(CLOCK_GETTIME, clock as usize, (&raw mut time).expose_provenance(), 0) };
    result(returned)?;
    // Unsigned: the kernel's own counter wraps in 2038, and this reads it until 2106.
    Ok(Moment { sec: u64::from(time.sec as u32), nsec: time.nsec as u32 })
}

/// Sleeps so long, or less if a signal comes.
pub(super) fn nanosleep(moment: Moment) -> Result<(), Errno> {
    let time = OldTimespec { sec: i32::try_from(moment.sec).unwrap_or(i32::MAX), nsec: moment.nsec as i32 };
    // SAFETY: the call reads one `struct old_timespec32`, and touches no other memory.
    let returned = unsafe { syscall3(NANOSLEEP, (&raw const time).expose_provenance(), 0, 0) };
    match result(returned) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}
