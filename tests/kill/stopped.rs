//! Stopped at every instruction: an operation is single-stepped in a child that stops after 0, 1, 2, … steps; others act
//! meanwhile; then it goes on at full speed. What a kill cannot show: what a process that was preempted, or stopped by a
//! signal, does with a world that has changed under it.
//!
//! In an optimised build every position is tried (of a removal, every seventh); in a debug build some of them.

use std::cell::Cell;

use resourcelock::{ResourceLock, Timeout};

use super::open_in_child;
use super::support::{AT_ONCE, Child, Dir, Line, pass_over};
use super::tracee::Stopper;

const SOON: Timeout = Timeout::from_millis(300);

/// Runs `operation` in a child for each number of steps (or each `stride`-th), `meanwhile` in this process where it stops,
/// and then hears what the child tells of the outcome.
#[track_caller]
fn stop_everywhere<P, T>(
    name: &str,
    stride: usize,
    prepare: impl Fn(&Dir) -> P,
    operation: impl Fn(&'static ResourceLock) -> T,
    tell: impl Fn(&'static ResourceLock, T) -> String,
    meanwhile: impl Fn(&Dir, &P),
    check: impl Fn(&Dir, &P, &str),
) {
    let tried = Cell::new(0);
    for steps in (0..).step_by(if cfg!(debug_assertions) { 1999 } else { stride }) {
        let dir = Dir::new();
        let prepared = prepare(&dir);
        let child = Child::fork(|line: &mut Line| {
            let lock = open_in_child(&dir);
            // The first call of a process finds out which clocks there are.
            lock.is_locked();
            let Some(stopper) = Stopper::begin(line) else { return };
            let outcome = operation(lock);
            stopper.end();
            line.say(&tell(lock, outcome));
            // It lives on, so that nobody recovers what it holds.
            line.next();
        });
        let Some((mut child, is_at_its_end)) = Stopper::stop_after(child, steps) else {
            return pass_over(name, "ptrace is not permitted");
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
}

/// Caught: a number that is told by what was published before the compare-and-swap alone (the word comes round after 64
/// grants, and the hold is one that nobody can release).
#[test]
fn others_get_sixty_four_grants_inside_a_get() {
    stop_everywhere(
        "64 grants inside a get",
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

/// Caught: a late writer that takes the grant number back, so that the present holder takes itself for forced off (with
/// the range of `Ticket::locate` alone).
#[test]
fn a_get_is_forced_off_and_others_go_on() {
    for grants in [1, 16, 33, 80] {
        stop_everywhere(
            &format!("forced off inside a get, then {grants} grants"),
            1,
            |dir| (dir.open(), dir.open()),
            |lock| lock.get_lock(AT_ONCE, false, "stopped"),
            |lock, granted| format!("{granted:?} has {}", lock.i_have_the_lock()),
            |_, (other, holder)| {
                if other.is_locked() {
                    other.unget_lock(true, "by force");
                }
                for _ in 1..grants {
                    drop(other.try_lock("meanwhile").unwrap());
                }
                assert!(holder.get_lock(AT_ONCE, false, "the holder").unwrap());
            },
            |_, (other, holder), told| {
                assert!(told.ends_with("has false"), "{told}");
                assert!(holder.i_have_the_lock());
                assert!(other.try_lock("").is_err());
                assert!(holder.unget_lock(false, ""));
                assert!(other.lock(SOON, "after").is_ok());
            },
        );
    }
}

/// Caught: a removal that does not ask whether it has retired its own hold (two locks of one name).
#[test]
fn a_removal_is_forced_off() {
    stop_everywhere(
        "removal by the holder, forced off inside",
        // Thousands of instructions, most of them of paths.
        7,
        |dir| (dir.open(), dir.open()),
        |lock| {
            let granted = lock.get_lock(AT_ONCE, false, "removes");
            (granted, lock.remove(false))
        },
        |_, outcome| format!("{outcome:?}"),
        |dir, (other, third)| {
            if dir.lock_file().exists() {
                other.unget_lock(true, "by force");
                let _ = third.get_lock(AT_ONCE, false, "a third party");
            }
        },
        |dir, (_, third), told| {
            let newcomer = dir.open();
            let newcomer_holds = newcomer.try_lock("a newcomer").is_ok();
            assert!(!(third.i_have_the_lock() && newcomer_holds), "two holders: {told}");
        },
    );
}
