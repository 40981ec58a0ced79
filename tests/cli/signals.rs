//! Ctrl-C and its kin: whatever the command is doing, it ends, and nothing stays held that should not.

use rustix::process::Signal;

use crate::support::{Place, Running, wait_until};

const ENDINGS: [(Signal, &str, i32); 3] =
    [(Signal::INT, "SIGINT", 130), (Signal::TERM, "SIGTERM", 143), (Signal::HUP, "SIGHUP", 129)];

#[test]
fn a_signal_during_auto_unget_releases_first() {
    for (signal, name, status) in ENDINGS {
        let place = Place::new();
        let holder = place.hold("x");
        assert!(place.is_locked("x"));
        holder.signal(signal);
        holder.finish().expect(status, &format!("<x> lock released <holder - {name}>"));
        place.run(["x", "state"]).expect(0, "<x> is currently locked? <False> Prior info <<TIME> - holder>");
        // Released, not left to be recovered.
        place.run(["x", "get", "-t", "0"]).expect(0, "<x> lock request successful - Granted <<TIME> - cli>");
    }
}

#[test]
fn a_signal_ends_a_waiting_get_without_a_word() {
    for (signal, _, status) in ENDINGS {
        let place = Place::new();
        let mut holder = place.hold("x");
        for more in [&["-t", "-1"][..], &["-t", "1000000"], &["-t", "-1", "-a", "5"]] {
            let mut waiter = place.start(["x", "get"].iter().chain(more));
            waiter.wait_until_blocked();
            waiter.signal(signal);
            let said = waiter.finish();
            assert_eq!((said.status, said.stdout.as_str(), said.stderr.as_str()), (Some(status), "", ""));
        }
        assert!(holder.is_running());
        place.run(["x", "state"]).expect(0, "<x> is currently locked? <True> Prior info <<TIME> - holder>");
        holder.signal(Signal::TERM);
        holder.finish();
        assert!(!place.is_locked("x"));
    }
}

#[test]
fn wherever_an_interrupt_hits_a_get_the_status_tells_what_is_held() {
    let place = Place::new();
    for instant in 0..60 {
        let get = place.start(["x", "get", "-t", "0"]);
        // Not to wait for anything: to hit another instruction each time.
        std::thread::sleep(std::time::Duration::from_micros(instant * 50));
        get.signal(Signal::INT);
        let said = get.finish();
        match said.status {
            Some(0) => place.run(["x", "unget"]).expect(0, "<x> lock force released <cli>"),
            // Before it watches for signals, it ends as any program does.
            Some(130) | None => {
                let next = place.run(["x", "get", "-t", "0", "-a", "0"]);
                assert_eq!(next.status, Some(0), "{said:?}, then {next:?}");
            }
            _ => panic!("{said:?}"),
        }
    }
}

#[test]
fn a_trace_ends_well_by_ctrl_c_only() {
    for (signal, _, status) in ENDINGS {
        let place = Place::new();
        let mut trace = place.start(["x", "trace", "-u", "1000000"]);
        assert_eq!(trace.line(), "<TIME> <x> is currently locked? <False> Prior info <>");
        trace.signal(signal);
        let said = trace.finish();
        let status = if signal == Signal::INT { 0 } else { status };
        assert_eq!((said.status, said.stdout.as_str(), said.stderr.as_str()), (Some(status), "", ""));
    }
}

#[test]
fn a_killed_holder_is_recovered_at_once_and_named() {
    let place = Place::new();
    let holder = place.hold("x");
    let pid = holder.pid();
    holder.signal(Signal::KILL);
    assert_eq!(holder.finish().status, None);
    let said = place.run(["x", "get", "-t", "0", "-m", "next"]);
    assert_eq!(said.status, Some(0));
    assert_eq!(said.stdout, "<x> lock request successful - Granted <<TIME> - next>\n");
    assert_eq!(
        said.stderr,
        format!(
            "resourcelock: <x>: recovered: the previous holder died while it held: pid {pid} (resourcelock), granted \
             <<TIME> - holder>; check the resource\n"
        )
    );
    // Told once.
    assert_eq!(place.run(["x", "unget"]).status, Some(0));
    place.run(["x", "get"]).expect(0, "<x> lock request successful - Granted <<TIME> - cli>");
}

#[test]
fn a_holder_killed_during_the_wait_is_recovered() {
    let place = Place::new();
    let holder = place.hold("x");
    let mut waiter = place.start(["x", "get", "-t", "-1"]);
    waiter.wait_until_blocked();
    holder.signal(Signal::KILL);
    assert_eq!(waiter.line(), "<x> lock request successful - Granted <<TIME> - cli>");
    let said = waiter.finish();
    assert_eq!(said.status, Some(0));
    assert!(said.stderr.contains("recovered"), "{said:?}");
}

#[test]
fn nohup_keeps_its_promise() {
    let place = Place::new();
    let words = ["x", "get", "-a", "1000000", "-m", "holder"];
    let mut holder = Running::new(&mut place.shell("trap '' HUP; exec \"$@\"", &words));
    holder.line();
    holder.signal(Signal::HUP);
    // Signals of one process are delivered lowest number first, so a hang-up would have come before this.
    holder.signal(Signal::TERM);
    holder.finish().expect(143, "<x> lock released <holder - SIGTERM>");
}

#[test]
fn in_the_background_of_a_script_an_interrupt_still_releases() {
    let place = Place::new();
    let words = ["x", "get", "-a", "1000000", "-m", "holder"];
    let mut holder = Running::new(&mut place.shell("trap '' INT; exec \"$@\"", &words));
    holder.line();
    holder.signal(Signal::INT);
    holder.finish().expect(130, "<x> lock released <holder - SIGINT>");
}

#[test]
fn a_hold_that_was_forced_off_is_not_released_again() {
    let place = Place::new();
    let mut holder = place.start(["x", "get", "-a", "2", "-m", "holder"]);
    holder.line();
    place.run(["x", "unget"]).expect(0, "<x> lock force released <cli>");
    holder.finish().expect(1, "<x> Extraneous lock unget request ignored <holder - auto unget>");
}

#[test]
fn a_hold_that_another_has_by_now_is_left_alone() {
    let place = Place::new();
    let holder = place.hold("x");
    let mut timed = place.start(["y", "get", "-a", "2", "-m", "timed"]);
    timed.line();
    for name in ["x", "y"] {
        assert_eq!(place.run([name, "unget"]).status, Some(0));
        assert_eq!(place.run([name, "get", "-m", "third"]).status, Some(0));
    }
    holder.signal(Signal::INT);
    let said = holder.finish();
    assert_eq!((said.status, said.stdout.as_str()), (Some(130), ""));
    let line = "<y> lock unget request ignored - lock not owned by current process <timed - auto unget>";
    timed.finish().expect(1, line);
    for name in ["x", "y"] {
        let state = format!("<{name}> is currently locked? <True> Prior info <<TIME> - third>");
        place.run([name, "state"]).expect(0, &state);
    }
}

/// Before there were seats, only a person could end such a hold.
#[test]
fn a_holder_of_another_pid_namespace_is_shown_as_such_and_recovered() {
    let place = Place::new();
    let script = "exec unshare --pid --fork --kill-child \"$@\"";
    let mut holder = Running::new(&mut place.shell(script, &["x", "get", "-a", "1000000", "-m", "holder"]));
    if holder.first_line().is_none() {
        println!("skipped: no right to make a PID namespace, or no unshare(1)");
        return;
    }
    let said = place.run(["x", "get", "-t", "0"]);
    assert_eq!(said.status, Some(1));
    assert_eq!(said.stderr, "resourcelock: <x>: held by pid 1 in another container (resourcelock)\n");
    let row = place.row("x");
    assert!(row[3].starts_with("1@"), "pid 1 is another process here: {row:?}");
    assert!(place.run(["x", "state", "-l"]).stdout.contains(" pid 1 in another container (resourcelock), user "));
    holder.signal(Signal::KILL);
    assert_eq!(holder.finish().status, None);
    wait_until("it is dead", || place.row("x")[1] == "dead");
    let said = place.run(["x", "get", "-t", "0"]);
    assert_eq!(said.status, Some(0));
    assert!(said.stderr.contains("died while it held: pid 1 in another container (resourcelock)"), "{said:?}");
}
