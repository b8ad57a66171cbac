//! How many replicas of a model should run, from what its gateway sees.
//!
//! Two things ask for more: the share of time that replicas spend on prompts, which should stay below 80 %, and the time to the
//! first token that the prompts which wait now would see, which should stay below its target. Fewer are wanted only after a
//! minute in which fewer would be busy below 60 %; between the two shares nothing changes, so a steady load never makes the number
//! go up and down. A model that nobody asked for a while has as few as it may, which can be none; a request that waits then asks
//! for the first. *Invariant*: pure; the number stays within its bounds.
//!
//! The pace of prompts is what the gateway measured. Before it measured any, and for models whose answers take longer than
//! their prompts, requests under way count: 24 to 32 for a replica; a stated assumption, the batch at which engines
//! that serve 8B models on one accelerator still answer quickly.

use dh_core::SimTime;
use dh_core::time::Span;

/// Busy time that a replica may have before another one is wanted, and below which one fewer is: in a thousand.
const BUSY: u64 = 800;
const CALM: u64 = 600;
/// Requests under way for a replica, likewise.
const CROWDED: u64 = 32;
const SPARSE: u64 = 24;
/// Rates are means over about so long.
const MEMORY: u64 = 15_000_000_000;
/// The load has to have been lower for so long before a replica is given up.
const PATIENCE: Span = Span::from_secs(60);
const MILLI: u64 = 1_000;

/// What may be wanted, and what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Targets {
    /// The fewest replicas.
    pub min: u32,
    /// The most replicas.
    pub max: u32,
    /// The time to the first token that is to be kept.
    pub ttft: Span,
    /// A model that nobody asks for so long has the fewest replicas.
    pub idle_after: Span,
}

/// What the gateway sees of one model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sample {
    /// Replicas that serve.
    pub replicas: u32,
    /// Requests under way.
    pub in_flight: u64,
    /// Requests that wait for a first replica.
    pub held: u64,
    /// Tokens of prompts whose first token has not come.
    pub queued: u64,
    /// Tokens of all prompts that ever came.
    pub arrived: u64,
    /// What a thousand tokens of a prompt take a replica, in microseconds; 0 if nobody knows yet.
    pub prefill_us: u64,
}

/// How many are wanted, and why.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Replicas.
    pub replicas: u32,
    /// The time to the first token of a prompt that came now.
    pub ttft: Span,
    /// What decided last.
    pub because: &'static str,
}

/// The state between two looks.
#[derive(Debug, Clone)]
pub struct Controller {
    targets: Targets,
    wanted: Wanted,
    seen: Option<(SimTime, u64)>,
    /// Tokens in a thousand seconds, and requests under way times a thousand.
    rate: u64,
    load: u64,
    busy_at: Option<SimTime>,
    calm_since: Option<SimTime>,
}

impl Controller {
    /// A controller that wants `start` replicas, or the nearest number within the bounds.
    pub fn new(targets: Targets, start: u32) -> Self {
        let replicas = start.clamp(targets.min, targets.max.max(targets.min));
        let wanted = Wanted { replicas, ttft: Span(0), because: "it starts so" };
        Self { targets, wanted, seen: None, rate: 0, load: 0, busy_at: None, calm_since: None }
    }

    /// What it is for.
    pub fn targets(&self) -> Targets {
        self.targets
    }

    /// What it said last.
    pub fn wanted(&self) -> Wanted {
        self.wanted
    }

    /// Looks at a sample.
    pub fn step(&mut self, now: SimTime, sample: Sample) -> Wanted {
        self.remember(now, sample);
        let replicas = u64::from(sample.replicas.max(1));
        let ttft = sample.queued.saturating_mul(sample.prefill_us) / replicas;
        // A thousand tokens take so many microseconds, so a token takes as many nanoseconds.
        self.wanted.ttft = Span(ttft);
        // Replicas that prompts keep busy, in thousandths: tokens in 1,000 s times nanoseconds, over 10^9.
        let busy =
            u64::try_from(u128::from(self.rate) * u128::from(sample.prefill_us) / 1_000_000_000).unwrap_or(u64::MAX);
        let of = |share: u64, crowd: u64| busy.div_ceil(share).max(self.load.div_ceil(crowd * MILLI));
        let (mut need, keep) = (of(BUSY, CROWDED), of(CALM, SPARSE));
        let mut because = "replicas are busy";
        let settled = sample.replicas >= self.wanted.replicas;
        if settled && sample.replicas > 0 && Span(ttft) > self.targets.ttft {
            let more = replicas.saturating_mul(ttft).div_ceil(self.targets.ttft.0.max(1));
            if more.min(replicas * 2) > need {
                (need, because) = (more.min(replicas * 2), "prompts wait too long");
            }
        }
        if sample.held > 0 && need == 0 {
            (need, because) = (1, "a request waits for the first replica");
        }
        let idle = now.since(self.busy_at.unwrap_or(now)) >= self.targets.idle_after;
        let floor = u64::from(self.targets.min).max(u64::from(!idle && self.wanted.replicas > 0));
        let ceiling = u64::from(self.targets.max.max(self.targets.min));
        let wanted = u64::from(self.wanted.replicas);
        let (need, keep) = (need.clamp(floor, ceiling), keep.clamp(floor, ceiling));
        if idle && sample.held == 0 {
            self.want(u64::from(self.targets.min), "nobody asks for it");
        } else if need > wanted {
            self.want(need, because);
        } else if keep < wanted {
            let since = *self.calm_since.get_or_insert(now);
            if now.since(since) >= PATIENCE {
                self.want(keep, "fewer suffice");
            }
        } else {
            self.calm_since = None;
        }
        self.wanted
    }

    fn want(&mut self, replicas: u64, because: &'static str) {
        let replicas = u32::try_from(replicas).unwrap_or(u32::MAX);
        if replicas != self.wanted.replicas {
            self.wanted = Wanted { replicas, because, ..self.wanted };
        }
        self.calm_since = None;
    }

    /// Moves the means on.
    fn remember(&mut self, now: SimTime, sample: Sample) {
        let (then, arrived) = *self.seen.get_or_insert((now, sample.arrived));
        if sample.in_flight + sample.held > 0 || sample.arrived != arrived || self.busy_at.is_none() {
            self.busy_at = Some(now);
        }
        let passed = now.since(then).0;
        if passed == 0 {
            return;
        }
        self.seen = Some((now, sample.arrived));
        let tokens = u128::from(sample.arrived.saturating_sub(arrived));
        let rate = u64::try_from(tokens * 1_000_000_000_000 / u128::from(passed)).unwrap_or(u64::MAX);
        self.rate = towards(self.rate, rate, passed);
        self.load = towards(self.load, (sample.in_flight + sample.held).saturating_mul(MILLI), passed);
    }
}

/// `old`, moved to `new` by what passed of [`MEMORY`].
fn towards(old: u64, new: u64, passed: u64) -> u64 {
    let (passed, all) = (u128::from(passed), u128::from(passed) + u128::from(MEMORY));
    let mean = (u128::from(old) * (all - passed) + u128::from(new) * passed) / all;
    u64::try_from(mean).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::mix;

    const TARGETS: Targets = Targets { min: 0, max: 12, ttft: Span::from_secs(2), idle_after: Span::from_secs(120) };
    /// A thousand tokens in a tenth of a second.
    const PACE: u64 = 100_000;
    const TOKENS_PER_SECOND: u64 = 10_000;
    /// A replica takes so long to start.
    const BOOT: u64 = 20;

    /// A model whose replicas read prompts at one pace, a second at a time.
    struct Model {
        controller: Controller,
        sample: Sample,
        now: u64,
        boots: Vec<u64>,
        changes: Vec<u32>,
    }

    impl Model {
        fn new() -> Self {
            let controller = Controller::new(TARGETS, 0);
            Self { controller, sample: Sample::default(), now: 1_000, boots: Vec::new(), changes: Vec::new() }
        }

        /// One second in which prompts of about so many tokens in all come.
        fn second(&mut self, tokens: u64, seed: u64) {
            self.now += 1;
            // Prompts of 500 to 1,500 tokens, as many as a coin says.
            let mut came = 0;
            for number in 0..tokens / 500 {
                let draw = mix(seed, self.now * 1_000 + number);
                came += if draw.is_multiple_of(2) { 500 + (draw >> 8) % 1_000 } else { 0 };
            }
            let sample = &mut self.sample;
            sample.arrived += came;
            sample.queued += came;
            sample.queued = sample.queued.saturating_sub(u64::from(sample.replicas) * TOKENS_PER_SECOND);
            let under_way = (sample.queued + came).div_ceil(1_000);
            (sample.in_flight, sample.held) = if sample.replicas > 0 { (under_way, 0) } else { (0, under_way) };
            sample.prefill_us = if sample.replicas > 0 { PACE } else { sample.prefill_us };
            let before = self.controller.wanted().replicas;
            let wanted = self.controller.step(SimTime(self.now * 1_000_000_000), *sample).replicas;
            if wanted != before {
                self.changes.push(wanted);
            }
            let there = sample.replicas + u32::try_from(self.boots.len()).unwrap();
            for _ in there..wanted {
                self.boots.push(self.now + BOOT);
            }
            let now = self.now;
            let ready = u32::try_from(self.boots.iter().filter(|when| **when <= now).count()).unwrap();
            self.boots.retain(|when| *when > now);
            sample.replicas = (sample.replicas + ready).min(wanted);
        }

        fn seconds(&mut self, count: u64, tokens: u64, seed: u64) {
            for _ in 0..count {
                self.second(tokens, seed);
            }
        }
    }

    #[test]
    fn a_steady_load_does_not_make_it_flap() {
        for load in 1..=18 {
            for seed in 0..4 {
                let mut model = Model::new();
                let tokens = load * TOKENS_PER_SECOND / 2;
                model.seconds(300, tokens, seed);
                let (settled, before) = (model.controller.wanted().replicas, model.changes.len());
                model.seconds(3_000, tokens, seed);
                let after = &model.changes[before..];
                assert!(after.len() <= 1, "load {load}, seed {seed}: {settled}, then {after:?}");
                assert!(model.sample.queued * 100 <= 2_000_000, "load {load}: {} wait", model.sample.queued);
                // Busy between a third and nine tenths, as the bands say, rounding apart.
                let busy = load * 500 / u64::from(model.sample.replicas);
                assert!(busy <= 900 && (model.sample.replicas == 1 || busy >= 333), "{busy} of a thousand busy");
            }
        }
    }

    #[test]
    fn a_step_is_met_and_an_end_is_seen() {
        for seed in 0..6 {
            let mut model = Model::new();
            model.seconds(400, 5_000, seed);
            let before = model.controller.wanted().replicas;
            model.seconds(180, 70_000, seed);
            assert!(model.controller.wanted().replicas >= 7.max(before), "{}", model.controller.wanted().replicas);
            assert!(model.controller.wanted().ttft <= TARGETS.ttft, "{:?}", model.controller.wanted());
            // Less again: fewer, a while later; never fewer than are needed.
            model.seconds(400, 10_000, seed);
            assert!((1..=3).contains(&model.controller.wanted().replicas), "{}", model.controller.wanted().replicas);
            model.seconds(100, 0, seed);
            assert!(model.controller.wanted().replicas >= 1, "not yet idle");
            model.seconds(60, 0, seed);
            assert_eq!(model.controller.wanted().replicas, 0);
            model.seconds(1_000, 0, seed);
            assert_eq!(model.controller.wanted(), Wanted { replicas: 0, ttft: Span(0), because: "nobody asks for it" });
            model.second(4_000, seed + 1);
            model.second(4_000, seed + 1);
            assert_eq!(model.controller.wanted().replicas, 1, "the first request starts the first replica");
        }
    }

    #[test]
    fn the_number_stays_within_its_bounds() {
        let targets = Targets { min: 2, max: 3, ..TARGETS };
        let mut controller = Controller::new(targets, 9);
        assert_eq!(controller.wanted().replicas, 3);
        let flood =
            Sample { replicas: 3, in_flight: 10_000, queued: 1 << 40, prefill_us: 1 << 30, ..Sample::default() };
        for second in 1..500 {
            let sample = if second < 200 { flood } else { Sample { replicas: 3, ..Sample::default() } };
            let wanted = controller.step(SimTime(second * 1_000_000_000), sample).replicas;
            assert_eq!(wanted, if second < 319 { 3 } else { wanted.clamp(2, 3) });
        }
        assert_eq!(controller.wanted().replicas, 2);
    }
}
