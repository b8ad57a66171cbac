//! The blueprint: one TOML file that describes a hall, read into typed and checked [`Settings`].
//!
//! Invariant: pure; the caller reads the file and hands its text in. Every problem of the text is reported at once, each
//! with its place, its code and what to write instead. Nothing that was written is ignored: unknown keys are errors.
//!
//! ```text
//! text -> toml_edit document -> Section readers (raw keys, types, units) -> cross checks -> Settings
//! ```
#![warn(missing_docs)]
#![deny(clippy::indexing_slicing)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::allow_attributes,
        reason = "tests fail by panicking"
    )
)]

mod catalog;
mod codes;
mod dense;
mod names;
mod problem;
mod read;
mod section;
mod settings;
mod template;

pub use catalog::{Catalog, ModelItem, NodeItem, Package, Sourced};
pub use codes::{Code, codes, explain};
pub use dense::{DenseModel, NotDense};
pub use problem::{Problem, Report, Span};
pub use settings::{
    Command, Compression, Executor, Pool, Queue, Service, ServiceSource, Settings, Site, Store, Target, Train,
    Workload, WorkloadKind,
};
pub use template::{TEMPLATES, template};

/// The reader of blueprints.
#[derive(Debug)]
pub struct Blueprint;

impl Blueprint {
    /// Reads the text of the blueprint `file_name`; the name only appears in messages.
    /// # Errors
    /// A [`Report`] of every problem found.
    pub fn parse(file_name: &str, text: &str) -> Result<Settings, Report> {
        read::blueprint(file_name, text, Catalog::builtin())
    }
}
