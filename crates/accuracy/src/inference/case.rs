//! A row made ready for the model of serving: asked once for each set of numbers that is tried.
//!
//! Invariant: nothing measured in the row is in its case.

use dh_blueprint::Catalog;
use dh_perf::collectives::Links;
use dh_perf::hardware::Machine;
use dh_perf::memory::ServingLayout;
use dh_perf::serving::{
    Deployment, Disaggregated, Load, Profile, Steady, Within, disaggregated, saturated, static_batch, steady,
};

use super::row::{Row, Served, Split};

/// How the row was measured.
#[derive(Debug, Clone, PartialEq)]
enum Mode {
    /// So many requests in flight.
    Steady,
    /// As many as fit.
    Saturated,
    /// One batch from start to end.
    Static,
    /// Prefill and decode apart.
    Apart { prefill: (ServingLayout, Split), prefills: f64, decodes: f64 },
}

/// A row, ready.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Case {
    served: Served,
    split: Split,
    layout: ServingLayout,
    machine: Machine,
    engine: String,
    load: Load,
    mode: Mode,
    /// Accelerators that a rate is divided by.
    divided: f64,
    /// The family of the engine.
    pub(super) family: &'static str,
    /// The generation of the accelerator.
    pub(super) generation: String,
}

/// What the model says of a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    /// Milliseconds until the first token, with its interval.
    pub(super) ttft: (f64, f64, f64),
    /// Milliseconds of each further token.
    pub(super) tpot: (f64, f64, f64),
    /// Tokens a second, as the row counts them.
    pub(super) rate: (f64, f64, f64),
    /// Why no published run is like this.
    pub(super) outside: Vec<&'static str>,
}

/// Requests that an engine decodes together at most: TensorRT-LLM's default.
const MOST_TOGETHER: f64 = 2048.0;

impl Case {
    /// The case of `row`.
    /// # Errors
    /// Why it has none.
    pub(super) fn of(row: &Row, catalog: &Catalog) -> Result<Self, String> {
        let model = catalog
            .model_called(&row.model)
            .ok_or_else(|| format!("the catalogue does not have the model `{}`", row.model))?;
        let accelerator = row.accelerator(catalog)?;
        let (input, output) = row.lengths()?;
        let served = row.served(model, &accelerator);
        let apart = row.mode.contains("disaggregated");
        let split = if apart { side(row, "decode")? } else { row.split()? };
        let concurrency = row.concurrency(split)?;
        let layout = Row::layout(&served, split, concurrency, input + output);
        let mode = if apart {
            let prefill = side(row, "prefill")?;
            let workers = |name: &str| row.noted(name).filter(|count| *count >= 1.0).unwrap_or(1.0);
            Mode::Apart {
                prefill: (Row::layout(&served, prefill, concurrency, input + output), prefill),
                prefills: workers("prefill_num_workers"),
                decodes: workers("decode_num_workers"),
            }
        } else if row.mode.contains("max load") {
            Mode::Saturated
        } else if row.mode.starts_with("static") {
            Mode::Static
        } else {
            Mode::Steady
        };
        let load = Load { input, output, concurrency, prefix_hit: 0.0, accepted: row.accepted() };
        let load =
            if mode == Mode::Saturated { Load { concurrency: concurrency.min(MOST_TOGETHER), ..load } } else { load };
        let accelerators = dh_units::real(split.tp * split.pp * split.attention);
        let per_gpu = row.metric_scope.contains("per_gpu") || row.metric_scope.contains("per GPU");
        Ok(Self {
            served,
            split,
            layout,
            machine: Machine::new(accelerator, None),
            engine: row.engine.clone(),
            load,
            mode,
            divided: if per_gpu { accelerators } else { 1.0 },
            family: row.family(),
            generation: row.generation(),
        })
    }

    fn deployment<'a>(&'a self, layout: &'a ServingLayout, split: Split) -> Deployment<'a> {
        Deployment {
            shape: &self.served.shape,
            layout,
            attention_replicas: split.attention,
            products: self.served.products,
            dense_bytes: self.served.dense_bytes,
            engine: &self.engine,
        }
    }

    /// What the model says with `profile`.
    /// # Errors
    /// Why it refuses.
    pub(super) fn answer(&self, profile: &Profile) -> Result<Answer, String> {
        let here = self.deployment(&self.layout, self.split);
        let found = match &self.mode {
            Mode::Steady => steady(&here, &self.load, &self.machine, profile),
            Mode::Saturated => {
                let found = saturated(&here, &self.load, &self.machine, profile);
                // A table of the most that is reached does not say whether attention ran in parallel over sequences. Without
                // links between accelerators a sum in each layer is so slow that whoever looked for the most will have tried
                // both: stated assumption.
                let apart = Split { tp: 1, attention: self.split.tp, expert_parts: self.split.tp, ..self.split };
                let layout = ServingLayout { tp: 1, ep: apart.expert_parts, ..self.layout };
                let other = self.deployment(&layout, apart);
                let slow = self.machine.fabric.scale_up.links == Links::Host;
                let tried =
                    (slow && self.served.shape.experts.is_some() && self.split.tp > 1 && self.split.attention == 1)
                        .then(|| saturated(&other, &self.load, &self.machine, profile).ok())
                        .flatten();
                match (found, tried) {
                    (Ok(one), Some(two)) if two.output_per_second > one.output_per_second => Ok(two),
                    (Err(_), Some(two)) => Ok(two),
                    (found, _) => found,
                }
            }
            Mode::Static => return self.batch(&here, profile),
            Mode::Apart { prefill: (layout, split), prefills, decodes } => {
                let prefill = self.deployment(layout, *split);
                let sides =
                    Disaggregated { prefill, prefill_replicas: *prefills, decode: here, decode_replicas: *decodes };
                disaggregated(&sides, &self.load, &self.machine, profile)
            }
        };
        Ok(self.said(&found.map_err(|error| error.to_string())?))
    }

    fn said(&self, steady: &Steady) -> Answer {
        let ms = |time: Within| (time.value.0 * 1e3, time.low.0 * 1e3, time.high.0 * 1e3);
        let rate = steady.output_per_second / self.divided;
        Answer {
            ttft: ms(steady.ttft),
            tpot: ms(steady.tpot),
            rate: (rate, rate / steady.rate_spread, rate * steady.rate_spread),
            outside: steady.outside.clone(),
        }
    }

    fn batch(&self, here: &Deployment<'_>, profile: &Profile) -> Result<Answer, String> {
        let found = static_batch(here, &self.load, &self.machine, profile).map_err(|error| error.to_string())?;
        let around = |value: f64, spread: f64| (value, value / spread, value * spread);
        let wide = 1.2;
        Ok(Answer {
            ttft: around(found.ttft.0 * 1e3, profile.ttft_spread * wide),
            tpot: around(found.tpot.0 * 1e3, profile.tpot_spread * wide),
            rate: around(found.output_per_second / self.divided, profile.rate_spread * wide),
            outside: vec!["a static batch"],
        })
    }
}

/// One side of a disaggregated row, whose layout is in the notes.
fn side(row: &Row, name: &str) -> Result<Split, String> {
    let degree = |what: &str| row.noted(&format!("{name}_{what}")).filter(|value| *value >= 1.0).map(dh_units::whole);
    let Some(tp) = degree("tp_size") else {
        return Err(format!("the row does not say how its {name} side is laid out"));
    };
    let attention = degree("attention_dp_size").unwrap_or(1);
    let parts = degree("moe_ep_size").unwrap_or(1);
    Ok(Split {
        tp,
        pp: degree("pp_size").unwrap_or(1),
        attention,
        expert_parts: if parts > 1 { tp * attention } else { 1 },
    })
}
