//! A lock's record, attached to by name, and this handle's seat in it.
//!
//! Invariants:
//! - when the lock's file was removed and another has its name, the new file is attached to only after the old record's
//!   word says *retired*, and the old one stays mapped: a thread that was preempted while it acquired the old one fails;
//! - no half-built record ever has a name: a new file is linked when it is complete;
//! - a retired record that still has its name (its remover died) is revived by the next process that opens it, under the
//!   right to remove it. Its word stays retired until the rest is in place;
//! - [`Region::seat`] is zero while the record is being replaced. Whoever loads the record first and the seat second never
//!   has the new record with the old one's seat, which is nobody's there, or another handle's (see `lock/acquire.rs`).

use core::ffi::c_void;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering, fence};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::error::{Error, NotALock, SeatError};
use crate::protocol::{self, Host, Refused, SeatHost};
use crate::record::{MAGIC, MAY_BREAK, RECORD_SIZE, Record, VERSION, forget_what_differs};
use crate::sys::clock;
use crate::sys::file::{self, Again, FileId, Making, Surroundings};
use crate::sys::fork;
use crate::sys::futex;
use crate::sys::mapping::{Mapping, record_of};
use crate::sys::mutex::{Locked, ThreadMutex};
use crate::sys::path::Place;
use crate::sys::process::Process;
use crate::sys::removal::{Force, RemovalRight};
#[cfg(feature = "ring")]
use crate::sys::ring::FileWatch;
use crate::sys::seat::{self, IdleProbe, Pin, Probe, SeatDescriptor};
use crate::time::Moment;
use crate::word::{Fate, State, Word};

/// How often opening starts again because the file was removed or replaced meanwhile.
const TRIES: usize = 64;

/// Which file is attached, and where the process was when it attached.
pub(crate) struct Attached {
    id: FileId,
    surroundings: Surroundings,
    /// The seat's descriptor, of a handle that keeps it.
    descriptor: Option<SeatDescriptor>,
    /// The descriptor by which the record was opened, kept to probe seats with: a file that has lost its name could not be
    /// opened again. `None` while a wait uses it. It has no lock of its own, so children that inherit it do no harm.
    probe: Option<IdleProbe>,
}

pub(crate) struct Region {
    mapping: Mapping,
    /// Locked by a thread that looks at the file's name or changes what is attached.
    attached: ThreadMutex<Attached>,
    /// This handle's seat; zero if it has none.
    seat: AtomicU32,
    /// The address of the [`Pin`] that keeps the seat; null if there is none.
    pin: AtomicPtr<c_void>,
    #[cfg(feature = "ring")]
    file_watch: FileWatch,
    part: Part,
}

/// Whether a handle takes part, and so needs a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Takes {
        /// Whether it keeps the seat's descriptor, to carry a hold across exec.
        keep_descriptor: bool,
    },
    /// It force-releases or removes, and never acquires.
    Administers,
}

impl Region {
    /// Attaches to the lock's record, making it first if there is none and `making` says how; and takes a seat.
    pub(crate) fn open(place: &Place, making: Option<Making>, process: Process, part: Part) -> Result<Self, Error> {
        let (file, taken) = attach(place, making, process, None, part)?;
        let surroundings = Surroundings::of(place, process.view());
        let region = Self {
            mapping: file.mapping,
            attached: ThreadMutex::new(Attached {
                id: file.id,
                surroundings,
                descriptor: None,
                probe: Probe::new(file.fd, file.id).put_aside(),
            }),
            seat: AtomicU32::new(0),
            pin: AtomicPtr::new(null_mut()),
            #[cfg(feature = "ring")]
            file_watch: FileWatch::new(),
            part,
        };
        if let Some(taken) = taken {
            region.sit(&mut region.attached.lock(), taken);
        }
        Ok(region)
    }

    #[inline]
    pub(crate) fn record(&self) -> &Record {
        self.mapping.record()
    }

    /// This handle's seat; zero if it has none, as in a forked child that has not yet used it.
    #[inline]
    pub(crate) fn seat(&self) -> u32 {
        // Acquire: pairs with the Release in `sit` and `reattach`, so that whoever sees the new seat uses the new record.
        self.seat.load(Ordering::Acquire)
    }

    /// Keeps a seat that was just taken, and gives up the one before.
    fn sit(&self, attached: &mut Attached, Taken { seat, pin, descriptor }: Taken) {
        let before = self.pin.swap(pin.into_address(), Ordering::Relaxed);
        // Release: pairs with the Acquire in `seat`.
        self.seat.store(seat, Ordering::Release);
        // After the new one was taken: this process is never without a seat while it has one.
        attached.descriptor = descriptor;
        drop(Pin::from_address(before));
    }

    /// Takes a seat if this handle has none. Only a forked child needs that.
    ///
    /// # Errors
    ///
    /// Those of opening the record by name again, which may not be possible any more (after setuid, chroot or EMFILE);
    /// [`Error::NotFound`] if the name leads elsewhere; [`Error::Busy`] if other threads do not let it, until `until`.
    #[cold]
    pub(crate) fn ensure_seat(
        &self,
        place: &Place,
        making: Option<Making>,
        process: Process,
        until: Option<Moment>,
    ) -> Result<(), Error> {
        let mut attached = self.attached.lock_until(until).ok_or(Error::Busy)?;
        if self.seat() != 0 {
            return Ok(());
        }
        let id = attached.id;
        let taken = match file::open_again(place, id, Again::ToProbe)? {
            Some(witness) => take_seat(place, id, self.record(), witness.as_fd(), process, self.part)?,
            None => None,
        };
        match taken {
            Some(taken) => self.sit(&mut attached, taken),
            // The file was removed or replaced, so nobody can take a seat on it any more. This handle holds nothing, and does
            // what a newcomer does.
            None if is_retired(self.record()) || file::has_lost_name_since(place, id, attached.surroundings) => {
                self.attach_to_successor(&mut attached, place, making, process, until)?;
            }
            None => return Err(Error::NotFound),
        }
        Ok(())
    }

    /// Whether the mapped file has lost the lock's name. `false` also while another thread is finding out.
    pub(crate) fn has_lost_name(&self, place: &Place) -> bool {
        let Some(attached) = self.attached.lock_until(Some(Moment::default())) else { return false };
        file::has_lost_name_since(place, attached.id, attached.surroundings)
    }

    /// A description to probe seats with, for one wait. `None` if the one that was kept is in use by another thread or was
    /// closed, and the file cannot be opened by its name.
    pub(crate) fn probe(&self, place: &Place) -> Option<Probe> {
        let mut attached = self.attached.lock_until(Some(Moment::default()))?;
        let id = attached.id;
        let kept = attached.probe.take();
        drop(attached);
        kept.and_then(|probe| probe.take(id))
            .or_else(|| Some(Probe::new(file::open_again(place, id, Again::ToProbe).ok()??, id)))
    }

    #[cfg(feature = "ring")]
    pub(crate) fn file_watch(&self) -> &FileWatch {
        &self.file_watch
    }

    /// Keeps a description for the next wait, unless another thread has attached this handle to another file meanwhile, or
    /// has kept its own.
    pub(crate) fn keep_probe(&self, probe: Probe) {
        let Some(mut attached) = self.attached.lock_until(Some(Moment::default())) else { return };
        if attached.id == probe.id() && attached.probe.is_none() {
            attached.probe = probe.put_aside();
        }
    }

    /// Replaces a record that is retired by the one that has the lock's name now. Waits for another thread that does so,
    /// and for a process that removes or revives that record, but no longer than `until`.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] if the time ran out; those of opening and making a lock.
    pub(crate) fn reattach(
        &self,
        place: &Place,
        making: Option<Making>,
        process: Process,
        until: Option<Moment>,
    ) -> Result<(), Error> {
        let mut attached = self.attached.lock_until(until).ok_or(Error::Busy)?;
        if !is_retired(self.record()) {
            // Another thread has been here.
            return Ok(());
        }
        self.attach_to_successor(&mut attached, place, making, process, until)
    }

    fn attach_to_successor(
        &self,
        attached: &mut Attached,
        place: &Place,
        making: Option<Making>,
        process: Process,
        until: Option<Moment>,
    ) -> Result<(), Error> {
        let (file, taken) = attach(place, making, process, until, self.part)?;
        let Some(taken) = taken else { return Err(Error::Busy) };
        // No fork in between: a child would believe that the new record is the old file.
        let _window = fork::window(process);
        let seat_before = self.seat.swap(0, Ordering::Release);
        // Zero before the record changes: the Release in `replace` and the Acquire in `record` keep that order.
        if let Err(error) = self.mapping.replace(file.fd.as_fd()) {
            self.seat.store(seat_before, Ordering::Release);
            return Err(error);
        }
        if let Some(probe) = attached.probe.take() {
            probe.close();
        }
        attached.probe = Probe::new(file.fd, file.id).put_aside();
        attached.id = file.id;
        attached.surroundings = Surroundings::of(place, process.view());
        self.sit(attached, taken);
        Ok(())
    }

    /// Which file is attached.
    pub(crate) fn id(&self) -> FileId {
        self.attached.lock().id
    }

    /// Retires the record and removes its file, if it still has the lock's name. `own` is the caller's own hold. Returns
    /// the word that was replaced. `id` was asked for before `host` was made: then it is not a later record's.
    ///
    /// Crash points: killed after the retirement and before the unlink, it leaves a retired record with a name, which the
    /// next process revives with the fate that the word keeps. In a forced removal of another holder's record the unlink
    /// comes first: killed in between, it leaves a record without a name, which its handles notice within 100 ms.
    pub(crate) fn remove<H: Host>(
        &self,
        place: &Place,
        id: FileId,
        host: &mut H,
        own: Option<Word>,
        force: Force,
    ) -> Result<Word, Error> {
        let (fd, named) = file::open_named(place)?.ok_or(Error::NotFound)?;
        if named != id {
            return Err(Error::NotFound);
        }
        // While its own hold is retired and may be put back, none of the handle's other threads may take another seat in
        // place of the one that holds. Before the right, which a thread that re-attaches waits for under this lock.
        let _alone = own.map(|_| self.attached.lock());
        let right = RemovalRight::obtain(fd.as_fd(), id, place, None, force)?.ok_or(Error::NotFound)?;
        // Asked first, so that a caller that may not remove it does not disturb anybody either.
        right.is_permitted()?;
        // Retired before the unlink: if the caller has lost its hold meanwhile, the file is the next holder's.
        let own = own.filter(|&identity| protocol::retire(host, identity, Fate::Released));
        if let Some(identity) = own {
            right.unlink().inspect_err(|_| protocol::unretire(host, identity, Fate::Released))?;
            return Ok(identity);
        }
        match protocol::retire_unheld(host) {
            Ok(before) => {
                // Nobody living has a stake in the word, so it can be put back if the kernel refuses after all.
                right.unlink().inspect_err(|_| protocol::unretire(host, before, before.fate()))?;
                Ok(before)
            }
            // A remover has died between its two steps.
            Err(Refused::Retired) => right.unlink().map(|()| host.load(Ordering::Relaxed)),
            Err(Refused::TimedOut(_) | Refused::Malformed) if force == Force::Yes => {
                // The holder lives: it may release at any moment, so there is no word that could be put back. The unlink
                // must succeed before the holder is evicted.
                right.unlink()?;
                Ok(protocol::evict(host))
            }
            Err(Refused::TimedOut(_) | Refused::Cancelled(_)) => Err(Error::Held),
            Err(Refused::Malformed) => Err(Error::Corrupt),
        }
    }

    /// Makes the record new, empty and free if its header was overwritten: for a force-release, by which a person decides
    /// that whatever the record says does not count. `true` if that was needed and has been done.
    pub(crate) fn repair(&self, place: &Place) -> bool {
        let is_whole = || recognise(self.record()).is_ok() && self.record().header_is_whole();
        if is_whole() {
            return false;
        }
        let id = self.attached.lock().id;
        let Ok(Some((fd, named))) = file::open_named(place) else { return false };
        if named != id {
            return false;
        }
        match RemovalRight::obtain(fd.as_fd(), id, place, None, Force::No) {
            Ok(Some(_right)) if !is_whole() => {
                renew(self.record(), Fate::Forced);
                // Whoever slept on the word before.
                futex::wake_all(&self.record().hot.word);
                true
            }
            _ => false,
        }
    }

    /// Has the seat's descriptor be inherited by programs that this process starts or becomes; returns its number.
    pub(crate) fn let_inherit(&self) -> Result<i32, Error> {
        let attached = self.attached.lock();
        attached.descriptor.as_ref().ok_or(Error::Seat(SeatError::NotKept))?.let_inherit()
    }

    /// The number of the seat's descriptor, if it is kept.
    pub(crate) fn descriptor(&self) -> Option<i32> {
        self.attached.lock().descriptor.as_ref()?.number()
    }

    /// In a forked child: the seat is the parent's, its mapping was not inherited, and no other thread is here.
    pub(crate) fn forget_parent(&self) {
        self.attached.reset();
        // Not unmapped: something else may have that address in this process.
        self.pin.store(null_mut(), Ordering::Relaxed);
        // The description is shared with the parent, whose proofs this process must not unpin. Not closed: as long as a child
        // of this process has it, nothing is gained.
        if let Some(mut attached) = self.attached.lock_until(Some(Moment::default())) {
            attached.probe = None;
        }
        #[cfg(feature = "ring")]
        self.file_watch.forget_parent();
        self.seat.store(0, Ordering::Release);
    }

    /// Excludes this handle's other threads, until `until` at the longest.
    pub(crate) fn alone(&self, until: Option<Moment>) -> Option<Locked<'_, Attached>> {
        self.attached.lock_until(until)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // The handle has released its hold, and has called `forget_parent` in a forked child.
        drop(Pin::from_address(*self.pin.get_mut()));
        if let Some(probe) = self.attached.lock().probe.take() {
            probe.close();
        }
    }
}

/// The lock's file, opened, mapped and validated.
struct File {
    fd: OwnedFd,
    id: FileId,
    mapping: Mapping,
}

/// A seat that was just taken.
struct Taken {
    seat: u32,
    pin: Pin,
    descriptor: Option<SeatDescriptor>,
}

/// A description of the record's file that chooses a seat.
struct Taking<'a> {
    record: &'a Record,
    fd: BorrowedFd<'a>,
}

impl SeatHost for Taking<'_> {
    type Error = Error;

    fn load(&self) -> Word {
        // Acquire: orders the load after the kernel's lock of the seat.
        Word(self.record.hot.word.load(Ordering::Acquire))
    }

    fn draw(&self) -> u32 {
        // Relaxed: only a hint where to begin; the kernel decides who has a seat.
        self.record.hot.seats.fetch_add(1, Ordering::Relaxed)
    }

    fn lock(&mut self, number: u32) -> Result<bool, Error> {
        seat::lock(self.fd, number)
    }

    fn unlock(&mut self, number: u32) -> Result<(), Error> {
        seat::unlock(self.fd, number)
    }
}

/// Takes a seat on the record of the file `id`, by a description of its own. `Ok(None)`: the name leads to another file
/// now. `witness` is another description of the file.
fn take_seat(
    place: &Place,
    id: FileId,
    record: &Record,
    witness: BorrowedFd<'_>,
    process: Process,
    part: Part,
) -> Result<Option<Taken>, Error> {
    let (number, pin, descriptor) = {
        // From the opening to the closing of the descriptor.
        let _window = fork::window(process);
        let Some(fd) = file::open_again(place, id, Again::ToTakeASeat)? else { return Ok(None) };
        let number = protocol::take_seat(&mut Taking { record, fd: fd.as_fd() })?;
        let pin = Pin::new(fd.as_fd())?;
        let keeps = part == Part::Takes { keep_descriptor: true };
        (number, pin, if keeps { Some(SeatDescriptor::new(fd.as_fd(), id)?) } else { None })
    };
    // The descriptor is closed: does the mapping keep the seat?
    if seat::is_taken(witness, number) != Ok(true) {
        return Err(Error::Seat(SeatError::Void));
    }
    // Whoever sat here before has died.
    record.clear_stale_slots(|stale| stale == number);
    Ok(Some(Taken { seat: number, pin, descriptor }))
}

/// Opens or makes the file that has the lock's name, maps and validates it, and takes a seat if `part` needs one.
fn attach(
    place: &Place,
    making: Option<Making>,
    process: Process,
    until: Option<Moment>,
    part: Part,
) -> Result<(File, Option<Taken>), Error> {
    for _ in 0..TRIES {
        let Some(file) = open_or_make(place, making, until)? else { continue };
        if part == Part::Administers {
            return Ok((file, None));
        }
        if let Some(taken) = take_seat(place, file.id, file.mapping.record(), file.fd.as_fd(), process, part)? {
            return Ok((file, Some(taken)));
        }
    }
    Err(Error::Busy)
}

/// `Ok(None)`: another process has just made, removed or revived it.
fn open_or_make(place: &Place, making: Option<Making>, until: Option<Moment>) -> Result<Option<File>, Error> {
    let Some((fd, id)) = file::open_named(place)? else {
        let making = making.ok_or(Error::NotFound)?;
        let made = file::create(place, making, |fd| {
            let mapping = Mapping::new(fd)?;
            initialise(mapping.record(), Fate::Released, if making.may_break { MAY_BREAK } else { 0 });
            Ok(mapping)
        })?;
        // A process that has removed it since has retired it, as any record that was opened.
        return Ok(made.map(|(fd, id, mapping)| File { fd, id, mapping }));
    };
    let mapping = Mapping::new(fd.as_fd())?;
    let record = mapping.record();
    recognise(record)?;
    if is_retired(record) {
        let Some(_right) = RemovalRight::obtain(fd.as_fd(), id, place, until, Force::No)? else { return Ok(None) };
        // Asked again under the right: another process may have revived it.
        if is_retired(record) {
            renew(record, Word(record.hot.word.load(Ordering::Relaxed)).fate());
        }
    }
    // Only now: a process that died while it revived the record has left it retired, and its header half written.
    if !record.header_is_whole() {
        return Err(Error::Corrupt);
    }
    Ok(Some(File { fd, id, mapping }))
}

/// How often a copy is taken again because the newest grant was being written.
const COPIES: usize = 8;

/// A copy of the lock's record, validated, and a description of its file to look at seats with.
///
/// By reading and not by mapping: that needs no permission to write, changes nothing, waits for nobody, and a file that is
/// cut short meanwhile is an error and not SIGBUS.
pub(crate) fn copy(place: &Place) -> Result<(Record, OwnedFd), Error> {
    let (fd, _) = file::open_named_to_read(place)?.ok_or(Error::NotFound)?;
    let mut tries = 0;
    let record = loop {
        let mut bytes = file::read_record(&fd)?;
        // SeqCst: everything of the second reading comes after everything of the first.
        fence(Ordering::SeqCst);
        forget_what_differs(&mut bytes, &file::read_record(&fd)?);
        let record = record_of(bytes);
        tries += 1;
        let word = Word(record.hot.word.load(Ordering::Relaxed));
        // Found at the first try, but for a lock that is granted all the time.
        if tries == COPIES || record.report(record.number_of(word)).is_some() || record.newest().is_none() {
            break record;
        }
    };
    recognise(&record)?;
    if is_retired(&record) || record.header_is_whole() { Ok((record, fd)) } else { Err(Error::Corrupt) }
}

/// Removes the file that has the lock's name though it is no lock that this build can use, as long as it is a file.
///
/// Nothing is written to it unless it begins as a lock does: then it may be one that a program has scribbled over, and
/// those who have it open must leave it.
pub(crate) fn remove_unusable(place: &Place) -> Result<(), Error> {
    let Ok(Some((fd, id))) = file::open_named(place) else { return file::unlink_unusable(place) };
    let Some(right) = RemovalRight::obtain(fd.as_fd(), id, place, None, Force::Yes)? else {
        return Err(Error::NotFound);
    };
    right.unlink()?;
    let mapping = Mapping::new(fd.as_fd())?;
    let record = mapping.record();
    if record.header.magic.load(Ordering::Relaxed) == MAGIC {
        protocol::make_retired(&record.hot.word, Fate::Forced);
        futex::wake_all(&record.hot.word);
    }
    Ok(())
}

fn is_retired(record: &Record) -> bool {
    // Acquire: pairs with the Release in `initialise`; whoever sees the record revived sees all of it.
    Word(record.hot.word.load(Ordering::Acquire)).state() == State::Retired
}

/// Makes a record new, empty and free, under the right to remove it. The next grant reports `fate`.
fn renew(record: &Record, fate: Fate) {
    // Retired first, also where a scribbler ended it: nobody else who has it mapped may acquire it while it is made new.
    // If this process dies in here, the next one to open it starts over.
    protocol::make_retired(&record.hot.word, fate);
    record.clear();
    initialise(record, fate, record.flags());
}

/// Makes a cleared record a free lock: the word comes last.
fn initialise(record: &Record, fate: Fate, flags: u32) {
    let now = clock::monotonic();
    // It must differ from the number of the last record of this name; 16 ns are not enough to make one.
    let origin = (now.sec as u32).wrapping_mul(62_500_000).wrapping_add(now.nsec >> 4);
    record.initialise(origin, flags);
    protocol::make_free(&record.hot.word, origin, fate);
}

/// Checks that the file is a record that this build understands.
fn recognise(record: &Record) -> Result<(), Error> {
    let load = |cell: &AtomicU32| cell.load(Ordering::Relaxed);
    let magic = load(&record.header.magic);
    if magic == MAGIC.swap_bytes() {
        return Err(Error::NotALock(NotALock::WrongEndianness));
    }
    if magic != MAGIC {
        return Err(Error::NotALock(NotALock::WrongMagic));
    }
    let version = load(&record.header.version);
    if version != VERSION {
        return Err(Error::VersionMismatch { found: version });
    }
    if load(&record.header.size) != RECORD_SIZE as u32 {
        return Err(Error::Corrupt);
    }
    match load(&record.header.incompatible) {
        0 => Ok(()),
        // Set by a newer build, or by a program that has overwritten the header.
        _ if !record.header_is_whole() => Err(Error::Corrupt),
        flags => Err(Error::FeatureUnknown { flags }),
    }
}
