//! What is measured: a file per metric, which says how.

mod command;
mod contended;
pub(crate) mod footprint;
mod handover;
mod opening;
mod recovery;
mod starvation;
mod timeouts;
mod uncontended;

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Effort {
    /// Minutes in all.
    Full,
    /// Seconds in all.
    Smoke,
}

impl Effort {
    pub(crate) fn of<T>(self, full: T, smoke: T) -> T {
        match self {
            Self::Full => full,
            Self::Smoke => smoke,
        }
    }
}

pub(crate) struct Metric {
    /// What selects it on the command line.
    pub(crate) word: &'static str,
    pub(crate) title: &'static str,
    /// Its table, or tables, with what there is to say about them.
    pub(crate) run: fn(Effort) -> String,
}

pub(crate) const METRICS: &[Metric] = &[
    Metric { word: "uncontended", title: "1. Get and unget, nobody else there", run: uncontended::run },
    Metric { word: "contended", title: "2. Throughput and fairness", run: contended::run },
    Metric { word: "handover", title: "3. Hand-over to a waiter", run: handover::run },
    Metric { word: "starvation", title: "4. Starvation by a greedy holder", run: starvation::run },
    Metric { word: "recovery", title: "5. Recovery from a killed holder", run: recovery::run },
    Metric { word: "timeouts", title: "6. Timeouts, and what waiting costs", run: timeouts::run },
    Metric { word: "opening", title: "7a. Opening", run: opening::run },
    Metric { word: "command", title: "7b. The command `state`, as a whole", run: command::run },
    Metric { word: "footprint", title: "8. Footprint", run: footprint::run },
];
