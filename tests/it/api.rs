//! What the two faces say, in one process.

use resourcelock::{Error, Guard, LockError, ResourceLock};

use crate::support::{AT_ONCE, Dir};

const fn can_be_shared<T: Send + Sync>() {}
const _: () = can_be_shared::<ResourceLock>();
const _: () = can_be_shared::<Guard<'_>>();

#[test]
fn the_words_of_the_reference_say_what_they_say_there() {
    let dir = Dir::new();
    let lock = dir.options().open("/it").unwrap();
    assert_eq!(lock.lockname(), "it");
    assert_eq!((lock.is_locked(), lock.lock_value(), lock.i_have_the_lock()), (false, 1, false));
    assert!(!lock.unget_lock(false, "extraneous"));
    assert!(!lock.unget_lock(true, "extraneous too"));
    assert!(lock.get_lock(AT_ONCE, false, "text").unwrap());
    assert_eq!((lock.is_locked(), lock.lock_value(), lock.i_have_the_lock()), (true, 0, true));
    let other = dir.open();
    assert_eq!((other.is_locked(), other.lock_value(), other.i_have_the_lock()), (true, 0, false));
    assert!(!other.unget_lock(false, "not its own"));
    assert!(lock.unget_lock(false, "done"));
    assert!(!lock.unget_lock(false, "twice"));
}

#[test]
fn closing_or_dropping_a_handle_releases() {
    let dir = Dir::new();
    let lock = dir.open();
    assert!(lock.get_lock(AT_ONCE, false, "").unwrap());
    lock.close();
    let lock = dir.open();
    assert!(lock.get_lock(AT_ONCE, false, "").unwrap());
    drop(lock);
    assert!(!dir.open().is_locked());
}

#[test]
fn closing_a_handle_keeps_a_detached_hold() {
    let dir = Dir::new();
    let lock = dir.open();
    assert!(lock.get_lock(AT_ONCE, false, "").unwrap() && lock.detach());
    lock.close();
    assert!(dir.open().is_locked());
}

#[test]
fn whoever_detached_may_still_release() {
    let dir = Dir::new();
    let lock = dir.open();
    assert!(lock.get_lock(AT_ONCE, false, "").unwrap() && lock.detach());
    assert!(lock.i_have_the_lock());
    assert!(lock.unget_lock(false, ""));
    assert!(!lock.is_locked());
}

#[test]
fn a_guard_releases_once() {
    let dir = Dir::new();
    let (lock, other) = (dir.open(), dir.open());
    let guard = lock.try_lock("one").unwrap();
    assert!(guard.release());
    let guard = lock.try_lock("two").unwrap();
    assert!(lock.unget_lock(false, "behind the guard's back"));
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
    assert!(outcome.is_err() && !lock.is_locked());
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
fn handles_leave_nothing_open_behind_them() {
    let count = || {
        let mappings = std::fs::read_to_string("/proc/self/maps").unwrap();
        mappings.lines().filter(|line| line.contains("many-handles")).count()
    };
    let dir = Dir::new();
    for _ in 0..2000 {
        let lock = dir.options().open("many-handles").unwrap();
        drop(lock.try_lock("").unwrap());
    }
    assert_eq!(count(), 0);
    let _one = dir.options().open("many-handles").unwrap();
    assert_eq!(count(), 1);
}
