//! The published mix of torus slices and the histogram of gaps between them, as values with weights.
//!
//! Weights are millionths of a percent; the published ones need not add up to a hundred. Sources: Jouppi et al. 2023, "TPU v4"
//! (the mix of shapes); the workload generator of `RFold` (both files).

use dh_core::time::Span;

use super::requests::Rows;
use super::{Error, Fault, Row};

/// A box of chips in a torus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slice {
    /// Its sides, as published: the shortest first.
    pub sides: [u32; 3],
    /// How its ends are joined.
    pub joined: Joined,
}

/// How the ends of a slice are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Joined {
    /// Each ring to its own start.
    Torus,
    /// With an offset, which shortens the longest ways.
    Twisted,
}

impl Slice {
    /// Chips.
    pub fn chips(&self) -> u64 {
        self.sides.iter().map(|side| u64::from(*side)).product()
    }
}

/// A side, at most.
const SIDE_MAX: u32 = 65_536;
/// Decimal places of a percent that a weight keeps.
const PLACES: u32 = 6;
/// A hundred percent.
const WEIGHT_MAX: u64 = 100_000_000;

/// The slices of a text with the columns `topology`, `shape` and `prob_pct`; `file` is what errors call it.
/// # Errors
/// The first line that is not in the format.
pub fn slices(text: &str, file: &str) -> Result<Vec<(Slice, u64)>, Error> {
    let columns = |head: &Row<'_>| Ok([head.column("topology")?, head.column("shape")?, head.column("prob_pct")?]);
    let (mut rows, [topology, shape, weight]) = Rows::new(text, file, columns)?;
    let each = |row: Row<'_>| {
        let joined = match row.text(topology) {
            "torus" => Joined::Torus,
            "twisted_torus" => Joined::Twisted,
            other => return Err(Fault::cell("topology", other, "torus or twisted_torus")),
        };
        let text = row.text(shape);
        let sides = sides(text).ok_or_else(|| Fault::cell("shape", text, "three sides, as in 4x4x8"))?;
        Ok((Slice { sides, joined }, row.fixed(weight, PLACES, WEIGHT_MAX)?))
    };
    std::iter::from_fn(|| rows.next(each)).collect()
}

fn sides(text: &str) -> Option<[u32; 3]> {
    let mut parts = text.split('x').map(|part| part.parse().ok().filter(|side| (1..=SIDE_MAX).contains(side)));
    let sides = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(sides)
}

/// The gaps of a text with the columns `iat_s` and `prob_pct`; `file` is what errors call it.
/// # Errors
/// The first line that is not in the format.
pub fn intervals(text: &str, file: &str) -> Result<Vec<(Span, u64)>, Error> {
    let columns = |head: &Row<'_>| Ok([head.column("iat_s")?, head.column("prob_pct")?]);
    let (mut rows, [gap, weight]) = Rows::new(text, file, columns)?;
    std::iter::from_fn(|| rows.next(|row| Ok((row.span(gap)?, row.fixed(weight, PLACES, WEIGHT_MAX)?)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_and_gaps_keep_their_weights() {
        let text = "slice_id,topology,shape,chips,prob_pct\n0,torus,1x1x2,2,2.1\n1,twisted_torus,4x4x8,128,16.0\n";
        let twisted = Slice { sides: [4, 4, 8], joined: Joined::Twisted };
        assert_eq!(slices(text, "s").unwrap()[1], (twisted, 16_000_000));
        assert_eq!(twisted.chips(), 128);
        let gaps = intervals("iat_s,prob_pct\n838.8349514563107,1.2333852233265477\n", "i").unwrap();
        assert_eq!(gaps, [(Span(838_834_951_456), 1_233_385)]);
        let error = slices("topology,shape,prob_pct\ntorus,4x4,1\n", "s").unwrap_err().to_string();
        assert_eq!(error, "s:2: `shape` is `4x4`, expected three sides, as in 4x4x8");
        assert_eq!(sides("65536x1x1").map(|sides| sides[0]), Some(65_536));
        assert!(sides("0x1x1").is_none() && sides("1x1x1x1").is_none());
    }
}
