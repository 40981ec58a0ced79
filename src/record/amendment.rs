//! Amendments: infos that replace the one given with the grant.
//!
//! There are two, written in turn, so that the old text stands until the new one is complete: a crash in between leaves
//! the old one. The counter `amended` moves last and selects the current one.

use core::mem::{offset_of, size_of};
use core::sync::atomic::{Ordering, fence};

use heapless::String;

use super::text::{Text, load_text, store_text, to_string};
use super::{Cell, INFO_CAPACITY, READ_TRIES, Record, load, store};

#[repr(C)]
pub(super) struct Amendment {
    /// `number << 1 | 1` of the grant; zero if there was none.
    pub(super) stamp: Cell,
    len: Cell,
    text: Text,
}

const _: () = {
    assert!(size_of::<Amendment>() == 128);
    assert!(offset_of!(Amendment, stamp) == 0);
    assert!(offset_of!(Amendment, len) == 4);
    assert!(offset_of!(Amendment, text) == 8);
};

impl Record {
    /// Replaces the info of grant `number`. Only its holder calls this, one thread at a time.
    pub(crate) fn amend(&self, number: u32, info: &str) {
        let next = load(&self.hot.amended).wrapping_add(1);
        let amendment = &self.amendments[next as usize % 2];
        // Release: pairs with the Acquire fence in `amended_info`, as in `publish`; what a reader might still be
        // reading here is the amendment before the last, and its counter has moved since.
        fence(Ordering::Release);
        store(&amendment.stamp, number << 1 | 1);
        store(&amendment.len, store_text(&amendment.text, info));
        // A compare-and-swap, so that a holder that was forced off and continues only now does not turn the counter
        // back. Release: pairs with the Acquire in `amended_info`.
        let _ = self.hot.amended.compare_exchange(next.wrapping_sub(1), next, Ordering::Release, Ordering::Relaxed);
    }

    /// The info that replaced the one of grant `number`, if one did.
    pub(super) fn amended_info(&self, number: u32) -> Option<String<INFO_CAPACITY>> {
        for _ in 0..READ_TRIES {
            // Acquire: pairs with the Release in `amend`.
            let current = self.hot.amended.load(Ordering::Acquire);
            let amendment = &self.amendments[current as usize % 2];
            let (stamp, len, text) = (load(&amendment.stamp), load(&amendment.len), load_text(&amendment.text));
            // Acquire: pairs with the Release fence in `amend`.
            fence(Ordering::Acquire);
            if load(&self.hot.amended) == current {
                return (stamp == number << 1 | 1).then(|| to_string(&text, len));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{grant, new};
    use super::*;

    #[test]
    fn an_amendment_belongs_to_one_grant_only() {
        let record = new(7);
        grant(&record, 8, "first");
        for text in ["second", "third", "", "fifth"] {
            record.amend(8, text);
            assert_eq!(record.newest().unwrap().info.as_str(), text);
        }
        grant(&record, 9, "next");
        assert_eq!(record.newest().unwrap().info.as_str(), "next");
    }

    /// Found by the fuzzer: a counter that had wrapped to zero counted as "no amendment".
    #[test]
    fn the_counter_of_amendments_may_wrap() {
        let record = new(u32::MAX);
        grant(&record, 0, "first");
        assert_eq!(record.newest().unwrap().info.as_str(), "first");
        store(&record.hot.amended, u32::MAX);
        record.amend(0, "second");
        assert_eq!(record.newest().unwrap().info.as_str(), "second");
    }

    /// A writer that dies before its last step has changed nothing that is read.
    #[test]
    fn a_half_written_amendment_is_not_seen() {
        let record = new(7);
        grant(&record, 8, "first");
        record.amend(8, "second");
        let other = &record.amendments[(load(&record.hot.amended) as usize + 1) % 2];
        store(&other.stamp, 8 << 1 | 1);
        store(&other.len, store_text(&other.text, "ha"));
        assert_eq!(record.newest().unwrap().info.as_str(), "second");
    }
}
