//! The finished model in the store: weights only, in the form in which it is served.
//!
//! `PREFIX/model.safetensors`: tensors `layers.0.weight [256, 784]`, `layers.0.bias [256]`, `layers.1.weight [10, 256]`,
//! `layers.1.bias [10]` f32; metadata `format` = `datahall-dense-1`, `activation` = `relu`, `classes` (JSON list of names),
//! `origin`, `accuracy`, `normalisation` = `pixels/255`.

use crate::checkpoint::Error;
use crate::dataset::manifest::join;
use crate::network::LayerSpan;
use crate::store::ObjectStore;
use crate::tensor_file::{self, Flat};

/// The value of the metadata entry `format`.
pub const FORMAT: &str = "datahall-dense-1";

/// What is said about a model beside its weights.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelCard {
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Where the training data comes from.
    pub origin: String,
    /// Share of the test samples that it classifies rightly.
    pub accuracy: f64,
}

/// The key of the model under `prefix`.
pub fn key(prefix: &str) -> String {
    join(prefix, "model.safetensors")
}

/// The object's bytes.
///
/// # Errors
/// [`Error::Encode`] if the library refuses.
pub fn encode(spans: &[LayerSpan], parameters: &[f32], card: &ModelCard) -> Result<Vec<u8>, Error> {
    let classes = serde_json::to_string(&card.classes).map_err(|error| Error::Encode(error.to_string()))?;
    let metadata = [
        ("format", FORMAT.to_owned()),
        ("activation", "relu".to_owned()),
        ("classes", classes),
        ("origin", card.origin.clone()),
        ("accuracy", format!("{:.4}", card.accuracy)),
        ("normalisation", "pixels/255".to_owned()),
    ];
    let mut tensors = Vec::new();
    for (place, span) in spans.iter().enumerate() {
        let part = |range: &std::ops::Range<usize>| {
            parameters.get(range.clone()).ok_or_else(|| Error::Encode("there are too few parameters".to_owned()))
        };
        let weights = Flat { shape: vec![span.outputs, span.inputs], values: part(&span.weights)? };
        let biases = Flat { shape: vec![span.outputs], values: part(&span.biases)? };
        tensors.push((format!("layers.{place}.weight"), weights));
        tensors.push((format!("layers.{place}.bias"), biases));
    }
    tensor_file::encode(tensors, metadata).map_err(Error::Encode)
}

/// Writes the model under `prefix`; returns its size.
///
/// # Errors
/// If the store fails.
pub fn save(
    store: &dyn ObjectStore,
    bucket: &str,
    prefix: &str,
    model: (&[LayerSpan], &[f32]),
    card: &ModelCard,
) -> Result<u64, Error> {
    let bytes = encode(model.0, model.1, card)?;
    store.put(bucket, &key(prefix), &bytes)?;
    Ok(crate::number::wide(bytes.len()))
}

#[cfg(test)]
mod tests {
    use safetensors::SafeTensors;

    use super::*;
    use crate::network::spans;

    #[test]
    fn the_model_has_the_agreed_names_shapes_and_metadata() {
        let spans = spans(&[4, 3, 2]).unwrap();
        let parameters: Vec<f32> = (0..23_u8).map(f32::from).collect();
        let card = ModelCard {
            classes: vec!["a\"b".to_owned(), "c".to_owned()],
            origin: "generated".to_owned(),
            accuracy: 0.912_345,
        };
        let bytes = encode(&spans, &parameters, &card).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(tensors.tensor("layers.0.weight").unwrap().shape(), [3, 4]);
        assert_eq!(tensors.tensor("layers.0.bias").unwrap().shape(), [3]);
        assert_eq!(tensors.tensor("layers.1.weight").unwrap().shape(), [2, 3]);
        assert_eq!(tensors.tensor("layers.1.bias").unwrap().data()[..4], 21.0_f32.to_le_bytes());
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = header.metadata().as_ref().unwrap();
        assert_eq!(metadata["format"], "datahall-dense-1");
        assert_eq!(metadata["classes"], r#"["a\"b","c"]"#);
        assert_eq!(metadata["accuracy"], "0.9123");
        assert_eq!(metadata["normalisation"], "pixels/255");
        assert_eq!(metadata["activation"], "relu");
        assert_eq!(metadata["origin"], "generated");
    }
}
