//! Seats under attack: what a process may do to itself, to its files and to its memory while it holds, and what others
//! may do to the lock's file. A living holder is never found dead; a dead one is, at the latest after two slices.
//!
//! Each test is one of the experiments behind the design, as a test of the library.

use std::ffi::CString;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use resourcelock::{Error, LockError, NotALock, Previous, ResourceLock, SeatError, Timeout};

use crate::support::{
    AT_ONCE, Child, Dir, End, LONG, Line, forks_inherit_seats, has_own_mounts, is_fresh, is_root, mount, pass_over,
    wait_until,
};

/// Long enough for a contender to probe several times.
const WHILE: Timeout = Timeout::from_millis(120);

/// A contender that probes for a while must find the holder alive.
#[track_caller]
fn is_alive(dir: &Dir) {
    let lock = dir.open();
    assert!(matches!(lock.try_lock("a contender"), Err(LockError::TimedOut(_))), "robbed by a try");
    assert!(matches!(lock.lock(WHILE, "a contender"), Err(LockError::TimedOut(_))), "robbed by a wait");
}

/// A contender must find the holder dead, and say so.
#[track_caller]
fn is_recovered(dir: &Dir) {
    let lock = dir.open();
    let guard = lock.lock(Timeout::from_secs(5), "recovers").expect("the holder is dead");
    assert!(matches!(guard.previous(), Previous::Died(_)), "{:?}", guard.previous());
}

/// A holder that does `something` while it holds: it must be found alive after it, and dead once it is killed.
#[track_caller]
fn survives(something: impl FnOnce() + Copy) {
    let dir = Dir::new();
    let mut holder = Child::fork(|line| {
        let lock = dir.open();
        let guard = lock.lock(LONG, "under attack").unwrap();
        something();
        line.say("done");
        line.next();
        assert!(guard.is_held());
        assert!(guard.release());
    });
    holder.line.hear("done");
    is_alive(&dir);
    let contender = dir.open();
    holder.signal(libc::SIGKILL);
    holder.end();
    drop(contender);
    is_recovered(&dir);
}

/// closefrom(2), and then other files by the same numbers: neither the seat nor the kept descriptor may be mistaken.
#[test]
fn a_holder_that_closes_all_descriptors_holds() {
    let dir = Dir::new();
    let decoy = dir.path("decoy");
    fs::write(&decoy, [0; 4096]).unwrap();
    let decoy = CString::new(decoy.to_str().unwrap()).unwrap();
    let mut holder = Child::fork(|line| {
        let lock = dir.open();
        let other = dir.options().open("other").unwrap();
        let guard = lock.lock(LONG, "closes everything").unwrap();
        for fd in (0..1024).filter(|&fd| fd != line.as_raw_fd()) {
            // SAFETY: closes descriptors of this process, which uses none of them but the line.
            unsafe { libc::close(fd) };
        }
        for _ in 0..32 {
            // SAFETY: opens a file by a string that ends with NUL.
            unsafe { libc::open(decoy.as_ptr(), libc::O_RDWR) };
        }
        line.say("done");
        line.next();
        assert!(guard.release());
        // It goes on taking part, also as a contender.
        drop(lock.lock(LONG, "again").unwrap());
        drop((lock, other));
        // Nothing but its own files was closed.
        // SAFETY: asks for the flags of a descriptor.
        assert!((3..30).filter(|&fd| unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0).count() >= 26);
    });
    holder.line.hear("done");
    is_alive(&dir);
    holder.line.say("release");
    holder.succeeds();
    assert!(!dir.open().try_lock("").unwrap().recovered());
}

#[test]
fn a_holder_that_fails_to_exec_holds() {
    survives(|| {
        for program in [c"/nonexistent", c"/dev/null", c"/"] {
            let arguments = [program.as_ptr(), std::ptr::null()];
            // SAFETY: strings that end with NUL, in a list that ends with a null pointer; it fails.
            assert_eq!(unsafe { libc::execv(program.as_ptr(), arguments.as_ptr()) }, -1);
        }
    });
}

#[test]
fn a_holder_that_forks_and_starts_programs_holds() {
    survives(|| {
        for _ in 0..50 {
            Child::fork(|_| {}).succeeds();
        }
        for _ in 0..10 {
            assert!(std::process::Command::new("/bin/true").status().unwrap().success());
        }
    });
}

/// The child lives on, and has everything that fork(2) gives it.
#[test]
fn a_forked_child_that_outlives_the_holder_keeps_nothing() {
    if forks_inherit_seats("a_forked_child_that_outlives_the_holder_keeps_nothing") {
        return;
    }
    let dir = Dir::new();
    let mut holder = Child::fork(|line| {
        let lock = dir.open();
        let guard = lock.lock(LONG, "the parent's").unwrap();
        let mut child = Child::fork(|line| {
            assert!(!guard.is_held());
            line.say("lives");
            // Not until its line ends, which it does with the holder.
            loop {
                // SAFETY: waits for a signal.
                unsafe { libc::pause() };
            }
        });
        child.line.hear("lives");
        line.say(&child.pid.to_string());
        line.next();
        std::mem::forget((child, guard));
    });
    let child: libc::pid_t = holder.line.next().parse().unwrap();
    is_alive(&dir);
    holder.signal(libc::SIGKILL);
    holder.end();
    // SAFETY: asks whether there is such a process.
    assert_eq!(unsafe { libc::kill(child, 0) }, 0, "the child lives");
    is_recovered(&dir);
    // SAFETY: a grandchild, which has lived until now.
    assert_eq!(unsafe { libc::kill(child, libc::SIGKILL) }, 0, "the child lives");
}

#[test]
fn exec_ends_a_hold_and_counts_as_a_death() {
    let dir = Dir::new();
    let mut holder = Child::fork(|line| {
        let lock = dir.open();
        lock.lock(LONG, "becomes another program").unwrap().keep();
        line.say("holds");
        line.hear("go on");
        exec_sleep();
    });
    holder.line.hear("holds");
    is_alive(&dir);
    holder.line.say("go on");
    // The line closes at exec.
    assert_eq!(holder.line.next(), "");
    assert!(!holder.has_died());
    is_recovered(&dir);
}

/// Two causes made a process that execs from a secondary thread look dead before: its state is *dead* for a moment, and its
/// pidfd may be readable. A hold that is carried over must last through it.
#[test]
fn a_carried_hold_survives_exec_from_a_secondary_thread() {
    for _ in 0..20 {
        let dir = Dir::new();
        let contender = dir.open();
        let mut holder = Child::fork(|line| {
            let lock = dir.options().keep_across_exec(true).open("it").unwrap();
            let guard = lock.lock(LONG, "carried").unwrap();
            let descriptor = guard.carry_across_exec().unwrap();
            assert!(descriptor >= 10);
            line.say("holds");
            line.hear("go on");
            std::thread::scope(|scope| {
                scope.spawn(exec_sleep);
            });
        });
        holder.line.hear("holds");
        holder.line.say("go on");
        let has_execed =
            || fs::read_to_string(format!("/proc/{}/comm", holder.pid)).is_ok_and(|comm| comm == "sleep\n");
        while !has_execed() {
            assert!(contender.try_lock("").is_err(), "robbed during exec");
        }
        is_alive(&dir);
        holder.signal(libc::SIGKILL);
        holder.end();
        is_recovered(&dir);
    }
}

fn exec_sleep() {
    let program = c"/bin/sleep";
    let arguments = [program.as_ptr(), c"1000".as_ptr(), std::ptr::null()];
    // SAFETY: strings that end with NUL, in a list that ends with a null pointer.
    unsafe { libc::execv(program.as_ptr(), arguments.as_ptr()) };
    panic!("no /bin/sleep");
}

/// A program that holds by the descriptor and writes to it must not overwrite the record.
#[test]
fn a_stray_write_to_the_carried_descriptor_fails() {
    let dir = Dir::new();
    let lock = dir.options().keep_across_exec(true).open("it").unwrap();
    let guard = lock.try_lock("carried").unwrap();
    let before = fs::read(dir.lock_file()).unwrap();
    let descriptor = lock.seat_descriptor().unwrap();
    // SAFETY: writes from a buffer of this test.
    let written = unsafe { libc::write(descriptor, b"oops".as_ptr().cast(), 4) };
    let errno = std::io::Error::last_os_error().raw_os_error();
    assert!(written == -1 && [Some(libc::EFBIG), Some(libc::EINVAL)].contains(&errno), "{written}, {errno:?}");
    assert_eq!(fs::read(dir.lock_file()).unwrap(), before);
    // SAFETY: asks for the flags of a descriptor.
    assert_eq!(unsafe { libc::fcntl(descriptor, libc::F_GETFD) }, libc::FD_CLOEXEC);
    assert!(matches!(dir.open().try_lock("").map(drop), Err(LockError::TimedOut(_))));
    drop(guard);
    let without = dir.open();
    assert_eq!(without.seat_descriptor(), None);
    let refused = without.try_lock("").unwrap().carry_across_exec();
    assert_eq!(refused, Err(Error::Seat(SeatError::NotKept)));
}

/// vfork(2) and a thread that ends are no concern of a hold's; madvise(2) on all memory is none either.
#[test]
fn a_holder_whose_thread_ends_holds() {
    let dir = Dir::new();
    let mut holder = Child::fork(|line| {
        let lock = Box::leak(Box::new(dir.open()));
        std::thread::scope(|scope| {
            scope.spawn(|| lock.lock(LONG, "a thread's").unwrap().keep());
        });
        line.say("the thread has ended");
        line.next();
        assert!(lock.release());
    });
    holder.line.hear("the thread has ended");
    is_alive(&dir);
    holder.lets_go();
}

/// The path of the lock leads elsewhere for the holder, and for nobody else.
#[test]
fn a_holder_that_changes_its_mounts_holds() {
    if !is_root() {
        return pass_over("a_holder_that_changes_its_mounts_holds", "mount namespaces need root");
    }
    let dir = Dir::new();
    let mut holder = Child::fork(|line| {
        let lock = dir.open();
        let guard = lock.lock(LONG, "in another mount namespace").unwrap();
        assert!(has_own_mounts() && crate::support::hide("/dev/shm"));
        line.say("done");
        line.hear("check");
        // Past the interval after which the name is looked at again.
        wait_until("it is time to look at the name", dir_is_due);
        assert_eq!(guard.check(), Ok(true), "a path that leads elsewhere proves nothing");
        assert!(guard.release());
        drop(lock.lock(LONG, "on the same record").unwrap());
        line.say("checked");
        line.next();
    });
    holder.line.hear("done");
    is_alive(&dir);
    holder.line.say("check");
    holder.line.hear("checked");
    assert_eq!(dir.open().last_grant().unwrap().info(), "on the same record");
    holder.line.say("end");
    holder.succeeds();
}

/// The name is looked at again after 100 ms.
fn dir_is_due() -> bool {
    std::thread::sleep(Duration::from_millis(110));
    true
}

/// A contender in a mount namespace in which the name leads to another lock, held by a process that has died there.
#[test]
fn a_contender_that_changes_its_mounts_robs_nobody() {
    if !is_root() {
        return pass_over("a_contender_that_changes_its_mounts_robs_nobody", "mount namespaces need root");
    }
    let dir = Dir::new();
    let holder = Child::holder(&dir, "lives");
    Child::fork(|_| {
        let lock = dir.open();
        let path = dir.path("").to_str().unwrap().to_owned();
        assert!(has_own_mounts() && mount(Some(c"tmpfs"), &path, 0, c""));
        // The same name, other file, dead holder in the same seat numbers.
        Child::fork(|_| dir.open().try_lock("dies").unwrap().keep_forever()).end();
        dir_is_due();
        assert!(matches!(lock.lock(WHILE, "a contender"), Err(LockError::TimedOut(_))), "robbed");
    })
    .succeeds();
    holder.lets_go();
}

/// Ends the process without releasing.
trait KeepForever {
    fn keep_forever(self);
}

impl KeepForever for resourcelock::Guard<'_> {
    fn keep_forever(self) {
        self.keep();
        // SAFETY: ends the process, without running destructors.
        unsafe { libc::_exit(0) };
    }
}

/// Another file has the lock's name: the holder's seat is on the old one, and so must the probe be.
#[test]
fn a_replaced_name_robs_nobody_and_blocks_nobody() {
    let dir = Dir::new();
    let before = dir.open();
    let holder = Child::holder(&dir, "lives");
    // Another lock, whose dead holder has the same seat number.
    let decoy = dir.options().open("decoy").unwrap();
    drop(decoy);
    Child::fork(|_| dir.options().open("decoy").unwrap().try_lock("dies").unwrap().keep_forever()).end();
    fs::rename(dir.path("resourcelock.decoy"), dir.lock_file()).unwrap();
    dir_is_due();
    assert!(matches!(before.lock(WHILE, "a contender"), Err(LockError::TimedOut(_))), "robbed");
    // It waits for the old record's holder like any contender, also for its death, though the name leads elsewhere.
    holder.kill();
    let guard = before.lock(Timeout::from_secs(5), "goes on with the other file").unwrap();
    assert!(guard.recovered());
    assert!(dir.open().try_lock("").is_err(), "one lock again");
    drop(guard);
}

/// A lease must not block the open, and is named.
#[test]
fn a_lease_on_the_file_is_a_typed_error() {
    let dir = Dir::new();
    drop(dir.open());
    let file = fs::OpenOptions::new().read(true).open(dir.lock_file()).unwrap();
    // SAFETY: ignores the signal that the break of a lease sends.
    unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
    // SAFETY: takes a lease by a descriptor of this test.
    let leased = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) };
    if leased != 0 {
        return pass_over("a_lease_on_the_file_is_a_typed_error", "no leases on this file system");
    }
    let began = Instant::now();
    let error = dir.options().open("it").unwrap_err();
    assert_eq!(error, Error::Seat(SeatError::Leased));
    assert!(began.elapsed() < Duration::from_secs(5), "it waited for the lease to break");
    drop(file);
    assert!(dir.open().try_lock("").is_ok());
}

/// lockf(3) on the whole file covers every seat: nothing can be known, nothing is recovered, and the error names the
/// process.
#[test]
fn a_lock_on_the_whole_file_is_named_and_robs_nobody() {
    let dir = Dir::new();
    let before = dir.open();
    let mut locker = Child::fork(|line| {
        let file = fs::OpenOptions::new().read(true).write(true).open(dir.lock_file()).unwrap();
        line.say("ready");
        line.hear("lock");
        // SAFETY: all zeros is valid for the structure, which the call reads.
        let mut flock: libc::flock = unsafe { std::mem::zeroed() };
        flock.l_type = libc::F_RDLCK as libc::c_short;
        // SAFETY: a descriptor and a structure of this process.
        let locked = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &flock) };
        line.say(&if locked == 0 { "locked".to_owned() } else { std::io::Error::last_os_error().to_string() });
        line.next();
    });
    locker.line.hear("ready");
    // While it is there, a seat that is taken refuses it, so it comes first.
    drop(before);
    locker.line.say("lock");
    locker.line.hear("locked");
    let error = dir.options().open("it").unwrap_err();
    assert_eq!(error, Error::Seat(SeatError::ForeignLock { pid: locker.pid as u32 }));
    assert!(error.to_string().contains(&locker.pid.to_string()));
    locker.line.say("end");
    locker.succeeds();
    assert!(dir.open().try_lock("").is_ok());
}

/// A reader who locks everything can deny seats (documented), but cannot block a forced removal.
#[test]
fn a_reader_with_locks_cannot_block_a_forced_removal() {
    let dir = Dir::new();
    drop(dir.open());
    let file = fs::File::open(dir.lock_file()).unwrap();
    // SAFETY: a descriptor of this process.
    assert_eq!(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) }, 0);
    dir.options().remove("it", false).expect("flock(2) is of no concern");
    drop(dir.open());
    let file = fs::File::open(dir.lock_file()).unwrap();
    // SAFETY: all zeros is valid for the structure, which the call reads.
    let mut flock: libc::flock = unsafe { std::mem::zeroed() };
    flock.l_type = libc::F_RDLCK as libc::c_short;
    // SAFETY: as above.
    assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &flock) }, 0);
    dir.options().remove("it", true).expect("a read lock does not stop force");
    assert!(!dir.lock_file().exists());
}

/// Every seat number is drawn again after a wrap of the counter; one that is taken is never given out twice.
#[test]
fn a_wrapped_seat_counter_gives_out_no_seat_twice() {
    let dir = Dir::new();
    let handles: Vec<_> = (0..8).map(|_| dir.open()).collect();
    let seat_of = |lock: &ResourceLock| {
        drop(lock.lock(LONG, "").unwrap());
        lock.last_grant().unwrap().seat()
    };
    let seats: Vec<_> = handles.iter().map(seat_of).collect();
    // Back to before the first one.
    poke(&dir, 64 + 36, seats[0] - 1);
    let more: Vec<_> = (0..8).map(|_| dir.open()).collect();
    let mut all: Vec<_> = seats.iter().copied().chain(more.iter().map(seat_of)).collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 16, "{all:?}");
    // At the end of the range.
    poke(&dir, 64 + 36, u32::MAX - 1);
    let last: Vec<_> = (0..4).map(|_| dir.open()).collect();
    assert!(last.iter().map(seat_of).all(|seat| (1..=0x3f_ffef).contains(&seat)));
}

/// A dead holder's seat that the word still names must not be taken by a newcomer, which would make it look alive.
#[test]
fn the_seat_that_the_word_names_is_not_taken() {
    let dir = Dir::new();
    let mut holder = Child::holder(&dir, "dies");
    let seat = dir.open().holder().unwrap().seat();
    holder.signal(libc::SIGKILL);
    holder.end();
    poke(&dir, 64 + 36, seat - 1);
    let newcomer = dir.open();
    let guard = newcomer.try_lock("recovers").expect("the dead holder looks alive");
    assert!(guard.recovered());
    assert_ne!(newcomer.holder().unwrap().seat(), seat);
}

/// Writes a cell of the record's file.
fn poke(dir: &Dir, offset: u64, value: u32) {
    use std::os::unix::fs::FileExt;
    let file = fs::OpenOptions::new().write(true).open(dir.lock_file()).unwrap();
    file.write_all_at(&value.to_ne_bytes(), offset).unwrap();
}

/// A file on overlayfs is refused, also above a tmpfs: there, the mapping of a seat pins another file.
#[test]
fn overlayfs_is_refused() {
    if !is_root() {
        return pass_over("overlayfs_is_refused", "mounting needs root");
    }
    let dir = Dir::new();
    Child::fork(|line| {
        let at = |name: &str| dir.path(name).to_str().unwrap().to_owned();
        for name in ["lower", "upper", "work", "merged"] {
            fs::create_dir(at(name)).unwrap();
        }
        drop(ResourceLock::options().dir(&at("lower")).open("it").unwrap());
        let options = format!("lowerdir={},upperdir={},workdir={}", at("lower"), at("upper"), at("work"));
        let options = CString::new(options).unwrap();
        if !has_own_mounts() || !mount(Some(c"overlay"), &at("merged"), 0, &options) {
            pass_over("overlayfs_is_refused", "overlayfs cannot be mounted");
            return line.say("refused");
        }
        let on_overlay = |name| ResourceLock::options().dir(&at("merged")).open(name).unwrap_err();
        for error in [on_overlay("it"), on_overlay("new")] {
            assert_eq!(error, Error::FileSystem { magic: 0x794c_7630 });
            assert!(error.to_string().contains("/dev/shm"));
        }
        line.say("refused");
    })
    .line
    .hear("refused");
}

#[test]
fn a_disk_is_refused() {
    let target = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    if !target.exists() {
        return pass_over("a_disk_is_refused", "the target directory is on another machine");
    }
    let error = ResourceLock::options().dir(target.to_str().unwrap()).open("on a disk").unwrap_err();
    // SAFETY: all zeros is valid for the structure that the call fills.
    let mut stat: libc::statfs = unsafe { std::mem::zeroed() };
    let path = CString::new(target.to_str().unwrap()).unwrap();
    // SAFETY: a string that ends with NUL, and a structure of this test.
    assert_eq!(unsafe { libc::statfs(path.as_ptr(), &mut stat) }, 0);
    if stat.f_type as u32 == 0x0102_1994 {
        return pass_over("a_disk_is_refused", "the target directory is on a tmpfs");
    }
    assert_eq!(error, Error::FileSystem { magic: stat.f_type as u32 });
    assert_eq!(
        fs::read_dir(target)
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name() == "resourcelock.on a disk")
            .count(),
        0
    );
}

/// A bind mount keeps the name of a file that was removed: nobody else can reach it.
#[test]
fn a_file_without_links_is_refused() {
    if !is_root() {
        return pass_over("a_file_without_links_is_refused", "mounting needs root");
    }
    let dir = Dir::new();
    Child::fork(|_| {
        drop(dir.open());
        let path = dir.path("resourcelock.bound");
        fs::write(&path, "").unwrap();
        assert!(has_own_mounts());
        let (source, target) = (dir.lock_file(), path.to_str().unwrap().to_owned());
        let source = CString::new(source.to_str().unwrap()).unwrap();
        let c_target = CString::new(target).unwrap();
        // SAFETY: strings that end with NUL.
        let bound = unsafe {
            libc::mount(source.as_ptr(), c_target.as_ptr(), std::ptr::null(), libc::MS_BIND, std::ptr::null())
        };
        assert_eq!(bound, 0);
        fs::remove_file(dir.lock_file()).unwrap();
        assert_eq!(dir.options().open("bound").unwrap_err(), Error::NotALock(NotALock::Unlinked));
    })
    .succeeds();
}

#[test]
fn a_symbolic_link_is_refused() {
    let dir = Dir::new();
    drop(dir.open());
    symlink(dir.lock_file(), dir.path("resourcelock.link")).unwrap();
    assert_eq!(dir.options().open("link").unwrap_err(), Error::NotALock(NotALock::SymbolicLink));
}

/// mlockall(2) with MCL_FUTURE at its limit refuses the mapping that keeps a seat.
#[test]
fn mlockall_at_its_limit_is_a_typed_error() {
    let dir = Dir::new();
    let mut child = Child::fork(|line| {
        drop(dir.open());
        let limit = libc::rlimit { rlim_cur: 65_536, rlim_max: 65_536 };
        // SAFETY: sets a limit of this process.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit) }, 0);
        if is_root() {
            // Root has no limit; an ordinary user of an open directory has.
            fs::set_permissions(dir.path(""), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
            fs::set_permissions(dir.lock_file(), std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
            // SAFETY: gives up privileges.
            assert_eq!(unsafe { libc::setuid(65_534) }, 0);
        }
        // SAFETY: locks memory of this process that is mapped from now on.
        if unsafe { libc::mlockall(libc::MCL_FUTURE) } != 0 {
            return line.say("no mlockall");
        }
        // Pages of one record and one seat each, until the limit is reached.
        let mut handles = Vec::with_capacity(64);
        let error = loop {
            match dir.options().open("it") {
                Ok(lock) if handles.len() < 64 => handles.push(lock),
                Ok(_) => return line.say("no limit"),
                Err(error) => break error,
            }
        };
        let known = [
            Error::Seat(SeatError::MemoryLocked),
            Error::Os { operation: resourcelock::Operation::Map, errno: libc::EAGAIN },
        ];
        assert!(known.contains(&error), "{error:?}");
        // What was opened before still works.
        assert!(handles[0].try_lock("").is_ok());
        line.say("refused");
    });
    match child.line.next().as_str() {
        "refused" => child.succeeds(),
        why => pass_over("mlockall_at_its_limit_is_a_typed_error", why),
    }
}

/// Without descriptors no lock can be opened; a handle that is open goes on, also as a contender that recovers.
#[test]
fn too_many_open_files_is_a_typed_error_and_stops_no_open_handle() {
    let dir = Dir::new();
    let holder = Child::holder(&dir, "dies");
    let mut child = Child::fork(|line| {
        let lock = dir.open();
        let mut files = Vec::with_capacity(4096);
        let limit = libc::rlimit { rlim_cur: 64, rlim_max: 64 };
        // SAFETY: sets a limit of this process.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
        while let Ok(file) = fs::File::open("/dev/null") {
            files.push(file);
        }
        assert_eq!(dir.options().open("it").unwrap_err(), Error::Seat(SeatError::TooManyFiles));
        line.say("full");
        line.hear("killed");
        assert!(lock.try_lock("recovers").unwrap().recovered());
    });
    child.line.hear("full");
    holder.kill();
    child.line.say("killed");
    child.succeeds();
}

/// A forked child whose seat cannot be taken gets a typed error, not a hold that nobody vouches for.
#[test]
fn a_child_that_cannot_reach_the_file_gets_an_error() {
    if !is_root() {
        return pass_over("a_child_that_cannot_reach_the_file_gets_an_error", "mount namespaces need root");
    }
    let dir = Dir::new();
    let lock = dir.open();
    Child::fork(|_| {
        assert!(has_own_mounts() && crate::support::hide("/dev/shm"));
        assert_eq!(lock.try_lock("").map(drop), Err(LockError::Failed(Error::NotFound)));
        assert!(!lock.holds() && !lock.is_held());
    })
    .succeeds();
}

/// Where the file was removed, a forked child does what a newcomer does.
#[test]
fn a_child_whose_file_was_removed_continues_with_a_new_one() {
    for by_hand in [false, true] {
        let dir = Dir::new();
        let lock = dir.open();
        let mut child = Child::fork(|line| {
            line.hear("removed");
            drop(lock.try_lock("the child's").unwrap());
            line.say("granted");
        });
        if by_hand {
            fs::remove_file(dir.lock_file()).unwrap();
        } else {
            dir.open().remove(false).unwrap();
        }
        child.line.say("removed");
        child.line.hear("granted");
        assert_eq!(dir.open().last_grant().unwrap().info(), "the child's");
        child.succeeds();
    }
}

/// Looking never takes a seat: the counter does not move.
#[test]
fn looking_and_administering_take_no_seat() {
    let dir = Dir::new();
    let lock = dir.open();
    lock.try_lock("").unwrap().keep();
    let counter = || fs::read(dir.lock_file()).unwrap()[100..104].to_vec();
    let before = counter();
    dir.options().inspect("it").unwrap();
    dir.options().wait_until_free("it", AT_ONCE).unwrap();
    let grant = lock.holder().unwrap();
    assert!(dir.options().release_grant("it", &grant).unwrap());
    lock.try_lock("").unwrap().keep();
    assert!(dir.options().force_release("it").unwrap());
    assert_eq!(counter(), before);
}

/// With the handlers of pthread_atfork(3), a child that another thread forks while seats are taken keeps none of them.
///
/// Seen to fail with the handlers not registered.
#[test]
fn forks_by_another_thread_leak_no_seat() {
    if forks_inherit_seats("forks_by_another_thread_leak_no_seat") {
        return;
    }
    if !cfg!(feature = "std") {
        return pass_over("forks_by_another_thread_leak_no_seat", "without the feature std there are no handlers");
    }
    let dir = Dir::new();
    let mut process = Child::fork(|line| {
        let stop = AtomicBool::new(false);
        let mut children = Vec::with_capacity(512);
        std::thread::scope(|scope| {
            let opener = scope.spawn(|| {
                let mut opened = 0_u32;
                while !stop.load(Ordering::Relaxed) {
                    let lock = dir.open();
                    // It dies holding, as far as the record is concerned.
                    if let Ok(guard) = lock.try_lock("short") {
                        drop(guard);
                    }
                    opened += 1;
                }
                opened
            });
            for _ in 0..400 {
                // SAFETY: the child only sleeps, by system calls.
                let child = unsafe { libc::fork() };
                if child == 0 {
                    // SAFETY: asks for a signal at the parent's end.
                    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
                    // SAFETY: waits for a signal.
                    unsafe { libc::pause() };
                    // SAFETY: ends the process.
                    unsafe { libc::_exit(0) };
                }
                children.push(child);
            }
            stop.store(true, Ordering::Relaxed);
            assert!(opener.join().unwrap() > 100, "the two did not overlap");
        });
        // The children live; no handle does. So no seat is taken.
        line.say(&taken_seats(&dir).to_string());
        for child in children {
            // SAFETY: a child of this process that was not reaped.
            unsafe { libc::kill(child, libc::SIGKILL) };
            // SAFETY: as above.
            unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
        }
    });
    assert_eq!(process.line.next(), "0", "seats that the children keep");
    process.succeeds();
}

/// How many seats are taken, as far as one question to the kernel at a time can tell.
fn taken_seats(dir: &Dir) -> usize {
    let file = fs::File::open(dir.lock_file()).unwrap();
    let mut start = 65_536;
    let mut taken = 0;
    loop {
        // SAFETY: all zeros is valid for the structure that the call reads and fills.
        let mut flock: libc::flock = unsafe { std::mem::zeroed() };
        flock.l_type = libc::F_RDLCK as libc::c_short;
        flock.l_start = start;
        // SAFETY: a descriptor and a structure of this process.
        assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &mut flock) }, 0);
        if flock.l_type == libc::F_UNLCK as libc::c_short {
            return taken;
        }
        taken += 1;
        start = flock.l_start + flock.l_len;
    }
}

/// Locks on files that the kernel refuses, as AppArmor and gVisor do, are a typed error, never a hold without a seat.
#[test]
fn refused_locks_are_a_typed_error() {
    if !is_fresh("seat::refused_locks_are_a_typed_error", || {
        let which = crate::support::Argument { index: 1, mask: u32::MAX, value: libc::F_OFD_SETLK as u32 };
        crate::support::refuse(crate::old_kernel::FCNTL, which, libc::EACCES)
    }) {
        return;
    }
    let dir = Dir::new();
    let error = dir.options().open("it").unwrap_err();
    assert_eq!(error, Error::Seat(SeatError::Refused { errno: libc::EACCES }));
}

#[test]
fn refused_advice_is_a_typed_error() {
    if !is_fresh("seat::refused_advice_is_a_typed_error", || {
        let which = crate::support::Argument { index: 2, mask: u32::MAX, value: libc::MADV_DONTFORK as u32 };
        crate::support::refuse(libc::SYS_madvise, which, libc::EPERM)
    }) {
        return;
    }
    let dir = Dir::new();
    let error = dir.options().open("it").unwrap_err();
    assert_eq!(error, Error::Seat(SeatError::Refused { errno: libc::EPERM }));
}

/// The waiters of a lock can be seen, and those that have died or left cannot.
#[test]
fn waiters_are_seen_while_they_wait() {
    let dir = Dir::new();
    let lock = dir.open();
    let guard = lock.try_lock("at work").unwrap();
    assert!(lock.waiters().is_empty());
    let wait = |line: &mut Line| {
        line.say("waits");
        assert!(dir.open().lock(LONG, "").is_ok());
    };
    let mut waiters: Vec<_> = (0..3).map(|_| Child::fork(wait)).collect();
    waiters.iter_mut().for_each(|waiter| waiter.line.hear("waits"));
    wait_until("all three are seen", || lock.waiters().len() == 3);
    let mut pids: Vec<_> = lock.waiters().iter().map(|waiter| waiter.pid as i32).collect();
    pids.sort_unstable();
    let mut expected: Vec<_> = waiters.iter().map(|waiter| waiter.pid).collect();
    expected.sort_unstable();
    assert_eq!(pids, expected);
    let seen = dir.options().inspect("it").unwrap();
    assert_eq!(seen.waiters().len(), 3);
    assert!(seen.waiters().iter().all(|waiter| waiter.waited < Duration::from_secs(60)));
    let mut killed = waiters.pop().unwrap();
    killed.signal(libc::SIGKILL);
    assert_eq!(killed.end(), End::Killed(libc::SIGKILL));
    assert_eq!(lock.waiters().len(), 2, "a dead waiter is not shown");
    drop(guard);
    waiters.into_iter().for_each(Child::succeeds);
    assert!(lock.waiters().is_empty());
}

/// Ten waiters and eight slots: the list is full, and slots that dead waiters have left are used again.
#[test]
fn stale_slots_are_used_again() {
    let dir = Dir::new();
    let lock = dir.open();
    let guard = lock.try_lock("at work").unwrap();
    let waiter = || Child::fork(|_| drop(dir.open().lock(LONG, "")));
    let first: Vec<_> = (0..10).map(|_| waiter()).collect();
    wait_until("the list is full", || lock.waiters().is_full());
    drop(first);
    assert!(lock.waiters().is_empty(), "all are dead");
    let _second: Vec<_> = (0..3).map(|_| waiter()).collect();
    wait_until("they are seen", || lock.waiters().len() == 3);
    drop(guard);
}

/// A huge file, a short one and a FIFO by the lock's name give typed errors and are not touched.
#[test]
fn a_fifo_blocks_nobody() {
    let dir = Dir::new();
    let path = CString::new(dir.lock_file().to_str().unwrap()).unwrap();
    // SAFETY: a string that ends with NUL.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
    assert_eq!(dir.options().open("it").unwrap_err(), Error::NotALock(NotALock::NotAFile));
    fs::remove_file(dir.lock_file()).unwrap();
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(dir.lock_file()).unwrap();
    file.set_len(1 << 40).unwrap();
    assert_eq!(dir.options().open("it").unwrap_err(), Error::NotALock(NotALock::WrongSize(1 << 40)));
}
