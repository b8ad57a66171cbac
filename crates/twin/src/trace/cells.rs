//! The cells of one line, found without copying it.
//!
//! Invariant: a line is split by its shape alone, and a cell is a part of the line. Cost: one pass, no allocation after the
//! first line. What a number may be is bounded here, so that no later sum overflows.

use dh_core::time::{SimTime, Span};

use super::error::Fault;
use super::number::fixed;

/// How a line is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Commas, a head, quotation marks around cells with commas.
    Csv,
    /// Vertical bars and a head.
    Bars,
    /// Blanks; no head; a line that begins with `;` is a comment.
    Words,
}

/// Seconds, at most: 136 years, so that moments since 1970 fit and sums stay below 64 bits of nanoseconds.
const SECONDS_MAX: u64 = 4_294_967_295;
const NANOS: u64 = 1_000_000_000;

/// The parts of a line, kept between lines.
#[derive(Debug, Default)]
pub(crate) struct Split {
    spans: Vec<(usize, usize)>,
}

impl Split {
    /// Divides `line`.
    pub(crate) fn split<'a>(&'a mut self, line: &'a str, shape: Shape) -> Result<Row<'a>, Fault> {
        self.spans.clear();
        match shape {
            Shape::Csv => self.csv(line)?,
            Shape::Bars => self.separated(line, b'|'),
            Shape::Words => self.words(line),
        }
        Ok(Row { line, spans: &self.spans })
    }

    fn separated(&mut self, line: &str, separator: u8) {
        let mut start = 0;
        for (at, byte) in line.bytes().enumerate() {
            if byte == separator {
                self.spans.push((start, at));
                start = at + 1;
            }
        }
        self.spans.push((start, line.len()));
    }

    /// Commas; a line with a quotation mark is begun again, with care.
    fn csv(&mut self, line: &str) -> Result<(), Fault> {
        let mut start = 0;
        for (at, byte) in line.bytes().enumerate() {
            match byte {
                b',' => {
                    self.spans.push((start, at));
                    start = at + 1;
                }
                b'"' => {
                    self.spans.clear();
                    return self.quoted(line);
                }
                _ => {}
            }
        }
        self.spans.push((start, line.len()));
        Ok(())
    }

    fn quoted(&mut self, line: &str) -> Result<(), Fault> {
        let bytes = line.as_bytes();
        let mut start = 0;
        loop {
            let rest = bytes.get(start..).unwrap_or_default();
            let (from, length, step) = if rest.first() == Some(&b'"') {
                let inner = rest.get(1..).unwrap_or_default();
                let length = inner.iter().position(|byte| *byte == b'"').ok_or(Fault::Quote)?;
                (start + 1, length, length + 2)
            } else {
                let length = rest.iter().position(|byte| *byte == b',').unwrap_or(rest.len());
                (start, length, length)
            };
            self.spans.push((from, from + length));
            match bytes.get(start + step) {
                None => return Ok(()),
                Some(b',') => start += step + 1,
                Some(_) => return Err(Fault::Quote),
            }
        }
    }

    fn words(&mut self, line: &str) {
        let mut start = None;
        for (at, byte) in line.bytes().enumerate() {
            match (byte.is_ascii_whitespace(), start) {
                (false, None) => start = Some(at),
                (true, Some(from)) => {
                    self.spans.push((from, at));
                    start = None;
                }
                (true, None) | (false, Some(_)) => {}
            }
        }
        if let Some(from) = start {
            self.spans.push((from, line.len()));
        }
    }
}

/// One line in its cells.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    line: &'a str,
    spans: &'a [(usize, usize)],
}

/// A column: where it stands, and how it is called.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    /// Its place.
    pub(crate) at: usize,
    /// Its name, for errors.
    pub(crate) name: &'static str,
}

impl<'a> Row<'a> {
    /// Cells.
    pub(crate) fn count(&self) -> usize {
        self.spans.len()
    }

    /// The cell at a place; empty if there is none.
    pub(crate) fn cell(&self, at: usize) -> &'a str {
        self.spans.get(at).and_then(|(from, to)| self.line.get(*from..*to)).unwrap_or_default().trim_ascii()
    }

    /// The column called `name`, in a row that is a head.
    pub(crate) fn column(&self, name: &'static str) -> Result<Column, Fault> {
        self.optional(name).ok_or(Fault::Column(name))
    }

    /// The column called `name`, if the head has it.
    pub(crate) fn optional(&self, name: &'static str) -> Option<Column> {
        (0..self.count()).find(|at| self.cell(*at) == name).map(|at| Column { at, name })
    }

    /// The text of a cell.
    pub(crate) fn text(&self, column: Column) -> &'a str {
        self.cell(column.at)
    }

    /// The text of a cell as a part of the line that the row was made of.
    pub(crate) fn within<'l>(&self, column: Column, line: &'l str) -> &'l str {
        let found = self.spans.get(column.at).and_then(|(from, to)| line.get(*from..*to));
        found.unwrap_or_default().trim_ascii()
    }

    /// A whole number up to `most`; `12.0` is one.
    pub(crate) fn whole(&self, column: Column, most: u64) -> Result<u64, Fault> {
        let text = self.text(column);
        let zeros = |part: &str| part.bytes().all(|byte| byte == b'0');
        let plain = text.split_once('.').filter(|(_, part)| zeros(part)).map_or(text, |(whole, _)| whole);
        fixed_whole(plain)
            .filter(|number| *number <= most)
            .ok_or_else(|| Fault::cell(column.name, text, format!("a whole number up to {most}")))
    }

    /// A whole number of 32 bits, up to `most`.
    pub(crate) fn small(&self, column: Column, most: u32) -> Result<u32, Fault> {
        self.whole(column, u64::from(most)).map(|number| u32::try_from(number).unwrap_or(u32::MAX))
    }

    /// `10^places` times a decimal, up to `most` of those.
    pub(crate) fn fixed(&self, column: Column, places: u32, most: u64) -> Result<u64, Fault> {
        let text = self.text(column);
        fixed(text, places)
            .filter(|number| *number <= most)
            .ok_or_else(|| Fault::cell(column.name, text, format!("a number from 0 to {most}e-{places}")))
    }

    /// Seconds as a length of time.
    pub(crate) fn span(&self, column: Column) -> Result<Span, Fault> {
        let text = self.text(column);
        seconds(text)
            .map(|moment| Span(moment.0))
            .ok_or_else(|| Fault::cell(column.name, text, format!("seconds from 0 to {SECONDS_MAX}")))
    }

    /// Seconds as a length of time; an empty cell is none.
    pub(crate) fn maybe_span(&self, column: Column) -> Result<Option<Span>, Fault> {
        if self.text(column).is_empty() { Ok(None) } else { self.span(column).map(Some) }
    }

    /// Seconds as a moment.
    pub(crate) fn moment(&self, column: Column) -> Result<SimTime, Fault> {
        self.span(column).map(|span| SimTime(span.0))
    }
}

/// Seconds in a text as a moment; `None` beyond 136 years.
pub(crate) fn seconds(text: &str) -> Option<SimTime> {
    fixed(text, 9).filter(|nanos| *nanos <= SECONDS_MAX * NANOS).map(SimTime)
}

/// A whole number of digits only.
fn fixed_whole(text: &str) -> Option<u64> {
    if text.contains('.') { None } else { fixed(text, 0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(line: &str, shape: Shape) -> Result<Vec<String>, Fault> {
        let mut split = Split::default();
        let row = split.split(line, shape)?;
        Ok((0..row.count()).map(|at| row.cell(at).to_owned()).collect())
    }

    #[test]
    fn each_shape_divides_as_it_says() {
        assert_eq!(cells("a,,b,", Shape::Csv).unwrap(), ["a", "", "b", ""]);
        assert_eq!(cells("k80,\"('LM', 1)\",,4.7", Shape::Csv).unwrap(), ["k80", "('LM', 1)", "", "4.7"]);
        assert_eq!(cells("\"a\"", Shape::Csv).unwrap(), ["a"]);
        assert_eq!(cells("a|b c|", Shape::Bars).unwrap(), ["a", "b c", ""]);
        assert_eq!(cells("  1\t2   3 ", Shape::Words).unwrap(), ["1", "2", "3"]);
        assert_eq!(cells("\"a", Shape::Csv), Err(Fault::Quote));
        assert_eq!(cells("\"a\"b,c", Shape::Csv), Err(Fault::Quote));
    }

    #[test]
    fn a_number_beyond_its_bound_is_refused_with_its_column() {
        let mut split = Split::default();
        let row = split.split("12.0,12.5,99999999999,x", Shape::Csv).unwrap();
        let column = |at| Column { at, name: "n" };
        assert_eq!(row.whole(column(0), 12), Ok(12));
        assert_eq!(row.span(column(1)), Ok(Span(12_500_000_000)));
        for (at, found) in [(0, "12.0"), (1, "12.5"), (2, "99999999999"), (3, "x")] {
            let error = row.whole(column(at), 11).unwrap_err().to_string();
            assert_eq!(error, format!("`n` is `{found}`, expected a whole number up to 11"));
        }
        assert!(row.span(column(2)).is_err());
    }
}
