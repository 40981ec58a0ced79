//! `--json`: the schema that cli/JSON.md documents, field by field.
//!
//! The fields of every type are compared with that page, so that neither can change without the other.

use std::collections::BTreeSet;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Place, wait_until};

const PAGE: &str = include_str!("../../cli/JSON.md");

/// The objects that the tool prints, with this status and nothing on stderr.
#[track_caller]
fn objects(place: &Place, status: i32, words: &[&str]) -> Vec<Value> {
    let said = place.run(words.iter().chain(&["--json"]));
    assert_eq!(said.status, Some(status), "{said:?}");
    let objects: Vec<Value> = said.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for object in &objects {
        assert_eq!(object["schema"], 1);
        expect_documented(object["type"].as_str().unwrap(), object);
    }
    objects
}

#[track_caller]
fn object(place: &Place, status: i32, words: &[&str]) -> Value {
    let mut objects = objects(place, status, words);
    assert_eq!(objects.len(), 1, "{objects:?}");
    objects.remove(0)
}

/// The fields of the page's section of this title: the words in backquotes that begin its table's lines.
fn documented(section: &str) -> BTreeSet<String> {
    let (_, rest) = PAGE.split_once(&format!("## `{section}`")).unwrap_or_else(|| panic!("no section {section}"));
    let rest = rest.split("\n## ").next().unwrap();
    rest.lines().filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned())).collect()
}

/// Exactly the fields of the page, but for those that are only there in a trace.
#[track_caller]
fn expect_documented(kind: &str, object: &Value) {
    let found: BTreeSet<String> = object.as_object().unwrap().keys().cloned().collect();
    let mut expected = documented(kind);
    expected.extend(["schema", "type", "name"].map(str::to_owned));
    if kind == "lock" && !found.contains("time") {
        expected.remove("time");
    }
    assert_eq!(found, expected, "{kind}");
    for nested in ["grant", "holder", "last", "recovered_from"] {
        if let Some(Value::Object(grant)) = object.get(nested) {
            assert_eq!(grant.keys().cloned().collect::<BTreeSet<_>>(), documented("grant"), "{nested}");
        }
    }
    if let Some(Value::Object(counters)) = object.get("counters") {
        assert_eq!(counters.keys().cloned().collect::<BTreeSet<_>>(), documented("counters"));
    }
}

#[test]
fn get_and_unget() {
    let place = Place::new();
    let got = object(&place, 0, &["x", "get", "-m", "why \"so\""]);
    assert_eq!((&got["type"], &got["name"], &got["granted"]), (&"get".into(), &"x".into(), &true.into()));
    assert_eq!((&got["grant"]["info"], &got["grant"]["kind"]), (&"why \"so\"".into(), &"detached".into()));
    assert_eq!(
        (&got["holder"], &got["recovered"], &got["recovered_from"]),
        (&Value::Null, &false.into(), &Value::Null)
    );

    let said = place.run(["x", "get", "-t", "0", "--json"]);
    let refused: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!((said.status, &refused["granted"], &refused["grant"]), (Some(1), &false.into(), &Value::Null));
    assert_eq!(refused["holder"], got["grant"]);
    assert!(said.stderr.starts_with("resourcelock: <x>: acquired by pid "), "errors stay on stderr");

    assert_eq!(object(&place, 0, &["x", "unget"])["released"], true);
    assert_eq!(object(&place, 1, &["x", "unget"])["released"], false);
    let timed = objects(&place, 0, &["x", "get", "-a", "0"]);
    assert_eq!((&timed[0]["type"], &timed[0]["grant"]["kind"]), (&"get".into(), &"process".into()));
    assert_eq!((&timed[1]["type"], &timed[1]["released"]), (&"unget".into(), &true.into()));

    let holder = place.hold("x");
    holder.signal(Signal::KILL);
    let pid = holder.pid();
    holder.finish();
    let said = place.run(["x", "get", "--json"]);
    let got: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!((&got["recovered"], &got["recovered_from"]["pid"]), (&true.into(), &pid.into()));
    assert_eq!(got["previous"], "died");
}

#[test]
fn wait_and_remove() {
    let place = Place::new();
    assert_eq!(object(&place, 0, &["x", "wait"])["free"], true);
    assert_eq!(object(&place, 1, &["x", "remove"])["removed"], false);
    assert_eq!(place.run(["x", "get"]).status, Some(0));
    assert_eq!(object(&place, 1, &["x", "wait", "-t", "0"])["free"], false);
    let removed = object(&place, 0, &["x", "remove", "--force"]);
    assert_eq!((&removed["removed"], &removed["previous"]), (&true.into(), &"released".into()), "a detached hold");

    // A removal that takes over from a dead holder is the only report of the death.
    let holder = place.hold("x");
    holder.signal(Signal::KILL);
    let pid = holder.pid();
    holder.finish();
    let said = place.run(["x", "remove", "--json"]);
    let removed: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!((&removed["removed"], &removed["previous"]), (&true.into(), &"died".into()));
    assert_eq!((&removed["recovered"], &removed["recovered_from"]["pid"]), (&true.into(), &pid.into()));
    let holder = place.hold("x");
    let removed = object(&place, 0, &["x", "remove", "--force"]);
    assert_eq!((&removed["previous"], &removed["recovered_from"]["pid"]), (&"forced".into(), &holder.pid().into()));
}

#[test]
fn state_and_list_are_one_schema() {
    let place = Place::new();
    let absent = object(&place, 0, &["x", "state"]);
    assert_eq!(
        (&absent["state"], &absent["locked"], &absent["counters"]),
        (&"absent".into(), &false.into(), &Value::Null)
    );
    assert!(place.is_empty());
    let holder = place.hold("x");
    let state = object(&place, 0, &["x", "state"]);
    assert_eq!(
        (&state["state"], &state["locked"], &state["pid"]),
        (&"held".into(), &true.into(), &holder.pid().into())
    );
    assert_eq!((&state["holder"]["info"], &state["holder"]["ending"]), (&"holder".into(), &Value::Null));
    assert_eq!(state["holder"], state["last"]);
    assert!(state["held_for"].as_f64().unwrap() >= 0.0);
    assert_eq!(state["counters"]["grants"], 1);
    let granted = state["holder"]["granted"].as_str().unwrap();
    assert!(granted.len() == "2024-10-20T16:00:51.864484Z".len() && granted.ends_with('Z'), "{granted}");
    let namespace = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata("/proc/self/ns/pid").unwrap());
    assert_eq!((&state["seat"], &state["holder"]["pid_namespace"]), (&state["holder"]["seat"], &namespace.into()));
    assert!(state["seat"].as_u64().unwrap() > 0 && state["waiting"].as_array().unwrap().is_empty(), "{state}");
    let waiter = place.start(["x", "get", "-t", "-1"]);
    let waiting = || object(&place, 0, &["x", "state"])["waiting"].clone();
    wait_until("it waits", || waiting().as_array().is_some_and(|waiting| !waiting.is_empty()));
    assert_eq!((&waiting()[0]["pid"], waiting()[0]["waited"].is_number()), (&waiter.pid().into(), true));
    assert_eq!(waiting()[0].as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>(), documented("waiter"));
    waiter.signal(Signal::KILL);
    waiter.finish();
    let state = object(&place, 0, &["x", "state"]);
    let listed = &objects(&place, 0, &["--list"])[0];
    for field in ["type", "name", "state", "pid", "holder", "counters"] {
        assert_eq!(listed[field], state[field], "{field}");
    }

    holder.signal(Signal::KILL);
    holder.finish();
    assert_eq!(object(&place, 0, &["x", "state"])["state"], "dead");
    assert_eq!(place.run(["x", "get"]).status, Some(0));
    assert_eq!(object(&place, 0, &["x", "state"])["state"], "detached");
    assert_eq!(place.run(["x", "unget"]).status, Some(0));
    let state = object(&place, 0, &["x", "state"]);
    assert_eq!(
        (&state["state"], &state["last"]["ending"], &state["holder"]),
        (&"free".into(), &"forced".into(), &Value::Null)
    );
    assert_eq!(state["last"]["forced_by"]["uid"], rustix::process::getuid().as_raw());
    std::fs::write(place.file("y"), "").unwrap();
    let listed = objects(&place, 0, &["--list"]);
    assert_eq!(listed[1]["state"], "unusable");
    assert!(listed[1]["error"].as_str().unwrap().contains("it has 0 bytes"));
    // The zone of the times is no matter here.
    let said = place.command(["x", "state", "--json"]).env("TZ", "XYZ+3").output().unwrap();
    let elsewhere: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(elsewhere["last"]["granted"], state["last"]["granted"]);
}

#[test]
fn history_is_one_grant_a_line() {
    let place = Place::new();
    assert!(objects(&place, 0, &["x", "history"]).is_empty());
    for info in ["one", "two"] {
        assert_eq!(place.run(["x", "get", "-a", "0", "-m", info]).status, Some(0));
    }
    let history = objects(&place, 0, &["x", "history"]);
    let infos: Vec<_> = history.iter().map(|grant| grant["info"].as_str().unwrap()).collect();
    assert_eq!(infos, ["two", "one"]);
    assert_eq!(
        history[0]["number"].as_u64().unwrap() as u32,
        (history[1]["number"].as_u64().unwrap() as u32).wrapping_add(1)
    );
    assert_eq!((&history[0]["ending"], history[0]["held_for"].is_number()), (&"released".into(), true));
}

#[test]
fn a_trace_is_locks_with_a_time_and_changes_are_changes() {
    let place = Place::new();
    let mut trace = place.start(["x", "trace", "-u", "0.01", "--json"]);
    for _ in 0..2 {
        let lock: Value = serde_json::from_str(&trace.line()).unwrap();
        assert_eq!((&lock["type"], &lock["state"]), (&"lock".into(), &"absent".into()));
        assert!(lock["time"].as_str().unwrap().ends_with('Z'));
        expect_documented("lock", &lock);
    }
    let mut changes = place.start(["x", "trace", "--changes", "-u", "0.01", "--json"]);
    let first: Value = serde_json::from_str(&changes.line()).unwrap();
    assert_eq!(first["type"], "lock");
    assert_eq!(place.run(["x", "get", "-a", "0", "-m", "why"]).status, Some(0));
    for (change, info) in [("made", None), ("granted", Some("why")), ("released", Some("why"))] {
        let object: Value = serde_json::from_str(&changes.line()).unwrap();
        assert_eq!((&object["type"], &object["change"]), (&"change".into(), &change.into()));
        assert_eq!(object["grant"].get("info").and_then(Value::as_str), info);
        expect_documented("change", &object);
    }
}

#[test]
fn hostile_text_is_harmless_and_the_same_text_for_a_parser() {
    let place = Place::new();
    let hostile = "\x1b]0;owned\x07\u{9b}31m\u{202e}🔒\n\"\\";
    let said = place.run(["x", "get", "-m", hostile, "--json"]);
    assert!(!said.stdout.trim_end().contains(|character: char| character.is_control() || character == '\u{202e}'));
    let got: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(got["grant"]["info"], hostile);
}

#[test]
fn options_that_mean_nothing_to_a_command_are_refused() {
    let place = Place::new();
    for words in [
        &["x", "run", "--json", "true"][..],
        &["--top", "--json"],
        &["x", "get", "--long"],
        &["x", "get", "--changes"],
        &["x", "state", "--exec"],
        &["x", "get", "--die-with-parent"],
        &["x", "state", "--mode", "600"],
        &["x", "wait", "--group", "0"],
        &["x", "remove", "-E", "5"],
        &["--list", "--force"],
        &["x", "state", "true"],
        &["--list", "x"],
        &["--list", "--top"],
        &["x", "run"],
        &["x", "run", "--"],
        &["x", "get", "--mode", "888"],
        &["x", "get", "--mode", "1777"],
        &["x", "get", "--mode", "+7"],
        &["x", "get", "-E", "256"],
        &["x", "get", "--color", "red"],
        &["--generate", "ksh"],
    ] {
        let said = place.run(words);
        assert_eq!((said.status, said.stdout.as_str()), (Some(2), ""), "{words:?}: {said:?}");
        assert!(!said.stderr.is_empty());
    }
    assert!(place.is_empty());
    let said = place.run(["x", "run"]);
    assert_eq!(said.stderr, "resourcelock: <x>: run needs a PROGRAM; give one after '--'\n");
    let said = place.run(["x", "get", "--force"]);
    assert!(
        said.stderr.starts_with("error: unexpected argument '--force' found: 'get' does not take it\n"),
        "{said:?}"
    );
}
