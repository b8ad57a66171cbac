//! The one who is told.

use dh_core::time::{SimTime, Span};

use super::breakdown::{Breakdown, Inside, QUEUES_MAX, size, size_name};
use super::energy::{Meter, Power, Tariff, seconds};
use super::facts::{Cause, End, Fate, JobFacts, NodeChange, NodeState, Pending, Start, Stop, Window};
use super::levels::{Level, Levels};
use super::outcome::{
    AcceleratorHours, Bar, Cost, Energy, Fairness, Jobs, MILLIONTHS, Outcome, PendingJobs, Ratios, Stops, Times, hours,
    ratio,
};
use super::sketch::Sketch;

/// A job shorter than this is taken as this long where slowdown is counted. Source: Feitelson et al. 1997.
const SHORT: Span = Span::from_secs(10);

/// Bars of a histogram begin here: 2^30 ns, 1.07 s.
const BARS_FROM: u64 = 1 << 30;

/// What is known before a run.
#[derive(Debug, Clone, Default)]
pub struct Setup<'a> {
    /// Names of queues; [`JobFacts::queue`] is a place in this list.
    pub queues: Vec<String>,
    /// What counts.
    pub window: Window,
    /// What energy and time cost.
    pub tariff: Tariff<'a>,
}

/// Measures of one run. Calls come in the order of time.
#[derive(Debug, Clone)]
pub struct Measures<'a> {
    queues: Vec<String>,
    window: Window,
    levels: Levels,
    meter: Meter<'a>,
    jobs: Jobs,
    stops: Stops,
    jct: Sketch,
    queueing: Sketch,
    slowdown: Sketch,
    fairness: Sketch,
    unfair: u64,
    /// Waiting of jobs that started, over all attempts.
    waited: u128,
    kept: u128,
    lost: u128,
    checkpoints: u128,
    settled: u128,
    by_queue: Breakdown,
    by_size: Breakdown,
    first_submit: Option<SimTime>,
    last_end: SimTime,
    fragmentation_known: bool,
}

impl<'a> Measures<'a> {
    /// Before the first event.
    pub fn new(setup: Setup<'a>) -> Self {
        Self {
            queues: setup.queues,
            window: setup.window,
            levels: Levels::new(setup.window),
            meter: Meter::new(setup.tariff),
            jobs: Jobs::default(),
            stops: Stops::default(),
            jct: Sketch::default(),
            queueing: Sketch::default(),
            slowdown: Sketch::default(),
            fairness: Sketch::default(),
            unfair: 0,
            waited: 0,
            kept: 0,
            lost: 0,
            checkpoints: 0,
            settled: 0,
            by_queue: Breakdown::default(),
            by_size: Breakdown::default(),
            first_submit: None,
            last_end: SimTime(0),
            fragmentation_known: false,
        }
    }

    fn advance(&mut self, now: SimTime) {
        let passed = self.levels.advance(now);
        self.meter.advance(passed);
    }

    /// A node goes from one state to another.
    pub fn node_changed(&mut self, now: SimTime, change: NodeChange) {
        self.advance(now);
        let level = |state: NodeState| match state {
            NodeState::Absent => None,
            NodeState::Up => Some(Level::Up),
            NodeState::Down => Some(Level::Down),
            NodeState::Asleep => Some(Level::Asleep),
        };
        if let Some(level) = level(change.from) {
            self.levels.lower(level, change.milli);
        }
        if let Some(level) = level(change.to) {
            self.levels.raise(level, change.milli);
        }
    }

    /// What is drawn from now on.
    pub fn power(&mut self, now: SimTime, power: Power) {
        self.advance(now);
        self.meter.set(power);
    }

    /// What waits from now on.
    pub fn pending(&mut self, now: SimTime, pending: Pending) {
        self.advance(now);
        self.levels.set(Level::Pending, pending.jobs);
        self.levels.set(Level::Wanted, pending.milli);
    }

    /// Thousandths of accelerators that from now on are free and of no use to the expected mix of jobs.
    pub fn fragmented(&mut self, now: SimTime, milli: u64) {
        self.advance(now);
        self.fragmentation_known = true;
        self.levels.set(Level::Fragmented, milli);
    }

    /// A job comes.
    pub fn submitted(&mut self, now: SimTime, job: &JobFacts) {
        self.advance(now);
        if self.window.holds(job.submit) {
            self.jobs.submitted += 1;
            self.first_submit = Some(self.first_submit.map_or(job.submit, |first| first.min(job.submit)));
        }
    }

    /// A gang begins to hold its accelerators.
    pub fn started(&mut self, now: SimTime, job: &JobFacts, start: Start) {
        self.advance(now);
        self.levels.raise(Level::Held, job.milli);
        if start.attempt > 1 && self.window.holds(now) {
            self.stops.restarts += 1;
        }
        if !self.window.holds(job.submit) {
            return;
        }
        self.waited += u128::from(start.waited.0);
        if start.attempt <= 1 {
            self.jobs.started += 1;
            self.queueing.add(start.waited.0);
            for tally in [self.by_queue.at(job.queue), self.by_size.at(size(job.milli))].into_iter().flatten() {
                tally.queueing.add(start.waited.0);
            }
        }
    }

    /// Thousandths of accelerators that running gangs hold together become more or fewer: some came to share what others have.
    pub fn reshared(&mut self, now: SimTime, before: u64, after: u64) {
        self.advance(now);
        self.levels.raise(Level::Held, after);
        self.levels.lower(Level::Held, before);
    }

    /// A gang ceases to hold its accelerators. The caller stops every gang, at the latest at the end of the run.
    pub fn stopped(&mut self, now: SimTime, job: &JobFacts, stop: Stop) {
        self.advance(now);
        self.levels.lower(Level::Held, job.milli);
        let (from, to) = self.window.clip(stop.since, now);
        let inside = Inside::share(now.since(stop.since), to.since(from), &stop);
        let of = |time: u64| u128::from(time) * u128::from(job.milli);
        self.settled += of(inside.held);
        self.kept += of(inside.kept);
        self.lost += of(inside.lost);
        self.checkpoints += of(inside.checkpoints);
        let preempted = u64::from(stop.cause == Cause::Preempted && self.window.holds(now));
        self.stops.preemptions += preempted;
        self.stops.evictions += u64::from(stop.cause == Cause::Evicted && self.window.holds(now));
        for tally in [self.by_queue.at(job.queue), self.by_size.at(size(job.milli))].into_iter().flatten() {
            tally.held += of(inside.held);
            tally.kept += of(inside.kept);
            tally.preemptions += preempted;
        }
    }

    /// A job is over. Its gang, if it had one, was stopped before.
    pub fn ended(&mut self, now: SimTime, job: &JobFacts, end: End) {
        self.advance(now);
        if !self.window.holds(job.submit) {
            return;
        }
        *match end.fate {
            Fate::Completed => &mut self.jobs.completed,
            Fate::Failed => &mut self.jobs.failed,
            Fate::Cancelled => &mut self.jobs.cancelled,
            Fate::Rejected => &mut self.jobs.rejected,
            Fate::Unfinished => &mut self.jobs.unfinished,
        } += 1;
        if end.fate == Fate::Unfinished || end.first_start.is_none() {
            return;
        }
        self.last_end = self.last_end.max(now);
        let jct = now.since(job.submit);
        self.jct.add(jct.0);
        self.slowdown.add(millionths(jct, job.length.max(SHORT)).max(MILLIONTHS));
        if let Some(alone) = end.alone.filter(|alone| alone.0 > 0) {
            self.fairness.add(millionths(jct, alone));
            self.unfair += u64::from(jct > alone);
        }
        for tally in [self.by_queue.at(job.queue), self.by_size.at(size(job.milli))].into_iter().flatten() {
            tally.ended += 1;
            tally.jct.add(jct.0);
        }
    }

    /// What it came to, at the end of the run.
    #[must_use]
    pub fn finish(mut self, now: SimTime) -> Outcome {
        self.advance(now);
        let spent = self.levels.spent();
        let sum = |level| self.levels.sum(level);
        let (up, down, asleep, held) = (sum(Level::Up), sum(Level::Down), sum(Level::Asleep), sum(Level::Held));
        let (in_service, installed) = (up + asleep, up + asleep + down);
        let over_time = |level| ratio(sum(level), u128::from(spent.0)).unwrap_or(0.0);
        let queue = |place: usize| match self.queues.get(place) {
            Some(name) if place < QUEUES_MAX => name.clone(),
            _ => "all others".to_owned(),
        };
        Outcome {
            counted_s: seconds(spent).0,
            sleep: None,
            jobs: self.jobs,
            jct: Times::of(&self.jct),
            queueing: Times::of(&self.queueing),
            waiting_mean_s: ratio(self.waited, u128::from(self.queueing.count())).map(|ns| ns / 1e9),
            makespan_s: self.first_submit.map_or(0.0, |first| seconds(self.last_end.since(first)).0),
            slowdown: Ratios::of(&self.slowdown),
            fairness: Ratios::of(&self.fairness).and_then(|fairness| {
                let unfair_share = ratio(u128::from(self.unfair), u128::from(fairness.count))?;
                Some(Fairness { ratio: fairness, unfair_share })
            }),
            utilisation: ratio(self.kept + self.lost, in_service),
            allocation: ratio(held, installed),
            fragmentation: ratio(sum(Level::Fragmented), installed).filter(|_| self.fragmentation_known),
            goodput: ratio(self.kept, in_service),
            ettr: ratio(self.kept, self.settled),
            accelerator_hours: AcceleratorHours {
                installed: hours(installed),
                in_service: hours(in_service),
                down: hours(down),
                asleep: hours(asleep),
                held: hours(held),
                useful: hours(self.kept),
                lost: hours(self.lost),
                checkpoints: hours(self.checkpoints),
                starting: hours(self.settled.saturating_sub(self.kept + self.lost + self.checkpoints)),
                idle: hours(up.saturating_sub(held)),
            },
            stops: self.stops,
            pending: PendingJobs {
                mean: over_time(Level::Pending),
                max: self.levels.most(Level::Pending),
                accelerators_mean: over_time(Level::Wanted) / 1_000.0,
            },
            locality: Vec::new(),
            energy: self.energy(),
            cost: self.cost(spent),
            queues: self.by_queue.groups(queue),
            sizes: self.by_size.groups(size_name),
            jct_histogram: bars(&self.jct),
            queueing_histogram: bars(&self.queueing),
        }
    }

    fn energy(&self) -> Option<Energy> {
        let meter = &self.meter;
        let useful = hours(self.kept);
        meter.known().then(|| Energy {
            it_mwh: meter.it.kwh() / 1_000.0,
            facility_mwh: meter.facility.kwh() / 1_000.0,
            saved_mwh: meter.saved.kwh() / 1_000.0,
            pue: (meter.it.0 > 0.0).then(|| meter.facility / meter.it),
            peak_kw: meter.peak.0 / 1_000.0,
            carbon_kg: meter.tariff.carbon.map(|_| meter.carbon_g / 1_000.0),
            kwh_per_useful_accelerator_hour: (useful > 0.0).then(|| meter.facility.kwh() / useful),
        })
    }

    fn cost(&self, spent: Span) -> Option<Cost> {
        let meter = &self.meter;
        let energy_usd = meter.tariff.price.filter(|_| meter.known()).map(|_| meter.energy_usd);
        let capital_usd = meter.tariff.capital.map(|capital| (capital * seconds(spent)).0);
        let total_usd = energy_usd.unwrap_or(0.0) + capital_usd.unwrap_or(0.0);
        let useful = hours(self.kept);
        (energy_usd.is_some() || capital_usd.is_some()).then(|| Cost {
            energy_usd,
            capital_usd,
            total_usd,
            usd_per_useful_accelerator_hour: (useful > 0.0).then(|| total_usd / useful),
        })
    }
}

/// `part` over `whole` in millionths.
fn millionths(part: Span, whole: Span) -> u64 {
    if let Some(scaled) = part.0.checked_mul(MILLIONTHS) {
        return scaled / whole.0.max(1);
    }
    let ratio = u128::from(part.0) * u128::from(MILLIONTHS) / u128::from(whole.0.max(1));
    u64::try_from(ratio).unwrap_or(u64::MAX)
}

fn bars(sketch: &Sketch) -> Vec<Bar> {
    let bar = |(from, to, jobs)| Bar { from_s: seconds(Span(from)).0, to_s: seconds(Span(to)).0, jobs };
    sketch.bars(BARS_FROM).into_iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_of_spans_is_in_millionths() {
        assert_eq!(millionths(Span(3), Span(2)), 1_500_000);
        assert_eq!(millionths(Span(u64::MAX), Span(0)), u64::MAX);
    }
}
