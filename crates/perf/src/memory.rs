//! How much memory of an accelerator a large model takes, in training and in serving.
//!
//! Invariant: pure, closed form, no table of measured runs. The parts are named, so that what does not fit can be seen; the
//! only fitted figures are in [`Overheads`], each with the rows that gave it. Cost: O(layers).
//!
//! Sources: Korthikanti et al. 2022 (activations, recomputation, sequence parallelism), Rajbhandari et al. 2020 (sharded
//! states), Narayanan et al. 2021 (micro-batches in flight).

mod activations;
mod entry;
pub mod golden;

mod needed;
mod overheads;
mod serving;
mod states;
mod training;
mod tuning;

pub use needed::needed;
pub use overheads::Overheads;
pub use serving::{Serving, ServingLayout, inference};
pub use training::{Memory, StageMemory, training};
pub use tuning::{Base, Gathered, Gradients, Kept, Kernels, Places, Trained, Tuning, Untied, tuning};

use dh_units::Bytes;

/// Whether something fits into a memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// It does, with this much to spare.
    Fits {
        /// What stays free.
        spare: Bytes,
    },
    /// It does not.
    DoesNotFit {
        /// What is missing.
        by: Bytes,
    },
}

impl Fit {
    /// Whether `needed` fits into `capacity`.
    pub const fn of(needed: Bytes, capacity: Bytes) -> Self {
        if needed.0 <= capacity.0 {
            Self::Fits { spare: Bytes(capacity.0 - needed.0) }
        } else {
            Self::DoesNotFit { by: Bytes(needed.0 - capacity.0) }
        }
    }

    /// Whether it is [`Fit::Fits`].
    pub const fn fits(self) -> bool {
        matches!(self, Self::Fits { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_exactly_as_large_as_the_memory_fits() {
        assert_eq!(Fit::of(Bytes(5), Bytes(5)), Fit::Fits { spare: Bytes(0) });
        assert_eq!(Fit::of(Bytes(6), Bytes(5)), Fit::DoesNotFit { by: Bytes(1) });
        assert!(Fit::of(Bytes(4), Bytes(5)).fits() && !Fit::of(Bytes(6), Bytes(5)).fits());
    }
}
