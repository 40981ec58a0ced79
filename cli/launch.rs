//! Starts other programs the way this process was started: with the same ignored and blocked signals.
//!
//! A program must not notice that `run` stands between it and its starter. Rust's runtime ignores SIGPIPE before `main`,
//! std's `Command` resets SIGPIPE and empties the signal mask, and `run` blocks signals to read them one by one. So the
//! inherited state is recorded before the runtime changes it, and [`exec`] restores it. std's `Command` also waits inside
//! `spawn` until the program has started, which leaves no moment to record its pid first; hence fork(2) and execvp(3).
//!
//! All of the command's `unsafe` code is in this file.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::mem;
use std::ptr;
use std::sync::OnceLock;

use nix::libc;
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::unistd::{ForkResult, Pid};
use rustix::fd::BorrowedFd;
use rustix::io::FdFlags;

/// The signals whose disposition matters here, because the command or Rust's runtime changes it or acts on it.
const RECORDED: [Signal; 10] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGPIPE,
    Signal::SIGALRM,
    Signal::SIGTERM,
    Signal::SIGCHLD,
    Signal::SIGTSTP,
];

/// The signal state that this process inherited.
struct Inherited {
    /// Bit n stands for signal n.
    ignored: u32,
    mask: SigSet,
}

static INHERITED: OnceLock<Inherited> = OnceLock::new();

/// Runs [`record`] before `main` and before Rust's runtime, which ignores SIGPIPE. Both glibc and musl call what is in
/// this section.
#[used]
#[unsafe(link_section = ".init_array")]
static RECORD: extern "C" fn() = record;

extern "C" fn record() {
    inherited();
}

fn inherited() -> &'static Inherited {
    INHERITED.get_or_init(|| Inherited {
        ignored: RECORDED.iter().filter(|&&signal| is_now_ignored(signal)).fold(0, |bits, &signal| bits | bit(signal)),
        // It cannot fail without an argument.
        mask: SigSet::thread_get_mask().unwrap_or_else(|_| SigSet::empty()),
    })
}

fn bit(signal: Signal) -> u32 {
    1 << signal as i32
}

fn is_now_ignored(signal: Signal) -> bool {
    // SAFETY: all zeros is valid for the structure that the call fills.
    let mut now: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: no disposition to set, and memory to write the present one to.
    let asked = unsafe { libc::sigaction(signal as i32, ptr::null(), &mut now) };
    asked == 0 && now.sa_sigaction == libc::SIG_IGN
}

/// Whether this process was started with the signal ignored. Only for the signals that are recorded; `false` for others.
pub(crate) fn was_ignored(signal: Signal) -> bool {
    inherited().ignored & bit(signal) != 0
}

/// Whether this process was started with the signal blocked.
pub(crate) fn was_blocked(signal: Signal) -> bool {
    inherited().mask.contains(signal)
}

/// Gives the signal its default disposition, or ignores it.
fn set_ignored(number: Signal, is_ignored: bool) {
    let disposition = if is_ignored { SigHandler::SigIgn } else { SigHandler::SigDfl };
    // SAFETY: neither disposition runs code of this process.
    let _ = unsafe { signal(number, disposition) };
}

/// Stops ignoring SIGCHLD, which a starter may have ignored: then nobody could learn how a child ended.
pub(crate) fn watch_children() {
    set_ignored(Signal::SIGCHLD, false);
}

/// Restores the inherited disposition of SIGPIPE, for a process that is about to end as another one did.
pub(crate) fn restore_sigpipe() {
    set_ignored(Signal::SIGPIPE, was_ignored(Signal::SIGPIPE));
}

/// Replaces this process by the program, with the inherited signal state. Returns the error if that fails.
pub(crate) fn exec(program: &[CString]) -> io::Error {
    let Some(file) = program.first() else { return io::ErrorKind::InvalidInput.into() };
    restore_sigpipe();
    set_ignored(Signal::SIGCHLD, was_ignored(Signal::SIGCHLD));
    // Last: a signal that is pending may end this process here.
    let _ = inherited().mask.thread_set_mask();
    let Err(errno) = nix::unistd::execvp(file, program);
    // The complaint about it must not end this process.
    set_ignored(Signal::SIGPIPE, true);
    errno.into()
}

/// In which of the two processes [`fork`] returns.
pub(crate) enum Side {
    Parent(Pid),
    /// It must end by [`exec`] or [`leave`].
    Child,
}

/// Forks this process. Only for a process whose other threads have ended.
pub(crate) fn fork() -> io::Result<Side> {
    // SAFETY: the child is a copy of a process with one thread, so no lock in it is held by a thread that it lacks.
    Ok(match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Side::Parent(child),
        ForkResult::Child => Side::Child,
    })
}

/// Ends a forked child without running what its parent has registered for its own end.
pub(crate) fn leave(status: i32) -> ! {
    // SAFETY: it does not return, and takes no memory.
    unsafe { libc::_exit(status) }
}

/// Has the programs that this process becomes inherit the descriptor of this number.
pub(crate) fn let_inherit(descriptor: i32) -> io::Result<()> {
    // SAFETY: the caller has the descriptor from a handle that is alive.
    let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) };
    Ok(rustix::io::fcntl_setfd(descriptor, FdFlags::empty())?)
}

/// Closes the standard streams, in a child that must not keep a pipe open.
pub(crate) fn close_streams() {
    for descriptor in 0..3 {
        // SAFETY: nothing in the child uses the streams any more.
        unsafe { rustix::io::close(descriptor) };
    }
}
