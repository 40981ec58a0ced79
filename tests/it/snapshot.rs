//! Looking at a lock without taking part: what a look reports, and that it changes nothing.
//!
//! Seen to fail with a look that opens the lock as a participant does, and with a `release_grant` that compares only the
//! word. Torn reads are tested in `record/copy.rs`: a copy takes less time than a grant, so they cannot be provoked here.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use resourcelock::{Ending, Error, Kind, NotALock, Previous, Status, Timeout, Waiters};

use crate::support::{AT_ONCE, Child, Dir, End, LONG, wait_until};

#[test]
fn a_look_names_the_holder_and_whether_it_lives() {
    let dir = Dir::new();
    assert!(matches!(dir.options().inspect("it"), Err(Error::NotFound)));
    let lock = dir.open();
    let look = || dir.options().inspect("it").unwrap();
    assert_eq!((look().status(), look().seat(), look().is_locked()), (Status::Free, None, false));
    assert!(look().last_grant().is_none() && look().holder().is_none() && look().held_for().is_none());

    let guard = lock.lock(AT_ONCE, "at work").unwrap();
    let snapshot = look();
    assert_eq!(snapshot.status(), Status::Held(Kind::Process));
    let holder = snapshot.holder().unwrap();
    assert_eq!((snapshot.seat(), snapshot.is_locked()), (Some(holder.seat()), true));
    assert_eq!((holder.pid(), holder.info()), (std::process::id(), "at work"));
    assert!(snapshot.held_for().is_some());
    assert!(!snapshot.has_waiters() && !snapshot.wants_handoff());
    drop(guard);
    // The snapshot stays as it was.
    assert_eq!((snapshot.status(), look().status()), (Status::Held(Kind::Process), Status::Free));

    let holder = Child::holder(&dir, "will die");
    holder.kill();
    let snapshot = look();
    assert_eq!((snapshot.status(), snapshot.is_locked()), (Status::HolderDied, true));
    let dead = snapshot.holder().unwrap();
    assert_eq!((dead.pid(), dead.info(), Some(dead.seat())), (holder.pid as u32, "will die", snapshot.seat()));
    // Reported, and not yet recovered.
    assert_eq!(look().counters().recoveries, 0);

    assert!(lock.lock(AT_ONCE, "stays").unwrap().detach());
    assert_eq!(look().status(), Status::Held(Kind::Detached));
    let history: Vec<_> = look().history().iter().map(|grant| (grant.info().to_owned(), grant.ending())).collect();
    let expected = [("stays", None), ("will die", Some(Ending::Died)), ("at work", Some(Ending::Released))];
    assert_eq!(history, expected.map(|(info, ending)| (info.to_owned(), ending)));
    let counters = look().counters();
    assert_eq!((counters.grants, counters.recoveries), (3, 1));
}

#[test]
fn a_look_reports_the_waiters() {
    let dir = Dir::new();
    let lock = dir.open();
    let guard = lock.lock(AT_ONCE, "").unwrap();
    let waiter = Child::fork(|_| drop(dir.open().lock(LONG, "").unwrap()));
    waiter.waits();
    // After a millisecond it requests the next release.
    wait_until("the waiter requests it", || dir.options().inspect("it").unwrap().wants_handoff());
    assert!(dir.options().inspect("it").unwrap().has_waiters());
    drop(guard);
    waiter.succeeds();
}

/// A waiter names itself in the record after its first slice. A slot that a dead waiter has left is not shown.
#[test]
fn live_waiters_are_named_and_dead_ones_are_not() {
    let dir = Dir::new();
    let lock = dir.open();
    assert!(lock.waiters().is_empty() && dir.options().inspect("it").unwrap().waiters().is_empty());
    let guard = lock.lock(AT_ONCE, "").unwrap();
    let mut waiters = [(), ()].map(|()| Child::fork(|_| drop(dir.open().lock(LONG, "").unwrap())));
    let mut pids = waiters.each_ref().map(|waiter| waiter.pid as u32);
    pids.sort_unstable();
    let named = |waiters: &Waiters| {
        let mut pids: Vec<_> = waiters.iter().map(|waiter| waiter.pid).collect();
        pids.sort_unstable();
        pids
    };
    wait_until("both are named", || named(&lock.waiters()) == pids);
    let snapshot = dir.options().inspect("it").unwrap();
    assert_eq!(named(snapshot.waiters()), pids);
    let (one, two) = (snapshot.waiters()[0], snapshot.waiters()[1]);
    assert!(one.seat != two.seat && one.waited >= Duration::from_millis(1));
    assert_eq!(one.thread, cfg!(feature = "std").then_some(one.pid));
    assert!(!snapshot.waiters().is_full());

    waiters[0].kill();
    let left = [waiters[1].pid as u32];
    assert_eq!(named(&lock.waiters()), left);
    assert_eq!(named(dir.options().inspect("it").unwrap().waiters()), left);
    drop(guard);
    assert_eq!(waiters[1].end(), End::Exited(0));
    assert!(lock.waiters().is_empty());
}

/// There are eight slots. Those of dead waiters are reused when they are needed.
#[test]
fn the_slots_of_dead_waiters_are_reused() {
    let dir = Dir::new();
    let lock = dir.open();
    let guard = lock.lock(AT_ONCE, "").unwrap();
    let wait = |_: &mut _| drop(dir.open().lock(LONG, "").unwrap());
    let dead: Vec<_> = (0..8).map(|_| Child::fork(wait)).collect();
    wait_until("all slots are in use", || lock.waiters().is_full());
    dead.iter().for_each(Child::kill);
    assert!(lock.waiters().is_empty());
    let waiter = Child::fork(wait);
    wait_until("the newcomer has a slot", || lock.waiters().iter().any(|seen| seen.pid == waiter.pid as u32));
    drop(guard);
    waiter.succeeds();
}

/// Another program may have the lock that a removal takes, and never release it.
#[test]
fn a_look_changes_nothing_and_waits_for_nobody() {
    let dir = Dir::new();
    let lock = dir.open();
    drop(lock.lock(AT_ONCE, "before").unwrap());
    let file = File::options().read(true).write(true).open(dir.lock_file()).unwrap();
    // SAFETY: all zeros is valid for the structure.
    let mut removal: libc::flock = unsafe { std::mem::zeroed() };
    (removal.l_type, removal.l_start, removal.l_len) = (libc::F_WRLCK as i16, 65_535, 1);
    // SAFETY: a descriptor of this process, and a structure of the kind that the command reads.
    assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const removal) }, 0);
    // Retired, as a remover that dies half way leaves it; an open would revive it.
    file.write_all_at(&0x003f_ffff_u32.to_ne_bytes(), 64).unwrap();
    let (before, began) = (fs::read(dir.lock_file()).unwrap(), Instant::now());
    let snapshot = dir.options().inspect("it").unwrap();
    assert_eq!((snapshot.status(), snapshot.is_locked()), (Status::Retired, false));
    assert!(snapshot.last_grant().is_none() && snapshot.history().is_empty());
    assert_eq!(snapshot.counters(), Default::default());
    assert!(dir.options().wait_until_free("it", LONG).unwrap());
    assert!(began.elapsed().as_millis() < 900, "it waited for the removal lock");
    assert_eq!(fs::read(dir.lock_file()).unwrap(), before);
    drop(file);
}

#[test]
fn a_word_that_no_program_writes_is_reported_as_corrupt() {
    let dir = Dir::new();
    drop(dir.open());
    let file = File::options().write(true).open(dir.lock_file()).unwrap();
    file.write_all_at(&1_u32.to_ne_bytes(), 64).unwrap();
    let snapshot = dir.options().inspect("it").unwrap();
    assert_eq!((snapshot.status(), snapshot.is_locked(), snapshot.seat()), (Status::Corrupt, true, None));
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
        assert!(!dir.open().is_held());
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
fn a_parent_releases_for_its_child_and_for_no_other_holder() {
    let dir = Dir::new();
    let lock = dir.open();
    let child = Child::holder(&dir, "child");
    let grant = lock.holder().unwrap();
    child.kill();
    assert!(lock.release_grant(&grant));
    assert!(!lock.release_grant(&grant), "a second time");
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
        assert!(!lock.release_grant(grant));
    }
    assert!(guard.is_held());
}

/// A parent that has reaped its child knows how it ended.
#[test]
fn a_death_that_a_parent_reports_reaches_the_next_holder() {
    let dir = Dir::new();
    let lock = dir.open();
    let mut child = Child::holder(&dir, "child");
    let grant = lock.holder().unwrap();
    child.signal(libc::SIGKILL);
    assert_eq!(child.end(), End::Killed(libc::SIGKILL));
    assert!(lock.release_grant_of_dead(&grant, Some(libc::SIGKILL as u32)));
    let newest = lock.last_grant().unwrap();
    assert_eq!((newest.ending(), newest.wait_status()), (Some(Ending::Died), Some(libc::SIGKILL as u32)));
    let guard = lock.try_lock("next").unwrap();
    assert!(matches!(guard.previous(), Previous::Died(Some(dead)) if dead.number() == grant.number()));
    drop(guard);
    assert!(!lock.try_lock("").unwrap().recovered());
}
