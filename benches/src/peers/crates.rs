//! The crates named-lock and fd-lock, which use flock(2), and raw_sync, which uses a process-shared mutex.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::thread::sleep;
use std::time::{Duration, Instant};

use named_lock::NamedLock;
use raw_sync::Timeout;
use raw_sync::locks::{LockImpl, LockInit};

use super::mapped::Mapped;
use super::{Lock, Open, POLL_EVERY, Site};

/// Polls until `ask` returns a value, or the time has run out.
#[inline]
fn poll<T>(patience: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let answer = ask();
    if answer.is_some() {
        return answer;
    }
    let began = Instant::now();
    loop {
        let left = patience.checked_sub(began.elapsed())?;
        sleep(POLL_EVERY.min(left));
        let answer = ask();
        if answer.is_some() {
            return answer;
        }
    }
}

pub(super) struct Named(NamedLock);

impl Open for Named {
    fn open(site: &Site) -> Self {
        Self(NamedLock::with_path(site.file()).expect("the lock opens"))
    }
}

impl Lock for Named {
    #[inline]
    fn hold(&mut self, patience: Duration, work: &mut dyn FnMut()) -> bool {
        let Some(_guard) = poll(patience, || self.0.try_lock().ok()) else { return false };
        work();
        true
    }
}

pub(super) struct Fd(fd_lock::RwLock<File>);

impl Open for Fd {
    fn open(site: &Site) -> Self {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(site.file());
        Self(fd_lock::RwLock::new(file.expect("the file opens")))
    }
}

impl Lock for Fd {
    #[inline]
    fn hold(&mut self, patience: Duration, work: &mut dyn FnMut()) -> bool {
        // The work runs inside the closure, because the guard borrows the lock.
        let work_once = || self.0.try_write().ok().map(|_guard| work());
        poll(patience, work_once).is_some()
    }
}

pub(super) struct Raw {
    lock: Box<dyn LockImpl>,
    /// The memory of `lock`.
    _memory: Mapped,
}

impl Open for Raw {
    fn prepare(site: &Site) {
        let memory = Mapped::open(site);
        // SAFETY: mapped memory, large enough, that no other process uses yet; it protects no data.
        let made = unsafe { raw_sync::locks::Mutex::new(memory.address(), std::ptr::null_mut()) };
        made.expect("the lock is created");
    }

    fn open(site: &Site) -> Self {
        let memory = Mapped::open(site);
        // SAFETY: made by `prepare`, mapped as long as `self`.
        let opened = unsafe { raw_sync::locks::Mutex::from_existing(memory.address(), std::ptr::null_mut()) };
        Self { lock: opened.expect("the lock opens").0, _memory: memory }
    }
}

impl Lock for Raw {
    #[inline]
    fn hold(&mut self, patience: Duration, work: &mut dyn FnMut()) -> bool {
        let Ok(_guard) = self.lock.try_lock(Timeout::Val(patience)) else { return false };
        work();
        true
    }
}
