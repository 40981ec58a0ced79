//! What a wrapped transaction costs beside a bare one, on this machine: `cost`.
//!
//! The bus does nothing, so that what is left is the wrapper. Each way is measured in turn, several times over, and the
//! best round counts: whatever else the machine does can only make one slower.

use std::cell::RefCell;
use std::convert::Infallible;
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use embedded_hal::i2c::{ErrorType, I2c, Operation};
use embedded_hal_bus::i2c::{MutexDevice, RefCellDevice};
use resourcelock::hal::LockedI2c;
use resourcelock::{Error, ResourceLock};

const LOCK_NAME: &str = "cost-example";
const ROUNDS: u32 = 15;
const TRANSACTIONS: u32 = 20_000;

/// A bus that does nothing, and does not tell the compiler so.
struct Nothing;

impl ErrorType for Nothing {
    type Error = Infallible;
}

impl I2c for Nothing {
    #[inline(never)]
    fn transaction(&mut self, address: u8, operations: &mut [Operation<'_>]) -> Result<(), Infallible> {
        black_box((address, operations.len()));
        Ok(())
    }
}

/// Nanoseconds per transaction.
fn cost_of(bus: &mut impl I2c) -> f64 {
    let mut bytes = [0; 2];
    let began = Instant::now();
    for _ in 0..TRANSACTIONS {
        black_box(bus.write_read(black_box(0x48), &[0], &mut bytes).is_ok());
    }
    began.elapsed().as_nanos() as f64 / f64::from(TRANSACTIONS)
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cost: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Error> {
    let mut best = [
        ("bare", f64::MAX),
        ("RefCellDevice", f64::MAX),
        ("MutexDevice", f64::MAX),
        ("in a session", f64::MAX),
        ("wrapped", f64::MAX),
    ];
    let (cell, mutex) = (RefCell::new(Nothing), Mutex::new(Nothing));
    let mut locked = LockedI2c::new(Nothing, ResourceLock::open(LOCK_NAME)?).info("measures what it costs to tell why");
    for _ in 0..ROUNDS {
        let costs = [
            cost_of(&mut Nothing),
            cost_of(&mut RefCellDevice::new(&cell)),
            cost_of(&mut MutexDevice::new(&mutex)),
            locked.session().map_or(f64::MAX, |mut session| cost_of(&mut session)),
            cost_of(&mut locked),
        ];
        for ((_, best), cost) in best.iter_mut().zip(costs) {
            *best = best.min(cost);
        }
    }
    locked.handle().remove(false)?;

    // A real transaction of three bytes at 100 kHz: 9 clocks each, start, repeated start and stop.
    let wires = Duration::from_micros(300).as_nanos() as f64;
    println!("{:<14} {:>9} {:>16}", "transaction", "ns", "of 300 us wires");
    for (way, cost) in best {
        println!("{way:<14} {cost:>9.1} {:>15.3}%", 100.0 * cost / wires);
    }
    Ok(())
}
