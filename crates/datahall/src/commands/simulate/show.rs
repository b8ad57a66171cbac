//! Two runs of one scene side by side, for other commands.

use dh_twin::comparison::{Comparison, Runs};
use dh_twin::play::{Ran, Scene};
use serde::Serialize;

use super::print;
use super::run::Report;
use crate::commands::Globals;
use crate::failure::Failure;
use crate::output;

#[derive(Serialize)]
struct Both<'a> {
    runs: &'a [Report],
    comparison: &'a Comparison,
}

/// Prints what two policies made of one scene.
pub(in crate::commands) fn two(
    scene: &Scene,
    first: (&str, Ran),
    second: (&str, Ran),
    globals: &Globals,
) -> Result<u8, Failure> {
    let reports: Vec<Report> =
        [first, second].into_iter().map(|(policy, ran)| Report { policy: policy.to_owned(), seed: 0, ran }).collect();
    let runs: Vec<Runs> = reports
        .iter()
        .map(|report| Runs { policy: report.policy.clone(), outcomes: vec![(0, report.ran.outcome.clone())] })
        .collect();
    let comparison = Comparison::of(&runs);
    if globals.output.is_data() {
        output::versioned(&Both { runs: &reports, comparison: &comparison })?;
    } else {
        print::runs(scene, &reports, Some(&comparison));
    }
    Ok(0)
}
