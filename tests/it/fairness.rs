//! Nobody starves: a waiter that has waited for a millisecond has the next release reserved, and a hold that has lasted a
//! millisecond is handed over without a request.
//!
//! Seen to fail: the test of the request, without the handoff bit; the test of a long hold, with a release that hands over
//! only on request. (What the other tests count also depends on the scheduler.)

use std::fs;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use resourcelock::{LockError, Timeout};

use crate::support::{Child, Dir, LONG, Shared, wait_until};

const END: usize = 0;
const GRANTS: usize = 1;

const WAITERS: u32 = 1 << 31;
const HANDOFF: u32 = 1 << 30;

/// Holds the lock for less than what is handed over unasked, lets go, and takes it back at once.
fn greedy<'a>(dir: &'a Dir, shared: &'a Shared) -> Child {
    let mut child = Child::fork(|line| {
        let lock = dir.open();
        line.say("begins");
        while shared.word(END).load(Ordering::Relaxed) == 0 {
            let guard = lock.lock(LONG, "greedy").unwrap();
            shared.word(GRANTS).fetch_add(1, Ordering::Relaxed);
            let began = Instant::now();
            while began.elapsed() < Duration::from_micros(200) {
                std::hint::spin_loop();
            }
            drop(guard);
        }
    });
    child.line.hear("begins");
    child
}

/// Not the time is counted but how often the greedy one is served while the other waits, which no slow machine changes:
/// seven times or so with handoff, which is asked for after a millisecond.
#[test]
fn a_greedy_process_does_not_starve_another() {
    const ROUNDS: u32 = 100;
    let dir = Dir::new();
    let shared = Shared::new(&dir);
    let greedy = greedy(&dir, &shared);
    let lock = dir.open();
    let mut barged = Vec::new();
    for _ in 0..ROUNDS {
        let before = shared.word(GRANTS).load(Ordering::Relaxed);
        let guard = lock.lock(LONG, "asks now and then").unwrap();
        barged.push(shared.word(GRANTS).load(Ordering::Relaxed) - before);
        drop(guard);
        wait_until("the greedy one is back", || lock.is_held());
    }
    shared.word(END).store(1, Ordering::Relaxed);
    greedy.succeeds();
    barged.sort();
    let (median, most) = (barged[barged.len() / 2], barged[barged.len() - 1]);
    println!("grants to the greedy one during a wait: median {median}, most {most}");
    assert!(median <= 20, "{barged:?}");
}

#[test]
fn all_of_many_that_wait_are_served() {
    let dir = Dir::new();
    let shared = Shared::new(&dir);
    let greedy = greedy(&dir, &shared);
    let work = |_: &mut _| {
        let lock = dir.open();
        for _ in 0..20 {
            drop(lock.lock(Timeout::from_secs(10), "one of many").unwrap());
        }
    };
    let children: Vec<_> = (0..6).map(|_| Child::fork(work)).collect();
    children.into_iter().for_each(Child::succeeds);
    shared.word(END).store(1, Ordering::Relaxed);
    greedy.succeeds();
}

/// The waiter that the lock was reserved for has died with all others that waited, or the one that reserved it has died
/// before it found out that nobody was there. The word is written here as they would leave it.
#[test]
fn a_reservation_for_the_dead_lapses() {
    const RESERVED: u32 = WAITERS | HANDOFF;
    const GENERATION: u32 = 63 << 22;
    let dir = Dir::new();
    let lock = dir.open();
    let leave_reserved = || {
        drop(lock.lock(LONG, "releases").unwrap());
        let file = fs::OpenOptions::new().read(true).write(true).open(dir.lock_file()).unwrap();
        let mut word = [0; 4];
        file.read_exact_at(&mut word, 64).unwrap();
        let word = u32::from_ne_bytes(word) & GENERATION | RESERVED;
        file.write_all_at(&word.to_ne_bytes(), 64).unwrap();
    };

    let began = Instant::now();
    leave_reserved();
    let refused = lock.try_lock("a newcomer");
    // Unless this process was kept from running for all of that time, it is too early.
    if began.elapsed() < Duration::from_millis(20) {
        assert!(matches!(refused, Err(LockError::TimedOut(None))));
    }
    drop(refused);
    wait_until("even a try is granted", || lock.try_lock("").is_ok());

    leave_reserved();
    assert!(lock.lock(LONG, "waits").is_ok());
}

#[test]
fn a_long_hold_is_handed_over_at_once() {
    let dir = Dir::new();
    let lock = dir.open();
    let guard = lock.lock(LONG, "holds for long").unwrap();
    let mut waiter = Child::fork(|line| {
        let lock = dir.open();
        line.say("asks");
        let guard = lock.lock(LONG, "waits").unwrap();
        line.next();
        assert!(guard.release());
    });
    waiter.line.hear("asks");
    waiter.waits();
    std::thread::sleep(Duration::from_millis(1));
    drop(guard);
    // Long before the waiter has come to run; and should it be quick, it holds until it is told.
    assert!(lock.try_lock("would like to go on at once").is_err());
    waiter.lets_go();
}

#[test]
fn who_has_waited_asks_for_the_next_release() {
    let dir = Dir::new();
    let lock = dir.open();
    let guard = lock.lock(LONG, "holds").unwrap();
    let waiter = Child::fork(|_| drop(dir.open().lock(LONG, "waits").unwrap()));
    let file = fs::File::open(dir.lock_file()).unwrap();
    wait_until("the word asks for handoff", || {
        let mut word = [0; 4];
        file.read_exact_at(&mut word, 64).unwrap();
        u32::from_ne_bytes(word) & (WAITERS | HANDOFF) == WAITERS | HANDOFF
    });
    drop(guard);
    waiter.succeeds();
}
