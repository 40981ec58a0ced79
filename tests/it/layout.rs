//! The record as it lies in the file: an ABI between programs of different builds, versions and bitness.
//!
//! The numbers here are repeated on purpose: a change in `src/record` that moves a field must fail here.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::support::{AT_ONCE, Child, Dir, LONG, wait_until};

const KIND_PROCESS: u32 = 1 << 28;
const SEAT: u32 = (1 << 22) - 1;

struct Bytes(Vec<u8>);

impl Bytes {
    fn of(dir: &Dir) -> Self {
        Self(fs::read(dir.lock_file()).unwrap())
    }

    fn word(&self, offset: usize) -> u32 {
        u32::from_ne_bytes(self.0[offset..offset + 4].try_into().unwrap())
    }

    fn text(&self, offset: usize, len: usize) -> &str {
        std::str::from_utf8(&self.0[offset..offset + len]).unwrap()
    }

    fn entry(&self, number: u32) -> usize {
        384 + number as usize % 16 * 216
    }
}

#[test]
fn the_record_lies_as_it_was_published() {
    let dir = Dir::new();
    let lock = dir.open();
    let free = Bytes::of(&dir);
    assert_eq!(free.0.len(), 4096);
    assert_eq!(free.word(0), u32::from_le_bytes(*b"RLK1"));
    assert_eq!((free.word(4), free.word(8)), (2, 4096), "version, size");
    assert_eq!((free.word(12), free.word(16)), (0, 0), "incompatible and compatible features");
    let origin = free.word(20);
    let header = (0..24).step_by(4).map(|offset| free.word(offset));
    let sum = header.fold(0x811c_9dc5_u32, |sum, word| (sum ^ word).wrapping_mul(0x0100_0193));
    assert_eq!(free.word(24), sum);
    assert_eq!(free.word(64), (origin & 63) << 22, "free, with a generation");
    assert_eq!(free.word(68), origin);
    assert_eq!(free.word(100), 1, "one seat was drawn");

    let guard = lock.lock(AT_ONCE, "text").unwrap();
    let held = Bytes::of(&dir);
    let (number, seat) = (origin.wrapping_add(1), 1);
    assert_eq!(held.word(64), KIND_PROCESS | (number & 63) << 22 | seat);
    assert_eq!(held.word(68), number);
    let entry = held.entry(number);
    assert_eq!(held.word(entry), number << 1 | 1, "stamp");
    assert_eq!((held.word(entry + 4), held.word(entry + 8)), (seat, std::process::id()));
    let grant = lock.holder().unwrap();
    assert_eq!(
        (Some(held.word(entry + 12)), held.word(entry + 16)),
        (grant.pid_namespace(), grant.thread().unwrap_or(0))
    );
    // SAFETY: asks the kernel for a number.
    let uid = unsafe { libc::getuid() };
    assert_eq!(held.word(entry + 20), uid);
    let granted = grant.granted();
    assert_eq!(u64::from(held.word(entry + 24)) | u64::from(held.word(entry + 28)) << 32, granted.unix_seconds());
    assert_eq!(held.word(entry + 32), granted.subsec_nanos());
    assert_eq!(held.word(entry + 52), 0, "has not ended");
    assert_eq!((held.word(entry + 56), held.word(entry + 60)), (4, 1), "length, kind");
    assert_eq!(held.text(entry + 80, grant.program().len()), grant.program());
    assert_eq!(held.text(entry + 96, 4), "text");

    assert!(lock.set_info("other"));
    let amended = Bytes::of(&dir);
    let amendment = 128 + amended.word(92) as usize % 2 * 128;
    assert_eq!((amended.word(amendment), amended.word(amendment + 4)), (number << 1 | 1, 5));
    assert_eq!(amended.text(amendment + 8, 5), "other");

    let waiter = Child::fork(|_| drop(dir.open().lock(LONG, "").unwrap()));
    wait_until("the waiter fills a slot", || Bytes::of(&dir).word(3840) == 2);
    let slot = Bytes::of(&dir);
    let thread = if cfg!(feature = "std") { waiter.pid as u32 } else { 0 };
    assert_eq!((slot.word(3844), slot.word(3848)), (waiter.pid as u32, thread), "pid, thread");
    assert!((3968..4096).step_by(4).all(|offset| slot.word(offset) == 0), "reserved");

    drop(guard);
    waiter.succeeds();
    let (released, number) = (Bytes::of(&dir), number.wrapping_add(1));
    assert_eq!(released.word(64), (number & 63) << 22);
    assert_eq!(released.word(released.entry(number) + 52), 1, "released");
    assert_eq!(released.word(3840), 0, "the slot is empty again");

    assert!(lock.lock(AT_ONCE, "").unwrap().detach());
    let (detached, number) = (Bytes::of(&dir), number.wrapping_add(1));
    assert_eq!((detached.word(64) >> 28, detached.word(64) & SEAT), (2, seat));
    assert_eq!(detached.word(detached.entry(number) + 60), 2, "kind");
    assert!(lock.force_release());

    lock.lock(AT_ONCE, "").unwrap().keep();
    assert!(lock.force_release());
    let (forced, number) = (Bytes::of(&dir), number.wrapping_add(1));
    let entry = forced.entry(number);
    assert_eq!((forced.word(64) >> 28, forced.word(64) & SEAT), (0, SEAT - 2), "the marker of a forced hold");
    assert_eq!(
        (forced.word(entry + 52), forced.word(entry + 64), forced.word(entry + 68)),
        (2, std::process::id(), uid)
    );
}

/// A seat is a write lock on byte 65536 + n, as another description of the file sees it.
#[test]
fn a_seat_is_a_lock_on_one_byte_of_the_file() {
    let dir = Dir::new();
    let lock = dir.open();
    drop(lock.lock(AT_ONCE, "").unwrap());
    let seat = lock.last_grant().unwrap().seat();
    let file = fs::File::open(dir.lock_file()).unwrap();
    let conflict_at = |at: libc::off_t| {
        // SAFETY: all zeros is valid for the structure.
        let mut flock: libc::flock = unsafe { std::mem::zeroed() };
        (flock.l_type, flock.l_start, flock.l_len) = (libc::F_RDLCK as i16, at, 1);
        // SAFETY: a descriptor of this process, and a structure that the command reads and fills.
        assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut flock) }, 0);
        (i32::from(flock.l_type) != libc::F_UNLCK).then_some((i32::from(flock.l_type), flock.l_start, flock.l_len))
    };
    // The type differs between targets.
    #[allow(clippy::cast_lossless)]
    let byte = 65_536 + seat as libc::off_t;
    assert_eq!(conflict_at(byte), Some((libc::F_WRLCK, byte, 1)));
    assert_eq!((conflict_at(byte - 1), conflict_at(byte + 1)), (None, None));
    drop(lock);
    assert_eq!(conflict_at(byte), None);
}

#[test]
fn the_file_is_for_its_user_and_group() {
    let dir = Dir::new();
    let _lock = dir.open();
    let metadata = fs::metadata(dir.lock_file()).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o660);
    // Allocated, not sparse: a full file system is an error of `open`, not a SIGBUS later.
    assert!(metadata.blocks() * 512 >= 4096);
}
