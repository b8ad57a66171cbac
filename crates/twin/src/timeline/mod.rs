//! A run as a picture: levels over time, marks, and what each node did, in memory that is bounded however long it is.
//!
//! Time is cut in equal steps; when there are too many, each two become one, so that at least half of them are in use.
//! Invariant: at most [`POINTS`] points a series and [`COLUMNS`] x [`ROWS`] cells; least, mean and largest of a merged step
//! are those of its parts, so how often it was merged cannot be seen. Cost: O(1) a call besides steps that go by.

mod series;
mod strips;

pub use series::{Mark, Marks, POINTS, Point, Points, Series};
pub use strips::{COLUMNS, Colour, Filled, Nodes, ROWS, Row, Stay, Strips, What};

use dh_core::time::{SimTime, Span};
use serde::Serialize;

use series::Sampler;
use strips::Sheet;

/// Told what happens while it happens.
#[derive(Debug, Clone)]
pub struct Timeline {
    sampler: Sampler,
    sheet: Option<Sheet>,
}

impl Timeline {
    /// From `start` on; with a strip for each of `nodes`, or for groups of them, if they are given.
    pub fn new(start: SimTime, nodes: Option<Nodes>) -> Self {
        Self { sampler: Sampler::new(start), sheet: nodes.map(|nodes| Sheet::new(start, nodes)) }
    }

    /// `series` is `value` from `now` on. Calls come in the order of time.
    pub fn set(&mut self, now: SimTime, series: Series, value: u64) {
        self.sampler.set(now, series, value);
    }

    /// Something happened at `now`.
    pub fn mark(&mut self, now: SimTime, mark: Mark) {
        self.sampler.mark(now, mark);
    }

    /// A node was in use, down or asleep, told when that is over. In any order.
    pub fn stayed(&mut self, stay: Stay) {
        if let Some(sheet) = &mut self.sheet {
            sheet.stayed(stay);
        }
    }

    /// The picture, at the end of the run.
    #[must_use]
    pub fn finish(mut self, now: SimTime) -> Chart {
        self.sampler.advance(now);
        let end = self.sampler.now();
        Chart {
            start: self.sampler.start(),
            end,
            step: self.sampler.step(),
            series: self.sampler.points(),
            marks: self.sampler.marks(),
            strips: self.sheet.map(|sheet| sheet.strips(end)),
        }
    }
}

/// What is drawn.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Chart {
    /// Where time begins.
    pub start: SimTime,
    /// Where it ends.
    pub end: SimTime,
    /// Time of a point, in nanoseconds; the last may be shorter.
    pub step: Span,
    /// Series that were told, in their order.
    pub series: Vec<Points>,
    /// Marks by step.
    pub marks: Vec<Marks>,
    /// What nodes did.
    pub strips: Option<Strips>,
}
