//! The catalogue: hardware and models that a blueprint may name, one small file each, every number with its source.
//!
//! Invariant: adding a file under `catalog/` is enough; `build.rs` scans the folders, and each file is read at its first
//! use. A [`Catalog`] is what a blueprint adds or changes, over what is built in: its own items come first.
//!
//! ```toml
//! title = "NVIDIA H100 80 GB SXM"
//! source = "data sheet"                                          # of every number that names none
//! tdp = "700 W"
//! price = { value = "$30000", source = "approximate list price" }
//! ```

mod compute;
mod driver;
mod efficiency;
mod fact;
mod item;
mod kind;
mod model;
mod network;
mod own;
mod shelf;
mod slices;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use compute::{AcceleratorClass, AcceleratorItem, DriveItem, NodeItem};
pub use efficiency::{EfficiencyItem, Numbers, Subject};
pub use fact::{Field, Sourced};
pub use kind::Kind;
pub use model::{Aliases, Attention, Mlp, ModelItem, Package};
pub use network::{CableItem, CableKind, LinkItem, LinkKind, NicItem, SwitchItem, SwitchKind};
pub(crate) use own::read_own;
pub use slices::{SliceProfile, Slices};

use item::Item;

use crate::names::nearest;
use crate::problem::Report;

/// Built-in items, and over them those of a blueprint. Only the latter are part of its value.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Catalog {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    accelerators: BTreeMap<String, AcceleratorItem>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    nics: BTreeMap<String, NicItem>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    switches: BTreeMap<String, SwitchItem>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    cables: BTreeMap<String, CableItem>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    links: BTreeMap<String, LinkItem>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    drives: BTreeMap<String, DriveItem>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    nodes: BTreeMap<String, NodeItem>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    models: BTreeMap<String, ModelItem>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    efficiencies: BTreeMap<String, EfficiencyItem>,
}

static BUILTIN: Catalog = Catalog {
    accelerators: BTreeMap::new(),
    nics: BTreeMap::new(),
    switches: BTreeMap::new(),
    cables: BTreeMap::new(),
    links: BTreeMap::new(),
    drives: BTreeMap::new(),
    nodes: BTreeMap::new(),
    models: BTreeMap::new(),
    efficiencies: BTreeMap::new(),
};

/// A few columns of every item of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Heads; the first two are `name` and `title`.
    pub columns: Vec<&'static str>,
    /// One row for each item, sorted by name; what is not known is empty.
    pub rows: Vec<Vec<String>>,
}

/// `$body` with `$item` the item type of `$kind`.
macro_rules! of_kind {
    ($kind:expr, $item:ident => $body:expr) => {
        match $kind {
            Kind::Accelerator => {
                type $item = AcceleratorItem;
                $body
            }
            Kind::Nic => {
                type $item = NicItem;
                $body
            }
            Kind::Switch => {
                type $item = SwitchItem;
                $body
            }
            Kind::Cable => {
                type $item = CableItem;
                $body
            }
            Kind::Link => {
                type $item = LinkItem;
                $body
            }
            Kind::Drive => {
                type $item = DriveItem;
                $body
            }
            Kind::Node => {
                type $item = NodeItem;
                $body
            }
            Kind::Model => {
                type $item = ModelItem;
                $body
            }
            Kind::Efficiency => {
                type $item = EfficiencyItem;
                $body
            }
        }
    };
}

use of_kind;

/// The two ways to items of one kind.
macro_rules! by_kind {
    ($($one:ident, $all:ident, $item:ident, $title:literal;)*) => { $(
        #[doc = concat!("The ", $title, " called `name`.")]
        pub fn $one(&self, name: &str) -> Option<&$item> {
            self.get(name)
        }

        #[doc = concat!("Every ", $title, ", sorted by name.")]
        pub fn $all(&self) -> impl Iterator<Item = &$item> {
            self.all()
        }
    )* };
}

impl Catalog {
    /// The catalogue that is part of the program.
    pub const fn builtin() -> &'static Self {
        &BUILTIN
    }

    /// Reads a text that has nothing but `[catalog.KIND.NAME]` sections, as a blueprint may have them.
    /// # Errors
    /// A [`Report`] of every problem found.
    pub fn parse(file_name: &str, text: &str) -> Result<Self, Report> {
        own::parse(file_name, text)
    }

    /// These items, and those of `own` before them.
    #[must_use]
    pub fn with(mut self, own: Self) -> Self {
        self.accelerators.extend(own.accelerators);
        self.nics.extend(own.nics);
        self.switches.extend(own.switches);
        self.cables.extend(own.cables);
        self.links.extend(own.links);
        self.drives.extend(own.drives);
        self.nodes.extend(own.nodes);
        self.models.extend(own.models);
        self.efficiencies.extend(own.efficiencies);
        self
    }

    by_kind!(
        accelerator, accelerators, AcceleratorItem, "accelerator";
        nic, nics, NicItem, "network card";
        switch, switches, SwitchItem, "switch";
        cable, cables, CableItem, "cable";
        link, links, LinkItem, "link";
        drive, drives, DriveItem, "drive";
        node, nodes, NodeItem, "node";
        model, models, ModelItem, "model";
        efficiency, efficiencies, EfficiencyItem, "efficiency profile";
    );

    fn get<T: Item>(&self, name: &str) -> Option<&T> {
        T::own(self).get(name).or_else(|| T::shelf().get(name))
    }

    fn all<T: Item>(&self) -> impl Iterator<Item = &T> {
        self.names_of::<T>().into_iter().filter_map(|name| self.get(name))
    }

    fn names_of<T: Item>(&self) -> BTreeSet<&str> {
        T::FILES.iter().map(|(name, _)| *name).chain(T::own(self).keys().map(String::as_str)).collect()
    }

    /// Names of every item of one kind, sorted. No file is read for them.
    pub fn names(&self, kind: Kind) -> Vec<&str> {
        of_kind!(kind, T => self.names_of::<T>()).into_iter().collect()
    }

    /// The name that `written` was probably meant to be: that of the model called so, else one that is near.
    pub fn nearest(&self, kind: Kind, written: &str) -> Option<&str> {
        let called = (kind == Kind::Model).then(|| self.model_called(written)).flatten();
        called.map(|model| model.name.as_str()).or_else(|| nearest(written, self.names(kind)))
    }

    /// Everything that is known of one item, each number with its source.
    pub fn describe(&self, kind: Kind, name: &str) -> Option<Vec<Field>> {
        of_kind!(kind, T => self.get::<T>(name).map(Item::fields))
    }

    /// A few columns of every item of one kind.
    pub fn summary(&self, kind: Kind) -> Summary {
        of_kind!(kind, T => self.summary_of::<T>())
    }

    fn summary_of<T: Item>(&self) -> Summary {
        let row = |item: &T| {
            let fields = item.fields();
            let cell = |key: &&str| fields.iter().find(|field| field.key == *key).map(|field| field.value.clone());
            let known = ["title"].iter().chain(T::COLUMNS).map(|key| cell(key).unwrap_or_default());
            std::iter::once(item.name().to_owned()).chain(known).collect()
        };
        let columns = ["name", "title"].into_iter().chain(T::COLUMNS.iter().copied()).collect();
        Summary { columns, rows: self.all::<T>().map(row).collect() }
    }

    /// The own items as `[catalog.KIND.NAME]` sections that read back as the same; empty if there are none.
    pub fn toml(&self) -> String {
        own::toml(self)
    }
}
