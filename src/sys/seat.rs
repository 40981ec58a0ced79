//! Seats: liveness that the kernel keeps.
//!
//! A *seat* is an open-file-description write lock ([fcntl(2)], `F_OFD_SETLK`) on one byte of the record's file: byte
//! 65536 + n for seat n. The description belongs to one handle and is kept alive by a *mapping* of the file that nobody
//! ever touches, instead of by a descriptor. The kernel gives the byte free when the description goes, and the description
//! goes with the process's memory: at its end, however it ends, and at exec.
//!
//! Invariants:
//! - a live process with a seat is never found dead: closing descriptors, namespaces, mounts, tracers, failed execs and
//!   forks do not touch the lock (`tests/it/seat.rs` has the attacks);
//! - the description of a seat has no other lock and is shared with no other process: its mapping is not inherited by a
//!   fork (MADV_DONTFORK), and its descriptor exists only inside [`window`](super::fork::window), unless the handle keeps it
//!   to carry a hold across exec ([`SeatDescriptor`]);
//! - a proof of death is a *read* lock on the byte: while it is there, nobody can take the seat, so no later grant can be
//!   mistaken for the dead one (ABA). To ask alone (`F_OFD_GETLK`) is for those who only look.
//!
//! Doubt is life: whatever keeps a probe from its answer leaves the recovery to a contender that can.
//!
//! A crash inside any of these functions leaves what the kernel makes of a dead process: nothing.
//!
//! [fcntl(2)]: https://man7.org/linux/man-pages/man2/fcntl.2.html
#![allow(unsafe_code)]

use core::ffi::c_void;
use core::mem::ManuallyDrop;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicU32, Ordering};

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::fs::{SeekFrom, seek, tell};
use rustix::io::{Errno, FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

use super::fcntl::{self, Conflict, LockType};
use super::file::{FileId, file_id};
use crate::error::{Error, SeatError};
use crate::record::SEATS_AT;

/// The mapping that pins a seat needs no size; the kernel rounds up to a page.
const PIN_LEN: usize = 1;

fn byte_of(seat: u32) -> u64 {
    SEATS_AT + u64::from(seat)
}

/// Locks the byte of `seat` for the description of `fd`. `Ok(false)`: another seat or a proof has it.
///
/// # Errors
///
/// [`SeatError::ForeignLock`] if a lock is in the way that is no seat, such as a peer's lockf(3) on the whole file;
/// [`SeatError::Refused`] and others if the kernel refuses such locks.
pub(crate) fn lock(fd: BorrowedFd<'_>, seat: u32) -> Result<bool, Error> {
    match fcntl::set_lock(fd, LockType::Write, byte_of(seat)) {
        Ok(true) => Ok(true),
        Ok(false) => match fcntl::get_lock(fd, LockType::Write, byte_of(seat)) {
            // Whoever wants every seat wants no seat. One description has one seat, so its lock has one byte.
            Ok(Some(Conflict { pid: -1, len: 1, .. }) | None) => Ok(false),
            Ok(Some(Conflict { pid, .. })) => Err(Error::Seat(SeatError::ForeignLock { pid: pid.max(0) as u32 })),
            Err(errno) => Err(refused(errno)),
        },
        Err(errno) => Err(refused(errno)),
    }
}

/// Gives the byte of `seat` back.
pub(crate) fn unlock(fd: BorrowedFd<'_>, seat: u32) -> Result<(), Error> {
    fcntl::set_lock(fd, LockType::None, byte_of(seat)).map(drop).map_err(refused)
}

/// Whether anybody has this seat, as far as another description than the seat's can see. For those who look.
pub(crate) fn is_taken(fd: BorrowedFd<'_>, seat: u32) -> Result<bool, Errno> {
    // A read lock, so that a proof that somebody else has pinned is no sign of life.
    fcntl::get_lock(fd, LockType::Read, byte_of(seat)).map(|conflict| conflict.is_some())
}

fn refused(errno: Errno) -> Error {
    Error::Seat(match errno {
        Errno::NOLCK => SeatError::TooManyLocks,
        Errno::NOMEM => SeatError::OutOfMemory,
        _ => SeatError::Refused { errno: errno.raw_os_error() },
    })
}

/// A descriptor that is kept over time by its number. The program may close it (closefrom(2)) and have another file open by
/// that number, so before each use it is checked: it must be of the record's file, and its offset, which nothing else uses,
/// must be the mark that it was given. (Another handle's descriptor of the same file has another mark.)
#[derive(Debug)]
struct Kept {
    number: i32,
    id: FileId,
    mark: u64,
}

/// The marks of probes. A seat's own descriptor stands at the end of the offset range instead. Below 2^43, where every
/// kernel can seek.
static MARKS: AtomicU32 = AtomicU32::new(0);
const FIRST_MARK: u64 = 1 << 33;

impl Kept {
    fn new(fd: OwnedFd, id: FileId, mark: u64) -> Self {
        let number = fd.as_raw_fd();
        core::mem::forget(fd);
        Self { number, id, mark }
    }

    /// The descriptor, if it still is what it was.
    fn get(&self) -> Option<BorrowedFd<'_>> {
        // SAFETY: only borrowed, and used for the calls below, for which an invalid number is an error of the kernel's.
        let fd = unsafe { BorrowedFd::borrow_raw(self.number) };
        (file_id(fd) == Some(self.id) && tell(fd) == Ok(self.mark)).then_some(fd)
    }

    /// Takes it back, if it still is what it was.
    fn take(self) -> Option<OwnedFd> {
        self.get()?;
        // SAFETY: the descriptor is the one that was given up to `new`, and is taken back once.
        Some(unsafe { OwnedFd::from_raw_fd(self.number) })
    }
}

/// A descriptor of the seat's description that can be inherited later: out of the way of the programs' own numbers, and at
/// the end of the offset range, so that a stray write fails (EINVAL or EFBIG) and does not overwrite the record.
pub(crate) struct SeatDescriptor(Option<Kept>);

impl SeatDescriptor {
    pub(crate) fn new(fd: BorrowedFd<'_>, id: FileId) -> Result<Self, Error> {
        let refused = |errno: Errno| match errno {
            Errno::MFILE | Errno::INVAL => Error::Seat(SeatError::TooManyFiles),
            errno => refused(errno),
        };
        let kept = fcntl_dupfd_cloexec(fd, 10).map_err(refused)?;
        // The end is the kernel's: 2^63 − 1 on 64 bits; 2^32 − 1 pages (of 64, 16 or 4 KiB) on 32 bits, and 2^43 − 1 there
        // before Linux 4.13. At any offset before it, a write succeeds and extends the record's file.
        const LAST_PAGE: u64 = u32::MAX as u64;
        let mark = [i64::MAX as u64, LAST_PAGE << 16, LAST_PAGE << 14, LAST_PAGE << 12, (1 << 43) - 1]
            .into_iter()
            .find(|&offset| seek(&kept, SeekFrom::Start(offset)).is_ok())
            .ok_or_else(|| refused(Errno::OVERFLOW))?;
        Ok(Self(Some(Kept::new(kept, id, mark))))
    }

    /// Its number, if the program has not closed it.
    pub(crate) fn number(&self) -> Option<i32> {
        self.0.as_ref()?.get().map(|fd| fd.as_raw_fd())
    }

    /// Has it be inherited.
    pub(crate) fn let_inherit(&self) -> Result<i32, Error> {
        let fd = self.0.as_ref().and_then(Kept::get).ok_or(Error::Seat(SeatError::NotKept))?;
        fcntl_setfd(fd, FdFlags::empty()).map_err(refused)?;
        Ok(fd.as_raw_fd())
    }
}

impl Drop for SeatDescriptor {
    fn drop(&mut self) {
        drop(self.0.take().and_then(Kept::take));
    }
}

/// What keeps a seat: a mapping of its description that nobody ever touches.
pub(crate) struct Pin(*mut c_void);

// SAFETY: the address of a mapping that is never accessed.
unsafe impl Send for Pin {}
// SAFETY: as above.
unsafe impl Sync for Pin {}

impl Pin {
    /// Pins the description of `fd`, so that its locks outlive the descriptor.
    pub(crate) fn new(fd: BorrowedFd<'_>) -> Result<Self, Error> {
        // SAFETY: a new mapping at an address of the kernel's choice, which is never accessed.
        let mapped = unsafe { mmap(null_mut(), PIN_LEN, ProtFlags::empty(), MapFlags::SHARED, fd, 0) };
        let pin = Self(mapped.map_err(|errno| {
            Error::Seat(match errno {
                // Without MAP_LOCKED, mmap(2) says EAGAIN only to a process that has called mlockall(MCL_FUTURE) and has
                // reached RLIMIT_MEMLOCK.
                Errno::AGAIN => SeatError::MemoryLocked,
                Errno::NOMEM => SeatError::OutOfMemory,
                _ => SeatError::Refused { errno: errno.raw_os_error() },
            })
        })?);
        // SAFETY: the advice is about the mapping just made.
        let advised = unsafe { madvise(pin.0, PIN_LEN, Advice::LinuxDontFork) };
        // Without it a forked child would keep the seat of its dead parent.
        advised.map_err(|errno| Error::Seat(SeatError::Refused { errno: errno.raw_os_error() }))?;
        Ok(pin)
    }

    /// As an address that a handle can keep in an atomic; zero stands for none.
    pub(crate) fn into_address(self) -> *mut c_void {
        let address = self.0;
        core::mem::forget(self);
        address
    }

    /// Takes back what [`into_address`](Self::into_address) gave out, in the same process: a forked child has no such
    /// mapping, and another one may have its address there.
    pub(crate) fn from_address(address: *mut c_void) -> Option<Self> {
        if address.is_null() { None } else { Some(Self(address)) }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        // SAFETY: the range is this mapping's, and nobody accesses it. An error would only leak it.
        let _ = unsafe { munmap(self.0, PIN_LEN) };
    }
}

/// What a contender knows of a holder's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// Somebody has the seat.
    Alive,
    /// Nobody has the seat, and nobody can take it until the probe unpins it.
    Dead,
    /// A lock is in the way that is no seat; nothing can be known.
    Obscured { pid: i32 },
}

/// A description for probing, used by one wait at a time. Read access is enough for it.
pub(crate) struct Probe {
    fd: OwnedFd,
    id: FileId,
    pinned: Option<u32>,
}

/// A probe that no wait uses at present.
pub(crate) struct IdleProbe(Kept);

impl Probe {
    /// `fd` must be a description of its own, of the file `id`, which is what the record is mapped from.
    pub(crate) fn new(fd: OwnedFd, id: FileId) -> Self {
        Self { fd, id, pinned: None }
    }

    /// The file that it is of.
    pub(crate) fn id(&self) -> FileId {
        self.id
    }

    /// Gives up the proof, and puts the descriptor aside for the next wait. `None` if it cannot be marked.
    pub(crate) fn put_aside(mut self) -> Option<IdleProbe> {
        self.unpin();
        let mark = match tell(&self.fd) {
            Ok(mark) if mark >= FIRST_MARK => mark,
            _ => {
                // Relaxed: each number is given out once.
                let mark = FIRST_MARK + u64::from(MARKS.fetch_add(1, Ordering::Relaxed));
                seek(&self.fd, SeekFrom::Start(mark)).ok()?
            }
        };
        let id = self.id;
        Some(IdleProbe(Kept::new(self.into_fd(), id, mark)))
    }

    fn into_fd(self) -> OwnedFd {
        let probe = ManuallyDrop::new(self);
        // SAFETY: the probe is not dropped, so this is the one owner of the descriptor.
        unsafe { OwnedFd::from_raw_fd(probe.fd.as_raw_fd()) }
    }

    /// Whether the descriptor is still what it was: another thread may have closed it, and opened something else.
    fn is_genuine(&self) -> bool {
        file_id(self.fd.as_fd()) == Some(self.id)
    }

    /// Whether anybody has the seat. If nobody has, the proof is pinned.
    pub(crate) fn examine(&mut self, seat: u32) -> Life {
        self.unpin();
        match fcntl::set_lock(self.fd.as_fd(), LockType::Read, byte_of(seat)) {
            Ok(true) => {
                self.pinned = Some(seat);
                // Asked after the answer, not before: only then it is known which file the answer was about.
                if self.is_genuine() {
                    return Life::Dead;
                }
                self.unpin();
                Life::Obscured { pid: 0 }
            }
            Ok(false) => match fcntl::get_lock(self.fd.as_fd(), LockType::Read, byte_of(seat)) {
                // Seats of one description may coalesce into one lock of more bytes.
                Ok(Some(Conflict { pid: -1, .. }) | None) => Life::Alive,
                Ok(Some(Conflict { pid, .. })) => Life::Obscured { pid },
                Err(_) => Life::Alive,
            },
            Err(_) => Life::Obscured { pid: 0 },
        }
    }

    /// Gives up the proof, if there is one.
    pub(crate) fn unpin(&mut self) {
        if let Some(seat) = self.pinned.take() {
            // Explicitly and not by closing: a child that another thread forks has a copy of the descriptor.
            let _ = fcntl::set_lock(self.fd.as_fd(), LockType::None, byte_of(seat));
        }
    }
}

impl IdleProbe {
    /// Takes it for a wait, if it is of the file `id` and still what it was.
    pub(crate) fn take(self, id: FileId) -> Option<Probe> {
        (self.0.id == id).then(|| self.0.take())?.map(|fd| Probe::new(fd, id))
    }

    /// Closes it, if it still is what it was.
    pub(crate) fn close(self) {
        drop(self.0.take());
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.unpin();
    }
}
