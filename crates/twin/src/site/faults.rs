//! What fails in a hall, from the failure rates of its plan: nodes with their accelerators, cables, racks, feeds, switches.
//!
//! Invariant: a node that several outages strike is down from the first to the end of the last. Failures of a job's own
//! software and planned interruptions are not played: no part is away for them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use dh_core::NodeId;
use dh_core::time::{SimTime, Span};
use dh_facility::failures::{Cause as Meant, Population, Rates, Scope};
use dh_plan::Plan;
use dh_policy::fleet::Service;
use dh_units::Seconds;

use super::{Error, Site, span};
use crate::generate::{Cause, Durations, Effect, Failures, Law, Lemons, Outage, Part, Sites};
use crate::kernel::Fault;

const YEAR: Span = Span::from_secs(365 * 86_400);

/// How long a lost cable or port keeps its node away. Stated assumption: it is plugged or cleaned within the hour.
const CABLE: Span = Span::from_secs(3_600);

/// How long a lost rack, feed or switch is away. Stated assumption: a part on the shelf and half a shift.
const LARGE: Span = Span::from_secs(4 * 3_600);

/// What fails beside nodes and cables. No rates are published: the default is a stated assumption.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outages {
    /// A few nodes that fail more often.
    pub lemons: Option<Lemons>,
    /// Time between failures of one rack: its power or its cooling.
    pub rack: Option<Span>,
    /// Of one power feed, which a block shares.
    pub feed: Option<Span>,
    /// Of what makes a block unreachable: its leaf switches.
    pub switch: Option<Span>,
}

impl Default for Outages {
    /// One node in a hundred fails ten times as often; a rack once in 20 years, a feed in 50, a block's switches in 30.
    fn default() -> Self {
        Self {
            lemons: Some(Lemons { share: 0.01, factor: 10.0 }),
            rack: Some(Span(20 * YEAR.0)),
            feed: Some(Span(50 * YEAR.0)),
            switch: Some(Span(30 * YEAR.0)),
        }
    }
}

impl Site {
    /// The faults of this hall, from a seed, without end. Rates and repairs are those of the plan.
    /// # Errors
    /// [`Error::Generate`] if `outages` cannot be.
    pub fn faults(&self, plan: &Plan, outages: Outages, seed: u64) -> Result<Faults, Error> {
        let nodes = u32::try_from(self.settings.nodes.len()).unwrap_or(u32::MAX);
        let slots: u64 = self.settings.nodes.iter().map(|node| u64::from(node.accelerators)).sum();
        let each = Population { accelerators: slots.div_ceil(u64::from(nodes.max(1))), nodes: 1 };
        let rates = Rates::llama_3_405b();
        let between = |per_second: f64| (per_second > 0.0).then(|| span(Seconds(1.0 / per_second)));
        let cables = rates.rates.iter().filter(|rate| rate.scope == Scope::Network && rate.cause == Meant::Unexpected);
        let cables: f64 = cables.map(|rate| rate.per_unit_second() * dh_units::real(rate.scope.units(each))).sum();
        // A machine without accelerators of the catalogue is no node of a rack: nothing is known of how it fails.
        let known = plan.failures.is_some();
        let repair = plan.ledger.get("failures.repair").and_then(|number| number.value.number());
        let repair = repair.map_or(LARGE, |seconds| span(Seconds(seconds)));
        let causes = [
            ("node", Part::Node, between(rates.node_losses_per_second(each)), repair, outages.lemons),
            ("cable", Part::Node, between(cables), CABLE, None),
            ("rack", Part::Rack, outages.rack, LARGE, None),
            ("feed", Part::Feed, outages.feed, LARGE, None),
            ("switch", Part::Switch, outages.switch, LARGE, None),
        ];
        let cause = |(name, part, between, repair, lemons): (&str, Part, Option<Span>, Span, Option<Lemons>)| {
            Some(Cause {
                name: name.to_owned(),
                part,
                between: between.filter(|_| known)?,
                law: Law::Exponential,
                repair: Durations::Fixed(repair),
                effect: Effect::Down,
                lemons,
            })
        };
        let (rack, block) = (self.together.rack, self.together.block);
        let sites = Sites { nodes, rack, feed: block, switch: block };
        let failures = Failures::new(sites, causes.into_iter().filter_map(cause).collect(), None, seed)?;
        Ok(Faults::new(failures, self.spares.clone()))
    }
}

/// Outages as faults of nodes, in order.
#[derive(Debug)]
pub struct Faults {
    failures: std::iter::Peekable<Failures>,
    sites: Sites,
    spares: Vec<NodeId>,
    /// Ends of outages that have begun.
    ends: BinaryHeap<Reverse<(SimTime, u32)>>,
    /// Outages of each node.
    down: Vec<u32>,
    ready: std::collections::VecDeque<Fault>,
}

impl Faults {
    /// `failures`, after which nodes of `spares` (in order) are spares again. What only slows nodes is left out.
    pub fn new(failures: Failures, spares: Vec<NodeId>) -> Self {
        let sites = failures.sites();
        Self {
            failures: failures.peekable(),
            sites,
            spares,
            ends: BinaryHeap::new(),
            down: vec![0; usize::try_from(sites.nodes).unwrap_or(0)],
            ready: std::collections::VecDeque::new(),
        }
    }

    fn begin(&mut self, outage: Outage) {
        match outage.effect {
            Effect::Down => {}
            Effect::Slow { .. } => return,
        }
        for node in self.sites.nodes(outage.scope) {
            let Some(count) = usize::try_from(node).ok().and_then(|at| self.down.get_mut(at)) else { continue };
            *count += 1;
            if *count == 1 {
                self.ready.push_back(Fault { at: outage.at, node: NodeId(node), service: Service::Down });
            }
            self.ends.push(Reverse((outage.until, node)));
        }
    }
}

impl Iterator for Faults {
    type Item = Fault;

    fn next(&mut self) -> Option<Fault> {
        loop {
            if let Some(fault) = self.ready.pop_front() {
                return Some(fault);
            }
            let end = self.ends.peek().map(|Reverse((at, _))| *at);
            let begin = self.failures.peek().map(|outage| outage.at);
            if end.is_some_and(|end| begin.is_none_or(|begin| end <= begin)) {
                let Reverse((at, node)) = self.ends.pop()?;
                let Some(count) = usize::try_from(node).ok().and_then(|place| self.down.get_mut(place)) else {
                    continue;
                };
                *count -= 1;
                if *count == 0 {
                    let node = NodeId(node);
                    let service = if self.spares.contains(&node) { Service::Spare } else { Service::Up };
                    return Some(Fault { at, node, service });
                }
            } else {
                let outage = self.failures.next()?;
                self.begin(outage);
            }
        }
    }
}
