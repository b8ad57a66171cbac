//! All published memory figures of a file against the model, when the file is there.
//!
//! `DATAHALL_MEMORY_CSV` names the file of figures and `DATAHALL_SHAPES_CSV` the one of shapes; without them there is nothing
//! to read and the test says so. `cargo test -p dh-perf --test memory_rows -- --nocapture` prints every row.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, clippy::allow_attributes, reason = "a test")]

use std::collections::BTreeMap;

use dh_perf::architecture::{Architecture, Attention, Experts, Latent, Mlp};
use dh_perf::memory::golden::{Row, model_key, outcome, verdict};
use dh_perf::validation::{Outcome, Summary, summarise_by};

/// Shapes by name and alias. Rows that lack a dimension are left out.
fn shapes(path: &str) -> BTreeMap<String, Architecture> {
    let mut shapes = BTreeMap::new();
    for record in csv::Reader::from_path(path).unwrap().deserialize::<BTreeMap<String, String>>() {
        let record = record.unwrap();
        let text = |column: &str| record.get(column).map_or("", String::as_str);
        let number = |column: &str| text(column).parse::<f64>().ok().map(dh_units::whole);
        let or_zero = |column: &str| number(column).unwrap_or(0);
        let attention = match text("attention") {
            "mla" => Attention::Mla(Latent {
                q_rank: or_zero("mla_q_lora_rank"),
                kv_rank: or_zero("mla_kv_lora_rank"),
                rope: or_zero("mla_rope_dim"),
                nope: or_zero("mla_nope_dim"),
                value: or_zero("mla_v_dim"),
            }),
            "gqa" => Attention::Gqa,
            _ => Attention::Mha,
        };
        let routed_ffn = or_zero("ffn_hidden");
        let experts = number("moe_experts").map(|count| Experts {
            count,
            top_k: or_zero("moe_topk"),
            ffn: routed_ffn,
            shared_ffn: or_zero("moe_shared_experts") * or_zero("moe_shared_ffn"),
            dense_layers: or_zero("moe_first_dense_layers"),
        });
        let (Some(layers), Some(hidden), Some(heads), Some(head_dim), Some(vocab)) =
            (number("layers"), number("hidden"), number("heads"), number("head_dim"), number("vocab"))
        else {
            continue;
        };
        let shape = Architecture {
            layers,
            hidden,
            ffn: routed_ffn,
            heads,
            kv_heads: number("kv_heads").unwrap_or(heads),
            head_dim,
            vocab,
            attention,
            mlp: if text("mlp") == "gelu2" { Mlp::Gelu2 } else { Mlp::Swiglu3 },
            experts,
            tied_embeddings: text("tied_embeddings") == "1",
            encoder: false,
        };
        for name in std::iter::once(text("model")).chain(text("aliases").split(';')) {
            shapes.entry(model_key(name)).or_insert(shape);
        }
    }
    shapes
}

fn line(name: &str, summary: &Summary) {
    let figure = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
    eprintln!(
        "{name:64} rows {:3} answered {:3} median {:>6} mean {:>6} p90 {:>6} bias {:>7} factor {:>5} within {:>5}",
        summary.rows,
        summary.answered,
        figure(summary.median_abs_pct_err),
        figure(summary.mean_abs_pct_err),
        figure(summary.p90_abs_pct_err),
        figure(summary.bias_pct),
        figure(summary.max_factor),
        figure(summary.within_80),
    );
}

#[test]
fn published_figures_are_met() {
    let paths = (std::env::var("DATAHALL_MEMORY_CSV"), std::env::var("DATAHALL_SHAPES_CSV"));
    let (Ok(figures), Ok(shape_file)) = paths else {
        eprintln!("skipped: set DATAHALL_MEMORY_CSV and DATAHALL_SHAPES_CSV to run");
        return;
    };
    let shapes = shapes(&shape_file);
    let rows: Vec<Row> = csv::Reader::from_path(figures).unwrap().deserialize().map(Result::unwrap).collect();
    let outcomes: Vec<Outcome> = rows.iter().map(|row| outcome(row, shapes.get(&model_key(&row.model)))).collect();
    for outcome in &outcomes {
        let predicted = outcome.predicted.map_or("-".to_owned(), |value| format!("{value:.3}"));
        let error = outcome.error_pct().map_or(String::new(), |error| format!("{error:+.1}%"));
        eprintln!(
            "{:9} {:20} {:>9.3} {predicted:>9} {error:>7} {}",
            outcome.id, outcome.quantity, outcome.measured, outcome.note
        );
    }
    for (quantity, summary) in summarise_by(&outcomes, |outcome| outcome.quantity.clone()) {
        line(&quantity, &summary);
    }
    let source = |outcome: &Outcome| outcome.source.split([':', ' ']).next().unwrap_or("").to_owned();
    for ((quantity, source), summary) in summarise_by(&outcomes, |o| (o.quantity.clone(), source(o))) {
        line(&format!("{quantity} {source}"), &summary);
    }
    let refused: Vec<&str> = rows
        .iter()
        .filter(|row| row.quantity == "peak_gb")
        .filter(|row| verdict(row, shapes.get(&model_key(&row.model))).is_ok_and(|(fit, _)| !fit.fits()))
        .map(|row| row.id.as_str())
        .collect();
    eprintln!("recorded runs said not to fit: {refused:?}");
    assert_eq!(refused, Vec::<&str>::new(), "a recorded run fits");
    let by = summarise_by(&outcomes, |outcome| outcome.quantity.clone());
    for (quantity, most) in [("weights_optimizer_gb", 5.0), ("activations_gb", 3.0), ("peak_gb", 10.0)] {
        let median = by.get(quantity).and_then(|summary| summary.median_abs_pct_err);
        assert!(median.is_some_and(|median| median < most), "{quantity}: {median:?}");
    }
}
