//! Kernels older than this one, sandboxes that permit less, and systems without /proc: either the lock works by another
//! way, or it is refused with a typed error. The kernel is made to refuse single system calls (`refuse`).
//!
//! Each test names the faults that it was seen to catch.

use std::fs;
use std::mem::ManuallyDrop;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use resourcelock::reference::Reference as _;
use resourcelock::{Error, Guard, Kind, LockError, ResourceLock, SeatError, Status, Timeout};

use crate::support::{
    ANY, AT_ONCE, Argument, Child, Dir, LONG, Line, has_own_mounts, hide, is_fresh, is_root, pass_over, refuse,
    refuse_open, wait_until,
};

const WHILE: Timeout = Timeout::from_millis(200);

/// Runs `body` in a child in which `prepare` ran first. `prepare` returns `false` if it is not permitted.
pub(crate) fn child_where(test: &str, prepare: impl FnOnce() -> bool, body: impl FnOnce(&mut Line)) {
    let mut child = Child::fork(|line| {
        if !prepare() {
            return line.say("cannot");
        }
        body(line);
        line.say("done");
    });
    match child.line.next().as_str() {
        "done" => {}
        "cannot" => pass_over(test, "the kernel cannot be made to refuse it"),
        said => panic!("the child failed: {said:?}"),
    }
    child.succeeds();
}

/// Before Linux 4.14, a page that a fork wipes cannot be had.
fn cannot_wipe() -> bool {
    refuse(libc::SYS_madvise, Argument { index: 2, mask: u32::MAX, value: libc::MADV_WIPEONFORK as u32 }, libc::EINVAL)
}

/// Whatever a child calls first, on its copy of a guard or of a handle, it does not own its parent's hold. Seen to fail with
/// a guard that reads the word without checking first whether this is the process that acquired it.
#[test]
fn where_no_page_is_wiped_a_forked_child_owns_nothing() {
    if !is_fresh("old_kernel::where_no_page_is_wiped_a_forked_child_owns_nothing", cannot_wipe) {
        return;
    }
    type OfGuard = (&'static str, fn(Guard<'_>) -> bool);
    const OF_GUARD: [OfGuard; 5] = [
        ("is_held", |guard| guard.is_held()),
        ("check", |guard| guard.check() != Ok(false)),
        ("detach", |guard| guard.detach()),
        ("release", |guard| guard.release()),
        ("drop", |guard| {
            drop(guard);
            false
        }),
    ];
    type OfLock = (&'static str, fn(&ResourceLock) -> bool);
    const OF_LOCK: [OfLock; 6] = [
        ("holds", |lock| lock.holds()),
        ("release", |lock| lock.release()),
        ("set_info", |lock| lock.set_info("the child's")),
        ("detach", |lock| lock.detach()),
        ("previous", |lock| lock.previous().recovered()),
        ("get_lock", |lock| lock.get_lock(AT_ONCE, true, "the child's").unwrap()),
    ];
    let dir = Dir::new();
    Child::holder(&dir, "dies").kill();
    let lock = dir.open();
    let guard = lock.lock(AT_ONCE, "the parent's").unwrap();
    assert!(guard.recovered_from().is_some() && lock.previous().recovered());
    let still_holds = |after: &str| {
        let owner = lock.holder().unwrap();
        assert!(guard.is_held() && guard.recovered_from().is_some(), "{after}");
        assert_eq!((owner.kind(), owner.info()), (Kind::Process, "the parent's"), "{after}");
    };
    for (what, owns) in OF_GUARD {
        // SAFETY: the child gets a copy of the memory of its own, so what it drops is dropped once there.
        let copied = ManuallyDrop::new(unsafe { std::ptr::read(&guard) });
        Child::fork(|_| assert!(!owns(ManuallyDrop::into_inner(copied)), "{what}")).succeeds();
        still_holds(what);
    }
    for (what, owns) in OF_LOCK {
        Child::fork(|_| assert!(!owns(&lock), "{what}")).succeeds();
        still_holds(what);
    }
    assert!(guard.release());
}

/// Seen to fail with a child whose threads each find out who they are and adopt the handle, the second one while the first
/// holds already: the handle lost its seat, and nobody could release the hold.
#[test]
fn where_no_page_is_wiped_the_threads_of_a_child_agree() {
    if !is_fresh("old_kernel::where_no_page_is_wiped_the_threads_of_a_child_agree", cannot_wipe) {
        return;
    }
    let dir = Dir::new();
    let lock = dir.open();
    for round in 0..1000 {
        Child::fork(|_| {
            let both = Barrier::new(2);
            thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        both.wait();
                        lock.lock(LONG, "a thread").unwrap().keep();
                        assert!(lock.release(), "lost its hold in round {round}");
                    });
                }
            });
        })
        .succeeds();
        assert!(!lock.is_held());
    }
}

/// A sandbox or a kernel refuses what a seat is made of: a typed error, never a hold whose liveness nobody can check. Seen
/// to fail with an error of `madvise` that is ignored.
#[test]
fn where_seats_are_refused_no_handle_is_opened() {
    const DONT_FORK: Argument = Argument { index: 2, mask: u32::MAX, value: libc::MADV_DONTFORK as u32 };
    let refusals: [(libc::c_long, Argument, i32, SeatError); 4] = [
        (libc::SYS_madvise, DONT_FORK, libc::EINVAL, SeatError::Refused { errno: libc::EINVAL }),
        (FCNTL, SET_LOCK, libc::EACCES, SeatError::Refused { errno: libc::EACCES }),
        (FCNTL, SET_LOCK, libc::EINVAL, SeatError::Refused { errno: libc::EINVAL }),
        (FCNTL, SET_LOCK, libc::ENOLCK, SeatError::TooManyLocks),
    ];
    for (call, which, errno, expected) in refusals {
        let dir = Dir::new();
        let lock = dir.open();
        child_where(
            "where_seats_are_refused_no_handle_is_opened",
            || refuse(call, which, errno),
            |_| {
                assert_eq!(dir.options().open("it").map(drop), Err(Error::Seat(expected)));
                // Looking needs no seat.
                assert_eq!(dir.options().inspect("it").unwrap().status(), Status::Free);
            },
        );
        drop(lock.try_lock("").unwrap());
    }
}

/// A probe that cannot run proves nothing: the holder counts as alive, and the recovery is left to a contender that can
/// probe. Seen to fail with a probe whose errors count as death.
#[test]
fn a_contender_that_cannot_probe_takes_the_holder_for_alive() {
    const TEST: &str = "a_contender_that_cannot_probe_takes_the_holder_for_alive";
    let dir = Dir::new();
    let holder = Child::holder(&dir, "dies");
    holder.kill();
    let refusals: [fn() -> bool; 2] =
        [|| refuse(FCNTL, SET_LOCK, libc::EINVAL), || refuse(FCNTL, SET_LOCK, libc::EACCES)];
    for refuse_it in refusals {
        let mut contender = Child::fork(|line| {
            let lock = dir.open();
            if !refuse_it() {
                return line.say("cannot");
            }
            assert!(matches!(lock.lock(WHILE, ""), Err(LockError::TimedOut(Some(_)))));
            line.say("done");
        });
        match contender.line.next().as_str() {
            "done" => {}
            "cannot" => pass_over(TEST, "the kernel cannot be made to refuse it"),
            said => panic!("the child failed: {said:?}"),
        }
        contender.succeeds();
    }
    assert!(dir.open().try_lock("").unwrap().recovered());
}

/// fcntl(2); on 32-bit systems the one with 64-bit offsets.
#[cfg(target_pointer_width = "64")]
pub(crate) const FCNTL: libc::c_long = libc::SYS_fcntl;
#[cfg(target_pointer_width = "32")]
pub(crate) const FCNTL: libc::c_long = libc::SYS_fcntl64;
const SET_LOCK: Argument = Argument { index: 1, mask: u32::MAX, value: libc::F_OFD_SETLK as u32 };

const BY_DESCRIPTOR: Argument =
    Argument { index: 4, mask: libc::AT_EMPTY_PATH as u32, value: libc::AT_EMPTY_PATH as u32 };

/// A lock that is made anew, in whatever way: complete, with its mode, usable, and alone in its directory.
#[track_caller]
fn is_made(dir: &Dir) {
    let lock = dir.options().mode(0o640).open("it").unwrap();
    let names: Vec<_> = fs::read_dir(dir.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["resourcelock.it"]);
    let file = fs::metadata(dir.lock_file()).unwrap();
    assert_eq!((file.mode() & 0o7777, file.len(), file.nlink()), (0o640, 4096, 1));
    let guard = lock.try_lock("the first").unwrap();
    assert!(matches!(dir.open().try_lock(""), Err(LockError::TimedOut(_))));
    drop(guard);
    assert_eq!(dir.open().counters().grants, 1);
}

/// Seen to fail with a temporary file that stays behind.
#[test]
fn without_unnamed_files_a_lock_is_made_by_a_temporary_one() {
    let dir = Dir::new();
    child_where(
        "without_unnamed_files_a_lock_is_made_by_a_temporary_one",
        || refuse_open(libc::O_TMPFILE, libc::EOPNOTSUPP),
        |_| is_made(&dir),
    );
}

/// Seen to fail with a temporary file that is renamed instead of linked: the last one wins, and the others have a lock of
/// their own.
#[test]
fn without_unnamed_files_all_that_make_a_lock_at_once_get_the_same() {
    for _ in 0..20 {
        let dir = Dir::new();
        let body = |line: &mut Line| {
            if !refuse_open(libc::O_TMPFILE, libc::EOPNOTSUPP) {
                return line.say("cannot");
            }
            line.say("ready");
            line.hear("go");
            let lock = dir.open();
            drop(lock.lock(LONG, "one of them").unwrap());
        };
        let mut children: [Child; 3] = std::array::from_fn(|_| Child::fork(body));
        if children.iter_mut().any(|child| child.line.next() == "cannot") {
            return pass_over(
                "without_unnamed_files_all_that_make_a_lock_at_once_get_the_same",
                "the kernel cannot be made to refuse it",
            );
        }
        children.iter_mut().for_each(|child| child.line.say("go"));
        children.into_iter().for_each(Child::succeeds);
        assert_eq!(dir.open().counters().grants, 3);
        assert_eq!(fs::read_dir(dir.path("")).unwrap().count(), 1);
    }
}

/// Before Linux 6.10, for all but root. A file with a temporary name could not be made here either. Seen to fail without
/// the way by `/proc/self/fd`.
#[test]
fn a_file_that_cannot_be_linked_by_its_descriptor_is_by_way_of_proc() {
    let dir = Dir::new();
    child_where(
        "a_file_that_cannot_be_linked_by_its_descriptor_is_by_way_of_proc",
        || {
            // Of the flags of an unnamed file, O_CREAT is none.
            refuse(libc::SYS_linkat, BY_DESCRIPTOR, libc::ENOENT) && refuse_open(libc::O_CREAT, libc::EACCES)
        },
        |_| is_made(&dir),
    );
}

/// The same in a chroot or early at boot. Seen to fail with the missing /proc taken for a missing directory.
#[test]
fn without_that_and_without_proc_it_is_made_by_a_temporary_one() {
    if !is_root() {
        return pass_over("without_that_and_without_proc_it_is_made_by_a_temporary_one", "only root can hide /proc");
    }
    let dir = Dir::new();
    child_where(
        "without_that_and_without_proc_it_is_made_by_a_temporary_one",
        || has_own_mounts() && hide("/proc") && refuse(libc::SYS_linkat, BY_DESCRIPTOR, libc::ENOENT),
        |_| {
            assert!(!fs::exists("/proc/self").unwrap());
            is_made(&dir);
            let nowhere = dir.path("nowhere");
            let outcome = ResourceLock::options().dir(nowhere.to_str().unwrap()).open("it");
            assert!(matches!(outcome, Err(Error::DirectoryMissing)));
        },
    );
}

/// futex(2), and on 32-bit systems also its successor with 64-bit times.
fn refuse_futex() -> bool {
    const SYS_FUTEX_TIME64: libc::c_long = 422;
    let successor = cfg!(target_pointer_width = "64") || refuse(SYS_FUTEX_TIME64, ANY, libc::ENOSYS);
    successor && refuse(libc::SYS_futex, ANY, libc::ENOSYS)
}

/// Seen to fail with an error of futex(2) that counts as having slept: then the wait is a busy loop.
#[test]
fn without_futexes_a_wait_ends_in_time_and_does_not_spin() {
    let dir = Dir::new();
    let holder = Child::holder(&dir, "holds");
    child_where("without_futexes_a_wait_ends_in_time_and_does_not_spin", refuse_futex, |_| {
        let lock = dir.open();
        let (asked, before) = (Instant::now(), cpu_time());
        assert!(matches!(lock.lock(WHILE, ""), Err(LockError::TimedOut(Some(_)))));
        let (waited, worked) = (asked.elapsed(), cpu_time() - before);
        assert!(waited >= Duration::from_millis(200), "{waited:?}");
        assert!(worked < Duration::from_millis(50), "{worked:?}");
    });
    holder.lets_go();
}

fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: memory of ours, which the kernel fills in.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) }, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// First the waiter cannot sleep on the word, then the holder cannot wake it. Seen to fail with a sleep that lasts until the
/// deadline instead of the end of the slice.
#[test]
fn without_futexes_a_released_lock_is_acquired() {
    for waiter_lacks_it in [true, false] {
        let dir = Dir::new();
        let may = |is_to_lack: bool| !is_to_lack || refuse_futex();
        let mut holder = Child::fork(|line| {
            if !may(!waiter_lacks_it) {
                return line.say("cannot");
            }
            let lock = dir.open();
            let guard = lock.lock(LONG, "holds").unwrap();
            line.say("holds");
            line.hear("let go");
            assert!(guard.release());
        });
        let mut waiter = Child::fork(|line| {
            if !may(waiter_lacks_it) {
                return line.say("cannot");
            }
            line.say("can");
            line.hear("go");
            drop(dir.open().lock(LONG, "waits").unwrap());
        });
        if holder.line.next() == "cannot" || waiter.line.next() == "cannot" {
            return pass_over("without_futexes_a_released_lock_is_acquired", "the kernel cannot be made to refuse it");
        }
        waiter.line.say("go");
        let file = fs::File::open(dir.lock_file()).unwrap();
        wait_until("somebody waits", || {
            let mut word = [0; 4];
            file.read_exact_at(&mut word, 64).unwrap();
            u32::from_ne_bytes(word) >> 31 == 1
        });
        holder.line.say("let go");
        holder.succeeds();
        let released = Instant::now();
        waiter.succeeds();
        // A slice is 10 ms; the rest is for a machine that is busy with other tests.
        assert!(released.elapsed() < Duration::from_secs(5));
    }
}
