//! Why a file of measurements cannot be used.

use dh_core::{HasKind, Kind};

/// Why a file of measurements cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The file is no table, or a cell is not what its column has.
    #[error("line {line}: {why}")]
    Row {
        /// Of the file, from 1; 0 if it is not known.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
    /// A column that the format needs is missing.
    #[error("the file has no column `{0}`")]
    Column(&'static str),
    /// There is nothing to fit here.
    #[error("{0}")]
    Nothing(&'static str),
}

impl HasKind for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Row { .. } | Self::Column(_) | Self::Nothing(_) => Kind::Invalid,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Row { .. } | Self::Column(_) => Some("the columns of each format are in docs/accuracy.md".to_owned()),
            Self::Nothing(_) => None,
        }
    }
}

impl From<csv::Error> for Error {
    fn from(error: csv::Error) -> Self {
        let line = error.position().map_or(0, csv::Position::line);
        let why = if let csv::ErrorKind::UnequalLengths { expected_len, len, .. } = error.kind() {
            format!("it has {len} cells, and the head has {expected_len}")
        } else if let csv::ErrorKind::Deserialize { err, .. } = error.kind() {
            err.field().map_or_else(|| err.to_string(), |field| format!("cell {}: {}", field + 1, err.kind()))
        } else {
            error.to_string()
        };
        Self::Row { line, why }
    }
}
