#![doc = include_str!("../README.md")]
#![no_std]
// Marks each item that needs a feature. docs.rs has a nightly compiler; ci/docs builds the same.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(test)]
extern crate std;

mod device;
mod error;
mod guard;
#[cfg(feature = "embedded-hal")]
pub mod hal;
mod info;
mod lock;
mod log;
#[cfg(test)]
mod model;
mod moment;
mod name;
mod owner;
mod protocol;
mod record;
mod region;
mod snapshot;
mod sys;
mod timeout;
mod word;

pub use device::{DEVICE_PATH_CAPACITY, LockName};
pub use error::{DeviceError, Error, LockError, NotALock, Operation};
pub use guard::Guard;
pub use info::{Counters, Escaped, Grant, History, LockInfo, OffsetAt, Timestamp};
pub use lock::{DEFAULT_DIR, DEFAULT_MODE, OpenOptions, ResourceLock};
pub use name::{DIR_CAPACITY, FILE_PREFIX, NAME_CAPACITY, NameError};
pub use record::{Ending, HISTORY_CAPACITY, INFO_CAPACITY, RECORD_SIZE};
pub use snapshot::{Snapshot, Status};
pub use timeout::{Timeout, TimeoutError};
pub use word::Kind;
