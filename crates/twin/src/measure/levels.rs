//! What is there at a moment, summed over time.

use dh_core::time::{SimTime, Span};

use super::facts::Window;

/// A level that is summed over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// Thousandths of accelerators of nodes that are up.
    Up,
    /// Of nodes that are down.
    Down,
    /// Of nodes that are asleep.
    Asleep,
    /// That gangs hold.
    Held,
    /// That are free and that the expected mix of jobs cannot use.
    Fragmented,
    /// Jobs that wait.
    Pending,
    /// Thousandths of accelerators that they ask for.
    Wanted,
}

const LEVELS: usize = 7;

/// All levels and their sums over the time that counts.
#[derive(Debug, Clone)]
pub(crate) struct Levels {
    window: Window,
    now: SimTime,
    value: [u64; LEVELS],
    sum: [u128; LEVELS],
    most: [u64; LEVELS],
    /// Time that counted so far.
    spent: u64,
}

impl Levels {
    pub(crate) const fn new(window: Window) -> Self {
        Self { window, now: SimTime(0), value: [0; LEVELS], sum: [0; LEVELS], most: [0; LEVELS], spent: 0 }
    }

    /// Time goes on to `now`; gives the part of what went by that counts. Time does not go back.
    pub(crate) fn advance(&mut self, now: SimTime) -> (SimTime, SimTime) {
        let (from, to) = self.window.clip(self.now, now.max(self.now));
        self.now = now.max(self.now);
        let Span(length) = to.since(from);
        if length > 0 {
            self.spent += length;
            for ((sum, most), value) in self.sum.iter_mut().zip(&mut self.most).zip(&self.value) {
                *sum += u128::from(*value) * u128::from(length);
                *most = (*most).max(*value);
            }
        }
        (from, to)
    }

    fn at(&mut self, level: Level) -> Option<&mut u64> {
        self.value.get_mut(level as usize)
    }

    pub(crate) fn set(&mut self, level: Level, value: u64) {
        if let Some(held) = self.at(level) {
            *held = value;
        }
    }

    pub(crate) fn raise(&mut self, level: Level, by: u64) {
        if let Some(held) = self.at(level) {
            *held += by;
        }
    }

    pub(crate) fn lower(&mut self, level: Level, by: u64) {
        if let Some(held) = self.at(level) {
            *held = held.saturating_sub(by);
        }
    }

    /// The level summed over the time that counted, in its unit times nanoseconds.
    pub(crate) fn sum(&self, level: Level) -> u128 {
        self.sum.get(level as usize).copied().unwrap_or(0)
    }

    /// The highest that it was for any time that counted.
    pub(crate) fn most(&self, level: Level) -> u64 {
        self.most.get(level as usize).copied().unwrap_or(0)
    }

    /// Time that counted.
    pub(crate) const fn spent(&self) -> Span {
        Span(self.spent)
    }
}
