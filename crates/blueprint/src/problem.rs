//! A problem of a blueprint, with its place, and the report of all of them.
//!
//! Invariant: whatever the file contains, what is printed is plain text: control characters of the file are replaced, and
//! a long line is cut around the place that is pointed at.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::ops::Range;

use dh_core::{HasKind, Kind};
use serde::Serialize;

use crate::codes::Code;
use crate::observe::Observer;

/// Problems that one report lists; beyond it they are counted.
const SHOWN_MAX: usize = 100;

/// Characters of a source line that are shown.
const LINE_MAX: usize = 100;

/// Characters of a message or a hint.
const SENTENCE_MAX: usize = 500;

/// A range of bytes of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What kind of problem.
    pub code: Code,
    /// The file it is in: the one that was read, or a base of it.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The bytes of that file meant.
    pub span: Span,
    /// What is wrong, in one sentence.
    pub message: String,
    /// What to write instead, where we know.
    pub hint: Option<String>,
    /// The line as shown, cut and cleaned.
    pub source: String,
    /// Where the carets start in `source` and how many there are, in characters.
    #[serde(skip)]
    caret: (usize, usize),
}

/// Every problem of one blueprint, in the order of the text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The file's name as the caller gave it.
    pub file: String,
    /// The problems; never empty.
    pub problems: Vec<Problem>,
    /// How many more there are than are listed.
    pub more: usize,
}

/// A problem before its place is known as line and column.
#[derive(Debug)]
struct Found {
    code: Code,
    at: Range<usize>,
    message: String,
    hint: Option<String>,
}

/// One of the texts that a blueprint is made of. Places are counted through all of them: `offset` is where this one starts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'t> {
    pub(crate) name: &'t str,
    pub(crate) text: &'t str,
    pub(crate) offset: usize,
}

/// Where readers put what they find.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    /// What the readers ask for, if somebody wants to know: the schema is made from it.
    pub(crate) observer: Option<Observer>,
    found: RefCell<Vec<Found>>,
    /// Missing keys by place, so that a section gets one problem and not one for each key.
    missing: RefCell<BTreeMap<(usize, usize, String), Vec<String>>>,
}

impl Problems {
    /// Problems that also notes what readers ask for.
    pub(crate) fn observing() -> Self {
        Self { observer: Some(Observer::default()), ..Self::default() }
    }

    pub(crate) fn add(&self, code: Code, at: &Range<usize>, message: impl Into<String>, hint: Option<String>) {
        let hint = hint.map(|hint| sentence(&hint));
        self.found.borrow_mut().push(Found { code, at: at.clone(), message: sentence(&message.into()), hint });
    }

    /// The table called `place`, written at `at`, lacks `key`.
    pub(crate) fn missing(&self, at: &Range<usize>, place: String, key: &str) {
        self.missing.borrow_mut().entry((at.start, at.end, place)).or_default().push(format!("`{key}`"));
    }

    pub(crate) fn count(&self) -> usize {
        self.found.borrow().len() + self.missing.borrow().len()
    }

    /// The report on one text, if there is anything to report.
    pub(crate) fn into_report(self, file: &str, text: &str) -> Option<Report> {
        self.into_report_on(&[Source { name: file, text, offset: 0 }])
    }

    /// The report on `sources`, the first of which is the file that was asked for.
    pub(crate) fn into_report_on(self, sources: &[Source<'_>]) -> Option<Report> {
        for ((start, end, place), keys) in self.missing.take() {
            let noun = if keys.len() == 1 { "key" } else { "keys" };
            self.add(Code::MISSING_KEY, &(start..end), format!("{place} needs the {noun} {}", keys.join(", ")), None);
        }
        let mut found = self.found.into_inner();
        found.sort_by_key(|problem| (problem.at.start, problem.at.end, problem.code));
        let more = found.len().saturating_sub(SHOWN_MAX);
        found.truncate(SHOWN_MAX);
        let lines: Vec<Lines<'_>> = sources.iter().map(Lines::of).collect();
        // Texts ascend by offset; a place belongs to the last one that starts at or before it.
        let problems: Vec<Problem> = found
            .into_iter()
            .filter_map(|found| {
                let within = lines.iter().rev().find(|lines| lines.offset <= found.at.start);
                within.or(lines.first()).map(|lines| lines.place(found))
            })
            .collect();
        let file = sources.first().map_or_else(String::new, |source| plain(source.name));
        (!problems.is_empty()).then_some(Report { file, problems, more })
    }
}

/// The text and where its lines start.
struct Lines<'a> {
    name: &'a str,
    text: &'a str,
    offset: usize,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn of(source: &Source<'a>) -> Self {
        let breaks = source.text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        // A byte order mark is not part of the first line.
        let first = if source.text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        let starts = std::iter::once(first).chain(breaks).collect();
        Self { name: source.name, text: source.text, offset: source.offset, starts }
    }

    fn place(&self, found: Found) -> Problem {
        let start = self.boundary(found.at.start.saturating_sub(self.offset));
        let end = self.boundary(found.at.end.saturating_sub(self.offset).max(start));
        let line = self.starts.partition_point(|at| *at <= start).max(1);
        let from = self.starts.get(line - 1).copied().unwrap_or(0);
        let whole = self.text.get(from..).unwrap_or_default().split('\n').next().unwrap_or_default();
        let whole = whole.trim_end_matches('\r');
        let before = self.text.get(from..start).unwrap_or_default().chars().count();
        let length = whole.chars().count();
        let wide = self.text.get(start..end).unwrap_or_default().chars().take_while(|c| *c != '\n').count();
        let (source, shift) = excerpt(whole, before, length);
        let caret = before.saturating_add(shift.1).saturating_sub(shift.0);
        let wide = wide.min(source.chars().count().saturating_sub(caret)).max(1);
        Problem {
            code: found.code,
            file: plain(self.name),
            line,
            column: before + 1,
            span: Span { start, end },
            message: found.message,
            hint: found.hint,
            source,
            caret: (caret, wide),
        }
    }

    /// The nearest place at or before `at` that is between two characters.
    fn boundary(&self, at: usize) -> usize {
        let mut at = at.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        at
    }
}

/// The part of a line around the character `at`; and how many characters were cut and put before it.
fn excerpt(line: &str, at: usize, length: usize) -> (String, (usize, usize)) {
    if length <= LINE_MAX {
        return (plain(line), (0, 0));
    }
    let skip = at.saturating_sub(LINE_MAX / 3);
    let mut shown = String::new();
    if skip > 0 {
        shown.push('…');
    }
    shown.extend(line.chars().skip(skip).take(LINE_MAX).map(harmless));
    if length > skip + LINE_MAX {
        shown.push('…');
    }
    (shown, (skip, usize::from(skip > 0)))
}

/// A tab takes one column like any character; what would move the cursor, change colours or turn the direction of
/// writing is made visible.
fn harmless(c: char) -> char {
    match c {
        '\t' => ' ',
        '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

/// `text` without control characters.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(harmless).collect()
}

/// A message or hint as it is kept: names of the file inside it are cleaned, and none makes it longer than a paragraph.
fn sentence(text: &str) -> String {
    let mut shown: String = text.chars().take(SENTENCE_MAX).map(harmless).collect();
    if text.chars().nth(SENTENCE_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// A piece of the file inside a message: in backquotes, cleaned and at most 48 characters.
pub(crate) fn quoted(text: &str) -> String {
    format!("`{}`", short(text))
}

/// The same without the backquotes.
pub(crate) fn short(text: &str) -> String {
    let mut shown: String = text.chars().take(48).map(harmless).collect();
    if text.chars().nth(48).is_some() {
        shown.push('…');
    }
    shown
}

/// Columns that a terminal gives to a character: two for most characters of East Asian scripts (Unicode annex 11, in
/// blocks) and for pictures.
fn columns(c: char) -> usize {
    match u32::from(c) {
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

impl Report {
    /// The report as text for a terminal, without a line break at its end.
    pub fn render(&self) -> String {
        self.to_string()
    }

    fn total(&self) -> usize {
        self.problems.len() + self.more
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            let gutter = problem.line.to_string().len();
            let pad = " ".repeat(gutter);
            let (skip, wide) = problem.caret;
            let before: usize = problem.source.chars().take(skip).map(columns).sum();
            let under: usize = problem.source.chars().skip(skip).take(wide).map(columns).sum();
            writeln!(f, "error[{}]: {}", problem.code, problem.message)?;
            writeln!(f, "{pad}--> {}:{}:{}", problem.file, problem.line, problem.column)?;
            writeln!(f, "{pad} |")?;
            writeln!(f, "{}", format!("{} | {}", problem.line, problem.source).trim_end())?;
            writeln!(f, "{pad} | {}{} here", " ".repeat(before), "^".repeat(under.max(1)))?;
            if let Some(hint) = &problem.hint {
                writeln!(f, "{pad} = hint: {hint}")?;
            }
            f.write_char('\n')?;
        }
        let (first, total) = (self.problems.first().map(|problem| problem.code.to_string()), self.total());
        let noun = if total == 1 { "problem" } else { "problems" };
        write!(f, "{}: {total} {noun}", self.file)?;
        if self.more > 0 {
            write!(f, ", the first {} are shown", self.problems.len())?;
        }
        write!(f, "; `datahall explain {}` says more", first.unwrap_or_default())
    }
}

impl std::error::Error for Report {}

impl HasKind for Report {
    fn kind(&self) -> Kind {
        Kind::Blueprint
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn report(text: &str, at: Range<usize>) -> Report {
        let problems = Problems::default();
        problems.add(Code::UNKNOWN_KEY, &at, "unknown key `epoch`", Some("did you mean `epochs`?".to_owned()));
        problems.into_report("hall.toml", text).unwrap()
    }

    #[test]
    fn a_report_points_at_the_place() {
        let text = "\n".repeat(40) + "epoch = 5\n";
        expect![[r"
            error[DH0103]: unknown key `epoch`
              --> hall.toml:41:1
               |
            41 | epoch = 5
               | ^^^^^ here
               = hint: did you mean `epochs`?

            hall.toml: 1 problem; `datahall explain DH0103` says more"]]
        .assert_eq(&report(&text, 40..45).render());
    }

    #[test]
    fn a_long_or_strange_line_is_cut_and_cleaned() {
        let text = format!("{}\u{202e}[31mé = 1{}", "x".repeat(500), "y".repeat(500));
        let shown = report(&text, 507..509);
        let problem = &shown.problems[0];
        assert_eq!(problem.column, 506);
        assert!(problem.source.chars().count() <= LINE_MAX + 2);
        assert!(!problem.source.contains('\u{202e}'));
        assert_eq!(problem.source.chars().nth(problem.caret.0), Some('é'));
    }

    #[test]
    fn no_range_is_out_of_reach() {
        for text in ["", "é", "a\nb", "a\r\n"] {
            for start in 0..6 {
                for end in 0..6 {
                    assert!(!report(text, start..end).render().is_empty());
                }
            }
        }
    }
}
