//! resourcelock beside its peers, in interleaved rounds of one run.
//!
//! `cargo run --release [-- [--smoke | --long] [METRIC …]]` prints a Markdown table per metric: of all metrics, or of
//! those that are named. A run of all of them also writes `RESULTS.md`. With `--smoke`, everything runs for a very short
//! time; this shows that the benchmark works, and its numbers mean nothing. With `--long`, the metric `queue` also
//! measures holds of 6 s, which takes a few minutes more.

mod built;
mod machine;
mod metrics;
mod peers;
mod process;
mod samples;
mod seccomp;
mod shared;
mod table;
mod target;

use std::fs;
use std::process::ExitCode;

use machine::Machine;
use metrics::{Effort, METRICS, Metric};

fn main() -> ExitCode {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    if let Some(footprint) = metrics::footprint::child(&words) {
        return footprint;
    }
    let mut take = |flag: &str| {
        let count = words.len();
        words.retain(|word| word != flag);
        words.len() < count
    };
    let effort = match (take("--smoke"), take("--long")) {
        (false, false) => Effort::Full,
        (true, false) => Effort::Smoke,
        (false, true) => Effort::Long,
        (true, true) => {
            eprintln!("--smoke and --long exclude each other; give one of them");
            return ExitCode::from(2);
        }
    };
    if let Some(unknown) = words.iter().find(|word| !METRICS.iter().any(|metric| metric.word == word.as_str())) {
        eprintln!("{unknown}: no such metric; the metrics are:");
        METRICS.iter().for_each(|metric| eprintln!("  {:<12} {}", metric.word, metric.title));
        return ExitCode::from(2);
    }
    let chosen: Vec<_> =
        METRICS.iter().filter(|metric| words.is_empty() || words.iter().any(|word| word == metric.word)).collect();

    let machine = Machine::look(process::go_first()).to_string();
    println!("{machine}\n");
    let sections: Vec<String> = chosen.iter().map(|metric| section(metric, effort)).collect();
    if words.is_empty() && !matches!(effort, Effort::Smoke) {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/RESULTS.md");
        if let Err(error) = fs::write(path, report(&machine, &sections)) {
            eprintln!("{path}: cannot be written: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Runs one metric, and prints its results at once, because the whole run takes minutes.
fn section(metric: &Metric, effort: Effort) -> String {
    let section = format!("## {}\n\n{}", metric.title, (metric.run)(effort));
    println!("{section}");
    section
}

fn report(machine: &str, sections: &[String]) -> String {
    format!(
        "# Results\n\nWritten by `cargo run --release --manifest-path benches/Cargo.toml`; the headers of the files in \
         `benches/src/metrics` describe what is measured, and how.\n\nMachine: {machine}\n\nresourcelock is built with \
         the features `std` and `ring`. \"resourcelock, slices\" is the same guard in processes in which seccomp refuses \
         io_uring: a waiter sleeps in slices and examines the lock after each.\n\nRatios are ours ÷ the peer's: below 1, \
         ours takes less time (or, for throughput, achieves less). Each ratio is the median over the rounds of \"our \
         median ÷ the peer's median of the same round\".\n\nThe list below each table compares this run with the \
         project's targets.\n\n{}",
        sections.join("\n")
    )
}
