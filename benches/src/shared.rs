//! Memory that a process shares with the children that it forks.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};

use crate::process::nap;

/// Numbers that are initially zero.
pub(crate) struct Shared {
    address: *mut AtomicU64,
    len: usize,
}

impl Shared {
    pub(crate) fn new(len: usize) -> Self {
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len * size_of::<AtomicU64>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(address, libc::MAP_FAILED, "no memory to share");
        Self { address: address.cast(), len }
    }

    fn cells(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is that long, lives as long as `self`, and any value is valid.
        unsafe { std::slice::from_raw_parts(self.address, self.len) }
    }

    pub(crate) fn get(&self, index: usize) -> u64 {
        // Acquire: pairs with the Release in `set`.
        self.cells()[index].load(Ordering::Acquire)
    }

    pub(crate) fn set(&self, index: usize, value: u64) {
        // Release: pairs with the Acquire in `get`.
        self.cells()[index].store(value, Ordering::Release);
    }

    /// Polls, with short sleeps, until the number is at least `value`.
    pub(crate) fn wait_for(&self, index: usize, value: u64) {
        self.poll(index, value, 20_000);
    }

    /// As [`wait_for`](Self::wait_for), but polls every 10 ms only, for hundreds of processes that wait at once.
    pub(crate) fn wait_slowly_for(&self, index: usize, value: u64) {
        self.poll(index, value, 10_000_000);
    }

    fn poll(&self, index: usize, value: u64, every_ns: u64) {
        while self.get(index) < value {
            nap(every_ns);
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`; no reference into it outlives `self`.
        unsafe { libc::munmap(self.address.cast(), self.len * size_of::<AtomicU64>()) };
    }
}
