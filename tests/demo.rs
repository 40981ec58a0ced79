//! The reference's demo against its two golden outputs: with the lock free at first, and with the lock held at first.
//!
//! The goldens were made from the reference's own output; where ours differs, `golden/README.md` says why. A change of
//! them is a change of what users see.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "cli/support.rs"]
mod support;

use std::path::PathBuf;
use std::process::Command;

use support::{Place, Said};

/// The built example. `cargo test` builds all examples before it runs a test, and puts them next to the tests.
fn demo(place: &Place) -> Said {
    let test = std::env::current_exe().unwrap();
    // target/PROFILE/deps/demo-HASH, and target/PROFILE/examples/demo.
    let example: PathBuf = test.ancestors().nth(2).unwrap().join("examples/demo");
    assert!(example.is_file(), "{} is not built: cargo build --example demo --features log", example.display());
    Said::by(Command::new(example).env("RESOURCELOCK_DIR", &place.dir).env("TZ", "UTC0"))
}

#[track_caller]
fn expect_golden(said: &Said, golden: &str) {
    assert_eq!(said.status, Some(0), "{said:?}");
    assert_eq!(said.stderr, "");
    for (number, (line, expected)) in said.stdout.lines().zip(golden.lines()).enumerate() {
        assert_eq!(line, expected, "line {}", number + 1);
    }
    assert_eq!(said.stdout.lines().count(), golden.lines().count());
}

#[test]
fn the_demo_says_what_the_reference_says_where_the_lock_is_free() {
    let place = Place::new();
    // As in the reference's run: the command line had the lock before.
    assert_eq!(place.run(["test_lock", "get"]).status, Some(0));
    assert_eq!(place.run(["test_lock", "unget"]).status, Some(0));
    expect_golden(&demo(&place), include_str!("golden/demo-initially-unlocked.txt"));
    place
        .run(["test_lock", "state"])
        .expect(0, "<test_lock> is currently locked? <False> Prior info <<TIME> - Lock in test #7>");
}

#[test]
fn the_demo_says_what_the_reference_says_where_the_lock_is_held() {
    let place = Place::new();
    assert_eq!(place.run(["test_lock", "get"]).status, Some(0));
    expect_golden(&demo(&place), include_str!("golden/demo-initially-locked.txt"));
}

#[test]
fn a_lock_that_never_was_has_no_prior_info() {
    let place = Place::new();
    let said = demo(&place);
    let line = "resourcelock - DEBUG: <test_lock> is currently locked? <False> Prior info <>";
    assert_eq!(said.stdout.lines().nth(2), Some(line), "{said:?}");
}
