//! The training loop of one rank.
//!
//! Every rank runs the same code on its share of each global batch: forward and backward, average of the gradients, Adam
//! on the same bits. So all ranks hold the same weights without ever sending them. At the start rank 0 looks for a
//! checkpoint and gives it to the others, so that all agree on where to go on. Rank 0 writes checkpoints and the model.

mod config;
mod event;
mod shape;
mod world;
mod writer;

use std::sync::Arc;
use std::time::{Duration, Instant};

use dh_core::{HasKind, Kind};

pub use config::TrainConfig;
pub use event::{EpochResult, Event, Report};
pub use shape::{DataSize, Gemm, Product, StepShape, train_shape};
pub use world::World;

use crate::adam::{Adam, Moments};
use crate::checkpoint::{self, Checkpoint, Place, State};
use crate::collective::{self, Collective};
use crate::dataset::manifest::{self, Manifest};
use crate::dataset::order::Order;
use crate::dataset::prefetch::{Prefetch, ReadCost, Span, read_test};
use crate::dataset::{Samples, normalise};
use crate::model_file::{self, ModelCard};
use crate::network::{self, Network};
use crate::number;
use crate::store::ObjectStore;
use crate::threads;
use writer::Writer;

/// Steps between two reports.
const REPORT_EVERY: u64 = 50;

/// Samples of one batch when accuracy is measured.
pub(crate) const EVALUATION_BATCH: usize = 256;

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting.
    #[error("cannot train: `{setting}`: {why}")]
    Config {
        /// Which.
        setting: &'static str,
        /// What is wrong.
        why: String,
    },
    /// A variable of the environment.
    #[error("environment variable {name}: {why}")]
    Environment {
        /// Which.
        name: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The checkpoint is of another run.
    #[error("the checkpoint under {place} is of another run: {what} was {was} and is {is}")]
    OtherRun {
        /// Bucket and prefix.
        place: String,
        /// What differs.
        what: &'static str,
        /// In the checkpoint.
        was: String,
        /// In the configuration.
        is: String,
    },
    /// The checkpoint that rank 0 sent does not decode.
    #[error("the checkpoint from rank 0 is damaged: {0}")]
    Transfer(String),
    /// The data ended early.
    #[error("the data ended at step {step}: {got} of {want} samples")]
    ShortBatch {
        /// The step.
        step: u64,
        /// Samples that came.
        got: usize,
        /// Samples of a step.
        want: usize,
    },
    /// The training diverged.
    #[error("the loss is not a number at step {step}")]
    NotFinite {
        /// The step.
        step: u64,
    },
    /// The checkpoint thread ended.
    #[error("the thread that writes checkpoints is gone")]
    WriterLost,
    /// The dataset.
    #[error(transparent)]
    Data(#[from] manifest::Error),
    /// The network.
    #[error(transparent)]
    Network(#[from] network::Error),
    /// The other ranks.
    #[error(transparent)]
    Collective(#[from] collective::Error),
    /// Checkpoints.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
}

impl HasKind for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Config { .. } | Self::Environment { .. } | Self::NotFinite { .. } => Kind::Invalid,
            Self::OtherRun { .. } => Kind::Conflict,
            Self::Transfer(_) => Kind::Corrupt,
            Self::ShortBatch { .. } | Self::WriterLost => Kind::Internal,
            Self::Data(error) => error.kind(),
            Self::Network(error) => error.kind(),
            Self::Collective(error) => error.kind(),
            Self::Checkpoint(error) => error.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::OtherRun { .. } => Some("choose another checkpoint prefix, or remove the old run's".to_owned()),
            Self::NotFinite { .. } => Some("try a smaller learning rate".to_owned()),
            Self::Data(error) => error.hint(),
            Self::Collective(error) => error.hint(),
            Self::Checkpoint(error) => error.hint(),
            Self::Config { .. }
            | Self::Environment { .. }
            | Self::Transfer(_)
            | Self::ShortBatch { .. }
            | Self::WriterLost
            | Self::Network(_) => None,
        }
    }
}

/// Trains as the rank that `world` says, going on from the newest checkpoint if there is one.
///
/// `progress` hears of every event on every rank; only rank 0's should be shown.
///
/// # Errors
/// Whatever ended the run; what is in the store stays usable, and another attempt goes on from it.
pub fn run(
    config: &TrainConfig,
    world: &World,
    store: Arc<dyn ObjectStore>,
    progress: &mut dyn FnMut(&Event),
) -> Result<Report, Error> {
    run_in(config, world, store, progress, || Collective::join(world))
}

/// [`run`] with the ranks brought together by `join`, for ranks that are threads of one process.
///
/// # Errors
/// As [`run`].
pub fn run_in(
    config: &TrainConfig,
    world: &World,
    store: Arc<dyn ObjectStore>,
    progress: &mut dyn FnMut(&Event),
    join: impl FnOnce() -> Result<Collective, collective::Error>,
) -> Result<Report, Error> {
    config.check(world.ranks)?;
    let _one_thread = (threads::allowed() == 1).then(threads::SingleThread::enforce);
    let manifest = Arc::new(Manifest::load(store.as_ref(), &config.bucket, &config.dataset_prefix)?);
    config.check_dataset(&manifest)?;
    let collective = join()?;
    let mut rank = Rank::assemble(config, world, store, manifest, collective, progress)?;
    rank.train(progress)?;
    rank.finish(progress)
}

/// One rank with all it needs.
struct Rank<'a> {
    config: &'a TrainConfig,
    store: Arc<dyn ObjectStore>,
    manifest: Arc<Manifest>,
    collective: Collective,
    network: Network,
    adam: Adam,
    state: State,
    parameters: Vec<f32>,
    moments: Moments,
    steps_per_epoch: u64,
    prefetch: Prefetch,
    test: Samples,
    writer: Option<Writer>,
    spent: Spent,
    first_step: u64,
}

/// Where the time went.
#[derive(Default)]
struct Spent {
    total: Duration,
    exchange: Duration,
    compute: Duration,
    update: Duration,
    evaluation: Duration,
    test_read: ReadCost,
}

impl<'a> Rank<'a> {
    fn assemble(
        config: &'a TrainConfig,
        world: &World,
        store: Arc<dyn ObjectStore>,
        manifest: Arc<Manifest>,
        mut collective: Collective,
        progress: &mut dyn FnMut(&Event),
    ) -> Result<Self, Error> {
        let place = Place { bucket: config.checkpoint_bucket.clone(), prefix: config.checkpoint_prefix.clone() };
        let network = Network::new(&config.layers)?;
        let found = if world.rank == 0 { place.load(store.as_ref())? } else { checkpoint::Found::default() };
        let bytes = collective.broadcast(found.bytes.unwrap_or_default())?;
        let checkpoint = if bytes.is_empty() {
            fresh(config, world, &manifest, &network)
        } else {
            let checkpoint = Checkpoint::decode(&bytes).map_err(Error::Transfer)?;
            check_same_run(config, &manifest, &checkpoint, network.parameters())?;
            checkpoint
        };
        let Checkpoint { state, parameters, moments } = checkpoint;
        let sizes = manifest.train.shards.iter().map(|shard| shard.samples).collect();
        let order = Order::new(config.seed, sizes, world.rank, world.ranks, config.global_batch);
        let steps_per_epoch = order.steps_per_epoch();
        let span = Span { epoch: state.epoch, step: state.step_in_epoch, epochs: config.epochs };
        let prefetch = Prefetch::start(store.clone(), &config.bucket, manifest.clone(), order, span);
        let part = |rank: u32| manifest.test.samples * u64::from(rank) / u64::from(world.ranks);
        let range = part(world.rank)..part(world.rank + 1);
        let (test, test_read) = read_test(store.as_ref(), &config.bucket, &manifest, range)?;
        progress(&Event::Started {
            resumed_from_step: state.step,
            steps: steps_per_epoch * config.epochs,
            ranks: world.ranks,
            skipped_checkpoints: found.skipped,
        });
        let writer = (world.rank == 0).then(|| Writer::start(store.clone(), place));
        let first_step = state.step;
        let adam = Adam::new(config.learning_rate);
        let spent = Spent { test_read, ..Spent::default() };
        Ok(Self {
            config,
            store,
            manifest,
            collective,
            network,
            adam,
            state,
            parameters,
            moments,
            steps_per_epoch,
            prefetch,
            test,
            writer,
            spent,
            first_step,
        })
    }

    fn train(&mut self, progress: &mut dyn FnMut(&Event)) -> Result<(), Error> {
        let total = self.steps_per_epoch * self.config.epochs;
        let start = Instant::now();
        let mut epoch_start = start;
        // The gradient, and behind it the loss, so that one exchange averages both.
        let mut gradient = vec![0.0; self.network.parameters() + 1];
        while self.state.step < total {
            let loss = self.step(&mut gradient)?;
            if self.state.step.is_multiple_of(REPORT_EVERY) {
                progress(&Event::Step {
                    step: self.state.step,
                    epoch: self.state.epoch + 1,
                    loss,
                    samples: self.state.step * number::wide(self.config.global_batch),
                });
            }
            if self.state.step_in_epoch == self.steps_per_epoch {
                self.end_epoch(epoch_start.elapsed(), progress)?;
                epoch_start = Instant::now();
            }
            if let Some(writer) = &mut self.writer {
                writer.poll(progress)?;
                let every = self.config.checkpoint_every_steps;
                if self.state.step == total || (every > 0 && self.state.step.is_multiple_of(every)) {
                    let checkpoint = Checkpoint {
                        state: self.state.clone(),
                        parameters: self.parameters.clone(),
                        moments: self.moments.clone(),
                    };
                    writer.submit(checkpoint, progress)?;
                }
            }
        }
        self.spent.total = start.elapsed();
        Ok(())
    }

    /// One step; the loss averaged over all ranks.
    fn step(&mut self, gradient: &mut [f32]) -> Result<f64, Error> {
        let want = self.config.global_batch / self.collective.ranks() as usize;
        let batch = self.prefetch.batch(want)?;
        if batch.labels.len() != want {
            return Err(Error::ShortBatch { step: self.state.step, got: batch.labels.len(), want });
        }
        let Some((loss, gradient_only)) = gradient.split_last_mut() else { return Ok(0.0) };
        let start = Instant::now();
        self.network.load(&self.parameters)?;
        let loaded = Instant::now();
        *loss = self.network.loss_and_gradient(batch.pixels, batch.labels, gradient_only)?;
        let computed = Instant::now();
        self.collective.average(gradient)?;
        let exchanged = Instant::now();
        let Some((loss, gradient_only)) = gradient.split_last() else { return Ok(0.0) };
        self.adam.update(self.state.step + 1, &mut self.parameters, gradient_only, &mut self.moments);
        self.spent.update += (loaded - start) + exchanged.elapsed();
        self.spent.compute += computed - loaded;
        self.spent.exchange += exchanged - computed;
        self.state.step += 1;
        self.state.step_in_epoch += 1;
        if !loss.is_finite() {
            return Err(Error::NotFinite { step: self.state.step });
        }
        self.state.epoch_loss_sum += f64::from(*loss);
        Ok(f64::from(*loss))
    }

    fn end_epoch(&mut self, elapsed: Duration, progress: &mut dyn FnMut(&Event)) -> Result<(), Error> {
        let start = Instant::now();
        let accuracy = self.accuracy()?;
        let evaluation = start.elapsed();
        self.spent.evaluation += evaluation;
        let result = EpochResult {
            epoch: self.state.epoch + 1,
            accuracy,
            loss: self.state.epoch_loss_sum / number::real64(self.steps_per_epoch),
            seconds: (elapsed + evaluation).as_secs_f64(),
        };
        self.state.epochs.push(result);
        self.state.epoch += 1;
        self.state.step_in_epoch = 0;
        self.state.epoch_loss_sum = 0.0;
        progress(&Event::Epoch(result));
        Ok(())
    }

    /// Each rank classifies its part of the test set; the counts are added exactly, so all ranks say the same.
    fn accuracy(&mut self) -> Result<f64, Error> {
        self.network.load(&self.parameters)?;
        let width = self.test.pixels_per_sample();
        let mut counts = [0, number::wide(self.test.len())];
        let batches = self.test.pixels.chunks(EVALUATION_BATCH * width).zip(self.test.labels.chunks(EVALUATION_BATCH));
        for (pixels, labels) in batches {
            let pixels = pixels.iter().map(|pixel| normalise(*pixel)).collect();
            let classes = self.network.classify(pixels, labels.len())?;
            let right = classes.iter().zip(labels).filter(|(class, label)| **class == u32::from(**label)).count();
            counts[0] += number::wide(right);
        }
        self.collective.sum_counts(&mut counts)?;
        let [right, total] = counts;
        Ok(number::real64(right) / number::real64(total.max(1)))
    }

    fn finish(mut self, progress: &mut dyn FnMut(&Event)) -> Result<Report, Error> {
        if let Some(writer) = &mut self.writer {
            writer.finish(progress)?;
            let card = ModelCard {
                classes: self.manifest.classes.clone(),
                origin: self.manifest.origin.word().to_owned(),
                accuracy: self.state.epochs.last().map_or(0.0, |result| result.accuracy),
            };
            let model = (self.network.spans(), self.parameters.as_slice());
            model_file::save(
                self.store.as_ref(),
                &self.config.checkpoint_bucket,
                &self.config.checkpoint_prefix,
                model,
                &card,
            )?;
        }
        let steps = self.state.step - self.first_step;
        let samples = steps * number::wide(self.config.global_batch);
        let seconds = self.spent.total.as_secs_f64();
        let read = self.prefetch.cost();
        let report = Report {
            steps,
            samples,
            seconds,
            samples_per_second: if seconds > 0.0 { number::real64(samples) / seconds } else { 0.0 },
            wait_seconds: read.waited.as_secs_f64(),
            allreduce_seconds: self.spent.exchange.as_secs_f64(),
            compute_seconds: self.spent.compute.as_secs_f64(),
            update_seconds: self.spent.update.as_secs_f64(),
            evaluation_seconds: self.spent.evaluation.as_secs_f64(),
            bytes_read: read.bytes + self.spent.test_read.bytes,
            epochs: self.state.epochs,
            origin: self.manifest.origin.word().to_owned(),
            ranks: self.collective.ranks(),
        };
        progress(&Event::Finished(report.clone()));
        Ok(report)
    }
}

/// The state before the first step, the same on every rank.
fn fresh(config: &TrainConfig, world: &World, manifest: &Manifest, network: &Network) -> Checkpoint {
    let state = State {
        layers: config.layers.clone(),
        step: 0,
        epoch: 0,
        step_in_epoch: 0,
        seed: config.seed,
        global_batch: config.global_batch,
        ranks: world.ranks,
        dataset: manifest.name.clone(),
        origin: manifest.origin,
        epoch_loss_sum: 0.0,
        epochs: Vec::new(),
    };
    let parameters = network::initial_parameters(network.spans(), config.seed);
    let moments = Moments::zero(parameters.len());
    Checkpoint { state, parameters, moments }
}

/// A checkpoint of other settings would silently give other weights than either run.
///
/// The number of ranks may differ: the samples of the broken epoch are then dealt out anew from its step on.
fn check_same_run(
    config: &TrainConfig,
    manifest: &Manifest,
    checkpoint: &Checkpoint,
    parameters: usize,
) -> Result<(), Error> {
    let state = &checkpoint.state;
    let differences = [
        ("layers", format!("{:?}", state.layers), format!("{:?}", config.layers)),
        ("seed", state.seed.to_string(), config.seed.to_string()),
        ("global_batch", state.global_batch.to_string(), config.global_batch.to_string()),
        ("dataset", state.dataset.clone(), manifest.name.clone()),
        ("origin", state.origin.word().to_owned(), manifest.origin.word().to_owned()),
        ("parameter count", checkpoint.parameters.len().to_string(), parameters.to_string()),
    ];
    for (what, was, is) in differences {
        if was != is {
            let place = format!("{}/{}", config.checkpoint_bucket, config.checkpoint_prefix);
            return Err(Error::OtherRun { place, what, was, is });
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
