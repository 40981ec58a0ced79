//! What can go wrong, each with what to do about it.

use core::fmt;

use rustix::io::Errno;

use crate::device::DEVICE_PATH_CAPACITY;
use crate::info::Grant;
use crate::name::{DIR_CAPACITY, NameError};
use crate::record::{RECORD_SIZE, VERSION};

/// Why an operation on a lock failed. That it timed out is no failure: see [`LockError::TimedOut`].
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
    /// There is no lock of this name, and none was to be made.
    NotFound,
    /// The lock belongs to others, or the directory does not let us make one.
    PermissionDenied,
    /// The file system of the directory is full (ENOSPC), or our share of it (EDQUOT).
    NoSpace,
    /// There is a file of that name, and it is no lock.
    NotALock(NotALock),
    /// The lock was made by a build that lays the record out differently.
    VersionMismatch {
        /// The layout version of the record.
        found: u32,
    },
    /// The lock word or the record's header has a value that no program writes: somebody scribbled over the record.
    Corrupt,
    /// This handle holds a lock whose file was removed meanwhile: programs that open it now get another.
    Vanished,
    /// The lock is held, and was to be removed without force.
    Held,
    /// Somebody else is removing or making this lock over and over.
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
    /// A directory on the way there does not let us pass. The device itself need not let us in.
    PermissionDenied,
    /// It is a file, a directory, a block device or something else, and no character device.
    NotACharacterDevice,
    /// Neither /sys, nor the device's number, nor (by way of /proc) its path tells a name.
    Nameless,
}

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PathInvalid => {
                write!(f, "the device's path is empty, has a NUL or more than {DEVICE_PATH_CAPACITY} bytes")
            }
            Self::NotFound => write!(f, "there is no such device; is its driver loaded, and is it plugged in?"),
            Self::PermissionDenied => write!(f, "a directory on the way to the device does not let us pass"),
            Self::NotACharacterDevice => write!(f, "it is no character device; give the lock a name of your own"),
            Self::Nameless => write!(f, "nothing tells the device's name; mount /sys or give the lock a name yourself"),
        }
    }
}

impl core::error::Error for DeviceError {}

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
            Errno::ACCESS | Errno::PERM | Errno::ROFS => Self::PermissionDenied,
            Errno::NOSPC | Errno::DQUOT => Self::NoSpace,
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
            Self::DirectoryInvalid => {
                write!(
                    f,
                    "the directory's path is not absolute, has a NUL or more than {DIR_CAPACITY} bytes; give another"
                )
            }
            Self::DirectoryMissing => write!(f, "the directory of the locks does not exist; make it or give another"),
            Self::NotFound => write!(f, "there is no lock of this name; a get makes it"),
            Self::PermissionDenied => {
                write!(
                    f,
                    "permission denied; ask the lock's owner for a mode or group that lets you in, or use another directory"
                )
            }
            Self::NoSpace => write!(f, "no space left for the lock's file; free some or use another directory"),
            Self::NotALock(reason) => {
                write!(f, "the file of this name is no lock: {reason}; remove it or use another name")
            }
            Self::VersionMismatch { found } => {
                write!(
                    f,
                    "the lock's layout is version {found}, this program knows {VERSION}; update the older program, then remove the lock"
                )
            }
            Self::Corrupt => write!(f, "the lock's record is corrupt; unget it by force or remove the lock"),
            Self::Vanished => write!(f, "the file of this held lock was removed; unget it and get it again"),
            Self::Held => write!(f, "the lock is held; unget it first, or use force"),
            Self::Busy => write!(f, "the lock's file is being removed and made again by others; try again"),
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

impl core::error::Error for Error {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::NameInvalid(error) => Some(error),
            Self::DeviceInvalid(error) => Some(error),
            _ => None,
        }
    }
}

impl fmt::Display for NotALock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SymbolicLink => write!(f, "it is a symbolic link"),
            Self::NotAFile => write!(f, "it is not a regular file"),
            Self::WrongSize(size) => write!(f, "it has {size} bytes, a lock has {RECORD_SIZE}"),
            Self::WrongMagic => write!(f, "it does not begin as a lock does"),
            Self::WrongEndianness => write!(f, "it was made on a machine of the other byte order"),
        }
    }
}

/// Why a guard was not granted.
// The holder is told by value, because there is no heap to put it on.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[allow(clippy::large_enum_variant)]
pub enum LockError {
    /// The lock was not to be had in time; this is who holds it. `None` if the holder has not had the time to say who it
    /// is, or if the lock is about to go to somebody who has waited for longer.
    TimedOut(Option<Grant>),
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
                write!(
                    f,
                    "timed out: held by pid {} ({}) since {holder}",
                    holder.pid(),
                    crate::info::Escaped(holder.program())
                )
            }
            Self::TimedOut(None) => write!(f, "timed out: the lock is just changing hands"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for LockError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::TimedOut(_) => None,
            Self::Failed(error) => Some(error),
        }
    }
}

#[cfg(feature = "std")]
mod io {
    extern crate std;
    use std::io;

    use super::Error;

    /// Keeps the kernel's error number where there is one; the lock's own errors keep their kind and their text.
    impl From<Error> for io::Error {
        fn from(error: Error) -> Self {
            let kind = match error {
                Error::Os { errno, .. } => return Self::from_raw_os_error(errno),
                Error::NameInvalid(_) | Error::DeviceInvalid(_) | Error::DirectoryInvalid => {
                    io::ErrorKind::InvalidInput
                }
                Error::DirectoryMissing | Error::NotFound | Error::Vanished => io::ErrorKind::NotFound,
                Error::PermissionDenied => io::ErrorKind::PermissionDenied,
                Error::NoSpace => io::ErrorKind::StorageFull,
                Error::NotALock(_) | Error::VersionMismatch { .. } | Error::Corrupt => io::ErrorKind::InvalidData,
                Error::Held | Error::Busy => io::ErrorKind::ResourceBusy,
            };
            Self::new(kind, error)
        }
    }
}
