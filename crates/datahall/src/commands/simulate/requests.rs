//! Requests that come to services of the blueprint: those of a trace, or drawn ones.

use std::path::{Path, PathBuf};

use clap::Args;
use dh_blueprint::{Service as Said, Settings};
use dh_core::time::Span;
use dh_core::{Kind, SimTime};
use dh_plan::{Plan, ServicePlan, ServiceWay as Way};
use dh_twin::comparison::Unit;
use dh_twin::generate::{Client, RequestSource, Tokens, Window};
use dh_twin::play::{Answers, Ask as Asked, Scene};
use dh_twin::requests::{Call, Scale, Service, Speed, Targets};
use dh_twin::trace::{Requests, WINDOW};
use dh_units::{real, whole};

use crate::failure::Failure;
use crate::output;
use crate::trace_file;
use crate::ui::table::{Side, Table};

/// Requests to services.
#[derive(Debug, Clone, Args)]
pub(super) struct Ask {
    /// Requests that come to a service of the blueprint: a published trace with moments and tokens of prompts and answers; may be gzipped
    #[arg(long, value_name = "FILE", conflicts_with_all = ["log", "trace", "arrivals"])]
    requests: Option<PathBuf>,
    /// Requests that are drawn: how many a second, or `plan` for as many as each service is planned for
    #[arg(long, value_name = "RATE|plan", conflicts_with_all = ["log", "trace"], value_parser = arrivals)]
    arrivals: Option<Arrivals>,
    /// The service, if the blueprint has several
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Replicas at least and at most: as many run as the requests of the last minute need
    #[arg(long, value_name = "MIN..MAX", value_parser = bounds)]
    replicas: Option<(u32, u32)>,
    /// Play the requests of a trace so many times as fast
    #[arg(long, value_name = "FACTOR", requires = "requests", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    rate: u64,
    /// Requests between their coming and the end of their answer, at most, as the gateway has it; one more is refused
    #[arg(long, value_name = "REQUESTS", default_value_t = 2_048, value_parser = clap::value_parser!(u64).range(1..))]
    in_flight: u64,
}

/// How many requests are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Arrivals {
    /// As many as the blueprint says.
    Plan,
    /// So many a second.
    Rate(f64),
}

/// Requests of one run that are drawn, at most: a bound on memory.
const DRAWN_MAX: f64 = 2e7;

/// The deviation of the logarithm of tokens that are drawn: prompts of published traces have one of about 1 (Azure 2023).
const SIGMA: f64 = 1.0;

fn arrivals(text: &str) -> Result<Arrivals, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= 1e6 => Ok(Arrivals::Rate(rate)),
        Err(_) if text == "plan" => Ok(Arrivals::Plan),
        Ok(_) | Err(_) => Err("expected requests a second, such as 2.5, or `plan`".to_owned()),
    }
}

fn bounds(text: &str) -> Result<(u32, u32), String> {
    let number = |text: &str| text.trim().parse::<u32>().map_err(|_| format!("`{text}` is no whole number"));
    let (least, most) = text.split_once("..").ok_or("expected MIN..MAX, such as 1..8")?;
    match (number(least)?, number(most)?) {
        (least, most) if (1..=most).contains(&least) => Ok((least, most)),
        _ => Err("expected at least one replica, and no fewer at most than at least".to_owned()),
    }
}

/// A time in whole nanoseconds.
fn span(seconds: f64) -> Span {
    Span(whole((seconds * 1e9).round().clamp(0.0, 1e18)))
}

/// A service that can be played: its plan, what the blueprint says, and the way it is served.
type Known<'a> = (&'a ServicePlan, &'a Said, &'a Way);

impl Ask {
    /// The requests come to the scene's services.
    pub(super) fn put(
        &self,
        settings: &Settings,
        plan: &Plan,
        (days, seed): (u32, u64),
        scene: &mut Scene,
    ) -> Result<(), Failure> {
        let horizon = Span::from_secs(u64::from(days) * 86_400);
        match (&self.requests, self.arrivals) {
            (Some(file), _) => {
                let known = self.chosen(settings, plan)?;
                let calls = self.calls(file)?;
                self.come(known, calls, horizon, scene)
            }
            (None, Some(Arrivals::Rate(rate))) => {
                let known = self.chosen(settings, plan)?;
                self.come(known, draw(known.1, rate, horizon, seed)?, horizon, scene)
            }
            (None, Some(Arrivals::Plan)) => {
                let all = plan.services.iter().filter(|service| {
                    self.service.as_ref().is_none_or(|name| *name == service.name)
                        && settings.services.get(&service.name).is_some_and(|said| said.requests_per_second.is_some())
                });
                let mut any = false;
                for known in all.filter_map(|planned| known(settings, planned).ok()) {
                    let rate = known.1.requests_per_second.unwrap_or(0.0);
                    self.come(known, draw(known.1, rate, horizon, seed)?, horizon, scene)?;
                    any = true;
                }
                let why = "no service of the blueprint has `requests_per_second` and predicted replicas";
                if any { Ok(()) } else { Err(Failure::new(Kind::Invalid, why)) }
            }
            (None, None) if self.service.is_some() || self.replicas.is_some() => {
                let why = "`--service` and `--replicas` need `--requests FILE` or `--arrivals RATE`";
                Err(Failure::new(Kind::Invalid, why))
            }
            (None, None) => Ok(()),
        }
    }

    /// The one service that is asked.
    fn chosen<'a>(&self, settings: &'a Settings, plan: &'a Plan) -> Result<Known<'a>, Failure> {
        let fit: Vec<&ServicePlan> = plan.services.iter().filter(|service| known(settings, service).is_ok()).collect();
        let planned = match (&self.service, fit.as_slice()) {
            (Some(name), _) => plan.services.iter().find(|service| service.name == *name),
            // One that cannot be played is chosen to say why.
            (None, []) if plan.services.len() == 1 => plan.services.first(),
            (None, [one]) => Some(*one),
            (None, _) => None,
        };
        if let Some(planned) = planned {
            return known(settings, planned);
        }
        let names: Vec<&str> = plan.services.iter().map(|service| service.name.as_str()).collect();
        let hint = match (names.as_slice(), &self.service) {
            ([], _) => "the blueprint has none".to_owned(),
            (_, None) => format!("choose with `--service`: there is {}", names.join(", ")),
            (_, Some(_)) => format!("there is {}", names.join(", ")),
        };
        let what = match &self.service {
            Some(name) => format!("there is no service `{name}`"),
            None => "which service do the requests come to?".to_owned(),
        };
        Err(Failure::new(Kind::NotFound, what).hint(hint))
    }

    /// `calls` come to a service.
    fn come(
        &self,
        (planned, said, way): Known<'_>,
        calls: Vec<Call>,
        horizon: Span,
        scene: &mut Scene,
    ) -> Result<(), Failure> {
        let speeds = planned.speeds.iter().map(|speed| Speed {
            requests: u32::try_from(speed.requests).unwrap_or(u32::MAX),
            ttft: span(speed.ttft.0),
            tpot: span(speed.tpot.0),
        });
        let service = Service {
            speeds: speeds.collect(),
            input: u32::try_from(whole(said.input.as_f64())).unwrap_or(u32::MAX),
            targets: Targets { ttft: said.ttft_p99.map(|t| span(t.0)), tpot: said.tpot_p99.map(|t| span(t.0)) },
            in_flight: Some(self.in_flight),
        };
        // A replica answers as many more as these requests are shorter than those of the plan.
        let count = real(u64::try_from(calls.len()).unwrap_or(1).max(1));
        let mean = |of: fn(&Call) -> u32| calls.iter().map(|call| f64::from(of(call))).sum::<f64>() / count;
        let (input, output) = (said.input.as_f64().max(1.0), said.output.as_f64().max(1.0));
        let takes = |i: f64, o: f64| way.ttft.value.0 * i / input + way.tpot.value.0 * o;
        let shorter = takes(input, output) / takes(mean(|call| call.input), mean(|call| call.output)).max(1e-9);
        let capacity = way.capacity_per_second / real(way.replicas.max(1)) * shorter;
        let last = calls.last().map_or(SimTime(0), |call| call.at);
        let until = last.after(Span::from_secs(600)).min(SimTime(0).after(horizon));
        let scale = self.replicas.map(|(least, most)| Scale {
            least,
            most,
            per_replica: whole((capacity * 1e6).max(1.0)),
            every: Span::from_secs(60),
            patience: Span::from_secs(300),
        });
        // What the plan makes of a million tokens at its own rate is what an hour of an accelerator costs.
        let hourly =
            way.cost.map(|cost| cost.0 * way.tokens_per_second * 3_600.0 / 1e6 / real(way.accelerators.max(1)));
        if last > SimTime(0).after(horizon) {
            scene.notes.push(format!("service `{}`: requests go on for longer than the run; `--days`", planned.name));
        }
        let ask = Asked { service, calls, scale: scale.map(|scale| (scale, until)), usd_per_accelerator_hour: hourly };
        Ok(scene.ask(&planned.name, ask)?)
    }

    fn calls(&self, file: &Path) -> Result<Vec<Call>, Failure> {
        let text = trace_file::read(file)?;
        let mut calls = Vec::new();
        for request in Requests::new(&text, &file.display().to_string())? {
            let request = request?;
            let at = SimTime(request.at.0 / self.rate);
            calls.push(Call { at, input: request.input, output: request.output });
        }
        if calls.is_empty() {
            return Err(Failure::new(Kind::Invalid, format!("{}: there are no requests", file.display())));
        }
        calls.sort_by_key(|call| call.at);
        Ok(calls)
    }
}

/// What is known of a service, if enough to play it.
fn known<'a>(settings: &'a Settings, planned: &'a ServicePlan) -> Result<Known<'a>, Failure> {
    match (&planned.best, settings.services.get(&planned.name)) {
        (Some(way), Some(said)) if !planned.speeds.is_empty() => Ok((planned, said, way)),
        _ => {
            let why = planned
                .unpredicted
                .as_deref()
                .or(planned.missed.as_deref())
                .unwrap_or("prompts are read on replicas of their own, which requests cannot be played on");
            Err(Failure::new(Kind::Invalid, format!("service `{}`: {why}", planned.name)))
        }
    }
}

/// Requests at a steady rate, as independent as those of many clients; lengths around those of the blueprint.
fn draw(said: &Said, rate: f64, horizon: Span, seed: u64) -> Result<Vec<Call>, Failure> {
    let expected = rate * real(horizon.0) / 1e9;
    if expected > DRAWN_MAX {
        let hint = "ask for fewer `--days`, or a lower rate";
        return Err(Failure::new(Kind::TooLarge, format!("{expected:.0} requests would come")).hint(hint));
    }
    // Half of log-normal numbers are below the mean over this.
    let above = (SIGMA * SIGMA / 2.0).exp();
    let tokens = |mean: f64| Tokens::LogNormal {
        median: u32::try_from(whole((mean / above).max(1.0))).unwrap_or(u32::MAX),
        sigma: SIGMA,
        most: u32::try_from(whole((mean * 32.0).max(1.0))).unwrap_or(u32::MAX),
    };
    let windows = (0..horizon.0.div_ceil(WINDOW.0)).map(|number| Window {
        start: SimTime(number * WINDOW.0),
        per_million_s: whole(rate * 1e6),
        cv_milli: 1_000,
    });
    let clients = [Client {
        model: String::new(),
        number: 0,
        windows: windows.collect(),
        input: tokens(said.input.as_f64()),
        output: tokens(said.output.as_f64()),
    }];
    let source = RequestSource::new(&clients, seed)
        .map_err(|error| Failure::new(Kind::Internal, format!("drawing requests: {error}")))?;
    let end = SimTime(0).after(horizon);
    let calls = source.take_while(|request| request.at < end).map(|request| Call {
        at: request.at,
        input: request.input,
        output: request.output,
    });
    Ok(calls.collect())
}

/// What those who asked have seen.
pub(super) fn print(answers: &Answers) {
    let served = &answers.served;
    let refused = if served.refused > 0 { format!(", {} refused", served.refused) } else { String::new() };
    output::line(format!(
        "{}: {} of {} requests answered{refused}; {} replicas and {} requests in line at most",
        output::bold(&answers.service),
        served.answered,
        served.requests,
        served.replicas_most,
        served.line_most
    ));
    let mut table = Table::new(&[("", Side::Left), ("mean", Side::Right), ("p50", Side::Right), ("p99", Side::Right)]);
    let times =
        [("first token (TTFT)", served.ttft), ("per token (TPOT)", served.tpot), ("whole answer", served.whole)];
    for (name, times) in times.into_iter().filter_map(|(name, times)| Some((name, times?))) {
        let show = |seconds: f64| dh_units::Seconds(seconds).to_string();
        table.row([name.to_owned(), show(times.mean_s), show(times.p50_s), show(times.p99_s)]);
    }
    for line in table.lines() {
        output::line(line);
    }
    let within = served.within_targets.unwrap_or(0.0) * 100.0;
    output::line(format!(
        "{within:.1} % of those that came within the targets: {:.2} a second; {:.0} tokens a second",
        served.goodput_per_second, served.tokens_per_second
    ));
    let cost = answers
        .usd_per_million_tokens
        .map(|usd| format!(", {} for a million tokens", Unit::Usd.show(usd)))
        .unwrap_or_default();
    output::line(format!(
        "{} replica-hours, {} accelerator-hours{cost}",
        Unit::Count.show(served.replica_hours),
        Unit::Count.show(answers.accelerator_hours)
    ));
}

/// The same in one line, for policies side by side.
pub(super) fn print_short(policy: &str, seed: u64, answers: &Answers) {
    let served = &answers.served;
    let first = served.ttft.map_or("none".to_owned(), |times| dh_units::Seconds(times.p99_s).to_string());
    output::line(format!(
        "{policy}, seed {seed}, {}: {} of {} requests answered, first token p99 {first}, {:.1} % within the targets",
        answers.service,
        served.answered,
        served.requests,
        served.within_targets.unwrap_or(0.0) * 100.0
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_two_numbers_in_order() {
        assert_eq!(bounds("1..8"), Ok((1, 8)));
        for wrong in ["", "8", "0..3", "4..2", "a..b"] {
            assert!(bounds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn arrivals_are_a_rate_or_the_plan() {
        assert_eq!((arrivals("2.5"), arrivals("plan")), (Ok(Arrivals::Rate(2.5)), Ok(Arrivals::Plan)));
        for wrong in ["", "0", "-1", "nan", "inf", "plans"] {
            assert!(arrivals(wrong).is_err(), "{wrong}");
        }
    }
}
