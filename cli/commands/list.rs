//! `--list`: all locks of the directory. Changes nothing, makes nothing, does not wait.
//!
//! A file that has the name of a lock and is none, or that may not be read, has a line too, because that lock cannot be
//! used. Temporary files of processes that are just making a lock have none.

use resourcelock::{Error, Escaped, Kind, Status};

use crate::args::Args;
use crate::exit::Exit;
use crate::json;
use crate::output;
use crate::style::{self, Paint};
use crate::table::{Cell, Table};
use crate::view::{self, Found, View};
use crate::wording;

const COLUMNS: usize = 12;

/// Fills an empty cell, so that every line has as many words as columns.
const NOTHING: &str = "-";

pub(crate) fn run(args: &Args) -> Result<Exit, Error> {
    let views = view::all(&args.dir)?;
    let text = if args.json {
        views.iter().map(|view| json::lock(view, None)).collect()
    } else {
        let lines = table(&views).lines(style::terminal_width(), Paint::new(args.color));
        lines.into_iter().map(|line| line + "\n").collect::<String>()
    };
    Ok(output::print(&text).map_or_else(output::failed, |()| Exit::Done))
}

/// The table of `--list` and of `--top`.
pub(super) fn table(views: &[View]) -> Table<COLUMNS> {
    let titles = [
        "LOCK",
        "STATE",
        ">FOR",
        ">PID",
        "PROGRAM",
        "WAITERS",
        ">GRANTS",
        ">WAITED",
        ">TIMEOUTS",
        ">DIED",
        ">FORCED",
        "INFO",
    ];
    let mut table = Table::new(titles);
    views.iter().for_each(|view| table.push(row(view)));
    table
}

fn row(view: &View) -> [Cell; COLUMNS] {
    let name = Cell::styled(style::NAME, Escaped(&view.name).to_string());
    let status = match view.found {
        Found::Lock(status) => status,
        Found::Unusable(error) => return unusable(name, wording::unusable(error), error.to_string()),
        Found::NotText => return unusable(name, "no lock", wording::NOT_TEXT.to_owned()),
        Found::Nothing => return unusable(name, "removed", NOTHING.to_owned()),
    };
    let style = match status {
        Status::Free => style::FREE,
        Status::Held(Kind::Process) | Status::Reserved => style::HELD,
        _ => style::BAD,
    };
    // If nobody holds the lock, the info is the last grant's.
    let (info, info_style) = match (&view.holder, &view.last) {
        (Some(grant), _) => (Escaped(grant.info()).to_string(), style::PLAIN),
        (None, Some(grant)) => (Escaped(grant.info()).to_string(), style::DIM),
        (None, None) => (String::new(), style::PLAIN),
    };
    let nothing = || NOTHING.to_owned();
    let program = view.holder.as_ref().map(|grant| Escaped(grant.program()).to_string());
    let program = program.filter(|program| !program.is_empty()).unwrap_or_else(nothing);
    let counters = view.counters;
    [
        name,
        Cell::styled(style, wording::status(status)),
        view.held_for.map_or_else(nothing, wording::span).into(),
        view.holder.as_ref().map_or_else(nothing, wording::pid).into(),
        program.into(),
        if view.has_waiters { "yes" } else { NOTHING }.into(),
        counters.grants.to_string().into(),
        counters.contended.to_string().into(),
        counters.timeouts.to_string().into(),
        counters.recoveries.to_string().into(),
        counters.forced.to_string().into(),
        Cell::styled(info_style, info),
    ]
}

fn unusable(name: Cell, what: &str, why: String) -> [Cell; COLUMNS] {
    let mut row = [NOTHING; COLUMNS].map(Cell::from);
    row[0] = name;
    row[1] = Cell::styled(style::BAD, what);
    row[COLUMNS - 1] = Cell::styled(style::DIM, why);
    row
}
