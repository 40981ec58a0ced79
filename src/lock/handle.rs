//! The handle: what it is made of, what it can be asked, and how a forked child adopts it.

use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::escape::Escaped;
use crate::grant::{Counters, Grant, History, HolderSummary, LockInfo, Previous, Waiters};
use crate::log::{Shown, debug};
use crate::region::Region;
use crate::sys::clock::{self, WallClock};
use crate::sys::file::Making;
use crate::sys::path::Place;
use crate::sys::process::Process;
use crate::sys::seat::{Life, Probe};
use crate::timestamp::OffsetAt;
use crate::word::{Fate, Kind, State, Word};

/// A handle on a named lock that processes share.
///
/// Each handle is a holder of its own: two handles of one process exclude each other as two processes do. Threads may
/// share a handle; then they exclude each other by it. [`lock`](Self::lock) returns a [`Guard`](crate::Guard) that
/// releases when it is dropped. The vocabulary of the reference (`get_lock`, `unget_lock`, …) is in
/// [`reference`](crate::reference).
///
/// A handle that is dropped while it holds releases, unless the hold was [detached](Self::detach).
///
/// # Processes
///
/// A hold belongs to the process that acquired it, by way of a *seat*, a file lock that the kernel keeps for the handle:
///
/// - *fork*: the parent keeps the hold. The child's copy of the handle holds nothing, and takes a seat of its own when it
///   next acquires.
/// - *vfork* and *posix_spawn*: the child shares the memory until it calls exec, and so keeps the seat of a parent that is
///   killed meanwhile.
/// - *exec* and `daemon()` end the hold, and the next grant learns of a death. [`keep_across_exec`](crate::OpenOptions::keep_across_exec)
///   carries a hold over exec.
/// - *a thread that ends* while it holds changes nothing: the process holds. *An unwinding panic* drops the guard, which
///   releases; `panic = "abort"` is a death.
/// - *a core dump* is written before the kernel releases the seat: until then the process counts as alive.
/// - *checkpoint and restore* (CRIU) loses the seat: a restored holder counts as dead.
pub struct ResourceLock {
    pub(super) region: Region,
    pub(super) place: Place,
    pub(super) process: Process,
    /// The process that uses the handle: a forked child finds its parent's token.
    token: AtomicU32,
    /// The number of the last grant of this handle that had something to report, and the word that it replaced.
    reported: [AtomicU32; 2],
    /// What a grant on a record that was then retired had to report, as the word that it replaced, until a grant reports it;
    /// zero if nothing.
    unreported: AtomicU32,
    /// When the file's name was last looked at: CLOCK_MONOTONIC in milliseconds, modulo 2^32.
    pub(super) name_checked_ms: AtomicU32,
    pub(super) wall_clock: WallClock,
    /// Whether to take over from a dead holder.
    pub(super) recover: bool,
    pub(super) making: Option<Making>,
    pub(super) offset_at: Option<OffsetAt>,
}

/// One grant to this handle: the seat and the number. The handle may have had others since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    pub(super) seat: u32,
    pub(super) number: u32,
}

impl Hold {
    /// The word of this hold, as long as it is not detached.
    #[inline]
    pub(super) fn word(self) -> Word {
        Word::held(Kind::Process, self.seat, self.number)
    }
}

impl ResourceLock {
    pub(super) fn new(
        region: Region,
        place: Place,
        process: Process,
        recover: bool,
        making: Option<Making>,
        offset_at: Option<OffsetAt>,
    ) -> Self {
        Self {
            region,
            place,
            process,
            token: AtomicU32::new(process.token()),
            reported: Default::default(),
            unreported: AtomicU32::new(0),
            name_checked_ms: AtomicU32::new(clock::monotonic().millis()),
            wall_clock: WallClock::new(),
            recover,
            making,
            offset_at,
        }
    }

    /// The lock's name, without a leading slash.
    pub fn name(&self) -> &str {
        &self.place.name
    }

    /// Whether any handle holds the lock. A holder that has died holds until the next contender finds out.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use resourcelock::ResourceLock;
    /// let lock = ResourceLock::open("doc-is-held")?;
    /// assert!(!lock.is_held());
    /// let guard = lock.try_lock("at work")?;
    /// assert!(lock.is_held());
    /// # drop(guard);
    /// # lock.remove(false)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn is_held(&self) -> bool {
        matches!(self.word().state(), State::Held(_) | State::Malformed)
    }

    /// Whether this handle holds the lock, according to the lock's own word: after a force-release it does not.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use resourcelock::ResourceLock;
    /// let (lock, other) = (ResourceLock::open("doc-holds")?, ResourceLock::open("doc-holds")?);
    /// let guard = lock.try_lock("at work")?;
    /// assert!(lock.holds() && !other.holds());
    /// other.force_release();
    /// assert!(!lock.holds() && !guard.is_held());
    /// # drop(guard);
    /// # lock.remove(false)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn holds(&self) -> bool {
        self.own_word().is_some()
    }

    /// The present grant. `None` if nobody holds, or if the holder has not yet written down who it is.
    pub fn holder(&self) -> Option<Grant> {
        self.grant_of(self.word())
    }

    /// The newest grant: the present one, or the last.
    pub fn last_grant(&self) -> Option<Grant> {
        Some(Grant::new(self.region.record().newest()?, self.offset_at))
    }

    /// What became of the holder before this handle's present hold; [`Previous::Released`] if this handle does not hold.
    ///
    /// As [`Guard::previous`](crate::Guard::previous), for holds without a guard.
    pub fn previous(&self) -> Previous {
        let Some((_, number)) = self.own_word() else { return Previous::Released };
        let [reported, from] = self.reported.each_ref().map(|word| word.load(Ordering::Relaxed));
        if reported == number { self.previous_of(number, Word(from)) } else { Previous::Released }
    }

    pub(super) fn previous_of(&self, number: u32, from: Word) -> Previous {
        Previous::of(self.region.record(), number, from.fate(), self.offset_at)
    }

    /// Remembers what grant `number` has to report, for [`previous`](Self::previous).
    pub(super) fn remember(&self, number: u32, from: Word) {
        // Relaxed: a report. Only the holder writes; one that was forced off in between may leave a number that is not
        // the holder's, or a word that is not the number's.
        for (cell, value) in self.reported.iter().zip([number, from.0]) {
            cell.store(value, Ordering::Relaxed);
        }
    }

    /// Whether something is still to be reported.
    #[inline]
    pub(super) fn has_unreported(&self) -> bool {
        self.unreported.load(Ordering::Relaxed) != 0
    }

    pub(super) fn take_unreported(&self) -> Option<Word> {
        // Relaxed: of two threads, one reports it.
        Some(Word(self.unreported.swap(0, Ordering::Relaxed))).filter(|from| from.fate() != Fate::Released)
    }

    pub(super) fn keep_unreported(&self, from: Word) {
        self.unreported.store(from.0, Ordering::Relaxed);
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
        History::of(self.region.record(), self.offset_at)
    }

    /// When and to whom the lock was last granted, in the reference's form: `2024-10-20 16:00:51.864484 - text`. Empty if
    /// it never was.
    ///
    /// It stays after the release, as history. The time is local if the program said what local is
    /// ([`OpenOptions::local_time`](crate::OpenOptions::local_time)), else it is marked ` UTC`. The text is as its writer
    /// gave it: use [`Escaped`] before it goes to a terminal, or [`last_grant`](Self::last_grant), whose `Display` does.
    pub fn info(&self) -> LockInfo {
        self.last_grant().map(|grant| grant.to_lock_info()).unwrap_or_default()
    }

    /// What happened to the lock since it was made.
    pub fn counters(&self) -> Counters {
        Counters::of(self.region.record())
    }

    /// The processes that wait for the lock and have said so; they do after the first 10 ms.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use resourcelock::{ResourceLock, Timeout};
    /// let lock = ResourceLock::open("doc-waiters")?;
    /// let guard = lock.try_lock("at work")?;
    /// std::thread::scope(|scope| {
    ///     scope.spawn(|| ResourceLock::open("doc-waiters")?.lock(Timeout::from_secs(10), "waits").map(drop));
    ///     while lock.waiters().is_empty() {
    ///         std::thread::yield_now();
    ///     }
    ///     assert_eq!(lock.waiters()[0].pid, std::process::id());
    ///     drop(guard);
    /// });
    /// # lock.remove(false)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn waiters(&self) -> Waiters {
        self.adopt();
        let mut probe = self.region.probe(&self.place);
        let now = clock::monotonic_coarse();
        let waiters = Waiters::of(self.region.record(), now, |seat| is_alive(probe.as_mut(), seat));
        if let Some(probe) = probe {
            self.region.keep_probe(probe);
        }
        waiters
    }

    /// Replaces the info of the present grant: `true` if this handle holds, else nothing changes.
    ///
    /// The grant keeps its time. Readers see the old text or the new one, never a mix.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use resourcelock::ResourceLock;
    /// let lock = ResourceLock::open("doc-set-info")?;
    /// let guard = lock.try_lock("step 1 of 2")?;
    /// assert!(lock.set_info("step 2 of 2"));
    /// assert_eq!(lock.holder().ok_or("held")?.info(), "step 2 of 2");
    /// drop(guard);
    /// assert!(!lock.set_info("not held any more"));
    /// # lock.remove(false)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_info(&self, text: &str) -> bool {
        self.adopt();
        // One thread at a time; other handles cannot hold.
        let _alone = self.region.alone(None);
        let held = self.own_word();
        if let Some((_, number)) = held {
            self.region.record().amend(number, text);
        }
        held.is_some()
    }

    /// The number of the seat's descriptor, for a program that passes it to a child on its own: it is closed on exec unless
    /// the child clears that flag. `None` unless the handle was opened with
    /// [`keep_across_exec`](crate::OpenOptions::keep_across_exec).
    pub fn seat_descriptor(&self) -> Option<i32> {
        self.region.descriptor()
    }

    /// Notices a fork: the child's copy of the handle holds nothing and has no seat.
    #[inline]
    pub(super) fn adopt(&self) {
        self.process.refresh();
        // Acquire: pairs with the Release in `start_anew`.
        if self.token.load(Ordering::Acquire) != self.process.token() {
            self.start_anew();
        }
    }

    #[cold]
    fn start_anew(&self) {
        // Tokens are odd: an even one says that a thread of this process is at it.
        let (mine, at_it) = (self.process.token(), self.process.token() & !1);
        loop {
            // Acquire: pairs with the Release below; whoever sees the token sees that the seat is gone.
            let seen = self.token.load(Ordering::Acquire);
            if seen == mine {
                return;
            }
            // One of the threads, and before any of them has a seat.
            if seen != at_it && self.token.compare_exchange(seen, at_it, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                self.region.forget_parent();
                self.token.store(mine, Ordering::Release);
                return;
            }
            clock::yield_to_others();
        }
    }

    pub(super) fn word(&self) -> Word {
        // Acquire: pairs with the Release in `protocol::release`; what is read of the record next is at least as new.
        Word(self.region.record().hot.word.load(Ordering::Acquire))
    }

    /// The identity and the number of the grant by which this handle holds.
    pub(super) fn own_word(&self) -> Option<(Word, u32)> {
        self.adopt();
        let (word, seat) = (self.word(), self.region.seat());
        let is_own = seat != 0 && word.seat() == seat && matches!(word.state(), State::Held(_));
        is_own.then(|| (word.identity(), self.region.record().number_of(word)))
    }

    /// Whether that hold still stands, and is not detached.
    #[inline]
    pub(crate) fn still_holds(&self, hold: Hold) -> bool {
        self.adopt();
        let word = self.word();
        // The word has six bits of the number; the record knows the others.
        hold.seat == self.region.seat()
            && word.identity() == hold.word()
            && self.region.record().is_number_of(word, hold.number)
    }

    /// The published grant that `word` names, if it names one.
    pub(super) fn grant_of(&self, word: Word) -> Option<Grant> {
        Grant::of_holder(self.region.record(), word, self.offset_at)
    }

    /// Who is in the way, for an error.
    pub(super) fn summary_of(&self, word: Word) -> Option<HolderSummary> {
        self.grant_of(word).as_ref().map(HolderSummary::new)
    }

    pub(crate) fn shown_name(&self) -> Shown<Escaped<'_>> {
        Shown(Escaped(&self.place.name))
    }

    pub(crate) fn log_state(&self) {
        debug!(
            "<{}> is currently locked? <{}> Prior info <{}>",
            self.shown_name(),
            Shown(if self.is_held() { "True" } else { "False" }),
            Shown(Latest(self))
        );
    }

    pub(crate) fn log_grant(&self) {
        debug!("<{}> lock request successful - Granted <{}>", self.shown_name(), Shown(Latest(self)));
    }
}

/// Whether anybody has the seat. Without a probe, it must be believed.
pub(super) fn is_alive(probe: Option<&mut Probe>, seat: u32) -> bool {
    probe.is_none_or(|probe| {
        let life = probe.examine(seat);
        probe.unpin();
        life != Life::Dead
    })
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
pub(crate) struct Latest<'a>(pub(crate) &'a ResourceLock);

impl fmt::Display for Latest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.last_grant().map_or(Ok(()), |grant| grant.fmt(f))
    }
}
