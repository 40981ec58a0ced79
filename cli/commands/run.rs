//! `run`: holds the lock while a program runs.
//!
//! This process, the *supervisor*, acquires the lock and starts PROGRAM as a child that inherits the descriptor of the
//! supervisor's seat. Both keep the seat: the supervisor by its mapping, PROGRAM by the descriptor. So the lock is held
//! until both are gone, whoever is killed first:
//! - PROGRAM ends normally, which includes the signals that ask for an end ([`signals::asks_for_an_end`]): the supervisor
//!   releases;
//! - another signal kills PROGRAM: the supervisor frees the lock with the *died* marker, and the next grant learns of it
//!   once;
//! - the supervisor is killed: the hold lasts until the last process with the descriptor ends or closes it, and then
//!   counts as died.
//!
//! With `--exec` there is no supervisor: this process becomes PROGRAM and carries the hold across exec. Nobody is left to
//! release, so the end of PROGRAM always counts as died.
//!
//! PROGRAM stays in the process group in which a shell started the command, so Ctrl-C, Ctrl-Z, pipelines and scripts
//! work as without `run`. A signal that is sent to the group reaches PROGRAM directly; only one that was sent to the
//! supervisor alone is forwarded. See `witness.rs`.
//!
//! Crash points: a supervisor killed between its grant and the message that lets the child exec leaves a dead holder; the
//! child ends at once, without having run PROGRAM.

use std::ffi::{CString, OsStr};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process;
use std::thread;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, getpgid, getpgrp, getppid};
use resourcelock::{Error, Escaped, Guard, LockError, ResourceLock, Timeout};
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus, set_parent_process_death_signal, waitid};

use crate::args::Args;
use crate::exit::Exit;
use crate::launch::{self, Side};
use crate::output;
use crate::signals::{self, Caught, Mail};
use crate::witness::Witness;

pub(crate) fn run(args: &Args) -> Result<Exit, Error> {
    if args.exec { become_program(args) } else { supervise(args) }
}

/// Acquires the lock and becomes PROGRAM. Returns only if that fails.
fn become_program(args: &Args) -> Result<Exit, Error> {
    if args.die_with_parent {
        let parent = getppid();
        if let Err(error) = die_with_parent() {
            return Ok(super::cannot_watch(super::lockname(args), &error));
        }
        if getppid() != parent {
            return Ok(Exit::HungUp);
        }
    }
    let lock = match super::making(args) {
        Ok(options) => options.keep_across_exec(true).open(&args.lock)?,
        Err(exit) => return Ok(exit),
    };
    let guard = match lock.lock(args.get_timeout, &args.message) {
        Ok(guard) => guard,
        Err(error) => return not_acquired(args, &lock, error),
    };
    super::report_previous(lock.name(), &guard.previous());
    guard.attribute_to(process::id(), &program_name(args));
    guard.carry_across_exec()?;
    let error = launch::exec(&words(args));
    lock.release();
    Ok(cannot_run(args, &error))
}

/// Acquires the lock, runs PROGRAM as a child, and ends as it ends.
fn supervise(args: &Args) -> Result<Exit, Error> {
    let options = match super::making(args) {
        Ok(options) => options.keep_across_exec(true),
        Err(exit) => return Ok(exit),
    };
    // The witness is started before the lock is opened, so that it inherits no seat.
    let watching = Mail::receive().and_then(|mut mail| Ok((Witness::start(&mut mail)?, mail)));
    let (mut witness, mut mail) = match watching {
        Ok(watching) => watching,
        Err(error) => return Ok(super::cannot_watch(super::lockname(args), &error)),
    };
    let lock = options.open(&args.lock)?;
    let guard = match acquire(args, &lock, &mut mail, &mut witness) {
        Ok(Ok(guard)) => guard,
        Ok(Err(error)) => return not_acquired(args, &lock, error),
        Err(error) => return Ok(super::cannot_watch(lock.name(), &error)),
    };
    super::report_previous(lock.name(), &guard.previous());
    let (program, mut line) = match start(args, &guard, &mut mail, &mut witness) {
        Ok(started) => started,
        Err(error) => {
            output::complain(lock.name(), &format_args!("cannot start a process: {error}"));
            return Ok(Exit::System);
        }
    };
    let ended = match wait_for(program, lock.name(), &mut mail, &mut witness) {
        Ok(ended) => ended,
        Err(error) => {
            output::complain(lock.name(), &format_args!("cannot wait for the program: {error}"));
            // It may still run: the hold lasts until it ends.
            guard.keep();
            process::exit(Exit::System.status().into());
        }
    };
    let mut errno = [0; 4];
    // exec has closed the line, or there was no exec, and the child has sent the error before it ended.
    if line.read_exact(&mut errno).is_ok() {
        let _ = waitpid(program, None);
        return Ok(cannot_run(args, &io::Error::from_raw_os_error(i32::from_ne_bytes(errno))));
    }
    release(guard, &ended);
    // Of a child that has ended, this cannot fail and does not wait.
    let _ = waitpid(program, None);
    drop(witness);
    drop(lock);
    Ok(match (ended.exit_status(), ended.terminating_signal()) {
        (Some(status), _) => Exit::Given(status as u8),
        (None, Some(signal)) => mail.die_of(signal),
        // waitid reports one of the two.
        (None, None) => Exit::System,
    })
}

/// Acquires the lock. A signal that would end a command ends this one while it waits.
fn acquire<'a>(
    args: &Args,
    lock: &'a ResourceLock,
    mail: &mut Mail,
    witness: &mut Witness,
) -> io::Result<Result<Guard<'a>, LockError>> {
    // Without a thread if no wait is to be expected.
    if args.get_timeout == Timeout::ZERO || !lock.is_held() {
        match lock.try_lock(&args.message) {
            // Another process was faster.
            Err(LockError::TimedOut(_)) if args.get_timeout != Timeout::ZERO => {}
            outcome => return Ok(outcome),
        }
    }
    let (done, far_end) = UnixStream::pair()?;
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            // Its end closes the line, which is the message.
            let _far_end = far_end;
            lock.lock(args.get_timeout, &args.message)
        });
        while !mail.wait(Some(done.as_fd()))? {
            heed_before_start(lock, mail, witness, None);
        }
        Ok(waiter.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// Acts on the signals that have arrived while PROGRAM does not run yet: as without the blocking that lets them be read.
/// If one of them ends the command, kills the child that would become PROGRAM.
fn heed_before_start(lock: &ResourceLock, mail: &mut Mail, witness: &mut Witness, child: Option<Pid>) {
    while let Some(Caught { signal, .. }) = mail.pending() {
        witness.forget(signal);
        match signal {
            Signal::SIGCHLD | Signal::SIGCONT | Signal::SIGWINCH => {}
            signal if launch::was_ignored(signal) || launch::was_blocked(signal) => {}
            Signal::SIGTSTP => Mail::stop_ourselves(),
            signal => {
                if let Some(child) = child {
                    signals::send(Signal::SIGKILL, child);
                    let _ = waitpid(child, None);
                }
                if lock.holds() {
                    lock.release();
                }
                process::exit(mail.die_of(signal as i32).status().into());
            }
        }
    }
}

/// Reports on stderr, because stdout is PROGRAM's.
fn not_acquired(args: &Args, lock: &ResourceLock, error: LockError) -> Result<Exit, Error> {
    match error {
        LockError::TimedOut(holder) => {
            let holder = super::grant_of(lock, holder.as_ref());
            output::complain(lock.name(), &output::Answer::TimedOut(holder.clone()));
            super::complain_of_holder(lock.name(), holder.as_ref());
            Ok(args.conflict)
        }
        LockError::Failed(error) => Err(error),
        _ => Ok(Exit::Unavailable),
    }
}

/// What the child sends when it is ready to exec; else it sends an error number.
const READY: [u8; 4] = [0; 4];

/// Starts PROGRAM as a child that inherits the seat. The record names the child before PROGRAM begins. If exec fails, the
/// child sends the error over the line and ends; else exec closes the line.
///
/// A signal to the process group that arrived before the fork did not reach the child, and one that arrives later does. So
/// the signals are looked at between the fork and the permission to exec; until then the child has them blocked.
fn start(args: &Args, guard: &Guard<'_>, mail: &mut Mail, witness: &mut Witness) -> io::Result<(Pid, UnixStream)> {
    let words = words(args);
    let seat = guard.handle().seat_descriptor();
    let (mut line, far_end) = UnixStream::pair()?;
    match launch::fork()? {
        Side::Child => {
            drop(line);
            let error = launch_program(args, &words, seat, &far_end);
            let errno = error.raw_os_error().unwrap_or(Errno::EIO as i32);
            let _ = (&far_end).write_all(&errno.to_ne_bytes());
            launch::leave(Exit::NotRunnable.status().into())
        }
        Side::Parent(child) => {
            drop(far_end);
            guard.attribute_to(child.as_raw().unsigned_abs(), &program_name(args));
            let mut message = READY;
            // Only a child that was killed sends nothing.
            let sent = line.read_exact(&mut message);
            heed_before_start(guard.handle(), mail, witness, Some(child));
            let sent = sent.and_then(|()| line.write_all(&READY));
            if sent.is_ok() && message != READY {
                let _ = waitpid(child, None);
                return Err(io::Error::from_raw_os_error(i32::from_ne_bytes(message)));
            }
            Ok((child, line))
        }
    }
}

/// In the child: becomes PROGRAM. Returns the error if that fails.
fn launch_program(args: &Args, words: &[CString], seat: Option<i32>, mut line: &UnixStream) -> io::Error {
    let mut prepare = || {
        if args.die_with_parent {
            die_with_parent()?;
        }
        if let Some(seat) = seat {
            launch::let_inherit(seat)?;
        }
        // The answer proves that the parent lived after this process asked to die with it.
        line.write_all(&READY)?;
        line.read_exact(&mut READY.clone())
    };
    match prepare() {
        Ok(()) => launch::exec(words),
        Err(error) => error,
    }
}

/// Has the kernel kill this process when its parent ends.
fn die_with_parent() -> io::Result<()> {
    Ok(set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?)
}

/// PROGRAM and its arguments. What came from a command line has no NUL.
fn words(args: &Args) -> Vec<CString> {
    args.program.iter().filter_map(|word| CString::new(word.as_bytes()).ok()).collect()
}

/// The name by which the kernel will call the process.
fn program_name(args: &Args) -> String {
    let program = args.program.first().map_or(OsStr::new(""), |program| program);
    Path::new(program).file_name().unwrap_or(program).to_string_lossy().into_owned()
}

fn cannot_run(args: &Args, error: &io::Error) -> Exit {
    let program = args.program.first().map(|program| program.to_string_lossy()).unwrap_or_default();
    output::complain(super::lockname(args), &format_args!("cannot run '{}': {error}", Escaped(&program)));
    if error.kind() == ErrorKind::NotFound { Exit::NoProgram } else { Exit::NotRunnable }
}

/// Waits until PROGRAM has ended, and leaves it to be reaped. Forwards signals meanwhile, and stops with PROGRAM.
fn wait_for(program: Pid, name: &str, mail: &mut Mail, witness: &mut Witness) -> io::Result<WaitIdStatus> {
    loop {
        if let Some(ended) = look_at(program)? {
            return Ok(ended);
        }
        let caught @ Caught { signal, by_terminal, .. } = mail.next()?;
        if signal == Signal::SIGCHLD {
            continue;
        }
        // Asked in any case, so that the witness's notes keep up.
        let was_sent_to_group = witness.has_received(caught);
        // A program that has left the group, such as one started by setsid(1), received nothing.
        let has_left = getpgid(Some(program)).is_ok_and(|group| group != getpgrp());
        if !by_terminal && (!was_sent_to_group || has_left) {
            log::debug!("<{}> {signal} forwarded", Escaped(name));
            signals::send(signal, program);
        }
    }
}

/// How PROGRAM has ended, if it has. If the terminal's job control has stopped it, stops this process as well, so that
/// the shell notices.
fn look_at(program: Pid) -> io::Result<Option<WaitIdStatus>> {
    // A pid of a child is none that the type could refuse.
    let Some(pid) = rustix::process::Pid::from_raw(program.as_raw()) else { return Ok(None) };
    let changes = |options| loop {
        match waitid(WaitId::Pid(pid), options | WaitIdOptions::NOHANG) {
            Err(rustix::io::Errno::INTR) => {}
            // It has ended, so it will never stop again.
            Err(rustix::io::Errno::CHILD) if options == WaitIdOptions::STOPPED => return Ok(None),
            status => return status.map_err(io::Error::from),
        }
    };
    if let Some(signal) = changes(WaitIdOptions::STOPPED)?.and_then(|status| status.stopping_signal()) {
        if signals::is_of_job_control(signal) {
            // The SIGCONT that ends this is forwarded like any other signal.
            Mail::stop_ourselves();
        }
    }
    changes(WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
}

/// Ends the hold as PROGRAM has ended: releases, or reports a death.
fn release(guard: Guard<'_>, ended: &WaitIdStatus) {
    let Some(signal) = ended.terminating_signal().filter(|&signal| !signals::asks_for_an_end(signal)) else {
        guard.release();
        return;
    };
    // As wait(2) encodes it.
    let status = signal as u32 | if ended.dumped() { 0x80 } else { 0 };
    let lock = guard.handle();
    match lock.holder().filter(|grant| grant.number() == guard.number()) {
        Some(grant) => lock.release_grant_of_dead(&grant, Some(status)),
        // A program has overwritten the entry. The next grant must learn of the death all the same.
        None => guard.release_inconsistent(),
    };
}
