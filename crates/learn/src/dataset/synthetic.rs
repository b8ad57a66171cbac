//! A made-up image set in the shape of MNIST, for tests and for when the real files cannot be had.
//!
//! Each class has one smooth pattern of six soft blobs. A sample is its class's pattern, shifted by up to two pixels,
//! scaled in brightness, with a second class's pattern shining through and noise on top. So it is learnable (a dense
//! network gets above 95 %) and not trivially so. The same seed gives the same bytes everywhere.

use super::{Dataset, Origin, Samples};
use crate::number;
use crate::random::Generator;

/// Height and width of an image.
const SIDE: u32 = 28;
const CLASSES: u32 = 10;

/// Streams of the generator.
const PATTERNS: u64 = 1;
const TRAIN: u64 = 2;
const TEST: u64 = 3;

/// Makes a set of `train` and `test` samples.
pub fn generate(name: &str, train: usize, test: usize, seed: u64) -> Dataset {
    let patterns: Vec<Vec<f32>> =
        (0..CLASSES).map(|class| pattern(&mut Generator::new(seed, &[PATTERNS, u64::from(class)]))).collect();
    Dataset {
        name: name.to_owned(),
        origin: Origin::Generated,
        classes: Origin::Generated.class_names(patterns.len()),
        train: samples(&patterns, train, &mut Generator::new(seed, &[TRAIN])),
        test: samples(&patterns, test, &mut Generator::new(seed, &[TEST])),
    }
}

/// Six blobs with rational fall-off (no exponential: its last bit differs between machines).
fn pattern(generator: &mut Generator) -> Vec<f32> {
    let mut image = vec![0.0_f32; (SIDE * SIDE) as usize];
    for _ in 0..6 {
        let (row, column) = (generator.unit() * 20.0 + 4.0, generator.unit() * 20.0 + 4.0);
        let radius = generator.unit() * 3.0 + 1.5;
        for (place, pixel) in image.iter_mut().enumerate() {
            let (down, across) = coordinates(place);
            let distance = (down - row) * (down - row) + (across - column) * (across - column);
            let level = 1.0 / (1.0 + distance / (radius * radius));
            *pixel = pixel.max(level * level);
        }
    }
    image
}

fn coordinates(place: usize) -> (f32, f32) {
    let place = number::small(place);
    (number::single(f64::from(place / SIDE)), number::single(f64::from(place % SIDE)))
}

fn samples(patterns: &[Vec<f32>], count: usize, generator: &mut Generator) -> Samples {
    let mut pixels = Vec::with_capacity(count * (SIDE * SIDE) as usize);
    let mut labels = Vec::with_capacity(count);
    let classes = number::wide(patterns.len());
    for _ in 0..count {
        let class = generator.below(classes);
        let other = generator.below(classes);
        let (down, across) = (generator.below(5), generator.below(5));
        let brightness = 0.6 + 0.4 * generator.unit();
        let ghost = 0.35 * generator.unit();
        let empty: &[f32] = &[];
        let image = patterns.get(number::index(class)).map_or(empty, Vec::as_slice);
        let shadow = patterns.get(number::index(other)).map_or(empty, Vec::as_slice);
        for place in 0..SIDE * SIDE {
            let at = shifted(place, down, across);
            let level = |picture: &[f32]| at.and_then(|at| picture.get(at)).copied().unwrap_or(0.0);
            let noise = 0.25 * generator.signed_unit();
            let value = brightness * level(image) + ghost * level(shadow) + noise;
            pixels.push(quantise(value));
        }
        labels.push(u8::try_from(class).unwrap_or(u8::MAX));
    }
    Samples { shape: [SIDE, SIDE], pixels, labels }
}

/// The place of the pattern that shows at `place` when it is shifted by two pixels less than `down` and `across`.
fn shifted(place: u32, down: u64, across: u64) -> Option<usize> {
    let move_by = |from: u32, by: u64| (u64::from(from) + by).checked_sub(2).filter(|to| *to < u64::from(SIDE));
    let (row, column) = (move_by(place / SIDE, down)?, move_by(place % SIDE, across)?);
    Some(number::index(row * u64::from(SIDE) + column))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the range of a byte first")]
fn quantise(level: f32) -> u8 {
    (level.clamp(0.0, 1.0) * 255.0) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_all_classes_appear() {
        let set = generate("s", 500, 100, 7);
        assert_eq!(set, generate("s", 500, 100, 7));
        assert_ne!(set.train.pixels, generate("s", 500, 100, 8).train.pixels);
        assert_eq!((set.train.len(), set.test.len(), set.train.pixels_per_sample()), (500, 100, 784));
        for class in 0..10 {
            assert!(set.train.labels.contains(&class));
        }
        assert_eq!(set.origin, Origin::Generated);
    }
}
