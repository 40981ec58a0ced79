//! The time from starting a command until its end is noticed: `resourcelock LOCK state` and `resourcelock LOCK run -- true`
//! beside `true`, `flock FILE true`, and the command of the reference.

use std::path::Path;
use std::process::{Command, Stdio};

use super::Effort;
use crate::built;
use crate::peers::{FLOCK, GUARD, REFERENCE, Site, reference};
use crate::process::now;
use crate::samples::{Samples, interleave};
use crate::table::{Table, number, ratio};
use crate::target::{Limit, Target};

struct Contestant {
    name: String,
    command: Command,
    /// Whether it runs once per round only, because it starts an interpreter.
    is_slow: bool,
}

impl Contestant {
    fn new(name: &str, program: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { name: name.to_owned(), command, is_slow: false }
    }

    /// Runs the command, and returns its time in milliseconds.
    fn time(&mut self) -> f64 {
        let began = now();
        let status = self.command.status().expect("the command starts");
        let took = now() - began;
        assert!(status.success(), "{}: {status}", self.name);
        took as f64 / 1e6
    }
}

pub(super) fn run(effort: Effort) -> String {
    let (ours, file, theirs) = (GUARD.make(), FLOCK.make(), Site::new());
    let command = built::command();
    let file = file.file();
    let mut contestants = vec![
        Contestant::new("resourcelock LOCK state", &command, &[ours.name(), "state"]),
        Contestant::new("resourcelock LOCK run -- true", &command, &[ours.name(), "run", "--", "true"]),
        Contestant::new("true", Path::new("/bin/true"), &[]),
        Contestant::new("flock FILE true", Path::new("flock"), &[&file.to_string_lossy(), "true"]),
    ];
    let reference = reference::command();
    if let Some(script) = &reference {
        let mut reference = Contestant::new(&format!("{REFERENCE} LOCK state"), script, &[theirs.name(), "state"]);
        reference.is_slow = true;
        contestants.push(reference);
    }
    contestants.iter_mut().for_each(|contestant| {
        contestant.time();
    });
    let results = interleave(&mut contestants, effort.of(50, 2), |contestant| {
        let count = if contestant.is_slow { 1 } else { 10 };
        (0..count).map(|_| contestant.time()).collect::<Samples>()
    });
    let mut table = Table::new(&["", "median, ms", "p99, ms", "state ÷ this", "run ÷ this"]);
    for (contestant, rounds) in contestants.iter().zip(&results) {
        let all = rounds.all();
        let ratios = [0, 1].map(|ours| ratio(results[ours].ratio_to(rounds)));
        table.row([contestant.name.clone(), number(all.median()), number(all.p99())].into_iter().chain(ratios));
    }
    if reference.is_none() {
        table.row([format!("{REFERENCE}: not installed")]);
    }
    let target = |index: usize, most| {
        let name = contestants[index].name.as_str();
        Target::new(format!("`{name}`"), results[index].ratio_to(&results[2]), "× `true`").wanted(Limit::AtMost(most))
    };
    format!("{table}\n{}{}", target(0, 1.4), target(1, 2.5))
}
