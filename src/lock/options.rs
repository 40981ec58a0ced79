//! How a lock is opened.

use super::handle::ResourceLock;
use crate::device::{self, LockName};
use crate::error::Error;
use crate::grant::{Grant, Previous};
use crate::name;
use crate::region::{self, Part, Region};
use crate::sys::file::Making;
use crate::sys::path::Place;
use crate::sys::process::Process;
use crate::timestamp::OffsetAt;

/// Where locks are, unless the program says otherwise.
pub const DEFAULT_DIR: &str = "/dev/shm";

/// Permissions of a new lock's file, unless the program says otherwise: its owner and group take part.
pub const DEFAULT_MODE: u32 = 0o660;

/// How a lock is opened: [`ResourceLock::options`].
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use resourcelock::{Error, ResourceLock};
///
/// let options = ResourceLock::options().dir("/dev/shm");
/// assert!(matches!(options.create(false).open("doc-options"), Err(Error::NotFound)));
/// let lock = options.mode(0o600).open("doc-options")?;
/// drop(lock);
/// options.remove("doc-options", false)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "options open nothing until `open` is called"]
pub struct OpenOptions<'a> {
    pub(crate) dir: &'a str,
    making: Making,
    create: bool,
    recover: bool,
    keep_across_exec: bool,
    pub(crate) offset_at: Option<OffsetAt>,
}

impl Default for OpenOptions<'_> {
    fn default() -> Self {
        Self {
            dir: DEFAULT_DIR,
            making: Making { mode: DEFAULT_MODE, group: None, may_break: false },
            create: true,
            recover: true,
            keep_across_exec: false,
            offset_at: None,
        }
    }
}

impl<'a> OpenOptions<'a> {
    /// Sets the directory of the lock's file, an absolute path of at most [`DIR_CAPACITY`](crate::DIR_CAPACITY) bytes, on
    /// a tmpfs or a ramfs; the default is [`DEFAULT_DIR`]. All programs that share a lock must agree on it.
    pub fn dir(mut self, dir: &'a str) -> Self {
        self.dir = dir;
        self
    }

    /// Sets the permission bits of the file if it is made, whatever the umask; the default is [`DEFAULT_MODE`]. Taking
    /// part needs reading and writing. An existing file keeps its own.
    pub fn mode(mut self, mode: u32) -> Self {
        self.making.mode = mode & 0o777;
        self
    }

    /// Sets the group of the file if it is made; the default is the process's group, or the directory's if that is setgid.
    pub fn group(mut self, gid: u32) -> Self {
        self.making.group = Some(gid);
        self
    }

    /// Sets whether waiters may break an overdue hold of the lock, if it is made; by default they may not. An existing lock
    /// keeps its own setting.
    ///
    /// A hold is overdue when it has lasted longer than its holder expected
    /// ([`Request::expect_to_hold`](crate::Request::expect_to_hold)); a waiter that wants to break it says so
    /// ([`Request::break_overdue`](crate::Request::break_overdue)). The holder then goes on without the lock until it asks
    /// ([`Guard::check`](crate::Guard::check)). That is safe only where a holder checks before each access that must be
    /// exclusive, or where the resource itself rejects what comes late. It is not safe where two programs in the middle of
    /// a transfer harm it.
    pub fn allow_break(mut self, allow: bool) -> Self {
        self.making.may_break = allow;
        self
    }

    /// Sets whether to make the lock if there is none (the default), or to fail with [`Error::NotFound`].
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Sets whether this handle takes over from a holder that is proven dead (the default), or waits as for a living one.
    pub fn recover(mut self, recover: bool) -> Self {
        self.recover = recover;
        self
    }

    /// Sets whether the handle keeps its seat's descriptor, so that a hold can be carried across exec
    /// ([`Guard::carry_across_exec`](crate::Guard::carry_across_exec)). By default it keeps none.
    ///
    /// The descriptor has a number of 10 or above, is closed on exec until then, and stands at the end of the offset range,
    /// so that a stray write fails. A *forked child* that does not close it keeps the seat alive: to others the holder lives
    /// as long as the child does.
    pub fn keep_across_exec(mut self, keep: bool) -> Self {
        self.keep_across_exec = keep;
        self
    }

    /// Shows times in local time; the default is UTC.
    pub fn local_time(mut self, offset_at: OffsetAt) -> Self {
        self.offset_at = Some(offset_at);
        self
    }

    /// Opens the lock `name`; see [`ResourceLock::open`].
    ///
    /// # Errors
    ///
    /// As [`ResourceLock::open`], and [`Error::NotFound`] if there is none and `create` is off.
    pub fn open(self, name: &str) -> Result<ResourceLock, Error> {
        let keep_descriptor = self.keep_across_exec;
        let lock = self.open_as(name, Part::Takes { keep_descriptor })?;
        lock.log_state();
        Ok(lock)
    }

    /// Opens the lock of the device at `path`; see [`ResourceLock::open_for_device`].
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and [`Error::DeviceInvalid`].
    pub fn open_for_device(self, path: &str) -> Result<ResourceLock, Error> {
        self.open(&device::lock_name(path)?)
    }

    fn open_as(self, name: &str, part: Part) -> Result<ResourceLock, Error> {
        let place = Place::new(self.dir, name::validate(name)?)?;
        let process = Process::find()?;
        let making = self.create.then_some(self.making);
        let region = Region::open(&place, making, process, part)?;
        Ok(ResourceLock::new(region, place, process, self.recover, making, self.offset_at))
    }

    /// Force-releases the lock `name`, as [`ResourceLock::force_release`], without a handle that takes part.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is no such lock; else as [`ResourceLock::open`].
    pub fn force_release(self, name: &str) -> Result<bool, Error> {
        Ok(self.create(false).open_as(name, Part::Administers)?.force_release())
    }

    /// Releases exactly the hold `grant` of the lock `name`, as [`ResourceLock::release_grant`], without a handle that
    /// takes part.
    ///
    /// # Errors
    ///
    /// As [`force_release`](Self::force_release).
    pub fn release_grant(self, name: &str, grant: &Grant) -> Result<bool, Error> {
        Ok(self.create(false).open_as(name, Part::Administers)?.release_grant(grant))
    }

    /// Removes the lock `name`: open handles continue with a new one when they next acquire it. Returns what became of its
    /// last holder: a removal that takes over from a dead holder is the only one to learn of it.
    ///
    /// A file that is no lock any more (damaged, of another version or size) is removed only with `force`, and then
    /// whatever it is, as long as it is a regular file.
    ///
    /// # Errors
    ///
    /// [`Error::Held`] if it is held, by a live process or detached, without `force`; [`Error::NotFound`]; as
    /// [`ResourceLock::open`].
    pub fn remove(self, name: &str, force: bool) -> Result<Previous, Error> {
        match self.create(false).open_as(name, Part::Administers) {
            Ok(lock) => lock.remove(force),
            Err(Error::NotALock(_) | Error::VersionMismatch { .. } | Error::FeatureUnknown { .. } | Error::Corrupt)
                if force =>
            {
                region::remove_unusable(&Place::new(self.dir, name::validate(name)?)?).map(|()| Previous::Released)
            }
            Err(error) => Err(error),
        }
    }
}

impl ResourceLock {
    /// Opens the lock `name`, making it if there is none: in [`DEFAULT_DIR`], with [`DEFAULT_MODE`].
    ///
    /// A name has 1 to [`NAME_CAPACITY`](crate::NAME_CAPACITY) bytes, no `/` and no NUL, and is not `.` or `..`; a
    /// leading `/` is accepted and dropped.
    ///
    /// The handle takes a *seat*: a file lock by which the kernel tells others that this process lives. It is taken here,
    /// while that is possible: after setuid, chroot or at the limit of open files it may not be.
    ///
    /// ```
    /// # fn main() -> Result<(), resourcelock::Error> {
    /// use resourcelock::ResourceLock;
    ///
    /// let lock = ResourceLock::open("doc-open")?;
    /// assert_eq!(lock.name(), "doc-open");
    /// # lock.remove(false).map(drop)
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NameInvalid`], [`Error::DirectoryMissing`], [`Error::PermissionDenied`], [`Error::NoSpace`],
    /// [`Error::FileSystem`], [`Error::NotALock`], [`Error::VersionMismatch`], [`Error::FeatureUnknown`],
    /// [`Error::Corrupt`], [`Error::Seat`], or [`Error::Os`] for other errors of the kernel.
    pub fn open(name: &str) -> Result<Self, Error> {
        Self::options().open(name)
    }

    /// Opens the lock of the device at `path`, as [`open`](Self::open) with [its name](Self::name_for_device).
    ///
    /// ```
    /// # fn main() -> Result<(), resourcelock::Error> {
    /// use resourcelock::ResourceLock;
    ///
    /// let lock = ResourceLock::open_for_device("/dev/null")?; // or "/dev/i2c-1"
    /// assert_eq!(lock.name(), "null");
    /// # lock.remove(false).map(drop)
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and [`Error::DeviceInvalid`].
    pub fn open_for_device(path: &str) -> Result<Self, Error> {
        Self::options().open_for_device(path)
    }

    /// Returns the name of the lock of the device at `path`: the name that the kernel gives the device, whatever the path.
    ///
    /// `/dev/i2c-1`, a link to it and a device file of the same number all give `i2c-1`; `/dev/spidev0.1` gives
    /// `spidev0.1`, and `/dev/ttyS0` gives `ttyS0`. Links are followed, and the number of the character device that they
    /// lead to is looked up in /sys. Where that is not mounted, the numbers of I2C buses and serial ports give the name;
    /// for other devices it is then the last component of the path with all links followed, which differs for a hand-made
    /// device file. The device is not opened. A path has at most
    /// [`DEVICE_PATH_CAPACITY`](crate::DEVICE_PATH_CAPACITY) bytes.
    ///
    /// A bus has one lock and an SPI device one of its own, because the lock is for what is exclusive: wires that carry
    /// a mux select concern every device on them, while the kernel keeps SPI chips apart by their select lines. Programs
    /// that need it otherwise agree on another name and [`open`](Self::open) that.
    ///
    /// # Errors
    ///
    /// [`Error::DeviceInvalid`] if there is no such device or it is no character device; [`Error::Os`] for other errors
    /// of the kernel.
    pub fn name_for_device(path: &str) -> Result<LockName, Error> {
        device::lock_name(path)
    }

    /// Returns options for opening: directory, mode, group, time zone.
    pub fn options<'a>() -> OpenOptions<'a> {
        OpenOptions::default()
    }
}
