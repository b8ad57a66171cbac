//! `[policy]`: limits and rules of the whole hall.

pub mod scheduling;

use dh_units::{Seconds, Watts};
use serde::{Deserialize, Serialize};

use self::scheduling::Scheduling;

use crate::docs::Doc;
use crate::section::Section;
use crate::write::Writer;

/// Limits and rules of the whole hall.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// How jobs are scheduled.
    pub scheduling: Scheduling,
    /// The most the computers may draw together.
    pub power_cap: Option<Watts>,
    /// The most that power caps may slow a job down, as a share of its time.
    pub slowdown_max: f64,
    /// The least effective training time that a plan may have, as a ratio.
    pub ettr_min: Option<f64>,
    /// How long logs are kept.
    pub log_retention: Seconds,
    /// How long the audit log is kept.
    pub audit_retention: Seconds,
    /// Whether data is encrypted where it lies.
    pub encrypt_at_rest: bool,
    /// Whether data is encrypted on its way.
    pub encrypt_in_transit: bool,
}

const DAY: f64 = 86_400.0;

impl Default for Policy {
    /// No limits; logs for a month and audits for a year, which most rules for companies ask for (a stated assumption).
    fn default() -> Self {
        Self {
            scheduling: Scheduling::default(),
            power_cap: None,
            slowdown_max: 0.05,
            ettr_min: None,
            log_retention: Seconds(30.0 * DAY),
            audit_retention: Seconds(365.0 * DAY),
            encrypt_at_rest: false,
            encrypt_in_transit: false,
        }
    }
}

impl Policy {
    /// Keys with a value of their own that a running hall does not act on: it runs jobs in the order and the places that are
    /// asked for, and has no power of its own to switch.
    pub(crate) fn not_enforced(&self) -> impl Iterator<Item = &'static str> {
        let ordinary = Self::default();
        let keys = [
            ("power_cap", self.power_cap != ordinary.power_cap),
            // A ratio that was read from the same text is the same.
            ("slowdown_max", self.slowdown_max.to_bits() != ordinary.slowdown_max.to_bits()),
            ("ettr_min", self.ettr_min.is_some()),
            ("log_retention", self.log_retention != ordinary.log_retention),
            ("audit_retention", self.audit_retention != ordinary.audit_retention),
            ("encrypt_at_rest", self.encrypt_at_rest),
            ("encrypt_in_transit", self.encrypt_in_transit),
            ("sleep_after", self.scheduling.sleep_after.is_some()),
            ("interleave", self.scheduling.interleave),
            ("moves", self.scheduling.moves.is_some()),
        ];
        keys.into_iter().filter(|(_, written)| *written).map(|(key, _)| key)
    }
}

pub(crate) const DOC: Doc = Doc {
    pattern: "policy",
    about: "Limits and rules of the whole hall.",
    keys: &[
        (
            "order",
            "Which waiting job is considered first: fifo, shortest-remaining (time), shortest-remaining-service (time x accelerators), least-attained, gittins, expected-service, deadline, multifactor. Priority goes before it where the order says so.",
        ),
        (
            "placement",
            "Where gangs go: topology (the smallest domain that holds them; `best` is this), best-fit, data-local (nodes where the data set is warm), energy (fewest nodes awake), heterogeneity (the class of accelerators that gives most for what it keeps from others).",
        ),
        (
            "backfill",
            "What may run before a job that is ahead in the line and does not fit: none, any (large jobs may starve), easy (what does not delay the first), conservative (what delays none of the first `reservations`).",
        ),
        ("reservations", "Jobs whose start conservative backfill protects."),
        ("sharing", "How queues divide the hall: one-line, or fair, by their shares and what they used lately."),
        ("half_life", "After this time, usage counts half for fair sharing."),
        ("quantum", "How long a job runs at least before one that is ahead in the order alone may displace it."),
        ("claim", "How long freed capacity belongs to the job for which others were stopped."),
        ("repair", "How long a gang that lost ranks keeps its other nodes while it waits for new ones."),
        ("grow_after", "An elastic gang is not resized more often than this."),
        ("patience", "A job that has waited this long is not overtaken any more."),
        ("sleep_after", "A node that has been idle this long is sent to sleep; left out, nodes stay awake."),
        (
            "rounds",
            "All jobs are arranged anew in place of one displacement after another, no more often than this; for orders that displace later jobs, such as shortest-remaining-service. Left out, they are not.",
        ),
        (
            "interleave",
            "Whether jobs whose stages interleave share accelerators, in rounds (every minute, if `rounds` says nothing).",
        ),
        (
            "moves",
            "How often running jobs are looked at for moves that let others start or nodes sleep; left out, none move.",
        ),
        ("predict", "How lengths that nobody told are predicted; left out, they are not."),
        ("stretch", "The bound on how far the order may set a job back; left out, there is none."),
        ("health", "When a node is kept away on evidence."),
        ("power_cap", "The most the computers may draw together; a plan says what it costs."),
        ("slowdown_max", "The most that power caps may slow a job down, as a share of its time from 0 to 1."),
        (
            "ettr_min",
            "The least ratio of effective training time that a plan may have; below it `plan` calls it infeasible.",
        ),
        ("log_retention", "How long logs are kept."),
        ("audit_retention", "How long the audit log is kept."),
        ("encrypt_at_rest", "Whether data is encrypted where it lies."),
        ("encrypt_in_transit", "Whether data is encrypted on its way."),
    ],
};

/// The policy of the file, or the ordinary one if it has none.
pub(super) fn read(root: &Section<'_>) -> Option<Policy> {
    if !root.has("policy") {
        root.know(&["policy"]);
        return Some(Policy::default());
    }
    root.table("policy").map(|section| policy(&section))
}

fn policy(section: &Section<'_>) -> Policy {
    let ordinary = Policy::default();
    let share = |value: f64| (0.0..=1.0).contains(&value);
    let power_cap = section.bound("power_cap", Watts(0.0));
    let slowdown_max = section.real("slowdown_max", "a share from 0 to 1", share);
    let ettr_min = section.real("ettr_min", "a ratio from 0 to 1", share);
    let log_retention = section.positive("log_retention", Seconds(0.0));
    let audit_retention = section.positive("audit_retention", Seconds(0.0));
    let at_rest = section.boolean("encrypt_at_rest");
    let in_transit = section.boolean("encrypt_in_transit");
    let scheduling = scheduling::read(section);
    section.finish();
    Policy {
        scheduling,
        power_cap: power_cap.map(|cap| cap.value),
        slowdown_max: slowdown_max.map_or(ordinary.slowdown_max, |share| share.value),
        ettr_min: ettr_min.map(|ratio| ratio.value),
        log_retention: log_retention.map_or(ordinary.log_retention, |time| time.value),
        audit_retention: audit_retention.map_or(ordinary.audit_retention, |time| time.value),
        encrypt_at_rest: at_rest.is_some_and(|flag| flag.value),
        encrypt_in_transit: in_transit.is_some_and(|flag| flag.value),
    }
}

pub(crate) fn write(out: &mut Writer<'_>, policy: &Policy) {
    out.maybe_quantity("power_cap", policy.power_cap);
    out.real("slowdown_max", policy.slowdown_max);
    out.maybe_real("ettr_min", policy.ettr_min);
    out.quantity("log_retention", policy.log_retention);
    out.quantity("audit_retention", policy.audit_retention);
    out.boolean("encrypt_at_rest", policy.encrypt_at_rest);
    out.boolean("encrypt_in_transit", policy.encrypt_in_transit);
    scheduling::write(out, &policy.scheduling);
    scheduling::write_tables(out, &policy.scheduling);
}
