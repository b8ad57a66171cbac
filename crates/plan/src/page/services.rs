//! Model services: what each is served by and what it answers in, and latency against price for the ways there are.
//!
//! Invariant: the chosen way is marked by its shape as well as by its colour; every point of a picture is a row of the table
//! behind it.

use dh_blueprint::Settings;
use dh_units::{Usd, significant};

use super::frame::{Column, Subject, amount, count, figure, money, table};
use super::svg::{Area, Hold, Picture, escape, nth};
use super::work::asked;
use crate::services::{Interval, ServicePlan, Way};

/// What is asked of services, then each with its picture.
pub(super) fn services(subject: Subject<'_>) -> String {
    let plans = &subject.plan.services;
    let rows: Vec<Vec<String>> = plans.iter().map(|service| row(subject, service)).collect();
    let columns = [
        Column::Words("Service"),
        Column::Words("Replicas and layout"),
        Column::Numbers("Accelerators"),
        Column::Numbers("TTFT p99"),
        Column::Numbers("asked"),
        Column::Numbers("TPOT p99"),
        Column::Numbers("asked"),
        Column::Numbers("Tokens/s"),
        Column::Numbers("$/M"),
        Column::Numbers("kWh/M"),
    ];
    let mut text = table("Services; price and energy are of a million generated tokens", &columns, &rows);
    for (place, service) in plans.iter().enumerate() {
        text.push_str(&one(place, service));
    }
    text
}

fn row(subject: Subject<'_>, service: &ServicePlan) -> Vec<String> {
    let id = |key: &str| format!("service.{}.{key}", service.name);
    let written = subject.settings.services.get(&service.name);
    let met = |kept: Option<bool>| match kept {
        Some(true) => " <span class=\"good\">✓</span>",
        Some(false) => " <span class=\"bad\">✕</span>",
        None => "",
    };
    let target = |of: fn(&dh_blueprint::Service) -> Option<dh_units::Seconds>| written.and_then(of);
    let (ttft, tpot) = (target(|service| service.ttft_p99), target(|service| service.tpot_p99));
    let best = service.best.as_ref();
    let kept = |time: Option<dh_units::Seconds>, most: Option<dh_units::Seconds>| Some(time? <= most?);
    let kwh = best.and_then(|best| best.energy).map(|energy| significant(energy.kwh()));
    vec![
        format!("{}: {}", escape(&service.name), escape(&service.model)),
        best.map_or_else(
            || replicas(subject.settings, service),
            |best| subject.link(&id("replicas"), &escape(best.replicas_and_layout())),
        ),
        best.map_or_else(
            || "–".to_owned(),
            |_| format!("{} of {}", subject.number(&id("accelerators")), count(service.available)),
        ),
        subject.number(&id("predicted.ttft_p99")) + met(kept(best.map(|best| best.ttft_p99), ttft)),
        asked(ttft),
        subject.number(&id("predicted.tpot_p99")) + met(kept(best.map(|best| best.tpot_p99), tpot)),
        asked(tpot),
        subject.link(&id("tokens_per_second"), &asked(best.map(|best| amount(best.tokens_per_second)))),
        subject.number(&id("cost")),
        subject.link(&id("energy"), &asked(kwh)),
    ]
}

/// Replicas as they are written.
fn replicas(settings: &Settings, service: &ServicePlan) -> String {
    settings.services.get(&service.name).map_or_else(String::new, |service| service.replicas.to_string())
}

/// What is to be said of one service, and its picture.
fn one(place: usize, service: &ServicePlan) -> String {
    let mut said = Vec::new();
    if let Some(why) = &service.unpredicted {
        said.push(format!("cannot be predicted: {}", escape(why)));
    }
    if let Some(best) = &service.best {
        let within = |time: Interval| format!("{} ({} to {})", time.value, time.low, time.high);
        said.push(format!(
            "in the mean {} until the first token and {} for each further one; four of five measurements should lie inside the parentheses",
            within(best.ttft),
            within(best.tpot)
        ));
        if !best.outside_calibrated_range.is_empty() {
            let why = escape(best.outside_calibrated_range.join(", "));
            said.push(format!("<span class=\"warn\">outside the calibrated range: {why}</span>"));
        }
    }
    said.extend(service.runner_up.iter().map(|text| format!("runner-up: {}", escape(text))));
    said.extend(service.hint.iter().map(escape));
    said.extend(service.missed.iter().map(|text| format!("<span class=\"bad\">✕ {}</span>", escape(text))));
    let mut text = format!("<h3>{}</h3>", escape(&service.name));
    put!(text, "<ul><li>{}</li></ul>", said.join("</li><li>"));
    if service.front.len() > 1 {
        text.push_str(&picture(place, service));
    }
    text
}

/// Dollars, or else accelerator-seconds, of a million tokens.
fn price(way: &Way) -> f64 {
    let seconds = dh_units::real(way.accelerators) / way.tokens_per_second.max(f64::MIN_POSITIVE);
    way.cost.map_or(seconds * 1e6, |Usd(cost)| cost)
}

/// A logarithmic axis: a price or a time is twice another, not two more.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (mut low, mut high) = (f64::INFINITY, 0.0_f64);
        for value in values.filter(|value| value.is_finite() && *value > 0.0) {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            (low, high) = (1.0, 2.0);
        }
        // Some room at the ends, and where all values are one.
        Self { low: low / 1.2, high: high * 1.2, from, to }
    }

    fn at(&self, value: f64) -> f64 {
        let share = (value.max(self.low) / self.low).ln() / (self.high / self.low).ln();
        self.from + share.clamp(0.0, 1.0) * (self.to - self.from)
    }

    /// 1, 2 and 5 times the powers of ten between the ends.
    fn ticks(&self) -> Vec<f64> {
        let mut found = Vec::new();
        let mut power = 10.0_f64.powf(self.low.log10().floor());
        while power <= self.high && found.len() < 24 {
            found.extend([1.0, 2.0, 5.0].map(|step| step * power).into_iter().filter(|tick| self.holds(*tick)));
            power *= 10.0;
        }
        found
    }

    fn holds(&self, tick: f64) -> bool {
        (self.low..=self.high).contains(&tick)
    }
}

/// Time per token against price, a point for each way of the front, the chosen one marked.
fn picture(place: usize, service: &ServicePlan) -> String {
    const WIDTH: f64 = 1_070.0;
    const HEIGHT: f64 = 330.0;
    let all = || service.front.iter().chain(&service.best);
    let x = Axis::over(all().map(price), 90.0, WIDTH - 30.0);
    let y = Axis::over(all().map(|way| way.tpot_p99.0), HEIGHT - 50.0, 24.0);
    let mut picture = Picture::new(WIDTH, HEIGHT);
    picture.area(Area::new(x.from, y.to, x.to - x.from, y.from - y.to), "track", "");
    let priced = service.front.iter().all(|way| way.cost.is_some());
    for tick in x.ticks() {
        let label = if priced { money(Usd(tick)) } else { format!("{} s", significant(tick)) };
        picture.line((x.at(tick), y.to), (x.at(tick), y.from), "link");
        picture.text((x.at(tick), y.from + 17.0), "s", Hold::Middle, label);
    }
    for tick in y.ticks() {
        picture.line((x.from, y.at(tick)), (x.to, y.at(tick)), "link");
        picture.text((x.from - 8.0, y.at(tick) + 4.0), "s", Hold::End, dh_units::Seconds(tick));
    }
    let measure = if priced { "price of a million tokens" } else { "accelerator-seconds of a million tokens" };
    picture.text((f64::midpoint(x.from, x.to), HEIGHT - 12.0), "t", Hold::Middle, measure);
    picture.text((x.from, 15.0), "t", Hold::Start, "time per further token, p99");
    let tip = |way: &Way| {
        let kept = if way.keeps { "keeps" } else { "misses" };
        format!("{}, {} accelerators: {kept} the targets", way.replicas_and_layout(), way.accelerators)
    };
    for way in &service.front {
        let class = if way.keeps { "p1" } else { "rest" };
        picture.circle((x.at(price(way)), y.at(way.tpot_p99.0)), 5.5, class, &tip(way));
    }
    if let Some(best) = &service.best {
        let (at_x, at_y) = (x.at(price(best)), y.at(best.tpot_p99.0));
        picture.area(Area::new(at_x - 8.0, at_y - 8.0, 16.0, 16.0), "n0", &tip(best));
        // The name stays inside the picture.
        let (shift, hold) = if at_x > WIDTH / 2.0 { (-14.0, Hold::End) } else { (14.0, Hold::Start) };
        picture.text((at_x + shift, at_y + 5.0), "t b", hold, format!("chosen: {}", best.replicas_and_layout()));
    }
    let title = format!("{}: time per token against price", service.name);
    let chosen = service.best.as_ref().map_or_else(String::new, |best| {
        format!(" The chosen way has {} accelerators and {} per further token.", best.accelerators, best.tpot_p99)
    });
    let alternative = format!(
        "{} ways to serve that no other beats, by {measure} and time per further token for 99 of 100 requests.{chosen}",
        amount(nth(service.front.len()))
    );
    let drawn = picture.finish(&format!("service-{place}"), &title, &alternative);
    let caption = "<b>Ways that no other beats.</b> Left is cheap, low is fast. The square is the chosen way; \
                   points in grey miss a target.";
    figure(&drawn, caption, &front(service))
}

/// The table behind the picture.
fn front(service: &ServicePlan) -> String {
    let rows: Vec<Vec<String>> = service
        .front
        .iter()
        .map(|way| {
            vec![
                escape(way.replicas_and_layout()),
                count(way.accelerators),
                way.ttft_p99.to_string(),
                way.tpot_p99.to_string(),
                amount(way.tokens_per_second),
                asked(way.cost.map(money)),
                asked(way.energy.map(|energy| significant(energy.kwh()))),
                if way.keeps { "✓".to_owned() } else { "✕".to_owned() },
            ]
        })
        .collect();
    let columns = [
        Column::Words("Replicas and layout"),
        Column::Numbers("Accelerators"),
        Column::Numbers("First token, p99"),
        Column::Numbers("Next token, p99"),
        Column::Numbers("Tokens a second"),
        Column::Numbers("A million tokens"),
        Column::Numbers("kWh for them"),
        Column::Words("Keeps the targets"),
    ];
    table("Ways that no other beats, the cheapest first", &columns, &rows)
}
