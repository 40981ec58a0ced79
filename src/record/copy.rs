//! A copy of the record, read from the file, by those who look and do not take part.

use core::mem::{offset_of, size_of};

use super::amendment::Amendment;
use super::entry::Entry;
use super::waiters::WaiterSlot;
use super::{Cell, HISTORY_CAPACITY, RECORD_SIZE, Record, WAITERS_CAPACITY};

/// Of a record that was read twice from its file, erases what changed in between: that may be a torn read. A copy cannot
/// use the entries' stamps as a reader of mapped memory does (a seqlock), because it is not read field by field.
///
/// A writer that was at work during the first reading has moved the stamp by the second, or the text again.
pub(crate) fn forget_what_differs(record: &mut [u8; RECORD_SIZE], again: &[u8; RECORD_SIZE]) {
    let parts = |start, count, size| (0..count).map(move |index| (start + index * size, size));
    let parts = parts(offset_of!(Record, amendments), 2, size_of::<Amendment>())
        .chain(parts(offset_of!(Record, entries), HISTORY_CAPACITY, size_of::<Entry>()))
        .chain(parts(offset_of!(Record, slots), WAITERS_CAPACITY, size_of::<WaiterSlot>()));
    for (start, len) in parts {
        if record[start..start + len] != again[start..start + len] {
            // The stamp, or a slot's seat, comes first; zero stands for nothing.
            record[start..start + size_of::<Cell>()].fill(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_readings_only_what_agrees_is_kept() {
        let first = [0; RECORD_SIZE];
        let parts = (0..2)
            .map(|index| (128 + index * 128, 128))
            .chain((0..16).map(|index| (384 + index * 216, 216)))
            .chain((0..8).map(|index| (3840 + index * 16, 16)));
        for (start, len) in parts {
            for at in [start, start + 4, start + len - 1] {
                let (mut record, mut again) = (first, first);
                record[start] = 9;
                again[start] = 9;
                forget_what_differs(&mut record, &again);
                assert_eq!(record[start], 9, "kept");
                again[at] ^= 1;
                forget_what_differs(&mut record, &again);
                assert_eq!(record[start], 0, "erased");
            }
        }
        let (mut record, mut again) = (first, first);
        again[offset_of!(Record, hot)] = 1;
        record[384] = 9;
        again[384] = 9;
        forget_what_differs(&mut record, &again);
        assert_eq!(record[384], 9, "an entry stands whatever the word does");
    }
}
