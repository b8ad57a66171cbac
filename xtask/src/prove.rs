//! The long suites: the same tests as in the gate, with many more rounds.

use anyhow::Result;

use crate::accuracy::document;
use crate::gate::{cargo, step};

pub(crate) fn run() -> Result<()> {
    step("storms", || {
        cargo(&["test", "--release", "--locked", "-p", "dh-hall", "--test", "storm"], &[("DATAHALL_PROVE", "1")])
    })?;
    step("crashes", || {
        cargo(
            &["test", "--release", "--locked", "-p", "datahall", "--test", "crash", "--", "--nocapture"],
            &[("DATAHALL_PROVE", "1")],
        )
    })?;
    step("accuracy", accuracy)
}

/// Every published file through `validate`, and, where a model is fitted, held out; then the document says the same.
fn accuracy() -> Result<()> {
    for subject in ["training", "inference", "collectives", "memory", "energy", "storage"] {
        let file = format!("data/published/{subject}.csv");
        let validate = ["run", "--release", "--locked", "-p", "datahall", "--", "validate", subject, file.as_str()];
        cargo(&validate, &[])?;
        // The model of memory counts; nothing of it is fitted.
        if subject != "memory" {
            cargo(&[&validate[..], &["--held-out"]].concat(), &[])?;
        }
    }
    document("")
}
