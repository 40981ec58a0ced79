//! Locks that cannot be used: each reason with its exit status, for every word, and nothing is changed.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, FileExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::support::{Place, Said};

const WORDS: [&str; 4] = ["get", "unget", "state", "trace"];

/// A user who is not root and owns nothing.
const NOBODY: u32 = 65_534;

#[track_caller]
fn expect_not_a_lock(place: &Place, reason: &str) {
    for word in WORDS {
        place.run(["x", word]).expect_error(
            65,
            &format!("resourcelock: <x>: the file of this name is no lock: {reason}; remove it or use another name"),
        );
    }
}

#[test]
fn a_missing_directory() {
    let place = Place::new();
    let missing = place.dir.join("missing");
    for word in WORDS {
        let said = place.run(["x", word, "--dir", missing.to_str().unwrap()]);
        said.expect_error(73, "resourcelock: <x>: the directory of the locks does not exist; make it or give another");
    }
    assert!(!missing.exists());
}

#[test]
fn a_directory_that_is_a_file() {
    let place = Place::new();
    let file = place.dir.join("file");
    fs::write(&file, "").unwrap();
    for word in WORDS {
        assert_eq!(place.run(["x", word, "--dir", file.to_str().unwrap()]).status, Some(73), "{word}");
    }
}

#[test]
fn a_file_of_another_size() {
    for size in [0, 1, 4095, 4097, 65_536] {
        let place = Place::new();
        fs::write(place.file("x"), vec![0; size]).unwrap();
        expect_not_a_lock(&place, &format!("it has {size} bytes, a lock has 4096"));
        assert_eq!(fs::read(place.file("x")).unwrap(), vec![0; size]);
    }
}

#[test]
fn a_file_full_of_noise() {
    let place = Place::new();
    // Xorshift: noise, the same each time.
    let mut state = 0x2545_f491_u32;
    let noise: Vec<u8> = (0..4096)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as u8
        })
        .collect();
    for bytes in [noise, vec![0; 4096], vec![0xff; 4096]] {
        fs::write(place.file("x"), &bytes).unwrap();
        expect_not_a_lock(&place, "it does not begin as a lock does");
        assert_eq!(fs::read(place.file("x")).unwrap(), bytes);
    }
}

#[test]
fn a_directory_a_link_and_a_fifo() {
    let place = Place::new();
    fs::create_dir(place.file("x")).unwrap();
    expect_not_a_lock(&place, "it is not a regular file");

    // Also one that leads to a lock.
    let place = Place::new();
    assert_eq!(place.run(["real", "get"]).status, Some(0));
    symlink(place.file("real"), place.file("x")).unwrap();
    expect_not_a_lock(&place, "it is a symbolic link");

    let place = Place::new();
    symlink("nowhere", place.file("x")).unwrap();
    expect_not_a_lock(&place, "it is a symbolic link");

    let place = Place::new();
    mknodat(CWD, place.file("x").to_str().unwrap(), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    expect_not_a_lock(&place, "it is not a regular file");
}

/// A lock, held, in whose file the word at `offset` was changed.
fn scribbled(offset: u64, change: impl FnOnce(u32) -> u32) -> Place {
    let place = Place::new();
    assert_eq!(place.run(["x", "get", "-m", "before"]).status, Some(0));
    let file = fs::File::options().read(true).write(true).open(place.file("x")).unwrap();
    let mut word = [0; 4];
    file.read_exact_at(&mut word, offset).unwrap();
    file.write_all_at(&change(u32::from_ne_bytes(word)).to_ne_bytes(), offset).unwrap();
    place
}

#[test]
fn a_lock_of_another_version_or_machine() {
    let place = scribbled(4, |_| 99);
    for word in WORDS {
        let said = place.run(["x", word]);
        assert_eq!(said.status, Some(65));
        assert!(said.stderr.contains("version 99, this program knows 2"), "{said:?}");
    }
    let place = scribbled(0, u32::swap_bytes);
    expect_not_a_lock(&place, "it was made on a machine of the other byte order");
}

#[test]
fn a_damaged_lock_is_mended_by_unget() {
    // The lock word, of which only the generation is kept: nobody holds, yet there is a pid.
    let place = scribbled(64, |word| word & 0x3f << 22 | 1);
    place
        .run(["x", "get"])
        .expect_error(65, "resourcelock: <x>: the lock's record is corrupt; force-release or remove the lock");
    place.run(["x", "state"]).expect(0, "<x> is currently locked? <True> Prior info <<TIME> - before>");
    place.run(["x", "unget"]).expect(0, "<x> lock force released <cli>");
    let said = place.run(["x", "get"]);
    assert_eq!(
        (said.status, said.stderr.contains("the previous holder was forced off: ")),
        (Some(0), true),
        "{said:?}"
    );
    // The header, which has a checksum.
    let place = scribbled(16, |word| !word);
    place
        .run(["x", "state"])
        .expect_error(65, "resourcelock: <x>: the lock's record is corrupt; force-release or remove the lock");
    place.run(["x", "unget"]).expect(0, "<x> lock force released <cli>");
    place.run(["x", "get"]).expect(0, "<x> lock request successful - Granted <<TIME> - cli>");
}

/// The tool as somebody who may not do what the test forbids: root may do anything, so as another user.
fn as_another(place: &Place, words: &[&str]) -> Command {
    let mut command = place.command(words);
    if rustix::process::getuid().is_root() {
        command = Command::new(place.tool_for_others());
        command.args(words).env("RESOURCELOCK_DIR", &place.dir).uid(NOBODY).gid(NOBODY);
    }
    command
}

/// The error of a lock that this user may not open.
const DENIED: &str = "resourcelock: <x>: permission denied: the lock belongs to user 0 and group 0, with mode 0000; join the \
                      group, or ask its owner for another mode or group";

/// The error of a directory in which this user may make no file.
const DIRECTORY_DENIED: &str = "resourcelock: <x>: permission denied: the directory of the locks may not be searched or \
                                written to; use another one";

#[test]
fn a_lock_of_others() {
    let place = Place::new();
    fs::set_permissions(&place.dir, Permissions::from_mode(0o755)).unwrap();
    assert_eq!(place.run(["x", "get"]).status, Some(0));
    fs::set_permissions(place.file("x"), Permissions::from_mode(0o0)).unwrap();
    for word in WORDS {
        match as_another(&place, &["x", word]).output() {
            Ok(_) => Said::by(&mut as_another(&place, &["x", word])).expect_error(77, DENIED),
            Err(error) => return println!("skipped: nothing can be run from here: {error}"),
        }
    }
    fs::set_permissions(place.file("x"), Permissions::from_mode(0o600)).unwrap();
    assert!(place.is_locked("x"));
}

#[test]
fn a_directory_that_takes_no_new_lock() {
    let place = Place::new();
    // Made before, because it is copied there.
    let _ = as_another(&place, &["-V"]);
    fs::set_permissions(&place.dir, Permissions::from_mode(0o555)).unwrap();
    match as_another(&place, &["-V"]).output() {
        Ok(_) => {
            Said::by(&mut as_another(&place, &["x", "get"])).expect_error(77, DIRECTORY_DENIED);
            Said::by(&mut as_another(&place, &["x", "state"]))
                .expect(0, "<x> is currently locked? <False> Prior info <>");
        }
        Err(error) => println!("skipped: nothing can be run from here: {error}"),
    }
    fs::set_permissions(&place.dir, Permissions::from_mode(0o755)).unwrap();
    assert!(!place.file("x").exists());
}

#[test]
fn a_directory_that_cannot_be_entered() {
    let place = Place::new();
    fs::set_permissions(&place.dir, Permissions::from_mode(0o755)).unwrap();
    let closed = place.dir.join("closed");
    DirBuilder::new().mode(0o0).create(&closed).unwrap();
    for word in WORDS {
        match as_another(&place, &["x", word, "--dir", closed.to_str().unwrap()]).output() {
            Ok(output) => assert_eq!(output.status.code(), Some(77), "{output:?}"),
            Err(error) => println!("skipped: nothing can be run from here: {error}"),
        }
    }
}

#[test]
fn too_few_descriptors_are_a_failed_system_call() {
    let place = Place::new();
    // Three for stdin, stdout and stderr, one to open the lock; none to take a seat.
    let said = Said::by(&mut place.shell("ulimit -n 4; exec \"$@\"", &["x", "get"]));
    said.expect_error(71, "resourcelock: <x>: no seat: too many open files; close some or raise the limit (ulimit -n)");
    assert!(!place.is_locked("x"));
}
