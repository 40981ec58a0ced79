//! The few kernel calls this crate makes, and the policy for their errors.
//!
//! Everything that depends on the platform lives below this module. Nothing here knows the record or the protocol.

pub(crate) mod clock;
pub(crate) mod device;
pub(crate) mod file;
pub(crate) mod futex;
pub(crate) mod liveness;
pub(crate) mod process;
