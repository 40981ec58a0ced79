//! The right to remove a record's file, or to revive a removed record: one process at a time.
//!
//! It is an open-file-description write lock on one byte of the file, which needs write access, so that a user who may
//! only read the record cannot hold up a removal with it (as flock(2) could). The kernel gives it up when its holder dies.

use core::time::Duration;

use rustix::fd::BorrowedFd;
use rustix::fs::{Access, AtFlags, CWD, Mode, accessat, fstat, stat, unlink};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::clock;
use super::fcntl::{self, Conflict, LockType};
use super::file::{FileId, has_lost_name};
use super::path::Place;
use crate::error::{Denied, Error, Operation, SeatError};
use crate::record::REMOVAL_LOCK_AT;
use crate::time::Moment;

/// Its holders need microseconds. One that was stopped half way must not hold up others for ever.
const PATIENCE: Duration = Duration::from_secs(1);

pub(crate) struct RemovalRight<'a> {
    fd: BorrowedFd<'a>,
    place: &'a Place,
}

/// What a lock in the way means to a removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Force {
    /// Every lock in the way is respected.
    No,
    /// A *read* lock, which no removal takes, is ignored.
    Yes,
}

impl<'a> RemovalRight<'a> {
    /// `Ok(None)`: the file does not have the lock's name any more. Waits for another process that has the right, but no
    /// longer than `until`, and at most a second.
    pub(crate) fn obtain(
        fd: BorrowedFd<'a>,
        id: FileId,
        place: &'a Place,
        until: Option<Moment>,
        force: Force,
    ) -> Result<Option<Self>, Error> {
        let mut limit = None;
        loop {
            match fcntl::set_lock(fd, LockType::Write, REMOVAL_LOCK_AT) {
                Ok(true) => break,
                Ok(false) => {}
                Err(errno) => return Err(Error::Seat(SeatError::Refused { errno: errno.raw_os_error() })),
            }
            match fcntl::get_lock(fd, LockType::Write, REMOVAL_LOCK_AT) {
                Ok(Some(Conflict { is_read_lock: true, .. })) if force == Force::Yes => break,
                Ok(Some(Conflict { pid, .. })) if pid != -1 => {
                    return Err(Error::Seat(SeatError::ForeignLock { pid: pid.max(0) as u32 }));
                }
                _ => {}
            }
            let now = clock::monotonic();
            let limit = *limit.get_or_insert_with(|| {
                let a_second = now.after(PATIENCE);
                until.map_or(a_second, |until| until.min(a_second))
            });
            if now >= limit {
                return Err(Error::Busy);
            }
            clock::pause(Duration::from_millis(1));
        }
        let right = Self { fd, place };
        // Checked under the right: from here on, nobody who asks for it can take the name away.
        Ok((!has_lost_name(place, id)).then_some(right))
    }

    /// Whether the kernel would let this process remove the file, as far as that can be known beforehand: the directory
    /// must be writable and, if it is sticky, it or the file must belong to this user, or this user is root.
    pub(crate) fn is_permitted(&self) -> Result<(), Error> {
        let os = |errno| Error::os(Operation::Remove, errno);
        let dir_path = self.place.dir_path();
        let dir = stat(dir_path.as_c_str()).map_err(os)?;
        let file = fstat(self.fd).map_err(os)?;
        let user = geteuid();
        if Mode::from_raw_mode(dir.st_mode).contains(Mode::SVTX)
            && !user.is_root()
            && ![dir.st_uid, file.st_uid].contains(&user.as_raw())
        {
            return Err(Error::PermissionDenied(Denied::Sticky { uid: file.st_uid }));
        }
        match accessat(CWD, dir_path.as_c_str(), Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS) {
            // An old kernel cannot answer for a set-user-id program; then unlinking tells.
            Ok(()) | Err(Errno::NOSYS | Errno::INVAL) => Ok(()),
            Err(errno) => Err(os(errno)),
        }
    }

    /// Removes the file.
    pub(crate) fn unlink(&self) -> Result<(), Error> {
        match unlink(self.place.path().as_c_str()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(Error::os(Operation::Remove, errno)),
        }
    }
}

impl Drop for RemovalRight<'_> {
    fn drop(&mut self) {
        // Closing the descriptor would do it as well; an error would leave it to that.
        let _ = fcntl::set_lock(self.fd, LockType::None, REMOVAL_LOCK_AT);
    }
}
