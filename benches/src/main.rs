//! resourcelock beside its peers, in interleaved rounds of one run.
//!
//! `cargo run --release [-- [--smoke] [METRIC …]]` prints a Markdown table per metric: all of them, or those named. A
//! run of all of them writes `RESULTS.md` too. `--smoke` does everything for as short as makes sense: it shows that the
//! benchmark works, and its numbers mean nothing.

mod built;
mod machine;
mod metrics;
mod peers;
mod process;
mod samples;
mod shared;
mod table;

use std::fs;
use std::process::ExitCode;

use machine::Machine;
use metrics::{Effort, METRICS, Metric};

fn main() -> ExitCode {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    if let Some(footprint) = metrics::footprint::child(&words) {
        return footprint;
    }
    let is_smoke = words.iter().any(|word| word == "--smoke");
    words.retain(|word| word != "--smoke");
    if let Some(unknown) = words.iter().find(|word| !METRICS.iter().any(|metric| metric.word == word.as_str())) {
        eprintln!("there is no metric {unknown}; there are:");
        METRICS.iter().for_each(|metric| eprintln!("  {:<12} {}", metric.word, metric.title));
        return ExitCode::from(2);
    }
    let chosen: Vec<_> =
        METRICS.iter().filter(|metric| words.is_empty() || words.iter().any(|word| word == metric.word)).collect();

    let machine = Machine::look(process::go_first()).to_string();
    println!("{machine}\n");
    let effort = if is_smoke { Effort::Smoke } else { Effort::Full };
    let sections: Vec<String> = chosen.iter().map(|metric| section(metric, effort)).collect();
    if words.is_empty() && !is_smoke {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/RESULTS.md");
        if let Err(error) = fs::write(path, report(&machine, &sections)) {
            eprintln!("writing RESULTS.md failed: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Runs one metric, and prints what it found at once: the whole takes minutes.
fn section(metric: &Metric, effort: Effort) -> String {
    let section = format!("## {}\n\n{}", metric.title, (metric.run)(effort));
    println!("{section}");
    section
}

fn report(machine: &str, sections: &[String]) -> String {
    format!(
        "# Results\n\nWritten by `cargo run --release --manifest-path benches/Cargo.toml`; what is measured, and how, is \
         said in `benches/src/metrics`.\n\nMachine: {machine}\n\nRatios are ours ÷ the peer's: below 1 we take less time \
         (or, for throughput, get less done). Each is the median over the rounds of \"our median ÷ the peer's median of \
         the same round\".\n\n{}",
        sections.join("\n")
    )
}
