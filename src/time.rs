//! Points in time, as the kernel counts them: seconds and nanoseconds, so that ARMv6 needs no 64-bit division.

use core::time::Duration;

const NANOS_PER_SEC: u32 = 1_000_000_000;

/// A point on CLOCK_MONOTONIC or, where a field says so, CLOCK_REALTIME.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment {
    pub(crate) sec: u64,
    pub(crate) nsec: u32,
}

impl Moment {
    /// Saturates at the end of time rather than wrapping into the past.
    pub(crate) const fn after(self, duration: Duration) -> Self {
        let nsec = self.nsec + duration.subsec_nanos();
        let carry = (nsec >= NANOS_PER_SEC) as u64;
        Self {
            sec: self.sec.saturating_add(duration.as_secs()).saturating_add(carry),
            nsec: nsec - carry as u32 * NANOS_PER_SEC,
        }
    }

    /// How long after `earlier` this is; zero if it is not.
    pub(crate) const fn since(self, earlier: Self) -> Duration {
        let borrow = (self.nsec < earlier.nsec) as u64;
        let nsec = self.nsec + borrow as u32 * NANOS_PER_SEC - earlier.nsec;
        match self.sec.checked_sub(earlier.sec) {
            Some(sec) => match sec.checked_sub(borrow) {
                Some(sec) => Duration::new(sec, nsec),
                None => Duration::ZERO,
            },
            None => Duration::ZERO,
        }
    }

    /// Milliseconds modulo 2^32 (49.7 days): for comparing moments that lie close together.
    pub(crate) const fn millis(self) -> u32 {
        (self.sec as u32).wrapping_mul(1000).wrapping_add(self.nsec / 1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adding_carries_and_saturates() {
        let start = Moment { sec: 1, nsec: 999_999_999 };
        assert_eq!(start.after(Duration::from_nanos(1)), Moment { sec: 2, nsec: 0 });
        assert_eq!(start.after(Duration::MAX).sec, u64::MAX);
    }

    #[test]
    fn since_is_exact_and_never_negative() {
        let early = Moment { sec: 5, nsec: 900_000_000 };
        let late = Moment { sec: 6, nsec: 100_000_000 };
        assert_eq!(late.since(early), Duration::from_millis(200));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(early.since(early), Duration::ZERO);
        let same_second = Moment { sec: 5, nsec: 0 };
        assert_eq!(same_second.since(early), Duration::ZERO);
    }
}
