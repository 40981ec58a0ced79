//! The lock of a device: one name for all paths of one device.
//!
//! Seen to fail with the name taken from the path, and with the rules by number left out.

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use resourcelock::{DeviceError, Error, ResourceLock};

use crate::support::{AT_ONCE, Child, Dir, has_own_mounts, hide, is_root, pass_over};

fn name_of(path: &Path) -> Result<String, Error> {
    ResourceLock::name_for_device(path.to_str().unwrap()).map(|name| name.as_str().to_owned())
}

fn refused(path: &Path) -> DeviceError {
    match name_of(path) {
        Err(Error::DeviceInvalid(error)) => error,
        outcome => panic!("{outcome:?}"),
    }
}

/// Makes a device file. `false` if we may not.
fn make_device(path: &Path, kind: libc::mode_t, major: u32, minor: u32) -> bool {
    let path = CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: a path that ends with a NUL.
    unsafe { libc::mknod(path.as_ptr(), kind | 0o600, libc::makedev(major, minor)) == 0 }
}

#[test]
fn all_paths_of_a_device_give_one_name() {
    let dir = Dir::new();
    symlink("/dev/null", dir.path("sensors")).unwrap();
    symlink("sensors", dir.path("thermometer")).unwrap();
    let mut paths = vec!["/dev/null".into(), dir.path("sensors"), dir.path("thermometer")];
    if make_device(&dir.path("by-hand"), libc::S_IFCHR, 1, 3) {
        symlink("by-hand", dir.path("link-by-hand")).unwrap();
        paths.extend([dir.path("by-hand"), dir.path("link-by-hand")]);
    } else {
        pass_over("all_paths_of_a_device_give_one_name", "no device file can be made; links only");
    }
    for path in &paths {
        assert_eq!(name_of(path).unwrap(), "null", "{path:?}");
    }
    // And programs that come by different paths meet.
    let open = |path: &Path| dir.options().open_for_device(path.to_str().unwrap()).unwrap();
    let (one, other) = (open(&paths[0]), open(&paths[2]));
    let guard = one.lock(AT_ONCE, "").unwrap();
    assert!(other.try_lock("").is_err());
    drop(guard);
}

#[test]
fn a_bus_that_sysfs_does_not_know_is_named_by_its_number() {
    let dir = Dir::new();
    // No machine has that many I2C buses.
    if !make_device(&dir.path("bus"), libc::S_IFCHR, 89, 77_777) {
        return pass_over("a_bus_that_sysfs_does_not_know_is_named_by_its_number", "no device file can be made");
    }
    symlink("bus", dir.path("sensors")).unwrap();
    assert_eq!(name_of(&dir.path("bus")).unwrap(), "i2c-77777");
    assert_eq!(name_of(&dir.path("sensors")).unwrap(), "i2c-77777");
}

#[test]
fn without_sysfs_number_and_path_tell_the_name() {
    let dir = Dir::new();
    if !is_root() {
        return pass_over("without_sysfs_number_and_path_tell_the_name", "only root can hide /sys");
    }
    symlink("/dev/zero", dir.path("sensors")).unwrap();
    assert!(make_device(&dir.path("by-hand"), libc::S_IFCHR, 89, 3), "root");
    let mut child = Child::fork(|line| {
        if !(has_own_mounts() && hide("/sys")) {
            return line.say("cannot");
        }
        assert_eq!(name_of(&dir.path("by-hand")).unwrap(), "i2c-3", "by its number");
        assert_eq!(name_of(&dir.path("sensors")).unwrap(), "zero", "by where the link leads");
        assert!(hide("/proc"));
        assert_eq!(name_of(&dir.path("by-hand")).unwrap(), "i2c-3", "by its number");
        assert_eq!(refused(&dir.path("sensors")), DeviceError::Nameless);
        line.say("done");
    });
    match child.line.next().as_str() {
        "done" => {}
        "cannot" => pass_over("without_sysfs_number_and_path_tell_the_name", "/sys cannot be hidden here"),
        other => panic!("the child failed: {other:?}"),
    }
    child.succeeds();
}

#[test]
fn what_is_no_character_device_is_refused() {
    let dir = Dir::new();
    fs::write(dir.path("file"), "").unwrap();
    symlink("nowhere", dir.path("dangling")).unwrap();
    symlink("loop", dir.path("loop")).unwrap();
    assert_eq!(refused(&dir.path("file")), DeviceError::NotACharacterDevice);
    assert_eq!(refused(&dir.path("")), DeviceError::NotACharacterDevice, "a directory");
    assert_eq!(refused(&dir.path("nothing")), DeviceError::NotFound);
    assert_eq!(refused(&dir.path("dangling")), DeviceError::NotFound);
    assert_eq!(refused(&dir.path("file/below")), DeviceError::NotFound);
    assert!(matches!(name_of(&dir.path("loop")), Err(Error::Os { errno: libc::ELOOP, .. })));
    if make_device(&dir.path("disk"), libc::S_IFBLK, 7, 0) {
        assert_eq!(refused(&dir.path("disk")), DeviceError::NotACharacterDevice);
    }
    for path in ["", "a\0b", &"/".repeat(256)] {
        assert_eq!(refused(Path::new(path)), DeviceError::PathInvalid);
    }
    assert!(!refused(Path::new(&"/".repeat(255))).to_string().is_empty(), "the longest path is looked up");
}
