//! `wait` and `remove`: every answer and status.
//!
//! Seen to fail with a wait that takes the lock, and with a remove that always forces.

use std::fs;

use rustix::process::Signal;

use crate::support::{Place, wait_until};

#[test]
fn a_wait_ends_when_the_lock_is_free_and_takes_nothing() {
    let place = Place::new();
    place.run(["x", "wait"]).expect(0, "<x> lock is free");
    assert!(place.is_empty(), "it makes none");
    let holder = place.hold("x");
    place.run(["x", "wait", "-t", "0"]).expect(1, "<x> lock wait timed out - Current owner <<TIME> - holder>");
    place
        .run(["x", "wait", "-t", "0.02", "-E", "7"])
        .expect(7, "<x> lock wait timed out - Current owner <<TIME> - holder>");
    let mut waiter = place.start(["x", "wait", "-t", "-1", "-vv"]);
    holder.signal(Signal::TERM);
    assert_eq!(waiter.line(), "<x> lock is free");
    assert_eq!(waiter.finish().status, Some(0));
    assert_eq!(holder.finish().status, Some(143));
    let said = place.run(["x", "history"]);
    assert_eq!(said.stdout.lines().count(), 2, "the holder's grant and no other: {said:?}");
}

#[test]
fn a_wait_ends_with_a_dead_holder_and_with_a_signal() {
    let place = Place::new();
    let holder = place.hold("x");
    let waiter = place.start(["x", "wait", "-t", "-1"]);
    waiter.signal(Signal::INT);
    assert_eq!(waiter.finish().status, None);
    holder.signal(Signal::KILL);
    holder.finish();
    place.run(["x", "wait", "-t", "0"]).expect(0, "<x> lock is free");
    assert_eq!(place.row("x")[1], "dead", "not recovered");
}

#[test]
fn a_lock_is_removed_if_nobody_holds_it() {
    let place = Place::new();
    place.run(["x", "remove"]).expect(1, "<x> Extraneous lock remove request ignored");
    assert!(place.is_empty());
    assert_eq!(place.run(["x", "get"]).status, Some(0));
    let said = place.run(["/x", "remove"]);
    assert_eq!(said.status, Some(1));
    assert_eq!(said.stdout, "<x> lock remove request ignored - lock is held - Current owner <<TIME> - cli>\n");
    assert!(said.stderr.ends_with("and held until 'unget'\n"), "{said:?}");
    assert!(place.file("x").exists());
    place.run(["x", "remove", "--force"]).expect(0, "<x> lock removed");
    assert!(place.is_empty());
    assert_eq!(place.run(["x", "get", "-a", "0"]).status, Some(0));
    place.run(["x", "remove"]).expect(0, "<x> lock removed");
    assert!(place.is_empty());
}

#[test]
fn a_dead_holder_does_not_keep_a_lock_from_being_removed() {
    let place = Place::new();
    let holder = place.hold("x");
    holder.signal(Signal::KILL);
    let pid = holder.pid();
    holder.finish();
    let said = place.run(["x", "remove"]);
    assert_eq!((said.status, said.stdout.as_str()), (Some(0), "<x> lock removed\n"));
    let report = format!(
        "resourcelock: <x>: recovered: the previous holder died while it held: pid {pid} (resourcelock), granted <<TIME> - \
         holder>; check the resource\n"
    );
    assert_eq!(said.stderr, report, "no later grant of this lock can report the death");
}

#[test]
fn what_is_no_lock_is_removed_by_force_only() {
    let place = Place::new();
    fs::write(place.file("x"), "text").unwrap();
    let error = "resourcelock: <x>: the file of this name is no lock: it has 4 bytes, a lock has 4096; remove it or use \
                 another name";
    place.run(["x", "remove"]).expect_error(65, error);
    place.run(["x", "wait"]).expect_error(65, error);
    place.run(["x", "history"]).expect_error(65, error);
    place.run(["x", "remove", "--force"]).expect(0, "<x> lock removed");
    fs::create_dir(place.file("x")).unwrap();
    assert_eq!(place.run(["x", "remove", "--force"]).status, Some(65));
    wait_until("it stays", || place.file("x").is_dir());
}

#[test]
fn without_a_directory_there_is_no_answer() {
    let place = Place::new();
    let missing = place.dir.join("missing");
    for word in ["wait", "remove", "history", "run"] {
        let words = ["x", word, "--dir", missing.to_str().unwrap(), "true"];
        let said = place.run(&words[..if word == "run" { 5 } else { 4 }]);
        said.expect_error(73, "resourcelock: <x>: the directory of the locks does not exist; make it or give another");
    }
}
