//! Language models by their shape, which is all that a cost model needs.
//!
//! Invariant: `parameters` is the published total; a test computes it from the shape and states its tolerance.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use dh_units::Bytes;
use serde::{Deserialize, Serialize};

use crate::catalog::Catalog;
use crate::catalog::fact::{Fact, quoted, words};
use crate::catalog::item::item;
use crate::codes::Code;
use crate::section::{Section, Spot};

words! {
    /// How queries share keys and values.
    Attention {
        /// A key and value head for each query head.
        Mha = "mha",
        /// One key and value head for several query heads.
        Gqa = "gqa",
        /// One key and value head for all query heads.
        Mqa = "mqa",
        /// Keys and values out of one small latent vector.
        Mla = "mla",
    }
}

words! {
    /// The feed-forward layer.
    Mlp {
        /// Two matrices with an activation between.
        Gelu2 = "gelu2",
        /// Two matrices with a squared `ReLU` between.
        Relu2 = "relu2",
        /// Three matrices, one of them the gate.
        Swiglu3 = "swiglu3",
    }
}

/// Other spellings of a model's name, such as those of published runs and of repositories; in a file a list of texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aliases(pub Vec<String>);

impl Fact for Aliases {
    fn read<'a>(section: &Section<'a>, key: &'a str) -> Option<Spot<Self>> {
        section.texts(key).map(|found| Spot { value: Self(found.value), at: found.at })
    }

    fn shown(&self) -> String {
        self.0.join("; ")
    }

    fn toml(&self) -> String {
        let names: Vec<String> = self.0.iter().map(|name| quoted(name)).collect();
        format!("[{}]", names.join(", "))
    }
}

/// Where a model's files are had; in a file `"pypi:NAME==VERSION"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Which registry: `pypi`.
    pub registry: String,
    /// The name there.
    pub name: String,
    /// The version that was checked.
    pub version: String,
}

impl Fact for Package {
    fn read<'a>(section: &Section<'a>, key: &'a str) -> Option<Spot<Self>> {
        let found = section.text(key)?;
        let parts = found.value.split_once(':').and_then(|(registry, rest)| Some((registry, rest.split_once("==")?)));
        let Some((registry, (name, version))) = parts else {
            let message = format!("`{key}` does not say registry, name and version");
            let hint = Some(format!("write {key} = \"pypi:NAME==VERSION\""));
            section.problems.add(Code::WRONG_TYPE, &found.at, message, hint);
            return None;
        };
        let [registry, name, version] = [registry, name, version].map(str::to_owned);
        Some(Spot { value: Self { registry, name, version }, at: found.at })
    }

    fn shown(&self) -> String {
        format!("{}:{}=={}", self.registry, self.name, self.version)
    }

    fn toml(&self) -> String {
        quoted(&self.shown())
    }
}

item! {
    /// A language model.
    ModelItem: Model, MODELS, models, ["parameters", "active_parameters", "layers", "hidden", "context"], check = check_model;
    needed {
        /// Weights, all of them.
        parameters: u64,
        /// Blocks, of an encoder and a decoder both together.
        layers: u32,
        /// Width of the residual stream.
        hidden: u32,
        /// Width of the feed-forward layer without experts; of one expert where every layer has experts.
        ffn: u32,
        /// Attention heads.
        heads: u32,
        /// Key and value heads.
        kv_heads: u32,
        /// Width of one head's query and key.
        head_dim: u32,
        /// Tokens of the vocabulary.
        vocab: u32,
        /// Tokens of the longest context.
        context: u32,
        /// How queries share keys and values.
        attention: Attention,
        /// The feed-forward layer.
        mlp: Mlp,
    }
    known {
        /// Other spellings of its name.
        aliases: Aliases,
        /// Whether the output layer is the embedding.
        tied_embeddings: bool,
        /// Weights that one token passes through, where it is not all.
        active_parameters: u64,
        /// Width of the latent vector of queries (MLA).
        mla_q_rank: u32,
        /// Width of the latent vector of keys and values, which is what is cached (MLA).
        mla_kv_rank: u32,
        /// Width of the part of a head that is rotated, cached beside the latent vector (MLA).
        mla_rope_dim: u32,
        /// Width of the part of a head that is not rotated (MLA).
        mla_nope_dim: u32,
        /// Width of a head's value (MLA).
        mla_v_dim: u32,
        /// Tokens back that a layer with a sliding or chunked window sees.
        sliding_window: u32,
        /// Layers with such a window; the others see everything.
        window_layers: u32,
        /// Layers with attention, where not all have it.
        attention_layers: u32,
        /// Blocks of a decoder that attend to an encoder's output as well.
        cross_attention_layers: u32,
        /// Layers that keep a state of fixed size in place of keys and values: linear attention, state spaces.
        state_layers: u32,
        /// Heads of a state layer, each with a state of `state_head_dim` x `state_size`.
        state_heads: u32,
        /// Width of one of these heads.
        state_head_dim: u32,
        /// Groups of these heads that share their keys and queries.
        state_groups: u32,
        /// Width of their keys and queries.
        state_size: u32,
        /// Layers with a feed-forward layer, where not all have one.
        feed_forward_layers: u32,
        /// Experts of one layer that a router chooses from.
        experts: u32,
        /// Experts that one token is sent to.
        experts_per_token: u32,
        /// Experts that every token passes through.
        shared_experts: u32,
        /// Width of the feed-forward layer of all shared experts together.
        shared_ffn: u32,
        /// Width of one expert's feed-forward layer.
        expert_ffn: u32,
        /// Width of what goes into an expert and comes out, where it is less than the residual stream.
        expert_hidden: u32,
        /// Layers whose feed-forward layer has no experts: those at the start, or every other one.
        dense_layers: u32,
        /// Whether it only reads: no token is generated.
        encoder: bool,
        /// Size of the weights as they are distributed.
        weights: Bytes,
        /// SPDX name of the licence.
        license: String,
        /// Where its files are had.
        package: Package,
    }
}

/// Heads are shared equally, and no layer is counted that is not there.
fn check_model(model: &ModelItem, section: &Section<'_>, _catalog: &Catalog) {
    let (heads, kv_heads) = (model.heads.value, model.kv_heads.value);
    if !heads.is_multiple_of(kv_heads) {
        let message = format!("{heads} `heads` cannot be shared equally among {kv_heads} `kv_heads`");
        let key = if section.has("kv_heads") { "kv_heads" } else { "heads" };
        section.problems.add(Code::OUT_OF_RANGE, &section.key_at(key), message, None);
    }
    let layers = model.layers.value;
    for (key, some) in [
        ("window_layers", &model.window_layers),
        ("attention_layers", &model.attention_layers),
        ("cross_attention_layers", &model.cross_attention_layers),
        ("state_layers", &model.state_layers),
        ("feed_forward_layers", &model.feed_forward_layers),
        ("dense_layers", &model.dense_layers),
    ] {
        if let Some(some) = some.as_ref().filter(|some| some.value > layers) {
            let message = format!("`{key}` is {}, above the {layers} `layers`", some.value);
            let at = section.key_at(if section.has(key) { key } else { "layers" });
            section.problems.add(Code::OUT_OF_RANGE, &at, message, None);
        }
    }
}

/// `Llama-3.1-8B` of `meta-llama/Llama-3.1-8B`.
fn without_organisation(name: &str) -> &str {
    name.rsplit_once('/').map_or(name, |(_, bare)| bare)
}

/// What two spellings of one name have in common: no organisation before a `/`, no case, spaces, `-` or `_`.
pub(super) fn spelling(name: &str) -> String {
    without_organisation(name).chars().filter(|c| !matches!(c, ' ' | '-' | '_')).flat_map(char::to_lowercase).collect()
}

/// Spellings of `models`, each with the name it stands for. Titles go before aliases and these before names, whose hyphens
/// may stand for dots: `opt-1-3b` is not OPT 13B. Of two models with the same one, the first by name has it.
pub(super) fn spellings<'a>(models: impl Iterator<Item = &'a ModelItem>) -> BTreeMap<String, &'a str> {
    let models: Vec<&ModelItem> = models.collect();
    let titles = models.iter().map(|model| (&model.title, *model));
    let names = models.iter().map(|model| (&model.name, *model));
    let aliases = models.iter().flat_map(|model| {
        let aliases = model.aliases.iter().flat_map(|aliases| &aliases.value.0);
        aliases.map(|alias| (alias, *model))
    });
    let mut found = BTreeMap::new();
    for (written, model) in titles.chain(aliases).chain(names) {
        found.entry(spelling(written)).or_insert(model.name.as_str());
    }
    found
}

impl Catalog {
    /// The model that people call `name`: the one of exactly this name, else one whose title, alias or name is the same
    /// but for case, spaces, `-`, `_` and an organisation before a `/`.
    ///
    /// Of several, a built-in one goes before one that only a blueprint has, since a copy takes over the aliases of its
    /// base; then titles go before aliases and these before names; then the first name of the alphabet is taken. The
    /// first call that needs more than the exact name reads every built-in model.
    pub fn model_called(&self, name: &str) -> Option<&ModelItem> {
        static BUILT_IN: OnceLock<BTreeMap<String, &'static str>> = OnceLock::new();
        // A name as in a blueprint, written with capitals, is still exact.
        let bare = without_organisation(name).to_lowercase();
        let exact = self.model(name).or_else(|| self.model(&bare));
        if exact.is_some() {
            return exact;
        }
        let written = spelling(name);
        let built_in = BUILT_IN.get_or_init(|| spellings(Self::builtin().models()));
        let named = built_in.get(&written).copied();
        let named = named.or_else(|| spellings(self.models.values()).get(&written).copied());
        named.and_then(|name| self.model(name))
    }
}
