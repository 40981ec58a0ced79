//! Tables: columns that line up whatever is in them.
//!
//! A cell's text is harmless already ([`resourcelock::Escaped`]); how many columns it takes is asked of the Unicode
//! tables, so that wide and combining characters do not push the rest of the line out of place.

use anstyle::Style;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::style::{PLAIN, Paint, TITLE};

/// Blank columns between two columns.
const GAP: usize = 2;

pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    pub(crate) fn styled(style: Style, text: impl Into<String>) -> Self {
        Self { text: text.into(), style }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::styled(PLAIN, text)
    }
}

/// A table with `N` columns, the last of which takes what is left of the line.
pub(crate) struct Table<const N: usize> {
    titles: [&'static str; N],
    rows: Vec<[Cell; N]>,
}

impl<const N: usize> Table<N> {
    /// A title that begins with `>` is that of a column whose texts stand to the right.
    pub(crate) fn new(titles: [&'static str; N]) -> Self {
        Self { titles, rows: Vec::new() }
    }

    pub(crate) fn push(&mut self, row: [Cell; N]) {
        self.rows.push(row);
    }

    /// The lines, titles first. Where `width` is known, none is longer.
    pub(crate) fn lines(&self, width: Option<usize>, paint: Paint) -> Vec<String> {
        let titles: [Cell; N] = self.titles.map(|title| Cell::styled(TITLE, title.trim_start_matches('>')));
        let rows = || std::iter::once(&titles).chain(&self.rows);
        let mut widths = [0; N];
        for row in rows() {
            for (widest, cell) in widths.iter_mut().zip(row) {
                *widest = (*widest).max(cell.text.width());
            }
        }
        rows().map(|row| self.line(row, &widths, width, paint)).collect()
    }

    fn line(&self, row: &[Cell; N], widths: &[usize; N], width: Option<usize>, paint: Paint) -> String {
        let mut line = String::new();
        let mut room = width.unwrap_or(usize::MAX);
        // Blanks are written only when something follows them.
        let mut blanks = 0;
        for (index, cell) in row.iter().enumerate() {
            let fill = widths[index] - cell.text.width();
            let is_right = self.titles[index].starts_with('>');
            if is_right {
                blanks += fill;
            }
            if !cell.text.is_empty() {
                if room <= blanks {
                    break;
                }
                line.extend(std::iter::repeat_n(' ', blanks));
                room -= blanks;
                let shown = cut(&cell.text, room);
                room -= shown.width();
                line += &paint.on(cell.style, shown);
                blanks = 0;
                if shown.len() < cell.text.len() {
                    break;
                }
            }
            blanks += GAP + if is_right { 0 } else { fill };
        }
        line
    }
}

/// As much of the text as `columns` have room for.
pub(crate) fn cut(text: &str, columns: usize) -> &str {
    let mut taken = 0;
    let end = text.char_indices().find(|&(_, character)| {
        taken += character.width().unwrap_or(0);
        taken > columns
    });
    &text[..end.map_or(text.len(), |(index, _)| index)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Color;

    #[test]
    fn wide_and_combining_characters_keep_the_columns() {
        let mut table = Table::new(["NAME", ">N", "REST"]);
        for (name, number, rest) in [("ab", "1", "x"), ("日本", "12", "🔒"), ("e\u{301}", "", ""), ("", "3", "z")] {
            table.push([name.into(), number.into(), rest.into()]);
        }
        let lines = table.lines(None, Paint::new(Color::Never));
        assert_eq!(lines, ["NAME   N  REST", "ab     1  x", "日本  12  🔒", "e\u{301}", "       3  z"]);
        let lines = table.lines(Some(11), Paint::new(Color::Never));
        assert_eq!(lines, ["NAME   N  R", "ab     1  x", "日本  12  ", "e\u{301}", "       3  z"]);
        let lines = table.lines(Some(3), Paint::new(Color::Never));
        assert_eq!(lines, ["NAM", "ab", "日", "e\u{301}", ""]);
    }
}
