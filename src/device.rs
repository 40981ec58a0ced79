//! What the lock of a device is called, so that programs of different authors meet.
//!
//! The convention: **the lock of a device has the name that the kernel gives the device.** `i2c-1` for `/dev/i2c-1`,
//! `spidev0.1` for `/dev/spidev0.1`, `ttyS0`, `ttyUSB0`, `ttyACM0`, `gpiochip0` and so on, by whatever path a program
//! reaches it: [`crate::ResourceLock::name_for_device`] says how.
//!
//! - The kernel's name and not the path's, because udev's links and hand-made device files give one device many paths.
//! - Without a prefix, because kernel names are as good as unique, and a person who sees `/dev/ttyS0` should not have to
//!   look up what to say to the command line. Should two devices share a name after all, programs wait for each other
//!   without need; no two are ever let in.
//! - An I2C bus has one lock, not one per device on it: a mux, a general call or a device that stretches the clock
//!   concerns everybody on the wires.
//! - An SPI device has one of its own, not one per bus: the kernel keeps whole what it sends under one chip select, so
//!   the other chips of the bus are not concerned by a sequence with this one. Chips whose select line the kernel does
//!   not know (a GPIO that the program moves itself) share wires *and* the spidev device, hence also its lock.
//! - Behind a mux that the kernel drives (`i2c-mux`), each channel is a bus with a number, hence a name, of its own.
//!
//! Nothing here outlives the call, and nothing is opened, so a crash leaves nothing behind.

use core::ffi::CStr;
use core::fmt;
use core::ops::Deref;

use heapless::String;

use crate::error::{DeviceError, Error};
use crate::name::{self, DEVICE_PATH_CAPACITY, NAME_CAPACITY, decimal};
use crate::sys::device::{self, Number};

/// A lock's name, as text of its own. It dereferences to `str`.
#[derive(Clone, PartialEq, Eq)]
pub struct LockName(String<NAME_CAPACITY>);

impl LockName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for LockName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for LockName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for LockName {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl PartialEq<&str> for LockName {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

impl fmt::Display for LockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for LockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A link in /sys has some 100 bytes; a path is at most this long by the kernel's PATH_MAX.
const LINK_CAPACITY: usize = 4096;

pub(crate) fn lock_name(path: &str) -> Result<LockName, Error> {
    let invalid = Error::DeviceInvalid(DeviceError::PathInvalid);
    let mut terminated = String::<{ DEVICE_PATH_CAPACITY + 1 }>::new();
    terminated.push_str(path).and_then(|()| terminated.push('\0')).map_err(|()| invalid)?;
    let c_path = CStr::from_bytes_with_nul(terminated.as_bytes()).map_err(|_| invalid)?;
    if c_path.is_empty() {
        return Err(invalid);
    }
    let number = device::number(c_path)?;
    let mut buffer = [0; LINK_CAPACITY];
    // The kernel's own word first; the rules that are as old as the numbers, where /sys is not mounted; and the path
    // last, because an alias made by mknod has another.
    device::link_of(number, &mut buffer)
        .and_then(last_component)
        .or_else(|| by_number(number))
        .or_else(|| device::resolve(c_path, &mut buffer).and_then(last_component))
        .ok_or(Error::DeviceInvalid(DeviceError::Nameless))
}

/// The last component of a path, if a lock can be called so.
fn last_component(path: &[u8]) -> Option<LockName> {
    let component = path.rsplit(|&byte| byte == b'/').next()?;
    name::validate(core::str::from_utf8(component).ok()?).ok().map(LockName)
}

/// The name of a device whose number tells it ([devices.txt]). Those of SPI, GPIO and others are given out as they come.
///
/// [devices.txt]: https://docs.kernel.org/admin-guide/devices.html
fn by_number(Number { major, minor }: Number) -> Option<LockName> {
    let (prefix, number) = match (major, minor) {
        (4, 64..=255) => ("ttyS", minor - 64),
        (89, _) => ("i2c-", minor),
        (166, _) => ("ttyACM", minor),
        (188, _) => ("ttyUSB", minor),
        (204, 64..=79) => ("ttyAMA", minor - 64),
        _ => return None,
    };
    let mut name = String::new();
    name.push_str(prefix).ok()?;
    name.push_str(&decimal(number)).ok()?;
    Some(LockName(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(major: u32, minor: u32) -> Option<LockName> {
        by_number(Number { major, minor })
    }

    #[test]
    fn old_numbers_tell_the_name() {
        assert_eq!(named(89, 1).unwrap(), "i2c-1");
        assert_eq!(named(89, 1_048_575).unwrap(), "i2c-1048575");
        assert_eq!(named(4, 64).unwrap(), "ttyS0");
        assert_eq!(named(4, 63), None, "a virtual console");
        assert_eq!(named(204, 64).unwrap(), "ttyAMA0");
        assert_eq!(named(153, 0), None, "SPI numbers are given out as they come");
    }

    #[test]
    fn the_last_component_must_be_a_name() {
        let of = |path: &str| last_component(path.as_bytes());
        assert_eq!(of("../../devices/platform/soc/fe804000.i2c/i2c-1/i2c-dev/i2c-1").unwrap(), "i2c-1");
        assert_eq!(of("/dev/spidev0.1").unwrap(), "spidev0.1");
        assert_eq!(of("null").unwrap(), "null");
        assert_eq!(of("/dev/"), None);
        assert_eq!(of("/dev/.."), None);
        assert_eq!(of(""), None);
        assert_eq!(last_component(b"/dev/\xff"), None);
    }
}
