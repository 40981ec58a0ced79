//! `trace --changes`: every change has its line, in order, however short the moment was.
//!
//! Seen to fail without the grants that came and went between two looks, and with a lock that was made anew taken for the
//! one before.

use rustix::process::Signal;

use crate::support::{Place, Running, wait_until};

/// The next line, without its time, pids and spans.
fn next(trace: &mut Running) -> String {
    let line = trace.line();
    let line = line.strip_prefix("<TIME> <x> ").unwrap_or_else(|| panic!("{line}"));
    let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    for index in 1..words.len() {
        if ["pid", "after"].contains(&words[index - 1].as_str()) {
            words[index] = "_".into();
        }
    }
    words.join(" ")
}

#[test]
fn the_life_of_a_lock_is_told_line_by_line() {
    let place = Place::new();
    let mut trace = place.start(["x", "trace", "--changes", "-u", "0.005"]);
    assert_eq!(next(&mut trace), "is currently locked? <False> Prior info <>");
    assert_eq!(place.run(["x", "get", "-a", "0", "-m", "one"]).status, Some(0));
    assert_eq!(next(&mut trace), "lock made");
    assert_eq!(next(&mut trace), "granted to pid _ (resourcelock) - one");
    assert_eq!(next(&mut trace), "released after _ by pid _ (resourcelock) - one");

    let holder = place.hold("x");
    assert_eq!(next(&mut trace), "granted to pid _ (resourcelock) - holder");
    holder.signal(Signal::KILL);
    holder.finish();
    assert_eq!(next(&mut trace), "holder died, the next get recovers the lock: pid _ (resourcelock) - holder");
    assert_eq!(place.run(["x", "get", "-m", "two"]).status, Some(0));
    assert_eq!(next(&mut trace), "recovered after _ from the dead pid _ (resourcelock) - holder");
    assert_eq!(next(&mut trace), "granted to pid _ (resourcelock) - two");
    assert_eq!(next(&mut trace), "held until 'unget': pid _ (resourcelock) - two");
    assert_eq!(place.run(["x", "unget"]).status, Some(0));
    assert_eq!(next(&mut trace), "forced off after _ from pid _ (resourcelock) - two");
    assert_eq!(place.run(["x", "remove"]).status, Some(0));
    assert_eq!(next(&mut trace), "lock removed");
    trace.signal(Signal::INT);
    trace.finish().expect_end(0);
}

#[test]
fn what_came_and_went_between_two_looks_is_told_too() {
    let place = Place::new();
    assert_eq!(place.run(["x", "get", "-a", "0", "-m", "before"]).status, Some(0));
    // It looks, and then once more when it is told to go on.
    let mut trace = place.start(["x", "trace", "-c", "-u", "0.001"]);
    assert_eq!(next(&mut trace), "is currently locked? <False> Prior info <<TIME> - before>");
    trace.signal(Signal::STOP);
    wait_until("it stops", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", trace.pid())).unwrap();
        stat.rsplit(')').next().unwrap().starts_with(" T")
    });
    let lock = resourcelock::ResourceLock::options().dir(place.dir.to_str().unwrap()).open("x").unwrap();
    for number in 0..20 {
        drop(lock.try_lock(&number.to_string()).unwrap());
    }
    trace.signal(Signal::CONT);
    assert_eq!(next(&mut trace), "4 more granted; use a smaller -u to see them");
    for number in 4..20 {
        let granted = next(&mut trace);
        assert!(granted.starts_with("granted to pid _ (") && granted.ends_with(&format!(" - {number}")), "{granted}");
        let released = next(&mut trace);
        assert!(released.starts_with("released after _ by pid _ (") && released.ends_with(&format!(" - {number}")));
    }
    let guard = lock.try_lock("step 1").unwrap();
    assert!(next(&mut trace).ends_with(" - step 1"));
    assert!(lock.set_info("step 2"));
    let line = next(&mut trace);
    assert!(line.starts_with("info replaced by pid _ (") && line.ends_with(" - step 2"), "{line}");
    drop(guard);
    assert!(next(&mut trace).starts_with("released after _ by pid _ ("));

    trace.signal(Signal::STOP);
    assert_eq!(place.run(["x", "remove"]).status, Some(0));
    assert_eq!(place.run(["x", "get", "-a", "0", "-m", "anew"]).status, Some(0));
    trace.signal(Signal::CONT);
    assert_eq!(next(&mut trace), "lock removed");
    // Seen between the two, or not.
    let mut line = next(&mut trace);
    if line == "lock made" {
        line = next(&mut trace);
    }
    assert_eq!(line, "granted to pid _ (resourcelock) - anew");
}

#[test]
fn a_trace_of_changes_ends_when_nobody_reads() {
    let place = Place::new();
    let script = "\"$@\" | head -n 1; echo ${PIPESTATUS:-}";
    let said = crate::support::Said::by(&mut place.shell(script, &["x", "trace", "-u", "0.001"]));
    assert_eq!((said.status, said.stderr.as_str()), (Some(0), ""), "no word about the pipe");
}
