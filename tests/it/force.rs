//! Force-release: a holder that was forced off finds out and cannot do harm, and the next holder learns of it.
//!
//! Seen to fail with a handle that does not compare its grant with the word, with a guard that compares only the word's six
//! bits of generation, and with a force-release that leaves no fate in the word.

use resourcelock::reference::Reference as _;
use resourcelock::{Ending, LockError, Previous};

use crate::support::{AT_ONCE, Child, Dir, LONG};

#[test]
fn a_holder_that_was_forced_off_cannot_release_the_hold_of_another() {
    let dir = Dir::new();
    let first = dir.open();
    first.lock(LONG, "first").unwrap().keep();
    assert!(dir.open().force_release());
    assert!(!first.holds());
    let third = Child::holder(&dir, "third");
    assert!(!first.holds());
    assert!(!first.release());
    assert!(!first.set_info("not mine to say"));
    assert!(!first.detach());
    assert!(!first.get_lock(AT_ONCE, true, "").unwrap(), "same_process_ok is for a handle that holds");
    assert_eq!(first.holder().unwrap().info(), "third");
    drop(first);
    assert_eq!(dir.open().holder().unwrap().pid(), third.pid as u32);
    third.lets_go();
}

/// The word has 64 generations; a handle must not take a later grant for its own when they have wrapped.
#[test]
fn a_handle_that_was_forced_off_is_not_confused_by_a_later_grant_to_its_process() {
    for grants in [1, 2, 63, 64, 65, 128, 1 << 16] {
        let dir = Dir::new();
        let (first, other) = (dir.open(), dir.open());
        let guard = first.lock(LONG, "first").unwrap();
        assert!(other.force_release());
        for _ in 1..grants {
            drop(other.lock(AT_ONCE, "").unwrap());
        }
        let last = other.lock(AT_ONCE, "last").unwrap();
        assert!(!first.holds() && !guard.is_held(), "after {grants} grants");
        assert!(!first.release() && !guard.release(), "after {grants} grants");
        assert!(last.is_held());
    }
}

/// The same handle, with a grant of its own between: then the word names its seat again.
#[test]
fn a_guard_that_was_forced_off_is_not_confused_by_a_later_grant_to_its_handle() {
    for grants in [1, 2, 63, 64, 65, 128] {
        let dir = Dir::new();
        let lock = dir.open();
        let guard = lock.lock(LONG, "first").unwrap();
        assert!(dir.open().force_release());
        for _ in 1..grants {
            drop(lock.lock(AT_ONCE, "").unwrap());
        }
        let last = lock.lock(AT_ONCE, "last").unwrap();
        assert!(!guard.is_held(), "after {grants} grants");
        assert!(!guard.release() && last.is_held(), "after {grants} grants");
    }
}

/// The resource may be in the middle of something, as after a death.
#[test]
fn the_next_holder_learns_of_a_force_release_once() {
    let dir = Dir::new();
    let (holder, other) = (Child::holder(&dir, "is forced off"), dir.open());
    let number = other.holder().unwrap().number();
    assert!(other.force_release());
    let guard = other.try_lock("next").unwrap();
    assert!(guard.recovered());
    for previous in [guard.previous(), other.previous()] {
        let Previous::Forced(Some(grant)) = previous else { panic!("{previous:?}") };
        assert_eq!((grant.number(), grant.pid(), grant.info()), (number, holder.pid as u32, "is forced off"));
        // SAFETY: asks the kernel for a number.
        let uid = unsafe { libc::getuid() };
        assert_eq!((grant.ending(), grant.forced_by()), (Some(Ending::Forced), Some((std::process::id(), uid))));
    }
    assert!(guard.release());
    assert!(!other.try_lock("").unwrap().recovered(), "reported once");
    assert_eq!((other.counters().forced, other.counters().recoveries), (1, 0));
}

/// Whatever became of the entry, the word keeps the fate. Waiters get it, too.
#[test]
fn a_waiter_learns_of_a_force_release() {
    let dir = Dir::new();
    let lock = dir.open();
    lock.lock(LONG, "is forced off").unwrap().keep();
    let mut waiter = Child::fork(|line| {
        let lock = dir.open();
        line.say("asks");
        assert!(matches!(lock.lock(LONG, "waited").unwrap().previous(), Previous::Forced(Some(_))));
    });
    waiter.line.hear("asks");
    waiter.waits();
    assert!(dir.open().force_release());
    waiter.succeeds();
}

#[test]
fn a_holder_that_cannot_repair_the_resource_passes_the_fate_on() {
    let dir = Dir::new();
    let (lock, other) = (dir.open(), dir.open());
    assert!(lock.try_lock("leaves it inconsistent").unwrap().release_inconsistent());
    for _ in 0..3 {
        let guard = other.try_lock("cannot repair it").unwrap();
        assert!(matches!(guard.previous(), Previous::Died(Some(_))), "{:?}", guard.previous());
        assert_eq!(guard.recovered_from().unwrap().ending(), Some(Ending::Inconsistent));
        assert!(guard.release_inconsistent());
    }
    assert!(lock.try_lock("repairs it").unwrap().recovered());
    assert!(!lock.try_lock("").unwrap().recovered());

    let guard = lock.try_lock("is forced off").unwrap();
    assert!(other.force_release());
    drop(guard);
    assert!(other.try_lock("cannot repair it").unwrap().release_inconsistent());
    assert!(matches!(other.try_lock("").unwrap().previous(), Previous::Forced(Some(_))), "the fate that it was given");
}

#[test]
fn a_force_release_wakes_the_waiters() {
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
    assert!(dir.open().force_release());
    waiter.succeeds();
    let history = lock.history();
    assert_eq!(
        history.iter().map(|grant| grant.ending()).collect::<Vec<_>>(),
        [Some(Ending::Released), Some(Ending::Forced)]
    );
}

/// In the reference, two force-releases at once leave a lock that two processes may hold.
#[test]
fn of_several_force_releases_at_once_one_frees_the_lock() {
    let dir = Dir::new();
    let lock = dir.open();
    for round in 0..100 {
        lock.try_lock("").unwrap_or_else(|error| panic!("round {round}: {error}")).keep();
        let force = |line: &mut crate::support::Line| {
            let lock = dir.open();
            line.say("ready");
            line.hear("go");
            line.say(if lock.force_release() { "forced" } else { "extraneous" });
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
