//! What those who asked services have seen: figures, and curves over time.

use dh_units::{Seconds, real, significant, whole};

use super::Page;
use super::markup::{Column, count, escape, percent, table};
use super::plots::{Panel, plot};
use crate::comparison::Unit;
use crate::measure::Times;
use crate::play::Answers;
use crate::requests::Moment;
use crate::timeline::Point;

/// A curve: its name, its colour, and the value of a step in thousandths of the picture's unit; a step without one has none.
type Curve = (&'static str, &'static str, fn(&Moment) -> Option<f64>);

/// Pictures from top to bottom. To add one: a line here.
const PANELS: &[(Panel, &[Curve])] = &[
    (
        Panel::of("Requests a second", "", 1_000.0),
        &[
            ("came", "c0", |step| Some(step.requests_per_second)),
            ("refused", "bad", |step| (step.refused > 0).then(|| real(step.refused) / step.length_s)),
        ],
    ),
    (
        Panel::of("Time to the first token, by when requests came; 0 where none did", "s", 1_000.0),
        &[("99 in 100", "c1", |step| step.ttft_p99_s), ("half", "c2", |step| step.ttft_p50_s)],
    ),
    (Panel::of("Generated tokens a second", "", 1_000.0), &[("tokens", "c4", |step| Some(step.tokens_per_second))]),
    (Panel::of("Replicas that take requests", "", 1_000.0), &[("replicas", "c5", |step| Some(step.replicas))]),
];

pub(crate) fn section(page: &Page<'_>) -> Option<String> {
    (!page.services.is_empty()).then(|| page.services.iter().map(one).collect())
}

fn one(answers: &Answers) -> String {
    let mut text = format!("<h3>{}</h3>\n<div class=\"two means\"><div>", escape(&answers.service));
    text.push_str(&times(answers));
    text.push_str("</div><div>");
    text.push_str(&figures(answers));
    text.push_str("</div></div>\n");
    let steps = &answers.served.over_time;
    let (Some(first), Some(last)) = (steps.first(), steps.last()) else { return text };
    let length = last.at_s + last.length_s;
    // The last step may be shorter than the others; what is drawn ends with the run.
    let wide = if length > 0.0 { 1_000.0 * first.length_s / length } else { 1_000.0 };
    put!(text, "<p class=\"note\">In steps of {}.</p>\n", Seconds(first.length_s));
    for (panel, curves) in PANELS {
        let drawn: Vec<(&str, &str, Vec<Point>)> =
            curves.iter().filter_map(|(name, class, of)| Some((*name, *class, points(steps, *of)?))).collect();
        let drawn: Vec<(&str, &str, &[Point])> =
            drawn.iter().map(|(name, class, points)| (*name, *class, points.as_slice())).collect();
        if !drawn.is_empty() {
            text.push_str(&plot(panel, &drawn, wide, length));
        }
    }
    text
}

/// The steps of a curve; none where no step has a value. A step without one is drawn as 0.
fn points(steps: &[Moment], of: fn(&Moment) -> Option<f64>) -> Option<Vec<Point>> {
    steps.iter().any(|step| of(step).is_some()).then(|| {
        let mut points = Vec::with_capacity(steps.len());
        for step in steps {
            let milli = of(step).unwrap_or(0.0) * 1_000.0;
            let even = whole(milli.max(0.0));
            points.push(Point { least: even, mean: milli, most: even });
        }
        points
    })
}

fn times(answers: &Answers) -> String {
    let names = ["of a request", "mean", "median", "p99", "longest"];
    let columns: Vec<Column<'_>> = names
        .iter()
        .enumerate()
        .map(|(place, name)| if place == 0 { Column::Words(name) } else { Column::Numbers(name) })
        .collect();
    let row = |name: &str, times: Option<Times>| {
        let times = times?;
        let values = [times.mean_s, times.p50_s, times.p99_s, times.max_s].map(|time| Seconds(time).to_string());
        Some([name.to_owned()].into_iter().chain(values).collect::<Vec<String>>())
    };
    let served = &answers.served;
    let rows = [
        row("first token (TTFT)", served.ttft),
        row("per further token (TPOT)", served.tpot),
        row("whole answer", served.whole),
    ];
    table("How long requests took", &columns, &rows.into_iter().flatten().collect::<Vec<_>>())
}

fn figures(answers: &Answers) -> String {
    let served = &answers.served;
    let mut rows = Vec::new();
    let mut row = |name: &str, value: String, meaning: &str| {
        rows.push(vec![name.to_owned(), value, meaning.to_owned()]);
    };
    row("Requests", count(served.requests), "that came");
    row("Answered", count(served.answered), "to the last token");
    if served.refused > 0 {
        row("Refused", count(served.refused), "too many were there already");
    }
    row("Longest line", count(served.line_most), "requests that waited for a replica at once");
    if let Some(within) = served.within_targets {
        row("Within the targets", percent(within), "of those that came");
        row("Goodput", format!("{} a second", significant(served.goodput_per_second)), "answers within the targets");
    }
    row("Tokens", format!("{} a second", Unit::Count.show(served.tokens_per_second)), "generated");
    row("Replicas", count(served.replicas_most), "at most at once");
    row("Accelerators", format!("{} h", Unit::Count.show(answers.accelerator_hours)), "held by replicas");
    if let Some(usd) = answers.usd_per_million_tokens {
        row("A million tokens", Unit::Usd.show(usd), "idle replicas included");
    }
    let columns = [Column::Words("figure"), Column::Numbers("value"), Column::Words("what it is")];
    table("The service", &columns, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(at_s: f64, ttft: Option<f64>) -> Moment {
        Moment {
            at_s,
            length_s: 10.0,
            requests_per_second: 3.0,
            tokens_per_second: 100.0,
            ttft_p50_s: ttft,
            ttft_p99_s: ttft,
            replicas: 1.5,
            refused: 0,
        }
    }

    #[test]
    fn a_curve_without_values_is_not_drawn() {
        let steps = [step(0.0, None), step(10.0, None)];
        assert!(points(&steps, |step| step.ttft_p50_s).is_none());
        let replicas = points(&steps, |step| Some(step.replicas)).unwrap();
        assert_eq!(replicas.iter().map(|point| point.most).collect::<Vec<_>>(), [1_500, 1_500]);
        assert!(points(&steps, |step| (step.refused > 0).then_some(1.0)).is_none());
    }
}
