//! `state` in full: the reference's line first, then what else is known.

use rustix::process::Signal;

use crate::support::{Place, wait_until};

/// The further lines of `state -l`, blanks squeezed.
fn details(place: &Place) -> Vec<String> {
    let (short, long) = (place.run(["x", "state"]), place.run(["x", "state", "-l"]));
    assert_eq!((long.status, long.stderr.as_str()), (Some(0), ""));
    let rest = long.stdout.strip_prefix(&short.stdout).unwrap_or_else(|| panic!("{short:?} does not begin {long:?}"));
    rest.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn in_a_pipe_it_is_one_line_and_with_long_all_that_is_known() {
    let place = Place::new();
    assert_eq!(details(&place), ["state there is no such lock; a get makes it"]);
    let uid = rustix::process::getuid().as_raw();

    let holder = place.hold("x");
    let lines = details(&place);
    assert_eq!(lines[0], "state held until its holder releases it or ends");
    let who = format!("holder pid {} (resourcelock), user {uid}, for ", holder.pid());
    assert!(lines[1].starts_with(&who), "{lines:?}");
    assert_eq!(lines[2], "waiters none");
    assert_eq!(lines[3], "counters 1 granted (0 contended), 0 timed out, 0 recovered, 0 forced off; longest hold 0ms");
    assert_eq!(lines[4], format!("file {}", place.file("x").display()));
    let waiter = place.start(["x", "get", "-t", "-1"]);
    let waits = format!("waiters yes, and the next release is reserved for them; pid {} for ", waiter.pid());
    wait_until("it asks", || details(&place)[2].starts_with(&waits));
    waiter.signal(Signal::INT);
    waiter.finish();

    holder.signal(Signal::KILL);
    holder.finish();
    assert_eq!(details(&place)[0], "state its holder is dead; the next get recovers it");
    assert_eq!(place.run(["x", "get"]).status, Some(0));
    assert_eq!(details(&place)[0], "state held until 'unget'");
    assert_eq!(place.run(["x", "unget"]).status, Some(0));
    let lines = details(&place);
    assert_eq!(lines[0], "state not held");
    assert!(lines[1].starts_with("last pid ") && lines[1].contains(", forced off after "), "{lines:?}");
}

#[test]
fn a_lock_that_may_only_be_read_can_be_looked_at() {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    let place = Place::new();
    if !rustix::process::getuid().is_root() {
        return println!("skipped: only root can be somebody else");
    }
    fs::set_permissions(&place.dir, Permissions::from_mode(0o755)).unwrap();
    assert_eq!(place.run(["x", "get", "--mode", "644"]).status, Some(0));
    let tool = place.tool_for_others();
    for (word, status) in [("state", 0), ("history", 0), ("get", 77), ("unget", 77)] {
        let mut command = std::process::Command::new(&tool);
        command.args(["x", word]).env("RESOURCELOCK_DIR", &place.dir).uid(65_534).gid(65_534);
        assert_eq!(command.output().unwrap().status.code(), Some(status), "{word}");
    }
}

/// A holder that hangs: it said for how long it would hold.
#[test]
fn an_overdue_holder_is_shown() {
    let place = Place::new();
    let lock = resourcelock::ResourceLock::options().dir(place.dir.to_str().unwrap()).open("x").unwrap();
    let guard = lock.request("hangs").expect_to_hold(std::time::Duration::from_millis(1)).lock().unwrap();
    wait_until("it is overdue", || details(&place)[1].contains(", overdue by "));
    let json: serde_json::Value = serde_json::from_str(&place.run(["x", "state", "--json"]).stdout).unwrap();
    assert!(json["overdue"].as_f64().is_some(), "{json}");
    drop(guard);
    let json: serde_json::Value = serde_json::from_str(&place.run(["x", "state", "--json"]).stdout).unwrap();
    assert!(json["overdue"].is_null(), "{json}");
}
