//! What a request says besides its seat.

use crate::cancel::Cancel;
use crate::grant::Grant;
use crate::timeout::Timeout;

#[derive(Clone, Copy)]
pub(super) struct Wish<'a> {
    pub(super) timeout: Timeout,
    pub(super) info: &'a str,
    pub(super) cancel: Option<&'a Cancel>,
    /// For how many milliseconds it expects to hold; zero if it does not say.
    pub(super) due_ms: u32,
    /// Whether it breaks an overdue hold.
    pub(super) breaks_overdue: bool,
    /// Is called once when the holder is overdue.
    pub(super) on_overdue: Option<&'a (dyn Fn(&Grant) + Sync)>,
}

impl<'a> Wish<'a> {
    #[inline]
    pub(super) fn new(timeout: Timeout, info: &'a str) -> Self {
        Self { timeout, info, cancel: None, due_ms: 0, breaks_overdue: false, on_overdue: None }
    }
}
