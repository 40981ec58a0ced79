//! What each word and each option does when all is well.

use std::fs;
use std::time::{Duration, Instant};

use crate::support::{Place, Said, wait_until};

#[test]
fn each_word_answers_with_the_reference_text() {
    let place = Place::new();
    place.run(["test_lock", "state"]).expect(0, "<test_lock> is currently locked? <False> Prior info <>");
    place.run(["test_lock", "get"]).expect(0, "<test_lock> lock request successful - Granted <<TIME> - cli>");
    place.run(["test_lock", "state"]).expect(0, "<test_lock> is currently locked? <True> Prior info <<TIME> - cli>");
    place.run(["test_lock", "unget"]).expect(0, "<test_lock> lock force released <cli>");
    place.run(["test_lock", "unget"]).expect(1, "<test_lock> Extraneous lock unget request ignored <cli>");
    place.run(["test_lock", "state"]).expect(0, "<test_lock> is currently locked? <False> Prior info <<TIME> - cli>");
}

#[test]
fn a_second_get_times_out_and_shows_the_owner() {
    let place = Place::new();
    place.run(["x", "get", "-m", "first"]).expect(0, "<x> lock request successful - Granted <<TIME> - first>");
    let said = place.run(["x", "get", "-t", "0.05", "-m", "second"]);
    assert_eq!(said.status, Some(1));
    assert_eq!(said.stdout, "<x> lock request timed out - Current owner <<TIME> - first>\n");
    assert!(said.stderr.starts_with("resourcelock: <x>: acquired by pid "), "{said:?}");
    assert!(said.stderr.ends_with(" (resourcelock) and held until 'unget'\n"), "{said:?}");
}

#[test]
fn a_holder_that_runs_is_named() {
    let place = Place::new();
    let holder = place.hold("x");
    let said = place.run(["x", "get", "-t", "0"]);
    assert_eq!(said.status, Some(1));
    assert_eq!(said.stdout, "<x> lock request timed out - Current owner <<TIME> - holder>\n");
    assert_eq!(said.stderr, format!("resourcelock: <x>: held by pid {} (resourcelock)\n", holder.pid()));
}

#[test]
fn a_get_outlives_the_command() {
    let place = Place::new();
    place.run(["x", "get"]).expect(0, "<x> lock request successful - Granted <<TIME> - cli>");
    // The process that got it is gone and reaped, which is when a process hold would be recovered.
    assert_eq!(place.run(["x", "get", "-t", "0.03"]).status, Some(1));
    assert!(place.is_locked("x"));
}

#[test]
fn state_makes_no_lock() {
    let place = Place::new();
    place.run(["x", "state"]).expect(0, "<x> is currently locked? <False> Prior info <>");
    assert!(place.is_empty());
}

#[test]
fn unget_of_a_lock_that_never_was_is_extraneous_and_makes_none() {
    let place = Place::new();
    place.run(["x", "unget"]).expect(1, "<x> Extraneous lock unget request ignored <cli>");
    assert!(place.is_empty());
}

#[test]
fn options_stand_before_between_and_after_the_words() {
    let place = Place::new();
    for words in [
        &["-m", "why", "x", "get"][..],
        &["x", "-m", "why", "get"],
        &["x", "get", "-m", "why"],
        &["-mwhy", "x", "get"],
        &["x", "get", "-m=why"],
        &["x", "--message", "why", "get"],
        &["x", "get", "--message=why", "--get-timeout", "1", "--update=1"],
        &["-t", "-1", "x", "get", "-m", "why"],
        &["--get-timeout=-1", "-m", "why", "--", "x", "get"],
    ] {
        place.run(words).expect(0, "<x> lock request successful - Granted <<TIME> - why>");
        place.run(["x", "unget", "-m", "why"]).expect(0, "<x> lock force released <why>");
    }
}

#[test]
fn the_last_of_repeated_options_counts() {
    let place = Place::new();
    let said = place.run(["-m", "one", "x", "get", "-m", "two", "-t", "1", "-t", "0"]);
    said.expect(0, "<x> lock request successful - Granted <<TIME> - two>");
}

#[test]
fn a_name_may_look_like_an_option_behind_two_dashes() {
    let place = Place::new();
    place.run(["--", "-x", "get"]).expect(0, "<-x> lock request successful - Granted <<TIME> - cli>");
}

#[test]
fn a_leading_slash_is_accepted_and_hidden() {
    let place = Place::new();
    place.run(["/x", "state"]).expect(0, "<x> is currently locked? <False> Prior info <>");
    place.run(["/x", "unget"]).expect(1, "<x> Extraneous lock unget request ignored <cli>");
    place.run(["/x", "get"]).expect(0, "<x> lock request successful - Granted <<TIME> - cli>");
    place.run(["x", "unget"]).expect(0, "<x> lock force released <cli>");
}

#[test]
fn auto_unget_zero_ungets_at_once() {
    let place = Place::new();
    let said = place.run(["x", "get", "-a", "0", "-m", "why"]);
    said.expect(0, "<x> lock request successful - Granted <<TIME> - why>\n<x> lock released <why - auto unget>");
    assert!(!place.is_locked("x"));
}

#[test]
fn auto_unget_holds_for_its_time() {
    let place = Place::new();
    let began = Instant::now();
    let said = place.run(["x", "get", "--auto-unget", "0.2"]);
    assert!(began.elapsed() >= Duration::from_millis(200));
    said.expect(0, "<x> lock request successful - Granted <<TIME> - cli>\n<x> lock released <cli - auto unget>");
    assert!(!place.is_locked("x"));
}

#[test]
fn a_get_waits_half_a_second_unless_told_otherwise() {
    let place = Place::new();
    let _holder = place.hold("x");
    let began = Instant::now();
    assert_eq!(place.run(["x", "get"]).status, Some(1));
    assert!(began.elapsed() >= Duration::from_millis(500));
}

#[test]
fn minus_one_waits_until_the_lock_is_free() {
    let place = Place::new();
    let mut holder = place.hold("x");
    let mut waiter = place.start(["x", "get", "-t", "-1"]);
    waiter.wait_until_blocked();
    assert!(waiter.is_running());
    place.run(["x", "unget"]).expect(0, "<x> lock force released <cli>");
    assert_eq!(waiter.line(), "<x> lock request successful - Granted <<TIME> - cli>");
    assert_eq!(waiter.finish().status, Some(0));
    assert!(holder.is_running());
}

#[test]
fn a_waiting_get_is_granted_when_the_holder_is_done() {
    let place = Place::new();
    let holder = place.hold("x");
    let mut waiter = place.start(["x", "get", "-t", "1000", "-m", "next"]);
    waiter.wait_until_blocked();
    holder.signal(rustix::process::Signal::TERM);
    assert_eq!(waiter.line(), "<x> lock request successful - Granted <<TIME> - next>");
    waiter.finish().expect_end(0);
    assert_eq!(holder.finish().status, Some(143));
}

#[test]
fn verbosity_goes_to_stderr_in_the_reference_form() {
    let place = Place::new();
    let info = format!("resourcelock - INFO: <x> get in {}\n", place.dir.display());
    let said = place.run(["-v", "x", "get"]);
    assert_eq!(said.stdout, "<x> lock request successful - Granted <<TIME> - cli>\n");
    assert_eq!(said.stderr, info);
    let info = info.replace("get", "state");
    for more in [&["-vv"][..], &["-vvv"], &["-v", "-v"], &["-v", "-vvvvvvv", "-v"]] {
        let said = place.run(["x", "state"].iter().chain(more));
        assert_eq!(said.status, Some(0));
        assert_eq!(said.stdout, "<x> is currently locked? <True> Prior info <<TIME> - cli>\n");
        let debug = "resourcelock - DEBUG: <x> is currently locked? <True> Prior info <<TIME> - cli>\n";
        assert!(said.stderr.starts_with(&format!("{info}{debug}")), "{said:?}");
    }
}

#[test]
fn more_v_than_fit_a_byte_are_no_matter() {
    let place = Place::new();
    assert_eq!(place.run(["x", "state", &format!("-{}", "v".repeat(300))]).status, Some(0));
}

#[test]
fn dir_goes_before_the_environment() {
    let (place, other) = (Place::new(), Place::new());
    let dir = other.dir.to_str().unwrap();
    place.run(["x", "get", "--dir", dir]).expect(0, "<x> lock request successful - Granted <<TIME> - cli>");
    assert!(place.is_empty());
    assert!(other.is_locked("x") && !place.is_locked("x"));
    assert!(other.file("x").is_file());
}

#[test]
fn an_empty_variable_is_none() {
    let place = Place::new();
    let said = Said::by(place.command(["resourcelock-test-never-made", "state"]).env("RESOURCELOCK_DIR", ""));
    said.expect(0, "<resourcelock-test-never-made> is currently locked? <False> Prior info <>");
}

#[test]
fn times_are_those_of_the_zone() {
    let place = Place::new();
    assert_eq!(place.run(["x", "get"]).status, Some(0));
    let hour = |zone: &str| {
        let output = place.command(["x", "state"]).env("TZ", zone).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (_, time) = text.rsplit_once("Prior info <").unwrap();
        let hour: u32 = time[11..13].parse().unwrap();
        (hour, text.contains(" UTC - cli>"))
    };
    let (utc, _) = hour("UTC0");
    // POSIX counts west of Greenwich.
    assert_eq!(hour("<+0530>-5:30").0, (utc + 5 + u32::from(hour_has_half(&place))) % 24);
    assert_eq!(hour("XYZ+3"), ((utc + 21) % 24, false));
    // A zone that nobody knows: UTC, and said so.
    assert_eq!(hour("Nowhere/Nothing"), (utc, true));
}

/// Whether half an hour more is another hour.
fn hour_has_half(place: &Place) -> bool {
    let output = place.command(["x", "state"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (_, time) = text.rsplit_once("Prior info <").unwrap();
    time[14..16].parse::<u32>().unwrap() >= 30
}

#[test]
fn times_have_six_digits_whatever_the_fraction() {
    let place = Place::new();
    for _ in 0..20 {
        // The mask takes nothing but six digits.
        let said = place.run(["x", "get", "-a", "0"]);
        assert!(said.stdout.starts_with("<x> lock request successful - Granted <<TIME> - cli>\n"), "{said:?}");
    }
}

#[test]
fn help_tells_words_options_and_every_exit_status() {
    let place = Place::new();
    let short = place.run(["-h"]);
    assert_eq!(short.status, Some(0));
    assert_eq!(short, place.run(["x", "get", "--help"]));
    assert!(short.stderr.is_empty());
    assert!(short.stdout.lines().all(|line| line.chars().count() <= 80), "{}", short.stdout);
    let options = ["--get-timeout", "--message", "--auto-unget", "--update", "--dir", "--help", "--version", "-v"];
    for word in ["get", "unget", "state", "trace", "RESOURCELOCK_DIR"].iter().chain(&options) {
        assert!(short.stdout.contains(word), "{word}");
    }
    let (_, table) = short.stdout.split_once("Exit status:\n").unwrap();
    let statuses: Vec<i32> =
        table.lines().map(|line| line.split_whitespace().next().unwrap().parse().unwrap()).collect();
    assert_eq!(statuses, [0, 1, 2, 65, 69, 71, 73, 74, 75, 77, 126, 127, 129, 130, 143]);
}

#[test]
fn version_is_that_of_the_package() {
    let place = Place::new();
    let line = concat!("resourcelock ", env!("CARGO_PKG_VERSION"));
    place.run(["-V"]).expect(0, line);
    place.run(["--version"]).expect(0, line);
}

#[test]
fn many_gets_at_once_are_granted_to_one() {
    let place = Place::new();
    let gets: Vec<_> = (0..8).map(|_| place.start(["x", "get", "-t", "0.05"])).collect();
    let granted = gets.into_iter().filter_map(|get| get.finish().status).filter(|&status| status == 0).count();
    assert_eq!(granted, 1);
    assert_eq!(fs::read_dir(&place.dir).unwrap().count(), 1, "no litter");
}

#[test]
fn the_owner_of_a_hold_is_shown_until_it_ends() {
    let place = Place::new();
    let holder = place.hold("x");
    assert!(place.is_locked("x"));
    holder.signal(rustix::process::Signal::TERM);
    wait_until("released", || !place.is_locked("x"));
    place.run(["x", "state"]).expect(0, "<x> is currently locked? <False> Prior info <<TIME> - holder>");
}
