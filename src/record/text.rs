//! Text in cells: bounded, and checked when it is read.

use heapless::String;

use super::{Cell, INFO_CAPACITY, load, store};

pub(super) type Text = [Cell; INFO_CAPACITY / 4];

/// The longest prefix of `text` that fits and ends between two characters.
pub(crate) fn cut_to_capacity(text: &str) -> &str {
    let mut end = text.len().min(INFO_CAPACITY);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Writes `text`, cut to what fits, and returns its length.
#[inline]
pub(super) fn store_text(cells: &Text, text: &str) -> u32 {
    let text = cut_to_capacity(text).as_bytes();
    let (words, rest) = text.split_at(text.len() & !3);
    for (cell, word) in cells.iter().zip(words.chunks_exact(4)) {
        store(cell, u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
    }
    // None where the text fills them all.
    if let Some(cell) = cells.get(words.len() / 4) {
        let at = |i| rest.get(i).copied().unwrap_or(0);
        store(cell, u32::from_ne_bytes([at(0), at(1), at(2), 0]));
    }
    text.len() as u32
}

pub(super) fn load_text(cells: &Text) -> [u8; INFO_CAPACITY] {
    let mut text = [0; INFO_CAPACITY];
    for (bytes, cell) in text.chunks_exact_mut(4).zip(cells) {
        bytes.copy_from_slice(&load(cell).to_ne_bytes());
    }
    text
}

/// Text that a peer wrote, as text: at most `len` bytes, invalid UTF-8 replaced, cut at a character boundary.
pub(crate) fn to_string<const N: usize>(bytes: &[u8], len: u32) -> String<N> {
    let mut string = String::new();
    for chunk in bytes[..bytes.len().min(len as usize)].utf8_chunks() {
        for character in
            chunk.valid().chars().chain((!chunk.invalid().is_empty()).then_some(char::REPLACEMENT_CHARACTER))
        {
            if string.push(character).is_err() {
                return string;
            }
        }
    }
    string
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::String as Text;

    use super::super::tests::{grant, new};

    #[test]
    fn texts_are_cut_between_characters() {
        for (text, kept) in [
            (Text::new(), 0),
            ("x".repeat(120), 120),
            ("x".repeat(121), 120),
            ("x".repeat(119) + "é", 119),
            ("x".repeat(117) + "🔒", 117),
            ("x".repeat(116) + "🔒", 120),
        ] {
            let record = new(0);
            grant(&record, 1, &text);
            assert_eq!(record.newest().unwrap().info.as_str(), &text[..kept]);
        }
    }
}
