//! The few kernel calls this crate makes, and the policy for their errors.
//!
//! Everything that depends on the platform, and every `unsafe` block, is below this module. Nothing here knows the
//! protocol.

pub(crate) mod clock;
pub(crate) mod device;
mod fcntl;
pub(crate) mod file;
pub(crate) mod fork;
pub(crate) mod futex;
pub(crate) mod mapping;
pub(crate) mod mutex;
#[cfg(target_pointer_width = "32")]
mod old_time;
pub(crate) mod path;
pub(crate) mod process;
pub(crate) mod removal;
#[cfg(feature = "ring")]
pub(crate) mod ring;
pub(crate) mod seat;
mod syscall;
mod thread;
