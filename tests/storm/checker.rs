//! What the participants of a storm write to shared memory, and what must hold.
//!
//! A participant is a thread of a process, or a child that the thread has forked. Its id is a slot and a generation, which
//! the conductor gives out; pids are reused.
//!
//! Whoever enters the critical section finds nobody in it, with these exceptions:
//! - a participant whose process was killed. Its successor must have been told ([`Entry::recovered`]), unless the lock was
//!   removed meanwhile: then the removal was told;
//! - a participant that may have been forced off since it was granted the lock: that is what forcing means.
//!
//! And whoever is told of a death or of a force-release must have been preceded by one: no false alarms.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::random::Random;
use crate::support::Shared;

/// The largest number of processes.
pub(crate) const MOST_WORKERS: usize = 64;

/// Participants of one process: two threads, and a child of each.
const PARTS: usize = 4;

/// Cells of the shared memory.
#[derive(Clone, Copy)]
#[repr(usize)]
pub(crate) enum Cell {
    /// The id of the participant in the critical section; zero if there is none.
    Inside,
    End,

    /// Operations that may force a holder off, deaths, and removals: how many have begun and have ended.
    ForcesBegun,
    ForcesEnded,
    DeathsBegun,
    DeathsEnded,
    RemovalsBegun,
    RemovalsEnded,
    /// Deaths and forces that had ended when the last participant entered.
    EndedAtEntry,

    Overlaps,
    /// A participant had died inside, and its successor was not told.
    Unreported,
    FalseAlarms,
    /// An acquire that should have waited long enough for anything timed out.
    Hangs,
    /// A hold was gone, and nobody could have been forced off.
    LostHolds,
    /// Threads that have panicked; their process may be killed before it can exit.
    Panics,
    /// A forked child held its parent's hold, or failed otherwise.
    BadForks,
    Grants,
    Timeouts,
    Recovered,
    /// A participant that had died inside was succeeded by one that was told, without a force in between.
    TakenOver,
    Infos,
    Forks,
    LongestWaitMs,

    /// From here on, one for each process: its generation, the generation that is about to die, how often it was stopped.
    Generation = 32,
    Doomed = Cell::Generation as usize + MOST_WORKERS,
    Stops = Cell::Doomed as usize + MOST_WORKERS,
    /// From here on, one for each participant: forces and removals that had ended when it entered.
    ForcesAtEntry = Cell::Stops as usize + MOST_WORKERS,
    RemovalsAtEntry = Cell::ForcesAtEntry as usize + MOST_WORKERS * PARTS,
    _End = Cell::RemovalsAtEntry as usize + MOST_WORKERS * PARTS,
}

/// Who takes part: generation, slot, and which of the process's participants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Id(u32);

impl Id {
    pub(crate) fn new(generation: u32, slot: usize, part: usize) -> Self {
        assert!(slot < MOST_WORKERS && part < PARTS);
        Self(generation << 8 | (slot * PARTS + part) as u32)
    }

    /// The child that this thread forks.
    pub(crate) fn child(self) -> Self {
        Self(self.0 | 2)
    }

    fn index(self) -> usize {
        self.0 as usize & 0xff
    }

    pub(crate) fn slot(self) -> usize {
        self.index() / PARTS
    }

    pub(crate) fn generation(self) -> u32 {
        self.0 >> 8
    }

    fn is_child(self) -> bool {
        self.0 & 2 != 0
    }
}

/// A grant, as the checker needs to know it.
pub(crate) struct Entry<'a> {
    pub(crate) id: Id,
    pub(crate) recovered: bool,
    /// Whether the hold still stands.
    pub(crate) is_held: &'a dyn Fn() -> bool,
}

pub(crate) struct Checker(pub(crate) Shared);

impl Checker {
    pub(crate) fn at(&self, cell: Cell) -> &AtomicU32 {
        self.0.word(cell as usize)
    }

    pub(crate) fn of(&self, cell: Cell, index: usize) -> &AtomicU32 {
        self.0.word(cell as usize + index)
    }

    // SeqCst all over: a checker is no place to save on orderings.
    pub(crate) fn get(&self, cell: Cell) -> u32 {
        self.at(cell).load(Ordering::SeqCst)
    }

    pub(crate) fn set(&self, cell: Cell, value: u32) {
        self.at(cell).store(value, Ordering::SeqCst);
    }

    pub(crate) fn count(&self, cell: Cell) {
        self.at(cell).fetch_add(1, Ordering::SeqCst);
    }

    /// What a holder does. `false` if the hold did not stand when it was about to begin.
    pub(crate) fn work(&self, entry: &Entry<'_>, random: &mut Random, dies_inside: bool) -> bool {
        let id = entry.id;
        let index = id.index();
        self.of(Cell::ForcesAtEntry, index).store(self.get(Cell::ForcesEnded), Ordering::SeqCst);
        self.of(Cell::RemovalsAtEntry, index).store(self.get(Cell::RemovalsEnded), Ordering::SeqCst);
        // Deaths first: the number that is stored must not be too large.
        let ended = self.get(Cell::DeathsEnded).wrapping_add(self.get(Cell::ForcesEnded));
        if !(entry.is_held)() {
            return false;
        }
        let before = self.at(Cell::Inside).swap(id.0, Ordering::SeqCst);
        if entry.recovered {
            self.count(Cell::Recovered);
            let begun = self.get(Cell::DeathsBegun).wrapping_add(self.get(Cell::ForcesBegun));
            if begun == self.get(Cell::EndedAtEntry) {
                self.count(Cell::FalseAlarms);
            }
        }
        self.set(Cell::EndedAtEntry, ended);
        if before != 0 {
            let before = Id(before);
            if !self.is_dead(before) {
                self.judge(before, id);
            } else if !self.may_be_forced(before) && !self.may_be_removed(before) {
                self.count(if entry.recovered { Cell::TakenOver } else { Cell::Unreported });
            }
        }
        if dies_inside {
            self.die(id);
        }
        for _ in 0..random.below(20_000) {
            spin_loop();
        }
        if random.once_in(20) {
            // Long enough for others to fall asleep and to ask for handoff.
            std::thread::sleep(Duration::from_micros(random.below(3_000)));
        }
        if let Err(other) = self.at(Cell::Inside).compare_exchange(id.0, 0, Ordering::SeqCst, Ordering::SeqCst) {
            if other != 0 {
                self.judge(Id(other), id);
            } else if !self.may_be_forced(id) {
                self.count(Cell::Overlaps);
            }
        }
        self.count(Cell::Grants);
        true
    }

    /// Two are inside, and neither is dead: an overlap, unless one of them may have been forced off.
    fn judge(&self, one: Id, other: Id) {
        if !self.may_be_forced(one) && !self.may_be_forced(other) {
            self.count(Cell::Overlaps);
        }
    }

    /// Whether a force may have come to pass since this participant entered.
    pub(crate) fn may_be_forced(&self, id: Id) -> bool {
        self.of(Cell::ForcesAtEntry, id.index()).load(Ordering::SeqCst) != self.get(Cell::ForcesBegun)
    }

    fn may_be_removed(&self, id: Id) -> bool {
        self.of(Cell::RemovalsAtEntry, id.index()).load(Ordering::SeqCst) != self.get(Cell::RemovalsBegun)
    }

    /// Whether its process was killed, or is about to be; independent of how the crate finds out. A forked child is not
    /// killed.
    fn is_dead(&self, id: Id) -> bool {
        let load = |cell| self.of(cell, id.slot()).load(Ordering::SeqCst);
        !id.is_child() && (load(Cell::Doomed) == id.generation() || load(Cell::Generation) != id.generation())
    }

    /// Announces the death of a process. The conductor counts its end.
    pub(crate) fn doom(&self, slot: usize, generation: u32) {
        // A process and the conductor may do so at once.
        if self.of(Cell::Doomed, slot).swap(generation, Ordering::SeqCst) != generation {
            self.count(Cell::DeathsBegun);
        }
    }

    pub(crate) fn die(&self, id: Id) -> ! {
        self.doom(id.slot(), id.generation());
        // SAFETY: a signal to this very process.
        unsafe { libc::raise(libc::SIGKILL) };
        unreachable!("SIGKILL was survived");
    }

    /// Does something that may force off whoever holds.
    pub(crate) fn force<T>(&self, something: impl FnOnce() -> T) -> T {
        self.count(Cell::ForcesBegun);
        let outcome = something();
        self.count(Cell::ForcesEnded);
        outcome
    }
}
