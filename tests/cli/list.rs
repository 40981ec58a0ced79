//! `--list`: all locks of a directory, whatever is in it; and nothing is changed by looking.
//!
//! Seen to fail with an info that is not escaped, with columns counted in bytes, and with locks opened to be looked at.

use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::Signal;
use unicode_width::UnicodeWidthStr;

use crate::support::{Place, Said, wait_until};

const TITLE: &str = "LOCK STATE FOR PID PROGRAM WAITERS GRANTS WAITED TIMEOUTS DIED FORCED INFO";

fn words(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn an_empty_directory_has_a_title() {
    let place = Place::new();
    fs::write(place.dir.join("something else"), "").unwrap();
    fs::write(place.dir.join("resourcelock"), "").unwrap();
    // What a process that is making a lock leaves behind if it is killed.
    fs::write(place.dir.join(std::ffi::OsString::from_vec(b"resourcelock.\xff42-7".to_vec())), "").unwrap();
    let said = place.run(["--list"]);
    assert_eq!((said.status, words(&said.stdout).as_str(), said.stderr.as_str()), (Some(0), TITLE, ""));
}

#[test]
fn every_state_is_told() {
    let place = Place::new();
    assert_eq!(place.run(["detached", "get", "-m", "keep off"]).status, Some(0));
    assert_eq!(place.run(["free", "get", "-a", "0"]).status, Some(0));
    assert_eq!(place.run(["forced", "get"]).status, Some(0));
    assert_eq!(place.run(["forced", "unget"]).status, Some(0));
    let dead = place.hold("dead");
    dead.signal(Signal::KILL);
    let dead_pid = dead.pid();
    dead.finish();
    let mut holder = place.hold("held");
    assert_eq!(place.run(["held", "get", "-t", "0"]).status, Some(1));
    let waiter = place.start(["held", "get", "-t", "-1"]);
    wait_until("somebody waits", || place.row("held")[5] == "yes");

    assert!(holder.is_running());
    let row = |name: &str| {
        let mut row = place.row(name);
        // For how long, and whose.
        row.remove(2);
        row.join(" ")
    };
    assert_eq!(row("held"), format!("held held {} resourcelock yes 1 0 1 0 0 holder", holder.pid()));
    assert_eq!(row("dead"), format!("dead dead {dead_pid} resourcelock - 1 0 0 0 0 holder"));
    assert_eq!(row("free"), "free free - - - 1 0 0 0 0 cli");
    assert_eq!(row("forced"), "forced free - - - 1 0 0 0 1 cli");
    let detached = place.row("detached").join(" ");
    assert!(detached.starts_with("detached until unget ") && detached.ends_with(" - 1 0 0 0 0 keep off"), "{detached}");
    drop(waiter);
    // In the order of their names.
    let said = place.run(["--list"]);
    let names: Vec<&str> = said.stdout.lines().skip(1).map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(names, ["dead", "detached", "forced", "free", "held"]);
}

#[test]
fn what_is_no_lock_is_told_and_left_as_it_is() {
    let place = Place::new();
    assert_eq!(place.run(["fine", "get", "-a", "0"]).status, Some(0));
    let scribble = |name: &str, offset: u64, bytes: &[u8]| {
        fs::copy(place.file("fine"), place.file(name)).unwrap();
        fs::File::options().write(true).open(place.file(name)).unwrap().write_all_at(bytes, offset).unwrap();
    };
    scribble("version", 4, &99_u32.to_ne_bytes());
    scribble("word", 64, &1_u32.to_ne_bytes());
    scribble("header", 16, &[0xff; 4]);
    // Removed, but its remover died before the file was gone: to be brought back by whoever opens it.
    scribble("retired", 64, &0x3f_ffff_u32.to_ne_bytes());
    fs::write(place.file("text"), "text").unwrap();
    fs::create_dir(place.file("dir")).unwrap();
    symlink(place.file("fine"), place.file("link")).unwrap();
    fs::write(place.dir.join(std::ffi::OsString::from_vec(b"resourcelock.caf\xe9\x1b[2J".to_vec())), "").unwrap();
    // No lock can have these names.
    fs::write(place.file(""), "").unwrap();
    fs::write(place.file("."), "").unwrap();
    let fingerprint = || {
        let mut files: Vec<_> = fs::read_dir(&place.dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let print = |path: &std::path::PathBuf| {
            (path.clone(), fs::symlink_metadata(path).unwrap().mtime_nsec(), fs::read(path).ok())
        };
        files.iter().map(print).collect::<Vec<_>>()
    };
    let before = fingerprint();
    let said = place.run(["--list"]);
    assert_eq!((said.status, said.stderr.as_str()), (Some(0), ""));
    assert_eq!(fingerprint(), before);

    let lines: Vec<String> = said.stdout.lines().skip(1).map(words).collect();
    let expected = [
        (r"caf\u{fffd}\u{1b}[2J no lock - - -", "the file's name is not UTF-8"),
        ("dir no lock - - -", "it is not a regular file"),
        ("fine free", "cli"),
        ("header corrupt", "the lock's record is corrupt"),
        ("link no lock", "it is a symbolic link"),
        ("retired removed", ""),
        ("text no lock", "it has 4 bytes"),
        ("version other version", "version 99, this program knows 2"),
        ("word corrupt", "- 1 0 0 0 0"),
    ];
    assert_eq!(lines.len(), expected.len(), "{said:?}");
    for (line, (start, part)) in lines.iter().zip(expected) {
        let start = start.replace(r"\u{fffd}", "\u{fffd}");
        assert!(line.starts_with(&start) && line.contains(part), "{line}, not {start} … {part}");
    }
}

#[test]
fn a_lock_that_may_only_be_read_is_listed_and_one_that_may_not_is_told() {
    const NOBODY: u32 = 65_534;
    let place = Place::new();
    fs::set_permissions(&place.dir, Permissions::from_mode(0o755)).unwrap();
    assert_eq!(place.run(["open", "get", "--mode", "644", "-m", "look"]).status, Some(0));
    assert_eq!(place.run(["shut", "get", "--mode", "600"]).status, Some(0));
    if !rustix::process::getuid().is_root() {
        return println!("skipped: only root can be somebody else");
    }
    let mut command = Command::new(place.tool_for_others());
    command.arg("--list").env("RESOURCELOCK_DIR", &place.dir).uid(NOBODY).gid(NOBODY);
    let said = Said::by(&mut command);
    let lines: Vec<String> = said.stdout.lines().map(words).collect();
    assert!(lines[1].starts_with("open until unget ") && lines[1].ends_with(" look"), "{said:?}");
    assert!(lines[2].starts_with("shut no access - - - - - - - - - permission denied"), "{said:?}");
}

#[test]
fn hostile_texts_are_harmless_and_keep_the_columns() {
    let place = Place::new();
    let infos = ["\x1b]0;owned\x07\r\nline", "🔒🔒 日本語", "\u{202e}right to left\u{2066}", "e\u{301}\u{200b}", ""];
    for (number, info) in infos.iter().enumerate() {
        let name = ["plain", "\x1b[2J", "日本", "🔒\u{202e}", "-dash"][number];
        assert_eq!(place.run(["-m", info, "--", name, "get"]).status, Some(0));
    }
    for words in [&["--list"][..], &["--list", "--color", "always"]] {
        let said = place.run(words);
        let plain = without_colours(&said.stdout);
        let harmful = |character: char| {
            character != '\n' && (character.is_control() || "\u{202e}\u{2066}\u{200b}".contains(character))
        };
        assert!(!plain.contains(harmful), "{plain:?}");
        // Where the state begins, on the screen: in every line at the same column.
        let columns: Vec<usize> = plain
            .lines()
            .map(|line| line[..line.find("until unget").or(line.find("STATE")).unwrap()].width())
            .collect();
        assert!(columns.iter().all(|&column| column == columns[0]), "{plain}");
        assert!(plain.contains("🔒🔒 日本語") && plain.contains(r"\u{1b}]0;owned\u{7}\r\nline"), "{plain}");
        // An info that is longer or wider moves nothing, because it is the last.
        assert!(plain.lines().all(|line| !line.ends_with(' ')), "{plain:?}");
    }
}

/// The text without the colours that we write ourselves.
fn without_colours(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |plain, part| {
        let (colour, rest) = part.split_once('m').unwrap();
        assert!(colour.chars().all(|character| character.is_ascii_digit() || character == ';'), "{part:?}");
        plain + rest
    })
}

#[test]
fn colours_are_for_those_who_want_them() {
    let place = Place::new();
    assert_eq!(place.run(["x", "get"]).status, Some(0));
    for words in [&["--list"][..], &["x", "history"], &["x", "state"]] {
        let colours = |more: &[&str]| place.run(words.iter().chain(more)).stdout.contains('\x1b');
        assert!(!colours(&[]), "a pipe");
        assert!(colours(&["--color", "always"]) && colours(&["--color=always"]));
        assert!(!colours(&["--color", "never"]) && !colours(&["--color", "auto"]));
    }
}

#[test]
fn thousands_are_listed() {
    let place = Place::new();
    assert_eq!(place.run(["0", "get", "-a", "0"]).status, Some(0));
    for number in 1..3000 {
        fs::copy(place.file("0"), place.file(&number.to_string())).unwrap();
    }
    let said = place.run(["--list"]);
    assert_eq!((said.status, said.stdout.lines().count()), (Some(0), 1 + 3000));
}

#[test]
fn names_too_long_for_a_file_are_listed_by_what_opens_them() {
    let place = Place::new();
    let name = "n".repeat(255);
    assert_eq!(place.run([&name, "get", "-m", "long"]).status, Some(0));
    let said = place.run(["--list", "--json"]);
    let lock: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    let stem = lock["name"].as_str().unwrap();
    place.run([stem, "state"]).expect(0, &format!("<{stem}> is currently locked? <True> Prior info <<TIME> - long>"));
}

#[test]
fn directories_that_cannot_be_listed() {
    let place = Place::new();
    let missing = place.dir.join("missing").to_str().unwrap().to_owned();
    let message = "the directory of the locks does not exist; make it or give another";
    place.run(["--list", "--dir", &missing]).expect_error(73, &format!("resourcelock: <{missing}>: {message}"));
    assert_eq!(
        place.run(["--list", "--dir", "/\x1b[2J"]).stderr,
        format!("resourcelock: </\\u{{1b}}[2J>: {message}\n")
    );
    assert_eq!(place.run(["--list", "--dir", ""]).status, Some(2));
    assert_eq!(place.run(["--list", "--dir", &"d".repeat(256)]).status, Some(2));
    let file = place.dir.join("file");
    fs::write(&file, "").unwrap();
    assert_eq!(place.run(["--list", "--dir", file.to_str().unwrap()]).status, Some(73));
    place
        .run(["--top", "--dir", &missing])
        .expect_error(2, &format!("resourcelock: <{missing}>: --top needs a terminal; use --list"));
}
