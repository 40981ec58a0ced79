//! Acquire: at once if the lock is free, which is the way of almost all requests, or by waiting.

use core::sync::atomic::Ordering;

use super::guard::Guard;
use super::handle::{Hold, Latest, ResourceLock};
use super::host::Linux;
use super::wish::Wish;
use crate::error::{Error, LockError};
use crate::log::{Shown, debug, warn};
use crate::protocol::{self, Advance, Attempt, Granted, Host, Refused, Sleep, Slept};
use crate::record::{End, Publication, Record};
use crate::sys::clock;
use crate::time::Moment;
use crate::timeout::Timeout;
use crate::word::{Fate, State, Word};

/// Why a request was not granted.
pub(super) enum Denied {
    TimedOut(Word),
    Cancelled,
    Failed(Error),
}

impl ResourceLock {
    /// Acquires the lock, waiting up to `timeout`, and returns a guard that releases it.
    ///
    /// `info` says who and why, for those who wait or debug; what exceeds [`INFO_CAPACITY`](crate::INFO_CAPACITY) bytes
    /// is cut at a character boundary.
    ///
    /// ```
    /// # fn main() -> Result<(), resourcelock::LockError> {
    /// use resourcelock::{LockError, ResourceLock, Timeout};
    ///
    /// let lock = ResourceLock::open("doc-lock")?;
    /// let guard = lock.lock(Timeout::from_secs(1), "tempmon #3")?;
    /// if guard.recovered() {
    ///     // The previous holder died or was forced off in the middle of its work: reset the bus.
    /// }
    ///
    /// // Another process, meanwhile:
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
    /// holds a lock whose file was removed, with [`Error::Corrupt`], in a forked child with an error of taking a seat
    /// ([`Error::Seat`] and others of [`open`](Self::open)), or with an error of opening the successor of a removed file.
    // Inlined, so that the guard is made where the caller wants it: to copy it there costs a fifth of an acquire.
    #[inline]
    pub fn lock(&self, timeout: Timeout, info: &str) -> Result<Guard<'_>, LockError> {
        match self.acquire_at_once(info, 0) {
            Some(hold) => {
                // Made first: a logger that panics must not leave the lock held.
                let guard = Guard::new(self, hold, Word(0));
                self.log_grant();
                Ok(guard)
            }
            None => self.lock_slowly(&Wish::new(timeout, info)),
        }
    }

    /// As [`lock`](Self::lock), for a request with more to it.
    pub(super) fn lock_as(&self, wish: &Wish<'_>) -> Result<Guard<'_>, LockError> {
        match self.acquire_at_once(wish.info, wish.due_ms) {
            Some(hold) => {
                let guard = Guard::new(self, hold, Word(0));
                self.log_grant();
                Ok(guard)
            }
            None => self.lock_slowly(wish),
        }
    }

    #[cold]
    #[inline(never)]
    fn lock_slowly(&self, wish: &Wish<'_>) -> Result<Guard<'_>, LockError> {
        match self.acquire_slowly(wish) {
            Ok((hold, from)) => {
                let guard = Guard::new(self, hold, from);
                self.log_contended_grant(hold, from);
                Ok(guard)
            }
            Err(Denied::TimedOut(word)) => Err(LockError::TimedOut(self.summary_of(word))),
            Err(Denied::Cancelled) => Err(LockError::Cancelled),
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

    /// As [`lock`](Self::lock), without a guard: `Ok(false)` if the time ran out.
    pub(crate) fn acquire_unguarded(&self, timeout: Timeout, info: &str) -> Result<bool, Error> {
        match self.lock(timeout, info) {
            // The guard has seen to a logger that panics.
            Ok(guard) => {
                guard.keep();
                Ok(true)
            }
            Err(LockError::TimedOut(_) | LockError::Cancelled) => Ok(false),
            Err(LockError::Failed(error)) => Err(error),
        }
    }

    /// Checks the file's name if that is due, for a caller that holds already.
    pub(crate) fn check_name(&self) -> Result<(), Error> {
        self.check_name_if_due(clock::monotonic()).map(drop)
    }

    /// Acquires a lock that is free, if it is not time to look at the file's name: short, and with everything in registers.
    #[inline(never)]
    fn acquire_at_once(&self, info: &str, due_ms: u32) -> Option<Hold> {
        self.adopt();
        // The one reading of a clock: it serves the check of the name, the grant's moment and its wall-clock time.
        let now = clock::monotonic();
        // The record first, and then the seat: see `region.rs`.
        let host = Linux::new(self, false);
        let seat = self.region.seat();
        if self.is_name_check_due(now) || seat == 0 || self.has_unreported() {
            return None;
        }
        let number = protocol::acquire_free(&host, seat)?;
        let hold = Hold { seat, number };
        if self.region.seat() != seat {
            give_back(&host, hold, Fate::Released);
            return None;
        }
        self.publish(host.record(), hold, now, info, due_ms);
        Some(hold)
    }

    /// Acquires the lock in every other case. Returns the word that the grant replaced.
    #[cold]
    #[inline(never)]
    fn acquire_slowly(&self, wish: &Wish<'_>) -> Result<(Hold, Word), Denied> {
        let mut acquisition = Acquisition::begin(self, *wish)?;
        loop {
            match acquisition.advance()? {
                Progress::Granted(hold, from) => return Ok((hold, from)),
                Progress::Sleeps(sleep) => acquisition.sleep(sleep),
            }
        }
    }

    fn timed_out(&self, word: Word) -> Denied {
        // Relaxed: a statistic.
        self.region.record().hot.timeouts.fetch_add(1, Ordering::Relaxed);
        debug!("<{}> lock request timed out - Current owner <{}>", self.shown_name(), Shown(Latest(self)));
        Denied::TimedOut(word)
    }

    /// Other threads of this handle, or processes that remove the lock, may be waited for until the deadline, and then it is
    /// a time-out like any other.
    fn denied_by(&self, error: Error, until: Option<Moment>) -> Denied {
        match until {
            Some(until) if error == Error::Busy && clock::monotonic() >= until => self.timed_out(self.word()),
            _ => Denied::Failed(error),
        }
    }

    /// Writes down the grant `hold`, which was made at `now`.
    #[inline]
    fn publish(&self, record: &Record, hold: Hold, now: Moment, info: &str, due_ms: u32) {
        let holder = self.process.as_holder(hold.seat);
        let publication = Publication { holder, granted: self.wall_clock.at(now), since: now, due_ms };
        record.publish(hold.number, &publication, info);
    }

    #[cold]
    fn count_contended(&self, record: &Record, hold: Hold, granted: &Granted, now: Moment) {
        let previous = hold.number.wrapping_sub(1);
        // Relaxed: statistics.
        if granted.contended {
            record.hot.contended.fetch_add(1, Ordering::Relaxed);
        }
        if let State::Held(_) = granted.from.state() {
            record.hot.recoveries.fetch_add(1, Ordering::Relaxed);
            record.stamp_ending(previous, End::Died { status: None }, now);
        } else if granted.broke {
            record.hot.forced.fetch_add(1, Ordering::Relaxed);
            let by = End::Overdue { pid: self.process.pid(), uid: self.process.uid() };
            record.stamp_ending(previous, by, now);
        }
    }

    #[cold]
    pub(super) fn log_contended_grant(&self, hold: Hold, from: Word) {
        match from.fate() {
            Fate::Released => {}
            Fate::Died => warn!(
                "<{}> lock recovered - the previous holder died <{}>",
                self.shown_name(),
                Shown(PreviousHolder(self, hold, from))
            ),
            Fate::Forced => warn!(
                "<{}> the previous holder was forced off <{}>",
                self.shown_name(),
                Shown(PreviousHolder(self, hold, from))
            ),
        }
        self.log_grant();
    }
}

/// A request that waits: the attempt on the present record, and what is to be carried over to its successor if the record
/// is removed meanwhile.
pub(super) struct Acquisition<'a> {
    lock: &'a ResourceLock,
    wish: Wish<'a>,
    request: protocol::Request,
    until: Option<Moment>,
    has_lost_name: bool,
    /// What a grant had to report on a record that was then retired: the caller must learn of it all the same.
    from_before: Option<Word>,
    pub(super) host: Linux<'a>,
    attempt: Option<Attempt>,
}

/// What an acquisition came to.
pub(super) enum Progress {
    Granted(Hold, Word),
    /// It must sleep, and then be told how it slept ([`Acquisition::wake_up`]).
    Sleeps(Sleep),
}

impl<'a> Acquisition<'a> {
    pub(super) fn begin(lock: &'a ResourceLock, wish: Wish<'a>) -> Result<Self, Denied> {
        let mut request = protocol::Request { seat: 0, patience: wish.timeout.patience(), deadline: None };
        let now = clock::monotonic();
        let until = request.deadline(now);
        lock.adopt();
        // Before the check: what it finds may be of a later record, but not of an earlier one.
        let host = Linux::for_wish(lock, false, wish);
        let has_lost_name = lock.check_name_if_due(now).map_err(Denied::Failed)?;
        host.has_lost_name.set(has_lost_name);
        let from_before = lock.take_unreported();
        Ok(Self { lock, wish, request, until, has_lost_name, from_before, host, attempt: None })
    }

    /// Sleeps as long as it must.
    fn sleep(&mut self, sleep: Sleep) {
        let slept = self.host.sleep(sleep);
        self.wake_up(slept);
    }

    pub(super) fn wake_up(&mut self, slept: Slept) {
        if let Some(attempt) = &mut self.attempt {
            attempt.wake_up(slept);
        }
    }

    /// Goes on until the lock is granted or denied, or the acquisition must sleep.
    pub(super) fn advance(&mut self) -> Result<Progress, Denied> {
        let lock = self.lock;
        loop {
            let attempt = match &mut self.attempt {
                Some(attempt) => attempt,
                None => {
                    if lock.region.seat() == 0 {
                        lock.region
                            .ensure_seat(&lock.place, lock.making, lock.process, self.until)
                            .map_err(|error| lock.denied_by(error, self.until))?;
                        self.renew_host();
                    }
                    // After the record, which the host has: see `region.rs`.
                    self.request.seat = lock.region.seat();
                    self.attempt.insert(Attempt::begin(&self.host, &mut self.request))
                }
            };
            match attempt.advance(&mut self.host) {
                Advance::Sleeps(sleep) => return Ok(Progress::Sleeps(sleep)),
                Advance::Granted(granted) => {
                    self.attempt = None;
                    if let Some((hold, from)) = self.accept(granted) {
                        return Ok(Progress::Granted(hold, from));
                    }
                }
                Advance::Refused(refused) => {
                    self.attempt = None;
                    match refused {
                        Refused::Retired => self.reattach()?,
                        Refused::TimedOut(word) => return Err(lock.timed_out(word)),
                        Refused::Cancelled(_) => return Err(Denied::Cancelled),
                        // Whatever a program has written there, nobody can come to hold a record that has lost its name.
                        Refused::Malformed if self.has_lost_name => {
                            protocol::evict(&self.host);
                            self.reattach()?;
                        }
                        Refused::Malformed => return Err(Denied::Failed(Error::Corrupt)),
                    }
                }
            }
        }
    }

    /// Publishes a grant, unless it cannot stand: then it is given back, or the last one of this record.
    fn accept(&mut self, granted: Granted) -> Option<(Hold, Word)> {
        let lock = self.lock;
        let hold = Hold { seat: self.request.seat, number: granted.number };
        let from = if granted.from.fate() == Fate::Released { self.from_before } else { Some(granted.from) };
        let fate = from.map_or(Fate::Released, Word::fate);
        if lock.region.seat() != hold.seat {
            // With what it has to report, which the next grant then does.
            give_back(&self.host, hold, granted.from.fate());
            self.renew_host();
            return None;
        }
        let now = clock::monotonic();
        // After a wait it looks again: the name may be gone by now.
        self.has_lost_name |= granted.contended && (self.host.has_lost_name.get() || lock.has_lost_name_if_due(now));
        if self.has_lost_name {
            // The last hold of this record: it ends as retired, and every other handle on it follows. If it was forced off
            // just now, another process may hold, and is waited for.
            self.from_before = from;
            let _ = protocol::retire(&self.host, hold.word(), fate);
            return None;
        }
        let record = self.host.record();
        lock.publish(record, hold, now, self.wish.info, self.wish.due_ms);
        lock.count_contended(record, hold, &granted, now);
        self.from_before = None;
        let from = from.unwrap_or(Word(0));
        if from.fate() != Fate::Released {
            lock.remember(hold.number, from);
        }
        Some((hold, from))
    }

    /// Gives back what this wait has of a record, and continues with the one that is attached now.
    fn renew_host(&mut self) {
        let renewed = Linux::for_wish(self.lock, false, self.wish);
        #[cfg_attr(not(feature = "ring"), expect(unused_mut, unused_variables))]
        let mut before = core::mem::replace(&mut self.host, renewed);
        // The program may be polling the ring of an `Acquiring`.
        #[cfg(feature = "ring")]
        core::mem::swap(&mut self.host.ring, &mut before.ring);
    }

    fn reattach(&mut self) -> Result<(), Denied> {
        let lock = self.lock;
        // What this wait has of the old record goes back first.
        self.renew_host();
        lock.region
            .reattach(&lock.place, lock.making, lock.process, self.until)
            .map_err(|error| lock.denied_by(error, self.until))?;
        self.renew_host();
        lock.name_is_checked(clock::monotonic_coarse());
        self.has_lost_name = false;
        Ok(())
    }

    /// Gives up without having been refused.
    #[cfg(all(feature = "ring", feature = "std"))]
    pub(super) fn abandon(&self) {
        if let Some(attempt) = &self.attempt {
            attempt.abandon(&self.host);
        }
    }
}

impl Drop for Acquisition<'_> {
    fn drop(&mut self) {
        // It has not been granted the lock: the handle's next grant reports what this one learnt.
        if let Some(from) = self.from_before {
            self.lock.keep_unreported(from);
        }
    }
}

/// Gives back a grant on a record that this handle is not attached to any more: by force, or because another thread of this
/// handle has attached to so many successors meanwhile that one of them has this record's address (`sys/mapping.rs`). Nobody
/// has been told of the grant, and nobody vouches for the seat. If a contender has taken it over meanwhile, which sees a dead
/// holder, there is nothing to give back.
#[cold]
fn give_back(host: &Linux<'_>, hold: Hold, fate: Fate) {
    let _ = protocol::release(host, hold.word(), fate);
}

/// The previous holder's grant, looked up when it is shown. Empty if it is unknown.
struct PreviousHolder<'a>(&'a ResourceLock, Hold, Word);

impl core::fmt::Display for PreviousHolder<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self(lock, hold, from) = self;
        lock.previous_of(hold.number, *from).grant().map_or(Ok(()), |grant| grant.fmt(f))
    }
}
