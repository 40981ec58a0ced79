//! One process that acquires and releases, again and again, without contention.
//!
//! A sample is the mean of 100 pairs, so the 99th percentile shows disturbances of microseconds, not single slow pairs.
//!
//! "bare futex, clock, 64-byte info" is the minimum of a lock that records its holder: per acquire it reads
//! CLOCK_MONOTONIC and copies an info, and per release it reads CLOCK_MONOTONIC_COARSE.

use super::Effort;
use crate::peers::reference::Reference;
use crate::peers::{
    CALLS, CLOCKED_FUTEX, FD_LOCK, FLOCK, FUTEX, GUARD, Lock, NAMED_LOCK, RAW_SYNC, REFERENCE, ROBUST, SEMAPHORE, Site,
    TIMED_SEMAPHORE,
};
use crate::process::now;
use crate::samples::{Samples, interleave};
use crate::table::{Table, number, ratio};
use crate::target::{Limit, Target};

const PAIRS: u32 = 100;
const SAMPLES_A_ROUND: usize = 20;

enum Contestant {
    Native { name: &'static str, lock: Box<dyn Lock>, _site: Site },
    Python { reference: Reference, site: Site },
}

impl Contestant {
    fn name(&self) -> &'static str {
        match self {
            Self::Native { name, .. } => name,
            Self::Python { .. } => REFERENCE,
        }
    }

    fn round(&mut self) -> Samples {
        let sample = || match self {
            Self::Native { lock, .. } => {
                let began = now();
                lock.pairs(PAIRS);
                (now() - began) as f64 / f64::from(PAIRS)
            }
            Self::Python { reference, site } => reference.execute("pairs", site.name(), PAIRS),
        };
        std::iter::repeat_with(sample).take(SAMPLES_A_ROUND).collect()
    }
}

pub(super) fn run(effort: Effort) -> String {
    let peers =
        [GUARD, CALLS, FUTEX, CLOCKED_FUTEX, SEMAPHORE, TIMED_SEMAPHORE, ROBUST, RAW_SYNC, FLOCK, NAMED_LOCK, FD_LOCK];
    let mut contestants: Vec<_> = peers
        .iter()
        .map(|peer| {
            let site = peer.make();
            Contestant::Native { name: peer.name, lock: peer.open(&site), _site: site }
        })
        .collect();
    contestants.extend(Reference::start().map(|reference| Contestant::Python { reference, site: Site::new() }));
    for contestant in &mut contestants {
        contestant.round();
    }
    let results = interleave(&mut contestants, effort.of(300, 3), Contestant::round);

    let mut table = Table::new(&["", "median, ns", "p99, ns", "guard ÷ this", "get_lock ÷ this"]);
    for (contestant, rounds) in contestants.iter().zip(&results) {
        let all = rounds.all();
        table.row([
            contestant.name().to_owned(),
            number(all.median()),
            number(all.p99()),
            ratio(results[0].ratio_to(rounds)),
            ratio(results[1].ratio_to(rounds)),
        ]);
    }
    if contestants.len() == peers.len() {
        table.row([format!("{REFERENCE}: not installed")]);
    }
    let of = |name: &str| {
        let index = contestants.iter().position(|contestant| contestant.name() == name).expect("one of the peers");
        results[0].ratio_to(&results[index])
    };
    let targets = [
        Target::new("guard, a pair", of(CLOCKED_FUTEX.name), "× the bare futex with clock and info")
            .wanted(Limit::AtMost(1.1)),
        Target::new("guard, a pair", of(TIMED_SEMAPHORE.name), "× the semaphore with a timeout")
            .stretch(Limit::AtMost(1.0)),
    ];
    let note = "Ours records who holds, since when and why (64 bytes), keeps a history and counts. The others record nothing, \
                except the bare futex with clock and info, and the reference (32 bytes).";
    format!("{table}\n{}{}\n{note}\n", targets[0], targets[1])
}
