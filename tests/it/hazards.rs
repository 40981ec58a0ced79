//! Hazards that a review of the crate found: races, descriptors that the program closes, namespaces, and waits that end without
//! a grant.
//!
//! Seen to fail before the fixes, but for two hazards that were suspected and turned out to be none: the preempted waiter and
//! the dead waiter's ring.
//!
//! Tests that install signal handlers, close descriptors or change namespaces run in
//! a forked child, because libtest runs the other tests of this binary as threads of the same process.

use std::fs;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use resourcelock::{Cancel, LockError};

use crate::support::{Child, Dir, LONG, has_own_mounts, is_root, pass_over, wait_until};

/// Waits until a handle's last check of its file's name has expired. A handle checks every 100 ms, so time is the event here.
fn let_the_check_come_due() {
    thread::sleep(Duration::from_millis(120));
}

/// Closes a descriptor behind the crate's back, as closefrom(2) does.
fn close(number: RawFd) {
    // SAFETY: the callers are forked children that end by `_exit`, and no Rust object there uses this descriptor again. The
    // crate must tolerate the loss of its own: that is under test.
    unsafe { libc::close(number) };
}

fn is_open(number: RawFd) -> bool {
    // SAFETY: a query. An invalid number is an error of the kernel's.
    unsafe { libc::fcntl(number, libc::F_GETFD) != -1 }
}

/// Makes `number` refer to the same file as `from`.
fn duplicate_as(from: RawFd, number: RawFd) {
    // SAFETY: the callers are forked children in which nothing but the crate under test has used this number.
    assert_eq!(unsafe { libc::dup2(from, number) }, number);
}

/// This process's descriptors whose link in /proc contains `target`, in ascending order.
fn descriptors_of(target: &str) -> Vec<RawFd> {
    let mut found: Vec<RawFd> = fs::read_dir("/proc/self/fd")
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| fs::read_link(entry.path()).is_ok_and(|link| link.to_str().unwrap().contains(target)))
        .map(|entry| entry.file_name().to_str().unwrap().parse().unwrap())
        .collect();
    found.sort_unstable();
    found
}

/// The lock's file is replaced while two threads of one handle wait, and one of them is preempted until the other has
/// reattached the handle. If it then probed the new holder's seat in the old file, it would take a live holder for dead.
#[test]
fn a_waiter_that_is_preempted_across_a_reattach_evicts_nobody() {
    static IS_PREEMPTED: AtomicBool = AtomicBool::new(false);
    static MAY_RESUME: AtomicBool = AtomicBool::new(false);

    /// Stands for preemption: the thread does not run until it may.
    extern "C" fn preempt(_: libc::c_int) {
        IS_PREEMPTED.store(true, Ordering::SeqCst);
        while !MAY_RESUME.load(Ordering::SeqCst) {
            // SAFETY: sleeps for a millisecond; poll(2) is async-signal-safe.
            unsafe { libc::poll(std::ptr::null_mut(), 0, 1) };
        }
    }

    let dir = Dir::new();
    Child::fork(|_| {
        let handler: extern "C" fn(libc::c_int) = preempt;
        // SAFETY: the handler makes async-signal-safe calls only. This process ends with the test.
        unsafe { libc::signal(libc::SIGUSR1, handler as *const () as libc::sighandler_t) };
        let (shared, old) = (dir.open(), dir.open());
        let held = old.try_lock("on the old file").unwrap();
        let cancel = Cancel::new();
        let (tell_id, id) = mpsc::channel();
        thread::scope(|scope| {
            let wait = || shared.request("waits").timeout(LONG).cancel(&cancel).lock().map(|guard| guard.keep());
            let preempted = scope.spawn(move || {
                // SAFETY: returns this thread's id.
                tell_id.send(unsafe { libc::syscall(libc::SYS_gettid) }).unwrap();
                wait()
            });
            wait_until("the first thread waits", || old.waiters().len() == 1);
            let other = scope.spawn(wait);
            wait_until("both threads wait", || old.waiters().len() == 2);
            let (process, thread) = (std::process::id(), id.recv().unwrap());
            // SAFETY: a signal to a thread of this process, which has not been joined.
            assert_eq!(unsafe { libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGUSR1) }, 0);
            wait_until("the first thread is preempted", || IS_PREEMPTED.load(Ordering::SeqCst));
            fs::remove_file(dir.lock_file()).unwrap();
            let new = dir.open();
            let live = new.try_lock("on the new file").unwrap();
            let_the_check_come_due();
            drop(held);
            wait_until("the second thread has reattached", || !new.waiters().is_empty());
            MAY_RESUME.store(true, Ordering::SeqCst);
            wait_until("the first thread waits again", || new.waiters().len() == 2 || !live.is_held());
            // A waiter is listed after its first slice, at whose end it probes the holder. Time for more probes.
            thread::sleep(Duration::from_millis(100));
            let is_held = live.is_held();
            cancel.cancel();
            let outcomes = [preempted.join().unwrap(), other.join().unwrap()];
            assert!(is_held, "a live holder was evicted: {outcomes:?}");
            assert_eq!(outcomes, [Err(LockError::Cancelled), Err(LockError::Cancelled)]);
        });
    })
    .succeeds();
}

/// A forked child needs a seat of its own. Once the lock had been removed in the ordinary way, nobody could take a seat in the
/// old file, and each request of the child failed.
#[test]
fn a_forked_child_can_acquire_after_the_lock_was_removed() {
    let dir = Dir::new();
    let lock = dir.open();
    let mut child = Child::fork(|line| {
        line.hear("removed");
        drop(lock.try_lock("the child's first").unwrap());
        drop(lock.try_lock("the child's second").unwrap());
        drop(dir.open().try_lock("the child's, by a new handle").unwrap());
    });
    dir.open().remove(false).unwrap();
    drop(dir.open().try_lock("on the new file").unwrap());
    child.line.say("removed");
    child.succeeds();
}

/// The program closed the descriptor that a handle kept to probe seats with, and the descriptor of another handle's seat got
/// its number. A probe by it asked about its own lock, which never conflicts: a live holder was taken for dead.
#[test]
fn a_probe_whose_number_became_another_seats_evicts_nobody() {
    let dir = Dir::new();
    // The handle that makes the file opens it without a name, by which this test could not recognize the descriptor.
    drop(dir.open());
    Child::fork(|line| {
        let null = fs::File::open("/dev/null").unwrap();
        // The lowest free number from 10 on, where seats are kept, too.
        let occupy_from_10 = || {
            // SAFETY: makes a new descriptor.
            let number = unsafe { libc::fcntl(null.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 10) };
            assert_ne!(number, -1);
            number
        };
        // Occupies all numbers below 10, so that the handle's probe gets one that a seat can get later.
        loop {
            // SAFETY: makes a new descriptor.
            let number = unsafe { libc::dup(null.as_raw_fd()) };
            assert_ne!(number, -1);
            if number >= 10 {
                close(number);
                break;
            }
        }
        let one = dir.open();
        let probes = descriptors_of(dir.lock_file().to_str().unwrap());
        let [probe] = probes[..] else { panic!("not one probe: {probes:?}") };
        // From here on, the probe's number is the lowest free one from 10 on. `open` gets lower ones for its short-lived
        // descriptors.
        loop {
            let number = occupy_from_10();
            if number > probe {
                close(number);
                break;
            }
        }
        close(probe);
        (3..10).filter(|&number| number != line.as_raw_fd() && number != null.as_raw_fd()).for_each(close);
        let two = dir.options().keep_across_exec(true).open("it").unwrap();
        assert_eq!(two.seat_descriptor(), Some(probe));
        let live = two.try_lock("alive").unwrap();
        assert!(matches!(one.try_lock("evicts"), Err(LockError::TimedOut(Some(holder))) if holder.info() == "alive"));
        assert!(live.is_held());
    })
    .succeeds();
}

/// The program closed a handle's inotify descriptor and then had an epoll by its number. The handle recognized the descriptor
/// by its lack of a file type, which an epoll lacks, too, and closed it.
#[cfg(feature = "ring")]
#[test]
fn a_handle_closes_no_epoll_in_place_of_its_file_watch() {
    use std::os::unix::fs::FileExt;

    use resourcelock::Timeout;

    const TEST: &str = "a_handle_closes_no_epoll_in_place_of_its_file_watch";
    let dir = Dir::new();
    Child::fork(|_| {
        let (lock, other) = (dir.open(), dir.open());
        let _held = other.try_lock("held").unwrap();
        // The holder's PID namespace is unknown, as in a container: the waiter watches the file instead of the process. These
        // are the namespaces in the 16 reports of the record.
        let file = fs::OpenOptions::new().write(true).open(dir.lock_file()).unwrap();
        for report in 0..16 {
            file.write_all_at(&[0; 4], 384 + 216 * report + 12).unwrap();
        }
        assert!(matches!(lock.lock(Timeout::from_millis(100), ""), Err(LockError::TimedOut(_))));
        let [watch] = descriptors_of("inotify")[..] else {
            return pass_over(TEST, "no io_uring that waits for futexes, or inherited descriptors");
        };
        close(watch);
        // SAFETY: makes a new descriptor.
        let epoll = unsafe { libc::epoll_create1(0) };
        if epoll != watch {
            duplicate_as(epoll, watch);
        }
        drop(lock);
        assert!(is_open(watch), "the program's epoll was closed");
    })
    .succeeds();
}

/// A waiter took over from a dead holder on a file that had lost its name, and continued with the new file. Its wait ended
/// there without a grant, and nobody learnt of the death.
#[test]
fn a_death_is_reported_after_the_wait_that_noticed_it_has_failed() {
    let dir = Dir::new();
    let lock = dir.open();
    let victim = Child::holder(&dir, "dies");
    let cancel = Cancel::new();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| lock.request("waits").timeout(LONG).cancel(&cancel).lock().map(drop));
        wait_until("it waits for the victim", || !lock.waiters().is_empty());
        fs::remove_file(dir.lock_file()).unwrap();
        let new = dir.open();
        let guard = new.try_lock("on the new file").unwrap();
        let_the_check_come_due();
        victim.kill();
        wait_until("it waits for the new file's holder", || !new.waiters().is_empty());
        cancel.cancel();
        assert_eq!(waiter.join().unwrap(), Err(LockError::Cancelled));
        drop(guard);
    });
    assert!(lock.try_lock("next").unwrap().recovered(), "nobody learnt of the death");
    assert!(!lock.try_lock("last").unwrap().recovered(), "once");
}

/// A process changed its mount namespace and opened a handle only then. The handle took each lost name for an effect of that
/// change, and never noticed that its file had been removed: there were two holders.
#[test]
fn a_handle_opened_after_a_change_of_namespace_notices_a_removed_file() {
    if !is_root() {
        let why = "mount namespaces need root";
        return pass_over("a_handle_opened_after_a_change_of_namespace_notices_a_removed_file", why);
    }
    let dir = Dir::new();
    Child::fork(|_| {
        drop(dir.open());
        assert!(has_own_mounts());
        let old = dir.open();
        fs::remove_file(dir.lock_file()).unwrap();
        let new = dir.open();
        let guard = new.try_lock("on the new file").unwrap();
        let_the_check_come_due();
        assert!(
            matches!(old.try_lock(""), Err(LockError::TimedOut(Some(holder))) if holder.info() == "on the new file"),
            "two holders"
        );
        assert!(guard.is_held());
    })
    .succeeds();
}

/// The program put another file in place of the seat's descriptor that a handle kept (dup2(2)). The handle closed that file
/// when it was dropped.
#[test]
fn a_handle_closes_no_file_in_place_of_its_seats_descriptor() {
    let dir = Dir::new();
    Child::fork(|_| {
        let lock = dir.options().keep_across_exec(true).open("it").unwrap();
        let number = lock.seat_descriptor().unwrap();
        duplicate_as(fs::File::open("/dev/null").unwrap().as_raw_fd(), number);
        assert_eq!(lock.seat_descriptor(), None, "it is not the seat's any more");
        drop(lock);
        assert!(is_open(number), "the program's file was closed");
    })
    .succeeds();
}

/// Before Linux 4.14 the kernel cannot wipe a page at a fork (MADV_WIPEONFORK), and the pid alone distinguished a child from
/// its parent. Where each is pid 1 of its own namespace, the child took its parent's hold for its own.
#[cfg(feature = "std")]
#[test]
fn a_child_with_its_parents_pid_does_not_hold_on_an_old_kernel() {
    use crate::support::{Argument, is_fresh, refuse};

    const TEST: &str = "a_child_with_its_parents_pid_does_not_hold_on_an_old_kernel";
    /// MADV_WIPEONFORK, as the third argument of madvise(2).
    const WIPE_ON_FORK: Argument = Argument { index: 2, mask: u32::MAX, value: 18 };
    if !is_root() {
        return pass_over(TEST, "PID namespaces need root");
    }
    // The process decides once how it recognizes a fork.
    if !is_fresh(&format!("hazards::{TEST}"), || refuse(libc::SYS_madvise, WIPE_ON_FORK, libc::EINVAL)) {
        return;
    }
    let unshare = || {
        // SAFETY: the next child is the first process of a new PID namespace. Nothing of this process's memory changes.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWPID) }, 0);
    };
    let dir = Dir::new();
    Child::fork(|_| {
        unshare();
        Child::fork(|_| {
            assert_eq!(std::process::id(), 1);
            let lock = dir.open();
            let guard = lock.try_lock("the parent's").unwrap();
            unshare();
            Child::fork(|_| {
                assert_eq!(std::process::id(), 1);
                assert!(!guard.is_held(), "the child owns its parent's hold");
            })
            .succeeds();
            assert!(guard.is_held());
        })
        .succeeds();
    })
    .succeeds();
}

/// Requests that are polled, and so wait on a ring.
#[cfg(all(feature = "ring", feature = "std"))]
mod polled {
    use resourcelock::{Acquiring, Error, Guard, ResourceLock, Timeout};

    use super::*;

    /// Starts a request. `None` if the kernel has no ring for it.
    fn start<'a>(lock: &'a ResourceLock, test: &str) -> Option<Acquiring<'a>> {
        match lock.request("polls").timeout(Timeout::FOREVER).start() {
            Err(LockError::Failed(Error::NoRing)) => {
                pass_over(test, "no io_uring that waits for futexes");
                None
            }
            outcome => Some(outcome.unwrap()),
        }
    }

    /// Whether the request's descriptor becomes readable within this time.
    fn becomes_readable(acquiring: &Acquiring<'_>, within: Duration) -> bool {
        let mut fds = [libc::pollfd { fd: acquiring.as_raw_fd(), events: libc::POLLIN, revents: 0 }];
        // SAFETY: an array of one element, which outlives the call.
        unsafe { libc::poll(fds.as_mut_ptr(), 1, within.as_millis() as i32) == 1 }
    }

    /// Polls until the grant. Only a wake-up makes the descriptor readable so early: by itself the request looks once a second.
    fn complete<'a>(acquiring: &mut Acquiring<'a>) -> Guard<'a> {
        loop {
            if let Some(guard) = acquiring.poll().unwrap() {
                return guard;
            }
            assert!(becomes_readable(acquiring, Duration::from_millis(500)), "lost wake-up");
        }
    }

    /// The kernel cancels what a thread has submitted when that thread ends. The request did not submit its wait anew, and
    /// missed the release for up to a second.
    #[test]
    fn a_request_survives_the_thread_that_started_it() {
        let dir = Dir::new();
        let (lock, other) = (dir.open(), dir.open());
        let held = other.try_lock("held").unwrap();
        let started = thread::scope(|scope| {
            scope.spawn(|| start(&lock, "a_request_survives_the_thread_that_started_it")).join().unwrap()
        });
        let Some(mut acquiring) = started else { return };
        // Readable when the kernel has cancelled the wait. One that cancels nothing leaves it unreadable.
        becomes_readable(&acquiring, Duration::from_millis(100));
        drop(held);
        drop(complete(&mut acquiring));
    }

    /// The holder reserved the lock for a request that was dropped before it was polled. The reservation stayed, for nobody.
    #[test]
    fn a_dropped_request_leaves_no_reservation() {
        let dir = Dir::new();
        let (lock, other, third) = (dir.open(), dir.open(), dir.open());
        let held = other.try_lock("held").unwrap();
        let Some(acquiring) = start(&lock, "a_dropped_request_leaves_no_reservation") else { return };
        // After so long a hold, the release reserves the lock for a waiter.
        thread::sleep(Duration::from_millis(5));
        drop(held);
        let is_reserved = || {
            let bytes = fs::read(dir.lock_file()).unwrap();
            u32::from_ne_bytes(bytes[64..68].try_into().unwrap()) & 1 << 30 != 0
        };
        assert!(is_reserved());
        drop(acquiring);
        assert!(!is_reserved());
        assert!(third.try_lock("").is_ok(), "nobody holds the lock, and nobody waits");
    }

    /// A waiter is killed while a child that it has forked still has its ring. If its wait stayed in the kernel's queue, it
    /// would swallow the wake-up of the next waiter.
    #[test]
    fn a_dead_waiter_whose_ring_lives_on_swallows_no_wake_up() {
        const TEST: &str = "a_dead_waiter_whose_ring_lives_on_swallows_no_wake_up";
        let dir = Dir::new();
        let holder = dir.open();
        let held = holder.try_lock("held").unwrap();
        let mut doomed = Child::fork(|line| {
            let lock = dir.open();
            let Some(_acquiring) = start(&lock, TEST) else { return line.say("no ring") };
            // Has a copy of the ring, and lives until the test closes its end of the line.
            let _heir = Child::fork(|_| drop(line.next()));
            line.say("waits");
            loop {
                // SAFETY: waits for a signal.
                unsafe { libc::pause() };
            }
        });
        if doomed.line.next() == "no ring" {
            return;
        }
        doomed.kill();
        let mut live = Child::fork(|line| {
            drop(dir.open().lock(LONG, "lives").unwrap());
            line.say("granted");
        });
        // A waiter with a ring sleeps for 10 ms at first, and then for a second at a time: only a wake-up can end that early.
        wait_until("it is in a long sleep", || {
            let is_settled = |waiter: &resourcelock::Waiter| waiter.waited >= Duration::from_millis(100);
            holder.waiters().iter().any(|waiter| waiter.pid == live.pid as u32 && is_settled(waiter))
        });
        drop(held);
        let mut fds = [libc::pollfd { fd: live.line.as_raw_fd(), events: libc::POLLIN, revents: 0 }];
        // SAFETY: an array of one element, which outlives the call.
        assert_eq!(unsafe { libc::poll(fds.as_mut_ptr(), 1, 500) }, 1, "lost wake-up");
        live.line.hear("granted");
        live.succeeds();
    }
}
