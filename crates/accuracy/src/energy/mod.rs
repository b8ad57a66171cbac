//! Power and energy of accelerators: what rows say of their work, against what the model says that draws.
//!
//! Of a leaderboard's row the model gets the model served or the picture made, the batch, the accelerators, and how fast it
//! went; it says the power, from which energy follows by the row's own throughput. Of a trace's row it gets what the same
//! training draws without a cap; it says how much longer the training takes. Rows that multiply hours by thermal design
//! power can validate nothing: they are outcomes without a prediction.
//!
//! Held out, rows are predicted without their task, and once more without their model; capped trainings without their
//! accelerator, and once more without their workload.

mod calibrate;
mod job;
mod outcomes;
mod row;
mod shape;

use dh_blueprint::Catalog;
use dh_perf::power::Profile;

use crate::{Calibration, Error, Subject, Validation};

/// The subject of power and energy.
#[derive(Debug, Clone, Copy)]
pub struct Energy;

impl Subject for Energy {
    fn word(&self) -> &'static str {
        "energy"
    }

    fn about(&self) -> &'static str {
        "power of accelerators, energy of tokens and pictures, slowdown under a cap"
    }

    fn validate(&self, catalog: &Catalog, csv: &str) -> Result<Validation, Error> {
        let rows = row::read(csv)?;
        let jobs = job::jobs(catalog, &rows);
        let profiles: Vec<Profile> = jobs.iter().map(|job| Profile::of(catalog, job.accelerator())).collect();
        Ok(outcomes::of(&rows, &jobs, &profiles, outcomes::Hold::First))
    }

    fn calibrate(&self, catalog: &Catalog, csv: &str, progress: &dyn Fn(&str)) -> Result<Calibration, Error> {
        let rows = row::read(csv)?;
        let jobs = job::jobs(catalog, &rows);
        calibrate::calibrate(catalog, &rows, &jobs, progress)
    }
}
