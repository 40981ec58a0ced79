//! The queue of arrivals: which waiter a reserving release wakes.
//!
//! The kernel's own queue is not in the order of arrival: a waiter joins its end anew at the end of each slice. So each
//! waiter draws an arrival number at its first sleep and sleeps under one of 32 bits of FUTEX_WAIT_BITSET, number modulo 32;
//! a release wakes by the bits in order, from the oldest. The order is exact among up to 32 waiters that sleep; with more,
//! two that share a bit may change places. A waiter that is awake at the release, between two slices or woken by a signal,
//! is passed over for that release, and is the oldest again afterwards.
//!
//! Everything here is a hint: a bit that is missing costs a turn and is set again at the next sleep, one that is stale costs
//! a futile system call and is cleared by it. A waiter that dies leaves such a bit.

use core::sync::atomic::Ordering;

use super::{Record, load, store};

impl Record {
    /// Draws an arrival number.
    pub(crate) fn arrive(&self) -> u32 {
        // Relaxed: each number is given out once; their order is that of the counter.
        self.hot.arrivals.fetch_add(1, Ordering::Relaxed)
    }

    /// Notes that the waiter with this arrival number is about to sleep.
    pub(crate) fn queue(&self, arrival: u32) {
        let bit = 1 << (arrival % 32);
        // It was passed over, being awake between two slices: it is the oldest again.
        if (arrival.wrapping_sub(load(&self.hot.oldest)) as i32) < 0 {
            store(&self.hot.oldest, arrival);
        }
        // Most of the time it is there from the sleep before.
        if load(&self.hot.queued) & bit == 0 {
            self.hot.queued.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// Notes that nobody with this arrival number sleeps: it has been granted the lock, has given up, or was not found.
    pub(crate) fn unqueue(&self, arrival: u32) {
        self.hot.queued.fetch_and(!(1 << (arrival % 32)), Ordering::Relaxed);
    }

    /// The arrival numbers that may sleep, the oldest first. (Of each, only its remainder by 32 is exact.)
    pub(crate) fn queued(&self) -> impl Iterator<Item = u32> {
        let (queued, oldest) = (load(&self.hot.queued), load(&self.hot.oldest));
        // Bit 0 is that of the oldest.
        let rotated = queued.rotate_right(oldest % 32);
        if rotated != 0 {
            // The positions before have been served.
            store(&self.hot.oldest, oldest.wrapping_add(rotated.trailing_zeros()));
        } else {
            store(&self.hot.oldest, load(&self.hot.arrivals));
        }
        (0..32).filter(move |position| rotated >> position & 1 == 1).map(move |position| oldest.wrapping_add(position))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::super::tests::new;
    use super::*;

    #[test]
    fn the_order_is_that_of_arrival_across_wraps() {
        for first in [0, 30, u32::MAX - 5] {
            let record = new(0);
            store(&record.hot.arrivals, first);
            store(&record.hot.oldest, first);
            let mut waiting: Vec<_> = (0..5).map(|_| record.arrive()).collect();
            waiting.iter().rev().for_each(|&arrival| record.queue(arrival));
            for _ in 0..200 {
                let queued: Vec<_> = record.queued().map(|arrival| arrival % 32).collect();
                assert_eq!(queued, waiting.iter().map(|arrival| arrival % 32).collect::<Vec<_>>());
                // The oldest is served and comes again.
                record.unqueue(waiting.remove(0));
                waiting.push(record.arrive());
                record.queue(*waiting.last().unwrap());
            }
        }
    }

    /// A waiter that was awake when a release looked for it must not become the youngest.
    #[test]
    fn a_waiter_that_was_passed_over_is_the_oldest_again() {
        let record = new(0);
        let arrivals: Vec<_> = (0..3).map(|_| record.arrive()).collect();
        arrivals.iter().for_each(|&arrival| record.queue(arrival));
        record.unqueue(arrivals[0]);
        assert_eq!(record.queued().next(), Some(arrivals[1]));
        record.queue(arrivals[0]);
        assert_eq!(record.queued().collect::<Vec<_>>(), arrivals);
    }

    #[test]
    fn an_empty_queue_follows_the_arrivals() {
        let record = new(0);
        for _ in 0..100 {
            let arrival = record.arrive();
            record.queue(arrival);
            assert_eq!(record.queued().next().map(|first| first % 32), Some(arrival % 32));
            record.unqueue(arrival);
            assert_eq!(record.queued().count(), 0);
        }
    }
}
