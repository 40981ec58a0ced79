//! A forked child is another process: it neither has nor gives back what its parent got.
//!
//! Seen to fail with the page of the process's identity not wiped by the fork.

use resourcelock::LockError;

use crate::support::{AT_ONCE, Child, Dir, End, LONG, dispositions, is_fresh};

#[test]
fn a_forked_child_neither_holds_nor_releases_and_can_get_itself() {
    let dir = Dir::new();
    let lock = dir.open();
    let guard = lock.lock(LONG, "the parent's").unwrap();
    let mut child = Child::fork(|line| {
        assert!(!lock.i_have_the_lock());
        assert!(!lock.unget_lock(false, "in the child"));
        assert!(!lock.set_lock_info("in the child"));
        assert!(!lock.detach());
        assert!(!lock.get_lock(AT_ONCE, true, "").unwrap(), "the child does not hold");
        match lock.try_lock("") {
            Err(LockError::TimedOut(Some(owner))) => assert_ne!(owner.pid(), std::process::id()),
            outcome => panic!("{outcome:?}"),
        }
        line.say("knows");
        line.hear("released");
        let guard = lock.lock(LONG, "the child's").unwrap();
        assert!(lock.i_have_the_lock());
        assert_eq!(lock.holder().unwrap().pid(), std::process::id());
        line.say("holds");
        line.hear("go on");
        assert!(guard.release());
    });
    child.line.hear("knows");
    assert!(guard.is_held() && lock.i_have_the_lock());
    assert!(guard.release());
    child.line.say("released");
    child.line.hear("holds");
    assert_eq!(lock.holder().unwrap().pid(), child.pid as u32);
    assert!(!lock.i_have_the_lock());
    assert!(!lock.unget_lock(false, "in the parent"));
    child.line.say("go on");
    child.succeeds();
}

#[test]
fn guards_and_handles_that_a_child_drops_release_nothing() {
    let dir = Dir::new();
    let lock = Box::leak(Box::new(dir.open()));
    let guard = lock.lock(LONG, "the parent's").unwrap();
    // SAFETY: the child gets a copy of the memory of its own, so what it drops is dropped once there.
    let copied_guard = unsafe { std::ptr::read(&guard) };
    // SAFETY: as above.
    let copied_lock = unsafe { std::ptr::read(lock) };
    let (copied_guard, copied_lock) =
        (std::mem::ManuallyDrop::new(copied_guard), std::mem::ManuallyDrop::new(copied_lock));
    Child::fork(|_| {
        drop(std::mem::ManuallyDrop::into_inner(copied_guard));
        drop(std::mem::ManuallyDrop::into_inner(copied_lock));
    })
    .succeeds();
    assert!(guard.is_held());
    assert_eq!(dir.open().holder().unwrap().info(), "the parent's");
    assert!(guard.release());
}

#[test]
fn a_grandchild_is_not_its_grandparent() {
    let dir = Dir::new();
    let lock = dir.open();
    let guard = lock.lock(LONG, "the eldest's").unwrap();
    Child::fork(|_| {
        Child::fork(|_| {
            assert!(!lock.i_have_the_lock());
            assert!(!lock.unget_lock(false, ""));
        })
        .succeeds();
    })
    .succeeds();
    assert!(guard.release());
}

#[test]
fn a_child_whose_parent_has_died_holding_recovers() {
    let dir = Dir::new();
    let mut parent = Child::fork(|line| {
        let lock = dir.open();
        std::mem::forget(lock.lock(LONG, "the parent's").unwrap());
        let mut child = Child::fork(|child_line| {
            child_line.say("started");
            let guard = lock.lock(LONG, "the child's").unwrap();
            assert_eq!(guard.recovered_from().unwrap().info(), "the parent's");
            line.say("recovered");
        });
        child.line.hear("started");
        child.waits();
        // SAFETY: a signal to this very process.
        unsafe { libc::raise(libc::SIGKILL) };
    });
    parent.line.hear("recovered");
}

/// SIGALRM is what ends a child that hangs. Where it was ignored, for instance, nothing did.
#[test]
fn forked_children_have_the_default_dispositions() {
    if !is_fresh("fork::forked_children_have_the_default_dispositions", dispositions::ignore_and_block) {
        return;
    }
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM, libc::SIGALRM, libc::SIGUSR1] {
        let mut child = Child::fork(|_| {
            // SAFETY: a signal to this very process.
            unsafe { libc::raise(signal) };
        });
        assert_eq!(child.end(), End::Killed(signal));
    }
}
