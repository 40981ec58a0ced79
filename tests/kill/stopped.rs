//! Stopped at every instruction: an operation is single-stepped in a child that stops after 0, 1, 2, … steps; other
//! processes use the lock meanwhile; then the child continues at full speed. This shows what a kill cannot: what a process
//! that was preempted, or stopped by a signal, does when the lock has changed meanwhile.
//!
//! In an optimised build every position is tried (of a removal, every seventh); in a debug build some of them.

use std::cell::{Cell, RefCell};

use resourcelock::{Guard, ResourceLock, Timeout};

use super::support::{AT_ONCE, Child, Dir, Line, pass_over};
use super::tracee::Stopper;
use super::{IDENTITY, open_in_child, set_next_seat, word};

const SOON: Timeout = Timeout::from_millis(300);

/// Runs `operation` in a child for each number of steps (or each `stride`-th), `meanwhile` in this process where it stops,
/// and then calls `check` with what the child reports of the outcome. Returns the number of positions.
#[track_caller]
fn stop_everywhere<P, T>(
    name: &str,
    stride: usize,
    prepare: impl Fn(&Dir) -> P,
    operation: impl Fn(&'static ResourceLock) -> T,
    tell: impl Fn(&'static ResourceLock, T) -> String,
    meanwhile: impl Fn(&Dir, &P),
    check: impl Fn(&Dir, &P, &str),
) -> usize {
    let tried = Cell::new(0);
    for steps in (0..).step_by(if cfg!(debug_assertions) { 7919 } else { stride }) {
        let dir = Dir::new();
        let prepared = prepare(&dir);
        let child = Child::fork(|line: &mut Line| {
            let lock = open_in_child(&dir);
            let Some(stopper) = Stopper::begin(line) else { return };
            let outcome = operation(lock);
            stopper.end();
            line.say(&tell(lock, outcome));
            // It stays alive, so that nobody recovers what it holds.
            line.next();
        });
        let Some((mut child, is_at_its_end)) = Stopper::stop_after(child, steps) else {
            pass_over(name, "ptrace is not permitted");
            return 0;
        };
        meanwhile(&dir, &prepared);
        Stopper::go_on(&mut child, is_at_its_end);
        let told = child.line.next();
        check(&dir, &prepared, &told);
        tried.set(tried.get() + 1);
        if is_at_its_end {
            break;
        }
    }
    println!("stopped: {} instruction positions: {name}", tried.get());
    tried.get()
}

/// Caught: a number that is derived only from what was published before the compare-and-swap (the word recurs after 64
/// grants, and nobody can release the hold).
#[test]
fn others_make_sixty_four_grants_inside_an_acquire() {
    stop_everywhere(
        "64 grants inside an acquire",
        1,
        Dir::open,
        |lock| lock.lock(AT_ONCE, "stopped"),
        |_, outcome| match outcome {
            Ok(guard) => format!("held {} released {}", guard.is_held(), guard.release()),
            Err(_) => "refused".into(),
        },
        |_, other| {
            for _ in 0..64 {
                let Ok(guard) = other.try_lock("meanwhile") else { break };
                drop(guard);
            }
        },
        |_, other, told| {
            assert!(["held true released true", "refused"].contains(&told), "{told}");
            assert!(other.lock(SOON, "after").is_ok(), "stuck");
        },
    );
}

/// Caught: a guard that identifies its grant only by the number published last, which a late writer may have turned back:
/// the holder took itself for forced off, and did not release.
#[test]
fn an_acquire_is_forced_off_and_others_continue() {
    for grants in [1, 16, 33, 80] {
        stop_everywhere(
            &format!("forced off inside an acquire, then {grants} grants"),
            1,
            |dir| (dir.open(), open_in_child(dir), RefCell::new(None)),
            |lock| lock.lock(AT_ONCE, "stopped").map(Guard::keep).is_ok(),
            |lock, granted| format!("{granted:?} has {}", lock.holds()),
            |_, (other, holder, guard)| {
                if other.is_held() {
                    other.force_release();
                }
                for _ in 1..grants {
                    drop(other.try_lock("meanwhile").unwrap());
                }
                guard.replace(Some(holder.lock(AT_ONCE, "the holder").unwrap()));
            },
            |_, (other, _, guard), told| {
                assert!(told.ends_with("has false"), "{told}");
                let guard = guard.take().unwrap();
                assert!(guard.is_held());
                assert!(other.try_lock("").is_err());
                assert!(guard.release());
                assert!(other.lock(SOON, "after").is_ok());
            },
        );
    }
}

/// Caught: a removal that does not check that it retires its own hold (it evicts another holder without force).
#[test]
fn a_removal_is_forced_off() {
    stop_everywhere(
        "removal by the holder, forced off inside",
        // Thousands of instructions, most of them of paths.
        7,
        |dir| (dir.open(), dir.open(), Cell::new(false)),
        |lock| {
            let granted = lock.lock(AT_ONCE, "removes").map(Guard::keep).is_ok();
            (granted, lock.remove(false))
        },
        |_, outcome| format!("{outcome:?}"),
        |dir, (other, third, granted)| {
            if dir.lock_file().exists() {
                other.force_release();
                granted.set(third.lock(AT_ONCE, "a third party").map(Guard::keep).is_ok());
            }
        },
        |dir, (_, third, granted), told| {
            let newcomer = dir.open();
            let newcomer_holds = newcomer.try_lock("a newcomer").is_ok();
            assert_eq!(third.holds(), granted.get(), "evicted without force: {told}");
            assert!(!(third.holds() && newcomer_holds), "two holders: {told}");
        },
    );
}

/// A dead holder, and what others make of its lock while a contender is in the middle of a recovery.
struct Attack {
    /// The word that names the dead holder, and its seat.
    word: u32,
    seat: u32,
    other: ResourceLock,
    reborn: RefCell<Option<ResourceLock>>,
}

/// The ABA of a proof of death. While the contender is stopped, others recover the lock, the counter of seats wraps, a new
/// handle gets the dead holder's seat, and 64 grants later the word has the very identity that the contender has seen. As
/// long as the contender's proof is pinned, nobody can take that seat; before and after, the contender cannot use it.
///
/// Caught: a `Probe::examine` that only asks (`F_OFD_GETLK`), and one that unpins before the compare-and-swap: two holders.
#[test]
fn the_seat_and_the_word_of_a_dead_holder_recur_inside_its_recovery() {
    let (attacks, pinned) = (Cell::new(0), Cell::new(0));
    let tried = stop_everywhere(
        "ABA inside a recovery",
        1,
        |dir| {
            let other = dir.open();
            Child::holder(dir, "died").kill();
            let seat = other.holder().unwrap().seat();
            Attack { word: word(dir) & IDENTITY, seat, other, reborn: RefCell::new(None) }
        },
        |lock| lock.lock(AT_ONCE, "the contender").map(Guard::keep).is_ok(),
        |lock, granted| {
            assert_eq!(granted, lock.holds());
            if granted { "granted" } else { "refused" }.into()
        },
        |dir, attack| {
            // The recovery, and all but the last of 64 grants.
            for _ in 1..64 {
                let Ok(guard) = attack.other.try_lock("meanwhile") else { return };
                drop(guard);
            }
            set_next_seat(dir, attack.seat);
            let reborn = dir.open();
            reborn.try_lock("reborn").unwrap().keep();
            if word(dir) & IDENTITY == attack.word {
                attacks.set(attacks.get() + 1);
            } else {
                pinned.set(pinned.get() + 1);
            }
            attack.reborn.replace(Some(reborn));
        },
        |_, attack, told| {
            let reborn = attack.reborn.borrow();
            let holds = reborn.as_ref().is_some_and(ResourceLock::holds);
            assert_eq!(told, if reborn.is_some() { "refused" } else { "granted" });
            assert_eq!(holds, reborn.is_some(), "evicted");
        },
    );
    let (attacks, pinned) = (attacks.get(), pinned.get());
    println!("stopped: the word recurred at {attacks} positions, the seat was pinned at {pinned}");
    assert!(tried == 0 || attacks > 0);
    // In a debug build, none of the positions need be inside the proof.
    assert!(tried == 0 || pinned > 0 || cfg!(debug_assertions));
}
