//! The lock as a wrapper uses it: taken for a transaction or for a session, and what comes first after a recovery.
//!
//! Invariants:
//! - a transaction runs under a hold that was there when it began: one of its own, which a guard ends however the
//!   transaction does, or the session's, which is asked for again each time;
//! - a recovery that was told stays on the list until the wrapper's [`Recovery`] has seen to it. The lock tells it with
//!   one grant only, and that grant's transaction may never come to pass: the reset may fail, or panic.

use core::fmt;

use heapless::String;

use super::{BusError, GoOn, Recovery};
use crate::grant::Grant;
use crate::lock::{Guard, Hold, ResourceLock};
use crate::record::{End, INFO_CAPACITY, cut_to_capacity};
use crate::timeout::Timeout;

pub(super) struct Locking<R> {
    lock: ResourceLock,
    timeout: Timeout,
    info: String<INFO_CAPACITY>,
    recovery: R,
    /// The holder that died, if that is still to be seen to; inside, its grant, if it had the time to write one.
    unattended: Option<Option<Grant>>,
    session: Option<Session>,
}

#[derive(Clone, Copy)]
struct Session {
    hold: Hold,
    /// How many sessions are open, one inside the other.
    depth: u32,
}

impl Locking<GoOn> {
    pub(super) fn new(lock: ResourceLock) -> Self {
        Self { lock, timeout: Timeout::DEFAULT, info: String::new(), recovery: GoOn, unattended: None, session: None }
    }
}

impl<R> Locking<R> {
    pub(super) fn set_timeout(&mut self, timeout: Timeout) {
        self.timeout = timeout;
    }

    pub(super) fn set_info(&mut self, info: &str) {
        self.info.clear();
        // It was cut to what there is room for.
        let _ = self.info.push_str(cut_to_capacity(info));
    }

    pub(super) fn with_recovery<S>(self, recovery: S) -> Locking<S> {
        let Self { lock, timeout, info, recovery: _, unattended, session } = self;
        Locking { lock, timeout, info, recovery, unattended, session }
    }

    pub(super) fn handle(&self) -> &ResourceLock {
        &self.lock
    }

    pub(super) fn into_lock(self) -> ResourceLock {
        self.lock
    }

    /// Makes sure of a hold for one transaction: `None` if it is the session's.
    #[inline]
    pub(super) fn enter<BUS, E>(&mut self, bus: &mut BUS) -> Result<Option<Guard<'_>>, BusError<E>>
    where
        R: Recovery<BUS, E>,
    {
        match self.session {
            Some(session) => self.check(session.hold).map(|()| None),
            None => self.hold(bus).map(Some),
        }
    }

    /// Begins a session, or one inside the session that is open.
    pub(super) fn begin_session<BUS, E>(&mut self, bus: &mut BUS) -> Result<(), BusError<E>>
    where
        R: Recovery<BUS, E>,
    {
        let session = match self.session {
            Some(Session { hold, depth }) => {
                self.check(hold)?;
                Session { hold, depth: depth + 1 }
            }
            None => Session { hold: self.hold(bus)?.into_hold(), depth: 1 },
        };
        self.session = Some(session);
        Ok(())
    }

    /// Ends the innermost session: `true` if its hold was there to the end.
    pub(super) fn end_session(&mut self) -> bool {
        match self.session {
            None => false,
            Some(Session { hold, depth: 1 }) => {
                self.session = None;
                self.lock.release_hold(hold, End::Released)
            }
            Some(Session { hold, depth }) => {
                self.session = Some(Session { hold, depth: depth - 1 });
                self.lock.still_holds(hold)
            }
        }
    }

    #[inline]
    fn hold<BUS, E>(&mut self, bus: &mut BUS) -> Result<Guard<'_>, BusError<E>>
    where
        R: Recovery<BUS, E>,
    {
        let guard = self.lock.lock(self.timeout, &self.info)?;
        if guard.recovered() {
            self.unattended = Some(guard.recovered_from());
        }
        if let Some(dead) = &self.unattended {
            let outcome = self.recovery.attend(bus, dead.as_ref());
            if !matches!(outcome, Err(BusError::ResetFailed(_))) {
                self.unattended = None;
            }
            outcome?;
            // A reset takes its time, and what it has set up is only good for a transaction that follows it.
            if !guard.check().map_err(BusError::Lock)? {
                return Err(BusError::HoldLost);
            }
        }
        Ok(guard)
    }

    fn check<E>(&self, hold: Hold) -> Result<(), BusError<E>> {
        match self.lock.check_hold(hold) {
            Ok(true) => Ok(()),
            Ok(false) => Err(BusError::HoldLost),
            Err(error) => Err(BusError::Lock(error)),
        }
    }
}

impl<R: fmt::Debug> fmt::Debug for Locking<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Locking")
            .field("lock", &self.lock)
            .field("timeout", &self.timeout)
            .field("info", &self.info)
            .field("recovery", &self.recovery)
            .field("in_session", &self.session.is_some())
            .finish_non_exhaustive()
    }
}
