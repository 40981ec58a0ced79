//! Where the answer goes: to readers that are hostile, full, or gone.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::support::{Place, Running, Said, send, wait_until};

/// A stream that nobody reads any more.
fn unread() -> Stdio {
    let (writer, _) = UnixStream::pair().unwrap();
    OwnedFd::from(writer).into()
}

/// A stream that takes nothing more, and its reader.
fn stuffed() -> (Stdio, UnixStream) {
    let (mut writer, reader) = UnixStream::pair().unwrap();
    writer.set_nonblocking(true).unwrap();
    while writer.write(&[0; 1024]).is_ok() {}
    while writer.write(&[0]).is_ok() {}
    writer.set_nonblocking(false).unwrap();
    (OwnedFd::from(writer).into(), reader)
}

/// Runs the command with its stdout as it is, and tells its status and what it said on stderr.
fn run(command: &mut Command) -> (Option<i32>, String) {
    let output = command.stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn hostile_text_in_the_record_is_escaped() {
    let place = Place::new();
    let hostile = "\x1b]0;owned\x07\r\nline\u{202e}\u{2066}\u{200b}\u{9b}31m";
    let shown = r"\u{1b}]0;owned\u{7}\r\nline\u{202e}\u{2066}\u{200b}\u{9b}31m";
    place
        .run(["x", "get", "-m", hostile])
        .expect(0, &format!("<x> lock request successful - Granted <<TIME> - {shown}>"));
    place.run(["x", "state"]).expect(0, &format!("<x> is currently locked? <True> Prior info <<TIME> - {shown}>"));
    let said = place.run(["x", "get", "-t", "0"]);
    assert_eq!(said.stdout, format!("<x> lock request timed out - Current owner <<TIME> - {shown}>\n"));
    place.run(["x", "unget", "-m", hostile]).expect(0, &format!("<x> lock force released <{shown}>"));
    let said = place.run(["x", "get", "-a", "0", "-m", hostile, "-vv"]);
    assert!(said.stdout.ends_with(&format!("<x> lock released <{shown} - auto unget>\n")));
    assert!(!said.stderr.contains(['\x1b', '\u{202e}', '\r']), "{said:?}");
}

#[test]
fn hostile_names_are_escaped() {
    let place = Place::new();
    let (name, shown) = ("\x1b[2J\n", r"\u{1b}[2J\n");
    place.run([name, "state"]).expect(0, &format!("<{shown}> is currently locked? <False> Prior info <>"));
    place.run([name, "unget"]).expect(1, &format!("<{shown}> Extraneous lock unget request ignored <cli>"));
    place.run([name, "get"]).expect(0, &format!("<{shown}> lock request successful - Granted <<TIME> - cli>"));
    let said = place.run([name, "get", "-t", "0"]);
    assert!(said.stderr.starts_with(&format!("resourcelock: <{shown}>: acquired by pid ")), "{said:?}");
}

#[test]
fn a_long_message_is_cut_between_characters() {
    let place = Place::new();
    let kept = "🔒".repeat(resourcelock::INFO_CAPACITY / 4);
    place
        .run(["x", "get", "-m", &"🔒".repeat(1000)])
        .expect(0, &format!("<x> lock request successful - Granted <<TIME> - {kept}>"));
}

#[test]
fn without_a_reader_the_work_is_done_all_the_same() {
    let place = Place::new();
    let quiet = (Some(0), String::new());
    assert_eq!(run(place.command(["x", "get"]).stdout(unread())), quiet);
    assert!(place.is_locked("x"));
    // Not by a process that is gone: it stands.
    assert_eq!(place.run(["x", "get", "-t", "0"]).status, Some(1));
    assert_eq!(run(place.command(["x", "get", "-t", "0"]).stdout(unread())).0, Some(1));
    assert_eq!(run(place.command(["x", "state"]).stdout(unread())), quiet);
    assert_eq!(run(place.command(["x", "unget"]).stdout(unread())), quiet);
    assert!(!place.is_locked("x"));
    assert_eq!(run(place.command(["x", "unget"]).stdout(unread())), (Some(1), String::new()));
    assert_eq!(run(place.command(["x", "get", "-a", "0"]).stdout(unread())), quiet);
    assert!(!place.is_locked("x"));
    assert_eq!(run(place.command(["--help"]).stdout(unread())), quiet);
}

#[test]
fn a_trace_ends_when_nobody_reads() {
    let place = Place::new();
    assert_eq!(run(place.command(["x", "trace", "-u", "0.01"]).stdout(unread())), (Some(0), String::new()));
}

#[test]
fn a_get_that_cannot_answer_leaves_nothing_held() {
    let place = Place::new();
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let failed = (Some(74), "resourcelock: writing to stdout failed: No space left on device (os error 28)\n".into());
    assert_eq!(run(place.command(["x", "get"]).stdout(full())), failed);
    assert!(!place.is_locked("x"));
    assert_eq!(run(place.command(["x", "get", "-a", "1000000"]).stdout(full())), failed);
    assert!(!place.is_locked("x"));
    assert_eq!(run(place.command(["x", "state"]).stdout(full())), failed);
    assert_eq!(run(place.command(["x", "trace"]).stdout(full())), failed);
    assert_eq!(run(place.command(["-V"]).stdout(full())), failed);
    assert_eq!(place.run(["x", "get"]).status, Some(0));
    // There is no way back for an unget.
    assert_eq!(run(place.command(["x", "unget"]).stdout(full())), failed);
    assert!(!place.is_locked("x"));
}

#[test]
fn stdout_and_stderr_may_be_closed() {
    let place = Place::new();
    let closed = |words: &[&str]| Said::by(&mut place.shell("exec \"$@\" >&- 2>&-", words)).status;
    assert_eq!(closed(&["x", "get", "-vv"]), Some(0));
    assert!(place.is_locked("x"));
    assert_eq!(closed(&["x", "get", "-t", "0", "-vv"]), Some(1));
    assert_eq!(closed(&["x", "unget", "-vv"]), Some(0));
    assert_eq!(closed(&["x", "take"]), Some(2));
    assert_eq!(closed(&["a/b", "get"]), Some(2));
}

#[test]
fn stderr_without_a_reader_is_no_reason_to_fail() {
    let place = Place::new();
    let status = |words: &[&str]| {
        place.command(words).stdout(Stdio::null()).stderr(unread()).spawn().unwrap().wait().unwrap().code()
    };
    assert_eq!(status(&["x", "get", "-vv"]), Some(0));
    assert_eq!(status(&["x", "get", "-t", "0"]), Some(1));
    assert_eq!(status(&["x", "take"]), Some(2));
    assert_eq!(status(&["x", "unget", "-vv"]), Some(0));
}

#[test]
fn a_get_that_is_stuck_in_its_answer_can_be_interrupted() {
    let place = Place::new();
    let (stdout, _reader) = stuffed();
    let mut child = place.command(["x", "get"]).stdout(stdout).spawn().unwrap();
    // Granted, and now in its write.
    wait_until("granted", || place.is_locked("x"));
    send(&child, Signal::INT);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(!place.is_locked("x"));
}

#[test]
fn a_get_that_is_killed_in_its_answer_does_not_stay_held() {
    let place = Place::new();
    let (stdout, _reader) = stuffed();
    let mut child = place.command(["x", "get"]).stdout(stdout).spawn().unwrap();
    wait_until("granted", || place.is_locked("x"));
    child.kill().unwrap();
    child.wait().unwrap();
    let said = place.run(["x", "get", "-t", "0"]);
    assert_eq!(said.status, Some(0));
    assert!(said.stderr.contains("the previous holder died while it held"), "{said:?}");
}

#[test]
fn lines_arrive_while_the_command_runs() {
    let place = Place::new();
    let mut holder = Running::new(&mut place.command(["x", "get", "-a", "1000000"]));
    assert_eq!(holder.line(), "<x> lock request successful - Granted <<TIME> - cli>");
    assert!(holder.is_running());
}
