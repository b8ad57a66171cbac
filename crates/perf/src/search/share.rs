//! A part of a search: every layout of its branches, the hopeless ones cut off early.
//!
//! Invariant: what is cut off takes more than something found, in time, cost and energy, and more than the last of the best.
//! The bound: whatever the stages, replicas and options, an accelerator computes the products of its share of a step's tokens
//! and waits for the pipeline to fill. What a micro-batch computes is asked of [`crate::pretraining::step`] once for each
//! choice of what cuts a layer, on one stage. The busiest stage works at least as long as the average one.

use dh_units::{Seconds, real};

use super::choices::{cuts_into_parts, deals_experts, micro_batches, options_hold, precision};
use super::front::{admit, aim, beaten, better, rank};
use super::{Branch, Candidate, Found, Nearest, OVERHEADS, Objective, RUNNERS_UP, Search, Tally};
use crate::error::Error;
use crate::layout::{AttentionKernel, Layout, Loss, Recompute};
use crate::memory::{self, Fit};
use crate::power::{self, Activity};
use crate::pretraining::{self, Work};

/// Of the bound, what is believed: a model may round small shapes up on one stage and not on several. Stated assumption; the
/// tests compare with trying everything.
const BELIEVED: f64 = 0.9;

/// Branches of a search that somebody runs.
#[derive(Debug, Clone, Copy)]
pub struct Share<'a> {
    search: &'a Search,
    first: usize,
    every: usize,
}

/// What shares have found.
#[derive(Debug, Clone, Default)]
pub struct Partial {
    best: Vec<Candidate>,
    front: Vec<Candidate>,
    nearest: Option<Nearest>,
    tally: Tally,
    refused: Option<(u64, Error)>,
}

/// What a micro-batch takes on one stage, at the least, for one choice of micro-batch and recomputation.
#[derive(Debug, Clone, Copy, Default)]
struct Floor {
    /// Of computing.
    seconds: f64,
    /// Operations of one accelerator, without what is computed again.
    flop: f64,
}

impl<'a> Share<'a> {
    pub(super) const fn new(search: &'a Search, first: usize, every: usize) -> Self {
        Self { search, first, every }
    }

    /// Tries every layout of the share; `progress` is told of each branch what became of its layouts.
    pub fn run(&self, progress: &mut dyn FnMut(Tally)) -> Partial {
        let mut partial = Partial::default();
        for branch in self.search.branches.iter().skip(self.first).step_by(self.every) {
            let before = partial.tally;
            self.branch(branch, &mut partial);
            let mut done = partial.tally;
            done.enumerated -= before.enumerated;
            done.impossible -= before.impossible;
            done.out_of_memory -= before.out_of_memory;
            done.bounded -= before.bounded;
            done.evaluated -= before.evaluated;
            progress(done);
        }
        partial
    }

    fn branch(&self, branch: &Branch, partial: &mut Partial) {
        let question = &self.search.question;
        let (shape, choices) = (&question.shape, &question.choices);
        let Branch { accelerators, tp, cp, ep, etp, .. } = *branch;
        for &micro_batch in &choices.micro_batch {
            for &recompute in &choices.recompute {
                let layout = Layout { tp, cp, ep, etp, micro_batch, recompute, ..base(self.search) };
                let floor = floor(self.search, &layout);
                for &pp in &choices.pp {
                    let below = choices.below_parts() * u64::try_from(choices.vpp.len()).unwrap_or(u64::MAX);
                    let stages = tp * cp * pp;
                    let dp = accelerators / stages;
                    if !accelerators.is_multiple_of(stages) || pp > shape.layers || !choices.allows_replicas(dp) {
                        continue;
                    }
                    if !deals_experts(shape, tp, cp, dp, ep, etp) {
                        partial.tally.impossible(below);
                        continue;
                    }
                    for &vpp in &choices.vpp {
                        // An interleaved pipeline takes micro-batches in groups as large as it is long.
                        let unit = dp.saturating_mul(micro_batch).saturating_mul(question.sequence.0);
                        let count = micro_batches(question.batch.0, unit, if vpp > 1 { pp } else { 1 });
                        match count.filter(|_| cuts_into_parts(shape.layers, pp, vpp)) {
                            Some(count) => {
                                let layout = Layout { pp, vpp, dp, micro_batches: Some(count), ..layout };
                                self.options(&layout, floor, partial);
                            }
                            None => partial.tally.impossible(choices.below_parts()),
                        }
                    }
                }
            }
        }
    }

    /// Every option of `layout`, whose degrees are said.
    fn options(&self, layout: &Layout, floor: Floor, partial: &mut Partial) {
        let question = &self.search.question;
        let choices = &question.choices;
        let hopeless = self.hopeless(layout, floor, partial);
        for &sharding in &choices.sharding {
            for &sequence_parallel in &choices.sequence_parallel {
                for &schedule in &choices.schedule {
                    for &offload in &choices.offload {
                        let precision = precision(sharding, question.products);
                        let layout = Layout { sharding, sequence_parallel, precision, schedule, offload, ..*layout };
                        partial.tally.enumerated += 1;
                        if !options_hold(&layout) {
                            partial.tally.impossible += 1;
                        } else if hopeless {
                            partial.tally.bounded += 1;
                        } else {
                            self.one(layout, partial);
                        }
                    }
                }
            }
        }
    }

    fn one(&self, layout: Layout, partial: &mut Partial) {
        let question = &self.search.question;
        if layout.check(&question.shape).is_err() {
            partial.tally.impossible += 1;
            return;
        }
        let accelerators = layout.accelerators();
        let needed = memory::needed(&question.shape, &layout, OVERHEADS);
        if let Fit::DoesNotFit { by: missing } = Fit::of(needed, question.capacity()) {
            partial.tally.out_of_memory += 1;
            if question.accelerators.may_be(accelerators) {
                partial.nearer(Nearest { accelerators, layout, needed, missing });
            }
            return;
        }
        match question.candidate(layout) {
            Ok(candidate) => {
                partial.tally.evaluated += 1;
                partial.take(&candidate, question.objective, question.accelerators.may_be(accelerators));
            }
            Err(error) => {
                partial.tally.impossible += 1;
                partial.refuse(accelerators, error);
            }
        }
    }

    /// Whether no option of `layout` can be on the front or among the best.
    fn hopeless(&self, layout: &Layout, floor: Floor, partial: &Partial) -> bool {
        let question = &self.search.question;
        let bound = bound(self.search, layout, floor);
        let among = question.accelerators.may_be(layout.accelerators())
            && (partial.best.len() <= RUNNERS_UP
                || partial.best.last().is_none_or(|last| {
                    aim(super::front::takes(last), question.objective) >= aim(bound, question.objective)
                }));
        !among && beaten(&partial.front, bound)
    }
}

/// What every layout of the search has in common.
fn base(search: &Search) -> Layout {
    Layout {
        sequence: search.question.sequence.0,
        kernel: AttentionKernel::Flash,
        loss: Loss::Fused,
        dropout: false,
        ..Layout::default()
    }
}

/// What one micro-batch of `layout` computes on one stage.
fn floor(search: &Search, layout: &Layout) -> Floor {
    let question = &search.question;
    // As few replicas as experts can be dealt out over.
    let over = layout.ep * layout.etp;
    let dp = over / greatest_common_divisor(over, layout.tp * layout.cp).max(1);
    let alone = Layout { pp: 1, vpp: 1, dp, micro_batches: Some(1), ..*layout };
    let work = Work { shape: &question.shape, layout: &alone, products: question.products };
    let Ok(step) = pretraining::step(&work, &question.machine, &question.profile) else {
        return Floor::default();
    };
    let parts = step.parts;
    let seconds = parts.products + parts.attention + parts.vector + parts.recompute;
    Floor { seconds: seconds.0 * BELIEVED, flop: step.model_flop.0 * BELIEVED / real(alone.accelerators()) }
}

/// Time, cost and energy that no run in `layout` stays below, whatever its options.
fn bound(search: &Search, layout: &Layout, floor: Floor) -> [f64; 3] {
    let question = &search.question;
    let (pp, vpp) = (real(layout.pp), real(layout.vpp));
    let count = real(layout.micro_batches.unwrap_or(1));
    let step = floor.seconds / pp * (count + (pp - 1.0) / vpp);
    let tokens = count * real(layout.dp * layout.micro_batch * layout.sequence);
    let steps = question.tokens.as_f64() / tokens;
    let time = step * steps;
    let each = real(layout.accelerators());
    let cost = question.price.map_or(0.0, |price| (price * Seconds(time) * each).0);
    [time, cost, energy(search, floor.flop / pp * count, step) * steps * each]
}

/// Joules that an accelerator draws at the least in a step of `seconds` or more in which it does `flop`: power rises with
/// computing, more slowly the more is computed, so that the same work in more time takes more.
fn energy(search: &Search, flop: f64, seconds: f64) -> f64 {
    let question = &search.question;
    let accelerator = &question.machine.accelerator;
    let Some(peak) = accelerator.peak(question.products) else { return 0.0 };
    if seconds <= 0.0 {
        return 0.0;
    }
    let compute = (flop / seconds / peak.0).min(1.0);
    let activity = Activity { compute, ..Activity::default() };
    power::draw(accelerator, activity, &question.power).map_or(0.0, |draw| draw.power.0 * seconds * BELIEVED)
}

/// The least time of a run in `branch`: to try the promising ones first.
pub(super) fn least(search: &Search, branch: &Branch) -> f64 {
    let Branch { accelerators, tp, cp, ep, etp, .. } = *branch;
    if accelerators % (tp * cp) != 0
        || !deals_experts(&search.question.shape, tp, cp, accelerators / (tp * cp), ep, etp)
    {
        return f64::INFINITY;
    }
    let layout = Layout { tp, cp, ep, etp, recompute: Recompute::None, ..base(search) };
    let micro_batches = search.question.tokens.as_f64() / real(layout.sequence);
    floor(search, &layout).seconds * micro_batches * real(tp * cp) / real(accelerators)
}

const fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

impl Tally {
    const fn impossible(&mut self, layouts: u64) {
        self.enumerated += layouts;
        self.impossible += layouts;
    }
}

impl Partial {
    fn take(&mut self, candidate: &Candidate, objective: Objective, may_be_best: bool) {
        admit(&mut self.front, candidate);
        if may_be_best {
            rank(&mut self.best, candidate, objective, RUNNERS_UP + 1);
        }
    }

    fn nearer(&mut self, other: Nearest) {
        let key = |near: &Nearest| (near.missing.0, near.accelerators, super::order(&near.layout));
        if self.nearest.as_ref().is_none_or(|nearest| key(&other) < key(nearest)) {
            self.nearest = Some(other);
        }
    }

    /// Keeps the refusal of the most accelerators; of equals the first by its words, so that no order of shares decides.
    fn refuse(&mut self, accelerators: u64, error: Error) {
        let wins = self.refused.as_ref().is_none_or(|(most, had)| {
            accelerators > *most || (accelerators == *most && *had != error && error.to_string() < had.to_string())
        });
        if wins {
            self.refused = Some((accelerators, error));
        }
    }

    /// Takes over what another share has found.
    pub(super) fn join(&mut self, other: Self, objective: Objective) {
        for candidate in &other.front {
            admit(&mut self.front, candidate);
        }
        for candidate in &other.best {
            rank(&mut self.best, candidate, objective, RUNNERS_UP + 1);
        }
        if let Some(nearest) = other.nearest {
            self.nearer(nearest);
        }
        if let Some((accelerators, error)) = other.refused {
            self.refuse(accelerators, error);
        }
        self.tally += other.tally;
    }

    pub(super) fn finish(mut self) -> Found {
        self.front.sort_by(|a, b| better(a, b, Objective::Time));
        let mut best = self.best.into_iter();
        let winner = best.next();
        Found {
            nearest: if winner.is_some() { None } else { self.nearest },
            best: winner,
            runners_up: best.collect(),
            front: self.front,
            tally: self.tally,
            refused: self.refused.map(|(_, error)| error),
        }
    }
}
