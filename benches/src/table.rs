//! Markdown tables, aligned so that they are readable as plain text.

use std::fmt;

/// The content of a cell without a value.
pub(crate) const NONE: &str = "–";

pub(crate) struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(head: &[&str]) -> Self {
        Self { head: head.iter().map(|&cell| cell.to_owned()).collect(), rows: Vec::new() }
    }

    /// Adds a row. Missing cells at its end become [`NONE`].
    pub(crate) fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        let mut row: Vec<String> = cells.into_iter().map(Into::into).collect();
        assert!(row.len() <= self.head.len());
        row.resize(self.head.len(), NONE.to_owned());
        self.rows.push(row);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = || std::iter::once(&self.head).chain(&self.rows);
        let width = |column: usize| lines().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<_> = (0..self.head.len()).map(width).collect();
        for (index, row) in lines().enumerate() {
            for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                // Text is aligned to the left, numbers to the right.
                if column == 0 { write!(f, "| {cell:<width$} ")? } else { write!(f, "| {cell:>width$} ")? }
            }
            writeln!(f, "|")?;
            if index == 0 {
                for (column, &width) in widths.iter().enumerate() {
                    let dashes = "-".repeat(width);
                    if column == 0 { write!(f, "| {dashes} ")? } else { write!(f, "| {}: ", &dashes[1..])? }
                }
                writeln!(f, "|")?;
            }
        }
        Ok(())
    }
}

/// Formats a number with three significant digits, or with all digits before the decimal point.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        _ if value.is_nan() => NONE.to_owned(),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Formats a ratio as a factor.
pub(crate) fn ratio(value: f64) -> String {
    if value.is_nan() { NONE.to_owned() } else { format!("{} ×", number(value)) }
}
