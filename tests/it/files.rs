//! Files and directories of other users, and file systems that are full or of the wrong kind.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::ptr::null;

use resourcelock::{Denied, Error, ResourceLock};

use crate::support::{Child, Dir, LONG, is_root, pass_over};

/// Seen to fail with a removal that retires the record before it knows that it may unlink it: the holder was evicted, and
/// the history and the counters were gone.
#[test]
fn a_removal_that_is_not_permitted_changes_nothing() {
    const NOBODY: u32 = 65534;
    if !is_root() {
        return pass_over("a_removal_that_is_not_permitted_changes_nothing", "needs root, to become another user");
    }
    let dir = Dir::new();
    // As /dev/shm: every user may make files, and remove only their own.
    fs::set_permissions(dir.path(""), fs::Permissions::from_mode(0o1777)).unwrap();
    let lock = dir.options().mode(0o666).open("it").unwrap();
    drop(lock.try_lock("history").unwrap());
    let guard = lock.lock(LONG, "holds").unwrap();
    Child::fork(|_| {
        // SAFETY: changes what this process may do.
        assert_eq!(unsafe { libc::setresgid(NOBODY, NOBODY, NOBODY) }, 0);
        // SAFETY: as above.
        assert_eq!(unsafe { libc::setresuid(NOBODY, NOBODY, NOBODY) }, 0);
        let other = dir.open();
        for force in [false, true] {
            assert_eq!(other.remove(force).map(drop), Err(Error::PermissionDenied(Denied::Sticky { uid: 0 })));
        }
    })
    .succeeds();
    assert!(guard.is_held());
    assert!(guard.release());
    assert!(dir.lock_file().exists());
    assert_eq!((lock.counters().grants, lock.history().len()), (2, 2));
    assert!(lock.try_lock("goes on").is_ok());
}

/// Seen to fail with a file that is only sized and not filled.
#[test]
fn a_full_file_system_is_a_typed_error_and_leaves_no_litter() {
    if !is_root() {
        return pass_over("a_full_file_system_is_a_typed_error_and_leaves_no_litter", "needs root, to mount one");
    }
    let dir = Dir::new();
    let mut child = Child::fork(|line| {
        let mount = |what: *const libc::c_char, path: &str, flags, data: *const libc::c_char| {
            let path = CString::new(path).unwrap();
            // SAFETY: strings that end with a NUL, or none.
            unsafe { libc::mount(c"none".as_ptr(), path.as_ptr(), what, flags, data.cast()) == 0 }
        };
        // SAFETY: a mount namespace of its own, from which nothing gets out once it is private.
        let alone = unsafe { libc::unshare(libc::CLONE_NEWNS) } == 0;
        let mounted = alone
            && mount(null(), "/", libc::MS_REC | libc::MS_PRIVATE, null())
            && mount(c"tmpfs".as_ptr(), dir.path("").to_str().unwrap(), 0, c"size=8k".as_ptr());
        if !mounted {
            return line.say("cannot mount");
        }
        // As much as there is.
        let _ = fs::write(dir.path("filler"), vec![1; 1 << 20]);
        assert_eq!(dir.options().open("it").map(drop), Err(Error::NoSpace));
        let left: Vec<_> = fs::read_dir(dir.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["filler"]);
        fs::remove_file(dir.path("filler")).unwrap();
        drop(dir.open().try_lock("there is space again").unwrap());
        line.say("done");
    });
    match child.line.next().as_str() {
        "done" => {}
        "cannot mount" => {
            pass_over("a_full_file_system_is_a_typed_error_and_leaves_no_litter", "mounting is not permitted");
        }
        other => panic!("the child failed: {other:?}"),
    }
    child.succeeds();
}

/// On another file system a record could outlive the boot, or a seat could lock another file than the one that is mapped.
#[test]
fn a_directory_on_another_file_system_is_refused_and_left_empty() {
    let parent = std::env::temp_dir();
    let dir = parent.join(format!("resourcelock-it-elsewhere-{}", std::process::id()));
    fs::create_dir(&dir).unwrap();
    let outcome = ResourceLock::options().dir(dir.to_str().unwrap()).open("it").map(drop);
    let left = fs::read_dir(&dir).unwrap().count();
    fs::remove_dir_all(&dir).unwrap();
    match outcome {
        Err(Error::FileSystem { .. }) => assert_eq!(left, 0),
        Ok(()) => {
            pass_over("a_directory_on_another_file_system_is_refused_and_left_empty", "this one is a tmpfs, too");
        }
        Err(error) => panic!("{error}"),
    }
}

/// Places a lock of that type on one byte of the file, for the open file description.
fn lock_byte(file: &File, kind: libc::c_int, at: libc::off_t) {
    // SAFETY: all zeros is valid for the structure.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    (lock.l_type, lock.l_start, lock.l_len) = (kind as i16, at, 1);
    // SAFETY: a descriptor of this process, and a structure of the kind that the command reads.
    assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) }, 0);
}

/// Read access suffices for a read lock, so any user who may read the record could otherwise block its removal for ever.
/// Seen to fail with a removal that respects read locks.
#[test]
fn a_read_lock_does_not_block_a_forced_removal() {
    const REMOVAL_LOCK_AT: libc::off_t = 65_535;
    let dir = Dir::new();
    let lock = dir.open();
    let file = File::open(dir.lock_file()).unwrap();
    lock_byte(&file, libc::F_RDLCK, REMOVAL_LOCK_AT);
    assert_eq!(lock.remove(false).map(drop), Err(Error::Busy));
    assert!(lock.remove(true).is_ok() && !dir.lock_file().exists());
}

/// A proof of death pins a seat by a read lock. One that a stopped process holds, or a hostile one, delays nobody.
#[test]
fn a_read_lock_on_a_seat_is_no_sign_of_life() {
    const SEATS_AT: libc::off_t = 65_536;
    let dir = Dir::new();
    let holder = Child::holder(&dir, "dies");
    let lock = dir.open();
    let seat = lock.holder().unwrap().seat();
    holder.kill();
    let file = File::open(dir.lock_file()).unwrap();
    // The type differs between targets.
    #[allow(clippy::cast_lossless)]
    lock_byte(&file, libc::F_RDLCK, SEATS_AT + seat as libc::off_t);
    assert!(lock.try_lock("").unwrap().recovered());
}
