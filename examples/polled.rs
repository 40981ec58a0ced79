//! A lock that is awaited: a request is polled by tokio's event loop, and the loop serves other tasks meanwhile.
//!
//! `cargo run --features ring,std --example polled`

#![allow(unsafe_code)]

use std::error::Error;
use std::time::Duration;

use resourcelock::{Guard, LockError, ResourceLock, Timeout};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Waits for the lock without blocking the thread. Dropping the future gives the request up.
async fn acquire<'a>(lock: &'a ResourceLock, info: &'a str) -> Result<Guard<'a>, Box<dyn Error>> {
    let request = lock.request(info).timeout(Timeout::FOREVER).start()?;
    // SAFETY: a request has one descriptor, which is open as long as the request lives.
    let mut polled =
        unsafe { AsyncFd::register_with_interest(request, Interest::READABLE) }.map_err(|error| error.to_string())?;
    loop {
        if let Some(guard) = polled.get_mut().poll()? {
            return Ok(guard);
        }
        // Cleared before the next look: what happens in between makes it readable again.
        polled.readable().await?.clear_ready();
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let (holder, lock) = (ResourceLock::open("polled-example")?, ResourceLock::open("polled-example")?);
    let guard = holder.try_lock("at work")?;
    let release = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        println!("released");
        drop(guard);
    };
    let ticks = async {
        for tick in 1..=4 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            println!("tick {tick}: the event loop runs");
        }
    };
    let (granted, (), ()) = tokio::join!(acquire(&lock, "awaits its turn"), release, ticks);
    match granted {
        Ok(guard) => println!("granted, number {}", guard.number()),
        // Before Linux 6.7, or in a sandbox that forbids io_uring: wait in a thread.
        Err(error) if error.downcast_ref() == Some(&LockError::Failed(resourcelock::Error::NoRing)) => {
            println!("not here: {error}");
        }
        Err(error) => return Err(error),
    }
    lock.remove(true)?;
    Ok(())
}
