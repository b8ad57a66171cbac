//! The few charts that a plan needs: bars beside each other, and bars made of parts.

use super::svg::{Area, Hold, Picture, at, fit, nth};

/// One bar.
#[derive(Debug, Clone)]
pub(crate) struct Bar {
    /// Written before it.
    pub(crate) label: String,
    /// Its length in the chart's measure.
    pub(crate) value: f64,
    /// Written behind it.
    pub(crate) text: String,
    /// Class of its colour.
    pub(crate) class: &'static str,
    /// Whether it is hatched, so that colour alone does not say it.
    pub(crate) look: Look,
}

/// How a bar is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// In one colour.
    Plain,
    /// With stripes across.
    Hatched,
}

/// What a picture is called and what it shows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Names<'a> {
    pub(crate) id: &'a str,
    pub(crate) title: &'a str,
    pub(crate) alternative: &'a str,
}

const WIDTH: f64 = 1_070.0;
const LABEL: f64 = 430.0;
const LONGEST: f64 = 440.0;
const ROW: f64 = 30.0;

/// Bars below each other, from 0 to `most`; `mark` is a line at a value, with its name.
pub(crate) fn bars(names: Names<'_>, bars: &[Bar], most: f64, mark: Option<(f64, &str)>) -> String {
    let top = if mark.is_some() { 26.0 } else { 6.0 };
    let height = top + ROW * nth(bars.len()) + 6.0;
    let mut picture = Picture::new(WIDTH, height);
    let scale = if most > 0.0 { LONGEST / most } else { 0.0 };
    for (place, bar) in bars.iter().enumerate() {
        let y = top + ROW * nth(place);
        picture.text((LABEL - 12.0, y + 19.0), "t", Hold::End, fit(&bar.label, LABEL - 20.0, 13.0));
        let length = (bar.value * scale).max(1.5);
        let tip = format!("{}: {}", bar.label, bar.text);
        picture.area(Area::new(LABEL, y + 5.0, LONGEST, ROW - 10.0), "track", "");
        picture.area(Area::new(LABEL, y + 5.0, length, ROW - 10.0), bar.class, &tip);
        if bar.look == Look::Hatched {
            picture.area(Area::new(LABEL, y + 5.0, length, ROW - 10.0), "hatch", &tip);
        }
        picture.text((LABEL + LONGEST + 12.0, y + 19.0), "t k", Hold::Start, &bar.text);
    }
    if let Some((value, name)) = mark {
        let x = LABEL + value * scale;
        picture.line((x, 20.0), (x, height - 2.0), "mark");
        picture.text((x, 14.0), "s", Hold::Middle, name);
    }
    picture.finish(names.id, names.title, names.alternative)
}

/// A part of a whole.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) label: String,
    pub(crate) value: f64,
    pub(crate) text: String,
    pub(crate) class: &'static str,
}

/// Parts side by side.
#[derive(Debug, Clone)]
pub(crate) struct Stack {
    pub(crate) label: String,
    pub(crate) text: String,
    pub(crate) parts: Vec<Part>,
}

/// Bars of parts below each other, to one scale; `marks` are lines at values, with their names.
pub(crate) fn stacks(names: Names<'_>, stacks: &[Stack], marks: &[(f64, String)]) -> String {
    const HIGH: f64 = 46.0;
    const STEP: f64 = 78.0;
    let whole = |stack: &Stack| stack.parts.iter().map(|part| part.value).sum::<f64>();
    let most = stacks.iter().map(whole).chain(marks.iter().map(|(value, _)| *value)).fold(0.0, f64::max);
    let scale = if most > 0.0 { (WIDTH - 20.0) / most } else { 0.0 };
    let top = 18.0 * nth(marks.len());
    let height = top + STEP * nth(stacks.len());
    let mut picture = Picture::new(WIDTH, height);
    for (place, stack) in stacks.iter().enumerate() {
        let y = top + STEP * nth(place) + 22.0;
        picture.text((0.0, y - 7.0), "t b", Hold::Start, format!("{}: {}", stack.label, stack.text));
        let mut x = 0.0;
        for part in stack.parts.iter().filter(|part| part.value > 0.0) {
            let w = part.value * scale;
            picture.area(
                Area::new(x, y, w, HIGH),
                &format!("{} cut", part.class),
                &format!("{}: {}", part.label, part.text),
            );
            // A name that would be cut says nothing; the table below has all of them.
            let fits = |text: &str| fit(text, w - 10.0, 14.5) == text;
            if fits(&part.label) && fits(&part.text) {
                picture.text((x + 8.0, y + 19.0), "on b", Hold::Start, &part.label);
                picture.text((x + 8.0, y + 36.0), "on", Hold::Start, &part.text);
            }
            x += w;
        }
    }
    for (place, (value, name)) in marks.iter().enumerate() {
        let x = value * scale;
        let y = 18.0 * nth(place);
        picture.line((x, y + 4.0), (x, height - 6.0), "mark");
        // A name runs towards the middle, so that it stays inside.
        let (x, hold) = if x > WIDTH / 2.0 { (x - 6.0, Hold::End) } else { (x + 6.0, Hold::Start) };
        picture.text((x, y + 14.0), "s", hold, name);
    }
    picture.finish(names.id, names.title, names.alternative)
}

/// A flow from one whole to its parts: bands as wide as their values.
pub(crate) fn flow(names: Names<'_>, whole: &str, parts: &[Part]) -> String {
    const HIGH: f64 = 250.0;
    const GAP: f64 = 16.0;
    let parts: Vec<&Part> = parts.iter().filter(|part| part.value > 0.0).collect();
    let sum: f64 = parts.iter().map(|part| part.value).sum();
    let scale = if sum > 0.0 { HIGH / sum } else { 0.0 };
    // A label needs its line however thin the band is.
    let heights: Vec<f64> = parts.iter().map(|part| (part.value * scale).max(20.0) + GAP).collect();
    let right: f64 = heights.iter().sum::<f64>() - GAP;
    let height = right.max(HIGH) + 20.0;
    let (left_x, right_x) = (190.0, 660.0);
    let mut picture = Picture::new(WIDTH, height);
    let mut from = (height - HIGH) / 2.0;
    picture.area(Area::new(left_x - 16.0, from, 16.0, HIGH), "ink", whole);
    let (name, value) = whole.split_once(": ").unwrap_or((whole, ""));
    picture.text((left_x - 28.0, height / 2.0 - 4.0), "t b", Hold::End, name);
    picture.text((left_x - 28.0, height / 2.0 + 15.0), "t", Hold::End, value);
    let mut to = (height - right) / 2.0;
    for (part, step) in parts.iter().zip(&heights) {
        let band = (part.value * scale).max(1.0);
        let tip = format!("{}: {}", part.label, part.text);
        let bend = f64::midpoint(left_x, right_x);
        let shift = to + (step - GAP - band) / 2.0;
        let [x, bend, end, y, low, high, deep] =
            [left_x, bend, right_x, from, shift, shift + band, from + band].map(at);
        let shape = format!(
            "M{x} {y}C{bend} {y} {bend} {low} {end} {low}L{end} {high}C{bend} {high} {bend} {deep} {x} {deep}Z"
        );
        picture.path(&shape, &format!("{} band", part.class), &tip);
        picture.area(Area::new(right_x, shift, 14.0, band), part.class, &tip);
        let middle = shift + band / 2.0 + 5.0;
        picture.text((right_x + 26.0, middle), "t", Hold::Start, format!("{}  {}", part.label, part.text));
        from += band.min(part.value * scale);
        to += step;
    }
    picture.finish(names.id, names.title, names.alternative)
}
