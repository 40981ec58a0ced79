//! What a wrapper passes on: every operation, in both address modes and to the bus's own method, and every error.

use std::rc::Rc;

use embedded_hal::i2c::{Error as _, ErrorKind, ErrorType, I2c, NoAcknowledgeSource, Operation};
use embedded_hal::spi::{self, SpiDevice};
use embedded_hal_mock::eh1::i2c::{Mock as I2cMock, Transaction as I2cTransaction};
use embedded_hal_mock::eh1::spi::{Mock as SpiMock, Transaction as SpiTransaction};
use resourcelock::hal::{BusError, LockedI2c, LockedSpiDevice};
use resourcelock::{Error, ResourceLock};

use crate::support::{AT_ONCE, Dir, LONG};

/// A bus that only looks whether it is locked, and says which of its methods was called.
struct Witness {
    watcher: Rc<ResourceLock>,
    called: &'static str,
}

impl Witness {
    fn new(dir: &Dir) -> Self {
        Self { watcher: Rc::new(dir.open()), called: "" }
    }

    fn called(&mut self, method: &'static str) -> Result<(), ErrorKind> {
        self.called = method;
        assert_eq!(self.watcher.holder().expect("the bus is locked").info(), "by the wrapper");
        assert!(self.watcher.try_lock("").is_err());
        Ok(())
    }
}

impl ErrorType for Witness {
    type Error = ErrorKind;
}

impl I2c<u16> for Witness {
    fn read(&mut self, _: u16, _: &mut [u8]) -> Result<(), ErrorKind> {
        self.called("read")
    }

    fn write(&mut self, _: u16, _: &[u8]) -> Result<(), ErrorKind> {
        self.called("write")
    }

    fn write_read(&mut self, _: u16, _: &[u8], _: &mut [u8]) -> Result<(), ErrorKind> {
        self.called("write_read")
    }

    fn transaction(&mut self, _: u16, _: &mut [Operation<'_>]) -> Result<(), ErrorKind> {
        self.called("transaction")
    }
}

impl I2c<u8> for Witness {
    fn transaction(&mut self, _: u8, _: &mut [Operation<'_>]) -> Result<(), ErrorKind> {
        self.called("transaction")
    }
}

/// Seen to fail with one method that takes no lock, and with all of them made of `transaction`.
#[test]
fn each_method_calls_its_own_under_the_lock() {
    let dir = Dir::new();
    let mut bus = LockedI2c::new(Witness::new(&dir), dir.open()).info("by the wrapper");
    fn all(bus: &mut impl I2c<u16>, mut called: impl FnMut(&str)) {
        bus.read(0x3ff, &mut [0]).unwrap();
        called("read");
        bus.write(0x3ff, &[0]).unwrap();
        called("write");
        bus.write_read(0x3ff, &[0], &mut [0]).unwrap();
        called("write_read");
        bus.transaction(0x3ff, &mut []).unwrap();
        called("transaction");
    }
    let mut methods = Vec::new();
    all(&mut bus, |method| methods.push(method.to_owned()));
    assert_eq!(methods.len(), 4);
    for address_of_seven_bits in [true, false] {
        if address_of_seven_bits {
            I2c::<u8>::write_read(&mut bus, 0x48, &[0], &mut [0]).unwrap();
        } else {
            I2c::<u16>::write_read(&mut bus, 0x3ff, &[0], &mut [0]).unwrap();
        }
        assert_eq!(bus.bus_mut().called, if address_of_seven_bits { "transaction" } else { "write_read" });
        assert!(!dir.open().is_held());
    }
    let grants = dir.open().counters().grants;
    let mut session = bus.session().unwrap();
    all(&mut session, |_| {});
    assert_eq!(session.bus().unwrap().called, "transaction");
    session.end().unwrap();
    assert_eq!(dir.open().counters().grants, grants + 1);
}

#[test]
fn i2c_operations_and_errors_pass_unchanged() {
    let dir = Dir::new();
    let kind = ErrorKind::NoAcknowledge(NoAcknowledgeSource::Data);
    let mut mock = I2cMock::new(&[
        I2cTransaction::write(0x48, vec![1, 2]),
        I2cTransaction::read(0x48, vec![3]),
        I2cTransaction::write_read(0x48, vec![4], vec![5, 6]),
        I2cTransaction::transaction_start(0x48),
        I2cTransaction::write(0x48, vec![7]),
        I2cTransaction::read(0x48, vec![8]),
        I2cTransaction::transaction_end(0x48),
        I2cTransaction::write(0x48, vec![9]).with_error(kind),
    ]);
    let mut bus = LockedI2c::new(mock.clone(), dir.open());
    let (mut one, mut two) = ([0], [0, 0]);
    bus.write(0x48, &[1, 2]).unwrap();
    bus.read(0x48, &mut one).unwrap();
    bus.write_read(0x48, &[4], &mut two).unwrap();
    assert_eq!((one, two), ([3], [5, 6]));
    bus.transaction(0x48, &mut [Operation::Write(&[7]), Operation::Read(&mut one)]).unwrap();
    assert_eq!(one, [8]);
    let error = bus.write(0x48, &[9]).unwrap_err();
    assert!(matches!(error, BusError::Bus(found) if found == kind));
    assert_eq!(error.kind(), kind);
    assert!(!dir.open().is_held(), "released after an error, too");
    mock.done();
}

#[test]
fn spi_operations_and_errors_pass_unchanged() {
    let dir = Dir::new();
    let framed = |operation| [SpiTransaction::transaction_start(), operation, SpiTransaction::transaction_end()];
    let expected: Vec<_> = [
        SpiTransaction::write_vec(vec![1, 2]),
        SpiTransaction::read_vec(vec![3]),
        SpiTransaction::transfer(vec![4], vec![5]),
        SpiTransaction::transfer_in_place(vec![6], vec![7]),
        SpiTransaction::write_vec(vec![8]),
    ]
    .into_iter()
    .flat_map(framed)
    .collect();
    let mut mock = SpiMock::new(&expected);
    let mut device = LockedSpiDevice::new(mock.clone(), dir.open());
    fn all(device: &mut impl SpiDevice) {
        let mut one = [0];
        device.write(&[1, 2]).unwrap();
        device.read(&mut one).unwrap();
        assert_eq!(one, [3]);
        device.transfer(&mut one, &[4]).unwrap();
        assert_eq!(one, [5]);
        one = [6];
        device.transfer_in_place(&mut one).unwrap();
        assert_eq!(one, [7]);
        device.transaction(&mut [spi::Operation::Write(&[8])]).unwrap();
    }
    all(&mut device);
    assert_eq!(dir.open().counters().grants, 5);
    mock.done();
    mock.update_expectations(&expected);
    let mut session = device.session().unwrap();
    all(&mut session);
    assert!(dir.open().is_held());
    session.end().unwrap();
    assert_eq!(dir.open().counters().grants, 6);
    assert!(!dir.open().is_held());
    mock.done();
}

#[test]
fn a_timeout_tells_the_holder_and_the_bus_is_not_touched() {
    let dir = Dir::new();
    let holder = dir.open();
    let guard = holder.lock(LONG, "somebody at work").unwrap();
    let mut mock = I2cMock::new(&[]);
    let mut bus = LockedI2c::new(mock.clone(), dir.open()).timeout(AT_ONCE);
    for error in [bus.write(0x48, &[0]).unwrap_err(), bus.session().map(drop).unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Other);
        let text = error.to_string();
        match error {
            BusError::TimedOut(Some(holder)) => assert_eq!(holder.info(), "somebody at work"),
            other => panic!("{other:?}"),
        }
        assert!(text.starts_with("timed out: held by pid ") && text.ends_with("somebody at work"), "{text}");
    }
    drop(guard);
    mock.done();
}

#[test]
fn errors_are_told_in_words() {
    fn of(error: &BusError<ErrorKind>) -> (String, Option<String>) {
        (error.to_string(), core::error::Error::source(error).map(ToString::to_string))
    }
    let (bus, lock) = (ErrorKind::Bus.to_string(), Error::Busy.to_string());
    assert_eq!(of(&BusError::Bus(ErrorKind::Bus)), (bus.clone(), None));
    assert_eq!(of(&BusError::Lock(Error::Busy)), (lock.clone(), Some(lock)));
    let (text, source) = of(&BusError::ResetFailed(ErrorKind::Bus));
    assert!(text.ends_with(&bus) && text.contains("reset"), "{text}");
    assert_eq!(source, None);
    for (error, word) in
        [(BusError::HoldLost, "forced"), (BusError::Recovered(None), "died"), (BusError::TimedOut(None), "timed out")]
    {
        let (text, source) = of(&error);
        assert!(text.contains(word), "{text}");
        assert_eq!(source, None);
    }
}
