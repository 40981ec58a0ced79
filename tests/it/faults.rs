//! Faults of earlier designs, one section each: what went wrong, and that it does not any more.
//!
//! Each test names the change to the code with which it was seen to fail.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use resourcelock::reference::Reference as _;
use resourcelock::{Denied, Error, LockError, Operation, Previous, ResourceLock, Timeout};

use crate::old_kernel::child_where;
use crate::support::{
    ANY, AT_ONCE, Child, Dir, LONG, Line, has_own_mounts, hide, is_root, mount, pass_over, refuse, refuse_link,
    refuse_open, wait_until,
};

/// A handle looks at its file's name again after 100 ms. Time is the event here.
fn let_the_check_come_due() {
    thread::sleep(Duration::from_millis(120));
}

/// Makes this process one of a user without privileges.
fn become_nobody() {
    const NOBODY: u32 = 65_534;
    // SAFETY: changes what this process may do.
    assert_eq!(unsafe { libc::setgroups(0, std::ptr::null()) }, 0);
    // SAFETY: as above.
    assert_eq!(unsafe { libc::setresgid(NOBODY, NOBODY, NOBODY) }, 0);
    // SAFETY: as above.
    assert_eq!(unsafe { libc::setresuid(NOBODY, NOBODY, NOBODY) }, 0);
}

// Fault 1: a handle remembered its grant in a ticket. A thread that was preempted after its grant and forced off overwrote
// the ticket of the next grant to the same handle: nobody could release that hold. And since a ticket outlived its hold,
// dropping an old handle released the hold of another one whose grant had the same number.

/// Whether a thread is inside [`stand_still`], and whether it may go on.
static STANDS_STILL: AtomicBool = AtomicBool::new(false);
static MAY_GO_ON: AtomicBool = AtomicBool::new(false);

/// A signal handler: the thread is preempted, wherever it is, until it may go on.
extern "C" fn stand_still(_: libc::c_int) {
    STANDS_STILL.store(true, Ordering::SeqCst);
    while !MAY_GO_ON.load(Ordering::SeqCst) {
        // SAFETY: sleeps; async-signal-safe.
        unsafe { libc::usleep(50) };
    }
    STANDS_STILL.store(false, Ordering::SeqCst);
}

/// Threads share a handle, one of them is preempted, and another handle forces off whoever holds. The others go on all the
/// same, since the handle can release whatever it holds; and it releases nothing else.
///
/// Seen to fail with a ticket that `publish` stores and that `own_word` compares with the word.
#[test]
fn a_forced_release_orphans_no_hold_of_a_shared_handle() {
    // SAFETY: all zeros is an empty mask, and no flags.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = stand_still as extern "C" fn(libc::c_int) as libc::sighandler_t;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: a handler that does nothing but sleep; no other test uses this signal.
    assert_eq!(unsafe { libc::sigaction(libc::SIGUSR2, &action, std::ptr::null_mut()) }, 0);

    let dir = Dir::new();
    let (shared, other) = (dir.open(), dir.open());
    let (progress, end) = (AtomicU32::new(0), AtomicBool::new(false));
    let threads = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                // SAFETY: asks who this thread is.
                threads.lock().unwrap().push(unsafe { libc::pthread_self() });
                while !end.load(Ordering::Relaxed) {
                    // A time-out is for a test that has failed.
                    if shared.get_lock(Timeout::from_secs(5), false, "a thread").unwrap() {
                        // Not always by this thread's grant; but what the handle holds, each of its threads may release.
                        shared.unget_lock(false, "");
                        progress.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        wait_until("all threads have begun", || threads.lock().unwrap().len() == 3);
        let threads = threads.lock().unwrap().clone();
        let began = Instant::now();
        let mut is_orphaned = false;
        let goes_on = |limit| {
            let (before, since) = (progress.load(Ordering::Relaxed), Instant::now());
            while progress.load(Ordering::Relaxed).wrapping_sub(before) < 5 && since.elapsed() < limit {
                thread::yield_now();
            }
            since.elapsed() < limit
        };
        for thread in threads.iter().cycle() {
            if began.elapsed() > Duration::from_secs(2) || is_orphaned {
                break;
            }
            MAY_GO_ON.store(false, Ordering::SeqCst);
            // SAFETY: a thread that has not ended, because `end` is not set yet.
            assert_eq!(unsafe { libc::pthread_kill(*thread, libc::SIGUSR2) }, 0);
            wait_until("it stands still", || STANDS_STILL.load(Ordering::SeqCst));
            other.force_release();
            goes_on(Duration::from_millis(20));
            MAY_GO_ON.store(true, Ordering::SeqCst);
            wait_until("it goes on", || !STANDS_STILL.load(Ordering::SeqCst));
            is_orphaned = !goes_on(Duration::from_secs(4));
            if let Ok(guard) = other.lock(Timeout::from_millis(1), "the other") {
                thread::yield_now();
                assert!(guard.release(), "the shared handle has released a hold of the other");
            }
        }
        end.store(true, Ordering::Relaxed);
        assert!(!is_orphaned, "nobody can release the hold of {:?}", shared.holder());
    });
    assert!(!shared.is_held());
}

/// Seen to fail with an `own_word` that compares generations instead of seats.
#[test]
fn dropping_an_old_handle_releases_no_hold_of_another() {
    for grants in [1, 2, 63, 64, 65, 128] {
        let dir = Dir::new();
        let (old, other) = (dir.open(), dir.open());
        assert!(old.get_lock(LONG, false, "old").unwrap());
        assert!(other.force_release());
        for _ in 1..grants {
            drop(other.try_lock("").unwrap());
        }
        let guard = other.try_lock("holds").unwrap();
        drop(old);
        assert!(guard.release(), "after {grants} grants");
    }
    // On the successor of a removed record, seats are counted from the beginning: two handles have the same number.
    let dir = Dir::new();
    let old = dir.open();
    assert!(old.get_lock(LONG, false, "old").unwrap());
    let seat = old.holder().unwrap().seat();
    dir.options().remove("it", true).unwrap();
    let new = dir.open();
    let guard = new.try_lock("new").unwrap();
    assert_eq!(new.holder().unwrap().seat(), seat);
    assert!(!old.holds());
    drop(old);
    assert!(guard.release());
}

// Fault 2: a thread may be preempted between its look at the handle's seat and its grant, while another thread of the same
// handle replaces the removed record by its successor. The grant then names a seat that the handle does not have: it looks
// dead, or is another handle's.

/// Seen to fail with the successor mapped at the address of the removed record: with or without a second look at the seat
/// after the grant, since the two words are equal once in 64, and since a proof of death about the old record was applied to
/// the new one.
#[test]
fn a_grant_in_a_seat_of_the_removed_record_does_not_stand() {
    let dir = Dir::new();
    let (shared, other) = (dir.open(), dir.open());
    let (inside, end) = (AtomicU32::new(0), AtomicBool::new(false));
    let work = |lock: &ResourceLock| {
        let mut holds = 0_u32;
        while !end.load(Ordering::Relaxed) {
            let guard = match lock.lock(Timeout::from_secs(10), "works") {
                Ok(guard) => guard,
                // Removed over and over.
                Err(LockError::Failed(Error::Busy)) => continue,
                Err(error) => panic!("{error}"),
            };
            assert_eq!(inside.swap(1, Ordering::AcqRel), 0, "an overlap");
            assert!(!guard.recovered(), "nobody has died: {:?}", guard.previous());
            assert!(guard.is_held(), "a grant in a foreign seat");
            assert_eq!(inside.swap(0, Ordering::AcqRel), 1, "an overlap");
            assert!(guard.release());
            holds += 1;
        }
        holds
    };
    thread::scope(|scope| {
        let of_shared: Vec<_> = (0..4).map(|_| scope.spawn(|| work(&shared))).collect();
        let of_other = scope.spawn(|| work(&other));
        let began = Instant::now();
        let mut removals = 0;
        while began.elapsed() < Duration::from_secs(3) && !of_shared.iter().any(|thread| thread.is_finished()) {
            removals += u32::from(dir.options().remove("it", false).is_ok());
            thread::sleep(Duration::from_micros(50));
        }
        end.store(true, Ordering::Relaxed);
        let holds = of_shared.into_iter().map(|thread| thread.join().unwrap()).sum::<u32>() + of_other.join().unwrap();
        assert!(holds > 100 && removals > 10, "{holds} holds, {removals} removals");
    });
}

// Fault 3: a removal retired the record and then could not unlink the file. The holder had been evicted by then, or a death
// was never reported. And a forced removal wrote its mark into a file that was no lock.

/// All kinds of holds, and a removal of each that fails with `why`: nothing has changed afterwards.
fn removals_that_fail_change_nothing(dir: &Dir, why: Error) {
    let (lock, other) = (dir.open(), dir.open());
    let remove = |force| assert_eq!(dir.options().remove("it", force).map(drop), Err(why), "force: {force}");
    for force in [false, true] {
        remove(force);
        assert!(!lock.try_lock("free").unwrap().recovered());

        lock.try_lock("is forced off").unwrap().keep();
        assert!(other.force_release());
        remove(force);
        let guard = other.try_lock("learns of it").unwrap();
        let Previous::Forced(Some(forced)) = guard.previous() else { panic!("{:?}", guard.previous()) };
        assert_eq!(forced.info(), "is forced off");
        drop(guard);

        let mut holder = Child::fork(|_| {
            let lock = dir.open();
            lock.try_lock("dies").unwrap().keep();
            die();
        });
        holder.end();
        remove(force);
        let guard = lock.try_lock("learns of it").unwrap();
        let Previous::Died(Some(dead)) = guard.previous() else { panic!("{:?}", guard.previous()) };
        assert_eq!(dead.info(), "dies");

        // The caller's own hold, and that of another handle.
        assert_eq!(lock.remove(force).map(drop), Err(why));
        assert!(guard.is_held());
        assert_eq!(other.remove(force).map(drop), Err(if force { why } else { Error::Held }));
        assert!(guard.is_held() && other.try_lock("").is_err());
        assert!(guard.detach());
        assert_eq!(other.remove(force).map(drop), Err(if force { why } else { Error::Held }));
        assert!(other.is_held());
        assert!(other.force_release());
        assert!(!lock.try_lock("").unwrap().recovered());
    }
    assert_eq!(lock.counters().recoveries, 2);
}

fn die() -> ! {
    // SAFETY: a signal to this process.
    unsafe { libc::raise(libc::SIGKILL) };
    unreachable!("SIGKILL was survived");
}

fn no_unlink(errno: i32) -> bool {
    #[cfg(any(target_arch = "x86_64", target_arch = "x86", target_arch = "arm"))]
    if !refuse(libc::SYS_unlink, ANY, errno) {
        return false;
    }
    refuse(libc::SYS_unlinkat, ANY, errno)
}

/// A bind mount over the file itself, as containers have it.
fn bind_over_itself(dir: &Dir) -> bool {
    let file = CString::new(dir.lock_file().as_os_str().as_bytes()).unwrap();
    // SAFETY: strings that end with NUL, or none.
    has_own_mounts()
        && unsafe { libc::mount(file.as_ptr(), file.as_ptr(), std::ptr::null(), libc::MS_BIND, std::ptr::null()) == 0 }
}

const BUSY: Error = Error::Os { operation: Operation::Remove, errno: libc::EBUSY };

/// Seen to fail without `unretire`, and with a forced removal that retires before it unlinks.
#[test]
fn a_removal_of_a_file_with_a_mount_on_it_changes_nothing() {
    let dir = Dir::new();
    drop(dir.open());
    child_where(
        "a_removal_of_a_file_with_a_mount_on_it_changes_nothing",
        || bind_over_itself(&dir),
        |_| removals_that_fail_change_nothing(&dir, BUSY),
    );
}

/// The same by a sandbox, which needs no root. Seen to fail as above.
#[test]
fn a_removal_that_a_sandbox_refuses_changes_nothing() {
    let dir = Dir::new();
    drop(dir.open());
    child_where(
        "a_removal_that_a_sandbox_refuses_changes_nothing",
        || no_unlink(libc::EBUSY),
        |_| removals_that_fail_change_nothing(&dir, BUSY),
    );
}

/// Sets or clears the flag of chattr(1) by which a directory's entries can only be added.
fn make_append_only(dir: &Dir, is_to_be: bool) -> bool {
    const FS_APPEND_FL: libc::c_int = 0x20;
    let dir = File::open(dir.path("")).unwrap();
    let flags = if is_to_be { FS_APPEND_FL } else { 0 };
    // SAFETY: a descriptor and a number of this process.
    unsafe { libc::ioctl(dir.as_raw_fd(), libc::FS_IOC_SETFLAGS, &raw const flags) == 0 }
}

/// Root may write to an append-only directory, as far as access(2) can tell, and may not unlink there. Seen to fail as
/// above.
#[test]
fn a_removal_from_an_append_only_directory_changes_nothing() {
    const TEST: &str = "a_removal_from_an_append_only_directory_changes_nothing";
    let dir = Dir::new();
    drop(dir.open());
    if !make_append_only(&dir, true) {
        return pass_over(TEST, "the file system or the user does not permit such directories");
    }
    let denied = Error::PermissionDenied(Denied::Directory);
    let mut child = Child::fork(|_| removals_that_fail_change_nothing(&dir, denied));
    let end = child.end();
    assert!(make_append_only(&dir, false));
    assert_eq!(end, crate::support::End::Exited(0));
}

/// The handle's own hold is put back after a removal that fails. Its other threads must not take another seat meanwhile,
/// as they do when they find the record retired.
///
/// Seen to fail with a removal that retires the caller's own hold before it unlinks.
#[test]
fn a_removal_by_the_holder_that_fails_leaves_its_threads_in_their_seat() {
    let dir = Dir::new();
    drop(dir.open());
    child_where(
        "a_removal_by_the_holder_that_fails_leaves_its_threads_in_their_seat",
        || no_unlink(libc::EBUSY),
        |_| {
            let (lock, other) = (dir.open(), dir.open());
            let end = AtomicBool::new(false);
            let guard = lock.try_lock("holds").unwrap();
            thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        while !end.load(Ordering::Relaxed) {
                            assert!(matches!(lock.try_lock("a thread"), Err(LockError::TimedOut(_))));
                        }
                    });
                }
                let began = Instant::now();
                while began.elapsed() < Duration::from_secs(1) {
                    assert_eq!(lock.remove(false).map(drop), Err(BUSY));
                }
                end.store(true, Ordering::Relaxed);
            });
            assert!(guard.is_held());
            assert!(other.try_lock("").is_err(), "the holder looks dead");
            assert!(guard.release());
        },
    );
}

/// Seen to fail with a removal that writes its mark before it unlinks, and whatever the file begins with.
#[test]
fn a_refused_removal_of_what_is_no_lock_leaves_its_bytes() {
    let dir = Dir::new();
    let junk: Vec<u8> = (0..4096_u32).map(|index| index as u8 ^ 0x5a).collect();
    for contents in [junk.as_slice(), &[0; 4096], b"too short"] {
        fs::write(dir.lock_file(), contents).unwrap();
        child_where(
            "a_refused_removal_of_what_is_no_lock_leaves_its_bytes",
            || no_unlink(libc::EBUSY),
            |_| {
                for force in [false, true] {
                    assert!(dir.options().remove("it", force).is_err());
                    assert!(fs::read(dir.lock_file()).unwrap() == contents, "force: {force}");
                }
            },
        );
        // And where it is not refused, the file that is gone was not written to either.
        fs::hard_link(dir.lock_file(), dir.path("link")).unwrap();
        dir.options().remove("it", true).unwrap();
        assert!(!dir.lock_file().exists() && fs::read(dir.path("link")).unwrap() == contents);
        fs::remove_file(dir.path("link")).unwrap();
    }
}

// Fault 4: by flock(2), a user who may only read could block a removal. See `a_reader_with_locks_cannot_block_a_forced_removal`
// in `seat.rs`.

// Fault 5: a thread waited without a limit for another thread of its handle: `Timeout::ZERO` returned after 3.9 s.

/// A process that is stopped in the middle of a removal holds up those who want to continue with the lock for a second. A
/// thread that does not want to wait is not held up by a thread that does.
///
/// Seen to fail with a `reattach` that locks `attached` without a deadline.
#[test]
fn a_try_does_not_wait_for_a_thread_that_waits_for_a_removal() {
    const REMOVAL_LOCK_AT: libc::off_t = 65_535;
    let dir = Dir::new();
    let lock = dir.open();
    // A record that is retired and has its name: the remover has not unlinked it yet.
    fs::hard_link(dir.lock_file(), dir.path("link")).unwrap();
    dir.options().remove("it", false).unwrap();
    fs::rename(dir.path("link"), dir.lock_file()).unwrap();
    let file = File::options().read(true).write(true).open(dir.lock_file()).unwrap();
    // SAFETY: all zeros is valid for the structure.
    let mut flock: libc::flock = unsafe { std::mem::zeroed() };
    (flock.l_type, flock.l_start, flock.l_len) = (libc::F_WRLCK as i16, REMOVAL_LOCK_AT, 1);
    // SAFETY: a descriptor of this process, and a structure of the kind that the command reads.
    assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const flock) }, 0);

    let tries: [(Timeout, Duration); 2] =
        [(AT_ONCE, Duration::ZERO), (Timeout::from_millis(50), Duration::from_millis(50))];
    // On a machine that is busy with other tests, a thread may lose a whole second.
    let in_time = (0..5).any(|_| {
        thread::scope(|scope| {
            let patient = scope.spawn(|| lock.lock(LONG, "waits for the remover").map(drop));
            // Long enough for the other thread to be at it.
            thread::sleep(Duration::from_millis(100));
            let in_time = tries.iter().all(|&(timeout, at_least)| {
                let asked = Instant::now();
                assert!(matches!(lock.lock(timeout, "is in a hurry"), Err(LockError::TimedOut(_))));
                assert!(asked.elapsed() >= at_least);
                asked.elapsed() < at_least + Duration::from_millis(300) && !patient.is_finished()
            });
            assert_eq!(patient.join().unwrap(), Err(LockError::Failed(Error::Busy)));
            in_time
        })
    });
    assert!(in_time, "held up by the other thread");
    // Not by closing the file: a child of another test may have inherited it.
    flock.l_type = libc::F_UNLCK as i16;
    // SAFETY: as above.
    assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const flock) }, 0);
    drop(lock.try_lock("the remover has ended").unwrap());
}

// Fault 6: a logger that panics at the line about a grant left the lock held, with no guard to release it.

#[cfg(feature = "log")]
mod logger {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicBool, Ordering};

    use log::{LevelFilter, Log, Metadata, Record};
    use resourcelock::ResourceLock;
    use resourcelock::reference::Reference as _;

    use crate::support::{Child, Dir, LONG, is_fresh, wait_until};

    /// Whether the next line about a grant panics.
    static PANICS: AtomicBool = AtomicBool::new(false);

    struct Logger;

    impl Log for Logger {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &Record<'_>) {
            let line = record.args().to_string();
            if line.contains("lock request successful") && PANICS.swap(false, Ordering::SeqCst) {
                panic!("a bug in the logger");
            }
        }

        fn flush(&self) {}
    }

    /// Whatever call acquires the lock: the panic leaves nothing held.
    ///
    /// Seen to fail with a line that is logged before there is a guard, in each of the calls.
    #[test]
    fn a_logger_that_panics_leaves_nothing_held() {
        // The logger is the whole process's, and the other tests are threads of it.
        if !is_fresh("faults::logger::a_logger_that_panics_leaves_nothing_held", || true) {
            return;
        }
        log::set_logger(&Logger).unwrap();
        log::set_max_level(LevelFilter::Trace);
        type Way = (&'static str, fn(&ResourceLock));
        const WAYS: &[Way] = &[
            ("lock", |lock| drop(lock.lock(LONG, "").unwrap())),
            ("request", |lock| drop(lock.request("").timeout(LONG).lock().unwrap())),
            ("get_lock", |lock| assert!(lock.get_lock(LONG, false, "").unwrap())),
            #[cfg(all(feature = "ring", feature = "std"))]
            ("start", |lock| match lock.request("").timeout(LONG).start() {
                Ok(mut acquiring) => drop(wait_for(&mut acquiring)),
                Err(resourcelock::LockError::Failed(resourcelock::Error::NoRing)) => {
                    drop(lock.lock(LONG, "").unwrap());
                }
                Err(error) => panic!("{error}"),
            }),
        ];
        let dir = Dir::new();
        for (way, acquire) in WAYS {
            let lock = dir.open();
            let panics = |what: &str| {
                PANICS.store(true, Ordering::SeqCst);
                assert!(catch_unwind(AssertUnwindSafe(|| acquire(&lock))).is_err(), "{way}, {what}: no panic");
                assert!(!lock.is_held(), "{way}, {what}: the lock is still held");
            };
            panics("a free lock");
            let holder = Child::holder(&dir, "dies");
            holder.kill();
            panics("a dead holder's lock");
            let holder = Child::holder(&dir, "lives");
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    wait_until("somebody waits", || !dir.open().waiters().is_empty());
                    holder.lets_go();
                });
                panics("a contended lock");
            });
            assert!(lock.try_lock("").is_ok());
        }
    }

    #[cfg(all(feature = "ring", feature = "std"))]
    fn wait_for<'a>(acquiring: &mut resourcelock::Acquiring<'a>) -> resourcelock::Guard<'a> {
        loop {
            if let Some(guard) = acquiring.poll().unwrap() {
                return guard;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}

// Fault 7: whether a file had lost its name was decided by the directory's device number, which differs from the file's on
// some file systems: there, a removed file was never noticed.

/// Two handles on one file, which is removed: both continue with the same new file.
fn a_removed_file_is_noticed(dir: &Dir) {
    let (one, two) = (dir.open(), dir.open());
    fs::remove_file(dir.lock_file()).unwrap();
    let_the_check_come_due();
    let guard = one.try_lock("on the new file").unwrap();
    assert!(dir.lock_file().exists());
    assert!(matches!(two.try_lock(""), Err(LockError::TimedOut(Some(holder))) if holder.info() == "on the new file"));
    assert!(dir.open().try_lock("").is_err());
    drop(guard);
}

/// The path leads elsewhere for this process alone: the handle stays with its file.
fn a_path_that_leads_elsewhere_is_no_proof(dir: &Dir, lead_elsewhere: impl FnOnce() -> bool) {
    let lock = dir.open();
    drop(lock.try_lock("").unwrap());
    assert!(lead_elsewhere());
    assert!(!dir.lock_file().exists());
    let_the_check_come_due();
    let guard = lock.try_lock("on the same file").unwrap();
    let_the_check_come_due();
    assert_eq!(guard.check(), Ok(true));
    assert!(guard.release() && !dir.lock_file().exists());
}

/// Without /proc, the directory is compared with what it was when the handle was opened.
///
/// Seen to fail with a check that needs /proc, and with one that believes any path.
#[test]
fn without_proc_a_removed_file_is_noticed_and_another_directory_proves_nothing() {
    const TEST: &str = "without_proc_a_removed_file_is_noticed_and_another_directory_proves_nothing";
    let dir = Dir::new();
    let no_proc = || has_own_mounts() && hide("/proc");
    child_where(TEST, no_proc, |_| a_removed_file_is_noticed(&dir));
    let path = dir.path("").to_str().unwrap().to_owned();
    child_where(TEST, no_proc, |_| a_path_that_leads_elsewhere_is_no_proof(&dir, || hide(&path)));
    assert_eq!(dir.open().last_grant().unwrap().info(), "on the same file");
}

/// Seen to fail with a check that does not compare the root directory and the mount namespace.
#[test]
fn with_proc_another_root_or_mount_proves_nothing() {
    const TEST: &str = "with_proc_another_root_or_mount_proves_nothing";
    if !is_root() {
        return pass_over(TEST, "needs root, to change the root directory");
    }
    let dir = Dir::new();
    child_where(TEST, || true, |_| a_removed_file_is_noticed(&dir));
    let path = dir.path("").to_str().unwrap().to_owned();
    child_where(TEST, || true, |_| a_path_that_leads_elsewhere_is_no_proof(&dir, || has_own_mounts() && hide(&path)));
    let root = Dir::new();
    let root = CString::new(root.path("").as_os_str().as_bytes()).unwrap();
    // SAFETY: a string that ends with NUL.
    let change_root = || unsafe { libc::chroot(root.as_ptr()) } == 0;
    child_where(TEST, || true, |_| a_path_that_leads_elsewhere_is_no_proof(&dir, change_root));
    assert_eq!(dir.open().last_grant().unwrap().info(), "on the same file");
}

/// The directory is another one now, and that is proof: every newcomer misses the old file.
///
/// Seen to fail with a check that compares the directory with what it was, although there is /proc.
#[test]
fn a_directory_that_was_removed_and_made_again_is_noticed() {
    let dir = Dir::new();
    let (one, two) = (dir.open(), dir.open());
    fs::remove_dir_all(dir.path("")).unwrap();
    let_the_check_come_due();
    assert!(matches!(one.try_lock(""), Err(LockError::Failed(Error::DirectoryMissing))));
    fs::create_dir(dir.path("")).unwrap();
    let_the_check_come_due();
    let guard = one.try_lock("on the new file").unwrap();
    assert!(matches!(two.try_lock(""), Err(LockError::TimedOut(Some(holder))) if holder.info() == "on the new file"));
    assert!(dir.open().try_lock("").is_err());
    drop(guard);
}

// Fault 10: where a sandbox such as AppArmor refuses unnamed files (O_TMPFILE) with EACCES or EPERM, no lock could be made.

/// The temporary file that it is made by instead has a name that the sandbox permits, and that no lock can have.
///
/// Seen to fail with errors of O_TMPFILE that end the making of the lock.
#[test]
fn where_unnamed_files_are_refused_a_lock_is_made_by_a_temporary_one() {
    const TEST: &str = "where_unnamed_files_are_refused_a_lock_is_made_by_a_temporary_one";
    for errno in [libc::EACCES, libc::EPERM] {
        let dir = Dir::new();
        let names = || -> Vec<_> {
            let entries = fs::read_dir(dir.path("")).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().as_bytes().to_owned()).collect();
            names.sort();
            names
        };
        let no_unnamed = || refuse_open(libc::O_TMPFILE, errno);
        child_where(TEST, no_unnamed, |_| {
            assert!(dir.open().try_lock("made").is_ok());
            assert_eq!(names(), [b"resourcelock.it"]);
        });
        let _ = fs::remove_file(dir.lock_file());
        // It cannot be unlinked either: then its name can be seen.
        child_where(
            TEST,
            || no_unnamed() && no_unlink(libc::EPERM),
            |_| {
                assert!(dir.open().try_lock("made").is_ok());
                let [lock, temporary] = names().try_into().unwrap();
                assert_eq!(lock, b"resourcelock.it");
                // The CLI's `--list` skips it: tests/cli/list.rs.
                assert!(temporary.starts_with(b"resourcelock.\xff"), "{temporary:?}");
            },
        );
    }
}

/// Seen to fail with an error of linkat(2) that counts as one of the directory.
#[test]
fn where_links_are_refused_the_error_says_so_and_nothing_is_left() {
    const TEST: &str = "where_links_are_refused_the_error_says_so_and_nothing_is_left";
    for errno in [libc::EACCES, libc::EPERM] {
        let dir = Dir::new();
        let prepare = [
            || refuse_link(libc::EPERM),
            || refuse(libc::SYS_linkat, ANY, libc::EPERM) && refuse_open(libc::O_TMPFILE, libc::EACCES),
        ];
        for prepare in prepare {
            child_where(
                TEST,
                || prepare() && refuse(libc::SYS_linkat, ANY, errno),
                |_| {
                    let error = dir.options().open("it").map(drop).unwrap_err();
                    assert_eq!(error, Error::PermissionDenied(Denied::Link));
                    assert!(error.to_string().contains("linkat"), "{error}");
                    assert_eq!(fs::read_dir(dir.path("")).unwrap().count(), 0);
                },
            );
        }
    }
}

// Fault 11: `PermissionDenied` stood for situations that have nothing in common.

/// Seen to fail with EROFS that counts as another error.
#[test]
fn a_read_only_file_system_is_named() {
    let dir = Dir::new();
    let path = dir.path("").to_str().unwrap().to_owned();
    child_where(
        "a_read_only_file_system_is_named",
        || has_own_mounts() && hide(&path),
        |_| {
            let lock = dir.open();
            drop(lock.try_lock("").unwrap());
            drop(lock);
            assert!(mount(None, &path, libc::MS_REMOUNT | libc::MS_RDONLY, c""));
            let read_only = Err(Error::PermissionDenied(Denied::ReadOnly));
            assert_eq!(dir.options().open("it").map(drop), read_only);
            assert_eq!(dir.options().open("new").map(drop), read_only);
            assert_eq!(dir.options().remove("it", true).map(drop), read_only);
            // Those who only look need not write.
            assert!(dir.options().inspect("it").is_ok());
        },
    );
}

/// Seen to fail with each of them reported as `Denied::Directory`.
#[test]
fn what_another_user_may_not_do_is_told_apart() {
    if !is_root() {
        return pass_over("what_another_user_may_not_do_is_told_apart", "needs root, to become another user");
    }
    let (dir, closed) = (Dir::new(), Dir::new());
    fs::set_permissions(dir.path(""), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::set_permissions(closed.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    drop(dir.options().mode(0o640).open("root's").unwrap());
    drop(dir.options().mode(0o666).open("everybody's").unwrap());
    let [owner, group] = [0, 0];
    Child::fork(|_: &mut Line| {
        become_nobody();
        let denied = |outcome: Result<ResourceLock, Error>| match outcome.map(drop) {
            Err(Error::PermissionDenied(denied)) => denied,
            outcome => panic!("{outcome:?}"),
        };
        let theirs = denied(dir.options().open("root's"));
        assert_eq!(theirs, Denied::Lock { uid: owner, gid: group, mode: 0o640 });
        assert!(theirs.to_string().contains("user 0 and group 0, with mode 0640"), "{theirs}");
        assert_eq!(denied(dir.options().group(0).open("new")), Denied::Group { gid: 0 });
        assert_eq!(denied(closed.options().open("new")), Denied::Directory);
        assert_eq!(
            dir.options().remove("everybody's", true).map(drop),
            Err(Error::PermissionDenied(Denied::Sticky { uid: owner }))
        );
        assert!(dir.options().open("nobody's").is_ok());
    })
    .succeeds();
    let mut names: Vec<_> = fs::read_dir(dir.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["resourcelock.everybody's", "resourcelock.nobody's", "resourcelock.root's"]);
}
