//! Reads an LM75 behind each of some channels of a TCA9548A: `mux DEVICE ADDRESS CHANNEL...`, where ADDRESS is the
//! sensors', as in `mux /dev/i2c-1 0x48 0 1 5`. The mux is at 0x70.
//!
//! To select a channel and to read behind it are two transactions. The kernel keeps each of them whole, and still another
//! program could select another channel in between. In a session it cannot.

use std::process::ExitCode;

use bus::{Address, Outcome, from_driver, next};
use embedded_hal::i2c::I2c;
use linux_embedded_hal::I2cdev;
use lm75::Lm75;
use resourcelock::Timeout;
use resourcelock::hal::LockedI2c;
use xca9548a::{SlaveAddr, Xca9548a};

const MUX: u8 = 0x70;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("mux: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome {
    const USAGE: &str = "mux DEVICE ADDRESS CHANNEL...";
    let mut words = std::env::args().skip(1).peekable();
    let device: String = next(&mut words, USAGE)?;
    let Address(address) = next(&mut words, USAGE)?;

    let i2c = I2cdev::new(&device).map_err(|error| format!("{device}: {error}"))?;
    let mut i2c = LockedI2c::for_device(&device, i2c)
        .map_err(|error| format!("{device}: {error}"))?
        .timeout(Timeout::from_secs(5))
        .info("reads behind the mux")
        // Whoever died may have left a channel selected, behind which an address answers that should not.
        .reset_on_recovery(|i2c, _dead| i2c.write(MUX, &[0]));

    while words.peek().is_some() {
        let channel: u8 = next(&mut words, USAGE)?;
        if channel > 7 {
            return Err(format!("there is no channel {channel}; a TCA9548A has 0 to 7"));
        }
        let mut session = i2c.session().map_err(|error| error.to_string())?;
        // The mux's driver is made anew in each session: it remembers what it has selected, and between two sessions
        // others select what they need.
        let mut mux = Xca9548a::new(&mut session, SlaveAddr::default());
        mux.select_channels(1 << channel).map_err(from_driver("selecting the channel"))?;
        let celsius = Lm75::new(mux, address).read_temperature().map_err(from_driver("reading the temperature"))?;
        session.end().map_err(|error| error.to_string())?;
        println!("channel {channel}: {celsius} C");
    }
    Ok(())
}
