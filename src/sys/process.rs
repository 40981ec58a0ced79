//! Who this process is, found out once, and again after a fork.
//!
//! The answers live in one page that the kernel gives to a forked child zeroed (MADV_WIPEONFORK, Linux 4.14): reading
//! one word of it tells a child, without a system call, that it is not the process whose memory it has. On older kernels,
//! and under QEMU's user mode, getpid(2) tells, at 0.2 µs a call.
//!
//! Invariants: `token` is zero until everything else that is read of the page is in place, and never zero afterwards; the
//! process that `ready_for` names has written it. A crash does not matter, the page is private to the process. A fork in the
//! middle leaves the child a page of zeros, mutexes included, or one that another process has claimed, which it claims anew.
#![allow(unsafe_code)]

use core::ffi::c_void;
use core::mem::size_of;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};

use rustix::fd::{FromRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags, fstat, stat};
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl, opcode};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
use rustix::process::{PidfdFlags, getpid, getuid, pidfd_open};
use rustix::thread::sched_getaffinity;

use super::clock;
use super::file::{FileId, View};
use super::mutex::ThreadMutex;
use super::path::open_file;
use super::thread;
use crate::error::{Error, Operation};
use crate::record::{Holder, PROGRAM_CAPACITY};

#[repr(C)]
struct Page {
    /// Distinguishes this process from those that it descends from and those that descend from it; zero while unknown.
    token: AtomicU32,
    /// The pid of the process that fills the page, which one of its threads does; zero if none has begun.
    claimed_by: AtomicU32,
    /// The pid of the process that has filled the page; zero if none has.
    ready_for: AtomicU32,
    /// See `fork.rs`.
    fork_window: ThreadMutex,
    pid: AtomicU32,
    uid: AtomicU32,
    pid_ns: AtomicU32,
    /// Whether more than one CPU is allowed.
    has_cpus: AtomicU32,
    /// How it saw the file systems when it was first asked: root device, root inode (low words first), mount namespace.
    view: [AtomicU32; 5],
    program: [AtomicU32; PROGRAM_CAPACITY / 4],
}

static PAGE: AtomicPtr<Page> = AtomicPtr::new(null_mut());

/// Whether the kernel can't wipe the page at a fork, so that the pid must be asked for each time.
static MUST_ASK: AtomicBool = AtomicBool::new(false);

/// How often the page was found zero, along this process's line of descent: in ordinary memory, which a child inherits. So
/// no two processes of a line have the same token, whatever their pids are.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// This process.
#[derive(Clone, Copy)]
pub(crate) struct Process(&'static Page);

impl Process {
    /// This process, as far as it is known; finds out what is not. Once [`Process::find`] has succeeded in a process or
    /// in an ancestor of it, costs two loads.
    ///
    /// # Errors
    ///
    /// No memory for the page.
    pub(crate) fn find() -> Result<Self, Error> {
        let process = match Self::known() {
            Some(process) => process,
            None => map_page()?,
        };
        process.refresh();
        Ok(process)
    }

    /// This process, if it or an ancestor was ever asked for.
    pub(super) fn known() -> Option<Self> {
        // Acquire: pairs with the Release in `map_page`; the address comes with a zeroed, advised page.
        let page = PAGE.load(Ordering::Acquire);
        // SAFETY: the page is never unmapped, is zeroed (valid for atomics) and is only ever accessed as a `Page`.
        unsafe { page.as_ref() }.map(Self)
    }

    /// Makes sure that the page describes this process and not its parent.
    #[inline]
    pub(crate) fn refresh(self) {
        // Acquire: pairs with the Release in `fill`.
        if self.0.token.load(Ordering::Acquire) == 0 || MUST_ASK.load(Ordering::Relaxed) {
            self.identify();
        }
    }

    /// A number that no other process has that could have inherited this memory. Odd, so never zero.
    #[inline]
    pub(crate) fn token(self) -> u32 {
        self.0.token.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn pid(self) -> u32 {
        self.0.pid.load(Ordering::Relaxed)
    }

    /// Real user id.
    pub(crate) fn uid(self) -> u32 {
        self.0.uid.load(Ordering::Relaxed)
    }

    /// Inode number of this process's PID namespace; zero if unknown.
    pub(crate) fn pid_ns(self) -> u32 {
        self.0.pid_ns.load(Ordering::Relaxed)
    }

    /// Whether another CPU may be at work while this process spins.
    #[inline]
    pub(crate) fn may_spin(self) -> bool {
        self.0.has_cpus.load(Ordering::Relaxed) != 0
    }

    /// How this process saw the file systems when it was first asked who it is; `None` if it could not tell.
    pub(crate) fn view(self) -> Option<View> {
        let [dev, dev_high, ino, ino_high, mount_ns] = self.0.view.each_ref().map(|word| word.load(Ordering::Relaxed));
        let wide = |low, high| u64::from(low) | u64::from(high) << 32;
        let root = FileId { dev: wide(dev, dev_high), ino: wide(ino, ino_high) };
        (mount_ns != 0).then_some(View { root, mount_ns })
    }

    /// What a grant to this process, in `seat`, says of its holder.
    #[inline]
    pub(crate) fn as_holder(self, seat: u32) -> Holder {
        Holder {
            seat,
            pid: self.pid(),
            pid_ns: self.pid_ns(),
            thread: self.thread(),
            uid: self.uid(),
            program: self.0.program.each_ref().map(|word| word.load(Ordering::Relaxed)),
        }
    }

    /// The calling thread's id; zero if unknown.
    #[inline]
    pub(crate) fn thread(self) -> u32 {
        thread::id(self.token())
    }

    pub(super) fn fork_window(self) -> &'static ThreadMutex {
        &self.0.fork_window
    }

    /// In a forked child, before it has a second thread: it finds out anew who it is.
    #[cfg(feature = "std")]
    pub(super) fn forget(self) {
        for cell in [&self.0.token, &self.0.ready_for, &self.0.claimed_by] {
            cell.store(0, Ordering::Relaxed);
        }
    }

    #[cold]
    fn identify(self) {
        let page = self.0;
        let pid = getpid().as_raw_nonzero().get().unsigned_abs();
        // Acquire: pairs with the Release in `fill`.
        while page.ready_for.load(Ordering::Acquire) != pid {
            // Relaxed: the thread that fills the page has seen it as it was at the fork, or mapped; the others wait.
            let claimed_by = page.claimed_by.load(Ordering::Relaxed);
            let claim = || page.claimed_by.compare_exchange(claimed_by, pid, Ordering::Relaxed, Ordering::Relaxed);
            if claimed_by == pid || claim().is_err() {
                clock::yield_to_others();
                continue;
            }
            if claimed_by != 0 {
                // A child where the page could not be wiped.
                page.fork_window.reset();
            }
            self.fill(pid);
        }
    }

    /// Fills the page. One thread of a process does this, once.
    fn fill(self, pid: u32) {
        let page = self.0;
        let set = |cell: &AtomicU32, value| cell.store(value, Ordering::Relaxed);
        set(&page.token, 0);
        set(&page.pid, pid);
        set(&page.uid, getuid().as_raw());
        set(&page.has_cpus, thread_may_spin().into());
        set(&page.pid_ns, namespace(c"/proc/self/ns/pid").or_else(own_pid_namespace).unwrap_or(0));
        let view = View::current().map_or([0; 5], |View { root, mount_ns }| {
            [root.dev as u32, (root.dev >> 32) as u32, root.ino as u32, (root.ino >> 32) as u32, mount_ns]
        });
        for (cell, word) in page.view.iter().zip(view) {
            set(cell, word);
        }
        for (cell, word) in page.program.iter().zip(own_program()) {
            set(cell, word);
        }
        let generation = GENERATION.fetch_add(1, Ordering::Relaxed);
        // Release: pairs with the Acquire in `refresh`.
        page.token.store(generation << 1 | 1, Ordering::Release);
        // Release: pairs with the Acquire in `identify`.
        page.ready_for.store(pid, Ordering::Release);
    }
}

/// Whether the calling thread is allowed on more than one CPU.
pub(crate) fn thread_may_spin() -> bool {
    // An error says that there are more CPUs than the set has room for.
    sched_getaffinity(None).map_or(true, |allowed| allowed.count() > 1)
}

#[cold]
fn map_page() -> Result<Process, Error> {
    // The kernel rounds up to whatever a page is.
    const LEN: usize = size_of::<Page>();
    let os = |errno| Error::os(Operation::Map, errno);
    // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no memory of this program.
    let page =
        unsafe { mmap_anonymous(null_mut(), LEN, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE).map_err(os)? };
    // SAFETY: the advice is about the mapping just made, which holds nothing yet.
    let wipes = unsafe { madvise(page, LEN, Advice::LinuxWipeOnFork) }.is_ok();
    // QEMU's user mode before 8.0 accepts every advice and follows none. A kernel refuses this one for memory without a
    // file (madvise(2), MADV_REMOVE).
    // SAFETY: as above.
    let accepts_everything = unsafe { madvise(page, LEN, Advice::LinuxRemove) }.is_ok();
    if !wipes || accepts_everything {
        MUST_ASK.store(true, Ordering::Relaxed);
    }
    let page = page.cast::<Page>();
    // Release: pairs with the Acquire in `known`; on failure Acquire, for the other thread's page.
    match PAGE.compare_exchange(null_mut(), page, Ordering::AcqRel, Ordering::Acquire) {
        // SAFETY: just mapped, and never unmapped; zeros are valid for atomics.
        Ok(_) => Ok(Process(unsafe { &*page })),
        Err(first) => {
            // SAFETY: nobody has seen the mapping that lost the race. An error would only leak it.
            let _ = unsafe { munmap(page.cast(), LEN) };
            // SAFETY: as in `known`.
            Ok(Process(unsafe { &*first }))
        }
    }
}

/// The program's name, as the kernel has it; zeros without /proc.
fn own_program() -> [u32; PROGRAM_CAPACITY / 4] {
    let mut name = [0_u8; PROGRAM_CAPACITY];
    if let Ok(file) = open_file(c"/proc/self/comm", OFlags::RDONLY, Mode::empty()) {
        // The kernel gives the whole name, of at most 15 bytes and a line feed, to one read.
        let len = rustix::io::read(&file, &mut name[..]).unwrap_or(0);
        if let Some(last) = len.checked_sub(1) {
            name[last] = 0;
        }
    }
    let mut words = name.chunks_exact(4).map(|bytes| u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
    core::array::from_fn(|_| words.next().unwrap_or(0))
}

/// The inode number of a namespace, which is what distinguishes two of them ([namespaces(7)]).
///
/// [namespaces(7)]: https://man7.org/linux/man-pages/man7/namespaces.7.html
fn namespace(path: &core::ffi::CStr) -> Option<u32> {
    // The kernel numbers namespaces with 32 bits.
    stat(path).ok().map(|stat| stat.st_ino as u32)
}

/// The inode number of this process's PID namespace without /proc (Linux 6.11).
fn own_pid_namespace() -> Option<u32> {
    let pidfd = pidfd_open(getpid(), PidfdFlags::empty()).ok()?;
    // SAFETY: `GetPidNamespace` describes the call as the kernel's <linux/pidfd.h> does.
    let namespace = unsafe { ioctl(&pidfd, GetPidNamespace) }.ok()?;
    fstat(&namespace).ok().map(|stat| stat.st_ino as u32)
}

#[doc(alias = "PIDFD_GET_PID_NAMESPACE")]
struct GetPidNamespace;

// SAFETY: the call takes no argument and writes to no memory; what it returns is a new file descriptor.
unsafe impl Ioctl for GetPidNamespace {
    type Output = OwnedFd;

    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        opcode::none(0xff, 5)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        null_mut()
    }

    unsafe fn output_from_ptr(output: IoctlOutput, _: *mut c_void) -> rustix::io::Result<OwnedFd> {
        // SAFETY: the caller says that the call succeeded; then this is a descriptor that nobody else has.
        Ok(unsafe { OwnedFd::from_raw_fd(output) })
    }
}
