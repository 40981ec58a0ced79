//! The locks that are compared: ours and its peers, each behind the same small trait.
//!
//! A file each. What a peer cannot do by itself its file makes up for as a user of it would, and says so: a crate
//! without a timeout is asked again every millisecond, flock(2) is interrupted by a timer, as flock(1) does it.

mod crates;
mod flock;
mod futex;
mod mapped;
mod ours;
pub(crate) mod reference;
mod robust;
mod semaphore;

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Where all of them have their files: a tmpfs.
const DIR: &str = "/dev/shm";

/// How often a crate is asked again that cannot wait with a timeout.
const ASK_AGAIN_EVERY: Duration = Duration::from_millis(1);

/// A lock, as one process has it open.
pub(crate) trait Lock {
    /// Gets the lock, does the work, and ungets. `false`: the time ran out, and nothing was done.
    fn hold(&mut self, patience: Duration, work: &mut dyn FnMut()) -> bool;

    /// Gets and ungets that many times, with a timeout of a second. A method of its own so that the loop is compiled
    /// with the peer's own calls in it, and none through a table.
    fn pairs(&mut self, count: u32) {
        for _ in 0..count {
            assert!(self.hold(Duration::from_secs(1), &mut || ()), "timed out, with nobody else there");
        }
    }
}

/// How a peer is made and opened.
trait Open: Lock + Sized + 'static {
    /// Makes what processes are going to share. Called once, before the others open it.
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
}

impl Peer {
    const fn of<T: Open>(name: &'static str) -> Self {
        Self { name, prepare: T::prepare, open: |site| Box::new(T::open(site)) }
    }

    /// A lock of this kind that no other process knows yet.
    pub(crate) fn make(self) -> Site {
        let site = Site::new();
        (self.prepare)(&site);
        site
    }

    /// Opens a lock that was made.
    pub(crate) fn open(self, site: &Site) -> Box<dyn Lock> {
        (self.open)(site)
    }
}

pub(crate) const GUARD: Peer = Peer::of::<ours::Guarded>("resourcelock, guard");
pub(crate) const CALLS: Peer = Peer::of::<ours::Called>("resourcelock, get_lock");
pub(crate) const TIMED_SEMAPHORE: Peer = Peer::of::<semaphore::Timed>("glibc semaphore, timeout");
pub(crate) const SEMAPHORE: Peer = Peer::of::<semaphore::Untimed>("glibc semaphore, no timeout");
pub(crate) const ROBUST: Peer = Peer::of::<robust::Mutex>("robust mutex, timeout");
pub(crate) const FLOCK: Peer = Peer::of::<flock::Flock>("flock(2)");
pub(crate) const NAMED_LOCK: Peer = Peer::of::<crates::Named>("named-lock 0.4");
pub(crate) const FD_LOCK: Peer = Peer::of::<crates::Fd>("fd-lock 4.0");
pub(crate) const RAW_SYNC: Peer = Peer::of::<crates::Raw>("raw_sync 0.1, timeout");
pub(crate) const FUTEX: Peer = Peer::of::<futex::Mutex>("bare futex");

/// Name of the Python reference in the tables.
pub(crate) const REFERENCE: &str = "reference (cjnfuncs)";

/// The names that one lock has in the file system, whoever makes it. They go away with this.
pub(crate) struct Site {
    name: String,
}

impl Site {
    pub(crate) fn new() -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        Self { name: format!("bench-{}-{count}", std::process::id()) }
    }

    /// That of another process of this program. Never dropped: the names are the other's to take away.
    pub(crate) fn of(name: &str) -> std::mem::ManuallyDrop<Self> {
        std::mem::ManuallyDrop::new(Self { name: name.to_owned() })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A file for a peer that wants one.
    pub(crate) fn file(&self) -> PathBuf {
        PathBuf::from(format!("{DIR}/{}.lock", self.name))
    }

    /// Takes the names away.
    pub(crate) fn clear(&self) {
        for path in [
            self.file(),
            // Ours, glibc's semaphore, and the reference's shared memory.
            PathBuf::from(format!("{DIR}/resourcelock.{}", self.name)),
            PathBuf::from(format!("{DIR}/sem.{}", self.name)),
            PathBuf::from(format!("{DIR}/{}", self.name)),
        ] {
            // Most of them are not there.
            let _ = fs::remove_file(path);
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // Forked children end without dropping anything, so this is the one that made them.
        self.clear();
    }
}
