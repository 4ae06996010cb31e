//! Text for people: columns, colours on a terminal only, sizes and counts in words.

use super::describe::Weight;
use std::fmt::Display;
use std::io::{self, Write};

/// `1 node`, `3 nodes`.
pub(super) fn count(number: impl Display, noun: &str) -> String {
    let number = number.to_string();
    let plural = if number == "1" { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// At most five of them, and how many more.
pub(super) fn listed(items: impl ExactSizeIterator<Item = impl Display>) -> String {
    const SHOWN: usize = 5;
    let more = items.len().saturating_sub(SHOWN);
    let mut parts: Vec<String> = items.take(SHOWN).map(|item| item.to_string()).collect();
    if more > 0 {
        parts.push(format!("{more} more"));
    }
    parts.join(", ")
}

/// A size in steps of 1024.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let power = usize::try_from(bytes.ilog2() / 10).unwrap_or(1).clamp(1, UNITS.len());
    // Tenths, rounded down: 1023.99 KiB must not read 1024.0 KiB.
    let tenths = (u128::from(bytes) * 10) >> (10 * power);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[power - 1])
}

/// How a cell looks on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// As it is.
    Plain,
    /// Less important.
    Faint,
    /// As its weight says.
    Weighed(Weight),
}

impl Look {
    const fn codes(self) -> Option<&'static str> {
        match self {
            Self::Plain | Self::Weighed(Weight::Plain) => None,
            Self::Faint => Some("2"),
            Self::Weighed(Weight::Good) => Some("32"),
            Self::Weighed(Weight::Bad) => Some("31"),
            Self::Weighed(Weight::Care) => Some("33"),
        }
    }
}

/// One cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    text: String,
    look: Look,
}

/// A plain cell.
pub fn plain(text: impl Display) -> Cell {
    look(text, Look::Plain)
}

/// A cell with a look.
pub fn look(text: impl Display, look: Look) -> Cell {
    Cell { text: one_line(&text.to_string()), look }
}

/// Control characters would let an object's text move the cursor or forge a line.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Columns whose widths fit the first rows; later rows are written as they come.
pub struct Table<W> {
    out: W,
    colour: bool,
    widths: Vec<usize>,
    right: &'static [usize],
    held: Vec<Vec<Cell>>,
    fixed: bool,
}

impl<W: Write> Table<W> {
    /// Rows that are looked at for the widths.
    const LOOKED_AT: usize = 200;

    /// A table with these headings; the columns of `right` are aligned to the right.
    pub fn new(out: W, colour: bool, headings: &[&str], right: &'static [usize]) -> Self {
        let headings: Vec<Cell> = headings.iter().map(|heading| look(heading, Look::Faint)).collect();
        let widths = headings.iter().map(|cell| cell.text.chars().count()).collect();
        Self { out, colour, widths, right, held: vec![headings], fixed: false }
    }

    /// Adds a row.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn row(&mut self, cells: Vec<Cell>) -> io::Result<()> {
        if self.fixed {
            return self.write(&cells);
        }
        for (width, cell) in self.widths.iter_mut().zip(&cells) {
            *width = (*width).max(cell.text.chars().count());
        }
        self.held.push(cells);
        if self.held.len() > Self::LOOKED_AT { self.settle() } else { Ok(()) }
    }

    /// Writes what was held back, and everything after it at once.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn settle(&mut self) -> io::Result<()> {
        self.fixed = true;
        for row in std::mem::take(&mut self.held) {
            self.write(&row)?;
        }
        self.out.flush()
    }

    fn write(&mut self, cells: &[Cell]) -> io::Result<()> {
        let mut line = String::new();
        for (column, cell) in cells.iter().enumerate() {
            let width = self.widths.get(column).copied().unwrap_or(0);
            let pad = width.saturating_sub(cell.text.chars().count());
            let last = column + 1 == cells.len();
            let right = self.right.contains(&column);
            if right {
                line.extend(std::iter::repeat_n(' ', pad));
            }
            match cell.look.codes().filter(|_| self.colour) {
                Some(codes) => line.extend(["\x1b[", codes, "m", &cell.text, "\x1b[0m"]),
                None => line.push_str(&cell.text),
            }
            if !right && !last {
                line.extend(std::iter::repeat_n(' ', pad));
            }
            if !last {
                line.push_str("  ");
            }
        }
        writeln!(self.out, "{}", line.trim_end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_cut_not_rounded_up() {
        let cases =
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1_048_575, "1023.9 KiB"), (u64::MAX, "15.9 EiB")];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn text_of_an_object_cannot_move_the_cursor() {
        assert_eq!(plain("a\nb\x1b[2J").text, "a b [2J");
    }

    #[test]
    fn columns_fit_and_colours_do_not_count() {
        let mut out = Vec::new();
        let mut table = Table::new(&mut out, true, &["N", "WHAT", "DETAIL"], &[0]);
        table.row(vec![plain(10), look("good", Look::Weighed(Weight::Good)), plain("")]).unwrap();
        table.settle().unwrap();
        table.row(vec![plain(7), plain("longer than before"), plain("x")]).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap().replace('\x1b', "^"), @r"
         ^[2mN^[0m  ^[2mWHAT^[0m  ^[2mDETAIL^[0m
        10  ^[32mgood^[0m
         7  longer than before  x
        ");
    }
}
