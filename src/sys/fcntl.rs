//! Open-file-description locks ([fcntl(2)], `F_OFD_SETLK`), which rustix 1.1 lacks.
//!
//! `docs/rustix-ofd-locks.patch` adds them to rustix; with it, this file shrinks to a few calls.
//!
//! [fcntl(2)]: https://man7.org/linux/man-pages/man2/fcntl.2.html
#![allow(unsafe_code)]

use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::Errno;

use super::syscall::{result, syscall3};

const F_OFD_GETLK: usize = 36;
const F_OFD_SETLK: usize = 37;

/// The kind of a lock on bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LockType {
    Read,
    Write,
    None,
}

impl LockType {
    const fn to_raw(self) -> i16 {
        match self {
            Self::Read => 0,
            Self::Write => 1,
            Self::None => 2,
        }
    }
}

/// `struct flock`, on 32-bit targets `struct flock64`: `off_t` has 64 bits in both, and C's rules of alignment do the
/// rest (on i386 an `i64` is aligned to 4 bytes, on ARM to 8).
#[repr(C)]
struct Flock {
    lock_type: i16,
    whence: i16,
    start: i64,
    len: i64,
    pid: i32,
}

impl Flock {
    fn new(lock_type: LockType, at: u64) -> Self {
        // Both commands want `pid` to be zero. SEEK_SET is zero, too.
        Self { lock_type: lock_type.to_raw(), whence: 0, start: at as i64, len: 1, pid: 0 }
    }
}

/// A lock that is in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    /// The process that owns a POSIX lock; −1 for an open-file-description lock; 0 for a process of another PID
    /// namespace.
    pub(crate) pid: i32,
    pub(crate) is_read_lock: bool,
    pub(crate) start: u64,
    /// Zero: to the end of all files.
    pub(crate) len: u64,
}

/// Locks or unlocks one byte, without waiting. `Ok(false)`: a conflicting lock is in the way.
pub(super) fn set_lock(fd: BorrowedFd<'_>, lock_type: LockType, at: u64) -> Result<bool, Errno> {
    let mut flock = Flock::new(lock_type, at);
    match fcntl(fd, F_OFD_SETLK, &mut flock) {
        Ok(()) => Ok(true),
        Err(Errno::AGAIN) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// The lock of another description that would keep this one from locking the byte so, if there is one.
pub(super) fn get_lock(fd: BorrowedFd<'_>, lock_type: LockType, at: u64) -> Result<Option<Conflict>, Errno> {
    let mut flock = Flock::new(lock_type, at);
    fcntl(fd, F_OFD_GETLK, &mut flock)?;
    Ok((flock.lock_type != LockType::None.to_raw()).then(|| Conflict {
        pid: flock.pid,
        is_read_lock: flock.lock_type == LockType::Read.to_raw(),
        start: flock.start as u64,
        len: flock.len as u64,
    }))
}

/// `fcntl`, on 32-bit targets `fcntl64`.
#[cfg(target_arch = "x86_64")]
const FCNTL: isize = 72;
#[cfg(any(target_arch = "x86", target_arch = "arm"))]
const FCNTL: isize = 221;
#[cfg(any(target_arch = "aarch64", target_arch = "riscv64"))]
const FCNTL: isize = 25;

fn fcntl(fd: BorrowedFd<'_>, command: usize, flock: &mut Flock) -> Result<(), Errno> {
    let flock = core::ptr::from_mut(flock).expose_provenance();
    // SAFETY: both commands read, and `F_OFD_GETLK` writes, one `struct flock` (`flock64`), which `flock` is, and touch
    // no other memory of this process.
    result(unsafe { syscall3(FCNTL, fd.as_raw_fd() as usize, command, flock) }).map(drop)
}
