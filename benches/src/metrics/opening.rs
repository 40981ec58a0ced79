//! Opening and closing: a lock that exists, the same with one acquire and release in between, and a lock that is created.
//!
//! The row of flock(2) is the plain opening of a file, which has no state to create or check. "Open, map and touch one
//! page" is the minimum of a lock in shared memory: open, fstat, mmap, one write, munmap and close of an existing file.

use std::time::Duration;

use super::Effort;
use crate::peers::reference::Reference;
use crate::peers::{FLOCK, GUARD, PAGE, Peer, REFERENCE, Site, TIMED_SEMAPHORE};
use crate::process::now;
use crate::samples::{Rounds, Samples, interleave};
use crate::table::{Table, number, ratio};
use crate::target::{Limit, Target};

/// Samples per round.
const COUNT: usize = 20;

const NATIVE: [Peer; 4] = [GUARD, PAGE, TIMED_SEMAPHORE, FLOCK];
/// The index of [`PAGE`].
const OF_PAGE: usize = 1;

enum Contestant {
    Native(Peer),
    Python(Reference),
}

impl Contestant {
    fn name(&self) -> &'static str {
        match self {
            Self::Native(peer) => peer.name.trim_end_matches(", guard").trim_end_matches(", timeout"),
            Self::Python(_) => REFERENCE,
        }
    }

    /// A lock that exists.
    fn make(&mut self) -> Site {
        match self {
            Self::Native(peer) => peer.make(),
            Self::Python(reference) => {
                let site = Site::new();
                reference.execute("open", site.name(), 1);
                site
            }
        }
    }

    /// Opens and closes. Returns the time in microseconds.
    fn open(&mut self, site: &Site) -> f64 {
        let nanos = match self {
            Self::Native(peer) => {
                let began = now();
                drop(peer.open(site));
                (now() - began) as f64
            }
            Self::Python(reference) => reference.execute("open", site.name(), 1),
        };
        nanos / 1000.0
    }

    /// Opens, acquires, releases and closes. Returns the time in microseconds, if it can be measured.
    fn open_and_hold(&mut self, site: &Site) -> Option<f64> {
        let Self::Native(peer) = self else { return None };
        let began = now();
        let mut lock = peer.open(site);
        assert!(lock.hold(Duration::from_secs(1), &mut || ()), "an uncontended acquire timed out");
        drop(lock);
        Some((now() - began) as f64 / 1000.0)
    }

    /// Creates and closes. Returns the time in microseconds, if the contestant creates anything.
    fn create(&mut self) -> Option<f64> {
        match self {
            Self::Native(peer) if peer.name == PAGE.name => None,
            _ => Some(self.open(&Site::new())),
        }
    }
}

pub(super) fn run(effort: Effort) -> String {
    let mut contestants: Vec<_> = NATIVE.map(Contestant::Native).into();
    contestants.extend(Reference::start().map(Contestant::Python));
    let rounds = effort.of(100, 3);
    // The first samples of a process have costs of their own; they lie beyond the 99th percentile.
    let existing = interleave(&mut contestants, rounds, |contestant| {
        let site = contestant.make();
        (0..COUNT).map(|_| contestant.open(&site)).collect::<Samples>()
    });
    let first_hold = interleave(&mut contestants, rounds, |contestant| {
        let site = contestant.make();
        (0..COUNT).filter_map(|_| contestant.open_and_hold(&site)).collect::<Samples>()
    });
    let fresh = interleave(&mut contestants, rounds, |contestant| {
        (0..COUNT).filter_map(|_| contestant.create()).collect::<Samples>()
    });

    let mut table = Table::new(&[
        "",
        "existing, median, µs",
        "p99",
        "ours ÷ this",
        "existing, with one hold, median, µs",
        "p99",
        "ours ÷ this",
        "fresh, median, µs",
        "p99",
        "ours ÷ this",
    ]);
    let cells = |results: &[Rounds], index: usize| {
        let all = results[index].all();
        [number(all.median()), number(all.p99()), ratio(results[0].ratio_to(&results[index]))]
    };
    for (index, contestant) in contestants.iter().enumerate() {
        let name = vec![contestant.name().to_owned()];
        let columns = [&existing, &first_hold, &fresh].map(|results| cells(results, index).to_vec());
        table.row([name].into_iter().chain(columns).flatten());
    }
    if contestants.len() == NATIVE.len() {
        table.row([format!("{REFERENCE}: not installed")]);
    }
    let what = "guard, open an existing lock, acquire, release and close";
    let than_page = first_hold[0].ratio_to(&first_hold[OF_PAGE]);
    let target = Target::new(what, than_page, "× open, map and touch one page").wanted(Limit::AtMost(1.8));
    format!("{table}\n{target}")
}
