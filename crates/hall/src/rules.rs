//! How a hall decides, as its blueprint says: the one place where `[policy]` and `[queue.NAME]` become settings of the
//! scheduler. The live hall and the twin both come here, so what is simulated is what runs.
//!
//! Invariant: pure; the blueprint's default policy is the scheduler's own (a test compares them).

use std::collections::BTreeMap;

use dh_blueprint::Settings as Blueprint;
use dh_blueprint::scheduling::{self, Scheduling};
use dh_core::time::Span;
use dh_policy::fairness::Stretch;
use dh_policy::sharing::Contention;
use dh_policy::{health, prediction};
use dh_units::{Seconds, whole};

use crate::node::QueueSpec;
use crate::scheduler::{Backfill, GoodFor, Learn, Predict, QueueRules, Settings, Sharing};

/// The scheduler's settings of a blueprint's `[policy]`, without nodes and with one queue.
pub fn settings(policy: &Scheduling) -> Settings {
    let milli = |count: f64| u32::try_from(whole((count * 1000.0).round())).unwrap_or(u32::MAX);
    Settings {
        order: policy.order.clone(),
        placement: policy.placement.clone(),
        backfill: match policy.backfill {
            scheduling::Backfill::None => Backfill::None,
            scheduling::Backfill::Any => Backfill::Any,
            scheduling::Backfill::Easy => Backfill::Easy,
            scheduling::Backfill::Conservative { reservations } => Backfill::Conservative { reservations },
        },
        sharing: match policy.sharing {
            scheduling::Sharing::OneLine => Sharing::OneLine,
            scheduling::Sharing::Fair { half_life } => Sharing::Fair { half_life: span(half_life) },
        },
        claim: span(policy.claim),
        quantum: span(policy.quantum),
        repair: span(policy.repair),
        patience: policy.patience.map(span),
        grow_after: Some(span(policy.grow_after)),
        health: health::Rules {
            half_life: span(policy.health.half_life),
            limit: milli(policy.health.limit),
            probation: span(policy.health.probation),
        },
        sleep_after: policy.sleep_after.map(span),
        rounds: policy.rounds.map(span),
        interleave: policy.interleave.then_some(Contention::PUBLISHED),
        predict: policy.predict.map(|predict| Predict {
            history: prediction::Settings {
                samples_min: predict.samples_min,
                samples_kept: predict.samples_kept,
                ..prediction::Settings::default()
            },
            statistic: predict.quantile.map_or(prediction::Statistic::ServicePerEnd, |share| {
                prediction::Statistic::PerMille(u16::try_from(milli(share)).unwrap_or(1000))
            }),
            good_for: match predict.good_for {
                scheduling::GoodFor::Order => GoodFor::Order,
                scheduling::GoodFor::Plans => GoodFor::Plans,
            },
            learn: if policy.order == "gittins" { Learn::Hazards } else { Learn::Lengths },
        }),
        stretch: policy.stretch.map(|stretch| Stretch {
            due_milli: milli(stretch.due),
            released_milli: milli(stretch.released),
            floor: span(stretch.floor),
        }),
        ..Settings::default()
    }
}

/// How often a blueprint wants plans of moves, if it does.
pub fn moves(policy: &Scheduling) -> Option<Span> {
    policy.moves.map(span)
}

/// The queues of a blueprint.
pub fn queues(blueprint: &Blueprint) -> BTreeMap<String, QueueSpec> {
    let spec = |queue: &dh_blueprint::Queue| QueueSpec {
        priority: queue.priority,
        max_jobs: queue.max_jobs,
        parent: queue.parent.clone(),
        share: queue.share.unwrap_or(0),
        quota: queue.quota,
        guarantee: queue.guarantee.unwrap_or(0),
        lends: queue.lends,
        preempts: queue.preempt,
    };
    blueprint.queues.iter().map(|(name, queue)| (name.clone(), spec(queue))).collect()
}

/// Their rules for the scheduler, numbered in the order of their names. A slot is one accelerator.
pub fn queue_rules(queues: &BTreeMap<String, QueueSpec>) -> Vec<QueueRules> {
    let number = |name: &String| queues.keys().position(|known| known == name).and_then(|at| u16::try_from(at).ok());
    let milli = |slots: u32| u64::from(slots) * 1000;
    let rules = queues.values().map(|queue| QueueRules {
        priority: queue.priority,
        share: queue.share,
        quota_milli: queue.quota.map(milli),
        guarantee_milli: milli(queue.guarantee),
        lends_milli: queue.lends.map(milli),
        parent: queue.parent.as_ref().and_then(number),
        preempts: queue.preempts,
    });
    rules.collect()
}

/// Whole nanoseconds; a blueprint's times are far below what a span holds.
fn span(time: Seconds) -> Span {
    Span(whole((time.0 * 1e9).clamp(0.0, 9e18)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blueprint_that_says_nothing_leaves_the_schedulers_own_policy() {
        assert_eq!(settings(&Scheduling::default()), Settings::default());
        let predict = scheduling::Predict::default();
        let made = settings(&Scheduling { predict: Some(predict), ..Scheduling::default() }).predict.unwrap();
        assert_eq!(made.history, prediction::Settings::default());
        assert_eq!(made.statistic, prediction::Statistic::PerMille(500));
        let rounds = settings(&Scheduling { rounds: Some(Seconds(90.0)), interleave: true, ..Scheduling::default() });
        assert_eq!((rounds.rounds, rounds.interleave), (Some(Span::from_secs(90)), Some(Contention::PUBLISHED)));
        let stretch = Some(scheduling::Stretch::default());
        let made = settings(&Scheduling { stretch, ..Scheduling::default() });
        assert_eq!(made.stretch, Some(Stretch::default()));
    }

    #[test]
    fn every_policy_has_its_word_in_the_blueprint_and_every_word_its_policy() {
        let orders: Vec<&str> = dh_policy::order::POLICIES.iter().map(|policy| policy.name()).collect();
        assert_eq!(scheduling::ORDERS, orders);
        let placements = dh_policy::placement::POLICIES.iter().map(|policy| policy.name());
        let placements: Vec<&str> = std::iter::once("best").chain(placements).collect();
        assert_eq!(scheduling::PLACEMENTS, placements);
    }

    #[test]
    fn what_a_blueprint_says_of_queues_is_what_the_scheduler_is_told() {
        let text = "schema = 1\nname = \"lab\"\n[pool.a]\nnodes = 2\nslots = 8\n[policy]\nsharing = \"fair\"\nbackfill = \"conservative\"\n[queue.all]\nguarantee = 12\nlends = 4\n[queue.b]\nparent = \"all\"\nshare = 3\nquota = 8\npreempt = true\npriority = 7\n";
        let blueprint = dh_blueprint::Blueprint::parse("hall.toml", text).unwrap();
        let rules = queue_rules(&queues(&blueprint));
        let all = QueueRules { guarantee_milli: 12_000, lends_milli: Some(4_000), ..QueueRules::default() };
        let b = QueueRules {
            priority: 7,
            share: 3,
            quota_milli: Some(8_000),
            parent: Some(0),
            preempts: true,
            ..QueueRules::default()
        };
        assert_eq!(rules, [all, b]);
        let made = settings(&blueprint.policy.scheduling);
        assert_eq!(made.backfill, Backfill::Conservative { reservations: 16 });
        assert_eq!(made.sharing, Sharing::Fair { half_life: Span::from_secs(7 * 86_400) });
    }
}
