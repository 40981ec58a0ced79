//! A file of zeros, mapped: for the peers that want memory to be in.
#![allow(unsafe_code)]

use std::fs::OpenOptions;
use std::os::fd::AsRawFd;

use super::Site;

const SIZE: usize = 4096;

pub(super) struct Mapped(*mut u8);

impl Mapped {
    pub(super) fn open(site: &Site) -> Self {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(site.file());
        let file = file.expect("a file");
        // A no-op where it has that size.
        file.set_len(SIZE as u64).expect("space");
        // SAFETY: a new mapping, at an address of the kernel's choice.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                SIZE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        assert_ne!(address, libc::MAP_FAILED, "mmap: {}", std::io::Error::last_os_error());
        Self(address.cast())
    }

    /// The memory: page-aligned, [`SIZE`] bytes, valid as long as `self`.
    pub(super) fn address(&self) -> *mut u8 {
        self.0
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `open`; its users hold `self`.
        unsafe { libc::munmap(self.0.cast(), SIZE) };
    }
}
