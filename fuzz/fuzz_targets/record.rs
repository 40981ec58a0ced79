//! Any 4096 bytes as a record: every public read, an acquire that does not wait, and a repair.
//!
//! The first byte of the input selects whether the header is made valid first, so that the code after the header's checks is
//! reached as well.
#![no_main]

use std::fs;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use resourcelock::{Error, INFO_CAPACITY, LockError, OpenOptions, RECORD_SIZE, ResourceLock};

fn dir() -> &'static str {
    static DIR: OnceLock<String> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = format!("/dev/shm/resourcelock-fuzz-record-{}", std::process::id());
        fs::create_dir_all(&dir).expect("a directory");
        dir
    })
}

/// Makes the header valid, as `record/header.rs` lays it out.
fn make_header_valid(record: &mut [u8]) {
    let mut set = |offset: usize, value: u32| record[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
    set(0, u32::from_le_bytes(*b"RLK1"));
    set(4, 2);
    set(8, RECORD_SIZE as u32);
    set(12, 0);
    let word = |offset: usize| u32::from_ne_bytes(record[offset..offset + 4].try_into().expect("four bytes"));
    let fields = (0..24).step_by(4);
    let sum = fields.map(word).fold(0x811c_9dc5_u32, |sum, word| (sum ^ word).wrapping_mul(0x0100_0193));
    record[24..28].copy_from_slice(&sum.to_ne_bytes());
}

fn use_everything(lock: &ResourceLock) {
    for grant in lock.history().iter().chain(&lock.holder()).chain(&lock.last_grant()) {
        assert!(grant.info().len() <= INFO_CAPACITY);
        assert!(!format!("{grant} {}", grant.program()).contains('\x1b') || grant.program().contains('\x1b'));
        let _ = (grant.held_for(), grant.ending(), grant.kind(), grant.uid(), grant.number(), grant.seat());
        let _ = (grant.pid_namespace(), grant.thread(), grant.forced_by(), grant.wait_status(), grant.expected());
    }
    let _ = (lock.info(), lock.counters(), lock.is_held(), format!("{lock:?}"));
    let _ = (lock.holds(), lock.previous(), lock.waiters());
}

/// Changes nothing, whatever the file is.
fn look(options: OpenOptions<'_>) {
    if let Ok(snapshot) = options.inspect("fuzz") {
        for grant in snapshot.history().iter().chain(&snapshot.holder()).chain(&snapshot.last_grant()) {
            assert!(grant.info().len() <= INFO_CAPACITY);
        }
        let _ = (snapshot.status(), snapshot.counters(), snapshot.held_for(), snapshot.seat(), snapshot.has_waiters());
        let _ = snapshot.waiters();
        assert!(!snapshot.wants_handoff() || snapshot.is_locked());
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&how, bytes)) = input.split_first() else { return };
    let mut record = [0; RECORD_SIZE];
    let len = bytes.len().min(RECORD_SIZE);
    record[..len].copy_from_slice(&bytes[..len]);
    if how % 4 != 0 {
        make_header_valid(&mut record);
    }
    let file = format!("{}/resourcelock.fuzz", dir());
    fs::write(&file, record).expect("space for a record");
    let options = ResourceLock::options().dir(dir());
    look(options);
    match options.open("fuzz") {
        Ok(lock) => {
            use_everything(&lock);
            match lock.try_lock("an info") {
                Ok(guard) => {
                    assert!(lock.holds());
                    let _ = guard.previous();
                    // The noise may contain an amendment of this very number, so only the last info is certain.
                    assert!(guard.set_info("another"));
                    assert_eq!(lock.holder().expect("held").info(), "another");
                    use_everything(&lock);
                    assert!(guard.release());
                }
                Err(LockError::TimedOut(_) | LockError::Failed(Error::Corrupt)) => {
                    lock.force_release();
                }
                Err(error) => panic!("{error}"),
            }
            use_everything(&lock);
            let guard = lock.try_lock("").expect("repaired");
            assert!(guard.set_info("after"));
            assert_eq!(lock.last_grant().expect("granted").info(), "after");
        }
        Err(
            Error::NotALock(_) | Error::VersionMismatch { .. } | Error::FeatureUnknown { .. } | Error::Corrupt,
        ) => {
            assert_eq!(options.remove("fuzz", true).map(drop), Ok(()));
            drop(options.open("fuzz").expect("made anew"));
        }
        Err(error) => panic!("{error}"),
    }
    fs::remove_file(&file).expect("it is there");
});
