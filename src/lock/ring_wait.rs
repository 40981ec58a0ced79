//! A wait that sleeps on a ring: from the end of the first slice, until the lock is granted.
//!
//! A hint that the probe does not confirm is disarmed with a back-off: handles are closed for other reasons than deaths, and
//! an exiting process gives its hint before its seat is free. After a hint the holder is probed a few times in short order,
//! then every 60 ms for a while, the longer the more hints have been in vain; then hints count again.

use core::mem;
use core::time::Duration;

use super::handle::ResourceLock;
use crate::cancel::Cancel;
use crate::log::debug;
use crate::protocol::{SLICE, Sleep, Slept};
use crate::record::Record;
use crate::sys::ring::{Awaited, Event, Hint, Ring};

/// How long a waiter sleeps if nothing happens: it only has to notice a waiter that was woken and died.
const RING_SLICE: Duration = Duration::from_secs(1);

/// After a hint: when the holder is probed again.
const AFTER_HINT: [Duration; 3] = [Duration::from_micros(200), Duration::from_millis(1), Duration::from_millis(5)];

/// The pause between probes while hints do not count.
const WITHOUT_HINTS: Duration = Duration::from_millis(60);

/// For how many of these pauses they do not count, at most.
const MOST_PAUSES: u32 = 16;

pub(super) struct RingWait {
    ring: Option<Ring>,
    was_tried: bool,
    /// Whether the wait is polled, and so has a ring from its beginning.
    is_polled: bool,
    is_broken: bool,
    /// How many probes have followed the last hint; `None` while hints count.
    after_hint: Option<u32>,
    /// Whether a slice has passed since hints began to count.
    is_settled: bool,
    /// How many hints in a row have been in vain.
    in_vain: u32,
}

impl RingWait {
    pub(super) const fn new() -> Self {
        Self {
            ring: None,
            was_tried: false,
            is_polled: false,
            is_broken: false,
            after_hint: None,
            is_settled: false,
            in_vain: 0,
        }
    }

    /// How long to sleep at most, if there is a ring to sleep on.
    pub(super) fn slice(&mut self, lock: &ResourceLock, waited: Duration) -> Option<Duration> {
        if waited < SLICE && !self.is_polled {
            return None;
        }
        if !self.was_tried {
            self.was_tried = true;
            self.ring = Ring::new();
            if self.ring.is_none() {
                debug!("<{}> no io_uring for this wait; it looks at the lock in slices", lock.shown_name());
            }
        }
        self.ring.as_ref()?;
        Some(self.next_slice())
    }

    fn next_slice(&mut self) -> Duration {
        match self.after_hint {
            // A death between the last probe and the arming of the hint gives none.
            None if !mem::replace(&mut self.is_settled, true) => SLICE,
            None => RING_SLICE,
            Some(probes) => AFTER_HINT.get(probes as usize).copied().unwrap_or(WITHOUT_HINTS),
        }
    }

    /// Sleeps on the ring. `None` if there is none.
    pub(super) fn sleep(
        &mut self,
        lock: &ResourceLock,
        record: &Record,
        sleep: Sleep,
        arrival: u32,
        cancel: Option<&Cancel>,
    ) -> Option<Slept> {
        let ring = self.ring.as_mut()?;
        let event = ring.sleep(awaited(lock, record, sleep, arrival, cancel, self.after_hint.is_none()));
        Some(self.after(event))
    }

    /// Sets the ring up at once, for a wait that is polled. `false` if there is none.
    #[cfg(feature = "std")]
    pub(super) fn start(&mut self) -> bool {
        self.was_tried = true;
        self.is_polled = true;
        self.ring = Ring::new();
        self.ring.is_some()
    }

    #[cfg(feature = "std")]
    pub(super) fn ring(&self) -> Option<&Ring> {
        self.ring.as_ref()
    }

    /// Begins to wait, without sleeping. `false` if there is no ring.
    #[cfg(feature = "std")]
    pub(super) fn arm(
        &mut self,
        lock: &ResourceLock,
        record: &Record,
        sleep: Sleep,
        arrival: u32,
        cancel: Option<&Cancel>,
    ) -> bool {
        let wants_hint = self.after_hint.is_none();
        let Some(ring) = self.ring.as_mut().filter(|_| !self.is_broken) else { return false };
        ring.arm(awaited(lock, record, sleep, arrival, cancel, wants_hint))
    }

    /// How the wait that was armed has ended, if it has.
    #[cfg(feature = "std")]
    pub(super) fn poll(&mut self) -> Option<Slept> {
        let event = self.ring.as_mut()?.poll()?;
        Some(self.after(event))
    }

    /// Ends the wait that was armed: `true` if it had been woken.
    #[cfg(feature = "std")]
    pub(super) fn stop(&mut self) -> bool {
        self.ring.as_mut().is_some_and(|ring| ring.disarm(Event::TimedOut) == Event::Woken)
    }

    /// In a forked child: the ring is the parent's.
    #[cfg(feature = "std")]
    pub(super) fn abandon(&mut self) {
        if let Some(ring) = self.ring.take() {
            ring.abandon();
        }
    }

    /// What an event means to the protocol.
    pub(super) fn after(&mut self, event: Event) -> Slept {
        match event {
            Event::Woken => Slept::Woken,
            Event::Changed => Slept::Changed,
            Event::Cancelled | Event::Interrupted => Slept::Interrupted,
            Event::Hint => {
                (self.after_hint, self.is_settled) = (Some(0), false);
                Slept::TimedOut
            }
            Event::TimedOut => {
                if let Some(probes) = self.after_hint {
                    let pauses = AFTER_HINT.len() as u32 + (1 << self.in_vain.min(4)).min(MOST_PAUSES);
                    self.after_hint = if probes + 1 < pauses {
                        Some(probes + 1)
                    } else {
                        self.in_vain += 1;
                        None
                    };
                }
                Slept::TimedOut
            }
            Event::Unsupported => {
                // A polled wait keeps the descriptor that the program polls.
                self.is_broken = true;
                if !self.is_polled {
                    self.ring = None;
                }
                Slept::Changed
            }
        }
    }
}

/// What a sleep on the ring waits for.
fn awaited<'a>(
    lock: &'a ResourceLock,
    record: &'a Record,
    sleep: Sleep,
    arrival: u32,
    cancel: Option<&'a Cancel>,
    wants_hint: bool,
) -> Awaited<'a> {
    let hint = || {
        let own = lock.process.pid_ns();
        match record.process_of(record.number_of(sleep.expected)) {
            Some((pid, pid_ns)) if pid_ns == own && own != 0 => Some(Hint::Process(pid)),
            _ => Some(Hint::File(lock.region.file_watch(), &lock.place)),
        }
    };
    Awaited {
        word: &record.hot.word,
        expected: sleep.expected.0,
        bit: arrival,
        until: sleep.until,
        hint: if wants_hint { hint() } else { None },
        cancel: cancel.map(Cancel::word),
    }
}
