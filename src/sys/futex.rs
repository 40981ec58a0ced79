//! Sleeping on a word and waking those who do ([futex(2)]).
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
use crate::moment::Moment;
use crate::protocol::Slept;

/// Sleeps among those of this `age` (0 to 31) while `word` is `expected`, at the longest until `until` (CLOCK_MONOTONIC,
/// absolute: a signal handler that interrupts the sleep does not prolong it).
#[doc(alias = "FUTEX_WAIT_BITSET")]
pub(crate) fn sleep(word: &AtomicU32, expected: u32, until: Moment, age: u32) -> Slept {
    let timespec = clock::timespec(until);
    loop {
        return match wait_bitset(word, Flags::empty(), expected, Some(&timespec), bit(age)) {
            Ok(()) => Slept::Woken,
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => Slept::Changed,
            Err(Errno::TIMEDOUT) => Slept::UntilTheEnd,
            // No futexes, in this kernel or in this sandbox. Then a wait is a look at the end of every slice.
            Err(_) => {
                clock::sleep_until(until);
                Slept::UntilTheEnd
            }
        };
    }
}

/// Wakes up to `count` sleepers and tells how many there were.
#[doc(alias = "FUTEX_WAKE")]
pub(crate) fn wake(word: &AtomicU32, count: u32) -> u32 {
    // The only errors are those of a bad address; then nobody can sleep there either.
    futex_wake(word, Flags::empty(), count).map_or(0, |woken| woken as u32)
}

/// Wakes one sleeper of this age, and tells whether there was one.
#[doc(alias = "FUTEX_WAKE_BITSET")]
pub(crate) fn wake_aged(word: &AtomicU32, age: u32) -> bool {
    // As above.
    wake_bitset(word, Flags::empty(), 1, bit(age)).is_ok_and(|woken| woken != 0)
}

/// A sleeper has the bit of its age, and a wake-up reaches those that have a bit in common with it.
fn bit(age: u32) -> NonZeroU32 {
    NonZeroU32::new(1 << (age & 31)).unwrap_or(NonZeroU32::MIN)
}
