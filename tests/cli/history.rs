//! `history`: who, when, for how long, and how it ended.

use rustix::process::Signal;

use crate::support::Place;

/// The words of each line, times and pids masked.
fn lines(place: &Place) -> Vec<String> {
    let said = place.run(["x", "history"]);
    assert_eq!((said.status, said.stderr.as_str()), (Some(0), ""));
    said.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn each_grant_has_its_line_the_newest_first() {
    let place = Place::new();
    let title = "GRANTED FOR ENDED PID PROGRAM USER INFO";
    assert_eq!(lines(&place), [title], "a lock that never was");
    assert!(place.is_empty());

    assert_eq!(place.run(["x", "get", "-a", "0", "-m", "first one"]).status, Some(0));
    let holder = place.hold("x");
    assert!(lines(&place)[1].contains(" holds "), "{:?}", lines(&place));
    holder.signal(Signal::KILL);
    holder.finish();
    assert!(lines(&place)[1].contains(" is dead "), "{:?}", lines(&place));
    assert_eq!(place.run(["x", "get", "-m", "third"]).status, Some(0));
    assert!(lines(&place)[1].contains(" until unget "), "{:?}", lines(&place));
    assert_eq!(place.run(["x", "unget"]).status, Some(0));

    let lines = lines(&place);
    assert_eq!(lines.len(), 4);
    let uid = rustix::process::getuid().as_raw();
    for (line, (ended, info)) in
        lines[1..].iter().zip([("forced off", "third"), ("died", "holder"), ("released", "first one")])
    {
        let (time, rest) = line.split_once(' ').unwrap();
        assert_eq!(time, "<TIME>");
        let (held_for, rest) = rest.split_once(' ').unwrap();
        assert!(held_for.ends_with("ms") || held_for.ends_with('s'), "{line}");
        let rest = rest.strip_prefix(ended).unwrap_or_else(|| panic!("{ended}: {line}"));
        let (pid, rest) = rest.trim().split_once(' ').unwrap();
        assert!(pid.parse::<u32>().is_ok(), "{line}");
        assert_eq!(rest, format!("resourcelock {uid} {info}"));
    }
}

#[test]
fn sixteen_are_remembered() {
    let place = Place::new();
    for number in 0..20 {
        assert_eq!(place.run(["x", "get", "-a", "0", "-m", &number.to_string()]).status, Some(0));
    }
    let lines = lines(&place);
    assert_eq!(lines.len(), 1 + 16);
    assert!(lines[1].ends_with(" 19") && lines[16].ends_with(" 4"), "{lines:?}");
}
