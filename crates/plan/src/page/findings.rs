//! What cannot be, what to know, what is tight, what breaks first.

use dh_facility::failures::Cause;
use dh_units::significant;

use super::charts::{Bar, Look, Names, bars};
use super::frame::{Column, Subject, amount, figure, percent, table};
use super::svg::escape;
use crate::findings::{Bottleneck, Weight};

/// Bottlenecks that are drawn; the table has them all.
const DRAWN: usize = 3;

pub(crate) fn section(subject: Subject<'_>) -> String {
    let mut text = findings(subject);
    text.push_str(&bottlenecks(subject));
    text.push_str(&breaks(subject));
    text
}

fn findings(subject: Subject<'_>) -> String {
    let found = &subject.plan.findings;
    if found.is_empty() {
        return "<p>Nothing that is written contradicts anything else, and nothing calls for attention.</p>".to_owned();
    }
    let mut text = "<ul class=\"finds\">".to_owned();
    for finding in found {
        let (class, name) = match finding.weight {
            Weight::Infeasible => ("bad", "✕ cannot be"),
            Weight::Warning => ("warn", "! to know"),
        };
        put!(
            text,
            "<li class=\"{class}\"><strong>{name}</strong><p>{} {}</p></li>",
            escape(&finding.text),
            subject.link(&finding.number, "why")
        );
    }
    text.push_str("</ul>");
    text
}

fn bottlenecks(subject: Subject<'_>) -> String {
    let all = &subject.plan.bottlenecks;
    if all.is_empty() {
        return String::new();
    }
    let bar = |tight: &Bottleneck| {
        let met = tight.demand <= 1.0;
        Bar {
            label: tight.what.clone(),
            value: tight.demand.min(CUT),
            text: format!("{}{}", percent(tight.demand), if met { "" } else { " ✕ not met" }),
            class: if met { "p0" } else { "n2" },
            look: if met { Look::Plain } else { Look::Hatched },
        }
    };
    let drawn: Vec<Bar> = all.iter().take(DRAWN).map(bar).collect();
    let most = drawn.iter().map(|bar| bar.value).fold(1.0, f64::max);
    let words: Vec<String> =
        all.iter().take(DRAWN).map(|tight| format!("{}: {}", tight.what, percent(tight.demand))).collect();
    let picture = bars(
        Names { id: "tight", title: "The tightest needs over what meets them", alternative: &words.join("; ") },
        &drawn,
        most,
        Some((1.0, "all there is")),
    );
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|tight| vec![escape(&tight.what), subject.link(&tight.number, &escape(significant(tight.demand)))])
        .collect();
    let behind = table(
        "Needs over what meets them, all of them",
        &[Column::Words("What"), Column::Numbers("Need / supply")],
        &rows,
    );
    let caption =
        "A need over what there is to meet it. Beyond the dashed line it is <b>not met</b>; such bars are striped.";
    format!("<h3>What is tight</h3>{}", figure(&picture, caption, &behind))
}

/// A need above this many times its supply is drawn as this many: the bar says that it is far beyond.
const CUT: f64 = 4.0;

fn breaks(subject: Subject<'_>) -> String {
    let Some(outlook) = &subject.plan.failures else { return String::new() };
    let expected = &outlook.expected;
    let word = |component: &str| component.replace('_', " ");
    let broken = expected.by_component.iter().filter(|each| each.cause == Cause::Unexpected);
    let drawn: Vec<Bar> = broken
        .clone()
        .map(|each| Bar {
            label: word(&each.component),
            value: each.interruptions,
            text: amount(each.interruptions),
            class: "n2",
            look: Look::Plain,
        })
        .take(12)
        .collect();
    if drawn.is_empty() {
        return String::new();
    }
    let most = drawn.iter().map(|bar| bar.value).fold(0.0, f64::max);
    let words: Vec<String> = drawn.iter().take(5).map(|bar| format!("{} {}", bar.label, bar.text)).collect();
    let alternative = format!("Expected interruptions of a year: {}", words.join(", "));
    let picture =
        bars(Names { id: "breaks", title: "What breaks first", alternative: &alternative }, &drawn, most, None);
    let rows: Vec<Vec<String>> = expected
        .by_component
        .iter()
        .map(|each| {
            let id = format!("failures.expected.{}", each.component);
            let cause = match each.cause {
                Cause::Unexpected => "breaks",
                Cause::Planned => "planned",
            };
            vec![
                escape(word(&each.component)),
                cause.to_owned(),
                escape(each.scope),
                subject.link(&id, &escape(amount(each.interruptions))),
            ]
        })
        .collect();
    let behind = table(
        "Interruptions to be expected in a year, for a job on the whole hall",
        &[
            Column::Words("Component"),
            Column::Words("Cause"),
            Column::Words("Counted per"),
            Column::Numbers("In a year"),
        ],
        &rows,
    );
    let caption = format!(
        "Interruptions to be expected in a year, for a job on the whole hall: {} that break something and {} planned. A mean time of \
         {} between failures, checkpoints every {}, <b>{}</b> of the time is kept work; {} nodes in reserve.",
        subject.link("failures.expected", &amount(expected.unexpected)),
        amount(expected.planned),
        subject.number("failures.mtbf"),
        subject.number("failures.interval"),
        subject.link("failures.ettr", &percent(outlook.ettr)),
        subject.number("failures.spares"),
    );
    format!("<h3>What breaks first</h3>{}", figure(&picture, &caption, &behind))
}
