//! The dense classifier: layers of `relu(x w^T + b)`, the last without relu, trained on cross-entropy.
//!
//! Matrix products and the backward pass are candle's; [`operations`] fuses what surrounds the products, so that a step
//! issues few tensor operations. Parameters live in one flat vector outside (layer by layer: weights `[out, in]` row by
//! row, then biases), because that is what the all-reduce, Adam and the checkpoint want; before a step they are copied
//! into candle's variables, after it the gradients are copied out in the same layout.
//! Cost of the copies: one read and one write of all parameters each way, below a tenth of the products.

pub mod operations;

use std::ops::Range;

use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Storage, Tensor, Var};
use dh_core::{HasKind, Kind};

use crate::number;
use crate::random::Generator;
use operations::{Activation, CrossEntropy, Dense, Gradients, InputGradient, LayerGradient};

const INITIAL: u64 = 21;

/// Why the network cannot be made or run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The layer sizes make no network.
    #[error("layers {layers:?} make no network: {why}")]
    Layers {
        /// As given.
        layers: Vec<usize>,
        /// What is wrong.
        why: &'static str,
    },
    /// A vector has another length than the network needs.
    #[error("{what} has {got} numbers, the network needs {want}")]
    Length {
        /// Which vector.
        what: &'static str,
        /// Its length.
        got: usize,
        /// The length wanted.
        want: usize,
    },
    /// The tensor library.
    #[error("tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
}

impl HasKind for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Layers { .. } => Kind::Invalid,
            Self::Length { .. } | Self::Tensor(_) => Kind::Internal,
        }
    }
}

/// Where one layer lies in the flat vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerSpan {
    /// Inputs of the layer.
    pub inputs: usize,
    /// Outputs of the layer.
    pub outputs: usize,
    /// Its weights, `[outputs, inputs]` row by row.
    pub weights: Range<usize>,
    /// Its biases.
    pub biases: Range<usize>,
}

/// The most parameters that are accepted: 2^28, a gibibyte.
const PARAMETERS_MAX: usize = 1 << 28;

/// Where each layer of a network with these sizes lies in the flat vector.
///
/// # Errors
/// [`Error::Layers`] if there are fewer than two sizes, a zero among them, or too many parameters.
pub fn spans(layers: &[usize]) -> Result<Vec<LayerSpan>, Error> {
    let wrong = |why| Error::Layers { layers: layers.to_vec(), why };
    if layers.len() < 2 || layers.len() > 64 {
        return Err(wrong("give 2 to 64 sizes, inputs first, classes last"));
    }
    if layers.contains(&0) || layers.last() == Some(&1) {
        return Err(wrong("each size is at least 1, and there are at least two classes"));
    }
    let mut next = 0_usize;
    let mut spans = Vec::new();
    for (inputs, outputs) in layers.iter().zip(layers.iter().skip(1)) {
        let weights = inputs.checked_mul(*outputs).filter(|count| *count <= PARAMETERS_MAX);
        let weights = next..next + weights.ok_or_else(|| wrong("more than 2^28 parameters"))?;
        let biases = weights.end..weights.end + outputs;
        next = biases.end;
        spans.push(LayerSpan { inputs: *inputs, outputs: *outputs, weights, biases });
    }
    if next > PARAMETERS_MAX {
        return Err(wrong("more than 2^28 parameters"));
    }
    Ok(spans)
}

/// How many parameters a network with these layers has.
pub fn parameter_count(spans: &[LayerSpan]) -> usize {
    spans.last().map_or(0, |span| span.biases.end)
}

/// The weights before the first step: uniform, He for hidden layers and Glorot for the last; biases zero.
///
/// Drawn from our own generator with IEEE arithmetic only, so every rank starts from the same bits.
pub fn initial_parameters(spans: &[LayerSpan], seed: u64) -> Vec<f32> {
    let mut parameters = vec![0.0; parameter_count(spans)];
    for (place, span) in spans.iter().enumerate() {
        let fan = if place + 1 == spans.len() { span.inputs + span.outputs } else { span.inputs };
        let bound = number::single((6.0 / number::real(fan)).sqrt());
        let mut generator = Generator::new(seed, &[INITIAL, number::wide(place)]);
        for weight in parameters.get_mut(span.weights.clone()).unwrap_or_default() {
            *weight = generator.signed_unit() * bound;
        }
    }
    parameters
}

/// A network in candle, with room for one set of parameters.
#[derive(Debug)]
pub struct Network {
    spans: Vec<LayerSpan>,
    variables: Vec<(Var, Var)>,
}

impl Network {
    /// A network with these layers; call [`Network::load`] before using it.
    ///
    /// # Errors
    /// [`Error::Layers`] as [`spans`] says.
    pub fn new(layers: &[usize]) -> Result<Self, Error> {
        let spans = spans(layers)?;
        let mut variables = Vec::new();
        for span in &spans {
            let weights = Var::zeros((span.outputs, span.inputs), candle_core::DType::F32, &Device::Cpu)?;
            let biases = Var::zeros(span.outputs, candle_core::DType::F32, &Device::Cpu)?;
            variables.push((weights, biases));
        }
        Ok(Self { spans, variables })
    }

    /// Where each layer lies in the flat vector.
    pub fn spans(&self) -> &[LayerSpan] {
        &self.spans
    }

    /// How many parameters there are.
    pub fn parameters(&self) -> usize {
        parameter_count(&self.spans)
    }

    /// Copies the flat `parameters` into the variables.
    ///
    /// # Errors
    /// [`Error::Length`] if they are not of this network.
    pub fn load(&self, parameters: &[f32]) -> Result<(), Error> {
        self.check("the parameter vector", parameters.len())?;
        for (span, (weights, biases)) in self.spans.iter().zip(&self.variables) {
            weights.inplace_op1(&CopyIn(parameters.get(span.weights.clone()).unwrap_or_default()))?;
            biases.inplace_op1(&CopyIn(parameters.get(span.biases.clone()).unwrap_or_default()))?;
        }
        Ok(())
    }

    /// The mean cross-entropy of a batch; its gradient goes to `gradient`.
    ///
    /// `pixels` is `[batch, inputs] f32`, `labels` one class per sample.
    ///
    /// # Errors
    /// [`Error::Length`] or what the tensor library says.
    pub fn loss_and_gradient(&self, pixels: Vec<f32>, labels: Vec<u32>, gradient: &mut [f32]) -> Result<f32, Error> {
        self.check("the gradient vector", gradient.len())?;
        let batch = labels.len();
        let gradients = Gradients::default();
        let logits = self.forward(pixels, batch, &gradients)?;
        let labels = Tensor::from_vec(labels, batch, &Device::Cpu)?;
        let loss = logits.apply_op2(&labels, CrossEntropy)?;
        drop(loss.backward()?);
        let mut left = gradients.take();
        left.sort_by_key(|gradient| gradient.layer);
        if left.len() != self.spans.len() {
            return Err(candle_core::Error::Msg("a layer has no gradient".to_owned()).into());
        }
        for (span, LayerGradient { weights, biases, .. }) in self.spans.iter().zip(&left) {
            copy_out(weights, gradient.get_mut(span.weights.clone()).unwrap_or_default())?;
            copy_out(biases, gradient.get_mut(span.biases.clone()).unwrap_or_default())?;
        }
        Ok(loss.to_scalar::<f32>()?)
    }

    /// The logits of a batch, `[batch, classes]` row by row.
    ///
    /// # Errors
    /// [`Error::Length`] or what the tensor library says.
    pub fn logits(&self, pixels: Vec<f32>, batch: usize) -> Result<Vec<f32>, Error> {
        Ok(self.forward(pixels, batch, &Gradients::default())?.flatten_all()?.to_vec1::<f32>()?)
    }

    /// The most likely class of each sample of a batch.
    ///
    /// # Errors
    /// As [`Network::logits`].
    pub fn classify(&self, pixels: Vec<f32>, batch: usize) -> Result<Vec<u32>, Error> {
        let classes = self.spans.last().map_or(1, |span| span.outputs);
        let logits = self.logits(pixels, batch)?;
        Ok(logits.chunks_exact(classes).map(highest).collect())
    }

    fn forward(&self, pixels: Vec<f32>, batch: usize, gradients: &Gradients) -> Result<Tensor, Error> {
        let inputs = self.spans.first().map_or(0, |span| span.inputs);
        if pixels.len() != batch * inputs {
            return Err(Error::Length { what: "the batch", got: pixels.len(), want: batch * inputs });
        }
        let mut hidden = Tensor::from_vec(pixels, (batch, inputs), &Device::Cpu)?;
        let last = self.variables.len() - 1;
        for (place, (weights, biases)) in self.variables.iter().enumerate() {
            let activation = if place == last { Activation::Identity } else { Activation::Relu };
            // Nobody needs the gradient of the pixels; its product would cost as much as that of the weights.
            let input_gradient = if place == 0 { InputGradient::Skipped } else { InputGradient::Wanted };
            let layer = Dense { layer: place, gradients: gradients.clone(), activation, input_gradient };
            hidden = hidden.apply_op3(weights, biases, layer)?;
        }
        Ok(hidden)
    }

    fn check(&self, what: &'static str, got: usize) -> Result<(), Error> {
        let want = self.parameters();
        if got == want { Ok(()) } else { Err(Error::Length { what, got, want }) }
    }
}

/// The place of the largest number; the first of equals.
fn highest(row: &[f32]) -> u32 {
    let mut best = (0, f32::NEG_INFINITY);
    for (place, value) in (0..).zip(row) {
        if *value > best.1 {
            best = (place, *value);
        }
    }
    best.0
}

/// Writes a slice over a contiguous variable.
struct CopyIn<'a>(&'a [f32]);

impl InplaceOp1 for CopyIn<'_> {
    fn name(&self) -> &'static str {
        "copy-in"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let (CpuStorage::F32(values), Some((start, end))) = (storage, layout.contiguous_offsets()) else {
            candle_core::bail!("copy-in wants a contiguous f32 variable")
        };
        match values.get_mut(start..end) {
            Some(values) if values.len() == self.0.len() => values.copy_from_slice(self.0),
            _ => candle_core::bail!("copy-in of {} numbers into {}", self.0.len(), end - start),
        }
        Ok(())
    }
}

fn copy_out(gradient: &Tensor, into: &mut [f32]) -> Result<(), Error> {
    let (storage, layout) = gradient.storage_and_layout();
    let values = match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(values)), Some((start, end))) => values.get(start..end),
        _ => None,
    };
    match values {
        Some(values) if values.len() == into.len() => into.copy_from_slice(values),
        _ => return Err(candle_core::Error::Msg("a gradient has an unexpected layout".to_owned()).into()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss(network: &Network, parameters: &[f32], pixels: &[f32], labels: &[u32]) -> (f32, Vec<f32>) {
        network.load(parameters).unwrap();
        let mut gradient = vec![0.0; parameters.len()];
        let loss = network.loss_and_gradient(pixels.to_vec(), labels.to_vec(), &mut gradient).unwrap();
        (loss, gradient)
    }

    /// The definition, in f64 and without any library.
    fn reference_loss(spans: &[LayerSpan], parameters: &[f64], pixels: &[f32], labels: &[u32]) -> f64 {
        let inputs = spans[0].inputs;
        let mut total = 0.0;
        for (sample, label) in pixels.chunks(inputs).zip(labels) {
            let mut values: Vec<f64> = sample.iter().map(|value| f64::from(*value)).collect();
            for (place, span) in spans.iter().enumerate() {
                let weights = &parameters[span.weights.clone()];
                let biases = &parameters[span.biases.clone()];
                values = (0..span.outputs)
                    .map(|row| {
                        let products = weights[row * span.inputs..(row + 1) * span.inputs].iter().zip(&values);
                        let sum = biases[row] + products.map(|(weight, value)| weight * value).sum::<f64>();
                        if place + 1 == spans.len() { sum } else { sum.max(0.0) }
                    })
                    .collect();
            }
            let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = values.iter().map(|value| (value - largest).exp()).sum();
            total += largest + sum.ln() - values[*label as usize];
        }
        total / number::real(labels.len())
    }

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        let layers = [7, 6, 5, 3];
        let network = Network::new(&layers).unwrap();
        let mut parameters = initial_parameters(network.spans(), 3);
        let mut generator = Generator::new(1, &[]);
        for parameter in &mut parameters {
            *parameter += 0.1 * generator.signed_unit();
        }
        let pixels: Vec<f32> = (0..28).map(|_| generator.signed_unit()).collect();
        let labels = [0, 2, 1, 2];
        let (value, gradient) = loss(&network, &parameters, &pixels, &labels);
        let exact: Vec<f64> = parameters.iter().map(|parameter| f64::from(*parameter)).collect();
        assert!((f64::from(value) - reference_loss(network.spans(), &exact, &pixels, &labels)).abs() < 1e-5);
        let mut nonzero = 0;
        for place in 0..parameters.len() {
            let at = |shift: f64| {
                let mut moved = exact.clone();
                moved[place] += shift;
                reference_loss(network.spans(), &moved, &pixels, &labels)
            };
            let numeric = (at(1e-6) - at(-1e-6)) / 2e-6;
            assert!((f64::from(gradient[place]) - numeric).abs() < 1e-4, "{place}: {} {numeric}", gradient[place]);
            nonzero += usize::from(numeric.abs() > 1e-3);
        }
        assert!(nonzero > parameters.len() / 2, "{nonzero}");
    }

    #[test]
    fn the_initial_weights_depend_on_the_seed_only() {
        let spans = spans(&[784, 256, 10]).unwrap();
        let first = initial_parameters(&spans, 1);
        assert_eq!(first.len(), 784 * 256 + 256 + 2560 + 10);
        assert_eq!(first, initial_parameters(&spans, 1));
        assert_ne!(first, initial_parameters(&spans, 2));
        let bound = (6.0_f32 / 784.0).sqrt();
        assert!(first[..784 * 256].iter().all(|weight| weight.abs() <= bound));
        assert!(first[784 * 256..784 * 256 + 256].iter().all(|bias| *bias == 0.0));
    }

    #[test]
    fn impossible_layers_and_lengths_are_refused() {
        for layers in [&[][..], &[5], &[5, 0, 2], &[5, 1], &[1 << 20, 1 << 20]] {
            assert!(spans(layers).is_err(), "{layers:?}");
        }
        let network = Network::new(&[4, 3]).unwrap();
        assert!(network.load(&[0.0; 14]).is_err());
        assert!(network.logits(vec![0.0; 7], 2).is_err());
        let mut gradient = vec![0.0; 15];
        assert!(network.loss_and_gradient(vec![0.0; 4], vec![3], &mut gradient).is_err(), "label out of range");
    }

    #[test]
    fn classify_names_the_highest_logit() {
        let network = Network::new(&[2, 2]).unwrap();
        network.load(&[1.0, 0.0, 0.0, 1.0, 0.0, 0.0]).unwrap();
        assert_eq!(network.classify(vec![3.0, 1.0, 1.0, 3.0], 2).unwrap(), [0, 1]);
    }
}
