//! Reads an LM75 (or TMP105, TMP75, …) COUNT times: `tempmon DEVICE ADDRESS COUNT`, as in `tempmon /dev/i2c-1 0x48 100`.
//!
//! Run it as often as you like at once, and `thermostat` beside it: the driver knows nothing of that, and each of its
//! transactions has the bus to itself. Kill one of them, and the next one resets the sensor and says who died.

use std::process::ExitCode;
use std::time::Duration;

use bus::{Address, Outcome, from_driver, next};
use embedded_hal::i2c::I2c;
use linux_embedded_hal::I2cdev;
use lm75::Lm75;
use resourcelock::Timeout;
use resourcelock::hal::LockedI2c;

/// How long the sensor is left alone between two looks: it measures no faster.
const PAUSE: Duration = Duration::from_millis(10);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("tempmon: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome {
    const USAGE: &str = "tempmon DEVICE ADDRESS COUNT";
    let mut words = std::env::args().skip(1);
    let device: String = next(&mut words, USAGE)?;
    let Address(address) = next(&mut words, USAGE)?;
    let count: u32 = next(&mut words, USAGE)?;

    let i2c = I2cdev::new(&device).map_err(|error| format!("{device}: {error}"))?;
    // This is all that sharing the bus takes.
    let i2c = LockedI2c::for_device(&device, i2c)
        .map_err(|error| format!("{device}: {error}"))?
        .timeout(Timeout::from_secs(5))
        .info("reads the temperature")
        .reset_on_recovery(|i2c, dead| {
            let who = dead.map_or("a process".into(), |dead| format!("{} (pid {})", dead.program(), dead.pid()));
            println!("recovered: {who} died holding the bus");
            // Back to the temperature register, wherever the sensor was pointed at.
            i2c.write(address, &[0])
        });
    let mut sensor = Lm75::new(i2c, address);

    for reading in 1..=count {
        let celsius = sensor.read_temperature().map_err(from_driver("reading the temperature"))?;
        println!("{reading}: {celsius} C");
        std::thread::sleep(PAUSE);
    }
    Ok(())
}
