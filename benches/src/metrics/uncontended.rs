//! A get and an unget with nobody else there, one after the other, by one process.
//!
//! A sample is the mean of 100 pairs; so the 99th percentile tells of what disturbs for microseconds, not of one slow
//! pair.

use super::Effort;
use crate::peers::reference::Reference;
use crate::peers::{
    CALLS, FD_LOCK, FLOCK, FUTEX, GUARD, Lock, NAMED_LOCK, RAW_SYNC, REFERENCE, ROBUST, SEMAPHORE, Site,
    TIMED_SEMAPHORE,
};
use crate::process::now;
use crate::samples::{Samples, interleave};
use crate::table::{Table, number, ratio};

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
            Self::Python { reference, site } => reference.tell("pairs", site.name(), PAIRS),
        };
        std::iter::repeat_with(sample).take(SAMPLES_A_ROUND).collect()
    }
}

pub(super) fn run(effort: Effort) -> String {
    let peers =
        [GUARD, CALLS, FUTEX, SEMAPHORE, TIMED_SEMAPHORE, ROBUST, RAW_SYNC, FLOCK, NAMED_LOCK, FD_LOCK].into_iter();
    let mut contestants: Vec<_> = peers
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
    if contestants.len() == 10 {
        table.row([format!("{REFERENCE}: not installed")]);
    }
    format!("{table}\nOurs writes down who, when and why (32 bytes), and counts; the others write down nothing.\n")
}
