//! A mapped file of zeros, for the peers that live in shared memory.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::time::Duration;

use super::{Lock, Open, Site};

const SIZE: usize = 4096;

pub(super) struct Mapped(*mut u8);

impl Mapped {
    pub(super) fn open(site: &Site) -> Self {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(site.file());
        let file = file.expect("the file opens");
        // No effect if the file has this size already.
        file.set_len(SIZE as u64).expect("the file can grow");
        Self::map(&file)
    }

    fn map(file: &File) -> Self {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let address =
            unsafe { libc::mmap(std::ptr::null_mut(), SIZE, protection, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        assert_ne!(address, libc::MAP_FAILED, "mmap: {}", std::io::Error::last_os_error());
        Self(address.cast())
    }

    /// Returns the address of the memory: page-aligned, [`SIZE`] bytes, valid as long as `self`.
    pub(super) fn address(&self) -> *mut u8 {
        self.0
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the mapping of `open`, whose users hold `self`.
        unsafe { libc::munmap(self.0.cast(), SIZE) };
    }
}

/// Not a lock: a page that is mapped and written once. It is the minimum of opening a lock in shared memory.
pub(super) struct Page {
    // Unmapped first, then closed.
    _mapping: Mapped,
    _file: File,
}

impl Open for Page {
    fn prepare(site: &Site) {
        drop(Mapped::open(site));
    }

    fn open(site: &Site) -> Self {
        let file = OpenOptions::new().read(true).write(true).open(site.file()).expect("the file opens");
        // SAFETY: all zeros is valid for the structure that the call fills.
        let mut stat: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: an open descriptor; fills in a local structure.
        assert_eq!(unsafe { libc::fstat(file.as_raw_fd(), &mut stat) }, 0);
        assert_eq!(stat.st_size, SIZE as libc::off_t);
        let mapping = Mapped::map(&file);
        // SAFETY: mapped memory.
        unsafe { mapping.address().write_volatile(1) };
        Self { _mapping: mapping, _file: file }
    }
}

impl Lock for Page {
    fn hold(&mut self, _: Duration, work: &mut dyn FnMut()) -> bool {
        work();
        true
    }
}
