//! Another process holds all the time: when a request times out, and what its wait costs.
//!
//! The cost is that of one request that waits for ten seconds: its CPU time and its wake-ups (voluntary context switches).
//! All peers wait at the same time.

use std::time::Duration;

use super::Effort;
use crate::peers::{
    FD_LOCK, FLOCK, FUTEX, GUARD, Lock, NAMED_LOCK, Peer, RAW_SYNC, ROBUST, SLICES, Site, TIMED_SEMAPHORE,
};
use crate::process::{Child, nap, now, processor_time, wake_ups};
use crate::samples::{Samples, interleave};
use crate::shared::Shared;
use crate::table::{Table, number, ratio};
use crate::target::{Limit, NO_TARGET, Target};

const PEERS: [Peer; 8] = [GUARD, TIMED_SEMAPHORE, ROBUST, RAW_SYNC, FLOCK, NAMED_LOCK, FD_LOCK, FUTEX];
/// The peers whose cost is measured. "Slices" are refused io_uring in forked processes only, so the main process cannot time
/// them in the table above.
const WAITING: [Peer; 9] = [GUARD, SLICES, TIMED_SEMAPHORE, ROBUST, RAW_SYNC, FLOCK, NAMED_LOCK, FD_LOCK, FUTEX];
const TIMEOUTS_MS: [u64; 3] = [1, 10, 50];

/// A lock that another process holds, opened here.
struct Held {
    peer: Peer,
    lock: Box<dyn Lock>,
    _holder: Child,
    _site: Site,
}

fn held(peer: Peer) -> Held {
    let site = peer.make();
    let shared = Shared::new(1);
    let holder = peer.fork(|| {
        peer.open(&site).hold(Duration::from_secs(1), &mut || {
            shared.set(0, 1);
            loop {
                nap(1_000_000_000);
            }
        });
    });
    shared.wait_for(0, 1);
    Held { peer, lock: peer.open(&site), _holder: holder, _site: site }
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
    drop(locks);
    let note =
        "raw_sync gives up at once if the nanoseconds of its deadline exceed a second: it does not carry them over.";
    format!("{accuracy}\n{NO_TARGET}\n{note}\n\n{}", cost(effort.of(10_000, 300)))
}

fn cost(millis: u64) -> String {
    let mut locks = WAITING.map(held);
    const SLOTS: usize = 2;
    let shared = Shared::new(SLOTS * locks.len());
    let waiters: Vec<_> = locks
        .iter_mut()
        .enumerate()
        .map(|(index, held)| {
            let shared = &shared;
            held.peer.fork(move || {
                let (time, woken) = (processor_time(), wake_ups());
                assert!(!held.lock.hold(Duration::from_millis(millis), &mut || ()));
                shared.set(SLOTS * index, processor_time() - time);
                shared.set(SLOTS * index + 1, wake_ups() - woken);
            })
        })
        .collect();
    waiters.into_iter().for_each(Child::succeeds);
    let title = format!("a wait of {} s", number(millis as f64 / 1000.0));
    let mut table = Table::new(&[&title, "CPU time, ms", "of a core", "wake-ups"]);
    for (index, peer) in WAITING.iter().enumerate() {
        let time = shared.get(SLOTS * index) as f64 / 1e6;
        table.row([
            peer.name.to_owned(),
            number(time),
            format!("{:.3} %", 100.0 * time / millis as f64),
            shared.get(SLOTS * index + 1).to_string(),
        ]);
    }
    let of = |peer: &Peer| {
        let index = WAITING.iter().position(|other| other.name == peer.name).expect("one of the peers");
        (shared.get(SLOTS * index) as f64 / 1e6, shared.get(SLOTS * index + 1) as f64)
    };
    let mut targets = String::new();
    for (name, peer, most_ms, most_woken) in [("guard (ring)", GUARD, 1.0, 20.0), ("slices", SLICES, 5.0, 250.0)] {
        let (time, woken) = of(&peer);
        // The limits are those of a wait of 10 s.
        let what = format!("{name}, {title}");
        let time = Target::new(what.as_str(), time, "ms of CPU time").wanted(Limit::AtMost(most_ms));
        let woken = Target::new(what, woken, "wake-ups").wanted(Limit::AtMost(most_woken));
        targets += &format!("{time}{woken}");
    }
    format!("{table}\n{targets}")
}
