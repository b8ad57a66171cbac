//! Why a file is not what its format says: which file, which line, which column, and what was expected.
//!
//! Invariant: what is shown of a file is short and has no control characters, whatever the file holds.

use dh_core::{HasKind, Kind};

/// Why a file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {fault}")]
pub struct Error {
    /// The file, as the caller calls it.
    pub file: String,
    /// The line, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A cell is not what its column has.
    #[error("`{column}` is `{found}`, expected {want}")]
    Cell {
        /// The column.
        column: &'static str,
        /// What stands there, shortened.
        found: String,
        /// What would do.
        want: String,
    },
    /// The head names no such column.
    #[error("there is no column `{0}`")]
    Column(&'static str),
    /// There are fewer cells than columns, or more.
    #[error("there are {found} cells, expected {want}")]
    Count {
        /// Cells on the line.
        found: usize,
        /// Columns of the head.
        want: usize,
    },
    /// A quoted cell does not end on its line, or holds a quotation mark.
    #[error("a quoted cell does not end before the next separator")]
    Quote,
    /// More different names than can be told apart.
    #[error("there are more than {0} different names")]
    Names(usize),
    /// A line of the second file, the list of nodes.
    #[error("line {line} of the list of nodes: {fault}")]
    Nodes {
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        fault: Box<Fault>,
    },
    /// Nothing that could be read.
    #[error("there are no rows")]
    Empty,
    /// No format of the table begins like this.
    #[error("no known format begins like this")]
    Unknown,
}

/// Characters of a cell that an error shows.
const SHOWN_MAX: usize = 40;

impl Fault {
    /// A cell that is not what its column has.
    pub(crate) fn cell(column: &'static str, found: &str, want: impl Into<String>) -> Self {
        let mut shown: String = found.chars().take(SHOWN_MAX).map(|c| if c.is_control() { '?' } else { c }).collect();
        if found.chars().nth(SHOWN_MAX).is_some() {
            shown.push_str("...");
        }
        Self::Cell { column, found: shown, want: want.into() }
    }
}

impl HasKind for Error {
    fn kind(&self) -> Kind {
        Kind::Invalid
    }

    fn hint(&self) -> Option<String> {
        match &self.fault {
            Fault::Unknown => {
                let names: Vec<&str> = super::FORMATS.iter().map(|format| format.name()).collect();
                Some(format!("name the format; known are {}", names.join(", ")))
            }
            Fault::Nodes { .. }
            | Fault::Cell { .. }
            | Fault::Column(_)
            | Fault::Count { .. }
            | Fault::Quote
            | Fault::Names(_)
            | Fault::Empty => None,
        }
    }
}
