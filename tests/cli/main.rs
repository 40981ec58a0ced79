//! The command line tool, driven as a user drives it: words in; lines, stderr and exit status out.
//!
//! Every test has a directory of its own, so that none meets a lock of another or of the system. Nothing waits for time
//! to pass where there is an event to wait for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

mod changes;
#[cfg(feature = "embedded-hal")]
mod driver;
mod generate;
mod history;
mod json;
mod list;
mod namespaces;
mod output;
mod run;
mod signals;
mod state;
mod terminal;
mod trace;
mod unusable;
mod usage;
mod wait_and_remove;
mod words;
