//! Predicted against measured on logarithmic axes: a picture for each subject and block.
//!
//! Every point is two numbers of one digit after the point in one path per publisher, so that 2,500 rows stay far below 150 KB.
//! Colours follow the reader's light or dark scheme. Invariant: the same outcomes give the same bytes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use dh_perf::validation::Outcome;

use super::{family, with_rest};
use crate::Validation;

/// A picture as a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Its name, `SUBJECT-BLOCK.svg`.
    pub file: String,
    /// What it shows, in words.
    pub title: String,
    /// The file.
    pub svg: String,
}

/// Publishers with a colour of their own; the rest share the last one.
const COLOURS: usize = 7;
/// Points of a picture. More would not be told apart; every n-th in the order of rows is drawn then.
const POINTS_MAX: usize = 5000;
/// Side of the plot, and where its left upper corner is.
const SIDE: f64 = 400.0;
const LEFT: f64 = 74.0;
const TOP: f64 = 48.0;
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 510.0;

/// Colours of Okabe and Ito 2008, which colour-blind readers tell apart; in dark, the lighter of each.
const STYLE: &str = "<style>\
svg{font:12px system-ui,sans-serif;--paper:#fff;--ink:#1f2328;--dim:#6e7781;--grid:#e6e8eb;--band:#0072b21f}\
text{fill:var(--ink)}.dim{fill:var(--dim)}.title{font-size:15px;font-weight:600}\
.paper{fill:var(--paper)}.grid{stroke:var(--grid);fill:none}.frame{stroke:var(--dim);fill:none}\
.line{stroke:var(--ink);stroke-width:1.2}.band{fill:var(--band)}\
.p{fill:none;stroke-width:5;stroke-linecap:round;stroke-opacity:.6}\
.c0{stroke:#0072b2}.c1{stroke:#d55e00}.c2{stroke:#009e73}.c3{stroke:#cc79a7}.c4{stroke:#b58900}.c5{stroke:#56b4e9}.c6{stroke:#8a5fbf}.c7{stroke:#7f868d}\
@media(prefers-color-scheme:dark){svg{--paper:#0d1117;--ink:#e6edf3;--dim:#8b949e;--grid:#21262d;--band:#56b4e92e}.p{stroke-opacity:.85}\
.c0{stroke:#58a6ff}.c1{stroke:#ff9d5c}.c2{stroke:#3fd0a0}.c3{stroke:#f29cc8}.c4{stroke:#e3c44f}.c5{stroke:#9bd7ff}.c6{stroke:#c5a3f5}.c7{stroke:#9aa4ae}}\
</style>";

/// The pictures of a subject: one for each block that has answers above zero; verdicts of yes and no have none.
pub fn pictures(subject: &str, validation: &Validation) -> Vec<Picture> {
    let every: Vec<usize> = (0..validation.outcomes.len()).collect();
    let mut blocks = with_rest(validation);
    if blocks.is_empty() {
        blocks.push(("all", every));
    }
    let mut pictures = Vec::new();
    for (block, places) in blocks {
        let outcomes = places.iter().filter_map(|at| validation.outcomes.get(*at));
        let points: Vec<Point<'_>> = outcomes.filter_map(Point::of).collect();
        let spread = points.iter().any(|point| (point.measured - 1.0).abs() > f64::EPSILON);
        if points.len() < 3 || !spread {
            continue;
        }
        let (name, title) = match block {
            "all" => (subject.to_owned(), subject.to_owned()),
            block => (format!("{subject}-{block}"), format!("{subject}: {}", block.replace('_', " "))),
        };
        let title = format!("{title}, predicted against measured");
        pictures.push(Picture { file: format!("{name}.svg"), svg: draw(&title, &points), title });
    }
    pictures
}

struct Point<'a> {
    family: &'a str,
    quantity: &'a str,
    measured: f64,
    predicted: f64,
}

impl<'a> Point<'a> {
    fn of(outcome: &'a Outcome) -> Option<Self> {
        let predicted = outcome.predicted.filter(|value| value.is_finite() && *value > 0.0)?;
        let measured = Some(outcome.measured).filter(|value| value.is_finite() && *value > 0.0)?;
        Some(Self { family: family(&outcome.source), quantity: &outcome.quantity, measured, predicted })
    }
}

/// Decades that hold every value, with a little room.
#[derive(Clone, Copy)]
struct Axis {
    low: f64,
    high: f64,
}

impl Axis {
    fn of(points: &[Point<'_>]) -> Self {
        let logs = points.iter().flat_map(|point| [point.measured.log10(), point.predicted.log10()]);
        let (low, high) =
            logs.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), log| (low.min(log), high.max(log)));
        let room = ((high - low) * 0.04).max(0.05);
        Self { low: low - room, high: high + room }
    }

    fn part(self, log: f64) -> f64 {
        ((log - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    fn x(self, log: f64) -> f64 {
        LEFT + self.part(log) * SIDE
    }

    fn y(self, log: f64) -> f64 {
        TOP + (1.0 - self.part(log)) * SIDE
    }

    /// Lines of the grid with their labels: decades, or 1, 2 and 5 where there are few.
    fn ticks(self) -> Vec<(f64, String)> {
        let steps: &[f64] = if self.high - self.low > 2.5 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let mut ticks = Vec::new();
        let mut decade = self.low.floor();
        // At most the range of a float's exponents.
        while decade <= self.high && ticks.len() < 700 {
            for step in steps {
                let log = decade + step.log10();
                if (self.low..=self.high).contains(&log) {
                    ticks.push((log, label(decade, *step)));
                }
            }
            decade += 1.0;
        }
        let every = ticks.len().div_ceil(9).max(1);
        ticks.into_iter().enumerate().filter(|(at, _)| at % every == 0).map(|(_, tick)| tick).collect()
    }
}

/// `20`, `0.05`, `5e6`.
fn label(decade: f64, step: f64) -> String {
    if (-3.0..=4.0).contains(&decade) {
        let value = step * 10_f64.powf(decade);
        return dh_units::significant(value);
    }
    format!("{step}e{decade}")
}

fn draw(title: &str, points: &[Point<'_>]) -> String {
    let axis = Axis::of(points);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{0}\">{STYLE}\
         <rect class=\"paper\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"8\"/><text class=\"title\" x=\"{LEFT}\" y=\"28\">{0}</text>\n",
        escape(title)
    );
    grid(&mut svg, axis);
    band(&mut svg, axis);
    let families = families(points);
    let every = points.len().div_ceil(POINTS_MAX).max(1);
    for (colour, (names, _)) in families.iter().enumerate() {
        _ = write!(svg, "<path class=\"p c{}\" d=\"", colour.min(COLOURS));
        let drawn = points.iter().enumerate().filter(|(at, _)| at % every == 0).map(|(_, point)| point);
        for point in drawn.filter(|point| names.contains(&point.family)) {
            _ = write!(svg, "M{:.1} {:.1}h0", axis.x(point.measured.log10()), axis.y(point.predicted.log10()));
        }
        svg.push_str("\"/>\n");
    }
    legend(&mut svg, &families, points.len(), every);
    let mut quantities: Vec<&str> = points.iter().map(|point| point.quantity).collect();
    quantities.sort_unstable();
    quantities.dedup();
    let unit = quantities.join(", ");
    let (middle, foot) = (LEFT + SIDE / 2.0, TOP + SIDE + 40.0);
    _ = writeln!(
        svg,
        "<text x=\"{middle}\" y=\"{foot}\" text-anchor=\"middle\">measured, {0}</text>\
         <text transform=\"translate(20 {1}) rotate(-90)\" text-anchor=\"middle\">predicted</text></svg>",
        escape(&cut(&unit, 60)),
        TOP + SIDE / 2.0
    );
    svg
}

fn grid(svg: &mut String, axis: Axis) {
    let mut lines = String::new();
    for (log, label) in axis.ticks() {
        let (x, y, bottom) = (axis.x(log), axis.y(log), TOP + SIDE);
        _ = write!(lines, "M{x:.1} {TOP}v{SIDE}M{LEFT} {y:.1}h{SIDE}");
        _ = write!(
            svg,
            "<text class=\"dim\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>\
             <text class=\"dim\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            bottom + 18.0,
            LEFT - 8.0,
            y + 4.0
        );
    }
    _ = writeln!(svg, "<path class=\"grid\" d=\"{lines}\"/>");
}

/// The line on which predictions are right, and 20 % on both sides of it.
fn band(svg: &mut String, axis: Axis) {
    let (low, high) = (axis.low, axis.high);
    let (over, under) = (1.2_f64.log10(), 0.8_f64.log10());
    // The band leaves the square at its corners: where it meets the frame is computed, not clipped.
    _ = writeln!(
        svg,
        "<path class=\"band\" d=\"M{:.1} {:.1}L{:.1} {:.1}L{:.1} {:.1}L{:.1} {:.1}L{:.1} {:.1}L{:.1} {:.1}z\"/>\
         <path class=\"line\" d=\"M{:.1} {:.1}L{:.1} {:.1}\"/><rect class=\"frame\" x=\"{LEFT}\" y=\"{TOP}\" width=\"{SIDE}\" height=\"{SIDE}\"/>",
        axis.x(low),
        axis.y(low),
        axis.x(low),
        axis.y(low + over),
        axis.x(high - over),
        axis.y(high),
        axis.x(high),
        axis.y(high),
        axis.x(high),
        axis.y(high + under),
        axis.x(low - under),
        axis.y(low),
        axis.x(low),
        axis.y(low),
        axis.x(high),
        axis.y(high),
    );
}

/// The publishers with most points by themselves, the rest together; each with its points.
fn families<'a>(points: &[Point<'a>]) -> Vec<(Vec<&'a str>, usize)> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for point in points {
        *counts.entry(point.family).or_default() += 1;
    }
    let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    // One more than there are colours needs no class of its own.
    let alone = if counts.len() == COLOURS + 1 { COLOURS + 1 } else { COLOURS.min(counts.len()) };
    let rest = counts.split_off(alone);
    let mut families: Vec<(Vec<&str>, usize)> = counts.into_iter().map(|(name, count)| (vec![name], count)).collect();
    if !rest.is_empty() {
        families.push((rest.iter().map(|(name, _)| *name).collect(), rest.iter().map(|(_, count)| count).sum()));
    }
    families
}

fn legend(svg: &mut String, families: &[(Vec<&str>, usize)], points: usize, every: usize) {
    let x = LEFT + SIDE + 24.0;
    let mut y = TOP + 8.0;
    for (colour, (names, count)) in families.iter().enumerate() {
        let name = match names.as_slice() {
            [one] => cut(one, 24),
            more => format!("{} others", more.len()),
        };
        _ = write!(
            svg,
            "<path class=\"p c{}\" d=\"M{x} {:.1}h0\"/><text x=\"{}\" y=\"{y:.1}\">{} <tspan class=\"dim\">{count}</tspan></text>",
            colour.min(COLOURS),
            y - 4.0,
            x + 12.0,
            escape(&name)
        );
        y += 20.0;
    }
    y += 12.0;
    _ = write!(
        svg,
        "<rect class=\"band\" x=\"{}\" y=\"{:.1}\" width=\"12\" height=\"12\"/><text x=\"{}\" y=\"{y:.1}\">within 20 %</text>",
        x - 6.0,
        y - 10.0,
        x + 12.0
    );
    let drawn = if every > 1 { format!("{points} rows, every {every}. drawn") } else { format!("{points} rows") };
    _ = writeln!(svg, "<text class=\"dim\" x=\"{}\" y=\"{:.1}\">{drawn}</text>", x - 6.0, y + 24.0);
}

fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{kept}…")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::outcome;

    fn many(count: u32) -> Validation {
        let outcomes = (1..=count)
            .map(|at| {
                let value = f64::from(at) * 1.7;
                outcome(
                    &format!("r{at}"),
                    &format!("p{}<x", at % 11),
                    value,
                    Some(value * (0.5 + f64::from(at % 7) / 7.0)),
                )
            })
            .collect();
        Validation { outcomes, blocks: Vec::new() }
    }

    #[test]
    fn a_picture_is_small_whatever_the_number_of_rows() {
        let pictures = pictures("training", &many(20_000));
        assert_eq!(pictures.len(), 1);
        let svg = &pictures[0].svg;
        assert!(svg.len() < 150_000, "{}", svg.len());
        assert_eq!(svg.matches("h0").count(), 5000 + 8, "a point each, and a mark of the legend for each of 8 colours");
        assert!(
            svg.contains("p1&lt;x") && svg.contains("4 others") && svg.contains("prefers-color-scheme"),
            "{}",
            &svg[..3000]
        );
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn verdicts_and_refusals_have_no_picture() {
        let verdicts = Validation { outcomes: vec![outcome("a", "s", 1.0, Some(1.0)); 9], blocks: Vec::new() };
        assert_eq!(pictures("memory", &verdicts), []);
        let refused = Validation { outcomes: vec![outcome("a", "s", 5.0, None); 9], blocks: Vec::new() };
        assert_eq!(pictures("memory", &refused), []);
    }

    #[test]
    fn points_lie_on_the_line_where_the_model_is_right() {
        let axis = Axis { low: 0.0, high: 2.0 };
        assert!((axis.x(1.0) - LEFT - SIDE / 2.0).abs() < 1e-9 && (axis.y(1.0) - TOP - SIDE / 2.0).abs() < 1e-9);
        let labels: Vec<String> = axis.ticks().into_iter().map(|(_, label)| label).collect();
        assert_eq!(labels, ["1", "2", "5", "10", "20", "50", "100"]);
    }
}
