//! Kinds of catalogue items, and the files that are part of the program, in folders called like the kinds.
//!
//! Invariant: each table of files is sorted by name (`build.rs` makes them), so that a name is found by bisection.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Name and text of every file of one kind.
pub(super) type Files = &'static [(&'static str, &'static str)];

/// One static table for each kind.
pub(super) mod files {
    use super::Files;

    include!(concat!(env!("OUT_DIR"), "/catalogue.rs"));
}

/// What an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A GPU, an NPU or a TPU.
    Accelerator,
    /// A network card.
    Nic,
    /// A switch, packet or optical, or its chip.
    Switch,
    /// A cable, or the optics at the ends of one.
    Cable,
    /// A link inside a machine or rack, or a port of a network generation.
    Link,
    /// A drive.
    Drive,
    /// A whole machine.
    Node,
    /// A language model.
    Model,
    /// What a model of performance has learned of hardware under a software stack.
    Efficiency,
}

impl Kind {
    /// Every kind, parts before the whole that may name them.
    pub const ALL: [Self; 9] = [
        Self::Accelerator,
        Self::Nic,
        Self::Switch,
        Self::Cable,
        Self::Link,
        Self::Drive,
        Self::Node,
        Self::Model,
        Self::Efficiency,
    ];

    /// As in `[catalog.WORD.NAME]`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Accelerator => "accelerator",
            Self::Nic => "nic",
            Self::Switch => "switch",
            Self::Cable => "cable",
            Self::Link => "link",
            Self::Drive => "drive",
            Self::Node => "node",
            Self::Model => "model",
            Self::Efficiency => "efficiency",
        }
    }

    /// Several of it; also the folder of its files.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Accelerator => "accelerators",
            Self::Nic => "nics",
            Self::Switch => "switches",
            Self::Cable => "cables",
            Self::Link => "links",
            Self::Drive => "drives",
            Self::Node => "nodes",
            Self::Model => "models",
            Self::Efficiency => "efficiency",
        }
    }

    /// The kind that `word` names, in singular or plural.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word || kind.plural() == word)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
