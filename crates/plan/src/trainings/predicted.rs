//! The best layout of a training on its hall: the question, the choice among what was found, and its numbers in the ledger.
//!
//! Invariant: the search itself is the caller's, who may have threads; what it finds does not depend on how it was run.

use dh_blueprint::{AcceleratorItem, ModelItem, Optimise, PinnedLayout, Precision, Pretrain};
use dh_perf::architecture::Architecture;
use dh_perf::hardware::{Format, Machine};
use dh_perf::search::{
    Amount, BATCH_TOLERANCE, Candidate, Choices, Found, Nearest, OVERHEADS, Objective, Question, Search, degrees,
    named_parts, reason,
};
use dh_perf::{memory, power, pretraining};
use dh_units::{Bytes, Seconds, Tokens, Value, real, significant, whole};

use super::machine::{self, machine};
use super::ways::{Looked, Prediction, RunnerUp, StepPart, Way, shown};
use super::{Hall, Searcher};
use crate::book::Book;
use crate::pools::PoolPlan;

/// Of a deadline, what a run without interruptions may take where the cheapest is looked for, so that there is time left for
/// interruptions. Stated assumption: plans of large halls keep more than 0.95 of their time.
const BEFORE_DEADLINE: f64 = 0.95;

/// Why there is no prediction.
pub(super) enum Unpredicted {
    /// No layout can be: the training cannot run.
    Unfit(String),
    /// The models do not know the hardware or the model.
    Unknown(String),
}

/// A prediction with what it came from.
pub(super) struct Predicted {
    pub(super) candidate: Candidate,
    pub(super) prediction: Prediction,
    shape: Architecture,
    machine: Machine,
    products: Format,
    network: Option<String>,
}

/// What there is to predict for.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) name: &'a str,
    pub(super) training: &'a Pretrain,
    pub(super) model: &'a ModelItem,
    pub(super) item: &'a AcceleratorItem,
    pub(super) pool: (usize, &'a PoolPlan),
    /// The most accelerators.
    pub(super) most: u64,
}

/// The best layout.
pub(super) fn predict(
    book: &mut Book<'_>,
    asked: Asked<'_>,
    hall: Hall<'_>,
    searcher: &mut Searcher<'_>,
) -> Result<Predicted, Unpredicted> {
    let Asked { name, training, item, .. } = asked;
    let prefix = format!("training.{name}");
    let machine::Found { machine, network } =
        machine(book, &prefix, asked.pool, item, hall.networks).map_err(Unpredicted::Unknown)?;
    let shape = Architecture::from(asked.model);
    let products = match training.precision {
        Precision::Bf16 => Format::Bf16,
        Precision::Fp8 => Format::Fp8,
        Precision::Tf32 => Format::Tf32,
    };
    let mut choices = Choices::of(&shape, &machine, training.sequence.0);
    pin(&mut choices, &training.layout);
    let catalog = &book.settings.catalog;
    let price = match book.ledger.get("cost.accelerator_hour").map(|number| &number.value) {
        Some(Value::UsdPerHour(price)) => Some(*price),
        _ => None,
    };
    let question = Question {
        shape,
        products,
        machine: machine.clone(),
        profile: pretraining::Profile::of(catalog, &item.name),
        power: power::Profile::of(catalog, &item.name),
        price,
        accelerators: match training.accelerators {
            Some(count) => Amount::Exactly(u64::from(count)),
            None => Amount::UpTo(asked.most),
        },
        sequence: training.sequence,
        batch: training.batch,
        tokens: training.tokens,
        objective: match training.optimise {
            Optimise::Time => Objective::Time,
            Optimise::Cost => Objective::Cost,
            Optimise::Energy => Objective::Energy,
        },
        choices,
    };
    let search = Search::new(question).map_err(|error| Unpredicted::Unknown(error.to_string()))?;
    let found = searcher(name, &search);
    let Some(candidate) = choose(&found, search.question(), training) else {
        return Err(nothing(&found, asked));
    };
    let prediction = prediction(&found, &candidate, search.question(), training);
    Ok(Predicted { candidate, prediction, shape, machine, products, network })
}

/// Leaves only what the blueprint says.
fn pin(choices: &mut Choices, pinned: &PinnedLayout) {
    let one = |list: &mut Vec<u64>, degree: Option<u32>| {
        if let Some(degree) = degree {
            *list = vec![u64::from(degree)];
        }
    };
    one(&mut choices.tp, pinned.tp);
    one(&mut choices.pp, pinned.pp);
    one(&mut choices.dp, pinned.dp);
    one(&mut choices.cp, pinned.cp);
    one(&mut choices.ep, pinned.ep);
    one(&mut choices.vpp, pinned.vpp);
    one(&mut choices.micro_batch, pinned.micro_batch);
}

/// The best, within budget and deadline where they are said; where nothing is within them, the best without.
fn choose(found: &Found, question: &Question, training: &Pretrain) -> Option<Candidate> {
    let best = found.best.as_ref()?;
    let latest = match training.optimise {
        Optimise::Time => None,
        Optimise::Cost | Optimise::Energy => training.deadline.map(|deadline| deadline * BEFORE_DEADLINE),
    };
    let within = |candidate: &&Candidate| {
        let paid = training.budget.is_none_or(|budget| candidate.cost.is_none_or(|cost| cost <= budget));
        question.accelerators.may_be(candidate.accelerators) && paid && latest.is_none_or(|time| candidate.time <= time)
    };
    let aim = |candidate: &Candidate| match training.optimise {
        Optimise::Cost => candidate.cost.map_or(candidate.time.0, |cost| cost.0),
        Optimise::Energy => candidate.energy.map_or(candidate.time.0, |energy| energy.0),
        Optimise::Time => candidate.time.0,
    };
    // The best comes first, so that among equals it stays.
    let all = std::iter::once(best).chain(&found.front);
    let chosen = all.filter(within).reduce(|best, other| if aim(other) < aim(best) { other } else { best });
    Some(chosen.unwrap_or(best).clone())
}

/// Why nothing was found.
fn nothing(found: &Found, asked: Asked<'_>) -> Unpredicted {
    let Asked { training, item, most, .. } = asked;
    match (&found.nearest, &found.refused) {
        (Some(Nearest { accelerators, layout, needed, missing }), _) => Unpredicted::Unfit(format!(
            "no layout of {} fits on {accelerators} x {}: the closest ({}) needs {needed} of each, {missing} more than there is",
            training.model,
            item.name,
            degrees(layout)
        )),
        (None, Some(error)) => Unpredicted::Unknown(error.to_string()),
        (None, None) => Unpredicted::Unfit(format!(
            "no layout makes {} accelerators of {} tokens a step in sequences of {}: degrees must multiply to the accelerators, divide heads and layers, and deal out the batch within {} %",
            Value::from(most),
            Value::from(training.batch.0),
            Value::from(training.sequence.0),
            significant(BATCH_TOLERANCE * 100.0)
        )),
    }
}

fn prediction(found: &Found, candidate: &Candidate, question: &Question, training: &Pretrain) -> Prediction {
    let step = &candidate.step;
    let parts = named_parts(&step.parts).into_iter().filter(|(_, seconds)| seconds.0 > 0.0);
    let others = found.best.iter().chain(&found.runners_up).filter(|other| other.layout != candidate.layout);
    Prediction {
        way: Way::from(candidate),
        optimise: training.optimise.word(),
        low: step.low,
        high: step.high,
        outside: step.outside.reasons().collect(),
        parts: parts.map(|(name, seconds)| StepPart { name, seconds }).collect(),
        tokens_per_second: step.tokens / step.time.0,
        needed: candidate.needed,
        memory: question.machine.accelerator.memory,
        power: candidate.power,
        front: shown(&found.front),
        runners_up: others.map(|other| RunnerUp { way: Way::from(other), why: reason(candidate, other) }).collect(),
        looked: Looked::from(found.tally),
    }
}

impl Predicted {
    /// Tokens of a step as the layout deals them out.
    pub(super) fn batch(&self) -> Tokens {
        Tokens(whole(self.candidate.step.tokens.round()))
    }

    /// Accelerators of one copy of the model.
    pub(super) const fn copy(&self) -> u64 {
        self.candidate.layout.tp.saturating_mul(self.candidate.layout.pp)
    }

    /// Enters the layout, its memory, and the step with its parts under `prefix`; the others are ids.
    pub(super) fn enter(
        &self,
        book: &mut Book<'_>,
        prefix: &str,
        [parameters, accelerators, peak, memory, batch]: [&str; 5],
    ) {
        let id = |key: &str| format!("{prefix}.{key}");
        let Candidate { layout, step, .. } = &self.candidate;
        let looked = self.prediction.looked;
        let words = self.prediction.way.layout.as_str();
        let formula = format!(
            "the least {} of {} layouts: {} cannot be, {} do not fit, {} could not be better, {} were estimated",
            self.prediction.optimise,
            Value::from(looked.enumerated),
            Value::from(looked.impossible),
            Value::from(looked.out_of_memory),
            Value::from(looked.bounded),
            Value::from(looked.evaluated)
        );
        let mut inputs = [accelerators, peak, memory, batch].map(str::to_owned).to_vec();
        inputs.extend(self.network.clone());
        book.sum(&id("layout"), "layout", words, formula, &inputs);
        let tokens = self.batch();
        let formula = format!(
            "{} replicas x {} micro-batches x {} sequences x {} tokens, as near to what is asked as can be",
            layout.dp,
            layout.micro_batches.unwrap_or(1),
            layout.micro_batch,
            layout.sequence
        );
        book.sum(&id("batch"), "tokens of a step, dealt out", tokens, formula, &[id("layout"), batch.to_owned()]);
        let mut parts = Vec::new();
        let mut sum = Vec::new();
        for ((name, seconds), key) in named_parts(&step.parts).into_iter().zip(PART_KEYS) {
            if seconds.0 > 0.0 {
                let key = id(&format!("step.{key}"));
                let inputs = [id("layout"), peak.to_owned(), id("batch")];
                book.sum(&key, name, seconds, "model of a step, on the busiest accelerator", &inputs);
                parts.push(key);
                sum.push(seconds.to_string());
            }
        }
        book.sum(&id("step"), "time of one step", step.time, sum.join(" + "), &parts);
        let of_step = [id("step")];
        let inside = if step.outside.any() {
            format!("; outside the calibrated range: {}", step.outside.reasons().collect::<Vec<_>>().join(", "))
        } else {
            String::new()
        };
        for (key, value) in [("step.low", step.low), ("step.high", step.high)] {
            let title = if key == "step.low" { "low end of the step" } else { "high end of the step" };
            let formula = format!("four of five measured steps should lie between the two{inside}");
            book.sum(&id(key), title, value, formula, &of_step);
        }
        let rate = step.tokens / step.time.0;
        let formula = format!("{tokens} / {}", step.time);
        book.sum(&id("tokens_per_second"), "tokens a second", rate, formula, &[id("batch"), id("step")]);
        let speed = self.machine.accelerator.peak(self.products).map_or_else(String::new, |peak| peak.to_string());
        let formula = format!(
            "{} of model work in a step, attention included / ({} accelerators x {speed} x {})",
            step.model_flop, self.candidate.accelerators, step.time
        );
        let inputs = [id("step"), accelerators.to_owned(), peak.to_owned()];
        book.sum(&id("mfu"), "model FLOP utilisation", step.mfu, formula, &inputs);
        if let Ok(memory) = memory::training(&self.shape, layout, OVERHEADS) {
            self.enter_asked_of_memory(book, &id("memory"), &id("layout"), parameters);
            memory.enter(&self.shape, layout, &id("memory"), &mut book.ledger);
        }
        let demand = self.memory_demand();
        let formula = format!("{} / {}", self.candidate.needed, self.prediction.memory);
        let inputs: Vec<String> =
            [id("memory.needed"), memory.to_owned()].into_iter().filter(|id| book.ledger.get(id).is_some()).collect();
        book.sum(&id("memory_demand"), "memory needed over memory there", demand, formula, &inputs);
    }

    /// Enters what the model of memory starts from, where it comes from.
    fn enter_asked_of_memory(&self, book: &mut Book<'_>, prefix: &str, layout_id: &str, parameters: &str) {
        let layout = &self.candidate.layout;
        let count = whole(self.shape.parameters());
        let title = "parameters of the model";
        let formula = "counted from its shape, matrix by matrix; the catalogue has its maker's rounded figure";
        book.sum(&format!("{prefix}.parameters"), title, count, formula, &[parameters.to_owned()]);
        let of = [layout_id.to_owned()];
        for (key, title, value) in [
            ("tp", "tensor parallelism", layout.tp),
            ("pp", "pipeline stages", layout.pp),
            ("replicas", "replicas that share states out: dp x cp", whole(layout.replicas())),
            ("micro_batch", "sequences of a micro-batch", layout.micro_batch),
            ("sequence", "tokens of a sequence", layout.sequence),
        ] {
            book.sum(&format!("{prefix}.{key}"), title, value, "of the layout", &of);
        }
    }

    /// Enters what the accelerators draw in `time`, if their power is known.
    pub(super) fn enter_energy(&self, book: &mut Book<'_>, prefix: &str, time: Seconds, accelerators: &str) {
        let Some(each) = self.candidate.power else { return };
        let id = |key: &str| format!("{prefix}.{key}");
        let formula = "model of power at the step's activity, on average";
        // Below `predicted` where the blueprint says the utilisation.
        let layout: Vec<String> =
            [id("layout"), id("predicted.layout")].into_iter().filter(|id| book.ledger.get(id).is_some()).collect();
        book.sum(&id("power"), "power of one accelerator", each, formula, &layout);
        let energy = each * time * real(self.candidate.accelerators);
        let formula = format!("{each} x {} accelerators x {time}", self.candidate.accelerators);
        let inputs = [id("power"), accelerators.to_owned(), id("time")];
        book.sum(&id("energy"), "energy of the accelerators", energy, formula, &inputs);
    }

    /// Memory needed over memory there.
    pub(super) fn memory_demand(&self) -> f64 {
        let Bytes(memory) = self.prediction.memory;
        self.candidate.needed.as_f64() / real(memory.max(1))
    }
}

/// Ends of the ids of a step's parts, in the order of [`named_parts`].
const PART_KEYS: [&str; 13] = [
    "products",
    "attention",
    "vector",
    "recompute",
    "tensor",
    "context",
    "expert",
    "pipeline",
    "data",
    "bubble",
    "optimizer",
    "offload",
    "host",
];
