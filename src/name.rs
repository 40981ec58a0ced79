//! What a lock may be called, and which file that is.

use heapless::String;

/// Longest lock name, in bytes: the kernel's NAME_MAX.
pub const NAME_CAPACITY: usize = 255;

/// Longest directory path, in bytes.
pub const DIR_CAPACITY: usize = 255;

/// Longest path of a device, in bytes.
pub const DEVICE_PATH_CAPACITY: usize = 255;

/// Every lock's file name begins with this, and the lock's name follows, so that a directory can be searched for locks. (Of
/// a name over 242 bytes only the beginning and a hash follow; opened by that, it is the same file.)
///
/// The prefix is there so that `ls` explains it, and so that a lock and the reference's semaphore and
/// shared memory of the same name (`sem.NAME` and `NAME` in /dev/shm) live side by side.
pub const FILE_PREFIX: &str = "resourcelock.";

/// A path with its NUL: a directory, a slash, a file name.
pub(crate) const PATH_CAPACITY: usize = DIR_CAPACITY + 1 + NAME_CAPACITY + 1;

/// What is wrong with a lock's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameError {
    /// There is no character in it (or only the leading slash).
    Empty,
    /// It has this many bytes, more than [`NAME_CAPACITY`].
    TooLong(usize),
    /// It has a slash after the leading one.
    Slash,
    /// It has a NUL.
    Nul,
    /// It is `.` or `..`.
    Dots,
}

impl core::fmt::Display for NameError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Empty => write!(f, "the lock's name is empty; give it one, such as i2c-1"),
            Self::TooLong(len) => write!(f, "the lock's name has {len} bytes; use at most {NAME_CAPACITY}"),
            Self::Slash => {
                write!(f, "the lock's name has a '/' inside; names are flat, only a leading '/' is accepted")
            }
            Self::Nul => write!(f, "the lock's name has a NUL in it; leave it out"),
            Self::Dots => write!(f, "'.' and '..' are directories; give the lock another name"),
        }
    }
}

impl core::error::Error for NameError {}

/// The name as it is kept and shown: validated, without the leading slash.
pub(crate) fn validate(name: &str) -> Result<String<NAME_CAPACITY>, NameError> {
    // POSIX semaphores are named with a leading slash, and ported code goes on doing so.
    let name = name.strip_prefix('/').unwrap_or(name);
    match name {
        "" => return Err(NameError::Empty),
        "." | ".." => return Err(NameError::Dots),
        _ if name.bytes().any(|byte| byte == 0) => return Err(NameError::Nul),
        _ if name.bytes().any(|byte| byte == b'/') => return Err(NameError::Slash),
        _ => {}
    }
    String::try_from(name).map_err(|_| NameError::TooLong(name.len()))
}

/// Appends the file name of the lock `name`: the prefix and the name. `None` if `path` has no room for it.
///
/// A file name ends at 255 bytes too, so of a name that leaves no room for the prefix only the beginning is used,
/// followed by `~` and a hash (64-bit FNV-1a) of the whole.
pub(crate) fn push_file_name<const N: usize>(path: &mut String<N>, name: &str) -> Option<()> {
    const ROOM: usize = NAME_CAPACITY - FILE_PREFIX.len();
    const HASH_LEN: usize = 1 + 16;
    path.push_str(FILE_PREFIX).ok()?;
    if name.len() <= ROOM {
        return path.push_str(name).ok();
    }
    let mut end = ROOM - HASH_LEN;
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    path.push_str(name.get(..end)?).ok()?;
    path.push('~').ok()?;
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    hash.to_be_bytes()
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .try_for_each(|digit| path.push(char::from_digit(u32::from(digit), 16)?).ok())
}

/// `number` in decimal. Not by `core::fmt`, which is larger than the rest of a small agent.
pub(crate) fn decimal(number: u32) -> String<10> {
    let mut text = if number >= 10 { decimal(number / 10) } else { String::new() };
    // Ten digits are the most that a number has.
    let _ = text.push(char::from(b'0' + (number % 10) as u8));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    extern crate std;
    use std::string::String as StdString;

    fn file_name(name: &str) -> StdString {
        let mut path = String::<NAME_CAPACITY>::new();
        push_file_name(&mut path, name).expect("a file name always fits");
        path.as_str().into()
    }

    #[test]
    fn a_leading_slash_is_accepted_and_hidden() {
        assert_eq!(validate("/i2c-1").unwrap(), "i2c-1");
        assert_eq!(validate("i2c-1").unwrap(), "i2c-1");
    }

    #[test]
    fn bad_names_are_told_apart() {
        assert_eq!(validate(""), Err(NameError::Empty));
        assert_eq!(validate("/"), Err(NameError::Empty));
        assert_eq!(validate("."), Err(NameError::Dots));
        assert_eq!(validate(".."), Err(NameError::Dots));
        assert_eq!(validate("/.."), Err(NameError::Dots));
        assert_eq!(validate("a/b"), Err(NameError::Slash));
        assert_eq!(validate("//a"), Err(NameError::Slash));
        assert_eq!(validate("a/"), Err(NameError::Slash));
        assert_eq!(validate("a\0b"), Err(NameError::Nul));
        assert_eq!(validate(&"a".repeat(256)), Err(NameError::TooLong(256)));
        assert!(validate(&"a".repeat(255)).is_ok());
        assert!(validate("/".to_owned().as_str()).is_err());
        assert!(validate(&("/".to_owned() + &"a".repeat(255))).is_ok());
    }

    #[test]
    fn the_longest_names_have_files_of_their_own() {
        assert_eq!(file_name("i2c-1"), "resourcelock.i2c-1");
        assert_eq!(file_name(&"a".repeat(242)), StdString::from("resourcelock.") + &"a".repeat(242));
        let long = file_name(&"a".repeat(255));
        assert_eq!(long.len(), 255);
        assert_ne!(long, file_name(&"a".repeat(254)));
        // Cut between characters, not inside one.
        assert!(file_name(&"🔒".repeat(63)).len() <= 255);
    }

    #[test]
    fn numbers_are_written_out() {
        for number in [0, 9, 10, 4_194_304, u32::MAX] {
            assert_eq!(decimal(number).as_str(), std::format!("{number}"));
        }
    }

    use std::borrow::ToOwned;
}
