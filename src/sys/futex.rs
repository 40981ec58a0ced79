//! Sleeping on a word and waking the sleepers ([futex(2)]).
//!
//! Shared futexes, never private ones: the kernel finds sleepers by file and offset, so processes of different bitness
//! and at different addresses meet.
//!
//! [futex(2)]: https://man7.org/linux/man-pages/man2/futex.2.html

use core::num::NonZeroU32;
use core::sync::atomic::AtomicU32;

use rustix::io::Errno;
use rustix::thread::futex::{Flags, wait_bitset, wake as futex_wake, wake_bitset};

use super::clock;
use crate::time::Moment;

/// Every sleeper, whatever its bits.
pub(super) const ALL: NonZeroU32 = NonZeroU32::MAX;

/// How a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woke {
    /// It never began: the word had changed already.
    Changed,
    Woken,
    TimedOut,
    /// By a signal.
    Interrupted,
}

/// Sleeps under this `bit` (0 to 31) while `word` is `expected`, at the longest until `until` (CLOCK_MONOTONIC, absolute:
/// a signal that interrupts the sleep does not prolong it).
#[doc(alias = "FUTEX_WAIT_BITSET")]
pub(crate) fn sleep(word: &AtomicU32, expected: u32, until: Moment, bit: u32) -> Woke {
    match wait_bitset(word, Flags::empty(), expected, Some(&clock::timespec(until)), mask(bit)) {
        Ok(()) => Woke::Woken,
        Err(Errno::INTR) => Woke::Interrupted,
        Err(Errno::AGAIN) => Woke::Changed,
        Err(Errno::TIMEDOUT) => Woke::TimedOut,
        // No futexes, in this kernel or in this sandbox. Then a wait is a look at the end of every slice.
        Err(_) => {
            clock::sleep_until(until);
            Woke::TimedOut
        }
    }
}

/// Wakes up to `count` sleepers and returns how many there were.
#[doc(alias = "FUTEX_WAKE")]
pub(crate) fn wake(word: &AtomicU32, count: u32) -> u32 {
    // The only errors are those of a bad address; then nobody can sleep there either.
    futex_wake(word, Flags::empty(), count).map_or(0, |woken| woken as u32)
}

/// Wakes every sleeper.
pub(crate) fn wake_all(word: &AtomicU32) {
    wake(word, i32::MAX as u32);
}

/// Wakes one sleeper that has this bit, and returns whether there was one.
#[doc(alias = "FUTEX_WAKE_BITSET")]
pub(crate) fn wake_one_of(word: &AtomicU32, bit: u32) -> bool {
    // As above.
    wake_bitset(word, Flags::empty(), 1, mask(bit)).is_ok_and(|woken| woken != 0)
}

/// A wake-up reaches the sleepers that have a bit in common with it.
pub(super) fn mask(bit: u32) -> NonZeroU32 {
    NonZeroU32::new(1 << (bit % 32)).unwrap_or(NonZeroU32::MIN)
}
