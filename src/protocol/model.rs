//! The protocol under every interleaving: the very source of [`crate::protocol`], run on [loom]'s atomics and on a
//! kernel that is modelled here, seats included.
//!
//! The modelled futex sleeps without end: a wake-up that is lost is a deadlock, which loom reports. Only what a model
//! says may end a sleep otherwise: a timeout (a sleep of a *timed* actor ends by itself, at any moment), or a death, for
//! after that the time passes until every slice has ended.
//!
//! An actor dies between two of its steps (loads and compare-and-swaps of the word, calls of the kernel, its work), at
//! each of them in turn; from then on, and not before, the kernel has unlocked its seat and unpinned its proof.
//!
//! Every test names the faults that it was seen to catch when they were put into `protocol.rs`. `ci/model` prints how
//! many executions each one takes.
//!
//! [loom]: https://docs.rs/loom

use core::cell::Cell;
use core::time::Duration;
use std::boxed::Box;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::println;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering as StdOrdering};
use std::vec::Vec;

use loom::sync::atomic::{AtomicU32, Ordering};
use loom::sync::{Condvar, Mutex};
use loom::thread;

use crate::protocol::{self, Granted, Host, Patience, Refused, Request, SLICE, SeatHost, Sleep, Slept};
use crate::time::Moment;
use crate::word::{Fate, Kind, State, Word};

/// What all actors share.
struct World {
    word: AtomicU32,
    published: AtomicU32,
    /// A counter that only the lock protects; Relaxed, so that the lock's orderings have to do it.
    counter: AtomicU32,
    /// Who is between get and unget; zero if nobody.
    inside: AtomicU32,
    kernel: Mutex<Kernel>,
    woken: Condvar,
}

#[derive(Default)]
struct Kernel {
    /// Who sleeps, first come, first woken.
    asleep: Vec<u32>,
    dead: Vec<u32>,
    /// Write locks on seats: the seat, and the actor whose description has it.
    seats: Vec<(u32, u32)>,
    /// Read locks on seats, likewise: proofs that are pinned.
    pins: Vec<(u32, u32)>,
}

impl Kernel {
    /// `F_OFD_SETLK` with `F_WRLCK`.
    fn lock_seat(&mut self, seat: u32, actor: u32) -> bool {
        let is_free = !self.seats.iter().any(|&(taken, _)| taken == seat)
            && !self.pins.iter().any(|&(pinned, by)| pinned == seat && by != actor);
        if is_free {
            self.seats.push((seat, actor));
        }
        is_free
    }

    /// `F_OFD_SETLK` with `F_RDLCK`.
    fn pin(&mut self, seat: u32, actor: u32) -> bool {
        let is_free = !self.seats.iter().any(|&(taken, _)| taken == seat);
        if is_free {
            self.pins.push((seat, actor));
        }
        is_free
    }

    fn unpin(&mut self, actor: u32) {
        self.pins.retain(|&(_, by)| by != actor);
    }
}

impl World {
    fn new(word: Word) -> Arc<Self> {
        Arc::new(Self {
            word: AtomicU32::new(word.0),
            published: AtomicU32::new(0),
            counter: AtomicU32::new(0),
            inside: AtomicU32::new(0),
            kernel: Mutex::new(Kernel::default()),
            woken: Condvar::new(),
        })
    }

    fn kernel(&self) -> loom::sync::MutexGuard<'_, Kernel> {
        self.kernel.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn word(&self) -> Word {
        // A read-modify-write sees the newest value, whatever was synchronised.
        Word(self.word.fetch_add(0, Ordering::AcqRel))
    }

    fn is_dead(&self, actor: u32) -> bool {
        self.kernel().dead.contains(&actor)
    }

    /// What the kernel does with a process that dies, and then time passes: every slice ends.
    fn bury(&self, actor: u32) {
        let mut kernel = self.kernel();
        kernel.dead.push(actor);
        kernel.seats.retain(|&(_, by)| by != actor);
        kernel.unpin(actor);
        kernel.asleep.clear();
        self.woken.notify_all();
    }
}

/// Thrown where an actor dies.
struct Died;

/// A process, or a thread with a handle of its own.
struct Actor {
    world: Arc<World>,
    pid: u32,
    /// Most actors have the seat of their number from the start.
    seat: u32,
    /// From where it draws seats, if it draws one.
    next_seat: Cell<u32>,
    /// Whether its sleeps may end by themselves.
    timed: bool,
    now: Cell<u64>,
    /// How many microseconds pass from one look at the clock to the next.
    tick: u64,
    /// How often it spins before it sleeps.
    spins: u32,
    /// Whether it takes every holder for overdue.
    breaks: bool,
    /// Its cancel token.
    cancelled: Arc<AtomicU32>,
    /// Whether its holds are long ones.
    is_slow: bool,
    /// How many steps it has to live.
    life: Cell<usize>,
}

impl Actor {
    fn new(world: &Arc<World>, pid: u32) -> Self {
        let actor = Self::unseated(world, pid);
        actor.world.kernel().lock_seat(pid, pid);
        Self { seat: pid, ..actor }
    }

    /// One that is about to take a seat.
    fn unseated(world: &Arc<World>, pid: u32) -> Self {
        let (now, life) = (Cell::new(0), Cell::new(usize::MAX));
        let world = Arc::clone(world);
        Self {
            world,
            pid,
            seat: 0,
            next_seat: Cell::new(0),
            timed: false,
            now,
            tick: 0,
            spins: 0,
            breaks: false,
            cancelled: Arc::new(AtomicU32::new(0)),
            is_slow: false,
            life,
        }
    }

    /// Takes a seat, as `protocol::take_seat` chooses it.
    fn sit(&mut self) {
        let Ok(seat) = protocol::take_seat(self);
        self.seat = seat;
    }

    /// Its sleeps may end by themselves.
    fn timed(self) -> Self {
        Self { timed: true, ..self }
    }

    /// It has waited for long when it looks at the clock for the second time, and so asks for handoff.
    fn starving(self) -> Self {
        Self { tick: 1000, ..self }
    }

    /// It spins once before it sleeps.
    fn spinning(self) -> Self {
        Self { spins: 1, ..self }
    }

    /// It holds for so long that it hands over.
    fn slow(self) -> Self {
        Self { is_slow: true, ..self }
    }

    /// Time passes, but not enough of it to ask for handoff before it gives up after three looks.
    fn hurried(self) -> Self {
        Self { tick: 400, ..self }
    }

    fn step(&self) {
        match self.life.get() {
            0 => resume_unwind(Box::new(Died)),
            life => self.life.set(life - 1),
        }
    }

    fn get(&mut self, patience: Patience) -> Result<Granted, Refused> {
        let mut request = Request { seat: self.seat, patience, deadline: None };
        protocol::acquire(self, &mut request)
    }

    fn identity(&self, granted: Granted) -> Word {
        Word::held(Kind::Process, self.seat, granted.number)
    }

    /// Does what a holder does, and releases.
    fn work(&mut self, granted: Granted) -> Result<(), Word> {
        self.step();
        let before = self.world.inside.swap(self.pid, Ordering::Relaxed);
        assert!(before == 0 || self.world.is_dead(before), "two holders");
        self.world.published.store(granted.number, Ordering::Release);
        let counted = self.world.counter.load(Ordering::Relaxed);
        self.step();
        self.world.counter.store(counted + 1, Ordering::Relaxed);
        let _ = self.world.inside.compare_exchange(self.pid, 0, Ordering::Relaxed, Ordering::Relaxed);
        protocol::release(self, self.identity(granted), Fate::Released)
    }

    /// Gets, works and releases.
    fn turn(&mut self, patience: Patience) -> Result<Granted, Refused> {
        let granted = self.get(patience)?;
        self.work(granted).expect("nobody forces here");
        Ok(granted)
    }

    /// Runs `body` until it ends or dies. Tells whether it died, and whether it held then.
    fn live(mut self, life: usize, body: impl FnOnce(&mut Self)) -> Life {
        self.life.set(life);
        let Err(thrown) = catch_unwind(AssertUnwindSafe(|| body(&mut self))) else { return Life::Lived };
        if !thrown.is::<Died>() {
            resume_unwind(thrown);
        }
        let word = self.world.word();
        let held = matches!(word.state(), State::Held(_)) && word.seat() == self.seat;
        self.world.bury(self.pid);
        if held { Life::DiedHolding } else { Life::Died }
    }
}

/// The seat of the dead holder that a grant took over from.
fn died_in(granted: Granted) -> Option<u32> {
    matches!(granted.from.state(), State::Held(_)).then(|| granted.from.seat())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Lived,
    Died,
    DiedHolding,
}

impl Host for Actor {
    fn load(&self, ordering: Ordering) -> Word {
        self.step();
        Word(self.world.word.load(ordering))
    }

    fn exchange(&self, from: Word, to: Word, ordering: Ordering) -> Result<(), Word> {
        self.step();
        let swapped = self.world.word.compare_exchange(from.0, to.0, ordering, Ordering::Relaxed);
        swapped.map(drop).map_err(Word)
    }

    fn published(&self, ordering: Ordering) -> u32 {
        self.world.published.load(ordering)
    }

    fn now(&self) -> Moment {
        self.now.set(self.now.get() + self.tick);
        Moment { sec: 0, nsec: 0 }.after(Duration::from_micros(self.now.get()))
    }

    fn spin(&self, round: u32) -> bool {
        let spins = round < self.spins;
        if spins {
            thread::yield_now();
        }
        spins
    }

    fn slice(&mut self, _waited: Duration) -> Duration {
        SLICE
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed) != 0
    }

    fn sleep(&mut self, Sleep { expected, .. }: Sleep) -> Slept {
        self.step();
        let mut kernel = self.world.kernel();
        // As the kernel does it, under the lock that a wake-up takes.
        if self.world.word.load(Ordering::Relaxed) != expected.0 {
            return Slept::Changed;
        }
        kernel.asleep.push(self.pid);
        if self.timed {
            drop(kernel);
            thread::yield_now();
            kernel = self.world.kernel();
        }
        // Once somebody has died, no sleep is longer than the time that has passed since.
        let mut slept = Slept::Woken;
        while kernel.asleep.contains(&self.pid) {
            if self.timed || !kernel.dead.is_empty() {
                slept = Slept::TimedOut;
                kernel.asleep.retain(|&pid| pid != self.pid);
            } else {
                kernel = self.world.woken.wait(kernel).unwrap_or_else(|poisoned| poisoned.into_inner());
            }
        }
        let somebody_died = !kernel.dead.is_empty();
        drop(kernel);
        if somebody_died {
            // Spinning, for the model: others must come to their turn.
            thread::yield_now();
            slept = Slept::TimedOut;
        }
        self.step();
        slept
    }

    fn wake(&self, count: u32) -> u32 {
        self.step();
        let mut kernel = self.world.kernel();
        let woken = kernel.asleep.len().min(count as usize);
        kernel.asleep.drain(..woken);
        self.world.woken.notify_all();
        woken as u32
    }

    fn wake_oldest(&self) -> bool {
        // Whom it wakes is a question of fairness; that it wakes one is what the models are about.
        self.wake(1) == 1
    }

    fn is_first(&self) -> bool {
        // Nobody knows; what is claimed without that must suffice.
        false
    }

    fn is_young(&self, _word: Word) -> bool {
        // Young enough to spin for, where the model wants that, and to look at closely only later.
        self.spins > 0
    }

    fn prove_dead(&mut self, word: Word) -> bool {
        self.step();
        let pinned = self.world.kernel().pin(word.seat(), self.pid);
        self.step();
        pinned
    }

    fn may_break(&mut self, _word: Word) -> bool {
        self.breaks
    }

    fn drop_proof(&mut self) {
        self.world.kernel().unpin(self.pid);
    }

    fn was_long(&self, _word: Word) -> bool {
        self.is_slow
    }

    fn lapsed(&self, _word: Word) -> bool {
        !self.world.kernel().dead.is_empty()
    }
}

impl SeatHost for Actor {
    type Error = core::convert::Infallible;

    fn load(&self) -> Word {
        self.step();
        Word(self.world.word.load(Ordering::Acquire))
    }

    fn draw(&self) -> u32 {
        let drawn = self.next_seat.get();
        self.next_seat.set(drawn + 1);
        drawn
    }

    fn lock(&mut self, seat: u32) -> Result<bool, Self::Error> {
        self.step();
        Ok(self.world.kernel().lock_seat(seat, self.pid))
    }

    fn unlock(&mut self, seat: u32) -> Result<(), Self::Error> {
        self.step();
        self.world.kernel().seats.retain(|&taken| taken != (seat, self.pid));
        Ok(())
    }
}

/// Runs the model in every interleaving or, if `preemptions` says so, in those in which a thread is interrupted at most
/// that often (besides where it waits). `MODEL_DEPTH` allows for more of them. Tells how many executions there were.
fn explore_quietly(preemptions: Option<usize>, model: impl Fn() + Send + Sync + 'static) -> usize {
    let depth = std::env::var("MODEL_DEPTH").ok().and_then(|depth| depth.parse::<usize>().ok()).unwrap_or(0);
    let executions = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&executions);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions.map(|bound| bound + depth);
    builder.max_branches = 20_000;
    builder.check(move || {
        counted.fetch_add(1, StdOrdering::Relaxed);
        model();
    });
    executions.load(StdOrdering::Relaxed)
}

fn explore(name: &str, preemptions: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    println!("model: {} executions: {name}", explore_quietly(preemptions, model));
}

const FREE: Word = Word::free(0, Fate::Released);

/// Two or three that get, work and release.
fn turns(actors: u32, rounds: usize, as_they_are: fn(Actor) -> Actor) {
    let world = World::new(FREE);
    let take_turns = move |world: Arc<World>, pid| {
        let mut actor = as_they_are(Actor::new(&world, pid));
        for _ in 0..rounds {
            let granted = actor.turn(Patience::Forever).expect("waits for ever");
            assert_eq!(granted.from.fate(), Fate::Released);
        }
    };
    let others: Vec<_> = (2..=actors)
        .map(|pid| {
            let world = Arc::clone(&world);
            thread::spawn(move || take_turns(world, pid))
        })
        .collect();
    take_turns(Arc::clone(&world), 1);
    others.into_iter().for_each(|other| other.join().unwrap());
    let grants = actors * rounds as u32;
    assert_eq!(world.counter.load(Ordering::Relaxed), grants, "an update was lost");
    assert_eq!(world.published.load(Ordering::Relaxed), grants, "numbers follow each other");
    assert_eq!(world.word().state(), State::Free, "reserved for nobody");
}

/// Caught: Relaxed instead of Acquire in `claim` and the loads before it, and instead of Release in `release` (updates
/// lost); a grant by load and store (two holders); no wake-up, a wake-up only under handoff, a sleeper that does not set the waiters bit
/// (deadlocks).
#[test]
fn two_take_turns() {
    explore("two take turns", None, || turns(2, 1, |actor| actor));
    explore("two take two turns each", Some(3), || turns(2, 2, |actor| actor));
}

/// Caught: a sleeper that takes the word without keeping the waiters bit (deadlock of the third).
#[test]
fn three_take_turns() {
    explore("three take turns", Some(2), || turns(3, 1, |actor| actor));
}

/// Caught: a reservation that is not taken back where nobody sleeps, and one whose taking back wakes nobody (deadlocks);
/// one that is left when all are served (the word at the end).
#[test]
fn starving_ones_take_turns() {
    explore("two starving take turns", Some(3), || turns(2, 2, Actor::starving));
    explore("three starving take turns", Some(2), || turns(3, 1, Actor::starving));
}

/// Caught: the same as with starving ones.
#[test]
fn slow_ones_hand_over() {
    explore("two slow take turns", Some(3), || turns(2, 2, Actor::slow));
    explore("three slow take turns", Some(2), || turns(3, 1, Actor::slow));
}

/// Caught: a waiter that spins after it was woken, and then sleeps without the waiters bit.
#[test]
fn spinning_ones_take_turns() {
    explore("two spinning take two turns each", Some(3), || turns(2, 2, Actor::spinning));
    explore("three spinning take turns", Some(2), || turns(3, 1, Actor::spinning));
}

/// Caught: a newcomer that takes a reserved word; a waiter that was not woken and leaves an abandoned one for ever.
#[test]
fn a_reserved_word_is_for_those_who_have_slept() {
    explore("a try meets a reservation", None, || {
        let world = World::new(Word::held(Kind::Process, 9, 1).with_waiters().with_handoff().reserved(Fate::Released));
        let mut newcomer = Actor::new(&world, 1);
        assert!(matches!(newcomer.get(Patience::Try), Err(Refused::TimedOut(word)) if word.state() == State::Reserved));
        let mut waiter = Actor::new(&world, 2).timed();
        assert!(waiter.turn(Patience::Forever).is_ok());
    });
}

/// Caught: a waiter that gives up without marking the word, though the wake-up that it got was meant for all who sleep
/// (deadlock of the other one); one that takes its request back from a reserved word, and so frees it without a wake-up.
#[test]
fn giving_up_races_with_the_release() {
    let give_up_beside = |starves: bool, waits_too: bool| {
        move || {
            let world = World::new(FREE);
            let mut holder = Actor::new(&world, 1);
            let granted = holder.get(Patience::Try).expect("free");
            let quitter = thread::spawn({
                let world = Arc::clone(&world);
                move || {
                    // At its third look at the clock it gives up; if it starves, it asks for handoff at the second.
                    let quitter = Actor::new(&world, 2).timed();
                    let mut quitter = if starves { quitter.starving() } else { quitter.hurried() };
                    match quitter.turn(Patience::For(Duration::from_micros(2 * quitter.tick))) {
                        Ok(_) | Err(Refused::TimedOut(_)) => {}
                        outcome => panic!("{outcome:?}"),
                    }
                }
            });
            let other = waits_too.then(|| {
                let world = Arc::clone(&world);
                thread::spawn(move || {
                    Actor::new(&world, 3).turn(Patience::Forever).expect("waits for ever");
                })
            });
            holder.work(granted).expect("nobody forces here");
            if waits_too {
                holder.turn(Patience::Forever).expect("waits for ever");
            }
            quitter.join().unwrap();
            if let Some(other) = other {
                other.join().unwrap();
            }
            assert_eq!(world.word().state(), State::Free, "reserved for nobody");
        }
    };
    explore("one that starves gives up", None, give_up_beside(true, false));
    explore("one that starves gives up, one waits on, one comes back", Some(2), give_up_beside(true, true));
    explore("one gives up, one waits on, one comes back", Some(2), give_up_beside(false, true));
}

/// Caught: a cancelled waiter that swallows the wake-up which it got (deadlock of the other one), and one that leaves its
/// request for handoff.
#[test]
fn a_cancelled_waiter_leaves_nothing_behind() {
    explore("one of two waiters is cancelled", Some(2), || {
        let world = World::new(FREE);
        let mut holder = Actor::new(&world, 1);
        let granted = holder.get(Patience::Try).expect("free");
        let quitter = Actor::new(&world, 2).timed().starving();
        let token = Arc::clone(&quitter.cancelled);
        let quitter = thread::spawn(move || {
            let mut quitter = quitter;
            match quitter.turn(Patience::Forever) {
                Ok(_) | Err(Refused::Cancelled(_)) => {}
                outcome => panic!("{outcome:?}"),
            }
        });
        let other = thread::spawn({
            let world = Arc::clone(&world);
            move || {
                Actor::new(&world, 3).turn(Patience::Forever).expect("waits for ever");
            }
        });
        token.store(1, Ordering::Relaxed);
        holder.work(granted).expect("nobody forces here");
        quitter.join().unwrap();
        other.join().unwrap();
        assert_eq!(world.word().state(), State::Free, "reserved for nobody");
    });
}

/// Caught: a waiter that gives up and leaves its request for handoff.
#[test]
fn who_gives_up_takes_its_request_back() {
    explore("one asks for handoff and gives up", None, || {
        let world = World::new(Word::held(Kind::Process, 9, 1));
        let _holder = Actor::new(&world, 9);
        let mut quitter = Actor::new(&world, 1).timed().starving();
        let outcome = quitter.get(Patience::For(Duration::from_millis(2)));
        assert!(matches!(outcome, Err(Refused::TimedOut(word)) if word.wants_handoff()));
        assert!(!world.word().wants_handoff());
    });
}

/// Caught: a release that frees whatever is there; a forced unget that reports a hold which it did not end.
#[test]
fn every_hold_is_ended_once() {
    explore("forced unget beside release and a waiter", Some(3), || {
        let world = World::new(FREE);
        let ends = Arc::new(AtomicUsize::new(0));
        let mut holder = Actor::new(&world, 1);
        let granted = holder.get(Patience::Try).expect("free");
        let waiter = thread::spawn({
            let (world, ends) = (Arc::clone(&world), Arc::clone(&ends));
            move || {
                let mut waiter = Actor::new(&world, 2);
                let granted = waiter.get(Patience::Forever).expect("waits for ever");
                assert_ne!(granted.from.fate(), Fate::Died);
                if protocol::release(&waiter, waiter.identity(granted), Fate::Released).is_ok() {
                    ends.fetch_add(1, StdOrdering::Relaxed);
                }
            }
        });
        let force = thread::spawn({
            let (world, ends) = (Arc::clone(&world), Arc::clone(&ends));
            move || match protocol::force(&Actor::new(&world, 3)) {
                Ok(Some(_)) => {
                    ends.fetch_add(1, StdOrdering::Relaxed);
                }
                Ok(None) => {}
                outcome => panic!("{outcome:?}"),
            }
        });
        if protocol::release(&holder, holder.identity(granted), Fate::Released).is_ok() {
            ends.fetch_add(1, StdOrdering::Relaxed);
        }
        waiter.join().unwrap();
        force.join().unwrap();
        assert_eq!(ends.load(StdOrdering::Relaxed), 2, "two holds");
        assert_eq!(world.word().state(), State::Free);
    });
}

/// Caught: a takeover that does not compare with the word that was judged (two winners), and one that forgets whom it
/// took over from.
#[test]
fn of_two_recoverers_one_is_told() {
    let dead = Word::held(Kind::Process, 9, 1).with_waiters();
    explore("two recoverers that wait", Some(3), move || {
        let world = World::new(dead);
        world.published.store(1, Ordering::Relaxed);
        world.bury(9);
        let recover = |world: Arc<World>, pid| {
            let granted = Actor::new(&world, pid).turn(Patience::Forever).expect("waits for ever");
            died_in(granted)
        };
        let other = thread::spawn({
            let world = Arc::clone(&world);
            move || recover(world, 2)
        });
        let mut told = [recover(Arc::clone(&world), 1), other.join().unwrap()];
        told.sort();
        assert_eq!(told, [None, Some(9)]);
        assert_eq!(world.counter.load(Ordering::Relaxed), 2);
    });
    explore("two recoverers that try", None, move || {
        let world = World::new(dead);
        world.bury(9);
        let other = thread::spawn({
            let world = Arc::clone(&world);
            move || Actor::new(&world, 2).get(Patience::Try)
        });
        let mut told: Vec<_> = [Actor::new(&world, 1).get(Patience::Try), other.join().unwrap()]
            .into_iter()
            .map(|outcome| outcome.ok().map(died_in))
            .collect();
        told.sort();
        assert_eq!(told, [None, Some(Some(9))]);
    });
}

/// Runs `model` with a life of 0, 1, 2, … steps, until the actor in question has lived through all of its own in every
/// interleaving.
fn at_every_step(
    name: &str,
    preemptions: Option<usize>,
    model: impl Fn(usize) -> Life + Clone + Send + Sync + 'static,
) {
    let mut executions = 0;
    for life in 0.. {
        let deaths = Arc::new(AtomicUsize::new(0));
        executions += explore_quietly(preemptions, {
            let (model, deaths) = (model.clone(), Arc::clone(&deaths));
            move || {
                if model(life) != Life::Lived {
                    deaths.fetch_add(1, StdOrdering::Relaxed);
                }
            }
        });
        if deaths.load(StdOrdering::Relaxed) == 0 {
            println!("model: {executions} executions: {name}, at each of {life} steps");
            return;
        }
    }
}

/// Caught: a waiter that does not look whether the holder lives when a slice has ended; a takeover that drops the
/// waiters bit while another sleeps.
#[test]
fn whoever_dies_the_others_go_on() {
    let with_survivors = |survivors: u32, as_they_are: fn(Actor) -> Actor| {
        move |life| {
            let world = World::new(FREE);
            let survive = move |world: Arc<World>, pid| {
                let granted = as_they_are(Actor::new(&world, pid)).turn(Patience::Forever).expect("waits for ever");
                died_in(granted)
            };
            let others: Vec<_> = (2..=1 + survivors)
                .map(|pid| {
                    let world = Arc::clone(&world);
                    thread::spawn(move || survive(world, pid))
                })
                .collect();
            let victim = as_they_are(Actor::new(&world, 1));
            let ended = victim.live(life, |victim| {
                victim.turn(Patience::Forever).expect("waits for ever");
            });
            let mut told: Vec<_> = others.into_iter().filter_map(|other| other.join().unwrap()).collect();
            if ended == Life::Lived {
                assert_eq!(world.word().state(), State::Free, "reserved for nobody");
            }
            // The dead may have come last, or left a reservation, which lapses.
            let last = Actor::new(&world, 8).get(Patience::Try).expect("nobody is there");
            told.extend(died_in(last));
            assert_eq!(told, if ended == Life::DiedHolding { &[1][..] } else { &[] }, "told once, and only of holders");
            ended
        }
    };
    at_every_step("one of two dies", Some(3), with_survivors(1, |actor| actor));
    at_every_step("one of two starving dies", Some(3), with_survivors(1, Actor::starving));
    at_every_step("one of two slow dies", Some(3), with_survivors(1, Actor::slow));
    at_every_step("one of three dies", Some(1), with_survivors(2, |actor| actor));
    at_every_step("one of three starving dies", Some(1), with_survivors(2, Actor::starving));
}

/// Caught: a proof that does not outlive its contender's death (here: a pin that the kernel keeps).
#[test]
fn a_contender_dies_while_it_recovers() {
    at_every_step("one of two recoverers dies", Some(3), |life| {
        let world = World::new(Word::held(Kind::Process, 9, 1));
        world.published.store(1, Ordering::Relaxed);
        let other = thread::spawn({
            let world = Arc::clone(&world);
            move || Actor::new(&world, 2).turn(Patience::Forever).expect("waits for ever")
        });
        let ended = Actor::new(&world, 1).live(life, |victim| {
            victim.turn(Patience::Forever).expect("waits for ever");
        });
        other.join().unwrap();
        let last = Actor::new(&world, 8).turn(Patience::Forever).expect("nobody is there");
        if ended == Life::Lived {
            assert_eq!(last.from.fate(), Fate::Released);
        }
        assert!(world.kernel().pins.is_empty(), "a proof stays pinned");
        ended
    });
}

/// Caught: a broken hold that its holder releases all the same (two ends of one hold), and one that nobody is told of.
#[test]
fn an_overdue_hold_is_broken_once() {
    explore("two waiters break one hold beside its release", Some(3), || {
        let world = World::new(FREE);
        let mut holder = Actor::new(&world, 1);
        let granted = holder.get(Patience::Try).expect("free");
        let others: Vec<_> = [2, 3]
            .map(|pid| {
                let world = Arc::clone(&world);
                thread::spawn(move || {
                    let mut breaker = Actor { breaks: true, ..Actor::new(&world, pid) };
                    let granted = breaker.get(Patience::Try).ok()?;
                    let is_told = granted.from.fate() == Fate::Forced;
                    let released = protocol::release(&breaker, breaker.identity(granted), Fate::Released).is_ok();
                    Some((is_told, released))
                })
            })
            .into();
        let released = protocol::release(&holder, holder.identity(granted), Fate::Released).is_ok();
        let outcomes: Vec<_> = others.into_iter().filter_map(|other| other.join().unwrap()).collect();
        let broken = outcomes.iter().filter(|&&(is_told, _)| is_told).count();
        let ended = usize::from(released) + outcomes.iter().filter(|&&(_, released)| released).count();
        assert_eq!(broken + ended, 1 + outcomes.len(), "each hold ends once: broken, or released");
        assert_eq!(world.word().state(), State::Free);
    });
}

/// Caught: a seat that is chosen without the kernel's lock.
#[test]
fn two_never_have_one_seat() {
    at_every_step("one of two that take seats dies", Some(2), |life| {
        let world = World::new(FREE);
        let other = thread::spawn({
            let world = Arc::clone(&world);
            move || {
                let mut other = Actor::unseated(&world, 2);
                other.sit();
                let mine = |&&(seat, _): &&(u32, u32)| seat == other.seat;
                assert_eq!(world.kernel().seats.iter().filter(mine).count(), 1);
                other.turn(Patience::Forever).expect("waits for ever");
            }
        });
        let ended = Actor::unseated(&world, 1).live(life, |victim| {
            victim.sit();
            victim.turn(Patience::Forever).expect("waits for ever");
        });
        other.join().unwrap();
        Actor::new(&world, 8).turn(Patience::Forever).expect("nobody is there");
        ended
    });
}

/// Caught: a seat that is taken though the word names it (the dead holder looks alive, and nobody recovers: a deadlock);
/// the check of the word before the kernel's lock only.
#[test]
fn nobody_lives_in_a_seat_that_the_word_names() {
    explore("one takes a dead holder's seat beside a recovery", Some(3), || {
        let world = World::new(Word::held(Kind::Process, 1, 1));
        world.published.store(1, Ordering::Relaxed);
        let recoverer = thread::spawn({
            let world = Arc::clone(&world);
            move || died_in(Actor::new(&world, 9).turn(Patience::Forever).expect("waits for ever"))
        });
        let mut newcomer = Actor::unseated(&world, 2);
        newcomer.sit();
        let told = died_in(newcomer.turn(Patience::Forever).expect("waits for ever"));
        let mut told = [told, recoverer.join().unwrap()];
        told.sort();
        assert_eq!(told, [None, Some(1)], "recovered once");
    });
}

/// Caught: a removal that puts a word back which it did not replace; one that loses the fate of the word.
#[test]
fn a_removal_that_fails_has_changed_nothing() {
    for (before, fate) in [
        (Word::held(Kind::Process, 7, 1), Fate::Died),
        (Word::free(1, Fate::Released), Fate::Released),
        (Word::free(1, Fate::Died), Fate::Died),
        (Word::free(1, Fate::Forced), Fate::Forced),
    ] {
        explore("a removal that fails beside a contender", None, move || {
            let world = World::new(before);
            world.published.store(1, Ordering::Relaxed);
            let contender = thread::spawn({
                let world = Arc::clone(&world);
                move || Actor::new(&world, 2).get(Patience::Try)
            });
            let mut remover = Actor::new(&world, 3);
            match protocol::retire_unheld(&mut remover) {
                Ok(replaced) => {
                    assert_eq!(world.word().state(), State::Retired);
                    assert_eq!(world.word().fate(), replaced.fate(), "kept for whoever revives the record");
                    protocol::unretire(&remover, replaced, replaced.fate());
                }
                Err(Refused::TimedOut(word)) => assert_eq!(word.seat(), 2),
                outcome => panic!("{outcome:?}"),
            }
            match contender.join().unwrap() {
                Ok(granted) => assert_eq!(granted.from.fate(), fate),
                Err(Refused::Retired) => {
                    let granted = Actor::new(&world, 4).get(Patience::Try).expect("put back");
                    assert_eq!(granted.from.fate(), fate);
                }
                outcome => panic!("{outcome:?}"),
            }
        });
    }
}

/// Caught: a grant that loses the marker, and one that leaves it for the next one as well.
#[test]
fn a_fate_is_reported_once() {
    explore("two contenders for a word with a marker", None, || {
        let world = World::new(Word::free(1, Fate::Died));
        world.published.store(1, Ordering::Relaxed);
        let turn = |world: Arc<World>, actor| {
            Actor::new(&world, actor).turn(Patience::Forever).expect("waits for ever").from.fate()
        };
        let other = thread::spawn({
            let world = Arc::clone(&world);
            move || turn(world, 2)
        });
        let fates = [turn(Arc::clone(&world), 1), other.join().unwrap()];
        assert_eq!(fates.iter().filter(|&&fate| fate == Fate::Died).count(), 1);
        assert_eq!(fates.iter().filter(|&&fate| fate == Fate::Released).count(), 1);
    });
}

/// Caught: a retirement that leaves a sleeper asleep; one that a release undoes.
#[test]
fn what_is_retired_stays_retired() {
    explore("retirement beside get, detach and release", Some(3), || {
        let world = World::new(FREE);
        let mut holder = Actor::new(&world, 1);
        let granted = holder.get(Patience::Try).expect("free");
        let waiter = thread::spawn({
            let world = Arc::clone(&world);
            move || {
                let mut waiter = Actor::new(&world, 2);
                match waiter.get(Patience::Forever) {
                    Ok(granted) => {
                        let _ = protocol::release(&waiter, waiter.identity(granted), Fate::Released);
                    }
                    Err(Refused::Retired) => {}
                    outcome => panic!("{outcome:?}"),
                }
            }
        });
        let remover = thread::spawn({
            let world = Arc::clone(&world);
            move || {
                protocol::evict(&Actor::new(&world, 3));
            }
        });
        let identity = holder.identity(granted);
        let identity = protocol::detach(&holder, identity).unwrap_or(identity);
        let _ = protocol::release(&holder, identity, Fate::Released);
        waiter.join().unwrap();
        remover.join().unwrap();
        assert_eq!(world.word().state(), State::Retired);
    });
}

/// Caught: a retirement of a grant that does not compare with the word (it retires a third party's hold).
#[test]
fn a_holder_retires_its_own_hold_only() {
    explore("retirement of a hold beside a forced unget", None, || {
        let world = World::new(FREE);
        let mut holder = Actor::new(&world, 1);
        let granted = holder.get(Patience::Try).expect("free");
        let other = thread::spawn({
            let world = Arc::clone(&world);
            move || {
                let mut other = Actor::new(&world, 2);
                let forced = protocol::force(&other);
                forced.ok().flatten().and_then(|_| other.get(Patience::Try).ok()).is_some()
            }
        });
        let retired = protocol::retire(&holder, holder.identity(granted), Fate::Released);
        let other_holds = other.join().unwrap();
        assert_ne!(retired, other_holds);
        assert_eq!(world.word().state(), if retired { State::Retired } else { State::Held(Kind::Process) });
    });
}

/// Caught: a detach that does not compare (a hold that nobody has, until unget).
#[test]
fn a_forced_off_holder_detaches_nothing() {
    explore("detach beside a forced unget and a get", None, || {
        let world = World::new(FREE);
        let mut holder = Actor::new(&world, 1);
        let granted = holder.get(Patience::Try).expect("free");
        let other = thread::spawn({
            let world = Arc::clone(&world);
            move || {
                let mut other = Actor::new(&world, 2);
                protocol::force(&other).expect("not retired").expect("held");
                other.get(Patience::Try).map(|granted| other.identity(granted)).ok()
            }
        });
        let _ = protocol::detach(&holder, holder.identity(granted));
        let got = other.join().unwrap().expect("free after the forced unget");
        assert_eq!(world.word().identity(), got);
    });
}
