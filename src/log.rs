//! Log lines: the facade's macros, and what they are given.
//!
//! `defmt-or-log` looks at *this* crate's features from inside its macros: with `log` they call log's, with `defmt`
//! defmt's, with neither they compile to nothing. Where a build has both on, `log` speaks and defmt is silent, because
//! a defmt line needs a global logger that only the final program can bring.

use core::fmt;

#[cfg(not(all(feature = "log", feature = "defmt")))]
pub(crate) use defmt_or_log::{debug, warn};
#[cfg(all(feature = "log", feature = "defmt"))]
pub(crate) use log::{debug, warn};

/// Wraps what a log line shows, so that it is looked up and rendered only if somebody listens.
pub(crate) struct Shown<T>(pub(crate) T);

impl<T: fmt::Display> fmt::Display for Shown<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(all(feature = "defmt", not(feature = "log")))]
impl<T: fmt::Display> defmt::Format for Shown<T> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::Display2Format(&self.0).format(f);
    }
}
