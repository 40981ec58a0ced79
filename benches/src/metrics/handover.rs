//! The time from just before the release until the sleeping waiter holds the lock.
//!
//! The holder sleeps while it holds, so that the waiter is asleep too. With two CPUs, the release has to wake the waiter's
//! idle CPU; with one, the waiter runs as soon as the holder sleeps.

use std::time::Duration;

use super::Effort;
use crate::peers::{FLOCK, FUTEX, GUARD, Peer, RAW_SYNC, ROBUST, TIMED_SEMAPHORE};
use crate::process::{nap, now, processors, stay_on};
use crate::samples::{Samples, interleave};
use crate::shared::Shared;
use crate::table::{Table, number, ratio};
use crate::target::NO_TARGET;

const PEERS: [Peer; 6] = [GUARD, TIMED_SEMAPHORE, ROBUST, RAW_SYNC, FLOCK, FUTEX];

const ROUND: usize = 0;
const ASKED: usize = 1;
const RELEASED: usize = 2;
const DONE: usize = 3;
const SAMPLES: usize = 4;

/// Returns the hand-over times of one pair of processes, in microseconds.
fn hand_overs(peer: Peer, on: [usize; 2], count: usize) -> Samples {
    let site = peer.make();
    let shared = Shared::new(SAMPLES + count);
    let patience = Duration::from_secs(10);
    let holder = peer.fork(|| {
        stay_on(on[0]);
        let mut lock = peer.open(&site);
        for round in 1..=count as u64 {
            lock.hold(patience, &mut || {
                shared.set(ROUND, round);
                shared.wait_for(ASKED, round);
                nap(300_000);
                shared.set(RELEASED, now());
            });
            shared.wait_for(DONE, round);
        }
    });
    let waiter = peer.fork(|| {
        stay_on(on[1]);
        let mut lock = peer.open(&site);
        for round in 1..=count as u64 {
            shared.wait_for(ROUND, round);
            shared.set(ASKED, round);
            lock.hold(patience, &mut || shared.set(SAMPLES + round as usize - 1, now() - shared.get(RELEASED)));
            shared.set(DONE, round);
        }
    });
    waiter.succeeds();
    holder.succeeds();
    (0..count).map(|index| shared.get(SAMPLES + index) as f64 / 1000.0).collect()
}

pub(super) fn run(effort: Effort) -> String {
    let processors = processors();
    let mut text = String::new();
    for (title, on) in [
        ("two CPUs", processors.get(..2).map(|two| [two[0], two[1]])),
        ("one CPU", Some([processors[0], processors[0]])),
    ] {
        let Some(on) = on else {
            text += "This machine has a single CPU, so there is no hand-over between two.\n\n";
            continue;
        };
        let mut peers = PEERS;
        let results = interleave(&mut peers, effort.of(20, 1), |&mut peer| hand_overs(peer, on, effort.of(100, 10)));
        let mut table = Table::new(&[title, "median, µs", "p99, µs", "guard ÷ this"]);
        for (peer, rounds) in PEERS.iter().zip(&results) {
            let all = rounds.all();
            table.row([
                peer.name.to_owned(),
                number(all.median()),
                number(all.p99()),
                ratio(results[0].ratio_to(rounds)),
            ]);
        }
        text += &format!("{table}\n{NO_TARGET}\n");
    }
    text.trim_end().to_owned() + "\n"
}
