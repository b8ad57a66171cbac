//! Random halls: racks or a torus, queues with quotas and guarantees, every policy.
//!
//! What a hall is follows from its dice alone.

use dh_core::time::Span;
use dh_hall::scheduler::{Backfill, GoodFor, Learn, Predict, QueueRules, Settings, Sharing};
use dh_policy::fairness::Stretch;
use dh_policy::fleet::NodeFacts;
use dh_policy::prediction::{self, Statistic};
use dh_policy::torus::{Links, Wiring};
use dh_policy::{order, placement};

/// Queues of every hall.
pub(crate) const QUEUES: u64 = 5;

/// `SplitMix64` (Steele, Lea, Flood 2014).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }

    pub(crate) fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

/// A hall that is a torus: 4 x 4 x 2 in nodes of 2 x 2 x 1 or cubes of 2 x 2 x 2.
pub(crate) fn torus(dice: &mut Dice) -> (Vec<NodeFacts>, Vec<Wiring>) {
    let cubes = dice.one_in(2);
    let links = if dice.one_in(2) { Links::Fixed } else { Links::Optical { cube: 2 } };
    let wiring = Wiring { first: 0, dims: [4, 4, 2], node: [2, 2, if cubes { 2 } else { 1 }], links };
    let facts = |node: u32| NodeFacts {
        class: 0,
        accelerators: wiring.per_node() as u8,
        cpu_milli: 32_000,
        memory_mib: 256_000,
        path: vec![node / 4],
    };
    (wiring.nodes().map(facts).collect(), vec![wiring])
}

pub(crate) fn settings(dice: &mut Dice, shaped: bool) -> Settings {
    let plain = plain_settings(dice);
    if !shaped {
        return plain;
    }
    let (nodes, tori) = torus(dice);
    Settings { nodes, tori, ..plain }
}

pub(crate) fn plain_settings(dice: &mut Dice) -> Settings {
    let racks = 1 + dice.below(3) as u32;
    let per_rack = 1 + dice.below(4) as u32;
    let accelerators = [2, 4, 8, 3][dice.below(4) as usize];
    let nodes = (0..racks * per_rack)
        .map(|node| NodeFacts {
            class: (dice.below(5) / 4) as u8,
            accelerators,
            cpu_milli: 32_000,
            memory_mib: 256_000,
            path: vec![node / per_rack],
        })
        .collect();
    let queue = |priority: i32, quota: Option<u64>| QueueRules {
        priority,
        share: 1,
        quota_milli: quota,
        preempts: priority > 0,
        ..QueueRules::default()
    };
    let backfills =
        [Backfill::None, Backfill::Any, Backfill::Easy, Backfill::Easy, Backfill::Conservative { reservations: 3 }];
    Settings {
        levels: vec!["rack".to_owned()],
        nodes,
        queues: vec![
            QueueRules { parent: dice.one_in(2).then_some(3), share: 3, ..queue(0, None) },
            queue(10, None),
            QueueRules { parent: dice.one_in(2).then_some(3), ..queue(0, Some(6_000)) },
            QueueRules { guarantee_milli: 1000 * dice.below(2), parent: dice.one_in(3).then_some(4), ..queue(0, None) },
            QueueRules {
                guarantee_milli: 1000,
                lends_milli: dice.one_in(2).then_some(0),
                ..queue(0, dice.one_in(3).then_some(5_000))
            },
        ],
        predict: dice.one_in(2).then(|| Predict {
            history: prediction::Settings { samples_min: 2, samples_kept: 10, groups_max: 8 },
            statistic: if dice.one_in(2) { Statistic::PerMille(500) } else { Statistic::ServicePerEnd },
            good_for: if dice.one_in(2) { GoodFor::Order } else { GoodFor::Plans },
            learn: if dice.one_in(2) { Learn::Lengths } else { Learn::Hazards },
        }),
        rounds: dice.one_in(3).then(|| Span::from_secs(7)),
        stretch: dice.one_in(2).then(Stretch::default),
        order: order::POLICIES[dice.below(order::POLICIES.len() as u64) as usize].name().to_owned(),
        placement: placement::POLICIES[dice.below(placement::POLICIES.len() as u64) as usize].name().to_owned(),
        backfill: backfills[dice.below(5) as usize],
        sharing: if dice.one_in(3) { Sharing::Fair { half_life: Span::from_secs(600) } } else { Sharing::OneLine },
        claim: Span::from_secs(300),
        repair: Span::from_secs(120),
        patience: dice.one_in(2).then_some(Span::from_secs(300)),
        sleep_after: dice.one_in(4).then_some(Span::from_secs(60)),
        grow_after: dice.one_in(2).then_some(Span::from_secs(30)),
        ..Settings::default()
    }
}
