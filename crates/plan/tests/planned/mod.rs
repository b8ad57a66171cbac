//! What the tests of this crate read: a blueprint's plan, and numbers of its ledger.

use dh_blueprint::{Blueprint, template};
use dh_plan::{Error, Plan, plan};
use dh_units::Number;

/// The plan of a blueprint's text, which must be sound in itself.
pub(crate) fn try_plan(text: &str) -> Result<Plan, Error> {
    let read = Blueprint::read("hall.toml", text, |_, _| Err(String::new()));
    let (settings, origins) = read.unwrap_or_else(|report| panic!("{text}\n{report}"));
    plan(&settings, &origins)
}

/// As [`try_plan`], where there must be a plan.
pub(crate) fn planned(text: &str) -> Plan {
    try_plan(text).unwrap_or_else(|error| panic!("{text}\n{error}"))
}

/// Why there is no plan, in words.
#[allow(dead_code, reason = "not every test is of errors")]
pub(crate) fn refused(text: &str) -> String {
    try_plan(text).expect_err(text).to_string()
}

/// The text of a template.
#[allow(dead_code, reason = "not every test is of templates")]
pub(crate) fn text_of(name: &str) -> &'static str {
    template(name).unwrap_or_else(|| panic!("no template {name}"))
}

/// The number called `id`.
#[allow(dead_code, reason = "not every test follows numbers")]
pub(crate) fn entry<'p>(plan: &'p Plan, id: &str) -> &'p Number {
    plan.ledger
        .get(id)
        .unwrap_or_else(|| panic!("the ledger has no `{id}`; the nearest is {:?}", plan.ledger.nearest(id)))
}

/// Its value in its base unit.
#[allow(dead_code, reason = "not every test follows numbers")]
pub(crate) fn number(plan: &Plan, id: &str) -> f64 {
    entry(plan, id).value.number().unwrap_or_else(|| panic!("`{id}` is a text"))
}
