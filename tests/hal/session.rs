//! Sessions: what ends one, and what is noticed when it is gone.

use std::cell::RefCell;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use embedded_hal::i2c::I2c;
use embedded_hal_mock::eh1::spi::Mock as SpiMock;
use resourcelock::Error;
use resourcelock::hal::{BusError, LockedI2c, LockedSpiDevice};

use crate::bus::{MUX, Wires};
use crate::support::{AT_ONCE, Child, Dir, LONG};

/// Seen to fail with a session that does not ask for its hold.
#[test]
fn a_force_release_is_noticed_before_the_next_transaction() {
    let dir = Dir::new();
    let wires = Wires::new(&dir);
    let mut bus = LockedI2c::new(wires.bus(), dir.open());
    let somebody = dir.open();
    let mut session = bus.session().unwrap();
    session.write(MUX, &[1]).unwrap();
    assert!(somebody.force_release());
    let third = somebody.lock(LONG, "a third party").unwrap();
    for _ in 0..2 {
        assert!(matches!(session.write(MUX, &[2]), Err(BusError::HoldLost)));
        assert!(matches!(session.read(MUX, &mut [0]), Err(BusError::HoldLost)));
        assert!(matches!(session.bus(), Err(BusError::HoldLost)));
    }
    assert!(matches!(session.end(), Err(BusError::HoldLost)));
    assert_eq!((wires.transactions(), wires.channel()), (1, Some(0)), "nothing was on the wires any more");
    assert!(third.release(), "the third party's hold is its own");
    bus.session().unwrap().write(MUX, &[2]).unwrap();
    assert_eq!(wires.channel(), Some(1), "and the next session is as any");
}

#[test]
fn a_force_release_is_noticed_in_an_spi_session_too() {
    let dir = Dir::new();
    let mut mock = SpiMock::<u8>::new(&[]);
    let mut device = LockedSpiDevice::new(mock.clone(), dir.open());
    let mut session = device.session().unwrap();
    assert!(session.handle().is_held());
    assert!(dir.open().force_release());
    assert!(matches!(embedded_hal::spi::SpiDevice::write(&mut session, &[1]), Err(BusError::HoldLost)));
    assert!(matches!(session.device(), Err(BusError::HoldLost)));
    assert!(matches!(session.end(), Err(BusError::HoldLost)));
    mock.done();
}

#[test]
fn a_removed_file_is_noticed_in_a_long_session() {
    let dir = Dir::new();
    let wires = Wires::new(&dir);
    let mut bus = LockedI2c::new(wires.bus(), dir.open());
    let mut session = bus.session().unwrap();
    fs::remove_file(dir.lock_file()).unwrap();
    // Time is the event: a handle looks at its file's name every 100 ms.
    thread::sleep(Duration::from_millis(120));
    assert!(matches!(session.write(MUX, &[1]), Err(BusError::Lock(Error::Vanished))));
    assert_eq!(wires.transactions(), 0);
    drop(session);
    bus.session().unwrap().write(MUX, &[1]).unwrap();
    assert!(dir.lock_file().exists(), "on the new file");
}

#[test]
fn a_forked_child_has_no_part_in_its_parents_session() {
    let dir = Dir::new();
    let wires = Wires::new(&dir);
    let mut bus = LockedI2c::new(wires.bus(), dir.open()).timeout(AT_ONCE);
    let mut session = bus.session().unwrap();
    Child::fork(|_| {
        assert!(matches!(session.write(MUX, &[1]), Err(BusError::HoldLost)));
        assert_eq!(wires.transactions(), 0);
        // SAFETY: the child's memory is a copy of the parent's, which drops its own.
        drop(unsafe { std::ptr::read(&session) });
    })
    .succeeds();
    session.write(MUX, &[1]).unwrap();
    session.end().unwrap();
}

#[test]
fn a_session_ends_with_its_scope_however_that_is_left() {
    let dir = Dir::new();
    let wires = Wires::new(&dir);
    let mut bus = LockedI2c::new(wires.bus(), dir.open());
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut session = bus.session().unwrap();
        session.write(MUX, &[1]).unwrap();
        panic!("a bug in the program");
    }));
    assert!(outcome.is_err() && !dir.open().is_held());
    let mut early = || -> Result<(), BusError<_>> {
        let mut session = bus.session()?;
        session.read(MUX, &mut [0])?; // the mux does not acknowledge
        unreachable!();
    };
    assert!(matches!(early(), Err(BusError::Bus(_))));
    assert!(!dir.open().is_held());
    bus.write(MUX, &[2]).unwrap();
}

#[test]
fn another_wrapper_inside_a_session_times_out_and_names_our_own_process() {
    let dir = Dir::new();
    let wires = Wires::new(&dir);
    let mut bus = LockedI2c::new(wires.bus(), dir.open());
    let mut other = LockedI2c::new(wires.bus(), dir.open()).timeout(AT_ONCE);
    let session = bus.session().unwrap();
    match other.write(MUX, &[1]) {
        Err(BusError::TimedOut(Some(holder))) => assert_eq!(holder.pid(), std::process::id()),
        outcome => panic!("{outcome:?}"),
    }
    drop(session);
    other.write(MUX, &[1]).unwrap();
}

/// Seen to fail with the inner hold's end releasing.
#[test]
fn holds_nest_and_the_outermost_releases() {
    let dir = Dir::new();
    let wires = Wires::new(&dir);
    let bus = RefCell::new(LockedI2c::new(wires.bus(), dir.open()));
    let outer = LockedI2c::hold(&bus).unwrap();
    let inner = LockedI2c::hold(&bus).unwrap();
    drop(inner);
    {
        let mut bus = bus.borrow_mut();
        let session = bus.session().unwrap();
        session.end().unwrap();
    }
    assert!(dir.open().is_held());
    bus.borrow_mut().write(MUX, &[1]).unwrap();
    assert_eq!(dir.open().counters().grants, 1);
    outer.end().unwrap();
    assert!(!dir.open().is_held());
    bus.borrow_mut().write(MUX, &[1]).unwrap();
    assert_eq!(dir.open().counters().grants, 2);

    // Taken away while two are open: both hear of it, and then it is over.
    let (outer, inner) = (LockedI2c::hold(&bus).unwrap(), LockedI2c::hold(&bus).unwrap());
    assert!(dir.open().force_release());
    assert!(matches!(LockedI2c::hold(&bus), Err(BusError::HoldLost)));
    assert!(matches!(inner.end(), Err(BusError::HoldLost)));
    assert!(matches!(bus.borrow_mut().write(MUX, &[1]), Err(BusError::HoldLost)));
    assert!(matches!(outer.end(), Err(BusError::HoldLost)));
    bus.borrow_mut().write(MUX, &[1]).unwrap();
}
