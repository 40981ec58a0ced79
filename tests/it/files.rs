//! Files and directories of others.

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::ptr::null;

use resourcelock::Error;

use crate::support::{Child, Dir, LONG, is_root, pass_over};

/// Seen to fail with a removal that retires the record before it finds out that it may not unlink: the holder was off,
/// history and counters gone.
#[test]
fn who_may_not_remove_a_lock_leaves_it_as_it_is() {
    const NOBODY: u32 = 65534;
    if !is_root() {
        return pass_over("who_may_not_remove_a_lock_leaves_it_as_it_is", "needs root, to become another user");
    }
    let dir = Dir::new();
    // As /dev/shm is: everybody may make files, and remove only their own.
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
        assert_eq!(other.remove(false), Err(Error::PermissionDenied));
        assert_eq!(other.remove(true), Err(Error::PermissionDenied));
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
