//! The built-in inference engine: quantised language models and dense classifiers behind an HTTP listener.
//!
//! It runs as a process of its own, started and watched by the hall and reached through the gateway. Invariant: a request
//! from outside can neither take memory without bound nor stop the engine; every answer is computed by the model that was
//! loaded, and a model with made-up weights says so in its name.
//!
//! Threads: the tensor library takes one per processor, and they spin at a barrier in every matrix product. On processors
//! that others keep busy, each barrier waits for the scheduler: measured on 2026-11-24 with SmolLM2-135M, two cores and two
//! busy loops beside it, 3.5 tokens/s against 16.5 with one thread; undisturbed it is 90 with two. Whoever starts this process beside
//! other work should set `CANDLE_NUM_THREADS` and `RAYON_NUM_THREADS` to the processors it really has.
#![warn(missing_docs)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::allow_attributes,
        reason = "tests fail by panicking"
    )
)]

pub mod classifier;
pub mod language;
mod numeric;
mod rng;
mod serve;
pub mod standin;

use std::path::Path;

pub use language::LoadOptions;
pub use serve::{EngineConfig, serve};

use dh_core::{HasKind, Kind};

/// Why the engine does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The language model.
    #[error(transparent)]
    Language(#[from] language::Error),
    /// The classifier.
    #[error(transparent)]
    Classifier(#[from] classifier::Error),
    /// The configuration.
    #[error("{0}")]
    Config(String),
    /// The listener or a thread.
    #[error("the engine cannot serve: {0}")]
    Listener(#[from] std::io::Error),
}

impl HasKind for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Language(error) => error.kind(),
            Self::Classifier(error) => error.kind(),
            Self::Config(_) => Kind::Invalid,
            Self::Listener(_) => Kind::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Language(error) => error.hint(),
            Self::Classifier(error) => error.hint(),
            Self::Config(_) | Self::Listener(_) => None,
        }
    }
}

/// A model that can be served.
#[derive(Debug)]
pub enum Model {
    /// Text to text.
    Language(Box<language::LanguageModel>),
    /// Pixels to classes.
    Dense(classifier::DenseModel),
}

impl Model {
    /// Loads a language model. Blocks for as long as reading and requantising take.
    /// # Errors
    /// [`Error::Language`] with what is wrong with the file.
    pub fn open_gguf(path: &Path, options: LoadOptions) -> Result<Self, Error> {
        Ok(Self::Language(Box::new(language::LanguageModel::open(path, options)?)))
    }

    /// Reads a classifier.
    /// # Errors
    /// [`Error::Classifier`] with what is wrong with the bytes.
    pub fn dense(bytes: &[u8]) -> Result<Self, Error> {
        Ok(Self::Dense(classifier::DenseModel::read(bytes)?))
    }

    /// Whether the weights are made up and the answers mean nothing.
    pub fn is_generated(&self) -> bool {
        match self {
            Self::Language(model) => model.is_generated(),
            Self::Dense(_) => false,
        }
    }
}
