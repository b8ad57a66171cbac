//! How long built-in training takes on this machine, from a measurement of it; and the bill of a year.

use dh_blueprint::{Settings, Train, WorkloadKind};
use dh_core::Kind;
use dh_facility::{Bill, HallPower};
use dh_learn::train::{Gemm as CountedGemm, Product};
use dh_learn::{DataSize, StepShape, TrainConfig, train_shape};
use dh_perf::training::{Evaluation, Losses, Prediction, TrainingWork};
use dh_perf::{Collective, Gemm, MachineProfile};
use dh_units::{Based, Bytes, Seconds};
use serde::Serialize;

use crate::commands::{Globals, probe};
use crate::failure::{Failure, OrFail};
use crate::output;
use crate::ui::table::{Side, Table};

/// How long a gang takes from the loss of a rank until it steps again: back-off of half a second, the start of the
/// processes, the reading of the checkpoint. Measured with the demo; see `docs/performance.md`.
const RESTART: Seconds = Seconds(0.7);

/// Measures this machine if a workload of the blueprint can be predicted from it.
pub(super) fn probe_for(settings: &Settings, globals: &Globals) -> Result<Option<MachineProfile>, Failure> {
    let Some((_, workload, train)) = trainings(settings).next() else { return Ok(None) };
    if !globals.quiet {
        output::note("measuring this machine for about 5 seconds (products, memory, messages, disk)");
    }
    Ok(Some(probe::measure(&config("plan", train), workload.ranks)?))
}

/// The training workloads of a blueprint.
pub(crate) fn trainings(settings: &Settings) -> impl Iterator<Item = (&str, &dh_blueprint::Workload, &Train)> {
    settings.workloads.iter().filter_map(|(name, workload)| match &workload.kind {
        WorkloadKind::Train(train) => Some((name.as_str(), workload, train)),
        WorkloadKind::Command(_) | WorkloadKind::Pretrain(_) => None,
    })
}

/// The trainer's configuration of a workload; where its objects lie does not matter for a plan.
pub(crate) fn config(name: &str, train: &Train) -> TrainConfig {
    let layers = train.model.layers().iter().map(|size| usize::try_from(*size).unwrap_or(usize::MAX)).collect();
    TrainConfig {
        layers,
        epochs: u64::from(train.epochs),
        global_batch: usize::try_from(train.batch).unwrap_or(usize::MAX),
        learning_rate: train.learning_rate,
        seed: train.seed,
        checkpoint_every_steps: u64::from(train.checkpoint_every),
        ..TrainConfig::new(dh_server::launch::DATASETS, &train.dataset, name)
    }
}

/// What `plan` says.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    pub(crate) schema_version: u32,
    pub(crate) name: String,
    pub(crate) power: HallPower,
    pub(crate) year: Bill,
    pub(crate) machine: Option<MachineProfile>,
    pub(crate) workloads: Vec<WorkloadPlan>,
}

/// What `plan` says of one training workload.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct WorkloadPlan {
    pub(crate) name: String,
    pub(crate) model: String,
    pub(crate) parameters: u64,
    pub(crate) ranks: u32,
    pub(crate) samples: u64,
    pub(crate) prediction: Option<Prediction>,
    pub(crate) bill: Option<Bill>,
}

impl Report {
    /// The plan, with `losses` ranks expected to be lost in each training.
    pub(crate) fn of(settings: &Settings, profile: Option<&MachineProfile>, losses: u32) -> Result<Self, Failure> {
        let catalog = &settings.catalog;
        let mut workloads = Vec::new();
        for (name, workload, train) in trainings(settings) {
            let shape = train_shape(&config(name, train), DataSize::MNIST, workload.ranks)?;
            let cache = settings.stores.get(&workload.store).map_or(Bytes(0), |store| store.cache);
            let prediction = profile
                .map(|profile| {
                    let work = work_of(&shape, train, cache, losses)?;
                    Ok::<_, Failure>(dh_perf::training::predict(&work, profile)?)
                })
                .transpose()?;
            let slots = u64::from(workload.ranks) * u64::from(workload.slots_per_rank);
            let bill = prediction
                .as_ref()
                .map(|prediction| dh_facility::job(settings, catalog, slots, prediction.total))
                .transpose()?;
            workloads.push(WorkloadPlan {
                name: name.to_owned(),
                model: train.model.to_string(),
                parameters: shape.parameters,
                ranks: workload.ranks,
                samples: shape.samples_per_step * shape.steps_per_epoch * shape.epochs,
                prediction,
                bill,
            });
        }
        Ok(Self {
            schema_version: 1,
            name: settings.name.clone(),
            power: dh_facility::hall(settings, catalog)?,
            year: dh_facility::year(settings, catalog)?,
            machine: profile.cloned(),
            workloads,
        })
    }

    /// What was predicted for this machine, for people; nothing if nothing was.
    pub(crate) fn print(&self, basis: bool) {
        let predicted = self.workloads.iter().filter(|workload| workload.prediction.is_some());
        if predicted.count() == 0 {
            return;
        }
        let mut table = Table::new(&[("ON THIS MACHINE", Side::Left), ("", Side::Right), ("", Side::Left)]);
        let mut row = |what: &str, value: String, because: &str| {
            let because = if basis { output::dim(because) } else { String::new() };
            table.row([what.to_owned(), value, because]);
        };
        for workload in &self.workloads {
            let Some(prediction) = &workload.prediction else { continue };
            let (low, high) = prediction.interval();
            row(
                &format!("{}: {} on {} ranks", workload.name, workload.model, workload.ranks),
                prediction.total.to_string(),
                &format!("{} to {}: {}", low, high, prediction.interval_basis),
            );
            for part in prediction.parts.iter().filter(|part| part.seconds.0 > 0.0) {
                row(&format!("  {}", part.name), part.seconds.to_string(), &part.basis);
            }
            let speed = &prediction.samples_per_second;
            row("  samples per second", format!("{:.0}", speed.value), &speed.basis);
            row("  bytes from the store", prediction.data_read.value.to_string(), &prediction.data_read.basis);
            if let Some(bill) = &workload.bill {
                row("  energy", kwh(bill), &bill.energy.basis);
            }
        }
        output::line("");
        table.lines().iter().for_each(output::line);
    }
}

fn kwh(bill: &Bill) -> String {
    let energy: &Based<dh_units::Joules> = &bill.energy;
    format!("{} kWh", dh_units::significant(energy.value.kwh()))
}

/// The trainer's own counts, in the words of the model of performance.
fn work_of(shape: &StepShape, train: &Train, cache: Bytes, losses: u32) -> Result<TrainingWork, Failure> {
    let steps = shape.steps_per_epoch * shape.epochs;
    Ok(TrainingWork {
        ranks: shape.ranks,
        batch: train.batch,
        steps,
        epochs: train.epochs,
        gemms: gemms(&shape.gemms)?,
        // The rate of a product includes the cost of issuing it.
        small_operations: shape.small_operations.saturating_sub(issued(&shape.gemms)),
        memory_bytes: shape.memory_bytes,
        // The vector that is summed: the gradients and one loss, f32.
        exchange_bytes: Bytes(4 * (shape.parameters + 1)),
        exchange_messages: 1,
        collective: Collective::Direct,
        evaluation: Evaluation {
            gemms: gemms(&shape.evaluation_gemms)?,
            small_operations: shape.evaluation_operations.saturating_sub(issued(&shape.evaluation_gemms)),
            batches: shape.epochs,
        },
        data_bytes_per_epoch: shape.read_bytes_per_epoch * u64::from(shape.ranks),
        cache_bytes: cache,
        checkpoint_bytes: shape.checkpoint_bytes,
        checkpoints: shape.checkpoints,
        losses: (losses > 0).then(|| Losses {
            count: losses,
            checkpoint_every: u64::from(train.checkpoint_every),
            restart: RESTART,
        }),
    })
}

fn issued(counted: &[CountedGemm]) -> u64 {
    counted.iter().map(|gemm| gemm.count).sum()
}

fn gemms(counted: &[CountedGemm]) -> Result<Vec<Gemm>, Failure> {
    counted
        .iter()
        .map(|gemm| {
            let count = u32::try_from(gemm.count).or_fail_as(Kind::Invalid, "the number of products in a step")?;
            // The probe measures each kind with its operands lying as they lie in training; shapes differ between kinds.
            let (Product::Forward | Product::WeightGradient | Product::InputGradient) = gemm.product;
            Ok(Gemm { m: gemm.m, k: gemm.k, n: gemm.n, count })
        })
        .collect()
}
