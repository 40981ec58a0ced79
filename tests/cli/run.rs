//! `run`: the lock is held until `run` and its program have ended, whoever is killed; every death is reported once, and a
//! normal end never; signals reach the program once, and it does not notice that it was started by `run`.
//!
//! Each test has failed on wrong code: the one before `run` had a seat (see the tests' own comments), and versions without
//! the release after a normal end, with a release after a crash, without the witness, with std's `Command` as the starter,
//! without PR_SET_PDEATHSIG, and with SIGCHLD left ignored.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::thread;

use resourcelock::ResourceLock;
use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process};
use serde_json::Value;

use crate::support::{Place, Running, Said, dispositions, send, tool, wait_for_end, wait_until};

fn kill(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), signal).unwrap();
}

fn exists(pid: u32) -> bool {
    test_kill_process(Pid::from_raw(pid as i32).unwrap()).is_ok()
}

/// Nobody holds it, and nobody died with it.
#[track_caller]
fn expect_released(place: &Place, name: &str) {
    assert_eq!(place.last_ending(name), "released");
    place.run([name, "get", "-t", "0", "-a", "0"]).expect(
        0,
        &format!(
            "<{name}> lock request successful - Granted <<TIME> - cli>\n<{name}> lock released <cli - auto unget>"
        ),
    );
}

/// The next get reports the death of the holder, and the one after it reports nothing.
#[track_caller]
fn expect_one_report(place: &Place, name: &str) {
    let said = place.run([name, "get", "-t", "0", "-a", "0"]);
    assert_eq!(said.status, Some(0));
    assert!(said.stderr.contains("recovered: the previous holder died while it held"), "{said:?}");
    expect_released(place, name);
    assert_eq!(recoveries(place, name), 1);
}

/// `run` has reported that this signal killed its program.
#[track_caller]
fn expect_death_by(place: &Place, name: &str, signal: &str) {
    assert_eq!(place.row(name)[1], "free");
    let said = place.run([name, "history"]);
    assert!(said.stdout.lines().nth(1).unwrap().contains(&format!("  died ({signal})  ")), "{said:?}");
    assert_eq!(json(place, &[name, "history"])["signal"], signal);
    expect_one_report(place, name);
}

/// The first object that the command prints.
fn json(place: &Place, words: &[&str]) -> Value {
    let said = place.run(words.iter().chain(&["--json"]));
    serde_json::from_str(said.stdout.lines().next().unwrap()).unwrap()
}

/// How many holders of the lock have died.
fn recoveries(place: &Place, name: &str) -> u64 {
    json(place, &[name, "state"])["counters"]["recoveries"].as_u64().unwrap()
}

/// The children of a process.
fn children(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.split_whitespace().map(|child| child.parse().unwrap()).collect()
}

#[test]
fn the_status_of_the_program_is_ours() {
    let place = Place::new();
    for status in [0, 1, 2, 7, 65, 77, 255] {
        place.run(["x", "run", "--", "sh", "-c", &format!("exit {status}")]).expect_end(status);
        expect_released(&place, "x");
    }
}

#[test]
fn the_program_holds_the_lock_while_it_runs() {
    let place = Place::new();
    let running = place.run_program("x", &[]);
    let row = place.row("x");
    assert_eq!((row[1].as_str(), row[4].as_str()), ("held", "sh"));
    assert_eq!(row[11..].join(" "), "sh", "the arguments are the program's own business");
    assert_eq!(place.holder("x"), Some(children(running.pid())[1]), "the record names the program, not 'run'");
    assert_eq!(place.run(["x", "get", "-t", "0"]).status, Some(1));
    running.signal(Signal::USR2);
    running.finish().expect_end(7);
    expect_released(&place, "x");
}

#[test]
fn the_programs_words_and_streams_are_its_own() {
    let place = Place::new();
    let said = place.run(["x", "run", "-m", "why", "--", "printf", "%s|", "-t", "--", "--list", "-m", "a b"]);
    said.expect_text(0, "-t|--|--list|-m|a b|");
    place.run(["x", "state"]).expect(0, "<x> is currently locked? <False> Prior info <<TIME> - why>");
    // Without the dashes, too: what follows the program is its own.
    place.run(["x", "run", "printf", "%s|", "-t", "0", "--json"]).expect_text(0, "-t|0|--json|");
    place.run(["--dir", place.dir.to_str().unwrap(), "--", "x", "run", "printf", "-"]).expect_text(0, "-");
    let mut command = place.command(["x", "run", "sh", "-c", "cat; echo err >&2"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"through\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"through\n"[..], &b"err\n"[..]));
}

impl Said {
    #[track_caller]
    fn expect_text(self, status: i32, stdout: &str) {
        assert_eq!(self, Self { status: Some(status), stdout: stdout.into(), stderr: String::new() });
    }
}

#[test]
fn programs_that_cannot_be_run() {
    let place = Place::new();
    for more in [&[][..], &["--exec"]] {
        let run = |program: &str| place.run(["x"].iter().chain(more).chain(&["run", "--", program]));
        let error = "resourcelock: <x>: cannot run 'no-such-program': No such file or directory (os error 2)";
        run("no-such-program").expect_error(127, error);
        let file = place.dir.join("file");
        fs::write(&file, "").unwrap();
        let file = file.to_str().unwrap();
        let error = format!("resourcelock: <x>: cannot run '{file}': Permission denied (os error 13)");
        run(file).expect_error(126, &error);
        expect_released(&place, "x");
        let said = run("\x1b[31m\u{202e}");
        assert_eq!(said.status, Some(127));
        assert!(said.stderr.contains(r"cannot run '\u{1b}[31m\u{202e}'"), "{said:?}");
    }
}

#[test]
fn a_lock_that_is_not_to_be_had_has_the_status_that_was_asked_for() {
    let place = Place::new();
    let holder = place.hold("x");
    let complaint = format!(
        "resourcelock: <x>: lock request timed out - Current owner <<TIME> - holder>\n\
         resourcelock: <x>: held by pid {} (resourcelock)",
        holder.pid()
    );
    for (words, status) in [
        (&["-t", "0"][..], 1),
        (&["-t", "0.02", "--conflict-exit-code", "99"], 99),
        (&["-t0", "-E0"], 0),
        (&["-t", "0", "-E", "255", "--exec"], 255),
    ] {
        place.run(["x", "run"].iter().chain(words).chain(&["--", "touch", "ran"])).expect_error(status, &complaint);
    }
    let said = place.run(["x", "get", "-t", "0", "-E", "42"]);
    assert_eq!((said.status, said.stdout.lines().count()), (Some(42), 1));
    assert!(!std::path::Path::new("ran").exists());
}

#[test]
fn signals_are_passed_on() {
    for (signal, name) in [
        (Signal::INT, "INT"),
        (Signal::TERM, "TERM"),
        (Signal::HUP, "HUP"),
        (Signal::QUIT, "QUIT"),
        (Signal::USR1, "USR1"),
        (Signal::ALARM, "ALRM"),
        (Signal::WINCH, "WINCH"),
    ] {
        let place = Place::new();
        let script = format!("trap 'echo got {name}; exit 5' {name}; echo ready; while :; do sleep 0.02; done");
        let mut running = place.start(["x", "run", "-vv", "--", "sh", "-c", &script]);
        assert_eq!(running.line(), "ready");
        running.signal(signal);
        assert_eq!(running.line(), format!("got {name}"));
        let said = running.finish();
        assert_eq!(said.status, Some(5), "{said:?}");
        assert!(said.stderr.contains(&format!("resourcelock - DEBUG: <x> SIG{name} forwarded\n")), "{said:?}");
        expect_released(&place, "x");
    }
}

/// So that a shell's loop, which asks how its commands ended, ends by Ctrl-C, too.
#[test]
fn a_signal_that_ends_the_program_ends_us() {
    let passed_on = [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT, Signal::USR1];
    let to_us = passed_on.map(|signal| (signal, false));
    let to_the_program = passed_on.into_iter().chain([Signal::KILL, Signal::SEGV]).map(|signal| (signal, true));
    for (signal, is_to_the_program) in to_the_program.chain(to_us) {
        let place = Place::new();
        let mut child = place.command(["x", "run", "sleep", "1000"]).spawn().unwrap();
        wait_until("the program runs", || {
            let program = || fs::read_to_string(format!("/proc/{}/comm", place.holder("x")?)).ok();
            place.file("x").exists() && program().is_some_and(|program| program == "sleep\n")
        });
        if is_to_the_program {
            kill(place.holder("x").unwrap(), signal);
        } else {
            send(&child, signal);
        }
        let status = wait_for_end(&mut child);
        assert_eq!(status.signal(), Some(signal.as_raw()), "{status}");
        assert!(!status.core_dumped());
        if [Signal::INT, Signal::TERM, Signal::HUP].contains(&signal) {
            expect_released(&place, "x");
        } else {
            let name = name_of(signal);
            expect_death_by(&place, "x", name);
        }
    }
}

fn name_of(signal: Signal) -> &'static str {
    match signal {
        Signal::QUIT => "SIGQUIT",
        Signal::USR1 => "SIGUSR1",
        Signal::KILL => "SIGKILL",
        _ => "SIGSEGV",
    }
}

#[test]
fn a_signal_ends_a_run_that_waits_for_the_lock() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let place = Place::new();
        let mut holder = place.hold("x");
        let mut child = place.command(["x", "run", "-t", "-1", "touch", "ran"]).spawn().unwrap();
        wait_until("waits", || place.row("x")[5] == "yes");
        send(&child, signal);
        assert_eq!(wait_for_end(&mut child).signal(), Some(signal.as_raw()));
        assert!(holder.is_running());
    }
}

#[test]
fn a_killed_run_leaves_the_lock_to_its_program_and_to_all_who_inherited_the_seat() {
    let place = Place::new();
    let script = "sleep 1000 & echo $!; while :; do sleep 0.02; done";
    let mut running = place.start(["x", "run", "--", "sh", "-c", script]);
    let descendant: u32 = running.line().parse().unwrap();
    let program = place.holder("x").unwrap();
    let witness = children(running.pid())[0];
    running.signal(Signal::KILL);
    // Not `finish`, which reads to the end: the program still has our stdout.
    wait_until("run is gone", || !running.is_running());
    wait_until("the witness is gone", || !exists(witness));
    assert!(exists(program));
    assert_eq!(place.run(["x", "get", "-t", "0"]).status, Some(1), "the program works");
    kill(program, Signal::KILL);
    wait_until("the program is gone", || !exists(program));
    assert_eq!(place.run(["x", "get", "-t", "0"]).status, Some(1), "its child may use the resource");
    let said = place.run(["x", "state", "-l"]);
    assert!(said.stdout.contains(&format!("seat locked, pid {program} gone")), "{said:?}");
    kill(descendant, Signal::KILL);
    wait_until("dead", || place.row("x")[1] == "dead");
    let said = place.run(["x", "get", "-t", "0", "-a", "0"]);
    assert_eq!(said.status, Some(0));
    assert!(said.stderr.contains(&format!("the previous holder died while it held: pid {program} (sh)")), "{said:?}");
    expect_released(&place, "x");
    assert_eq!(recoveries(&place, "x"), 1);
}

/// A program that ended normally was a zombie until it was reaped, and a waiter that looked in that window "recovered" the
/// lock: 18 of 200.
#[test]
fn contended_runs_raise_no_alarm() {
    let place = Place::new();
    let runs = || {
        for _ in 0..100 {
            place.run(["x", "run", "-t", "-1", "--", "true"]).expect_end(0);
        }
    };
    thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(runs))));
    assert_eq!(recoveries(&place, "x"), 0);
    assert_eq!(json(&place, &["x", "state"])["counters"]["grants"], 400);
    expect_released(&place, "x");
}

#[test]
fn a_program_that_a_signal_kills_is_reported_exactly_once() {
    let place = Place::new();
    assert_eq!(place.run(["x", "run", "--", "sh", "-c", "kill -9 $$"]).status, None);
    expect_death_by(&place, "x", "SIGKILL");
    // A waiter learns of it as well.
    let running = place.run_program("x", &[]);
    let mut waiter = place.start(["x", "get", "-t", "-1"]);
    wait_until("waits", || place.row("x")[5] == "yes");
    kill(place.holder("x").unwrap(), Signal::KILL);
    assert_eq!(waiter.line(), "<x> lock request successful - Granted <<TIME> - cli>");
    assert!(waiter.finish().stderr.contains("recovered: the previous holder died while it held"));
    running.finish();
    assert_eq!(recoveries(&place, "x"), 2);
}

#[test]
fn a_stray_write_to_the_inherited_descriptor_leaves_the_record_intact() {
    let place = Place::new();
    // dash knows no descriptors above 9.
    let script = r#"
        file=$0 before=$(cksum < "$0")
        for fd in /proc/$$/fd/*; do
            if [ "$(readlink "$fd")" = "$file" ]; then
                echo stray >&"${fd##*/}" || echo refused
                printf %5000d 0 >&"${fd##*/}" || echo refused
            fi
        done
        [ "$before" = "$(cksum < "$file")" ] && echo intact"#;
    let said = place.run(["x", "run", "--", "bash", "-c", script, place.file("x").to_str().unwrap()]);
    assert_eq!((said.status, said.stdout.as_str()), (Some(0), "refused\nrefused\nintact\n"), "{said:?}");
    assert_eq!(said.stderr.matches("write error").count(), 2, "{said:?}");
    expect_released(&place, "x");
}

#[test]
fn a_program_that_closes_all_descriptors_holds_as_long_as_run_lives() {
    const SCRIPT: &str = r#"
        for fd in /proc/$$/fd/*; do fd=${fd##*/}; [ "$fd" -gt 2 ] && eval "exec $fd>&-"; done
        trap 'exit 7' USR2; echo ready; while :; do sleep 0.02; done"#;
    let place = Place::new();
    let start = || {
        let mut running = place.start(["x", "run", "--", "bash", "-c", SCRIPT]);
        assert_eq!(running.line(), "ready");
        running
    };
    let running = start();
    assert_eq!(place.run(["x", "get", "-t", "0"]).status, Some(1));
    running.signal(Signal::USR2);
    running.finish().expect_end(7);
    expect_released(&place, "x");
    let running = start();
    let program = place.holder("x").unwrap();
    running.signal(Signal::KILL);
    wait_until("nobody keeps the seat", || place.row("x")[1] == "dead");
    kill(program, Signal::KILL);
}

#[test]
fn a_killed_run_takes_the_program_along_if_told_to() {
    let place = Place::new();
    let running = place.run_program("x", &["--die-with-parent"]);
    let program = place.holder("x").unwrap();
    running.signal(Signal::KILL);
    wait_until("the program is killed", || place.row("x")[1] == "dead");
    assert_eq!(place.holder("x"), Some(program));
}

#[test]
fn with_exec_run_becomes_the_program() {
    let place = Place::new();
    let mut running = place.run_program("x", &["--exec"]);
    assert_eq!(place.holder("x"), Some(running.pid()));
    assert_eq!(place.row("x")[4], "sh");
    let status = fs::read_to_string(format!("/proc/{}/maps", running.pid())).unwrap();
    assert!(!status.contains("resourcelock"), "nothing of the tool stays in memory");
    assert!(running.is_running());
    running.signal(Signal::USR2);
    running.finish().expect_end(7);
    // Nobody is left to release.
    assert_eq!(place.row("x")[1], "dead");
    expect_one_report(&place, "x");
}

#[test]
fn with_exec_the_program_dies_with_whoever_started_us() {
    let place = Place::new();
    // The shell starts us and waits; killed, it takes us along.
    let words = ["x", "run", "--exec", "--die-with-parent", "sh", "-c", "echo ready; while :; do sleep 0.02; done"];
    let mut shell = Running::new(&mut place.shell("\"$@\"; exit 3", &words));
    assert_eq!(shell.line(), "ready");
    let program = place.holder("x").unwrap();
    assert_ne!(program, shell.pid());
    shell.signal(Signal::KILL);
    wait_until("the program is killed", || place.row("x")[1] == "dead");
}

#[test]
fn signals_that_were_ignored_stay_ignored() {
    let place = Place::new();
    for signal in ["HUP", "INT", "QUIT"] {
        let words = ["x", "run", "sh", "-c", &format!("kill -{signal} $$; echo alive")];
        Said::by(&mut place.shell(&format!("trap '' {signal}; exec \"$@\""), &words)).expect(0, "alive");
    }
}

/// std's `Command` resets SIGPIPE and empties the mask, and Rust's runtime ignores SIGPIPE.
#[test]
fn the_program_starts_with_the_signals_that_run_was_started_with() {
    let place = Place::new();
    let state_of = |words: &[&str], ignored: &[i32], is_blocked: bool| {
        let mut command = place.command(&[] as &[&str]);
        if !words.is_empty() {
            command.args(words);
        } else {
            command = Command::new("grep");
        }
        command.args(["-E", "^Sig(Ign|Blk)", "/proc/self/status"]);
        dispositions::set_in(&mut command, ignored, is_blocked);
        Said::by(&mut command)
    };
    for ignored in [&[][..], &[libc::SIGPIPE], &[libc::SIGHUP, libc::SIGCHLD], &[libc::SIGTERM, libc::SIGWINCH]] {
        for is_blocked in [false, true] {
            let direct = state_of(&[], ignored, is_blocked);
            assert_eq!(direct.stdout.lines().count(), 2);
            for words in [&["x", "run", "grep"][..], &["x", "run", "--exec", "grep"]] {
                assert_eq!(state_of(words, ignored, is_blocked), direct, "{words:?} {ignored:?} {is_blocked}");
                place.run(["x", "remove"]);
            }
        }
    }
}

#[test]
fn a_program_that_a_closed_pipe_ends_has_ended_normally() {
    let place = Place::new();
    let script = "\"$@\" | head -n 1; :";
    let said = Said::by(&mut place.shell(script, &["x", "run", "yes"]));
    assert_eq!(said, Said { status: Some(0), stdout: "y\n".into(), stderr: String::new() });
    wait_until("it has ended", || !place.is_locked("x"));
    expect_released(&place, "x");
}

/// It started itself again by /proc/self/exe.
#[test]
fn run_works_without_proc() {
    let place = Place::new();
    let script = "exec unshare --mount sh -c 'umount -l /proc || exit 99; exec \"$@\"' sh \"$@\"";
    let run = |words: &[&str]| Said::by(&mut place.shell(script, words));
    let said = run(&["x", "run", "sh", "-c", "exit 6"]);
    if said.stderr.contains("unshare: ") || said.status == Some(99) {
        return println!("skipped: no right to unmount /proc: {said:?}");
    }
    said.expect_end(6);
    expect_released(&place, "x");
    assert_eq!(run(&["x", "run", "sh", "-c", "kill -9 $$"]).status, None);
    expect_death_by(&place, "x", "SIGKILL");
    assert_eq!(run(&["x", "run", "--exec", "true"]).status, Some(0));
    assert_eq!(place.row("x")[1], "dead");
}

/// Prints each SIGTERM and SIGCONT, and its parent's pid at first, until SIGWINCH ends it. A busy loop, so that two signals
/// are two runs of the trap.
const COUNTER: &str =
    "trap 'echo TERM' TERM; trap 'echo CONT' CONT; trap 'echo end; exit 5' WINCH; echo $PPID; while :; do :; done";

/// The lines that the counter prints, until a signal that `run` forwards after all others ends it.
fn counted(mut running: Running, run: u32) -> Vec<String> {
    let mut lines = vec![running.line()];
    // A larger number than SIGTERM's, so that it is not read first.
    kill(run, Signal::WINCH);
    while lines.last().unwrap() != "end" {
        lines.push(running.line());
    }
    lines
}

/// A signal to the process group reached the program once directly and once forwarded.
#[test]
fn a_signal_to_the_process_group_reaches_the_program_once() {
    for _ in 0..20 {
        let place = Place::new();
        let mut running = place.start(["x", "run", "--", "sh", "-c", COUNTER]);
        let run: u32 = running.line().parse().unwrap();
        kill_process_group(Pid::from_raw(running.pid() as i32).unwrap(), Signal::TERM).unwrap();
        assert_eq!(counted(running, run), ["TERM", "end"]);
    }
}

/// timeout(1) sends to its child and then to the process group, so that it sends to its child twice.
#[test]
fn a_signal_from_timeout_reaches_the_program_once() {
    for by_signal in [true, true, true, true, true, false] {
        let place = Place::new();
        let seconds = if by_signal { "1000" } else { "2" };
        let script = format!("exec timeout {seconds} \"$@\"");
        let mut running = Running::new(&mut place.shell(&script, &["x", "run", "--", "sh", "-c", COUNTER]));
        let run: u32 = running.line().parse().unwrap();
        if by_signal {
            running.signal(Signal::TERM);
        }
        let counted = counted(running, run);
        assert_eq!(counted.iter().filter(|&line| line == "TERM").count(), 1, "{counted:?}");
    }
}

/// A signal that the group received before the program was started reached nobody: the witness had it, so it was not
/// forwarded. Signals are blocked from before the grant on, so wherever one arrives, nobody dies with the lock.
#[test]
fn wherever_a_signal_hits_a_run_that_starts_it_ends_and_releases() {
    let place = Place::new();
    for instant in 0..100 {
        let run = place.start(["x", "run", "--", "sleep", "1000"]);
        // Not to wait for anything: to hit another instruction each time.
        thread::sleep(std::time::Duration::from_micros(instant * 50));
        if instant % 2 == 0 {
            kill_process_group(Pid::from_raw(run.pid() as i32).unwrap(), Signal::TERM).unwrap();
        } else {
            run.signal(Signal::TERM);
        }
        run.finish_by_signal(Signal::TERM);
        let next = place.run(["x", "get", "-t", "0", "-a", "0"]);
        assert_eq!((next.status, next.stderr.as_str()), (Some(0), ""), "after {instant} × 50 µs");
    }
    assert_eq!(recoveries(&place, "x"), 0);
}

#[test]
fn a_signal_to_run_alone_reaches_the_program_each_time() {
    let place = Place::new();
    let mut running = place.start(["x", "run", "--", "sh", "-c", COUNTER]);
    let run: u32 = running.line().parse().unwrap();
    let group = running.pid();
    for round in 0..10 {
        running.signal(Signal::TERM);
        assert_eq!(running.line(), "TERM");
        // What the group received before is no answer for later signals.
        if round % 3 == 0 {
            // By another sender: two signals of the same one could be those of timeout(1).
            assert!(Command::new("kill").args(["-TERM", "--", &format!("-{group}")]).status().unwrap().success());
            assert_eq!(running.line(), "TERM");
            // Forwarded after the group's signal was considered, because of its larger number.
            running.signal(Signal::CONT);
            assert_eq!(running.line(), "CONT");
        }
    }
    kill(children(run)[0], Signal::KILL);
    running.signal(Signal::TERM);
    assert_eq!(counted(running, run), ["TERM", "end"], "without a witness, too");
}

#[test]
fn a_program_that_has_left_the_process_group_receives_its_signals() {
    let place = Place::new();
    // The end of the test kills the group, which is not the program's.
    let mut running = place.start(["x", "run", "--die-with-parent", "--", "setsid", "sh", "-c", COUNTER]);
    let run: u32 = running.line().parse().unwrap();
    kill_process_group(Pid::from_raw(running.pid() as i32).unwrap(), Signal::TERM).unwrap();
    assert_eq!(counted(running, run), ["TERM", "end"]);
}

/// Started by nohup(1), or in the background of a script, these tests waited for ever: their children ignored the signals,
/// too.
#[test]
fn the_tests_of_signals_pass_where_signals_are_ignored() {
    const TESTS: [&str; 5] = [
        "run::signals_are_passed_on",
        "run::a_signal_that_ends_the_program_ends_us",
        "run::a_signal_ends_a_run_that_waits_for_the_lock",
        "signals::a_signal_during_auto_unget_releases_first",
        "terminal::top_gives_the_terminal_back_whatever_signal_ends_it",
    ];
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("--exact").args(TESTS);
    dispositions::ignore_in(&mut command);
    let said = Running::new(&mut command).finish();
    assert_eq!(said.status, Some(0), "{said:?}");
    assert!(said.stdout.contains(&format!("{} passed", TESTS.len())), "{said:?}");
}

#[test]
fn whoever_ignores_its_children_is_told_the_status_all_the_same() {
    let place = Place::new();
    if Command::new("python3").arg("-V").output().is_err() {
        return println!("skipped: no python3 to ignore SIGCHLD");
    }
    let ignore =
        "import os,signal,sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])";
    let mut command = Command::new("python3");
    command.args(["-c", ignore, tool().to_str().unwrap(), "x", "run", "sh", "-c", "exit 9"]);
    command.env("RESOURCELOCK_DIR", &place.dir);
    Running::new(&mut command).finish().expect_end(9);
}

#[test]
fn a_hold_that_was_forced_off_is_not_released_in_the_programs_name() {
    let place = Place::new();
    let running = place.run_program("x", &[]);
    place.run(["x", "unget"]).expect(0, "<x> lock force released <cli>");
    assert_eq!(place.run(["x", "get", "-m", "third party"]).status, Some(0));
    running.signal(Signal::USR2);
    running.finish().expect_end(7);
    assert!(place.is_locked("x"));
}

#[test]
fn the_death_of_the_holder_before_is_reported() {
    let place = Place::new();
    for more in [&[][..], &["--exec"]] {
        let holder = place.hold("x");
        holder.signal(Signal::KILL);
        holder.finish();
        let said = place.run(["x", "run"].iter().chain(more).chain(&["echo", "out"]));
        assert_eq!((said.status, said.stdout.as_str()), (Some(0), "out\n"));
        assert!(said.stderr.contains("recovered: the previous holder died"), "{said:?}");
        place.run(["x", "get", "-a", "0"]);
    }
}

/// A pid of another namespace proves nothing, so these holds lasted forever.
#[test]
fn in_another_pid_namespace_the_hold_ends_with_the_program_as_well() {
    let place = Place::new();
    let lock = ResourceLock::options().dir(place.dir.to_str().unwrap()).open("x").unwrap();
    for script in ["exec unshare --pid --fork --mount-proc \"$@\"", "exec unshare --pid --fork \"$@\""] {
        let run = |program: &str| Said::by(&mut place.shell(script, &["x", "run", "sh", "-c", program]));
        let said = run("exit 6");
        if said.status == Some(1) && said.stderr.contains("unshare") {
            return println!("skipped: no right to make a PID namespace: {said:?}");
        }
        said.expect_end(6);
        assert!(!lock.try_lock("").unwrap().recovered());
        run("kill -9 $$");
        let guard = lock.try_lock("").unwrap();
        let previous = guard.previous();
        let grant = previous.grant().unwrap();
        assert_eq!((guard.recovered(), grant.wait_status(), grant.program()), (true, Some(9), "sh"));
        drop(guard);
        assert!(!lock.try_lock("").unwrap().recovered());
    }
    // Everything inside is killed at once.
    let script = "exec unshare --pid --fork --kill-child \"$@\"";
    let mut running = Running::new(&mut place.shell(script, &["x", "run", "sh", "-c", "echo ready; sleep 1000"]));
    assert_eq!(running.line(), "ready");
    assert!(lock.try_lock("").is_err());
    running.signal(Signal::KILL);
    wait_until("dead", || place.row("x")[1] == "dead");
    assert!(lock.try_lock("").unwrap().recovered());
}

#[test]
fn new_locks_have_the_mode_and_the_group_that_were_asked_for() {
    use std::os::unix::fs::MetadataExt;
    let place = Place::new();
    place.run(["a", "run", "--mode", "600", "true"]).expect_end(0);
    assert_eq!(place.run(["b", "get", "--mode", "0666"]).status, Some(0));
    assert_eq!(place.run(["c", "get"]).status, Some(0));
    // An existing one keeps its own.
    assert_eq!(place.run(["b", "unget"]).status, Some(0));
    assert_eq!(place.run(["b", "get", "--mode", "600"]).status, Some(0));
    let mode = |name: &str| place.file(name).metadata().unwrap().mode() & 0o7777;
    assert_eq!([mode("a"), mode("b"), mode("c")], [0o600, 0o666, 0o660]);
    let own = rustix::process::getgid().as_raw();
    assert_eq!(place.run(["d", "get", "--group", &own.to_string()]).status, Some(0));
    if rustix::process::getuid().is_root() {
        assert_eq!(place.run(["e", "get", "--group", "daemon"]).status, Some(0));
        assert_ne!(place.file("e").metadata().unwrap().gid(), own);
    }
    place
        .run(["f", "get", "--group", "no-such-group"])
        .expect_error(2, "resourcelock: <f>: there is no group 'no-such-group'");
    assert!(!place.file("f").exists());
}
