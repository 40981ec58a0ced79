//! A kill storm: processes acquire, work, release and die at random, are stopped and continued, and have the lock removed,
//! force-released and unlinked while they use it. A checker in shared memory looks for overlaps and lost updates.
//!
//! `STORM_SECONDS` says for how long (3 by default), `STORM_SEED` which choices are made; both are printed.
#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod checker;
mod random;
mod scribble;
mod storm;
#[path = "../it/support.rs"]
mod support;
