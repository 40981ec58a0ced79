//! The reference: cjnfuncs' `resourcelock` in Python, if Python can import it.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

const SCRIPT: &str = include_str!("reference.py");

/// Prints the paths of the interpreter and of its scripts; fails if it lacks the reference.
const FIND: &str =
    "import sys, sysconfig, cjnfuncs.resourcelock; print(sys.executable, sysconfig.get_path('scripts'), sep='\\n')";

/// A Python process that executes commands with the reference.
pub(crate) struct Reference {
    python: Child,
    answers: BufReader<ChildStdout>,
}

/// Returns the path of the interpreter (not of a wrapper that comes first in PATH), and the directory of its scripts.
fn find() -> Option<(PathBuf, PathBuf)> {
    let output = Command::new("python3").args(["-c", FIND]).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut lines = text.lines();
    Some((lines.next()?.into(), lines.next()?.into()))
}

/// Returns the path of the reference's command, if it is installed.
pub(crate) fn command() -> Option<PathBuf> {
    let script = find()?.1.join("resourcelock");
    script.exists().then_some(script)
}

impl Reference {
    /// Starts the process. Returns `None` if Python cannot import the reference.
    pub(crate) fn start() -> Option<Self> {
        let (python, _) = find()?;
        let mut python =
            Command::new(python).args(["-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
        let answers = BufReader::new(python.stdout.take()?);
        Some(Self { python, answers })
    }

    /// Executes `command` on the lock `name`, and returns the answer.
    pub(crate) fn execute(&mut self, command: &str, name: &str, count: u32) -> f64 {
        let mut stdin = self.python.stdin.as_ref().expect("stdin is a pipe");
        writeln!(stdin, "{command} {name} {count}").expect("Python reads");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("Python answers");
        answer.trim().parse().expect("the answer is a number")
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        // Closing the pipe would end it too, but later.
        let _ = self.python.kill();
        let _ = self.python.wait();
    }
}
