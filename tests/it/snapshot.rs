//! Looking at a lock without taking part: what a look says, and that it leaves no trace.
//!
//! Seen to fail with a look that opens the lock as a participant does, and with an `unget_grant` that compares the word
//! alone. What is forgotten of a copy that was taken while somebody wrote is tested in `record.rs`: a copy takes less time
//! than a grant, so that it cannot be provoked from here.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use resourcelock::{Ending, Error, Kind, NotALock, Status, Timeout};

use crate::support::{AT_ONCE, Child, Dir, LONG, wait_until};

#[test]
fn a_look_says_who_holds_and_whether_that_lives() {
    let dir = Dir::new();
    assert!(matches!(dir.options().inspect("it"), Err(Error::NotFound)));
    let lock = dir.open();
    let look = || dir.options().inspect("it").unwrap();
    assert_eq!((look().status(), look().pid(), look().is_locked()), (Status::Free, None, false));
    assert!(look().last_grant().is_none() && look().holder().is_none() && look().held_for().is_none());

    let guard = lock.lock(AT_ONCE, "at work").unwrap();
    let snapshot = look();
    assert_eq!(snapshot.status(), Status::Held(Kind::Process));
    assert_eq!((snapshot.pid(), snapshot.is_locked()), (Some(std::process::id()), true));
    assert_eq!(snapshot.holder().unwrap().info(), "at work");
    assert!(snapshot.held_for().is_some());
    assert!(!snapshot.has_waiters() && !snapshot.wants_handoff());
    drop(guard);
    // The snapshot stays as it was.
    assert_eq!((snapshot.status(), look().status()), (Status::Held(Kind::Process), Status::Free));

    let holder = Child::holder(&dir, "will die");
    holder.kill();
    let snapshot = look();
    assert_eq!((snapshot.status(), snapshot.is_locked()), (Status::HolderDied, true));
    assert_eq!((snapshot.pid(), snapshot.holder().unwrap().info()), (Some(holder.pid as u32), "will die"));
    // Told, and not yet recovered.
    assert_eq!(look().counters().recoveries, 0);

    assert!(lock.get_lock(AT_ONCE, false, "stays").unwrap() && lock.detach());
    assert_eq!(look().status(), Status::Held(Kind::Detached));
    let history: Vec<_> = look().history().iter().map(|grant| (grant.info().to_owned(), grant.ending())).collect();
    let expected = [("stays", None), ("will die", Some(Ending::Recovered)), ("at work", Some(Ending::Released))];
    assert_eq!(history, expected.map(|(info, ending)| (info.to_owned(), ending)));
    let counters = look().counters();
    assert_eq!((counters.grants, counters.recoveries), (3, 1));
}

#[test]
fn a_look_tells_of_those_who_wait() {
    let dir = Dir::new();
    let lock = dir.open();
    let guard = lock.lock(AT_ONCE, "").unwrap();
    let waiter = Child::fork(|_| drop(dir.open().lock(LONG, "").unwrap()));
    waiter.waits();
    // After a millisecond it asks for the next release.
    wait_until("the waiter asks", || dir.options().inspect("it").unwrap().wants_handoff());
    assert!(dir.options().inspect("it").unwrap().has_waiters());
    drop(guard);
    waiter.succeeds();
}

/// Another program may have the right that removing takes, and never give it back.
#[test]
fn a_look_changes_nothing_and_waits_for_nobody() {
    let dir = Dir::new();
    let lock = dir.open();
    drop(lock.lock(AT_ONCE, "before").unwrap());
    let file = File::options().read(true).write(true).open(dir.lock_file()).unwrap();
    // SAFETY: a descriptor of ours.
    assert_eq!(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) }, 0);
    // Retired, as a remover leaves it that dies half way; an open would bring it back.
    file.write_all_at(&0x003f_ffff_u32.to_ne_bytes(), 64).unwrap();
    let (before, began) = (fs::read(dir.lock_file()).unwrap(), Instant::now());
    let snapshot = dir.options().inspect("it").unwrap();
    assert_eq!((snapshot.status(), snapshot.is_locked()), (Status::Retired, false));
    assert!(snapshot.last_grant().is_none() && snapshot.history().is_empty());
    assert_eq!(snapshot.counters(), Default::default());
    assert!(dir.options().wait_until_free("it", LONG).unwrap());
    assert!(began.elapsed().as_millis() < 900, "it waited for the right");
    assert_eq!(fs::read(dir.lock_file()).unwrap(), before);
    drop(file);
}

#[test]
fn a_word_that_nobody_writes_is_told() {
    let dir = Dir::new();
    drop(dir.open());
    let file = File::options().write(true).open(dir.lock_file()).unwrap();
    file.write_all_at(&1_u32.to_ne_bytes(), 64).unwrap();
    let snapshot = dir.options().inspect("it").unwrap();
    assert_eq!((snapshot.status(), snapshot.is_locked(), snapshot.pid()), (Status::Corrupt, true, None));
    assert_eq!(dir.options().wait_until_free("it", LONG), Err(Error::Corrupt));
    file.set_len(4095).unwrap();
    assert!(matches!(dir.options().inspect("it"), Err(Error::NotALock(NotALock::WrongSize(4095)))));
}

#[test]
fn waiting_without_taking_ends_when_the_lock_is_free() {
    let dir = Dir::new();
    assert_eq!(dir.options().wait_until_free("it", AT_ONCE), Ok(true), "there is none");
    assert!(!dir.lock_file().exists());
    let mut holder = Child::holder(&dir, "");
    let began = Instant::now();
    assert_eq!(dir.options().wait_until_free("it", Timeout::from_millis(30)), Ok(false));
    assert!(began.elapsed().as_millis() >= 30);
    assert_eq!(dir.options().wait_until_free("it", AT_ONCE), Ok(false));
    let mut waiter = Child::fork(|line| {
        line.say("waits");
        assert_eq!(dir.options().wait_until_free("it", LONG), Ok(true));
        assert!(!dir.open().is_locked());
    });
    waiter.line.hear("waits");
    holder.line.say("let go");
    waiter.succeeds();
    holder.succeeds();

    let holder = Child::holder(&dir, "");
    holder.kill();
    assert_eq!(dir.options().wait_until_free("it", AT_ONCE), Ok(true), "the holder is dead");
    // Not taken, and not recovered.
    assert_eq!(dir.options().inspect("it").unwrap().status(), Status::HolderDied);
}

#[test]
fn a_parent_lets_go_for_its_child_and_for_nobody_else() {
    let dir = Dir::new();
    let lock = dir.open();
    let child = Child::holder(&dir, "child");
    let grant = lock.holder().unwrap();
    child.kill();
    assert!(lock.unget_grant(&grant, "for the child"));
    assert!(!lock.unget_grant(&grant, "again"));
    let history = lock.history();
    assert_eq!((history[0].info(), history[0].ending()), ("child", Some(Ending::Released)));
    assert_eq!((lock.counters().forced, lock.counters().recoveries), (0, 0));

    // 64 grants later the word of a hold is the same.
    let grants: Vec<_> = (0..65)
        .map(|_| {
            let guard = lock.lock(AT_ONCE, "").unwrap();
            let grant = lock.holder().unwrap();
            drop(guard);
            grant
        })
        .collect();
    let guard = lock.lock(AT_ONCE, "third party").unwrap();
    for grant in &grants {
        assert!(!lock.unget_grant(grant, ""));
    }
    assert!(guard.is_held());
}
