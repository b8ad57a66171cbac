//! The catalogue: hardware and models that a blueprint may name, one small file each, every number with its source.
//!
//! A new item is one file under `catalog/` and one line in [`NODES`] or [`MODELS`]. Files are part of the program.

use std::sync::LazyLock;

use dh_units::{Bytes, BytesPerSec, FlopPerSec, Watts};
use serde::{Deserialize, Serialize};

use crate::names::nearest;
use crate::problem::{Problems, Report};
use crate::read::document;
use crate::section::Section;

/// A number and where it comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sourced<T> {
    /// The number.
    pub value: T,
    /// Data sheet, paper, measurement, or the words "stated assumption" and why.
    pub source: String,
}

/// A kind of node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeItem {
    /// The name in blueprints.
    pub name: String,
    /// The name in the trade.
    pub title: String,
    /// Accelerators; `None` where the machine itself is asked.
    pub accelerators: Option<Sourced<u32>>,
    /// What the accelerator is called.
    pub accelerator: Option<Sourced<String>>,
    /// Memory of one accelerator.
    pub accelerator_memory: Option<Sourced<Bytes>>,
    /// Memory bandwidth of one accelerator.
    pub accelerator_bandwidth: Option<Sourced<BytesPerSec>>,
    /// Dense bf16 peak of one accelerator.
    pub accelerator_bf16: Option<Sourced<FlopPerSec>>,
    /// The most the node can draw.
    pub rated: Sourced<Watts>,
    /// What it draws doing nothing, where known.
    pub idle: Option<Sourced<Watts>>,
    /// The most that was measured on it, where known.
    pub measured_max: Option<Sourced<Watts>>,
}

/// Where a model's files are had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Which registry: `pypi`.
    pub registry: String,
    /// The name there.
    pub name: String,
    /// The version that was checked.
    pub version: String,
}

/// A language model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelItem {
    /// The name in blueprints.
    pub name: String,
    /// The name in the trade.
    pub title: String,
    /// Weights.
    pub parameters: Sourced<u64>,
    /// Transformer blocks.
    pub layers: Sourced<u32>,
    /// Width of the residual stream.
    pub hidden: Sourced<u32>,
    /// Attention heads.
    pub heads: Sourced<u32>,
    /// Key and value heads.
    pub kv_heads: Sourced<u32>,
    /// Width of the feed-forward layer.
    pub ffn: Sourced<u32>,
    /// Tokens of the vocabulary.
    pub vocab: Sourced<u32>,
    /// Tokens of the longest context.
    pub context: Sourced<u32>,
    /// Size of the weights as they are distributed.
    pub weights: Sourced<Bytes>,
    /// SPDX name of the licence.
    pub license: Sourced<String>,
    /// Where the files are had.
    pub package: Package,
}

/// Files of `catalog/nodes`.
const NODES: &[(&str, &str)] = &[
    ("this-machine.toml", include_str!("../catalog/nodes/this-machine.toml")),
    ("dgx-h100.toml", include_str!("../catalog/nodes/dgx-h100.toml")),
    ("dgx-b200.toml", include_str!("../catalog/nodes/dgx-b200.toml")),
];

/// Files of `catalog/models`.
const MODELS: &[(&str, &str)] =
    &[("smollm2-135m-instruct.toml", include_str!("../catalog/models/smollm2-135m-instruct.toml"))];

/// All items.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Catalog {
    nodes: Vec<NodeItem>,
    models: Vec<ModelItem>,
}

/// Read once. That every file can be read is a test of this module, so nothing is lost here.
static BUILTIN: LazyLock<Catalog> = LazyLock::new(|| Catalog {
    nodes: NODES.iter().filter_map(|(file, text)| item(file, text, node).ok()).collect(),
    models: MODELS.iter().filter_map(|(file, text)| item(file, text, model).ok()).collect(),
});

impl Catalog {
    /// The catalogue that is part of the program.
    pub fn builtin() -> &'static Self {
        &BUILTIN
    }

    /// The node called `name`.
    pub fn node(&self, name: &str) -> Option<&NodeItem> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// The model called `name`.
    pub fn model(&self, name: &str) -> Option<&ModelItem> {
        self.models.iter().find(|model| model.name == name)
    }

    /// All nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeItem> {
        self.nodes.iter()
    }

    /// All models.
    pub fn models(&self) -> impl Iterator<Item = &ModelItem> {
        self.models.iter()
    }

    /// The node whose name is nearest to `written`, if one is near.
    pub fn nearest_node(&self, written: &str) -> Option<&str> {
        nearest(written, self.nodes.iter().map(|node| node.name.as_str()))
    }

    /// The model whose name is nearest to `written`, if one is near.
    pub fn nearest_model(&self, written: &str) -> Option<&str> {
        nearest(written, self.models.iter().map(|model| model.name.as_str()))
    }
}

/// One catalogue file, read like a blueprint: unknown keys and missing sources are problems.
fn item<T>(file: &str, text: &str, read: impl Fn(&Section<'_>) -> Option<T>) -> Result<T, Report> {
    let problems = Problems::default();
    let item = document(text, &problems).and_then(|document| {
        let section = Section::new(String::new(), 0..0, document.as_table(), &problems);
        let item = read(&section);
        section.finish();
        item
    });
    match (problems.into_report(file, text), item) {
        (None, Some(item)) => Ok(item),
        (report, _) => Err(report.unwrap_or(Report { file: file.to_owned(), problems: vec![], more: 0 })),
    }
}

/// `key = { value = ..., source = "..." }`, with `value` read by `read`.
fn sourced<'a, T>(
    section: &Section<'a>,
    key: &'a str,
    read: impl Fn(&Section<'a>) -> Option<crate::section::Spot<T>>,
) -> Option<Sourced<T>> {
    let table = section.table(key)?;
    let value = table.need("value", read(&table));
    let source = table.need("source", table.text("source"));
    table.finish();
    Some(Sourced { value: value?.value, source: source?.value })
}

fn node(section: &Section<'_>) -> Option<NodeItem> {
    let name = section.need("name", section.name("name"));
    let title = section.need("title", section.text("title"));
    let rated = section.need("rated", sourced(section, "rated", |table| table.positive("value", Watts(0.0))));
    Some(NodeItem {
        accelerators: sourced(section, "accelerators", |table| table.integer("value", 1..=1_024)),
        accelerator: sourced(section, "accelerator", |table| table.text("value")),
        accelerator_memory: sourced(section, "accelerator_memory", |table| table.quantity("value")),
        accelerator_bandwidth: sourced(section, "accelerator_bandwidth", |table| table.quantity("value")),
        accelerator_bf16: sourced(section, "accelerator_bf16", |table| table.quantity("value")),
        idle: sourced(section, "idle", |table| table.quantity("value")),
        measured_max: sourced(section, "measured_max", |table| table.quantity("value")),
        name: name?.value,
        title: title?.value,
        rated: rated?,
    })
}

fn model(section: &Section<'_>) -> Option<ModelItem> {
    let name = section.need("name", section.name("name"));
    let title = section.need("title", section.text("title"));
    let parameters = sourced(section, "parameters", |table| table.integer("value", 1..=i64::MAX.unsigned_abs()));
    let parameters = section.need("parameters", parameters);
    let [layers, hidden, heads, kv_heads, ffn, vocab, context] =
        ["layers", "hidden", "heads", "kv_heads", "ffn", "vocab", "context"]
            .map(|key| section.need(key, sourced(section, key, |table| table.integer("value", 1..=1 << 24))));
    let weights = section.need("weights", sourced(section, "weights", |table| table.quantity("value")));
    let license = section.need("license", sourced(section, "license", |table| table.text("value")));
    let package = section.need("package", section.table("package")).and_then(|table| {
        let [registry, name, version] = ["registry", "name", "version"].map(|key| table.need(key, table.text(key)));
        table.finish();
        Some(Package { registry: registry?.value, name: name?.value, version: version?.value })
    });
    Some(ModelItem {
        name: name?.value,
        title: title?.value,
        parameters: parameters?,
        layers: layers?,
        hidden: hidden?,
        heads: heads?,
        kv_heads: kv_heads?,
        ffn: ffn?,
        vocab: vocab?,
        context: context?,
        weights: weights?,
        license: license?,
        package: package?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Units, order of magnitude and sources of every item, so that a new file needs no test of its own.
    #[test]
    fn the_catalogue_is_plausible() {
        for (file, text) in NODES {
            let node = item(file, text, node).unwrap_or_else(|report| panic!("{report}"));
            assert_eq!(*file, format!("{}.toml", node.name));
            assert!(node.rated.value > Watts(1.0) && node.rated.value < Watts(200_000.0), "{file}");
            assert!(node.idle.iter().chain(&node.measured_max).all(|power| power.value <= node.rated.value), "{file}");
            if let Some(accelerators) = &node.accelerators {
                assert!(node.rated.value / f64::from(accelerators.value) > Watts(50.0), "{file}");
            }
        }
        for (file, text) in MODELS {
            let model = item(file, text, model).unwrap_or_else(|report| panic!("{report}"));
            assert_eq!(*file, format!("{}.toml", model.name));
            assert_eq!(model.hidden.value % model.heads.value, 0, "{file}");
            assert_eq!(model.heads.value % model.kv_heads.value, 0, "{file}");
        }
        let all = NODES.iter().chain(MODELS);
        assert!(all.clone().all(|(_, text)| text.matches("value =").count() == text.matches("source =").count()));
        assert_eq!(Catalog::builtin().nodes().count(), NODES.len());
        assert_eq!(Catalog::builtin().models().count(), MODELS.len());
    }

    /// Weights of a Llama-shaped decoder with tied embeddings and gated feed-forward, from its shape.
    #[test]
    fn smollm2_has_as_many_weights_as_its_shape_says() {
        let model = Catalog::builtin().model("smollm2-135m-instruct").unwrap();
        let of = |number: &Sourced<u32>| u64::from(number.value);
        let (hidden, ffn) = (of(&model.hidden), of(&model.ffn));
        let kv = hidden / of(&model.heads) * of(&model.kv_heads);
        let block = 2 * hidden * hidden + 2 * hidden * kv + 3 * hidden * ffn + 2 * hidden;
        assert_eq!(of(&model.vocab) * hidden + of(&model.layers) * block + hidden, model.parameters.value);
    }

    #[test]
    fn near_names_are_offered() {
        assert_eq!(Catalog::builtin().nearest_node("dgx-h10"), Some("dgx-h100"));
        assert_eq!(Catalog::builtin().nearest_model("smollm2-135m"), None);
        assert_eq!(Catalog::builtin().nearest_model("smollm2-135m-instrct"), Some("smollm2-135m-instruct"));
    }

    #[test]
    fn a_number_without_source_is_refused() {
        let report = item("x.toml", "name = \"x\"\ntitle = \"X\"\nrated = { value = \"5 W\" }\n", node).unwrap_err();
        assert_eq!(report.problems[0].message, "`[rated]` needs the key `source`");
    }
}
