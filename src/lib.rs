#![doc = include_str!("../README.md")]
#![no_std]
// Marks each item that needs a feature. docs.rs has a nightly compiler; ci/docs builds the same.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(test)]
extern crate std;

mod cancel;
mod device;
mod error;
mod escape;
mod grant;
#[cfg(feature = "embedded-hal")]
pub mod hal;
mod lock;
mod log;
mod name;
mod protocol;
mod record;
pub mod reference;
mod region;
mod snapshot;
mod sys;
mod time;
mod timeout;
mod timestamp;
mod word;

pub use cancel::Cancel;
pub use device::LockName;
pub use error::{Denied, DeviceError, Error, LockError, NotALock, Operation, SeatError};
pub use escape::Escaped;
pub use grant::{Counters, Grant, History, HolderSummary, LockInfo, Previous, Waiter, Waiters};
#[cfg(all(feature = "ring", feature = "std"))]
pub use lock::Acquiring;
pub use lock::{DEFAULT_DIR, DEFAULT_MODE, Guard, OpenOptions, Request, ResourceLock};
pub use name::{DEVICE_PATH_CAPACITY, DIR_CAPACITY, FILE_PREFIX, NAME_CAPACITY, NameError};
pub use record::{Ending, HISTORY_CAPACITY, INFO_CAPACITY, RECORD_SIZE, WAITERS_CAPACITY};
pub use snapshot::{Snapshot, Status};
pub use timeout::{Timeout, TimeoutError};
pub use timestamp::{OffsetAt, Timestamp};
pub use word::Kind;
