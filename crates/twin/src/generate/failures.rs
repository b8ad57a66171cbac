//! What fails, when and for how long: independent nodes, parts that fail together, lemons, slow nodes, planned windows.
//!
//! Every part has a stream of its own, named by cause and number, so one node more leaves the failures of all others as they
//! were, and one cause more those of all causes. A part fails again only after its repair; its clock starts anew then, and at
//! moment 0 everything is new. Invariant: outages come in the order in which they begin; of equal moments the earlier
//! cause, then the lower number first. Cost: one heap operation and two or three draws each; 64 bytes a part and cause.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use dh_core::time::{SimTime, Span};

use super::Error;
use super::draw::{Draw, span};
use super::durations::Durations;
use super::elementary::{exp, ln};
use super::maintenance::Maintenance;
use super::sites::{Part, Scope, Sites};

/// The law of times between failures of one part.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Law {
    /// As likely at any age.
    Exponential,
    /// Shape below 1: the young fail more; above 1: the old.
    Weibull {
        /// Its shape.
        shape: f64,
    },
}

/// What an outage does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The nodes are gone.
    Down,
    /// The nodes go on, more slowly: gray.
    Slow {
        /// Their speed in thousandths of the full one.
        speed_milli: u32,
    },
}

/// A few parts that fail much more often.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lemons {
    /// Which share of all.
    pub share: f64,
    /// How many times as often.
    pub factor: f64,
}

/// Something that fails.
#[derive(Debug, Clone, PartialEq)]
pub struct Cause {
    /// What it is called.
    pub name: String,
    /// What fails at once.
    pub part: Part,
    /// Mean time from repair to the next failure, of one part that is no lemon.
    pub between: Span,
    /// How these times vary.
    pub law: Law,
    /// How long it takes to be whole again.
    pub repair: Durations,
    /// What it does meanwhile.
    pub effect: Effect,
    /// Whether some are worse.
    pub lemons: Option<Lemons>,
}

/// Why an outage is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A failure: the place of its cause.
    Cause(u16),
    /// A planned window.
    Maintenance,
}

/// An outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    /// When it begins.
    pub at: SimTime,
    /// When it is over.
    pub until: SimTime,
    /// What it strikes.
    pub scope: Scope,
    /// Why.
    pub reason: Reason,
    /// What it does.
    pub effect: Effect,
}

/// One part under one cause.
#[derive(Debug, Clone)]
struct Source {
    draw: Draw,
    cause: u16,
    number: u32,
    /// Mean time between failures over the mean of the law with scale 1, nanoseconds.
    scale: f64,
}

/// Failures in the order of their beginnings, without end but the end of time.
#[derive(Debug, Clone)]
pub struct Failures {
    sites: Sites,
    causes: Vec<Cause>,
    sources: Vec<Source>,
    next: BinaryHeap<Reverse<(SimTime, usize)>>,
    maintenance: Option<Maintenance>,
    planned: (u64, u32),
}

/// Names of streams, so that the choice of lemons does not depend on failures.
const LEMON: u64 = 0x006c_656d;
const FAILURE: u64 = 0x6661_696c;
/// Beyond this nothing fails: 146 years.
const LAST: SimTime = SimTime(u64::MAX / 4);

impl Failures {
    /// The failures of `sites` by `causes`, from a seed.
    /// # Errors
    /// If a time, a shape, a share or a factor is not positive, or a round of maintenance does not end.
    pub fn new(sites: Sites, causes: Vec<Cause>, maintenance: Option<Maintenance>, seed: u64) -> Result<Self, Error> {
        sites.check()?;
        if let Some(plan) = maintenance {
            plan.check(sites.nodes)?;
        }
        let mut failures =
            Self { sites, causes, sources: Vec::new(), next: BinaryHeap::new(), maintenance, planned: (0, 0) };
        for (place, cause) in failures.causes.iter().enumerate() {
            check(cause)?;
            let id = u16::try_from(place).map_err(|_| Error { what: "causes", want: "65,536 at most" })?;
            let mean = dh_units::real(cause.between.0) / mean_of(cause.law);
            for number in 0..sites.count(cause.part) {
                let name = |kind| [kind, u64::from(id), u64::from(number)];
                let lemon = cause.lemons.filter(|lemons| Draw::of(seed, &name(LEMON)).happens(lemons.share));
                let scale = lemon.map_or(mean, |lemons| mean / lemons.factor);
                failures.sources.push(Source { draw: Draw::of(seed, &name(FAILURE)), cause: id, number, scale });
            }
        }
        for place in 0..failures.sources.len() {
            failures.plan(place, SimTime(0));
        }
        Ok(failures)
    }

    /// The sites that fail.
    pub fn sites(&self) -> Sites {
        self.sites
    }

    /// Enters the next failure of a source that is whole at `from`.
    fn plan(&mut self, place: usize, from: SimTime) {
        let Some(source) = self.sources.get_mut(place) else { return };
        let Some(cause) = self.causes.get(usize::from(source.cause)) else { return };
        let wait = match cause.law {
            Law::Exponential => source.draw.exponential(),
            Law::Weibull { shape } => source.draw.weibull(shape),
        };
        let at = from.after(span(wait * source.scale));
        if at < LAST {
            self.next.push(Reverse((at, place)));
        }
    }

    /// The next planned window, if it begins before `limit`.
    fn window(&mut self, limit: SimTime) -> Option<Outage> {
        let plan = self.maintenance.filter(|_| self.sites.nodes > 0)?;
        let (round, number) = self.planned;
        let at = plan.start(round, number);
        if at >= limit.min(LAST) {
            return None;
        }
        self.planned = if number + 1 < self.sites.nodes { (round, number + 1) } else { (round + 1, 0) };
        let scope = Scope { part: Part::Node, number };
        Some(Outage { at, until: at.after(plan.length), scope, reason: Reason::Maintenance, effect: Effect::Down })
    }
}

impl Iterator for Failures {
    type Item = Outage;

    fn next(&mut self) -> Option<Outage> {
        let limit = self.next.peek().map_or(LAST, |Reverse((at, _))| *at);
        if let Some(window) = self.window(limit) {
            return Some(window);
        }
        let Reverse((at, place)) = self.next.pop()?;
        let source = self.sources.get_mut(place)?;
        let cause = self.causes.get(usize::from(source.cause))?;
        let until = at.after(cause.repair.draw(&mut source.draw));
        let scope = Scope { part: cause.part, number: source.number };
        let outage = Outage { at, until, scope, reason: Reason::Cause(source.cause), effect: cause.effect };
        self.plan(place, until);
        Some(outage)
    }
}

fn check(cause: &Cause) -> Result<(), Error> {
    if cause.between.0 < 1_000_000 {
        return Err(Error { what: "the time between failures", want: "a millisecond at least" });
    }
    if let Law::Weibull { shape } = cause.law
        && !(0.1..=20.0).contains(&shape)
    {
        return Err(Error { what: "the shape of failures", want: "between 0.1 and 20" });
    }
    if let Some(lemons) = cause.lemons
        && !((0.0..=1.0).contains(&lemons.share) && (1.0..=1e6).contains(&lemons.factor))
    {
        return Err(Error { what: "lemons", want: "a share up to 1 and a factor from 1 to a million" });
    }
    Ok(())
}

/// The mean of a law with scale 1.
fn mean_of(law: Law) -> f64 {
    match law {
        Law::Exponential => 1.0,
        Law::Weibull { shape } => gamma(1.0 + 1.0 / shape),
    }
}

/// The gamma function above 1, by Stirling's series at an argument raised to 10 or more; eleven digits.
fn gamma(mut x: f64) -> f64 {
    let mut divisor = 1.0;
    while x < 10.0 {
        divisor *= x;
        x += 1.0;
    }
    let series = 1.0 / (12.0 * x) - 1.0 / (360.0 * x * x * x) + 1.0 / (1260.0 * x * x * x * x * x);
    exp((x - 0.5) * ln(x) - x + 0.5 * ln(2.0 * core::f64::consts::PI) + series) / divisor
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000_000_000;

    fn cause(part: Part, hours: u64, law: Law) -> Cause {
        Cause {
            name: "c".to_owned(),
            part,
            between: Span(hours * HOUR),
            law,
            repair: Durations::LogNormal { median: Span(HOUR), sigma: 1.0, longest: Span(100 * HOUR) },
            effect: Effect::Down,
            lemons: None,
        }
    }

    const SITES: Sites = Sites { nodes: 200, rack: 4, feed: 40, switch: 20 };

    fn until(failures: Failures, hours: u64) -> Vec<Outage> {
        failures.take_while(|outage| outage.at.0 < hours * HOUR).collect()
    }

    #[test]
    fn parts_fail_as_often_as_their_mean_says_and_in_order() {
        for law in [Law::Exponential, Law::Weibull { shape: 0.7 }, Law::Weibull { shape: 3.0 }] {
            for part in [Part::Node, Part::Rack, Part::Switch] {
                let between = 500;
                let all = until(Failures::new(SITES, vec![cause(part, between, law)], None, 5).unwrap(), 400_000);
                assert!(all.is_sorted_by_key(|outage| outage.at));
                // The mean repair of a log-normal of deviation 1 is 1.65 hours.
                let want = dh_units::real(u64::from(SITES.count(part))) * 400_000.0 / 501.65;
                let found = dh_units::real(u64::try_from(all.len()).unwrap());
                assert!((found / want - 1.0).abs() < 0.05, "{law:?} {part:?}: {found} for {want}");
            }
        }
    }

    #[test]
    fn a_part_is_not_struck_again_before_it_is_whole() {
        let all = until(Failures::new(SITES, vec![cause(Part::Node, 5, Law::Exponential)], None, 5).unwrap(), 500);
        let mut whole = [SimTime(0); 200];
        for outage in all {
            let node = usize::try_from(outage.scope.number).unwrap();
            assert!(outage.at >= whole[node] && outage.until >= outage.at);
            whole[node] = outage.until;
        }
    }

    #[test]
    fn one_node_or_cause_more_leaves_the_others_as_they_were() {
        let causes = vec![cause(Part::Node, 300, Law::Weibull { shape: 0.8 })];
        let few = until(Failures::new(SITES, causes.clone(), None, 5).unwrap(), 5_000);
        let more = Sites { nodes: 201, ..SITES };
        let mut two = causes;
        two.push(cause(Part::Rack, 100, Law::Exponential));
        let many = until(Failures::new(more, two, None, 5).unwrap(), 5_000);
        let same: Vec<Outage> =
            many.into_iter().filter(|outage| outage.reason == Reason::Cause(0) && outage.scope.number < 200).collect();
        assert_eq!(few, same);
        assert_ne!(
            few,
            until(
                Failures::new(SITES, vec![cause(Part::Node, 300, Law::Weibull { shape: 0.8 })], None, 6).unwrap(),
                5_000
            )
        );
    }

    #[test]
    fn lemons_are_few_and_fail_their_multiple() {
        let lemons = Some(Lemons { share: 0.05, factor: 20.0 });
        let sites = Sites { nodes: 2_000, ..SITES };
        let causes = vec![Cause { lemons, ..cause(Part::Node, 1_000, Law::Exponential) }];
        let mut counts = vec![0_u32; 2_000];
        for outage in until(Failures::new(sites, causes, None, 8).unwrap(), 10_000) {
            counts[usize::try_from(outage.scope.number).unwrap()] += 1;
        }
        let bad = counts.iter().filter(|count| **count > 60).count();
        assert!((70..=130).contains(&bad), "{bad} of 2,000");
        let good: Vec<f64> = counts.iter().filter(|count| **count <= 60).map(|count| f64::from(*count)).collect();
        let mean = good.iter().sum::<f64>() / dh_units::real(u64::try_from(good.len()).unwrap());
        assert!((mean / 9.98 - 1.0).abs() < 0.03, "{mean}");
    }

    #[test]
    fn maintenance_takes_every_node_once_a_round_and_never_two_batches() {
        let plan = Maintenance { first: SimTime(HOUR), every: Span(100 * HOUR), length: Span(2 * HOUR), batch: 10 };
        let causes = vec![cause(Part::Feed, 50, Law::Exponential)];
        let all = until(Failures::new(SITES, causes, Some(plan), 5).unwrap(), 1_001);
        assert!(all.is_sorted_by_key(|outage| outage.at));
        let planned: Vec<&Outage> = all.iter().filter(|outage| outage.reason == Reason::Maintenance).collect();
        assert_eq!(planned.len(), 2_000);
        for pair in planned.windows(11) {
            assert!(pair[10].at >= pair[0].until, "a batch begins when the last is whole");
        }
        let short = Maintenance { every: Span(39 * HOUR), ..plan };
        let refused = Failures::new(SITES, Vec::new(), Some(short), 5).unwrap_err();
        assert_eq!(refused.to_string(), "a round of maintenance must be over before the next begins");
    }

    #[test]
    fn the_gamma_function_is_the_factorial() {
        for (x, want) in [(1.0, 1.0), (5.0, 24.0), (1.5, 0.886_226_925_452_758), (11.0, 3_628_800.0)] {
            assert!((gamma(x) / want - 1.0).abs() < 1e-9, "{x}: {}", gamma(x));
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let refused = |cause: Cause| Failures::new(SITES, vec![cause], None, 1).is_err();
        assert!(refused(cause(Part::Node, 0, Law::Exponential)));
        assert!(refused(cause(Part::Node, 1, Law::Weibull { shape: f64::NAN })));
        assert!(refused(Cause {
            lemons: Some(Lemons { share: 2.0, factor: 2.0 }),
            ..cause(Part::Node, 1, Law::Exponential)
        }));
        assert!(Failures::new(Sites { rack: 0, ..SITES }, Vec::new(), None, 1).is_err());
    }
}
