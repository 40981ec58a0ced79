//! A lock as the commands show it, whatever its file turns out to be.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use resourcelock::{
    Counters, DIR_CAPACITY, Denied, Error, FILE_PREFIX, Grant, Operation, ResourceLock, Snapshot, Status, Waiter,
};

/// What the file of a lock's name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// There is none.
    Nothing,
    Lock(Status),
    /// Not a lock, or not accessible.
    Unusable(Error),
    /// A file whose name is not UTF-8.
    NotText,
}

/// What is shown of a lock. Small, unlike a [`Snapshot`], because there may be thousands.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) name: String,
    pub(crate) found: Found,
    pub(crate) seat: Option<u32>,
    pub(crate) held_for: Option<Duration>,
    pub(crate) overdue: Option<Duration>,
    pub(crate) holder: Option<Grant>,
    pub(crate) last: Option<Grant>,
    pub(crate) waiters: Vec<Waiter>,
    pub(crate) has_waiters: bool,
    pub(crate) wants_handoff: bool,
    pub(crate) counters: Counters,
}

impl View {
    fn empty(name: String, found: Found) -> Self {
        Self {
            name,
            found,
            seat: None,
            held_for: None,
            overdue: None,
            holder: None,
            last: None,
            waiters: Vec::new(),
            has_waiters: false,
            wants_handoff: false,
            counters: Counters::default(),
        }
    }

    /// Of the lock `name`, which is valid. A lock that does not exist is shown as free and never held.
    pub(crate) fn new(name: &str, snapshot: Option<&Snapshot>) -> Self {
        let name = name.strip_prefix('/').unwrap_or(name).to_owned();
        let Some(snapshot) = snapshot else { return Self::empty(name, Found::Nothing) };
        Self {
            name,
            found: Found::Lock(snapshot.status()),
            seat: snapshot.seat(),
            held_for: snapshot.held_for(),
            overdue: snapshot.overdue(),
            holder: snapshot.holder(),
            last: snapshot.last_grant(),
            waiters: snapshot.waiters().to_vec(),
            has_waiters: snapshot.has_waiters(),
            wants_handoff: snapshot.wants_handoff(),
            counters: snapshot.counters(),
        }
    }

    pub(crate) fn is_locked(&self) -> bool {
        matches!(self.found, Found::Lock(Status::Held(_) | Status::HolderDied | Status::Corrupt))
    }
}

/// All locks of the directory, by name, and all other files that have a lock's file name.
///
/// # Errors
///
/// The directory is missing or cannot be read.
pub(crate) fn all(dir: &str) -> Result<Vec<View>, Error> {
    // No time of day is shown, so no time zone is looked up.
    let options = ResourceLock::options().dir(dir);
    let mut views = Vec::new();
    for name in names(dir)? {
        let Some(text) = name.to_str() else {
            views.push(View::empty(name.to_string_lossy().into_owned(), Found::NotText));
            continue;
        };
        match options.inspect(text) {
            Ok(snapshot) => views.push(View::new(text, Some(&snapshot))),
            // Removed since its name was read, or not a valid name.
            Err(Error::NotFound | Error::NameInvalid(_)) => {}
            Err(error) => views.push(View::empty(text.to_owned(), Found::Unusable(error))),
        }
    }
    Ok(views)
}

/// What follows this in the name of a file that a process has not finished making: no UTF-8 text has this byte.
const TEMPORARY: u8 = 0xff;

/// The names of the locks in the directory, in order, from their files' names.
pub(crate) fn names(dir: &str) -> Result<Vec<OsString>, Error> {
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => Error::DirectoryMissing,
        ErrorKind::PermissionDenied => Error::PermissionDenied(Denied::Directory),
        _ => Error::Os { operation: Operation::Open, errno: error.raw_os_error().unwrap_or(0) },
    };
    // The library refuses these for every lock.
    if dir.is_empty() || dir.len() > DIR_CAPACITY {
        return Err(Error::DirectoryInvalid);
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(Path::new(dir)).map_err(failed)? {
        let file = entry.map_err(failed)?.file_name();
        let name = file.as_bytes().strip_prefix(FILE_PREFIX.as_bytes());
        if let Some(name) = name.filter(|name| name.first() != Some(&TEMPORARY)) {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    names.sort();
    Ok(names)
}
