//! The storm itself: a conductor, and workers that it kills, stops and replaces.
//!
//! Seen to fail: with a grant by load and store, with holders that count as dead when a slice has ended, without recovery,
//! without the look at the file's name, with a removal that unlinks before it retires.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use resourcelock::{Error, LockError, Timeout};

use crate::checker::{Cell, Checker, WORKERS, die};
use crate::random::{Random, seconds, seed};
use crate::support::{Child, Dir, Line, PATIENCE, Shared, wait_until};

/// What no get needs, with holds of some milliseconds, stops of 30 and slices of 10.
const LONG_ENOUGH: Timeout = Timeout::from_secs(20);

fn worker(dir: &Dir, checker: &Checker, worker: usize, mut random: Random) {
    let mut lock = dir.open();
    while checker.get(Cell::End) == 0 {
        if checker.get(Cell::Pause) != 0 {
            checker.of(Cell::Parked, worker).store(1, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(1));
            continue;
        }
        checker.of(Cell::Parked, worker).store(0, Ordering::SeqCst);
        if checker.get(Cell::Pause) != 0 {
            // It was set between the two: the conductor may have seen the one before the zero.
            continue;
        }
        let timeout = match random.below(4) {
            0 => Timeout::ZERO,
            1 => Timeout::from_millis(random.below(15) as u32),
            _ => LONG_ENOUGH,
        };
        let stops = checker.of(Cell::Stops, worker).load(Ordering::SeqCst);
        let asked = Instant::now();
        match lock.lock(timeout, "a storm's hold") {
            Ok(guard) => {
                if checker.of(Cell::Stops, worker).load(Ordering::SeqCst) == stops {
                    let waited = asked.elapsed().as_millis() as u32;
                    checker.at(Cell::LongestWaitMs).fetch_max(waited, Ordering::SeqCst);
                }
                if guard.recovered() {
                    checker.count(Cell::Recovered);
                }
                if random.once_in(8) {
                    lock.set_lock_info("said later");
                    checker.count(Cell::Infos);
                }
                let dies_at_work = random.once_in(500);
                checker.work(&guard, &mut random, dies_at_work);
                if random.once_in(500) {
                    die();
                }
                drop(guard);
            }
            Err(LockError::TimedOut(_)) => {
                checker.count(Cell::Timeouts);
                if timeout == LONG_ENOUGH {
                    checker.count(Cell::Hangs);
                }
            }
            // It is removed and made over and over, or was unlinked while it was held.
            Err(LockError::Failed(Error::Busy | Error::Vanished)) => {}
            Err(error) => panic!("{error}"),
        }
        if random.once_in(50) {
            lock = dir.open();
        }
        if random.once_in(4) {
            thread::yield_now();
        }
    }
}

struct Conductor<'a> {
    dir: &'a Dir,
    checker: &'a Checker,
    random: Random,
    seed: u64,
    workers: Vec<Child>,
    born: u64,
    killed: u32,
    stopped: u32,
    removed: u32,
    forced: u32,
    unlinked: u32,
}

impl<'a> Conductor<'a> {
    fn start_worker(&mut self, place: usize) -> Child {
        self.born += 1;
        let (dir, checker, random) = (self.dir, self.checker, Random::new(self.seed, self.born));
        self.checker.of(Cell::Parked, place).store(0, Ordering::SeqCst);
        Child::fork(move |_: &mut Line| worker(dir, checker, place, random))
    }

    /// Replaces the workers that have died by their own hand.
    fn replace_dead(&mut self) {
        for place in 0..WORKERS {
            if self.workers[place].has_died() {
                self.killed += 1;
                // Some stay zombies until they are dropped here, some milliseconds later.
                let heir = self.start_worker(place);
                self.workers[place] = heir;
            }
        }
    }

    fn act(&mut self) {
        self.replace_dead();
        let place = self.random.below(WORKERS as u64) as usize;
        match self.random.below(10) {
            0..=3 => {
                self.workers[place].signal(libc::SIGKILL);
                if self.random.once_in(2) {
                    thread::sleep(Duration::from_micros(self.random.below(20_000)));
                }
                self.workers[place].kill();
                self.replace_dead();
            }
            4..=7 => {
                self.checker.of(Cell::Stops, place).fetch_add(1, Ordering::SeqCst);
                self.workers[place].signal(libc::SIGSTOP);
                self.stopped += 1;
                thread::sleep(Duration::from_micros(self.random.below(30_000)));
                self.workers[place].signal(libc::SIGCONT);
            }
            _ => {
                self.checker.count(Cell::Removals);
                match self.dir.options().remove("it", false) {
                    Ok(()) => self.removed += 1,
                    Err(Error::Held | Error::NotFound | Error::Busy) => {}
                    Err(error) => panic!("{error}"),
                }
                self.checker.count(Cell::Removals);
            }
        }
        thread::sleep(Duration::from_micros(self.random.below(5_000)));
    }

    /// A while in which everything is allowed, and nothing is checked but that all go on afterwards.
    fn force(&mut self) {
        self.checker.set(Cell::Forcing, 1);
        for _ in 0..20 {
            match self.random.below(3) {
                0 => self.forced += u32::from(self.dir.open().unget_lock(true, "a storm")),
                1 => self.removed += u32::from(self.dir.options().remove("it", true).is_ok()),
                _ => self.unlinked += u32::from(std::fs::remove_file(self.dir.lock_file()).is_ok()),
            }
            self.act();
        }
        // Until nobody is at work by a hold that was forced off, and every handle has come due to look at its file.
        self.checker.set(Cell::Pause, 1);
        wait_until("all are parked", || {
            self.replace_dead();
            (0..WORKERS).all(|place| self.checker.of(Cell::Parked, place).load(Ordering::SeqCst) == 1)
        });
        thread::sleep(Duration::from_millis(120));
        self.checker.set(Cell::Inside, 0);
        self.checker.set(Cell::Second, self.checker.get(Cell::First));
        self.checker.set(Cell::Forcing, 0);
        self.checker.set(Cell::Pause, 0);
    }
}

#[test]
fn nobody_overlaps_or_hangs_in_a_storm() {
    let (seed, seconds) = (seed(), seconds());
    println!("storm: STORM_SEED={seed} STORM_SECONDS={seconds}");
    let dir = Dir::new();
    let checker = Checker(Shared::new(&dir));
    let mut conductor = Conductor {
        dir: &dir,
        checker: &checker,
        random: Random::new(seed, 0),
        seed,
        workers: Vec::new(),
        born: 0,
        killed: 0,
        stopped: 0,
        removed: 0,
        forced: 0,
        unlinked: 0,
    };
    for place in 0..WORKERS {
        let worker = conductor.start_worker(place);
        conductor.workers.push(worker);
    }
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(seconds) {
        for _ in 0..60 {
            conductor.act();
        }
        conductor.force();
    }
    checker.set(Cell::End, 1);
    let ended = Instant::now();
    for worker in &mut conductor.workers {
        worker.signal(libc::SIGCONT);
        let end = worker.end();
        assert!(end == crate::support::End::Exited(0) || end == crate::support::End::Killed(libc::SIGKILL), "{end:?}");
    }
    assert!(ended.elapsed() < PATIENCE, "a worker hangs");

    let get = |cell| checker.get(cell);
    println!(
        "storm: {} holds, {} timeouts, {} infos, {} deaths, {} recoveries, {} stops, {} removals, {} forced ungets, {} files \
         unlinked; longest wait {} ms",
        get(Cell::Holds),
        get(Cell::Timeouts),
        get(Cell::Infos),
        conductor.killed,
        get(Cell::Recovered),
        conductor.stopped,
        conductor.removed,
        conductor.forced,
        conductor.unlinked,
        get(Cell::LongestWaitMs)
    );
    assert_eq!((get(Cell::Overlaps), get(Cell::LostUpdates), get(Cell::Hangs)), (0, 0, 0), "STORM_SEED={seed}");
    assert!(get(Cell::Holds) > 100 && get(Cell::Recovered) > 0, "it was no storm");
    let lock = dir.open();
    drop(lock.lock(LONG_ENOUGH, "after the storm").unwrap());
    drop(lock.try_lock("after the storm").unwrap());
}
