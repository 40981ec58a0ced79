//! One holder: a counter that nothing but the lock protects loses no update.
//!
//! Seen to fail with a `claim` that grants by a plain load and store instead of a compare-and-swap.

use std::sync::atomic::Ordering;
use std::thread;

use resourcelock::ResourceLock;

use crate::support::{Child, Dir, LONG, Shared};

const COUNTER: usize = 0;
const INCREMENTS: u32 = 24_000;

fn count(lock: &ResourceLock, shared: &Shared, rounds: u32) {
    for _ in 0..rounds {
        let guard = lock.lock(LONG, "counts").unwrap();
        shared.increment(COUNTER);
        assert!(guard.release());
    }
}

fn assert_none_lost(dir: &Dir, shared: &Shared) {
    assert_eq!(shared.word(COUNTER).load(Ordering::Relaxed), INCREMENTS);
    let counters = dir.open().counters();
    assert_eq!((counters.grants, counters.recoveries, counters.forced), (INCREMENTS, 0, 0));
}

fn processes_lose_no_update(processes: u32) {
    let dir = Dir::new();
    let shared = Shared::new(&dir);
    let children: Vec<_> =
        (0..processes).map(|_| Child::fork(|_| count(&dir.open(), &shared, INCREMENTS / processes))).collect();
    children.into_iter().for_each(Child::succeeds);
    assert_none_lost(&dir, &shared);
}

#[test]
fn two_processes_lose_no_update() {
    processes_lose_no_update(2);
}

#[test]
fn four_processes_lose_no_update() {
    processes_lose_no_update(4);
}

#[test]
fn eight_processes_lose_no_update() {
    processes_lose_no_update(8);
}

#[test]
fn threads_with_a_handle_each_lose_no_update() {
    let dir = Dir::new();
    let shared = Shared::new(&dir);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| count(&dir.open(), &shared, INCREMENTS / 4));
        }
    });
    assert_none_lost(&dir, &shared);
}

#[test]
fn threads_with_one_shared_handle_lose_no_update() {
    let dir = Dir::new();
    let shared = Shared::new(&dir);
    let lock = dir.open();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| count(&lock, &shared, INCREMENTS / 4));
        }
    });
    assert_none_lost(&dir, &shared);
}

#[test]
fn processes_of_several_threads_lose_no_update() {
    let dir = Dir::new();
    let shared = Shared::new(&dir);
    let children: Vec<_> = (0..2)
        .map(|_| {
            Child::fork(|_| {
                let lock = dir.open();
                thread::scope(|scope| {
                    for _ in 0..3 {
                        scope.spawn(|| count(&lock, &shared, INCREMENTS / 6));
                    }
                });
            })
        })
        .collect();
    children.into_iter().for_each(Child::succeeds);
    assert_none_lost(&dir, &shared);
}
