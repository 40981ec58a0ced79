//! A driver that resets its bus after a recovery, beside a shell loop of `run`.

use std::cell::Cell;
use std::thread;
use std::time::{Duration, Instant};

use embedded_hal::i2c::{ErrorKind, ErrorType, I2c, Operation};
use resourcelock::hal::LockedI2c;
use resourcelock::{ResourceLock, Timeout};

use crate::support::Place;

/// A bus on which nothing happens.
struct Wires;

impl ErrorType for Wires {
    type Error = ErrorKind;
}

impl I2c for Wires {
    fn transaction(&mut self, _: u8, _: &mut [Operation<'_>]) -> Result<(), ErrorKind> {
        Ok(())
    }
}

/// A program that has ended is a zombie until it is reaped. Waiters took that for a death of the holder, and reset the bus
/// 162 times in 2012 runs.
///
/// Seen to fail with a `run` that ends without releasing.
#[test]
fn a_driver_resets_nothing_beside_programs_that_end_well() {
    let how_long = Duration::from_secs(if cfg!(debug_assertions) { 2 } else { 8 });
    let place = Place::new();
    let lock = ResourceLock::options().dir(place.dir.to_str().unwrap()).open("bus").unwrap();
    let resets = Cell::new(0);
    let mut bus = LockedI2c::new(Wires, lock).timeout(Timeout::from_secs(30)).reset_on_recovery(|_, _| {
        resets.set(resets.get() + 1);
        Ok(())
    });
    let began = Instant::now();
    let goes_on = || began.elapsed() < how_long;
    let (mut runs, mut transactions) = (0, 0);
    thread::scope(|scope| {
        let shells: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut runs = 0;
                    while goes_on() {
                        place.run(["bus", "run", "--", "true"]).expect_end(0);
                        runs += 1;
                    }
                    runs
                })
            })
            .collect();
        while goes_on() {
            bus.write(0x70, &[1]).unwrap();
            transactions += 1;
            // A driver that always waits would always be handed the lock; one that comes at any time finds it in any state.
            thread::sleep(Duration::from_micros(200));
        }
        runs = shells.into_iter().map(|shell| shell.join().unwrap()).sum();
    });
    println!("{runs} runs, {transactions} transactions");
    assert_eq!(resets.get(), 0, "in {runs} runs");
    assert!(runs > 20 && transactions > 20, "{runs} runs, {transactions} transactions");
}
