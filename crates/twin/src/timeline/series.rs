//! Levels over time: least, mean and largest of each step.

use dh_core::time::{SimTime, Span};
use serde::Serialize;

/// Points of a series, at most.
pub const POINTS: usize = 2_000;

/// The first step: 1 ms. It doubles as the run goes on.
const FINEST: u64 = 1_000_000;

/// A level that is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Series {
    /// Thousandths of accelerators that gangs hold.
    HeldMilli,
    /// That are free on nodes that are up.
    FreeMilli,
    /// On nodes that are asleep.
    AsleepMilli,
    /// On nodes that are down.
    DownMilli,
    /// That are free and of no use to the expected mix of jobs.
    FragmentedMilli,
    /// Jobs that run.
    RunningJobs,
    /// Jobs that wait.
    PendingJobs,
    /// Power of machines and networks, in watts.
    ItWatts,
    /// Power of the whole hall, in watts.
    FacilityWatts,
}

impl Series {
    /// All, in the order of their numbers.
    pub(crate) const ALL: [Self; 9] = [
        Self::HeldMilli,
        Self::FreeMilli,
        Self::AsleepMilli,
        Self::DownMilli,
        Self::FragmentedMilli,
        Self::RunningJobs,
        Self::PendingJobs,
        Self::ItWatts,
        Self::FacilityWatts,
    ];
}

/// Something that happens at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// A node, a link or a switch failed.
    Failure,
    /// A gang made way for another.
    Preemption,
    /// A job failed by itself.
    JobFailure,
}

impl Mark {
    const ALL: [Self; 3] = [Self::Failure, Self::Preemption, Self::JobFailure];
}

/// A step of a series.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Point {
    /// The least that it was for any time.
    pub least: u64,
    /// Its mean over the time of the step.
    pub mean: f64,
    /// The most.
    pub most: u64,
}

/// A series.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Points {
    /// Which.
    pub series: Series,
    /// Its steps.
    pub points: Vec<Point>,
}

/// How often something happened in each step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Marks {
    /// What.
    pub mark: Mark,
    /// How often, by step.
    pub counts: Vec<u64>,
}

const SERIES: usize = Series::ALL.len();
const MARKS: usize = Mark::ALL.len();

#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    least: u64,
    most: u64,
    sum: u128,
}

/// All series in one step.
#[derive(Debug, Clone, Copy, Default)]
struct Step {
    /// Time that it covers.
    time: u64,
    cells: [Cell; SERIES],
    marks: [u64; MARKS],
}

impl Step {
    fn add(&mut self, time: u64, values: &[u64; SERIES]) {
        for (cell, value) in self.cells.iter_mut().zip(values) {
            cell.least = if self.time == 0 { *value } else { cell.least.min(*value) };
            cell.most = cell.most.max(*value);
            cell.sum += u128::from(*value) * u128::from(time);
        }
        self.time += time;
    }

    fn merge(&mut self, other: &Self) {
        for (mark, more) in self.marks.iter_mut().zip(&other.marks) {
            *mark += more;
        }
        if other.time == 0 {
            return;
        }
        for (cell, other) in self.cells.iter_mut().zip(&other.cells) {
            cell.least = if self.time == 0 { other.least } else { cell.least.min(other.least) };
            cell.most = cell.most.max(other.most);
            cell.sum += other.sum;
        }
        self.time += other.time;
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Sampler {
    start: SimTime,
    now: u64,
    step: u64,
    values: [u64; SERIES],
    known: [bool; SERIES],
    steps: Vec<Step>,
}

impl Sampler {
    pub(crate) fn new(start: SimTime) -> Self {
        Self { start, now: 0, step: FINEST, values: [0; SERIES], known: [false; SERIES], steps: Vec::new() }
    }

    pub(crate) fn set(&mut self, now: SimTime, series: Series, value: u64) {
        self.advance(now);
        let place = series as usize;
        if let (Some(held), Some(known)) = (self.values.get_mut(place), self.known.get_mut(place)) {
            *held = value;
            *known = true;
        }
    }

    pub(crate) fn mark(&mut self, now: SimTime, mark: Mark) {
        self.advance(now);
        let place = self.place(self.now);
        if let Some(count) = self.steps.get_mut(place).and_then(|step| step.marks.get_mut(mark as usize)) {
            *count += 1;
        }
    }

    /// Time goes on to `now`; it does not go back.
    pub(crate) fn advance(&mut self, now: SimTime) {
        let until = now.since(self.start).0.max(self.now);
        while self.now < until {
            let end = (self.now / self.step + 1).saturating_mul(self.step).min(until);
            let place = self.place(self.now);
            // Making room for the step may have made it longer.
            let end = end.max((self.now / self.step + 1).saturating_mul(self.step).min(until));
            let time = end - self.now;
            let values = self.values;
            if let Some(step) = self.steps.get_mut(place) {
                step.add(time, &values);
            }
            self.now = end;
        }
    }

    /// The step that holds `at`, which is there afterwards.
    fn place(&mut self, at: u64) -> usize {
        loop {
            match usize::try_from(at / self.step) {
                Ok(place) if place < POINTS => {
                    if place >= self.steps.len() {
                        self.steps.resize(place + 1, Step::default());
                    }
                    return place;
                }
                Ok(_) | Err(_) => self.halve(),
            }
        }
    }

    fn halve(&mut self) {
        let merged = self.steps.chunks(2).map(|pair| {
            let mut step = Step::default();
            for part in pair {
                step.merge(part);
            }
            step
        });
        self.steps = merged.collect();
        self.step = self.step.saturating_mul(2);
    }

    pub(crate) const fn start(&self) -> SimTime {
        self.start
    }

    pub(crate) const fn now(&self) -> SimTime {
        self.start.after(Span(self.now))
    }

    pub(crate) const fn step(&self) -> Span {
        Span(self.step)
    }

    pub(crate) fn points(&self) -> Vec<Points> {
        let of = |place: usize| {
            let point = |step: &Step| {
                let Cell { least, most, sum } = step.cells.get(place).copied().unwrap_or_default();
                Point { least, mean: mean(sum, step.time), most }
            };
            self.steps.iter().filter(|step| step.time > 0).map(point).collect()
        };
        let known = Series::ALL.iter().zip(&self.known).enumerate().filter(|(_, (_, known))| **known);
        known.map(|(place, (series, _))| Points { series: *series, points: of(place) }).collect()
    }

    pub(crate) fn marks(&self) -> Vec<Marks> {
        let of = |place: usize| self.steps.iter().map(|step| step.marks.get(place).copied().unwrap_or(0)).collect();
        let all = Mark::ALL.iter().enumerate().map(|(place, mark)| Marks { mark: *mark, counts: of(place) });
        all.filter(|marks: &Marks| marks.counts.iter().any(|count| *count > 0)).collect()
    }
}

#[expect(clippy::cast_precision_loss, reason = "what is drawn has 15 digits")]
fn mean(sum: u128, time: u64) -> f64 {
    sum as f64 / time.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    #[test]
    fn steps_hold_what_a_second_look_finds() {
        for seed in 0..30 {
            let mut stream = Stream::new(seed);
            let mut sampler = Sampler::new(SimTime(5));
            // Changes of one level: when, to what. Some stretches are long, so that steps are merged many times.
            let (mut at, mut changes) = (5_u64, Vec::new());
            for _ in 0..400 {
                let value = stream.next() % 1_000;
                sampler.set(SimTime(at), Series::PendingJobs, value);
                changes.push((at, value));
                at += (stream.next() % 1_000_000) << (stream.next() % 16);
            }
            sampler.advance(SimTime(at));
            changes.push((at, 0));
            let step = sampler.step().0;
            let drawn = sampler.points();
            assert_eq!(drawn.len(), 1);
            let points = &drawn[0].points;
            assert!(points.len() <= POINTS && points.len() > POINTS / 2 - 2, "{}", points.len());
            for (place, point) in points.iter().enumerate() {
                let from = 5 + step * u64::try_from(place).unwrap();
                let to = (from + step).min(at);
                let inside = |pair: &&[(u64, u64)]| pair[0].0 < to && pair[1].0 > from && pair[0].0 < pair[1].0;
                let held: Vec<&[(u64, u64)]> = changes.windows(2).filter(inside).collect();
                assert_eq!(point.least, held.iter().map(|pair| pair[0].1).min().unwrap());
                assert_eq!(point.most, held.iter().map(|pair| pair[0].1).max().unwrap());
                let sum: u128 = held
                    .iter()
                    .map(|pair| u128::from(pair[1].0.min(to) - pair[0].0.max(from)) * u128::from(pair[0].1))
                    .sum();
                assert!((point.mean - mean(sum, to - from)).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn marks_are_never_lost() {
        let mut sampler = Sampler::new(SimTime(0));
        for mark in 0..5_000 {
            sampler.mark(SimTime(mark * 777_000_000), Mark::Failure);
        }
        let marks = sampler.marks();
        assert_eq!((marks.len(), marks[0].counts.iter().sum::<u64>()), (1, 5_000));
        assert!(marks[0].counts.len() <= POINTS);
    }

    #[test]
    fn a_year_takes_no_more_room_than_a_second() {
        let mut sampler = Sampler::new(SimTime(0));
        sampler.set(SimTime(1_000_000_000), Series::HeldMilli, 3);
        sampler.set(SimTime(31_536_000_000_000_000), Series::HeldMilli, 9);
        sampler.set(SimTime(u64::MAX), Series::HeldMilli, 9);
        assert!(sampler.steps.len() <= POINTS);
    }
}
