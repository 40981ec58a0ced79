//! The lock's file: opening, publishing, removing, and knowing one file from another.

use core::ffi::CStr;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use core::time::Duration;

use heapless::String;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    Access, AtFlags, CWD, FallocateFlags, FileType, FlockOperation, Mode, OFlags, Stat, accessat, fallocate, fchmod,
    fchown, flock, fstat, fstatfs, linkat, lstat, open, stat, unlink,
};
use rustix::io::{Errno, pread, pwrite};
use rustix::process::{Gid, geteuid};

use crate::error::{Error, NotALock, Operation};
use crate::moment::Moment;
use crate::name::{DIR_CAPACITY, FILE_PREFIX, NAME_CAPACITY, PATH_CAPACITY, decimal, push_file_name};
use crate::record::RECORD_SIZE;
use crate::sys::clock;

/// `TMPFS_MAGIC`, [statfs(2)](https://man7.org/linux/man-pages/man2/statfs.2.html).
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// Where a lock's file is.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Absolute: a relative path would lead elsewhere when the program changes its directory.
    pub(crate) dir: String<DIR_CAPACITY>,
    pub(crate) name: String<NAME_CAPACITY>,
    /// The root directory that the path begins at.
    root: Option<FileId>,
}

/// A path with its NUL.
struct Path(String<PATH_CAPACITY>);

impl Path {
    fn as_c_str(&self) -> &CStr {
        // Directory and name were checked for NULs when the place was made, and the path is built with one at its end.
        CStr::from_bytes_until_nul(self.0.as_bytes()).unwrap_or(c"")
    }
}

impl Place {
    pub(crate) fn new(dir: &str, name: String<NAME_CAPACITY>) -> Result<Self, Error> {
        if !dir.starts_with('/') || dir.bytes().any(|byte| byte == 0) {
            return Err(Error::DirectoryInvalid);
        }
        Ok(Self { dir: String::try_from(dir).map_err(|_| Error::DirectoryInvalid)?, name, root: root() })
    }

    /// The path of a file in the directory. Both parts are bounded, so that it fits; the path is empty if not.
    fn path_of(&self, push_name: impl FnOnce(&mut String<PATH_CAPACITY>) -> Option<()>) -> Path {
        let mut path = String::new();
        let build = || {
            path.push_str(&self.dir).ok()?;
            path.push('/').ok()?;
            push_name(&mut path)?;
            path.push('\0').ok()
        };
        if build().is_none() {
            path.clear();
        }
        Path(path)
    }

    fn path(&self) -> Path {
        self.path_of(|path| push_file_name(path, &self.name))
    }

    fn dir_path(&self) -> Path {
        self.path_of(|_| Some(()))
    }
}

/// Opens a file, for this program and for none that it starts. Not inlined, as the next one: they are called in many
/// places, where rustix would put the system call's instructions.
#[inline(never)]
pub(crate) fn open_file(path: &CStr, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    open(path, flags | OFlags::CLOEXEC, mode)
}

/// What the kernel says of a file by its name; not of the one that a symbolic link leads to.
#[inline(never)]
fn look_at(path: &CStr) -> Result<Stat, Errno> {
    lstat(path)
}

/// What tells one file from another.
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

fn root() -> Option<FileId> {
    stat(c"/").ok().map(|stat| FileId::of(&stat))
}

/// Whether the file `id` has lost the lock's name: it was removed or replaced.
///
/// Only on proof: a path that leads elsewhere because this process has changed its root, or may not look, says nothing.
pub(crate) fn has_lost_name(place: &Place, id: FileId) -> bool {
    leads_elsewhere(place, id) && place.root == root()
}

fn leads_elsewhere(place: &Place, id: FileId) -> bool {
    match look_at(place.path().as_c_str()) {
        Ok(stat) => id != FileId::of(&stat),
        // The name is gone from a directory that is still the one (on the same file system) that the file was in.
        Err(Errno::NOENT) => look_at(place.dir_path().as_c_str()).is_ok_and(|dir| FileId::of(&dir).dev == id.dev),
        Err(_) => false,
    }
}

/// Opens the file that has the lock's name, if there is one, and makes sure that it can be mapped.
pub(crate) fn open_named(place: &Place) -> Result<Option<(OwnedFd, FileId)>, Error> {
    open_named_for(OFlags::RDWR, place)
}

/// As [`open_named`], for those who only look.
pub(crate) fn open_named_to_read(place: &Place) -> Result<Option<OwnedFd>, Error> {
    Ok(open_named_for(OFlags::RDONLY, place)?.map(|(fd, _)| fd))
}

fn open_named_for(access: OFlags, place: &Place) -> Result<Option<(OwnedFd, FileId)>, Error> {
    // No O_CREAT: with fs.protected_regular that fails on another user's file in a sticky directory, even for root.
    // O_NONBLOCK and O_NOCTTY: if the name is that of a FIFO or a terminal, opening it must not have effects.
    let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = match open_file(place.path().as_c_str(), flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::NOTDIR) => return Err(Error::DirectoryMissing),
        Err(Errno::LOOP) => return Err(Error::NotALock(NotALock::SymbolicLink)),
        Err(Errno::ISDIR | Errno::NXIO | Errno::NODEV) => return Err(Error::NotALock(NotALock::NotAFile)),
        Err(errno) => return Err(Error::os(Operation::Open, errno)),
    };
    let stat = fstat(&fd).map_err(|errno| Error::os(Operation::Open, errno))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::NotALock(NotALock::NotAFile));
    }
    // A shorter file would be a SIGBUS waiting to happen.
    if stat.st_size != RECORD_SIZE as i64 {
        return Err(Error::NotALock(NotALock::WrongSize(stat.st_size as u64)));
    }
    let id = FileId::of(&stat);
    Ok(Some((fd, id)))
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
                // Without /proc there may be no way to give it a name.
                Err(Errno::NOENT) => {}
                linked => return published(linked, fd, made),
            }
        }
        Err(Errno::NOENT | Errno::NOTDIR) => return Err(Error::DirectoryMissing),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOSYS) => {}
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
        Err(errno) => Err(Error::os(Operation::Create, errno)),
    }
}

/// Gives the file its size, its space, its mode, its group and its contents. Tells which file it is, and what `fill` made.
fn prepare<T>(
    fd: &OwnedFd,
    making: Making,
    fill: impl Fn(BorrowedFd<'_>) -> Result<T, Error>,
) -> Result<(FileId, T), Error> {
    reserve(fd)?;
    let os = |errno| Error::os(Operation::SetMode, errno);
    if let Some(group) = making.group {
        fchown(fd, None, Some(Gid::from_raw(group))).map_err(os)?;
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
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = place.path_of(|path| {
            path.push('.').ok()?;
            path.push_str(FILE_PREFIX).ok()?;
            path.push_str(&decimal(pid)).ok()?;
            path.push('-').ok()?;
            path.push_str(&decimal(count)).ok()
        });
        match open_file(path.as_c_str(), flags, Mode::RUSR | Mode::WUSR) {
            Ok(fd) => return Ok((fd, path)),
            Err(Errno::EXIST) => {}
            Err(Errno::NOENT) => return Err(Error::DirectoryMissing),
            Err(errno) => return Err(Error::os(Operation::Create, errno)),
        }
    }
    Err(Error::Busy)
}

/// The right to remove the file, or to bring a removed record back: of all that agree on this, one at a time.
///
/// Held by flock(2) on the file itself, so that the kernel gives it up when its holder dies.
pub(crate) struct RemovalRight<'a> {
    fd: BorrowedFd<'a>,
    place: &'a Place,
}

impl<'a> RemovalRight<'a> {
    /// `Ok(None)`: the file does not have the lock's name any more. Waits for another who has the right, but no longer
    /// than `until`, and for a second at the most.
    pub(crate) fn obtain(
        fd: BorrowedFd<'a>,
        id: FileId,
        place: &'a Place,
        until: Option<Moment>,
    ) -> Result<Option<Self>, Error> {
        // Its holders need microseconds. One that was stopped half way must not hold us up for ever.
        let mut limit = None;
        loop {
            match flock(fd, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {
                    let right = Self { fd, place };
                    // Checked under the right: from here on, nobody who asks for it can take the name away.
                    return Ok((!has_lost_name(place, id)).then_some(right));
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(errno) => return Err(Error::os(Operation::Remove, errno)),
            }
            let now = clock::monotonic();
            let limit = *limit.get_or_insert_with(|| {
                let a_second = now.after(Duration::from_secs(1));
                until.map_or(a_second, |until| until.min(a_second))
            });
            if now >= limit {
                return Err(Error::Busy);
            }
            clock::pause(Duration::from_millis(1));
        }
    }

    /// Whether the kernel would let us remove the file, as far as that can be told beforehand: the directory must be
    /// writable and, if it is sticky, it or the file our own (or we are root).
    pub(crate) fn is_permitted(&self) -> Result<(), Error> {
        let os = |errno| Error::os(Operation::Remove, errno);
        let dir_path = self.place.dir_path();
        let dir = stat(dir_path.as_c_str()).map_err(os)?;
        let file = fstat(self.fd).map_err(os)?;
        let we = geteuid();
        if Mode::from_raw_mode(dir.st_mode).contains(Mode::SVTX)
            && !we.is_root()
            && ![dir.st_uid, file.st_uid].contains(&we.as_raw())
        {
            return Err(Error::PermissionDenied);
        }
        match accessat(CWD, dir_path.as_c_str(), Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS) {
            // An old kernel cannot say it of a set-user-id program; then unlinking tells.
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
        let _ = flock(self.fd, FlockOperation::Unlock);
    }
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

/// Whether the file can have survived a boot.
pub(crate) fn is_persistent(fd: BorrowedFd<'_>) -> bool {
    fstatfs(fd).map_or(true, |stat| stat.f_type as u64 != TMPFS_MAGIC)
}

/// Which boot this is; `None` without /proc. Read once: it is another one only after this process has ended.
pub(crate) fn boot_id() -> Option<[u32; 4]> {
    known_boot_id().or_else(|| {
        let file = open_file(c"/proc/sys/kernel/random/boot_id", OFlags::RDONLY, Mode::empty()).ok()?;
        let mut text = [0; 36];
        let len = rustix::io::read(&file, &mut text).ok()?;
        let id = parse_uuid(&text[..len])?;
        for (cell, word) in BOOT_ID.iter().zip(id) {
            cell.store(word, Ordering::Relaxed);
        }
        // Release: pairs with the Acquire in `known_boot_id`. Two threads that are here at once write the same.
        BOOT_ID_IS_KNOWN.store(true, Ordering::Release);
        Some(id)
    })
}

/// [`boot_id`], if it was read before.
pub(crate) fn known_boot_id() -> Option<[u32; 4]> {
    // Acquire: pairs with the Release in `boot_id`.
    let is_known = BOOT_ID_IS_KNOWN.load(Ordering::Acquire);
    is_known.then(|| BOOT_ID.each_ref().map(|cell| cell.load(Ordering::Relaxed)))
}

static BOOT_ID: [AtomicU32; 4] = [const { AtomicU32::new(0) }; 4];
static BOOT_ID_IS_KNOWN: AtomicBool = AtomicBool::new(false);

/// 32 hexadecimal digits, dashes between them.
fn parse_uuid(text: &[u8]) -> Option<[u32; 4]> {
    let mut words = [0_u32; 4];
    let mut digits = 0;
    for digit in text.iter().filter(|&&byte| byte != b'-') {
        let word = words.get_mut(digits / 8)?;
        *word = *word << 4 | char::from(*digit).to_digit(16)?;
        digits += 1;
    }
    (digits == 32).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_id_is_read_whole_or_not_at_all() {
        let id = b"0123abcd-4567-89ab-cdef-0123456789ab";
        assert_eq!(parse_uuid(id), Some([0x0123_abcd, 0x4567_89ab, 0xcdef_0123, 0x4567_89ab]));
        assert_eq!(parse_uuid(&id[..35]), None);
        assert_eq!(parse_uuid(b"0123abcd-4567-89ab-cdef-0123456789abc"), None);
        assert_eq!(parse_uuid(b"g123abcd-4567-89ab-cdef-0123456789ab"), None);
    }
}
