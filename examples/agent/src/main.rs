//! The smallest program that shares a lock: static, without a heap and without libc.
//!
//! ```text
//! agent [LOCK [DEVICE [ADDRESS [REGISTER [LENGTH [ROUNDS [INTERVAL]]]]]]]
//! ```
//!
//! Acquires the lock LOCK (default `i2c-1`), reads LENGTH bytes (2) of register REGISTER (0) from the device at ADDRESS
//! (0x48) of the bus DEVICE (`/dev/i2c-1`), releases the lock, prints what it read, and sleeps for INTERVAL milliseconds
//! (1000): ROUNDS times, or without end (0). A DEVICE of `-` stands for none: a test without a bus.
//!
//! The exit status is 0 if every round read something, 1 if one did not, 2 if the lock or the bus could not be opened,
//! or if an argument is not a number.
//!
//! It is also the proof that the crate needs neither heap nor libc: there is nothing here to link them from, so a single
//! call of an allocator or of a C function would be an undefined symbol.
#![no_std]
#![no_main]

use core::ffi::CStr;

use resourcelock::{LockError, ResourceLock, Timeout};
use rustix::io::write;
use rustix::thread::nanosleep;
use rustix::time::Timespec;

use crate::i2c::Bus;
use crate::start::Arguments;

mod i2c;
mod logging;
mod start;

/// As many bytes as one line shows.
const LENGTH_CAPACITY: usize = 32;

fn main(mut arguments: Arguments) -> i32 {
    let lock = arguments.next().map_or(Some("i2c-1"), ascii);
    let device = arguments.next().unwrap_or(c"/dev/i2c-1");
    let mut number = |default| arguments.next().map_or(default, parse);
    let (address, register) = (number(0x48) as u16, number(0) as u8);
    let length = (number(2) as usize).min(LENGTH_CAPACITY);
    let (rounds, interval) = (number(0), number(1000));

    logging::init();
    let Some(Ok(lock)) = lock.map(ResourceLock::open) else { return say("the lock cannot be used", 2) };
    let bus = match device.to_bytes() {
        b"-" => None,
        _ => match Bus::open(device) {
            Ok(bus) => Some(bus),
            Err(_) => return say("the bus cannot be opened", 2),
        },
    };
    let mut status = 0;
    let mut round = 0;
    loop {
        status |= read(&lock, bus.as_ref(), address, register, length);
        round += 1;
        if round == rounds {
            return status;
        }
        let pause = Timespec { tv_sec: (interval / 1000).into(), tv_nsec: (interval % 1000 * 1_000_000) as _ };
        // A signal that does not end us may cut it short.
        let _ = nanosleep(&pause);
    }
}

/// One round.
fn read(lock: &ResourceLock, bus: Option<&Bus>, address: u16, register: u8, length: usize) -> i32 {
    let guard = match lock.lock(Timeout::DEFAULT, "agent reads") {
        Ok(guard) => guard,
        Err(LockError::TimedOut(_)) => return say("timed out", 1),
        Err(_) => return say("the lock cannot be used", 1),
    };
    // Nothing to repair here: a read leaves a device as it was.
    let recovered = guard.recovered();
    let mut answer = [0; LENGTH_CAPACITY];
    let answer = &mut answer[..length];
    let outcome = bus.map_or(Ok(()), |bus| bus.read(address, register, answer));
    drop(guard);
    if recovered {
        say("the previous holder died or was forced off", 0);
    }
    if outcome.is_err() {
        return say("the device did not answer", 1);
    }
    let mut line = [0; 2 * LENGTH_CAPACITY];
    for (digits, byte) in line.chunks_exact_mut(2).zip(&*answer) {
        digits.copy_from_slice(&[hex(byte >> 4), hex(byte & 15)]);
    }
    put(b"agent: read ");
    put(&line[..2 * length]);
    put(b"\n");
    0
}

/// A name in ASCII: to check that it is UTF-8 would take half a kilobyte.
fn ascii(name: &CStr) -> Option<&str> {
    let name = name.to_bytes();
    // SAFETY: ASCII is UTF-8.
    name.is_ascii().then(|| unsafe { core::str::from_utf8_unchecked(name) })
}

/// A number in decimal, or in hexadecimal with `0x`. Ends the program if another character is in it. Without digits, it is
/// 0; too large a number is cut to 32 bits.
fn parse(text: &CStr) -> u32 {
    let text = text.to_bytes();
    let (digits, base) = text.strip_prefix(b"0x").map_or((text, 10), |digits| (digits, 16));
    digits.iter().fold(0, |value: u32, &digit| {
        let Some(digit) = char::from(digit).to_digit(base) else { start::exit(say("not a number", 2)) };
        value.wrapping_mul(base).wrapping_add(digit)
    })
}

fn hex(digit: u8) -> u8 {
    if digit < 10 { b'0' + digit } else { b'a' - 10 + digit }
}

/// Says what happened, and gives back the exit status that goes with it.
fn say(text: &str, status: i32) -> i32 {
    put(b"agent: ");
    put(text.as_bytes());
    put(b"\n");
    status
}

fn put(text: &[u8]) {
    // SAFETY: nobody has closed standard output; if the parent did, the write fails and there is nobody to tell.
    let out = unsafe { rustix::stdio::stdout() };
    let _ = write(out, text);
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    start::exit(70)
}
