//! Waiting: cancelled, polled, on a ring and without one, for an overdue holder.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use resourcelock::{Cancel, Ending, LockError, Previous, Timeout};

use crate::support::{Child, Dir, LONG, wait_until};

/// Runs `body` in a process of its own, in which no other test opens descriptors.
fn alone(body: impl FnOnce()) {
    Child::fork(|_| body()).succeeds();
}

/// How many descriptors this process has open.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// The handoff bit of the lock's word, and the queue's bits and the slots: what a waiter may leave behind.
fn traces(dir: &Dir) -> (u32, u32, usize) {
    let bytes = std::fs::read(dir.lock_file()).unwrap();
    let cell = |offset: usize| u32::from_ne_bytes(bytes[offset..offset + 4].try_into().unwrap());
    let slots = (0..8).filter(|slot| cell(3840 + 16 * slot) != 0).count();
    (cell(64) & 1 << 30, cell(64 + 32), slots)
}

#[test]
fn another_thread_cancels_a_wait() {
    alone(|| {
        let dir = Dir::new();
        let (holder, lock) = (dir.open(), dir.open());
        let guard = holder.try_lock("at work").unwrap();
        let cancel = Cancel::new();
        let descriptors_before = descriptors();
        // In the first slice, and when it sleeps on a ring or in longer slices.
        for wait_for in [Duration::ZERO, Duration::from_millis(50), Duration::from_millis(1200)] {
            cancel.reset();
            std::thread::scope(|scope| {
                let waiter =
                    scope.spawn(|| lock.request("").timeout(Timeout::FOREVER).cancel(&cancel).lock().map(drop));
                let began = Instant::now();
                wait_until("it waits", || {
                    wait_for.is_zero() || began.elapsed() >= wait_for && !lock.waiters().is_empty()
                });
                cancel.cancel();
                assert_eq!(waiter.join().unwrap(), Err(LockError::Cancelled));
            });
            assert_eq!(traces(&dir), (0, 0, 0), "a handoff request, a place in the queue, or a slot was left");
        }
        assert_eq!(lock.request("").cancel(&cancel).lock().map(drop), Err(LockError::Cancelled), "it stays set");
        drop(guard);
        assert!(lock.request("").cancel(&cancel).lock().is_ok(), "a lock that is free is granted all the same");
        assert_eq!(descriptors(), descriptors_before);
    });
}

/// The handler of a signal sets the token; the signal interrupts the wait.
#[test]
fn a_signal_handler_cancels_a_wait() {
    static CANCEL: Cancel = Cancel::new();
    extern "C" fn handler(_: i32) {
        CANCEL.cancel();
    }
    let dir = Dir::new();
    let guard_lock = dir.open();
    let _guard = guard_lock.try_lock("at work").unwrap();
    let mut waiter = Child::fork(|line| {
        // SAFETY: a handler that only sets an atomic and wakes.
        unsafe { libc::signal(libc::SIGUSR1, handler as *const () as libc::sighandler_t) };
        let lock = dir.open();
        line.say("waits");
        assert_eq!(lock.request("").timeout(LONG).cancel(&CANCEL).lock().map(drop), Err(LockError::Cancelled));
    });
    waiter.line.hear("waits");
    wait_until("it has waited for a slice", || guard_lock.waiters().len() == 1);
    waiter.signal(libc::SIGUSR1);
    waiter.succeeds();
}

/// A signal that does not cancel does not lose the waiter its place.
#[test]
fn a_signal_that_does_not_cancel_keeps_the_place_in_the_queue() {
    extern "C" fn handler(_: i32) {}
    let dir = Dir::new();
    let holder = dir.open();
    let guard = holder.try_lock("at work").unwrap();
    let waiter = |line: &mut crate::support::Line| {
        // SAFETY: a handler that does nothing.
        unsafe { libc::signal(libc::SIGUSR1, handler as *const () as libc::sighandler_t) };
        let lock = dir.open();
        line.say("waits");
        let guard = lock.lock(LONG, "").unwrap();
        line.say("granted");
        line.next();
        drop(guard);
    };
    let mut first = Child::fork(waiter);
    first.line.hear("waits");
    wait_until("the first waits", || holder.waiters().len() == 1);
    let mut second = Child::fork(waiter);
    second.line.hear("waits");
    wait_until("the second waits", || holder.waiters().len() == 2);
    for _ in 0..20 {
        first.signal(libc::SIGUSR1);
        std::thread::yield_now();
    }
    // Without a ring, a release wakes one who sleeps; a waiter that a signal has just woken is not among them.
    first.waits();
    // The hold was a long one, so it is handed over to the first in the queue.
    drop(guard);
    first.line.hear("granted");
    assert!(!second.has_died());
    first.line.say("release");
    second.line.hear("granted");
    second.line.say("release");
    first.succeeds();
    second.succeeds();
}

/// Sixteen waiters are served in the order in which they came, however long they have waited.
#[test]
fn waiters_are_served_in_the_order_of_their_arrival() {
    let dir = Dir::new();
    let holder = dir.open();
    let guard = holder.try_lock("at work").unwrap();
    let served = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for index in 0..16 {
            let arrivals = |dir: &Dir| {
                let bytes = std::fs::read(dir.lock_file()).unwrap();
                u32::from_ne_bytes(bytes[64 + 40..64 + 44].try_into().unwrap())
            };
            let before = arrivals(&dir);
            let (dir, served) = (&dir, &served);
            scope.spawn(move || {
                let lock = dir.open();
                let guard = lock.lock(LONG, "").unwrap();
                served.lock().unwrap().push(index);
                // Long enough to be handed over.
                std::thread::sleep(Duration::from_millis(3));
                drop(guard);
            });
            wait_until("it has arrived", || arrivals(dir) != before);
        }
        drop(guard);
    });
    assert_eq!(served.into_inner().unwrap(), (0..16).collect::<Vec<_>>());
}

#[test]
fn an_overdue_holder_is_reported_and_broken_only_where_the_maker_allows_it() {
    for allowed in [false, true] {
        let dir = Dir::new();
        let options = dir.options().allow_break(allowed);
        let (holder, waiter) = (options.open("it").unwrap(), options.open("it").unwrap());
        let guard = holder.request("hangs").expect_to_hold(Duration::from_millis(30)).lock().unwrap();
        assert_eq!(holder.holder().unwrap().expected(), Some(Duration::from_millis(30)));
        let calls = AtomicU32::new(0);
        let on_overdue = |grant: &resourcelock::Grant| {
            assert_eq!(grant.info(), "hangs");
            calls.fetch_add(1, Ordering::Relaxed);
        };
        let request = waiter.request("breaks").timeout(Timeout::from_millis(400)).on_overdue(&on_overdue);
        let outcome = request.break_overdue(true).lock();
        assert_eq!(calls.load(Ordering::Relaxed), 1, "told once");
        if allowed {
            let breaker = outcome.unwrap();
            assert!(!guard.is_held() && guard.check() == Ok(false));
            let Previous::Forced(Some(previous)) = breaker.previous() else { panic!("{:?}", breaker.previous()) };
            assert_eq!((previous.info(), previous.ending()), ("hangs", Some(Ending::Overdue)));
            assert_eq!(previous.forced_by().unwrap().0, std::process::id());
            assert!(!guard.release(), "it was broken");
            assert!(breaker.is_held());
        } else {
            assert!(matches!(outcome, Err(LockError::TimedOut(Some(_)))), "{outcome:?}");
            assert!(guard.is_held());
            assert!(dir.options().inspect("it").unwrap().overdue().is_some());
        }
    }
}

#[test]
fn a_hold_without_an_expectation_is_never_overdue() {
    let dir = Dir::new();
    let options = dir.options().allow_break(true);
    let (holder, waiter) = (options.open("it").unwrap(), options.open("it").unwrap());
    let _guard = holder.try_lock("takes its time").unwrap();
    let outcome = waiter.request("").timeout(Timeout::from_millis(100)).break_overdue(true).lock();
    assert!(matches!(outcome, Err(LockError::TimedOut(_))));
    assert_eq!(dir.options().inspect("it").unwrap().overdue(), None);
}

/// A program that waits for itself is told so, with the grant that it waits for.
#[cfg(feature = "log")]
#[test]
fn a_wait_for_the_own_process_is_warned_of() {
    static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());
    struct Logger;
    impl log::Log for Logger {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &log::Record<'_>) {
            LINES.lock().unwrap().push(format!("{}: {}", record.level(), record.args()));
        }

        fn flush(&self) {}
    }
    let install = || log::set_logger(&Logger).is_ok();
    if !crate::support::is_fresh("waiting::a_wait_for_the_own_process_is_warned_of", || true) {
        return;
    }
    assert!(install());
    log::set_max_level(log::LevelFilter::Warn);
    let dir = Dir::new();
    let (holder, lock) = (dir.open(), dir.open());
    let guard = holder.try_lock("at work").unwrap();
    assert!(lock.lock(Timeout::from_millis(2500), "").is_err());
    let warning = format!("WARN: <it> this process has waited for its own grant {} for a second", guard.number());
    assert_eq!(*LINES.lock().unwrap(), [warning], "once");
}

#[cfg(all(feature = "ring", feature = "std"))]
mod polled {
    use std::os::fd::AsRawFd;

    use resourcelock::{Acquiring, Error, Guard, ResourceLock};

    use super::*;
    use crate::support::{Argument, is_fresh, pass_over, refuse};

    fn start<'a>(lock: &'a ResourceLock, cancel: Option<&'a Cancel>, timeout: Timeout) -> Option<Acquiring<'a>> {
        let request = lock.request("polls").timeout(timeout);
        let request = cancel.map_or(request, |cancel| request.cancel(cancel));
        match request.start() {
            Err(LockError::Failed(Error::NoRing)) => {
                pass_over("waiting::polled", "no io_uring that waits for futexes");
                None
            }
            outcome => Some(outcome.unwrap()),
        }
    }

    /// Polls the descriptor, and goes on when it is readable.
    fn complete<'a>(acquiring: &mut Acquiring<'a>) -> Result<Guard<'a>, LockError> {
        loop {
            if let Some(guard) = acquiring.poll()? {
                return Ok(guard);
            }
            let mut fds = [libc::pollfd { fd: acquiring.as_raw_fd(), events: libc::POLLIN, revents: 0 }];
            // SAFETY: an array of this function.
            let ready = unsafe { libc::poll(fds.as_mut_ptr(), 1, 60_000) };
            assert!(ready == 1 || std::io::Error::last_os_error().raw_os_error() == Some(libc::EINTR), "it hangs");
        }
    }

    #[test]
    fn a_polled_request_is_granted_when_the_holder_releases_or_dies() {
        alone(|| {
            let dir = Dir::new();
            let lock = dir.open();
            let descriptors_before = descriptors();
            for kill in [false, true] {
                let holder = Child::holder(&dir, "at work");
                let Some(mut acquiring) = start(&lock, None, LONG) else { return };
                assert!(acquiring.poll().unwrap().is_none());
                if kill {
                    holder.kill();
                    assert!(complete(&mut acquiring).unwrap().recovered());
                    assert!(acquiring.poll().unwrap().is_none(), "once");
                } else {
                    holder.lets_go();
                    assert!(!complete(&mut acquiring).unwrap().recovered());
                }
            }
            assert!(start(&lock, None, LONG).unwrap().poll().unwrap().is_some(), "a free lock is granted at once");
            assert_eq!(descriptors(), descriptors_before);
        });
    }

    #[test]
    fn a_polled_request_times_out_and_can_be_cancelled() {
        let dir = Dir::new();
        let (holder, lock) = (dir.open(), dir.open());
        let _guard = holder.try_lock("at work").unwrap();
        let began = Instant::now();
        let Some(mut acquiring) = start(&lock, None, Timeout::from_millis(50)) else { return };
        assert!(matches!(complete(&mut acquiring), Err(LockError::TimedOut(Some(_)))));
        assert!(began.elapsed() >= Duration::from_millis(50));
        drop(acquiring);
        let cancel = Cancel::new();
        let mut acquiring = start(&lock, Some(&cancel), Timeout::FOREVER).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| cancel.cancel());
            assert_eq!(complete(&mut acquiring).map(drop), Err(LockError::Cancelled));
        });
        drop(acquiring);
        assert_eq!(traces(&dir), (0, 0, 0));
    }

    /// Dropped while it waits, also when it has just been woken: the next waiter is granted the lock, and nothing is left.
    #[test]
    fn a_dropped_request_leaves_no_trace_and_swallows_no_wake_up() {
        alone(|| {
            let dir = Dir::new();
            let (holder, lock) = (dir.open(), dir.open());
            let descriptors_before = descriptors();
            for round in 0..60 {
                let guard = holder.try_lock("at work").unwrap();
                let Some(acquiring) = start(&lock, None, Timeout::FOREVER) else { return };
                std::thread::scope(|scope| {
                    let waiter = scope.spawn(|| {
                        let began = Instant::now();
                        drop(dir.open().lock(LONG, "waits behind it").unwrap());
                        began.elapsed()
                    });
                    wait_until("both wait", || traces(&dir).1.count_ones() == 2);
                    if round % 2 == 0 {
                        // It is woken, and dropped before it acts on that.
                        drop(guard);
                        drop(acquiring);
                    } else {
                        drop(acquiring);
                        drop(guard);
                    }
                    waiter.join().unwrap();
                });
                assert_eq!(traces(&dir), (0, 0, 0));
            }
            assert_eq!(descriptors(), descriptors_before);
        });
    }

    /// Several threads wait on one handle, each with a ring of its own.
    #[test]
    fn threads_that_share_a_handle_wait_on_rings_of_their_own() {
        let dir = Dir::new();
        let (holder, lock) = (dir.open(), dir.open());
        let guard = holder.try_lock("at work").unwrap();
        let counter = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    let guard = lock.lock(LONG, "").unwrap();
                    let seen = counter.load(Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(2));
                    counter.store(seen + 1, Ordering::Relaxed);
                    drop(guard);
                });
            }
            wait_until("all wait", || lock.waiters().len() == 6);
            drop(guard);
        });
        assert_eq!(counter.into_inner(), 6);
    }

    /// A child that is forked while the parent waits has the ring's descriptor, and must not keep the wait queued; its copy
    /// of the request does nothing.
    #[test]
    fn a_forked_child_does_nothing_with_the_parents_request() {
        let dir = Dir::new();
        let (holder, lock) = (dir.open(), dir.open());
        let guard = holder.try_lock("at work").unwrap();
        let Some(acquiring) = start(&lock, None, Timeout::FOREVER) else { return };
        let mut acquiring = Some(acquiring);
        let mut child = Child::fork(|line| {
            let mut copy = acquiring.take().unwrap();
            assert!(copy.poll().unwrap().is_none());
            drop(copy);
            line.say("dropped");
            line.next();
        });
        child.line.hear("dropped");
        // The child lives, and has the descriptor.
        drop(guard);
        let guard = complete(acquiring.as_mut().unwrap()).unwrap();
        drop(guard);
        drop(acquiring);
        child.line.say("end");
        child.succeeds();
    }

    /// Where a sandbox refuses io_uring, waits work in slices, and a polled request is a typed error.
    #[test]
    fn without_io_uring_waits_work_and_polling_is_a_typed_error() {
        let refuse_rings = || {
            let any = Argument { index: 0, mask: 0, value: 0 };
            refuse(libc::SYS_io_uring_setup, any, libc::EPERM)
        };
        if !is_fresh("waiting::polled::without_io_uring_waits_work_and_polling_is_a_typed_error", refuse_rings) {
            return;
        }
        let dir = Dir::new();
        let lock = dir.open();
        let outcome = lock.request("").start();
        assert!(matches!(outcome, Err(LockError::Failed(Error::NoRing))), "{outcome:?}");
        let holder = Child::holder(&dir, "at work");
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| dir.open().lock(LONG, "").unwrap().recovered());
            wait_until("it waits", || lock.waiters().len() == 1);
            holder.kill();
            assert!(waiter.join().unwrap());
        });
    }
}
