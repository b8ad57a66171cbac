//! Policies by name, joined by `+`: an order, a placement, a backfill, a sharing, in any order; what is not named is the
//! default.

use dh_core::time::Span;
use dh_hall::scheduler::{Backfill, Settings, Sharing};
use dh_policy::{order, placement};

/// What the scheduler is told of how long jobs run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lengths {
    /// The limit that the user gave, where the trace has one; else nothing.
    #[default]
    Limits,
    /// The truth: an oracle.
    Exact,
    /// Nothing.
    Unknown,
}

/// Whether the scheduler is told any length at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Of some job at least.
    Something,
    /// Of none.
    Nothing,
}

/// How the scheduler decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// As the user wrote it.
    pub name: String,
    order: &'static str,
    placement: &'static str,
    backfill: Backfill,
    sharing: Sharing,
    /// What the scheduler is told of lengths.
    pub lengths: Lengths,
}

/// Names of backfills.
const BACKFILLS: &[(&str, Backfill)] = &[
    ("strict", Backfill::None),
    ("any", Backfill::Any),
    ("easy", Backfill::Easy),
    ("conservative", Backfill::Conservative { reservations: 16 }),
];

/// After a week usage counts half: what was used last month does not decide today.
const HALF_LIFE: Span = Span::from_secs(7 * 86_400);

impl Rules {
    /// The rules called `text`.
    /// # Errors
    /// A part that names nothing, with what there is.
    pub fn named(text: &str, lengths: Lengths) -> Result<Self, String> {
        let mut rules = Self {
            name: text.to_owned(),
            order: "fifo",
            placement: "best",
            backfill: Backfill::Easy,
            sharing: Sharing::OneLine,
            lengths,
        };
        for part in text.split('+').map(str::trim) {
            if let Some(order) = order::by_name(part) {
                rules.order = order.name();
            } else if let Some(placement) = placement::by_name(part).filter(|_| part != "best") {
                rules.placement = placement.name();
            } else if let Some((_, backfill)) = BACKFILLS.iter().find(|(name, _)| *name == part) {
                rules.backfill = *backfill;
            } else if part == "fair" {
                rules.sharing = Sharing::Fair { half_life: HALF_LIFE };
            } else if part != "best" {
                return Err(format!("there is no policy `{part}`; there is {}", Self::known()));
            }
        }
        Ok(rules)
    }

    /// What a user should know before these rules decide with `told` of the jobs' lengths.
    pub fn caution(&self, told: Told) -> Option<String> {
        let wants = ["shortest-remaining", "shortest-remaining-service", "gittins"];
        (told == Told::Nothing && wants.contains(&self.order)).then(|| {
            format!(
                "`{}` orders by how long jobs run, and nobody tells: `--lengths exact` plays it with the truth",
                self.order
            )
        })
    }

    /// Every name there is, as a sentence.
    pub fn known() -> String {
        let orders: Vec<&str> = order::POLICIES.iter().map(|policy| policy.name()).collect();
        let placements: Vec<&str> = placement::POLICIES.iter().map(|policy| policy.name()).collect();
        let backfills: Vec<&str> = BACKFILLS.iter().map(|(name, _)| *name).collect();
        format!(
            "best; the orders {}; the placements {}; the backfills {}; fair; several are joined by `+`",
            orders.join(", "),
            placements.join(", "),
            backfills.join(", ")
        )
    }

    /// Puts the rules into `settings`.
    pub(super) fn apply(&self, settings: &mut Settings) {
        self.order.clone_into(&mut settings.order);
        self.placement.clone_into(&mut settings.placement);
        settings.backfill = self.backfill;
        settings.sharing = self.sharing;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_by_length_that_nobody_tells_lengths_says_so() {
        let caution = |name: &str, told| Rules::named(name, Lengths::Limits).unwrap().caution(told);
        assert!(caution("shortest-remaining", Told::Nothing).unwrap().contains("--lengths exact"));
        assert_eq!(caution("shortest-remaining", Told::Something), None);
        assert_eq!(caution("fifo", Told::Nothing), None);
    }

    #[test]
    fn parts_may_come_in_any_order_and_unknown_ones_are_named() {
        let rules = Rules::named("easy+fifo+best-fit", Lengths::Exact).unwrap();
        assert_eq!((rules.order, rules.placement, rules.backfill), ("fifo", "best-fit", Backfill::Easy));
        assert_eq!(Rules::named("strict", Lengths::Exact).unwrap().backfill, Backfill::None);
        assert_eq!(Rules::named("best", Lengths::Exact).unwrap().placement, "best");
        let error = Rules::named("fifo+fastest", Lengths::Exact).unwrap_err();
        assert!(error.starts_with("there is no policy `fastest`; there is best; the orders fifo, "), "{error}");
    }
}
