//! Sets the two limits of an LM75: `thermostat DEVICE ADDRESS LOW HIGH [SECONDS]`, as in
//! `thermostat /dev/i2c-1 0x48 24 26`.
//!
//! Two calls of the driver, each a transaction of its own, that are only right together: between them the sensor would
//! have the new upper limit and the old lower one, and another thermostat could leave one limit of each. So both are made
//! in a session. With SECONDS it stays in the session for that long, for you to see what others do meanwhile, and what
//! happens if you kill it there.

use std::process::ExitCode;
use std::time::Duration;

use bus::{Address, Outcome, from_driver, next};
use linux_embedded_hal::I2cdev;
use lm75::Lm75;
use resourcelock::Timeout;
use resourcelock::hal::LockedI2c;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("thermostat: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome {
    const USAGE: &str = "thermostat DEVICE ADDRESS LOW HIGH [SECONDS]";
    let mut words = std::env::args().skip(1).peekable();
    let device: String = next(&mut words, USAGE)?;
    let Address(address) = next(&mut words, USAGE)?;
    let (low, high): (f32, f32) = (next(&mut words, USAGE)?, next(&mut words, USAGE)?);
    let stay: u64 = if words.peek().is_some() { next(&mut words, USAGE)? } else { 0 };

    let i2c = I2cdev::new(&device).map_err(|error| format!("{device}: {error}"))?;
    let mut i2c = LockedI2c::for_device(&device, i2c)
        .map_err(|error| format!("{device}: {error}"))?
        .timeout(Timeout::from_secs(5))
        .info(&format!("sets the limits to {low} and {high} C"));

    let mut session = i2c.session().map_err(|error| error.to_string())?;
    let mut sensor = Lm75::new(&mut session, address);
    sensor.set_os_temperature(high).map_err(from_driver("setting the upper limit"))?;
    if stay > 0 {
        println!("in the session, with one limit set");
        std::thread::sleep(Duration::from_secs(stay));
    }
    sensor.set_hysteresis_temperature(low).map_err(from_driver("setting the lower limit"))?;
    // If somebody took the bus away meanwhile, the pair may not be a pair.
    session.end().map_err(|error| error.to_string())?;
    println!("on from {low} C, off at {high} C");
    Ok(())
}
