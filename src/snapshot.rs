//! [`Snapshot`]: a lock as it is at one moment, for those who watch and do not take part.
//!
//! Invariant: looking changes nothing, makes nothing and waits for nobody. The record is copied, not mapped; so what a
//! snapshot says of itself fits together, is soon out of date, and needs permission to read only. Called by whoever
//! lists, shows or watches locks; a crash in here leaves nothing behind.

use core::fmt;
use core::sync::atomic::Ordering;
use core::time::Duration;

use rustix::fd::AsFd;

use crate::error::Error;
use crate::escape::Escaped;
use crate::grant::{Counters, Grant, History, Waiters};
use crate::lock::OpenOptions;
use crate::log::{Shown, debug};
use crate::name;
use crate::protocol::{Patience, SLICE};
use crate::record::Record;
use crate::region;
use crate::sys::clock;
use crate::sys::path::Place;
use crate::sys::seat;
use crate::time::Moment;
use crate::timeout::Timeout;
use crate::timestamp::OffsetAt;
use crate::word::{Kind, State, Word};

/// A wait that does not take part looks again after this long, and then after twice as long each time, up to a slice.
const FIRST_LOOK: Duration = Duration::from_millis(1);

/// What can be known of a lock without taking it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// Nobody holds it.
    Free,
    /// Nobody holds it, and it is reserved for those who already wait.
    Reserved,
    /// It is held, and nothing proves that the holder is dead.
    Held(Kind),
    /// Its holder is dead: the next acquire takes over.
    HolderDied,
    /// It was removed by a process that died before it had deleted the file. The next process to open it makes it new and
    /// empty.
    Retired,
    /// Its word has a value that no program writes. Force-release or remove the lock.
    Corrupt,
}

/// A lock as it is at one moment: [`OpenOptions::inspect`].
///
/// It is a copy of the whole record, so it has 4 KiB.
pub struct Snapshot {
    record: Record,
    word: Word,
    status: Status,
    /// On CLOCK_MONOTONIC.
    taken: Moment,
    waiters: Waiters,
    offset_at: Option<OffsetAt>,
}

impl Snapshot {
    /// Whether it is held, and what is known of the holder's life.
    pub fn status(&self) -> Status {
        self.status
    }

    /// Whether anybody holds the lock, as [`ResourceLock::is_held`](crate::ResourceLock::is_held): a holder that has died
    /// counts as a holder until the next acquire takes over.
    pub fn is_locked(&self) -> bool {
        matches!(self.status, Status::Held(_) | Status::HolderDied | Status::Corrupt)
    }

    /// The holder's seat, which is known even where [`holder`](Self::holder) is not yet.
    pub fn seat(&self) -> Option<u32> {
        matches!(self.status, Status::Held(_) | Status::HolderDied).then(|| self.word.seat())
    }

    /// The present grant. `None` if nobody holds, or if the holder has not yet said who it is.
    pub fn holder(&self) -> Option<Grant> {
        self.seat()?;
        Grant::of_holder(&self.record, self.word, self.offset_at)
    }

    /// For how long the lock has been held by its present holder, dead or alive; time in suspend does not count.
    pub fn held_for(&self) -> Option<Duration> {
        Some(self.taken.since(self.holder()?.since()))
    }

    /// By how much the present hold has lasted longer than its holder expected; `None` if it has not, or did not say.
    pub fn overdue(&self) -> Option<Duration> {
        self.held_for()?.checked_sub(self.holder()?.expected()?)
    }

    /// The newest grant: the present one, or the last.
    pub fn last_grant(&self) -> Option<Grant> {
        if self.status == Status::Retired { None } else { Some(Grant::new(self.record.newest()?, self.offset_at)) }
    }

    /// The grants that the lock remembers, newest first, as
    /// [`ResourceLock::history`](crate::ResourceLock::history). One that was just being written is left out.
    pub fn history(&self) -> History {
        if self.status == Status::Retired { History::default() } else { History::of(&self.record, self.offset_at) }
    }

    /// What happened to the lock since it was made.
    pub fn counters(&self) -> Counters {
        if self.status == Status::Retired { Counters::default() } else { Counters::of(&self.record) }
    }

    /// The processes that wait for the lock and have said so; they do after the first 10 ms.
    pub fn waiters(&self) -> &Waiters {
        &self.waiters
    }

    /// Whether a process waits for the lock. One that has given up or died since the lock was last released counts, too.
    pub fn has_waiters(&self) -> bool {
        self.word.has_waiters() && self.status != Status::Retired
    }

    /// Whether somebody has waited for so long that the next release is reserved for those who wait.
    pub fn wants_handoff(&self) -> bool {
        self.word.wants_handoff() && self.seat().is_some()
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("status", &self.status).field("word", &self.word).finish_non_exhaustive()
    }
}

impl OpenOptions<'_> {
    /// Looks at the lock `name` without taking part: nothing is made, changed or waited for, and permission to read its
    /// file is enough.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use resourcelock::{Kind, ResourceLock, Status};
    ///
    /// let lock = ResourceLock::open("doc-inspect")?;
    /// let guard = lock.try_lock("at work")?;
    /// let snapshot = ResourceLock::options().inspect("doc-inspect")?;
    /// assert_eq!(snapshot.status(), Status::Held(Kind::Process));
    /// assert_eq!(snapshot.holder().ok_or("held")?.info(), "at work");
    /// # drop(guard);
    /// # lock.remove(false)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is no such lock; else as [`ResourceLock::open`](crate::ResourceLock::open).
    pub fn inspect(self, name: &str) -> Result<Snapshot, Error> {
        let place = Place::new(self.dir, name::validate(name)?)?;
        let snapshot = self.inspect_place(&place)?;
        debug!(
            "<{}> is currently locked? <{}> Prior info <{}>",
            Shown(Escaped(&place.name)),
            Shown(if snapshot.is_locked() { "True" } else { "False" }),
            Shown(Latest(&snapshot))
        );
        Ok(snapshot)
    }

    fn inspect_place(self, place: &Place) -> Result<Snapshot, Error> {
        let (record, fd) = region::copy(place)?;
        // Asking is enough for those who only look. Whatever keeps the kernel from answering is life.
        let is_alive = |number| seat::is_taken(fd.as_fd(), number) != Ok(false);
        let word = Word(record.hot.word.load(Ordering::Relaxed));
        let status = match word.state() {
            State::Free => Status::Free,
            State::Reserved => Status::Reserved,
            State::Held(Kind::Process) if !is_alive(word.seat()) => Status::HolderDied,
            State::Held(kind) => Status::Held(kind),
            State::Retired => Status::Retired,
            State::Malformed => Status::Corrupt,
        };
        let taken = clock::monotonic_coarse();
        let waiters = Waiters::of(&record, taken, is_alive);
        Ok(Snapshot { record, word, status, taken, waiters, offset_at: self.offset_at })
    }

    /// Waits up to `timeout` until nobody holds the lock `name`, without acquiring it. Returns `true` if nobody holds it, if
    /// its holder is dead, or if there is no such lock; `false` if the time ran out.
    ///
    /// The answer may be stale when the caller acts on it: a program that needs the lock must acquire it. This call polls
    /// every 10 ms and does not queue with the waiters, so it may miss every gap of a lock that is nearly always held.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use resourcelock::{ResourceLock, Timeout};
    ///
    /// let lock = ResourceLock::open("doc-wait")?;
    /// let guard = lock.try_lock("at work")?;
    /// let options = ResourceLock::options();
    /// assert!(!options.wait_until_free("doc-wait", Timeout::from_millis(5))?);
    /// drop(guard);
    /// assert!(options.wait_until_free("doc-wait", Timeout::DEFAULT)?);
    /// # lock.remove(false)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`inspect`](Self::inspect), but for [`Error::NotFound`]; [`Error::Corrupt`].
    pub fn wait_until_free(self, name: &str, timeout: Timeout) -> Result<bool, Error> {
        let place = Place::new(self.dir, name::validate(name)?)?;
        let began = clock::monotonic();
        let deadline = match timeout.patience() {
            Patience::Forever => None,
            Patience::Try => Some(began),
            Patience::For(duration) => Some(began.after(duration)),
        };
        let mut slice = FIRST_LOOK;
        loop {
            match self.inspect_place(&place).map(|snapshot| snapshot.status()) {
                Ok(Status::Held(_) | Status::Reserved) => {}
                Ok(Status::Corrupt) => return Err(Error::Corrupt),
                Ok(_) | Err(Error::NotFound) => return Ok(true),
                Err(error) => return Err(error),
            }
            let now = clock::monotonic();
            let next = now.after(slice);
            match deadline {
                Some(deadline) if now >= deadline => return Ok(false),
                Some(deadline) => clock::sleep_until(next.min(deadline)),
                None => clock::sleep_until(next),
            }
            slice = (slice * 2).min(SLICE);
        }
    }
}

/// The newest grant; empty if there is none.
struct Latest<'a>(&'a Snapshot);

impl fmt::Display for Latest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.last_grant().map_or(Ok(()), |grant| grant.fmt(f))
    }
}
