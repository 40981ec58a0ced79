//! The lock word: one `u32` that is the whole truth about who holds the lock, and also the futex.
//!
//! Invariant: *who holds* changes in one compare-and-swap of this word and nowhere else. A crash before the
//! compare-and-swap has changed nothing, a crash after it has changed everything; there is no in-between to repair.
//! Called by [`crate::protocol`], which owns the transitions; this module only names the bits.
//!
//! | bits | field | meaning |
//! | --- | --- | --- |
//! | 0–21 | pid | the holder's pid in the record's home PID namespace (kernel limit: 2^22) |
//! | 22–27 | generation | low six bits of the grant number; a free word keeps the last one |
//! | 28–29 | kind | 0 not held, 1 process, 2 detached, 3 foreign |
//! | 30 | handoff | a waiter starves: the next release is reserved for those who already wait |
//! | 31 | waiters | somebody sleeps on the word |
//!
//! With kind 0 the pid field tells the rest: 0 is *free* (or *reserved*, with the handoff bit), all ones is *retired*,
//! anything else was never written by this crate and is *malformed*.
//!
//! The word is an ABI between processes of different builds and bitness: see `record.rs` for where it lies.

use core::fmt;

const PID_MASK: u32 = (1 << 22) - 1;
const GENERATION_SHIFT: u32 = 22;
const GENERATION_MASK: u32 = 0x3f;
const KIND_SHIFT: u32 = 28;
const HANDOFF: u32 = 1 << 30;
const WAITERS: u32 = 1 << 31;

/// Pid field of a record that was removed. With kind 0 the field is not a pid, so no holder is ever mistaken for it.
const RETIRED_PID: u32 = PID_MASK;

/// How a hold ends when nobody ungets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// Held by a process: ends with that process.
    Process = 1,
    /// Held until somebody ungets it, whatever happens to the process that got it.
    Detached = 2,
    /// Held by a process of another PID namespace, whose life cannot be judged from here.
    Foreign = 3,
}

impl Kind {
    pub(crate) const fn from_bits(bits: u32) -> Option<Self> {
        match bits & 3 {
            1 => Some(Self::Process),
            2 => Some(Self::Detached),
            3 => Some(Self::Foreign),
            _ => None,
        }
    }
}

/// What a word says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Anybody may take it.
    Free,
    /// Released under handoff: only those who already wait may take it.
    Reserved,
    Held(Kind),
    /// The record was removed; nobody can take it any more.
    Retired,
    /// Not a word that this crate writes.
    Malformed,
}

/// A value of the lock word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word(pub(crate) u32);

impl Word {
    /// The word of a record that was just made: free, with the generation that grant number `number` would have.
    pub(crate) const fn free(number: u32) -> Self {
        Self((number & GENERATION_MASK) << GENERATION_SHIFT)
    }

    /// The identity of grant `number` to `pid`.
    pub(crate) const fn held(kind: Kind, pid: u32, number: u32) -> Self {
        Self((kind as u32) << KIND_SHIFT | Self::free(number).0 | (pid & PID_MASK))
    }

    pub(crate) const fn state(self) -> State {
        match Kind::from_bits(self.0 >> KIND_SHIFT) {
            Some(kind) => State::Held(kind),
            None => match self.pid() {
                0 if self.0 & HANDOFF != 0 => State::Reserved,
                0 => State::Free,
                RETIRED_PID => State::Retired,
                _ => State::Malformed,
            },
        }
    }

    pub(crate) const fn pid(self) -> u32 {
        self.0 & PID_MASK
    }

    pub(crate) const fn generation(self) -> u32 {
        self.0 >> GENERATION_SHIFT & GENERATION_MASK
    }

    /// All but the two bits that waiters set: what tells one grant from another.
    pub(crate) const fn identity(self) -> Self {
        Self(self.0 & !(HANDOFF | WAITERS))
    }

    pub(crate) const fn has_waiters(self) -> bool {
        self.0 & WAITERS != 0
    }

    pub(crate) const fn wants_handoff(self) -> bool {
        self.0 & HANDOFF != 0
    }

    pub(crate) const fn with_waiters(self) -> Self {
        Self(self.0 | WAITERS)
    }

    pub(crate) const fn with_handoff(self) -> Self {
        Self(self.0 | HANDOFF)
    }

    pub(crate) const fn without_handoff(self) -> Self {
        Self(self.0 & !HANDOFF)
    }

    /// This word's generation raised by one, in the hands of `pid`. Waiters are kept, a handoff is served or dropped.
    pub(crate) const fn granted_to(self, kind: Kind, pid: u32) -> Self {
        Self(Self::held(kind, pid, self.generation() + 1).0 | self.0 & WAITERS)
    }

    /// The same grant, held until somebody ungets it.
    pub(crate) const fn detached(self) -> Self {
        Self(self.0 & !(3 << KIND_SHIFT) | (Kind::Detached as u32) << KIND_SHIFT)
    }

    /// Released: free for everybody, generation kept.
    pub(crate) const fn freed(self) -> Self {
        Self::free(self.generation())
    }

    /// Released under handoff: free for those who already wait.
    pub(crate) const fn reserved(self) -> Self {
        Self(self.freed().0 | HANDOFF | WAITERS)
    }

    /// Removed.
    pub(crate) const fn retired(self) -> Self {
        Self(self.freed().0 | RETIRED_PID)
    }

    /// The full number of the grant that this word names or, of a free word, of the last one: the number nearest to
    /// `published` that has this word's generation.
    ///
    /// `published` lags behind by the grants that died or were forced off before they could publish. With fewer than 32
    /// of them in a row the number is exact; with more, all who look get the same one that is 64 too small, which does
    /// no harm but to the history.
    pub(crate) const fn number_near(self, published: u32) -> u32 {
        let ahead = self.generation().wrapping_sub(published) & GENERATION_MASK;
        published.wrapping_add(ahead).wrapping_sub(if ahead > GENERATION_MASK / 2 { GENERATION_MASK + 1 } else { 0 })
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Word")
            .field("state", &self.state())
            .field("pid", &self.pid())
            .field("generation", &self.generation())
            .field("handoff", &self.wants_handoff())
            .field("waiters", &self.has_waiters())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_PID: u32 = PID_MASK;

    #[test]
    fn fields_do_not_overlap() {
        for kind in [Kind::Process, Kind::Detached, Kind::Foreign] {
            for pid in [1, 2, 32_768, MAX_PID] {
                for number in [0, 1, 63, 64, u32::MAX] {
                    let word = Word::held(kind, pid, number);
                    assert_eq!(word.state(), State::Held(kind));
                    assert_eq!(word.pid(), pid);
                    assert_eq!(word.generation(), number & 63);
                    assert!(!word.has_waiters() && !word.wants_handoff());
                    let marked = word.with_waiters().with_handoff();
                    assert_eq!(marked.identity(), word);
                    assert!(marked.has_waiters() && marked.wants_handoff());
                    assert_eq!(marked.freed().state(), State::Free);
                    assert_eq!(marked.freed().generation(), number & 63);
                    assert_eq!(marked.reserved().state(), State::Reserved);
                    assert_eq!(marked.retired().state(), State::Retired);
                    assert_eq!(word.detached().state(), State::Held(Kind::Detached));
                    assert_eq!(word.detached().pid(), pid);
                }
            }
        }
    }

    #[test]
    fn a_grant_raises_the_generation_and_keeps_the_waiters() {
        let mut word = Word::free(0);
        for number in 1..200 {
            word = word.granted_to(Kind::Process, 42);
            assert_eq!(word, Word::held(Kind::Process, 42, number));
            word = word.freed();
        }
        let reserved = Word::held(Kind::Process, 7, 63).reserved();
        let claimed = reserved.granted_to(Kind::Process, 8);
        assert!(claimed.has_waiters() && !claimed.wants_handoff());
        assert_eq!(claimed.generation(), 0);
    }

    #[test]
    fn two_grants_to_one_pid_are_different_words() {
        let first = Word::free(5).granted_to(Kind::Process, 9);
        let second = first.freed().granted_to(Kind::Process, 9);
        assert_ne!(first.identity(), second.identity());
    }

    #[test]
    fn the_grant_number_survives_unpublished_grants_and_wrapping() {
        for published in [0, 1, 62, 63, 64, 1000, u32::MAX - 3, u32::MAX] {
            for lost in 0..31 {
                let number = published.wrapping_add(1 + lost);
                assert_eq!(Word::held(Kind::Process, 1, number).number_near(published), number);
            }
        }
    }

    #[test]
    fn every_word_has_a_state() {
        assert_eq!(Word(0).state(), State::Free);
        assert_eq!(Word(WAITERS).state(), State::Free);
        assert_eq!(Word(HANDOFF).state(), State::Reserved);
        assert_eq!(Word(1).state(), State::Malformed);
        assert_eq!(Word(RETIRED_PID).state(), State::Retired);
        assert_eq!(Word(u32::MAX).state(), State::Held(Kind::Foreign));
    }
}
