//! How long jobs took: bars on a logarithmic axis of time.

use dh_units::Seconds;

use super::Page;
use super::axis::{decades, round_up};
use super::markup::{Column, at, count, folded, nth, percent, table};
use crate::comparison::Unit;
use crate::measure::{Bar, Times};

pub(crate) fn section(page: &Page<'_>) -> Option<String> {
    let run = page.outcome;
    let jct = histogram("Job completion time (JCT)", &run.jct_histogram, run.jct, "c0");
    let queueing = histogram("Queueing: time to the first start", &run.queueing_histogram, run.queueing, "c1");
    (run.jct.is_some() || run.queueing.is_some()).then(|| {
        format!(
            "<p class=\"note\">Each bar is half again or a third longer than the one before; the first holds all that took about a \
             second or less.</p><div class=\"two\"><div>{jct}</div><div>{queueing}</div></div>"
        )
    })
}

fn histogram(title: &str, bars: &[Bar], times: Option<Times>, class: &str) -> String {
    let (Some(times), Some(last)) = (times, bars.last()) else { return String::new() };
    // The lowest bar may begin at 0, which no logarithm has: it is drawn as wide as the next.
    let floor = |bar: &Bar| if bar.from_s > 0.0 { bar.from_s } else { bar.to_s / 1.5 };
    let from = bars.first().map_or(1.0, floor);
    let width = (last.to_s / from).ln();
    let place = |time: f64| (time / from).ln() / width;
    let most = round_up(bars.iter().map(|bar| dh_units::real(bar.jobs)).fold(0.0, f64::max));
    let mut text = format!(
        "<figure><figcaption>{title} <small>{} jobs, median {}</small></figcaption>\
         <div class=\"plot\" style=\"--h:190px\" role=\"img\" aria-label=\"{title}: half of {} jobs took {} or less, 99 in 100 took {} or less\">",
        count(times.count),
        Seconds(times.p50_s),
        count(times.count),
        Seconds(times.p50_s),
        Seconds(times.p99_s)
    );
    for number in 1..=2_u32 {
        let part = f64::from(number) / 2.0;
        let top = at(100.0 - part * 100.0);
        put!(
            text,
            "<span class=\"g\" style=\"top:{top}%\"></span><span class=\"y\" style=\"top:{top}%\">{}</span>",
            Unit::Count.show(part * most)
        );
    }
    text.push_str("<svg viewBox=\"0 0 1000 100\" preserveAspectRatio=\"none\" aria-hidden=\"true\">");
    let gap = (900.0 / nth(bars.len().max(1)) * 0.06).min(4.0);
    for bar in bars.iter().filter(|bar| bar.jobs > 0) {
        let (left, right) = (place(floor(bar)) * 1_000.0, place(bar.to_s) * 1_000.0);
        let height = dh_units::real(bar.jobs) / most * 100.0;
        put!(
            text,
            "<rect class=\"f-{class}\" x=\"{}\" y=\"{:.2}\" width=\"{}\" height=\"{height:.2}\"><title>{}: {} jobs</title></rect>",
            at(left + gap / 2.0),
            100.0 - height,
            at(right - left - gap),
            name(bar),
            count(bar.jobs)
        );
    }
    text.push_str("</svg></div><div class=\"x\" aria-hidden=\"true\">");
    for (place, label) in decades(from, last.to_s) {
        put!(text, "<span style=\"left:{}%\">{label}</span>", at(place * 100.0));
    }
    let mut below = 0;
    let rows = bars.iter().map(|bar| {
        below += bar.jobs;
        let share = dh_units::real(below) / dh_units::real(times.count);
        vec![name(bar), count(bar.jobs), percent(share)]
    });
    let columns = [Column::Words("time"), Column::Numbers("jobs"), Column::Numbers("all up to here")];
    let numbers = table(title, &columns, &rows.collect::<Vec<_>>());
    text + "</div></figure>\n" + &folded("The numbers behind this picture", &numbers)
}

fn name(bar: &Bar) -> String {
    if bar.from_s > 0.0 {
        format!("{} to {}", Seconds(bar.from_s), Seconds(bar.to_s))
    } else {
        format!("below {}", Seconds(bar.to_s))
    }
}
