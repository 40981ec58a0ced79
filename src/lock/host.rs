//! The protocol's host on mapped memory and this kernel, for one call.
//!
//! It owns what a wait needs besides the word: a probe for seats, taken at the first need; an arrival number, drawn at the
//! first sleep; a waiter slot, and a ring where there is one, from the end of the first slice. Dropping it gives all of them
//! back, however the call ends.

use core::cell::Cell;
use core::sync::atomic::Ordering;
use core::time::Duration;

use super::handle::ResourceLock;
#[cfg(feature = "ring")]
use super::ring_wait::RingWait;
use super::wish::Wish;
use crate::cancel::Cancel;
use crate::grant::Grant;
use crate::log::warn;
use crate::protocol::{Host, SLICE, STARVES_AFTER, Sleep, Slept, slice_after};
use crate::record::{Record, Slot, Waiting};
use crate::sys::clock;
use crate::sys::futex::{self, Woke};
use crate::sys::process;
use crate::sys::seat::{Life, Probe};
use crate::time::Moment;
use crate::word::{Kind, State, Word};

/// A word that is reserved for waiters opens to everybody after this long. The waiter that it was reserved for is woken at
/// once, so by then it has died (or is starved of processor time). Others that wait would claim the word at the end of their
/// slice, which may be longer: a newcomer may then overtake them.
const RESERVATION_LAPSES_AFTER_MS: u32 = 3 * SLICE.as_millis() as u32 + 10;

/// A holder that has held for less is not probed before the first slice has passed: locks that are held for a few
/// microseconds at a time should not cost twice as much to wait for.
const YOUNG_WITHIN: Duration = Duration::from_micros(100);

/// A wait for this very process that has lasted so long is warned of.
const SELF_WAIT: Duration = Duration::from_secs(1);

/// A waiter polls the word this often before it sleeps, each time after twice the time of the one before, up to
/// [`LONGEST_SPIN`]: 56 µs in all, which is about what it costs to sleep and to be woken (`benches`, "Contended").
const SPINS: u32 = 12;
const FIRST_SPIN: Duration = Duration::from_nanos(125);
const LONGEST_SPIN: Duration = Duration::from_micros(8);

pub(super) struct Linux<'a> {
    lock: &'a ResourceLock,
    /// The record that was attached when the call began. Another thread of this handle may attach to its successor meanwhile;
    /// then this one is retired.
    record: &'a Record,
    /// Whether the record's file has lost its name. Then a detached hold on it is one that nobody can release any more.
    pub(super) has_lost_name: Cell<bool>,
    probe: Option<Probe>,
    /// This waiter's slot, and the seat it was filled for.
    slot: Option<(Slot, u32)>,
    /// This waiter's arrival number.
    arrival: Option<u32>,
    wish: Option<Wish<'a>>,
    /// The grant that this waiter has found overdue.
    overdue: Option<Word>,
    has_warned: bool,
    #[cfg(feature = "ring")]
    pub(super) ring: RingWait,
}

impl<'a> Linux<'a> {
    #[inline]
    pub(super) fn new(lock: &'a ResourceLock, has_lost_name: bool) -> Self {
        let has_lost_name = Cell::new(has_lost_name);
        Self {
            lock,
            record: lock.region.record(),
            has_lost_name,
            probe: None,
            slot: None,
            arrival: None,
            wish: None,
            overdue: None,
            has_warned: false,
            #[cfg(feature = "ring")]
            ring: RingWait::new(),
        }
    }

    pub(super) fn for_wish(lock: &'a ResourceLock, has_lost_name: bool, wish: Wish<'a>) -> Self {
        let mut host = Self::new(lock, has_lost_name);
        host.wish = Some(wish);
        host
    }

    /// This waiter's arrival number, drawn at the first call.
    pub(super) fn arrive(&mut self, waited: Duration) -> u32 {
        if waited >= SLICE && self.slot.is_none() {
            self.fill_slot(waited);
        }
        let record = self.record();
        let arrival = *self.arrival.get_or_insert_with(|| record.arrive());
        record.queue(arrival);
        arrival
    }

    pub(super) fn cancel(&self) -> Option<&'a Cancel> {
        self.wish?.cancel
    }

    /// A wait for this very process is most likely a mistake of the program's: it is warned of once.
    #[cold]
    fn warn_of_self_wait(&mut self, word: Word) {
        let (record, process) = (self.record(), self.lock.process);
        let holder = record.report(record.number_of(word));
        let is_own = holder.filter(|report| {
            (report.holder.pid, report.holder.pid_ns) == (process.pid(), process.pid_ns())
                && report.holder.seat == word.seat()
        });
        if let Some(own) = is_own {
            self.has_warned = true;
            warn!("<{}> this process has waited for its own grant {} for a second", self.lock.shown_name(), own.number);
        }
    }

    #[inline]
    pub(super) fn record(&self) -> &'a Record {
        self.record
    }

    /// The probe. `None` if there is none: another thread of this handle uses it, and the file cannot be opened again (too
    /// many open files, or a path that is out of reach after setuid or chroot). That proves nothing, and leaves the recovery to a contender that can.
    fn probe(&mut self) -> Option<&mut Probe> {
        if self.probe.is_none() {
            self.probe = self.lock.region.probe(&self.lock.place);
            if self.probe.is_none() {
                warn!("<{}> the holder cannot be probed; it counts as alive", self.lock.shown_name());
            }
        }
        self.probe.as_mut()
    }

    #[cold]
    fn fill_slot(&mut self, waited: Duration) {
        let (record, process) = (self.record(), self.lock.process);
        let seat = self.lock.region.seat();
        let since_ms = clock::monotonic_coarse().millis().wrapping_sub(waited.as_millis() as u32);
        let waiting = Waiting { seat, pid: process.pid(), thread: process.thread(), since_ms };
        let slot = record.fill_slot(waiting).or_else(|| {
            // All are in use; some may be left by waiters that have died.
            let mut probe = self.probe();
            record.clear_stale_slots(|seat| !super::handle::is_alive(probe.as_deref_mut(), seat));
            record.fill_slot(waiting)
        });
        self.slot = slot.map(|slot| (slot, seat));
    }
}

impl Linux<'_> {
    /// When the present holder is overdue, if it said so and this waiter cares.
    fn due(&self) -> Option<Moment> {
        self.wish.filter(|wish| wish.breaks_overdue || wish.on_overdue.is_some())?;
        let record = self.record();
        record.due(record.number_of(self.load(Ordering::Acquire)))
    }
}

impl Linux<'_> {
    /// Gives back what this waiter has: its place in the queue, its slot, and its probe.
    #[inline]
    pub(super) fn leave(&mut self) {
        if let Some(arrival) = self.arrival.take() {
            self.record().unqueue(arrival);
        }
        if let Some((slot, seat)) = self.slot.take() {
            self.record().clear_slot(slot, seat);
        }
        if let Some(probe) = self.probe.take() {
            self.lock.region.keep_probe(probe);
        }
    }
}

impl Drop for Linux<'_> {
    #[inline]
    fn drop(&mut self) {
        self.leave();
    }
}

impl Host for Linux<'_> {
    #[inline]
    fn load(&self, ordering: Ordering) -> Word {
        Word(self.record().hot.word.load(ordering))
    }

    #[inline]
    fn exchange(&self, from: Word, to: Word, ordering: Ordering) -> Result<(), Word> {
        match self.record().hot.word.compare_exchange(from.0, to.0, ordering, Ordering::Relaxed) {
            Ok(_) => Ok(()),
            Err(found) => Err(Word(found)),
        }
    }

    #[inline]
    fn published(&self, ordering: Ordering) -> u32 {
        self.record().hot.published.load(ordering)
    }

    fn now(&self) -> Moment {
        clock::monotonic()
    }

    fn spin(&self, round: u32) -> bool {
        // The thread's own affinity is asked for once, when the spin has cost as much as the question.
        if round >= SPINS || !self.lock.process.may_spin() || round == 4 && !process::thread_may_spin() {
            return false;
        }
        let until = clock::monotonic().after((FIRST_SPIN * (1 << round)).min(LONGEST_SPIN));
        while clock::monotonic() < until {
            core::hint::spin_loop();
        }
        true
    }

    fn slice(&mut self, waited: Duration) -> Duration {
        #[cfg(feature = "ring")]
        let slice = self.ring.slice(self.lock, waited).unwrap_or(slice_after(waited));
        #[cfg(not(feature = "ring"))]
        let slice = slice_after(waited);
        // A waiter that cares whether the holder is overdue looks when it will be.
        match self.due() {
            Some(due) => slice.min(due.since(clock::monotonic()).max(SLICE)),
            None => slice,
        }
    }

    fn is_cancelled(&self) -> bool {
        self.cancel().is_some_and(Cancel::is_cancelled)
    }

    fn sleep(&mut self, sleep: Sleep) -> Slept {
        let arrival = self.arrive(sleep.waited);
        if sleep.waited >= SELF_WAIT && !self.has_warned {
            self.warn_of_self_wait(sleep.expected);
        }
        #[cfg(feature = "ring")]
        if let Some(slept) = self.ring.sleep(self.lock, self.record, sleep, arrival, self.cancel()) {
            return slept;
        }
        match futex::sleep(&self.record().hot.word, sleep.expected.0, sleep.until, arrival) {
            Woke::Changed => Slept::Changed,
            Woke::Woken => Slept::Woken,
            Woke::TimedOut => Slept::TimedOut,
            Woke::Interrupted => Slept::Interrupted,
        }
    }

    fn wake(&self, count: u32) -> u32 {
        futex::wake(&self.record().hot.word, count)
    }

    fn wake_oldest(&self) -> bool {
        let record = self.record();
        for arrival in record.queued() {
            if futex::wake_one_of(&record.hot.word, arrival) {
                return true;
            }
            // It has left, or is about to go to sleep: then it looks at the word first.
            record.unqueue(arrival);
        }
        futex::wake(&record.hot.word, 1) != 0
    }

    fn is_first(&self) -> bool {
        self.arrival.is_some_and(|arrival| {
            let first = self.record().queued().next();
            // The difference of two numbers that wrap.
            first.is_none_or(|first| first.wrapping_sub(arrival) as i32 >= 0)
        })
    }

    fn is_young(&self, word: Word) -> bool {
        let since = self.record().since(self.record().number_of(word));
        // Not yet published, it is younger still; or its holder died before it could publish, which the end of the slice tells.
        since.is_none_or(|since| clock::monotonic().since(since) < YOUNG_WITHIN)
    }

    #[cold]
    fn prove_dead(&mut self, word: Word) -> bool {
        if !self.has_lost_name.get() {
            self.has_lost_name.set(self.lock.has_lost_name_if_due(clock::monotonic_coarse()));
        }
        match word.state() {
            State::Held(Kind::Detached) => self.has_lost_name.get(),
            // This handle's own hold, by another thread or by this very caller.
            State::Held(Kind::Process) if word.seat() == self.lock.region.seat() => false,
            State::Held(Kind::Process) if self.lock.recover => {
                match self.probe().map(|probe| probe.examine(word.seat())) {
                    Some(Life::Dead) => true,
                    Some(Life::Obscured { pid }) => {
                        warn!(
                            "<{}> a file lock that is no seat hides whether the holder lives; it belongs to pid {}",
                            self.lock.shown_name(),
                            pid
                        );
                        false
                    }
                    Some(Life::Alive) | None => false,
                }
            }
            _ => false,
        }
    }

    fn may_break(&mut self, word: Word) -> bool {
        let record = self.record();
        let Some(due) = self.due() else { return false };
        let (number, now) = (record.number_of(word), clock::monotonic());
        if now < due || word.state() != State::Held(Kind::Process) || word.seat() == self.lock.region.seat() {
            return false;
        }
        let wish = self.wish;
        if self.overdue != Some(word.identity()) {
            self.overdue = Some(word.identity());
            if let Some(report) = record.report(number) {
                let grant = Grant::new(report, self.lock.offset_at);
                warn!("<{}> the holder is overdue <{}>", self.lock.shown_name(), crate::log::Shown(&grant));
                if let Some(on_overdue) = wish.and_then(|wish| wish.on_overdue) {
                    on_overdue(&grant);
                }
            }
        }
        wish.is_some_and(|wish| wish.breaks_overdue) && record.may_break()
    }

    #[inline]
    fn drop_proof(&mut self) {
        if let Some(probe) = &mut self.probe {
            probe.unpin();
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
