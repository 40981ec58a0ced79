//! What the processes of a storm write down in shared memory, and what must be so.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use resourcelock::Guard;

use crate::random::Random;
use crate::support::Shared;

/// How many processes there are.
pub(crate) const WORKERS: usize = 5;

/// Cells of the shared memory.
#[derive(Clone, Copy)]
#[repr(usize)]
pub(crate) enum Cell {
    /// Who is between get and unget; zero if nobody.
    Inside,
    /// Two counters, written one after the other by every holder: equal whenever nobody holds, unless a holder died.
    First,
    Second,
    /// Nobody may get while this is set; whoever sees it says so in its own cell of `Parked`.
    Pause,
    /// Nothing is checked while this is set: locks are forced.
    Forcing,
    /// Counts the beginnings and the ends of removals, so it is odd during one; and what it was when the last hold ended
    /// well. A removal takes over from a dead holder like a get, and then there is a new lock that knows nothing of it.
    Removals,
    RemovalsSeen,
    End,

    Overlaps,
    LostUpdates,
    /// A get that should have waited long enough for anything timed out.
    Hangs,
    Holds,
    Timeouts,
    Recovered,
    Infos,
    LongestWaitMs,

    /// From here on, one for each worker.
    Parked,
    /// How often it was stopped.
    Stops = Cell::Parked as usize + WORKERS,
    _End = Cell::Stops as usize + WORKERS,
}

pub(crate) struct Checker(pub(crate) Shared);

impl Checker {
    pub(crate) fn at(&self, cell: Cell) -> &AtomicU32 {
        self.0.word(cell as usize)
    }

    pub(crate) fn of(&self, cell: Cell, worker: usize) -> &AtomicU32 {
        assert!(worker < WORKERS);
        self.0.word(cell as usize + worker)
    }

    // SeqCst all over: a checker is no place to save on orderings. The two counters are another matter.
    pub(crate) fn get(&self, cell: Cell) -> u32 {
        self.at(cell).load(Ordering::SeqCst)
    }

    pub(crate) fn set(&self, cell: Cell, value: u32) {
        self.at(cell).store(value, Ordering::SeqCst);
    }

    pub(crate) fn count(&self, cell: Cell) {
        self.at(cell).fetch_add(1, Ordering::SeqCst);
    }

    /// What a holder does. Relaxed where only the lock makes it right.
    pub(crate) fn work(&self, guard: &Guard<'_>, random: &mut Random, kill_me: bool) {
        let is_checked = self.get(Cell::Forcing) == 0;
        let me = std::process::id();
        let before = self.at(Cell::Inside).swap(me, Ordering::SeqCst);
        let removals = self.get(Cell::Removals);
        let follows_a_death = guard.recovered() || removals % 2 == 1 || removals != self.get(Cell::RemovalsSeen);
        if is_checked && before != 0 && !(follows_a_death && is_dead(before)) {
            self.count(Cell::Overlaps);
        }
        let (first, second) = (self.at(Cell::First), self.at(Cell::Second));
        let counted = first.load(Ordering::Relaxed);
        if is_checked && counted != second.load(Ordering::Relaxed) && !follows_a_death {
            self.count(Cell::LostUpdates);
        }
        first.store(counted.wrapping_add(1), Ordering::Relaxed);
        if kill_me {
            die();
        }
        for _ in 0..random.below(20_000) {
            spin_loop();
        }
        if random.once_in(20) {
            // Long enough for others to fall asleep and to ask for handoff.
            std::thread::sleep(Duration::from_micros(random.below(3_000)));
        }
        second.store(counted.wrapping_add(1), Ordering::Relaxed);
        self.set(Cell::RemovalsSeen, removals);
        // Not the store of a zero: with the checks off, it may be another's by now.
        let _ = self.at(Cell::Inside).compare_exchange(me, 0, Ordering::SeqCst, Ordering::SeqCst);
        self.count(Cell::Holds);
    }
}

/// Whether a process is gone or a zombie, by /proc; independent of how the crate finds out.
fn is_dead(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .map_or(true, |stat| stat.contains(") Z ") || stat.contains(") X "))
}

pub(crate) fn die() -> ! {
    // SAFETY: a signal to this very process.
    unsafe { libc::raise(libc::SIGKILL) };
    unreachable!("SIGKILL was survived");
}
