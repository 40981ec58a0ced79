//! What the programs of this package share: how a device, an address and a driver's error are said in words.

use std::fmt::Debug;
use std::str::FromStr;

/// What went wrong, in words for a person.
pub type Outcome<T = ()> = Result<T, String>;

/// The next word of the command line, or the usage.
pub fn next<T: FromStr>(words: &mut impl Iterator<Item = String>, usage: &str) -> Outcome<T> {
    words.next().and_then(|word| word.parse().ok()).ok_or_else(|| format!("usage: {usage}"))
}

/// A 7-bit I2C address, in decimal or with `0x`.
pub struct Address(pub u8);

impl FromStr for Address {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let number = match text.strip_prefix("0x") {
            Some(digits) => u8::from_str_radix(digits, 16),
            None => text.parse(),
        };
        number.ok().filter(|&address| address < 0x80).map(Self).ok_or(())
    }
}

/// Says what a driver says. Drivers wrap the bus's error in one of their own, which is rarely more than `Debug`.
pub fn from_driver<E: Debug>(doing: &str) -> impl Fn(E) -> String {
    move |error| format!("{doing}: {error:?}")
}
