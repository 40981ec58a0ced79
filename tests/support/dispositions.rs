//! Signal dispositions of the processes that the tests start.
//!
//! A test binary may itself be started with signals ignored: nohup(1) ignores SIGHUP, and a shell without job control
//! ignores SIGINT and SIGQUIT for its background commands. Children inherit an ignored signal across fork and exec, and a
//! shell cannot trap a signal that was ignored when it started. Every child that a test sends a signal to must therefore
//! start with the default dispositions, or the test waits for ever.
#![allow(dead_code, unsafe_code)]

use std::os::unix::process::CommandExt;
use std::process::Command;

/// The signals that the tests send, and the one that ends a child that hangs.
const SIGNALS: [libc::c_int; 9] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGTSTP,
    libc::SIGWINCH,
];

/// Has the command start with the default dispositions and an empty signal mask.
pub(crate) fn reset_in(command: &mut Command) {
    let reset = || {
        reset();
        Ok(())
    };
    // SAFETY: `reset` makes system calls only, which a forked child may do.
    unsafe { command.pre_exec(reset) };
}

/// Has the command start with the signals that the tests send ignored and blocked.
pub(crate) fn ignore_in(command: &mut Command) {
    let ignore = || {
        ignore_and_block();
        Ok(())
    };
    // SAFETY: `ignore_and_block` makes system calls only, which a forked child may do.
    unsafe { command.pre_exec(ignore) };
}

/// Has the command start with these signals ignored, and also blocked if that is asked for.
pub(crate) fn set_in(command: &mut Command, ignored: &[libc::c_int], is_blocked: bool) {
    reset_in(command);
    let ignored = ignored.to_vec();
    let set = move || {
        for &signal in &ignored {
            // SAFETY: to ignore a signal runs no code of this process.
            unsafe { libc::signal(signal, libc::SIG_IGN) };
        }
        if is_blocked {
            set_mask(&SIGNALS);
        }
        Ok(())
    };
    // SAFETY: `set` makes system calls only, which a forked child may do.
    unsafe { command.pre_exec(set) };
}

/// Gives this process the default disposition of every signal that it ignores, and an empty signal mask.
///
/// Except for SIGPIPE, which Rust's runtime ignores in every process, and resets in those that it starts.
pub(crate) fn reset() {
    for signal in (1..32).filter(|&signal| signal != libc::SIGPIPE) {
        // SAFETY: all zeros is valid for the structure that the call fills.
        let mut now: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: memory of ours, and no disposition to set.
        unsafe { libc::sigaction(signal, std::ptr::null(), &mut now) };
        if now.sa_sigaction == libc::SIG_IGN {
            // SAFETY: the default disposition runs no code of this process.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }
    set_mask(&[]);
}

/// Has this process ignore the signals that the tests send, and block them. Always `true`.
pub(crate) fn ignore_and_block() -> bool {
    for signal in SIGNALS {
        // SAFETY: to ignore a signal runs no code of this process.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    set_mask(&SIGNALS);
    true
}

fn set_mask(signals: &[libc::c_int]) {
    // SAFETY: all zeros is valid for the structure that the next call initializes.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: memory of ours.
    unsafe { libc::sigemptyset(&mut set) };
    for &signal in signals {
        // SAFETY: a set that was initialized.
        unsafe { libc::sigaddset(&mut set, signal) };
    }
    // SAFETY: as above. In a child between fork and exec there is one thread only.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &set, std::ptr::null_mut()) };
}
