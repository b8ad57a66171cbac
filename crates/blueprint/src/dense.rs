//! Dense networks by name: `dense-784-256-10` is the layer sizes from input to output.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Layer sizes of one network; sixteen is far beyond what a plain dense network trains with.
const LAYERS_MAX: usize = 16;

/// Size of one layer.
const SIZE_MAX: u32 = 65_536;

/// A plain dense network, two to sixteen layer sizes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DenseModel(Vec<u32>);

/// Why a text does not name a dense network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotDense {
    /// It does not start with `dense-`.
    #[error("a built-in training model is written as `dense-` and its layer sizes")]
    Prefix,
    /// One size is not a number.
    #[error("`{0}` is not a layer size from 1 to 65536")]
    Size(String),
    /// Too few or too many sizes.
    #[error("{0} layer sizes, where 2 to 16 are possible")]
    Count(usize),
}

impl DenseModel {
    /// Sizes from input to output; at least two.
    pub fn layers(&self) -> &[u32] {
        &self.0
    }

    /// Weights and biases: the sum of `a b + b` over neighbouring sizes `a`, `b`.
    pub fn parameters(&self) -> u64 {
        self.0.iter().zip(self.0.iter().skip(1)).map(|(a, b)| (u64::from(*a) + 1) * u64::from(*b)).sum()
    }
}

impl FromStr for DenseModel {
    type Err = NotDense;

    fn from_str(text: &str) -> Result<Self, NotDense> {
        let sizes = text.strip_prefix("dense-").ok_or(NotDense::Prefix)?;
        let count = sizes.split('-').count();
        if !(2..=LAYERS_MAX).contains(&count) {
            return Err(NotDense::Count(count));
        }
        let size = |word: &str| {
            let plain = !word.starts_with('0') && word.bytes().all(|byte| byte.is_ascii_digit());
            let size = word.parse().ok().filter(|size| plain && (1..=SIZE_MAX).contains(size));
            size.ok_or_else(|| NotDense::Size(word.chars().take(24).collect()))
        };
        sizes.split('-').map(size).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for DenseModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("dense")?;
        self.0.iter().try_for_each(|size| write!(f, "-{size}"))
    }
}

impl TryFrom<String> for DenseModel {
    type Error = NotDense;

    fn try_from(text: String) -> Result<Self, NotDense> {
        text.parse()
    }
}

impl From<DenseModel> for String {
    fn from(model: DenseModel) -> Self {
        model.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dense_name_is_its_layer_sizes() {
        let model: DenseModel = "dense-784-256-10".parse().unwrap();
        assert_eq!(model.layers(), [784, 256, 10]);
        assert_eq!(model.parameters(), 784 * 256 + 256 + 256 * 10 + 10);
        assert_eq!(model.to_string(), "dense-784-256-10");
        assert_eq!("dense-1-1".parse::<DenseModel>().unwrap().parameters(), 2);
    }

    #[test]
    fn what_is_not_a_dense_name_is_refused() {
        assert_eq!("resnet".parse::<DenseModel>(), Err(NotDense::Prefix));
        assert_eq!("dense-784".parse::<DenseModel>(), Err(NotDense::Count(1)));
        assert_eq!("dense-".parse::<DenseModel>(), Err(NotDense::Count(1)));
        for bad in ["dense-784--10", "dense-0-1", "dense-07-1", "dense-65537-1", "dense-+1-1", "dense-9999999999-1"] {
            assert!(matches!(bad.parse::<DenseModel>(), Err(NotDense::Size(_))), "{bad}");
        }
    }
}
