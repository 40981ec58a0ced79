//! [`ResourceLock`]: a handle on a named lock.
//!
//! | file | concept |
//! | --- | --- |
//! | `handle.rs` | the handle: what it is made of, what it can be asked, how a forked child adopts it |
//! | `options.rs` | how a lock is opened |
//! | `name_watch.rs` | noticing that the lock's file has lost its name |
//! | `host.rs` | the protocol's host on mapped memory and this kernel |
//! | `acquiring.rs` | a request that is polled (features `ring` and `std`) |
//! | `ring_wait.rs` | a wait that sleeps on a ring (feature `ring`) |
//! | `release.rs` | release, force-release, detach, remove |
//! | `guard.rs` | a hold that ends with its scope |
//! | `acquire.rs` | acquire, at once or by waiting |
//! | `wish.rs` | what a request says besides its seat |
//! | `request.rs` | a request with more to it than a timeout and an info |
//!
//! Invariants:
//! - whether a handle holds is read from the lock word, never from a flag: the handle holds if the word names its seat,
//!   and a seat belongs to one handle;
//! - the uncontended acquire and release make no system call, but for one look at the file's name per 100 ms;
//! - once a handle has noticed that its file has lost its name, it grants nothing on it any more: it waits for the old
//!   record's holder like any contender, retires the record, and continues with the file that has the name now.
//!
//! A crash anywhere in here leaves what [`crate::protocol`] and [`crate::record`] say of their steps.

mod acquire;
#[cfg(all(feature = "ring", feature = "std"))]
mod acquiring;
mod guard;
mod handle;
mod host;
mod name_watch;
mod options;
mod release;
mod request;
#[cfg(feature = "ring")]
mod ring_wait;
mod wish;

#[cfg(all(feature = "ring", feature = "std"))]
pub use acquiring::Acquiring;
pub use guard::Guard;
#[cfg(feature = "embedded-hal")]
pub(crate) use handle::Hold;
pub(crate) use handle::Latest;
pub use handle::ResourceLock;
pub use options::{DEFAULT_DIR, DEFAULT_MODE, OpenOptions};
pub(crate) use release::Unreleased;
pub use request::Request;
