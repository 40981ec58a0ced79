//! Buses that hold a lock: against mocks, and on a simulated bus that real processes share.
#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bus;
mod interleaving;
mod passing;
mod recovery;
mod session;
#[path = "../it/support.rs"]
mod support;
