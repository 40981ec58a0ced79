//! The locks that are compared: ours and its peers, each behind the same trait, [`Lock`].
//!
//! Each has a file of its own. Where a peer lacks a timeout, its file adds one as a user would: a crate is polled every
//! millisecond, and a timer interrupts flock(2), as in flock(1).

mod crates;
mod flock;
mod futex;
mod mapped;
mod ours;
pub(crate) mod reference;
mod robust;
mod semaphore;

use std::fs;
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::process::Child;
use crate::seccomp;

/// The directory of all files: a tmpfs.
const DIR: &str = "/dev/shm";

/// How often a crate without a timeout is polled.
const POLL_EVERY: Duration = Duration::from_millis(1);

/// What a holder records about itself, where the lock can record it.
const INFO: &str = "sixty-four bytes that name the holder, its sensor, and its task.";
const _: () = assert!(INFO.len() == 64);

/// Returns [`INFO`]. The compiler does not know its length, as with a text that a program composes.
#[inline]
fn info() -> &'static str {
    black_box(INFO)
}

/// A lock, as one process has it open.
pub(crate) trait Lock {
    /// Acquires the lock, runs `work`, and releases. Returns `false` if the time ran out; `work` has not run then.
    fn hold(&mut self, patience: Duration, work: &mut dyn FnMut()) -> bool;

    /// Acquires and releases `count` times, with a timeout of a second. It is a method of the trait so that each peer gets
    /// a loop of its own, with direct calls.
    fn pairs(&mut self, count: u32) {
        for _ in 0..count {
            assert!(self.hold(Duration::from_secs(1), &mut || ()), "an uncontended acquire timed out");
        }
    }
}

/// How a peer is made and opened.
trait Open: Lock + Sized + 'static {
    /// Creates what the processes share. Called once, before any other process opens it.
    fn prepare(site: &Site) {
        drop(Self::open(site));
    }

    /// Opens it in this process.
    fn open(site: &Site) -> Self;
}

/// A kind of lock.
#[derive(Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    prepare: fn(&Site),
    open: fn(&Site) -> Box<dyn Lock>,
    /// Whether its processes are refused io_uring.
    is_without_ring: bool,
}

impl Peer {
    const fn of<T: Open>(name: &'static str) -> Self {
        Self { name, prepare: T::prepare, open: |site| Box::new(T::open(site)), is_without_ring: false }
    }

    /// The same peer in processes that are refused io_uring.
    const fn without_ring(self, name: &'static str) -> Self {
        Self { name, is_without_ring: true, ..self }
    }

    /// Creates a lock of this kind, under a name that is not in use.
    pub(crate) fn make(self) -> Site {
        let site = Site::new();
        (self.prepare)(&site);
        site
    }

    /// Opens a lock that [`make`](Self::make) has created.
    pub(crate) fn open(self, site: &Site) -> Box<dyn Lock> {
        (self.open)(site)
    }

    /// Forks a process that uses this peer: it runs `body` and exits.
    pub(crate) fn fork(self, body: impl FnOnce()) -> Child {
        Child::fork(move || {
            if self.is_without_ring {
                seccomp::refuse_io_uring();
            }
            body();
        })
    }
}

pub(crate) const GUARD: Peer = Peer::of::<ours::Guarded>("resourcelock, guard");
/// The guard, in processes that wait without a ring. Only processes of [`Peer::fork`] do; the main process has its rings.
pub(crate) const SLICES: Peer = GUARD.without_ring("resourcelock, slices");
pub(crate) const CALLS: Peer = Peer::of::<ours::Called>("resourcelock, get_lock");
pub(crate) const TIMED_SEMAPHORE: Peer = Peer::of::<semaphore::Timed>("glibc semaphore, timeout");
pub(crate) const SEMAPHORE: Peer = Peer::of::<semaphore::Untimed>("glibc semaphore, no timeout");
pub(crate) const ROBUST: Peer = Peer::of::<robust::Mutex>("robust mutex, timeout");
pub(crate) const FLOCK: Peer = Peer::of::<flock::Flock>("flock(2)");
pub(crate) const NAMED_LOCK: Peer = Peer::of::<crates::Named>("named-lock 0.4");
pub(crate) const FD_LOCK: Peer = Peer::of::<crates::Fd>("fd-lock 4.0");
pub(crate) const RAW_SYNC: Peer = Peer::of::<crates::Raw>("raw_sync 0.1, timeout");
pub(crate) const FUTEX: Peer = Peer::of::<futex::Mutex>("bare futex");
pub(crate) const CLOCKED_FUTEX: Peer = Peer::of::<futex::Clocked>("bare futex, clock, 64-byte info");
/// Not a lock; for the cost of opening only.
pub(crate) const PAGE: Peer = Peer::of::<mapped::Page>("open, map and touch one page");

/// Name of the Python reference in the tables.
pub(crate) const REFERENCE: &str = "reference (cjnfuncs)";

/// The names that one lock has in the file system. Dropping the site removes its files.
pub(crate) struct Site {
    name: String,
}

impl Site {
    pub(crate) fn new() -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        Self { name: format!("bench-{}-{count}", std::process::id()) }
    }

    /// The site of another process of this program. It is never dropped, because the other process removes the files.
    pub(crate) fn of(name: &str) -> std::mem::ManuallyDrop<Self> {
        std::mem::ManuallyDrop::new(Self { name: name.to_owned() })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The file of a peer that needs one.
    pub(crate) fn file(&self) -> PathBuf {
        PathBuf::from(format!("{DIR}/{}.lock", self.name))
    }

    /// Removes the files.
    pub(crate) fn clear(&self) {
        for path in [
            self.file(),
            // Ours, glibc's semaphore, and the reference's shared memory.
            PathBuf::from(format!("{DIR}/resourcelock.{}", self.name)),
            PathBuf::from(format!("{DIR}/sem.{}", self.name)),
            PathBuf::from(format!("{DIR}/{}", self.name)),
        ] {
            // Most of them do not exist.
            let _ = fs::remove_file(path);
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // Forked children exit without dropping anything, so only the process that created the files gets here.
        self.clear();
    }
}
