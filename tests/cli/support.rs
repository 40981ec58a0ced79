//! Fixtures: a directory for locks, the tool run in it, and what it said.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/dispositions.rs"]
pub(crate) mod dispositions;

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// What nothing here should need; a test that does has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `happened`, by looking again and again.
pub(crate) fn wait_until(what: &str, mut happened: impl FnMut() -> bool) {
    let began = Instant::now();
    while !happened() {
        assert!(began.elapsed() < PATIENCE, "did not happen: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Sends a signal to a child that was not waited for yet.
pub(crate) fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_raw(child.id() as i32).unwrap(), signal).unwrap();
}

/// Waits for the end of a child, and reaps it. Kills it if it does not end.
#[track_caller]
pub(crate) fn wait_for_end(child: &mut Child) -> ExitStatus {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if began.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the child does not end");
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// The tool under test: this build's or, for a tool of another machine with its emulator, the script that
/// RESOURCELOCK_TOOL names.
pub(crate) fn tool() -> PathBuf {
    std::env::var_os("RESOURCELOCK_TOOL").unwrap_or_else(|| env!("CARGO_BIN_EXE_resourcelock").into()).into()
}

/// A fresh directory for locks, removed at the end.
pub(crate) struct Place {
    pub(crate) dir: PathBuf,
}

impl Place {
    pub(crate) fn new() -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let shm = Path::new("/dev/shm");
        let parent = if shm.is_dir() { shm.to_owned() } else { std::env::temp_dir() };
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let dir = parent.join(format!("resourcelock-test-{}-{count}", std::process::id()));
        fs::create_dir(&dir).expect("a fresh directory");
        Self { dir }
    }

    /// The file of the lock `name`.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(format!("resourcelock.{name}"))
    }

    /// The tool where another user can run it; where it was built, that one may not look.
    pub(crate) fn tool_for_others(&self) -> PathBuf {
        let copy = self.dir.join("tool");
        if !copy.exists() {
            // By another program: a process that a test forks while we have the file open to write would keep it busy.
            assert!(Command::new("cp").arg(tool()).arg(&copy).status().unwrap().success());
        }
        copy
    }

    pub(crate) fn is_empty(&self) -> bool {
        fs::read_dir(&self.dir).unwrap().next().is_none()
    }

    /// The tool, with this directory, UTC and nothing else of the environment that matters to it.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(tool());
        self.prepare(&mut command);
        command.args(words);
        command
    }

    /// Has a shell run `script`, in which `"$@"` is the tool with these words.
    pub(crate) fn shell(&self, script: &str, words: &[&str]) -> Command {
        let mut command = Command::new("sh");
        self.prepare(&mut command);
        command.args(["-c", script, "sh"]).arg(tool()).args(words);
        command
    }

    fn prepare(&self, command: &mut Command) {
        command.env("RESOURCELOCK_DIR", &self.dir).env("TZ", "UTC0").stdin(Stdio::null());
        dispositions::reset_in(command);
    }

    pub(crate) fn run<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Said {
        Said::by(&mut self.command(words))
    }

    pub(crate) fn start<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Running {
        Running::new(&mut self.command(words))
    }

    /// Starts a program that says `ready` and then waits under the lock, and waits until it does. It can be told to end by
    /// SIGUSR2, with status 7.
    pub(crate) fn run_program(&self, name: &str, options: &[&str]) -> Running {
        let script = "trap 'exit 7' USR2; echo ready; while :; do sleep 0.02; done";
        let words = ["run", "--", "sh", "-c", script];
        let mut running = self.start([name].iter().chain(options).chain(&words));
        assert_eq!(running.line(), "ready");
        running
    }

    /// Who holds the lock, by `--list`.
    pub(crate) fn holder(&self, name: &str) -> Option<u32> {
        self.row(name)[3].parse().ok()
    }

    /// The words of the lock's line in `--list`.
    pub(crate) fn row(&self, name: &str) -> Vec<String> {
        let said = self.run(["--list"]);
        assert_eq!((said.status, said.stderr.as_str()), (Some(0), ""));
        let row = said.stdout.lines().find(|line| line.split(' ').next() == Some(name));
        row.unwrap_or_else(|| panic!("no {name} in {said:?}")).split_whitespace().map(str::to_owned).collect()
    }

    /// How the last grant ended, by `history --json`.
    pub(crate) fn last_ending(&self, name: &str) -> String {
        let said = self.run([name, "history", "--json"]);
        let grant: serde_json::Value = serde_json::from_str(said.stdout.lines().next().unwrap()).unwrap();
        grant["ending"].as_str().unwrap_or("none").to_owned()
    }

    /// Starts a get that holds the lock until it is told to end, and waits until it does.
    pub(crate) fn hold(&self, name: &str) -> Running {
        let mut holder = self.start([name, "get", "-t", "0", "-a", "1000000", "-m", "holder"]);
        assert_eq!(holder.line(), format!("<{name}> lock request successful - Granted <<TIME> - holder>"));
        holder
    }

    pub(crate) fn is_locked(&self, name: &str) -> bool {
        let said = self.run([name, "state"]);
        assert_eq!(said.status, Some(0), "{said:?}");
        said.stdout.contains("is currently locked? <True>")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// What a command said, its times replaced by `<TIME>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// `None` if a signal killed it.
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    pub(crate) fn by(command: &mut Command) -> Self {
        let output = command.output().expect("the tool runs");
        Self {
            status: output.status.code(),
            stdout: masked(&String::from_utf8(output.stdout).unwrap()),
            stderr: masked(&String::from_utf8(output.stderr).unwrap()),
        }
    }

    /// This status and this line on stdout, and not a word on stderr.
    #[track_caller]
    pub(crate) fn expect(self, status: i32, line: &str) {
        assert_eq!(self, Self { status: Some(status), stdout: format!("{line}\n"), stderr: String::new() });
    }

    /// This status and not another word.
    #[track_caller]
    pub(crate) fn expect_end(self, status: i32) {
        assert_eq!(self, Self { status: Some(status), stdout: String::new(), stderr: String::new() });
    }

    /// This status, nothing on stdout, and this on stderr.
    #[track_caller]
    pub(crate) fn expect_error(self, status: i32, line: &str) {
        assert_eq!(self, Self { status: Some(status), stdout: String::new(), stderr: format!("{line}\n") });
    }
}

/// Replaces every time by `<TIME>`: dddd-dd-dd dd:dd:dd.dddddd, no digit more or less.
pub(crate) fn masked(text: &str) -> String {
    const FORM: &[u8] = b"dddd-dd-dd dd:dd:dd.dddddd";
    let bytes = text.as_bytes();
    let is_time = |at: usize| {
        let Some(candidate) = bytes.get(at..at + FORM.len()) else { return false };
        let fits = |(byte, form): (&u8, &u8)| if *form == b'd' { byte.is_ascii_digit() } else { byte == form };
        candidate.iter().zip(FORM).all(fits) && !bytes.get(at + FORM.len()).is_some_and(u8::is_ascii_digit)
    };
    let (mut out, mut from) = (String::new(), 0);
    while let Some(at) = (from..text.len()).find(|&at| is_time(at)) {
        out.push_str(&text[from..at]);
        out.push_str("<TIME>");
        from = at + FORM.len();
    }
    out + &text[from..]
}

/// The tool while it runs; killed at the end.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    pub(crate) fn new(command: &mut Command) -> Self {
        // A group of its own, so that a program that it runs can be killed with it.
        let command = command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the tool starts");
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines }
    }

    /// The next line on stdout.
    #[track_caller]
    pub(crate) fn line(&mut self) -> String {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => masked(&line),
            Err(error) => panic!("no line: {error}; stderr: {}", self.stop()),
        }
    }

    /// The next line on stdout; `None` if it ends without one.
    pub(crate) fn first_line(&mut self) -> Option<String> {
        self.lines.recv_timeout(PATIENCE).ok()
    }

    fn kill(&self) {
        let _ = kill_process_group(Pid::from_raw(self.pid() as i32).unwrap(), Signal::KILL);
    }

    fn stop(&mut self) -> String {
        self.kill();
        let mut text = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        send(&self.child, signal);
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until it watches for signals and its main thread has nothing to do.
    pub(crate) fn wait_until_blocked(&mut self) {
        let pid = self.pid();
        // The tool's own, and the one that watches for signals; an emulator has one more.
        let threads = if std::env::var_os("RESOURCELOCK_TOOL").is_some() { "3" } else { "2" };
        wait_until("blocked", || {
            assert!(self.is_running(), "it ended instead: {}", self.stop());
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let field = |name| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
            let caught = u64::from_str_radix(field("SigCgt:"), 16).unwrap();
            let watches = [Signal::INT, Signal::TERM].iter().all(|signal| caught >> (signal.as_raw() - 1) & 1 == 1);
            watches && field("State:").starts_with('S') && field("Threads:") == threads
        });
    }

    /// Waits for its end, which must be by this signal.
    #[track_caller]
    pub(crate) fn finish_by_signal(mut self, signal: Signal) {
        let status = wait_for_end(&mut self.child);
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(signal.as_raw()), "{status}");
    }

    /// Waits for its end and tells what it said that was not read yet.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Said {
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(began.elapsed() < PATIENCE, "it does not end; stderr: {}", self.stop());
            thread::sleep(Duration::from_millis(1));
        };
        let stdout = self.lines.iter().map(|line| masked(&line) + "\n").collect();
        Said { status: status.code(), stdout, stderr: masked(&self.stop()) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
        let _ = self.child.wait();
    }
}
