//! `run`: the lock is held exactly as long as the program lives, whoever is killed; its status is ours.
//!
//! Seen to fail without the release in the program's name, with one also after a crash, without the signals passed on,
//! without PR_SET_PDEATHSIG, and with SIGCHLD left ignored.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use resourcelock::{ResourceLock, Timeout};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

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

/// It died at work, and whoever comes next is told.
#[track_caller]
fn expect_told_of_the_dead(place: &Place, name: &str) {
    assert_eq!(place.row(name)[1], "dead");
    let said = place.run([name, "get", "-t", "0", "-a", "0"]);
    assert_eq!(said.status, Some(0));
    assert!(said.stderr.contains("recovered: the previous holder died while it held"), "{said:?}");
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
    assert!(row[11..].join(" ").starts_with("sh -c trap 'exit 7' USR2;"), "{row:?}");
    assert_ne!(place.holder("x"), Some(running.pid()), "the hold is the program's own");
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
        std::fs::write(&file, "").unwrap();
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
        assert!(said.stderr.contains(&format!("resourcelock - DEBUG: <x> SIG{name} passed on\n")), "{said:?}");
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
        wait_until("held", || place.file("x").exists() && place.holder("x").is_some());
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
            expect_told_of_the_dead(&place, "x");
        }
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
fn killed_ourselves_we_leave_the_lock_to_the_program() {
    let place = Place::new();
    let mut running = place.run_program("x", &[]);
    let program = place.holder("x").unwrap();
    running.signal(Signal::KILL);
    // Not `finish`, which reads to the end: the program still has our stdout.
    wait_until("we are gone", || !running.is_running());
    assert!(exists(program));
    assert_eq!(place.run(["x", "get", "-t", "0"]).status, Some(1), "the program is still at work");
    kill(program, Signal::KILL);
    wait_until("dead", || place.row("x")[1] == "dead");
    let said = place.run(["x", "get", "-t", "0"]);
    assert_eq!(said.status, Some(0));
    assert!(said.stderr.contains(&format!("the previous holder died while it held: pid {program} (sh)")), "{said:?}");
}

#[test]
fn killed_ourselves_we_take_the_program_along_if_told_to() {
    let place = Place::new();
    let running = place.run_program("x", &["--die-with-parent"]);
    let program = place.holder("x").unwrap();
    running.signal(Signal::KILL);
    wait_until("the program is killed", || place.row("x")[1] == "dead");
    assert_eq!(place.holder("x"), Some(program));
}

#[test]
fn with_exec_we_become_the_program() {
    let place = Place::new();
    let mut running = place.run_program("x", &["--exec"]);
    assert_eq!(place.holder("x"), Some(running.pid()));
    assert_eq!(place.row("x")[4], "sh");
    let status = std::fs::read_to_string(format!("/proc/{}/maps", running.pid())).unwrap();
    assert!(!status.contains("resourcelock"), "nothing of ours stays");
    assert!(running.is_running());
    running.signal(Signal::USR2);
    running.finish().expect_end(7);
    // There is nobody left to say that all was well.
    assert_eq!(place.row("x")[1], "dead");
    assert_eq!(place.run(["x", "get", "-t", "0"]).status, Some(0));
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
fn the_dead_before_are_told_of() {
    let place = Place::new();
    let holder = place.hold("x");
    holder.signal(Signal::KILL);
    holder.finish();
    let said = place.run(["x", "run", "echo", "out"]);
    assert_eq!((said.status, said.stdout.as_str()), (Some(0), "out\n"));
    assert!(said.stderr.contains("recovered: the previous holder died"), "{said:?}");
}

#[test]
fn in_another_pid_namespace_the_hold_ends_with_the_program_as_well() {
    let place = Place::new();
    let lock = ResourceLock::options().dir(place.dir.to_str().unwrap()).open("x").unwrap();
    let script = "exec unshare --pid --fork --mount-proc \"$@\"";
    let said = Said::by(&mut place.shell(script, &["x", "run", "sh", "-c", "exit 6"]));
    if said.status == Some(1) && said.stderr.contains("unshare") {
        println!("skipped: no right to make a PID namespace: {said:?}");
        return;
    }
    said.expect_end(6);
    assert!(lock.get_lock(Timeout::ZERO, false, "").unwrap(), "a foreign hold is never recovered");
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
