//! Fixtures, for this binary and others: a directory for locks, memory that processes share, and forked processes that talk to their parent.
//!
//! A forked child of a test binary has one thread, the forking one; glibc makes its allocator usable there. It ends by
//! `_exit`, so that it never runs what belongs to the parent, and by SIGALRM if it hangs.
#![allow(dead_code)]

#[path = "../support/dispositions.rs"]
pub(crate) mod dispositions;

use std::ffi::{CStr, CString};
use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use resourcelock::{OpenOptions, ResourceLock, Timeout};

/// What nothing here should need, on a machine that is busy with other things; a test that does has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const AT_ONCE: Timeout = Timeout::ZERO;
pub(crate) const LONG: Timeout = Timeout::from_secs(60);

/// Waits until `happened`, by looking again and again.
pub(crate) fn wait_until(what: &str, mut happened: impl FnMut() -> bool) {
    let began = Instant::now();
    while !happened() {
        assert!(began.elapsed() < PATIENCE, "did not happen: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A fresh directory for locks, on a tmpfs, removed at the end.
pub(crate) struct Dir(String);

impl Dir {
    pub(crate) fn new() -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let dir = Path::new("/dev/shm").join(format!("resourcelock-it-{}-{count}", std::process::id()));
        fs::create_dir(&dir).expect("a fresh directory");
        Self(dir.to_str().unwrap().to_owned())
    }

    pub(crate) fn options(&self) -> OpenOptions<'_> {
        ResourceLock::options().dir(&self.0)
    }

    /// A handle on the one lock that most tests need.
    pub(crate) fn open(&self) -> ResourceLock {
        self.options().open("it").unwrap()
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        Path::new(&self.0).join(file)
    }

    /// The file of that lock.
    pub(crate) fn lock_file(&self) -> PathBuf {
        self.path("resourcelock.it")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A file of zeros, mapped where forked children see the same memory.
pub(crate) struct Shared(*mut libc::c_void);

// SAFETY: it is memory that is only ever reached through atomics or, in `Counter`, through volatile accesses whose
// exclusion is the very thing under test.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

impl Shared {
    const SIZE: usize = 16_384;

    pub(crate) fn new(dir: &Dir) -> Self {
        let file = fs::OpenOptions::new().read(true).write(true).create_new(true).open(dir.path("shared")).unwrap();
        file.set_len(Self::SIZE as u64).unwrap();
        // SAFETY: a new mapping, at an address of the kernel's choice.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                Self::SIZE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        assert_ne!(address, libc::MAP_FAILED);
        Self(address)
    }

    pub(crate) fn word(&self, index: usize) -> &AtomicU32 {
        assert!(index < Self::SIZE / 4);
        let word = self.0.cast::<AtomicU32>().wrapping_add(index);
        // SAFETY: within the mapping, aligned, and any value is valid.
        unsafe { &*word }
    }

    /// Adds one to a counter as a program would that relies on a lock: reads it, then writes it.
    pub(crate) fn increment(&self, index: usize) {
        let counter = self.word(index).as_ptr();
        // SAFETY: within the mapping. Volatile, so that each increment is made one by one; that nobody comes between
        // is for the lock to see to.
        let value = unsafe { counter.read_volatile() };
        std::hint::spin_loop();
        // SAFETY: as above.
        unsafe { counter.write_volatile(value + 1) };
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`; no reference into it outlives `self`.
        unsafe { libc::munmap(self.0, Self::SIZE) };
    }
}

/// A child's line to its parent, or the other way round.
pub(crate) struct Line(UnixStream);

impl AsRawFd for Line {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_raw_fd()
    }
}

impl Line {
    /// Says that something happened.
    pub(crate) fn say(&mut self, event: &str) {
        assert!(event.len() < 256);
        let mut message = vec![event.len() as u8];
        message.extend(event.as_bytes());
        self.0.write_all(&message).expect("the other side listens");
    }

    /// Waits for the next event, whatever it is. An empty one: the other side has ended.
    pub(crate) fn next(&mut self) -> String {
        let mut len = [0];
        if self.0.read_exact(&mut len).is_err() {
            return String::new();
        }
        let mut event = vec![0; len[0].into()];
        self.0.read_exact(&mut event).expect("an event comes whole");
        String::from_utf8(event).unwrap()
    }

    /// Waits for the next event, which must be this one.
    #[track_caller]
    pub(crate) fn hear(&mut self, event: &str) {
        assert_eq!(self.next(), event);
    }
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Exited(i32),
    Killed(i32),
}

/// A forked process. Killed and reaped, if it has not ended before, when it is dropped.
pub(crate) struct Child {
    pub(crate) pid: libc::pid_t,
    pub(crate) line: Line,
    is_reaped: bool,
}

impl Child {
    /// Forks a process that runs `body` and exits with 0, or with 101 if it panics.
    pub(crate) fn fork(body: impl FnOnce(&mut Line)) -> Self {
        // SAFETY: the child goes on with code that needs no other thread; see the module's header.
        Self::by(|| unsafe { libc::fork() }, body).expect("fork")
    }

    /// As [`Child::fork`], with the pid that is asked for. `None` if that can't be had.
    pub(crate) fn fork_with_pid(pid: libc::pid_t, body: impl FnOnce(&mut Line)) -> Option<Self> {
        Self::by(
            || {
                let pids = [pid];
                let args = CloneArgs {
                    exit_signal: libc::SIGCHLD as u64,
                    set_tid: pids.as_ptr().addr() as u64,
                    set_tid_size: 1,
                    ..CloneArgs::default()
                };
                // SAFETY: without CLONE_VM this forks; what glibc does around a fork is not done, so the body must not
                // allocate while other threads of the parent do: the callers are processes of one thread.
                unsafe { libc::syscall(libc::SYS_clone3, &args, size_of_val(&args)) as libc::pid_t }
            },
            body,
        )
    }

    fn by(fork: impl FnOnce() -> libc::pid_t, body: impl FnOnce(&mut Line)) -> Option<Self> {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        match fork() {
            -1 => None,
            0 => {
                drop(ours);
                dispositions::reset();
                // SAFETY: arms a timer whose signal ends this process.
                unsafe { libc::alarm(2 * PATIENCE.as_secs() as u32) };
                let mut line = Line(theirs);
                let outcome = catch_unwind(AssertUnwindSafe(|| body(&mut line)));
                if let Err(panic) = &outcome {
                    let text = panic.downcast_ref::<String>().map(String::as_str);
                    let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
                    let _ = std::io::stderr().write_all(format!("in a child: {text}\n").as_bytes());
                }
                // SAFETY: ends the process.
                unsafe { libc::_exit(if outcome.is_ok() { 0 } else { 101 }) }
            }
            pid => Some(Self { pid, line: Line(ours), is_reaped: false }),
        }
    }

    /// Forks a process that acquires the lock `it`, says `holds`, and releases it when it is told anything.
    pub(crate) fn holder(dir: &Dir, info: &str) -> Self {
        let mut child = Self::fork(|line| {
            let lock = dir.open();
            let guard = lock.lock(LONG, info).unwrap();
            line.say("holds");
            line.next();
            assert!(guard.release());
        });
        child.line.hear("holds");
        child
    }

    pub(crate) fn signal(&self, signal: i32) {
        assert!(!self.is_reaped);
        // SAFETY: a child that was not reaped, so the pid is its own.
        assert_eq!(unsafe { libc::kill(self.pid, signal) }, 0);
    }

    /// Kills it, and leaves it a zombie.
    pub(crate) fn kill(&self) {
        self.signal(libc::SIGKILL);
        self.wait_for(libc::WEXITED | libc::WNOWAIT);
    }

    /// Stops it by SIGSTOP, and waits until it has stopped.
    pub(crate) fn stop(&self) {
        self.signal(libc::SIGSTOP);
        self.wait_for(libc::WSTOPPED | libc::WNOWAIT);
    }

    /// Waits until a traced child stops, and tells by which signal.
    pub(crate) fn stops(&mut self) -> i32 {
        let mut status = 0;
        // SAFETY: a child of ours, and memory of ours.
        assert_eq!(unsafe { libc::waitpid(self.pid, &mut status, 0) }, self.pid);
        self.is_reaped = !libc::WIFSTOPPED(status);
        assert!(!self.is_reaped, "the child has ended: {status:#x}");
        libc::WSTOPSIG(status)
    }

    /// Waits until a traced child stops: `true`, or has ended: `false`, and then it must have done what it had to.
    pub(crate) fn stopped(&mut self) -> bool {
        let mut status = 0;
        // SAFETY: a child of ours, and memory of ours.
        assert_eq!(unsafe { libc::waitpid(self.pid, &mut status, 0) }, self.pid);
        if libc::WIFSTOPPED(status) {
            return true;
        }
        self.is_reaped = true;
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "{status:#x}");
        false
    }

    /// Waits for a change of its state. Not for a child that may hang: the test's own time is the limit there.
    fn wait_for(&self, options: i32) -> libc::siginfo_t {
        // SAFETY: all zeros is valid for the structure that the call fills.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: a child of ours, and memory of ours.
        let result = unsafe { libc::waitid(libc::P_PID, self.pid as libc::id_t, &mut info, options) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
        info
    }

    /// Whether it has ended; it stays to be reaped.
    pub(crate) fn has_died(&self) -> bool {
        // SAFETY: filled in by the kernel for a child that has ended, and left zero for one that has not.
        unsafe { self.wait_for(libc::WEXITED | libc::WNOWAIT | libc::WNOHANG).si_pid() != 0 }
    }

    /// Waits for its end, and reaps it.
    pub(crate) fn end(&mut self) -> End {
        let info = self.wait_for(libc::WEXITED);
        self.is_reaped = true;
        // SAFETY: the kernel filled it in for a child's end.
        let status = unsafe { info.si_status() };
        if info.si_code == libc::CLD_EXITED { End::Exited(status) } else { End::Killed(status) }
    }

    /// Waits until it has done what it had to.
    #[track_caller]
    pub(crate) fn succeeds(mut self) {
        assert_eq!(self.end(), End::Exited(0));
    }

    /// Tells a holder to let go, and waits until it has ended.
    #[track_caller]
    pub(crate) fn lets_go(mut self) {
        self.line.say("let go");
        self.succeeds();
    }

    /// Waits until it sleeps in the kernel on the lock's word.
    pub(crate) fn waits(&self) {
        let stat = format!("/proc/{}/stat", self.pid);
        let syscall = format!("/proc/{}/syscall", self.pid);
        wait_until("the child waits for the lock", || {
            let state = fs::read_to_string(&stat).unwrap_or_default();
            let asleep = state.rsplit(')').next().is_some_and(|rest| rest.starts_with(" S"));
            // The file needs a kernel with CONFIG_HAVE_ARCH_TRACEHOOK; without it, asleep has to do.
            asleep && fs::read_to_string(&syscall).map_or(true, |call| is_futex(&call) || is_ring(&call))
        });
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.is_reaped {
            // SAFETY: a child that was not reaped, so the pid is its own.
            unsafe { libc::kill(self.pid, libc::SIGKILL) };
            // SAFETY: as above.
            unsafe { libc::waitpid(self.pid, std::ptr::null_mut(), 0) };
        }
    }
}

/// The numbers of futex(2): on 64-bit ARM, on 64-bit x86, on 32 bits, and there with 64-bit times. Which of them the
/// kernel shows is the kernel's matter, which may have another bitness, or be another machine's under an emulator. None
/// is another system's number for a call that a child of ours sleeps in.
const FUTEX: [u32; 4] = [98, 202, 240, 422];

/// The number of io_uring_enter(2), the same on every architecture: a waiter with a ring sleeps in it.
const IO_URING_ENTER: u32 = 426;

/// Whether a line of `/proc/PID/syscall` is about futex(2).
pub(crate) fn is_futex(call: &str) -> bool {
    call.split(' ').next().and_then(|number| number.parse().ok()).is_some_and(|number| FUTEX.contains(&number))
}

fn is_ring(call: &str) -> bool {
    call.split(' ').next().and_then(|number| number.parse().ok()) == Some(IO_URING_ENTER)
}

/// The kernel's `struct clone_args`, which libc lacks for some targets; all zeros is a plain fork.
#[derive(Default)]
#[repr(C, align(8))]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Whether this is no kernel but QEMU's user mode before 8.0, which accepts every advice of madvise(2) and follows none: a
/// forked child inherits the mapping that pins a seat, and keeps its dead parent's hold alive. A kernel refuses
/// MADV_REMOVE for memory without a file.
pub(crate) fn kernel_ignores_dontfork() -> bool {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping, at an address of the kernel's choice.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), 1, protection, flags, -1, 0) };
    assert_ne!(page, libc::MAP_FAILED);
    // SAFETY: advice about the mapping just made, which holds nothing.
    let accepts_everything = unsafe { libc::madvise(page, 1, libc::MADV_REMOVE) } == 0;
    // SAFETY: the mapping just made; nothing refers to it.
    unsafe { libc::munmap(page, 1) };
    accepts_everything
}

/// Skips a test of what a fork does not inherit, and returns `true`, where the kernel ignores MADV_DONTFORK.
pub(crate) fn forks_inherit_seats(test: &str) -> bool {
    let ignores = kernel_ignores_dontfork();
    if ignores {
        pass_over(test, "MADV_DONTFORK is ignored here (QEMU's user mode)");
    }
    ignores
}

pub(crate) fn is_root() -> bool {
    // SAFETY: asks the kernel for a number.
    unsafe { libc::geteuid() == 0 }
}

/// What begins each line of [`pass_over`]. `cross/tests.sh` collects these lines.
const PASSED_OVER: &str = "passed over: ";

/// Reports that a test is skipped here, and why: in one write, so that no other thread's output comes between.
pub(crate) fn pass_over(test: &str, why: &str) {
    let _ = std::io::stderr().write_all(format!("{PASSED_OVER}{test}: {why}\n").as_bytes());
}

/// Which calls are meant: those whose argument of this index has, under the mask, this value.
#[derive(Clone, Copy)]
pub(crate) struct Argument {
    pub(crate) index: u32,
    pub(crate) mask: u32,
    pub(crate) value: u32,
}

/// All of them.
pub(crate) const ANY: Argument = Argument { index: 0, mask: 0, value: 0 };

/// From now on, the kernel refuses this process and all that it starts such a system call, as an older kernel or a sandbox
/// does: by seccomp(2). `false` if that is not permitted here. Allocates nothing.
pub(crate) fn refuse(call: libc::c_long, which: Argument, errno: i32) -> bool {
    // `struct seccomp_data`: the call's number, and from 16 on its arguments, of 64 bits each, of which the filter sees 32
    // at a time.
    let low_half = 16 + 8 * which.index + if cfg!(target_endian = "big") { 4 } else { 0 };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let statement = |code: u32, k| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let unless_equal = |k, jf| libc::sock_filter { jf, ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, k) };
    let mut filter = [
        statement(load, 0),
        unless_equal(call as u32, 4),
        statement(load, low_half),
        statement(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, which.mask),
        unless_equal(which.value, 1),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno as u32),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: a request that touches no memory.
    let no_privileges = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    // SAFETY: a program of ours, which the kernel checks and copies.
    let filtered = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    no_privileges == 0 && filtered == 0
}

/// As [`refuse`], of every way to open a file with all of these flags: open(2), which newer architectures lack, and
/// openat(2).
pub(crate) fn refuse_open(flags: i32, errno: i32) -> bool {
    let with_flags = |index| Argument { index, mask: flags as u32, value: flags as u32 };
    #[cfg(any(target_arch = "x86_64", target_arch = "x86", target_arch = "arm"))]
    if !refuse(libc::SYS_open, with_flags(1), errno) {
        return false;
    }
    refuse(libc::SYS_openat, with_flags(2), errno)
}

/// As [`refuse`], of every way to give a file another name: link(2), which newer architectures lack, and linkat(2).
pub(crate) fn refuse_link(errno: i32) -> bool {
    #[cfg(any(target_arch = "x86_64", target_arch = "x86", target_arch = "arm"))]
    if !refuse(libc::SYS_link, ANY, errno) {
        return false;
    }
    refuse(libc::SYS_linkat, ANY, errno)
}

/// Runs the test of that path again, by itself, in a new process in which `prepare` came first, and tells whether this is
/// that process. For what a process finds out once: the threads of this one have found it out long ago.
pub(crate) fn is_fresh(test: &str, prepare: fn() -> bool) -> bool {
    const FRESH: &str = "RESOURCELOCK_TEST_IS_FRESH";
    if std::env::var_os(FRESH).is_some() {
        return true;
    }
    if kernel_ignores_dontfork() {
        pass_over(test, "a program cannot start itself here (QEMU's user mode)");
        return false;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(FRESH, "1");
    let prepare = move || if prepare() { Ok(()) } else { Err(std::io::ErrorKind::Unsupported.into()) };
    // SAFETY: between fork and exec, `prepare` makes system calls only.
    match unsafe { command.pre_exec(prepare) }.output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout);
            let complained = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && said.contains("1 passed"), "{said}\n{complained}");
            complained
                .lines()
                .filter_map(|line| line.strip_prefix(PASSED_OVER)?.split_once(": "))
                .for_each(|(test, why)| pass_over(test, why));
        }
        Err(error) => pass_over(test, &format!("no process where the kernel refuses something: {error}")),
    }
    false
}

/// Gives this process mounts of its own, from which nothing gets out. `false` if that is not permitted here.
pub(crate) fn has_own_mounts() -> bool {
    // SAFETY: changes this process's view of the file systems, nothing of its memory.
    let alone = unsafe { libc::unshare(libc::CLONE_NEWNS) } == 0;
    alone && mount(None, "/", libc::MS_REC | libc::MS_PRIVATE, c"")
}

/// Mounts a file system of that type and with these options, or changes the flags of one.
pub(crate) fn mount(kind: Option<&CStr>, path: &str, flags: libc::c_ulong, options: &CStr) -> bool {
    let path = CString::new(path).unwrap();
    let kind = kind.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: strings that end with a NUL, or none.
    unsafe { libc::mount(c"none".as_ptr(), path.as_ptr(), kind, flags, options.as_ptr().cast()) == 0 }
}

/// Hides what is below a path behind an empty file system.
pub(crate) fn hide(path: &str) -> bool {
    mount(Some(c"tmpfs"), path, 0, c"")
}
