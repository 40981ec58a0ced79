//! Processes, their processors and their clocks.
#![allow(unsafe_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Returns CLOCK_MONOTONIC in nanoseconds. All processes see the same clock.
pub(crate) fn now() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

/// Returns the CPU time that this process has used, in nanoseconds.
pub(crate) fn processor_time() -> u64 {
    clock(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn clock(id: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: fills in a local structure.
    assert_eq!(unsafe { libc::clock_gettime(id, &mut time) }, 0);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Sleeps for that many nanoseconds, or until a signal arrives.
pub(crate) fn nap(nanos: u64) {
    let time = libc::timespec { tv_sec: (nanos / 1_000_000_000) as _, tv_nsec: (nanos % 1_000_000_000) as _ };
    // SAFETY: reads a local structure.
    unsafe { libc::nanosleep(&time, std::ptr::null_mut()) };
}

/// Raises the priority of this process and of its children, so that other processes disturb the measurement less. Returns
/// `false` if that is not permitted.
pub(crate) fn go_first() -> bool {
    // SAFETY: changes this process's priority; touches no memory.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) == 0 }
}

/// Returns how often this process has slept and been woken: its voluntary context switches.
pub(crate) fn wake_ups() -> u64 {
    // SAFETY: all zeros is valid for the structure that the call fills.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: fills in a local structure.
    assert_eq!(unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) }, 0);
    usage.ru_nvcsw as u64
}

/// Returns the numbers of the CPUs that this process may run on.
pub(crate) fn processors() -> Vec<usize> {
    // SAFETY: all zeros is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: fills in a local structure of the given size.
    assert_eq!(unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) }, 0);
    // SAFETY: the numbers are within the set.
    (0..libc::CPU_SETSIZE as usize).filter(|&number| unsafe { libc::CPU_ISSET(number, &set) }).collect()
}

/// Pins this process to one CPU.
pub(crate) fn stay_on(processor: usize) {
    // SAFETY: all zeros is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the number came from `processors`.
    unsafe { libc::CPU_SET(processor, &mut set) };
    // SAFETY: reads a local structure of the given size.
    assert_eq!(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) }, 0);
}

/// A forked process. Dropping it kills and reaps the process, if it has not ended before.
///
/// The parent has a single thread, so the child may call anything.
pub(crate) struct Child {
    pid: libc::pid_t,
    is_reaped: bool,
}

impl Child {
    /// Forks a process that runs `body` and exits.
    pub(crate) fn fork(body: impl FnOnce()) -> Self {
        // SAFETY: this program has a single thread.
        match unsafe { libc::fork() } {
            -1 => panic!("fork: {}", std::io::Error::last_os_error()),
            0 => {
                // SAFETY: asks the kernel to kill this process when its parent ends; touches no memory.
                unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
                let done = catch_unwind(AssertUnwindSafe(body)).is_ok();
                // SAFETY: ends the process without the parent's exit handlers.
                unsafe { libc::_exit(i32::from(!done)) }
            }
            pid => Self { pid, is_reaped: false },
        }
    }

    pub(crate) fn kill(&self) {
        assert!(!self.is_reaped);
        // SAFETY: a child that was not reaped, so the pid is its own.
        assert_eq!(unsafe { libc::kill(self.pid, libc::SIGKILL) }, 0);
    }

    /// Waits until it has ended, and leaves it a zombie.
    pub(crate) fn wait_for_end(&self) {
        // SAFETY: all zeros is valid for the structure that the call fills.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: an unreaped child, and a local structure.
        let result =
            unsafe { libc::waitid(libc::P_PID, self.pid as libc::id_t, &mut info, libc::WEXITED | libc::WNOWAIT) };
        assert_eq!(result, 0);
    }

    /// Waits until it has ended, and reaps it. Returns `true` if it succeeded.
    pub(crate) fn reap(&mut self) -> bool {
        let mut status = 0;
        // SAFETY: an unreaped child, and a local structure.
        assert_eq!(unsafe { libc::waitpid(self.pid, &mut status, 0) }, self.pid);
        self.is_reaped = true;
        status == 0
    }

    #[track_caller]
    pub(crate) fn succeeds(mut self) {
        assert!(self.reap(), "a child has failed");
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.is_reaped {
            self.kill();
            self.reap();
        }
    }
}
