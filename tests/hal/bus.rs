//! A simulated I2C bus in shared memory: a mux at 0x70, and behind each of its channels an LM75 at 0x48.
//!
//! The wires carry what their users put on them, byte by byte, and nobody keeps two users apart: that is the lock's job
//! here. What goes wrong without it is counted (a transaction that begins or ends while another is on the wires), and
//! has its effects: a register pointer that another has moved, a channel that another has selected.

use std::sync::atomic::{AtomicU32, Ordering};

use embedded_hal::i2c::{ErrorKind, ErrorType, I2c, NoAcknowledgeSource, Operation};

use crate::support::{Dir, Shared};

pub(crate) const MUX: u8 = 0x70;
pub(crate) const SENSOR: u8 = 0x48;

const ON_THE_WIRES: usize = 0;
const INTERLEAVED: usize = 1;
const TRANSACTIONS: usize = 2;
/// One more than the selected channel; zero: none.
const CHANNEL: usize = 3;
pub(crate) const WRONG: usize = 4;
pub(crate) const STOP: usize = 5;
const SENSORS: usize = 16;
const SENSOR_SIZE: usize = 8;

/// What all users of the bus share.
pub(crate) struct Wires(Shared);

impl Wires {
    pub(crate) fn new(dir: &Dir) -> Self {
        let wires = Self(Shared::new(dir));
        for channel in 0..8 {
            wires.register(channel, 0).store(u32::from(celsius(channel)) << 8, Ordering::SeqCst);
            wires.register(channel, 3).store(80 << 8, Ordering::SeqCst);
        }
        wires
    }

    pub(crate) fn count(&self, index: usize) -> &AtomicU32 {
        self.0.word(index)
    }

    pub(crate) fn interleaved(&self) -> u32 {
        self.count(INTERLEAVED).load(Ordering::SeqCst)
    }

    pub(crate) fn transactions(&self) -> u32 {
        self.count(TRANSACTIONS).load(Ordering::SeqCst)
    }

    /// The channel that the mux has selected.
    pub(crate) fn channel(&self) -> Option<u8> {
        (self.count(CHANNEL).load(Ordering::SeqCst) as u8).checked_sub(1)
    }

    pub(crate) fn bus(&self) -> SimulatedBus<'_> {
        SimulatedBus { wires: self, me: std::process::id() }
    }

    /// Registers of 16 bits: temperature, configuration, hysteresis, limit.
    fn register(&self, channel: u8, register: u32) -> &AtomicU32 {
        self.0.word(SENSORS + usize::from(channel) * SENSOR_SIZE + 1 + register as usize % 4)
    }

    fn pointer(&self, channel: u8) -> &AtomicU32 {
        self.0.word(SENSORS + usize::from(channel) * SENSOR_SIZE)
    }
}

/// What the sensor of a channel measures.
pub(crate) fn celsius(channel: u8) -> u8 {
    20 + channel
}

/// A process's access to the wires.
pub(crate) struct SimulatedBus<'a> {
    wires: &'a Wires,
    me: u32,
}

impl SimulatedBus<'_> {
    /// A byte takes its time, in which others may run.
    fn byte_time() {
        std::thread::yield_now();
    }

    fn carry_to(&self, address: u8, bytes: &[u8]) -> Result<(), ErrorKind> {
        match (address, self.wires.channel()) {
            (MUX, _) => {
                for &mask in bytes {
                    Self::byte_time();
                    let selected = if mask == 0 { 0 } else { mask.trailing_zeros() + 1 };
                    self.wires.count(CHANNEL).store(selected, Ordering::SeqCst);
                }
            }
            (SENSOR, Some(channel)) => {
                for (index, &byte) in bytes.iter().enumerate() {
                    Self::byte_time();
                    let pointer = self.wires.pointer(channel);
                    let register = self.wires.register(channel, pointer.load(Ordering::SeqCst));
                    match index {
                        0 => pointer.store(u32::from(byte), Ordering::SeqCst),
                        1 => register.store(u32::from(byte) << 8, Ordering::SeqCst),
                        _ => register.store(register.load(Ordering::SeqCst) | u32::from(byte), Ordering::SeqCst),
                    }
                }
            }
            _ => return Err(ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address)),
        }
        Ok(())
    }

    fn carry_from(&self, address: u8, bytes: &mut [u8]) -> Result<(), ErrorKind> {
        let (SENSOR, Some(channel)) = (address, self.wires.channel()) else {
            return Err(ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address));
        };
        for (index, byte) in bytes.iter_mut().enumerate() {
            Self::byte_time();
            let pointer = self.wires.pointer(channel).load(Ordering::SeqCst);
            *byte =
                (self.wires.register(channel, pointer).load(Ordering::SeqCst) >> (8 - 8 * (index as u32 % 2))) as u8;
        }
        Ok(())
    }
}

impl ErrorType for SimulatedBus<'_> {
    type Error = ErrorKind;
}

impl I2c for SimulatedBus<'_> {
    fn transaction(&mut self, address: u8, operations: &mut [Operation<'_>]) -> Result<(), ErrorKind> {
        let on_the_wires = self.wires.count(ON_THE_WIRES);
        let mut interleaved = on_the_wires.swap(self.me, Ordering::SeqCst) != 0;
        let outcome = operations.iter_mut().try_for_each(|operation| match operation {
            Operation::Write(bytes) => self.carry_to(address, bytes),
            Operation::Read(bytes) => self.carry_from(address, bytes),
        });
        interleaved |= on_the_wires.swap(0, Ordering::SeqCst) != self.me;
        self.wires.count(INTERLEAVED).fetch_add(interleaved.into(), Ordering::SeqCst);
        self.wires.count(TRANSACTIONS).fetch_add(1, Ordering::SeqCst);
        outcome
    }
}
