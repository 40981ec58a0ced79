//! In a real terminal: a pseudo terminal with a shell or the tool on it, typed at and read like a person does.
//!
//! Seen to fail with signals of the terminal passed on as well, without the stop that follows the program's, and with a
//! screen that is not given back after a signal.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{LocalModes, tcgetattr};

use crate::support::{PATIENCE, Place, masked, send, tool, wait_until};

/// A terminal, and what has been written on it.
struct Terminal {
    keyboard: File,
    line: OwnedFd,
    screen: Arc<Mutex<String>>,
    /// What was started on it, and may still run.
    leader: Option<u32>,
}

/// Whatever has become of the test, nothing stays on the terminal: the end of a session's leader hangs up on the rest.
impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(leader) = self.leader.and_then(|leader| Pid::from_raw(leader as i32)) {
            let _ = kill_process(leader, Signal::KILL);
        }
    }
}

impl Terminal {
    fn new(columns: u16, rows: u16) -> Self {
        let (mut master, mut slave) = (-1, -1);
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: memory of ours, and no name or attributes asked for.
        let made = unsafe { libc::openpty(&mut master, &mut slave, std::ptr::null_mut(), std::ptr::null(), &size) };
        assert_eq!(made, 0, "{}", std::io::Error::last_os_error());
        // SAFETY: a new descriptor that nobody else has.
        let keyboard = unsafe { File::from_raw_fd(master) };
        // SAFETY: as above.
        let line = unsafe { OwnedFd::from_raw_fd(slave) };
        let screen = Arc::<Mutex<String>>::default();
        let (mut reader, written) = (keyboard.try_clone().unwrap(), Arc::clone(&screen));
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            // It ends with an error when the last program on the terminal has closed it.
            while let Ok(len @ 1..) = reader.read(&mut bytes) {
                written.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..len]));
            }
        });
        Self { keyboard, line, screen, leader: None }
    }

    /// Starts a command in a session of its own, with this as its terminal.
    fn start(&mut self, mut command: Command) -> Child {
        let fd = self.line.as_raw_fd();
        let of_line = || self.line.try_clone().unwrap();
        command.stdin(of_line()).stdout(of_line()).stderr(of_line()).env("TERM", "xterm-256color");
        let take_terminal = move || {
            // SAFETY: a system call without memory.
            let session = unsafe { libc::setsid() };
            // SAFETY: as above.
            let taken = unsafe { libc::ioctl(fd, libc::TIOCSCTTY, 0) };
            if session < 0 || taken < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
        };
        // SAFETY: what it does are two system calls, which a forked child may make.
        unsafe { command.pre_exec(take_terminal) };
        let child = command.spawn().unwrap();
        self.leader = Some(child.id());
        child
    }

    fn run(&mut self, command: Command) -> ExitStatus {
        let mut child = self.start(command);
        wait_for(&mut child, self)
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    fn written(&self) -> String {
        masked(&self.screen.lock().unwrap())
    }

    /// Waits until this has been written after what was looked for before.
    #[track_caller]
    fn expect(&mut self, text: &str) {
        let began = Instant::now();
        loop {
            let mut screen = self.screen.lock().unwrap();
            let shown = masked(&screen);
            if let Some(at) = shown.find(text) {
                *screen = shown[at + text.len()..].to_owned();
                return;
            }
            assert!(began.elapsed() < PATIENCE, "no {text:?} on the terminal, but {shown:?}");
            drop(screen);
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether it echoes and reads line by line, as a shell leaves it.
    fn is_cooked(&self) -> bool {
        tcgetattr(&self.line).unwrap().local_modes.contains(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG)
    }
}

/// Waits for the end of what was started on the terminal, and reaps it.
#[track_caller]
fn wait_for(child: &mut Child, terminal: &mut Terminal) -> ExitStatus {
    let mut status = None;
    wait_until("it ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    terminal.leader = None;
    status.unwrap()
}

/// A shell with job control, which says `prompt> ` when it is ready.
fn shell(place: &Place, terminal: &mut Terminal) -> Child {
    let mut command = place.shell("exec bash --norc --noprofile --noediting -i", &[]);
    command.env("PS1", "prompt> ").env("tool", tool());
    let child = terminal.start(command);
    terminal.expect("prompt> ");
    child
}

#[test]
fn state_tells_all_on_a_terminal_in_colour() {
    let place = Place::new();
    assert_eq!(place.run(["x", "get", "-m", "why"]).status, Some(0));
    let mut terminal = Terminal::new(100, 20);
    assert!(terminal.run(place.command(["x", "state"])).success());
    terminal.expect("<x> is currently locked? \x1b[33m<True>\x1b[0m Prior info <<TIME> - why>\r\n");
    terminal.expect("state    \x1b[0m held until 'unget'\r\n");
    for (words, variable) in [(&["x", "state"][..], "NO_COLOR"), (&["x", "state", "--color=never"], "UNUSED")] {
        let mut command = place.command(words);
        command.env(variable, "1");
        assert!(terminal.run(command).success());
        terminal.expect("<x> is currently locked? <True> Prior info <<TIME> - why>\r\n  state     held until");
    }
    // Empty, it says nothing (no-color.org); and a terminal that knows no colours gets none.
    let mut command = place.command(["x", "state"]);
    command.env("NO_COLOR", "");
    assert!(terminal.run(command).success());
    terminal.expect("\x1b[33m<True>");
}

#[test]
fn a_table_is_no_wider_than_the_terminal() {
    let place = Place::new();
    assert_eq!(place.run(["x", "get", "-m", &"🔒".repeat(36)]).status, Some(0));
    let mut terminal = Terminal::new(80, 20);
    let mut command = place.command(["--list"]);
    command.env("NO_COLOR", "1");
    assert!(terminal.run(command).success());
    terminal.expect("GRANTS");
    terminal.expect("until unget");
    let mut command = place.command(["x", "history"]);
    command.env("NO_COLOR", "1");
    assert!(terminal.run(command).success());
    terminal.expect("INFO\r\n");
    terminal.expect("\r\n");
    for line in terminal.written().lines() {
        use unicode_width::UnicodeWidthStr;
        assert!(line.width() <= 80, "{line}");
    }
}

#[test]
fn ctrl_c_reaches_the_program_once_and_ends_us_with_it() {
    let place = Place::new();
    let mut terminal = Terminal::new(200, 50);
    let script = "trap 'echo INT' INT; trap 'exit 4' USR2; echo rea''dy; while :; do sleep 0.02; done";
    let mut child = terminal.start(place.command(["x", "run", "-vv", "--", "sh", "-c", script]));
    terminal.expect("ready");
    terminal.press("\x03");
    terminal.expect("INT");
    send(&child, Signal::USR2);
    assert_eq!(wait_for(&mut child, &mut terminal).code(), Some(4));
    terminal.expect("SIGUSR2 forwarded");
    assert!(!terminal.written().contains("SIGINT forwarded"), "{}", terminal.written());

    let mut child = terminal.start(place.command(["x", "run", "-vv", "--", "sh", "-c", "echo ready; exec sleep 1000"]));
    terminal.expect("\nready");
    terminal.press("\x03");
    assert_eq!(wait_for(&mut child, &mut terminal).signal(), Some(Signal::INT.as_raw()));
    assert!(!terminal.written().contains("forwarded"), "{}", terminal.written());
    assert_eq!(place.last_ending("x"), "released");
}

/// The programs are no shells that wait for others: one that is stopped while it starts another (by vfork) never stops.
#[test]
fn a_shell_stops_and_continues_the_program_with_us() {
    let place = Place::new();
    let mut terminal = Terminal::new(200, 50);
    let mut shell = shell(&place, &mut terminal);
    terminal.press("$tool x run -- sh -c 'echo rea\"\"dy; exec sleep 1000'\n");
    terminal.expect("\nready");
    terminal.press("\x1a");
    terminal.expect("Stopped");
    terminal.expect("prompt> ");
    assert_eq!(place.row("x")[1], "held", "a stopped program holds");
    terminal.press("bg; jobs; echo bet''ween\n");
    terminal.expect("Running");
    terminal.expect("between");
    terminal.expect("prompt> ");
    terminal.press("fg\n");
    terminal.expect("sleep 1000");
    terminal.press("\x03");
    terminal.expect("prompt> ");
    terminal.press("echo status $?\n");
    terminal.expect("status 130");
    assert_eq!(place.last_ending("x"), "released");
    // A loop of a shell ends by Ctrl-C, because it sees that we were ended by it.
    terminal.press("for i in 1 2 3; do $tool x run -- sh -c \"echo round$i; exec sleep 1000\"; done; echo aft\"\"er\n");
    terminal.expect("\nround1");
    terminal.press("\x03");
    terminal.expect("prompt> ");
    assert!(!terminal.written().contains("round2"));
    // The program may read the terminal: it is in the foreground.
    terminal.press("$tool x run -- cat\n");
    wait_until("held", || place.row("x")[1] == "held");
    terminal.press("hello\n");
    terminal.expect("hello\r\nhello\r\n");
    terminal.press("\x04");
    terminal.expect("prompt> ");
    terminal.press("exit\n");
    wait_for(&mut shell, &mut terminal);
}

/// Each way in which a shell's job receives a signal: in the background, stopped, continued, in the foreground.
#[test]
fn a_signal_to_a_job_of_a_shell_reaches_the_program_once() {
    const COUNTER: &str = "n=0; trap 'n=$((n+1))' TERM INT; trap 'echo count $n; exit 5' WINCH; echo parent $PPID; \
                           while :; do :; done";
    let place = Place::new();
    let mut terminal = Terminal::new(200, 50);
    let mut command = place.shell("exec bash --norc --noprofile --noediting -i", &[]);
    command.env("PS1", "prompt> ").env("tool", tool()).env("counter", COUNTER);
    let mut shell = terminal.start(command);
    terminal.expect("prompt> ");
    let stop = |terminal: &mut Terminal| {
        terminal.press("\x1a");
        terminal.expect("Stopped");
        terminal.expect("prompt> ");
    };
    for state in ["background", "stopped", "continued", "foreground"] {
        let end = if state == "background" { " &\n" } else { "\n" };
        terminal.press(&format!("$tool x run -vv -- sh -c \"$counter\"{end}"));
        terminal.expect("parent ");
        match state {
            "background" => {}
            "stopped" => stop(&mut terminal),
            "continued" => {
                stop(&mut terminal);
                terminal.press("bg\n");
                terminal.expect("prompt> ");
            }
            _ => {
                stop(&mut terminal);
                terminal.press("fg\n");
                terminal.expect("$counter");
                wait_until("it continues", || place.row("x")[1] == "held" && is_running(&place));
                terminal.press("\x03");
            }
        }
        if state == "foreground" {
            // By another process than the shell, which waits. Read after the terminal's signal, because of its number.
            let program = place.holder("x").unwrap();
            let status = std::fs::read_to_string(format!("/proc/{program}/status")).unwrap();
            let run = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap();
            kill_process(Pid::from_raw(run).unwrap(), Signal::WINCH).unwrap();
        } else {
            terminal.press("run=$(jobs -p); kill %1; kill -WINCH $run\n");
        }
        wait_until("the program has counted", || terminal.written().contains("count 1\r\n"));
        // A program that is not scheduled in between counts two signals as one.
        let written = terminal.written();
        assert!(!written.contains("SIGTERM forwarded") && !written.contains("SIGINT forwarded"), "{state}: {written}");
        terminal.press("wait\n");
        wait_until("released", || place.row("x")[1] == "free");
        assert_eq!(place.last_ending("x"), "released", "{state}");
        terminal.press("echo do''ne\n");
        terminal.expect("done");
        terminal.expect("prompt> ");
    }
    terminal.press("exit\n");
    wait_for(&mut shell, &mut terminal);
}

/// Whether the program that holds the lock `x` is not stopped.
fn is_running(place: &Place) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", place.holder("x").unwrap())).unwrap();
    !stat.rsplit(')').next().unwrap().starts_with(" T")
}

/// Starts `--top` and waits until it shows the lock `x`.
fn top(place: &Place, terminal: &mut Terminal) -> Child {
    assert!(terminal.is_cooked());
    let child = terminal.start(place.command(["--top", "-u", "0.02", "--color", "never"]));
    terminal.expect("\x1b[?1049h");
    terminal.expect("LOCK");
    terminal.expect("x     until unget");
    assert!(!terminal.is_cooked());
    child
}

#[track_caller]
fn expect_given_back(terminal: &mut Terminal) {
    terminal.expect("\x1b[?25h");
    terminal.expect("\x1b[?1049l");
    assert!(terminal.is_cooked());
    assert!(!terminal.written().contains("\x1b[?1049h"));
}

#[test]
fn top_follows_the_locks_until_a_key_ends_it() {
    let place = Place::new();
    assert_eq!(place.run(["x", "get", "-m", "\x1b[2Jwhy"]).status, Some(0));
    for key in ["q", "Q", "\x03", "\x04", "\x1b", "jjkq", "\x1b[B\x1b[Aq"] {
        let mut terminal = Terminal::new(120, 10);
        let mut child = top(&place, &mut terminal);
        terminal.expect(r"\u{1b}[2Jwhy");
        if key == "q" {
            assert_eq!(place.run(["new", "get", "-a", "0"]).status, Some(0));
            terminal.expect("new   free");
            assert_eq!(place.run(["new", "remove"]).status, Some(0));
            terminal.expect("1 of 1 held");
        }
        terminal.press(key);
        assert_eq!(wait_for(&mut child, &mut terminal).code(), Some(0), "{key:?}");
        expect_given_back(&mut terminal);
    }
}

#[test]
fn top_gives_the_terminal_back_whatever_signal_ends_it() {
    let place = Place::new();
    assert_eq!(place.run(["x", "get"]).status, Some(0));
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT] {
        let mut terminal = Terminal::new(120, 10);
        let mut child = top(&place, &mut terminal);
        send(&child, signal);
        let status = wait_for(&mut child, &mut terminal);
        assert_eq!(status.signal(), Some(signal.as_raw()), "{status}");
        expect_given_back(&mut terminal);
    }
}

#[test]
fn top_gives_the_terminal_back_while_it_is_stopped() {
    let place = Place::new();
    assert_eq!(place.run(["x", "get"]).status, Some(0));
    for by_key in [true, false] {
        let mut terminal = Terminal::new(120, 10);
        let mut child = top(&place, &mut terminal);
        if by_key {
            terminal.press("\x1a");
        } else {
            send(&child, Signal::TSTP);
        }
        expect_given_back(&mut terminal);
        send(&child, Signal::CONT);
        terminal.expect("\x1b[?1049h");
        terminal.expect("x     until unget");
        terminal.press("q");
        assert_eq!(wait_for(&mut child, &mut terminal).code(), Some(0));
        expect_given_back(&mut terminal);
    }
}

#[cfg(debug_assertions)]
#[test]
fn top_gives_the_terminal_back_before_it_tells_of_a_panic() {
    let place = Place::new();
    assert_eq!(place.run(["x", "get"]).status, Some(0));
    let mut terminal = Terminal::new(120, 10);
    let mut child = top(&place, &mut terminal);
    terminal.press("\x1f");
    assert_eq!(wait_for(&mut child, &mut terminal).code(), Some(101));
    terminal.expect("\x1b[?1049l");
    terminal.expect("asked for by a key");
    assert!(terminal.is_cooked());
}

#[test]
fn top_ends_with_an_error_when_the_directory_goes_away() {
    let place = Place::new();
    assert_eq!(place.run(["x", "get"]).status, Some(0));
    let mut terminal = Terminal::new(120, 10);
    let mut child = top(&place, &mut terminal);
    std::fs::remove_dir_all(&place.dir).unwrap();
    assert_eq!(wait_for(&mut child, &mut terminal).code(), Some(73));
    terminal.expect("\x1b[?1049l");
    terminal.expect("the directory of the locks does not exist");
    assert!(terminal.is_cooked());
}

#[test]
fn top_fits_any_size() {
    let place = Place::new();
    assert_eq!(place.run(["x", "get"]).status, Some(0));
    for (columns, rows) in [(1, 1), (2, 3), (300, 2), (0, 0)] {
        let mut terminal = Terminal::new(columns, rows);
        let mut child = terminal.start(place.command(["--top"]));
        terminal.expect("\x1b[?1049h");
        terminal.press("q");
        assert_eq!(wait_for(&mut child, &mut terminal).code(), Some(0), "{columns} × {rows}");
        assert!(terminal.is_cooked());
    }
}
