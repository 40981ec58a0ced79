//! The smallest program that shares a lock: static, without a heap and without libc.
//!
//! It is also the proof that the crate needs neither: there is nothing here to link them from, so a single call of an
//! allocator or of a C function would be an undefined symbol. `agent [NAME]` gets the lock (`i2c-1` if no name is
//! given), says so, and ungets it; the exit status is 0, 1 if it timed out, or 2 if the lock could not be used.
#![no_std]
#![no_main]

use core::ffi::CStr;

use resourcelock::{Error, ResourceLock, Timeout};

mod start;

/// Runs the agent on the lock that the first argument names.
fn main(name: Option<&CStr>) -> i32 {
    let name = name.map_or(Ok("i2c-1"), CStr::to_str).unwrap_or("");
    match work(name) {
        Ok(true) => {
            say(b"agent: read the sensor under the lock\n");
            0
        }
        Ok(false) => {
            say(b"agent: timed out\n");
            1
        }
        Err(_) => {
            say(b"agent: the lock cannot be used\n");
            2
        }
    }
}

fn work(name: &str) -> Result<bool, Error> {
    let lock = ResourceLock::open(name)?;
    let granted = lock.get_lock(Timeout::from_secs(1), false, "agent")?;
    if granted {
        lock.unget_lock(false, "agent");
    }
    Ok(granted)
}

fn say(text: &[u8]) {
    // SAFETY: nobody has closed standard output; if the parent did, the write fails and there is nobody to tell.
    let out = unsafe { rustix::stdio::stdout() };
    let _ = rustix::io::write(out, text);
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    start::exit(70)
}
