//! The record as it lies in the file: an ABI between programs of different builds, versions and bitness.
//!
//! The numbers here are on purpose not those of `record.rs`: a change there that moves a field must fail here.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::support::{AT_ONCE, Dir};

const KIND_PROCESS: u32 = 1 << 28;
const PID: u32 = (1 << 22) - 1;

struct Bytes(Vec<u8>);

impl Bytes {
    fn of(dir: &Dir) -> Self {
        Self(fs::read(dir.lock_file()).unwrap())
    }

    fn word(&self, offset: usize) -> u32 {
        u32::from_ne_bytes(self.0[offset..offset + 4].try_into().unwrap())
    }

    fn entry(&self, number: u32) -> usize {
        512 + number as usize % 16 * 224
    }
}

#[test]
fn the_record_lies_as_it_was_published() {
    let dir = Dir::new();
    let lock = dir.open();
    let free = Bytes::of(&dir);
    assert_eq!(free.0.len(), 4096);
    assert_eq!(free.word(0), u32::from_le_bytes(*b"RLK1"));
    assert_eq!((free.word(4), free.word(8), free.word(12)), (1, 4096, 0));
    let origin = free.word(24);
    let header = (0..28).step_by(4).chain((32..48).step_by(4)).map(|offset| free.word(offset));
    let sum = header.fold(0x811c_9dc5_u32, |sum, word| (sum ^ word).wrapping_mul(0x0100_0193));
    assert_eq!(free.word(28), sum);
    assert_eq!(free.word(64), (origin & 63) << 22, "free, with a generation");
    assert_eq!(free.word(68), origin);

    let guard = lock.lock(AT_ONCE, "text").unwrap();
    let held = Bytes::of(&dir);
    let number = origin.wrapping_add(1);
    assert_eq!(held.word(64), KIND_PROCESS | (number & 63) << 22 | std::process::id());
    assert_eq!(held.word(68), number);
    let entry = held.entry(number);
    assert_eq!(held.word(entry), number << 1 | 1, "stamp");
    assert_eq!(held.word(entry + 4), std::process::id());
    // SAFETY: asks the kernel for a number.
    assert_eq!(held.word(entry + 16), unsafe { libc::getuid() });
    assert_eq!(held.word(entry + 52), 0, "has not ended");
    assert_eq!((held.word(entry + 56), held.word(entry + 60)), (4, 1), "length, kind");
    assert_eq!(&held.0[entry + 80..entry + 84], b"text");

    assert!(lock.set_lock_info("other"));
    let amended = Bytes::of(&dir);
    let amendment = 128 + amended.word(92) as usize % 2 * 152;
    assert_eq!((amended.word(amendment), amended.word(amendment + 4)), (number << 1 | 1, 5));
    assert_eq!(&amended.0[amendment + 8..amendment + 13], b"other");

    drop(guard);
    let released = Bytes::of(&dir);
    assert_eq!(released.word(64), (number & 63) << 22);
    assert_eq!(released.word(entry + 52), 1, "released");

    assert!(lock.get_lock(AT_ONCE, false, "").unwrap() && lock.detach());
    let detached = Bytes::of(&dir);
    assert_eq!(detached.word(64) >> 28, 2);
    assert_eq!(detached.word(64) & PID, std::process::id());
}

#[test]
fn the_file_is_for_its_user_and_group() {
    let dir = Dir::new();
    let _lock = dir.open();
    let metadata = fs::metadata(dir.lock_file()).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o660);
    // Allocated, not sparse: a full disk is found out by `open`, not by SIGBUS.
    assert!(metadata.blocks() * 512 >= 4096);
}
