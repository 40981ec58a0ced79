//! What several processes see of one lock. Every process here is a real one: forked, and killed, where a test says so.
#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod api;
mod counter;
mod death;
mod device;
mod fairness;
mod fast_path;
mod files;
mod force;
mod fork;
mod info;
mod layout;
mod old_kernel;
mod snapshot;
mod support;
mod timeouts;
mod vanished;
