//! Killed at every instruction: an operation is single-stepped in a child, which is killed after 0, 1, 2, … steps, up to
//! the operation's end. Whatever it leaves behind, others go on.
//!
//! ptrace(2) steps over a system call as over any instruction, so "killed inside a system call" is what the kernel makes
//! of it: before or after. In an optimised build (`ci/kill`) every position is tried; in a debug build, whose
//! instructions are many times as many, some hundred, evenly spread.
//!
//! Every test names the faults that it was seen to catch when they were put into `src`.
#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod stopped;
#[path = "../it/support.rs"]
mod support;
mod tracee;

use std::fs;
use std::time::{Duration, Instant};

use resourcelock::{Ending, Grant, Kind, LockError, ResourceLock};

use support::{AT_ONCE, Child, Dir, LONG};
use tracee::{Body, Corpse, kill_everywhere};

const KIND: u32 = 3 << 28;
const PROCESS: u32 = 1 << 28;
const DETACHED: u32 = 2 << 28;
const PID: u32 = (1 << 22) - 1;

/// The lock word, as it is in the file.
fn word(dir: &Dir) -> u32 {
    let bytes = fs::read(dir.lock_file()).unwrap();
    u32::from_ne_bytes(bytes[64..68].try_into().unwrap())
}

fn is_held_by(word: u32, corpse: &Corpse) -> bool {
    word & KIND != 0 && word & PID == corpse.pid as u32
}

/// What must be so after any death of a process that was to use the lock: the lock is granted at once, one recovery is
/// told if the dead one held and none otherwise, and the history is made of whole grants.
#[track_caller]
fn goes_on(dir: &Dir, corpse: &Corpse, infos: &[&str]) {
    let held = is_held_by(word(dir), corpse);
    let lock = dir.open();
    assert!(lock.last_grant().is_none_or(|grant| infos.contains(&grant.info())), "{:?}", lock.last_grant());
    let guard = lock.try_lock("after").unwrap_or_else(|error| panic!("after {} steps: {error}", corpse.steps));
    assert_eq!(guard.recovered(), held, "after {} steps", corpse.steps);
    if held {
        assert_eq!(guard.recovered_pid(), Some(corpse.pid as u32));
        // Killed between its grant and its entry, it could not say who it was.
        assert!(guard.recovered_from().is_none_or(|grant: Grant| {
            grant.pid() == corpse.pid as u32
                && infos.contains(&grant.info())
                && grant.ending() == Some(Ending::Recovered)
        }));
    }
    assert!(guard.release());
    assert!(!lock.try_lock("after").unwrap().recovered(), "told once");
    assert_eq!(lock.counters().recoveries, held.into());
    for grant in lock.history() {
        assert!(infos.contains(&grant.info()) || grant.info() == "after", "{grant:?}");
        assert!(grant.ending().is_some(), "{grant:?}");
    }
}

/// A handle in a process that is to die: it must not be dropped by the process that it is a copy of.
fn open_in_child(dir: &Dir) -> &'static ResourceLock {
    Box::leak(Box::new(dir.open()))
}

/// Caught: an entry whose stamp comes first (a mix of two grants); a grant that is written down before it is granted.
#[test]
fn get() {
    let prepare = |dir: &Dir| drop(dir.open().try_lock(&"old".repeat(40)).unwrap());
    let body = |dir: &Dir| -> Body {
        let lock = open_in_child(dir);
        // The first call of a process finds out where the vDSO is.
        lock.is_locked();
        let info = "new".repeat(40);
        Box::new(move || assert!(lock.get_lock(AT_ONCE, false, &info).unwrap()))
    };
    kill_everywhere("get", prepare, body, |dir, corpse, ()| {
        goes_on(dir, corpse, &[&"old".repeat(40), &"new".repeat(40)]);
    });
}

/// Its successor must reset the resource and does not know who died. The front page's example used to reset only if
/// `recovered_from` named the dead holder, so it left the bus of this one as it was.
#[test]
fn a_holder_killed_before_it_publishes_is_recovered_without_a_grant() {
    let dir = Dir::new();
    let body = |dir: &Dir| -> Body {
        let lock = open_in_child(dir);
        Box::new(move || assert!(lock.get_lock(AT_ONCE, false, "never published").unwrap()))
    };
    let acquired = || word(&dir) & KIND == PROCESS;
    let Some(corpse) = tracee::kill_as_soon_as(&dir, body, acquired) else {
        return support::pass_over("killed before publishing", "ptrace is not permitted");
    };
    assert!(is_held_by(word(&dir), &corpse));
    let lock = dir.open();
    let guard = lock.try_lock("after").unwrap();
    assert!(guard.recovered());
    assert_eq!(guard.recovered_pid(), Some(corpse.pid as u32));
    assert!(guard.recovered_from().is_none() && lock.recovered_from().is_none());
}

/// Caught: a takeover in two steps (freed, then granted).
#[test]
fn get_that_recovers() {
    let prepare = |dir: &Dir| {
        let first = Child::holder(dir, "died first");
        first.kill();
        first
    };
    let body = |dir: &Dir| -> Body {
        let lock = open_in_child(dir);
        Box::new(move || assert!(lock.get_lock(AT_ONCE, false, "died second").unwrap()))
    };
    kill_everywhere("get that recovers", prepare, body, |dir, corpse, first| {
        let holder = word(dir) & PID;
        assert!(holder == first.pid as u32 || holder == corpse.pid as u32);
        let lock = dir.open();
        let guard = lock.try_lock("after").unwrap();
        assert_eq!(guard.recovered_pid(), Some(holder));
        assert!(guard.recovered_from().is_none_or(|grant| ["died first", "died second"].contains(&grant.info())));
        drop(guard);
        assert!(!lock.try_lock("after").unwrap().recovered());
    });
}

/// Caught: one amendment instead of two, and a counter that moves before the text (a mix of two infos).
#[test]
fn set_lock_info() {
    let infos = ["a".repeat(144), "b".repeat(144), "c".repeat(144)];
    let body = |dir: &Dir| -> Body {
        let lock = open_in_child(dir);
        assert!(lock.get_lock(AT_ONCE, false, &infos[0]).unwrap());
        let [_, second, third] = infos.clone();
        assert!(lock.set_lock_info(&second));
        Box::new(move || assert!(lock.set_lock_info(&third)))
    };
    kill_everywhere(
        "set_lock_info",
        |_| {},
        body,
        |dir, corpse, ()| {
            assert!(is_held_by(word(dir), corpse));
            goes_on(dir, corpse, &[&infos[1], &infos[2]]);
        },
    );
}

/// Caught: an ending that is stamped after the release, into a later grant's entry (the history).
#[test]
fn unget() {
    let body = |dir: &Dir| -> Body {
        let lock = open_in_child(dir);
        assert!(lock.get_lock(AT_ONCE, false, "works").unwrap());
        Box::new(move || assert!(lock.unget_lock(false, "done")))
    };
    kill_everywhere("unget", |_| {}, body, |dir, corpse, ()| goes_on(dir, corpse, &["works"]));
}

#[test]
fn detach() {
    let body = |dir: &Dir| -> Body {
        let lock = open_in_child(dir);
        assert!(lock.get_lock(AT_ONCE, false, "works").unwrap());
        Box::new(move || assert!(lock.detach()))
    };
    kill_everywhere(
        "detach",
        |_| {},
        body,
        |dir, corpse, ()| {
            if word(dir) & KIND == DETACHED {
                let lock = dir.open();
                let Err(LockError::TimedOut(Some(owner))) = lock.try_lock("") else { panic!("recovered") };
                assert_eq!((owner.pid(), owner.info()), (corpse.pid as u32, "works"));
                assert!(lock.unget_lock(true, "by force"));
                assert!(!lock.try_lock("").unwrap().recovered());
            } else {
                assert_eq!(word(dir) & KIND, PROCESS);
                goes_on(dir, corpse, &["works"]);
            }
        },
    );
}

/// Somebody waits while another ungets and is killed at it.
fn unget_beside_a_waiter(name: &str, is_ready: fn(u32) -> bool) {
    let body = |dir: &Dir| -> Body {
        let lock = open_in_child(dir);
        assert!(lock.get_lock(AT_ONCE, false, "works").unwrap());
        let mut waiter = Child::fork(|line| {
            let lock = dir.open();
            line.say("asks");
            let guard = lock.lock(LONG, "waited").unwrap();
            let recovered = guard.recovered();
            drop(guard);
            // Read by whoever looks at the history: the dead one cannot be asked.
            drop(lock.try_lock(if recovered { "was told" } else { "was not told" }).unwrap());
        });
        waiter.line.hear("asks");
        support::wait_until("the waiter is ready", || is_ready(word(dir)));
        waiter.waits();
        // It outlives this process, which is about to die.
        std::mem::forget(waiter);
        Box::new(move || assert!(lock.unget_lock(false, "done")))
    };
    let mut longest = Duration::ZERO;
    kill_everywhere(
        name,
        |_| {},
        body,
        |dir, corpse, ()| {
            let killed = Instant::now();
            let lock = dir.open();
            let told = || lock.last_grant().filter(|grant| grant.ending().is_some() && grant.info().starts_with("was"));
            let outcome = loop {
                if let Some(grant) = told() {
                    break grant;
                }
                assert!(killed.elapsed() < support::PATIENCE, "it hangs after {} steps", corpse.steps);
                std::thread::yield_now();
            };
            longest = longest.max(killed.elapsed());
            let held = is_held_by(corpse.last_word, corpse);
            assert_eq!(outcome.info(), if held { "was told" } else { "was not told" }, "after {} steps", corpse.steps);
            assert_eq!(lock.counters().recoveries, held.into());
            assert!(!lock.try_lock("after").unwrap().recovered());
        },
    );
    println!("{name}: the waiter had the lock at most {longest:?} after the kill");
}

/// Caught: a waiter that does not look again at the end of its slice (it hangs where the wake-up was lost).
#[test]
fn unget_with_a_waiter_asleep() {
    unget_beside_a_waiter("unget with a waiter asleep", |word| word & 1 << 31 != 0);
}

/// Caught: a reservation that the waiter does not claim at the end of its slice.
#[test]
fn unget_under_handoff() {
    unget_beside_a_waiter("unget under handoff", |word| word >> 30 == 3);
}

#[test]
fn forced_unget() {
    let prepare = |dir: &Dir| {
        let holder = dir.open();
        assert!(holder.get_lock(AT_ONCE, false, "works").unwrap());
        holder
    };
    let body = |dir: &Dir| -> Body {
        let lock = open_in_child(dir);
        Box::new(move || assert!(lock.unget_lock(true, "by force")))
    };
    kill_everywhere("forced unget", prepare, body, |dir, _, holder| {
        let was_forced = word(dir) & KIND == 0;
        assert_eq!(holder.i_have_the_lock(), !was_forced);
        assert_eq!(holder.unget_lock(false, ""), !was_forced);
        let lock = dir.open();
        assert!(!lock.try_lock("after").unwrap().recovered());
        let ending = lock.history()[1].ending();
        // Killed between the two, it left the ending open.
        assert!(if was_forced {
            [Some(Ending::Forced), None].contains(&ending)
        } else {
            ending == Some(Ending::Released)
        });
    });
}

/// A handle that was open before, and one that is opened after, must be on the same lock.
#[track_caller]
fn are_one_lock(before: &ResourceLock, after: &ResourceLock, corpse: &Corpse) {
    for (one, other) in [(before, after), (after, before)] {
        let guard = one.try_lock("one").unwrap_or_else(|error| panic!("after {} steps: {error}", corpse.steps));
        assert!(matches!(other.try_lock("other"), Err(LockError::TimedOut(_))), "two holders after {}", corpse.steps);
        assert!(guard.release());
    }
}

/// Caught: a removal that unlinks before it retires (two locks).
#[test]
fn remove() {
    let body = |dir: &Dir| -> Body {
        let lock = open_in_child(dir);
        Box::new(move || lock.remove(false).unwrap())
    };
    kill_everywhere("remove", Dir::open, body, |dir, corpse, before| {
        are_one_lock(&dir.open(), before, corpse);
        assert_eq!(files(dir), ["resourcelock.it"]);
    });
}

/// Caught: a file that gets its name before it is complete; a temporary name that stays.
#[test]
fn open_that_makes_the_lock() {
    let body = |dir: &Dir| -> Body {
        let dir = dir.path("").to_str().unwrap().to_owned();
        Box::new(move || std::mem::forget(ResourceLock::options().dir(&dir).open("it").unwrap()))
    };
    kill_everywhere(
        "open that makes the lock",
        |_| {},
        body,
        |dir, corpse, ()| {
            assert!(files(dir).iter().all(|file| file == "resourcelock.it"), "litter: {:?}", files(dir));
            let lock = dir.open();
            assert_eq!((lock.is_locked(), lock.counters().grants), (false, 0), "after {} steps", corpse.steps);
            are_one_lock(&lock, &dir.open(), corpse);
        },
    );
}

#[test]
fn open_of_an_existing_lock() {
    let body = |dir: &Dir| -> Body {
        let dir = dir.path("").to_str().unwrap().to_owned();
        Box::new(move || std::mem::forget(ResourceLock::options().dir(&dir).open("it").unwrap()))
    };
    kill_everywhere("open of an existing lock", Dir::open, body, |dir, corpse, before| {
        assert!(!before.is_locked());
        are_one_lock(before, &dir.open(), corpse);
    });
}

/// A get that finds its record retired goes on with a new one.
#[test]
fn get_after_a_removal() {
    let body = |dir: &Dir| -> Body {
        let lock = open_in_child(dir);
        dir.open().remove(false).unwrap();
        Box::new(move || assert!(lock.get_lock(AT_ONCE, false, "on the new one").unwrap()))
    };
    kill_everywhere("get after a removal", Dir::open, body, |dir, corpse, before| {
        assert!(files(dir).iter().all(|file| file == "resourcelock.it"), "litter: {:?}", files(dir));
        let after = dir.open();
        let held = is_held_by(word(dir), corpse);
        assert_eq!(after.try_lock("after").unwrap().recovered(), held);
        are_one_lock(before, &after, corpse);
        assert_eq!(after.last_grant().map(|grant| grant.kind()), Some(Kind::Process));
    });
}

fn files(dir: &Dir) -> Vec<String> {
    let entries = fs::read_dir(dir.path("")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}
