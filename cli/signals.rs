//! Signals: those that ask the command to end (SIGINT, SIGTERM, SIGHUP), and those that `run` forwards.
//!
//! For the first, a thread waits for them and ends the process, so that a command ends whatever its main thread is blocked
//! in: the wait for a lock, or a write that nobody reads. The command's closure does what must be done first; it excludes
//! the main thread by a mutex, and the process ends before the mutex is unlocked. A second signal finds the process ending.
//!
//! A SIGHUP that was ignored at the start stays ignored: nohup(1) relies on it. SIGINT does not, because a shell without
//! job control ignores it for every command that it starts in the background, and `kill -INT` would leave the lock held.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::process;
use std::thread;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal as Number, kill, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Resource, Rlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::exit::Exit;
use crate::launch;

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

/// From now on, the first of the signals runs `last_words` and ends the process with the exit that they return.
///
/// Before this returns, and if it fails, a signal ends the process by its default action.
pub(crate) fn end_with(last_words: impl FnOnce(Signal) -> Exit + Send + 'static) -> io::Result<()> {
    let mut numbers = vec![SIGINT, SIGTERM];
    if !launch::was_ignored(Number::SIGHUP) {
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

/// Signals that `run` forwards to its program.
const FORWARDED: [Number; 10] = [
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

/// A signal that this process received.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caught {
    pub(crate) signal: Number,
    /// The terminal sent it, to the whole process group.
    pub(crate) by_terminal: bool,
    /// The process that sent it, in this PID namespace; 0 if it is of another one.
    pub(crate) sender: u32,
}

/// Signals, blocked and read one by one, so that their sender is known ([signalfd(2)]).
///
/// [signalfd(2)]: https://man7.org/linux/man-pages/man2/signalfd.2.html
pub(crate) struct Mail(SignalFd);

impl Mail {
    /// From now on, the signals that `run` forwards neither end nor stop this process; [`Mail::next`] returns them.
    pub(crate) fn receive() -> io::Result<Self> {
        launch::watch_children();
        let signals = Self::signals();
        signals.thread_block()?;
        Ok(Self(SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?))
    }

    fn signals() -> SigSet {
        FORWARDED.into_iter().chain([Number::SIGCHLD]).collect()
    }

    /// Waits for the next signal.
    pub(crate) fn next(&mut self) -> io::Result<Caught> {
        loop {
            if let Some(caught) = self.pending() {
                return Ok(caught);
            }
            self.wait(None)?;
        }
    }

    /// Waits until there is a signal, or until the other descriptor can be read: `true` if that is so.
    pub(crate) fn wait(&mut self, other: Option<BorrowedFd<'_>>) -> io::Result<bool> {
        let other = other.unwrap_or(self.as_fd());
        let mut fds = [self.as_fd(), other].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        match poll(&mut fds, None) {
            Ok(_) => Ok(!fds[1].revents().is_empty()),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The next signal, if there is one.
    pub(crate) fn pending(&mut self) -> Option<Caught> {
        loop {
            match self.0.read_signal() {
                Ok(Some(info)) => {
                    if let Ok(signal) = Number::try_from(info.ssi_signo as i32) {
                        let by_terminal = info.ssi_code == SI_KERNEL;
                        return Some(Caught { signal, by_terminal, sender: info.ssi_pid });
                    }
                }
                Err(Errno::EINTR) => {}
                // A signalfd has no other errors than "none".
                Ok(None) | Err(_) => return None,
            }
        }
    }

    /// Ends this process by the signal that ended another; or, if it is ignored here, with the status that a shell uses.
    pub(crate) fn die_of(&self, number: i32) -> Exit {
        if let Ok(signal) = Number::try_from(number) {
            // One core dump is enough. Without this there would be two.
            let none = Rlimit { current: Some(0), maximum: Some(0) };
            let _ = setrlimit(Resource::Core, none);
            if signal == Number::SIGPIPE {
                launch::restore_sigpipe();
            }
            let _ = SigSet::from(signal).thread_unblock();
            let _ = raise(signal);
            // Not reached unless it is ignored, or std's handler for stack overflows received it: that one resets the
            // disposition when the signal has another cause.
            let _ = raise(signal);
        }
        Exit::Given(128_u8.saturating_add(number as u8))
    }

    /// Stops this process until it receives SIGCONT.
    pub(crate) fn stop_ourselves() {
        let _ = raise(Number::SIGSTOP);
    }
}

impl AsFd for Mail {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sends the signal to a child that was not reaped; whether it has ended meanwhile does not matter.
pub(crate) fn send(signal: Number, child: Pid) {
    let _ = kill(child, signal);
}

/// Whether the signal is a request to end, so that a program that it kills has ended normally. (SIGPIPE: nobody reads the
/// program's output any more.)
pub(crate) fn asks_for_an_end(number: i32) -> bool {
    [Number::SIGINT, Number::SIGTERM, Number::SIGHUP, Number::SIGPIPE].iter().any(|&signal| signal as i32 == number)
}

/// Whether the terminal's job control stops processes by this signal.
pub(crate) fn is_of_job_control(number: i32) -> bool {
    [Number::SIGTSTP, Number::SIGTTIN, Number::SIGTTOU].iter().any(|&signal| signal as i32 == number)
}

/// The signal's name, such as `SIGKILL`; of one without a name, its number.
pub(crate) fn name(number: i32) -> String {
    Number::try_from(number).map_or_else(|_| format!("signal {number}"), |signal| signal.as_str().to_owned())
}
