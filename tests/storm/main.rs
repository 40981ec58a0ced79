//! A kill storm: processes get, work, unget and die at random, are stopped and continued, and have the lock removed,
//! forced and unlinked under them, while a checker in shared memory looks for overlaps and lost updates.
//!
//! `STORM_SECONDS` says for how long (3 by default), `STORM_SEED` which choices are made; both are printed.
#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod checker;
mod random;
mod scribble;
mod storm;
#[path = "../it/support.rs"]
mod support;
