//! Another process holds all the time: when a get gives up, and what it costs to wait.
//!
//! The cost is that of one get that waits for ten seconds: its processor time, and how often it was woken (its
//! voluntary context switches). All peers wait at the same time.

use std::time::Duration;

use super::Effort;
use crate::peers::{FD_LOCK, FLOCK, FUTEX, GUARD, Lock, NAMED_LOCK, Peer, RAW_SYNC, ROBUST, Site, TIMED_SEMAPHORE};
use crate::process::{Child, nap, now, processor_time, wake_ups};
use crate::samples::{Samples, interleave};
use crate::shared::Shared;
use crate::table::{Table, number, ratio};

const PEERS: [Peer; 8] = [GUARD, TIMED_SEMAPHORE, ROBUST, RAW_SYNC, FLOCK, NAMED_LOCK, FD_LOCK, FUTEX];
const TIMEOUTS_MS: [u64; 3] = [1, 10, 50];

/// A lock that another process holds, opened here.
struct Held {
    lock: Box<dyn Lock>,
    _holder: Child,
    _site: Site,
}

fn held(peer: Peer) -> Held {
    let site = peer.make();
    let shared = Shared::new(1);
    let holder = Child::fork(|| {
        peer.open(&site).hold(Duration::from_secs(1), &mut || {
            shared.set(0, 1);
            loop {
                nap(1_000_000_000);
            }
        });
    });
    shared.wait_for(0, 1);
    Held { lock: peer.open(&site), _holder: holder, _site: site }
}

pub(super) fn run(effort: Effort) -> String {
    let mut locks = PEERS.map(held);
    let mut accuracy = Table::new(&["", "timeout", "earliest, ms", "median, ms", "p99, ms", "guard ÷ this"]);
    for millis in TIMEOUTS_MS {
        let patience = Duration::from_millis(millis);
        let results = interleave(&mut locks, effort.of(20, 1), |held| {
            let one = || {
                let began = now();
                assert!(!held.lock.hold(patience, &mut || ()));
                (now() - began) as f64 / 1e6
            };
            std::iter::repeat_with(one).take(effort.of(10, 2)).collect::<Samples>()
        });
        for (peer, rounds) in PEERS.iter().zip(&results) {
            let all = rounds.all();
            accuracy.row([
                peer.name.to_owned(),
                format!("{millis} ms"),
                format!("{:.3}", all.least()),
                format!("{:.3}", all.median()),
                format!("{:.3}", all.p99()),
                ratio(results[0].ratio_to(rounds)),
            ]);
        }
    }
    let note =
        "raw_sync gives up at once where its deadline's nanoseconds exceed a second: it does not carry them over.";
    format!("{accuracy}\n{note}\n\n{}", cost(&mut locks, effort.of(10_000, 300)))
}

fn cost(locks: &mut [Held], millis: u64) -> Table {
    const SLOTS: usize = 2;
    let shared = Shared::new(SLOTS * locks.len());
    let waiters: Vec<_> = locks
        .iter_mut()
        .enumerate()
        .map(|(index, held)| {
            let shared = &shared;
            Child::fork(move || {
                let (time, woken) = (processor_time(), wake_ups());
                assert!(!held.lock.hold(Duration::from_millis(millis), &mut || ()));
                shared.set(SLOTS * index, processor_time() - time);
                shared.set(SLOTS * index + 1, wake_ups() - woken);
            })
        })
        .collect();
    waiters.into_iter().for_each(Child::succeeds);
    let title = format!("a wait of {} s", number(millis as f64 / 1000.0));
    let mut table = Table::new(&[&title, "processor time, ms", "of a core", "wake-ups"]);
    for (index, peer) in PEERS.iter().enumerate() {
        let time = shared.get(SLOTS * index) as f64 / 1e6;
        table.row([
            peer.name.to_owned(),
            number(time),
            format!("{:.3} %", 100.0 * time / millis as f64),
            shared.get(SLOTS * index + 1).to_string(),
        ]);
    }
    table
}
