//! Buses of [embedded-hal] 1.0 that programs share: wrap the bus, and every driver on it takes the lock.
//!
//! A driver from crates.io does not know of other programs. [`LockedI2c`] and [`LockedSpiDevice`] implement the trait that
//! it asks for, and hold the lock during each transaction. What is only right as several transactions goes into a session,
//! which holds the lock over all of them.
//!
//! # Which sharing, when
//!
//! | who shares the bus | use | one transaction costs |
//! | --- | --- | --- |
//! | drivers in one thread, nobody else | embedded-hal-bus `RefCellDevice` | next to nothing |
//! | threads of one program, nobody else | embedded-hal-bus `MutexDevice` | a mutex |
//! | programs, and each transaction stands for itself | [`LockedI2c`], [`LockedSpiDevice`] | a get and an unget: no system call while nobody else wants the bus |
//! | programs, and several transactions are one | a [`session`](LockedI2c::session) | a look at the lock; the get and unget are the session's |
//! | programs, and drivers that outlive the session | embedded-hal-bus `RefCellDevice` over a [`LockedI2c`], and [`hold`](LockedI2c::hold) | the same |
//!
//! In numbers: a transaction of three bytes at 100 kHz takes the wires some 300 µs, and `examples/bus` has a program
//! `cost` that measures what the wrapper adds on your machine.
//!
//! **The kernel keeps one I2C transaction whole already**, and one SPI transaction as well. If all that your programs do
//! is single transactions that stand for themselves, they need no lock at all. As soon as one of them has a sequence, all
//! others must respect it, which is what wrapping their buses is for.
//!
//! Several drivers in one program: give each a wrapper (and an open device) of its own, which then exclude each other as
//! programs do; or one wrapper in a cell. With wrappers of their own, do not use one inside a session of another: it
//! waits for its own process, and ends in [`BusError::TimedOut`] with that process as the holder (with
//! [`Timeout::FOREVER`](crate::Timeout::FOREVER) it does not end). With one wrapper in a cell that cannot happen.
//!
//! # When not to use it
//!
//! - **A session around a loop that waits.** A conversion of 100 ms, an EEPROM that is busy, a data-ready flag: while a
//!   session polls, nobody else can use the bus. Poll without one, with a pause between two looks, so that the lock is
//!   free in between; hold only what must not be torn apart.
//! - **A loop on an error that ends only with `Ok`**, as drivers have it for a busy device: it also goes round on
//!   [`BusError::TimedOut`]. Give such a driver a short [`timeout`](LockedI2c::timeout), and look for a version that asks
//!   for the [`kind`](embedded_hal::i2c::Error::kind): of the lock's errors it is `Other`, never "not acknowledged".
//! - **Deadlines below a millisecond.** Whoever holds may be preempted, and you wait.
//! - **Async.** There is no wrapper for embedded-hal-async: a future that is dropped in the middle of a transfer would
//!   release the lock while the transfer still runs. Run the drivers in a thread of their own (`spawn_blocking`). To wait for
//!   the lock alone in an event loop, use [`Request::start`](crate::Request) (features `ring` and `std`).
//!
//! # After a recovery
//!
//! A process that is killed while it holds leaves the bus free (the kernel ends the transfer that it had begun), but maybe
//! in the middle of a sequence: a channel selected, a chip in an odd mode. The wrapper that gets the lock next is told,
//! once, and does one of three things before its transaction: it [goes on](GoOn), [reports](Report) an error, or
//! [resets](Reset). What was told is kept until it has been seen to: a transaction that times out, and a reset that fails
//! or panics, leave it for the next try.
//!
//! **Only that one is told.** If it goes on, nobody will reset, and if its reset fails and it gives up, nobody else knows.
//! So let all programs that share a bus do the same.
//!
//! # What is noticed, and what not
//!
//! A [force-release](crate::ResourceLock::force_release) inside a session is noticed before its next transaction, which is
//! then [`BusError::HoldLost`]; so is the removal of the lock's file, within 100 ms. In the middle of a transaction neither
//! is noticed. That transaction completes, alone on the wires, because the kernel serialises transactions. A driver
//! in the kernel (`lm75`, `at24`, `rtc-ds1307`) does not take part, and neither do `i2cget` and its like, except by
//! `resourcelock i2c-1 get`.
//!
//! [embedded-hal]: https://docs.rs/embedded-hal

mod error;
mod i2c;
mod locking;
mod recovery;
mod spi;

pub use error::BusError;
pub use i2c::{I2cHold, I2cSession, LockedI2c};
pub use recovery::{GoOn, Recovery, Report, Reset};
pub use spi::{LockedSpiDevice, SpiSession};
