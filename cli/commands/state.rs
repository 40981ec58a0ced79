//! `state`: prints whether the lock is held, and its last grant; with `-l`, every detail. Changes nothing, makes nothing.
//!
//! The first line is the reference's. In a pipe it is the only one, for scripts that read it; the details follow on a
//! terminal and with `-l`.

use resourcelock::{Error, Escaped, FILE_PREFIX, Grant, Kind, Status};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use crate::args::Args;
use crate::exit::Exit;
use crate::json;
use crate::output::{self, Answer};
use crate::style::{self, Paint};
use crate::view::{Found, View};
use crate::wording;

pub(crate) fn run(args: &Args) -> Result<Exit, Error> {
    let view = View::new(&args.lock, super::inspect(args)?.as_ref());
    let text = if args.json {
        json::lock(&view, None)
    } else {
        let paint = Paint::new(args.color);
        let mut text = line(&view, paint) + "\n";
        if args.long || style::is_terminal() {
            for (title, value) in details(args, &view) {
                text += &format!("  {} {value}\n", paint.on(style::DIM, &format!("{title:<9}")));
            }
        }
        text
    };
    Ok(output::print(&text).map_or_else(output::failed, |()| Exit::Done))
}

/// The reference's line.
pub(super) fn line(view: &View, paint: Paint) -> String {
    let is_locked = view.is_locked();
    let answer = Answer::State { is_locked, prior: view.last.clone() }.to_string();
    let (word, style) = if is_locked { ("<True>", style::HELD) } else { ("<False>", style::FREE) };
    format!("<{}> {}", Escaped(&view.name), answer.replacen(word, &paint.on(style, word), 1))
}

fn details(args: &Args, view: &View) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    let Found::Lock(status) = view.found else {
        return vec![("state", "there is no such lock; a get makes it".to_owned())];
    };
    lines.push(("state", wording::meaning(status).to_owned()));
    if let Some(grant) = &view.holder {
        let mut holder = format!("{}, user {}", wording::who(grant), grant.uid());
        if let Some(held_for) = view.held_for {
            holder += &format!(", for {}", wording::span(held_for));
        }
        if let Some(overdue) = view.overdue {
            holder += &format!(", overdue by {}", wording::span(overdue));
        }
        lines.push(("holder", holder));
        if status == Status::Held(Kind::Process) && is_gone(grant) {
            let text =
                format!("seat locked, pid {} gone: a child of the holder or a tracer keeps the seat", grant.pid());
            lines.push(("seat", text));
        }
    } else if view.seat.is_some() {
        lines.push(("holder", "not yet recorded".to_owned()));
    } else if let Some(grant) = &view.last {
        let mut last = format!("{}, user {}", wording::who(grant), grant.uid());
        if let (Some(ending), Some(held_for)) = (grant.ending(), grant.held_for()) {
            last += &format!(", {} after {}", wording::ending(grant, ending), wording::span(held_for));
        }
        lines.push(("last", last));
    }
    let mut waiters = match (view.has_waiters, view.wants_handoff) {
        (_, true) => "yes, and the next release is reserved for them",
        (true, false) => "yes, or there were some since the last release",
        (false, false) => "none",
    }
    .to_owned();
    for waiter in &view.waiters {
        waiters += &format!("; pid {} for {}", waiter.pid, wording::span(waiter.waited));
    }
    lines.push(("waiters", waiters));
    let counters = view.counters;
    lines.push((
        "counters",
        format!(
            "{} granted ({} contended), {} timed out, {} recovered, {} forced off; longest hold {}",
            counters.grants,
            counters.contended,
            counters.timeouts,
            counters.recoveries,
            counters.forced,
            wording::span(counters.longest_hold)
        ),
    ));
    // The library shortens a longer name.
    if FILE_PREFIX.len() + view.name.len() <= resourcelock::NAME_CAPACITY {
        lines.push(("file", format!("{}/{FILE_PREFIX}{}", Escaped(&args.dir), Escaped(&view.name))));
    }
    lines
}

/// Whether the holder's process, of this PID namespace, does not exist any more.
fn is_gone(grant: &Grant) -> bool {
    let pid = i32::try_from(grant.pid()).ok().and_then(Pid::from_raw);
    !wording::is_elsewhere(grant) && pid.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH))
}
