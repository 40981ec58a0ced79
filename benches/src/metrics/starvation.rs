//! A greedy process acquires, sleeps for a millisecond while it holds, releases, and acquires again at once. Another
//! process requests the lock every ten milliseconds, with a timeout of a second, and releases it at once.

use std::time::Duration;

use super::Effort;
use crate::peers::{FD_LOCK, FLOCK, FUTEX, GUARD, NAMED_LOCK, Peer, RAW_SYNC, ROBUST, TIMED_SEMAPHORE};
use crate::process::{nap, now};
use crate::samples::{Samples, interleave};
use crate::shared::Shared;
use crate::table::{Table, number};
use crate::target::NO_TARGET;

const PEERS: [Peer; 8] = [GUARD, TIMED_SEMAPHORE, ROBUST, RAW_SYNC, FLOCK, NAMED_LOCK, FD_LOCK, FUTEX];

const REQUEST_EVERY_NS: u64 = 10_000_000;

const HELD: usize = 0;
const STOP: usize = 1;
/// The number of grants of the greedy process so far.
const GREEDY: usize = 2;
/// The results of the other process.
const TOOK: usize = 3;
const GREEDY_MEANWHILE: usize = 4;
const TIMED_OUT: usize = 5;
const REQUESTS: usize = 6;
const SAMPLES: usize = 7;

#[derive(Default, Clone)]
struct Outcome {
    timed_out: u64,
    greedy: u64,
    nanos: u64,
}

fn window(peer: Peer, nanos: u64, outcome: &mut Outcome) -> Samples {
    let site = peer.make();
    let most = (nanos / REQUEST_EVERY_NS) as usize + 1;
    let shared = Shared::new(SAMPLES + most);
    let greedy = peer.fork(|| {
        let mut lock = peer.open(&site);
        let mut count = 0;
        while shared.get(STOP) == 0 {
            lock.hold(Duration::from_secs(1), &mut || {
                shared.set(HELD, 1);
                nap(1_000_000);
            });
            count += 1;
            shared.set(GREEDY, count);
        }
    });
    let other = peer.fork(|| {
        let mut lock = peer.open(&site);
        shared.wait_for(HELD, 1);
        let (began, before) = (now(), shared.get(GREEDY));
        let mut requests = 0;
        let mut timed_out = 0;
        while requests < most && now() < began + nanos {
            let requested = now();
            timed_out += u64::from(!lock.hold(Duration::from_secs(1), &mut || ()));
            shared.set(SAMPLES + requests, now() - requested);
            requests += 1;
            nap((requested + REQUEST_EVERY_NS).saturating_sub(now()).max(1));
        }
        shared.set(REQUESTS, requests as u64);
        shared.set(TIMED_OUT, timed_out);
        shared.set(GREEDY_MEANWHILE, shared.get(GREEDY) - before);
        shared.set(TOOK, now() - began);
    });
    other.succeeds();
    shared.set(STOP, 1);
    outcome.greedy += shared.get(GREEDY_MEANWHILE);
    outcome.nanos += shared.get(TOOK);
    greedy.succeeds();
    outcome.timed_out += shared.get(TIMED_OUT);
    (0..shared.get(REQUESTS) as usize).map(|index| shared.get(SAMPLES + index) as f64 / 1e6).collect()
}

pub(super) fn run(effort: Effort) -> String {
    let mut outcomes = vec![Outcome::default(); PEERS.len()];
    let mut indices: Vec<usize> = (0..PEERS.len()).collect();
    let waits = interleave(&mut indices, effort.of(5, 1), |&mut index| {
        window(PEERS[index], effort.of(3000, 100) * 1_000_000, &mut outcomes[index])
    });
    let mut table = Table::new(&["", "requests", "median, ms", "p99, ms", "worst, ms", "timed out", "greedy holds/s"]);
    for ((peer, rounds), outcome) in PEERS.iter().zip(&waits).zip(&outcomes) {
        let all = rounds.all();
        table.row([
            peer.name.to_owned(),
            all.len().to_string(),
            number(all.median()),
            number(all.p99()),
            number(all.most()),
            outcome.timed_out.to_string(),
            number(outcome.greedy as f64 / (outcome.nanos as f64 / 1e9)),
        ]);
    }
    format!("{table}\n{NO_TARGET}")
}
