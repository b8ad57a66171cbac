//! Where no published run is like what is asked, and how far published runs lie from the model.
//!
//! Invariant: a factor is above 1, and it grows with every reason to doubt.
//!
//! Source: rows of `data/published/training.csv`, each predicted by a fit to the rows of all other sources; the factor that
//! four of five lie within.

use super::{Profile, Work};
use crate::layout::Recompute;

/// Reasons why no published run is like this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each reason holds or not, whatever the others do")]
pub struct Outside {
    /// No run of this accelerator is published.
    pub accelerator: bool,
    /// No run of this software stack is published.
    pub stack: bool,
    /// The model has layers of a kind that few published runs have.
    pub model: bool,
    /// The layout goes beyond any published.
    pub layout: bool,
}

/// Four of five published rows lie within this factor, where stack and accelerator are known.
const KNOWN: f64 = 1.16;
/// The stack is not known.
const STACK: f64 = 1.15;
/// The accelerator is not known.
const ACCELERATOR: f64 = 1.15;
/// A kind of model or a layout that few have published: stated assumption.
const UNUSUAL: f64 = 1.15;

impl Outside {
    pub(super) fn of(work: &Work<'_>, profile: &Profile) -> Self {
        let layout = work.layout;
        Self {
            accelerator: !profile.known_accelerator,
            stack: !profile.known_stack,
            model: work.shape.mix.state_layers > 0 || work.shape.encoder,
            layout: layout.tp > 16
                || layout.pp > 16
                || layout.cp > 16
                || layout.accelerators() > 16_384
                || (layout.recompute == Recompute::None && layout.sequence > 131_072),
        }
    }

    /// Whether anything is outside the calibrated range. An unknown stack alone is not: most halls' software is.
    pub const fn any(self) -> bool {
        self.accelerator || self.model || self.layout
    }

    /// Each reason in words.
    pub fn reasons(self) -> impl Iterator<Item = &'static str> {
        [
            (self.accelerator, "no published run on this accelerator"),
            (self.model, "few published runs of models with such layers"),
            (self.layout, "a layout beyond any published"),
        ]
        .into_iter()
        .filter_map(|(holds, reason)| holds.then_some(reason))
    }

    /// The time over and under which four of five published rows lie.
    pub fn factor(self) -> f64 {
        let mut factor = KNOWN;
        for (holds, more) in
            [(self.stack, STACK), (self.accelerator, ACCELERATOR), (self.model, UNUSUAL), (self.layout, UNUSUAL)]
        {
            if holds {
                factor *= more;
            }
        }
        factor
    }
}
