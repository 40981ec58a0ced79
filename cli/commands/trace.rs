//! `trace`: prints the state at each interval until a signal comes. Changes nothing, makes nothing.
//!
//! The lock is opened afresh each time, so that one that is made, removed or made again meanwhile is seen as it is.
//! Ctrl-C is the way to end a trace, so it is a success; another signal is not.

use std::thread;

use resourcelock::Error;

use crate::args::Args;
use crate::exit::Exit;
use crate::local_time;
use crate::output;
use crate::signals::{self, Signal};

pub(crate) fn run(args: &Args) -> Result<Exit, Error> {
    let watching = signals::end_with(|signal| match signal {
        Signal::Interrupt => Exit::Done,
        Signal::HangUp | Signal::Terminate => signal.exit(),
    });
    if let Err(error) = watching {
        return Ok(super::cannot_watch(super::lockname(args), &error));
    }
    loop {
        let lock = super::open_existing(args)?;
        let state = super::state::answer(lock.as_ref());
        // Not open while it sleeps: nothing is gained by it.
        drop(lock);
        if let Err(unwritten) = output::answer_at(&local_time::now(), super::lockname(args), &state) {
            return Ok(output::failed(unwritten));
        }
        thread::sleep(args.update);
    }
}
