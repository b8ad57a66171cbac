//! Reading the file of a dense classifier: safetensors with the metadata that our training writes.
//!
//! Layout: `layers.N.weight` is `[out, in] f32`, `layers.N.bias` is `[out] f32`, N from 0 without gaps, little-endian.
//! Metadata: `format`, `activation`, `normalisation` fixed; `classes` a JSON list of names; `origin` and `accuracy` texts.
//! Invariant: the file is untrusted; nothing is allocated that the file's own size does not cover.

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::{DenseModel, Error, Layer};

const FORMAT: &str = "datahall-dense-1";
const LAYERS_MAX: usize = 64;
const WIDTH_MAX: usize = 1 << 16;
const CLASSES_MAX: usize = 10_000;
const CLASS_BYTES_MAX: usize = 200;

impl DenseModel {
    /// Reads a classifier from the bytes of its file.
    /// # Errors
    /// [`Error::Safetensors`] or [`Error::NotAClassifier`], with what is wrong.
    pub fn read(bytes: &[u8]) -> Result<Self, Error> {
        let (_, header) = SafeTensors::read_metadata(bytes)?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let value = |key: &str| metadata.get(key).map(String::as_str);
        for (key, known) in [("format", FORMAT), ("activation", "relu"), ("normalisation", "pixels/255")] {
            if value(key) != Some(known) {
                return Err(no(format!("metadata `{key}` is {:?}, not `{known}`", value(key))));
            }
        }
        let classes: Vec<String> = serde_json::from_str(value("classes").unwrap_or_default())
            .map_err(|error| no(format!("metadata `classes` is not a JSON list of names: {error}")))?;
        if classes.len() > CLASSES_MAX || classes.iter().any(|name| name.len() > CLASS_BYTES_MAX) {
            return Err(no(format!("more than {CLASSES_MAX} classes, or a name of more than {CLASS_BYTES_MAX} bytes")));
        }
        let file = SafeTensors::deserialize(bytes)?;
        let count = file.len() / 2;
        if count == 0 || count > LAYERS_MAX || !file.len().is_multiple_of(2) {
            return Err(no(format!("{} tensors; 1 to {LAYERS_MAX} layers have two each", file.len())));
        }
        let mut layers: Vec<Layer> = Vec::with_capacity(count);
        for index in 0..count {
            let layer = read_layer(&file, index)?;
            if let Some(before) = layers.last()
                && before.outputs != layer.inputs
            {
                return Err(no(format!(
                    "layer {index} takes {} values, the one before gives {}",
                    layer.inputs, before.outputs
                )));
            }
            layers.push(layer);
        }
        if layers.last().is_none_or(|layer| layer.outputs != classes.len()) {
            return Err(no(format!("{} classes do not fit the last layer", classes.len())));
        }
        let text = |key: &str| metadata.get(key).cloned();
        Ok(Self { layers, classes, origin: text("origin"), accuracy: text("accuracy") })
    }
}

fn read_layer(file: &SafeTensors<'_>, index: usize) -> Result<Layer, Error> {
    let (weight, bias) =
        (file.tensor(&format!("layers.{index}.weight"))?, file.tensor(&format!("layers.{index}.bias"))?);
    let &[outputs, inputs] = weight.shape() else {
        return Err(no(format!("layers.{index}.weight is {:?}, not [out, in]", weight.shape())));
    };
    if bias.shape() != [outputs] {
        return Err(no(format!("layers.{index}.bias is {:?}, its weight gives {outputs} values", bias.shape())));
    }
    if !(1..=WIDTH_MAX).contains(&outputs) || !(1..=WIDTH_MAX).contains(&inputs) {
        return Err(no(format!("layer {index} is {outputs} by {inputs}; 1 to {WIDTH_MAX} is possible")));
    }
    Ok(Layer { inputs, outputs, weights: floats(&weight, index)?, biases: floats(&bias, index)? })
}

fn floats(tensor: &TensorView<'_>, index: usize) -> Result<Vec<f32>, Error> {
    if tensor.dtype() != Dtype::F32 {
        return Err(no(format!("layer {index} is stored as {:?}, not F32", tensor.dtype())));
    }
    let (words, _) = tensor.data().as_chunks::<4>();
    let floats: Vec<f32> = words.iter().copied().map(f32::from_le_bytes).collect();
    if floats.iter().any(|value| !value.is_finite()) {
        return Err(no(format!("layer {index} holds a value that is not a finite number")));
    }
    Ok(floats)
}

fn no(why: String) -> Error {
    Error::NotAClassifier { why }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::HashMap;

    use super::*;

    type LayerSource<'a> = (&'a str, &'a [usize; 2], &'a [f32], &'a [f32]);

    pub(in super::super) fn file_with(layers: &[LayerSource<'_>], metadata: &[(&str, &str)]) -> Vec<u8> {
        let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let data: Vec<(String, Vec<usize>, Vec<u8>)> = layers
            .iter()
            .flat_map(|(name, shape, weights, biases)| {
                [
                    (format!("{name}.weight"), shape.to_vec(), bytes(weights)),
                    (format!("{name}.bias"), vec![biases.len()], bytes(biases)),
                ]
            })
            .collect();
        let views =
            data.iter().map(|(name, shape, data)| (name, TensorView::new(Dtype::F32, shape.clone(), data).unwrap()));
        let metadata: HashMap<String, String> =
            metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        safetensors::serialize(views, Some(metadata)).unwrap()
    }

    const GOOD: [(&str, &str); 4] = [
        ("format", FORMAT),
        ("activation", "relu"),
        ("normalisation", "pixels/255"),
        ("classes", r#"["zero", "one"]"#),
    ];

    pub(in super::super) fn file(layers: &[LayerSource<'_>]) -> Vec<u8> {
        file_with(layers, &GOOD)
    }

    fn refusal(bytes: &[u8]) -> String {
        DenseModel::read(bytes).unwrap_err().to_string()
    }

    #[test]
    fn layers_must_chain_and_end_in_the_classes() {
        let one: LayerSource<'_> = ("layers.0", &[3, 2], &[0.0; 6], &[0.0; 3]);
        let two: LayerSource<'_> = ("layers.1", &[2, 3], &[0.0; 6], &[0.0; 2]);
        assert_eq!(DenseModel::read(&file(&[one, two])).unwrap().inputs(), 2);
        assert!(refusal(&file(&[one])).contains("classes"));
        assert!(refusal(&file(&[one, ("layers.1", &[2, 2], &[0.0; 4], &[0.0; 2])])).contains("the one before gives 3"));
        assert!(refusal(&file(&[one, ("layers.2", &[2, 3], &[0.0; 6], &[0.0; 2])])).contains("layers.1.weight"));
        assert!(refusal(&file(&[("layers.0", &[2, 2], &[0.0; 4], &[0.0; 3])])).contains("bias"));
        assert!(refusal(&file(&[("layers.0", &[2, 2], &[0.0, 0.0, f32::NAN, 0.0], &[0.0; 2])])).contains("finite"));
        assert!(refusal(&file(&[])).contains("0 tensors"));
    }

    #[test]
    fn the_metadata_must_be_ours() {
        let layer: LayerSource<'_> = ("layers.0", &[2, 2], &[0.0; 4], &[0.0; 2]);
        for at in 0..GOOD.len() {
            let mut metadata = GOOD;
            metadata[at].1 = "other";
            assert!(refusal(&file_with(&[layer], &metadata)).contains(metadata[at].0));
        }
    }

    #[test]
    fn cut_and_flipped_files_are_errors_not_panics() {
        let whole = file(&[("layers.0", &[2, 2], &[0.5; 4], &[0.0; 2])]);
        for length in 0..whole.len() {
            assert!(DenseModel::read(&whole[..length]).is_err(), "cut to {length}");
        }
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut flipped = whole.clone();
                flipped[at] ^= 1 << bit;
                // Many flips leave a valid file (another weight, another name); none may panic.
                let _outcome = DenseModel::read(&flipped);
            }
        }
    }
}
