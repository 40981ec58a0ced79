//! The first 128 bytes of the record: what it is, and the cache line that every grant touches.
//!
//! The header never changes while the record lives and carries its own checksum, so that the next process that opens the
//! lock notices when a peer has written over it.

use core::mem::{offset_of, size_of};

use super::{Cell, RECORD_SIZE, Record, load, store};
use crate::word::Word;

/// `"RLK1"` on a little-endian machine; a machine of the other endianness reads it reversed and refuses.
pub(crate) const MAGIC: u32 = u32::from_le_bytes(*b"RLK1");
pub(crate) const VERSION: u32 = 2;

/// The flag of locks whose overdue holds may be broken.
pub(crate) const MAY_BREAK: u32 = 1;

#[repr(C)]
pub(crate) struct Header {
    pub(crate) magic: Cell,
    pub(crate) version: Cell,
    pub(crate) size: Cell,
    /// Features that a program must know to take part. An unknown bit is an error.
    pub(crate) incompatible: Cell,
    /// Features that a program may ignore: [`MAY_BREAK`].
    compatible: Cell,
    /// The number before the first grant. Random per record, so that a grant of a record that was removed is not
    /// mistaken for one of its successor.
    pub(crate) origin: Cell,
    /// FNV-1a, word by word, of the six fields above.
    sum: Cell,
    _reserved: [Cell; 9],
}

/// What a grant touches besides its entry.
#[repr(C)]
pub(crate) struct Hot {
    /// The lock word, see [`crate::word`].
    pub(crate) word: Cell,
    /// Number of the newest published grant.
    pub(crate) published: Cell,
    pub(crate) contended: Cell,
    pub(crate) longest_hold_ms: Cell,
    pub(crate) timeouts: Cell,
    pub(crate) recoveries: Cell,
    pub(crate) forced: Cell,
    /// How often an info was replaced; its lowest bit selects the current amendment.
    pub(crate) amended: Cell,
    /// Bit `n`: a waiter whose arrival number is `n` modulo 32 may sleep on the word. A hint for a release that wakes the
    /// oldest.
    pub(crate) queued: Cell,
    /// The counter from which seats are drawn; it wraps.
    pub(crate) seats: Cell,
    /// The counter from which arrival numbers are drawn; it wraps.
    pub(crate) arrivals: Cell,
    /// The arrival number from which the oldest waiter is searched for. A hint.
    pub(crate) oldest: Cell,
    _reserved: [Cell; 4],
}

const _: () = {
    assert!(size_of::<Header>() == 64);
    assert!(offset_of!(Header, magic) == 0);
    assert!(offset_of!(Header, version) == 4);
    assert!(offset_of!(Header, size) == 8);
    assert!(offset_of!(Header, incompatible) == 12);
    assert!(offset_of!(Header, compatible) == 16);
    assert!(offset_of!(Header, origin) == 20);
    assert!(offset_of!(Header, sum) == 24);
    assert!(size_of::<Hot>() == 64);
    assert!(offset_of!(Hot, word) == 0);
    assert!(offset_of!(Hot, published) == 4);
    assert!(offset_of!(Hot, contended) == 8);
    assert!(offset_of!(Hot, longest_hold_ms) == 12);
    assert!(offset_of!(Hot, timeouts) == 16);
    assert!(offset_of!(Hot, recoveries) == 20);
    assert!(offset_of!(Hot, forced) == 24);
    assert!(offset_of!(Hot, amended) == 28);
    assert!(offset_of!(Hot, queued) == 32);
    assert!(offset_of!(Hot, seats) == 36);
    assert!(offset_of!(Hot, arrivals) == 40);
    assert!(offset_of!(Hot, oldest) == 44);
};

impl Record {
    /// Writes the header of a record that is all zeros, or cleared. The word comes after it.
    pub(crate) fn initialise(&self, origin: u32, flags: u32) {
        let Header { magic, version, size, incompatible, compatible, origin: first, sum, _reserved } = &self.header;
        // Relaxed: a new file gets its name afterwards, by a system call.
        store(version, VERSION);
        store(size, RECORD_SIZE as u32);
        store(incompatible, 0);
        store(compatible, flags);
        store(first, origin);
        store(&self.hot.published, origin);
        store(magic, MAGIC);
        store(sum, self.header_sum());
    }

    /// Erases everything but the word, the header, and the counters of seats and arrivals, which go on. Nobody else may use the record meanwhile: its
    /// word is retired, and the caller has the right to remove it.
    pub(crate) fn clear(&self) {
        let Hot {
            word: _,
            published: _,
            contended,
            longest_hold_ms,
            timeouts,
            recoveries,
            forced,
            amended,
            queued,
            ..
        } = &self.hot;
        [contended, longest_hold_ms, timeouts, recoveries, forced, amended, queued]
            .into_iter()
            .for_each(|cell| store(cell, 0));
        self.clear_reports();
    }

    fn header_sum(&self) -> u32 {
        let Header { magic, version, size, incompatible, compatible, origin, .. } = &self.header;
        [magic, version, size, incompatible, compatible, origin]
            .into_iter()
            .fold(0x811c_9dc5, |sum: u32, cell| (sum ^ load(cell)).wrapping_mul(0x0100_0193))
    }

    /// Whether the lock's maker allows overdue holds to be broken.
    pub(crate) fn may_break(&self) -> bool {
        load(&self.header.compatible) & MAY_BREAK != 0
    }

    /// The flags of the lock's maker, for a record that is made new.
    pub(crate) fn flags(&self) -> u32 {
        load(&self.header.compatible)
    }

    /// Whether the header is as its maker wrote it.
    pub(crate) fn header_is_whole(&self) -> bool {
        load(&self.header.sum) == self.header_sum()
    }

    /// The full number of the grant that `word` names or, for a free word, of the last one.
    pub(crate) fn number_of(&self, word: Word) -> u32 {
        word.number_near(load(&self.hot.published))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::new;
    use super::*;

    #[test]
    fn damage_to_the_header_is_found() {
        let record = new(9);
        assert!(record.header_is_whole());
        for cell in [&record.header.origin, &record.header.compatible, &record.header.sum] {
            let before = load(cell);
            store(cell, before ^ 1 << 9);
            assert!(!record.header_is_whole());
            store(cell, before);
        }
    }
}
