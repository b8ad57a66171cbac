//! A curve in the terminal, drawn with braille dots: two columns and four rows of dots in each character.

/// Draws `values` from left to right in `columns` x `rows` characters, the largest at the top, with its scale.
pub(crate) fn curve(values: &[f64], columns: usize, rows: usize) -> Vec<String> {
    let finite: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    if finite.len() < 2 || columns == 0 || rows == 0 {
        return Vec::new();
    }
    let low = finite.iter().copied().fold(f64::INFINITY, f64::min);
    let high = finite.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let (wide, tall) = (columns * 2, rows * 4);
    let mut dots = vec![vec![0_u8; columns]; rows];
    let mut before = None;
    for x in 0..wide {
        // The mean of the values that fall on this dot column; several to one when there are many.
        let from = x * finite.len() / wide;
        let to = ((x + 1) * finite.len() / wide).max(from + 1).min(finite.len());
        let slice = &finite[from.min(finite.len() - 1)..to];
        let mean = slice.iter().sum::<f64>() / count(slice.len());
        let y = height(mean, low, high, tall);
        // Joins to the dot before, so that a steep curve stays one line.
        let start = before.map_or(y, |last: usize| if last < y { last + 1 } else { last.saturating_sub(1).max(y) });
        for dot in start.min(y)..=start.max(y) {
            set(&mut dots, x, tall - 1 - dot);
        }
        before = Some(y);
    }
    dots.iter()
        .enumerate()
        .map(|(row, line)| {
            let scale = match row {
                0 => format!("{high:7.3} "),
                _ if row == rows - 1 => format!("{low:7.3} "),
                _ => " ".repeat(8),
            };
            let drawn: String = line.iter().map(|bits| braille(*bits)).collect();
            format!("{scale}{drawn}")
        })
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "counts of points on a screen are small")]
fn count(number: usize) -> f64 {
    number as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the ratio is in 0..=1 and the height of a chart is small"
)]
fn height(value: f64, low: f64, high: f64, tall: usize) -> usize {
    let span = high - low;
    let ratio = if span > 0.0 { ((value - low) / span).clamp(0.0, 1.0) } else { 0.0 };
    (ratio * count(tall - 1)).round() as usize
}

/// The dot at column `x`, row `y` counted from the top.
fn set(dots: &mut [Vec<u8>], x: usize, y: usize) {
    // Unicode braille: dots 1-3 and 7 are the left column from the top, 4-6 and 8 the right one.
    const BITS: [[u8; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];
    if let Some(cell) = dots.get_mut(y / 4).and_then(|row| row.get_mut(x / 2)) {
        *cell |= BITS[x % 2][y % 4];
    }
}

fn braille(bits: u8) -> char {
    char::from_u32(0x2800 + u32::from(bits)).unwrap_or(' ')
}

#[cfg(test)]
mod tests {
    use super::curve;

    #[test]
    fn a_falling_line_falls() {
        let values: Vec<f64> = (0..16).map(|x| 1.0 - f64::from(x) / 15.0).collect();
        assert_eq!(curve(&values, 8, 2), ["  1.000 ⠉⠒⠤⣀⠀⠀⠀⠀", "  0.000 ⠀⠀⠀⠀⠉⠒⠤⣀"]);
    }

    #[test]
    fn odd_input_draws_nothing_or_something_and_never_panics() {
        assert!(curve(&[], 8, 2).is_empty());
        assert!(curve(&[1.0], 8, 2).is_empty());
        assert!(curve(&[f64::NAN, f64::INFINITY], 8, 2).is_empty());
        assert_eq!(curve(&[2.0, 2.0, 2.0], 4, 1).len(), 1);
        assert_eq!(curve(&[0.0, 1.0], 100, 3).len(), 3);
    }
}
