//! The layout of each training: what a step is made of, and the ways worth choosing between.

use dh_units::{Seconds, Usd, significant};

use super::charts::{Names, Part, Stack, stacks};
use super::frame::{Column, Subject, count, figure, legend, money, percent, table};
use super::svg::{Area, Hold, Picture, escape};
use crate::trainings::{Prediction, TrainingPlan, Way};

pub(super) fn layouts(subject: Subject<'_>) -> String {
    let with = subject.plan.trainings.iter().filter_map(|run| run.prediction.as_ref().map(|found| (run, found)));
    with.map(|(run, found)| one(subject, run, found)).collect()
}

fn one(subject: Subject<'_>, run: &TrainingPlan, found: &Prediction) -> String {
    let prefix = format!("training.{}", run.name);
    // Below `predicted` where the blueprint says the utilisation.
    let here = |key: &str| {
        let below = format!("{prefix}.predicted.{key}");
        if subject.plan.ledger.get(&below).is_some() { below } else { format!("{prefix}.{key}") }
    };
    let way = &found.way;
    let mut text = format!("<h3>How {} is laid out</h3>", escape(&run.name));
    put!(
        text,
        "<p><b>{}</b> on {} accelerators: a step of {} ({} to {} in four of five), MFU {}, {} of {} of memory.</p>",
        subject.link(&here("layout"), &escape(&way.layout)),
        subject.link(&format!("{prefix}.accelerators"), &count(way.accelerators)),
        subject.link(&here("step"), &escape(way.step)),
        escape(found.low),
        escape(found.high),
        subject.link(&here("mfu"), &percent(way.mfu)),
        subject.link(&here("memory.needed"), &escape(found.needed)),
        escape(found.memory)
    );
    if !found.outside.is_empty() {
        let why = escape(found.outside.join(", "));
        put!(text, "<p class=\"warn\">Outside the calibrated range: {why}.</p>");
    }
    text.push_str(&step(run, found));
    text.push_str(&front(run, found));
    if let Some(next) = found.runners_up.first() {
        put!(text, "<p class=\"note\">The next best: {}.</p>", escape(&next.why));
    }
    text
}

/// The class of each kind of a step's parts, and what the kind is called.
const KINDS: [(&str, &str, &[&str]); 4] = [
    ("p0", "computing", &["matrix products", "attention", "vector operations"]),
    ("p2", "computed again", &["recomputation"]),
    (
        "n0",
        "traffic that nothing hides",
        &[
            "exposed tensor-parallel traffic",
            "exposed context-parallel traffic",
            "exposed expert-parallel traffic",
            "exposed messages between stages",
            "exposed data-parallel traffic",
            "traffic with host memory",
        ],
    ),
    ("rest", "waiting and the rest", &[]),
];

fn class(name: &str) -> &'static str {
    KINDS.iter().find(|(_, _, names)| names.contains(&name)).map_or("rest", |(class, ..)| class)
}

/// The parts of a step as one bar.
fn step(run: &TrainingPlan, found: &Prediction) -> String {
    let parts: Vec<Part> = found
        .parts
        .iter()
        .map(|part| Part {
            label: part.name.to_owned(),
            value: part.seconds.0,
            text: part.seconds.to_string(),
            class: class(part.name),
        })
        .collect();
    let words: Vec<String> = parts.iter().map(|part| format!("{} {}", part.label, part.text)).collect();
    let names = Names {
        id: &format!("step-{}", run.name),
        title: &format!("What a step of {} is made of", run.name),
        alternative: &words.join("; "),
    };
    let stack = Stack { label: "A step".to_owned(), text: found.way.step.to_string(), parts };
    let rows: Vec<Vec<String>> = found
        .parts
        .iter()
        .map(|part| vec![escape(part.name), escape(part.seconds), percent(part.seconds / found.way.step)])
        .collect();
    let columns = [Column::Words("Part"), Column::Numbers("Time"), Column::Numbers("Of the step")];
    let key = legend(KINDS.iter().map(|(class, name, _)| (*class, (*name).to_owned())));
    figure(
        &(stacks(names, &[stack], &[]) + &key),
        "A step on the busiest accelerator, by what takes the time.",
        &table("Parts of a step", &columns, &rows),
    )
}

/// Days of a way.
fn days(way: &Way) -> f64 {
    way.time.0 / 86_400.0
}

const WIDTH: f64 = 1_070.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 110.0;
const BOTTOM: f64 = 46.0;
const TOP: f64 = 16.0;
const RIGHT: f64 = 40.0;

/// Ways that no other beats, days against dollars (energy where no price is known).
fn front(run: &TrainingPlan, found: &Prediction) -> String {
    if found.front.len() < 2 {
        return String::new();
    }
    let priced = found.front.iter().all(|way| way.cost.is_some());
    let high = |way: &Way| match (way.cost, way.energy) {
        (Some(cost), _) if priced => cost.0,
        (_, energy) => energy.map_or(0.0, dh_units::Joules::kwh),
    };
    let told = |value: f64| if priced { money(Usd(value)) } else { format!("{} kWh", significant(value)) };
    let most = |of: &dyn Fn(&Way) -> f64| found.front.iter().map(of).fold(0.0, f64::max) * 1.08;
    let (most_days, most_high) = (most(&days), most(&high));
    let (wide, tall) = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
    let place = |way: &Way| {
        let share = |value: f64, most: f64| if most > 0.0 { value / most } else { 0.0 };
        (LEFT + wide * share(days(way), most_days), HEIGHT - BOTTOM - tall * share(high(way), most_high))
    };
    let mut picture = Picture::new(WIDTH, HEIGHT);
    picture.area(Area::new(LEFT, TOP, wide, tall), "track", "");
    for part in [0.25, 0.5, 0.75, 1.0] {
        let (x, y) = (LEFT + wide * part, HEIGHT - BOTTOM - tall * part);
        picture.line((LEFT, y), (LEFT + wide, y), "link");
        picture.text((LEFT - 8.0, y + 4.0), "s", Hold::End, told(most_high * part));
        picture.text((x, HEIGHT - BOTTOM + 18.0), "s", Hold::Middle, Seconds(most_days * part * 86_400.0));
    }
    picture.text((LEFT + wide / 2.0, HEIGHT - 8.0), "t", Hold::Middle, "time without interruptions");
    let chosen = |way: &Way| way.degrees == found.way.degrees && way.accelerators == found.way.accelerators;
    for way in &found.front {
        let (x, y) = place(way);
        let tip =
            format!("{} accelerators, {}: {}, {}", count(way.accelerators), way.layout, way.time, told(high(way)));
        let class = if chosen(way) { "n0" } else { "p0" };
        picture.circle((x, y), if chosen(way) { 8.0 } else { 5.5 }, class, &tip);
        picture.text((x, y - 12.0), "s", Hold::Middle, count(way.accelerators));
    }
    let title = format!("Ways to train {} that no other beats", run.name);
    let words: Vec<String> = found
        .front
        .iter()
        .map(|way| format!("{} accelerators: {}, {}", way.accelerators, way.time, told(high(way))))
        .collect();
    let drawn = picture.finish(&format!("front-{}", run.name), &title, &words.join("; "));
    let dash = || "–".to_owned();
    let rows: Vec<Vec<String>> = found
        .front
        .iter()
        .map(|way| {
            vec![
                count(way.accelerators),
                escape(&way.layout) + if chosen(way) { " <span class=\"good\">✓ chosen</span>" } else { "" },
                escape(way.time),
                way.cost.map_or_else(dash, |cost| escape(money(cost))),
                way.energy.map_or_else(dash, escape),
                percent(way.mfu),
            ]
        })
        .collect();
    let columns = [
        Column::Numbers("Accelerators"),
        Column::Words("Layout"),
        Column::Numbers("Time"),
        Column::Numbers("Cost"),
        Column::Numbers("Energy"),
        Column::Numbers("MFU"),
    ];
    let caption = format!(
        "Each point is a number of accelerators in its best layout; the larger one is chosen, for the least {}. Time, cost and energy are those of accelerators that are never interrupted.",
        found.optimise
    );
    figure(&drawn, &caption, &table("Ways that no other beats", &columns, &rows))
}
