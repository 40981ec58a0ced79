//! `trace`: follows a lock through all that can happen to it.

use resourcelock::ResourceLock;

use crate::support::{Place, wait_until};

#[test]
fn a_trace_follows_a_lock_that_is_made_removed_and_made_again() {
    let place = Place::new();
    let dir = place.dir.to_str().unwrap();
    let mut trace = place.start(["x", "trace", "--update", "0.005"]);
    let mut until = |state: &str| {
        let line = format!("<TIME> <x> is currently locked? {state}");
        wait_until(&line, || trace.line() == line);
    };
    until("<False> Prior info <>");
    assert!(place.is_empty());
    assert_eq!(place.run(["x", "get", "-m", "one"]).status, Some(0));
    until("<True> Prior info <<TIME> - one>");
    assert_eq!(place.run(["x", "unget"]).status, Some(0));
    until("<False> Prior info <<TIME> - one>");
    ResourceLock::options().dir(dir).remove("x", false).unwrap();
    until("<False> Prior info <>");
    assert_eq!(place.run(["x", "get", "-m", "two"]).status, Some(0));
    until("<True> Prior info <<TIME> - two>");
}

#[test]
fn a_trace_says_what_state_says_behind_a_time() {
    let place = Place::new();
    assert_eq!(place.run(["x", "get"]).status, Some(0));
    let mut trace = place.start(["-u", "0.01", "/x", "trace"]);
    for _ in 0..3 {
        assert_eq!(trace.line(), "<TIME> <x> is currently locked? <True> Prior info <<TIME> - cli>");
    }
}
