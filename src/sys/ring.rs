//! Waiting for several things at once, by io_uring ([io_uring(7)]): the word's futex, a hint that a participant has died, a
//! cancel token and a deadline. Linux 6.7 can wait for a futex so.
//!
//! The hint is the holder's pidfd where its pid means something, which is in its own PID namespace. Elsewhere it is
//! inotify(7)'s IN_CLOSE_WRITE on the record's file: that fires when a description that was open for writing is closed for
//! the last time, which a seat's is when its process has ended; it needs no pid and works across containers. Both may fire a
//! moment before the seat is unlocked, and the latter fires for every handle that is closed, so they prove nothing.
//!
//! To close an inotify descriptor takes the kernel 5 to 20 ms (it waits for an SRCU grace period), so a handle keeps it
//! until it is closed itself ([`FileWatch`]).
//!
//! Invariants:
//! - a ring belongs to one wait of one process. A forked child that has a copy of it submits nothing;
//! - no futex wait stays queued when a call of this module returns, except between [`Ring::arm`] and [`Ring::disarm`]: a
//!   queued wait takes wake-ups that are meant for waiters. A wake-up that arrives while it is withdrawn counts as received;
//! - both descriptors are closed on exec, and when the ring is dropped.
//!
//! A process that dies leaves nothing: the kernel withdraws what it has submitted.
//!
//! [io_uring(7)]: https://man7.org/linux/man-pages/man7/io_uring.7.html
#![allow(unsafe_code)]

use core::ffi::c_void;
use core::mem::size_of;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::fs::inotify;
use rustix::io::Errno;
use rustix::io_uring::{
    IoringCqeFlags, IoringEnterFlags, IoringFeatureFlags, IoringOp, IoringSetupFlags, io_uring_enter,
    io_uring_enter_arg, io_uring_getevents_arg, io_uring_params, io_uring_ptr, io_uring_setup, io_uring_sqe,
    io_uring_user_data,
};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::time::Timespec;

use super::clock;
use super::futex::mask;
use super::path::Place;
use crate::time::Moment;

/// Whether rings work here: decided once per process.
static STATE: AtomicU32 = AtomicU32::new(UNKNOWN);
const UNKNOWN: u32 = 0;
const WORKS: u32 = 1;
const ABSENT: u32 = 2;

const ENTRIES: u32 = 8;

/// How often a submission is tried that a signal interrupts.
#[cfg(feature = "std")]
const ENTER_TRIES: u32 = 100;

const OFF_RINGS: u64 = 0;
const OFF_SQES: u64 = 0x1000_0000;

/// `FUTEX2_SIZE_U32`, for a shared futex.
const FUTEX2_SIZE_U32: i32 = 2;
const POLLIN: u32 = 1;

/// What a completion is about.
const FUTEX: u64 = 1;
const CANCEL: u64 = 2;
const TIME: u64 = 3;
const WITHDRAWAL: u64 = 4;
/// And above: hints, numbered, because one that was withdrawn may still be completed.
const FIRST_HINT: u64 = 5;

/// Why a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Woken,
    /// The word had changed before the sleep began.
    Changed,
    /// A participant may have died.
    Hint,
    Cancelled,
    TimedOut,
    Interrupted,
    /// The kernel cannot wait for a futex so.
    Unsupported,
}

/// What there is to wait for.
#[derive(Clone, Copy)]
pub(crate) struct Awaited<'a> {
    pub(crate) word: &'a AtomicU32,
    pub(crate) expected: u32,
    /// As for `futex::sleep`.
    pub(crate) bit: u32,
    pub(crate) until: Moment,
    /// What ends the sleep as a hint; `None` if nothing does.
    pub(crate) hint: Option<Hint<'a>>,
    /// A word that is 0 until the wait is cancelled.
    pub(crate) cancel: Option<&'a AtomicU32>,
}

/// What tells that a participant may have died.
#[derive(Clone, Copy)]
pub(crate) enum Hint<'a> {
    /// The end of the process with this pid.
    Process(u32),
    /// The closing of a description of the record's file.
    File(&'a FileWatch, &'a Place),
}

/// A handle's inotify descriptor that watches the record's file: made when it is first needed, and closed with the handle.
pub(crate) struct FileWatch {
    number: AtomicI32,
    /// The watch in it.
    watch: AtomicI32,
}

const NO_DESCRIPTOR: i32 = -1;

impl FileWatch {
    pub(crate) const fn new() -> Self {
        Self { number: AtomicI32::new(NO_DESCRIPTOR), watch: AtomicI32::new(0) }
    }

    /// Makes it ready: from now on it becomes readable when a description is closed. `None` if there cannot be one.
    fn ready(&self, place: &Place) -> Option<BorrowedFd<'_>> {
        if self.number.load(Ordering::Acquire) == NO_DESCRIPTOR {
            let made = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).ok()?;
            // Of two threads, one keeps its own. AcqRel: pairs with the loads of this function.
            let number = made.as_raw_fd();
            let kept = self.number.compare_exchange(NO_DESCRIPTOR, number, Ordering::AcqRel, Ordering::Acquire);
            if kept.is_ok() {
                core::mem::forget(made);
            }
        }
        // SAFETY: the descriptor was made here, and is closed when `self` is dropped. The program may have closed it and have
        // another file open by its number: the kernel refuses the watch then.
        let watch = unsafe { BorrowedFd::borrow_raw(self.number.load(Ordering::Acquire)) };
        // Again each time: it also tells that it is an inotify descriptor still, and follows the name to another file.
        let added = inotify::add_watch(watch, place.path().as_c_str(), inotify::WatchFlags::CLOSE_WRITE).ok()?;
        self.watch.store(added, Ordering::Relaxed);
        // Forgets the hints that have come so far.
        let mut buffer = [0_u8; 1024];
        while rustix::io::read(watch, &mut buffer).is_ok_and(|len| len > 0) {}
        Some(watch)
    }

    /// In a forked child: the descriptor is the parent's, whose hints it would take.
    pub(crate) fn forget_parent(&self) {
        self.number.store(NO_DESCRIPTOR, Ordering::Relaxed);
    }
}

impl Drop for FileWatch {
    fn drop(&mut self) {
        let number = *self.number.get_mut();
        if number != NO_DESCRIPTOR {
            // SAFETY: only borrowed, for as long as the call below takes; an invalid number is an error of the kernel's.
            let watch = unsafe { BorrowedFd::borrow_raw(number) };
            // Whatever else the program has opened by this number, since it closed this one (closefrom(2)), has no such watch.
            if inotify::remove_watch(watch, *self.watch.get_mut()).is_ok() {
                // SAFETY: made by `ready`, and owned by this.
                drop(unsafe { OwnedFd::from_raw_fd(number) });
            }
        }
    }
}

/// What a hint is about, to notice that it is about something else now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    Process(u32),
    File,
}

pub(crate) struct Ring {
    fd: OwnedFd,
    /// The pidfd that is polled.
    process: Option<OwnedFd>,
    /// What the hint under way is about.
    about: Option<About>,
    /// Its number.
    hints: u64,
    rings: Area,
    sqes: Area,
    params: io_uring_params,
    /// Entries that were pushed and not yet submitted.
    pushed: u32,
    /// Which operations are under way.
    waits: Waits,
}

#[derive(Clone, Copy, Default)]
struct Waits {
    futex: bool,
    cancel: bool,
    time: bool,
}

/// Memory that is shared with the kernel.
struct Area {
    address: NonNull<c_void>,
    len: usize,
}

impl Area {
    fn new(fd: BorrowedFd<'_>, len: usize, offset: u64) -> Result<Self, Errno> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let address = unsafe { mmap(null_mut(), len, protection, MapFlags::SHARED | MapFlags::POPULATE, fd, offset)? };
        Ok(Self { address: NonNull::new(address).ok_or(Errno::NOMEM)?, len })
    }

    /// The cell at this offset.
    fn cell(&self, offset: u32) -> &AtomicU32 {
        assert!(offset as usize + size_of::<u32>() <= self.len && offset % 4 == 0);
        let cell = self.address.as_ptr().cast::<AtomicU32>().wrapping_byte_add(offset as usize);
        // SAFETY: within the mapping, which lives as long as `self`, and aligned.
        unsafe { &*cell }
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // SAFETY: the range is this mapping's, and no reference outlives it. An error would only leak it.
        let _ = unsafe { munmap(self.address.as_ptr(), self.len) };
    }
}

// SAFETY: the memory is shared with the kernel alone, and is reached through `&mut Ring`.
unsafe impl Send for Ring {}
// SAFETY: `&Ring` gives out the descriptor only.
unsafe impl Sync for Ring {}

impl Ring {
    /// Sets a ring up. `None` if the kernel or the sandbox does not permit it, or there is no room for it.
    pub(crate) fn new() -> Option<Self> {
        if STATE.load(Ordering::Relaxed) == ABSENT {
            return None;
        }
        match Self::set_up() {
            Ok(ring) => Some(ring),
            // For want of descriptors: only this time.
            Err(Errno::MFILE | Errno::NFILE) => None,
            Err(_) => {
                Self::give_up();
                None
            }
        }
    }

    /// From now on, this process sets up no ring.
    fn give_up() {
        STATE.store(ABSENT, Ordering::Relaxed);
    }

    fn set_up() -> Result<Self, Errno> {
        let mut params = io_uring_params::default();
        // Completions wait until this process enters the kernel; none interrupts it.
        params.flags = IoringSetupFlags::COOP_TASKRUN;
        // SAFETY: no flag that refers to another descriptor.
        let fd = unsafe { io_uring_setup(ENTRIES, &mut params)? };
        if !params.features.contains(IoringFeatureFlags::SINGLE_MMAP | IoringFeatureFlags::EXT_ARG) {
            return Err(Errno::NOSYS);
        }
        let sq_len = params.sq_off.array as usize + params.sq_entries as usize * size_of::<u32>();
        let cq_len = params.cq_off.cqes as usize + params.cq_entries as usize * CQE_LEN;
        let rings = Area::new(fd.as_fd(), sq_len.max(cq_len), OFF_RINGS)?;
        let sqes = Area::new(fd.as_fd(), params.sq_entries as usize * size_of::<io_uring_sqe>(), OFF_SQES)?;
        let waits = Waits::default();
        Ok(Self { fd, process: None, about: None, hints: 0, rings, sqes, params, pushed: 0, waits })
    }

    /// Sleeps until one of the awaited things happens.
    pub(crate) fn sleep(&mut self, awaited: Awaited<'_>) -> Event {
        self.push_waits(&awaited);
        let mut event = None;
        while event.is_none() {
            let left = Moment::default().after(awaited.until.since(clock::monotonic()));
            let result = self.enter(1, Some(&clock::timespec(left)));
            event = self.collect().or(match result {
                // The number that was submitted hides how the wait ended.
                Ok(()) | Err(Errno::TIME) if clock::monotonic() >= awaited.until => Some(Event::TimedOut),
                Ok(()) | Err(Errno::INTR) => Some(Event::Interrupted),
                Err(Errno::TIME | Errno::AGAIN | Errno::BUSY) => None,
                Err(_) => Some(Event::Unsupported),
            });
        }
        self.disarm(event.unwrap_or(Event::TimedOut))
    }

    /// Begins to wait, without sleeping: the ring's descriptor becomes readable when something has happened. `false` if the
    /// kernel does not take it.
    #[cfg(feature = "std")]
    pub(crate) fn arm(&mut self, awaited: Awaited<'_>) -> bool {
        self.push_waits(&awaited);
        let until = clock::timespec(awaited.until);
        let mut sqe = entry(IoringOp::Timeout, TIME);
        sqe.addr_or_splice_off_in.addr = io_uring_ptr::new((&raw const until).cast_mut().cast());
        sqe.len.len = 1;
        sqe.op_flags.timeout_flags = rustix::io_uring::IoringTimeoutFlags::ABS;
        self.push(sqe);
        self.waits.time = true;
        // The kernel copies the time when it is submitted, which must be here.
        for _ in 0..ENTER_TRIES {
            match self.enter(0, None) {
                Ok(()) if self.pushed == 0 => return true,
                Ok(()) | Err(Errno::INTR | Errno::AGAIN | Errno::BUSY) => {}
                Err(_) => break,
            }
        }
        // Without a thread of its own that reads entries, the kernel has not seen them.
        let tail = self.rings.cell(self.params.sq_off.tail);
        tail.store(tail.load(Ordering::Relaxed).wrapping_sub(self.pushed), Ordering::Release);
        self.abandon_waits();
        false
    }

    #[cfg(feature = "std")]
    fn abandon_waits(&mut self) {
        self.waits = Waits::default();
        self.about = None;
        self.pushed = 0;
    }

    /// What has happened since it was armed, if anything. Then it is armed no more.
    #[cfg(feature = "std")]
    pub(crate) fn poll(&mut self) -> Option<Event> {
        if self.pushed > 0 {
            let _ = self.enter(0, None);
        }
        let event = self.collect()?;
        Some(self.disarm(event))
    }

    /// Pushes what is not under way yet.
    fn push_waits(&mut self, awaited: &Awaited<'_>) {
        let bits = u64::from(mask(awaited.bit).get());
        self.push(futex_wait(awaited.word, awaited.expected, bits, FUTEX));
        self.waits.futex = true;
        self.push_hint(awaited.hint);
        if let Some(cancel) = awaited.cancel.filter(|_| !self.waits.cancel) {
            self.push(futex_wait(cancel, 0, u64::from(u32::MAX), CANCEL));
            self.waits.cancel = true;
        }
    }

    /// Pushes the hint, unless it is under way already; one about something else is withdrawn.
    fn push_hint(&mut self, hint: Option<Hint<'_>>) {
        let about = hint.map(|hint| match hint {
            Hint::Process(pid) => About::Process(pid),
            Hint::File(..) => About::File,
        });
        if about == self.about {
            return;
        }
        self.withdraw_hint();
        let watched = match hint {
            Some(Hint::Process(pid)) => {
                // If another process has its pid by now, the hint is wrong, or there is none.
                let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
                self.process = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
                self.process.as_ref().map(AsRawFd::as_raw_fd)
            }
            Some(Hint::File(watch, place)) => watch.ready(place).map(|watch| watch.as_raw_fd()),
            None => return,
        };
        self.hints += 1;
        let what = FIRST_HINT + self.hints;
        self.push(match watched {
            Some(watched) => {
                let mut sqe = entry(IoringOp::PollAdd, what);
                sqe.fd = watched;
                // The kernel wants the halves of the word swapped on a machine of the other endianness.
                sqe.op_flags.poll32_events = if cfg!(target_endian = "big") { POLLIN.rotate_left(16) } else { POLLIN };
                sqe
            }
            // There is no such process any more: that is a hint, too. It is completed at once.
            None => entry(IoringOp::Nop, what),
        });
        self.about = about;
    }

    fn withdraw_hint(&mut self) {
        if self.about.take().is_some() {
            self.withdraw(FIRST_HINT + self.hints);
        }
    }

    /// Withdraws the futex wait and the timeout. If a wake-up has come meanwhile, that is what has happened.
    pub(crate) fn disarm(&mut self, event: Event) -> Event {
        let mut event = event;
        if self.waits.time {
            self.withdraw(TIME);
        }
        if self.waits.futex {
            self.withdraw(FUTEX);
        }
        // The kernel answers at once; a bound for one that does not.
        for _ in 0..10 {
            if !self.waits.futex && !self.waits.time {
                break;
            }
            let moment = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
            let _ = self.enter(1, Some(&moment));
            if let Some(woken @ (Event::Woken | Event::Unsupported)) = self.collect() {
                event = woken;
            }
        }
        if event == Event::Unsupported {
            Self::give_up();
        } else {
            STATE.store(WORKS, Ordering::Relaxed);
        }
        event
    }

    fn withdraw(&mut self, what: u64) {
        let mut sqe = entry(IoringOp::AsyncCancel, WITHDRAWAL);
        sqe.addr_or_splice_off_in.user_data = io_uring_user_data::from_u64(what);
        self.push(sqe);
    }

    /// Takes what has been completed. Of several things, the most important one is returned.
    fn collect(&mut self) -> Option<Event> {
        let mut event = None;
        while let Some((what, result)) = self.pop() {
            let happened = match what {
                FUTEX => {
                    self.waits.futex = false;
                    match result {
                        0 => Some(Event::Woken),
                        _ => match Errno::from_raw_os_error(-result) {
                            Errno::AGAIN => Some(Event::Changed),
                            // Withdrawn, here or by the kernel: it ends what a thread has submitted with the thread.
                            Errno::CANCELED | Errno::INTR => Some(Event::Changed),
                            _ => Some(Event::Unsupported),
                        },
                    }
                }
                hint if hint == FIRST_HINT + self.hints && self.about.is_some() => {
                    self.about = None;
                    (result >= 0).then_some(Event::Hint)
                }
                CANCEL => {
                    self.waits.cancel = false;
                    // EAGAIN: it was set already.
                    (result == 0 || result == -Errno::AGAIN.raw_os_error()).then_some(Event::Cancelled)
                }
                TIME => {
                    self.waits.time = false;
                    (result == -Errno::TIME.raw_os_error()).then_some(Event::TimedOut)
                }
                _ => None,
            };
            event = match (event, happened) {
                (Some(Event::Woken | Event::Unsupported), _) | (Some(_), None) => event,
                (Some(_), Some(Event::Woken | Event::Unsupported)) | (None, _) => happened,
                (Some(_), Some(_)) => event,
            };
        }
        event
    }

    fn push(&mut self, sqe: io_uring_sqe) {
        let offsets = &self.params.sq_off;
        // Relaxed: only this thread writes the tail.
        let tail = self.rings.cell(offsets.tail).load(Ordering::Relaxed);
        let index = tail & (self.params.sq_entries - 1);
        let slot = self.sqes.address.as_ptr().cast::<io_uring_sqe>().wrapping_add(index as usize);
        // SAFETY: within the area, which has room for `sq_entries`, and aligned. At most six entries are pushed before they
        // are submitted, so the kernel is done with this one.
        unsafe { slot.write(sqe) };
        self.rings.cell(offsets.array + 4 * index).store(index, Ordering::Relaxed);
        // Release: pairs with the kernel's Acquire; it sees the entry with the tail.
        self.rings.cell(offsets.tail).store(tail.wrapping_add(1), Ordering::Release);
        self.pushed += 1;
    }

    /// Takes the next completion: what it is about, and its result.
    fn pop(&mut self) -> Option<(u64, i32)> {
        let offsets = &self.params.cq_off;
        // Relaxed: only this thread writes the head.
        let head = self.rings.cell(offsets.head).load(Ordering::Relaxed);
        // Acquire: pairs with the kernel's Release; the entry comes with the tail.
        if head == self.rings.cell(offsets.tail).load(Ordering::Acquire) {
            return None;
        }
        // An entry is eight bytes of user data, four of the result, and four of flags.
        let entry = offsets.cqes + CQE_LEN as u32 * (head & (self.params.cq_entries - 1));
        let word = |offset| self.rings.cell(entry + offset).load(Ordering::Relaxed);
        let halves = [word(0), word(4)].map(u32::to_ne_bytes);
        let mut user_data = [0; 8];
        user_data[..4].copy_from_slice(&halves[0]);
        user_data[4..].copy_from_slice(&halves[1]);
        let result = word(8) as i32;
        // Release: pairs with the kernel's Acquire; it reuses the entry only now.
        self.rings.cell(offsets.head).store(head.wrapping_add(1), Ordering::Release);
        Some((u64::from_ne_bytes(user_data), result))
    }

    /// Submits what was pushed, and waits for so many completions, at the longest for that time.
    fn enter(&mut self, min_complete: u32, timeout: Option<&Timespec>) -> Result<(), Errno> {
        let submitted = match timeout {
            Some(timeout) => {
                let ts = io_uring_ptr::new(core::ptr::from_ref(timeout).cast_mut().cast());
                let arg = io_uring_getevents_arg { ts, ..io_uring_getevents_arg::default() };
                let flags = IoringEnterFlags::GETEVENTS | IoringEnterFlags::EXT_ARG;
                // SAFETY: the entries refer to memory of this process that lives until they are completed or withdrawn:
                // the record, which is never unmapped during a wait, and a cancel token, which the wait borrows.
                unsafe { io_uring_enter_arg(&self.fd, self.pushed, min_complete, flags, Some(&arg)) }
            }
            // SAFETY: as above.
            None => unsafe { io_uring_enter(&self.fd, self.pushed, min_complete, IoringEnterFlags::GETEVENTS) },
        }?;
        self.pushed -= submitted.min(self.pushed);
        Ok(())
    }

    /// Closes the ring without a word to the kernel: in a forked child, whose parent it belongs to.
    #[cfg(feature = "std")]
    pub(crate) fn abandon(mut self) {
        self.abandon_waits();
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // Explicitly and not by closing: a child that another thread forks has a copy of the descriptor, which would keep
        // the waits queued.
        if self.waits.futex || self.waits.time {
            let _ = self.disarm(Event::TimedOut);
        }
        self.withdraw_hint();
        if self.waits.cancel {
            self.withdraw(CANCEL);
        }
        if self.pushed > 0 {
            let _ = self.enter(0, None);
        }
    }
}

/// Length of a completion.
const CQE_LEN: usize = 16;

const _: () = assert!(size_of::<io_uring_sqe>() == 64 && size_of::<IoringCqeFlags>() == 4);

fn entry(opcode: IoringOp, what: u64) -> io_uring_sqe {
    io_uring_sqe { opcode, fd: -1, user_data: io_uring_user_data::from_u64(what), ..io_uring_sqe::default() }
}

fn futex_wait(word: &AtomicU32, expected: u32, bits: u64, what: u64) -> io_uring_sqe {
    // `IORING_OP_FUTEX_WAIT`: the flags are in `fd`, the value in `addr2`, the bits in `addr3`.
    let mut sqe = entry(IoringOp::FutexWait, what);
    sqe.fd = FUTEX2_SIZE_U32;
    sqe.addr_or_splice_off_in.addr = io_uring_ptr::new(word.as_ptr().cast());
    sqe.off_or_addr2.off = u64::from(expected);
    sqe.addr3_or_cmd.addr3.addr3 = bits;
    sqe
}
