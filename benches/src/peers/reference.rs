//! The reference: cjnfuncs' `resourcelock` in Python, where Python finds it.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

const SCRIPT: &str = include_str!("reference.py");

/// Where the interpreter and the scripts of its packages are, if it has the reference.
const FIND: &str =
    "import sys, sysconfig, cjnfuncs.resourcelock; print(sys.executable, sysconfig.get_path('scripts'), sep='\\n')";

/// A Python process that does with the reference what it is told.
pub(crate) struct Reference {
    python: Child,
    answers: BufReader<ChildStdout>,
}

/// The interpreter itself, not what stands before it in the path.
fn find() -> Option<(PathBuf, PathBuf)> {
    let output = Command::new("python3").args(["-c", FIND]).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut lines = text.lines();
    Some((lines.next()?.into(), lines.next()?.into()))
}

/// The reference's command, if Python has it.
pub(crate) fn command() -> Option<PathBuf> {
    let script = find()?.1.join("resourcelock");
    script.exists().then_some(script)
}

impl Reference {
    /// `None` if Python does not find it.
    pub(crate) fn start() -> Option<Self> {
        let (python, _) = find()?;
        let mut python =
            Command::new(python).args(["-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
        let answers = BufReader::new(python.stdout.take()?);
        Some(Self { python, answers })
    }

    /// Has it do `command` on the lock `name`, and tells its answer.
    pub(crate) fn tell(&mut self, command: &str, name: &str, count: u32) -> f64 {
        let mut stdin = self.python.stdin.as_ref().expect("a pipe");
        writeln!(stdin, "{command} {name} {count}").expect("Python reads");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("Python answers");
        answer.trim().parse().expect("a number")
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        // A closed pipe ends it too; this is sooner.
        let _ = self.python.kill();
        let _ = self.python.wait();
    }
}
