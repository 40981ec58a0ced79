//! [`ResourceLock`]: a handle on a named lock.
//!
//! Invariants:
//! - whether a handle holds is asked of the lock word, never of a flag: the handle remembers the identity of its last
//!   grant, and holds as long as the word has that identity;
//! - the uncontended get and unget make no system call, but for one look at the file's name per 100 ms;
//! - once a handle has noticed that its file has lost its name, it grants nothing on it any more: it waits for the old
//!   record's holder like anybody, retires the record, and goes on with the file that has the name now.
//!
//! A crash anywhere in here leaves what [`crate::protocol`] and [`crate::record`] say of their steps; between a grant and
//! its publication the holder is known by its pid alone.

use core::cell::Cell;
use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;

use crate::device::{self, LockName};
use crate::error::{Error, LockError};
use crate::guard::Guard;
use crate::info::{self, Counters, Escaped, Grant, History, LockInfo, OffsetAt};
use crate::log::{Shown, debug, warn};
use crate::moment::Moment;
use crate::name;
use crate::owner::Liveness;
use crate::protocol::{self, Depth, Granted, Host, Refused, Request, SLICE, STARVES_AFTER, Slept};
use crate::record::{Ending, Record, age_of};
use crate::region::{self, Region};
use crate::sys::clock::{self, WallClock};
use crate::sys::file::{Making, Place};
use crate::sys::futex;
use crate::sys::liveness::{self, Watch};
use crate::sys::process::Process;
use crate::timeout::Timeout;
use crate::word::{Kind, State, Word};

/// Where locks are, unless the program says otherwise.
pub const DEFAULT_DIR: &str = "/dev/shm";

/// Permissions of a new lock's file, unless the program says otherwise: its owner and group take part.
pub const DEFAULT_MODE: u32 = 0o660;

/// A handle that has not looked at its file's name for this long looks before it gets.
const CHECK_NAME_EVERY_MS: u32 = 100;

/// A word reserved for waiters is anybody's after this long: they are woken at once and look around at least once a
/// slice, so three slices (and the coarse clock's tick) later nobody can be left.
const RESERVATION_LAPSES_AFTER_MS: u32 = 3 * SLICE.as_millis() as u32 + 10;

/// A holder that has held for less is not looked at closely before the first slice has passed: locks that are held for a
/// few microseconds at a time should not cost twice as much to look at.
const HARDLY_DEAD_WITHIN: Duration = Duration::from_micros(100);

/// How a lock is opened: [`ResourceLock::options`].
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use resourcelock::{Error, ResourceLock};
///
/// # let dir = std::env::temp_dir();
/// # let dir = dir.to_str().ok_or("a directory that is no text")?;
/// let options = ResourceLock::options().dir(dir);
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
    pub(crate) offset_at: Option<OffsetAt>,
}

impl Default for OpenOptions<'_> {
    fn default() -> Self {
        Self {
            dir: DEFAULT_DIR,
            making: Making { mode: DEFAULT_MODE, group: None },
            create: true,
            recover: true,
            offset_at: None,
        }
    }
}

impl<'a> OpenOptions<'a> {
    /// The directory of the lock's file, an absolute path of at most [`DIR_CAPACITY`](crate::DIR_CAPACITY) bytes;
    /// [`DEFAULT_DIR`] otherwise.
    /// All programs that share a lock must agree on it. A tmpfs is best: it forgets at a reboot what a reboot ends.
    pub fn dir(mut self, dir: &'a str) -> Self {
        self.dir = dir;
        self
    }

    /// Permission bits of the file if it is made, whatever the umask; [`DEFAULT_MODE`] otherwise. Taking part needs
    /// reading and writing. An existing file keeps its own.
    pub fn mode(mut self, mode: u32) -> Self {
        self.making.mode = mode & 0o777;
        self
    }

    /// Group of the file if it is made; the process's, or the directory's if that is setgid, otherwise.
    pub fn group(mut self, gid: u32) -> Self {
        self.making.group = Some(gid);
        self
    }

    /// Whether to make the lock if there is none (the default), or to fail with [`Error::NotFound`].
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Whether gets of this handle take over from a holder that is proven dead (the default), or wait as for a living.
    pub fn recover(mut self, recover: bool) -> Self {
        self.recover = recover;
        self
    }

    /// Shows times in local time; in UTC otherwise.
    pub fn local_time(mut self, offset_at: OffsetAt) -> Self {
        self.offset_at = Some(offset_at);
        self
    }

    /// Opens the lock `name`; see [`ResourceLock::open`].
    ///
    /// # Errors
    ///
    /// As [`ResourceLock::open`], and [`Error::NotFound`] if there is none and none was to be made.
    pub fn open(self, name: &str) -> Result<ResourceLock, Error> {
        let place = Place::new(self.dir, name::validate(name)?)?;
        let process = Process::find()?;
        let making = self.create.then_some(self.making);
        let lock = ResourceLock {
            region: Region::open(&place, making, process)?,
            process,
            token: AtomicU32::new(process.token()),
            ticket: AtomicU32::new(0),
            died: AtomicU32::new(0),
            name_checked_ms: AtomicU32::new(clock::monotonic().millis()),
            wall_clock: WallClock::new(),
            recover: self.recover,
            making,
            offset_at: self.offset_at,
            place,
        };
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

    /// Removes the lock `name`: open handles go on with a new one when they next get it.
    ///
    /// A file that is no lock any more (damaged, of another version or size) is removed only with `force`, and then
    /// whatever it is, as long as it is a regular file.
    ///
    /// # Errors
    ///
    /// [`Error::Held`] if somebody holds it and lives, without `force`; [`Error::NotFound`]; as [`ResourceLock::open`].
    pub fn remove(self, name: &str, force: bool) -> Result<(), Error> {
        match self.create(false).open(name) {
            Ok(lock) => lock.remove(force),
            Err(Error::NotALock(_) | Error::VersionMismatch { .. } | Error::Corrupt) if force => {
                region::remove_unusable(&Place::new(self.dir, name::validate(name)?)?)
            }
            Err(error) => Err(error),
        }
    }
}

/// A handle on a named lock that processes share.
///
/// Each handle is a holder of its own: two handles of one process exclude each other as two processes do. A handle may
/// be shared by threads; then they exclude each other by it. There are two ways to use one:
///
/// - [`lock`](Self::lock) gives a [`Guard`] that releases when it is dropped;
/// - [`get_lock`](Self::get_lock) and [`unget_lock`](Self::unget_lock), with the vocabulary of the reference.
///
/// A handle that is dropped while it holds releases, unless the hold was [detached](Self::detach).
pub struct ResourceLock {
    region: Region,
    place: Place,
    process: Process,
    /// The process in which `ticket` means something: a forked child finds another one.
    token: AtomicU32,
    /// This handle's last grant, as [`Ticket`]; zero if there was none. Never reset at a release: the word tells.
    ticket: AtomicU32,
    /// The word of the dead holder that the last grant took over from; zero if it took over from nobody.
    died: AtomicU32,
    /// CLOCK_MONOTONIC in milliseconds, modulo 2^32.
    name_checked_ms: AtomicU32,
    wall_clock: WallClock,
    recover: bool,
    making: Option<Making>,
    offset_at: Option<OffsetAt>,
}

/// A grant of ours, in one word: its number modulo 2^30, and its kind.
///
/// The lock word has six bits of the number, so 64 grants later another handle of the same process would have the same
/// word; the thirty bits here tell the two apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket(u32);

impl Ticket {
    fn new(number: u32, kind: Kind) -> Self {
        Self(number << 2 | kind as u32)
    }

    fn kind(self) -> Option<Kind> {
        Kind::from_bits(self.0)
    }

    /// The word that this grant made, and its number, if the record has not gone on to quite other numbers since.
    fn locate(self, process: Process, record: &Record) -> Option<(Word, u32)> {
        let kind = self.kind()?;
        let published = record.published.load(Ordering::Relaxed);
        // The difference of two 30-bit numbers, with its sign.
        let ahead = ((self.0 & !3).wrapping_sub(published << 2) as i32) >> 2;
        let number = published.wrapping_add_signed(ahead);
        // While we hold, `published` is our own number or one close to it; unless one that was forced off has taken it
        // far back. Then our entry tells.
        ((-32..32).contains(&ahead) || record.is_entry_of(number))
            .then(|| (Word::held(kind, process.pid(), number), number))
    }
}

/// Why a get did not get.
enum Denied {
    TimedOut(Word),
    Failed(Error),
}

impl ResourceLock {
    /// Opens the lock `name`, making it if there is none: in [`DEFAULT_DIR`], with [`DEFAULT_MODE`].
    ///
    /// A name has 1 to [`NAME_CAPACITY`](crate::NAME_CAPACITY) bytes, no `/` and no NUL, and is not `.` or `..`; a
    /// leading `/` is accepted and dropped.
    ///
    /// ```
    /// # fn main() -> Result<(), resourcelock::Error> {
    /// use resourcelock::ResourceLock;
    ///
    /// let lock = ResourceLock::open("doc-open")?;
    /// assert_eq!(lock.lockname(), "doc-open");
    /// # lock.remove(false)
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NameInvalid`], [`Error::DirectoryMissing`], [`Error::PermissionDenied`], [`Error::NoSpace`],
    /// [`Error::NotALock`], [`Error::VersionMismatch`], or [`Error::Os`] for what else the kernel may say.
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
    /// assert_eq!(lock.lockname(), "null");
    /// # lock.remove(false)
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and [`Error::DeviceInvalid`].
    pub fn open_for_device(path: &str) -> Result<Self, Error> {
        Self::options().open_for_device(path)
    }

    /// What the lock of the device at `path` is called: as the kernel calls the device, whatever the path.
    ///
    /// `/dev/i2c-1`, a link to it and a device file of the same number all give `i2c-1`; `/dev/spidev0.1` gives
    /// `spidev0.1`, and `/dev/ttyS0` gives `ttyS0`. Links are followed, and the number of the character device that they
    /// lead to is looked up in /sys. Where that is not mounted, the numbers of I2C buses and serial ports tell the name;
    /// of other devices it is then the last component of the path with all links followed, which is not the same for a
    /// hand-made device file. The device is not opened. A path has at most
    /// [`DEVICE_PATH_CAPACITY`](crate::DEVICE_PATH_CAPACITY) bytes.
    ///
    /// A bus has one lock and an SPI device one of its own, because the lock is for what is exclusive: wires that carry
    /// a mux select concern everybody on them, while the kernel keeps SPI chips apart by their select lines. Programs
    /// that need it otherwise agree on another name and [`open`](Self::open) that.
    ///
    /// # Errors
    ///
    /// [`Error::DeviceInvalid`] if there is no such device or it is no character device; [`Error::Os`] for what else the
    /// kernel may say.
    pub fn name_for_device(path: &str) -> Result<LockName, Error> {
        device::lock_name(path)
    }

    /// Options for opening: directory, mode, group, time zone.
    pub fn options<'a>() -> OpenOptions<'a> {
        OpenOptions::default()
    }

    /// Gets the lock, waiting up to `timeout`, and gives a guard that releases it.
    ///
    /// `info` says who and why, for whoever waits or debugs; what exceeds [`INFO_CAPACITY`](crate::INFO_CAPACITY) bytes
    /// is cut at a character boundary.
    ///
    /// ```
    /// # fn main() -> Result<(), resourcelock::LockError> {
    /// use resourcelock::{LockError, ResourceLock, Timeout};
    ///
    /// let lock = ResourceLock::open("doc-lock")?;
    /// let guard = lock.lock(Timeout::from_secs(1), "tempmon #3")?;
    /// if guard.recovered() {
    ///     // The previous holder died in the middle of its work: reset the bus. `guard.recovered_from()` names that
    ///     // holder, if it lived long enough to record who it is.
    /// }
    ///
    /// // Somebody else, meanwhile:
    /// let other = ResourceLock::open("doc-lock")?;
    /// match other.lock(Timeout::from_millis(10), "fan control") {
    ///     Err(LockError::TimedOut(Some(holder))) => assert_eq!(holder.info(), "tempmon #3"),
    ///     outcome => panic!("{outcome:?}"),
    /// }
    /// drop(guard);
    /// # lock.remove(false)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`LockError::TimedOut`] with the present holder; [`LockError::Failed`] with [`Error::Vanished`] if this handle
    /// holds a lock whose file was removed, [`Error::Corrupt`], or what opening a successor of a removed file may say.
    // Inlined, so that the guard is made where the caller wants it: to copy it there costs a fifth of a get.
    #[inline]
    pub fn lock(&self, timeout: Timeout, info: &str) -> Result<Guard<'_>, LockError> {
        if let Some(ticket) = self.get_at_once(info) {
            return Ok(Guard::new(self, ticket, Word(0)));
        }
        self.lock_slowly(timeout, info)
    }

    #[cold]
    #[inline(never)]
    fn lock_slowly(&self, timeout: Timeout, info: &str) -> Result<Guard<'_>, LockError> {
        match self.get_slowly(timeout, info) {
            Ok((ticket, died)) => Ok(Guard::new(self, ticket, died)),
            Err(Denied::TimedOut(word)) => Err(LockError::TimedOut(self.grant_of(word))),
            Err(Denied::Failed(error)) => Err(LockError::Failed(error)),
        }
    }

    /// As [`lock`](Self::lock), without waiting.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use resourcelock::{LockError, ResourceLock};
    ///
    /// let (one, two) = (ResourceLock::open("doc-try")?, ResourceLock::open("doc-try")?);
    /// let guard = one.try_lock("at work")?;
    /// match two.try_lock("would like to work") {
    ///     Err(LockError::TimedOut(Some(holder))) => assert_eq!(holder.info(), "at work"),
    ///     outcome => panic!("{outcome:?}"),
    /// }
    /// # drop(guard);
    /// # one.remove(false)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock).
    pub fn try_lock(&self, info: &str) -> Result<Guard<'_>, LockError> {
        self.lock(Timeout::ZERO, info)
    }

    /// Requests the lock, waiting up to `timeout`: `true` if it was granted, `false` if the time ran out.
    ///
    /// With `same_process_ok`, a handle that holds already is told `true` at once, and the prior grant stands. Without,
    /// it waits like anybody, and times out. `lock_info` says who and why; what exceeds
    /// [`INFO_CAPACITY`](crate::INFO_CAPACITY) bytes is cut at a character boundary.
    ///
    /// ```
    /// # fn main() -> Result<(), resourcelock::Error> {
    /// use resourcelock::{ResourceLock, Timeout};
    ///
    /// let lock = ResourceLock::open("doc-get")?;
    /// if lock.get_lock(Timeout::DEFAULT, false, "tempmon.measure_loop #3")? {
    ///     assert!(lock.get_lock_info().ends_with(" - tempmon.measure_loop #3"));
    ///     lock.unget_lock(false, "at end of loop");
    /// }
    /// # lock.remove(false)
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Vanished`] if this handle holds a lock whose file was removed, [`Error::Corrupt`], or what opening a
    /// successor of a removed file may say.
    pub fn get_lock(&self, timeout: Timeout, same_process_ok: bool, lock_info: &str) -> Result<bool, Error> {
        if same_process_ok && self.i_have_the_lock() {
            self.check_name_if_due(clock::monotonic())?;
            debug!("<{}> lock already acquired - Prior grant <{}>", self.shown_name(), Shown(Latest(self)));
            return Ok(true);
        }
        if self.get_at_once(lock_info).is_some() {
            return Ok(true);
        }
        match self.get_slowly(timeout, lock_info) {
            Ok(_) => Ok(true),
            Err(Denied::TimedOut(_)) => Ok(false),
            Err(Denied::Failed(error)) => Err(error),
        }
    }

    /// Releases the lock: `true` if it was released, `false` if it was not held, or not by this handle.
    ///
    /// With `force`, releases whoever holds. That is for a person to decide: the holder goes on believing that it is
    /// alone with the resource until it next asks. `where_called` is for the log.
    ///
    /// ```
    /// # fn main() -> Result<(), resourcelock::Error> {
    /// # use resourcelock::{ResourceLock, Timeout};
    /// let lock = ResourceLock::open("doc-unget")?;
    /// assert!(!lock.unget_lock(false, "cleanup"), "nothing to release");
    /// lock.get_lock(Timeout::ZERO, false, "")?;
    /// let other = ResourceLock::open("doc-unget")?;
    /// assert!(!other.unget_lock(false, "cleanup"), "not its own");
    /// assert!(lock.unget_lock(false, "cleanup"));
    /// # lock.remove(false)
    /// # }
    /// ```
    pub fn unget_lock(&self, force: bool, where_called: &str) -> bool {
        self.adopt();
        if force && self.region.repair(&self.place, self.process) {
            warn!(
                "<{}> lock record was overwritten and is made new <{}>",
                self.shown_name(),
                Shown(Escaped(where_called))
            );
            return true;
        }
        let ticket = Ticket(self.ticket.load(Ordering::Relaxed));
        let word = match self.release(ticket, where_called) {
            Ok(()) => return true,
            Err(word) => word,
        };
        match word.state() {
            State::Held(_) | State::Malformed if force => {}
            State::Held(_) => {
                debug!(
                    "<{}> lock unget request ignored - lock not owned by current process <{}>",
                    self.shown_name(),
                    Shown(Escaped(where_called))
                );
                return false;
            }
            _ => return self.log_extraneous(where_called),
        }
        let host = Linux::new(self, false);
        match protocol::force(&host) {
            Ok(Some(word)) => {
                let record = self.region.record();
                // Relaxed: a statistic.
                record.forced.fetch_add(1, Ordering::Relaxed);
                record.stamp_ending(record.number_of(word), Ending::Forced, clock::monotonic_coarse());
                debug!("<{}> lock force released <{}>", self.shown_name(), Shown(Escaped(where_called)));
                true
            }
            _ => self.log_extraneous(where_called),
        }
    }

    /// Releases exactly the hold `grant`, whoever has it: `true` if it still stood. It is the way out for a program that
    /// started the holder and *knows* that it has ended, such as a parent that has waited for it.
    ///
    /// Unlike a forced unget, it never ends a hold that came after, and it counts as an ordinary release.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use resourcelock::ResourceLock;
    /// let (child, parent) = (ResourceLock::open("doc-unget-grant")?, ResourceLock::open("doc-unget-grant")?);
    /// std::mem::forget(child.try_lock("ends without a word")?);
    /// let grant = parent.holder().ok_or("held")?;
    /// assert!(parent.unget_grant(&grant, "on behalf of the child"));
    /// assert!(!parent.unget_grant(&grant, "a second time"));
    /// # parent.remove(false)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn unget_grant(&self, grant: &Grant, where_called: &str) -> bool {
        self.adopt();
        let record = self.region.record();
        let word = Word::held(grant.kind(), grant.pid(), grant.number());
        // The word has six bits of the grant's number; the record knows the others.
        if self.word().identity() != word || record.number_of(word) != grant.number() {
            return false;
        }
        self.end_hold(word, grant.number(), where_called).is_ok()
    }

    fn log_extraneous(&self, where_called: &str) -> bool {
        debug!("<{}> Extraneous lock unget request ignored <{}>", self.shown_name(), Shown(Escaped(where_called)));
        false
    }

    /// Whether anybody holds the lock. A holder that has died holds until the next get finds out.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use resourcelock::ResourceLock;
    /// let lock = ResourceLock::open("doc-is-locked")?;
    /// assert!(!lock.is_locked());
    /// assert_eq!(lock.lock_value(), 1);
    /// # lock.remove(false)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn is_locked(&self) -> bool {
        self.log_state();
        self.is_held()
    }

    /// 0 if the lock is held, 1 if not: the value that a semaphore would have.
    pub fn lock_value(&self) -> u32 {
        let value = u32::from(!self.is_held());
        debug!("<{}> semaphore = {}", self.shown_name(), value);
        value
    }

    /// When and to whom the lock was last granted: `2024-10-20 16:00:51.864484 - text`. Empty if it never was.
    ///
    /// It stays after the release, as history. The time is local if the program said what local is
    /// ([`OpenOptions::local_time`]), else it says ` UTC`. The text is as its writer gave it: use [`Escaped`] before
    /// it goes to a terminal, or [`last_grant`](Self::last_grant), whose `Display` does.
    pub fn get_lock_info(&self) -> LockInfo {
        self.last_grant().map(|grant| grant.to_lock_info()).unwrap_or_default()
    }

    /// Replaces the text of the present grant: `true` if this handle holds, else nothing changes.
    ///
    /// The grant keeps its time. Readers see the old text or the new one, never a mix.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use resourcelock::ResourceLock;
    /// let lock = ResourceLock::open("doc-set-info")?;
    /// let guard = lock.try_lock("step 1 of 2")?;
    /// assert!(lock.set_lock_info("step 2 of 2"));
    /// assert_eq!(lock.holder().ok_or("held")?.info(), "step 2 of 2");
    /// drop(guard);
    /// assert!(!lock.set_lock_info("not held any more"));
    /// # lock.remove(false)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_lock_info(&self, text: &str) -> bool {
        self.adopt();
        // One thread at a time; other handles cannot hold.
        let _alone = self.region.alone();
        let held = self.holds();
        if let Some((_, number)) = held {
            self.region.record().amend(number, text);
        }
        held.is_some()
    }

    /// Whether this handle holds the lock, by the lock's own word: after somebody's forced unget it does not.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use resourcelock::{ResourceLock, Timeout};
    /// let (lock, somebody) = (ResourceLock::open("doc-have")?, ResourceLock::open("doc-have")?);
    /// lock.get_lock(Timeout::ZERO, false, "")?;
    /// assert!(lock.i_have_the_lock());
    /// somebody.unget_lock(true, "by force");
    /// assert!(!lock.i_have_the_lock());
    /// # lock.remove(false)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn i_have_the_lock(&self) -> bool {
        self.adopt();
        self.holds().is_some()
    }

    /// The lock's name, without a leading slash.
    pub fn lockname(&self) -> &str {
        &self.place.name
    }

    /// Gives up this handle; as dropping it does. What it holds is released, unless it is [detached](Self::detach).
    ///
    /// The reference has a flag `closed` for code that wants to know whether it may still use the handle. Here the
    /// compiler knows: a closed handle cannot be named any more. Code that opens and closes as it goes keeps an
    /// `Option<ResourceLock>`.
    ///
    /// ```compile_fail
    /// # use resourcelock::{Error, ResourceLock};
    /// # fn main() -> Result<(), Error> {
    /// let lock = ResourceLock::open("doc-close")?;
    /// lock.close();
    /// lock.is_locked();
    /// # Ok(())
    /// # }
    /// ```
    pub fn close(self) {}

    /// Makes this handle's hold one that stands until somebody ungets it, even when this process ends: `true` if this
    /// handle holds. It is never recovered.
    pub fn detach(&self) -> bool {
        self.detach_ticket(Ticket(self.ticket.load(Ordering::Relaxed))).is_some()
    }

    /// The grant that the last get of this handle took over from a holder that died, while it still holds.
    ///
    /// Also `None` if that holder died before it recorded who it is, so this does not show whether the resource needs a
    /// reset: test [`recovered_pid`](Self::recovered_pid) or [`Guard::recovered`] for that.
    pub fn recovered_from(&self) -> Option<Grant> {
        self.adopt();
        let (_, number) = self.holds()?;
        self.dead_holder(number, Word(self.died.load(Ordering::Relaxed)))
    }

    /// The pid of the holder that the last get of this handle took over from, while it still holds; see
    /// [`Guard::recovered_pid`].
    pub fn recovered_pid(&self) -> Option<u32> {
        let died = Word(self.died.load(Ordering::Relaxed));
        (died != Word(0) && self.holds().is_some()).then(|| died.pid())
    }

    /// The present grant. `None` if nobody holds, or if the holder has not yet said who it is.
    pub fn holder(&self) -> Option<Grant> {
        self.grant_of(self.word())
    }

    /// The newest grant: the present one, or the last.
    pub fn last_grant(&self) -> Option<Grant> {
        Some(Grant::new(self.region.record().newest()?, self.offset_at))
    }

    /// The grants that the lock remembers, newest first, [`HISTORY_CAPACITY`](crate::HISTORY_CAPACITY) at most.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use resourcelock::{Ending, ResourceLock};
    ///
    /// let lock = ResourceLock::open("doc-history")?;
    /// drop(lock.try_lock("first")?);
    /// drop(lock.try_lock("second")?);
    /// let history = lock.history();
    /// assert_eq!(history[0].info(), "second");
    /// assert_eq!(history[1].ending(), Some(Ending::Released));
    /// assert_eq!(lock.counters().grants, 2);
    /// # lock.remove(false)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn history(&self) -> History {
        info::history_of(self.region.record(), self.offset_at)
    }

    /// What happened to the lock since it was made.
    pub fn counters(&self) -> Counters {
        Counters::of(self.region.record())
    }

    /// Removes the lock: its file goes away, and open handles go on with a new one when they next get it.
    ///
    /// # Errors
    ///
    /// [`Error::Held`] if somebody holds it and lives, unless `force`; [`Error::NotFound`] if the file is gone already;
    /// [`Error::PermissionDenied`] if the directory does not let us remove it.
    pub fn remove(&self, force: bool) -> Result<(), Error> {
        self.adopt();
        self.region.remove(&self.place, || {
            let mut host = Linux::new(self, false);
            if force {
                protocol::retire(&host, None);
                return Ok(());
            }
            let word = match self.holds() {
                Some((word, _)) => word,
                None => {
                    let mut request = self.request(Timeout::ZERO);
                    match protocol::acquire(&mut host, &mut request) {
                        Ok(granted) => Word::held(request.kind, request.pid, granted.number),
                        Err(Refused::TimedOut(_)) => return Err(Error::Held),
                        Err(Refused::Retired) => return Ok(()),
                        Err(Refused::Malformed) => return Err(Error::Corrupt),
                    }
                }
            };
            // Forced off just now: somebody else may hold.
            if protocol::retire(&host, Some(word)) { Ok(()) } else { Err(Error::Held) }
        })
    }

    /// Notices a fork: what the parent's handle got is not the child's.
    #[inline]
    fn adopt(&self) {
        self.process.refresh();
        // Acquire: pairs with the Release in `start_anew`.
        if self.token.load(Ordering::Acquire) != self.process.token() {
            self.start_anew();
        }
    }

    #[cold]
    fn start_anew(&self) {
        // Tokens are odd: this one says that a thread of this process is at it.
        let (mine, at_it) = (self.process.token(), self.process.token() & !1);
        loop {
            // Acquire: pairs with the Release below; whoever sees the token sees the ticket gone.
            let seen = self.token.load(Ordering::Acquire);
            if seen == mine {
                return;
            }
            // One of the threads, and before any of them has a ticket.
            if seen != at_it && self.token.compare_exchange(seen, at_it, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                self.region.forget_other_threads();
                self.ticket.store(0, Ordering::Relaxed);
                self.token.store(mine, Ordering::Release);
                return;
            }
            clock::yield_to_others();
        }
    }

    fn word(&self) -> Word {
        // Acquire: pairs with the Release in `protocol::release`; what is read of the record next is at least as new.
        Word(self.region.record().word.load(Ordering::Acquire))
    }

    fn is_held(&self) -> bool {
        matches!(self.word().state(), State::Held(_) | State::Malformed)
    }

    /// The word and the number of the grant by which this handle holds.
    fn holds(&self) -> Option<(Word, u32)> {
        self.holds_by(Ticket(self.ticket.load(Ordering::Relaxed)))
    }

    /// As [`holds_by`](Self::holds_by), by a process that may be a forked child.
    pub(crate) fn still_holds_by(&self, ticket: Ticket) -> Option<(Word, u32)> {
        self.adopt();
        self.holds_by(ticket)
    }

    pub(crate) fn holds_by(&self, ticket: Ticket) -> Option<(Word, u32)> {
        ticket.locate(self.process, self.region.record()).filter(|&(word, _)| self.word().identity() == word)
    }

    /// A process whose pid means something to the others holds as such; one of another PID namespace does not.
    fn kind(&self) -> Kind {
        let home = self.region.record().home_pid_ns.load(Ordering::Relaxed);
        if home == self.process.pid_ns() { Kind::Process } else { Kind::Foreign }
    }

    fn request(&self, timeout: Timeout) -> Request {
        Request { kind: self.kind(), pid: self.process.pid(), patience: timeout.patience(), deadline: None }
    }

    /// Gets a lock that is free, if it is not time to look at the file's name: the way of almost all gets, short and
    /// with everything in registers. Both faces try it first.
    #[inline(never)]
    fn get_at_once(&self, info: &str) -> Option<Ticket> {
        self.adopt();
        // The one reading of a clock: it serves the look at the name, the grant's moment and its wall-clock time.
        let now = clock::monotonic();
        if self.is_name_check_due(now) {
            return None;
        }
        let kind = self.kind();
        let number = protocol::acquire_free(&Linux::new(self, false), kind, self.process.pid())?;
        let ticket = self.publish(kind, number, Word(0), now, info);
        self.log_grant();
        Some(ticket)
    }

    /// Gets the lock in every other case, for both faces.
    #[cold]
    #[inline(never)]
    fn get_slowly(&self, timeout: Timeout, info: &str) -> Result<(Ticket, Word), Denied> {
        let now = clock::monotonic();
        let mut has_lost_name = self.check_name_if_due(now).map_err(Denied::Failed)?;
        let mut request = self.request(timeout);
        // Whom we took over from on a record that was then retired: the caller is to be told all the same.
        let mut died_before = None;
        loop {
            let mut host = Linux::new(self, has_lost_name);
            match protocol::acquire(&mut host, &mut request) {
                Ok(granted) if request.kind != self.kind() => {
                    // While we slept, another thread has put the handle on a successor of another PID namespace, where we
                    // are called otherwise. Nobody has seen this grant.
                    let _ = protocol::release(&host, Word::held(request.kind, request.pid, granted.number));
                    died_before = granted.died.or(died_before);
                    request.kind = self.kind();
                    continue;
                }
                Ok(granted) => {
                    let now = clock::monotonic();
                    // Who has waited looks again: the name may have gone meanwhile.
                    has_lost_name |= granted.contended && (host.has_lost_name.get() || self.has_lost_name_if_due(now));
                    if !has_lost_name {
                        let died = granted.died.or(died_before).unwrap_or(Word(0));
                        let ticket = self.publish(request.kind, granted.number, died, now, info);
                        if granted.contended {
                            self.count_contended(granted, now);
                        }
                        self.log_grant();
                        return Ok((ticket, died));
                    }
                    // The last hold of this record: it ends as retired, and everybody else on it follows us.
                    died_before = granted.died.or(died_before);
                    if !protocol::retire(&host, Some(Word::held(request.kind, request.pid, granted.number))) {
                        // Forced off just now: somebody else may hold, and be waited for.
                        continue;
                    }
                }
                Err(Refused::Retired) => {}
                Err(Refused::TimedOut(word)) => {
                    // Relaxed: a statistic.
                    self.region.record().timeouts.fetch_add(1, Ordering::Relaxed);
                    debug!("<{}> lock request timed out - Current owner <{}>", self.shown_name(), Shown(Latest(self)));
                    return Err(Denied::TimedOut(word));
                }
                Err(Refused::Malformed) => return Err(Denied::Failed(Error::Corrupt)),
            }
            let until = request.deadline(clock::monotonic());
            self.region.reattach(&self.place, self.making, self.process, until).map_err(Denied::Failed)?;
            self.name_is_checked(clock::monotonic_coarse());
            has_lost_name = false;
            request.kind = self.kind();
        }
    }

    /// Writes down grant `number`, which was just made at `now` and took over from the holder `died`, or from nobody.
    #[inline]
    fn publish(&self, kind: Kind, number: u32, died: Word, now: Moment, info: &str) -> Ticket {
        let record = self.region.record();
        let mut holder = self.process.as_holder();
        if record.home_time_ns.load(Ordering::Relaxed) != self.process.time_ns() {
            // Start times count from another zero there.
            holder.start_time = 0;
        }
        let ticket = Ticket::new(number, kind);
        // Relaxed: other threads of this handle learn of the grant by the word.
        self.died.store(died.0, Ordering::Relaxed);
        self.ticket.store(ticket.0, Ordering::Relaxed);
        record.publish(number, kind, &holder, self.wall_clock.at(now), now, info);
        ticket
    }

    #[cold]
    fn count_contended(&self, granted: Granted, now: Moment) {
        let record = self.region.record();
        // Relaxed: statistics.
        record.contended.fetch_add(1, Ordering::Relaxed);
        if let Some(word) = granted.died {
            record.recoveries.fetch_add(1, Ordering::Relaxed);
            record.stamp_ending(granted.number.wrapping_sub(1), Ending::Recovered, now);
            let dead = Shown(Dead { lock: self, number: granted.number, word });
            warn!("<{}> lock recovered - holder with pid {} died <{}>", self.shown_name(), word.pid(), dead);
        }
    }

    #[inline]
    fn log_grant(&self) {
        debug!("<{}> lock request successful - Granted <{}>", self.shown_name(), Shown(Latest(self)));
    }

    /// The grant before `number`, if it was that of the dead holder that `word` names.
    pub(crate) fn dead_holder(&self, number: u32, word: Word) -> Option<Grant> {
        let Some(Kind::Process | Kind::Detached) = Kind::from_bits(word.0 >> 28) else { return None };
        let report = self.region.record().report(number.wrapping_sub(1))?;
        (report.holder.pid == word.pid()).then(|| Grant::new(report, self.offset_at))
    }

    /// The published grant that `word` names, if it names one.
    fn grant_of(&self, word: Word) -> Option<Grant> {
        Grant::of_holder(self.region.record(), word, self.offset_at)
    }

    /// Releases exactly the grant `ticket`; if that does not hold any more, tells the word that is there instead.
    pub(crate) fn release(&self, ticket: Ticket, where_called: &str) -> Result<(), Word> {
        let Some((word, number)) = self.holds_by(ticket) else { return Err(self.word()) };
        self.end_hold(word, number, where_called)
    }

    /// Releases grant `number`, by which `word` holds: ours, or that of a process that has ended.
    #[inline]
    fn end_hold(&self, word: Word, number: u32, where_called: &str) -> Result<(), Word> {
        let record = self.region.record();
        let now = clock::monotonic_coarse();
        // Before the release, while the entry is ours alone. If we die in between, the next holder overwrites it.
        record.count_hold(number, now);
        record.stamp_ending(number, Ending::Released, now);
        let released = protocol::release(&Linux::new(self, false), word);
        match released {
            Ok(()) => debug!("<{}> lock released <{}>", self.shown_name(), Shown(Escaped(where_called))),
            // Forced off between the two: the last word is theirs.
            Err(_) => record.stamp_ending(number, Ending::Forced, now),
        }
        released
    }

    pub(crate) fn release_guard(&self, ticket: Ticket) -> bool {
        // In a forked child, this finds out that the pid is another one, so that the ticket locates no grant.
        self.adopt();
        self.release(ticket, "guard").is_ok()
    }

    pub(crate) fn detach_ticket(&self, ticket: Ticket) -> Option<Ticket> {
        let (word, number) = self.still_holds_by(ticket)?;
        protocol::detach(&Linux::new(self, false), word).ok()?;
        self.region.record().stamp_detached(number);
        let detached = Ticket::new(number, Kind::Detached);
        // Only if this is still the handle's last grant.
        let _ = self.ticket.compare_exchange(ticket.0, detached.0, Ordering::Relaxed, Ordering::Relaxed);
        Some(detached)
    }

    /// Whether the grant `ticket` still holds, and still keeps everybody out; see [`Guard::check`].
    pub(crate) fn check_hold(&self, ticket: Ticket) -> Result<bool, Error> {
        if self.still_holds_by(ticket).is_none() {
            return Ok(false);
        }
        self.check_name_if_due(clock::monotonic_coarse())?;
        Ok(true)
    }

    /// Whether the file has lost its name, if it is time to look again.
    ///
    /// # Errors
    ///
    /// [`Error::Vanished`] if so, and this handle holds.
    #[inline]
    fn check_name_if_due(&self, now: Moment) -> Result<bool, Error> {
        if !self.is_name_check_due(now) {
            return Ok(false);
        }
        let has_lost_name = self.has_lost_name_if_due(now);
        if has_lost_name && self.holds().is_some() { Err(Error::Vanished) } else { Ok(has_lost_name) }
    }

    #[inline]
    fn is_name_check_due(&self, now: Moment) -> bool {
        now.millis().wrapping_sub(self.name_checked_ms.load(Ordering::Relaxed)) >= CHECK_NAME_EVERY_MS
    }

    #[cold]
    fn has_lost_name_if_due(&self, now: Moment) -> bool {
        if !self.is_name_check_due(now) {
            return false;
        }
        let has_lost_name = self.region.has_lost_name(&self.place);
        if !has_lost_name {
            self.name_is_checked(now);
        }
        has_lost_name
    }

    fn name_is_checked(&self, now: Moment) {
        // Relaxed: at worst another thread looks too.
        self.name_checked_ms.store(now.millis(), Ordering::Relaxed);
    }

    fn log_state(&self) {
        debug!(
            "<{}> is currently locked? <{}> Prior info <{}>",
            self.shown_name(),
            Shown(if self.is_held() { "True" } else { "False" }),
            Shown(Latest(self))
        );
    }

    fn shown_name(&self) -> Shown<Escaped<'_>> {
        Shown(Escaped(&self.place.name))
    }
}

impl Drop for ResourceLock {
    fn drop(&mut self) {
        self.adopt();
        let ticket = Ticket(self.ticket.load(Ordering::Relaxed));
        if ticket.kind() != Some(Kind::Detached) {
            let _ = self.release(ticket, "close");
        }
        debug!("<{}> semaphore closed", self.shown_name());
    }
}

impl fmt::Debug for ResourceLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResourceLock")
            .field("name", &self.place.name)
            .field("dir", &self.place.dir)
            .field("word", &self.word())
            .finish_non_exhaustive()
    }
}

/// The newest grant, looked up when it is shown. Empty if there is none.
struct Latest<'a>(&'a ResourceLock);

impl fmt::Display for Latest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.last_grant().map_or(Ok(()), |grant| grant.fmt(f))
    }
}

/// The grant before `number`, if it was that of the dead holder that `word` names, looked up when it is shown.
struct Dead<'a> {
    lock: &'a ResourceLock,
    number: u32,
    word: Word,
}

impl fmt::Display for Dead<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lock.dead_holder(self.number, self.word).map_or(Ok(()), |grant| grant.fmt(f))
    }
}

/// The protocol's host on mapped memory and this kernel, for one call.
struct Linux<'a> {
    lock: &'a ResourceLock,
    /// Whether the record's file has lost its name. Then a detached hold on it is one that nobody can unget any more.
    has_lost_name: Cell<bool>,
    /// The holder that was examined last, by its word's identity.
    watched: Option<(Word, Watch)>,
}

impl<'a> Linux<'a> {
    fn new(lock: &'a ResourceLock, has_lost_name: bool) -> Self {
        Self { lock, has_lost_name: Cell::new(has_lost_name), watched: None }
    }

    fn record(&self) -> &'a Record {
        self.lock.region.record()
    }
}

impl Host for Linux<'_> {
    #[inline]
    fn load(&self, ordering: Ordering) -> Word {
        Word(self.record().word.load(ordering))
    }

    #[inline]
    fn exchange(&self, from: Word, to: Word, ordering: Ordering) -> Result<(), Word> {
        match self.record().word.compare_exchange(from.0, to.0, ordering, Ordering::Relaxed) {
            Ok(_) => Ok(()),
            Err(found) => Err(Word(found)),
        }
    }

    #[inline]
    fn published(&self, ordering: Ordering) -> u32 {
        self.record().published.load(ordering)
    }

    fn now(&self) -> Moment {
        clock::monotonic()
    }

    fn sleep(&self, expected: Word, until: Moment, waited: Duration) -> Slept {
        let (record, age) = (self.record(), age_of(waited));
        // Relaxed: a hint. One that is missed costs a turn, and the sleeper gives it again at the end of its slice.
        record.ages.fetch_or(1 << age, Ordering::Relaxed);
        futex::sleep(&record.word, expected.0, until, age)
    }

    fn wake(&self, count: u32) -> u32 {
        futex::wake(&self.record().word, count)
    }

    fn wake_oldest(&self) -> bool {
        let record = self.record();
        let mut ages = record.ages.load(Ordering::Relaxed);
        while let Some(age) = ages.checked_ilog2() {
            if futex::wake_aged(&record.word, age) {
                return true;
            }
            ages &= !(1 << age);
            // Nobody of this age is left, or one is about to go to sleep: then the last call finds it.
            record.ages.fetch_and(!(1 << age), Ordering::Relaxed);
        }
        futex::wake(&record.word, 1) != 0
    }

    fn is_dead(&mut self, word: Word, depth: Depth) -> bool {
        if depth == Depth::Thorough && !self.has_lost_name.get() {
            self.has_lost_name.set(self.lock.has_lost_name_if_due(clock::monotonic_coarse()));
        }
        match word.state() {
            State::Held(Kind::Detached) => self.has_lost_name.get(),
            State::Held(Kind::Process) if self.lock.recover => self.process_is_dead(word, depth),
            _ => false,
        }
    }

    #[cold]
    fn was_long(&self, word: Word) -> bool {
        let record = self.record();
        clock::monotonic().since(record.held_since(record.number_of(word))) >= STARVES_AFTER
    }

    fn lapsed(&self, word: Word) -> bool {
        let record = self.record();
        let now = clock::monotonic_coarse();
        // The last holder noted the time before it reserved the word. If it could not, there is no entry, or an old one.
        record
            .ended(record.number_of(word))
            .is_none_or(|ended| now.millis().wrapping_sub(ended.millis()) > RESERVATION_LAPSES_AFTER_MS)
    }
}

impl Linux<'_> {
    fn process_is_dead(&mut self, word: Word, depth: Depth) -> bool {
        if let Some((watched, watch)) = &self.watched {
            if *watched == word.identity() {
                return watch.look() == Liveness::Dead;
            }
        }
        let (liveness, watch) = liveness_of(self.record(), self.lock.process, word, depth);
        self.watched = watch.map(|watch| (word.identity(), watch));
        liveness == Liveness::Dead
    }
}

/// What is known of the process that `word` names as its holder.
pub(crate) fn liveness_of(record: &Record, process: Process, word: Word, depth: Depth) -> (Liveness, Option<Watch>) {
    if record.home_pid_ns.load(Ordering::Relaxed) != process.pid_ns() {
        // Its pid means another process here, or none.
        return (Liveness::Alive, None);
    }
    let comparable = record.home_time_ns.load(Ordering::Relaxed) == process.time_ns();
    let holder = record.holder_of(record.number_of(word)).filter(|&(pid, ..)| pid == word.pid());
    let start_time = holder.map(|(_, start_time, _)| start_time);
    let start_time = start_time.filter(|&start_time| comparable && start_time != 0);
    // Our own is known only if /proc showed us ourselves. If not, it shows another PID namespace, and other processes
    // under these pids.
    let proc_is_ours = process.start_time() != 0;
    if word.pid() == process.pid() {
        // Another handle of ours, or a process that had our pid before us.
        let was_another = proc_is_ours && start_time.is_some_and(|start_time| start_time != process.start_time());
        return (if was_another { Liveness::Dead } else { Liveness::Alive }, None);
    }
    let is_young = || holder.is_some_and(|(.., since)| clock::monotonic().since(since) < HARDLY_DEAD_WITHIN);
    match depth {
        Depth::Quick if is_young() => (liveness::glance(word.pid()), None),
        Depth::Quick => (liveness::look(word.pid()), None),
        Depth::Thorough => liveness::examine(word.pid(), start_time, proc_is_ours),
    }
}
