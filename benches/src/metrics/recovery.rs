//! A holder that is killed: how long the next one waits.
//!
//! Before the get: the holder was killed and reaped, or is still a zombie; what is timed is one get and unget. During
//! the wait: from the moment before the kill to the moment when the one that slept has the lock; the kill comes 2 to 22
//! milliseconds into the wait. A semaphore, raw_sync and a bare futex wait for ever, which is shown by a get of 50 ms.

use std::time::Duration;

use super::Effort;
use crate::peers::{FD_LOCK, FLOCK, FUTEX, GUARD, NAMED_LOCK, Peer, RAW_SYNC, ROBUST, Site, TIMED_SEMAPHORE};
use crate::process::{Child, nap, now};
use crate::samples::{Samples, interleave};
use crate::shared::Shared;
use crate::table::{Table, number, ratio};

const RECOVERING: [Peer; 5] = [GUARD, ROBUST, FLOCK, NAMED_LOCK, FD_LOCK];
const NEVER: [Peer; 3] = [TIMED_SEMAPHORE, RAW_SYNC, FUTEX];

/// What a killed holder leaves of itself.
#[derive(Clone, Copy)]
enum Remains {
    Zombie,
    Nothing,
}

/// A process that holds until it is killed.
fn holder(peer: Peer, site: &Site) -> Child {
    let shared = Shared::new(1);
    let child = Child::fork(|| {
        peer.open(site).hold(Duration::from_secs(10), &mut || {
            shared.set(0, 1);
            loop {
                nap(1_000_000_000);
            }
        });
    });
    shared.wait_for(0, 1);
    // A holder that is found dead has been at work first.
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

/// One get and unget after the holder's death, in microseconds; infinite if it timed out.
fn before_the_get(peer: Peer, remains: Remains, patience: Duration) -> f64 {
    let site = peer.make();
    let holder = holder(peer, &site);
    // Opened only now, so that the child has inherited nothing of it.
    let mut lock = peer.open(&site);
    let _zombie = kill(holder, remains);
    let began = now();
    let granted = lock.hold(patience, &mut || ());
    if granted { (now() - began) as f64 / 1e3 } else { f64::INFINITY }
}

/// From the kill to the grant of one that waits, in milliseconds.
fn during_the_wait(peer: Peer, after_ns: u64) -> f64 {
    const ASKS: usize = 0;
    const GRANTED: usize = 1;
    let site = peer.make();
    let holder = holder(peer, &site);
    let shared = Shared::new(2);
    let waiter = Child::fork(|| {
        let mut lock = peer.open(&site);
        shared.set(ASKS, 1);
        lock.hold(Duration::from_secs(10), &mut || shared.set(GRANTED, now()));
    });
    shared.wait_for(ASKS, 1);
    nap(after_ns);
    let killed = now();
    let _zombie = kill(holder, Remains::Zombie);
    waiter.succeeds();
    (shared.get(GRANTED) - killed) as f64 / 1e6
}

pub(super) fn run(effort: Effort) -> String {
    let count = effort.of(20, 2);
    let patience = Duration::from_secs(10);
    let mut peers = RECOVERING;
    let mut of = |remains| {
        interleave(&mut peers, effort.of(10, 1), |&mut peer| {
            (0..count).map(|_| before_the_get(peer, remains, patience)).collect()
        })
    };
    let (reaped, zombie) = (of(Remains::Nothing), of(Remains::Zombie));
    let mut turn = 0_u64;
    let waits = interleave(&mut peers, effort.of(10, 1), |&mut peer| {
        let one = |_| {
            // Spread evenly over the waiter's slices, whatever their phase.
            turn += 1;
            during_the_wait(peer, 2_000_000 + turn * 7_919_000 % 20_000_000)
        };
        (0..count).map(one).collect::<Samples>()
    });

    let mut table = Table::new(&[
        "",
        "before the get, median, µs",
        "p99",
        "zombie, median, µs",
        "p99",
        "during the wait, median, ms",
        "p99",
        "worst",
        "guard ÷ this, before the get",
    ]);
    for (index, peer) in RECOVERING.iter().enumerate() {
        let (reaped_all, zombie, waits) = (reaped[index].all(), zombie[index].all(), waits[index].all());
        table.row([
            peer.name.to_owned(),
            number(reaped_all.median()),
            number(reaped_all.p99()),
            number(zombie.median()),
            number(zombie.p99()),
            number(waits.median()),
            number(waits.p99()),
            number(waits.most()),
            ratio(reaped[0].ratio_to(&reaped[index])),
        ]);
    }
    for peer in NEVER {
        let recovered = before_the_get(peer, Remains::Nothing, Duration::from_millis(50)).is_finite();
        table.row([peer.name, if recovered { "recovered" } else { "never" }]);
    }
    table.to_string()
}
