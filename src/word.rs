//! The lock word: one `u32` that is the whole truth about who holds the lock, and also the futex.
//!
//! Invariant: *who holds* changes in one compare-and-swap of this word and nowhere else. A crash before the
//! compare-and-swap has changed nothing, a crash after it has changed everything; there is no intermediate state to
//! repair. [`crate::protocol`] owns the transitions; this module only names the bits.
//!
//! | bits | field | meaning |
//! | --- | --- | --- |
//! | 0–21 | seat | the holder's seat (see `sys/seat.rs`); of a word that nobody holds, a marker |
//! | 22–27 | generation | low six bits of the grant number; a free word keeps the last one |
//! | 28–29 | kind | 0 not held, 1 process, 2 detached, 3 never written |
//! | 30 | handoff | a waiter starves: the next release is reserved for those who already wait |
//! | 31 | waiters | at least one waiter may sleep on the word |
//!
//! With kind 0 the word is *free* or, with the handoff bit, *reserved*; the seat field then says what became of the
//! previous holder, or that the record was removed:
//!
//! | seat field | meaning |
//! | --- | --- |
//! | 0 | the previous holder released |
//! | `0x3ffffe` | *died*: the previous holder died, and no grant has reported it yet |
//! | `0x3ffffd` | *forced*: the previous hold was force-released, and no grant has reported it yet |
//! | `0x3fffff` | *retired*: the record was removed |
//! | `0x3ffffc`, `0x3ffffb` | retired while *died* or *forced* was still to be reported |
//! | other | malformed: never written by this crate |
//!
//! Seats are numbered from 1 to `0x3fffef`; the numbers above are reserved for markers.
//!
//! The word is an ABI between processes of different builds and bitness; `record/mod.rs` says where it lies.

use core::fmt;

const SEAT_MASK: u32 = (1 << 22) - 1;
const GENERATION_SHIFT: u32 = 22;
const GENERATION_MASK: u32 = 0x3f;
const KIND_SHIFT: u32 = 28;
const KIND_MASK: u32 = 3 << KIND_SHIFT;
const HANDOFF: u32 = 1 << 30;
const WAITERS: u32 = 1 << 31;

const RETIRED: u32 = SEAT_MASK;
const DIED: u32 = SEAT_MASK - 1;
const FORCED: u32 = SEAT_MASK - 2;
const RETIRED_DIED: u32 = SEAT_MASK - 3;
const RETIRED_FORCED: u32 = SEAT_MASK - 4;

/// The largest seat number. The sixteen values above it are markers.
pub(crate) const MAX_SEAT: u32 = SEAT_MASK - 16;

/// What ends a hold that nobody releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// Held by a process: the hold ends with that process.
    Process = 1,
    /// Detached: held until somebody force-releases it, whatever becomes of the process that acquired it.
    Detached = 2,
}

impl Kind {
    pub(crate) const fn from_bits(bits: u32) -> Option<Self> {
        match bits & 3 {
            1 => Some(Self::Process),
            2 => Some(Self::Detached),
            _ => None,
        }
    }
}

/// What became of the previous holder, as the word records it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Released,
    Died,
    Forced,
}

/// What a word says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Any contender may acquire it.
    Free,
    /// Released under handoff: only those who already wait may acquire it.
    Reserved,
    Held(Kind),
    /// The record was removed; nobody can acquire it any more.
    Retired,
    /// Not a word that this crate writes.
    Malformed,
}

/// A value of the lock word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word(pub(crate) u32);

impl Word {
    /// The word of a new record: free, with the generation that grant number `number` would have.
    pub(crate) const fn free(number: u32, fate: Fate) -> Self {
        let marker = match fate {
            Fate::Released => 0,
            Fate::Died => DIED,
            Fate::Forced => FORCED,
        };
        Self((number & GENERATION_MASK) << GENERATION_SHIFT | marker)
    }

    /// The identity of grant `number` to the holder in `seat`.
    pub(crate) const fn held(kind: Kind, seat: u32, number: u32) -> Self {
        Self((kind as u32) << KIND_SHIFT | (number & GENERATION_MASK) << GENERATION_SHIFT | (seat & SEAT_MASK))
    }

    pub(crate) const fn state(self) -> State {
        match self.0 & KIND_MASK {
            0 => match self.seat() {
                0 | DIED | FORCED if self.0 & HANDOFF != 0 => State::Reserved,
                0 | DIED | FORCED => State::Free,
                RETIRED | RETIRED_DIED | RETIRED_FORCED => State::Retired,
                _ => State::Malformed,
            },
            // A marker in place of a seat, or no seat at all, cannot be a holder.
            _ if self.seat() == 0 || self.seat() > MAX_SEAT => State::Malformed,
            bits => match Kind::from_bits(bits >> KIND_SHIFT) {
                Some(kind) => State::Held(kind),
                None => State::Malformed,
            },
        }
    }

    /// Whether the word is free, with nothing to report and no waiter: what the uncontended path handles.
    #[inline]
    pub(crate) const fn is_plainly_free(self) -> bool {
        self.0 & !(GENERATION_MASK << GENERATION_SHIFT) == 0
    }

    pub(crate) const fn seat(self) -> u32 {
        self.0 & SEAT_MASK
    }

    pub(crate) const fn generation(self) -> u32 {
        self.0 >> GENERATION_SHIFT & GENERATION_MASK
    }

    /// What a grant that replaces this word must report. A process-bound hold is replaced only when its holder is dead.
    /// The end of a detached hold is an ordinary release.
    pub(crate) const fn fate(self) -> Fate {
        match self.state() {
            State::Held(Kind::Process) => Fate::Died,
            State::Held(Kind::Detached) => Fate::Released,
            State::Malformed => Fate::Forced,
            State::Free | State::Reserved | State::Retired => match self.seat() {
                DIED | RETIRED_DIED => Fate::Died,
                FORCED | RETIRED_FORCED => Fate::Forced,
                _ => Fate::Released,
            },
        }
    }

    /// Everything but the two bits that waiters set: what distinguishes one grant from another.
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

    /// The word after a grant to `seat`: the generation is raised by one, the waiters bit is kept, and a handoff is
    /// served or dropped.
    pub(crate) const fn granted_to(self, kind: Kind, seat: u32) -> Self {
        Self(Self::held(kind, seat, self.generation() + 1).0 | self.0 & WAITERS)
    }

    /// The same grant, detached.
    pub(crate) const fn detached(self) -> Self {
        Self(self.0 & !KIND_MASK | (Kind::Detached as u32) << KIND_SHIFT)
    }

    /// Released: free for everybody, with the generation kept and `fate` left for the next grant.
    pub(crate) const fn freed(self, fate: Fate) -> Self {
        Self::free(self.generation(), fate)
    }

    /// Released under handoff: free for those who already wait.
    pub(crate) const fn reserved(self, fate: Fate) -> Self {
        Self(self.freed(fate).0 | HANDOFF | WAITERS)
    }

    /// Removed, with `fate` still to be reported.
    pub(crate) const fn retired(self, fate: Fate) -> Self {
        let marker = match fate {
            Fate::Released => RETIRED,
            Fate::Died => RETIRED_DIED,
            Fate::Forced => RETIRED_FORCED,
        };
        Self(self.freed(Fate::Released).0 | marker)
    }

    /// The full number of the grant that this word names or, of a free word, of the last one: the number nearest to
    /// `published` that has this word's generation.
    ///
    /// `published` lags by the grants whose holders died or were forced off before they published. With fewer than 32
    /// of them in a row the number is exact; with more, every reader gets the same number, 64 too small, which harms
    /// nothing but the history.
    pub(crate) const fn number_near(self, published: u32) -> u32 {
        let ahead = self.generation().wrapping_sub(published) & GENERATION_MASK;
        published.wrapping_add(ahead).wrapping_sub(if ahead > GENERATION_MASK / 2 { GENERATION_MASK + 1 } else { 0 })
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Word")
            .field("state", &self.state())
            .field("seat", &self.seat())
            .field("generation", &self.generation())
            .field("handoff", &self.wants_handoff())
            .field("waiters", &self.has_waiters())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FATES: [Fate; 3] = [Fate::Released, Fate::Died, Fate::Forced];

    #[test]
    fn fields_do_not_overlap() {
        for kind in [Kind::Process, Kind::Detached] {
            for seat in [1, 2, 32_768, MAX_SEAT] {
                for number in [0, 1, 63, 64, u32::MAX] {
                    let word = Word::held(kind, seat, number);
                    assert_eq!(word.state(), State::Held(kind));
                    assert_eq!(word.seat(), seat);
                    assert_eq!(word.generation(), number & 63);
                    assert!(!word.has_waiters() && !word.wants_handoff() && !word.is_plainly_free());
                    let marked = word.with_waiters().with_handoff();
                    assert_eq!(marked.identity(), word);
                    assert!(marked.has_waiters() && marked.wants_handoff());
                    assert_eq!(marked.without_handoff(), word.with_waiters());
                    for fate in FATES {
                        assert_eq!(marked.freed(fate).state(), State::Free);
                        assert_eq!(marked.freed(fate).generation(), number & 63);
                        assert_eq!(marked.freed(fate).is_plainly_free(), fate == Fate::Released);
                        assert_eq!(marked.reserved(fate).state(), State::Reserved);
                        assert_eq!(marked.retired(fate).state(), State::Retired);
                        let words = [marked.freed(fate), marked.reserved(fate), marked.retired(fate)];
                        assert_eq!(words.map(Word::fate), [fate; 3]);
                    }
                    assert_eq!(word.detached().state(), State::Held(Kind::Detached));
                    assert_eq!(word.detached().seat(), seat);
                }
            }
        }
    }

    #[test]
    fn a_grant_raises_the_generation_and_keeps_the_waiters() {
        let mut word = Word::free(0, Fate::Released);
        for number in 1..200 {
            word = word.granted_to(Kind::Process, 42);
            assert_eq!(word, Word::held(Kind::Process, 42, number));
            word = word.freed(Fate::Released);
        }
        let reserved = Word::held(Kind::Process, 7, 63).reserved(Fate::Died);
        let claimed = reserved.granted_to(Kind::Process, 8);
        assert!(claimed.has_waiters() && !claimed.wants_handoff());
        assert_eq!((claimed.generation(), claimed.seat()), (0, 8));
    }

    #[test]
    fn two_grants_to_one_seat_are_different_words() {
        let first = Word::free(5, Fate::Released).granted_to(Kind::Process, 9);
        let second = first.freed(Fate::Released).granted_to(Kind::Process, 9);
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
        assert_eq!(Word(DIED).state(), State::Free);
        assert_eq!(Word(FORCED | HANDOFF).state(), State::Reserved);
        assert_eq!(Word(1).state(), State::Malformed);
        assert_eq!(Word(MAX_SEAT).state(), State::Malformed);
        assert_eq!(Word(SEAT_MASK).state(), State::Retired);
        assert_eq!(Word(1 << KIND_SHIFT).state(), State::Malformed, "no seat");
        assert_eq!(Word(1 << KIND_SHIFT | DIED).state(), State::Malformed, "a marker in place of a seat");
        assert_eq!(Word(3 << KIND_SHIFT | 1).state(), State::Malformed, "a kind that is never written");
        assert_eq!(Word(u32::MAX).state(), State::Malformed);
    }
}
