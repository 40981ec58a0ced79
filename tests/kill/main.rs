//! Killed at every instruction: an operation is single-stepped in a child, which is killed after 0, 1, 2, … steps, up to
//! the operation's end. Whatever it leaves behind, the other processes continue.
//!
//! ptrace(2) steps over a system call as over any instruction, so a child is killed before or after a system call and never
//! inside. In an optimised build (`ci/kill`) every position is tried; in a debug build, whose instructions are many times
//! as many, some positions, evenly spread.
//!
//! Each test names the faults that it was seen to catch when they were put into `src`.
#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod stopped;
#[path = "../it/support.rs"]
mod support;
mod tracee;

use std::cell::{Cell, RefCell};
use std::fs;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use resourcelock::{Ending, Error, Grant, Kind, LockError, Previous, ResourceLock, Status};

use support::{AT_ONCE, Child, Dir, LONG, Shared};
use tracee::{Body, Corpse, kill_everywhere};

const KIND: u32 = 3 << 28;
const PROCESS: u32 = 1 << 28;
const DETACHED: u32 = 2 << 28;
/// All but the two bits that waiters set.
const IDENTITY: u32 = u32::MAX >> 2;

/// The byte of seat 0, which nobody takes.
const SEATS_AT: i64 = 65_536;

/// The lock word, as it is in the file.
fn word(dir: &Dir) -> u32 {
    let bytes = fs::read(dir.lock_file()).unwrap();
    u32::from_ne_bytes(bytes[64..68].try_into().unwrap())
}

/// Whether the lock is held by a process that has died, as it is while the dead one is the only process that can hold.
#[track_caller]
fn is_held_by_the_dead(dir: &Dir) -> bool {
    let is_held = word(dir) & KIND == PROCESS;
    let status = dir.options().inspect("it").unwrap().status();
    assert_eq!(status == Status::HolderDied, is_held, "{status:?}");
    is_held
}

/// Whether a seat from this number on is locked.
fn is_taken_from(dir: &Dir, seat: u32) -> bool {
    let file = fs::File::open(dir.lock_file()).unwrap();
    // SAFETY: all zeros is valid for the structure.
    let mut flock: libc::flock64 = unsafe { std::mem::zeroed() };
    // A length of zero: to the end of all files.
    (flock.l_type, flock.l_start) = (libc::F_WRLCK as i16, SEATS_AT + i64::from(seat));
    // SAFETY: a descriptor of this process, and a structure that the command reads and fills.
    assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut flock) }, 0);
    i32::from(flock.l_type) != libc::F_UNLCK
}

/// What must be so after any death of a process that was to use the lock: the lock is granted at once; one recovery is
/// reported if the dead process held, and none otherwise; the history consists of whole grants.
#[track_caller]
fn continues(dir: &Dir, corpse: &Corpse, infos: &[&str]) {
    let held = is_held_by_the_dead(dir);
    let lock = dir.open();
    assert!(lock.last_grant().is_none_or(|grant| infos.contains(&grant.info())), "{:?}", lock.last_grant());
    let guard = lock.try_lock("after").unwrap_or_else(|error| panic!("after {} steps: {error}", corpse.steps));
    match guard.previous() {
        Previous::Died(grant) => {
            assert!(held, "after {} steps", corpse.steps);
            // Killed between its grant and its entry, it was not named.
            assert!(grant.is_none_or(|grant: Grant| {
                grant.pid() == corpse.pid as u32
                    && infos.contains(&grant.info())
                    && grant.ending() == Some(Ending::Died)
            }));
        }
        previous => assert!(!held && !previous.recovered(), "after {} steps: {previous:?}", corpse.steps),
    }
    assert!(guard.release());
    assert!(!lock.try_lock("after").unwrap().recovered(), "reported once");
    assert_eq!(lock.counters().recoveries, u32::from(held));
    for grant in &lock.history() {
        assert!(infos.contains(&grant.info()) || grant.info() == "after", "{grant:?}");
        assert!(grant.ending().is_some(), "{grant:?}");
    }
}

/// A handle in a process that is to die: it must not be dropped by the process that it is a copy of.
fn open_in_child(dir: &Dir) -> &'static ResourceLock {
    Box::leak(Box::new(dir.open()))
}

/// Caught: an entry whose stamp comes first (a mix of two grants); a grant that is published before it is granted.
#[test]
fn acquire() {
    let prepare = |dir: &Dir| drop(dir.open().try_lock(&"old".repeat(40)).unwrap());
    let body = |dir: &Dir| -> Body {
        let lock = open_in_child(dir);
        let info = "new".repeat(40);
        Box::new(move || lock.lock(AT_ONCE, &info).unwrap().keep())
    };
    kill_everywhere("acquire", prepare, body, |dir, corpse, ()| {
        continues(dir, corpse, &[&"old".repeat(40), &"new".repeat(40)]);
    });
}

/// Its successor must reset the resource and does not know who died. The front page's example used to reset only if
/// `recovered_from` named the dead holder, so it left the bus of this one as it was.
#[test]
fn a_holder_killed_before_it_publishes_is_recovered_without_a_grant() {
    let dir = Dir::new();
    let body = |dir: &Dir| -> Body {
        let lock = open_in_child(dir);
        Box::new(move || lock.lock(AT_ONCE, "never published").unwrap().keep())
    };
    let acquired = || word(&dir) & KIND == PROCESS;
    let Some(_corpse) = tracee::kill_as_soon_as(&dir, body, acquired) else {
        return support::pass_over("killed before publishing", "ptrace is not permitted");
    };
    assert!(is_held_by_the_dead(&dir));
    let lock = dir.open();
    let guard = lock.try_lock("after").unwrap();
    assert!(guard.recovered());
    assert!(matches!(guard.previous(), Previous::Died(None)) && matches!(lock.previous(), Previous::Died(None)));
    assert!(guard.recovered_from().is_none());
}

/// Examines the dead holder's seat, pins it, takes over, and unpins. Caught: a takeover in two steps (freed, then granted).
#[test]
fn acquire_that_recovers() {
    let prepare = |dir: &Dir| {
        let first = Child::holder(dir, "died first");
        first.kill();
        word(dir)
    };
    let body = |dir: &Dir| -> Body {
        let lock = open_in_child(dir);
        Box::new(move || lock.lock(AT_ONCE, "died second").unwrap().keep())
    };
    kill_everywhere("acquire that recovers", prepare, body, |dir, corpse, &first_word| {
        assert!(is_held_by_the_dead(dir));
        let was_taken_over = word(dir) & IDENTITY != first_word & IDENTITY;
        let lock = dir.open();
        let guard = lock.try_lock("after").unwrap();
        match guard.previous() {
            Previous::Died(Some(dead)) if was_taken_over => {
                assert_eq!((dead.info(), dead.pid()), ("died second", corpse.pid as u32));
            }
            Previous::Died(None) if was_taken_over => {}
            Previous::Died(Some(dead)) => assert_eq!(dead.info(), "died first"),
            previous => panic!("after {} steps: {previous:?}", corpse.steps),
        }
        drop(guard);
        assert!(!lock.try_lock("after").unwrap().recovered());
    });
}

/// A handle that was opened before a fork takes its seat when the child first uses it.
#[test]
fn first_acquire_in_a_forked_child() {
    let parents = RefCell::new(None);
    let prepare = |dir: &Dir| drop(parents.replace(Some(dir.open())));
    let body = |_: &Dir| -> Body {
        let parents = parents.borrow();
        let lock: *const ResourceLock = parents.as_ref().unwrap();
        // SAFETY: in the child nobody drops it; and the child's operation ends before the child does.
        let lock = unsafe { &*lock };
        Box::new(move || lock.lock(AT_ONCE, "the child's").unwrap().keep())
    };
    kill_everywhere("first acquire in a forked child", prepare, body, |dir, corpse, ()| {
        assert!(!is_taken_from(dir, 2), "the parent's is the only seat");
        continues(dir, corpse, &["the child's"]);
        let parents = parents.borrow();
        let lock = parents.as_ref().unwrap();
        assert!(!lock.holds());
        assert!(!lock.try_lock("").unwrap().recovered());
        assert_eq!(lock.last_grant().unwrap().seat(), 1, "the parent has kept its own");
    });
}

/// Caught: one amendment instead of two, and a counter that moves before the text (a mix of two infos).
#[test]
fn set_info() {
    let infos = ["a".repeat(120), "b".repeat(120), "c".repeat(120)];
    let body = |dir: &Dir| -> Body {
        let lock = open_in_child(dir);
        lock.lock(AT_ONCE, &infos[0]).unwrap().keep();
        let [_, second, third] = infos.clone();
        assert!(lock.set_info(&second));
        Box::new(move || assert!(lock.set_info(&third)))
    };
    kill_everywhere(
        "set_info",
        |_| {},
        body,
        |dir, corpse, ()| {
            assert!(is_held_by_the_dead(dir));
            continues(dir, corpse, &[&infos[1], &infos[2]]);
        },
    );
}

/// Caught: an ending that is stamped after the release, into a later grant's entry (the history).
#[test]
fn release() {
    let body = |dir: &Dir| -> Body {
        let lock = open_in_child(dir);
        lock.lock(AT_ONCE, "works").unwrap().keep();
        Box::new(move || assert!(lock.release()))
    };
    kill_everywhere("release", |_| {}, body, |dir, corpse, ()| continues(dir, corpse, &["works"]));
}

/// Releases the hold first and gives up the seat second.
#[test]
fn close_of_a_holding_handle() {
    let body = |dir: &Dir| -> Body {
        let lock = dir.open();
        lock.lock(AT_ONCE, "works").unwrap().keep();
        Box::new(move || drop(lock))
    };
    kill_everywhere(
        "close of a holding handle",
        |_| {},
        body,
        |dir, corpse, ()| {
            assert!(!is_taken_from(dir, 0));
            continues(dir, corpse, &["works"]);
        },
    );
}

#[test]
fn close_of_an_idle_handle() {
    let body = |dir: &Dir| -> Body {
        let lock = dir.open();
        Box::new(move || drop(lock))
    };
    kill_everywhere("close of an idle handle", Dir::open, body, |dir, corpse, before| {
        assert!(!is_taken_from(dir, 2));
        assert!(!is_held_by_the_dead(dir));
        are_one_lock(before, &dir.open(), corpse);
    });
}

#[test]
fn detach() {
    let body = |dir: &Dir| -> Body {
        let lock = open_in_child(dir);
        lock.lock(AT_ONCE, "works").unwrap().keep();
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
                assert!(lock.force_release());
                assert!(!lock.try_lock("").unwrap().recovered());
            } else {
                assert_eq!(word(dir) & KIND, PROCESS);
                continues(dir, corpse, &["works"]);
            }
        },
    );
}

/// A process waits while the holder releases and is killed on the way.
fn release_with_a_waiter(name: &str, is_ready: fn(u32) -> bool) {
    let body = |dir: &Dir| -> Body {
        let lock = open_in_child(dir);
        lock.lock(AT_ONCE, "works").unwrap().keep();
        let mut waiter = Child::fork(|line| {
            let lock = dir.open();
            line.say("asks");
            let guard = lock.lock(LONG, "waited").unwrap();
            let recovered = guard.recovered();
            drop(guard);
            // For the history: the dead process cannot be asked.
            drop(lock.try_lock(if recovered { "recovered" } else { "no recovery" }).unwrap());
        });
        waiter.line.hear("asks");
        support::wait_until("the waiter is ready", || is_ready(word(dir)));
        waiter.waits();
        // It outlives this process, which is about to die.
        std::mem::forget(waiter);
        Box::new(move || assert!(lock.release()))
    };
    let mut longest = Duration::ZERO;
    kill_everywhere(
        name,
        |_| {},
        body,
        |dir, corpse, ()| {
            let killed = Instant::now();
            let lock = dir.open();
            let reports = |grant: &Grant| grant.ending().is_some() && grant.info().contains("recover");
            let outcome = loop {
                if let Some(grant) = lock.last_grant().filter(reports) {
                    break grant;
                }
                assert!(killed.elapsed() < support::PATIENCE, "it hangs after {} steps", corpse.steps);
                std::thread::yield_now();
            };
            longest = longest.max(killed.elapsed());
            let held = corpse.last_word & IDENTITY == corpse.first_word & IDENTITY;
            assert_eq!(outcome.info(), if held { "recovered" } else { "no recovery" }, "after {} steps", corpse.steps);
            assert_eq!(lock.counters().recoveries, u32::from(held));
            assert!(!lock.try_lock("after").unwrap().recovered());
        },
    );
    println!("{name}: the waiter had the lock at most {longest:?} after the kill");
}

/// Caught: a waiter that does not check the lock at the end of its slice (it hangs where the wake-up was lost).
#[test]
fn release_with_a_waiter_asleep() {
    release_with_a_waiter("release with a waiter asleep", |word| word & 1 << 31 != 0);
}

/// Caught: a reservation that the waiter does not claim at the end of its slice.
#[test]
fn release_under_handoff() {
    release_with_a_waiter("release under handoff", |word| word >> 30 == 3);
}

/// Caught: a force-release that leaves no fate in the word (the next holder does not learn of it).
#[test]
fn force_release() {
    let prepare = |dir: &Dir| {
        let holder = dir.open();
        holder.lock(AT_ONCE, "works").unwrap().keep();
        holder
    };
    let body = |dir: &Dir| -> Body {
        let lock = open_in_child(dir);
        Box::new(move || assert!(lock.force_release()))
    };
    kill_everywhere("force-release", prepare, body, |dir, _, holder| {
        let was_forced = word(dir) & KIND == 0;
        assert_eq!(holder.holds(), !was_forced);
        assert_eq!(holder.release(), !was_forced);
        let lock = dir.open();
        match lock.try_lock("after").unwrap().previous() {
            Previous::Forced(Some(grant)) => assert!(was_forced && grant.info() == "works"),
            previous => assert!(!was_forced && !previous.recovered(), "{previous:?}"),
        }
        assert!(!lock.try_lock("after").unwrap().recovered(), "reported once");
        let ending = lock.history()[2].ending();
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
        Box::new(move || drop(lock.remove(false).unwrap()))
    };
    kill_everywhere("remove", Dir::open, body, |dir, corpse, before| {
        are_one_lock(&dir.open(), before, corpse);
        assert_eq!(files(dir), ["resourcelock.it"]);
    });
}

/// The removal takes over from the dead holder, so it must report the death, or leave it to be reported by the next grant.
/// Only between the unlink and its return may a remover that is killed take the report with it: then the lock is a new one.
#[test]
fn remove_of_a_dead_holders_lock() {
    let shared_dir = Dir::new();
    let reported = Box::leak(Box::new(Shared::new(&shared_dir))).word(0);
    let prepare = |dir: &Dir| {
        reported.store(0, std::sync::atomic::Ordering::SeqCst);
        let before = dir.open();
        Child::holder(dir, "died").kill();
        before
    };
    let body = |dir: &Dir| -> Body {
        let lock = open_in_child(dir);
        Box::new(move || {
            let previous = lock.remove(false).unwrap();
            let is_right = matches!(&previous, Previous::Died(Some(dead)) if dead.info() == "died");
            reported.store(if is_right { 1 } else { 2 }, std::sync::atomic::Ordering::SeqCst);
        })
    };
    let taken_along = Cell::new(0);
    kill_everywhere("remove of a dead holder's lock", prepare, body, |dir, corpse, before| {
        let reported = reported.load(std::sync::atomic::Ordering::SeqCst);
        assert_ne!(reported, 2, "a wrong report");
        let was_unlinked = !dir.lock_file().exists();
        let after = dir.open();
        let guard = after.try_lock("after").unwrap();
        if was_unlinked {
            assert!(!guard.recovered(), "a new lock");
            taken_along.set(taken_along.get() + 1 - reported);
        } else {
            assert!(reported == 0 && guard.recovered(), "lost after {} steps", corpse.steps);
            assert!(matches!(guard.previous(), Previous::Died(_)));
        }
        drop(guard);
        assert!(!after.try_lock("after").unwrap().recovered(), "reported once");
        are_one_lock(before, &after, corpse);
    });
    println!("remove of a dead holder's lock: killed after the unlink and before its return: {}", taken_along.get());
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
            assert!(!dir.lock_file().exists() || !is_taken_from(dir, 0), "a seat that outlives its process");
            let lock = dir.open();
            assert_eq!((lock.is_held(), lock.counters().grants), (false, 0), "after {} steps", corpse.steps);
            are_one_lock(&lock, &dir.open(), corpse);
        },
    );
}

/// Takes a seat: opens, draws, locks, pins, closes, checks.
#[test]
fn open_of_an_existing_lock() {
    let body = |dir: &Dir| -> Body {
        let dir = dir.path("").to_str().unwrap().to_owned();
        Box::new(move || std::mem::forget(ResourceLock::options().dir(&dir).open("it").unwrap()))
    };
    kill_everywhere("open of an existing lock", Dir::open, body, |dir, corpse, before| {
        assert!(!before.is_held());
        assert!(!is_taken_from(dir, 2), "a seat that outlives its process");
        are_one_lock(before, &dir.open(), corpse);
    });
}

/// The seat that the counter draws is that of a dead holder, which the word names: it is skipped, and the death is still
/// reported. Caught: a seat that is taken though the word names it (the dead holder looks alive, and the lock is stuck).
#[test]
fn open_that_draws_the_seat_of_a_dead_holder() {
    let prepare = |dir: &Dir| {
        Child::holder(dir, "died").kill();
        let seat = dir.options().inspect("it").unwrap().seat().unwrap();
        set_next_seat(dir, seat);
        seat
    };
    let body = |dir: &Dir| -> Body {
        let dir = dir.path("").to_str().unwrap().to_owned();
        Box::new(move || std::mem::forget(ResourceLock::options().dir(&dir).open("it").unwrap()))
    };
    kill_everywhere("open that draws the seat of a dead holder", prepare, body, |dir, _, &seat| {
        assert!(is_held_by_the_dead(dir));
        let lock = dir.open();
        let guard = lock.try_lock("after").unwrap();
        assert_ne!(lock.holder().unwrap().seat(), seat);
        assert!(matches!(guard.previous(), Previous::Died(Some(dead)) if dead.info() == "died"));
    });
}

/// Has the next handle draw this seat.
fn set_next_seat(dir: &Dir, seat: u32) {
    use std::os::unix::fs::FileExt;
    let file = fs::OpenOptions::new().write(true).open(dir.lock_file()).unwrap();
    file.write_all_at(&(seat - 1).to_ne_bytes(), 64 + 36).unwrap();
}

/// An acquire that finds its record retired continues with a new one.
#[test]
fn acquire_after_a_removal() {
    let body = |dir: &Dir| -> Body {
        let lock = open_in_child(dir);
        dir.options().remove("it", false).unwrap();
        Box::new(move || lock.lock(AT_ONCE, "on the new one").unwrap().keep())
    };
    kill_everywhere("acquire after a removal", Dir::open, body, |dir, corpse, before| {
        assert!(files(dir).iter().all(|file| file == "resourcelock.it"), "litter: {:?}", files(dir));
        let held = match dir.options().inspect("it") {
            Ok(snapshot) => snapshot.status() == Status::HolderDied,
            Err(Error::NotFound) => false,
            Err(error) => panic!("{error}"),
        };
        let after = dir.open();
        assert_eq!(after.try_lock("after").unwrap().recovered(), held, "after {} steps", corpse.steps);
        are_one_lock(before, &after, corpse);
        assert_eq!(after.last_grant().map(|grant| grant.kind()), Some(Kind::Process));
    });
}

fn files(dir: &Dir) -> Vec<String> {
    let entries = fs::read_dir(dir.path("")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}
