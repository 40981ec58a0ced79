//! Clocks. All of them are answered by the vDSO where there is one, without entering the kernel.

use rustix::time::{ClockId, clock_gettime};

use crate::moment::Moment;

/// Wall-clock time, UTC. For people to read; never for measuring, because it jumps.
#[inline]
pub(crate) fn realtime() -> Moment {
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

#[inline]
fn read(clock: ClockId) -> Moment {
    let time = clock_gettime(clock);
    // Before 1970 only while a board without a battery has no time yet and somebody set it so: shown as 1970.
    Moment { sec: time.tv_sec.max(0) as u64, nsec: time.tv_nsec as u32 }
}
