//! The record in our memory: mapped, validated, and noticed when its file has lost its name.
//!
//! Invariants:
//! - a [`Region`]'s address never changes. When the lock's file was removed and another has its name, the new file is
//!   mapped *over* the old one, in one system call, so that threads that share a handle never see an address go away;
//! - that happens only after the old record's word says *retired*, so nobody holds by it and nobody can take it;
//! - no half-built record has ever a name: a new file is linked when it is complete;
//! - a retired record that still has its name (its remover died) is brought back by whoever opens it next, under the
//!   same right that removing takes. Its word stays retired until the rest is in place.
#![allow(unsafe_code)]

use core::mem::transmute;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicU32, Ordering, fence};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::error::{Error, NotALock, Operation};
use crate::moment::Moment;
use crate::record::{MAGIC, RECORD_SIZE, Record, VERSION, forget_what_differs};
use crate::sys::clock;
use crate::sys::file::{self, FileId, Making, Place, RemovalRight};
use crate::sys::futex;
use crate::sys::process::Process;
use crate::word::{State, Word};

/// How often opening starts again because the file was removed or replaced under it.
const TRIES: usize = 64;

/// A record at an address of ours, from when it was mapped until this is dropped.
struct Mapping(NonNull<Record>);

impl Mapping {
    /// Maps the first [`RECORD_SIZE`] bytes of the file: anywhere, or over the mapping `over`.
    ///
    /// A page may be larger: the kernel maps whole pages, with zeros behind the end of the file, and the same length at the
    /// same address is the same pages (mmap(2)).
    fn new(fd: BorrowedFd<'_>, over: Option<&Mapping>) -> Result<Self, Error> {
        let (address, flags) = match over {
            None => (null_mut(), MapFlags::SHARED),
            Some(over) => (over.0.as_ptr().cast(), MapFlags::SHARED | MapFlags::FIXED),
        };
        // SAFETY: either the kernel chooses a free address, or the range is exactly that of a mapping of ours, made by
        // this function with the same length and replaced by memory of the same kind: atomics for which every bit
        // pattern is valid. References into it stay valid throughout, because the replacement is one step.
        let mapped = unsafe { mmap(address, RECORD_SIZE, ProtFlags::READ | ProtFlags::WRITE, flags, fd, 0) };
        let mapped = mapped.map_err(|errno| Error::os(Operation::Map, errno))?;
        NonNull::new(mapped.cast()).map(Self).ok_or(Error::Os { operation: Operation::Map, errno: 0 })
    }

    fn record(&self) -> &Record {
        // SAFETY: the mapping is RECORD_SIZE bytes long, aligned to a page, and stays mapped as long as `self`. The
        // file behind it had that size when it was opened; a peer with write permission that truncates it raises
        // SIGBUS, against which no program that maps shared memory is safe. `Record` is atomics only, so that other
        // processes may write to it at any time.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is this mapping's, and no reference outlives `self`. An error would only leak it.
        let _ = unsafe { munmap(self.0.as_ptr().cast(), RECORD_SIZE) };
    }
}

/// A lock's record, attached to by name.
pub(crate) struct Region {
    mapping: Mapping,
    /// Device and inode of the mapped file, low word first; written and read under `busy`.
    id: [AtomicU32; 4],
    /// One while a thread looks at the name or changes what is mapped.
    busy: AtomicU32,
}

// SAFETY: the record is atomics, and what is mapped changes only as `Mapping::new` describes, one thread at a time.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// Attaches to the lock's record, making it first if there is none and `making` says how.
    pub(crate) fn open(place: &Place, making: Option<Making>, process: Process) -> Result<Self, Error> {
        let (_, id, mapping) = attach(place, making, process, None)?;
        let region = Self { mapping, id: Default::default(), busy: AtomicU32::new(0) };
        region.set_id(id);
        Ok(region)
    }

    #[inline]
    pub(crate) fn record(&self) -> &Record {
        self.mapping.record()
    }

    /// Whether the mapped file has lost the lock's name.
    pub(crate) fn has_lost_name(&self, place: &Place) -> bool {
        let _alone = self.alone();
        file::has_lost_name(place, self.id())
    }

    /// Replaces a record that is retired by the one that has the lock's name now. Waits for somebody who is just removing
    /// or bringing back that one, but no longer than `until`.
    pub(crate) fn reattach(
        &self,
        place: &Place,
        making: Option<Making>,
        process: Process,
        until: Option<Moment>,
    ) -> Result<(), Error> {
        let _alone = self.alone();
        let retired = |record: &Record| Word(record.word.load(Ordering::Relaxed)).state() == State::Retired;
        if !retired(self.record()) {
            // Another thread has been here.
            return Ok(());
        }
        let (fd, id, validated) = attach(place, making, process, until)?;
        // `self` goes on owning the address; the second mapping of it must not end it.
        core::mem::forget(Mapping::new(fd.as_fd(), Some(&self.mapping))?);
        self.set_id(id);
        drop(validated);
        Ok(())
    }

    /// Retires the record by `retire` and removes its file, if it still has the lock's name.
    pub(crate) fn remove(&self, place: &Place, retire: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        let id = {
            let _alone = self.alone();
            self.id()
        };
        match file::open_named(place)? {
            Some((fd, named)) if named == id => {
                let Some(right) = RemovalRight::obtain(fd.as_fd(), id, place, None)? else {
                    return Err(Error::NotFound);
                };
                // Asked first, so that one who may not remove it does not throw the holder off either.
                right.is_permitted()?;
                // In this order: a name that leads to a retired record is repaired by the next who opens it, while
                // a record without a name that could still be taken would be a second lock.
                retire()?;
                right.unlink().inspect_err(|_| self.unretire())
            }
            _ => Err(Error::NotFound),
        }
    }

    /// Has a record that was retired, but could not be removed, be a free lock again, with its history. Under the right to
    /// remove it, so that nobody makes it new meanwhile.
    fn unretire(&self) {
        let word = &self.record().word;
        let retired = Word(word.load(Ordering::Relaxed));
        if retired.state() == State::Retired {
            // Release: pairs with the Acquire of whoever takes the word next, for what we did before.
            let _ = word.compare_exchange(retired.0, retired.freed().0, Ordering::Release, Ordering::Relaxed);
        }
    }

    /// Makes the record new, empty and free, if its header was overwritten: for a forced unget, which is a person's word
    /// that whatever it says does not count. `true` if that was needed and has been done.
    pub(crate) fn repair(&self, place: &Place, process: Process) -> bool {
        let is_whole = || recognise(self.record()).is_ok() && self.record().header_is_whole();
        if is_whole() {
            return false;
        }
        let id = {
            let _alone = self.alone();
            self.id()
        };
        let Ok(Some((fd, named))) = file::open_named(place) else { return false };
        if named != id {
            return false;
        }
        match RemovalRight::obtain(fd.as_fd(), id, place, None) {
            Ok(Some(_right)) if !is_whole() => {
                renew(self.record(), process);
                // Whoever slept on what the word said before.
                futex::wake(&self.record().word, u32::MAX >> 1);
                true
            }
            _ => false,
        }
    }

    /// After a fork: whatever thread was busy, it is not in this process.
    pub(crate) fn forget_other_threads(&self) {
        self.busy.store(0, Ordering::Relaxed);
    }

    /// Excludes this handle's other threads.
    pub(crate) fn alone(&self) -> Alone<'_> {
        // Acquire: pairs with the Release in `Alone::drop`.
        while self.busy.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
            clock::yield_to_others();
        }
        Alone(&self.busy)
    }

    fn id(&self) -> FileId {
        let [dev, dev_high, ino, ino_high] = self.id.each_ref().map(|word| u64::from(word.load(Ordering::Relaxed)));
        FileId { dev: dev | dev_high << 32, ino: ino | ino_high << 32 }
    }

    fn set_id(&self, id: FileId) {
        let words = [id.dev as u32, (id.dev >> 32) as u32, id.ino as u32, (id.ino >> 32) as u32];
        for (cell, word) in self.id.iter().zip(words) {
            cell.store(word, Ordering::Relaxed);
        }
    }
}

pub(crate) struct Alone<'a>(&'a AtomicU32);

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        // Release: pairs with the Acquire in `Region::alone`.
        self.0.store(0, Ordering::Release);
    }
}

/// Opens or makes the file that has the lock's name, maps it and validates it.
fn attach(
    place: &Place,
    making: Option<Making>,
    process: Process,
    until: Option<Moment>,
) -> Result<(OwnedFd, FileId, Mapping), Error> {
    for _ in 0..TRIES {
        let Some((fd, id)) = file::open_named(place)? else {
            let made = file::create(place, making.ok_or(Error::NotFound)?, |fd| {
                let mapping = Mapping::new(fd, None)?;
                initialise(mapping.record(), process);
                Ok(mapping)
            })?;
            match made {
                // Whoever may have removed it since has retired it, as they do with any that was opened.
                Some(made) => return Ok(made),
                None => continue,
            }
        };
        let mapping = Mapping::new(fd.as_fd(), None)?;
        let record = mapping.record();
        recognise(record)?;
        let retired = || Word(record.word.load(Ordering::Acquire)).state() == State::Retired;
        if retired() || is_of_another_boot(record, fd.as_fd()) {
            let Some(_right) = RemovalRight::obtain(fd.as_fd(), id, place, until)? else { continue };
            // Asked again under the right: somebody may have done it meanwhile.
            if retired() || is_of_another_boot(record, fd.as_fd()) {
                renew(record, process);
            }
        }
        // Only now: whoever died while it made the record new has left it retired, and its header half written.
        if !record.header_is_whole() {
            return Err(Error::Corrupt);
        }
        return Ok((fd, id, mapping));
    }
    Err(Error::Busy)
}

/// How often a copy is taken again because just the newest grant was being written.
const COPIES: usize = 8;

/// A copy of the lock's record, validated, and whether whoever opens the lock makes it new first: it was removed, or is of
/// another boot.
///
/// By reading and not by mapping: that needs no permission to write, changes nothing, waits for nobody, and a file that is
/// cut short meanwhile is an error and not SIGBUS.
pub(crate) fn copy(place: &Place) -> Result<(Record, bool), Error> {
    let fd = file::open_named_to_read(place)?.ok_or(Error::NotFound)?;
    let mut tries = 0;
    let record = loop {
        let mut bytes = file::read_record(&fd)?;
        // SeqCst: everything of the second reading comes after everything of the first.
        fence(Ordering::SeqCst);
        forget_what_differs(&mut bytes, &file::read_record(&fd)?);
        // SAFETY: the sizes agree, or this would not compile, and a `Record` is integers for which every bit pattern is
        // valid.
        let record = unsafe { transmute::<[u8; RECORD_SIZE], Record>(bytes) };
        tries += 1;
        let word = Word(record.word.load(Ordering::Relaxed));
        // Found at the first try, but for a lock that is granted all the time.
        if tries == COPIES || record.report(record.number_of(word)).is_some() || record.newest().is_none() {
            break record;
        }
    };
    recognise(&record)?;
    let is_retired = Word(record.word.load(Ordering::Relaxed)).state() == State::Retired;
    if is_retired || is_of_another_boot(&record, fd.as_fd()) {
        return Ok((record, true));
    }
    if record.header_is_whole() { Ok((record, false)) } else { Err(Error::Corrupt) }
}

/// Removes the file that has the lock's name though it is no lock that this build can use, as long as it is a file.
pub(crate) fn remove_unusable(place: &Place) -> Result<(), Error> {
    if let Ok(Some((fd, id))) = file::open_named(place) {
        if let Some(right) = RemovalRight::obtain(fd.as_fd(), id, place, None)? {
            let mapping = Mapping::new(fd.as_fd(), None)?;
            // It may have been a lock that somebody scribbled over: those who still have it open must leave it, whatever
            // its word says now. Relaxed: the word is all that they look at.
            mapping.record().word.store(Word::free(0).retired().0, Ordering::Relaxed);
            futex::wake(&mapping.record().word, u32::MAX >> 1);
            return right.unlink();
        }
    }
    file::unlink_unusable(place)
}

/// Makes a record new, empty and free, under the right to remove it.
fn renew(record: &Record, process: Process) {
    // Retired first, also where a reboot or a scribbler ended it: whoever else has it mapped must not take it while it is
    // made new. If we die in here, the next one to open it starts over.
    record.word.store(Word::free(0).retired().0, Ordering::Relaxed);
    // Release: whoever sees a field of the new record also sees that it was retired.
    fence(Ordering::Release);
    record.clear();
    initialise(record, process);
}

/// Makes a cleared record a free lock.
fn initialise(record: &Record, process: Process) {
    let now = clock::monotonic();
    // Any number will do, as long as it is another one for the next record of this name: 16 ns are not enough to make one.
    let origin = (now.sec as u32).wrapping_mul(62_500_000).wrapping_add(now.nsec >> 4);
    record.initialise(origin, file::boot_id().unwrap_or_default(), process.pid_ns(), process.time_ns());
}

/// Checks that the file is a record that this build understands.
fn recognise(record: &Record) -> Result<(), Error> {
    let load = |cell: &AtomicU32| cell.load(Ordering::Relaxed);
    let magic = load(&record.magic);
    if magic == MAGIC.swap_bytes() {
        return Err(Error::NotALock(NotALock::WrongEndianness));
    }
    if magic != MAGIC {
        return Err(Error::NotALock(NotALock::WrongMagic));
    }
    let version = load(&record.version);
    if version != VERSION {
        return Err(Error::VersionMismatch { found: version });
    }
    if load(&record.size) != RECORD_SIZE as u32 {
        return Err(Error::Corrupt);
    }
    Ok(())
}

/// Whether the record was made before the machine was booted: then nobody can hold it, whatever it says.
fn is_of_another_boot(record: &Record, fd: BorrowedFd<'_>) -> bool {
    let recorded = record.boot_id.each_ref().map(|word| word.load(Ordering::Relaxed));
    if recorded == [0; 4] || file::known_boot_id() == Some(recorded) {
        return false;
    }
    // Asking for the boot costs more than all the rest of opening, so not where no file survives one.
    file::is_persistent(fd) && file::boot_id().is_some_and(|current| current != recorded)
}
