//! The size of a program that uses the lock: its resident memory, and the sizes of stripped programs.
//!
//! A fresh process of this program opens and holds each peer, and reports its own resident memory; "nothing" is such a
//! process without a lock. The smallest agent is measured while it waits for a lock that is held; by then it has opened
//! the lock and probed the holder.

use std::fs;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use super::Effort;
use crate::built;
use crate::peers::reference::Reference;
use crate::peers::{FLOCK, GUARD, Peer, REFERENCE, ROBUST, Site, TIMED_SEMAPHORE};
use crate::process::nap;
use crate::samples::Samples;
use crate::table::{Table, number};
use crate::target::{Limit, NO_TARGET, Target};

/// The first word of the command line of a process that holds one lock.
const CHILD: &str = "--hold";

const PEERS: [Peer; 4] = [GUARD, TIMED_SEMAPHORE, ROBUST, FLOCK];

/// Returns the resident memory of a process, in KiB.
fn resident_kib(process: &str) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().split(' ').next()?.parse().ok()
}

/// If the command line begins with [`CHILD`]: holds the lock that it names, and prints this process's resident memory.
pub(crate) fn child(words: &[String]) -> Option<ExitCode> {
    let [first, peer, name] = words else { return None };
    if first != CHILD {
        return None;
    }
    let mut report = || println!("{}", resident_kib("self").unwrap_or(f64::NAN));
    match PEERS.iter().find(|known| known.name == peer) {
        Some(known) => {
            known.open(&Site::of(name)).hold(Duration::from_secs(1), &mut report);
        }
        None => report(),
    }
    Some(ExitCode::SUCCESS)
}

fn resident_with(peer: &str, site: &Site) -> f64 {
    let me = std::env::current_exe().expect("this program has a path");
    let output = Command::new(me).args([CHILD, peer, site.name()]).output().expect("the program starts");
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("the child prints a number")
}

/// Returns the resident memory of the smallest agent while it waits for a lock that is held, in KiB.
fn resident_agent(agent: &std::path::Path) -> f64 {
    let site = GUARD.make();
    let mut resident = f64::NAN;
    GUARD.open(&site).hold(Duration::from_secs(1), &mut || {
        let mut agent = Command::new(agent)
            .args([site.name(), "-", "0", "0", "2", "1", "0"])
            .stdout(Stdio::null())
            .spawn()
            .expect("the program starts");
        // It waits for a second, and is asleep long before a third of it has passed.
        nap(300_000_000);
        resident = resident_kib(&agent.id().to_string()).unwrap_or(f64::NAN);
        agent.kill().expect("the agent still runs");
        agent.wait().expect("the agent is an unreaped child");
    });
    resident
}

pub(super) fn run(effort: Effort) -> String {
    let count = effort.of(11, 1);
    let median = |one: &dyn Fn() -> f64| std::iter::repeat_with(one).take(count).collect::<Samples>().median();

    let nothing = median(&|| resident_with("nothing", &Site::new()));
    let mut memory = Table::new(&["a process that holds", "resident, KiB", "above nothing, KiB"]);
    let mut row = |name: &str, resident: f64, more: Option<f64>| {
        memory.row([name.to_owned(), number(resident)].into_iter().chain(more.map(number)));
    };
    row("nothing", nothing, None);
    for peer in PEERS {
        let site = peer.make();
        let resident = median(&|| resident_with(peer.name, &site));
        row(peer.name, resident, Some(resident - nothing));
    }
    match Reference::start() {
        Some(mut reference) => row(REFERENCE, reference.execute("hold", Site::new().name(), 1), None),
        None => row(&format!("{REFERENCE}: not installed"), f64::NAN, None),
    }
    let (agent, command) = (built::agent(), built::command());
    row("the smallest agent, waiting", median(&|| resident_agent(&agent.path)), None);

    let size = built::size_kib(&agent.path);
    let build = if agent.is_minimal { "" } else { "; with the stable `core`, larger than by cross/agent" };
    let mut sizes = Table::new(&["stripped program", "size, KiB"]);
    sizes.row(["the command `resourcelock`".to_owned(), number(built::size_kib(&command))]);
    sizes.row([format!("the smallest agent (no libc, no heap{build})"), number(size)]);
    let what = format!("the smallest agent by cross/agent, {}", std::env::consts::ARCH);
    let target = Target::new(what, if agent.is_minimal { size } else { f64::NAN }, "KiB")
        .wanted(Limit::AtMost(16.0))
        .stretch(Limit::AtMost(12.0));
    format!("{memory}\n{NO_TARGET}\n{sizes}\n{target}")
}
