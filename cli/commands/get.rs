//! `get`: gets the lock, and leaves it held, or with `-a` holds it for a time.
//!
//! Invariants:
//! - until its very last step the hold is this process's, so that wherever it is killed, the next get finds a dead
//!   holder and recovers. The last step makes it a hold that stands until somebody ungets it;
//! - how the hold ends, and so the exit status, is decided once, under one mutex: by the main thread or by a signal.
//!
//! A signal that comes in the instant between the library's grant and its return cannot see the hold, and leaves one of
//! a dead process, which blocks nobody.

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

/// A main thread that was granted the lock, but could not tell of it within this time, is stuck in its write.
const TELLING_TAKES: Duration = Duration::from_millis(100);

/// What the main thread and a signal share.
struct Attempt {
    lock: ResourceLock,
    message: String,
    json: bool,
    conflict: Exit,
    /// Locked by whoever decides how the hold ends; never unlocked again by one that ends the process.
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
    let (told, was_told) = mpsc::channel();
    if let Err(error) = signals::end_with(move |signal| for_signals.end_by(signal, &was_told)) {
        return Ok(super::cannot_watch(attempt.lock.lockname(), &error));
    }
    match attempt.lock.lock(args.get_timeout, &attempt.message) {
        Ok(guard) => Ok(attempt.granted(guard, args.auto_unget, &told)),
        Err(LockError::TimedOut(owner)) => Ok(attempt.timed_out(owner.as_ref())),
        Err(LockError::Failed(error)) => Err(error),
        Err(_) => Ok(Exit::Unavailable),
    }
}

impl Attempt {
    fn granted(&self, guard: Guard<'_>, auto_unget: Option<Duration>, told: &Sender<()>) -> Exit {
        // A signal that came before the grant ends us here, without a word.
        drop(self.decide());
        let grant = self.lock.last_grant();
        let answered = if self.json {
            let dead = guard.recovered_from();
            output::print(&json::get(
                self.lock.lockname(),
                Got {
                    grant: grant.as_ref(),
                    stays: auto_unget.is_none(),
                    holder: None,
                    recovered: guard.recovered(),
                    recovered_from: dead.as_ref(),
                },
            ))
        } else {
            self.answer(&Answer::Granted(grant))
        };
        // There is a receiver as long as there is the thread that waits for signals.
        let _ = told.send(());
        if guard.recovered() {
            super::tell_of_the_dead(&guard);
        }
        if answered == Err(Unwritten::Failed) {
            // Whoever hears of a failure believes that the lock is not held.
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
        } else if self.lock.is_locked() {
            (Answer::NotOwned(&at), Exit::No)
        } else {
            (Answer::Extraneous(&at), Exit::No)
        };
        match self.answer(&answer) {
            Ok(()) | Err(Unwritten::Unread) => exit,
            Err(Unwritten::Failed) => Exit::Output,
        }
    }

    fn was_forced(&self) -> Exit {
        output::complain(self.lock.lockname(), &"somebody forced the lock off as soon as it was granted");
        Exit::No
    }

    fn timed_out(&self, owner: Option<&Grant>) -> Exit {
        let told = self.answer(&Answer::TimedOut(owner.cloned()));
        super::complain_of_holder(self.lock.lockname(), owner);
        match told {
            Ok(()) | Err(Unwritten::Unread) => self.conflict,
            Err(Unwritten::Failed) => Exit::Output,
        }
    }

    /// Lets go of what is held, if anything, and says so if the user was told of it.
    fn end_by(&self, signal: Signal, was_told: &Receiver<()>) -> Exit {
        // Never unlocked: the main thread must not go on.
        mem::forget(self.decide());
        let at = format!("{} - {}", self.message, signal.name());
        let released = self.lock.i_have_the_lock() && self.lock.unget_lock(false, &at);
        // Not while the main thread may be stuck in a write: then this one would be, too.
        if released && was_told.recv_timeout(TELLING_TAKES).is_ok() {
            // Whether that can be written changes nothing any more.
            let _ = self.answer(&Answer::Released(&at));
        }
        signal.exit()
    }

    fn decide(&self) -> MutexGuard<'_, ()> {
        // A panic under it, of which there is none, would leave nothing half done.
        self.deciding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, answer: &Answer<'_>) -> Result<(), Unwritten> {
        super::say(self.json, self.lock.lockname(), answer)
    }
}
