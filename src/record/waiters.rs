//! Waiter slots: who waits for the lock, for people and for deadlock reports.
//!
//! A slot is a report: no grant and no wake-up depends on it. A waiter fills one after its first slice and clears it when
//! it leaves; one that dies leaves a stale slot, which readers recognise because its seat is not locked, and which
//! participants clear.

use core::mem::{offset_of, size_of};
use core::sync::atomic::{Ordering, fence};

use super::{Cell, Record, load, store};
use crate::word::MAX_SEAT;

#[repr(C)]
pub(super) struct WaiterSlot {
    /// The waiter's seat; zero if the slot is empty; with [`BEING_FILLED`] while the rest is being written.
    seat: Cell,
    pid: Cell,
    /// Thread id in the waiter's PID namespace; zero if unknown.
    thread: Cell,
    /// When the wait began: CLOCK_MONOTONIC in milliseconds, modulo 2^32.
    since_ms: Cell,
}

const BEING_FILLED: u32 = 1 << 31;

const _: () = {
    assert!(size_of::<WaiterSlot>() == 16);
    assert!(offset_of!(WaiterSlot, seat) == 0);
    assert!(offset_of!(WaiterSlot, pid) == 4);
    assert!(offset_of!(WaiterSlot, thread) == 8);
    assert!(offset_of!(WaiterSlot, since_ms) == 12);
};

/// A waiter, as its slot describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) seat: u32,
    pub(crate) pid: u32,
    pub(crate) thread: u32,
    pub(crate) since_ms: u32,
}

/// The index of a slot that this waiter fills.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot(usize);

impl Record {
    /// Fills a free slot, if there is one.
    pub(crate) fn fill_slot(&self, waiting: Waiting) -> Option<Slot> {
        self.slots.iter().enumerate().find_map(|(index, slot)| {
            // Acquire: pairs with the Release in `clear_slot`, so that the stores below come after the last owner's.
            let claimed =
                slot.seat.compare_exchange(0, waiting.seat | BEING_FILLED, Ordering::Acquire, Ordering::Relaxed);
            claimed.is_ok().then(|| {
                // Release: pairs with the Acquire fence in `waiting`. A reader that sees any store below also sees that
                // the slot is being filled.
                fence(Ordering::Release);
                store(&slot.pid, waiting.pid);
                store(&slot.thread, waiting.thread);
                store(&slot.since_ms, waiting.since_ms);
                // Release: pairs with the Acquire in `waiting`.
                slot.seat.store(waiting.seat, Ordering::Release);
                Slot(index)
            })
        })
    }

    /// Clears a slot that this waiter has filled, if it still has it: whoever took it for stale may have cleared it.
    pub(crate) fn clear_slot(&self, Slot(index): Slot, seat: u32) {
        // Release: pairs with the Acquire in `fill_slot`.
        let _ = self.slots[index].seat.compare_exchange(seat, 0, Ordering::Release, Ordering::Relaxed);
    }

    /// Clears the slots whose seat is `stale`: nobody can wait in it any more.
    pub(crate) fn clear_stale_slots(&self, mut stale: impl FnMut(u32) -> bool) {
        for slot in &self.slots {
            let seat = load(&slot.seat);
            if seat != 0 && stale(seat & !BEING_FILLED) {
                // Release: as in `clear_slot`.
                let _ = slot.seat.compare_exchange(seat, 0, Ordering::Release, Ordering::Relaxed);
            }
        }
    }

    /// The waiters that have a slot, stale ones included.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = Waiting> + '_ {
        self.slots.iter().filter_map(|slot| {
            // Acquire: pairs with the Release of the seat in `fill_slot`.
            let seat = slot.seat.load(Ordering::Acquire);
            let (pid, thread, since_ms) = (load(&slot.pid), load(&slot.thread), load(&slot.since_ms));
            // Acquire: pairs with the Release fence in `fill_slot`.
            fence(Ordering::Acquire);
            let is_whole = (1..=MAX_SEAT).contains(&seat) && load(&slot.seat) == seat;
            is_whole.then_some(Waiting { seat, pid, thread, since_ms })
        })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::super::WAITERS_CAPACITY;
    use super::super::tests::new;
    use super::*;

    fn waiter(seat: u32) -> Waiting {
        Waiting { seat, pid: seat + 100, thread: seat + 200, since_ms: seat + 300 }
    }

    #[test]
    fn slots_are_filled_read_and_cleared() {
        let record = new(0);
        let slots: Vec<_> = (1..=WAITERS_CAPACITY as u32).map(|seat| record.fill_slot(waiter(seat)).unwrap()).collect();
        assert!(record.fill_slot(waiter(99)).is_none(), "full");
        let seen: Vec<_> = record.waiting().collect();
        assert_eq!(seen, (1..=8).map(waiter).collect::<Vec<_>>());
        record.clear_slot(slots[3], 4);
        record.clear_stale_slots(|seat| seat == 6);
        assert_eq!(record.waiting().map(|waiting| waiting.seat).collect::<Vec<_>>(), [1, 2, 3, 5, 7, 8]);
        record.fill_slot(waiter(99)).unwrap();
        record.clear_slot(slots[3], 4);
        assert!(record.waiting().any(|waiting| waiting.seat == 99), "another waiter's slot is left alone");
    }

    /// A waiter that dies while it fills its slot leaves one that is not shown, and that can be cleared.
    #[test]
    fn a_half_filled_slot_is_not_shown_and_can_be_cleared() {
        let record = new(0);
        store(&record.slots[0].seat, 5 | BEING_FILLED);
        assert_eq!(record.waiting().count(), 0);
        record.clear_stale_slots(|seat| seat == 5);
        assert_eq!(load(&record.slots[0].seat), 0);
    }
}
