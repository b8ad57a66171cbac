//! Gangs that jobs ask for, each kept once: a million waiting jobs ask for some dozens of different things.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use dh_policy::placement::Misfit;
use serde::{Deserialize, Serialize};

use super::event::Gang;
use super::job::Mix;

/// Whether an empty hall takes a gang: asked once for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Verdict {
    Unknown,
    Fits,
    Never(Misfit),
}

/// The gangs, by number.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(from = "Saved", into = "Saved")]
pub(super) struct Shapes {
    gangs: Vec<Gang>,
    verdicts: Vec<Verdict>,
    /// Only looked up in, never gone through.
    index: HashMap<Gang, u32, BuildHasherDefault<Mix>>,
}

/// What is saved: the index is built again.
#[derive(Serialize, Deserialize)]
struct Saved {
    gangs: Vec<Gang>,
    verdicts: Vec<Verdict>,
}

impl From<Saved> for Shapes {
    fn from(saved: Saved) -> Self {
        let index = saved.gangs.iter().copied().zip(0..).collect();
        Self { gangs: saved.gangs, verdicts: saved.verdicts, index }
    }
}

impl From<Shapes> for Saved {
    fn from(shapes: Shapes) -> Self {
        Self { gangs: shapes.gangs, verdicts: shapes.verdicts }
    }
}

impl Shapes {
    pub(super) fn of(&mut self, gang: &Gang) -> u32 {
        if let Some(shape) = self.index.get(gang) {
            return *shape;
        }
        let shape = u32::try_from(self.gangs.len()).unwrap_or(u32::MAX);
        self.gangs.push(*gang);
        self.verdicts.push(Verdict::Unknown);
        self.index.insert(*gang, shape);
        shape
    }

    pub(super) fn verdict(&self, shape: u32) -> Verdict {
        usize::try_from(shape).ok().and_then(|at| self.verdicts.get(at)).copied().unwrap_or(Verdict::Unknown)
    }

    pub(super) fn settle(&mut self, shape: u32, verdict: Verdict) {
        if let Some(known) = usize::try_from(shape).ok().and_then(|at| self.verdicts.get_mut(at)) {
            *known = verdict;
        }
    }

    pub(super) fn get(&self, shape: u32) -> Option<&Gang> {
        self.gangs.get(usize::try_from(shape).ok()?)
    }
}
