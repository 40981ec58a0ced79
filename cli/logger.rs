//! The lines of `-v` and `-vv`: what the library logs, on stderr, in the reference's form.

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::output;

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Debug
    }

    /// The library escapes what it shows.
    fn log(&self, record: &Record<'_>) {
        output::tell(&format!("resourcelock - {}: {}\n", record.level(), record.args()));
    }

    fn flush(&self) {}
}

/// Logs nothing for no `-v`, infos for one, everything for two or more.
pub(crate) fn install(verbose: u8) {
    let level = match verbose {
        0 => return,
        1 => LevelFilter::Info,
        2.. => LevelFilter::Debug,
    };
    // There is no other logger that could be in the way.
    if log::set_logger(&Stderr).is_ok() {
        log::set_max_level(level);
    }
}
