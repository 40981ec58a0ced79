//! Ungetting by force: whoever was forced off finds out, and can't do harm.
//!
//! Seen to fail with a handle that does not compare its grant with the word, and with tickets of the word's six bits of generation alone.

use resourcelock::{Ending, LockError};

use crate::support::{AT_ONCE, Child, Dir, LONG};

#[test]
fn who_was_forced_off_cannot_release_a_third_party() {
    let dir = Dir::new();
    let first = dir.open();
    assert!(first.get_lock(LONG, false, "first").unwrap());
    assert!(dir.open().unget_lock(true, "somebody else"));
    assert!(!first.i_have_the_lock());
    let third = Child::holder(&dir, "third");
    assert!(!first.i_have_the_lock());
    assert!(!first.unget_lock(false, "at its end"));
    assert!(!first.set_lock_info("not mine to say"));
    assert!(!first.detach());
    assert!(!first.get_lock(AT_ONCE, true, "").unwrap(), "same_process_ok is for a handle that holds");
    assert_eq!(first.holder().unwrap().info(), "third");
    drop(first);
    assert_eq!(dir.open().holder().unwrap().pid(), third.pid as u32);
    third.lets_go();
}

/// The word has 64 generations; a handle must not be fooled when they have gone round.
#[test]
fn a_handle_that_was_forced_off_is_not_fooled_by_a_later_grant_of_its_process() {
    for grants in [1, 2, 63, 64, 65, 128, 1 << 16] {
        let dir = Dir::new();
        let (first, other) = (dir.open(), dir.open());
        let guard = first.lock(LONG, "first").unwrap();
        assert!(other.unget_lock(true, ""));
        for _ in 1..grants {
            drop(other.lock(AT_ONCE, "").unwrap());
        }
        let last = other.lock(AT_ONCE, "last").unwrap();
        assert!(!first.i_have_the_lock() && !guard.is_held(), "after {grants} grants");
        assert!(!first.unget_lock(false, "") && !guard.release(), "after {grants} grants");
        assert!(last.is_held());
    }
}

#[test]
fn forcing_wakes_those_who_wait() {
    let dir = Dir::new();
    let lock = dir.open();
    std::mem::forget(lock.lock(LONG, "for ever").unwrap());
    assert!(lock.detach());
    let mut waiter = Child::fork(|line| {
        let lock = dir.open();
        line.say("asks");
        let guard = lock.lock(LONG, "waited").unwrap();
        assert!(!guard.recovered());
    });
    waiter.line.hear("asks");
    waiter.waits();
    assert!(dir.open().unget_lock(true, ""));
    waiter.succeeds();
    let history = lock.history();
    assert_eq!(
        history.iter().map(|grant| grant.ending()).collect::<Vec<_>>(),
        [Some(Ending::Released), Some(Ending::Forced)]
    );
}

/// In the reference two of them at once make the lock one that two may hold.
#[test]
fn many_that_force_at_once_make_one_lock_free_once() {
    let dir = Dir::new();
    let lock = dir.open();
    for round in 0..100 {
        assert!(lock.get_lock(AT_ONCE, false, "").unwrap(), "round {round}");
        let force = |line: &mut crate::support::Line| {
            let lock = dir.open();
            line.say("ready");
            line.hear("go");
            line.say(if lock.unget_lock(true, "") { "forced" } else { "extraneous" });
        };
        let mut children = [Child::fork(force), Child::fork(force), Child::fork(force)];
        children.iter_mut().for_each(|child| child.line.hear("ready"));
        children.iter_mut().for_each(|child| child.line.say("go"));
        let mut said = children.each_mut().map(|child| child.line.next());
        said.sort();
        assert_eq!(said, ["extraneous", "extraneous", "forced"]);
        children.into_iter().for_each(Child::succeeds);
        let first = lock.try_lock("one").unwrap();
        assert!(matches!(dir.open().try_lock("two"), Err(LockError::TimedOut(Some(_)))));
        drop(first);
    }
    assert_eq!(lock.counters().forced, 100);
}
