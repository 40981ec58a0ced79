//! Processes that request the lock all the time: each acquires, works for about a microsecond, releases, and starts
//! again without a pause.
//!
//! The work is a loop of as many steps as took a microsecond when nothing else ran; reading a clock would cost more than
//! some of the locks. Fairness is the number of grants of the least served process ÷ that of the most served one, in a
//! window of a second.

use std::hint::black_box;
use std::time::Duration;

use super::Effort;
use crate::peers::{CALLS, FLOCK, FUTEX, GUARD, Peer, RAW_SYNC, ROBUST, TIMED_SEMAPHORE};
use crate::process::{Child, nap, now};
use crate::samples::{Rounds, Samples, interleave};
use crate::shared::Shared;
use crate::table::{Table, number, ratio};
use crate::target::{Limit, NO_TARGET, Target};

const PEERS: [Peer; 7] = [GUARD, CALLS, TIMED_SEMAPHORE, ROBUST, RAW_SYNC, FLOCK, FUTEX];

const GO: usize = 0;
const STOP: usize = 1;
/// One cell per process: first whether it is ready, in the end the number of its grants.
const COUNTS: usize = 2;

fn work(steps: u32) {
    for step in 0..steps {
        black_box(step);
    }
}

/// Returns the number of steps that take a microsecond.
fn calibrate() -> u32 {
    const STEPS: u32 = 1_000_000;
    let nanos = (0..10)
        .map(|_| {
            let began = now();
            work(STEPS);
            now() - began
        })
        .min()
        .unwrap_or(1);
    (u64::from(STEPS) * 1000 / nanos.max(1)) as u32
}

/// Returns the grants per second of each process, in one window.
fn window(peer: Peer, processes: usize, steps: u32, nanos: u64) -> Vec<f64> {
    let site = peer.make();
    let shared = Shared::new(COUNTS + processes);
    let children: Vec<_> = (0..processes)
        .map(|index| {
            let own = COUNTS + index;
            let (site, shared) = (&site, &shared);
            peer.fork(move || {
                let mut lock = peer.open(site);
                // The first acquire of a process has costs of its own, so it comes before the window.
                lock.hold(Duration::from_secs(1), &mut || ());
                shared.set(own, 1);
                shared.wait_for(GO, 1);
                let mut count = 0;
                while shared.get(STOP) == 0 {
                    count += u64::from(lock.hold(Duration::from_secs(1), &mut || work(steps)));
                }
                shared.set(own, count);
            })
        })
        .collect();
    (0..processes).for_each(|index| shared.wait_for(COUNTS + index, 1));
    shared.set(GO, 1);
    let began = now();
    nap(nanos);
    shared.set(STOP, 1);
    let took = (now() - began) as f64 / 1e9;
    children.into_iter().for_each(Child::succeeds);
    (0..processes).map(|index| shared.get(COUNTS + index) as f64 / took).collect()
}

pub(super) fn run(effort: Effort) -> String {
    let steps = calibrate();
    [2, 4, 8].map(|processes| table(effort, processes, steps)).join("\n")
}

fn table(effort: Effort, processes: usize, steps: u32) -> String {
    let mut fairness = vec![Samples::default(); PEERS.len()];
    let mut indices: Vec<usize> = (0..PEERS.len()).collect();
    let throughput = interleave(&mut indices, effort.of(9, 1), |&mut index| {
        let counts = window(PEERS[index], processes, steps, effort.of(1000, 30) * 1_000_000);
        let least = counts.iter().copied().fold(f64::INFINITY, f64::min);
        let most = counts.iter().copied().fold(1.0, f64::max);
        fairness[index].push(least / most);
        [counts.iter().sum::<f64>() / 1000.0].into_iter().collect()
    });
    let mut table = Table::new(&[
        &format!("{processes} processes"),
        "thousand/s, median",
        "worst round",
        "guard ÷ this",
        "fairness, median",
        "worst round",
    ]);
    for ((peer, rounds), fairness) in PEERS.iter().zip(&throughput).zip(&fairness) {
        table.row([
            peer.name.to_owned(),
            number(rounds.all().median()),
            number(rounds.all().least()),
            ratio(throughput[0].ratio_to(rounds)),
            number(fairness.median()),
            number(fairness.least()),
        ]);
    }
    format!("{table}\n{}", targets(processes, &throughput))
}

fn targets(processes: usize, throughput: &[Rounds]) -> String {
    let than = |peer: &Peer| {
        let index = PEERS.iter().position(|other| other.name == peer.name).expect("one of the peers");
        throughput[0].ratio_to(&throughput[index])
    };
    let what = format!("guard, {processes} processes, throughput");
    let than_robust =
        Target::new(what.as_str(), than(&ROBUST), "× the robust mutex").wanted(Limit::AtLeast(1.0)).to_string();
    match processes {
        2 => {
            let than_best = [ROBUST, RAW_SYNC, TIMED_SEMAPHORE, FLOCK].iter().map(than).fold(f64::INFINITY, f64::min);
            let unit = "× the best of robust mutex, raw_sync, semaphore and flock";
            than_robust + &Target::new(what, than_best, unit).stretch(Limit::AtLeast(1.0)).to_string()
        }
        4 => than_robust,
        _ => NO_TARGET.to_owned(),
    }
}
