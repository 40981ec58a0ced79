//! After a holder was killed or forced off inside a session: the next wrapper continues, reports once, or resets.
//!
//! Seen to fail with a recovery that is forgotten when the reset fails, with one that is reported again and again, and
//! with a reset that is followed by its transaction though the hold was lost meanwhile.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use embedded_hal::i2c::{Error as _, ErrorKind, ErrorType, I2c, Operation};
use resourcelock::Grant;
use resourcelock::hal::{BusError, LockedI2c};

use crate::bus::{MUX, SENSOR, Wires, celsius};
use crate::support::{AT_ONCE, Child, Dir, LONG};

/// A process that has selected channel 5, and is killed before it reads there.
fn killed_in_a_session(dir: &Dir, wires: &Wires) -> u32 {
    let mut child = Child::fork(|line| {
        let mut bus = LockedI2c::new(wires.bus(), dir.open()).timeout(LONG).info("reads channel 5");
        let mut session = bus.session().unwrap();
        session.write(MUX, &[1 << 5]).unwrap();
        line.say("in the session");
        line.next();
    });
    child.line.hear("in the session");
    child.kill();
    child.pid as u32
}

fn is_of(dead: Option<&Grant>, pid: u32) -> bool {
    dead.is_some_and(|dead| dead.pid() == pid && dead.info() == "reads channel 5")
}

fn temperature(bus: &mut impl I2c) -> u8 {
    let mut bytes = [0; 2];
    bus.write_read(SENSOR, &[0], &mut bytes).unwrap();
    bytes[0]
}

#[test]
fn going_on_uses_the_bus_as_it_was_left() {
    let dir = Dir::new();
    let wires = Wires::new(&dir);
    killed_in_a_session(&dir, &wires);
    let mut bus = LockedI2c::new(wires.bus(), dir.open());
    assert_eq!(temperature(&mut bus), celsius(5));
    assert_eq!(dir.open().counters().recoveries, 1);
}

#[test]
fn a_report_comes_once_before_anything_is_on_the_wires() {
    let dir = Dir::new();
    let wires = Wires::new(&dir);
    for in_a_session in [false, true] {
        let dead = killed_in_a_session(&dir, &wires);
        let transactions = wires.transactions();
        let mut bus = LockedI2c::new(wires.bus(), dir.open()).report_recovery();
        let outcome = if in_a_session { bus.session().map(drop) } else { bus.write_read(SENSOR, &[0], &mut [0, 0]) };
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Other);
        assert!(matches!(error, BusError::Recovered(ref grant) if is_of(grant.as_ref(), dead)), "{error:?}");
        assert!(error.to_string().starts_with(&format!("pid {dead} (")), "{error}");
        assert_eq!(wires.transactions(), transactions);
        assert!(!dir.open().is_held());
        assert_eq!(temperature(&mut bus), celsius(5), "once");
        bus.session().unwrap().end().unwrap();
    }
}

#[test]
fn a_reset_comes_before_the_transaction_and_once() {
    let dir = Dir::new();
    let wires = Wires::new(&dir);
    for in_a_session in [false, true] {
        let dead = killed_in_a_session(&dir, &wires);
        let resets = Cell::new(0);
        let mut bus = LockedI2c::new(wires.bus(), dir.open()).reset_on_recovery(|bus, grant| {
            assert!(is_of(grant, dead));
            assert!(dir.open().is_held(), "under the lock");
            resets.set(resets.get() + 1);
            bus.write(MUX, &[1])
        });
        let read = if in_a_session { temperature(&mut bus.session().unwrap()) } else { temperature(&mut bus) };
        assert_eq!(read, celsius(0));
        assert_eq!(temperature(&mut bus), celsius(0));
        assert_eq!(resets.get(), 1);
    }
}

#[test]
fn a_reset_that_fails_is_made_again_until_it_succeeds() {
    let dir = Dir::new();
    let wires = Wires::new(&dir);
    let dead = killed_in_a_session(&dir, &wires);
    let transactions = wires.transactions();
    let (resets, works) = (Cell::new(0), Cell::new(false));
    let mut bus = LockedI2c::new(wires.bus(), dir.open()).timeout(AT_ONCE).reset_on_recovery(|bus, grant| {
        assert!(is_of(grant, dead), "each time");
        resets.set(resets.get() + 1);
        if works.get() { bus.write(MUX, &[1]) } else { Err(ErrorKind::Bus) }
    });
    let error = bus.write_read(SENSOR, &[0], &mut [0, 0]).unwrap_err();
    assert!(matches!(error, BusError::ResetFailed(ErrorKind::Bus)), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Other, "not the kind of a transaction that was made");
    assert!(!dir.open().is_held(), "others may try");
    assert!(matches!(bus.session(), Err(BusError::ResetFailed(_))));
    // Somebody else has it: no reset under another's hold, and it is not forgotten.
    let holder = dir.open();
    let guard = holder.try_lock("").unwrap();
    assert!(matches!(bus.write(MUX, &[1]), Err(BusError::TimedOut(_))));
    drop(guard);
    assert_eq!((resets.get(), wires.transactions()), (2, transactions));
    works.set(true);
    assert_eq!(temperature(&mut bus), celsius(0));
    assert_eq!(temperature(&mut bus), celsius(0));
    assert_eq!(resets.get(), 3);
}

#[test]
fn a_reset_that_panics_releases_and_is_made_again() {
    let dir = Dir::new();
    let wires = Wires::new(&dir);
    killed_in_a_session(&dir, &wires);
    let resets = Cell::new(0);
    let mut bus = LockedI2c::new(wires.bus(), dir.open()).reset_on_recovery(|bus, _| {
        resets.set(resets.get() + 1);
        assert_ne!(resets.get(), 1, "a bug in the reset");
        bus.write(MUX, &[1])
    });
    assert!(catch_unwind(AssertUnwindSafe(|| temperature(&mut bus))).is_err());
    assert!(!dir.open().is_held());
    assert_eq!(temperature(&mut bus), celsius(0));
    assert_eq!(resets.get(), 2);
}

#[test]
fn a_hold_that_is_lost_during_the_reset_gets_no_transaction() {
    let dir = Dir::new();
    let wires = Wires::new(&dir);
    killed_in_a_session(&dir, &wires);
    let transactions = wires.transactions();
    let resets = Cell::new(0);
    let mut bus = LockedI2c::new(wires.bus(), dir.open()).reset_on_recovery(|_, _| {
        resets.set(resets.get() + 1);
        assert!(resets.get() > 1 || dir.open().force_release());
        Ok(())
    });
    assert!(matches!(bus.write(MUX, &[1]), Err(BusError::HoldLost)));
    assert_eq!(wires.transactions(), transactions);
    bus.write(MUX, &[1]).unwrap();
    assert_eq!(resets.get(), 2, "nobody knows whether the first one was complete");
}

/// A force-release leaves the bus in the same doubt as a death.
#[test]
fn a_reset_follows_a_force_release() {
    let dir = Dir::new();
    let wires = Wires::new(&dir);
    let holder = dir.open();
    let guard = holder.try_lock("is forced off").unwrap();
    assert!(dir.open().force_release());
    drop(guard);
    let resets = Cell::new(0);
    let mut bus = LockedI2c::new(wires.bus(), dir.open()).reset_on_recovery(|bus, grant| {
        assert_eq!(grant.unwrap().info(), "is forced off");
        resets.set(resets.get() + 1);
        bus.write(MUX, &[1])
    });
    assert_eq!(temperature(&mut bus), celsius(0));
    assert_eq!(temperature(&mut bus), celsius(0));
    assert_eq!(resets.get(), 1);
}

/// A bus whose transactions panic.
struct Broken;

impl ErrorType for Broken {
    type Error = ErrorKind;
}

impl I2c for Broken {
    fn transaction(&mut self, _: u8, _: &mut [Operation<'_>]) -> Result<(), ErrorKind> {
        panic!("a bug in the bus");
    }
}

#[test]
fn a_transaction_that_panics_releases() {
    let dir = Dir::new();
    let mut bus = LockedI2c::new(Broken, dir.open());
    assert!(catch_unwind(AssertUnwindSafe(|| bus.write(MUX, &[1]))).is_err());
    assert!(!dir.open().is_held());
}
