//! Markdown tables, aligned so that they read well as text too.

use std::fmt;

/// What is not there to be measured.
pub(crate) const NONE: &str = "–";

pub(crate) struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(head: &[&str]) -> Self {
        Self { head: head.iter().map(|&cell| cell.to_owned()).collect(), rows: Vec::new() }
    }

    /// A row; cells that are missing at its end are [`NONE`].
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
                // Words to the left, numbers to the right.
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

/// A number with three significant digits, or as many as it has before the point.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        _ if value.is_nan() => NONE.to_owned(),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A ratio, as a factor.
pub(crate) fn ratio(value: f64) -> String {
    if value.is_nan() { NONE.to_owned() } else { format!("{} ×", number(value)) }
}
