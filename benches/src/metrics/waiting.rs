//! Many processes wait for one holder: what all of them cost together.
//!
//! Every process waits from about the same moment until its request times out, and measures its own CPU time and wake-ups
//! (voluntary context switches). The table shows their sums, divided by the length of the wait. Processes are forked and
//! have opened the lock before.

use std::time::Duration;

use super::Effort;
use crate::peers::{GUARD, Peer, SLICES};
use crate::process::{Child, nap, processor_time, wake_ups};
use crate::shared::Shared;
use crate::table::{Table, number};
use crate::target::NO_TARGET;

const PEERS: [Peer; 2] = [GUARD, SLICES];
const WAITERS: [usize; 4] = [1, 10, 100, 400];

const GO: usize = 0;
const HELD: usize = 1;
/// Of each process: first whether it is ready, then its CPU time in nanoseconds, and its wake-ups.
const OWN: usize = 2;
const READY: usize = 0;
const TIME: usize = 1;
const WOKEN: usize = 2;
const CELLS: usize = 3;

/// CPU time in milliseconds per second, and wake-ups per second, of the whole set.
fn cost(peer: Peer, waiters: usize, millis: u64) -> (f64, f64) {
    let site = peer.make();
    let shared = Shared::new(OWN + CELLS * waiters);
    let cell = |index: usize, which: usize| OWN + CELLS * index + which;
    let _holder = peer.fork(|| {
        peer.open(&site).hold(Duration::from_secs(1), &mut || {
            shared.set(HELD, 1);
            loop {
                nap(1_000_000_000);
            }
        });
    });
    shared.wait_for(HELD, 1);
    let children: Vec<_> = (0..waiters)
        .map(|index| {
            let (site, shared) = (&site, &shared);
            peer.fork(move || {
                let mut lock = peer.open(site);
                shared.set(cell(index, READY), 1);
                shared.wait_slowly_for(GO, 1);
                let (time, woken) = (processor_time(), wake_ups());
                assert!(!lock.hold(Duration::from_millis(millis), &mut || ()), "the lock is held");
                shared.set(cell(index, TIME), processor_time() - time);
                shared.set(cell(index, WOKEN), wake_ups() - woken);
            })
        })
        .collect();
    (0..waiters).for_each(|index| shared.wait_for(cell(index, READY), 1));
    shared.set(GO, 1);
    children.into_iter().for_each(Child::succeeds);
    let sum = |which: usize| (0..waiters).map(|index| shared.get(cell(index, which))).sum::<u64>() as f64;
    let seconds = millis as f64 / 1000.0;
    (sum(TIME) / 1e6 / seconds, sum(WOKEN) / seconds)
}

pub(super) fn run(effort: Effort) -> String {
    let millis = effort.of(5000, 300);
    let title = format!("a wait of {} s", number(millis as f64 / 1000.0));
    let mut table =
        Table::new(&[&title, "waiters", "CPU time, ms/s", "of a core", "wake-ups/s", "wake-ups/s per waiter"]);
    for waiters in WAITERS {
        for peer in PEERS {
            let (time, woken) = cost(peer, waiters, millis);
            table.row([
                peer.name.to_owned(),
                waiters.to_string(),
                number(time),
                format!("{:.2} %", time / 10.0),
                number(woken),
                number(woken / waiters as f64),
            ]);
        }
    }
    format!("{table}\n{NO_TARGET}")
}
