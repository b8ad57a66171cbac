//! Policies by name, joined by `+`: an order, a placement, a backfill, a sharing, in any order; what is not named stays as the
//! scene has it. The names are those of a blueprint.

use dh_blueprint::{nearest, scheduling};
use dh_core::time::Span;
use dh_core::{HasKind, Kind};
use dh_hall::scheduler::{Backfill, GoodFor, Learn, Predict, Settings, Sharing};
use dh_policy::order::Displaces;
use dh_policy::sharing::Contention;
use dh_policy::{order, placement, prediction};

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

/// How the scheduler decides: what of a scene's own policy is replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// As the user wrote it.
    pub name: String,
    order: Option<&'static str>,
    placement: Option<&'static str>,
    backfill: Option<Backfill>,
    sharing: Option<Sharing>,
    rounds: Option<Span>,
    /// How often the scheduler is asked for plans of moves, if these rules say so.
    pub(super) moves: Option<Span>,
    interleave: Option<Contention>,
    /// What the scheduler is told of lengths.
    pub lengths: Lengths,
}

/// A name that no policy has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no policy `{name}`")]
pub struct UnknownPolicy {
    name: String,
}

impl HasKind for UnknownPolicy {
    fn kind(&self) -> Kind {
        Kind::NotFound
    }

    fn hint(&self) -> Option<String> {
        let listed = "`datahall simulate --help` says what each does";
        Some(match nearest(&self.name, Rules::names()) {
            Some(near) => format!("did you mean `{near}`? {listed}"),
            None => format!("there is {}; {listed}", Rules::known()),
        })
    }
}

/// The policy that a scene has of its own: a blueprint's `[policy]`; of a trace, the ordinary one.
pub const OWN: &str = "blueprint";

/// Names of backfills, as in a blueprint.
const BACKFILLS: &[(&str, Backfill)] = &[
    ("none", Backfill::None),
    ("any", Backfill::Any),
    ("easy", Backfill::Easy),
    ("conservative", Backfill::Conservative { reservations: scheduling::RESERVATIONS }),
];

/// Names of sharings, as in a blueprint.
const SHARINGS: &[(&str, Sharing)] =
    &[("one-line", Sharing::OneLine), ("fair", Sharing::Fair { half_life: HALF_LIFE })];

/// After a week usage counts half: what was used last month does not decide today.
const HALF_LIFE: Span = Span::from_secs(7 * 86_400);

/// All jobs are arranged anew once in a minute at most: as long as a job runs at least before another displaces it.
const ROUND: Span = Span::from_secs(60);

/// Plans of moves are asked for as often where nothing else is said.
const MOVES: Span = Span::from_secs(600);
/// Jobs whose stages interleave share accelerators, in rounds.
const INTERLEAVE: &str = "interleave";

/// Orders by how long jobs run.
const BY_LENGTH: [&str; 4] = ["shortest-remaining", "shortest-remaining-service", "gittins", "expected-service"];

impl Rules {
    /// The rules called `text`.
    /// # Errors
    /// A part that names nothing, with what was probably meant.
    pub fn named(text: &str, lengths: Lengths) -> Result<Self, UnknownPolicy> {
        let name = text.to_owned();
        let mut rules = Self {
            name,
            order: None,
            placement: None,
            backfill: None,
            sharing: None,
            rounds: None,
            moves: None,
            interleave: None,
            lengths,
        };
        let parts = || text.split('+').map(str::trim);
        if parts().any(|part| part == "best") {
            rules.order = Some("fifo");
            rules.placement = Some("best");
            rules.backfill = Some(Backfill::Easy);
            rules.sharing = Some(Sharing::OneLine);
        }
        for part in parts() {
            // What `none` was called at first.
            let backfill = if part == "strict" { "none" } else { part };
            if let Some(order) = order::by_name(part) {
                rules.order = Some(order.name());
            } else if let Some(placement) = placement::by_name(part).filter(|_| part != "best") {
                rules.placement = Some(placement.name());
            } else if let Some((_, backfill)) = BACKFILLS.iter().find(|(name, _)| *name == backfill) {
                rules.backfill = Some(*backfill);
            } else if let Some((_, sharing)) = SHARINGS.iter().find(|(name, _)| *name == part) {
                rules.sharing = Some(*sharing);
            } else if part == "rounds" {
                rules.rounds = Some(ROUND);
            } else if part == "moves" {
                rules.moves = Some(MOVES);
            } else if part == INTERLEAVE {
                rules.interleave = Some(Contention::PUBLISHED);
                rules.rounds = Some(ROUND);
            } else if part != "best" && part != OWN {
                return Err(UnknownPolicy { name: part.to_owned() });
            }
        }
        // Who may displace those behind him needs nothing kept free for him.
        let takes = rules.order.and_then(order::by_name).is_some_and(|order| order.displaces() == Displaces::Later);
        if takes {
            rules.backfill = rules.backfill.or(Some(Backfill::Any));
        }
        Ok(rules)
    }

    /// What a user should know before these rules decide with `told` of the jobs' lengths.
    pub fn caution(&self, told: Told) -> Option<String> {
        let rounds = |order: &dyn order::Order| order.displaces() == Displaces::Later;
        if self.interleave.is_some() && !self.order.and_then(order::by_name).is_some_and(rounds) {
            return Some(format!(
                "`{INTERLEAVE}` is done in rounds, which only orders hold that let later jobs be displaced, such as `shortest-remaining-service`: under another no jobs share"
            ));
        }
        let order = self.order.filter(|order| told == Told::Nothing && BY_LENGTH.contains(order))?;
        Some(format!(
            "`{order}` orders by how long jobs run, and nobody tells: it is learned from jobs that ended; `--lengths exact` plays it with the truth"
        ))
    }

    /// Every name there is.
    fn names() -> impl Iterator<Item = &'static str> {
        let orders = order::POLICIES.iter().map(|policy| policy.name());
        let placements = placement::POLICIES.iter().map(|policy| policy.name());
        let others = BACKFILLS.iter().map(|(name, _)| *name).chain(SHARINGS.iter().map(|(name, _)| *name));
        orders.chain(placements).chain(others).chain([OWN, "best", "rounds", "moves", "strict"])
    }

    /// The same as a sentence.
    fn known() -> String {
        let orders: Vec<&str> = order::POLICIES.iter().map(|policy| policy.name()).collect();
        let placements: Vec<&str> = placement::POLICIES.iter().map(|policy| policy.name()).collect();
        let names = |of: &mut dyn Iterator<Item = &'static str>| of.collect::<Vec<_>>().join(", ");
        format!(
            "{OWN} (what it says itself); best; the orders {}; the placements {}; the backfills {}; the sharings {}; rounds; {INTERLEAVE} (jobs whose stages interleave share accelerators, in rounds); moves; several are joined by `+`",
            orders.join(", "),
            placements.join(", "),
            names(&mut BACKFILLS.iter().map(|(name, _)| *name)),
            names(&mut SHARINGS.iter().map(|(name, _)| *name)),
        )
    }

    /// Puts the rules into `settings`.
    pub(super) fn apply(&self, settings: &mut Settings) {
        if let Some(order) = self.order {
            order.clone_into(&mut settings.order);
        }
        if let Some(placement) = self.placement {
            placement.clone_into(&mut settings.placement);
        }
        settings.backfill = self.backfill.unwrap_or(settings.backfill);
        // Who is fair already stays so in his own way.
        match (self.sharing, settings.sharing) {
            (Some(Sharing::Fair { .. }), Sharing::Fair { .. }) | (None, _) => {}
            (Some(sharing), _) => settings.sharing = sharing,
        }
        settings.rounds = self.rounds.or(settings.rounds);
        settings.interleave = self.interleave.or(settings.interleave);
        let predicts = self.order.filter(|order| BY_LENGTH.contains(order) && self.lengths != Lengths::Exact);
        if let Some(order) = predicts {
            settings.predict = Some(Predict {
                history: prediction::Settings::default(),
                statistic: prediction::Statistic::ServicePerEnd,
                good_for: GoodFor::Order,
                learn: if order == "gittins" { Learn::Hazards } else { Learn::Lengths },
            });
        }
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
        assert_eq!(
            (rules.order, rules.placement, rules.backfill),
            (Some("fifo"), Some("best-fit"), Some(Backfill::Easy))
        );
        for none in ["none", "strict"] {
            assert_eq!(Rules::named(none, Lengths::Exact).unwrap().backfill, Some(Backfill::None));
        }
        assert_eq!(Rules::named("energy+best", Lengths::Exact).unwrap().placement, Some("energy"));
        let error = Rules::named("fifo+fastest", Lengths::Exact).unwrap_err();
        assert_eq!(error.to_string(), "there is no policy `fastest`");
        assert!(error.hint().unwrap().starts_with("there is blueprint (what it says itself); best; the orders fifo, "));
        for (wrong, meant) in [("bestfit", "best-fit"), ("fifo+Easi", "easy"), ("topologi+fair", "topology")] {
            let hint = Rules::named(wrong, Lengths::Exact).unwrap_err().hint().unwrap();
            assert!(hint.starts_with(&format!("did you mean `{meant}`?")), "{wrong}: {hint}");
        }
    }

    #[test]
    fn what_is_not_named_stays_as_the_hall_says() {
        let own = Settings {
            order: "gittins".to_owned(),
            placement: "energy".to_owned(),
            backfill: Backfill::Any,
            sharing: Sharing::Fair { half_life: Span::from_secs(60) },
            ..Settings::default()
        };
        let under = |name: &str| {
            let mut settings = own.clone();
            Rules::named(name, Lengths::Limits).unwrap().apply(&mut settings);
            settings
        };
        assert_eq!(under("blueprint"), own);
        assert_eq!(under("fair"), own, "its own half-life stays");
        assert_eq!(under("fifo+none"), Settings { order: "fifo".to_owned(), backfill: Backfill::None, ..own.clone() });
        assert_eq!(under("best"), Settings::default());
    }
}
