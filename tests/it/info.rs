//! The info of a grant: whole, whoever reads it and whenever.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use resourcelock::{Ending, HISTORY_CAPACITY, Kind, Timestamp};

use crate::support::{AT_ONCE, Child, Dir, LONG, Shared};

#[test]
fn a_lock_without_history_has_no_info() {
    let dir = Dir::new();
    let lock = dir.open();
    assert_eq!(lock.info().as_str(), "");
    assert!(lock.last_grant().is_none() && lock.holder().is_none() && lock.history().is_empty());
}

#[test]
fn the_info_stays_after_the_release() {
    let dir = Dir::new();
    let lock = dir.options().local_time(|_| 0).open("it").unwrap();
    drop(lock.lock(AT_ONCE, "was here").unwrap());
    drop(lock);
    let lock = dir.options().local_time(|_| 0).open("it").unwrap();
    let info = lock.info();
    let (time, text) = info.split_once(" - ").unwrap();
    assert_eq!(text, "was here");
    assert_eq!((time.len(), &time[10..11], &time[19..20]), (26, " ", "."), "{time}");
}

/// Seen to fail with the time since boot in place of the wall clock's.
#[test]
fn a_grant_has_the_time_of_the_wall_clock() {
    let dir = Dir::new();
    let lock = dir.open();
    for _ in 0..3 {
        let before = SystemTime::now();
        drop(lock.lock(AT_ONCE, "").unwrap());
        let after = SystemTime::now();
        let granted = lock.last_grant().unwrap().granted();
        let granted = UNIX_EPOCH + Duration::new(granted.unix_seconds(), granted.subsec_nanos());
        // The two clocks are read one after the other, and the thread may be preempted in between.
        let slack = Duration::from_millis(50);
        assert!((before - slack..after + slack).contains(&granted), "{granted:?}, not {before:?} to {after:?}");
        // After this time a handle compares the two clocks again.
        sleep(Duration::from_millis(110));
    }
}

/// Seen to fail with an entry whose stamp is published first, and with one amendment instead of two.
#[test]
fn a_reader_sees_one_info_or_another_never_a_mix() {
    const END: usize = 0;
    let dir = Dir::new();
    let shared = Shared::new(&dir);
    let texts = ["a", "b", "c"].map(|letter| letter.repeat(120));
    let writer = Child::fork(|_| {
        let lock = dir.open();
        // An entry is written over after 16 grants, an amendment after two: by another text each time.
        for text in (0..).map(|round| &texts[round % 3]) {
            if shared.word(END).load(Ordering::Relaxed) != 0 {
                break;
            }
            let guard = lock.lock(LONG, text).unwrap();
            for text in texts.iter().cycle().take(lock.last_grant().unwrap().number() as usize % 8) {
                assert!(lock.set_info(text));
            }
            drop(guard);
        }
    });
    let lock = dir.open();
    let mut seen = [0; 3];
    while seen.iter().any(|&times| times < 1000) {
        let Some(grant) = lock.last_grant() else { continue };
        let which = texts.iter().position(|text| text == grant.info());
        seen[which.unwrap_or_else(|| panic!("a mix: {}", grant.info()))] += 1;
        for older in &lock.history() {
            assert!(texts.iter().any(|text| text == older.info()), "a mix: {}", older.info());
        }
    }
    shared.word(END).store(1, Ordering::Relaxed);
    writer.succeeds();
}

#[test]
fn the_history_names_each_holder_its_time_and_its_end() {
    let dir = Dir::new();
    let lock = dir.open();
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    for round in 0..HISTORY_CAPACITY + 3 {
        drop(lock.lock(AT_ONCE, &format!("round {round}")).unwrap());
    }
    let holder = Child::holder(&dir, "dies");
    holder.kill();
    let present = lock.lock(AT_ONCE, "present").unwrap();

    let history = lock.history();
    assert_eq!(history.len(), HISTORY_CAPACITY);
    let numbers: Vec<_> = history.iter().map(|grant| grant.number()).collect();
    assert!(numbers.windows(2).all(|two| two[0] == two[1].wrapping_add(1)), "{numbers:?}");
    let infos: Vec<_> = history.iter().map(|grant| grant.info()).collect();
    assert_eq!(infos[..3], ["present", "dies", "round 18"]);
    let endings: Vec<_> = history.iter().map(|grant| grant.ending()).collect();
    assert_eq!(endings[..3], [None, Some(Ending::Died), Some(Ending::Released)]);
    assert_eq!(history[1].pid(), holder.pid as u32);
    let mine = &history[0];
    assert_eq!((mine.pid(), mine.kind(), mine.held_for()), (std::process::id(), Kind::Process, None));
    // SAFETY: asks the kernel for a number.
    assert_eq!(mine.uid(), unsafe { libc::getuid() });
    // SAFETY: asks the kernel for a number.
    let thread = unsafe { libc::syscall(libc::SYS_gettid) } as u32;
    // Without the standard library, the id would cost a system call for each grant.
    assert_eq!(mine.thread(), cfg!(feature = "std").then_some(thread));
    assert_ne!(mine.seat(), history[1].seat());
    let pid_namespace = fs::metadata("/proc/self/ns/pid").unwrap().ino() as u32;
    assert_eq!((mine.pid_namespace(), history[1].pid_namespace()), (Some(pid_namespace), Some(pid_namespace)));
    assert!(!mine.program().is_empty());
    assert!(history.iter().all(|grant| grant.forced_by().is_none() && grant.wait_status().is_none()));
    let at = |time: Timestamp| time.unix_seconds();
    assert!(history.iter().all(|grant| (before - 1..before + 600).contains(&at(grant.granted()))));
    drop(present);
}

#[test]
fn only_the_holder_may_replace_the_info() {
    let dir = Dir::new();
    let (lock, other) = (dir.open(), dir.open());
    assert!(!lock.set_info("nobody holds"));
    let guard = lock.lock(AT_ONCE, "first").unwrap();
    assert!(!other.set_info("not the holder"));
    let at = |time: Timestamp| (time.unix_seconds(), time.subsec_nanos());
    let granted = at(lock.holder().unwrap().granted());
    assert!(lock.set_info("second"));
    assert_eq!(other.holder().unwrap().info(), "second");
    assert_eq!(at(other.holder().unwrap().granted()), granted, "the grant keeps its time");
    drop(guard);
    assert_eq!(other.last_grant().unwrap().info(), "second");
    drop(other.lock(AT_ONCE, "third").unwrap());
    assert_eq!(lock.last_grant().unwrap().info(), "third");
}

/// In the reference an info that is too long raises after the lock was taken, and leaves it held by nobody.
#[test]
fn an_info_that_is_too_long_fails_no_grant() {
    let dir = Dir::new();
    let lock = dir.open();
    let guard = lock.lock(AT_ONCE, &"x".repeat(100_000)).unwrap();
    assert_eq!(lock.holder().unwrap().info(), "x".repeat(120));
    assert!(lock.set_info(&"é".repeat(100_000)));
    assert_eq!(lock.holder().unwrap().info(), "é".repeat(60));
    assert!(guard.release());
}
