//! Reads a register of a sensor on an I2C bus that others use, too.
//!
//! ```text
//! sensor LOCK DEVICE ADDRESS REGISTER ROUNDS [HOLD]      for example: sensor i2c-1 /dev/i2c-1 0x48 0 10
//! ```
//!
//! Two transfers: one writes the number of the register, one reads the device's answer. The kernel keeps each of them
//! whole, but not the two together: without the lock, another program may write its register number in between, and the
//! answer is that of another register. HOLD is how long to keep the bus after the reading, in milliseconds.
#![allow(unsafe_code)]

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::thread::sleep;
use std::time::Duration;

use resourcelock::{ResourceLock, Timeout};

/// `I2C_SLAVE` of <linux/i2c-dev.h>: from here on, the file is about the device at this address.
const I2C_SLAVE: u32 = 0x0703;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let (lock, device, address, register, rounds, hold) = match &arguments[..] {
        [lock, device, address, register, rounds] => (lock, device, address, register, rounds, "0"),
        [lock, device, address, register, rounds, hold] => (lock, device, address, register, rounds, hold.as_str()),
        _ => return Err("usage: sensor LOCK DEVICE ADDRESS REGISTER ROUNDS [HOLD]".into()),
    };
    let address = u8::from_str_radix(address.trim_start_matches("0x"), 16)?;
    let (register, rounds, hold): (u8, u32, u64) = (register.parse()?, rounds.parse()?, hold.parse()?);

    let bus = ResourceLock::open(lock)?;
    let mut sensor = open(device, address)?;
    for round in 1..=rounds {
        let guard = bus.lock(Timeout::from_secs(10), &format!("reads register {register}, {round} of {rounds}"))?;
        if guard.recovered() {
            match guard.recovered_from() {
                Some(holder) => println!("sensor: the previous holder, pid {}, died or was forced off", holder.pid()),
                None => println!("sensor: the previous holder died or was forced off"),
            }
        }
        sensor.write_all(&[register])?;
        let mut answer = [0; 2];
        sensor.read_exact(&mut answer)?;
        println!("sensor: read {:02x}{:02x}", answer[0], answer[1]);
        sleep(Duration::from_millis(hold));
        drop(guard);
    }
    Ok(())
}

fn open(device: &str, address: u8) -> Result<File, Box<dyn Error>> {
    let file = OpenOptions::new().read(true).write(true).open(device)?;
    // The type of the request differs between C libraries.
    #[allow(clippy::cast_lossless)]
    // SAFETY: the call takes a number and touches no memory of ours.
    let outcome = unsafe { libc::ioctl(file.as_raw_fd(), I2C_SLAVE as _, libc::c_ulong::from(address)) };
    if outcome < 0 { Err(std::io::Error::last_os_error().into()) } else { Ok(file) }
}
