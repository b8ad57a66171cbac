//! Adam (Kingma and Ba 2015), fused: one pass over flat vectors updates moments and parameters.
//!
//! Cost per parameter: four reads, three writes, one square root, one division; no allocation. The loop has no branch
//! and no bounds check, so that it vectorises. The result depends on the inputs only, bit for bit.

use crate::number;

/// The settings that hardly anybody changes have their usual values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adam {
    /// Step size.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Keeps the division finite.
    pub epsilon: f64,
}

impl Adam {
    /// Adam with the paper's other constants.
    pub const fn new(learning_rate: f64) -> Self {
        Self { learning_rate, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }
    }

    /// Bytes that one update of `parameters` parameters reads and writes.
    pub const fn bytes_touched(parameters: u64) -> u64 {
        parameters * 4 * 7
    }

    /// One update. `step` counts from 1.
    pub fn update(&self, step: u64, parameters: &mut [f32], gradient: &[f32], moments: &mut Moments) {
        let first_scale = 1.0 / (1.0 - power(self.beta1, step));
        let second_scale = 1.0 / (1.0 - power(self.beta2, step));
        let rate = number::single(self.learning_rate * first_scale);
        let second_scale = number::single(second_scale);
        let (beta1, beta2) = (number::single(self.beta1), number::single(self.beta2));
        let (rest1, rest2) = (number::single(1.0 - self.beta1), number::single(1.0 - self.beta2));
        let epsilon = number::single(self.epsilon);
        let states = moments.first.iter_mut().zip(moments.second.iter_mut());
        for ((parameter, gradient), (first, second)) in parameters.iter_mut().zip(gradient).zip(states) {
            *first = beta1 * *first + rest1 * gradient;
            *second = beta2 * *second + rest2 * gradient * gradient;
            *parameter -= rate * *first / ((*second * second_scale).sqrt() + epsilon);
        }
    }
}

/// The running averages of Adam, one pair per parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// Average of the gradient.
    pub first: Vec<f32>,
    /// Average of its square.
    pub second: Vec<f32>,
}

impl Moments {
    /// The state before the first step.
    pub fn zero(parameters: usize) -> Self {
        Self { first: vec![0.0; parameters], second: vec![0.0; parameters] }
    }
}

/// `base` to the power `exponent` by squaring: only IEEE products, so every rank gets the same bits.
fn power(mut base: f64, mut exponent: u64) -> f64 {
    let mut result = 1.0;
    while exponent > 0 {
        if exponent & 1 == 1 {
            result *= base;
        }
        base *= base;
        exponent >>= 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_unfused_definition() {
        let adam = Adam::new(0.01);
        let mut parameters = vec![1.0_f32, -2.0, 0.5];
        let mut moments = Moments::zero(3);
        let (mut expected, mut m, mut v) = (vec![1.0_f64, -2.0, 0.5], vec![0.0; 3], vec![0.0; 3]);
        for step in 1..=50_u32 {
            let gradient: Vec<f32> = parameters.iter().map(|p| 2.0 * p).collect();
            adam.update(u64::from(step), &mut parameters, &gradient, &mut moments);
            for i in 0..3 {
                let g = 2.0 * expected[i];
                m[i] = 0.9 * m[i] + 0.1 * g;
                v[i] = 0.999 * v[i] + 0.001 * g * g;
                let mh = m[i] / (1.0 - 0.9_f64.powf(f64::from(step)));
                let vh = v[i] / (1.0 - 0.999_f64.powf(f64::from(step)));
                expected[i] -= 0.01 * mh / (f64::sqrt(vh) + 1e-8);
            }
        }
        for (got, want) in parameters.iter().zip(&expected) {
            assert!((f64::from(*got) - want).abs() < 1e-4, "{got} {want}");
        }
    }

    #[test]
    fn a_power_is_the_repeated_product() {
        assert!((power(0.9, 10) - 0.9_f64.powi(10)).abs() < 1e-15);
        assert!((power(0.5, 3) - 0.125).abs() < f64::EPSILON);
        assert!((power(0.5, 0) - 1.0).abs() < f64::EPSILON);
    }
}
