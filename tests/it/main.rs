//! What several processes see of one lock. Every process here is a real one: forked, and killed, where a test says so.
#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod api;
mod containers;
mod counter;
mod death;
mod device;
mod fairness;
mod fast_path;
mod faults;
mod files;
mod force;
mod fork;
mod hazards;
mod info;
mod layout;
mod old_kernel;
mod seat;
mod snapshot;
mod support;
mod timeouts;
mod vanished;
mod waiting;
