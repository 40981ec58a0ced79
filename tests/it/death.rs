//! A dead holder blocks nobody, and a live one is never evicted, however slow it is.
//!
//! Seen to fail, each by itself: without the probe before the first sleep, without the probes at the end of a slice, with
//! a probe that takes every seat for locked, with one that takes every seat for unlocked, and with a recovery of detached
//! holds.

use std::fs;
use std::time::{Duration, Instant};

use resourcelock::{Ending, Guard, Kind, LockError, Previous, Status, Timeout};

use crate::support::{AT_ONCE, Child, Dir, End, LONG, Line, is_root, pass_over, wait_until};

const WHILE: Timeout = Timeout::from_millis(200);

/// Acquires the lock, which must find that its holder has died; `pid` and `info` are what the holder had published.
#[track_caller]
fn recovers(dir: &Dir, pid: libc::pid_t, info: &str) {
    let lock = dir.open();
    let guard = lock.lock(AT_ONCE, "takes over").unwrap();
    assert!(guard.recovered());
    let Previous::Died(Some(dead)) = guard.previous() else { panic!("{:?}", guard.previous()) };
    assert_eq!((dead.pid(), dead.info(), dead.kind()), (pid as u32, info, Kind::Process));
    assert_eq!(dead.ending(), Some(Ending::Died));
    assert_eq!(guard.recovered_from().map(|grant| grant.number()), Some(dead.number()));
    assert!(matches!(lock.previous(), Previous::Died(Some(grant)) if grant.number() == dead.number()));
    assert!(guard.release());
    assert!(matches!(lock.previous(), Previous::Released), "the handle does not hold any more");

    let again = lock.lock(AT_ONCE, "once is enough").unwrap();
    assert!(!again.recovered() && again.recovered_from().is_none());
    assert!(matches!(again.previous(), Previous::Released) && matches!(lock.previous(), Previous::Released));
    drop(again);
    assert_eq!(lock.counters().recoveries, 1);
}

#[test]
fn a_killed_holder_is_recovered_by_a_later_get_at_once() {
    let dir = Dir::new();
    let mut holder = Child::holder(&dir, "dies");
    holder.signal(libc::SIGKILL);
    assert_eq!(holder.end(), End::Killed(libc::SIGKILL));
    assert!(dir.open().is_held(), "until the next acquire");
    recovers(&dir, holder.pid, "dies");
}

/// The kernel unlocks the seat of a process before it becomes a zombie.
#[test]
fn a_zombie_counts_as_dead() {
    let dir = Dir::new();
    let holder = Child::holder(&dir, "is not reaped");
    holder.kill();
    assert!(fs::read_to_string(format!("/proc/{}/stat", holder.pid)).unwrap().contains(") Z "));
    recovers(&dir, holder.pid, "is not reaped");
}

#[test]
fn a_holder_that_exits_without_releasing_is_recovered() {
    let dir = Dir::new();
    let mut holder = Child::fork(|_| dir.open().lock(LONG, "forgets").unwrap().keep());
    // That one dropped its handle, which releases. The next one does not.
    assert_eq!(holder.end(), End::Exited(0));
    let mut forgetful = Child::fork(|_| {
        let lock = Box::leak(Box::new(dir.open()));
        std::mem::forget(lock.lock(LONG, "forgets").unwrap());
    });
    assert_eq!(forgetful.end(), End::Exited(0));
    recovers(&dir, forgetful.pid, "forgets");
}

#[test]
fn a_holder_killed_during_a_wait_is_recovered_and_reported() {
    is_recovered_after_slices(0);
}

/// The waiter keeps its probe's descriptor for the whole wait. Seen to fail with a waiter that probes only once.
#[test]
fn a_holder_killed_late_during_a_wait_is_recovered_and_reported() {
    is_recovered_after_slices(5);
}

/// Kills the holder after the waiter has gone to sleep that many more times.
fn is_recovered_after_slices(slices: u64) {
    let dir = Dir::new();
    let holder = Child::holder(&dir, "dies later");
    let pid = holder.pid as u32;
    let mut waiter = Child::fork(|line| {
        let lock = dir.open();
        line.say("asks");
        let guard = lock.lock(LONG, "waits").unwrap();
        let dead = guard.recovered_from().unwrap();
        assert_eq!((dead.pid(), dead.info()), (pid, "dies later"));
        line.say("told");
    });
    waiter.line.hear("asks");
    waiter.waits();
    let sleeps = || {
        let status = fs::read_to_string(format!("/proc/{}/status", waiter.pid)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
        line.trim().parse::<u64>().unwrap()
    };
    let before = sleeps();
    wait_until("slices pass", || sleeps() >= before + slices);
    let killed = Instant::now();
    holder.kill();
    waiter.line.hear("told");
    // A slice is 10 ms; the rest is for a machine that is busy with other tests.
    assert!(killed.elapsed() < Duration::from_secs(5), "{:?}", killed.elapsed());
    waiter.succeeds();
}

#[test]
fn a_stopped_holder_holds() {
    let dir = Dir::new();
    let holder = Child::holder(&dir, "is stopped");
    holder.stop();
    let lock = dir.open();
    match lock.lock(WHILE, "") {
        Err(LockError::TimedOut(Some(owner))) => {
            assert_eq!((owner.pid(), owner.info()), (holder.pid as u32, "is stopped"));
        }
        outcome => panic!("{outcome:?}"),
    }
    holder.signal(libc::SIGCONT);
    holder.lets_go();
    assert!(!lock.try_lock("").unwrap().recovered());
}

#[test]
fn a_detached_hold_outlives_its_process() {
    let dir = Dir::new();
    let mut getter = Child::fork(|_| {
        let lock = dir.open();
        assert!(lock.lock(LONG, "stays").unwrap().detach());
        assert!(lock.holds());
    });
    assert_eq!(getter.end(), End::Exited(0));
    let lock = dir.open();
    let Err(LockError::TimedOut(Some(owner))) = lock.lock(WHILE, "") else { panic!("recovered") };
    assert_eq!((owner.pid(), owner.info(), owner.kind()), (getter.pid as u32, "stays", Kind::Detached));
    assert!(!lock.release(), "this handle does not hold");
    assert!(lock.force_release(), "a person decides");
    assert!(!lock.try_lock("").unwrap().recovered(), "the ordinary end of a detached hold");
}

#[test]
fn recovery_can_be_switched_off() {
    let dir = Dir::new();
    let holder = Child::holder(&dir, "dies");
    holder.kill();
    let cautious = dir.options().recover(false).open("it").unwrap();
    assert!(matches!(cautious.lock(WHILE, ""), Err(LockError::TimedOut(Some(_)))));
    recovers(&dir, holder.pid, "dies");
}

/// Pids play no part in liveness: an unrelated process that gets the pid of a dead holder does not keep its hold alive.
#[test]
fn a_process_with_the_pid_of_a_dead_holder_does_not_keep_its_hold_alive() {
    const TEST: &str = "a_process_with_the_pid_of_a_dead_holder_does_not_keep_its_hold_alive";
    if !is_root() {
        return pass_over(TEST, "choosing a pid needs root");
    }
    let dir = Dir::new();
    // A process of one thread, as `fork_with_pid` requires.
    let mut tester = Child::fork(|line| {
        let mut holder = Child::holder(&dir, "had the pid before");
        let pid = holder.pid;
        holder.signal(libc::SIGKILL);
        holder.end();
        let unrelated = Child::fork_with_pid(pid, |line| {
            line.next();
        });
        let Some(mut unrelated) = unrelated else { return line.say("no choice of pids") };
        recovers(&dir, pid, "had the pid before");
        unrelated.line.say("end");
        unrelated.succeeds();
        line.say("recovered");
    });
    match tester.line.next().as_str() {
        "recovered" => {}
        "no choice of pids" => pass_over(TEST, "no clone3 with set_tid"),
        said => panic!("{said:?}"),
    }
    tester.succeeds();
}

#[test]
fn of_two_recoverers_one_wins() {
    for _ in 0..200 {
        let dir = Dir::new();
        let lock = dir.open();
        let holder = Child::holder(&dir, "dies");
        let recoverer = |line: &mut Line| {
            let lock = dir.open();
            line.say("ready");
            line.hear("go");
            // Each holds until both have tried, so that a second winner would show.
            let outcome = lock.try_lock("recovers");
            line.say(match &outcome {
                Ok(guard) if guard.recovered() => "recovered",
                Ok(_) => "granted",
                Err(LockError::TimedOut(_)) => "no",
                Err(_) => "failed",
            });
            line.hear("end");
        };
        let mut two = [Child::fork(recoverer), Child::fork(recoverer)];
        two.iter_mut().for_each(|child| child.line.hear("ready"));
        holder.kill();
        two.iter_mut().for_each(|child| child.line.say("go"));
        let mut outcomes = two.each_mut().map(|child| child.line.next());
        outcomes.sort();
        assert_eq!(outcomes, ["no", "recovered"]);
        two.iter_mut().for_each(|child| child.line.say("end"));
        two.into_iter().for_each(Child::succeeds);
        assert_eq!(lock.counters().recoveries, 1);
    }
}

/// Has this process become `sleep`.
fn exec_sleep() -> ! {
    let program = c"/bin/sleep";
    let arguments = [program.as_ptr(), c"1000".as_ptr(), std::ptr::null()];
    // SAFETY: strings that end with NUL, in a list that ends with a null pointer.
    unsafe { libc::execv(program.as_ptr(), arguments.as_ptr()) };
    panic!("no /bin/sleep");
}

/// Starts a process that acquires the lock, keeps the hold in this way, and becomes another program.
fn becomes_another_program(dir: &Dir, keeps_descriptor: bool, keep: fn(Guard<'_>)) -> Child {
    let mut holder = Child::fork(|line| {
        let lock = Box::leak(Box::new(dir.options().keep_across_exec(keeps_descriptor).open("it").unwrap()));
        keep(lock.lock(LONG, "becomes another program").unwrap());
        line.say("holds");
        exec_sleep();
    });
    holder.line.hear("holds");
    // The line is not inherited, so it closes when the new program starts.
    assert_eq!(holder.line.next(), "");
    holder
}

/// The mapping that pins the seat goes with the old program's memory. Seen to fail with a seat whose descriptor is kept
/// without `O_CLOEXEC`.
#[test]
fn exec_ends_a_hold() {
    for keeps_descriptor in [false, true] {
        let dir = Dir::new();
        let holder = becomes_another_program(&dir, keeps_descriptor, |guard| guard.keep());
        // The kernel closes the line and unlocks the seat one after the other.
        let status = || dir.options().inspect("it").unwrap().status();
        wait_until("the seat is unlocked", || status() == Status::HolderDied);
        recovers(&dir, holder.pid, "becomes another program");
        assert!(!holder.has_died());
    }
}

/// Seen to fail with a `carry_across_exec` that leaves the descriptor close-on-exec.
#[test]
fn a_hold_that_is_carried_across_exec_lasts_until_the_new_program_ends() {
    let dir = Dir::new();
    let holder = becomes_another_program(&dir, true, |guard| assert!(guard.carry_across_exec().unwrap() >= 10));
    let lock = dir.open();
    assert!(matches!(lock.lock(WHILE, ""), Err(LockError::TimedOut(Some(owner))) if owner.pid() == holder.pid as u32));
    holder.kill();
    recovers(&dir, holder.pid, "becomes another program");
}

/// The kernel kills the other threads before it replaces the program; neither step may make a live holder look dead. With
/// liveness by pid a holder that called exec in a secondary thread was declared dead in between.
#[test]
fn a_hold_that_is_carried_across_exec_by_a_secondary_thread_is_not_lost() {
    for _ in 0..20 {
        let dir = Dir::new();
        let mut holder = Child::fork(|line| {
            let lock = Box::leak(Box::new(dir.options().keep_across_exec(true).open("it").unwrap()));
            lock.lock(LONG, "becomes another program").unwrap().carry_across_exec().unwrap();
            line.say("holds");
            line.hear("go");
            std::thread::scope(|scope| {
                scope.spawn(|| exec_sleep());
            });
        });
        holder.line.hear("holds");
        let lock = dir.open();
        holder.line.say("go");
        let is_same_program = || fs::read_to_string(format!("/proc/{}/comm", holder.pid)).unwrap() != "sleep\n";
        while is_same_program() {
            assert!(matches!(lock.try_lock(""), Err(LockError::TimedOut(_))));
        }
        assert!(matches!(lock.lock(Timeout::from_millis(20), ""), Err(LockError::TimedOut(_))));
        holder.kill();
        recovers(&dir, holder.pid, "becomes another program");
    }
}

#[test]
fn an_exec_that_fails_does_not_end_a_hold() {
    let dir = Dir::new();
    let mut holder = Child::fork(|line| {
        let lock = dir.open();
        let guard = lock.lock(LONG, "stays what it is").unwrap();
        let program = c"/nowhere/to/be/found";
        let arguments = [program.as_ptr(), std::ptr::null()];
        // SAFETY: as in `exec_sleep`.
        assert_eq!(unsafe { libc::execv(program.as_ptr(), arguments.as_ptr()) }, -1);
        line.say("failed");
        line.next();
        assert!(guard.release());
    });
    holder.line.hear("failed");
    assert!(matches!(dir.open().lock(WHILE, ""), Err(LockError::TimedOut(Some(_)))));
    holder.lets_go();
}

/// A hold belongs to the process, through its handle, and not to the thread that acquired it.
#[test]
fn the_thread_that_acquired_may_end() {
    let dir = Dir::new();
    let mut holder = Child::fork(|line| {
        let lock = dir.open();
        std::thread::scope(|scope| {
            scope.spawn(|| lock.lock(LONG, "a thread that ends").unwrap().keep());
        });
        assert!(lock.holds());
        line.say("holds");
        line.next();
        assert!(lock.release());
    });
    holder.line.hear("holds");
    let lock = dir.open();
    let Err(LockError::TimedOut(Some(owner))) = lock.lock(WHILE, "") else { panic!("two holders") };
    assert_eq!(owner.pid(), holder.pid as u32);
    assert_ne!(lock.holder().unwrap().thread(), Some(owner.pid()));
    holder.lets_go();
}

#[test]
fn the_main_thread_may_end_while_another_holds() {
    let dir = Dir::new();
    let mut holder = Child::fork(|line| {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let lock = dir.open();
                let _guard = lock.lock(LONG, "a thread").unwrap();
                line.say("holds");
                line.next();
            });
            // SAFETY: ends this thread alone; the process goes on.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
        });
    });
    holder.line.hear("holds");
    let stat = format!("/proc/{}/stat", holder.pid);
    wait_until("the main thread is a zombie", || fs::read_to_string(&stat).unwrap().contains(") Z "));
    let lock = dir.open();
    assert!(matches!(lock.lock(WHILE, ""), Err(LockError::TimedOut(Some(_)))), "the process lives");
    holder.kill();
    recovers(&dir, holder.pid, "a thread");
}
