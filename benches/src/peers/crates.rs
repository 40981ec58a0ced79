//! The crates: named-lock and fd-lock, which stand on flock(2), and raw_sync, which stands on a process-shared mutex.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::thread::sleep;
use std::time::{Duration, Instant};

use named_lock::NamedLock;
use raw_sync::Timeout;
use raw_sync::locks::{LockImpl, LockInit};

use super::mapped::Mapped;
use super::{ASK_AGAIN_EVERY, Lock, Open, Site};

/// Asks until there is an answer, or the time has run out.
#[inline]
fn ask_again<T>(patience: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let answer = ask();
    if answer.is_some() {
        return answer;
    }
    let began = Instant::now();
    loop {
        let left = patience.checked_sub(began.elapsed())?;
        sleep(ASK_AGAIN_EVERY.min(left));
        let answer = ask();
        if answer.is_some() {
            return answer;
        }
    }
}

pub(super) struct Named(NamedLock);

impl Open for Named {
    fn open(site: &Site) -> Self {
        Self(NamedLock::with_path(site.file()).expect("a lock"))
    }
}

impl Lock for Named {
    #[inline]
    fn hold(&mut self, patience: Duration, work: &mut dyn FnMut()) -> bool {
        let Some(_guard) = ask_again(patience, || self.0.try_lock().ok()) else { return false };
        work();
        true
    }
}

pub(super) struct Fd(fd_lock::RwLock<File>);

impl Open for Fd {
    fn open(site: &Site) -> Self {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(site.file());
        Self(fd_lock::RwLock::new(file.expect("a file")))
    }
}

impl Lock for Fd {
    #[inline]
    fn hold(&mut self, patience: Duration, work: &mut dyn FnMut()) -> bool {
        // The work is done within the answer, because the guard borrows the lock.
        let work_once = || self.0.try_write().ok().map(|_guard| work());
        ask_again(patience, work_once).is_some()
    }
}

pub(super) struct Raw {
    lock: Box<dyn LockImpl>,
    /// Where it is.
    _memory: Mapped,
}

impl Open for Raw {
    fn prepare(site: &Site) {
        let memory = Mapped::open(site);
        // SAFETY: mapped memory, large enough, that nobody else uses yet; it protects no data.
        let made = unsafe { raw_sync::locks::Mutex::new(memory.address(), std::ptr::null_mut()) };
        made.expect("a lock");
    }

    fn open(site: &Site) -> Self {
        let memory = Mapped::open(site);
        // SAFETY: made by `prepare`, mapped as long as `self`.
        let opened = unsafe { raw_sync::locks::Mutex::from_existing(memory.address(), std::ptr::null_mut()) };
        Self { lock: opened.expect("a lock").0, _memory: memory }
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
