//! A witness: a child process in the command's process group that notes which signals the group received.
//!
//! A signal can be sent to one process (`kill PID`) or to a whole process group (`kill %1` in a shell, timeout(1), the
//! terminal). `run` must forward the first kind to PROGRAM and must not forward the second, which PROGRAM has received
//! itself. The kernel reports the sender of a signal but not whether it was sent to a group. The witness can tell: it
//! receives the group's signals and no others.
//!
//! The kernel delivers to all members of a group under its lock of the process table (`kill_something_info`), and
//! setpgid(2) takes that lock for writing. So after a call of setpgid, a signal that was sent to the group has reached
//! the witness, too, and the answer is exact.
//!
//! timeout(1) sends to its child first and then to the group, and a service manager sends to each process of a cgroup in
//! turn. In both cases the signal reaches the command, PROGRAM and the witness one shortly after the other. Therefore the
//! witness waits for [`GRACE`] before it denies, and a second copy from the same sender within [`ECHO`] counts as the
//! same signal. If a copy is delayed by more than that, PROGRAM receives the signal twice, as it could without `run`.
//!
//! The witness is forked before the lock is opened, so it inherits no seat; it closes the standard streams; and it ends
//! when the command ends, however that happens. If the witness is killed, every signal that a process sends is forwarded.

use std::io::{ErrorKind, Read, Write};
use std::mem;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, setpgid};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::launch::{self, Side};
use crate::signals::{Caught, Mail};

/// How long after the command's copy of a signal the witness's copy may arrive.
const GRACE: Duration = Duration::from_millis(20);

/// How long after a signal to the group the same process's signal to the command alone counts as its copy.
const ECHO: Duration = Duration::from_millis(100);

/// A witness that does not answer within this time is stopped or gone.
const PATIENCE: Duration = Duration::from_secs(1);

/// The bit of a question that asks for no [`GRACE`].
const AT_ONCE: u8 = 0x80;

/// The command's end.
pub(crate) struct Witness {
    pid: Pid,
    line: UnixStream,
    /// The last signal that a process sent to the group, its sender, and when.
    last: Option<(Signal, u32, Instant)>,
}

impl Witness {
    /// Starts the witness. The signals that `mail` receives must be blocked, and this process must have one thread.
    pub(crate) fn start(mail: &mut Mail) -> std::io::Result<Self> {
        let (line, far_end) = UnixStream::pair()?;
        match launch::fork()? {
            Side::Parent(pid) => {
                line.set_read_timeout(Some(PATIENCE))?;
                Ok(Self { pid, line, last: None })
            }
            Side::Child => {
                drop(line);
                launch::close_streams();
                Notes::default().serve(mail, far_end);
                launch::leave(0)
            }
        }
    }

    /// Whether the signal, which the command has just received, was sent to the whole group.
    pub(crate) fn has_received(&mut self, caught: Caught) -> bool {
        let Caught { signal, by_terminal, sender } = caught;
        let last = self.last.take();
        if self.ask(signal, by_terminal) {
            self.last = (!by_terminal).then(|| (signal, sender, Instant::now()));
            return true;
        }
        last.is_some_and(|(last, by, at)| last == signal && by == sender && at.elapsed() < ECHO)
    }

    /// Forgets that the group received the signal, for a signal that is not forwarded in any case.
    pub(crate) fn forget(&mut self, signal: Signal) {
        self.ask(signal, true);
    }

    fn ask(&mut self, signal: Signal, by_terminal: bool) -> bool {
        // There is no process −1, so this changes nothing. It waits until the kernel has delivered to the whole group.
        let _ = setpgid(Pid::from_raw(-1), Pid::from_raw(1));
        let question = signal as u8 | if by_terminal { AT_ONCE } else { 0 };
        let mut answer = [0];
        match self.line.write_all(&[question]).and_then(|()| self.line.read_exact(&mut answer)) {
            Ok(()) => answer == [1],
            Err(_) => {
                // A late answer would be taken for that to the next question.
                let _ = self.line.shutdown(std::net::Shutdown::Both);
                by_terminal
            }
        }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = kill(self.pid, Signal::SIGKILL);
        while waitpid(self.pid, None) == Err(Errno::EINTR) {}
    }
}

/// What the witness has received and was not yet asked for, by signal number.
#[derive(Default)]
struct Notes([bool; 32]);

impl Notes {
    /// Answers questions until the command is gone.
    fn serve(&mut self, mail: &mut Mail, mut line: UnixStream) {
        loop {
            let mut fds = [PollFd::new(&*mail, PollFlags::IN), PollFd::new(&line, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => return,
            }
            let is_asked = !fds[1].revents().is_empty();
            self.drain(mail);
            if is_asked {
                let mut question = [0];
                match line.read_exact(&mut question) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(_) => return,
                }
                let answer = self.answer(mail, question[0]);
                if line.write_all(&[u8::from(answer)]).is_err() {
                    return;
                }
            }
        }
    }

    fn answer(&mut self, mail: &mut Mail, question: u8) -> bool {
        let (number, until) = (question & !AT_ONCE, Instant::now() + GRACE);
        loop {
            // At first once more: the question may be newer than the last look.
            self.drain(mail);
            let left = until.saturating_duration_since(Instant::now());
            let Some(is_noted) = self.0.get_mut(usize::from(number)) else { return false };
            if *is_noted || left.is_zero() || question & AT_ONCE != 0 {
                return mem::take(is_noted);
            }
            // Shorter than a second, so it fits.
            let left = Timespec::try_from(left).unwrap_or_default();
            let _ = poll(&mut [PollFd::new(&*mail, PollFlags::IN)], Some(&left));
        }
    }

    /// Notes all signals that have arrived.
    fn drain(&mut self, mail: &mut Mail) {
        while let Some(caught) = mail.pending() {
            if let Some(is_noted) = self.0.get_mut(caught.signal as usize) {
                *is_noted = true;
            }
        }
    }
}
