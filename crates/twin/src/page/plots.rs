//! Levels over time: curves with the band between least and most, marks below them, and the numbers for the slider.

use dh_core::time::Span;
use dh_units::{Seconds, Watts};

use super::Page;
use super::axis::{round_up, time};
use super::markup::{at, nth};
use crate::comparison::Unit;
use crate::timeline::{Chart, Mark, Point, Series};

/// Points that are written, at most.
const WRITTEN: usize = 1_000;

/// A series as it is drawn.
struct Drawn {
    series: Series,
    name: &'static str,
    class: &'static str,
}

const fn drawn(series: Series, name: &'static str, class: &'static str) -> Drawn {
    Drawn { series, name, class }
}

/// One picture.
pub(crate) struct Panel {
    title: &'static str,
    /// In what the numbers of its series are counted, and how many of a series' own units that is.
    unit: &'static str,
    scale: f64,
    drawn: &'static [Drawn],
}

impl Panel {
    /// A picture whose series are not those of a run.
    pub(crate) const fn of(title: &'static str, unit: &'static str, scale: f64) -> Self {
        Self { title, unit, scale, drawn: &[] }
    }
}

/// Pictures from top to bottom. To add one: a line here.
const PANELS: &[Panel] = &[
    Panel {
        title: "Accelerators",
        unit: "",
        scale: 1_000.0,
        drawn: &[
            drawn(Series::HeldMilli, "held", "c2"),
            drawn(Series::FreeMilli, "free", "rest"),
            drawn(Series::FragmentedMilli, "fragmented", "c3"),
            drawn(Series::AsleepMilli, "asleep", "c4"),
            drawn(Series::DownMilli, "down", "bad"),
        ],
    },
    Panel { title: "Pending jobs", unit: "", scale: 1.0, drawn: &[drawn(Series::PendingJobs, "pending", "c1")] },
    Panel { title: "Running jobs", unit: "", scale: 1.0, drawn: &[drawn(Series::RunningJobs, "running", "c0")] },
    Panel {
        title: "Power",
        unit: "kW",
        scale: 1_000.0,
        drawn: &[drawn(Series::FacilityWatts, "whole hall", "c5"), drawn(Series::ItWatts, "IT", "c8")],
    },
];

/// Marks: what they are called, and their colour.
const fn named(mark: Mark) -> (&'static str, &'static str) {
    match mark {
        Mark::Failure => ("failures", "bad"),
        Mark::Preemption => ("preemptions", "c4"),
        Mark::JobFailure => ("failed jobs", "c9"),
    }
}

pub(crate) fn section(page: &Page<'_>) -> Option<String> {
    let chart = page.chart?;
    let step = step(chart);
    let shown: Vec<(Series, Vec<Point>)> =
        chart.series.iter().map(|points| (points.series, thin(&points.points, step))).collect();
    let places = shown.iter().map(|(_, points)| points.len()).max().filter(|places| *places > 0)?;
    let length = Seconds(dh_units::real(chart.end.since(chart.start).0) / 1e9);
    let span = dh_units::real(chart.step.0) * nth(step) / 1e9;
    // The last point may be shorter than the others; what is drawn ends with the run.
    let wide = if length.0 > 0.0 { 1_000.0 * span / length.0 } else { 1_000.0 };
    let mut text = format!(
        "<p class=\"note\">{length} in steps of {}. Curves are means of steps, bands go from the least to the most within a step.</p>\
         <div class=\"seek\" hidden><label><span class=\"name\">time</span><input type=\"range\" id=\"seek\" min=\"0\" \
         max=\"{}\" value=\"0\" aria-describedby=\"read\"></label><div class=\"read\" id=\"read\" aria-live=\"polite\"></div></div>\n",
        Seconds(span),
        places - 1
    );
    let mut data = format!("{{\"step\":{span},\"length\":{},\"series\":[", length.0);
    let mut first = true;
    for panel in PANELS {
        let of = |drawn: &Drawn| {
            let found = shown.iter().find(|(series, _)| *series == drawn.series);
            found.map(|(_, points)| (drawn.name, drawn.class, points.as_slice()))
        };
        let curves: Vec<(&str, &str, &[Point])> = panel.drawn.iter().filter_map(of).collect();
        if curves.is_empty() {
            continue;
        }
        text.push_str(&plot(panel, &curves, wide, length.0));
        for (name, _, points) in &curves {
            let name =
                if panel.drawn.len() > 1 && panel.unit == "kW" { format!("{name}, power") } else { (*name).to_owned() };
            numbers(&mut data, &mut first, (&name, panel.unit), points.iter().map(|point| point.mean / panel.scale));
        }
    }
    text.push_str(&events(chart, step, wide, length.0, &mut data, &mut first));
    put!(text, "<script type=\"application/json\" id=\"levels\">{data}]}}</script>\n");
    Some(text)
}

/// How many points become one, so that no more than [`WRITTEN`] are left.
fn step(chart: &Chart) -> usize {
    let most = chart.series.iter().map(|points| points.points.len()).max().unwrap_or(0);
    most.div_ceil(WRITTEN).max(1)
}

fn thin(points: &[Point], step: usize) -> Vec<Point> {
    let merged = points.chunks(step).map(|part| Point {
        least: part.iter().map(|point| point.least).min().unwrap_or(0),
        mean: part.iter().map(|point| point.mean).sum::<f64>() / nth(part.len().max(1)),
        most: part.iter().map(|point| point.most).max().unwrap_or(0),
    });
    merged.collect()
}

/// Appends a series to the numbers of the slider.
fn numbers(data: &mut String, first: &mut bool, (name, unit): (&str, &str), values: impl Iterator<Item = f64>) {
    if !std::mem::replace(first, false) {
        data.push(',');
    }
    put!(data, "{{\"name\":\"{name}\",\"unit\":\"{unit}\",\"values\":[");
    for (place, value) in values.enumerate() {
        if place > 0 {
            data.push(',');
        }
        data.push_str(&short(value));
    }
    data.push_str("]}");
}

/// A number with four digits at most, as JSON has them.
fn short(value: f64) -> String {
    let text = match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    };
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// Labels of time below a plot.
pub(crate) fn below(length_s: f64) -> String {
    let mut text = String::from("<div class=\"x\" aria-hidden=\"true\">");
    for (place, label) in time(length_s) {
        put!(text, "<span style=\"left:{}%\">{label}</span>", at(place * 100.0));
    }
    text + "</div>"
}

/// Curves with their bands; `wide` is the width of a step, in thousandths of the picture.
pub(crate) fn plot(panel: &Panel, curves: &[(&str, &str, &[Point])], wide: f64, length_s: f64) -> String {
    let all = curves.iter().flat_map(|(_, _, points)| points.iter());
    let most = round_up(all.map(|point| dh_units::real(point.most)).fold(0.0, f64::max) / panel.scale);
    let mean =
        |points: &[Point]| points.iter().map(|point| point.mean).sum::<f64>() / nth(points.len().max(1)) / panel.scale;
    let show = |value: f64| match panel.unit {
        "kW" => Watts(value * 1_000.0).to_string(),
        "s" => Seconds(value).to_string(),
        _ => Unit::Count.show(value),
    };
    let mut text = format!("<figure><figcaption>{}</figcaption>", panel.title);
    let mut said = String::new();
    text.push_str("<ul class=\"legend\">");
    for (name, class, points) in curves {
        let top = points.iter().map(|point| dh_units::real(point.most)).fold(0.0, f64::max) / panel.scale;
        let words = format!("{name}: mean {}, most {}", show(mean(points)), show(top));
        put!(text, "<li><i class=\"f-{class}\"></i>{words}</li>");
        put!(said, "; {words}");
    }
    put!(text, "</ul><div class=\"plot\" role=\"img\" aria-label=\"{} over time{said}\">", panel.title);
    for number in 0..=2_u32 {
        let part = f64::from(number) / 2.0;
        let top = at(100.0 - part * 100.0);
        if number > 0 {
            put!(text, "<span class=\"g\" style=\"top:{top}%\"></span>");
        }
        put!(text, "<span class=\"y\" style=\"top:{top}%\">{}</span>", show(part * most));
    }
    text.push_str("<svg viewBox=\"0 0 1000 100\" preserveAspectRatio=\"none\" aria-hidden=\"true\">");
    for (_, class, points) in curves {
        let y = |value: f64| at(100.0 - value / panel.scale / most * 100.0);
        let x = |place: usize| at((nth(place) * wide).min(1_000.0));
        let (mut upper, mut lower, mut curve) = (String::from("M"), Vec::new(), String::from("M"));
        let mut banded = false;
        for (place, point) in points.iter().enumerate() {
            let (from, to) = (x(place), x(place + 1));
            banded |= point.least < point.most;
            let (high, low, middle) = (y(dh_units::real(point.most)), y(dh_units::real(point.least)), y(point.mean));
            put!(upper, "{from} {high}H{to}L");
            lower.push(format!("{to} {low}H{from}L"));
            put!(curve, "{from} {middle}H{to}L");
        }
        if banded {
            let lower: String = lower.into_iter().rev().collect();
            let band = format!("{upper}{}", lower.trim_end_matches('L'));
            put!(text, "<path class=\"band f-{class}\" d=\"{band}Z\"/>");
        }
        put!(text, "<path class=\"curve l-{class}\" d=\"{}\"/>", curve.trim_end_matches('L'));
    }
    text + "</svg><i class=\"cursor\" hidden></i></div>" + &below(length_s) + "</figure>\n"
}

/// What happened, as bars of how often.
fn events(chart: &Chart, step: usize, wide: f64, length_s: f64, data: &mut String, first: &mut bool) -> String {
    let mut text = String::new();
    for marks in &chart.marks {
        let (name, class) = named(marks.mark);
        let counts: Vec<u64> = marks.counts.chunks(step).map(|part| part.iter().sum()).collect();
        numbers(data, first, (name, ""), counts.iter().map(|count| dh_units::real(*count)));
        let sum: u64 = counts.iter().sum();
        let most = counts.iter().copied().max().unwrap_or(1).max(1);
        let all = super::markup::count(sum);
        put!(
            text,
            "<figure><figcaption>{} <small>{all} in all; at most {} in a step</small></figcaption><div class=\"plot\" style=\"--h:46px\" \
             role=\"img\" aria-label=\"{name} over time: {all} in all\"><span class=\"y\" style=\"top:0%\">{}</span>\
             <svg viewBox=\"0 0 1000 100\" preserveAspectRatio=\"none\" aria-hidden=\"true\"><path class=\"curve l-{class}\" d=\"",
            capital(name),
            super::markup::count(most),
            super::markup::count(most)
        );
        for (place, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let x = at(((nth(place) + 0.5) * wide).min(1_000.0));
            put!(text, "M{x} 100V{}", at(100.0 - dh_units::real(*count) / dh_units::real(most) * 100.0));
        }
        put!(text, "\"/></svg><i class=\"cursor\" hidden></i></div>{}</figure>\n", below(length_s));
    }
    text
}

fn capital(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// Length of a span in seconds.
pub(crate) fn seconds(span: Span) -> f64 {
    dh_units::real(span.0) / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!([0.0, -0.001, 0.126, 12.34, 1234.5].map(short), ["0", "0", "0.13", "12.3", "1234"]);
        assert_eq!(capital("failed jobs"), "Failed jobs");
    }
}
