//! `state`: tells whether the lock is held, and its last grant; in further lines, all that is known. Changes nothing,
//! makes nothing.
//!
//! The first line is the reference's, and in a pipe it is the only one, so that scripts that read it go on working; the
//! further lines come on a terminal and with `-l`.

use resourcelock::{Error, Escaped, FILE_PREFIX};

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
    if let Some(pid) = view.pid {
        let mut holder = wording::who(pid, view.holder.as_ref());
        if let Some(grant) = &view.holder {
            holder += &format!(", user {}", grant.uid());
        }
        if let Some(held_for) = view.held_for {
            holder += &format!(", for {}", wording::span(held_for));
        }
        lines.push(("holder", holder));
    } else if let Some(grant) = &view.last {
        let mut last = format!("{}, user {}", wording::who(grant.pid(), Some(grant)), grant.uid());
        if let (Some(ending), Some(held_for)) = (grant.ending(), grant.held_for()) {
            last += &format!(", {} after {}", wording::ending(ending), wording::span(held_for));
        }
        lines.push(("last", last));
    }
    let waiters = match (view.has_waiters, view.wants_handoff) {
        (_, true) => "yes, and the next release is reserved for them",
        (true, false) => "yes, or there were some since the last release",
        (false, false) => "none",
    };
    lines.push(("waiters", waiters.to_owned()));
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
    // As the library names it, but for names over 242 bytes, of which it shortens the end.
    if FILE_PREFIX.len() + view.name.len() <= resourcelock::NAME_CAPACITY {
        lines.push(("file", format!("{}/{FILE_PREFIX}{}", Escaped(&args.dir), Escaped(&view.name))));
    }
    lines
}
