//! Where a lock's file is, and how files are opened.

use core::ffi::CStr;

use heapless::{String, Vec};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use crate::error::Error;
use crate::name::{DIR_CAPACITY, FILE_PREFIX, NAME_CAPACITY, PATH_CAPACITY, decimal, push_file_name};

/// Where a lock's file is.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Absolute: a relative path would lead elsewhere when the program changes its directory.
    pub(crate) dir: String<DIR_CAPACITY>,
    pub(crate) name: String<NAME_CAPACITY>,
}

/// A path with its NUL. Bytes, because a temporary file's name is no text.
pub(super) struct Path(Vec<u8, PATH_CAPACITY>);

impl Path {
    pub(super) fn as_c_str(&self) -> &CStr {
        // Directory and name were checked for NULs when the place was made, and the path is built with one at its end.
        CStr::from_bytes_until_nul(&self.0).unwrap_or(c"")
    }
}

impl Place {
    pub(crate) fn new(dir: &str, name: String<NAME_CAPACITY>) -> Result<Self, Error> {
        if !dir.starts_with('/') || dir.bytes().any(|byte| byte == 0) {
            return Err(Error::DirectoryInvalid);
        }
        Ok(Self { dir: String::try_from(dir).map_err(|_| Error::DirectoryInvalid)?, name })
    }

    /// The path of a file in the directory. Both parts are bounded, so that it fits; the path is empty if not.
    fn path_of(&self, push_name: impl FnOnce(&mut Vec<u8, PATH_CAPACITY>) -> Option<()>) -> Path {
        let mut path = Vec::new();
        let build = || {
            path.extend_from_slice(self.dir.as_bytes()).ok()?;
            path.push(b'/').ok()?;
            push_name(&mut path)?;
            path.push(0).ok()
        };
        if build().is_none() {
            path.clear();
        }
        Path(path)
    }

    pub(super) fn path(&self) -> Path {
        self.path_of(|path| {
            let mut name = String::<NAME_CAPACITY>::new();
            push_file_name(&mut name, &self.name)?;
            path.extend_from_slice(name.as_bytes()).ok()
        })
    }

    pub(super) fn dir_path(&self) -> Path {
        self.path_of(|_| Some(()))
    }

    /// The path of a temporary file. Its name begins with the locks' prefix, so that a sandbox that permits lock files
    /// permits it too, and continues with a byte that no lock's name can have, so that it is none.
    pub(super) fn temporary_path(&self, pid: u32, count: u32) -> Path {
        self.path_of(|path| {
            path.extend_from_slice(FILE_PREFIX.as_bytes()).ok()?;
            path.push(NO_LOCK).ok()?;
            path.extend_from_slice(decimal(pid).as_bytes()).ok()?;
            path.push(b'-').ok()?;
            path.extend_from_slice(decimal(count).as_bytes()).ok()
        })
    }
}

/// The byte that follows the prefix in the names of temporary files: it occurs in no UTF-8 text, and so in no lock's name.
const NO_LOCK: u8 = 0xff;

/// Opens a file for this program and for none that it starts. Not inlined: it is called in many places, where rustix
/// would put the system call's instructions.
#[inline(never)]
pub(super) fn open_file(path: &CStr, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    open(path, flags | OFlags::CLOEXEC, mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_file_has_the_prefix_and_no_locks_name() {
        let place = Place::new("/dev/shm", String::try_from("i2c-1").unwrap()).unwrap();
        assert_eq!(place.path().as_c_str(), c"/dev/shm/resourcelock.i2c-1");
        assert_eq!(place.dir_path().as_c_str(), c"/dev/shm/");
        let temporary = place.temporary_path(42, 7);
        assert_eq!(temporary.as_c_str().to_bytes(), b"/dev/shm/resourcelock.\xff42-7");
        assert!(temporary.as_c_str().to_str().is_err());
    }
}
