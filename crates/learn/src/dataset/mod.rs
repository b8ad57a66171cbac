//! Image sets: where they come from, how they lie in the store, in which order they are read.
//!
//! [`idx`] reads the MNIST file format, [`synthetic`] makes a set of the same kind, [`shard`] is one object of the store,
//! [`manifest`] describes and uploads a whole set, [`order`] says which rank reads which sample when, and [`prefetch`]
//! fetches ahead.

pub mod idx;
pub mod manifest;
pub mod order;
pub mod prefetch;
pub mod shard;
pub mod synthetic;

use serde::{Deserialize, Serialize};

pub use manifest::{Manifest, ShardEntry, Split, upload};

/// Where the samples come from. Reports carry it, so that nobody takes a generated set for the real one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// The Fashion-MNIST files (Xiao, Rasul, Vollgraf 2017).
    #[serde(rename = "Fashion-MNIST")]
    FashionMnist,
    /// Another set in MNIST format, given by the user.
    #[serde(rename = "idx files")]
    IdxFiles,
    /// Made by [`synthetic`].
    #[serde(rename = "generated")]
    Generated,
}

impl Origin {
    /// The word used in manifests and reports.
    pub const fn word(self) -> &'static str {
        match self {
            Self::FashionMnist => "Fashion-MNIST",
            Self::IdxFiles => "idx files",
            Self::Generated => "generated",
        }
    }

    /// Names of the classes, in the order of the labels.
    pub fn class_names(self, classes: usize) -> Vec<String> {
        const FASHION: [&str; 10] =
            ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"];
        match self {
            Self::FashionMnist if classes == FASHION.len() => FASHION.iter().map(ToString::to_string).collect(),
            Self::FashionMnist | Self::IdxFiles => (0..classes).map(|class| class.to_string()).collect(),
            Self::Generated => (0..classes).map(|class| format!("pattern {class}")).collect(),
        }
    }
}

/// Samples side by side: pixel bytes, `pixels_per_sample` each, and one label each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Samples {
    /// Height and width of an image.
    pub shape: [u32; 2],
    /// All pixels, sample after sample, row after row.
    pub pixels: Vec<u8>,
    /// One label per sample.
    pub labels: Vec<u8>,
}

impl Samples {
    /// How many.
    pub const fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Pixels of one sample.
    pub const fn pixels_per_sample(&self) -> usize {
        self.shape[0] as usize * self.shape[1] as usize
    }

    /// The pixels and the label of sample `index`, if there is one.
    pub fn get(&self, index: usize) -> Option<(&[u8], u8)> {
        let width = self.pixels_per_sample();
        let label = *self.labels.get(index)?;
        Some((self.pixels.get(index * width..(index + 1) * width)?, label))
    }
}

/// A whole set in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// Its name in the store.
    pub name: String,
    /// Where it comes from.
    pub origin: Origin,
    /// Names of the classes; a label is an index into them.
    pub classes: Vec<String>,
    /// What is trained on.
    pub train: Samples,
    /// What accuracy is measured on.
    pub test: Samples,
}

/// A pixel as the network sees it.
pub fn normalise(pixel: u8) -> f32 {
    f32::from(pixel) / 255.0
}
