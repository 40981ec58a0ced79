//! `history`: the grants that the lock remembers, newest first: holder, time, duration, and how each ended.

use resourcelock::{Error, Escaped, Grant, Kind, Snapshot, Status};

use crate::args::Args;
use crate::exit::Exit;
use crate::json;
use crate::output;
use crate::style::{self, Paint};
use crate::table::{Cell, Table};
use crate::wording;

pub(crate) fn run(args: &Args) -> Result<Exit, Error> {
    let snapshot = super::inspect(args)?;
    let history = snapshot.as_ref().map(Snapshot::history).unwrap_or_default();
    let text = if args.json {
        history.iter().map(|grant| json::grant(super::lockname(args), grant)).collect()
    } else {
        let mut table = Table::new(["GRANTED", ">FOR", "ENDED", ">PID", "PROGRAM", ">USER", "INFO"]);
        for grant in &history {
            table.push(row(grant, snapshot.as_ref()));
        }
        let lines = table.lines(style::terminal_width(), Paint::new(args.color));
        lines.into_iter().map(|line| line + "\n").collect::<String>()
    };
    Ok(output::print(&text).map_or_else(output::failed, |()| Exit::Done))
}

fn row(grant: &Grant, snapshot: Option<&Snapshot>) -> [Cell; 7] {
    // If this is the present grant.
    let present = snapshot.filter(|snapshot| snapshot.holder().is_some_and(|holder| holder.number() == grant.number()));
    let held_for = grant.held_for().or_else(|| present?.held_for());
    let ended = match (grant.ending(), present.map(Snapshot::status)) {
        (_, Some(Status::HolderDied)) => Cell::styled(style::BAD, "is dead"),
        (_, Some(Status::Held(Kind::Detached))) => Cell::styled(style::HELD, "until unget"),
        (_, Some(_)) => Cell::styled(style::HELD, "holds"),
        (Some(ending), None) => {
            let style = if ending == resourcelock::Ending::Released { style::PLAIN } else { style::BAD };
            Cell::styled(style, wording::ending(grant, ending))
        }
        (None, None) => "unknown".into(),
    };
    [
        Cell::styled(style::DIM, grant.granted().to_string()),
        held_for.map_or("-".to_owned(), wording::span).into(),
        ended,
        wording::pid(grant).into(),
        Escaped(grant.program()).to_string().into(),
        grant.uid().to_string().into(),
        Escaped(grant.info()).to_string().into(),
    ]
}
