//! A holder that is killed: how long the next process takes to acquire the lock.
//!
//! Reaped and zombie: the holder is dead before the request; one acquire and release are timed. During the wait: from just
//! before the kill until the waiter holds the lock. The kill comes 2 to 22 ms after the request, and in the column "late"
//! 1.2 s after it, when a waiter without a ring examines the lock less often. Semaphore, raw_sync and bare futex wait
//! forever, which a request of 50 ms shows.

use std::time::Duration;

use super::Effort;
use crate::peers::{FD_LOCK, FLOCK, FUTEX, GUARD, NAMED_LOCK, Peer, RAW_SYNC, ROBUST, SLICES, Site, TIMED_SEMAPHORE};
use crate::process::{Child, nap, now};
use crate::samples::{Rounds, Samples, interleave};
use crate::shared::Shared;
use crate::table::{Table, number, ratio};
use crate::target::{Limit, Target};

const RECOVERING: [Peer; 5] = [GUARD, ROBUST, FLOCK, NAMED_LOCK, FD_LOCK];
/// The peers whose waits are measured. "Slices" differ from the guard in a wait only.
const WAITING: [Peer; 6] = [GUARD, SLICES, ROBUST, FLOCK, NAMED_LOCK, FD_LOCK];
/// The peers whose long waits are measured.
const LATE: [Peer; 3] = [GUARD, SLICES, ROBUST];
const NEVER: [Peer; 3] = [TIMED_SEMAPHORE, RAW_SYNC, FUTEX];

/// What remains of a killed holder.
#[derive(Clone, Copy)]
enum Remains {
    Zombie,
    Nothing,
}

/// Forks a process that holds until it is killed.
fn holder(peer: Peer, site: &Site) -> Child {
    let shared = Shared::new(1);
    let child = peer.fork(|| {
        peer.open(site).hold(Duration::from_secs(10), &mut || {
            shared.set(0, 1);
            loop {
                nap(1_000_000_000);
            }
        });
    });
    shared.wait_for(0, 1);
    // A real holder has worked for a while before it dies.
    nap(1_000_000);
    child
}

fn kill(mut holder: Child, remains: Remains) -> Option<Child> {
    holder.kill();
    match remains {
        Remains::Zombie => {
            holder.wait_for_end();
            Some(holder)
        }
        Remains::Nothing => {
            holder.reap();
            None
        }
    }
}

/// Times one acquire and release after the holder's death, in microseconds; infinite if the request timed out.
fn before_the_request(peer: Peer, remains: Remains, patience: Duration) -> f64 {
    let site = peer.make();
    let holder = holder(peer, &site);
    // Opened after the fork, so that the child has inherited nothing of it.
    let mut lock = peer.open(&site);
    let _zombie = kill(holder, remains);
    let began = now();
    let granted = lock.hold(patience, &mut || ());
    if granted { (now() - began) as f64 / 1e3 } else { f64::INFINITY }
}

/// A holder, and a process that waits for it.
struct Wait {
    shared: Shared,
    holder: Child,
    waiter: Child,
    _site: Site,
}

const REQUESTS: usize = 0;
const GRANTED: usize = 1;

impl Wait {
    fn begin(peer: Peer) -> Self {
        let site = peer.make();
        let holder = holder(peer, &site);
        let shared = Shared::new(2);
        let waiter = peer.fork(|| {
            let mut lock = peer.open(&site);
            shared.set(REQUESTS, 1);
            lock.hold(Duration::from_secs(10), &mut || shared.set(GRANTED, now()));
        });
        shared.wait_for(REQUESTS, 1);
        Self { shared, holder, waiter, _site: site }
    }

    /// Kills the holder. Returns the time from the kill to the grant, in milliseconds.
    fn end(self) -> f64 {
        let killed = now();
        let _zombie = kill(self.holder, Remains::Zombie);
        self.waiter.succeeds();
        (self.shared.get(GRANTED) - killed) as f64 / 1e6
    }
}

/// Kills holders 1.2 s into the waits, one every 7 ms.
fn late(peer: Peer, count: usize) -> Samples {
    let waits: Vec<_> = (0..count).map(|_| Wait::begin(peer)).collect();
    nap(1_200_000_000);
    let end = |wait: Wait| {
        nap(7_000_000);
        wait.end()
    };
    waits.into_iter().map(end).collect()
}

pub(super) fn run(effort: Effort) -> String {
    let count = effort.of(20, 2);
    let patience = Duration::from_secs(10);
    let mut peers = RECOVERING;
    let mut of = |remains| {
        interleave(&mut peers, effort.of(10, 1), |&mut peer| {
            (0..count).map(|_| before_the_request(peer, remains, patience)).collect()
        })
    };
    let (reaped, zombie) = (of(Remains::Nothing), of(Remains::Zombie));
    let mut turn = 0_u64;
    let waits = interleave(&mut WAITING.clone(), effort.of(10, 1), |&mut peer| {
        let one = |_| {
            let wait = Wait::begin(peer);
            // Spread evenly over the slices of a waiter, whatever their phase.
            turn += 1;
            nap(2_000_000 + turn * 7_919_000 % 20_000_000);
            wait.end()
        };
        (0..count).map(one).collect::<Samples>()
    });
    let late = interleave(&mut LATE.clone(), effort.of(3, 1), |&mut peer| late(peer, count));

    let mut table = Table::new(&[
        "",
        "reaped, median, µs",
        "p99",
        "zombie, median, µs",
        "p99",
        "during the wait, median, ms",
        "p99",
        "worst",
        "late, median, ms",
        "worst",
        "guard ÷ this, reaped",
    ]);
    for (peer, waits) in WAITING.iter().zip(&waits) {
        let all =
            |peers: &[Peer], results: &[Rounds]| of_peer(peer, peers, results).map(Rounds::all).unwrap_or_default();
        let (reaped_all, zombie) = (all(&RECOVERING, &reaped), all(&RECOVERING, &zombie));
        let (waits, late) = (waits.all(), all(&LATE, &late));
        table.row([
            peer.name.to_owned(),
            number(reaped_all.median()),
            number(reaped_all.p99()),
            number(zombie.median()),
            number(zombie.p99()),
            number(waits.median()),
            number(waits.p99()),
            number(waits.most()),
            number(late.median()),
            number(late.most()),
            ratio(of_peer(peer, &RECOVERING, &reaped).map_or(f64::NAN, |theirs| reaped[0].ratio_to(theirs))),
        ]);
    }
    for peer in NEVER {
        let recovered = before_the_request(peer, Remains::Nothing, Duration::from_millis(50)).is_finite();
        table.row([peer.name, if recovered { "recovered" } else { "never" }]);
    }
    let wait = |peer: &Peer| of_peer(peer, &WAITING, &waits).map_or(f64::NAN, |rounds| rounds.all().median());
    let long_wait = |peer: &Peer| of_peer(peer, &LATE, &late).map_or(f64::NAN, |rounds| rounds.all().median());
    let than_robust = of_peer(&ROBUST, &WAITING, &waits).map_or(f64::NAN, |robust| waits[0].ratio_to(robust));
    let targets = [
        Target::new("guard (ring), killed during the wait, median", wait(&GUARD), "ms").wanted(Limit::AtMost(0.3)),
        Target::new("guard (ring), killed during the wait", than_robust, "× the robust mutex")
            .stretch(Limit::AtMost(1.2)),
        Target::new("guard (ring), killed after 1.2 s, median", long_wait(&GUARD), "ms").wanted(Limit::AtMost(0.3)),
        Target::new("slices, killed in the first second, median", wait(&SLICES), "ms").wanted(Limit::AtMost(10.0)),
        Target::new("slices, killed after 1.2 s, median", long_wait(&SLICES), "ms").wanted(Limit::AtMost(60.0)),
        Target::new("guard, zombie, arriving later, median", zombie[0].all().median(), "µs").wanted(Limit::AtMost(3.0)),
    ];
    format!("{table}\n{}", targets.map(|target| target.to_string()).concat())
}

/// The results of `peer`, if it is among `peers`.
fn of_peer<'a>(peer: &Peer, peers: &[Peer], results: &'a [Rounds]) -> Option<&'a Rounds> {
    results.get(peers.iter().position(|other| other.name == peer.name)?)
}
