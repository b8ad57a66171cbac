//! What nodes did: a strip of cells for each node, or for each group of racks where there are many.
//!
//! A cell knows how much of it was in use, down and asleep, and who used it most: the majority vote of Boyer and Moore 1981
//! with weights, which finds whoever has more than half of what is used, and keeps 8 bytes for that.

use dh_core::time::{SimTime, Span};
use serde::Serialize;

/// Strips, at most.
pub const ROWS: usize = 200;

/// Cells of a strip, at most.
pub const COLUMNS: usize = 320;

/// The first step: 1 ms.
const FINEST: u64 = 1_000_000;

/// What tells users of nodes apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Colour {
    /// The number of the queue.
    Queue,
    /// The number of the job.
    Job,
}

/// The nodes that are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nodes {
    /// How many.
    pub nodes: u32,
    /// Neighbours that are drawn together where there are more than [`ROWS`].
    pub nodes_per_rack: u32,
    /// Accelerators of a node, in thousandths.
    pub milli: u64,
    /// What the keys of [`What::Work`] are.
    pub colour: Colour,
}

/// What a node did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// It worked for this queue or job.
    Work(u64),
    /// It was down.
    Down,
    /// It was asleep.
    Asleep,
}

/// Some time of some accelerators of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stay {
    /// The node, counted from 0.
    pub node: u32,
    /// What it did.
    pub what: What,
    /// With how many of its accelerators, in thousandths.
    pub milli: u64,
    /// From when.
    pub from: SimTime,
    /// Until when.
    pub to: SimTime,
}

/// A cell of a strip, in percent of what its accelerators could have done in its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Filled {
    /// In use.
    pub used_pct: u8,
    /// Down.
    pub down_pct: u8,
    /// Asleep.
    pub asleep_pct: u8,
    /// Who used more of it than all others together, if anybody did; else one of the larger.
    pub most: Option<u64>,
}

/// A strip.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Its first node.
    pub first: u32,
    /// How many nodes it stands for.
    pub nodes: u32,
    /// Its cells.
    pub cells: Vec<Filled>,
}

/// All strips.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Strips {
    /// Time of a cell; the last may be shorter.
    pub step: Span,
    /// What tells users apart.
    pub colour: Colour,
    /// From the first node to the last.
    pub rows: Vec<Row>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    used: u128,
    down: u128,
    asleep: u128,
    most: u64,
    votes: u128,
}

impl Cell {
    fn vote(&mut self, who: u64, weight: u128) {
        if self.most == who || self.votes == 0 {
            self.most = who;
            self.votes += weight;
        } else if self.votes >= weight {
            self.votes -= weight;
        } else {
            self.votes = weight - self.votes;
            self.most = who;
        }
    }

    fn add(&mut self, what: What, weight: u128) {
        match what {
            What::Work(who) => {
                self.used += weight;
                self.vote(who, weight);
            }
            What::Down => self.down += weight,
            What::Asleep => self.asleep += weight,
        }
    }

    fn merge(&mut self, other: &Self) {
        self.used += other.used;
        self.down += other.down;
        self.asleep += other.asleep;
        if other.votes > 0 {
            self.vote(other.most, other.votes);
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Sheet {
    start: SimTime,
    nodes: Nodes,
    per_row: u32,
    step: u64,
    rows: Vec<Vec<Cell>>,
}

impl Sheet {
    pub(crate) fn new(start: SimTime, nodes: Nodes) -> Self {
        let most = u32::try_from(ROWS).unwrap_or(u32::MAX);
        let per_row = if nodes.nodes <= most {
            1
        } else {
            // Whole racks, as few as leave no more than the rows there may be.
            let rack = nodes.nodes_per_rack.max(1);
            rack * nodes.nodes.div_ceil(rack).div_ceil(most)
        };
        let rows = usize::try_from(nodes.nodes.div_ceil(per_row)).unwrap_or(0);
        Self { start, nodes, per_row, step: FINEST, rows: vec![Vec::new(); rows] }
    }

    pub(crate) fn stayed(&mut self, stay: Stay) {
        let (mut at, to) = (stay.from.since(self.start).0, stay.to.since(self.start).0);
        let row = usize::try_from(stay.node / self.per_row).unwrap_or(usize::MAX);
        if at >= to || row >= self.rows.len() {
            return;
        }
        let columns = u64::try_from(COLUMNS).unwrap_or(u64::MAX);
        while (to - 1) / self.step >= columns {
            self.halve();
        }
        let Some(cells) = self.rows.get_mut(row) else { return };
        while at < to {
            let place = usize::try_from(at / self.step).unwrap_or(usize::MAX);
            let end = (at / self.step + 1).saturating_mul(self.step).min(to);
            if place >= cells.len() {
                cells.resize(place + 1, Cell::default());
            }
            if let Some(cell) = cells.get_mut(place) {
                cell.add(stay.what, u128::from(stay.milli) * u128::from(end - at));
            }
            at = end;
        }
    }

    fn halve(&mut self) {
        for cells in &mut self.rows {
            let merged = cells.chunks(2).map(|pair| {
                let mut cell = Cell::default();
                for part in pair {
                    cell.merge(part);
                }
                cell
            });
            *cells = merged.collect();
        }
        self.step = self.step.saturating_mul(2);
    }

    pub(crate) fn strips(mut self, end: SimTime) -> Strips {
        let length = end.since(self.start).0;
        let columns = u64::try_from(COLUMNS).unwrap_or(u64::MAX);
        while length.saturating_sub(1) / self.step >= columns {
            self.halve();
        }
        let places = usize::try_from(length.div_ceil(self.step)).unwrap_or(0).min(COLUMNS);
        let (mut first, mut rows) = (0, Vec::with_capacity(self.rows.len()));
        for mut cells in self.rows {
            let nodes = self.per_row.min(self.nodes.nodes - first);
            cells.resize(places, Cell::default());
            let whole = u128::from(self.nodes.milli) * u128::from(nodes);
            let filled = cells.iter().enumerate().map(|(place, cell)| {
                let from = u64::try_from(place).unwrap_or(u64::MAX).saturating_mul(self.step);
                let time = self.step.min(length.saturating_sub(from));
                let percent = |part: u128| {
                    let share = (part * 100).div_ceil((whole * u128::from(time)).max(1)).min(100);
                    u8::try_from(share).unwrap_or(100)
                };
                Filled {
                    used_pct: percent(cell.used),
                    down_pct: percent(cell.down),
                    asleep_pct: percent(cell.asleep),
                    most: (cell.used > 0).then_some(cell.most),
                }
            });
            rows.push(Row { first, nodes, cells: filled.collect() });
            first += nodes;
        }
        Strips { step: Span(self.step), colour: self.nodes.colour, rows }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    fn nodes(nodes: u32) -> Nodes {
        Nodes { nodes, nodes_per_rack: 4, milli: 8_000, colour: Colour::Job }
    }

    #[test]
    fn cells_hold_what_a_second_look_finds() {
        for seed in 0..40 {
            let mut stream = Stream::new(seed);
            let mut sheet = Sheet::new(SimTime(9), nodes(3));
            let mut stays = Vec::new();
            for _ in 0..60 {
                let from = 9 + (stream.next() % 4_000_000_000);
                let to = from + stream.next() % 3_000_000_000;
                let what = match stream.next() % 5 {
                    0 => What::Down,
                    1 => What::Asleep,
                    who => What::Work(who),
                };
                let node = u32::try_from(stream.next() % 3).unwrap();
                let stay = Stay { node, what, milli: 100, from: SimTime(from), to: SimTime(to) };
                sheet.stayed(stay);
                stays.push(stay);
            }
            let end = 8_000_000_000;
            let strips = sheet.strips(SimTime(end));
            assert_eq!(strips.rows.len(), 3);
            for (node, row) in strips.rows.iter().enumerate() {
                assert!(row.cells.len() <= COLUMNS && row.cells.len() > COLUMNS / 2);
                for (place, cell) in row.cells.iter().enumerate() {
                    let from = 9 + strips.step.0 * u64::try_from(place).unwrap();
                    let to = (from + strips.step.0).min(end);
                    let part = |what: What| {
                        let of = stays.iter().filter(|stay| usize::try_from(stay.node).unwrap() == node);
                        let of = of.filter(|stay| stay.what == what);
                        of.map(|stay| u128::from(stay.to.0.min(to).saturating_sub(stay.from.0.max(from)))).sum::<u128>()
                    };
                    let work = [2, 3, 4].map(|who| part(What::Work(who)));
                    let used: u128 = work.iter().sum();
                    let percent = |part: u128| (part * 10_000).div_ceil(8_000 * u128::from(to - from)).min(100);
                    assert_eq!(u128::from(cell.used_pct), percent(used), "{seed} {node} {place}");
                    assert_eq!(u128::from(cell.down_pct), percent(part(What::Down)));
                    assert_eq!(u128::from(cell.asleep_pct), percent(part(What::Asleep)));
                    if let Some(major) = work.iter().position(|time| time * 2 > used) {
                        assert_eq!(cell.most, Some(u64::try_from(major).unwrap() + 2));
                    }
                    assert_eq!(cell.most.is_some(), used > 0);
                }
            }
        }
    }

    #[test]
    fn many_nodes_share_strips_by_whole_racks() {
        for (count, per_row, rows) in [(200, 1, 200), (201, 4, 51), (800, 4, 200), (801, 8, 101), (12_500, 64, 196)] {
            let strips = Sheet::new(SimTime(0), nodes(count)).strips(SimTime(1_000));
            assert_eq!((strips.rows.len(), strips.rows[0].nodes), (rows, per_row), "{count}");
            assert_eq!(strips.rows.iter().map(|row| row.nodes).sum::<u32>(), count);
        }
    }
}
