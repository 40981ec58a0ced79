//! What the kernel says of a device file: its number, and what the kernel itself calls the device.

use core::ffi::CStr;

use heapless::String;
use rustix::fd::AsRawFd;
use rustix::fs::{CWD, FileType, Mode, OFlags, major, minor, open, readlinkat_raw, stat};
use rustix::io::Errno;

use crate::error::{DeviceError, Error, Operation};
use crate::name::decimal;

/// The number of a character device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Number {
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

/// The number of the character device that `path` leads to. Nothing is opened: some devices do things when they are.
pub(crate) fn number(path: &CStr) -> Result<Number, Error> {
    let stat = stat(path).map_err(|errno| match errno {
        Errno::NOENT | Errno::NOTDIR => Error::DeviceInvalid(DeviceError::NotFound),
        Errno::ACCESS => Error::DeviceInvalid(DeviceError::PermissionDenied),
        _ => Error::os(Operation::FindDevice, errno),
    })?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice {
        return Err(Error::DeviceInvalid(DeviceError::NotACharacterDevice));
    }
    Ok(Number { major: major(stat.st_rdev), minor: minor(stat.st_rdev) })
}

/// The link in /sys from a device's number to its place in the kernel's tree of devices. `None` without /sys, or where
/// the kernel has no such device.
pub(crate) fn link_of(number: Number, buffer: &mut [u8]) -> Option<&[u8]> {
    let mut path = String::<40>::new();
    path.push_str("/sys/dev/char/").ok()?;
    path.push_str(&decimal(number.major)).ok()?;
    path.push(':').ok()?;
    path.push_str(&decimal(number.minor)).ok()?;
    path.push('\0').ok()?;
    read_link(&path, buffer)
}

/// Where `path` leads to when all links are followed. `None` without /proc.
pub(crate) fn resolve<'a>(path: &CStr, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    // O_PATH: the file is found, not opened.
    let fd = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut own = String::<32>::new();
    own.push_str("/proc/self/fd/").ok()?;
    own.push_str(&decimal(fd.as_raw_fd().unsigned_abs())).ok()?;
    own.push('\0').ok()?;
    read_link(&own, buffer)
}

/// `None` also if the link is longer than the buffer.
fn read_link<'a>(path: &str, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    let path = CStr::from_bytes_with_nul(path.as_bytes()).ok()?;
    let len = readlinkat_raw(CWD, path, &mut *buffer).ok()?;
    if len < buffer.len() { buffer.get(..len) } else { None }
}
