//! The lock's file goes away while handles are open: as at the end of a session (RemoveIPC), or by hand.
//!
//! Seen to fail without the check of the name before an acquire, and with a successor that does not wait for the holder of
//! the record that has lost its name.

use std::fs;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use resourcelock::reference::Reference as _;
use resourcelock::{Ending, Error, LockError, Previous, ResourceLock};

use crate::support::{AT_ONCE, Child, Dir, LONG, Shared, wait_until};

/// After this long a handle looks again whether its file still has its name.
const NAME_IS_CHECKED_EVERY: Duration = Duration::from_millis(100);

/// Lets the time pass that a handle may rely on its last look. Time is the event here.
fn let_the_check_come_due() {
    thread::sleep(NAME_IS_CHECKED_EVERY + Duration::from_millis(20));
}

#[test]
fn free_handles_meet_again_on_the_new_file() {
    let dir = Dir::new();
    let (old, peer) = (dir.open(), dir.open());
    fs::remove_file(dir.lock_file()).unwrap();
    let new = dir.open();
    let_the_check_come_due();
    let guard = new.lock(AT_ONCE, "on the new file").unwrap();
    for handle in [&old, &peer] {
        match handle.try_lock("") {
            Err(LockError::TimedOut(Some(owner))) => assert_eq!(owner.info(), "on the new file"),
            outcome => panic!("two holders: {outcome:?}"),
        }
    }
    drop(guard);
    let guard = old.try_lock("on the new file, too").unwrap();
    assert!(new.is_held() && peer.try_lock("").is_err());
    drop(guard);
}

#[test]
fn the_first_handle_that_asks_makes_the_file_again() {
    let dir = Dir::new();
    let (one, two) = (dir.open(), dir.open());
    fs::remove_file(dir.lock_file()).unwrap();
    let_the_check_come_due();
    let guard = one.try_lock("one").unwrap();
    assert!(dir.lock_file().exists());
    assert!(matches!(two.try_lock(""), Err(LockError::TimedOut(Some(owner))) if owner.info() == "one"));
    drop(guard);
    assert!(two.try_lock("two").is_ok());
}

#[test]
fn a_holder_is_told_and_others_wait_for_it() {
    let dir = Dir::new();
    let (holder, other) = (dir.open(), dir.open());
    let guard = holder.lock(LONG, "holds").unwrap();
    fs::remove_file(dir.lock_file()).unwrap();
    let_the_check_come_due();
    assert!(matches!(other.try_lock(""), Err(LockError::TimedOut(Some(owner))) if owner.info() == "holds"));
    assert!(matches!(holder.get_lock(AT_ONCE, true, ""), Err(Error::Vanished)));
    assert!(matches!(holder.try_lock(""), Err(LockError::Failed(Error::Vanished))));
    assert!(guard.is_held(), "until it releases");
    assert!(guard.release());
    let guard = other.try_lock("next").unwrap();
    assert!(matches!(holder.try_lock(""), Err(LockError::TimedOut(Some(owner))) if owner.info() == "next"));
    drop(guard);
}

/// Its seat can still be probed, though the file has no name by which it could be opened.
#[test]
fn a_holder_that_dies_after_the_file_was_removed_is_recovered() {
    let dir = Dir::new();
    let lock = dir.open();
    let holder = Child::holder(&dir, "dies");
    fs::remove_file(dir.lock_file()).unwrap();
    let_the_check_come_due();
    assert!(matches!(lock.try_lock(""), Err(LockError::TimedOut(Some(owner))) if owner.info() == "dies"));
    holder.kill();
    assert!(lock.try_lock("on a new file").unwrap().recovered());
}

/// A program has overwritten the word, and then the file was removed: the handle continues with a new file.
#[test]
fn a_handle_on_a_corrupt_record_that_has_lost_its_name_continues_with_a_new_file() {
    let dir = Dir::new();
    let lock = dir.open();
    let file = fs::OpenOptions::new().write(true).open(dir.lock_file()).unwrap();
    file.write_all_at(&1_u32.to_ne_bytes(), 64).unwrap();
    assert!(matches!(lock.try_lock(""), Err(LockError::Failed(Error::Corrupt))));
    fs::remove_file(dir.lock_file()).unwrap();
    let_the_check_come_due();
    assert!(lock.try_lock("on a new file").is_ok());
}

#[test]
fn a_guard_that_lasts_can_ask_whether_it_still_keeps_others_out() {
    let dir = Dir::new();
    let (holder, other) = (dir.open(), dir.open());
    let guard = holder.lock(LONG, "holds").unwrap();
    let_the_check_come_due();
    assert_eq!(guard.check(), Ok(true));
    assert!(other.force_release());
    assert_eq!(guard.check(), Ok(false));
    drop(guard);
    let guard = holder.lock(LONG, "holds").unwrap();
    fs::remove_file(dir.lock_file()).unwrap();
    let_the_check_come_due();
    assert_eq!(guard.check(), Err(Error::Vanished));
    assert_eq!(guard.check(), Err(Error::Vanished), "each time");
}

#[test]
fn a_detached_hold_of_a_lost_file_is_void() {
    let dir = Dir::new();
    let (getter, other) = (dir.open(), dir.open());
    assert!(getter.lock(LONG, "until unget").unwrap().detach());
    fs::remove_file(dir.lock_file()).unwrap();
    let_the_check_come_due();
    assert!(other.try_lock("goes on").is_ok(), "nobody could release it any more");
}

#[test]
fn a_detached_hold_of_a_lost_file_ends_a_wait() {
    let dir = Dir::new();
    let getter = dir.open();
    assert!(getter.lock(LONG, "until unget").unwrap().detach());
    let mut waiter = Child::fork(|line| {
        let lock = dir.open();
        line.say("asks");
        drop(lock.lock(LONG, "waits").unwrap());
    });
    waiter.line.hear("asks");
    waiter.waits();
    fs::remove_file(dir.lock_file()).unwrap();
    waiter.succeeds();
}

#[test]
fn a_file_that_was_replaced_by_something_else_is_a_typed_error() {
    let dir = Dir::new();
    let lock = dir.open();
    fs::remove_file(dir.lock_file()).unwrap();
    fs::write(dir.lock_file(), "no lock").unwrap();
    let_the_check_come_due();
    assert!(matches!(lock.try_lock(""), Err(LockError::Failed(Error::NotALock(_)))));
    fs::remove_file(dir.lock_file()).unwrap();
    assert!(lock.try_lock("").is_ok(), "the handle recovers from it");
}

/// The documented limit: processes that acquire more than 100 ms after the removal never overlap, however often the file
/// is removed.
#[test]
fn processes_do_not_overlap_once_they_have_looked() {
    const INSIDE: usize = 0;
    const OVERLAPS: usize = 1;
    const REMOVED_AT: usize = 2;
    const END: usize = 3;
    const HOLDS: usize = 4;

    let dir = Dir::new();
    let shared = Shared::new(&dir);
    let shared = &shared;
    let now = || {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: fills in a structure of ours.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
        (time.tv_sec * 1000 + time.tv_nsec / 1_000_000) as u32
    };
    let work = |_: &mut _| {
        let lock = dir.open();
        while shared.word(END).load(Ordering::SeqCst) == 0 {
            let asked = now();
            let guard: resourcelock::Guard<'_> = lock.lock(LONG, "works").unwrap();
            // A hold that was asked for when the removal was young may be one of the old file; the file may also have
            // gone since.
            let removed = |shared: &Shared| shared.word(REMOVED_AT).load(Ordering::SeqCst);
            let before = removed(shared);
            let is_certain = asked.wrapping_sub(before) > 120;
            if is_certain {
                let inside = shared.word(INSIDE).fetch_add(1, Ordering::SeqCst);
                thread::yield_now();
                shared.word(INSIDE).fetch_sub(1, Ordering::SeqCst);
                if inside != 0 && removed(shared) == before {
                    shared.word(OVERLAPS).fetch_add(1, Ordering::SeqCst);
                }
                shared.word(HOLDS).fetch_add(1, Ordering::SeqCst);
            }
            drop(guard);
        }
    };
    shared.word(REMOVED_AT).store(now().wrapping_sub(1000), Ordering::SeqCst);
    let children: Vec<_> = (0..3).map(|_| Child::fork(work)).collect();
    for _ in 0..5 {
        let holds = shared.word(HOLDS).load(Ordering::SeqCst);
        wait_until("holds after the removal", || shared.word(HOLDS).load(Ordering::SeqCst) > holds + 100);
        let _ = fs::remove_file(dir.lock_file());
        shared.word(REMOVED_AT).store(now(), Ordering::SeqCst);
        wait_until("somebody makes the file again", || dir.lock_file().exists());
    }
    shared.word(END).store(1, Ordering::SeqCst);
    children.into_iter().for_each(Child::succeeds);
    assert_eq!(shared.word(OVERLAPS).load(Ordering::SeqCst), 0);
}

#[test]
fn a_removed_lock_sends_open_handles_to_a_new_one() {
    let dir = Dir::new();
    let (one, two) = (dir.open(), dir.open());
    drop(one.lock(AT_ONCE, "before").unwrap());
    assert!(matches!(one.remove(false).unwrap(), Previous::Released));
    assert!(!dir.lock_file().exists());
    // No 100 ms here: the word says that the record is retired.
    let guard = two.try_lock("after").unwrap();
    assert!(matches!(one.try_lock(""), Err(LockError::TimedOut(Some(owner))) if owner.info() == "after"));
    drop(guard);
    assert_eq!(one.counters().grants, 1, "the new lock has a history of its own");
    assert!(matches!(remove_twice(&dir), Err(Error::NotFound)));
}

fn remove_twice(dir: &Dir) -> Result<(), Error> {
    dir.options().remove("it", false)?;
    dir.options().remove("it", false).map(drop)
}

#[test]
fn a_held_lock_is_removed_by_force_only() {
    let dir = Dir::new();
    let holder = Child::holder(&dir, "holds");
    let lock = dir.open();
    assert!(matches!(lock.remove(false), Err(Error::Held)));
    assert!(dir.lock_file().exists() && lock.is_held());
    let Previous::Forced(Some(evicted)) = lock.remove(true).unwrap() else { panic!("it evicts the holder") };
    assert_eq!((evicted.pid(), evicted.info(), evicted.ending()), (holder.pid as u32, "holds", Some(Ending::Forced)));
    assert!(!dir.lock_file().exists());
    assert!(lock.try_lock("on a new file").is_ok());
    drop(holder);
}

/// A removal that takes over from a dead holder is the only one to learn of the death: the new lock knows nothing of it.
#[test]
fn a_removal_reports_the_death_of_the_last_holder() {
    for force in [false, true] {
        let dir = Dir::new();
        let holder = Child::holder(&dir, "dies");
        let lock = dir.open();
        holder.kill();
        let previous = dir.options().remove("it", force).unwrap();
        let Previous::Died(Some(dead)) = previous else { panic!("{previous:?}") };
        assert_eq!((dead.pid(), dead.info(), dead.ending()), (holder.pid as u32, "dies", Some(Ending::Died)));
        assert!(!lock.try_lock("on the new one").unwrap().recovered());
    }
}

#[test]
fn a_removal_reports_a_fate_that_no_grant_has_reported() {
    let dir = Dir::new();
    let (lock, other) = (dir.open(), dir.open());
    let guard = lock.try_lock("is forced off").unwrap();
    assert!(other.force_release());
    drop(guard);
    assert!(matches!(other.remove(false).unwrap(), Previous::Forced(Some(_))));
    assert!(lock.try_lock("detached").unwrap().detach());
    assert!(
        matches!(dir.options().remove("it", true).unwrap(), Previous::Released),
        "the ordinary end of a detached hold"
    );
}

#[test]
fn a_holder_may_remove_its_own_lock() {
    let dir = Dir::new();
    let lock = dir.open();
    let guard = lock.lock(LONG, "the last").unwrap();
    assert!(matches!(lock.remove(false).unwrap(), Previous::Released));
    assert!(!guard.is_held());
    assert!(!guard.release());
    assert!(!dir.lock_file().exists());
}

#[test]
fn a_waiter_continues_with_the_successor_of_a_removed_lock() {
    let dir = Dir::new();
    let holder = Child::holder(&dir, "holds");
    let mut waiter = Child::fork(|line| {
        let lock: ResourceLock = dir.open();
        line.say("asks");
        let guard = lock.lock(LONG, "waits").unwrap();
        assert_eq!(guard.handle().counters().grants, 1);
    });
    waiter.line.hear("asks");
    waiter.waits();
    dir.options().remove("it", true).unwrap();
    waiter.succeeds();
    drop(holder);
}

/// All the threads that share a handle continue with the successor, those that sleep included.
#[test]
fn threads_that_share_a_handle_follow_together() {
    let dir = Dir::new();
    let holder = Child::holder(&dir, "holds");
    let lock = dir.open();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| drop(lock.lock(LONG, "waits").unwrap()));
        }
        // Whether all of them sleep is not known here; in any case, all must be served.
        wait_until("somebody waits", || {
            let bytes = fs::read(dir.lock_file()).unwrap();
            bytes[67] & 0x80 != 0
        });
        dir.options().remove("it", true).unwrap();
    });
    // Not the counter of grants: a thread that is granted the new record in its seat of the old one gives that back.
    assert_eq!(lock.history().len(), 4);
    drop(holder);
}
