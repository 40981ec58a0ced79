//! Who we are, found out once per process, and noticed anew after a fork.
//!
//! The answers live in one page that the kernel gives to a forked child zeroed (MADV_WIPEONFORK, Linux 4.14): reading
//! one word of it tells a child, without a system call, that it is not the process whose memory it has. On older
//! kernels, getpid(2) tells, at 0.2 µs a call.
//!
//! Invariant: `token` is zero until everything else in the page is in place, and never zero afterwards. A crash does not
//! matter, the page is private to the process. A fork in the middle leaves the child a page of zeros, lock included.
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

use crate::error::{Error, Operation};
use crate::name::decimal;
use crate::owner::Stat;
use crate::record::{Holder, PROGRAM_CAPACITY};
use crate::sys::clock;
use crate::sys::file::open_file;

/// A stat line has at most 52 numbers of 20 digits and a name of 64 bytes; what we read of it ends at the 22nd.
pub(crate) const STAT_CAPACITY: usize = 512;

#[repr(C)]
struct Page {
    /// Tells one process from another, also from one of the same pid later on; zero while unknown.
    token: AtomicU32,
    /// One while a thread is finding out.
    busy: AtomicU32,
    pid: AtomicU32,
    start_time: [AtomicU32; 2],
    uid: AtomicU32,
    pid_ns: AtomicU32,
    time_ns: AtomicU32,
    program: [AtomicU32; PROGRAM_CAPACITY / 4],
}

static PAGE: AtomicPtr<Page> = AtomicPtr::new(null_mut());

/// Whether the kernel can't wipe the page at a fork, so that the pid must be asked for each time.
static MUST_ASK: AtomicBool = AtomicBool::new(false);

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
        // Acquire: pairs with the Release below; the page's address comes with a zeroed, advised page.
        let mut page = PAGE.load(Ordering::Acquire);
        if page.is_null() {
            page = map_page()?;
        }
        // SAFETY: the page is never unmapped, is zeroed (valid for atomics) and is only ever accessed as a `Page`.
        let process = Self(unsafe { &*page });
        process.refresh();
        Ok(process)
    }

    /// Makes sure that the page tells of this process and not of its parent.
    #[inline]
    pub(crate) fn refresh(self) {
        // Acquire: pairs with the Release in `identify`.
        if self.0.token.load(Ordering::Acquire) == 0 || MUST_ASK.load(Ordering::Relaxed) {
            self.identify();
        }
    }

    /// A number that no other process has that could have inherited our memory.
    #[inline]
    pub(crate) fn token(self) -> u32 {
        self.0.token.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn pid(self) -> u32 {
        self.0.pid.load(Ordering::Relaxed)
    }

    /// Clock ticks after boot; zero if unknown.
    #[inline]
    pub(crate) fn start_time(self) -> u64 {
        let [low, high] = self.0.start_time.each_ref().map(|word| u64::from(word.load(Ordering::Relaxed)));
        low | high << 32
    }

    /// Inode number of our PID namespace; zero if unknown.
    #[inline]
    pub(crate) fn pid_ns(self) -> u32 {
        self.0.pid_ns.load(Ordering::Relaxed)
    }

    /// Inode number of our time namespace; zero if unknown.
    #[inline]
    pub(crate) fn time_ns(self) -> u32 {
        self.0.time_ns.load(Ordering::Relaxed)
    }

    /// What a grant of ours says of its holder.
    #[inline]
    pub(crate) fn as_holder(self) -> Holder {
        Holder {
            pid: self.pid(),
            start_time: self.start_time(),
            uid: self.0.uid.load(Ordering::Relaxed),
            program: self.0.program.each_ref().map(|word| word.load(Ordering::Relaxed)),
        }
    }

    #[cold]
    fn identify(self) {
        let page = self.0;
        let pid = getpid().as_raw_nonzero().get() as u32;
        let token = page.token.load(Ordering::Acquire);
        if token != 0 {
            if page.pid.load(Ordering::Relaxed) == pid {
                return;
            }
            // A child on a kernel that could not wipe the page. Of its threads, one makes the page anew. Should another
            // be at it already when `busy`, which may be the parent's, is cleared, both write the same.
            if page.token.compare_exchange(token, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                page.busy.store(0, Ordering::Relaxed);
            }
        }
        // Acquire: pairs with the Release of `busy` below.
        while page.busy.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
            clock::yield_to_others();
        }
        if page.token.load(Ordering::Relaxed) == 0 {
            let set = |cell: &AtomicU32, value| cell.store(value, Ordering::Relaxed);
            let mut buffer = [0; STAT_CAPACITY];
            // A /proc of another PID namespace shows another process under our pid, or calls us by another: unusable.
            let stat = read_own_stat(pid, &mut buffer);
            let start_time = stat.map_or(0, |stat| stat.start_time);
            let mut program = [0; PROGRAM_CAPACITY];
            if let Some(stat) = stat {
                let len = stat.program.len().min(PROGRAM_CAPACITY);
                program[..len].copy_from_slice(&stat.program[..len]);
            }
            set(&page.pid, pid);
            set(&page.start_time[0], start_time as u32);
            set(&page.start_time[1], (start_time >> 32) as u32);
            set(&page.uid, getuid().as_raw());
            set(&page.pid_ns, namespace(c"/proc/self/ns/pid").or_else(own_pid_namespace).unwrap_or(0));
            set(&page.time_ns, namespace(c"/proc/self/ns/time").unwrap_or(0));
            for (cell, bytes) in page.program.iter().zip(program.chunks_exact(4)) {
                set(cell, u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
            }
            // Two processes of one pid differ in their start time; odd, so never zero.
            let token = (pid ^ (start_time as u32).rotate_left(16)) << 1 | 1;
            // Release: pairs with the Acquire in `refresh`.
            page.token.store(token, Ordering::Release);
        }
        // Release: pairs with the Acquire above.
        page.busy.store(0, Ordering::Release);
    }
}

#[cold]
fn map_page() -> Result<*mut Page, Error> {
    // The kernel rounds up to whatever a page is.
    const LEN: usize = size_of::<Page>();
    let os = |errno| Error::os(Operation::Map, errno);
    // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no memory of ours.
    let page =
        unsafe { mmap_anonymous(null_mut(), LEN, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE).map_err(os)? };
    // SAFETY: the advice is about the mapping just made, which holds nothing yet.
    let wipes = unsafe { madvise(page, LEN, Advice::LinuxWipeOnFork) }.is_ok();
    // QEMU's user mode before 8.0 says yes to every advice and follows none. A kernel refuses this one for memory without
    // a file (madvise(2), MADV_REMOVE).
    // SAFETY: as above.
    let says_yes_to_all = unsafe { madvise(page, LEN, Advice::LinuxRemove) }.is_ok();
    if !wipes || says_yes_to_all {
        MUST_ASK.store(true, Ordering::Relaxed);
    }
    let page = page.cast();
    // Release: pairs with the Acquire in `find`; on failure Acquire, for the other thread's page.
    match PAGE.compare_exchange(null_mut(), page, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => Ok(page),
        Err(first) => {
            // SAFETY: nobody has seen the mapping that lost the race. An error would only leak it.
            let _ = unsafe { munmap(page.cast(), LEN) };
            Ok(first)
        }
    }
}

/// The inode number of a namespace, which is what tells two of them apart ([namespaces(7)]).
///
/// [namespaces(7)]: https://man7.org/linux/man-pages/man7/namespaces.7.html
fn namespace(path: &core::ffi::CStr) -> Option<u32> {
    // The kernel numbers namespaces with 32 bits.
    stat(path).ok().map(|stat| stat.st_ino as u32)
}

/// The inode number of our PID namespace without /proc (Linux 6.11).
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

/// What /proc says of ourselves.
///
/// By way of the main thread's file, which says the same as `/proc/self/stat` does: QEMU's user mode shows programs one
/// of its own making there, with a start time (its own, not the process's) that tells the others that we are dead.
fn read_own_stat(pid: u32, buffer: &mut [u8; STAT_CAPACITY]) -> Option<Stat<'_>> {
    read_stat_in("/proc/self/task/", pid, buffer)
}

/// `/proc/PID/stat`, if it can be read and is about `pid`.
pub(crate) fn read_stat(pid: u32, buffer: &mut [u8; STAT_CAPACITY]) -> Option<Stat<'_>> {
    read_stat_in("/proc/", pid, buffer)
}

fn read_stat_in<'a>(dir: &str, pid: u32, buffer: &'a mut [u8; STAT_CAPACITY]) -> Option<Stat<'a>> {
    let mut path = heapless::String::<40>::new();
    path.push_str(dir).ok()?;
    path.push_str(&decimal(pid)).ok()?;
    path.push_str("/stat\0").ok()?;
    let path = core::ffi::CStr::from_bytes_with_nul(path.as_bytes()).ok()?;
    let file = open_file(path, OFlags::RDONLY, Mode::empty()).ok()?;
    // The kernel makes the whole line for one read.
    let len = rustix::io::read(&file, &mut buffer[..]).ok()?;
    Stat::parse(&buffer[..len]).filter(|stat| stat.pid == pid)
}
