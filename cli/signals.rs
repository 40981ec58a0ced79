//! Signals: those that ask the command to end (SIGINT, SIGTERM, SIGHUP), and those that `run` passes on.
//!
//! For the first, a thread waits for them and ends the process, so that a command ends whatever its main thread is stuck in: the wait
//! for a lock, or a write that nobody reads. What must be put in order first is the command's closure to do; it excludes
//! the main thread by a mutex, and the process ends before that is given back. A second signal finds the process at its
//! end.
//!
//! A SIGHUP that was ignored when we were started stays ignored: that is what nohup(1) is for. The same is not done for
//! SIGINT, which a shell without job control ignores for every command that it starts in the background, so that
//! `kill -INT` would leave the lock held.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::process;
use std::sync::Arc;
use std::thread;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal as Number, kill, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use rustix::process::{Resource, Rlimit, setrlimit};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::exit::Exit;

/// `si_code` of what the kernel itself sends ([sigaction(2)]): for our signals, on behalf of the terminal.
///
/// [sigaction(2)]: https://man7.org/linux/man-pages/man2/sigaction.2.html
const SI_KERNEL: i32 = 0x80;

/// A signal that ends the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    HangUp,
    Interrupt,
    Terminate,
}

impl Signal {
    fn from_number(number: i32) -> Option<Self> {
        match number {
            SIGHUP => Some(Self::HangUp),
            SIGINT => Some(Self::Interrupt),
            SIGTERM => Some(Self::Terminate),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::HangUp => "SIGHUP",
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }

    /// The exit of a command that this signal ended before it was done.
    pub(crate) fn exit(self) -> Exit {
        match self {
            Self::HangUp => Exit::HungUp,
            Self::Interrupt => Exit::Interrupted,
            Self::Terminate => Exit::Terminated,
        }
    }
}

/// From now on, the first of the signals runs `last_words` and ends the process with the exit that they give.
///
/// Before this returns, and if it fails, a signal ends the process as signals do.
pub(crate) fn end_with(last_words: impl FnOnce(Signal) -> Exit + Send + 'static) -> io::Result<()> {
    let mut numbers = vec![SIGINT, SIGTERM];
    if !is_ignored(SIGHUP) {
        numbers.push(SIGHUP);
    }
    let mut signals = Signals::new(numbers)?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        if let Some(signal) = signals.forever().find_map(Signal::from_number) {
            process::exit(last_words(signal).status().into());
        }
    })?;
    Ok(())
}

/// Whether this process was started with the signal ignored. Without /proc: no.
fn is_ignored(number: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // Bit 0 is signal 1 (proc_pid_status(5)).
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask >> (number - 1) & 1 == 1)
}

/// Signals that are passed on to a program that we run.
const PASSED_ON: [Number; 10] = [
    Number::SIGHUP,
    Number::SIGINT,
    Number::SIGQUIT,
    Number::SIGTERM,
    Number::SIGUSR1,
    Number::SIGUSR2,
    Number::SIGALRM,
    Number::SIGTSTP,
    Number::SIGCONT,
    Number::SIGWINCH,
];

/// A signal that was sent to us.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caught {
    pub(crate) signal: Number,
    /// The terminal has sent it, to our whole process group.
    pub(crate) by_terminal: bool,
}

/// Signals, held back and read one by one, so that it is known who has sent them ([signalfd(2)]).
///
/// [signalfd(2)]: https://man7.org/linux/man-pages/man2/signalfd.2.html
pub(crate) struct Mail(SignalFd);

impl Mail {
    /// From now on, signals end or stop nobody; they are for [`Mail::next`]. Programs started from here on inherit that.
    pub(crate) fn receive() -> io::Result<Self> {
        // Whoever has started us may have ignored SIGCHLD; then nobody would learn how a child has ended. Any handler
        // undoes that. It never runs, as the signal is held back.
        signal_hook::flag::register(SIGCHLD, Arc::default())?;
        let signals = Self::signals();
        signals.thread_block()?;
        Ok(Self(SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC)?))
    }

    fn signals() -> SigSet {
        PASSED_ON.into_iter().chain([Number::SIGCHLD]).collect()
    }

    /// In a program that was started while they were held back: lets them through again.
    pub(crate) fn let_through() {
        // The set is a valid one, and there is no other error.
        let _ = Self::signals().thread_unblock();
    }

    /// Waits for the next one.
    pub(crate) fn next(&mut self) -> io::Result<Caught> {
        loop {
            match self.0.read_signal() {
                Ok(Some(info)) => {
                    if let Ok(signal) = Number::try_from(info.ssi_signo as i32) {
                        return Ok(Caught { signal, by_terminal: info.ssi_code == SI_KERNEL });
                    }
                }
                Ok(None) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Ends this process as the signal ended another; or, if that is ignored here, with the status that tells of it.
    pub(crate) fn die_of(&self, number: i32) -> Exit {
        if let Ok(signal) = Number::try_from(number) {
            // One core dump is enough. Without it there would be two.
            let none = Rlimit { current: Some(0), maximum: Some(0) };
            let _ = setrlimit(Resource::Core, none);
            Self::let_through();
            let _ = raise(signal);
            // Still here: std's handler for stack overflows, which steps aside when it is called for something else.
            let _ = raise(signal);
        }
        Exit::Given(128_u8.saturating_add(number as u8))
    }

    /// Stops this process, until it is told to go on.
    pub(crate) fn stop_ourselves() {
        let _ = raise(Number::SIGSTOP);
    }
}

impl AsFd for Mail {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// To a child that was not reaped: whether it has ended meanwhile does not matter.
pub(crate) fn send(signal: Number, child: u32) {
    let _ = kill(Pid::from_raw(child as i32), signal);
}

/// Whether whoever sends this signal asks a program to end. (SIGPIPE: the reader of its output does, by having left.)
pub(crate) fn asks_for_an_end(number: i32) -> bool {
    [Number::SIGINT, Number::SIGTERM, Number::SIGHUP, Number::SIGPIPE].iter().any(|&signal| signal as i32 == number)
}

/// Whether the terminal's job control stops processes by this signal.
pub(crate) fn is_of_job_control(number: i32) -> bool {
    [Number::SIGTSTP, Number::SIGTTIN, Number::SIGTTOU].iter().any(|&signal| signal as i32 == number)
}
