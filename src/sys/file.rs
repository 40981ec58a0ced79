//! The lock's file: opening and making it, and distinguishing one file from another.

use core::ffi::CStr;
use core::sync::atomic::{AtomicU32, Ordering};

use heapless::String;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, Mode, OFlags, Stat, fallocate, fchmod, fchown, fstat, fstatfs, linkat,
    lstat, stat, unlink,
};
use rustix::io::{Errno, pread, pwrite};
use rustix::process::Gid;

use super::path::{Path, Place, open_file};
use crate::error::{Denied, Error, NotALock, Operation, SeatError};
use crate::name::decimal;
use crate::record::RECORD_SIZE;

/// [statfs(2)](https://man7.org/linux/man-pages/man2/statfs.2.html).
const TMPFS_MAGIC: u32 = 0x0102_1994;
const RAMFS_MAGIC: u32 = 0x8584_58f6;

/// What the kernel says of a file by its name; not of the one that a symbolic link leads to.
#[inline(never)]
fn look_at(path: &CStr) -> Result<Stat, Errno> {
    lstat(path)
}

/// What distinguishes one file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    pub(crate) dev: u64,
    pub(crate) ino: u64,
}

impl FileId {
    // The fields' types differ between targets.
    #[allow(clippy::unnecessary_cast)]
    fn of(stat: &Stat) -> Self {
        Self { dev: stat.st_dev as u64, ino: stat.st_ino as u64 }
    }
}

/// Which file a descriptor is of; `None` if it is of none any more.
pub(super) fn file_id(fd: BorrowedFd<'_>) -> Option<FileId> {
    fstat(fd).ok().map(|stat| FileId::of(&stat))
}

/// How this process sees the file systems: what decides where an absolute path leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct View {
    pub(super) root: FileId,
    /// Inode number of the mount namespace.
    pub(super) mount_ns: u32,
}

impl View {
    /// `None` without /proc.
    pub(super) fn current() -> Option<Self> {
        let mount_ns = stat(c"/proc/self/ns/mnt").ok()?.st_ino as u32;
        Some(Self { root: FileId::of(&stat(c"/").ok()?), mount_ns })
    }
}

/// Where a process was when it attached to a record: only there does it mean anything that the path leads elsewhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Surroundings {
    view: Option<View>,
    /// The directory that the record's file is in.
    dir: Option<FileId>,
}

impl Surroundings {
    /// `view` is how this process has seen the file systems when it was first asked. It may have changed them since: then the
    /// directory alone can prove anything.
    pub(crate) fn of(place: &Place, view: Option<View>) -> Self {
        Self { view, dir: id_of_dir(place) }
    }
}

fn id_of_dir(place: &Place) -> Option<FileId> {
    stat(place.dir_path().as_c_str()).ok().map(|stat| FileId::of(&stat))
}

/// Whether the file `id` does not have the lock's name: it was removed or replaced, or the path leads elsewhere.
pub(crate) fn has_lost_name(place: &Place, id: FileId) -> bool {
    match look_at(place.path().as_c_str()) {
        Ok(stat) => id != FileId::of(&stat),
        Err(errno) => errno == Errno::NOENT,
    }
}

/// As [`has_lost_name`], but only on proof: a path that leads elsewhere because this process has changed its root or its
/// mount namespace, or may not look, proves nothing.
///
/// Proof is that the directory is the same as before, or that the process sees the file systems as before: then every
/// newcomer with this path misses the file, too, even if the directory was replaced. (The directory is compared with itself
/// and not with the file: on some file systems a file and its directory have different device numbers.)
pub(crate) fn has_lost_name_since(place: &Place, id: FileId, before: Surroundings) -> bool {
    has_lost_name(place, id)
        && (before.dir.is_some() && before.dir == id_of_dir(place)
            || before.view.is_some() && before.view == View::current())
}

/// Opens the file that has the lock's name, if there is one, and makes sure that it can be mapped.
pub(crate) fn open_named(place: &Place) -> Result<Option<(OwnedFd, FileId)>, Error> {
    open_named_for(OFlags::RDWR, place)
}

/// Opens the file again by its name, for another description of it. `None` if the name leads to another file now.
pub(crate) fn open_again(place: &Place, id: FileId, access: Again) -> Result<Option<OwnedFd>, Error> {
    let access = match access {
        Again::ToTakeASeat => OFlags::RDWR,
        Again::ToProbe => OFlags::RDONLY,
    };
    Ok(open_path(access, place)?.filter(|fd| file_id(fd.as_fd()) == Some(id)))
}

/// What a description is opened again for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Again {
    ToTakeASeat,
    ToProbe,
}

/// As [`open_named`], for those who only look.
pub(crate) fn open_named_to_read(place: &Place) -> Result<Option<(OwnedFd, FileId)>, Error> {
    open_named_for(OFlags::RDONLY, place)
}

fn open_path(access: OFlags, place: &Place) -> Result<Option<OwnedFd>, Error> {
    // No O_CREAT: with fs.protected_regular that fails on another user's file in a sticky directory, even for root.
    // O_NONBLOCK and O_NOCTTY: if the name is that of a FIFO or a terminal, opening it must not have effects; and a lease
    // on the file must not block.
    let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let path = place.path();
    match open_file(path.as_c_str(), flags, Mode::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::NOTDIR) => Err(Error::DirectoryMissing),
        Err(Errno::LOOP) => Err(Error::NotALock(NotALock::SymbolicLink)),
        Err(Errno::ISDIR | Errno::NXIO | Errno::NODEV) => Err(Error::NotALock(NotALock::NotAFile)),
        Err(Errno::AGAIN) => Err(Error::Seat(SeatError::Leased)),
        Err(Errno::ACCESS | Errno::PERM) => Err(Error::PermissionDenied(denied(&path))),
        Err(errno) => Err(Error::os(Operation::Open, errno)),
    }
}

fn open_named_for(access: OFlags, place: &Place) -> Result<Option<(OwnedFd, FileId)>, Error> {
    let Some(fd) = open_path(access, place)? else { return Ok(None) };
    let stat = fstat(&fd).map_err(|errno| Error::os(Operation::Open, errno))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::NotALock(NotALock::NotAFile));
    }
    if stat.st_nlink == 0 {
        // Usually it was removed between the two calls; then the name is free, or leads to its successor.
        let was_removed = has_lost_name(place, FileId::of(&stat));
        return if was_removed { Ok(None) } else { Err(Error::NotALock(NotALock::Unlinked)) };
    }
    // A shorter file would be a SIGBUS waiting to happen.
    if stat.st_size != RECORD_SIZE as i64 {
        return Err(Error::NotALock(NotALock::WrongSize(stat.st_size as u64)));
    }
    check_file_system(fd.as_fd())?;
    Ok(Some((fd, FileId::of(&stat))))
}

/// Why the file of that path may not be opened, as far as it can be found out.
fn denied(path: &Path) -> Denied {
    match look_at(path.as_c_str()) {
        // The mode's type differs between targets.
        #[allow(clippy::unnecessary_cast)]
        Ok(stat) => Denied::Lock { uid: stat.st_uid, gid: stat.st_gid, mode: stat.st_mode as u32 & 0o7777 },
        Err(_) => Denied::Directory,
    }
}

/// Checks that the file is on a tmpfs or a ramfs. Nothing there survives a reboot, and a file has one name and one inode
/// for all who open it, which seats rely on: on overlayfs the mapping of a seat pins another file.
fn check_file_system(fd: BorrowedFd<'_>) -> Result<(), Error> {
    let stat = fstatfs(fd).map_err(|errno| Error::os(Operation::Open, errno))?;
    // The field's type differs between targets, and some sign-extend it.
    #[allow(clippy::cast_sign_loss, clippy::cast_possible_truncation, clippy::unnecessary_cast)]
    match stat.f_type as u32 {
        TMPFS_MAGIC | RAMFS_MAGIC => Ok(()),
        magic => Err(Error::FileSystem { magic }),
    }
}

/// Reads the whole record, as it is at this moment.
///
/// # Errors
///
/// [`NotALock::WrongSize`] if the file has been cut short since it was opened.
pub(crate) fn read_record(fd: &OwnedFd) -> Result<[u8; RECORD_SIZE], Error> {
    let mut bytes = [0; RECORD_SIZE];
    let mut len = 0;
    while len < RECORD_SIZE {
        match pread(fd, &mut bytes[len..], len as u64) {
            Ok(0) => return Err(Error::NotALock(NotALock::WrongSize(len as u64))),
            Ok(read) => len += read,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::os(Operation::Open, errno)),
        }
    }
    Ok(bytes)
}

/// How a new file is to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Making {
    pub(crate) mode: u32,
    pub(crate) group: Option<u32>,
    /// Whether overdue holds may be broken.
    pub(crate) may_break: bool,
}

/// Makes the lock's file: `fill` gets it under no name, all zeros, and when it returns the file gets its name at once.
/// Tells the file, and what `fill` made of it.
///
/// `Ok(None)`: somebody was faster. A crash leaves nothing behind; where the file system knows no unnamed files (or
/// /proc is missing), it may leave a temporary file, whose name no lock can have and which nobody opens again.
pub(crate) fn create<T>(
    place: &Place,
    making: Making,
    fill: impl Fn(BorrowedFd<'_>) -> Result<T, Error>,
) -> Result<Option<(OwnedFd, FileId, T)>, Error> {
    let dir = place.dir_path();
    match open_file(dir.as_c_str(), OFlags::TMPFILE | OFlags::RDWR, Mode::RUSR | Mode::WUSR) {
        Ok(fd) => {
            let made = prepare(&fd, making, &fill)?;
            match link_unnamed(&fd, place) {
                // Without /proc there may be no way to give it a name, and a sandbox may forbid it.
                Err(Errno::NOENT | Errno::ACCESS | Errno::PERM) => {}
                linked => return published(linked, fd, made),
            }
        }
        Err(Errno::NOENT | Errno::NOTDIR) => return Err(Error::DirectoryMissing),
        // Not on this file system, or not in this sandbox: AppArmor and snaps permit files by their names.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOSYS | Errno::ACCESS | Errno::PERM) => {}
        Err(errno) => return Err(Error::os(Operation::Create, errno)),
    }
    let (fd, temporary) = open_temporary(place)?;
    let made = prepare(&fd, making, &fill)
        .map(|made| (linkat(CWD, temporary.as_c_str(), CWD, place.path().as_c_str(), AtFlags::empty()), made));
    // If this fails, it is litter, and harmless: see above.
    let _ = unlink(temporary.as_c_str());
    let (linked, made) = made?;
    published(linked, fd, made)
}

fn published<T>(
    linked: Result<(), Errno>,
    fd: OwnedFd,
    (id, made): (FileId, T),
) -> Result<Option<(OwnedFd, FileId, T)>, Error> {
    match linked {
        Ok(()) => Ok(Some((fd, id, made))),
        Err(Errno::EXIST) => Ok(None),
        Err(Errno::NOENT) => Err(Error::DirectoryMissing),
        Err(Errno::PERM | Errno::ACCESS) => Err(Error::PermissionDenied(Denied::Link)),
        Err(errno) => Err(Error::os(Operation::Create, errno)),
    }
}

/// Gives the file its size, its space, its mode, its group and its contents. Tells which file it is, and what `fill` made.
fn prepare<T>(
    fd: &OwnedFd,
    making: Making,
    fill: impl Fn(BorrowedFd<'_>) -> Result<T, Error>,
) -> Result<(FileId, T), Error> {
    check_file_system(fd.as_fd())?;
    reserve(fd)?;
    let os = |errno| Error::os(Operation::SetMode, errno);
    if let Some(group) = making.group {
        fchown(fd, None, Some(Gid::from_raw(group))).map_err(|errno| match errno {
            Errno::PERM | Errno::ACCESS => Error::PermissionDenied(Denied::Group { gid: group }),
            errno => os(errno),
        })?;
    }
    // After the group, which may clear bits; and never by way of the umask.
    fchmod(fd, Mode::from_raw_mode(making.mode as _)).map_err(os)?;
    let stat = fstat(fd).map_err(|errno| Error::os(Operation::Create, errno))?;
    Ok((FileId::of(&stat), fill(fd.as_fd())?))
}

/// Has the file system set the space aside, filled with zeros: if it is full, now is the time to hear of it, not as SIGBUS
/// later.
fn reserve(fd: &OwnedFd) -> Result<(), Error> {
    loop {
        match fallocate(fd, FallocateFlags::empty(), 0, RECORD_SIZE as u64) {
            Ok(()) => return Ok(()),
            Err(Errno::INTR) => {}
            // Not on this file system, or not in this sandbox.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM) => break,
            Err(errno) => return Err(Error::os(Operation::Create, errno)),
        }
    }
    const ZEROS: [u8; 256] = [0; 256];
    let mut offset = 0;
    while offset < RECORD_SIZE as u64 {
        match pwrite(fd, &ZEROS[..ZEROS.len().min(RECORD_SIZE - offset as usize)], offset) {
            Ok(len) => offset += len as u64,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::os(Operation::Create, errno)),
        }
    }
    Ok(())
}

fn link_unnamed(fd: &OwnedFd, place: &Place) -> Result<(), Errno> {
    let path = place.path();
    // For root, and for everybody since Linux 6.10.
    match linkat(fd, c"", CWD, path.as_c_str(), AtFlags::EMPTY_PATH) {
        Err(Errno::NOENT | Errno::PERM | Errno::INVAL) => {}
        done => return done,
    }
    let mut own = String::<32>::new();
    // Ten digits at most: it fits. If not, there is no such file.
    let _ = own.push_str("/proc/self/fd/");
    let _ = own.push_str(&decimal(fd.as_raw_fd().unsigned_abs()));
    let _ = own.push('\0');
    linkat(
        CWD,
        CStr::from_bytes_until_nul(own.as_bytes()).unwrap_or(c""),
        CWD,
        path.as_c_str(),
        AtFlags::SYMLINK_FOLLOW,
    )
}

fn open_temporary(place: &Place) -> Result<(OwnedFd, Path), Error> {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW;
    // A name that is taken is the litter of a crash, or another thread's.
    for _ in 0..64 {
        let pid = rustix::process::getpid().as_raw_nonzero().get().unsigned_abs();
        // Relaxed: it only has to be different each time.
        let path = place.temporary_path(pid, COUNTER.fetch_add(1, Ordering::Relaxed));
        match open_file(path.as_c_str(), flags, Mode::RUSR | Mode::WUSR) {
            Ok(fd) => return Ok((fd, path)),
            Err(Errno::EXIST) => {}
            Err(Errno::NOENT) => return Err(Error::DirectoryMissing),
            Err(errno) => return Err(Error::os(Operation::Create, errno)),
        }
    }
    Err(Error::Busy)
}

/// Removes whatever file has the lock's name, if it is a regular one; for records that cannot be used any more.
pub(crate) fn unlink_unusable(place: &Place) -> Result<(), Error> {
    let path = place.path();
    match look_at(path.as_c_str()) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile => {
            return Err(Error::NotALock(NotALock::NotAFile));
        }
        Ok(_) => {}
        Err(Errno::NOENT) => return Err(Error::NotFound),
        Err(errno) => return Err(Error::os(Operation::Remove, errno)),
    }
    match unlink(path.as_c_str()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(Error::os(Operation::Remove, errno)),
    }
}
