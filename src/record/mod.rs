//! The record: the 4096 bytes in shared memory that are a lock, the same on every target.
//!
//! Invariants:
//! - every field is a 32-bit atomic at a fixed offset, in the machine's byte order, which the magic number reveals;
//! - who holds is decided by the word alone ([`crate::protocol`]); everything else here is a report about it;
//! - nothing that is read is trusted: lengths are bounded, text is checked, retries are counted.
//!
//! | offset | length | what | module |
//! | --- | --- | --- | --- |
//! | 0 | 64 | header | [`header`] |
//! | 64 | 64 | the word, and what a grant touches besides its entry: one cache line | [`header`] |
//! | 128 | 2 × 128 | amendments: infos that replaced the one given with the grant | [`amendment`] |
//! | 384 | 16 × 216 | entries: the last sixteen grants | [`entry`] |
//! | 3840 | 8 × 16 | waiter slots | [`waiters`] |
//! | 3968 | 128 | zero, reserved for companions | |
//!
//! Bytes beyond the record are never read or written; they are locked (fcntl(2), open-file-description locks):
//! [`REMOVAL_LOCK_AT`] by a process that removes the record, and [`SEATS_AT`] + n by the process in seat n. The room
//! between the record's end and 65535 lets a later record grow.

mod amendment;
mod copy;
mod entry;
mod header;
mod queue;
mod text;
mod waiters;

use core::mem::{offset_of, size_of};
use core::sync::atomic::AtomicU32;

pub(crate) use copy::forget_what_differs;
pub use entry::Ending;
pub(crate) use entry::{End, Holder, PROGRAM_CAPACITY, Publication, Report};
pub(crate) use header::{MAGIC, MAY_BREAK, VERSION};
#[cfg(feature = "embedded-hal")]
pub(crate) use text::cut_to_capacity;
pub(crate) use text::to_string;
pub(crate) use waiters::{Slot, Waiting};

/// Size of a lock's file, in bytes, on every target. Not a page: pages may be larger.
pub const RECORD_SIZE: usize = 4096;

/// Longest info text, in bytes of UTF-8. A longer one is cut at a character boundary.
pub const INFO_CAPACITY: usize = 120;

/// How many grants the record remembers, including the newest.
pub const HISTORY_CAPACITY: usize = 16;

/// How many waiters the record can name.
pub const WAITERS_CAPACITY: usize = 8;

/// The byte that a process locks while it removes or revives the record.
pub(crate) const REMOVAL_LOCK_AT: u64 = 65_535;

/// The byte of seat 0, which is never taken; seat n is byte `SEATS_AT + n`.
pub(crate) const SEATS_AT: u64 = 65_536;

/// A reader that meets a writer reads again. A grant takes tens of nanoseconds to write, and sixteen must pass before an
/// entry is reused, so a second try is rare; a peer that scribbles must not hold up a reader for ever.
const READ_TRIES: usize = 64;

type Cell = AtomicU32;

#[repr(C)]
pub(crate) struct Record {
    pub(crate) header: header::Header,
    /// See [`crate::word`].
    pub(crate) hot: header::Hot,
    amendments: [amendment::Amendment; 2],
    entries: [entry::Entry; HISTORY_CAPACITY],
    slots: [waiters::WaiterSlot; WAITERS_CAPACITY],
    _reserved: [Cell; 32],
}

const _: () = {
    assert!(size_of::<Record>() == RECORD_SIZE);
    assert!(align_of::<Record>() == 4);
    assert!(offset_of!(Record, header) == 0);
    assert!(offset_of!(Record, hot) == 64);
    assert!(offset_of!(Record, amendments) == 128);
    assert!(offset_of!(Record, entries) == 384);
    assert!(offset_of!(Record, slots) == 3840);
    assert!(offset_of!(Record, _reserved) == 3968);
    // The word's six bits of generation alone say which entry is the newest.
    assert!(64 % HISTORY_CAPACITY == 0);
};

fn load(cell: &Cell) -> u32 {
    cell.load(core::sync::atomic::Ordering::Relaxed)
}

fn store(cell: &Cell, value: u32) {
    cell.store(value, core::sync::atomic::Ordering::Relaxed);
}

#[cfg(test)]
pub(crate) mod tests {
    extern crate std;
    use core::sync::atomic::Ordering;
    use std::boxed::Box;

    use super::*;
    use crate::time::Moment;
    use crate::word::{Kind, Word};

    pub(crate) const HOLDER: Holder = Holder { seat: 7, pid: 42, pid_ns: 5, thread: 43, uid: 1000, program: [0; 4] };
    pub(crate) const NOW: Moment = Moment { sec: 5, nsec: 6 };

    /// A record of which every cell has this value.
    pub(crate) fn filled_with(value: u32) -> Box<Record> {
        let mut bytes = [0; RECORD_SIZE];
        bytes.chunks_exact_mut(4).for_each(|cell| cell.copy_from_slice(&value.to_ne_bytes()));
        Box::new(crate::sys::mapping::record_of(bytes))
    }

    pub(crate) fn new(origin: u32) -> Box<Record> {
        let record = filled_with(0);
        record.initialise(origin, 0);
        record
    }

    /// Grants number `number` as the protocol does: the word first.
    pub(crate) fn grant(record: &Record, number: u32, info: &str) {
        record.hot.word.store(Word::held(Kind::Process, HOLDER.seat, number).0, Ordering::Relaxed);
        record.publish(number, &Publication { holder: HOLDER, granted: NOW, since: NOW, due_ms: 0 }, info);
    }

    /// Whatever the record contains: no panic, no endless loop, nothing longer than it may be.
    #[test]
    fn noise_is_read_without_harm() {
        let mut state = 1_u32;
        let mut random = move || {
            // xorshift32, which does not repeat within these few numbers.
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state
        };
        for value in
            [0, 1, 0x7fff_ffff, 0x8000_0000, u32::MAX, 0xdcdc_dcdc].into_iter().chain((0..20).map(|_| random()))
        {
            let record = filled_with(value);
            let _ = record.newest();
            let _ = record.number_of(Word(value));
            record.count_hold(value, NOW);
            record.stamp_ending(value, End::Released, NOW);
            record.stamp_detached(value);
            for number in [value, value >> 1, 0, u32::MAX] {
                if let Some(report) = record.report(number) {
                    let _ = report.held_for();
                    assert!(report.info.len() <= INFO_CAPACITY && report.granted.nsec < 1_000_000_000);
                }
            }
            assert!(record.waiting().count() <= WAITERS_CAPACITY);
            grant(&record, value.wrapping_add(1), "still works");
            assert_eq!(record.report(value.wrapping_add(1)).unwrap().info.as_str(), "still works");
        }
    }
}
