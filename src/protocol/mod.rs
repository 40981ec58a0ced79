//! The transitions of the lock word: acquire, release, force-release, detach, retire; and the choice of a seat.
//!
//! Invariant: every function here changes who holds in at most one compare-and-swap of the word, and nothing else in
//! the crate writes the word of a record in use. What surrounds the word (the history, counters, the clock, the kernel)
//! is behind [`Host`], so that the same source runs on mapped memory and in the model (`model.rs`).
//!
//! ```text
//!             acquire                       release, force
//!   free ───────────────▶ held ─────────────────────────────────▶ free
//!     ▲                    │  ▲                                    (and wake one)
//!     │ nobody was waiting │  └────────────── acquire by a waiter that has slept
//!     └──── reserved ◀─────┘ release under handoff or, with waiters, after a long hold (and wake one)
//!
//!   any ── retire ──▶ retired      held ── acquire, holder proven dead ──▶ held by another
//! ```
//!
//! A free, reserved or retired word carries the *fate* of the previous holder until a grant has reported it.
//!
//! # Crashes
//!
//! A process may die between any two instructions. It leaves behind:
//!
//! - before its compare-and-swap: nothing, or the waiters or handoff bit, which costs the next release one wake-up that
//!   reaches nobody;
//! - holding: the word names its seat, and the next contender proves its death and takes over ([`Attempt`]);
//! - after freeing the word, before the wake-up: sleepers see the free word when their slice ends;
//! - after reserving the word, before the wake-up, or as the waiter that was woken for it: any waiter claims the
//!   reserved word when its slice ends, and [`Host::lapsed`] opens it to everybody a little later;
//! - with a proof of death pinned: the kernel unpins it, as it unlocks every seat of a dead process.
//!
//! So no crash costs a live waiter more than one slice ([`slice_after`]; on a ring, one second where no hint wakes it).

#[cfg(test)]
mod model;

use core::sync::atomic::{AtomicU32, Ordering, fence};
use core::time::Duration;

use crate::time::Moment;
use crate::word::{Fate, Kind, MAX_SEAT, State, Word};

/// A waiter examines the lock (is the holder alive, was a wake-up lost?) after each slice of its wait.
///
/// The first slice is not shorter: with 1 ms a hand-over took 1.2 times as long as a bare futex's on two processors, and
/// more than twice as long on one (`benches`, "Hand-over"), presumably because a timer that is next to expire must be
/// removed from the hardware by a waiter that is woken earlier.
pub(crate) const SLICE: Duration = Duration::from_millis(10);

/// A wait that has lasted this long examines the lock less often: after each [`LATER_SLICE`].
const LONG_WAIT: Duration = Duration::from_secs(1);

const LATER_SLICE: Duration = Duration::from_millis(60);

/// How long a waiter without other means sleeps at most before it examines the lock.
pub(crate) fn slice_after(waited: Duration) -> Duration {
    if waited < LONG_WAIT { SLICE } else { LATER_SLICE }
}

/// A waiter that has waited this long requests a handoff, and a hold that has lasted this long is handed over without a
/// request. A shorter time costs throughput (a hand-over is a context switch), a longer one lets a greedy holder starve
/// the waiters.
pub(crate) const STARVES_AFTER: Duration = Duration::from_millis(1);

/// What the protocol needs of the world around the word.
pub(crate) trait Host {
    /// Reads the word.
    fn load(&self, ordering: Ordering) -> Word;

    /// Compare-and-swap of the word, with `ordering` on success and Relaxed on failure: a value seen in a failure is
    /// only compared, or loaded again before it is used. Returns the word that was found instead.
    fn exchange(&self, from: Word, to: Word, ordering: Ordering) -> Result<(), Word>;

    /// The number of the newest grant that was published.
    fn published(&self, ordering: Ordering) -> u32;

    /// CLOCK_MONOTONIC.
    fn now(&self) -> Moment;

    /// Spins for a moment, the longer the higher `round` is. `false`: it is time to sleep, or no other CPU could release the
    /// lock meanwhile.
    fn spin(&self, round: u32) -> bool;

    /// How long this waiter may sleep, having waited so long, before it examines the lock.
    fn slice(&mut self, waited: Duration) -> Duration;

    /// Whether the wait was cancelled.
    fn is_cancelled(&self) -> bool;

    /// Sleeps while the word is `sleep.expected`, until woken or until `sleep.until`.
    fn sleep(&mut self, sleep: Sleep) -> Slept;

    /// Wakes up to `count` sleepers and returns how many there were.
    fn wake(&self, count: u32) -> u32;

    /// Wakes one of the sleepers that have waited longest, and returns whether there was one.
    fn wake_oldest(&self) -> bool;

    /// Whether no other waiter has waited longer than this one, which has slept.
    fn is_first(&self) -> bool;

    /// Whether the grant that `word` names is so young that a probe of its holder is not worth its cost.
    fn is_young(&self, word: Word) -> bool;

    /// Proves the death of the holder that `word` names. `true` *pins* the proof: until [`Host::drop_proof`], nobody
    /// can take that holder's seat, so no later grant can have the identity of `word`. Doubt is `false`.
    fn prove_dead(&mut self, word: Word) -> bool;

    /// Unpins a proof, if there is one.
    fn drop_proof(&mut self);

    /// Whether the living holder that `word` names is overdue, and the lock's maker and this waiter want such a hold to be
    /// broken.
    fn may_break(&mut self, word: Word) -> bool;

    /// Whether the holder that `word` names, and that is about to release, has held for [`STARVES_AFTER`] or longer.
    fn was_long(&self, word: Word) -> bool;

    /// Whether the reserved `word` has been so for so long that the waiters it was reserved for must be gone.
    fn lapsed(&self, word: Word) -> bool;
}

/// How a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slept {
    /// It never began: the word had changed already.
    Changed,
    Woken,
    /// The slice ended, or there was a hint that the holder may have died.
    TimedOut,
    /// A signal interrupted it.
    Interrupted,
}

/// What a waiter sleeps for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sleep {
    /// It sleeps only while the word has this value.
    pub(crate) expected: Word,
    pub(crate) until: Moment,
    /// How long it has waited already.
    pub(crate) waited: Duration,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Patience {
    Try,
    For(Duration),
    Forever,
}

/// Who wants the lock, and for how long it waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) seat: u32,
    pub(crate) patience: Patience,
    /// When a wait with a limit ends. Set when it is first needed, so that a request that continues on another record
    /// keeps its deadline.
    pub(crate) deadline: Option<Moment>,
}

impl Request {
    /// When to give up, if ever; `now` is the time of the first call.
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
    /// The word that this grant replaced: its fate is to be reported.
    pub(crate) from: Word,
    pub(crate) contended: bool,
    /// Whether it forced an overdue holder off.
    pub(crate) broke: bool,
}

/// Why a request was not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Not in time; this word was in the way.
    TimedOut(Word),
    /// The caller does not want it any more; this word was in the way.
    Cancelled(Word),
    /// The record was removed.
    Retired,
    /// The word is none that this crate writes.
    Malformed,
}

/// Acquires the lock if it is free and there is nothing to report; returns the number of the grant.
#[inline]
pub(crate) fn acquire_free<H: Host>(host: &H, seat: u32) -> Option<u32> {
    // Acquire: pairs with the Release of the compare-and-swap in `release`, so that `published` in `claim` is at least
    // what the last holder published before it released.
    let word = host.load(Ordering::Acquire);
    if word.is_plainly_free() { claim(host, word, word.granted_to(Kind::Process, seat)) } else { None }
}

/// Acquires the lock, waiting as long as the request says: the whole of an attempt, for the model.
#[cfg(test)]
pub(crate) fn acquire<H: Host>(host: &mut H, request: &mut Request) -> Result<Granted, Refused> {
    match acquire_free(host, request.seat) {
        Some(number) => Ok(Granted { number, from: Word(0), contended: false, broke: false }),
        None => {
            let mut attempt = Attempt::begin(host, request);
            loop {
                match attempt.advance(host) {
                    Advance::Granted(granted) => return Ok(granted),
                    Advance::Refused(refused) => return Err(refused),
                    Advance::Sleeps(sleep) => {
                        let slept = host.sleep(sleep);
                        attempt.wake_up(slept);
                    }
                }
            }
        }
    }
}

/// The one compare-and-swap that grants. Returns the number of the grant.
#[inline]
fn claim<H: Host>(host: &H, word: Word, next: Word) -> Option<u32> {
    let published = host.published(Ordering::Relaxed);
    // Acquire on success: pairs with the Release in `release`; what the last holder did is visible to the next. After a
    // death there was no release to pair with: the dead holder's writes are as complete as it left them, and the grant
    // reports it. (The Acquire load of the same value before would suffice, were it not for ABA.)
    host.exchange(word, next, Ordering::Acquire).ok()?;
    let is_unchanged = host.published(Ordering::Relaxed) == published;
    Some(if is_unchanged { next.number_near(published) } else { number_of(host, next, published) })
}

/// The number of the grant `word`, which this caller has just made, if `published` has changed since it was read.
#[cold]
fn number_of<H: Host>(host: &H, word: Word, published: u32) -> u32 {
    // Either there was an ABA: this thread was preempted before the compare-and-swap while others got 64 grants, or a
    // multiple. Then nobody has published since, and the present value is right. Or it was preempted after the
    // compare-and-swap, forced off, and others were granted; then the earlier value is right, and the present one could
    // give this grant the number of another handle's.
    // Acquire: keeps the load of the word after it, so that a force-release in between is seen.
    let now = host.published(Ordering::Acquire);
    // Relaxed: only compared.
    let is_ours = host.load(Ordering::Relaxed).identity() == word.identity();
    word.number_near(if is_ours { now } else { published })
}

/// A request that waits: what it remembers from one sleep to the next. Whoever drives it sleeps, or polls, in between.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    seat: u32,
    is_try: bool,
    began: Moment,
    deadline: Option<Moment>,
    /// Whether it has slept: then it must assume that others sleep too.
    slept: bool,
    /// Whether it was woken from its last sleep: then a reserved word is for it.
    woken: bool,
    /// The reserved word that it sleeps on, for a waiter that was woken for it; and the one that was there all through a
    /// slice, so that the waiter which was woken for it must have died.
    awaits: Option<Word>,
    abandoned: Option<Word>,
    asked_for_handoff: bool,
    spins: u32,
    /// Whether it has found the lock held.
    contended: bool,
    /// Whether to probe the holder at the next look, and whether that is worth its cost even for a young grant: the first
    /// look of a wait can leave it to the end of the slice, a try has no later look.
    probes: bool,
    is_thorough: bool,
    /// The identity that a pinned proof is about. It stands while waiters change their bits of the word.
    proven: Option<Word>,
}

/// How a holder stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Alive,
    Dead,
    /// Alive, and to be forced off.
    Overdue,
}

/// What an attempt came to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Advance {
    Granted(Granted),
    Refused(Refused),
    /// It must sleep, and then be told how it slept ([`Attempt::wake_up`]).
    Sleeps(Sleep),
}

impl Attempt {
    pub(crate) fn begin<H: Host>(host: &H, request: &mut Request) -> Self {
        let began = host.now();
        let is_try = matches!(request.patience, Patience::Try);
        Self {
            seat: request.seat,
            is_try,
            began,
            deadline: request.deadline(began),
            slept: false,
            woken: false,
            awaits: None,
            abandoned: None,
            asked_for_handoff: false,
            spins: 0,
            contended: false,
            probes: true,
            is_thorough: is_try,
            proven: None,
        }
    }

    pub(crate) fn wake_up(&mut self, slept: Slept) {
        let awaited = self.awaits.take();
        match slept {
            // It has left the kernel's queue, but has not been woken.
            Slept::Changed | Slept::Interrupted => {}
            Slept::Woken => (self.slept, self.woken, self.spins) = (true, true, 0),
            Slept::TimedOut => {
                (self.slept, self.probes, self.is_thorough) = (true, true, true);
                self.abandoned = awaited;
            }
        }
    }

    /// Goes on until the lock is granted or refused, or the attempt must sleep.
    #[cold]
    #[inline(never)]
    pub(crate) fn advance<H: Host>(&mut self, host: &mut H) -> Advance {
        let outcome = self.try_to_advance(host);
        // After the compare-and-swap, whatever it did: until then the proof must stand. And before a sleep: by its end the
        // word may name another holder.
        host.drop_proof();
        self.proven = None;
        outcome
    }

    fn try_to_advance<H: Host>(&mut self, host: &mut H) -> Advance {
        loop {
            // Acquire: as in `acquire_free`.
            let word = host.load(Ordering::Acquire);
            let may_claim = match word.state() {
                State::Free => true,
                State::Reserved => self.may_claim_reserved(host, word),
                State::Held(_) => match self.examine(host, word) {
                    Standing::Alive => false,
                    Standing::Dead => true,
                    Standing::Overdue => {
                        // Not from a dead holder, which the fate of the word would say.
                        let broken = word.freed(Fate::Forced);
                        match claim(host, word, word.granted_to(Kind::Process, self.seat).with_waiters()) {
                            Some(number) => return self.granted(number, broken, true),
                            None => continue,
                        }
                    }
                },
                State::Retired => return Advance::Refused(Refused::Retired),
                State::Malformed => return Advance::Refused(Refused::Malformed),
            };
            if may_claim {
                let mut next = word.granted_to(Kind::Process, self.seat);
                if self.slept {
                    // The releaser cleared the bit when it woke this waiter; more may be asleep.
                    next = next.with_waiters();
                }
                match claim(host, word, next) {
                    Some(number) => return self.granted(number, word.identity(), false),
                    None => continue,
                }
            }
            self.contended = true;
            if self.is_try {
                return Advance::Refused(Refused::TimedOut(word));
            }
            // Spinning first: most holds are short, and to be woken costs more than they take. A waiter that was woken and
            // finds the lock taken again spins, too. Next to a hold that has lasted for a while, it would be in vain.
            if (self.spins > 0 || matches!(word.state(), State::Held(_)) && host.is_young(word))
                && host.spin(self.spins)
            {
                self.spins += 1;
                continue;
            }

            let now = host.now();
            let waited = now.since(self.began);
            let mut marked = word.with_waiters();
            if matches!(word.state(), State::Held(_)) && waited >= STARVES_AFTER {
                marked = marked.with_handoff();
            }
            if marked != word {
                // Marked even if the deadline has passed: the wake-up that this waiter got may have been the only one, and
                // the holder that beat it to the word does not know of the other sleepers.
                // Relaxed: it publishes nothing; as a read-modify-write it stays in the release sequence of the word.
                if host.exchange(word, marked, Ordering::Relaxed).is_err() {
                    continue;
                }
                self.asked_for_handoff |= marked.wants_handoff() && !word.wants_handoff();
            }
            if host.is_cancelled() {
                give_up(host, marked, self.asked_for_handoff);
                return Advance::Refused(Refused::Cancelled(marked));
            }
            // For a waiter that was woken to claim a reserved word, a slice is a long time.
            let is_reserved = marked.state() == State::Reserved;
            let end_of_slice = now.after(if is_reserved { SLICE } else { host.slice(waited) });
            let until = match self.deadline {
                Some(deadline) if now >= deadline => {
                    give_up(host, marked, self.asked_for_handoff);
                    return Advance::Refused(Refused::TimedOut(marked));
                }
                Some(deadline) => end_of_slice.min(deadline),
                None => end_of_slice,
            };
            self.woken = false;
            self.awaits = is_reserved.then_some(marked);
            return Advance::Sleeps(Sleep { expected: marked, until, waited });
        }
    }

    /// Whether a reserved word is for this waiter: it was woken for it, or has waited longer than the waiter that was; or
    /// that one must have died.
    fn may_claim_reserved<H: Host>(&self, host: &H, word: Word) -> bool {
        self.woken || self.slept && host.is_first() || self.abandoned == Some(word) || host.lapsed(word)
    }

    fn granted(&self, number: u32, from: Word, broke: bool) -> Advance {
        // Whoever takes over from a holder has waited for it, too.
        let contended = self.contended || broke || matches!(from.state(), State::Held(_));
        Advance::Granted(Granted { number, from, contended, broke })
    }

    /// How the holder that `word` names stands, if it is time to ask.
    fn examine<H: Host>(&mut self, host: &mut H, word: Word) -> Standing {
        if self.proven == Some(word.identity()) {
            return Standing::Dead;
        }
        if self.probes && (self.is_thorough || !host.is_young(word)) {
            self.probes = false;
            // The proof pins the seat and not the word, which may have changed since it was loaded; the compare-and-swap in
            // `claim` sees to that. No grant to that seat can follow while it is pinned, so the swap cannot hit a later grant
            // of the same identity (ABA).
            if host.prove_dead(word) {
                self.proven = Some(word.identity());
                return Standing::Dead;
            }
            if host.may_break(word) {
                return Standing::Overdue;
            }
        }
        Standing::Alive
    }

    /// Gives up without having been refused: for an attempt that is dropped while it waits.
    #[cfg(all(feature = "ring", feature = "std"))]
    pub(crate) fn abandon<H: Host>(&self, host: &H) {
        if self.asked_for_handoff {
            // Relaxed: only compared.
            give_up(host, host.load(Ordering::Relaxed), true);
        }
    }
}

/// Withdraws the request for handoff, so that the next release is not reserved for a waiter that has left.
///
/// Tried once: if the word has changed meanwhile, the release finds no sleeper and withdraws the reservation itself.
/// Others may have requested it as well; they do so again at the end of their slice.
fn give_up<H: Host>(host: &H, word: Word, asked: bool) {
    // Of a held word only: whoever frees a reserved one must wake those who sleep on it, and the releaser does that.
    if asked && matches!(word.state(), State::Held(_)) {
        // Relaxed: as for marking in `Attempt::advance`.
        let _ = host.exchange(word, word.without_handoff(), Ordering::Relaxed);
    }
}

/// Releases exactly the grant `identity`, leaving `fate` for the next grant. If the word no longer has that identity,
/// changes nothing and returns the word.
#[inline]
pub(crate) fn release<H: Host>(host: &H, identity: Word, fate: Fate) -> Result<(), Word> {
    let mut word = identity;
    loop {
        // Next to a long hold a hand-over costs nothing, and a waiter that is merely woken would find the lock taken.
        let hands_over = word.has_waiters() && (word.wants_handoff() || host.was_long(word));
        let next = if hands_over { word.reserved(fate) } else { word.freed(fate) };
        // Release: pairs with the Acquire in `claim`. Relaxed on failure: only the identity is compared.
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
        // The first to come acquires it, so it matters little whom this wakes.
        host.wake(1);
        return;
    }
    // The kernel's queue is not in the order of arrival: a waiter joins its end anew at the end of each slice.
    if !host.wake_oldest() {
        // Reserved for nobody: the waiters have died, given up, or are awake between two slices, and the last will ask
        // again. Relaxed: a read-modify-write continues the release sequence that `release` began.
        if host.exchange(word, word.freed(word.fate()), Ordering::Relaxed).is_ok() {
            // A newcomer may have gone to sleep on the reserved word in between.
            host.wake(1);
        }
    }
}

/// Passes on a wake-up that this waiter got and does not use: to the waiter that comes next or, if a reserved word has none,
/// to everybody.
#[cfg(all(feature = "ring", feature = "std"))]
pub(crate) fn pass_wake_up_on<H: Host>(host: &H) {
    // Relaxed: only compared.
    wake_one(host, host.load(Ordering::Relaxed));
}

/// Frees the lock, whoever holds it. Returns the word that it replaced, or `None` if nobody held the lock.
///
/// The next grant learns that a process-bound hold was force-released, because the resource may be in the middle of
/// something. The end of a detached hold is an ordinary one.
pub(crate) fn force<H: Host>(host: &H) -> Result<Option<Word>, Refused> {
    loop {
        // Acquire: the caller goes on to read and stamp what the holder published.
        let word = host.load(Ordering::Acquire);
        let fate = match word.state() {
            State::Free | State::Reserved => return Ok(None),
            State::Retired => return Err(Refused::Retired),
            State::Held(Kind::Detached) => Fate::Released,
            State::Held(Kind::Process) | State::Malformed => Fate::Forced,
        };
        // Release: pairs with the next holder's Acquire for what the *caller* did; the holder's own writes are
        // unordered, and no ordering here could change that.
        if swap_and_wake_all(host, word, word.freed(fate)) {
            return Ok(Some(word));
        }
    }
}

/// Retires the record if nobody living holds it; then nobody can acquire it any more. Returns the word that it replaced,
/// which [`unretire`] puts back.
pub(crate) fn retire_unheld<H: Host>(host: &mut H) -> Result<Word, Refused> {
    let outcome = loop {
        // Acquire: the caller goes on to read what the last holder published.
        let word = host.load(Ordering::Acquire);
        match word.state() {
            State::Free | State::Reserved => {}
            // The proof is dropped below, after the swap.
            State::Held(_) if host.prove_dead(word) => {}
            State::Held(_) => break Err(Refused::TimedOut(word)),
            State::Retired => break Err(Refused::Retired),
            State::Malformed => break Err(Refused::Malformed),
        }
        if swap_and_wake_all(host, word, word.retired(word.fate())) {
            break Ok(word);
        }
        host.drop_proof();
    };
    host.drop_proof();
    outcome
}

/// Puts back the word that [`retire_unheld`], or [`retire`] from the caller's own grant, replaced and left `fate` of: the
/// same fate to report, the same dead holder to recover from, or the caller's hold.
pub(crate) fn unretire<H: Host>(host: &H, before: Word, fate: Fate) {
    // Release: pairs with the Acquire in `claim`, for what the caller did in between. It fails if the record was revived
    // meanwhile, which the right to remove excludes, or retired again, which stands.
    let _ = host.exchange(before.retired(fate), before.identity(), Ordering::Release);
}

/// Retires the record from the grant `identity`, leaving `fate`. `false` if the word no longer has that identity.
pub(crate) fn retire<H: Host>(host: &H, identity: Word, fate: Fate) -> bool {
    loop {
        // Relaxed: only compared.
        let word = host.load(Ordering::Relaxed);
        if word.identity() != identity {
            return false;
        }
        if swap_and_wake_all(host, word, word.retired(fate)) {
            return true;
        }
    }
}

/// Retires the record whatever its word says, and evicts a holder. Returns the word that it replaced.
///
/// A process-bound hold is *forced* then; of any other word, its own fate stands.
pub(crate) fn evict<H: Host>(host: &H) -> Word {
    loop {
        // Acquire: the caller goes on to read what the last holder published.
        let word = host.load(Ordering::Acquire);
        let fate = match word.state() {
            State::Held(Kind::Process) => Fate::Forced,
            _ => word.fate(),
        };
        if word.state() == State::Retired || swap_and_wake_all(host, word, word.retired(fate)) {
            return word;
        }
    }
}

fn swap_and_wake_all<H: Host>(host: &H, word: Word, next: Word) -> bool {
    // Release: see the callers.
    let done = host.exchange(word, next, Ordering::Release).is_ok();
    if done && word.has_waiters() {
        host.wake(u32::MAX >> 1);
    }
    done
}

/// Detaches the grant `identity`: it is held until it is force-released. Returns its new identity.
pub(crate) fn detach<H: Host>(host: &H, identity: Word) -> Result<Word, Word> {
    let mut word = identity;
    loop {
        // Relaxed: the same holder continues to hold; nothing is handed over.
        match host.exchange(word, word.detached(), Ordering::Relaxed) {
            Ok(()) => return Ok(word.detached().identity()),
            Err(seen) if seen.identity() != identity => return Err(seen),
            Err(seen) => word = seen,
        }
    }
}

/// Makes the word of a new or revived record free, as if grant `number` had been the last; the next grant reports `fate`.
pub(crate) fn make_free(word: &AtomicU32, number: u32, fate: Fate) {
    // Release: pairs with the Acquire in `acquire_free`, for those who had the record mapped while it was retired.
    word.store(Word::free(number, fate).0, Ordering::Release);
}

/// Makes a word retired, whatever it is: of a record that is about to be made new, or that is none.
pub(crate) fn make_retired(word: &AtomicU32, fate: Fate) {
    word.store(Word(0).retired(fate).0, Ordering::Relaxed);
    // Release: whoever sees a field that is written next also sees that the record was retired.
    fence(Ordering::Release);
}

/// What the choice of a seat needs: one open file description of the record, and the record.
pub(crate) trait SeatHost {
    type Error;

    /// Reads the word.
    fn load(&self) -> Word;

    /// Draws the next number from the record's counter, which wraps.
    fn draw(&self) -> u32;

    /// Locks the seat for this description. `Ok(false)`: it is taken, or pinned by a proof.
    fn lock(&mut self, seat: u32) -> Result<bool, Self::Error>;

    /// Gives the seat back.
    fn unlock(&mut self, seat: u32) -> Result<(), Self::Error>;
}

/// Takes a seat that nobody has and that the word does not name.
///
/// A word that names a seat whose holder is dead is for a contender to recover. To live in that seat would make the dead
/// holder look alive.
pub(crate) fn take_seat<S: SeatHost>(host: &mut S) -> Result<u32, S::Error> {
    loop {
        let seat = host.draw() % MAX_SEAT + 1;
        // Checked before the system call to save it, and after it because only then the answer cannot change: as long as
        // the seat is locked, nobody else can be granted the lock in it.
        if names(host.load(), seat) || !host.lock(seat)? {
            continue;
        }
        if !names(host.load(), seat) {
            return Ok(seat);
        }
        host.unlock(seat)?;
    }
}

fn names(word: Word, seat: u32) -> bool {
    matches!(word.state(), State::Held(_)) && word.seat() == seat
}
