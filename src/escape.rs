//! Text that others wrote, made harmless for a terminal or a log.

use core::fmt::{self, Write};

/// Shows text that others wrote, harmless for a terminal or a log.
///
/// Control characters (escape sequences among them), and the invisible ones that reorder or break lines, are shown as
/// `\n`, `\u{1b}` and so on; everything else as it is.
///
/// ```
/// # use resourcelock::Escaped;
/// assert_eq!(Escaped("\x1b[31mred\u{202e}\n").to_string(), r"\u{1b}[31mred\u{202e}\n");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| {
            if is_harmful(character) { character.escape_default().fmt(f) } else { f.write_char(character) }
        })
    }
}

fn is_harmful(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        )
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;

    use super::*;

    #[test]
    fn harmful_characters_are_shown_and_the_rest_is_kept() {
        assert_eq!(Escaped("a\0b\r\u{9b}\u{2028}\u{feff}").to_string(), r"a\u{0}b\r\u{9b}\u{2028}\u{feff}");
        assert_eq!(Escaped("äöü 🔒 C:\\dir").to_string(), "äöü 🔒 C:\\dir");
    }
}
