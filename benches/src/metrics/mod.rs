//! The metrics. Each has a file of its own, whose header describes what it measures and how.

mod command;
mod contended;
pub(crate) mod footprint;
mod handover;
mod opening;
mod queue;
mod recovery;
mod starvation;
mod timeouts;
mod uncontended;
mod waiting;

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Effort {
    /// Seconds in all.
    Smoke,
    /// Minutes in all.
    Full,
    /// As `Full`, and what takes minutes by itself.
    Long,
}

impl Effort {
    pub(crate) fn of<T>(self, full: T, smoke: T) -> T {
        match self {
            Self::Full | Self::Long => full,
            Self::Smoke => smoke,
        }
    }
}

pub(crate) struct Metric {
    /// The word that selects it on the command line.
    pub(crate) word: &'static str,
    pub(crate) title: &'static str,
    /// Measures it, and returns its tables, each with its targets and notes.
    pub(crate) run: fn(Effort) -> String,
}

pub(crate) const METRICS: &[Metric] = &[
    Metric { word: "uncontended", title: "1. Uncontended acquire and release", run: uncontended::run },
    Metric { word: "contended", title: "2. Throughput and fairness", run: contended::run },
    Metric { word: "handover", title: "3. Hand-over to a waiter", run: handover::run },
    Metric { word: "starvation", title: "4. Starvation by a greedy holder", run: starvation::run },
    Metric { word: "queue", title: "5. The longest wait of many processes", run: queue::run },
    Metric { word: "recovery", title: "6. Recovery from a killed holder", run: recovery::run },
    Metric { word: "timeouts", title: "7. Timeouts, and the cost of a wait", run: timeouts::run },
    Metric { word: "waiting", title: "8. The cost of many waiters", run: waiting::run },
    Metric { word: "opening", title: "9. Opening", run: opening::run },
    Metric { word: "command", title: "10. The command", run: command::run },
    Metric { word: "footprint", title: "11. Footprint", run: footprint::run },
];
