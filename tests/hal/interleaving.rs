//! Processes on one bus: with the wrapper nobody comes between, without it they do, plenty.
//!
//! Each test makes the same processes do the same work twice, so that the first half shows that the second would fail
//! if the wrapper did nothing. The driver is lm75, as it comes from crates.io.

use std::cell::RefCell;
use std::sync::atomic::Ordering;

use embedded_hal::i2c::I2c;
use embedded_hal_bus::i2c::RefCellDevice;
use lm75::{Address, Lm75};
use resourcelock::hal::{I2cSession, LockedI2c};

use crate::bus::{MUX, SENSOR, STOP, SimulatedBus, WRONG, Wires, celsius};
use crate::support::{Child, Dir, LONG, wait_until};

/// Enough to call it plenty.
const PLENTY: u32 = 50;

/// Runs two processes at once, each of which repeats its work until `enough` is there. The work says whether what came
/// out was right.
fn two_at_once(wires: &Wires, enough: impl Fn() -> bool, work: impl Fn(u8) -> Box<dyn FnMut() -> bool>) {
    let stop = wires.count(STOP);
    stop.store(0, Ordering::SeqCst);
    let children = [0, 1].map(|who| {
        Child::fork(|_| {
            let mut work = work(who);
            while stop.load(Ordering::SeqCst) == 0 {
                let wrong = !work();
                wires.count(WRONG).fetch_add(wrong.into(), Ordering::SeqCst);
            }
        })
    });
    wait_until("enough of both processes' work", enough);
    stop.store(1, Ordering::SeqCst);
    children.into_iter().for_each(Child::succeeds);
}

fn wrong(wires: &Wires) -> u32 {
    wires.count(WRONG).load(Ordering::SeqCst)
}

/// Process 0 reads the temperature, process 1 sets the limit, which moves the sensor's register pointer.
fn driver_work<B: I2c + 'static>(bus: B, who: u8) -> Box<dyn FnMut() -> bool> {
    let mut sensor = Lm75::new(bus, Address::from(SENSOR));
    if who == 0 {
        Box::new(move || sensor.read_temperature().is_ok_and(|read| read == f32::from(celsius(0))))
    } else {
        Box::new(move || sensor.set_os_temperature(75.0).is_ok())
    }
}

/// The wires, for as long as this process lives; a forked child needs them no longer.
fn leaked(wires: Wires) -> &'static Wires {
    Box::leak(Box::new(wires))
}

#[test]
fn an_unchanged_driver_is_torn_apart_without_the_wrapper_and_never_with_it() {
    let dir = Dir::new();
    let wires = leaked(Wires::new(&dir));
    wires.bus().write(MUX, &[1]).unwrap();
    two_at_once(wires, || wires.interleaved() >= PLENTY && wrong(wires) >= PLENTY, |who| driver_work(wires.bus(), who));

    let dir = Dir::new();
    let wires = leaked(Wires::new(&dir));
    wires.bus().write(MUX, &[1]).unwrap();
    let lock = dir.open();
    two_at_once(
        wires,
        || lock.counters().contended >= PLENTY,
        |who| driver_work(LockedI2c::new(wires.bus(), dir.open()).timeout(LONG), who),
    );
    assert_eq!((wires.interleaved(), wrong(wires)), (0, 0), "in {} transactions", wires.transactions());
    assert_eq!(lock.counters().grants, wires.transactions() - 1, "each transaction took the lock");
}

fn right_channel<B: I2c>(bus: &mut B, channel: u8) -> bool {
    if bus.write(MUX, &[1 << channel]).is_err() {
        return false;
    }
    let mut sensor = Lm75::new(bus, Address::from(SENSOR));
    sensor.read_temperature().is_ok_and(|read| read == f32::from(celsius(channel)))
}

#[test]
fn a_mux_select_and_the_read_behind_it_need_a_session() {
    // Each transaction whole, and yet the channel is another's by the time that it is read.
    let dir = Dir::new();
    let wires = leaked(Wires::new(&dir));
    two_at_once(
        wires,
        || wrong(wires) >= PLENTY,
        |who| {
            let mut bus = LockedI2c::new(wires.bus(), dir.open()).timeout(LONG);
            Box::new(move || right_channel(&mut bus, who))
        },
    );
    assert_eq!(wires.interleaved(), 0);

    let dir = Dir::new();
    let wires = leaked(Wires::new(&dir));
    let lock = dir.open();
    two_at_once(
        wires,
        || lock.counters().contended >= PLENTY,
        |who| {
            let mut bus = LockedI2c::new(wires.bus(), dir.open()).timeout(LONG);
            Box::new(move || {
                let mut session: I2cSession<'_, SimulatedBus<'_>> = bus.session().unwrap();
                let right = right_channel(&mut session, who);
                session.end().unwrap();
                right
            })
        },
    );
    assert_eq!((wires.interleaved(), wrong(wires)), (0, 0), "in {} transactions", wires.transactions());
    assert_eq!(lock.counters().grants * 2, wires.transactions(), "one grant for two transactions");
}

#[test]
fn drivers_that_outlive_it_are_whole_within_a_hold() {
    let dir = Dir::new();
    let wires = leaked(Wires::new(&dir));
    let lock = dir.open();
    two_at_once(
        wires,
        || lock.counters().contended >= PLENTY,
        |who| {
            let bus = LockedI2c::new(wires.bus(), dir.open()).timeout(LONG);
            let bus = &*Box::leak(Box::new(RefCell::new(bus)));
            let mut mux = RefCellDevice::new(bus);
            let mut sensor = Lm75::new(RefCellDevice::new(bus), Address::from(SENSOR));
            Box::new(move || {
                let hold = LockedI2c::hold(bus).unwrap();
                mux.write(MUX, &[1 << who]).unwrap();
                let right = sensor.read_temperature().is_ok_and(|read| read == f32::from(celsius(who)));
                hold.end().unwrap();
                right
            })
        },
    );
    assert_eq!((wires.interleaved(), wrong(wires)), (0, 0), "in {} transactions", wires.transactions());
    assert_eq!(lock.counters().grants * 2, wires.transactions(), "one grant for two transactions");
}
