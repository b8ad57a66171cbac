//! Dense classifiers: fully connected layers with `ReLU` between them and a softmax at the end.
//!
//! Invariant: a [`DenseModel`] is checked when it is read (shapes chain, sizes bounded, all numbers finite) and never
//! changes. Cost: two floating-point operations per weight and row.

mod format;

use dh_core::{HasKind, Kind};

use crate::numeric::{dot, softmax};

/// Rows of one request. At 784 pixels of up to four characters this is 3 MB of JSON, well below what a request may hold.
pub const ROWS_MAX: usize = 1_024;

/// Why a classifier was not read, or rows not classified.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes are not a safetensors file.
    #[error("not a safetensors file: {0}")]
    Safetensors(#[from] safetensors::SafeTensorError),
    /// The file is one, but not a classifier of ours.
    #[error("not a classifier we can run: {why}")]
    NotAClassifier {
        /// What is wrong with it.
        why: String,
    },
    /// The rows cannot be classified.
    #[error("{why}")]
    Input {
        /// What is wrong with them.
        why: String,
    },
}

impl HasKind for Error {
    fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

/// One layer: `outputs` rows of `inputs` weights, and a bias each.
#[derive(Debug, Clone, PartialEq)]
struct Layer {
    inputs: usize,
    outputs: usize,
    weights: Vec<f32>,
    biases: Vec<f32>,
}

/// A classifier, ready to run.
#[derive(Debug, Clone, PartialEq)]
pub struct DenseModel {
    layers: Vec<Layer>,
    classes: Vec<String>,
    origin: Option<String>,
    accuracy: Option<String>,
}

/// What the classifier thinks of one row.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The place of the likeliest class; the first of equals.
    pub label: usize,
    /// One per class; their sum is 1.
    pub probabilities: Vec<f32>,
}

impl DenseModel {
    /// Numbers in one row.
    pub fn inputs(&self) -> usize {
        self.layers.first().map_or(0, |layer| layer.inputs)
    }

    /// The names of the classes.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Where the weights come from, as the file says.
    pub fn origin(&self) -> Option<&str> {
        self.origin.as_deref()
    }

    /// How good it is, as the file says.
    pub fn accuracy(&self) -> Option<&str> {
        self.accuracy.as_deref()
    }

    /// Classifies rows of pixels from 0 to 255, one row behind the other.
    /// # Errors
    /// [`Error::Input`] if the length is no multiple of a row, there are no or too many rows, or a pixel is out of range.
    pub fn classify(&self, pixels: &[f32]) -> Result<Vec<Verdict>, Error> {
        let width = self.inputs();
        if pixels.is_empty() || !pixels.len().is_multiple_of(width) || pixels.len() / width > ROWS_MAX {
            let why = format!("{} pixels; 1 to {ROWS_MAX} rows of {width} can be classified at once", pixels.len());
            return Err(Error::Input { why });
        }
        if let Some((at, pixel)) = pixels.iter().enumerate().find(|(_, pixel)| !(0.0..=255.0).contains(*pixel)) {
            return Err(Error::Input { why: format!("pixel {at} is {pixel}; pixels lie from 0 to 255") });
        }
        Ok(pixels.chunks_exact(width).map(|row| self.classify_row(row)).collect())
    }

    fn classify_row(&self, pixels: &[f32]) -> Verdict {
        let mut values: Vec<f32> = pixels.iter().map(|pixel| pixel / 255.0).collect();
        let last = self.layers.len().saturating_sub(1);
        for (index, layer) in self.layers.iter().enumerate() {
            values = layer
                .weights
                .chunks_exact(layer.inputs)
                .zip(&layer.biases)
                .map(|(weights, bias)| dot(weights, &values) + bias)
                .map(|sum| if index == last { sum } else { sum.max(0.0) })
                .collect();
        }
        softmax(&mut values, 1.0);
        let label = values
            .iter()
            .enumerate()
            .fold((0, f32::NEG_INFINITY), |best, (at, value)| if *value > best.1 { (at, *value) } else { best });
        Verdict { label: label.0, probabilities: values }
    }
}

#[cfg(test)]
mod tests {
    use super::format::tests::file;
    use super::*;

    /// Two inputs, two hidden, two classes; every number can be followed by hand.
    fn small() -> DenseModel {
        let bytes = file(&[
            ("layers.0", &[2, 2], &[1.0, 0.0, -1.0, 1.0], &[0.0, 0.5]),
            ("layers.1", &[2, 2], &[2.0, 0.0, 0.0, 1.0], &[0.0, 0.25]),
        ]);
        DenseModel::read(&bytes).unwrap()
    }

    #[test]
    fn a_small_network_gives_what_a_hand_gives() {
        // Row (255, 0) is (1, 0). Hidden: relu(1) = 1, relu(-1 + 0.5) = 0. Output: 2, 0.25.
        // Row (0, 255) is (0, 1). Hidden: 0, 1.5. Output: 0, 1.75.
        let verdicts = small().classify(&[255.0, 0.0, 0.0, 255.0]).unwrap();
        let want = |scores: [f32; 2]| scores[0].exp() / (scores[0].exp() + scores[1].exp());
        assert_eq!(verdicts[0].label, 0);
        assert!((verdicts[0].probabilities[0] - want([2.0, 0.25])).abs() < 1e-6);
        assert_eq!(verdicts[1].label, 1);
        assert!((verdicts[1].probabilities[0] - want([0.0, 1.75])).abs() < 1e-6);
        assert!((verdicts[1].probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-6);
    }

    #[test]
    fn rows_that_cannot_be_are_refused() {
        let model = small();
        for bad in
            [vec![], vec![1.0], vec![0.0, 256.0], vec![0.0, -1.0], vec![f32::NAN, 0.0], vec![0.0; 2 * ROWS_MAX + 2]]
        {
            assert!(matches!(model.classify(&bad), Err(Error::Input { .. })), "{} pixels", bad.len());
        }
        assert_eq!(model.classify(&vec![0.0; 2 * ROWS_MAX]).unwrap().len(), ROWS_MAX);
    }
}
