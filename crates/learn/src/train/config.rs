//! What to train, and checks of it before anything is fetched.

use serde::{Deserialize, Serialize};

use super::Error;
use crate::dataset::Manifest;

/// The most epochs of a run; more is a slip of the keyboard.
const EPOCHS_MAX: u64 = 100_000;

/// A training run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// The bucket of the dataset.
    pub bucket: String,
    /// Where the dataset lies in it.
    pub dataset_prefix: String,
    /// The bucket of checkpoints and the model.
    pub checkpoint_bucket: String,
    /// Where they go in it.
    pub checkpoint_prefix: String,
    /// Layer sizes: pixels first, classes last.
    #[serde(default = "default_layers")]
    pub layers: Vec<usize>,
    /// How often every sample is seen.
    #[serde(default = "default_epochs")]
    pub epochs: u64,
    /// Samples per step over all ranks.
    #[serde(default = "default_global_batch")]
    pub global_batch: usize,
    /// Step size of Adam.
    #[serde(default = "default_learning_rate")]
    pub learning_rate: f64,
    /// Seed of the initial weights and of the order of the samples.
    #[serde(default)]
    pub seed: u64,
    /// Steps between checkpoints; zero means only at the end.
    #[serde(default = "default_checkpoint_every")]
    pub checkpoint_every_steps: u64,
}

fn default_layers() -> Vec<usize> {
    vec![784, 256, 10]
}

const fn default_epochs() -> u64 {
    5
}

const fn default_global_batch() -> usize {
    64
}

const fn default_learning_rate() -> f64 {
    1e-3
}

const fn default_checkpoint_every() -> u64 {
    200
}

impl TrainConfig {
    /// The usual classifier, trained from and to these places of one bucket.
    pub fn new(bucket: &str, dataset_prefix: &str, checkpoint_prefix: &str) -> Self {
        Self {
            bucket: bucket.to_owned(),
            dataset_prefix: dataset_prefix.to_owned(),
            checkpoint_bucket: bucket.to_owned(),
            checkpoint_prefix: checkpoint_prefix.to_owned(),
            layers: default_layers(),
            epochs: default_epochs(),
            global_batch: default_global_batch(),
            learning_rate: default_learning_rate(),
            seed: 0,
            checkpoint_every_steps: default_checkpoint_every(),
        }
    }

    /// What can be checked without the dataset.
    ///
    /// # Errors
    /// [`Error::Config`] names the setting.
    pub fn check(&self, ranks: u32) -> Result<(), Error> {
        let wrong = |setting, why: String| Err(Error::Config { setting, why });
        crate::network::spans(&self.layers)?;
        if self.epochs == 0 || self.epochs > EPOCHS_MAX {
            return wrong("epochs", format!("{} is not between 1 and {EPOCHS_MAX}", self.epochs));
        }
        if !(self.learning_rate.is_finite() && self.learning_rate > 0.0) {
            return wrong("learning_rate", format!("{} is not a positive number", self.learning_rate));
        }
        if self.global_batch == 0 || !self.global_batch.is_multiple_of(ranks as usize) {
            return wrong("global_batch", format!("{} is not a multiple of the {ranks} ranks", self.global_batch));
        }
        Ok(())
    }

    /// What the dataset has to fit.
    ///
    /// # Errors
    /// [`Error::Config`] names the setting.
    pub fn check_dataset(&self, manifest: &Manifest) -> Result<(), Error> {
        let wrong = |setting, why: String| Err(Error::Config { setting, why });
        let [height, width] = manifest.shape;
        let pixels = height as usize * width as usize;
        if self.layers.first() != Some(&pixels) {
            return wrong("layers", format!("the images have {pixels} pixels, the first layer is not that"));
        }
        if self.layers.last() != Some(&manifest.classes.len()) {
            return wrong(
                "layers",
                format!("there are {} classes, the last layer is not that", manifest.classes.len()),
            );
        }
        if manifest.train.samples < crate::number::wide(self.global_batch) {
            return wrong("global_batch", format!("there are only {} samples", manifest.train.samples));
        }
        Ok(())
    }
}
