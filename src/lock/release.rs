//! Release, force-release, detach, remove: every way in which a hold ends or changes without another grant.

use core::sync::atomic::Ordering;

use super::handle::{Hold, ResourceLock};
use super::host::Linux;
use crate::error::Error;
use crate::escape::Escaped;
use crate::grant::{Grant, Previous};
use crate::log::{Shown, debug, warn};
use crate::protocol::{self, Host};
use crate::record::End;
use crate::sys::clock;
use crate::sys::removal::Force;
use crate::word::{Fate, Kind, State, Word};

/// What a release was asked of, for the reference's log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreleased {
    /// Nobody holds.
    NotHeld,
    /// Somebody else does.
    NotOwned,
}

impl ResourceLock {
    /// Releases this handle's hold: `true` if it had one. For holds without a guard.
    pub fn release(&self) -> bool {
        self.release_own("release").is_ok()
    }

    pub(crate) fn release_own(&self, where_called: &str) -> Result<(), Unreleased> {
        let word = match self.own_word() {
            Some((identity, number)) => match self.end_hold(identity, number, End::Released, where_called) {
                Ok(()) => return Ok(()),
                Err(word) => word,
            },
            None => self.word(),
        };
        Err(if matches!(word.state(), State::Held(_) | State::Malformed) {
            Unreleased::NotOwned
        } else {
            Unreleased::NotHeld
        })
    }

    /// Releases exactly this hold; if it does not stand any more, changes nothing.
    #[inline]
    pub(crate) fn release_hold(&self, hold: Hold, end: End) -> bool {
        self.release_hold_with(hold, end, fate_after(end))
    }

    /// As [`release_hold`](Self::release_hold), leaving `fate` for the next grant.
    #[inline]
    pub(super) fn release_hold_with(&self, hold: Hold, end: End, fate: Fate) -> bool {
        self.still_holds(hold) && self.end_hold_with(hold.word(), hold.number, end, fate, "guard").is_ok()
    }

    /// Releases grant `number`, by which `identity` holds: this handle's, or that of a process that has ended.
    #[inline]
    fn end_hold(&self, identity: Word, number: u32, end: End, where_called: &str) -> Result<(), Word> {
        self.end_hold_with(identity, number, end, fate_after(end), where_called)
    }

    #[inline]
    fn end_hold_with(&self, identity: Word, number: u32, end: End, fate: Fate, where_called: &str) -> Result<(), Word> {
        let record = self.region.record();
        let now = clock::monotonic_coarse();
        // Before the release, while only the holder writes the entry. If it dies in between, the next grant overwrites it.
        record.count_hold(number, now);
        record.stamp_ending(number, end, now);
        let released = protocol::release(&Linux::new(self, false), identity, fate);
        match released {
            Ok(()) => debug!("<{}> lock released <{}>", self.shown_name(), Shown(Escaped(where_called))),
            // Forced off between the two; whoever did it stamps it again.
            Err(_) => record.stamp_ending(number, End::Forced { pid: 0, uid: 0 }, now),
        }
        released
    }

    /// Frees the lock, whoever holds it: `true` if it was held.
    ///
    /// That is for a person to decide: the holder believes that it is alone with the resource until it next asks
    /// ([`Guard::is_held`](crate::Guard::is_held)). The next grant learns of it ([`Previous::Forced`]), unless the hold was
    /// detached, for which this is the ordinary end.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use resourcelock::{Previous, ResourceLock};
    /// let (lock, other) = (ResourceLock::open("doc-force")?, ResourceLock::open("doc-force")?);
    /// let guard = lock.try_lock("hangs")?;
    /// assert!(other.force_release());
    /// assert!(!guard.is_held());
    /// assert!(matches!(other.try_lock("next")?.previous(), Previous::Forced(Some(_))));
    /// # drop(guard);
    /// # lock.remove(false)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn force_release(&self) -> bool {
        self.force_release_for("force_release")
    }

    pub(crate) fn force_release_for(&self, where_called: &str) -> bool {
        self.adopt();
        if self.region.repair(&self.place) {
            warn!(
                "<{}> lock record was overwritten and is made new <{}>",
                self.shown_name(),
                Shown(Escaped(where_called))
            );
            return true;
        }
        let Ok(Some(word)) = protocol::force(&Linux::new(self, false)) else { return false };
        let record = self.region.record();
        // Relaxed: a statistic.
        record.hot.forced.fetch_add(1, Ordering::Relaxed);
        let by = End::Forced { pid: self.process.pid(), uid: self.process.uid() };
        record.stamp_ending(record.number_of(word), by, clock::monotonic_coarse());
        debug!("<{}> lock force released <{}>", self.shown_name(), Shown(Escaped(where_called)));
        true
    }

    /// Releases exactly the hold `grant`, whoever has it: `true` if it still stood. For a program that started the holder
    /// and *knows* that it is done, such as a parent that has waited for it.
    ///
    /// Unlike a force-release, it never ends a later hold, and it counts as an ordinary release.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use resourcelock::ResourceLock;
    /// let (child, parent) = (ResourceLock::open("doc-release-grant")?, ResourceLock::open("doc-release-grant")?);
    /// std::mem::forget(child.try_lock("ends without releasing")?);
    /// let grant = parent.holder().ok_or("held")?;
    /// assert!(parent.release_grant(&grant));
    /// assert!(!parent.release_grant(&grant), "a second time");
    /// # parent.remove(false)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn release_grant(&self, grant: &Grant) -> bool {
        self.end_grant(grant, End::Released)
    }

    /// As [`release_grant`](Self::release_grant), of a holder that has died: the next grant learns of it
    /// ([`Previous::Died`]), and the history keeps `wait_status`, the status of
    /// [wait(2)](https://man7.org/linux/man-pages/man2/wait.2.html).
    pub fn release_grant_of_dead(&self, grant: &Grant, wait_status: Option<u32>) -> bool {
        let is_ended = self.end_grant(grant, End::Died { status: wait_status });
        if is_ended {
            // Here, because the next grant finds a free lock. Relaxed: a statistic.
            self.region.record().hot.recoveries.fetch_add(1, Ordering::Relaxed);
        }
        is_ended
    }

    fn end_grant(&self, grant: &Grant, end: End) -> bool {
        self.adopt();
        let record = self.region.record();
        let word = Word::held(grant.kind(), grant.seat(), grant.number());
        // The word has six bits of the grant's number; the record knows the others.
        self.word().identity() == word
            && record.is_number_of(word, grant.number())
            && self.end_hold(word, grant.number(), end, "on behalf of the holder").is_ok()
    }

    /// Detaches this handle's hold, so that it outlives the process: `true` if the handle holds. It is held until somebody
    /// [force-releases](Self::force_release) it, and is never recovered.
    pub fn detach(&self) -> bool {
        self.own_word().is_some_and(|(identity, number)| self.detach_word(identity, number))
    }

    pub(crate) fn detach_hold(&self, hold: Hold) -> bool {
        self.still_holds(hold) && self.detach_word(hold.word(), hold.number)
    }

    fn detach_word(&self, identity: Word, number: u32) -> bool {
        let detached = protocol::detach(&Linux::new(self, false), identity).is_ok();
        if detached {
            self.region.record().stamp_detached(number);
        }
        detached
    }

    /// Removes the lock: its file goes away, and open handles continue with a new one when they next acquire it. Returns
    /// what became of the last holder: a removal that takes over from a dead holder is the only one to learn of it.
    ///
    /// # Errors
    ///
    /// [`Error::Held`] if another handle holds it and lives, or if it is detached, unless `force`; [`Error::NotFound`] if
    /// the file is gone already; [`Error::PermissionDenied`] if the directory does not permit it. If it fails, nothing has
    /// changed.
    pub fn remove(&self, force: bool) -> Result<Previous, Error> {
        let own = self.own_word();
        let force = if force { Force::Yes } else { Force::No };
        let id = self.region.id();
        let mut host = Linux::new(self, false);
        let before = self.region.remove(&self.place, id, &mut host, own.map(|(identity, _)| identity), force)?;
        let record = host.record();
        let number = record.number_of(before);
        match before.state() {
            // The caller's own hold ends with the lock.
            State::Held(_) if own.is_some_and(|(identity, _)| identity == before.identity()) => {
                record.stamp_ending(number, End::Released, clock::monotonic_coarse());
                Ok(Previous::Released)
            }
            State::Held(Kind::Process) => {
                // Evicted, or dead before: the word that replaced it says which.
                let fate = host.load(Ordering::Acquire).fate();
                let end = match fate {
                    Fate::Died => End::Died { status: None },
                    _ => End::Forced { pid: self.process.pid(), uid: self.process.uid() },
                };
                record.stamp_ending(number, end, clock::monotonic_coarse());
                Ok(Previous::of(record, number.wrapping_add(1), fate, self.offset_at))
            }
            _ => Ok(Previous::of(record, number.wrapping_add(1), before.fate(), self.offset_at)),
        }
    }
}

/// What the next grant learns of a hold that ended so.
const fn fate_after(end: End) -> Fate {
    match end {
        End::Released => Fate::Released,
        End::Inconsistent | End::Died { .. } => Fate::Died,
        End::Forced { .. } | End::Overdue { .. } => Fate::Forced,
    }
}

impl Drop for ResourceLock {
    fn drop(&mut self) {
        // The hold first; the seat goes with the region, after it.
        if let Some((identity, number)) = self.own_word() {
            if identity.state() == State::Held(Kind::Process) {
                let _ = self.end_hold(identity, number, End::Released, "close");
            }
        }
        debug!("<{}> semaphore closed", self.shown_name());
    }
}
