//! 16 processes that acquire, hold, release, and request the lock again at once: the longest wait of any of them.
//!
//! A holder sleeps while it holds. The ideal is the wait in a queue in order of arrival, without any cost: (processes − 1)
//! × hold. The window is a whole number of such turns; at its end, the remaining waiters acquire without holding, and
//! their waits count as long as they were. So a lock that starves a waiter reaches about the number of turns, however
//! long the starvation would have lasted.
//!
//! Holds of 6 s are measured with `--long` only, all peers at the same time: they take 16 × 6 s × 2.

use std::time::Duration;

use super::Effort;
use crate::peers::{FLOCK, GUARD, Peer, ROBUST, SLICES, Site, TIMED_SEMAPHORE};
use crate::process::{Child, nap, now};
use crate::samples::{Rounds, Samples, interleave};
use crate::shared::Shared;
use crate::table::{Table, number, ratio};
use crate::target::{Limit, Target};

const PEERS: [Peer; 5] = [GUARD, SLICES, TIMED_SEMAPHORE, ROBUST, FLOCK];

const GO: usize = 0;
const STOP: usize = 1;
/// One cell per process: first whether it is ready, in the end its longest wait in nanoseconds.
const OWN: usize = 2;

/// Holds of one length.
struct Holds {
    millis: u64,
    /// The length of the window, in holds per process.
    turns: u64,
    rounds: usize,
}

const SHORT: [Holds; 3] = [
    Holds { millis: 5, turns: 10, rounds: 5 },
    Holds { millis: 20, turns: 6, rounds: 5 },
    Holds { millis: 100, turns: 3, rounds: 3 },
];
const LONG: Holds = Holds { millis: 6_000, turns: 2, rounds: 1 };

/// A set of processes that share one lock.
struct Queue {
    processes: Vec<Child>,
    shared: Shared,
    ideal_ns: u64,
    _site: Site,
}

impl Queue {
    fn start(peer: Peer, processes: usize, hold_ns: u64) -> Self {
        let site = peer.make();
        let shared = Shared::new(OWN + processes);
        let children = (0..processes)
            .map(|index| {
                let own = OWN + index;
                let (site, shared) = (&site, &shared);
                peer.fork(move || {
                    let mut lock = peer.open(site);
                    // The first acquire of a process has costs of its own, so it comes before the window.
                    lock.hold(Duration::from_secs(1), &mut || ());
                    shared.set(own, 1);
                    shared.wait_for(GO, 1);
                    let mut longest = 0;
                    while shared.get(STOP) == 0 {
                        let requested = now();
                        let granted = lock.hold(Duration::from_secs(3600), &mut || {
                            longest = longest.max(now() - requested);
                            if shared.get(STOP) == 0 {
                                nap(hold_ns);
                            }
                        });
                        assert!(granted, "a wait of an hour");
                    }
                    shared.set(own, longest);
                })
            })
            .collect();
        (0..processes).for_each(|index| shared.wait_for(OWN + index, 1));
        shared.set(GO, 1);
        Self { processes: children, shared, ideal_ns: (processes as u64 - 1) * hold_ns, _site: site }
    }

    /// Ends the window. Returns the longest wait ÷ the ideal.
    fn finish(self) -> f64 {
        self.shared.set(STOP, 1);
        let count = self.processes.len();
        self.processes.into_iter().for_each(Child::succeeds);
        let longest = (0..count).map(|index| self.shared.get(OWN + index)).max().unwrap_or(0);
        longest as f64 / self.ideal_ns as f64
    }
}

/// One peer after the other.
fn in_turns(holds: &Holds, processes: usize, effort: Effort) -> Vec<Rounds> {
    let hold_ns = holds.millis * 1_000_000;
    let window_ns = effort.of(holds.turns, 1) * processes as u64 * hold_ns;
    let mut peers = PEERS;
    interleave(&mut peers, effort.of(holds.rounds, 1), |&mut peer| {
        let queue = Queue::start(peer, processes, hold_ns);
        nap(window_ns);
        [queue.finish()].into_iter().collect()
    })
}

/// All peers at the same time. They sleep nearly always, so they hardly disturb each other.
fn together(holds: &Holds, processes: usize) -> Vec<Rounds> {
    let hold_ns = holds.millis * 1_000_000;
    let queues = PEERS.map(|peer| Queue::start(peer, processes, hold_ns));
    nap(holds.turns * processes as u64 * hold_ns);
    queues.map(|queue| Rounds::from_iter([Samples::from_iter([queue.finish()])])).into()
}

pub(super) fn run(effort: Effort) -> String {
    let processes = effort.of(16, 4);
    let title = format!("{processes} processes");
    let mut table = Table::new(&[&title, "hold", "longest wait ÷ ideal, median", "worst round", "guard ÷ this"]);
    let mut targets = String::new();
    for holds in SHORT.iter().chain([&LONG]) {
        let is_long = holds.millis == LONG.millis;
        let results = match (is_long, effort) {
            (false, _) => in_turns(holds, processes, effort),
            (true, Effort::Long) => together(holds, processes),
            (true, _) => vec![Rounds::default(); PEERS.len()],
        };
        let is_measured = !results[0].all().is_empty();
        for (peer, rounds) in PEERS.iter().zip(&results).filter(|_| is_measured) {
            table.row([
                peer.name.to_owned(),
                format!("{} ms", holds.millis),
                number(rounds.all().median()),
                number(rounds.all().most()),
                ratio(results[0].ratio_to(rounds)),
            ]);
        }
        let only = if is_long { " (with `--long` only)" } else { "" };
        let what = format!("guard, {processes} processes, holds of {} ms{only}, the longest wait", holds.millis);
        let target = Target::new(what, results[0].all().median(), "× the ideal").wanted(Limit::AtMost(1.3));
        targets += &if is_long { target } else { target.stretch(Limit::AtMost(1.15)) }.to_string();
    }
    format!("{table}\n{targets}")
}
