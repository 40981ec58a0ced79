//! The only import of atomics.
//!
//! The lock word's protocol is checked by a model that runs the same source with other atomics; this is where the two
//! part. The record itself is mapped memory and always uses the machine's own.

pub(crate) use core::sync::atomic::{AtomicU32, Ordering};
