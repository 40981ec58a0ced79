//! Asking the kernel whether a process lives.
//!
//! The order is by what an answer proves and what it needs: `pidfd_open` and `poll` (Linux 5.3) tell an exited process,
//! zombies included, without /proc; `/proc/PID/stat` tells a reused pid; `kill(pid, 0)` works everywhere.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
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
    look_by_pidfd(pid).0
}

fn look_by_pidfd(pid: u32) -> (Liveness, Option<OwnedFd>) {
    let Some(raw_pid) = raw(pid) else { return (Liveness::Dead, None) };
    match pidfd_open(raw_pid, PidfdFlags::empty()) {
        Ok(pidfd) => match has_exited(&pidfd) {
            Some(true) => (Liveness::Dead, None),
            Some(false) => (Liveness::Alive, Some(pidfd)),
            None => (glance(pid), None),
        },
        Err(Errno::SRCH) => (Liveness::Dead, None),
        // ENOSYS on an old kernel, EPERM in a sandbox, EMFILE; EINVAL where the pid is now some thread's.
        Err(_) => (glance(pid), None),
    }
}

fn has_exited(pidfd: &OwnedFd) -> Option<bool> {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    // Readable means that every thread has exited, reaped or not.
    poll(&mut fds, Some(&rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 })).ok().map(|ready| ready == 1)
}

/// A process that was examined and lives, and is looked at again and again for as long as one waits for it. Its descriptor
/// stays that process's, whatever becomes of the pid, so that one cheap system call (0.5 µs) replaces all others.
pub(crate) struct Watch(OwnedFd);

impl Watch {
    pub(crate) fn look(&self) -> Liveness {
        if has_exited(&self.0) == Some(true) { Liveness::Dead } else { Liveness::Alive }
    }
}

/// All the proofs there are, about 20 µs: `start_time` is the one told by the grant, if the two can be compared, and
/// `proc_is_ours` says that /proc shows the processes of our PID namespace. Of one that lives, gives the means to look
/// again cheaply, where the kernel has them.
pub(crate) fn examine(pid: u32, start_time: Option<u64>, proc_is_ours: bool) -> (Liveness, Option<Watch>) {
    // The descriptor first: if the pid changes hands between the two, `/proc` tells of the new one, and the old one is dead.
    let (liveness, pidfd) = look_by_pidfd(pid);
    if liveness == Liveness::Dead {
        return (Liveness::Dead, None);
    }
    // The process was there a moment ago, so a file that can't be read (no /proc, hidepid) is doubt, not proof.
    let mut buffer = [0; super::process::STAT_CAPACITY];
    if let Some(stat) = read_stat(pid, &mut buffer).filter(|_| proc_is_ours) {
        let reused = start_time.is_some_and(|start_time| start_time != stat.start_time);
        if reused || stat.has_exited() {
            return (Liveness::Dead, None);
        }
    }
    (Liveness::Alive, pidfd.map(Watch))
}

/// Pids end at 2^22, so only zero has no `Pid`, and no process has the pid zero.
fn raw(pid: u32) -> Option<Pid> {
    Pid::from_raw(pid as i32)
}
