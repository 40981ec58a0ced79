//! How long a request waits.

use core::fmt;
use core::time::Duration;

use crate::protocol::Patience;

/// How long a request waits for the lock: not at all, up to a duration, or for ever.
///
/// Measured on CLOCK_MONOTONIC, so setting the wall clock neither shortens nor prolongs it; suspend does not count. A
/// request never gives up early.
///
/// ```
/// # use resourcelock::Timeout;
/// # use core::time::Duration;
/// assert_eq!(Timeout::try_from(0.25), Ok(Timeout::from_millis(250)));
/// assert_eq!(Timeout::from(Duration::from_secs(1)), Timeout::DEFAULT);
/// assert!(Timeout::try_from(-0.25).is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout(Option<Duration>);

impl Timeout {
    /// Only try: never sleep.
    pub const ZERO: Self = Self(Some(Duration::ZERO));

    /// One second, as in the reference.
    pub const DEFAULT: Self = Self::from_millis(1000);

    /// No timeout. Unwise where nobody watches.
    pub const FOREVER: Self = Self(None);

    /// The longest finite timeout: 2^32 - 1 seconds, 136 years.
    pub const MAX: Self = Self(Some(LONGEST));

    /// `millis` milliseconds, at most 49 days.
    pub const fn from_millis(millis: u32) -> Self {
        Self(Some(Duration::from_millis(millis as u64)))
    }

    /// `secs` seconds.
    pub const fn from_secs(secs: u32) -> Self {
        Self(Some(Duration::from_secs(secs as u64)))
    }

    pub(crate) const fn patience(self) -> Patience {
        match self.0 {
            None => Patience::Forever,
            Some(Duration::ZERO) => Patience::Try,
            Some(duration) => Patience::For(duration),
        }
    }
}

const LONGEST: Duration = Duration::from_secs(u32::MAX as u64);

impl Default for Timeout {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A duration longer than [`Timeout::MAX`] becomes that.
impl From<Duration> for Timeout {
    fn from(duration: Duration) -> Self {
        Self(Some(duration.min(LONGEST)))
    }
}

/// Seconds. Negative, not a number, infinite and longer than [`Timeout::MAX`] are errors.
impl TryFrom<f64> for Timeout {
    type Error = TimeoutError;

    fn try_from(secs: f64) -> Result<Self, TimeoutError> {
        if secs.is_nan() {
            Err(TimeoutError::NotANumber)
        } else if secs < 0.0 {
            Err(TimeoutError::Negative)
        } else if secs > LONGEST.as_secs() as f64 {
            Err(TimeoutError::TooLong)
        } else {
            // In range, so this cannot fail; rounds to the nearest nanosecond.
            Duration::try_from_secs_f64(secs).map(Self::from).map_err(|_| TimeoutError::TooLong)
        }
    }
}

/// What is wrong with a timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TimeoutError {
    /// Less than zero.
    Negative,
    /// NaN.
    NotANumber,
    /// Longer than [`Timeout::MAX`], or infinite.
    TooLong,
}

impl fmt::Display for TimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Negative => write!(f, "the timeout is negative; use zero to only try"),
            Self::NotANumber => write!(f, "the timeout is not a number"),
            Self::TooLong => {
                write!(f, "the timeout is longer than {} s; wait for ever instead", LONGEST.as_secs())
            }
        }
    }
}

impl core::error::Error for TimeoutError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_timeouts_are_typed_errors() {
        assert_eq!(Timeout::try_from(-1.0), Err(TimeoutError::Negative));
        assert_eq!(Timeout::try_from(-f64::INFINITY), Err(TimeoutError::Negative));
        assert_eq!(Timeout::try_from(f64::NAN), Err(TimeoutError::NotANumber));
        assert_eq!(Timeout::try_from(f64::INFINITY), Err(TimeoutError::TooLong));
        assert_eq!(Timeout::try_from(1e300), Err(TimeoutError::TooLong));
        assert_eq!(Timeout::from(Duration::MAX), Timeout::MAX);
        assert_eq!(Timeout::try_from(-0.0), Ok(Timeout::ZERO));
        assert_eq!(Timeout::try_from(f64::from(u32::MAX)), Ok(Timeout::MAX));
        assert_eq!(Timeout::try_from(1e-12), Ok(Timeout::ZERO));
    }
}
