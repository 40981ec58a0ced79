//! [`LockedSpiDevice`]: an SPI device that is locked during each transaction.

use core::fmt;

use embedded_hal::spi::{ErrorType, Operation, SpiDevice};

use super::locking::Locking;
use super::{BusError, GoOn, Recovery, Report, Reset};
use crate::error::Error;
use crate::grant::Grant;
use crate::lock::ResourceLock;
use crate::timeout::Timeout;

/// An SPI device whose every transaction holds a lock. See the [module](super) for when to use it.
///
/// The kernel keeps one transaction whole by itself (it is one message). The lock is for the sequences of a
/// [`session`](Self::session), which are whole only if everybody else's transactions respect it.
///
/// ```
/// # fn main() -> Result<(), resourcelock::hal::BusError<embedded_hal::spi::ErrorKind>> {
/// # use embedded_hal_mock::eh1::spi::{Mock, Transaction};
/// # let spi = Mock::new(&[
/// #     Transaction::transaction_start(), Transaction::write_vec(vec![6]), Transaction::transaction_end(),
/// #     Transaction::transaction_start(), Transaction::write_vec(vec![2, 0, 0, 0, 42]), Transaction::transaction_end(),
/// # ]);
/// # let mut done = spi.clone();
/// # let path = "/dev/null";
/// use embedded_hal::spi::SpiDevice;
/// use resourcelock::hal::LockedSpiDevice;
///
/// // let (path, spi) = ("/dev/spidev0.1", SpidevDevice::open("/dev/spidev0.1")?);
/// let mut flash = LockedSpiDevice::for_device(path, spi)?.info("writes the log");
/// let mut session = flash.session()?;
/// session.write(&[0x06])?; // write enable
/// session.write(&[0x02, 0, 0, 0, 42])?; // page program
/// session.end()?;
/// # done.done();
/// # Ok(())
/// # }
/// ```
pub struct LockedSpiDevice<DEV, R = GoOn> {
    device: DEV,
    locking: Locking<R>,
}

impl<DEV> LockedSpiDevice<DEV> {
    /// Locks `device` by `lock`: with [`Timeout::DEFAULT`], an empty info, and [going on](GoOn) after a recovery.
    ///
    /// The handle becomes the wrapper's own. Two wrappers have two handles, and exclude each other as two processes do.
    pub fn new(device: DEV, lock: ResourceLock) -> Self {
        Self { device, locking: Locking::new(lock) }
    }

    /// Locks `device` by the lock of the device at `path`; see [`ResourceLock::open_for_device`].
    ///
    /// # Errors
    ///
    /// As [`ResourceLock::open_for_device`].
    pub fn for_device(path: &str, device: DEV) -> Result<Self, Error> {
        Ok(Self::new(device, ResourceLock::open_for_device(path)?))
    }
}

impl<DEV, R> LockedSpiDevice<DEV, R> {
    /// How long each transaction waits for the lock, and a session once; [`Timeout::DEFAULT`] otherwise.
    #[must_use]
    pub fn timeout(mut self, timeout: Timeout) -> Self {
        self.locking.set_timeout(timeout);
        self
    }

    /// What others see of a transaction while it holds; see [`ResourceLock::lock`].
    #[must_use]
    pub fn info(mut self, info: &str) -> Self {
        self.set_info(info);
        self
    }

    /// As [`info`](Self::info), from now on.
    pub fn set_info(&mut self, info: &str) {
        self.locking.set_info(info);
    }

    /// After a recovery: an error, once. See [`Report`].
    #[must_use]
    pub fn report_recovery(self) -> LockedSpiDevice<DEV, Report> {
        LockedSpiDevice { device: self.device, locking: self.locking.with_recovery(Report) }
    }

    /// After a recovery: runs `reset` before the transaction. See [`Reset`], and
    /// [`LockedI2c::reset_on_recovery`](super::LockedI2c::reset_on_recovery) for an example.
    #[must_use]
    pub fn reset_on_recovery<F>(self, reset: F) -> LockedSpiDevice<DEV, Reset<F>>
    where
        DEV: ErrorType,
        F: FnMut(&mut DEV, Option<&Grant>) -> Result<(), DEV::Error>,
    {
        LockedSpiDevice { device: self.device, locking: self.locking.with_recovery(Reset(reset)) }
    }

    /// The lock, to look at.
    pub fn handle(&self) -> &ResourceLock {
        self.locking.handle()
    }

    /// The device itself, without the lock: to set it up, not to use it. [`SpiSession::device`] is under the lock.
    pub fn device_mut(&mut self) -> &mut DEV {
        &mut self.device
    }

    /// Takes the wrapper apart.
    pub fn into_parts(self) -> (DEV, ResourceLock) {
        (self.device, self.locking.into_lock())
    }
}

impl<DEV: ErrorType, R: Recovery<DEV, DEV::Error>> LockedSpiDevice<DEV, R> {
    /// Holds the lock over several transactions, and gives the device for that time. Give drivers the session (or `&mut`
    /// it) as their device.
    ///
    /// # Errors
    ///
    /// As a transaction, but for [`BusError::Bus`].
    pub fn session(&mut self) -> Result<SpiSession<'_, DEV, R>, BusError<DEV::Error>> {
        self.locking.begin_session(&mut self.device)?;
        Ok(SpiSession { locked: self, is_open: true })
    }
}

impl<DEV: ErrorType, R: Recovery<DEV, DEV::Error>> ErrorType for LockedSpiDevice<DEV, R> {
    type Error = BusError<DEV::Error>;
}

// Each method calls the device's own, and not all of them `transaction`: a device may have a shorter way for one.
impl<WORD, DEV, R> SpiDevice<WORD> for LockedSpiDevice<DEV, R>
where
    WORD: Copy + 'static,
    DEV: SpiDevice<WORD>,
    R: Recovery<DEV, DEV::Error>,
{
    #[inline]
    fn transaction(&mut self, operations: &mut [Operation<'_, WORD>]) -> Result<(), Self::Error> {
        let _guard = self.locking.enter(&mut self.device)?;
        self.device.transaction(operations).map_err(BusError::Bus)
    }

    #[inline]
    fn read(&mut self, words: &mut [WORD]) -> Result<(), Self::Error> {
        let _guard = self.locking.enter(&mut self.device)?;
        self.device.read(words).map_err(BusError::Bus)
    }

    #[inline]
    fn write(&mut self, words: &[WORD]) -> Result<(), Self::Error> {
        let _guard = self.locking.enter(&mut self.device)?;
        self.device.write(words).map_err(BusError::Bus)
    }

    #[inline]
    fn transfer(&mut self, read: &mut [WORD], write: &[WORD]) -> Result<(), Self::Error> {
        let _guard = self.locking.enter(&mut self.device)?;
        self.device.transfer(read, write).map_err(BusError::Bus)
    }

    #[inline]
    fn transfer_in_place(&mut self, words: &mut [WORD]) -> Result<(), Self::Error> {
        let _guard = self.locking.enter(&mut self.device)?;
        self.device.transfer_in_place(words).map_err(BusError::Bus)
    }
}

impl<DEV, R: fmt::Debug> fmt::Debug for LockedSpiDevice<DEV, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockedSpiDevice").field("locking", &self.locking).finish_non_exhaustive()
    }
}

/// A [`LockedSpiDevice`] that is held for several transactions: [`LockedSpiDevice::session`]. Dropping it ends the
/// session.
///
/// Its transactions take no lock, but look whether the hold is still there: after a force-release, or in a forked
/// child, they are [`BusError::HoldLost`], and the device is not touched.
#[must_use = "the session ends as soon as it is dropped"]
pub struct SpiSession<'a, DEV, R = GoOn> {
    locked: &'a mut LockedSpiDevice<DEV, R>,
    is_open: bool,
}

impl<DEV: ErrorType, R> SpiSession<'_, DEV, R> {
    /// Ends the session, and tells whether its hold was there to the end: if not, others may have used the device.
    ///
    /// # Errors
    ///
    /// [`BusError::HoldLost`].
    pub fn end(mut self) -> Result<(), BusError<DEV::Error>> {
        self.is_open = false;
        if self.locked.locking.end_session() { Ok(()) } else { Err(BusError::HoldLost) }
    }

    /// The device itself, for what its trait has no words for. The hold is looked at now, not at each use.
    ///
    /// # Errors
    ///
    /// [`BusError::HoldLost`], or [`BusError::Lock`] if the lock's file has vanished.
    pub fn device(&mut self) -> Result<&mut DEV, BusError<DEV::Error>>
    where
        R: Recovery<DEV, DEV::Error>,
    {
        self.locked.locking.enter(&mut self.locked.device)?;
        Ok(&mut self.locked.device)
    }

    /// Returns the lock's handle, for example to [change the info](ResourceLock::set_info).
    pub fn handle(&self) -> &ResourceLock {
        self.locked.handle()
    }
}

impl<DEV: ErrorType, R: Recovery<DEV, DEV::Error>> ErrorType for SpiSession<'_, DEV, R> {
    type Error = BusError<DEV::Error>;
}

// The wrapper knows that a session is open.
impl<WORD, DEV, R> SpiDevice<WORD> for SpiSession<'_, DEV, R>
where
    WORD: Copy + 'static,
    DEV: SpiDevice<WORD>,
    R: Recovery<DEV, DEV::Error>,
{
    #[inline]
    fn transaction(&mut self, operations: &mut [Operation<'_, WORD>]) -> Result<(), Self::Error> {
        self.locked.transaction(operations)
    }

    #[inline]
    fn read(&mut self, words: &mut [WORD]) -> Result<(), Self::Error> {
        self.locked.read(words)
    }

    #[inline]
    fn write(&mut self, words: &[WORD]) -> Result<(), Self::Error> {
        self.locked.write(words)
    }

    #[inline]
    fn transfer(&mut self, read: &mut [WORD], write: &[WORD]) -> Result<(), Self::Error> {
        self.locked.transfer(read, write)
    }

    #[inline]
    fn transfer_in_place(&mut self, words: &mut [WORD]) -> Result<(), Self::Error> {
        self.locked.transfer_in_place(words)
    }
}

impl<DEV, R> Drop for SpiSession<'_, DEV, R> {
    fn drop(&mut self) {
        if self.is_open {
            self.locked.locking.end_session();
        }
    }
}

impl<DEV, R: fmt::Debug> fmt::Debug for SpiSession<'_, DEV, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpiSession").field("locking", &self.locked.locking).finish_non_exhaustive()
    }
}
