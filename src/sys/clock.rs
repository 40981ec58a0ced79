//! Clocks. All of them are answered by the vDSO where there is one, without entering the kernel.

use core::num::NonZeroU32;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;

use rustix::event::poll;
use rustix::io::Errno;
use rustix::thread::futex::{Flags, wait_bitset};
use rustix::thread::{NanosleepRelativeResult, nanosleep, sched_yield};
use rustix::time::{ClockId, DynamicClockId, Timespec, clock_gettime_dynamic};

#[cfg(target_pointer_width = "32")]
use super::old_time;
use crate::time::Moment;

/// Wall-clock time, UTC, told from readings of [`monotonic`]. For people to read; never for measuring, because it jumps.
///
/// A grant needs both times, and a reading costs as much as all the rest of a grant. So this keeps how far one clock is
/// ahead of the other, and looks anew when it has not for [`LOOK_EVERY_MS`]: a wall clock that is set is noticed that
/// soon, and what slewing does in that time is less than the two readings are apart.
#[derive(Debug)]
pub(crate) struct WallClock {
    /// Seconds, low word first, and nanoseconds. Relaxed: whoever asks holds the lock; one that was forced off may read
    /// halves of two looks, and then a time that it writes down is wrong, which nothing depends on.
    ahead_sec: [AtomicU32; 2],
    ahead_nsec: AtomicU32,
    /// CLOCK_MONOTONIC in milliseconds, modulo 2^32.
    looked_ms: AtomicU32,
}

const LOOK_EVERY_MS: u32 = 100;

impl WallClock {
    pub(crate) fn new() -> Self {
        let clock = Self { ahead_sec: Default::default(), ahead_nsec: AtomicU32::new(0), looked_ms: AtomicU32::new(0) };
        clock.look();
        clock
    }

    /// The wall-clock time at `now`, a reading of [`monotonic`] made just before.
    #[inline]
    pub(crate) fn at(&self, now: Moment) -> Moment {
        if now.millis().wrapping_sub(self.looked_ms.load(Ordering::Relaxed)) >= LOOK_EVERY_MS {
            self.look();
        }
        let [low, high] = self.ahead_sec.each_ref().map(|word| u64::from(word.load(Ordering::Relaxed)));
        now.after(Duration::new(low | high << 32, self.ahead_nsec.load(Ordering::Relaxed)))
    }

    #[cold]
    fn look(&self) {
        let (mut before, mut wall) = (Moment::default(), Moment::default());
        // The two belong together only if nothing came between them: a reading takes less than a microsecond (a few, where
        // it is a system call). Whoever is interrupted each time may be off by as much.
        for _ in 0..3 {
            (before, wall) = (monotonic(), realtime());
            if monotonic().since(before) < Duration::from_micros(20) {
                break;
            }
        }
        // A board without a battery may be so early that its uptime is more: then there is no time to be told yet.
        let ahead = wall.since(before);
        self.ahead_sec[0].store(ahead.as_secs() as u32, Ordering::Relaxed);
        self.ahead_sec[1].store((ahead.as_secs() >> 32) as u32, Ordering::Relaxed);
        self.ahead_nsec.store(ahead.subsec_nanos(), Ordering::Relaxed);
        self.looked_ms.store(before.millis(), Ordering::Relaxed);
    }
}

fn realtime() -> Moment {
    read(ClockId::Realtime)
}

/// Time since boot, without suspend. For deadlines: nobody can set it.
#[inline]
pub(crate) fn monotonic() -> Moment {
    read(ClockId::Monotonic)
}

/// [`monotonic`] as of the last timer tick: 1 to 10 ms behind, and several times cheaper. For durations of holds.
#[inline]
pub(crate) fn monotonic_coarse() -> Moment {
    read(ClockId::MonotonicCoarse)
}

/// Sleeps for that long, or less if a signal comes. A sandbox that refuses one way to sleep may permit another.
pub(crate) fn pause(duration: Duration) {
    let moment = Moment::default().after(duration);
    let NanosleepRelativeResult::Err(_) = nanosleep(&timespec(moment)) else { return };
    #[cfg(target_pointer_width = "32")]
    if old_time::nanosleep(moment).is_ok() {
        return;
    }
    // A poll of nothing is a sleep, too. If that is refused as well, giving way to others is all that is left.
    if !matches!(poll(&mut [], Some(&timespec(moment))), Ok(_) | Err(Errno::INTR)) {
        sched_yield();
    }
}

/// Lets another thread make progress, also one of lower real-time priority on the same CPU, for which sched_yield(2) does
/// nothing.
pub(crate) fn yield_to_others() {
    pause(Duration::from_micros(50));
}

/// Sleeps until `until`, on CLOCK_MONOTONIC; a signal does not end the sleep.
///
/// By a futex that nobody wakes, which takes an absolute time on every kernel. (rustix 1.1's clock_nanosleep omits
/// TIMER_ABSTIME on 32-bit kernels before Linux 5.1.)
pub(crate) fn sleep_until(until: Moment) {
    let nobody = AtomicU32::new(0);
    let timespec = timespec(until);
    loop {
        match wait_bitset(&nobody, Flags::PRIVATE, 0, Some(&timespec), NonZeroU32::MAX) {
            Err(Errno::TIMEDOUT) => return,
            Ok(()) | Err(Errno::INTR | Errno::AGAIN) => {}
            // No futexes, in this kernel or in this sandbox: in steps, so that a signal does not prolong it.
            Err(_) => {
                let left = until.since(monotonic());
                if left.is_zero() {
                    return;
                }
                pause(left);
            }
        }
    }
}

/// As the kernel takes it.
pub(crate) fn timespec(moment: Moment) -> Timespec {
    // The type of `tv_nsec` differs between targets.
    #[allow(clippy::cast_lossless)]
    Timespec { tv_sec: i64::try_from(moment.sec).unwrap_or(i64::MAX), tv_nsec: moment.nsec as _ }
}

#[inline]
fn read(clock: ClockId) -> Moment {
    match clock_gettime_dynamic(DynamicClockId::Known(clock)) {
        // Before 1970 only while a board without a battery has no time yet and somebody set it so: shown as 1970.
        Ok(time) => Moment { sec: time.tv_sec.max(0) as u64, nsec: time.tv_nsec as u32 },
        Err(_) => read_otherwise(clock),
    }
}

/// Where a sandbox refuses the clock: the old call on 32-bit kernels, or a count of readings, each a millisecond after the
/// one before. A wait then ends, though not in time, and nothing aborts.
#[cold]
fn read_otherwise(clock: ClockId) -> Moment {
    #[cfg(target_pointer_width = "32")]
    if let Ok(moment) = old_time::clock_gettime(clock as u32) {
        return moment;
    }
    #[cfg(not(target_pointer_width = "32"))]
    let _ = clock;
    static READINGS: AtomicU32 = AtomicU32::new(0);
    Moment::default().after(Duration::from_millis(READINGS.fetch_add(1, Ordering::Relaxed).into()))
}

// Not for Miri, which has no kernel to be asked for the time.
#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    /// Seen to fail with a difference that is never looked at anew, and with one that is the other way round.
    #[test]
    fn a_wall_clock_that_was_set_is_noticed_after_a_while() {
        const HOUR: u32 = 3600;
        let is_right = |shown: Moment, wall: Moment| shown.since(wall).max(wall.since(shown)) < Duration::from_secs(60);
        let clock = WallClock::new();
        let now = monotonic();
        assert!(is_right(clock.at(now), realtime()));

        // As if the wall clock had been an hour ahead when it was last looked at.
        clock.ahead_sec[0].fetch_add(HOUR, Ordering::Relaxed);
        clock.looked_ms.store(now.millis(), Ordering::Relaxed);
        assert!(!is_right(clock.at(now), realtime()), "looked too soon");
        let later = now.after(Duration::from_millis(u64::from(LOOK_EVERY_MS)));
        assert!(is_right(clock.at(later), realtime()));
    }
}
