//! One lock, several kinds of process: 32 and 64 bits, ARM and x86, on one record.
//!
//! The processes are `cross/peer`, built for each kind of machine and run by its emulator where this one is another.
//! RESOURCELOCK_PEERS has a line for each: a label, a tab, a command line. `ci/bitness` builds the peers and sets it;
//! without it, the tests are skipped with a message. The test itself is one more process.
//!
//! Seen to fail with a private futex, and with an `Entry` whose times are `usize`.
#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::Ordering;

use resourcelock::{Ending, LockError};
use support::{AT_ONCE, Dir, LONG, Shared, is_futex, pass_over};

#[path = "it/support.rs"]
mod support;

/// How a kind of process is started.
struct Kind {
    label: String,
    command: Vec<String>,
}

fn kinds(test: &str) -> Vec<Kind> {
    let Ok(peers) = std::env::var("RESOURCELOCK_PEERS") else {
        pass_over(test, "RESOURCELOCK_PEERS is not set; ci/bitness builds the other processes and sets it");
        return Vec::new();
    };
    let kind = |line: &str| {
        let (label, command) = line.split_once('\t').expect("a label, a tab, a command line");
        Kind { label: label.to_owned(), command: command.split_whitespace().map(str::to_owned).collect() }
    };
    peers.lines().filter(|line| !line.trim().is_empty()).map(kind).collect()
}

/// A process of such a kind, which does what it is told.
struct Peer<'a> {
    kind: &'a Kind,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl<'a> Peer<'a> {
    fn start(kind: &'a Kind, dir: &Dir) -> Self {
        let mut command = Command::new(&kind.command[0]);
        command.args(&kind.command[1..]).arg(dir.path("")).arg("it").arg(dir.path("shared"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the peer starts");
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { kind, child, input, output }
    }

    fn tell(&mut self, command: &str) {
        writeln!(self.input, "{command}").expect("the peer listens");
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("text");
        assert!(line.ends_with('\n'), "{} has ended: {:?}", self.kind.label, self.child.wait());
        line.trim_end().to_owned()
    }

    #[track_caller]
    fn answers(&mut self, command: &str, answer: &str) {
        self.tell(command);
        assert_eq!(self.hear(), answer, "{} was told to {command}", self.kind.label);
    }

    /// Waits until it sleeps on the word.
    fn sleeps(&self) {
        let syscall = format!("/proc/{}/syscall", self.child.id());
        support::wait_until("it sleeps on the word", || fs::read_to_string(&syscall).is_ok_and(|call| is_futex(&call)));
    }

    /// Kills it, and leaves it a zombie until it is dropped.
    fn kill(&mut self) {
        self.child.kill().unwrap();
    }
}

impl Drop for Peer<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn processes_of_all_kinds_lose_no_update() {
    const ROUNDS: u32 = 3000;
    let kinds = kinds("processes_of_all_kinds_lose_no_update");
    let dir = Dir::new();
    let shared = Shared::new(&dir);
    let lock = dir.open();
    let mut peers: Vec<_> = kinds.iter().map(|kind| Peer::start(kind, &dir)).collect();
    // All wait before the first one counts.
    let mut guard = lock.lock(LONG, "the test counts").unwrap();
    for peer in &mut peers {
        peer.tell(&format!("count {ROUNDS}"));
        peer.sleeps();
    }
    for round in 1.. {
        shared.increment(0);
        assert!(guard.release());
        if round == ROUNDS {
            break;
        }
        guard = lock.lock(LONG, "the test counts").unwrap();
    }
    for peer in &mut peers {
        assert_eq!(peer.hear(), "counted");
    }
    let all = ROUNDS * (kinds.len() as u32 + 1);
    let counters = lock.counters();
    assert_eq!(shared.word(0).load(Ordering::Relaxed), all);
    assert_eq!((counters.grants, counters.recoveries, counters.timeouts), (all, 0, 0));
    assert!(kinds.is_empty() || counters.contended > 0, "they never met");
    println!("bitness: {} kinds of process counted to {all} in turns, {} met another", kinds.len(), counters.contended);
}

#[test]
fn a_dead_holder_of_any_kind_is_recovered_by_any_other() {
    let kinds = kinds("a_dead_holder_of_any_kind_is_recovered_by_any_other");
    let dir = Dir::new();
    let _shared = Shared::new(&dir);
    let lock = dir.open();
    let mut recoveries = 0;
    for dying in &kinds {
        for next in &kinds {
            let (mut holder, mut next) = (Peer::start(dying, &dir), Peer::start(next, &dir));
            holder.answers("get dies", "granted");
            next.answers("try is too early", "timed out");
            holder.kill();
            next.answers("get comes next", &format!("recovered {}", holder.child.id()));
            let [now, before] = [&lock.history()[0], &lock.history()[1]].map(Clone::clone);
            assert_eq!((now.info(), now.pid()), ("comes next", next.child.id()));
            assert_eq!((before.info(), before.ending()), ("dies", Some(Ending::Died)));
            next.answers("release", "released");
            recoveries += 1;
        }
        // And this very process.
        let mut holder = Peer::start(dying, &dir);
        holder.answers("get dies", "granted");
        holder.kill();
        let guard = lock.lock(LONG, "the test recovers").unwrap();
        assert_eq!(guard.recovered_from().map(|grant| grant.pid()), Some(holder.child.id()));
        recoveries += 1;
    }
    assert_eq!(lock.counters().recoveries, recoveries);
    println!("bitness: {recoveries} recoveries, each kind of process from each");
}

#[test]
fn an_info_of_any_kind_is_read_by_any_other() {
    let kinds = kinds("an_info_of_any_kind_is_read_by_any_other");
    let dir = Dir::new();
    let _shared = Shared::new(&dir);
    let lock = dir.open();
    let mut peers: Vec<_> = kinds.iter().map(|kind| Peer::start(kind, &dir)).collect();
    let mut reads = 0;
    for i in 0..peers.len() {
        let text = format!("{} liest das Thermometer: 21,5 °C", peers[i].kind.label);
        peers[i].answers(&format!("get {text}"), "granted");
        let info = lock.info();
        assert!(info.ends_with(&format!(" UTC - {text}")), "{info}");
        for peer in &mut peers {
            peer.answers("info", &info);
            reads += 1;
        }
        match lock.lock(AT_ONCE, "") {
            Err(LockError::TimedOut(Some(holder))) => assert_eq!(holder.pid(), peers[i].child.id()),
            outcome => panic!("{outcome:?}"),
        }
        peers[i].answers("release", "released");
    }
    println!("bitness: {reads} infos read, of each kind of process by each");
}

#[test]
fn a_waiter_of_any_kind_is_woken_by_any_other() {
    let kinds = kinds("a_waiter_of_any_kind_is_woken_by_any_other");
    let dir = Dir::new();
    let _shared = Shared::new(&dir);
    let mut peers: Vec<_> = kinds.iter().map(|kind| Peer::start(kind, &dir)).collect();
    let mut handed_over = 0;
    for i in 0..peers.len() {
        for j in (0..peers.len()).filter(|&j| j != i) {
            peers[i].answers("get holds", "granted");
            peers[j].tell("get waits");
            peers[j].sleeps();
            peers[i].answers("release", "released");
            assert_eq!(peers[j].hear(), "granted");
            peers[j].answers("release", "released");
            handed_over += 1;
        }
    }
    println!("bitness: {handed_over} hand-overs, from each kind of process to each");
}
