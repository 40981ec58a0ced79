//! The API, in one process: the inherent methods, and the reference's vocabulary.

use resourcelock::reference::Reference as _;
use resourcelock::{Error, Guard, LockError, Previous, ResourceLock, SeatError};

use crate::support::{AT_ONCE, Dir};

const fn can_be_shared<T: Send + Sync>() {}
const _: () = can_be_shared::<ResourceLock>();
const _: () = can_be_shared::<Guard<'_>>();

#[test]
fn the_words_of_the_reference_mean_what_they_mean_there() {
    let dir = Dir::new();
    let lock = dir.options().open("/it").unwrap();
    assert_eq!(lock.lockname(), "it");
    assert_eq!((lock.is_locked(), lock.lock_value(), lock.i_have_the_lock()), (false, 1, false));
    assert!(!lock.unget_lock(false, "extraneous"));
    assert!(!lock.unget_lock(true, "extraneous too"));
    assert!(lock.get_lock(AT_ONCE, false, "text").unwrap());
    assert_eq!((lock.is_locked(), lock.lock_value(), lock.i_have_the_lock()), (true, 0, true));
    assert!(lock.get_lock_info().ends_with(" - text"));
    assert!(lock.set_lock_info("other text") && lock.get_lock_info().ends_with(" - other text"));
    let other = dir.open();
    assert_eq!((other.is_locked(), other.lock_value(), other.i_have_the_lock()), (true, 0, false));
    assert!(!other.unget_lock(false, "not its own"));
    assert!(lock.unget_lock(false, "done"));
    assert!(!lock.unget_lock(false, "twice"));

    // A forced unget of one's own hold is an ordinary one; of another's, a force-release.
    assert!(lock.get_lock(AT_ONCE, false, "").unwrap() && lock.unget_lock(true, "by its holder"));
    assert!(!lock.try_lock("").unwrap().recovered());
    assert!(lock.get_lock(AT_ONCE, false, "").unwrap() && other.unget_lock(true, "by another"));
    assert!(matches!(lock.try_lock("").unwrap().previous(), Previous::Forced(Some(_))));
}

#[test]
fn the_inherent_methods_match_those_of_the_reference() {
    let dir = Dir::new();
    let (lock, other) = (dir.options().open("/it").unwrap(), dir.open());
    assert_eq!(lock.name(), "it");
    assert_eq!((lock.is_held(), lock.holds()), (false, false));
    assert!(!lock.release() && !lock.force_release());
    lock.try_lock("text").unwrap().keep();
    assert_eq!((lock.is_held(), lock.holds()), (true, true));
    assert_eq!((other.is_held(), other.holds()), (true, false));
    assert!(lock.info().ends_with(" - text"));
    assert!(!other.release());
    assert!(lock.release());
    assert!(!lock.release());
}

#[test]
fn closing_or_dropping_a_handle_releases() {
    let dir = Dir::new();
    let lock = dir.open();
    lock.lock(AT_ONCE, "").unwrap().keep();
    lock.close();
    let lock = dir.open();
    lock.lock(AT_ONCE, "").unwrap().keep();
    drop(lock);
    assert!(!dir.open().is_held());
}

#[test]
fn closing_a_handle_leaves_a_detached_hold() {
    let dir = Dir::new();
    let lock = dir.open();
    lock.lock(AT_ONCE, "").unwrap().keep();
    assert!(lock.detach());
    lock.close();
    assert!(dir.open().is_held());
}

#[test]
fn the_handle_that_detached_its_hold_may_still_release_it() {
    let dir = Dir::new();
    let lock = dir.open();
    lock.lock(AT_ONCE, "").unwrap().keep();
    assert!(lock.detach());
    assert!(lock.holds());
    assert!(lock.release());
    assert!(!lock.is_held());
}

#[test]
fn a_guard_releases_once() {
    let dir = Dir::new();
    let (lock, other) = (dir.open(), dir.open());
    let guard = lock.try_lock("one").unwrap();
    assert!(guard.release());
    let guard = lock.try_lock("two").unwrap();
    assert!(lock.release());
    assert!(!guard.is_held());
    let third = other.try_lock("three").unwrap();
    drop(guard);
    assert!(third.is_held());
}

#[test]
fn a_guard_releases_in_a_panic() {
    let dir = Dir::new();
    let lock = dir.open();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _guard = lock.try_lock("").unwrap();
        std::panic::resume_unwind(Box::new("on purpose"));
    }));
    assert!(outcome.is_err() && !lock.is_held());
}

#[test]
fn threads_that_share_a_handle_exclude_each_other_by_guards() {
    let dir = Dir::new();
    let lock = dir.open();
    let guard = lock.try_lock("one").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| assert!(matches!(lock.try_lock("two"), Err(LockError::TimedOut(Some(_))))));
    });
    drop(guard);
}

#[test]
fn a_lock_that_need_not_be_made_is_not() {
    let dir = Dir::new();
    assert!(matches!(dir.options().create(false).open("it"), Err(Error::NotFound)));
    assert!(!dir.lock_file().exists());
}

#[test]
fn a_dropped_handle_leaves_no_mapping_no_descriptor_and_no_seat() {
    let dir = Dir::new();
    let file = dir.path("resourcelock.many-handles");
    let count = || {
        let mappings = std::fs::read_to_string("/proc/self/maps").unwrap();
        let descriptors = std::fs::read_dir("/proc/self/fd").unwrap();
        let leads_there = |fd: &std::io::Result<std::fs::DirEntry>| {
            fd.as_ref().is_ok_and(|fd| std::fs::read_link(fd.path()).is_ok_and(|target| target == file))
        };
        let mappings = mappings.lines().filter(|line| line.contains(file.to_str().unwrap())).count();
        (mappings, descriptors.filter(|fd| leads_there(fd)).count())
    };
    for _ in 0..2000 {
        let lock = dir.options().open("many-handles").unwrap();
        drop(lock.try_lock("").unwrap());
    }
    assert_eq!(count(), (0, 0));
    let _one = dir.options().open("many-handles").unwrap();
    // The record, and the mapping that pins the seat; the descriptor to probe with.
    assert_eq!(count(), (2, 1));
    let _two = dir.options().keep_across_exec(true).open("many-handles").unwrap();
    // And the seat's own descriptor.
    assert_eq!(count(), (4, 3));
}

#[test]
fn a_hold_is_carried_across_exec_only_by_a_handle_that_keeps_its_descriptor() {
    let dir = Dir::new();
    let lock = dir.open();
    assert_eq!(lock.seat_descriptor(), None);
    let guard = lock.try_lock("").unwrap();
    assert_eq!(guard.carry_across_exec(), Err(Error::Seat(SeatError::NotKept)));
    assert!(!lock.is_held(), "the guard is gone, and with it the hold");
}
