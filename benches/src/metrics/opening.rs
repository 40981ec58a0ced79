//! Opening and closing again: a lock that exists, and one that does not and is made.
//!
//! flock's is the bare opening of a file, which has no state to be made or checked.

use super::Effort;
use crate::peers::reference::Reference;
use crate::peers::{FLOCK, GUARD, Peer, REFERENCE, Site, TIMED_SEMAPHORE};
use crate::process::now;
use crate::samples::{Rounds, Samples, interleave};
use crate::table::{Table, number, ratio};

enum Contestant {
    Native(Peer),
    Python(Reference),
}

impl Contestant {
    fn name(&self) -> &'static str {
        match self {
            Self::Native(peer) => peer.name,
            Self::Python(_) => REFERENCE,
        }
    }

    /// In microseconds.
    fn open(&mut self, site: &Site) -> f64 {
        let nanos = match self {
            Self::Native(peer) => {
                let began = now();
                drop(peer.open(site));
                (now() - began) as f64
            }
            Self::Python(reference) => reference.tell("open", site.name(), 1),
        };
        nanos / 1000.0
    }
}

pub(super) fn run(effort: Effort) -> String {
    const COUNT: usize = 20;
    let mut contestants: Vec<_> = [GUARD, TIMED_SEMAPHORE, FLOCK].map(Contestant::Native).into();
    contestants.extend(Reference::start().map(Contestant::Python));
    // Those of the first round of a process that finds out about itself are within the 99th percentile.
    let existing = interleave(&mut contestants, effort.of(100, 3), |contestant| {
        let site = Site::new();
        contestant.open(&site);
        (0..COUNT).map(|_| contestant.open(&site)).collect::<Samples>()
    });
    let fresh = interleave(&mut contestants, effort.of(100, 3), |contestant| {
        let fresh = |_| contestant.open(&Site::new());
        (0..COUNT).map(fresh).collect::<Samples>()
    });

    let mut table =
        Table::new(&["", "existing, median, µs", "p99", "ours ÷ this", "fresh, median, µs", "p99", "ours ÷ this"]);
    let cells = |results: &[Rounds], index: usize| {
        let all = results[index].all();
        [number(all.median()), number(all.p99()), ratio(results[0].ratio_to(&results[index]))]
    };
    for (index, contestant) in contestants.iter().enumerate() {
        let name = contestant.name().split(", ").next().unwrap_or_default().to_owned();
        table.row([vec![name], cells(&existing, index).into(), cells(&fresh, index).into()].concat());
    }
    if contestants.len() == 3 {
        table.row([format!("{REFERENCE}: not installed")]);
    }
    table.to_string()
}
