//! [`LockedI2c`]: an I2C bus that is locked during each transaction.

use core::cell::RefCell;
use core::fmt;

use embedded_hal::i2c::{AddressMode, ErrorType, I2c, Operation};

use super::locking::Locking;
use super::{BusError, GoOn, Recovery, Report, Reset};
use crate::error::Error;
use crate::grant::Grant;
use crate::lock::ResourceLock;
use crate::timeout::Timeout;

/// An I2C bus whose every transaction holds a lock. See the [module](super) for when to use it.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use embedded_hal_mock::eh1::i2c::{Mock, Transaction};
/// # let i2c = Mock::new(&[Transaction::write_read(0x48, vec![0], vec![21, 0])]);
/// # let mut done = i2c.clone();
/// # let path = "/dev/null";
/// use resourcelock::hal::LockedI2c;
///
/// // let (path, i2c) = ("/dev/i2c-1", I2cdev::new("/dev/i2c-1")?);
/// let i2c = LockedI2c::for_device(path, i2c)?; // the one line
/// let mut sensor = lm75::Lm75::new(i2c, lm75::Address::default());
/// # let celsius =
/// sensor.read_temperature()
/// # .map_err(|error| format!("{error:?}"))?;
/// # assert_eq!(celsius, 21.0);
/// # done.done();
/// # Ok(())
/// # }
/// ```
pub struct LockedI2c<BUS, R = GoOn> {
    bus: BUS,
    locking: Locking<R>,
}

impl<BUS> LockedI2c<BUS> {
    /// Locks `bus` by `lock`: with [`Timeout::DEFAULT`], an empty info, and [going on](GoOn) after a recovery.
    ///
    /// The handle becomes the wrapper's own. Two wrappers have two handles, and exclude each other as two processes do.
    pub fn new(bus: BUS, lock: ResourceLock) -> Self {
        Self { bus, locking: Locking::new(lock) }
    }

    /// Locks `bus` by the lock of the device at `path`; see [`ResourceLock::open_for_device`].
    ///
    /// # Errors
    ///
    /// As [`ResourceLock::open_for_device`].
    pub fn for_device(path: &str, bus: BUS) -> Result<Self, Error> {
        Ok(Self::new(bus, ResourceLock::open_for_device(path)?))
    }
}

impl<BUS, R> LockedI2c<BUS, R> {
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
    pub fn report_recovery(self) -> LockedI2c<BUS, Report> {
        LockedI2c { bus: self.bus, locking: self.locking.with_recovery(Report) }
    }

    /// After a recovery: runs `reset` before the transaction. See [`Reset`].
    ///
    /// It gets the bus and, if known, the grant of the holder that died. If it fails, so does the transaction, and it is
    /// run again before the next. It may be a closure that owns what it needs, such as the pin of a mux's reset.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use embedded_hal_mock::eh1::i2c::Mock;
    /// # use resourcelock::ResourceLock;
    /// use embedded_hal::i2c::I2c;
    /// use resourcelock::hal::LockedI2c;
    ///
    /// # let (i2c, lock) = (Mock::new(&[]), ResourceLock::open("doc-hal-reset")?);
    /// # let mut done = i2c.clone();
    /// let i2c = LockedI2c::new(i2c, lock).reset_on_recovery(|i2c, _dead| i2c.write(0x70, &[0])); // deselects all
    /// # i2c.handle().remove(false)?;
    /// # done.done();
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn reset_on_recovery<F>(self, reset: F) -> LockedI2c<BUS, Reset<F>>
    where
        BUS: ErrorType,
        F: FnMut(&mut BUS, Option<&Grant>) -> Result<(), BUS::Error>,
    {
        LockedI2c { bus: self.bus, locking: self.locking.with_recovery(Reset(reset)) }
    }

    /// The lock, to look at.
    pub fn handle(&self) -> &ResourceLock {
        self.locking.handle()
    }

    /// The bus itself, without the lock: to set it up, not to use it. [`I2cSession::bus`] is under the lock.
    pub fn bus_mut(&mut self) -> &mut BUS {
        &mut self.bus
    }

    /// Takes the wrapper apart.
    pub fn into_parts(self) -> (BUS, ResourceLock) {
        (self.bus, self.locking.into_lock())
    }
}

impl<BUS: ErrorType, R: Recovery<BUS, BUS::Error>> LockedI2c<BUS, R> {
    /// Holds the lock over several transactions, and gives the bus for that time.
    ///
    /// For what is only right as a whole: a mux select and the read behind it, a driver call that is two transactions.
    /// Give drivers the session (or `&mut` it) as their bus; a driver that must outlive it needs
    /// [`hold`](Self::hold).
    ///
    /// ```
    /// # fn main() -> Result<(), resourcelock::hal::BusError<embedded_hal::i2c::ErrorKind>> {
    /// # use embedded_hal_mock::eh1::i2c::{Mock, Transaction};
    /// # use resourcelock::{ResourceLock, hal::LockedI2c};
    /// use embedded_hal::i2c::I2c;
    ///
    /// # let i2c = Mock::new(&[Transaction::write(0x70, vec![4]), Transaction::write_read(0x48, vec![0], vec![21, 0])]);
    /// # let mut done = i2c.clone();
    /// # let mut i2c = LockedI2c::new(i2c, ResourceLock::open("doc-hal-session")?);
    /// let mut session = i2c.session()?;
    /// session.write(0x70, &[1 << 2])?; // the mux's channel 2
    /// let mut sensor = lm75::Lm75::new(&mut session, lm75::Address::default());
    /// let celsius = sensor.read_temperature();
    /// session.end()?;
    /// # assert_eq!(celsius.expect("it answers"), 21.0);
    /// # i2c.handle().remove(false)?;
    /// # done.done();
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As a transaction, but for [`BusError::Bus`].
    pub fn session(&mut self) -> Result<I2cSession<'_, BUS, R>, BusError<BUS::Error>> {
        self.locking.begin_session(&mut self.bus)?;
        Ok(I2cSession { locked: self, is_open: true })
    }

    /// As [`session`](Self::session), for a bus that several drivers share in a cell, as by embedded-hal-bus's
    /// `RefCellDevice`: until what this returns is dropped, all their transactions are under one hold.
    ///
    /// The drivers live on afterwards, which is for those that know more than their address: calibration data, the
    /// channel that is selected. A hold inside a hold is part of it.
    ///
    /// ```
    /// # fn main() -> Result<(), resourcelock::hal::BusError<embedded_hal::i2c::ErrorKind>> {
    /// # use core::cell::RefCell;
    /// # use embedded_hal_mock::eh1::i2c::{Mock, Transaction};
    /// # use resourcelock::{ResourceLock, hal::LockedI2c};
    /// use embedded_hal_bus::i2c::RefCellDevice;
    ///
    /// # let mock = Mock::new(&[
    /// #     Transaction::write(0x48, vec![1, 1]), Transaction::write(0x48, vec![3, 30, 0]),
    /// #     Transaction::write(0x48, vec![1, 0])]);
    /// # let mut done = mock.clone();
    /// # let bus = LockedI2c::new(mock, ResourceLock::open("doc-hal-hold")?);
    /// let bus = RefCell::new(bus);
    /// let mut sensor = lm75::Lm75::new(RefCellDevice::new(&bus), lm75::Address::default());
    ///
    /// let hold = LockedI2c::hold(&bus)?;
    /// # let outcome =
    /// sensor.disable().and_then(|()| sensor.set_os_temperature(30.0)).and_then(|()| sensor.enable());
    /// # outcome.expect("it answers");
    /// hold.end()?;
    /// # bus.borrow().handle().remove(false)?;
    /// # done.done();
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`session`](Self::session).
    ///
    /// # Panics
    ///
    /// If the cell is borrowed, now or when the hold is dropped.
    pub fn hold(cell: &RefCell<Self>) -> Result<I2cHold<'_, BUS, R>, BusError<BUS::Error>> {
        let locked = &mut *cell.borrow_mut();
        locked.locking.begin_session(&mut locked.bus)?;
        Ok(I2cHold { cell, is_open: true })
    }
}

impl<BUS: ErrorType, R: Recovery<BUS, BUS::Error>> ErrorType for LockedI2c<BUS, R> {
    type Error = BusError<BUS::Error>;
}

// Each method calls the bus's own, and not all of them `transaction`: a bus may have a shorter way for one.
impl<A: AddressMode, BUS: I2c<A>, R: Recovery<BUS, BUS::Error>> I2c<A> for LockedI2c<BUS, R> {
    #[inline]
    fn read(&mut self, address: A, read: &mut [u8]) -> Result<(), Self::Error> {
        let _guard = self.locking.enter(&mut self.bus)?;
        self.bus.read(address, read).map_err(BusError::Bus)
    }

    #[inline]
    fn write(&mut self, address: A, write: &[u8]) -> Result<(), Self::Error> {
        let _guard = self.locking.enter(&mut self.bus)?;
        self.bus.write(address, write).map_err(BusError::Bus)
    }

    #[inline]
    fn write_read(&mut self, address: A, write: &[u8], read: &mut [u8]) -> Result<(), Self::Error> {
        let _guard = self.locking.enter(&mut self.bus)?;
        self.bus.write_read(address, write, read).map_err(BusError::Bus)
    }

    #[inline]
    fn transaction(&mut self, address: A, operations: &mut [Operation<'_>]) -> Result<(), Self::Error> {
        let _guard = self.locking.enter(&mut self.bus)?;
        self.bus.transaction(address, operations).map_err(BusError::Bus)
    }
}

impl<BUS, R: fmt::Debug> fmt::Debug for LockedI2c<BUS, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockedI2c").field("locking", &self.locking).finish_non_exhaustive()
    }
}

/// A [`LockedI2c`] that is held for several transactions: [`LockedI2c::session`]. Dropping it ends the session.
///
/// Its transactions take no lock, but look whether the hold is still there: after a force-release, or in a forked
/// child, they are [`BusError::HoldLost`], and the bus is not touched.
#[must_use = "the session ends as soon as it is dropped"]
pub struct I2cSession<'a, BUS, R = GoOn> {
    locked: &'a mut LockedI2c<BUS, R>,
    is_open: bool,
}

impl<BUS: ErrorType, R> I2cSession<'_, BUS, R> {
    /// Ends the session, and tells whether its hold was there to the end: if not, others may have been on the bus.
    ///
    /// # Errors
    ///
    /// [`BusError::HoldLost`].
    pub fn end(mut self) -> Result<(), BusError<BUS::Error>> {
        self.is_open = false;
        if self.locked.locking.end_session() { Ok(()) } else { Err(BusError::HoldLost) }
    }

    /// The bus itself, for what its trait has no words for. The hold is looked at now, not at each use.
    ///
    /// # Errors
    ///
    /// [`BusError::HoldLost`], or [`BusError::Lock`] if the lock's file has vanished.
    pub fn bus(&mut self) -> Result<&mut BUS, BusError<BUS::Error>>
    where
        R: Recovery<BUS, BUS::Error>,
    {
        self.locked.locking.enter(&mut self.locked.bus)?;
        Ok(&mut self.locked.bus)
    }

    /// Returns the lock's handle, for example to [change the info](ResourceLock::set_info).
    pub fn handle(&self) -> &ResourceLock {
        self.locked.handle()
    }
}

impl<BUS: ErrorType, R: Recovery<BUS, BUS::Error>> ErrorType for I2cSession<'_, BUS, R> {
    type Error = BusError<BUS::Error>;
}

// The wrapper knows that a session is open.
impl<A: AddressMode, BUS: I2c<A>, R: Recovery<BUS, BUS::Error>> I2c<A> for I2cSession<'_, BUS, R> {
    #[inline]
    fn read(&mut self, address: A, read: &mut [u8]) -> Result<(), Self::Error> {
        self.locked.read(address, read)
    }

    #[inline]
    fn write(&mut self, address: A, write: &[u8]) -> Result<(), Self::Error> {
        self.locked.write(address, write)
    }

    #[inline]
    fn write_read(&mut self, address: A, write: &[u8], read: &mut [u8]) -> Result<(), Self::Error> {
        self.locked.write_read(address, write, read)
    }

    #[inline]
    fn transaction(&mut self, address: A, operations: &mut [Operation<'_>]) -> Result<(), Self::Error> {
        self.locked.transaction(address, operations)
    }
}

impl<BUS, R> Drop for I2cSession<'_, BUS, R> {
    fn drop(&mut self) {
        if self.is_open {
            self.locked.locking.end_session();
        }
    }
}

impl<BUS, R: fmt::Debug> fmt::Debug for I2cSession<'_, BUS, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("I2cSession").field("locking", &self.locked.locking).finish_non_exhaustive()
    }
}

/// A [`LockedI2c`] in a cell that is held for several transactions: [`LockedI2c::hold`]. Dropping it ends the hold.
#[must_use = "the hold ends as soon as it is dropped"]
pub struct I2cHold<'a, BUS, R = GoOn> {
    cell: &'a RefCell<LockedI2c<BUS, R>>,
    is_open: bool,
}

impl<BUS: ErrorType, R> I2cHold<'_, BUS, R> {
    /// As [`I2cSession::end`].
    ///
    /// # Errors
    ///
    /// [`BusError::HoldLost`].
    pub fn end(mut self) -> Result<(), BusError<BUS::Error>> {
        self.is_open = false;
        if self.cell.borrow_mut().locking.end_session() { Ok(()) } else { Err(BusError::HoldLost) }
    }
}

impl<BUS, R> Drop for I2cHold<'_, BUS, R> {
    fn drop(&mut self) {
        if self.is_open {
            self.cell.borrow_mut().locking.end_session();
        }
    }
}

impl<BUS, R> fmt::Debug for I2cHold<'_, BUS, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("I2cHold").finish_non_exhaustive()
    }
}
