//! Entries: the last sixteen grants, each a seqlock with one writer.
//!
//! Invariant: a grant's entry is written by its holder and by nobody else, except for how it ended: the compare-and-swap
//! that grants number `n` gives the right to write entry `n % 16`. The stamp is published last, so a reader sees a grant
//! whole or not at all, and a writer that dies half way leaves the previous grant as the newest.
//!
//! Because 16 divides the word's 64 generations, the word alone says which entry is the newest; there is no index that
//! could be stale or torn.
//!
//! A holder that was preempted inside a write, forced off, and continues after sixteen more grants may spoil the text of
//! the entry that has taken its place. That is a wrong report; the word, and so the exclusion, is not touched by it.

use core::mem::{offset_of, size_of};
use core::sync::atomic::{Ordering, fence};
use core::time::Duration;

use heapless::String;

use super::text::{Text, load_text, store_text, to_string};
use super::{Cell, HISTORY_CAPACITY, INFO_CAPACITY, READ_TRIES, Record, load, store};
use crate::time::Moment;
use crate::word::{Fate, Kind, Word};

/// The kernel's TASK_COMM_LEN: a program name has at most 15 bytes and a NUL.
pub(crate) const PROGRAM_CAPACITY: usize = 16;

/// One grant.
#[repr(C)]
pub(super) struct Entry {
    /// `number << 1 | 1`; even while the entry is being written.
    pub(super) stamp: Cell,
    seat: Cell,
    /// In the holder's PID namespace.
    pid: Cell,
    /// Inode number of that namespace; zero if unknown.
    pid_ns: Cell,
    /// Thread id in that namespace; zero if unknown.
    thread: Cell,
    /// Real user id.
    uid: Cell,
    /// UTC seconds since 1970, low word first, and nanoseconds.
    granted_sec: [Cell; 2],
    granted_nsec: Cell,
    /// The same moment on CLOCK_MONOTONIC, for durations.
    since_sec: Cell,
    since_nsec: Cell,
    /// On CLOCK_MONOTONIC.
    ended_sec: Cell,
    ended_nsec: Cell,
    /// See [`Ending`]; zero while the grant is held.
    ending: Cell,
    len: Cell,
    kind: Cell,
    /// Who force-released the hold; zero if nobody did.
    forced_pid: Cell,
    forced_uid: Cell,
    /// `wait(2)` status plus one of a holder that died, where somebody knows it; zero if nobody does.
    status: Cell,
    /// For how many milliseconds the holder expects to hold; zero if it did not say.
    due_ms: Cell,
    program: [Cell; PROGRAM_CAPACITY / 4],
    text: Text,
}

const _: () = {
    assert!(size_of::<Entry>() == 216);
    assert!(offset_of!(Entry, stamp) == 0);
    assert!(offset_of!(Entry, seat) == 4);
    assert!(offset_of!(Entry, pid) == 8);
    assert!(offset_of!(Entry, pid_ns) == 12);
    assert!(offset_of!(Entry, thread) == 16);
    assert!(offset_of!(Entry, uid) == 20);
    assert!(offset_of!(Entry, granted_sec) == 24);
    assert!(offset_of!(Entry, granted_nsec) == 32);
    assert!(offset_of!(Entry, since_sec) == 36);
    assert!(offset_of!(Entry, since_nsec) == 40);
    assert!(offset_of!(Entry, ended_sec) == 44);
    assert!(offset_of!(Entry, ended_nsec) == 48);
    assert!(offset_of!(Entry, ending) == 52);
    assert!(offset_of!(Entry, len) == 56);
    assert!(offset_of!(Entry, kind) == 60);
    assert!(offset_of!(Entry, forced_pid) == 64);
    assert!(offset_of!(Entry, forced_uid) == 68);
    assert!(offset_of!(Entry, status) == 72);
    assert!(offset_of!(Entry, due_ms) == 76);
    assert!(offset_of!(Entry, program) == 80);
    assert!(offset_of!(Entry, text) == 96);
};

/// How a hold ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ending {
    /// Its holder released it.
    Released,
    /// Somebody force-released it.
    Forced,
    /// Its holder died while it held.
    Died,
    /// Its holder released it and left the resource inconsistent, for the next holder to repair.
    Inconsistent,
    /// Its holder was overdue, and a waiter broke the hold.
    Overdue,
}

impl Ending {
    const fn to_bits(self) -> u32 {
        match self {
            Self::Released => 1,
            Self::Forced => 2,
            Self::Died => 3,
            Self::Inconsistent => 4,
            Self::Overdue => 5,
        }
    }

    const fn from_bits(bits: u32) -> Option<Self> {
        match bits {
            1 => Some(Self::Released),
            2 => Some(Self::Forced),
            3 => Some(Self::Died),
            4 => Some(Self::Inconsistent),
            5 => Some(Self::Overdue),
            _ => None,
        }
    }
}

/// How a hold ended, as its entry is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Released,
    Inconsistent,
    /// By the process `pid` of the user `uid`.
    Forced {
        pid: u32,
        uid: u32,
    },
    /// As `Forced`, of a hold that was overdue.
    Overdue {
        pid: u32,
        uid: u32,
    },
    /// With this status, as wait(2) gives it, if somebody knows it.
    Died {
        status: Option<u32>,
    },
}

impl End {
    const fn ending(self) -> Ending {
        match self {
            Self::Released => Ending::Released,
            Self::Inconsistent => Ending::Inconsistent,
            Self::Forced { .. } => Ending::Forced,
            Self::Overdue { .. } => Ending::Overdue,
            Self::Died { .. } => Ending::Died,
        }
    }
}

/// What a holder says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) seat: u32,
    pub(crate) pid: u32,
    pub(crate) pid_ns: u32,
    pub(crate) thread: u32,
    pub(crate) uid: u32,
    pub(crate) program: [u32; PROGRAM_CAPACITY / 4],
}

/// What a holder publishes with its grant, besides the info.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Publication {
    pub(crate) holder: Holder,
    /// CLOCK_REALTIME.
    pub(crate) granted: Moment,
    /// CLOCK_MONOTONIC.
    pub(crate) since: Moment,
    pub(crate) due_ms: u32,
}

/// An entry as it was read: bounded, but otherwise whatever a peer wrote.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) number: u32,
    pub(crate) holder: Holder,
    pub(crate) kind: Option<Kind>,
    /// CLOCK_REALTIME.
    pub(crate) granted: Moment,
    pub(crate) since: Moment,
    pub(crate) ended: Option<(Ending, Moment)>,
    /// Pid and user id.
    pub(crate) forced_by: Option<(u32, u32)>,
    pub(crate) status: Option<u32>,
    pub(crate) due_ms: u32,
    pub(crate) info: String<INFO_CAPACITY>,
}

impl Report {
    pub(crate) fn held_for(&self) -> Option<Duration> {
        self.ended.map(|(_, ended)| ended.since(self.since))
    }
}

impl Record {
    fn entry(&self, number: u32) -> &Entry {
        &self.entries[number as usize % HISTORY_CAPACITY]
    }

    /// Erases entries, amendments and waiter slots; see [`Record::clear`].
    pub(super) fn clear_reports(&self) {
        self.amendments.iter().for_each(|amendment| store(&amendment.stamp, 0));
        self.entries.iter().for_each(|entry| store(&entry.stamp, 0));
        self.clear_stale_slots(|_| true);
    }

    /// Publishes grant `number`. Only its holder calls this, once.
    ///
    /// A crash in here leaves an even stamp: readers continue to show the grant before, and the contender that recovers
    /// the lock knows the holder by its seat alone.
    #[inline]
    pub(crate) fn publish(&self, number: u32, publication: &Publication, info: &str) {
        let Publication { holder, granted, since, due_ms } = publication;
        let entry = self.entry(number);
        store(&entry.stamp, number << 1);
        // Release: pairs with the Acquire fence in `read_entry`. A reader that sees any store below also sees the stamp
        // above, and discards what it read.
        fence(Ordering::Release);
        store(&entry.seat, holder.seat);
        store(&entry.pid, holder.pid);
        store(&entry.pid_ns, holder.pid_ns);
        store(&entry.thread, holder.thread);
        store(&entry.uid, holder.uid);
        store(&entry.granted_sec[0], granted.sec as u32);
        store(&entry.granted_sec[1], (granted.sec >> 32) as u32);
        store(&entry.granted_nsec, granted.nsec);
        store(&entry.since_sec, since.sec as u32);
        store(&entry.since_nsec, since.nsec);
        store(&entry.ending, 0);
        store(&entry.kind, Kind::Process as u32);
        store(&entry.forced_pid, 0);
        store(&entry.forced_uid, 0);
        store(&entry.status, 0);
        store(&entry.due_ms, *due_ms);
        for (cell, &word) in entry.program.iter().zip(&holder.program) {
            store(cell, word);
        }
        store(&entry.len, store_text(&entry.text, info));
        // Release: pairs with the Acquire of the stamp in `read_entry`.
        entry.stamp.store(number << 1 | 1, Ordering::Release);
        // A holder that was forced off and continues only now must not turn the number back, nor give the record that
        // has taken this one's address a number of the old one's. If the thread is preempted after this check, it does
        // turn it back: then the holder knows its grant by its entry (`is_number_of`), and the next grant continues from the
        // number that is there.
        if (1..=64).contains(&number.wrapping_sub(load(&self.hot.published))) {
            // Release: pairs with the Acquire of the word that every reader of `published` does first.
            self.hot.published.store(number, Ordering::Release);
        }
    }

    /// Whether `word`, which has the generation of grant `number`, names that grant and not one that is a multiple of 64
    /// later.
    ///
    /// The number that was published last decides. A holder that was forced off and continues too late may have turned it
    /// back (see [`publish`](Self::publish)); then the entry decides: sixteen grants later, it belongs to another one.
    #[inline]
    pub(crate) fn is_number_of(&self, word: Word, number: u32) -> bool {
        self.number_of(word) == number || self.is_entry_of(number)
    }

    /// Whether the entry of grant `number` still belongs to that grant.
    #[inline]
    fn is_entry_of(&self, number: u32) -> bool {
        load(&self.entry(number).stamp) == number << 1 | 1
    }

    /// Names another process as the holder of grant `number`. Only its holder calls this.
    pub(crate) fn attribute(&self, number: u32, pid: u32, program: [u32; PROGRAM_CAPACITY / 4]) {
        if self.is_entry_of(number) {
            let entry = self.entry(number);
            store(&entry.pid, pid);
            store(&entry.thread, pid);
            for (cell, word) in entry.program.iter().zip(program) {
                store(cell, word);
            }
        }
    }

    /// Notes how and when grant `number` ended. Changes nothing if that grant was never published or was overwritten.
    #[inline]
    pub(crate) fn stamp_ending(&self, number: u32, end: End, now: Moment) {
        if !self.is_entry_of(number) {
            return;
        }
        let entry = self.entry(number);
        store(&entry.ended_sec, now.sec as u32);
        store(&entry.ended_nsec, now.nsec);
        match end {
            // By somebody else: who has written that down already, or will.
            End::Forced { pid: 0, .. } => {}
            End::Forced { pid, uid } | End::Overdue { pid, uid } => {
                store(&entry.forced_pid, pid);
                store(&entry.forced_uid, uid);
            }
            End::Died { status: Some(status) } => store(&entry.status, status.wrapping_add(1)),
            End::Died { status: None } | End::Released | End::Inconsistent => {}
        }
        // Release: pairs with the Acquire of `ending` in `load_ended`.
        entry.ending.store(end.ending().to_bits(), Ordering::Release);
    }

    /// When grant `number` was made. Only its holder asks, which wrote it.
    #[inline]
    pub(crate) fn held_since(&self, number: u32) -> Moment {
        load_since(self.entry(number))
    }

    /// Counts the hold of grant `number`, which is about to end, if it is the longest. Only its holder calls this.
    #[inline]
    pub(crate) fn count_hold(&self, number: u32, now: Moment) {
        if !self.is_entry_of(number) {
            return;
        }
        let since = self.held_since(number);
        let held = now.millis().wrapping_sub(since.millis());
        if held > load(&self.hot.longest_hold_ms) && now >= since {
            store(&self.hot.longest_hold_ms, held);
        }
    }

    /// Notes that grant `number` is now detached.
    pub(crate) fn stamp_detached(&self, number: u32) {
        if self.is_entry_of(number) {
            store(&self.entry(number).kind, Kind::Detached as u32);
        }
    }

    /// What `read` makes of the entry of grant `number`, if that was published, is still remembered, and stays so while
    /// it is read.
    fn read_entry<T>(&self, number: u32, read: impl FnOnce(&Entry) -> T) -> Option<T> {
        let entry = self.entry(number);
        // Acquire: pairs with the Release of the stamp in `publish`.
        if entry.stamp.load(Ordering::Acquire) != number << 1 | 1 {
            return None;
        }
        let found = read(entry);
        // Acquire: pairs with the Release fence in `publish`. If any load of `read` saw a later grant's store, the load
        // below sees its stamp.
        fence(Ordering::Acquire);
        (load(&entry.stamp) == number << 1 | 1).then_some(found)
    }

    /// Grant `number`, if it was published and is still remembered.
    pub(crate) fn report(&self, number: u32) -> Option<Report> {
        let (mut report, text, len) = self.read_entry(number, |entry| {
            let status = load(&entry.status);
            let report = Report {
                number,
                holder: Holder {
                    seat: load(&entry.seat),
                    pid: load(&entry.pid),
                    pid_ns: load(&entry.pid_ns),
                    thread: load(&entry.thread),
                    uid: load(&entry.uid),
                    program: core::array::from_fn(|i| load(&entry.program[i])),
                },
                ended: load_ended(entry),
                kind: Kind::from_bits(load(&entry.kind)),
                granted: moment(load_wide(&entry.granted_sec), load(&entry.granted_nsec)),
                since: load_since(entry),
                forced_by: Some((load(&entry.forced_pid), load(&entry.forced_uid))).filter(|&(pid, _)| pid != 0),
                status: status.checked_sub(1),
                due_ms: load(&entry.due_ms),
                info: String::new(),
            };
            (report, load_text(&entry.text), load(&entry.len))
        })?;
        report.info = self.amended_info(number).unwrap_or_else(|| to_string(&text, len));
        Some(report)
    }

    /// When grant `number` is overdue, if its holder said for how long it expects to hold.
    pub(crate) fn due(&self, number: u32) -> Option<Moment> {
        let (since, due_ms) = self.read_entry(number, |entry| (load_since(entry), load(&entry.due_ms)))?;
        (due_ms != 0).then(|| since.after(Duration::from_millis(due_ms.into())))
    }

    /// Since when grant `number` holds, if it was published.
    pub(crate) fn since(&self, number: u32) -> Option<Moment> {
        self.read_entry(number, load_since)
    }

    /// The pid of the holder of grant `number`, and its PID namespace, if it was published.
    #[cfg(feature = "ring")]
    pub(crate) fn process_of(&self, number: u32) -> Option<(u32, u32)> {
        self.read_entry(number, |entry| (load(&entry.pid), load(&entry.pid_ns)))
    }

    /// When grant `number` ended, if it has.
    pub(crate) fn ended(&self, number: u32) -> Option<Moment> {
        self.read_entry(number, load_ended).flatten().map(|(_, ended)| ended)
    }

    /// The newest published grant: the one that holds, or the one that held last.
    pub(crate) fn newest(&self) -> Option<Report> {
        for _ in 0..READ_TRIES {
            // Acquire: pairs with the Release in `protocol::release`. While the lock is held it pairs with nothing: then
            // the entry's own stamp orders what is read.
            let word = Word(self.hot.word.load(Ordering::Acquire));
            let number = self.number_of(word);
            // Older ones only where newer holders died unpublished: entry `number` itself is overwritten after all others.
            let found = (0..HISTORY_CAPACITY as u32).find_map(|age| self.report(number.wrapping_sub(age)));
            if found.is_some() {
                return found;
            }
            if load(&self.hot.published) == load(&self.header.origin) {
                return None;
            }
        }
        None
    }

    /// The grant whose fate grant `number` is to report. `None` if it never published, or was overwritten.
    ///
    /// Holders that passed the notice on are skipped, unless the notice began with one of them.
    pub(crate) fn previous(&self, number: u32, fate: Fate) -> Option<Report> {
        let mut first_to_pass_on = None;
        for age in 1..HISTORY_CAPACITY as u32 {
            let Some(report) = self.report(number.wrapping_sub(age)) else { break };
            match (report.ended, fate) {
                (Some((Ending::Died, _)), Fate::Died) | (Some((Ending::Forced | Ending::Overdue, _)), Fate::Forced) => {
                    return Some(report);
                }
                // Evicted just now: whoever did it has changed the word and not stamped the entry yet, or died in between.
                (None, Fate::Forced) if age == 1 => return Some(report),
                (Some((Ending::Inconsistent, _)), _) => first_to_pass_on = Some(report),
                _ => break,
            }
        }
        first_to_pass_on
    }
}

fn load_wide(cells: &[Cell; 2]) -> u64 {
    u64::from(load(&cells[0])) | u64::from(load(&cells[1])) << 32
}

fn load_since(entry: &Entry) -> Moment {
    moment(u64::from(load(&entry.since_sec)), load(&entry.since_nsec))
}

fn load_ended(entry: &Entry) -> Option<(Ending, Moment)> {
    // Acquire: pairs with the Release of `ending` in `stamp_ending`.
    let ending = Ending::from_bits(entry.ending.load(Ordering::Acquire))?;
    Some((ending, moment(u64::from(load(&entry.ended_sec)), load(&entry.ended_nsec))))
}

/// A moment that a peer wrote: the nanoseconds are bounded, so that arithmetic on it cannot overflow.
fn moment(sec: u64, nsec: u32) -> Moment {
    Moment { sec, nsec: nsec.min(999_999_999) }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::super::tests::{HOLDER, NOW, grant, new};
    use super::*;

    #[test]
    fn what_was_published_is_read_back() {
        for origin in [0, 62, u32::MAX - 20] {
            let record = new(origin);
            assert!(record.newest().is_none());
            for age in 1..=40_u32 {
                let number = origin.wrapping_add(age);
                grant(&record, number, &"é".repeat(age as usize));
                let report = record.newest().unwrap();
                assert_eq!((report.number, report.holder), (number, HOLDER));
                assert_eq!((report.granted, report.since, report.ended), (NOW, NOW, None));
                assert_eq!(report.info.as_str(), "é".repeat(age as usize));
                assert_eq!((report.forced_by, report.status), (None, None));
                record.stamp_ending(number, End::Forced { pid: 77, uid: 1 }, NOW);
                let report = record.newest().unwrap();
                assert_eq!((report.ended, report.forced_by), (Some((Ending::Forced, NOW)), Some((77, 1))));
                let oldest = number.wrapping_sub(age.min(16) - 1);
                assert!(record.report(oldest).is_some() && record.report(oldest.wrapping_sub(16)).is_none());
            }
        }
    }

    #[test]
    fn a_death_keeps_its_status() {
        let record = new(0);
        for status in [None, Some(0), Some(9), Some(0x8b)] {
            grant(&record, 1, "dies");
            record.stamp_ending(1, End::Died { status }, NOW);
            assert_eq!(record.report(1).unwrap().status, status);
        }
    }

    #[test]
    fn the_previous_grant_is_found_behind_those_that_passed_the_notice_on() {
        let record = new(0);
        let ends = |ends: &[End]| {
            for (number, &end) in (1..).zip(ends) {
                grant(&record, number, "");
                record.stamp_ending(number, end, NOW);
            }
            ends.len() as u32 + 1
        };
        let (died, forced) = (End::Died { status: None }, End::Forced { pid: 7, uid: 8 });
        let next = ends(&[died, End::Inconsistent, End::Inconsistent]);
        assert_eq!(record.previous(next, Fate::Died).unwrap().number, 1);
        let next = ends(&[End::Released, End::Inconsistent, End::Inconsistent]);
        assert_eq!(record.previous(next, Fate::Died).unwrap().number, 2, "the first to pass it on");
        let next = ends(&[died, End::Released, forced]);
        assert_eq!(record.previous(next, Fate::Forced).unwrap().number, 3);
        assert!(record.previous(next, Fate::Died).is_none());
    }

    /// It was preempted before it published, forced off, and continues after others were granted.
    #[test]
    fn a_late_writer_does_not_turn_the_number_back() {
        let record = new(7);
        for number in 9..100 {
            grant(&record, number, "");
        }
        let late = Publication { holder: HOLDER, granted: NOW, since: NOW, due_ms: 0 };
        record.publish(8, &late, "late");
        assert_eq!(load(&record.hot.published), 99);
        assert_eq!(record.newest().unwrap().number, 99);
    }

    /// On a machine that orders memory weakly, too: Miri shows a reader old values wherever the orderings allow it.
    ///
    /// Seen to fail under Miri without the fence in `publish`, and without the one in `read_entry`.
    #[test]
    fn a_reader_sees_grants_whole() {
        let record = new(0);
        let text = |number: u32| ["aaaaa", "bbbbb", "ccccc"][number as usize % 3];
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in 1..40 {
                    grant(&record, number, text(number));
                    if number % 4 == 0 {
                        record.amend(number, "amended");
                        record.amend(number, "amended");
                    }
                }
            });
            scope.spawn(|| {
                for round in 0..60 {
                    let found = if round % 2 == 0 { record.newest() } else { record.report(round / 2) };
                    if let Some(report) = found {
                        assert_eq!((report.holder, report.granted), (HOLDER, NOW));
                        assert!([text(report.number), "amended"].contains(&report.info.as_str()), "{report:?}");
                    }
                }
            });
        });
    }
}
