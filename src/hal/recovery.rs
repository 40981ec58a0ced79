//! What is done after a holder has died, before the bus is used again.

use core::fmt;

use super::BusError;
use crate::grant::Grant;

/// What a wrapper does when the previous holder has died while it held: [`GoOn`], [`Report`] or [`Reset`].
///
/// `E` is the error of the bus. Not for other crates to implement.
pub trait Recovery<BUS, E>: sealed::Sealed {
    /// Sees to it. [`BusError::ResetFailed`]: it is still to be seen to.
    #[doc(hidden)]
    fn attend(&mut self, bus: &mut BUS, dead: Option<&Grant>) -> Result<(), BusError<E>>;
}

mod sealed {
    pub trait Sealed {}
}

/// Goes on as if nothing had happened, but for the lock's own log line. What a wrapper does unless it is told otherwise.
///
/// Right where every transaction stands for itself: the kernel ends the transfer that a dying process has begun.
#[derive(Clone, Copy, Debug, Default)]
pub struct GoOn;

/// Returns [`BusError::Recovered`] once, without a transaction; the next one goes on.
///
/// Right where the program itself knows what to do and looks at the errors that its drivers pass on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report;

/// Runs a reset, under the lock, before the transaction; if it fails, that is [`BusError::ResetFailed`], and it is run
/// again before the next one.
///
/// Right where the bus or a device may be left in the middle: a mux with a channel selected, a chip in an odd mode.
#[derive(Clone, Copy)]
pub struct Reset<F>(pub(super) F);

impl<F> fmt::Debug for Reset<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reset")
    }
}

impl sealed::Sealed for GoOn {}
impl sealed::Sealed for Report {}
impl<F> sealed::Sealed for Reset<F> {}

impl<BUS, E> Recovery<BUS, E> for GoOn {
    fn attend(&mut self, _: &mut BUS, _: Option<&Grant>) -> Result<(), BusError<E>> {
        Ok(())
    }
}

impl<BUS, E> Recovery<BUS, E> for Report {
    fn attend(&mut self, _: &mut BUS, dead: Option<&Grant>) -> Result<(), BusError<E>> {
        Err(BusError::Recovered(dead.cloned()))
    }
}

impl<BUS, E, F: FnMut(&mut BUS, Option<&Grant>) -> Result<(), E>> Recovery<BUS, E> for Reset<F> {
    fn attend(&mut self, bus: &mut BUS, dead: Option<&Grant>) -> Result<(), BusError<E>> {
        (self.0)(bus, dead).map_err(BusError::ResetFailed)
    }
}
