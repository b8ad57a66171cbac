//! The operations between the matrix products, fused into candle's autodiff.
//!
//! candle's own layers would add the bias, clip and take the soft maximum in a dozen operations, each allocating its
//! result, and would compute the gradient of the pixels, which nobody needs. Here a layer is one operation forward and
//! at most four backward, and the loss is one each way. The products themselves remain candle's.
//!
//! The gradients of weights and biases do not go through candle's gradient store, which would add each to a tensor of
//! zeros first: on large tensors that addition wakes candle's pool of spinning threads, and the threads of several ranks
//! then wait for each other (measured: more than half of a step of two ranks on two cores). They go to [`Gradients`].

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

use crate::number;

/// What follows a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    Identity,
    /// The larger of the value and zero.
    Relu,
}

/// Whether a layer's input is itself computed from parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputGradient {
    /// It is.
    Wanted,
    /// It is data.
    Skipped,
}

/// The gradients of one layer's weights and biases.
#[derive(Debug)]
pub struct LayerGradient {
    /// Which layer, from 0.
    pub layer: usize,
    /// `[out, in]`.
    pub weights: Tensor,
    /// `[out]`.
    pub biases: Tensor,
}

/// Where a backward pass leaves the gradients of the parameters.
#[derive(Debug, Clone, Default)]
pub struct Gradients(Arc<Mutex<Vec<LayerGradient>>>);

impl Gradients {
    fn leave(&self, gradient: LayerGradient) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(gradient);
    }

    /// Takes out what the backward pass left.
    pub fn take(&self) -> Vec<LayerGradient> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// `activation(x w^T + b)` for `x [batch, in]`, `w [out, in]`, `b [out]`, all f32.
#[derive(Debug, Clone)]
pub struct Dense {
    /// Which layer, from 0.
    pub layer: usize,
    /// Where the backward pass leaves the gradients of `w` and `b`.
    pub gradients: Gradients,
    /// What follows the product.
    pub activation: Activation,
    /// Whether the backward pass goes on below.
    pub input_gradient: InputGradient,
}

/// The contiguous f32 values of a tensor.
fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) if end <= values.len() => {
            Ok(values.split_at(end).0.split_at(start).1)
        }
        _ => bail!("expected contiguous f32 values"),
    }
}

impl CustomOp3 for Dense {
    fn name(&self) -> &'static str {
        "dense"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weights: &CpuStorage,
        weights_layout: &Layout,
        biases: &CpuStorage,
        biases_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (batch, inputs) = x_layout.shape().dims2()?;
        let (outputs, columns) = weights_layout.shape().dims2()?;
        let biases = values(biases, biases_layout)?;
        if columns != inputs || biases.len() != outputs {
            bail!("a layer of {columns} inputs and {} biases got {inputs} inputs for {outputs}", biases.len());
        }
        let transposed = weights_layout.transpose(0, 1)?;
        let product = x.matmul(weights, (1, batch, outputs, inputs), x_layout, &transposed)?;
        let CpuStorage::F32(mut out) = product else { bail!("expected an f32 product") };
        for row in out.chunks_exact_mut(outputs) {
            match self.activation {
                Activation::Identity => row.iter_mut().zip(biases).for_each(|(value, bias)| *value += bias),
                Activation::Relu => {
                    row.iter_mut().zip(biases).for_each(|(value, bias)| *value = (*value + bias).max(0.0));
                }
            }
        }
        Ok((CpuStorage::F32(out), Shape::from((batch, outputs))))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weights: &Tensor,
        _biases: &Tensor,
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let gradient = match self.activation {
            Activation::Identity => gradient.clone(),
            Activation::Relu => gradient.apply_op2_no_bwd(result, &Gate)?,
        };
        // Detached, so that candle does not record how the gradients were made.
        self.gradients.leave(LayerGradient {
            layer: self.layer,
            weights: gradient.t()?.matmul(&x.detach())?,
            biases: gradient.apply_op1_no_bwd(&ColumnSum)?,
        });
        let of_input = match self.input_gradient {
            InputGradient::Wanted => Some(gradient.matmul(&weights.detach())?),
            InputGradient::Skipped => None,
        };
        Ok((of_input, None, None))
    }
}

/// The gradient where the result of a relu is positive, zero elsewhere.
struct Gate;

impl CustomOp2 for Gate {
    fn name(&self) -> &'static str {
        "relu-gate"
    }

    fn cpu_fwd(
        &self,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
        result: &CpuStorage,
        result_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let pairs = values(gradient, gradient_layout)?.iter().zip(values(result, result_layout)?);
        let gated = pairs.map(|(gradient, result)| if *result > 0.0 { *gradient } else { 0.0 }).collect();
        Ok((CpuStorage::F32(gated), gradient_layout.shape().clone()))
    }
}

/// The sum over the rows of a `[batch, n]` tensor, top to bottom.
struct ColumnSum;

impl CustomOp1 for ColumnSum {
    fn name(&self) -> &'static str {
        "column-sum"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, columns) = layout.shape().dims2()?;
        let mut sums = vec![0.0_f32; columns];
        for row in values(storage, layout)?.chunks_exact(columns) {
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
        Ok((CpuStorage::F32(sums), Shape::from(columns)))
    }
}

/// The mean cross-entropy of `logits [batch, classes] f32` and `labels [batch] u32`.
#[derive(Debug, Clone, Copy)]
pub struct CrossEntropy;

/// The rows of logits with their labels, checked.
fn rows<'a>(
    logits: &'a CpuStorage,
    logits_layout: &Layout,
    labels: &'a CpuStorage,
    labels_layout: &Layout,
) -> Result<(usize, impl Iterator<Item = (&'a [f32], usize)> + use<'a>)> {
    let (batch, classes) = logits_layout.shape().dims2()?;
    let logits = values(logits, logits_layout)?;
    let (CpuStorage::U32(labels), Some((start, end))) = (labels, labels_layout.contiguous_offsets()) else {
        bail!("expected contiguous u32 labels")
    };
    let labels = labels.get(start..end).unwrap_or_default();
    if labels.len() != batch || batch == 0 {
        bail!("{} labels for {batch} samples", labels.len());
    }
    if let Some(label) = labels.iter().find(|label| **label as usize >= classes) {
        bail!("label {label} with {classes} classes");
    }
    Ok((batch, logits.chunks_exact(classes).zip(labels.iter().map(|label| *label as usize))))
}

/// The largest logit, and the sum of the exponentials of the logits' distances from it.
fn largest_and_sum(row: &[f32]) -> (f32, f32) {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    (largest, row.iter().map(|value| (value - largest).exp()).sum())
}

impl CustomOp2 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(
        &self,
        logits: &CpuStorage,
        logits_layout: &Layout,
        labels: &CpuStorage,
        labels_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (batch, rows) = rows(logits, logits_layout, labels, labels_layout)?;
        let mut total = 0.0_f32;
        for (row, label) in rows {
            let (largest, sum) = largest_and_sum(row);
            total += largest + sum.ln() - row.get(label).copied().unwrap_or(largest);
        }
        let mean = total / number::single(number::real(batch));
        Ok((CpuStorage::F32(vec![mean]), Shape::from(())))
    }

    fn bwd(
        &self,
        logits: &Tensor,
        labels: &Tensor,
        _result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let scale = gradient.to_scalar::<f32>()?;
        Ok((Some(logits.apply_op2_no_bwd(labels, &CrossEntropyGradient { scale })?), None))
    }
}

/// `(softmax(logits) - one_hot(labels)) * scale / batch`.
struct CrossEntropyGradient {
    scale: f32,
}

impl CustomOp2 for CrossEntropyGradient {
    fn name(&self) -> &'static str {
        "cross-entropy-gradient"
    }

    fn cpu_fwd(
        &self,
        logits: &CpuStorage,
        logits_layout: &Layout,
        labels: &CpuStorage,
        labels_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (batch, rows) = rows(logits, logits_layout, labels, labels_layout)?;
        let scale = self.scale / number::single(number::real(batch));
        let mut gradient = Vec::with_capacity(logits_layout.shape().elem_count());
        for (row, label) in rows {
            let (largest, sum) = largest_and_sum(row);
            for (class, value) in row.iter().enumerate() {
                let probability = (value - largest).exp() / sum;
                let wanted = if class == label { 1.0 } else { 0.0 };
                gradient.push((probability - wanted) * scale);
            }
        }
        Ok((CpuStorage::F32(gradient), logits_layout.shape().clone()))
    }
}
