//! `datahall train`: one rank of the built-in training. Started by the executor for each rank of a training workload.

use std::sync::Arc;

use clap::Args;
use dh_core::Kind;
use dh_learn::{Event, S3, TrainConfig, World};

use super::{Globals, Verb};
use crate::failure::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Train {
    /// Where the data set is, `s3://BUCKET/PREFIX`
    #[arg(long)]
    dataset: String,
    /// Where checkpoints and the final model go, `s3://BUCKET/PREFIX`
    #[arg(long)]
    checkpoints: String,
    /// Sizes of the layers, inputs first
    #[arg(long, value_delimiter = ',')]
    layers: Vec<usize>,
    /// Passes over the data
    #[arg(long)]
    epochs: u64,
    /// Samples of one step, over all ranks
    #[arg(long)]
    batch: usize,
    /// Adam's step size
    #[arg(long)]
    learning_rate: f64,
    /// Where every random choice starts from
    #[arg(long)]
    seed: u64,
    /// Steps between two checkpoints
    #[arg(long)]
    checkpoint_every: u64,
}

impl Verb for Train {
    const NAME: &'static str = "train";
    const ABOUT: &'static str = "Train as one rank (started by the hall)";
    const HIDDEN: bool = true;

    fn run(self, _globals: &Globals) -> Result<u8, Failure> {
        let world = World::from_env()?;
        let store = Arc::new(S3::from_env()?);
        let first = world.rank == 0;
        let (bucket, dataset_prefix) = split(&self.dataset)?;
        let (checkpoint_bucket, checkpoint_prefix) = split(&self.checkpoints)?;
        let config = TrainConfig {
            bucket,
            dataset_prefix,
            checkpoint_bucket,
            checkpoint_prefix,
            layers: self.layers,
            epochs: self.epochs,
            global_batch: self.batch,
            learning_rate: self.learning_rate,
            seed: self.seed,
            checkpoint_every_steps: self.checkpoint_every,
        };
        dh_learn::run(&config, &world, store, &mut |event: &Event| {
            if first {
                output::line(event.to_json());
            }
        })?;
        Ok(0)
    }
}

fn split(address: &str) -> Result<(String, String), Failure> {
    address
        .strip_prefix("s3://")
        .and_then(|rest| rest.split_once('/'))
        .filter(|(bucket, prefix)| !bucket.is_empty() && !prefix.is_empty())
        .map(|(bucket, prefix)| (bucket.to_owned(), prefix.to_owned()))
        .ok_or_else(|| Failure::new(Kind::Invalid, format!("`{address}` is not `s3://BUCKET/PREFIX`")))
}
