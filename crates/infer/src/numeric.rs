//! Element-wise arithmetic on plain slices: what a transformer needs beside matrix products.
//!
//! Written so that the compiler vectorises it for the baseline processor: fixed lanes, no branches, no calls.

/// `values` divided by their root mean square, times `weight`, row by row. `[rows, weight.len()]`.
pub(crate) fn rms_norm(values: &[f32], weight: &[f32], epsilon: f32) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for row in values.chunks_exact(weight.len()) {
        let scale = 1.0 / (dot(row, row) / count(row.len()) + epsilon).sqrt();
        out.extend(row.iter().zip(weight).map(|(x, w)| x * scale * w));
    }
    out
}

/// `left += right`.
pub(crate) fn add(left: &mut [f32], right: &[f32]) {
    for (l, r) in left.iter_mut().zip(right) {
        *l += r;
    }
}

/// `gate = silu(gate) * up`, the activation of `SwiGLU`.
pub(crate) fn swiglu(gate: &mut [f32], up: &[f32]) {
    for (g, u) in gate.iter_mut().zip(up) {
        *g = *g / (1.0 + exp(-*g)) * u;
    }
}

/// Turns pairs of neighbours in each head by the angle of the row's position (the interleaved convention of llama's GGUF
/// files). `values` is `[rows, heads, head_dim]`, `angles` is `[rows, turned / 2]` of (cosine, sine).
pub(crate) fn rotate(values: &mut [f32], heads: usize, head_dim: usize, angles: &[(f32, f32)], pairs: usize) {
    for (row, turns) in values.chunks_exact_mut(heads * head_dim).zip(angles.chunks_exact(pairs)) {
        for head in row.chunks_exact_mut(head_dim) {
            for (pair, (cos, sin)) in head.chunks_exact_mut(2).zip(turns) {
                if let [x, y] = pair {
                    (*x, *y) = (*x * cos - *y * sin, *x * sin + *y * cos);
                }
            }
        }
    }
}

/// `softmax(scores * scale)` in place.
pub(crate) fn softmax(scores: &mut [f32], scale: f32) {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for score in scores.iter_mut() {
        *score = exp((*score - largest) * scale);
    }
    let total = sum(scores);
    let inverse = 1.0 / total;
    for score in scores {
        *score *= inverse;
    }
}

/// The inner product, in sixteen lanes.
pub(crate) fn dot(left: &[f32], right: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 16];
    let (left_blocks, left_rest) = left.as_chunks::<16>();
    let (right_blocks, right_rest) = right.as_chunks::<16>();
    for (l, r) in left_blocks.iter().zip(right_blocks) {
        for ((lane, x), y) in lanes.iter_mut().zip(l).zip(r) {
            *lane += x * y;
        }
    }
    let rest: f32 = left_rest.iter().zip(right_rest).map(|(x, y)| x * y).sum();
    lanes.iter().sum::<f32>() + rest
}

fn sum(values: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 16];
    let (blocks, rest) = values.as_chunks::<16>();
    for block in blocks {
        for (lane, x) in lanes.iter_mut().zip(block) {
            *lane += x;
        }
    }
    lanes.iter().sum::<f32>() + rest.iter().sum::<f32>()
}

/// `out += weight * row`.
pub(crate) fn add_scaled(out: &mut [f32], row: &[f32], weight: f32) {
    for (o, x) in out.iter_mut().zip(row) {
        *o += weight * x;
    }
}

/// The exponential function for arguments of either sign, clamped to where `f32` is normal; relative error below 3e-7 (tested).
///
/// `x = n ln 2 + r`, then a polynomial for `e^r` and `2^n` by its bits. Adding 1.5 * 2^23 rounds to the nearest integer and
/// leaves that integer in the low bits, without a cast.
pub(crate) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 87.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let mut p = 1.987_569_1e-4;
    for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5] {
        p = p * r + coefficient;
    }
    let power = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    (p * r * r + r + 1.0) * f32::from_bits(power)
}

/// A count as a float.
#[expect(clippy::cast_precision_loss, reason = "counts of this engine lie far below 2^24, or need no exactness")]
pub(crate) const fn count(n: usize) -> f32 {
    n as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_exact_to_seven_digits() {
        for step in -8_600..8_600i16 {
            let x = f32::from(step) / 100.0;
            let want = f64::from(x).exp();
            let error = (f64::from(exp(x)) - want).abs() / want;
            assert!(error < 3e-7, "exp({x}) is off by {error}");
        }
        assert!(exp(-1e30) < 1e-37 && exp(f32::NEG_INFINITY) < 1e-37);
        assert!(exp(1e30).is_finite());
    }

    #[test]
    fn softmax_sums_to_one_and_keeps_the_order() {
        let mut scores = [1.0, 3.0, 2.0];
        softmax(&mut scores, 0.5);
        assert!((scores.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        let want = (0.5f32).exp() / (0.5f32.exp() + 1.5f32.exp() + 1.0f32.exp());
        assert!((scores[0] - want).abs() < 1e-6);
        assert!(scores[1] > scores[2] && scores[2] > scores[0]);
    }

    #[test]
    fn rotation_keeps_lengths_and_leaves_the_tail_alone() {
        let mut values = [3.0, 4.0, 5.0, 6.0];
        let angle = std::f32::consts::FRAC_PI_2;
        rotate(&mut values, 1, 4, &[(angle.cos(), angle.sin())], 1);
        assert!((values[0] + 4.0).abs() < 1e-5 && (values[1] - 3.0).abs() < 1e-5);
        assert_eq!(values[2..], [5.0, 6.0]);
    }

    #[test]
    fn dot_covers_lanes_and_rest() {
        let ones = [1.0f32; 37];
        assert_eq!(dot(&ones, &ones).to_bits(), 37.0f32.to_bits());
    }
}
