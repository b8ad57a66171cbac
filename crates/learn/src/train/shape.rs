//! How much work a run is: the numbers that a model of its time needs, counted from its configuration.
//!
//! Nothing is measured here. The counts follow the code of [`crate::network`], [`crate::adam`] and
//! [`crate::collective`]; a change there is a change here.

use dh_units::Bytes;
use serde::{Deserialize, Serialize};

use super::{EVALUATION_BATCH, Error, TrainConfig};
use crate::adam::Adam;
use crate::dataset::Manifest;
use crate::dataset::shard::HEADER_BYTES;
use crate::network;
use crate::number;

/// What a matrix product is for; it decides how the operands lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Product {
    /// `x w^T`: the right operand is read transposed.
    Forward,
    /// `g^T x`: the left operand is read transposed.
    WeightGradient,
    /// `g w`: both lie as they are read.
    InputGradient,
}

/// Matrix products `[m, k] x [k, n]` f32 of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gemm {
    /// What it is for.
    pub product: Product,
    /// Rows of the left matrix.
    pub m: u32,
    /// The contracted dimension.
    pub k: u32,
    /// Columns of the right matrix.
    pub n: u32,
    /// How many of them.
    pub count: u64,
}

/// How large a dataset is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataSize {
    /// Samples to train on.
    pub train: u64,
    /// Samples to measure accuracy on.
    pub test: u64,
}

impl DataSize {
    /// Fashion-MNIST, and MNIST.
    pub const MNIST: Self = Self { train: 60_000, test: 10_000 };
}

impl From<&Manifest> for DataSize {
    fn from(manifest: &Manifest) -> Self {
        Self { train: manifest.train.samples, test: manifest.test.samples }
    }
}

/// The work of a run. All of it is per rank unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepShape {
    /// Ranks.
    pub ranks: u32,
    /// Parameters of the network.
    pub parameters: u64,
    /// Samples of one step over all ranks.
    pub samples_per_step: u64,
    /// Steps of one epoch.
    pub steps_per_epoch: u64,
    /// Epochs of the run.
    pub epochs: u64,
    /// Matrix products of one step.
    pub gemms: Vec<Gemm>,
    /// Tensor operations of one step that are issued and allocate, the products included.
    pub small_operations: u64,
    /// Bytes that one step reads and writes beside the products: Adam, copies, the batch.
    pub memory_bytes: Bytes,
    /// Bytes that one step sends, and as many that it receives at the same time.
    pub exchange_bytes: Bytes,
    /// Messages that one step waits for one after the other.
    pub exchange_rounds: u64,
    /// Bytes of shards that one epoch reads from the store.
    pub read_bytes_per_epoch: Bytes,
    /// Matrix products of measuring the accuracy once (after each epoch).
    pub evaluation_gemms: Vec<Gemm>,
    /// Tensor operations of measuring the accuracy once.
    pub evaluation_operations: u64,
    /// Bytes that measuring the accuracy once reads and writes beside the products.
    pub evaluation_memory_bytes: Bytes,
    /// Size of a checkpoint, written by rank 0 beside the training.
    pub checkpoint_bytes: Bytes,
    /// Checkpoints of the whole run.
    pub checkpoints: u64,
}

/// The work of the run that `config` describes, on data of this `size`, by this many `ranks`.
///
/// # Errors
/// [`Error::Config`] or [`Error::Network`] if it is no possible run.
pub fn train_shape(config: &TrainConfig, size: DataSize, ranks: u32) -> Result<StepShape, Error> {
    if ranks == 0 {
        return Err(Error::Config { setting: "ranks", why: "there must be at least one".to_owned() });
    }
    config.check(ranks)?;
    let spans = network::spans(&config.layers)?;
    let parameters = number::wide(network::parameter_count(&spans));
    let wide_ranks = u64::from(ranks);
    let global_batch = number::wide(config.global_batch);
    let local = global_batch / wide_ranks;
    let steps_per_epoch = size.train / global_batch;
    let pixels = number::wide(config.layers.first().copied().unwrap_or(0));
    let layers = number::wide(spans.len());
    let steps = steps_per_epoch * config.epochs;
    let test_part = size.test.div_ceil(wide_ranks);
    let evaluation_batches = test_part.div_ceil(number::wide(EVALUATION_BATCH));
    // Forward one each and the loss; the seed gradient; the loss's gradient and its sum (3); per layer the gradients of
    // weights and biases (2); per hidden layer the gate, and the input's gradient above it with its sum (4); the batch
    // and its labels (2).
    let small_operations = layers + 1 + 1 + 3 + 2 * layers + 4 * (layers - 1) + 2;
    // Parameters copied in and gradients copied out (8 bytes each), and Adam.
    let copies = parameters * (8 + 8) + Adam::bytes_touched(parameters);
    Ok(StepShape {
        ranks,
        parameters,
        samples_per_step: global_batch,
        steps_per_epoch,
        epochs: config.epochs,
        gemms: step_products(&config.layers, local),
        small_operations,
        memory_bytes: Bytes(copies + local * pixels * 6),
        exchange_bytes: Bytes(2 * (wide_ranks - 1) * 4 * (parameters + 1) / wide_ranks),
        exchange_rounds: if ranks > 1 { 2 } else { 0 },
        read_bytes_per_epoch: Bytes(steps_per_epoch * local * (pixels + 1) + number::wide(HEADER_BYTES)),
        evaluation_gemms: forward_products(&config.layers, number::wide(EVALUATION_BATCH), evaluation_batches),
        evaluation_operations: evaluation_batches * (layers + 2),
        evaluation_memory_bytes: Bytes(test_part * pixels * 6),
        checkpoint_bytes: Bytes(parameters * 12),
        checkpoints: steps.checked_div(config.checkpoint_every_steps).unwrap_or(0)
            + u64::from(config.checkpoint_every_steps == 0 || !steps.is_multiple_of(config.checkpoint_every_steps)),
    })
}

fn pairs(layers: &[usize]) -> impl Iterator<Item = (u32, u32)> {
    layers.iter().zip(layers.iter().skip(1)).map(|(inputs, outputs)| (number::small(*inputs), number::small(*outputs)))
}

fn forward_products(layers: &[usize], batch: u64, count: u64) -> Vec<Gemm> {
    let m = number::small(number::index(batch));
    pairs(layers).map(|(inputs, outputs)| Gemm { product: Product::Forward, m, k: inputs, n: outputs, count }).collect()
}

fn step_products(layers: &[usize], batch: u64) -> Vec<Gemm> {
    let rows = number::small(number::index(batch));
    let mut products = forward_products(layers, batch, 1);
    for (place, (inputs, outputs)) in pairs(layers).enumerate() {
        products.push(Gemm { product: Product::WeightGradient, m: outputs, k: rows, n: inputs, count: 1 });
        if place > 0 {
            products.push(Gemm { product: Product::InputGradient, m: rows, k: outputs, n: inputs, count: 1 });
        }
    }
    products
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_run_is_counted_rightly() {
        let config = TrainConfig::new("b", "d", "c");
        let shape = train_shape(&config, DataSize::MNIST, 2).unwrap();
        assert_eq!((shape.parameters, shape.steps_per_epoch, shape.samples_per_step), (203_530, 937, 64));
        let flop: u64 = shape.gemms.iter().map(|g| 2 * u64::from(g.m) * u64::from(g.k) * u64::from(g.n)).sum();
        assert_eq!(flop, 2 * 32 * (2 * 784 * 256 + 3 * 256 * 10));
        assert_eq!(shape.exchange_bytes, Bytes(4 * 203_531));
        assert_eq!(shape.checkpoints, 937 * 5 / 200 + 1);
        let alone = train_shape(&config, DataSize::MNIST, 1).unwrap();
        assert_eq!((alone.exchange_bytes, alone.exchange_rounds), (Bytes(0), 0));
        assert!(train_shape(&config, DataSize::MNIST, 3).is_err());
        assert!(train_shape(&config, DataSize::MNIST, 0).is_err());
    }
}
