//! Choices as pure functions: which job is next ([`order`]), where a gang goes ([`placement`]) and from when on it fits
//! ([`backfill`]), whom it displaces there ([`preemption`]), where a part of a node goes ([`packing`]), which jobs share
//! accelerators ([`sharing`]), and who holds what next when all may be arranged anew ([`rounds`]). Boxes on a 3-D torus have
//! their own ([`torus`]). Which engine serves a request says [`routing`], and how much a caller may still use [`quota`],
//! also of several gateways at once ([`ledger`]); how many replicas of a model should run, [`scaling`].
//! Who waits for an engine, and in which order, says [`waiting`], when a second one is asked [`hedging`],
//! and what leaves a full cache [`eviction`].
//! [`pages`] is how what they look at is kept so that copies are cheap. Who may do what in the store says [`access`], and where
//! its objects lie [`tiering`].
//!
//! Invariant: a decision follows from the arguments alone: no clock, no hash order, no floating tie, no hidden state.
#![warn(missing_docs)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::allow_attributes,
        reason = "tests fail by panicking"
    )
)]

pub mod access;
pub mod backfill;
pub mod eviction;
pub mod fairness;
pub mod fleet;
pub mod health;
pub mod hedging;
pub mod ledger;
pub mod order;
pub mod packing;
pub mod pages;
pub mod placement;
pub mod prediction;
pub mod preemption;
pub mod quota;
pub mod rounds;
pub mod routing;
pub mod scaling;
pub mod sharing;
pub mod tiering;
pub mod torus;
pub mod waiting;
