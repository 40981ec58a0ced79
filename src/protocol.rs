//! The lock word's transitions: acquire, release, force, detach, retire.
//!
//! Invariant: every function here changes who holds in at most one compare-and-swap of the word. Nothing else in the
//! crate writes the word. Whatever surrounds the word (the ring of grants, counters, the clock, the kernel) is behind
//! [`Host`], so that the same source runs on mapped memory and in a model.
//!
//! ```text
//!             acquire                       release, force
//!   free ───────────────▶ held ─────────────────────────────────▶ free
//!     ▲                    │  ▲                                    (and wake one)
//!     │ nobody was there   │  └────────────── acquire by one that has slept
//!     └──── reserved ◀─────┘ release under handoff or, with waiters, after a long hold (and wake one)
//!
//!   any ── retire ──▶ retired      held ── acquire, holder proven dead ──▶ held by another
//! ```
//!
//! # Crashes
//!
//! A process may die between any two instructions. What it leaves behind:
//!
//! - before its compare-and-swap: nothing, at most the waiters or the handoff bit, which cost the next release one
//!   wake-up that reaches nobody;
//! - holding: the word names it, and whoever comes next proves its death and takes over ([`acquire`]);
//! - after freeing the word, before the wake-up: sleepers see the free word when their slice ends;
//! - after reserving the word, before the wake-up, or as the waiter that was woken for it: any waiter claims the
//!   reserved word when its slice ends, and [`Host::lapsed`] opens it to everybody a little later.
//!
//! So no crash costs a live waiter more than one slice ([`SLICE`]).

use core::sync::atomic::Ordering;
use core::time::Duration;

use crate::moment::Moment;
use crate::word::{Kind, State, Word};

/// A waiter looks around (is the holder alive, was a wake-up lost?) after each slice of its wait.
///
/// No shorter one in the beginning: with 1 ms a hand-over took 1.2 times as long as a bare futex's on two processors, and
/// more than twice as long on one (`benches`, "Hand-over"); presumably because a timer that is the next of all to ring has
/// to be taken back from the hardware by whoever is woken before it rings.
pub(crate) const SLICE: Duration = Duration::from_millis(10);

/// A waiter that has waited this long asks for the next release to be handed to those who wait, and a hold that has
/// lasted this long is handed to them unasked. Shorter would cost throughput (a hand-over is a context switch), longer
/// would let a greedy holder starve the others.
pub(crate) const STARVES_AFTER: Duration = Duration::from_millis(1);

/// What the protocol needs of the world around the word.
pub(crate) trait Host {
    /// Reads the word.
    fn load(&self, ordering: Ordering) -> Word;

    /// Compare-and-swap of the word, with `ordering` on success and Relaxed on failure: what a failure shows is only
    /// ever compared, or loaded afresh before it means anything. Tells the word that was found instead.
    fn exchange(&self, from: Word, to: Word, ordering: Ordering) -> Result<(), Word>;

    /// The number of the newest grant that was published.
    fn published(&self, ordering: Ordering) -> u32;

    /// CLOCK_MONOTONIC.
    fn now(&self) -> Moment;

    /// Sleeps while the word is `expected`, until woken, or until `until`. A signal does not end the sleep. `waited` is how
    /// long the sleeper has waited already.
    fn sleep(&self, expected: Word, until: Moment, waited: Duration) -> Slept;

    /// Wakes up to `count` sleepers and tells how many there were.
    fn wake(&self, count: u32) -> u32;

    /// Wakes one sleeper, of those that have waited for the longest, and tells whether there was one.
    fn wake_oldest(&self) -> bool;

    /// Whether the holder that `word` names is proven dead. Doubt is "no".
    fn is_dead(&mut self, word: Word, depth: Depth) -> bool;

    /// Whether the holder that `word` names, who is about to let go, has held for [`STARVES_AFTER`] or longer.
    fn was_long(&self, word: Word) -> bool;

    /// Whether the reserved `word` has been so for so long that those it was reserved for must be gone.
    fn lapsed(&self, word: Word) -> bool;
}

/// How a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slept {
    /// It never began: the word was another already.
    Changed,
    Woken,
    UntilTheEnd,
}

/// How much a look at the holder may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// What is cheap beside going to sleep: misses a reused pid, and a zombie that has only just got the lock.
    Quick,
    /// All there is.
    Thorough,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Patience {
    Try,
    For(Duration),
    Forever,
}

/// Who wants the lock, and how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) kind: Kind,
    pub(crate) pid: u32,
    pub(crate) patience: Patience,
    /// When a wait that has a limit ends; set by its first need, so that a request that goes on with another record
    /// keeps the time it was given.
    pub(crate) deadline: Option<Moment>,
}

impl Request {
    /// When to give up, if ever; asked for the first time at `now`.
    pub(crate) fn deadline(&mut self, now: Moment) -> Option<Moment> {
        match self.patience {
            Patience::Try => Some(now),
            Patience::For(duration) => Some(*self.deadline.get_or_insert_with(|| now.after(duration))),
            Patience::Forever => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Granted {
    pub(crate) number: u32,
    /// The word of the holder that died holding, if this grant recovered the lock from one.
    pub(crate) died: Option<Word>,
    /// Whether the word was found in other hands first.
    pub(crate) contended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Not in time; the word that was in the way.
    TimedOut(Word),
    /// The record was removed.
    Retired,
    /// The word is none that this crate writes.
    Malformed,
}

/// Takes the lock if it is free, and tells the number of the grant.
#[inline]
pub(crate) fn acquire_free<H: Host>(host: &H, kind: Kind, pid: u32) -> Option<u32> {
    // Acquire: pairs with the Release of the compare-and-swap in `release`, so that `published` in `claim` is at least
    // what the last holder published before it let go.
    let word = host.load(Ordering::Acquire);
    if word.state() == State::Free { claim(host, word, word.granted_to(kind, pid)) } else { None }
}

/// Takes the lock, waiting as long as the request says.
pub(crate) fn acquire<H: Host>(host: &mut H, request: &mut Request) -> Result<Granted, Refused> {
    match acquire_free(host, request.kind, request.pid) {
        Some(number) => Ok(Granted { number, died: None, contended: false }),
        None => acquire_slow(host, request),
    }
}

/// The one compare-and-swap that grants. Tells the number of the grant.
#[inline]
fn claim<H: Host>(host: &H, word: Word, next: Word) -> Option<u32> {
    let published = host.published(Ordering::Relaxed);
    // Acquire on success: pairs with the Release in `release`; what the last holder did is visible to the next. After a
    // recovery there was no release to pair with: the dead holder's writes are as complete as it left them, and the
    // caller is told. (The Acquire load of the same value before it would do, were it not for values that come back.)
    host.exchange(word, next, Ordering::Acquire).ok()?;
    let is_unchanged = host.published(Ordering::Relaxed) == published;
    Some(if is_unchanged { next.number_near(published) } else { number_of(host, next, published) })
}

/// The number of the grant `word`, just made by us, if `published` has changed since it was read before.
#[cold]
fn number_of<H: Host>(host: &H, word: Word, published: u32) -> u32 {
    // Either the word came round: we were stopped before the compare-and-swap while others got 64 grants, or a multiple.
    // Then nobody has published since ours, and what stands there now is right. Or we were stopped behind it, forced off,
    // and others were granted; then what stood there before is right, and what stands there now might make of our number
    // one that is another handle's.
    // Acquire: keeps the load of the word behind it, so that one forced off in between counts as forced off.
    let now = host.published(Ordering::Acquire);
    // Relaxed: only compared.
    let is_ours = host.load(Ordering::Relaxed).identity() == word.identity();
    word.number_near(if is_ours { now } else { published })
}

#[cold]
#[inline(never)]
fn acquire_slow<H: Host>(host: &mut H, request: &mut Request) -> Result<Granted, Refused> {
    let began = host.now();
    let deadline = request.deadline(began);
    // Whether this waiter has slept: it may claim a reserved word, and must assume that others sleep too.
    let mut slept = false;
    let mut asked_for_handoff = false;
    // A try has no later slice in which to find out, so it looks closely at once.
    let mut probe = Some(if matches!(request.patience, Patience::Try) { Depth::Thorough } else { Depth::Quick });
    let mut dead = None;

    loop {
        // Acquire: as in `acquire`.
        let word = host.load(Ordering::Acquire);
        let may_claim = match word.state() {
            State::Free => true,
            State::Reserved => slept || host.lapsed(word),
            State::Held(_) => {
                if let Some(depth) = probe.take() {
                    if host.is_dead(word, depth) {
                        dead = Some(word.identity());
                    }
                }
                // Death is for ever, so the proof stands while waiters change their bits of the word.
                dead == Some(word.identity())
            }
            State::Retired => return Err(Refused::Retired),
            State::Malformed => return Err(Refused::Malformed),
        };
        if may_claim {
            let mut next = word.granted_to(request.kind, request.pid);
            if slept {
                // The releaser cleared the bit when it woke us; we can't know whether more are asleep.
                next = next.with_waiters();
            }
            let died = matches!(word.state(), State::Held(_)).then_some(word.identity());
            match claim(host, word, next) {
                Some(number) => return Ok(Granted { number, died, contended: true }),
                None => continue,
            }
        }
        if matches!(request.patience, Patience::Try) {
            return Err(Refused::TimedOut(word));
        }

        let now = host.now();
        let mut marked = word.with_waiters();
        if matches!(word.state(), State::Held(_)) && now.since(began) >= STARVES_AFTER {
            marked = marked.with_handoff();
        }
        if marked != word {
            // Marked even if the deadline has passed: the wake-up that brought us here may have been the only one, and
            // the holder that beat us to the word does not know of those who still sleep.
            // Relaxed: it publishes nothing; as a read-modify-write it stays in the release sequence of the word.
            if host.exchange(word, marked, Ordering::Relaxed).is_err() {
                continue;
            }
            asked_for_handoff |= marked.wants_handoff() && !word.wants_handoff();
        }
        let end_of_slice = now.after(SLICE);
        let until = match deadline {
            Some(deadline) if now >= deadline => return Err(give_up(host, marked, asked_for_handoff)),
            Some(deadline) => end_of_slice.min(deadline),
            None => end_of_slice,
        };
        // Proven of this grant; by the time that we wake, its word may be another's.
        dead = None;
        match host.sleep(marked, until, now.since(began)) {
            Slept::Changed => {}
            Slept::Woken => slept = true,
            Slept::UntilTheEnd => {
                slept = true;
                probe = Some(Depth::Thorough);
            }
        }
    }
}

/// Takes back the request for handoff, so that the next release is not reserved for somebody who has left.
///
/// Tried once: if the word has changed meanwhile, the release finds nobody and takes the reservation back itself. Others
/// may have asked as well; they ask again at the end of their slice.
fn give_up<H: Host>(host: &H, word: Word, asked: bool) -> Refused {
    // Of a held word only: to free a reserved one is to wake those who have gone to sleep on it, and the releaser does it.
    if asked && matches!(word.state(), State::Held(_)) {
        // Relaxed: as for marking in `acquire_slow`.
        let _ = host.exchange(word, word.without_handoff(), Ordering::Relaxed);
    }
    Refused::TimedOut(word)
}

/// Lets go of exactly the grant `identity`; if the word is no longer that grant's, changes nothing and tells the word.
#[inline]
pub(crate) fn release<H: Host>(host: &H, identity: Word) -> Result<(), Word> {
    let mut word = identity;
    loop {
        // Next to a long hold a hand-over costs nothing, and whoever was woken for less would find the lock taken again.
        let hands_over = word.has_waiters() && (word.wants_handoff() || host.was_long(word));
        let next = if hands_over { word.reserved() } else { word.freed() };
        // Release: pairs with the Acquire of whoever takes the word next. Relaxed on failure: only the identity of the
        // value is looked at.
        match host.exchange(word, next, Ordering::Release) {
            Ok(()) => {
                if word.has_waiters() {
                    wake_one(host, next);
                }
                return Ok(());
            }
            Err(seen) if seen.identity() != identity => return Err(seen),
            Err(seen) => word = seen,
        }
    }
}

#[cold]
fn wake_one<H: Host>(host: &H, word: Word) {
    if word.state() != State::Reserved {
        // Whoever comes first takes it, so it matters little whom this wakes.
        host.wake(1);
        return;
    }
    // The kernel's queue is no queue of those who wait: each goes to its end anew at the end of each slice.
    if !host.wake_oldest() {
        // Reserved for nobody: the waiters have died, given up, or are awake between two slices, and those ask again.
        // Relaxed: a read-modify-write continues the release sequence that `release` began.
        let freed = word.freed();
        if host.exchange(word, freed, Ordering::Relaxed).is_ok() {
            // A newcomer may have gone to sleep on the reserved word between the two.
            host.wake(1);
        }
    }
}

/// Frees the lock whoever holds it. Tells the word that it freed, or `None` if nobody held it.
pub(crate) fn force<H: Host>(host: &H) -> Result<Option<Word>, Refused> {
    loop {
        // Acquire: the caller goes on to read and stamp what the holder published.
        let word = host.load(Ordering::Acquire);
        match word.state() {
            State::Free | State::Reserved => return Ok(None),
            State::Retired => return Err(Refused::Retired),
            State::Held(_) | State::Malformed => {}
        }
        // Release: pairs with the next holder's Acquire for what the *caller* did; what the holder was doing is torn
        // from its hands, and no ordering can mend that.
        if swap_and_wake_all(host, word, word.freed()) {
            return Ok(Some(word));
        }
    }
}

/// Makes the record one that nobody can take any more, from the grant `identity` or, without one, from any state.
pub(crate) fn retire<H: Host>(host: &H, identity: Option<Word>) -> bool {
    loop {
        // Relaxed: only compared.
        let word = host.load(Ordering::Relaxed);
        if identity.is_some_and(|identity| word.identity() != identity) {
            return false;
        }
        if word.state() == State::Retired || swap_and_wake_all(host, word, word.retired()) {
            return true;
        }
    }
}

fn swap_and_wake_all<H: Host>(host: &H, word: Word, next: Word) -> bool {
    let done = host.exchange(word, next, Ordering::Release).is_ok();
    if done && word.has_waiters() {
        host.wake(u32::MAX >> 1);
    }
    done
}

/// Makes the grant `identity` one that stands until somebody ungets it. Tells its new identity.
pub(crate) fn detach<H: Host>(host: &H, identity: Word) -> Result<Word, Word> {
    let mut word = identity;
    loop {
        // Relaxed: the same holder goes on holding; nothing is handed over.
        match host.exchange(word, word.detached(), Ordering::Relaxed) {
            Ok(()) => return Ok(word.detached().identity()),
            Err(seen) if seen.identity() != identity => return Err(seen),
            Err(seen) => word = seen,
        }
    }
}
