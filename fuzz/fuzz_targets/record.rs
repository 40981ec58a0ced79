//! Any 4096 bytes as a record: under every public read, a get that does not wait, and what mends it.
//!
//! The first byte of the input says how much of the header is made right before, so that what lies behind the header's
//! checks is reached as well.
#![no_main]

use std::fs;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use resourcelock::{Error, INFO_CAPACITY, OpenOptions, RECORD_SIZE, ResourceLock, Timeout};

fn dir() -> &'static str {
    static DIR: OnceLock<String> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = format!("/dev/shm/resourcelock-fuzz-record-{}", std::process::id());
        fs::create_dir_all(&dir).expect("a directory");
        dir
    })
}

/// Makes the header one that is accepted: as in `record.rs`, whose layout is an ABI.
fn make_header_right(record: &mut [u8]) {
    let mut set = |offset: usize, value: u32| record[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
    set(0, u32::from_le_bytes(*b"RLK1"));
    set(4, 1);
    set(8, RECORD_SIZE as u32);
    let word = |offset: usize| u32::from_ne_bytes(record[offset..offset + 4].try_into().expect("four bytes"));
    let fields = (0..28).step_by(4).chain((32..48).step_by(4));
    let sum = fields.map(word).fold(0x811c_9dc5_u32, |sum, word| (sum ^ word).wrapping_mul(0x0100_0193));
    record[28..32].copy_from_slice(&sum.to_ne_bytes());
}

fn use_everything(lock: &ResourceLock) {
    for grant in lock.history().into_iter().chain(lock.holder()).chain(lock.last_grant()) {
        assert!(grant.info().len() <= INFO_CAPACITY);
        assert!(!format!("{grant} {}", grant.program()).contains('\x1b') || grant.program().contains('\x1b'));
        let _ = (grant.held_for(), grant.ending(), grant.kind(), grant.start_time(), grant.uid(), grant.number());
    }
    let _ = (lock.get_lock_info(), lock.counters(), lock.is_locked(), lock.lock_value(), format!("{lock:?}"));
    let _ = (lock.i_have_the_lock(), lock.recovered_from());
}

/// Changes nothing, whatever the file is.
fn look(options: OpenOptions<'_>) {
    if let Ok(snapshot) = options.inspect("fuzz") {
        for grant in snapshot.history().into_iter().chain(snapshot.holder()).chain(snapshot.last_grant()) {
            assert!(grant.info().len() <= INFO_CAPACITY);
        }
        let _ = (snapshot.status(), snapshot.counters(), snapshot.held_for(), snapshot.pid(), snapshot.has_waiters());
        assert!(!snapshot.wants_handoff() || snapshot.is_locked());
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&how, bytes)) = input.split_first() else { return };
    let mut record = [0; RECORD_SIZE];
    let len = bytes.len().min(RECORD_SIZE);
    record[..len].copy_from_slice(&bytes[..len]);
    if how % 4 != 0 {
        make_header_right(&mut record);
    }
    let file = format!("{}/resourcelock.fuzz", dir());
    fs::write(&file, record).expect("space for a record");
    let options = ResourceLock::options().dir(dir());
    look(options);
    match options.open("fuzz") {
        Ok(lock) => {
            use_everything(&lock);
            match lock.get_lock(Timeout::ZERO, how & 4 != 0, "an info") {
                Ok(true) => {
                    assert!(lock.i_have_the_lock());
                    // The noise may hold an amendment of just this number, so only what is said last must be so.
                    assert!(lock.set_lock_info("another"));
                    assert_eq!(lock.holder().expect("held").info(), "another");
                    use_everything(&lock);
                    assert!(lock.unget_lock(false, ""));
                }
                Ok(false) | Err(Error::Corrupt) => {
                    lock.unget_lock(true, "");
                }
                Err(error) => panic!("{error}"),
            }
            use_everything(&lock);
            assert!(lock.get_lock(Timeout::ZERO, false, "").expect("mended"));
            assert!(lock.set_lock_info("after"));
            assert_eq!(lock.last_grant().expect("granted").info(), "after");
        }
        Err(Error::NotALock(_) | Error::VersionMismatch { .. } | Error::Corrupt) => {
            assert_eq!(options.remove("fuzz", true), Ok(()));
            drop(options.open("fuzz").expect("made anew"));
        }
        Err(error) => panic!("{error}"),
    }
    fs::remove_file(&file).expect("it is there");
});
