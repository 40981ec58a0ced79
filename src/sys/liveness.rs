//! Asking the kernel whether a process lives.
//!
//! The order is by what an answer proves and what it needs: `pidfd_open` and `poll` (Linux 5.3) tell an exited process,
//! zombies included, without /proc; `/proc/PID/stat` tells a reused pid; `kill(pid, 0)` works everywhere.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open, test_kill_process};

use super::process::read_stat;
use crate::owner::Liveness;

/// One system call, 0.4 to 0.6 µs: finds out that a pid is not in use. A zombie and a reused pid pass for alive.
pub(crate) fn glance(pid: u32) -> Liveness {
    let Some(pid) = raw(pid) else { return Liveness::Dead };
    match test_kill_process(pid) {
        Err(Errno::SRCH) => Liveness::Dead,
        // EPERM: it is there, and another user's.
        _ => Liveness::Alive,
    }
}

/// Three system calls, 6 µs and as much again for the kernel's tidying up: finds out that a process has exited, reaped or
/// not. A reused pid passes for alive; so does a zombie, where there is no `pidfd_open`.
pub(crate) fn look(pid: u32) -> Liveness {
    let Some(raw_pid) = raw(pid) else { return Liveness::Dead };
    match pidfd_open(raw_pid, PidfdFlags::empty()) {
        Ok(fd) => {
            let mut fds = [PollFd::new(&fd, PollFlags::IN)];
            // Readable means that every thread has exited, reaped or not.
            match poll(&mut fds, Some(&rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 })) {
                Ok(1) => Liveness::Dead,
                Ok(_) => Liveness::Alive,
                Err(_) => glance(pid),
            }
        }
        Err(Errno::SRCH) => Liveness::Dead,
        // ENOSYS on an old kernel, EPERM in a sandbox, EMFILE; EINVAL where the pid is now some thread's.
        Err(_) => glance(pid),
    }
}

/// All the proofs there are, about 20 µs: `start_time` is the one told by the grant, if the two can be compared.
pub(crate) fn examine(pid: u32, start_time: Option<u64>) -> Liveness {
    if look(pid) == Liveness::Dead {
        return Liveness::Dead;
    }
    // The process was there a moment ago, so a file that can't be read (no /proc, hidepid) is doubt, not proof.
    let mut buffer = [0; super::process::STAT_CAPACITY];
    let Some(stat) = read_stat(pid, &mut buffer) else { return Liveness::Alive };
    let reused = start_time.is_some_and(|start_time| start_time != stat.start_time);
    if reused || stat.has_exited() { Liveness::Dead } else { Liveness::Alive }
}

/// Pids end at 2^22, so only zero has no `Pid`, and no process has the pid zero.
fn raw(pid: u32) -> Option<Pid> {
    Pid::from_raw(pid as i32)
}
