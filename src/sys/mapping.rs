//! The record in this process's memory.
//!
//! Invariant: the record that a thread has found stays mapped where it is while its successors are attached to, so a thread
//! that was preempted finds the retired word there and not the successor's, which may be equal (ABA). Memory never goes away
//! while the [`Mapping`] lasts. The kernel lets a process have 65530 mappings, so only the last [`KEPT`] records are kept.
//!
//! The mapping uses another open file description than the seat: forked children inherit it, and it must not keep the
//! parent's seat alive.
#![allow(unsafe_code)]

use core::mem::transmute;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use rustix::fd::BorrowedFd;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::error::{Error, Operation};
use crate::record::{RECORD_SIZE, Record};

/// How many records that were replaced stay mapped.
const KEPT: usize = 16;

/// A record in this process's memory, and the retired ones before it.
pub(crate) struct Mapping {
    current: AtomicPtr<Record>,
    /// Null where there is none yet.
    earlier: [AtomicPtr<Record>; KEPT],
    /// How often the record was replaced.
    replacements: AtomicU32,
}

impl Mapping {
    /// Maps the first [`RECORD_SIZE`] bytes of the file.
    ///
    /// A page may be larger: the kernel maps whole pages, with zeros after the end of the file, and the same length at
    /// the same address is the same pages (mmap(2)).
    pub(crate) fn new(fd: BorrowedFd<'_>) -> Result<Self, Error> {
        // SAFETY: the kernel chooses a free address.
        let mapped = unsafe { mmap(null_mut(), RECORD_SIZE, READ_WRITE, MapFlags::SHARED, fd, 0) };
        let mapped = mapped.map_err(|errno| Error::os(Operation::Map, errno))?;
        Ok(Self {
            current: AtomicPtr::new(mapped.cast()),
            earlier: Default::default(),
            replacements: AtomicU32::new(0),
        })
    }

    /// Maps another file, and makes it the current one. One thread at a time does this.
    pub(crate) fn replace(&self, fd: BorrowedFd<'_>) -> Result<(), Error> {
        let replacements = self.replacements.load(Ordering::Relaxed);
        let slot = &self.earlier[replacements as usize % KEPT];
        let oldest = slot.load(Ordering::Relaxed);
        let flags = if oldest.is_null() { MapFlags::SHARED } else { MapFlags::SHARED | MapFlags::FIXED };
        // SAFETY: at an address of the kernel's choice, or exactly at that of the oldest mapping, which was made with the
        // same length and is replaced by memory of the same kind: atomics for which every bit pattern is valid. References
        // into it stay valid throughout, because the replacement is one step.
        let mapped = unsafe { mmap(oldest.cast(), RECORD_SIZE, READ_WRITE, flags, fd, 0) };
        let mapped = mapped.map_err(|errno| Error::os(Operation::Map, errno))?;
        // Release: pairs with the Acquire in `record`.
        slot.store(self.current.swap(mapped.cast(), Ordering::Release), Ordering::Relaxed);
        self.replacements.store(replacements.wrapping_add(1), Ordering::Relaxed);
        Ok(())
    }

    /// The current record.
    #[inline]
    pub(crate) fn record(&self) -> &Record {
        // Acquire: pairs with the Release in `replace`, and orders what is loaded next after it: see `Region::seat`.
        let record = self.current.load(Ordering::Acquire);
        // SAFETY: the mapping is RECORD_SIZE bytes long, aligned to a page, and stays mapped as long as `self`. The
        // file had that size when it was opened; a peer with write permission that truncates it raises SIGBUS, against
        // which no program that maps shared memory is safe. `Record` is atomics only, so that other processes may write
        // to it at any time.
        unsafe { &*record }
    }
}

const READ_WRITE: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);

impl Drop for Mapping {
    fn drop(&mut self) {
        for record in self.earlier.iter_mut().chain([&mut self.current]).map(|record| *record.get_mut()) {
            if !record.is_null() {
                // SAFETY: the range is this mapping's, and no reference outlives `self`. An error would only leak it.
                let _ = unsafe { munmap(record.cast(), RECORD_SIZE) };
            }
        }
    }
}

/// A copy of a record, from bytes that were read from its file.
pub(crate) fn record_of(bytes: [u8; RECORD_SIZE]) -> Record {
    // SAFETY: the sizes agree, or this would not compile, and a `Record` is integers for which every bit pattern is valid.
    unsafe { transmute::<[u8; RECORD_SIZE], Record>(bytes) }
}
