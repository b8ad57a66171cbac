//! A run with failures, event by event, from a seed: the check of the formulas, and what they leave out.
//!
//! A job on all accelerators works, checkpoints after each interval, and goes back to its last checkpoint when anything
//! interrupts it; a restart may be interrupted too. Beyond the formulas: times between interruptions that are Weibull
//! instead of exponential (shapes of 0.7 to 0.8 were fitted to failures of large machines, Schroeder and Gibson, DSN 2006, from
//! memory), whole racks that go down, lemon nodes that fail more often than others until somebody notices, and a reserve of
//! nodes that runs out. Cost: O(interruptions), not O(checkpoints): undisturbed periods are counted, not walked through.

use std::collections::VecDeque;

use dh_units::{Seconds, real, whole};
use serde::{Deserialize, Serialize};

use super::Error;
use super::interval::Costs;
use super::random::Stream;
use super::rates::{Cause, Counting, Population, Rates};

/// The most interruptions that a run may be expected to have: it bounds time and memory of a simulation.
pub const INTERRUPTIONS_MAX: f64 = 1e7;

/// Racks that go down whole, each as one interruption that takes all its nodes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RackLoss {
    /// How many racks there are.
    pub racks: u64,
    /// Nodes in each.
    pub nodes_per_rack: u64,
    /// Mean time between losses of one rack.
    pub mtbf: Seconds,
}

/// Nodes that fail more often than others.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Lemons {
    /// How many there are at the start.
    pub nodes: u64,
    /// How often one fails, as a multiple of an ordinary node's rate; at least 1.
    pub factor: f64,
    /// After how many failures of its own a lemon is found out and replaced by an ordinary node.
    pub found_after: u64,
}

/// Nodes in reserve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Reserve {
    /// How many.
    pub nodes: u64,
    /// How long a lost node is away.
    pub repair: Seconds,
}

/// What is simulated.
#[derive(Debug, Clone, PartialEq)]
pub struct Run<'a> {
    /// How often parts fail.
    pub rates: &'a Rates,
    /// On how many.
    pub hall: Population,
    /// Which interruptions count.
    pub counting: Counting,
    /// How long the run lasts by the clock.
    pub duration: Seconds,
    /// How long a checkpoint stops the work.
    pub checkpoint: Seconds,
    /// Work between two checkpoints.
    pub interval: Seconds,
    /// From an interruption until the work goes on.
    pub restart: Seconds,
    /// Shape of the times between interruptions: 1 is exponential, below 1 they come in bursts.
    pub shape: f64,
    /// Racks that go down whole, if any.
    pub racks: Option<RackLoss>,
    /// Nodes that fail more often, if any.
    pub lemons: Option<Lemons>,
    /// Nodes in reserve; `None` means as many as are needed.
    pub reserve: Option<Reserve>,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Interruptions by component, in the order of the table; then `rack` and `lemon` where these were simulated.
    pub by_component: Vec<(String, u64)>,
    /// All of them.
    pub interruptions: u64,
    /// The share of time that is kept work (ETTR).
    pub ettr: f64,
    /// Nodes that were lost and had to be replaced.
    pub nodes_lost: u64,
    /// Time that the job stood because the reserve was empty.
    pub waited: Seconds,
}

/// Sources of interruptions: each with its rate per second and the nodes that it takes.
struct Sources {
    rates: Vec<f64>,
    nodes: Vec<u64>,
    total: f64,
    /// The place of `lemon` in the lists above, if there are any.
    lemon: Option<usize>,
    /// Failures of each lemon that nobody has found out yet.
    strikes: Vec<u64>,
    /// What one lemon adds to the rate.
    each_lemon: f64,
}

impl Run<'_> {
    /// A run with the best interval, exponential interruptions, no rack losses, no lemons and as many spares as needed.
    pub fn plain<'a>(rates: &'a Rates, hall: Population, duration: Seconds, costs: &Costs) -> Run<'a> {
        Run {
            rates,
            hall,
            counting: Counting::Unexpected,
            duration,
            checkpoint: costs.checkpoint,
            interval: costs.best(),
            restart: costs.restart,
            shape: 1.0,
            racks: None,
            lemons: None,
            reserve: None,
        }
    }

    /// Simulates it; the same seed gives the same outcome.
    /// # Errors
    /// [`Error::BadTime`] or [`Error::BadShape`] for times and shapes that are none; [`Error::TooManyInterruptions`] if more
    /// than [`INTERRUPTIONS_MAX`] are to be expected; [`Error::BadPopulation`] for more lemons than nodes and the like.
    pub fn simulate(&self, seed: u64) -> Result<Outcome, Error> {
        self.check()?;
        let (names, mut sources) = self.sources();
        if sources.total * self.duration.0 > INTERRUPTIONS_MAX {
            return Err(Error::TooManyInterruptions((sources.total * self.duration.0).to_string()));
        }
        let mut stream = Stream::new(seed);
        let mut counts = vec![0_u64; names.len()];
        let mut shelf = Shelf { away: VecDeque::new(), reserve: self.reserve };
        let (mut now, mut kept, mut waited, mut nodes_lost) = (0.0_f64, 0.0_f64, 0.0_f64, 0_u64);
        // The job is up at `up`; before that it restarts or waits for a node.
        let mut up = 0.0_f64;
        loop {
            let wait = if sources.total > 0.0 { stream.weibull(self.shape) / sources.total } else { f64::INFINITY };
            let next = now + wait;
            let end = next.min(self.duration.0);
            kept += self.work(end - up, end < next);
            if next >= self.duration.0 {
                break;
            }
            now = next;
            let (source, nodes) = sources.strike(&mut stream);
            if let Some(count) = counts.get_mut(source) {
                *count += 1;
            }
            nodes_lost += nodes;
            let ready = shelf.take(now, nodes);
            waited += ready.min(self.duration.0) - now;
            up = ready + self.restart.0;
        }
        Ok(Outcome {
            interruptions: counts.iter().sum(),
            by_component: names.into_iter().zip(counts).collect(),
            ettr: kept / self.duration.0,
            nodes_lost,
            waited: Seconds(waited),
        })
    }

    /// Work kept of `time` seconds in which nothing interrupted the job. If the run ends then, the begun interval counts.
    fn work(&self, time: f64, last: bool) -> f64 {
        if time <= 0.0 {
            return 0.0;
        }
        let period = self.interval.0 + self.checkpoint.0;
        let whole_periods = real(whole(time / period));
        let begun = if last { (time - whole_periods * period).clamp(0.0, self.interval.0) } else { 0.0 };
        whole_periods * self.interval.0 + begun
    }

    fn check(&self) -> Result<(), Error> {
        Costs::checked(Seconds(1.0), self.checkpoint, self.restart)?;
        let mut positive = vec![("the duration", self.duration), ("the interval", self.interval)];
        positive.extend(self.racks.map(|racks| ("the mean time between rack losses", racks.mtbf)));
        positive.extend(self.reserve.map(|reserve| ("the time of a repair", reserve.repair)));
        for (name, time) in positive {
            if !(time.0.is_finite() && time.0 > 0.0) {
                return Err(Error::BadTime { name, seconds: time.0.to_string() });
            }
        }
        if !(self.shape.is_finite() && self.shape >= 0.1) {
            return Err(Error::BadShape(self.shape.to_string()));
        }
        if let Some(lemons) = self.lemons
            && !(lemons.factor.is_finite() && lemons.factor >= 1.0 && lemons.nodes <= self.hall.nodes)
        {
            return Err(Error::BadPopulation("lemons are nodes of the hall that fail more often, not less"));
        }
        if let Some(racks) = self.racks
            && racks.racks.checked_mul(racks.nodes_per_rack).is_none_or(|nodes| nodes > self.hall.nodes)
        {
            return Err(Error::BadPopulation("racks hold more nodes than the hall has"));
        }
        Ok(())
    }

    fn sources(&self) -> (Vec<String>, Sources) {
        let mut names = Vec::new();
        let (mut rates, mut nodes) = (Vec::new(), Vec::new());
        let counted = |cause| self.counting == Counting::All || cause == Cause::Unexpected;
        for rate in self.rates.rates.iter().filter(|rate| counted(rate.cause)) {
            names.push(rate.component.clone());
            rates.push(rate.per_unit_second() * real(rate.scope.units(self.hall)));
            nodes.push(u64::from(rate.scope.takes_a_node() && rate.cause == Cause::Unexpected));
        }
        if let Some(racks) = self.racks {
            names.push("rack".to_owned());
            rates.push(real(racks.racks) / racks.mtbf.0);
            nodes.push(racks.nodes_per_rack);
        }
        let mut each_lemon = 0.0;
        let mut strikes = Vec::new();
        if let Some(lemons) = self.lemons {
            let ordinary = self.rates.node_losses_per_second(self.hall) / real(self.hall.nodes.max(1));
            each_lemon = ordinary * (lemons.factor - 1.0);
            strikes.resize(usize::try_from(lemons.nodes).unwrap_or(usize::MAX), lemons.found_after.max(1));
            names.push("lemon".to_owned());
            rates.push(each_lemon * real(lemons.nodes));
            nodes.push(1);
        }
        let lemon = self.lemons.map(|_| rates.len() - 1);
        let total = rates.iter().sum();
        (names, Sources { rates, nodes, total, lemon, strikes, each_lemon })
    }
}

impl Sources {
    /// Chooses what interrupts, by the rates; returns its place and the nodes that it takes.
    fn strike(&mut self, stream: &mut Stream) -> (usize, u64) {
        // In (0, total]: a source of rate 0 is never chosen.
        let mut left = stream.unit() * self.total;
        let mut chosen = 0;
        for (place, rate) in self.rates.iter().enumerate().filter(|(_, rate)| **rate > 0.0) {
            chosen = place;
            if left <= *rate {
                break;
            }
            left -= rate;
        }
        if self.lemon == Some(chosen) {
            self.find_out(stream);
        }
        (chosen, self.nodes.get(chosen).copied().unwrap_or_default())
    }

    /// One lemon, each as likely, has failed once more.
    fn find_out(&mut self, stream: &mut Stream) {
        let lemons = self.strikes.len();
        let which = usize::try_from(whole(stream.unit() * real(lemons as u64))).unwrap_or_default();
        let which = which.min(lemons.saturating_sub(1));
        if let Some(left) = self.strikes.get_mut(which) {
            *left -= 1;
            if *left == 0 {
                self.strikes.swap_remove(which);
                let rate = self.each_lemon * real(self.strikes.len() as u64);
                if let Some(lemon) = self.lemon.and_then(|place| self.rates.get_mut(place)) {
                    *lemon = rate;
                }
                self.total = self.rates.iter().sum();
            }
        }
    }
}

/// The reserve: when its nodes come back. Repairs take equally long, so they end in the order in which they began.
struct Shelf {
    away: VecDeque<f64>,
    reserve: Option<Reserve>,
}

impl Shelf {
    /// Takes `nodes` nodes at `now`, and sends as many to repair; returns when the job has all its nodes again.
    fn take(&mut self, now: f64, nodes: u64) -> f64 {
        let Some(reserve) = self.reserve else { return now };
        while self.away.front().is_some_and(|back| *back <= now) {
            self.away.pop_front();
        }
        for _ in 0..nodes {
            self.away.push_back(now + reserve.repair.0);
        }
        // More are away than were in reserve: the job waits until only that many are.
        let missing = self.away.len().saturating_sub(usize::try_from(reserve.nodes).unwrap_or(usize::MAX));
        missing.checked_sub(1).and_then(|last| self.away.get(last)).map_or(now, |back| back.max(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two in reserve, repairs of 10 s: the third loss waits for the first repair, a rack of three for as many as it lacks.
    #[test]
    fn a_job_waits_for_exactly_the_nodes_that_it_lacks() {
        let reserve = Reserve { nodes: 2, repair: Seconds(10.0) };
        let mut shelf = Shelf { away: VecDeque::new(), reserve: Some(reserve) };
        let ready: Vec<f64> = [(0.0, 1), (1.0, 1), (2.0, 1), (10.5, 0), (11.5, 1), (12.0, 3), (40.0, 2)]
            .into_iter()
            .map(|(now, nodes)| shelf.take(now, nodes))
            .collect();
        let expected = [0.0, 1.0, 10.0, 10.5, 11.5, 22.0, 40.0];
        assert!(ready.iter().zip(expected).all(|(ready, expected)| (ready - expected).abs() < 1e-12), "{ready:?}");
    }
}
