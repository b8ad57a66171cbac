//! Why a trace cannot be played.

use dh_core::{HasKind, Kind};

/// Why a trace cannot be played.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A line is not what its format has.
    #[error("{file}:{line}: {why}")]
    Line {
        /// Which of the files.
        file: &'static str,
        /// The line, from 1; 0 if it is not known.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
    /// A column that the format needs is missing.
    #[error("{file}: there is no column `{column}`")]
    Column {
        /// Which of the files.
        file: &'static str,
        /// The column.
        column: &'static str,
    },
    /// There is nothing to play.
    #[error("{0}")]
    Nothing(&'static str),
}

impl HasKind for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Line { .. } | Self::Column { .. } | Self::Nothing(_) => Kind::Invalid,
        }
    }

    fn hint(&self) -> Option<String> {
        None
    }
}
