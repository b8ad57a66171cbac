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
mod docs;
mod names;
mod observe;
mod problem;
mod read;
mod schema;
mod section;
mod settings;
mod template;
mod value;
mod write;

pub use catalog::{
    AcceleratorClass, AcceleratorItem, Aliases, Attention, CableItem, CableKind, Catalog, DriveItem, EfficiencyItem,
    Field, Kind, LinkItem, LinkKind, Mlp, ModelItem, NicItem, NodeItem, Numbers, Package, SliceProfile, Slices,
    Sourced, Subject, Summary, SwitchItem, SwitchKind,
};
pub use codes::{Code, codes, explain};
pub use dense::{DenseModel, NotDense};
pub use names::nearest;
pub use problem::{Problem, Report, Span};
pub use schema::{KeyDoc, explain_path, paths, schema};
pub use settings::{
    Allow, CLASSES, CacheFormat, Cluster, Command, Compression, Durability, Edge, Encryption, ErasureCode, Executor,
    Fabric, Gateway, Member, Optimise, OwnNode, PinnedLayout, Policy, Pool, Precision, Pretrain, PueSplit, Queue,
    ROUTING, Role, Service, ServiceFacts, ServiceLayout, ServiceRole, ServiceScale, ServiceSource, ServingEngine,
    Settings, Shape, Site, State, Store, Target, Tier, TierPlace, Topology, Train, WeightFormat, Workload,
    WorkloadKind, Zone, scheduling,
};
pub use template::{TEMPLATES, template};
pub use write::Origins;

/// The reader of blueprints.
#[derive(Debug)]
pub struct Blueprint;

impl Blueprint {
    /// Reads the text of the blueprint `file_name`; the name only appears in messages. A `base` cannot be read this way.
    /// # Errors
    /// A [`Report`] of every problem found.
    pub fn parse(file_name: &str, text: &str) -> Result<Settings, Report> {
        Self::parse_with(file_name, text, |_, _| Err("only a file on disk can have a base".to_owned()))
    }

    /// Reads the text of the blueprint `file_name` and of the bases below it. `load` is asked for each base with the name of
    /// the file that names it and the path written there; it answers with a name for messages and the text, or says why not.
    /// # Errors
    /// A [`Report`] of every problem found, in all of the files.
    pub fn parse_with(
        file_name: &str,
        text: &str,
        mut load: impl FnMut(&str, &str) -> Result<(String, String), String>,
    ) -> Result<Settings, Report> {
        read::blueprint(file_name, text, &mut load)
    }

    /// As [`Self::parse_with`]; says also where each key is written, so that a plan can say what its numbers rest on.
    /// # Errors
    /// A [`Report`] of every problem found, in all of the files.
    pub fn read(
        file_name: &str,
        text: &str,
        mut load: impl FnMut(&str, &str) -> Result<(String, String), String>,
    ) -> Result<(Settings, Origins), Report> {
        read::with_origins(file_name, text, &mut load)
    }

    /// The whole blueprint as one text, with its bases merged in and every default written out and marked.
    /// # Errors
    /// A [`Report`] of every problem found, in all of the files.
    pub fn effective(
        file_name: &str,
        text: &str,
        mut load: impl FnMut(&str, &str) -> Result<(String, String), String>,
    ) -> Result<String, Report> {
        let (settings, origins) = read::with_origins(file_name, text, &mut load)?;
        let mut out = write::Writer::new(Some(&origins));
        read::write(&mut out, &settings);
        Ok(out.finish())
    }
}

impl Settings {
    /// These settings as a blueprint that reads back as the same settings.
    pub fn to_toml(&self) -> String {
        let mut out = write::Writer::new(None);
        read::write(&mut out, self);
        out.finish()
    }
}
