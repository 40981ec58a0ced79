//! `run`: holds the lock while a program runs.
//!
//! The hold is the program's own: the process that gets the lock becomes the program (`exec` keeps the pid and the start
//! time, and so the hold). So whoever is killed, and in whichever order, the lock is held exactly as long as the program
//! lives, and nobody gets it while an orphaned program is still at work.
//!
//! With `--exec` that process is this one. Without, it is a child, which we start as ourselves with `--exec`; we stay
//! behind to pass signals on, to stop and to go on with it, to let go in its name, and to end as it did. If it has crashed
//! or was killed we do not let go: it has died at work, and the next get is to be told.
//!
//! Invariants of the one that stays behind:
//! - the child is reaped only after its hold was released. Until then its pid is nobody else's, so that what is released
//!   is its hold or none;
//! - a signal that the terminal sends reaches the child without us, because it is in our process group; only what a
//!   process sends to us is passed on. So a Ctrl-C comes once.
//!
//! Killed between grant and `exec`, or while it waits, the child leaves at most the hold of a dead process.

use std::ffi::{CString, OsStr};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};

use nix::sys::signal::Signal;
use resourcelock::{Error, Escaped, Kind, LockError};
use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitIdStatus, getppid, waitid};

use crate::args::Args;
use crate::exit::Exit;
use crate::output::{self, Answer};
use crate::signals::{self, Caught, Mail};

/// The kernel keeps 15 bytes of a program's name (TASK_COMM_LEN, with a NUL).
const PROGRAM_CAPACITY: usize = 15;

pub(crate) fn run(args: &Args) -> Result<Exit, Error> {
    if args.exec { become_program(args) } else { Ok(stay_behind(args)) }
}

/// Gets the lock and becomes the program. Returns only if that could not be.
fn become_program(args: &Args) -> Result<Exit, Error> {
    if args.started_by.is_some() {
        Mail::let_through();
    }
    if args.die_with_parent {
        let killed = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
        if let Err(errno) = killed {
            return Ok(super::cannot_watch(super::lockname(args), &errno.into()));
        }
        // It may have died before we asked.
        let parent = getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
        if args.started_by.is_some_and(|pid| parent != Some(pid)) {
            return Ok(Exit::HungUp);
        }
    }
    let Some((program, arguments)) = args.program.split_first() else { return Ok(Exit::Usage) };
    // What the kernel will call us in a moment: so the record names the program.
    call_ourselves(program);
    let lock = match super::making(args) {
        Ok(options) => options.open(&args.lock)?,
        Err(exit) => return Ok(exit),
    };
    let guard = match lock.lock(args.get_timeout, &args.message) {
        Ok(guard) => guard,
        Err(LockError::TimedOut(owner)) => {
            // On stderr: stdout is the program's.
            output::complain(lock.lockname(), &Answer::TimedOut(owner.clone()));
            super::complain_of_holder(lock.lockname(), owner.as_ref());
            return Ok(args.conflict);
        }
        Err(LockError::Failed(error)) => return Err(error),
        Err(_) => return Ok(Exit::Unavailable),
    };
    if guard.recovered() {
        super::tell_of_the_dead(&guard);
    }
    let error = Command::new(program).args(arguments).exec();
    // Not become: the guard lets go.
    drop(guard);
    let shown = program.to_string_lossy();
    output::complain(lock.lockname(), &format_args!("cannot run '{}': {error}", Escaped(&shown)));
    Ok(if error.kind() == ErrorKind::NotFound { Exit::NoProgram } else { Exit::NotRunnable })
}

fn call_ourselves(program: &OsStr) {
    let name = Path::new(program).file_name().unwrap_or(program).as_bytes();
    let name = &name[..name.len().min(PROGRAM_CAPACITY)];
    if let Ok(name) = CString::new(name) {
        // Only a name; without it, the record has ours.
        let _ = rustix::thread::set_name(&name);
    }
}

/// Has a child of ours hold the lock and become the program, and ends as it ends.
fn stay_behind(args: &Args) -> Exit {
    let name = super::lockname(args);
    let started = Mail::receive().and_then(|mail| Ok((mail, start_holder()?)));
    let (mut mail, mut child) = match started {
        Ok(started) => started,
        Err(error) => {
            output::complain(name, &format_args!("starting a process failed: {error}"));
            return Exit::System;
        }
    };
    // A pid of a child is none that the type could refuse.
    let Some(pid) = Pid::from_raw(child.id() as i32) else { return Exit::System };
    let ended = loop {
        match look_at(pid) {
            Ok(Some(status)) => break status,
            Ok(None) => {}
            Err(error) => {
                output::complain(name, &format_args!("waiting for the program failed: {error}"));
                return Exit::System;
            }
        }
        match mail.next() {
            Ok(Caught { by_terminal: false, signal }) if signal != Signal::SIGCHLD => {
                log::debug!("<{}> {signal} passed on", Escaped(name));
                signals::send(signal, child.id());
            }
            Ok(_) => {}
            Err(error) => return super::cannot_watch(name, &error),
        }
    };
    let_go_for(args, &child, ended.terminating_signal().is_none_or(signals::asks_for_an_end));
    // Of a child that has ended, this cannot fail and does not wait.
    let _ = child.wait();
    match (ended.exit_status(), ended.terminating_signal()) {
        (Some(status), _) => Exit::Given(status as u8),
        (None, Some(signal)) => mail.die_of(signal),
        // What waitid tells is one of the two.
        (None, None) => Exit::System,
    }
}

/// Ourselves once more, with `--exec`.
fn start_holder() -> io::Result<Child> {
    Command::new("/proc/self/exe")
        .arg0("resourcelock")
        .args(["--exec", "--started-by", &std::process::id().to_string()])
        .args(std::env::args_os().skip(1))
        .spawn()
}

/// How the child has ended, if it has. Stops with it where the terminal has stopped it, and goes on when we are told to.
fn look_at(child: Pid) -> io::Result<Option<WaitIdStatus>> {
    let changes = |options| loop {
        match waitid(WaitId::Pid(child), options | WaitIdOptions::NOHANG) {
            Err(Errno::INTR) => {}
            // It has ended, so it will never stop again.
            Err(Errno::CHILD) if options == WaitIdOptions::STOPPED => return Ok(None),
            status => return status.map_err(io::Error::from),
        }
    };
    if let Some(signal) = changes(WaitIdOptions::STOPPED)?.and_then(|status| status.stopping_signal()) {
        if signals::is_of_job_control(signal) {
            Mail::stop_ourselves();
            // Here we go on. A shell has told the whole group; somebody else, perhaps only us.
            signals::send(Signal::SIGCONT, child.as_raw_nonzero().get().unsigned_abs());
        }
    }
    // It stays to be reaped.
    changes(WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
}

/// Releases what the child has left held, if it was done with it; else the next get finds a holder that has died, and says
/// so.
fn let_go_for(args: &Args, child: &Child, is_done: bool) {
    let Ok(Some(lock)) = super::open_existing(args) else { return };
    let Some(grant) = lock.holder().filter(|grant| grant.pid() == child.id()) else { return };
    let is_its_own = match grant.kind() {
        Kind::Process => is_done,
        // Nobody else can find out that it has died. The pid is ours to compare, but that of a process of another
        // namespace may be the same.
        Kind::Foreign => grant.start_time().is_some_and(|time| start_time(child.id()) == Some(time)),
        Kind::Detached => false,
    };
    if is_its_own {
        lock.unget_grant(&grant, &args.message);
    }
}

/// In clock ticks after boot: the 22nd field of proc_pid_stat(5). The name before may contain anything.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    stat.rsplit_once(')')?.1.split_whitespace().nth(22 - 3)?.parse().ok()
}
