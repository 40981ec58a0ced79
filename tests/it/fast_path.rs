//! Which system calls an acquire and a release make, observed by ptrace(2).
//!
//! Seen to fail with a getpid in `adopt`, and with a wake-up that does not check the waiters bit.

use std::thread;
use std::time::{Duration, Instant};

use resourcelock::{LockError, ResourceLock, Timeout};

use crate::support::{Child, Dir, LONG, Line, pass_over};

/// A system call, as a tracer sees it.
struct Call {
    number: libc::c_long,
    arguments: [u64; 6],
}

impl Call {
    fn is_futex(&self) -> bool {
        self.number == libc::SYS_futex || self.number == SYS_FUTEX_TIME64
    }

    /// Only on ARM: a machine without a counter that user space can read (a Cortex-A9) has no clock in its vDSO.
    fn reads_a_clock(&self) -> bool {
        cfg!(target_arch = "arm") && [libc::SYS_clock_gettime, SYS_CLOCK_GETTIME64].contains(&self.number)
    }

    fn opens_a_file(&self) -> bool {
        OPENS_A_FILE.contains(&self.number)
    }

    fn looks_at_a_name(&self) -> bool {
        LOOKS_AT_A_NAME.contains(&self.number)
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "x86", target_arch = "arm"))]
const OPENS_A_FILE: [libc::c_long; 2] = [libc::SYS_open, libc::SYS_openat];
#[cfg(not(any(target_arch = "x86_64", target_arch = "x86", target_arch = "arm")))]
const OPENS_A_FILE: [libc::c_long; 1] = [libc::SYS_openat];

/// futex(2) with 64-bit times, which only 32-bit systems need.
const SYS_FUTEX_TIME64: libc::c_long = 422;
const SYS_CLOCK_GETTIME64: libc::c_long = 403;
const SYS_IO_URING_ENTER: libc::c_long = 426;

#[cfg(target_pointer_width = "64")]
const LOOKS_AT_A_NAME: [libc::c_long; 2] = [libc::SYS_newfstatat, libc::SYS_statx];
#[cfg(target_pointer_width = "32")]
const LOOKS_AT_A_NAME: [libc::c_long; 2] = [libc::SYS_fstatat64, libc::SYS_statx];

/// A file descriptor that there never is: closing it is a mark for the tracer, and does nothing else.
const MARK: i32 = -4711;

fn mark() {
    // SAFETY: closes nothing.
    unsafe { libc::close(MARK) };
}

/// Runs `body` in a child, and lists the system calls that it makes between its two [`mark`]s. `None` if nobody may
/// trace here.
fn calls_of(body: impl FnOnce()) -> Option<Vec<Call>> {
    let mut child = Child::fork(|line: &mut Line| {
        // SAFETY: asks to be traced by the parent.
        let traced = unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) };
        line.say(if traced == 0 { "traced" } else { "not traced" });
        if traced == 0 {
            // SAFETY: a signal to this very process.
            unsafe { libc::raise(libc::SIGSTOP) };
            body();
        }
    });
    if child.line.next() != "traced" {
        return None;
    }
    child.stopped();
    let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL;
    // SAFETY: a tracee of ours that has stopped.
    unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, child.pid, 0, options) };
    let mut calls = Vec::new();
    let mut marks = 0;
    loop {
        // SAFETY: as above.
        unsafe { libc::ptrace(libc::PTRACE_SYSCALL, child.pid, 0, 0) };
        if !child.stopped() {
            break;
        }
        let Some(call) = entry(child.pid) else { continue };
        if call.number == libc::SYS_close && call.arguments[0] as i32 == MARK {
            marks += 1;
        } else if marks == 1 {
            calls.push(call);
        }
    }
    assert_eq!(marks, 2, "the child came to its end");
    Some(calls)
}

/// The system call that the tracee is about to make; `None` if it comes back from one, or has got a signal.
fn entry(pid: libc::pid_t) -> Option<Call> {
    // SAFETY: all zeros is valid for the structure that the call fills.
    let mut info: libc::ptrace_syscall_info = unsafe { std::mem::zeroed() };
    // SAFETY: a tracee of ours that has stopped, and memory of ours of the size that is told.
    unsafe { libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, pid, size_of_val(&info), &raw mut info) };
    if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
        return None;
    }
    // SAFETY: at an entry, this is the variant that the kernel fills in.
    let entry = unsafe { info.u.entry };
    Some(Call { number: entry.nr as libc::c_long, arguments: entry.args })
}

#[test]
fn an_uncontended_acquire_and_release_make_no_system_call() {
    const ROUNDS: u32 = 1000;
    let dir = Dir::new();
    let began = Instant::now();
    let calls = calls_of(|| {
        let lock = dir.open();
        // The first acquire finds out which clocks the vDSO has.
        drop(lock.lock(LONG, "warms up").unwrap());
        mark();
        for _ in 0..ROUNDS / 2 {
            lock.lock(LONG, "thirty-two bytes, as many give..").unwrap().keep();
            assert!(lock.release());
            drop(lock.lock(LONG, "thirty-two bytes, as many give..").unwrap());
        }
        mark();
    });
    let Some(calls) = calls else {
        return pass_over("an_uncontended_acquire_and_release_make_no_system_call", "ptrace is not permitted");
    };
    let (clocks, calls): (Vec<_>, Vec<_>) = calls.into_iter().partition(Call::reads_a_clock);
    if !clocks.is_empty() {
        pass_over("an_uncontended_acquire_and_release_make_no_system_call: its clocks", "the vDSO has none");
    }
    // Nothing but a look at the file's name, which is one system call or two (of the name, and of its directory),
    // every 100 ms.
    let looks = began.elapsed().as_millis() / 100 + 1;
    let numbers: Vec<_> = calls.iter().map(|call| call.number).collect();
    assert!(numbers.len() as u128 <= looks, "in {ROUNDS} rounds: {numbers:?}");
    assert!(calls.iter().all(Call::looks_at_a_name), "{numbers:?}");
    println!("{ROUNDS} rounds of acquire and release: {} system calls", numbers.len());
}

/// Setting the wall clock cannot change a wait: every sleep is on CLOCK_MONOTONIC, to an absolute time. (To set the
/// clock of the machine on which the tests run would be no kindness.)
#[test]
fn waits_are_absolute_and_on_the_monotonic_clock() {
    const OPERATION: u64 = 0x7f;
    let dir = Dir::new();
    let holder = Child::holder(&dir, "holds");
    let timeout = Duration::from_millis(120);
    let clock = |id| {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: fills in a structure of ours.
        assert_eq!(unsafe { libc::clock_gettime(id, &mut time) }, 0);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    let calls = calls_of(|| {
        let lock = dir.open();
        mark();
        let began = clock(libc::CLOCK_MONOTONIC);
        let outcome = lock.lock(Timeout::from(timeout), "");
        assert!(matches!(outcome, Err(LockError::TimedOut(Some(_)))));
        assert!(clock(libc::CLOCK_MONOTONIC) - began >= timeout, "gave up early");
        mark();
    });
    let Some(calls) = calls else {
        return pass_over("waits_are_absolute_and_on_the_monotonic_clock", "ptrace is not permitted");
    };
    let sleeps: Vec<_> = calls.iter().filter(|call| call.is_futex()).collect();
    let has_ring = calls.iter().any(|call| call.number == SYS_IO_URING_ENTER);
    // With a ring, at most the first slice is a call of futex(2).
    assert!(has_ring || sleeps.len() > 5, "120 ms are more than five slices");
    for call in sleeps {
        let operation = call.arguments[1];
        assert_eq!((operation & OPERATION) as i32, libc::FUTEX_WAIT_BITSET);
        assert_eq!(operation as i32 & libc::FUTEX_CLOCK_REALTIME, 0);
        assert_eq!(operation as i32 & libc::FUTEX_PRIVATE_FLAG, 0, "other processes could not wake us");
        assert_ne!(call.arguments[3], 0, "a slice has an end");
    }
    assert!(!calls.iter().any(|call| call.number == libc::SYS_nanosleep), "a sleep that nobody can end");
    holder.lets_go();
}

/// Seen to fail without the probe before the first sleep.
#[test]
fn a_zombie_is_found_before_any_sleep() {
    let dir = Dir::new();
    let zombie = Child::holder(&dir, "dies");
    thread::sleep(Duration::from_millis(1));
    zombie.kill();
    let calls = calls_of(|| {
        let lock = dir.open();
        mark();
        assert!(lock.lock(LONG, "").unwrap().recovered());
        mark();
    });
    let Some(calls) = calls else {
        return pass_over("a_zombie_is_found_before_any_sleep", "ptrace is not permitted");
    };
    assert!(!calls.iter().any(Call::is_futex), "it slept");
}

/// The handle keeps a descriptor to probe with, so a wait opens no file, however many slices it has. Seen to fail with a
/// probe that is opened for each slice.
#[test]
fn a_wait_opens_no_file() {
    let dir = Dir::new();
    let holder = Child::holder(&dir, "holds");
    let calls = calls_of(|| {
        let lock = dir.open();
        mark();
        // On a slow machine, the traced setup of a ring takes most of it.
        assert!(lock.lock(Timeout::from_millis(500), "").is_err());
        mark();
    });
    let Some(calls) = calls else {
        return pass_over("a_wait_opens_no_file", "ptrace is not permitted");
    };
    assert!(calls.iter().any(|call| call.is_futex() || call.number == SYS_IO_URING_ENTER), "it slept");
    assert_eq!(calls.iter().filter(|call| call.opens_a_file()).count(), 0);
    holder.lets_go();
}

/// The futex calls of `free`, which gets the holder's handle and another one, while a process waits for the lock.
fn wake_ups_by(free: impl FnOnce(ResourceLock, ResourceLock)) -> Option<Vec<Call>> {
    let dir = Dir::new();
    let calls = calls_of(|| {
        let (holder, other) = (dir.open(), dir.open());
        holder.lock(LONG, "").unwrap().keep();
        let mut waiter = Child::fork(|line| {
            line.say("asks");
            drop(dir.open().lock(LONG, "").unwrap());
        });
        waiter.line.hear("asks");
        waiter.waits();
        mark();
        free(holder, other);
        mark();
        waiter.succeeds();
    })?;
    let futex_calls = calls.into_iter().filter(|call| call.is_futex());
    // Without the flag of a private futex, which would reach no other process.
    let operations = [libc::FUTEX_WAKE, libc::FUTEX_WAKE_BITSET];
    Some(futex_calls.inspect(|call| assert!(operations.contains(&(call.arguments[1] as i32)))).collect())
}

/// Seen to fail with a release that forgets its wake-up, and with a private futex.
#[test]
fn a_release_wakes_one_sleeper() {
    let Some(wake_ups) = wake_ups_by(|holder, _| assert!(holder.release())) else {
        return pass_over("a_release_wakes_one_sleeper", "ptrace is not permitted");
    };
    // More than one, if the waiter was between two slices at the first, or has become older since.
    assert!((1..=4).contains(&wake_ups.len()), "{}", wake_ups.len());
    assert!(wake_ups.iter().all(|call| call.arguments[2] == 1));
}

/// Seen to fail with a force-release and a removal that forget their wake-up.
#[test]
fn a_force_release_and_a_removal_wake_all_sleepers() {
    let forced = wake_ups_by(|_holder, other| assert!(other.force_release()));
    let removed = wake_ups_by(|_holder, other| drop(other.remove(true).unwrap()));
    for wake_ups in [forced, removed] {
        let Some(wake_ups) = wake_ups else {
            return pass_over("a_force_release_and_a_removal_wake_all_sleepers", "ptrace is not permitted");
        };
        assert_eq!(wake_ups.iter().map(|call| call.arguments[2] as i32).collect::<Vec<_>>(), [i32::MAX]);
    }
}

#[test]
fn a_release_wakes_only_if_a_waiter_sleeps() {
    let dir = Dir::new();
    let calls = calls_of(|| {
        let lock = dir.open();
        drop(lock.lock(LONG, "").unwrap());
        let guard = lock.lock(LONG, "").unwrap();
        let waiter = thread::spawn({
            let other = dir.open();
            move || drop(other.lock(LONG, "").unwrap())
        });
        drop(guard);
        waiter.join().unwrap();
        // A waiter that has slept cannot know whether others sleep, so its release makes one wake-up in vain.
        drop(lock.lock(LONG, "").unwrap());
        mark();
        for _ in 0..1000 {
            drop(lock.lock(LONG, "").unwrap());
        }
        mark();
    });
    let Some(calls) = calls else {
        return pass_over("a_release_wakes_only_if_a_waiter_sleeps", "ptrace is not permitted");
    };
    assert_eq!(calls.iter().filter(|call| call.is_futex()).count(), 0);
}
