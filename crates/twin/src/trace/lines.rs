//! Line after line of a file into jobs: the only place that counts lines.
//!
//! Invariant: a file is read once, in order; an error names the line it stands on. Cost: one pass, no copy of the text.

use super::cells::{Shape, Split};
use super::error::{Error, Fault};
use super::job::Entry;
use super::whole::Trace;
use super::{FORMATS, Format, Options, Reader};

/// Reads a file one line at a time; jobs are given out, names and nodes kept.
#[derive(Debug)]
pub struct Lines<'a> {
    format: &'static dyn Format,
    options: Options<'a>,
    reader: Option<Box<dyn Reader>>,
    /// Comments before the first row, for the reader that the row begins.
    comments: Vec<String>,
    columns: usize,
    line: u64,
    rows: u64,
    split: Split,
    trace: Trace,
}

/// Comments that are kept until the first row.
const COMMENTS_MAX: usize = 1000;

impl<'a> Lines<'a> {
    /// A reader at the start of a file.
    pub fn new(format: &'static dyn Format, options: Options<'a>) -> Self {
        Self {
            format,
            options,
            reader: None,
            comments: Vec::new(),
            columns: 0,
            line: 0,
            rows: 0,
            split: Split::default(),
            trace: Trace::empty(format.name()),
        }
    }

    /// The job of the next line, without its end; `None` for heads, comments, blank lines and rows without a job.
    /// Moments are the file's own: only [`Lines::finish`] and [`read`] know the first.
    /// # Errors
    /// What is wrong with the line.
    pub fn line(&mut self, text: &str) -> Result<Option<Entry>, Error> {
        self.line += 1;
        let text = if self.line == 1 { text.strip_prefix('\u{feff}').unwrap_or(text) } else { text };
        self.take(text).map_err(|fault| self.error(fault))
    }

    fn take(&mut self, text: &str) -> Result<Option<Entry>, Fault> {
        let shape = self.format.shape();
        if text.trim_ascii().is_empty() {
            return Ok(None);
        }
        if shape == Shape::Words
            && let Some(comment) = text.trim_ascii_start().strip_prefix(';')
        {
            match &mut self.reader {
                Some(reader) => reader.comment(comment, &mut self.trace),
                None if self.comments.len() < COMMENTS_MAX => self.comments.push(comment.to_owned()),
                None => {}
            }
            return Ok(None);
        }
        let row = self.split.split(text, shape)?;
        let reader = match &mut self.reader {
            Some(reader) => reader,
            slot @ None => {
                let mut reader = self.format.begin(&row, &self.options, &mut self.trace)?;
                for comment in self.comments.drain(..) {
                    reader.comment(&comment, &mut self.trace);
                }
                self.columns = row.count();
                let reader = slot.insert(reader);
                if shape != Shape::Words {
                    return Ok(None);
                }
                reader
            }
        };
        if row.count() != self.columns {
            return Err(Fault::Count { found: row.count(), want: self.columns });
        }
        self.rows += 1;
        reader.row(&row, &mut self.trace)
    }

    fn error(&self, fault: Fault) -> Error {
        Error { file: self.options.file.to_owned(), line: self.line, fault }
    }

    /// Rows after the head.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Names and nodes that were met up to here.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// The trace with the jobs that were pushed onto it, if any.
    /// # Errors
    /// [`Fault::Empty`] if there was no row.
    pub fn finish(mut self) -> Result<Trace, Error> {
        if self.rows == 0 {
            return Err(self.error(Fault::Empty));
        }
        if let Some(mut reader) = self.reader.take() {
            reader.finish(&mut self.trace);
        }
        self.trace.settle();
        Ok(self.trace)
    }
}

/// Reads a whole file.
/// # Errors
/// The first line that is not in the format.
pub fn read(format: &'static dyn Format, text: &str, options: Options<'_>) -> Result<Trace, Error> {
    let mut lines = Lines::new(format, options);
    for line in text.lines() {
        if let Some(entry) = lines.line(line)? {
            lines.trace.push(entry);
        }
    }
    lines.finish()
}

/// The format called `name`.
pub fn by_name(name: &str) -> Option<&'static dyn Format> {
    FORMATS.iter().find(|format| format.name() == name).copied()
}

/// The format that a file's beginning is in.
/// # Errors
/// [`Fault::Unknown`] if no format begins like this.
pub fn sniff(text: &str, file: &str) -> Result<&'static dyn Format, Error> {
    let head = text.trim_start_matches('\u{feff}').lines().find(|line| {
        let line = line.trim_ascii();
        !line.is_empty() && !line.starts_with(';')
    });
    let known = head.and_then(|head| FORMATS.iter().find(|format| format.sniff(head)));
    known.copied().ok_or_else(|| Error { file: file.to_owned(), line: 1, fault: Fault::Unknown })
}
