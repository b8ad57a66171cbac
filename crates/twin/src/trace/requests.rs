//! Requests to language models: moments, tokens, and the blocks of their prefix.
//!
//! A file is read as an iterator over its rows, borrowed from its text. Moments are seconds since the file's start; blocks
//! are numbers that two requests with the same prefix share. Sources: Patel et al. 2024, "Splitwise" (Azure, `t_s`,
//! `input_tokens`, `output_tokens`); Qin et al. 2025, "Mooncake" (with `prefix_block_ids`, blocks of 512 tokens).

use std::collections::BTreeSet;

use dh_core::time::{SimTime, Span};

use super::cells::{Shape, Split};
use super::{Column, Error, Fault, Row};

/// Tokens of one prompt or answer, at most.
const TOKENS_MAX: u32 = 100_000_000;

/// Tokens of one block of a published prefix.
pub const BLOCK_TOKENS: u32 = 512;

/// A request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// When it came.
    pub at: SimTime,
    /// Tokens of the prompt.
    pub input: u32,
    /// Tokens of the answer.
    pub output: u32,
    /// Blocks of the prompt's prefix, numbers with blanks between; every one was checked.
    blocks: &'a str,
}

impl<'a> Request<'a> {
    /// Blocks of the prompt's prefix, first to last.
    pub fn blocks(&self) -> impl Iterator<Item = u64> + use<'a> {
        self.blocks.split_ascii_whitespace().filter_map(|block| block.parse().ok())
    }
}

#[derive(Debug, Clone, Copy)]
struct Columns {
    at: Column,
    input: Column,
    output: Column,
    blocks: Option<Column>,
}

/// The requests of a file, in its order.
#[derive(Debug)]
pub struct Requests<'a> {
    rows: Rows<'a>,
    columns: Columns,
}

/// The rows of a text with a head: what is common to the readers that give rows out as they are met.
#[derive(Debug)]
pub(super) struct Rows<'a> {
    file: &'a str,
    lines: std::str::Lines<'a>,
    line: u64,
    split: Split,
    columns: usize,
}

impl<'a> Rows<'a> {
    /// The rows, and what `columns` makes of the head.
    pub(super) fn new<C>(
        text: &'a str,
        file: &'a str,
        columns: impl FnOnce(&Row<'_>) -> Result<C, Fault>,
    ) -> Result<(Self, C), Error> {
        let mut rows = Self { file, lines: text.lines(), line: 0, split: Split::default(), columns: 0 };
        let found = rows.next(|row| Ok((row.count(), columns(&row)?)));
        let (count, found) = found.unwrap_or_else(|| Err(rows.error(Fault::Empty)))?;
        rows.columns = count;
        Ok((rows, found))
    }

    /// What `each` makes of the next row; the head is a row like any other until its columns are counted.
    pub(super) fn next<T>(&mut self, each: impl FnOnce(Row<'_>) -> Result<T, Fault>) -> Option<Result<T, Error>> {
        self.next_of(|row, _| each(row))
    }

    /// The same, with the line itself, which outlives the row.
    fn next_of<T>(&mut self, each: impl FnOnce(Row<'_>, &'a str) -> Result<T, Fault>) -> Option<Result<T, Error>> {
        let text = loop {
            self.line += 1;
            let text = self.lines.next()?;
            if !text.trim_ascii().is_empty() {
                break text;
            }
        };
        let want = self.columns;
        let made = self.split.split(text, Shape::Csv).and_then(|row| {
            if want != 0 && row.count() != want {
                return Err(Fault::Count { found: row.count(), want });
            }
            each(row, text)
        });
        Some(made.map_err(|fault| self.error(fault)))
    }

    fn error(&self, fault: Fault) -> Error {
        Error { file: self.file.to_owned(), line: self.line.max(1), fault }
    }
}

impl<'a> Requests<'a> {
    /// The requests of `text`; `file` is what errors call it.
    /// # Errors
    /// If the head lacks a column.
    pub fn new(text: &'a str, file: &'a str) -> Result<Self, Error> {
        let columns = |head: &Row<'_>| {
            Ok(Columns {
                at: head.column("t_s")?,
                input: head.column("input_tokens")?,
                output: head.column("output_tokens")?,
                blocks: head.optional("prefix_block_ids"),
            })
        };
        let (rows, columns) = Rows::new(text, file, columns)?;
        Ok(Self { rows, columns })
    }
}

impl<'a> Iterator for Requests<'a> {
    type Item = Result<Request<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let columns = self.columns;
        self.rows.next_of(|row, line| {
            let blocks = match columns.blocks {
                Some(column) => row.within(column, line),
                None => "",
            };
            if let Some(bad) = blocks.split_ascii_whitespace().find(|block| block.parse::<u64>().is_err()) {
                return Err(Fault::cell("prefix_block_ids", bad, "numbers with blanks between"));
            }
            Ok(Request {
                at: row.moment(columns.at)?,
                input: row.small(columns.input, TOKENS_MAX)?,
                output: row.small(columns.output, TOKENS_MAX)?,
                blocks,
            })
        })
    }
}

/// What a file of requests holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    /// Requests.
    pub requests: u64,
    /// From the first to the last.
    pub over: Span,
    /// Tokens of all prompts.
    pub input: u64,
    /// Tokens of all answers.
    pub output: u64,
    /// The longest prompt.
    pub input_max: u32,
    /// The longest answer.
    pub output_max: u32,
    /// Blocks of all prefixes.
    pub blocks: u64,
    /// Blocks that an earlier request had: what a cache without bound would have held.
    pub blocks_seen: u64,
}

impl Summary {
    /// The summary of `requests`. Memory: one number for each different block.
    /// # Errors
    /// The first that is one.
    pub fn of<'a>(requests: impl Iterator<Item = Result<Request<'a>, Error>>) -> Result<Self, Error> {
        let mut summary = Self::default();
        let mut seen = BTreeSet::new();
        let mut first = None;
        for request in requests {
            let request = request?;
            let start = *first.get_or_insert(request.at);
            summary.requests += 1;
            summary.over = summary.over.max(request.at.since(start));
            summary.input += u64::from(request.input);
            summary.output += u64::from(request.output);
            summary.input_max = summary.input_max.max(request.input);
            summary.output_max = summary.output_max.max(request.output);
            for block in request.blocks() {
                summary.blocks += 1;
                summary.blocks_seen += u64::from(!seen.insert(block));
            }
        }
        Ok(summary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_borrowed_from_their_text_and_summed() {
        let text = "t_s,input_tokens,output_tokens,prefix_block_ids\n0.0,10,2,0 1\n1.5,700,30,0 1 7\n";
        let all: Vec<Request<'_>> = Requests::new(text, "r").unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(all[1].blocks().collect::<Vec<_>>(), [0, 1, 7]);
        let summary = Summary::of(Requests::new(text, "r").unwrap()).unwrap();
        assert_eq!((summary.requests, summary.input, summary.output_max), (2, 710, 30));
        assert_eq!((summary.blocks, summary.blocks_seen, summary.over), (5, 2, Span::from_millis(1500)));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let error = |text: &str| match Requests::new(text, "r") {
            Ok(requests) => Summary::of(requests).unwrap_err().to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(error(""), "r:1: there are no rows");
        assert_eq!(error("t_s,input_tokens\n"), "r:1: there is no column `output_tokens`");
        let head = "t_s,input_tokens,output_tokens,prefix_block_ids\n\n";
        assert_eq!(error(&format!("{head}1,2\n")), "r:3: there are 2 cells, expected 4");
        assert_eq!(
            error(&format!("{head}1,2,3,4 x\n")),
            "r:3: `prefix_block_ids` is `x`, expected numbers with blanks between"
        );
    }
}
