//! `get`: acquires the lock, and leaves it held, or with `-a` holds it for a time.
//!
//! Invariants:
//! - until the last step the hold is bound to this process, so that wherever the process is killed, the next grant
//!   recovers the lock. The last step detaches the hold, which then lasts until `unget`;
//! - how the hold ends, and so the exit status, is decided once, under one mutex: by the main thread or by a signal.
//!
//! A signal that arrives in the instant between the library's grant and its return cannot see the hold, and leaves the hold
//! of a dead process, which blocks nobody.

use std::mem;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use resourcelock::{Error, Grant, Guard, LockError, ResourceLock};

use crate::args::Args;
use crate::exit::Exit;
use crate::json::{self, Got};
use crate::output::{self, Answer, Unwritten};
use crate::signals::{self, Signal};

/// A main thread that has not printed its grant after this time is blocked in its write.
const PRINTING_TAKES: Duration = Duration::from_millis(100);

/// What the main thread and the thread that waits for signals share.
struct Attempt {
    lock: ResourceLock,
    message: String,
    json: bool,
    conflict: Exit,
    /// Locked by the thread that decides how the hold ends; never unlocked if that ends the process.
    deciding: Mutex<()>,
}

pub(crate) fn run(args: Args) -> Result<Exit, Error> {
    let lock = match super::making(&args) {
        Ok(options) => options.open(&args.lock)?,
        Err(exit) => return Ok(exit),
    };
    let Args { message, json, conflict, .. } = args;
    let attempt = Arc::new(Attempt { lock, message, json, conflict, deciding: Mutex::new(()) });
    let for_signals = Arc::clone(&attempt);
    let (printed, was_printed) = mpsc::channel();
    if let Err(error) = signals::end_with(move |signal| for_signals.end_by(signal, &was_printed)) {
        return Ok(super::cannot_watch(attempt.lock.name(), &error));
    }
    match attempt.lock.lock(args.get_timeout, &attempt.message) {
        Ok(guard) => Ok(attempt.granted(guard, args.auto_unget, &printed)),
        Err(LockError::TimedOut(holder)) => {
            let holder = super::grant_of(&attempt.lock, holder.as_ref());
            Ok(attempt.timed_out(holder.as_ref()))
        }
        Err(LockError::Failed(error)) => Err(error),
        Err(_) => Ok(Exit::Unavailable),
    }
}

impl Attempt {
    fn granted(&self, guard: Guard<'_>, auto_unget: Option<Duration>, printed: &Sender<()>) -> Exit {
        // A signal that arrived before the grant ends the process here, without output.
        drop(self.decide());
        let (grant, previous) = (self.lock.last_grant(), guard.previous());
        let answered = if self.json {
            output::print(&json::get(
                self.lock.name(),
                Got {
                    grant: grant.as_ref(),
                    will_detach: auto_unget.is_none(),
                    holder: None,
                    previous: Some(&previous),
                },
            ))
        } else {
            self.answer(&Answer::Granted(grant))
        };
        // The receiver lives as long as the thread that waits for signals.
        let _ = printed.send(());
        super::report_previous(self.lock.name(), &previous);
        if answered == Err(Unwritten::Failed) {
            // The caller takes a failure to mean that the lock is not held.
            let _deciding = self.decide();
            drop(guard);
            return Exit::Output;
        }
        match auto_unget {
            None => {
                mem::forget(self.decide());
                if guard.detach() { Exit::Done } else { self.was_forced() }
            }
            Some(duration) => {
                thread::sleep(duration);
                self.release(guard)
            }
        }
    }

    fn release(&self, guard: Guard<'_>) -> Exit {
        let released = {
            let _deciding = self.decide();
            guard.release()
        };
        let at = format!("{} - auto unget", self.message);
        let (answer, exit) = if released {
            (Answer::Released(&at), Exit::Done)
        } else if self.lock.is_held() {
            (Answer::NotOwned(&at), Exit::No)
        } else {
            (Answer::Extraneous(&at), Exit::No)
        };
        super::printed(self.answer(&answer), exit)
    }

    fn was_forced(&self) -> Exit {
        output::complain(self.lock.name(), &"the lock was force-released as soon as it was granted");
        Exit::No
    }

    fn timed_out(&self, holder: Option<&Grant>) -> Exit {
        let printed = self.answer(&Answer::TimedOut(holder.cloned()));
        super::complain_of_holder(self.lock.name(), holder);
        super::printed(printed, self.conflict)
    }

    /// Releases the hold, if there is one, and reports it if the grant was reported.
    fn end_by(&self, signal: Signal, was_printed: &Receiver<()>) -> Exit {
        // Never unlocked: the main thread must not go on.
        mem::forget(self.decide());
        let at = format!("{} - {}", self.message, signal.name());
        let released = self.lock.holds() && self.lock.release();
        // Not while the main thread may be blocked in a write: then this thread would block, too.
        if released && was_printed.recv_timeout(PRINTING_TAKES).is_ok() {
            // A failure to write it changes nothing any more.
            let _ = self.answer(&Answer::Released(&at));
        }
        signal.exit()
    }

    fn decide(&self) -> MutexGuard<'_, ()> {
        // There is no panic under it, and one would leave nothing half done.
        self.deciding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, answer: &Answer<'_>) -> Result<(), Unwritten> {
        super::print_answer(self.json, self.lock.name(), answer)
    }
}
