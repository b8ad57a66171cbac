//! Writes `docs/accuracy.md` and its pictures, through the test that compares them in the gate.

use anyhow::{Result, bail};

use crate::gate::cargo;

/// With `--held-out` every model is also fitted again without each source, which takes minutes.
pub(crate) fn run(argument: Option<&str>) -> Result<()> {
    let mode = match argument {
        None => "write",
        Some("--held-out") => "held-out",
        Some(other) => bail!("`{other}` is not known; there is --held-out"),
    };
    document(mode)
}

/// The test of the document, in a mode: empty compares.
pub(crate) fn document(mode: &str) -> Result<()> {
    let test = ["test", "--release", "--locked", "-p", "dh-accuracy", "--test", "document", "--", "--nocapture"];
    cargo(&test, &[("DATAHALL_ACCURACY", mode)])
}
