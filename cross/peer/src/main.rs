//! A process of another bitness, for tests/bitness.rs: reads commands, one per line, and carries them out on a lock.
//!
//! `peer DIRECTORY LOCK SHARED`; SHARED is a file whose first word is a counter that only the lock protects.
//!
//! | command | action | answer |
//! | --- | --- | --- |
//! | `count N` | N times: acquires the lock, adds one to the counter, releases | `counted` |
//! | `get INFO` | acquires the lock, waiting up to a minute | `granted`, `recovered PID` or `timed out` |
//! | `try INFO` | the same without waiting | the same |
//! | `release` | releases the lock | `released` or `not held` |
//! | `info` | reads the newest grant | the lock info |
//!
//! It ends with its input. An unknown command, or an error, ends it with a panic: an illegal instruction.
#![no_std]
#![no_main]

use core::ffi::CStr;
use core::fmt::Write;
use core::ptr::null_mut;

use heapless::{String, Vec};
use resourcelock::{LockError, ResourceLock, Timeout};
use rustix::fs::{Mode, OFlags, open};
use rustix::mm::{MapFlags, ProtFlags, mmap};

use crate::start::Arguments;

#[path = "../../../examples/agent/src/start.rs"]
mod start;

const WORK: u32 = 100;

type Line = String<256>;

fn main(mut arguments: Arguments) -> i32 {
    let mut argument = || arguments.next().expect("three arguments");
    let text = |argument: &'static CStr| argument.to_str().expect("UTF-8");
    let (dir, name) = (text(argument()), text(argument()));
    let counter = map(argument());
    let lock = ResourceLock::options().dir(dir).open(name).expect("a lock");
    while let Some(input) = read_line() {
        let (command, rest) = input.split_once(' ').unwrap_or((&input, ""));
        match command {
            "count" => {
                count(&lock, counter, rest.parse().expect("a number"));
                say(format_args!("counted"));
            }
            "get" => get(&lock, Timeout::from_secs(60), rest),
            "try" => get(&lock, Timeout::ZERO, rest),
            "release" => say(format_args!("{}", if lock.release() { "released" } else { "not held" })),
            "info" => say(format_args!("{}", lock.info())),
            _ => panic!(),
        }
    }
    0
}

fn get(lock: &ResourceLock, timeout: Timeout, info: &str) {
    let guard = match lock.lock(timeout, info) {
        Ok(guard) => guard,
        Err(LockError::TimedOut(_)) => return say(format_args!("timed out")),
        Err(error) => panic!("{error}"),
    };
    match guard.recovered_from() {
        Some(dead) => say(format_args!("recovered {}", dead.pid())),
        None => say(format_args!("granted")),
    }
    guard.keep();
}

/// Adds as a program would that relies on a lock: reads, then writes.
fn count(lock: &ResourceLock, counter: *mut u32, rounds: u32) {
    for _ in 0..rounds {
        let guard = lock.lock(Timeout::from_secs(60), "counts").expect("a usable lock");
        // SAFETY: within the mapping, which stays. That no other process writes in between is up to the lock.
        let value = unsafe { counter.read_volatile() };
        // Long enough for the others to contend.
        (0..WORK).for_each(|_| core::hint::spin_loop());
        // SAFETY: as above.
        unsafe { counter.write_volatile(value + 1) };
        assert!(guard.release());
    }
}

fn map(path: &CStr) -> *mut u32 {
    let file = open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).expect("the shared file");
    // SAFETY: a new mapping, at an address of the kernel's choice.
    unsafe { mmap(null_mut(), 4096, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, file, 0) }
        .expect("memory")
        .cast()
}

/// Reads up to the end of a line, byte by byte: there is no hurry. `None` at the end of the input.
fn read_line() -> Option<Line> {
    // SAFETY: nobody here closes standard input.
    let input = unsafe { rustix::stdio::stdin() };
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        match rustix::io::read(input, &mut byte) {
            Ok(1) if byte[0] == b'\n' => return Some(String::from_utf8(line).expect("UTF-8")),
            Ok(1) => line.push(byte[0]).expect("a short line"),
            _ => return None,
        }
    }
}

fn say(text: core::fmt::Arguments<'_>) {
    // SAFETY: nobody here closes standard output.
    let out = unsafe { rustix::stdio::stdout() };
    let mut line = Line::new();
    writeln!(line, "{text}").expect("a short line");
    rustix::io::write(out, line.as_bytes()).expect("somebody who listens");
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    start::exit(70)
}
