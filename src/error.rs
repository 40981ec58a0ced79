//! What can go wrong, each with what to do about it.

use core::fmt;

use rustix::io::Errno;

use crate::escape::Escaped;
use crate::grant::HolderSummary;
use crate::name::{DEVICE_PATH_CAPACITY, DIR_CAPACITY, NameError};
use crate::record::{RECORD_SIZE, VERSION};

/// Why an operation on a lock failed. A timeout is no failure: see [`LockError::TimedOut`].
///
/// ```
/// use resourcelock::{Error, NameError, ResourceLock};
///
/// let error = ResourceLock::open("i2c/1").unwrap_err();
/// assert_eq!(error, Error::NameInvalid(NameError::Slash));
/// println!("i2c/1: {error}");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The name cannot be a lock's.
    NameInvalid(NameError),
    /// The device has no name that a lock could take.
    DeviceInvalid(DeviceError),
    /// The directory's path is not absolute, has a NUL, or is longer than [`DIR_CAPACITY`] bytes.
    DirectoryInvalid,
    /// The directory of the locks does not exist.
    DirectoryMissing,
    /// There is no lock of this name, and the options say not to make one.
    NotFound,
    /// The kernel does not permit it.
    PermissionDenied(Denied),
    /// The file system of the directory is full (ENOSPC), or this user's share of it (EDQUOT).
    NoSpace,
    /// The directory is on a file system on which locks do not work: neither tmpfs nor ramfs.
    FileSystem {
        /// Its type, as in [statfs(2)](https://man7.org/linux/man-pages/man2/statfs.2.html).
        magic: u32,
    },
    /// There is a file of that name, and it is no lock.
    NotALock(NotALock),
    /// The lock was made by a build that lays the record out differently.
    VersionMismatch {
        /// The layout version of the record.
        found: u32,
    },
    /// The lock has features that this build does not know and that every participant must know.
    FeatureUnknown {
        /// The record's flags.
        flags: u32,
    },
    /// The lock word or the record's header has a value that no program writes: a program has overwritten the record.
    Corrupt,
    /// No seat could be taken, so nobody could tell whether this process lives; no hold is granted without one.
    Seat(SeatError),
    /// The kernel has no io_uring that can wait for a lock (Linux 6.7), or a sandbox forbids it: there is nothing to poll.
    NoRing,
    /// This handle holds a lock whose file was removed: programs that open it now get another lock.
    Vanished,
    /// The lock is held, and cannot be removed without force.
    Held,
    /// Another process is removing or making this lock over and over.
    Busy,
    /// A system call failed in a way that has no name of its own here.
    Os {
        /// What was being done.
        operation: Operation,
        /// The error number of the kernel, as in [errno(3)](https://man7.org/linux/man-pages/man3/errno.3.html).
        errno: i32,
    },
}

/// Why a lock cannot be named after a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceError {
    /// The path is empty, has a NUL, or is longer than [`DEVICE_PATH_CAPACITY`] bytes.
    PathInvalid,
    /// There is no such file.
    NotFound,
    /// A directory on the path may not be searched. (The device itself need not be accessible.)
    PermissionDenied,
    /// It is a file, a directory, a block device or something else, and no character device.
    NotACharacterDevice,
    /// Neither /sys, nor the device's number, nor (by way of /proc) its path gives a name.
    Nameless,
}

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PathInvalid => {
                write!(f, "the device's path is empty, has a NUL or more than {DEVICE_PATH_CAPACITY} bytes")
            }
            Self::NotFound => write!(f, "there is no such device; is its driver loaded, and is it plugged in?"),
            Self::PermissionDenied => write!(f, "a directory on the device's path may not be searched"),
            Self::NotACharacterDevice => write!(f, "it is no character device; give the lock a name of your own"),
            Self::Nameless => write!(f, "the device has no name; mount /sys or give the lock a name of your own"),
        }
    }
}

impl core::error::Error for DeviceError {}

/// What the kernel did not permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Denied {
    /// Opening somebody else's lock.
    Lock {
        /// The file's owner.
        uid: u32,
        /// The file's group.
        gid: u32,
        /// The file's permission bits.
        mode: u32,
    },
    /// Making, removing or finding a file in the directory.
    Directory,
    /// Removing somebody else's lock from a sticky directory, such as /dev/shm.
    Sticky {
        /// The file's owner.
        uid: u32,
    },
    /// Giving the new lock a group that this user is not in.
    Group {
        /// The group.
        gid: u32,
    },
    /// Giving the new lock its name, by linkat(2).
    Link,
    /// Writing to a file system that is mounted read-only.
    ReadOnly,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lock { uid, gid, mode } => write!(
                f,
                "the lock belongs to user {uid} and group {gid}, with mode {:04o}; join the group, or ask its owner for another \
                 mode or group",
                mode & 0o7777
            ),
            Self::Directory => {
                write!(f, "the directory of the locks may not be searched or written to; use another one")
            }
            Self::Sticky { uid } => {
                write!(
                    f,
                    "the directory is sticky and the lock belongs to user {uid}; only that user and root may remove it"
                )
            }
            Self::Group { gid } => write!(f, "this user is not in group {gid}; choose a group that it is in"),
            Self::Link => write!(
                f,
                "linking the new file to its name is forbidden (linkat); permit it in the sandbox, or make the lock outside"
            ),
            Self::ReadOnly => write!(
                f,
                "the file system is mounted read-only; for a systemd service, add the directory to ReadWritePaths="
            ),
        }
    }
}

/// Why no seat could be taken: the lock by which the kernel tells others that this process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SeatError {
    /// The kernel or a sandbox refuses locks on files, or memory that is not inherited by forked children: an AppArmor
    /// profile without `k`, SELinux without `lock`, seccomp, gVisor, Linux before 3.15.
    Refused {
        /// The error number, as in [errno(3)](https://man7.org/linux/man-pages/man3/errno.3.html).
        errno: i32,
    },
    /// A lock on the file is in the way that is no seat, such as lockf(3) on the whole file.
    ForeignLock {
        /// The process that has it; 0 if the kernel does not say.
        pid: u32,
    },
    /// The seat does not last beyond its descriptor. This happens on overlayfs.
    Void,
    /// The process has too many open files (EMFILE), or the system has (ENFILE).
    TooManyFiles,
    /// The kernel has no room for another lock (ENOLCK).
    TooManyLocks,
    /// The process locks all its memory (mlockall(2) with MCL_FUTURE) and is at its limit.
    MemoryLocked,
    /// No memory (ENOMEM).
    OutOfMemory,
    /// Another program has a lease on the file (F_SETLEASE in fcntl(2)).
    Leased,
    /// The handle was opened without [`keep_across_exec`](crate::OpenOptions::keep_across_exec).
    NotKept,
}

impl fmt::Display for SeatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { errno } => write!(
                f,
                "the kernel or a sandbox refuses what tells others that this process lives (os error {errno}); permit file \
                 locks (AppArmor: k, SELinux: lock) and madvise"
            ),
            Self::ForeignLock { pid: 0 } => {
                write!(f, "another program has locked the lock's file; find it with lslocks and stop it")
            }
            Self::ForeignLock { pid } => {
                write!(f, "process {pid} has locked the lock's file, as with lockf(3); stop it")
            }
            Self::Void => {
                write!(f, "file locks do not outlive their descriptor on this file system; use /run or /dev/shm")
            }
            Self::TooManyFiles => write!(f, "too many open files; close some or raise the limit (ulimit -n)"),
            Self::TooManyLocks => write!(f, "the kernel has no room for another file lock; close some"),
            Self::MemoryLocked => {
                write!(f, "the process may lock no more memory; open the lock before mlockall, or raise ulimit -l")
            }
            Self::OutOfMemory => write!(f, "out of memory"),
            Self::Leased => {
                write!(f, "another program has a lease on the lock's file; find it with lslocks and stop it")
            }
            Self::NotKept => write!(f, "the handle keeps no descriptor; open the lock with keep_across_exec"),
        }
    }
}

/// Why a file is no lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotALock {
    /// A symbolic link; locks are never followed to elsewhere.
    SymbolicLink,
    /// A directory, a FIFO, a socket or a device.
    NotAFile,
    /// A file of another size than [`RECORD_SIZE`].
    WrongSize(u64),
    /// It begins with something else.
    WrongMagic,
    /// A lock of a machine of the other endianness.
    WrongEndianness,
    /// Its link count is 0: the file was removed, and only a bind mount keeps its name.
    Unlinked,
}

/// What was being done when a system call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// Opening the lock's file.
    Open,
    /// Making the lock's file.
    Create,
    /// Giving the new file its mode or group.
    SetMode,
    /// Mapping memory.
    Map,
    /// Removing the lock's file.
    Remove,
    /// Looking up a device.
    FindDevice,
}

impl Error {
    /// Gives those errors a name of their own that a user can do something about.
    pub(crate) fn os(operation: Operation, errno: Errno) -> Self {
        match errno {
            Errno::ACCESS | Errno::PERM => Self::PermissionDenied(Denied::Directory),
            Errno::ROFS => Self::PermissionDenied(Denied::ReadOnly),
            Errno::NOSPC | Errno::DQUOT => Self::NoSpace,
            Errno::MFILE | Errno::NFILE => Self::Seat(SeatError::TooManyFiles),
            _ => Self::Os { operation, errno: errno.raw_os_error() },
        }
    }
}

impl From<NameError> for Error {
    fn from(error: NameError) -> Self {
        Self::NameInvalid(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NameInvalid(error) => error.fmt(f),
            Self::DeviceInvalid(error) => error.fmt(f),
            Self::DirectoryInvalid => write!(
                f,
                "the directory's path is not absolute, has a NUL or more than {DIR_CAPACITY} bytes; give another"
            ),
            Self::DirectoryMissing => write!(f, "the directory of the locks does not exist; make it or give another"),
            Self::NotFound => write!(f, "there is no lock of this name; opening it makes one"),
            Self::PermissionDenied(reason) => write!(f, "permission denied: {reason}"),
            Self::NoSpace => write!(f, "no space left for the lock's file; free some or use another directory"),
            Self::FileSystem { magic } => write!(
                f,
                "locks work on tmpfs and ramfs only, and the directory is on another file system (type {magic:#x}); use one \
                 below /run or /dev/shm"
            ),
            Self::NotALock(reason) => {
                write!(f, "the file of this name is no lock: {reason}; remove it or use another name")
            }
            Self::VersionMismatch { found } => write!(
                f,
                "the lock's layout is version {found}, this program knows {VERSION}; update the older program, then remove \
                 the lock"
            ),
            Self::FeatureUnknown { flags } => write!(
                f,
                "the lock has features that this program does not know (flags {flags:#x}); use a newer build of it"
            ),
            Self::Corrupt => write!(f, "the lock's record is corrupt; force-release or remove the lock"),
            Self::Seat(reason) => write!(f, "no seat: {reason}"),
            Self::NoRing => write!(
                f,
                "there is nothing to poll: the kernel has no io_uring that waits for locks (Linux 6.7), or a sandbox forbids \
                 it; wait in a thread instead"
            ),
            Self::Vanished => write!(f, "the file of this held lock was removed; release it and acquire it again"),
            Self::Held => write!(f, "the lock is held; release it first, or use force"),
            Self::Busy => write!(f, "other processes are removing and making the lock's file; try again"),
            Self::Os { operation, errno } => {
                let doing = match operation {
                    Operation::Open => "opening the lock's file",
                    Operation::Create => "making the lock's file",
                    Operation::SetMode => "setting the mode or group of the lock's file",
                    Operation::Map => "mapping memory",
                    Operation::Remove => "removing the lock's file",
                    Operation::FindDevice => "looking up the device",
                };
                write!(f, "{doing} failed: os error {errno}")
            }
        }
    }
}

// The texts of the inner errors are part of this one's, so they are no `source`: a report of the whole chain would print
// them twice.
impl core::error::Error for Error {}

impl fmt::Display for NotALock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SymbolicLink => write!(f, "it is a symbolic link"),
            Self::NotAFile => write!(f, "it is not a regular file"),
            Self::WrongSize(size) => write!(f, "it has {size} bytes, a lock has {RECORD_SIZE}"),
            Self::WrongMagic => write!(f, "it does not begin as a lock does"),
            Self::WrongEndianness => write!(f, "it was made on a machine of the other byte order"),
            Self::Unlinked => {
                write!(f, "its link count is 0: it was removed while a bind mount kept it; mount the directory instead")
            }
        }
    }
}

/// Why a lock was not acquired.
// The holder is returned by value, because there is no heap to put it on; it is small for that reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LockError {
    /// The time ran out; this is who holds the lock. `None` if the holder has not yet written down who it is, or if the
    /// lock is about to go to a process that has waited longer.
    TimedOut(Option<HolderSummary>),
    /// The wait was cancelled: [`Cancel`](crate::Cancel).
    Cancelled,
    /// The lock could not be used.
    Failed(Error),
}

impl From<Error> for LockError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut(Some(holder)) => {
                write!(f, "timed out: held by pid {} ({}) since {holder}", holder.pid(), Escaped(holder.program()))
            }
            Self::TimedOut(None) => write!(f, "timed out: the lock is changing hands"),
            Self::Cancelled => write!(f, "the wait for the lock was cancelled"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

// As for `Error`: the text of the inner error is this one's.
impl core::error::Error for LockError {}

#[cfg(feature = "std")]
mod io {
    extern crate std;
    use std::io;

    use super::{Error, SeatError};

    /// Keeps the kernel's error number where there is one; the lock's own errors keep their kind and their text.
    impl From<Error> for io::Error {
        fn from(error: Error) -> Self {
            let kind = match error {
                Error::Os { errno, .. } => return Self::from_raw_os_error(errno),
                Error::NameInvalid(_) | Error::DeviceInvalid(_) | Error::DirectoryInvalid => {
                    io::ErrorKind::InvalidInput
                }
                Error::DirectoryMissing | Error::NotFound | Error::Vanished => io::ErrorKind::NotFound,
                Error::PermissionDenied(_) => io::ErrorKind::PermissionDenied,
                Error::NoSpace => io::ErrorKind::StorageFull,
                Error::NotALock(_) | Error::VersionMismatch { .. } | Error::FeatureUnknown { .. } | Error::Corrupt => {
                    io::ErrorKind::InvalidData
                }
                Error::FileSystem { .. } | Error::NoRing => io::ErrorKind::Unsupported,
                Error::Seat(SeatError::OutOfMemory) => io::ErrorKind::OutOfMemory,
                Error::Seat(SeatError::ForeignLock { .. } | SeatError::Leased) => io::ErrorKind::ResourceBusy,
                Error::Seat(SeatError::Refused { .. } | SeatError::Void) => io::ErrorKind::Unsupported,
                Error::Seat(_) => io::ErrorKind::Other,
                Error::Held | Error::Busy => io::ErrorKind::ResourceBusy,
            };
            Self::new(kind, error)
        }
    }
}
