//! Reading a register of a device on an I2C bus: one transfer of two messages, by `/dev/i2c-N` ([i2c-dev]).
//!
//! [i2c-dev]: https://docs.kernel.org/i2c/dev-interface.html

use core::ffi::{CStr, c_void};

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Result;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl};

/// A bus.
pub struct Bus(OwnedFd);

impl Bus {
    pub fn open(path: &CStr) -> Result<Self> {
        open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map(Self)
    }

    /// Writes the number of the register to the device and reads what it answers, without a stop in between.
    pub fn read(&self, address: u16, register: u8, answer: &mut [u8]) -> Result<()> {
        let mut register = register;
        let mut messages = [
            Message { address, flags: 0, len: 1, buffer: &raw mut register },
            Message { address, flags: Message::READ, len: answer.len() as u16, buffer: answer.as_mut_ptr() },
        ];
        let transfer = Transfer { messages: messages.as_mut_ptr(), count: messages.len() as u32 };
        // SAFETY: `Transfer` describes the call as <linux/i2c-dev.h> does; the buffers outlive it.
        unsafe { ioctl(&self.0, transfer) }
    }
}

/// `struct i2c_msg`.
#[repr(C)]
struct Message {
    address: u16,
    flags: u16,
    len: u16,
    buffer: *mut u8,
}

impl Message {
    /// `I2C_M_RD`.
    const READ: u16 = 1;
}

/// `struct i2c_rdwr_ioctl_data`.
#[repr(C)]
struct Transfer {
    messages: *mut Message,
    count: u32,
}

// SAFETY: I2C_RDWR reads this structure and the messages that it points to, and writes to the buffers of those that
// read.
unsafe impl Ioctl for Transfer {
    type Output = ();

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        0x0707
    }

    fn as_ptr(&mut self) -> *mut c_void {
        (&raw mut *self).cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> Result<()> {
        Ok(())
    }
}
