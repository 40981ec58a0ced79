//! `trace`: prints the state in each interval until a signal arrives. Changes nothing, makes nothing.
//!
//! The lock is opened again each time, so that a lock that is made, removed or made again is noticed. Ctrl-C is the way to
//! end a trace, so it is a success; another signal is not.

use std::thread;

use jiff::Timestamp;
use resourcelock::{Error, Snapshot};

use crate::args::Args;
use crate::exit::Exit;
use crate::json;
use crate::local_time;
use crate::output::{self, Unwritten};
use crate::signals::{self, Signal};
use crate::style::{self, Paint};
use crate::view::View;

pub(crate) fn run(args: &Args) -> Result<Exit, Error> {
    let paint = Paint::new(args.color);
    each_interval(args, |snapshot, now| {
        let view = View::new(&args.lock, snapshot);
        output::print(&if args.json {
            json::lock(&view, Some(now))
        } else {
            let time = paint.on(style::DIM, &local_time::show(now));
            format!("{time} {}\n", super::state::line(&view, paint))
        })
    })
}

/// Looks at the lock in each interval until `look` cannot write or a signal arrives.
pub(super) fn each_interval(
    args: &Args,
    mut look: impl FnMut(Option<&Snapshot>, Timestamp) -> Result<(), Unwritten>,
) -> Result<Exit, Error> {
    let watching = signals::end_with(|signal| match signal {
        Signal::Interrupt => Exit::Done,
        Signal::HangUp | Signal::Terminate => signal.exit(),
    });
    if let Err(error) = watching {
        return Ok(super::cannot_watch(super::lockname(args), &error));
    }
    loop {
        let snapshot = super::inspect(args)?;
        if let Err(unwritten) = look(snapshot.as_ref(), Timestamp::now()) {
            return Ok(output::failed(unwritten));
        }
        thread::sleep(args.update);
    }
}
