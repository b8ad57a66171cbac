//! The long suites: the same tests as in the gate, with many more rounds.

use anyhow::Result;

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
    })
}
