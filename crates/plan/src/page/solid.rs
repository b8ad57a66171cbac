//! Blocks seen from a corner, all edges of one length alike (isometric projection).
//!
//! Blocks do not know of each other: draw the far ones first, ascending x, y and z.

use super::svg::{Picture, at};

/// From coordinates of a space to those of a picture: x runs right and down, y left and down, z up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct View {
    /// Where (0, 0, 0) is.
    pub(crate) origin: (f64, f64),
    /// Pixels of a unit of length.
    pub(crate) scale: f64,
}

/// Cosine and sine of 30 degrees.
const ACROSS: f64 = 0.866;
const DOWN: f64 = 0.5;

impl View {
    pub(crate) fn project(&self, [x, y, z]: [f64; 3]) -> (f64, f64) {
        let (right, down) = self.origin;
        (right + (x - y) * ACROSS * self.scale, down + ((x + y) * DOWN - z) * self.scale)
    }

    /// A view in which a box from (0, 0, 0) to `size` fills at most `width` by `height`, from `left` and `top` on; and what it fills.
    pub(crate) fn fitting(
        [x, y, z]: [f64; 3],
        (left, top): (f64, f64),
        (width, height): (f64, f64),
    ) -> (Self, (f64, f64)) {
        let wide = (x + y) * ACROSS;
        let high = (x + y) * DOWN + z;
        let scale = (width / wide).min(height / high);
        let origin = (left + y * ACROSS * scale, top + z * scale);
        (Self { origin, scale }, (wide * scale, high * scale))
    }

    /// A block with its three sides that can be seen.
    pub(crate) fn block(&self, picture: &mut Picture, corner: [f64; 3], size: [f64; 3], class: &str, tip: &str) {
        let face = |corners: [[f64; 3]; 4]| {
            let mut shape = String::new();
            for (place, spot) in corners.into_iter().enumerate() {
                let (right, down) = self.project(spot);
                put!(shape, "{}{} {}", if place == 0 { "M" } else { "L" }, at(right), at(down));
            }
            shape + "Z"
        };
        let [x, y, z] = corner;
        let [fx, fy, fz] = [x + size[0], y + size[1], z + size[2]];
        let top = face([[x, y, fz], [fx, y, fz], [fx, fy, fz], [x, fy, fz]]);
        let left = face([[x, fy, z], [fx, fy, z], [fx, fy, fz], [x, fy, fz]]);
        let right = face([[fx, y, z], [fx, fy, z], [fx, fy, fz], [fx, y, fz]]);
        // What is behind must not shine through the sides.
        picture.path(&format!("{left}{right}{top}"), "solid", "");
        picture.path(&left, &format!("{class} left"), tip);
        picture.path(&right, &format!("{class} right"), tip);
        picture.path(&top, &format!("{class} top"), tip);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fitting_view_fills_what_it_says() {
        let size = [4.0, 2.0, 3.0];
        let (view, (width, height)) = View::fitting(size, (10.0, 20.0), (300.0, 200.0));
        let corners =
            [[0.0, 0.0, 3.0], [4.0, 0.0, 0.0], [0.0, 2.0, 0.0], [4.0, 2.0, 0.0]].map(|corner| view.project(corner));
        let (mut left, mut right, mut top, mut low) = (f64::MAX, f64::MIN, f64::MAX, f64::MIN);
        for (x, y) in corners {
            (left, right, top, low) = (left.min(x), right.max(x), top.min(y), low.max(y));
        }
        assert!((left - 10.0).abs() < 1e-6 && (right - 10.0 - width).abs() < 1e-6, "{left} {right} {width}");
        assert!((top - 20.0).abs() < 1e-6 && (low - 20.0 - height).abs() < 1e-6, "{top} {low} {height}");
        assert!(width <= 300.0 + 1e-6 && height <= 200.0 + 1e-6);
    }
}
