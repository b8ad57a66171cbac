//! `[policy]`: limits and rules of the whole hall.

use dh_units::{Seconds, Watts};
use serde::{Deserialize, Serialize};

use crate::docs::Doc;
use crate::section::Section;
use crate::write::Writer;

/// Limits and rules of the whole hall.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Policy {
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

pub(crate) const DOC: Doc = Doc {
    pattern: "policy",
    about: "Limits and rules of the whole hall.",
    keys: &[
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
    section.finish();
    Policy {
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
}
