//! The targets of this project, beside what a run has measured.
//!
//! Each is a line below the table that it belongs to. It names the value, the limit, and whether this run meets it.

use std::fmt;

use crate::table::number;

/// The line below a table that no target belongs to.
pub(crate) const NO_TARGET: &str = "- No target is set for this table.\n";

/// A bound on a measured value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    AtLeast(f64),
    AtMost(f64),
}

impl Limit {
    /// `None`: nothing was measured.
    fn is_met(self, value: f64) -> Option<bool> {
        match self {
            _ if value.is_nan() => None,
            Self::AtLeast(limit) => Some(value >= limit),
            Self::AtMost(limit) => Some(value <= limit),
        }
    }

    /// The limit as text, and whether `value` meets it.
    fn verdict(self, value: f64) -> String {
        let (words, limit) = match self {
            Self::AtLeast(limit) => ("at least", limit),
            Self::AtMost(limit) => ("at most", limit),
        };
        let verdict = match self.is_met(value) {
            Some(true) => "met",
            Some(false) => "missed",
            None => "not measured",
        };
        format!("{words} {limit} ({verdict})")
    }
}

/// A measured value and what is wanted of it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    what: String,
    value: f64,
    /// Follows the value: "µs", or "× the robust mutex".
    unit: &'static str,
    wanted: Option<Limit>,
    stretch: Option<Limit>,
}

impl Target {
    pub(crate) fn new(what: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { what: what.into(), value, unit, wanted: None, stretch: None }
    }

    /// Sets the limit that is required.
    pub(crate) fn wanted(mut self, limit: Limit) -> Self {
        self.wanted = Some(limit);
        self
    }

    /// Sets the limit that is hoped for.
    pub(crate) fn stretch(mut self, limit: Limit) -> Self {
        self.stretch = Some(limit);
        self
    }
}

impl fmt::Display for Target {
    /// One item of a Markdown list, with its newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, value, unit, .. } = self;
        write!(f, "- {what}: {} {unit}", number(*value))?;
        let limits = [("wanted", self.wanted), ("stretch goal", self.stretch)];
        for (label, limit) in limits {
            if let Some(limit) = limit {
                write!(f, "; {label}: {}", limit.verdict(*value))?;
            }
        }
        writeln!(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_met_at_its_limit() {
        let line = Target::new("pair", 1.1, "× the peer").wanted(Limit::AtMost(1.1)).stretch(Limit::AtMost(1.0));
        assert_eq!(
            line.to_string(),
            "- pair: 1.10 × the peer; wanted: at most 1.1 (met); stretch goal: at most 1 (missed)\n"
        );
        assert!(Target::new("", 0.99, "").wanted(Limit::AtLeast(1.0)).to_string().ends_with("(missed)\n"));
    }

    #[test]
    fn a_value_that_is_missing_meets_nothing() {
        let line = Target::new("holds of 6 s", f64::NAN, "× ideal").wanted(Limit::AtMost(1.3));
        assert_eq!(line.to_string(), "- holds of 6 s: – × ideal; wanted: at most 1.3 (not measured)\n");
    }
}
