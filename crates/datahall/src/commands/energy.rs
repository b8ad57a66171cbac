//! `datahall energy JOB`: what a job used of energy, what that costs, and what it emits.

use clap::Args;
use dh_core::JobId;
use dh_server::wire::EnergyView;

use super::{Globals, Verb};
use crate::api::Api;
use crate::failure::Failure;
use crate::output;
use crate::ui::table::{Side, Table};

#[derive(Debug, Args)]
pub(crate) struct Energy {
    /// The job, such as `7` or `job/7`
    job: JobId,
}

impl Verb for Energy {
    const NAME: &'static str = "energy";
    const ABOUT: &'static str = "What a job used of energy, what that costs, what it emits";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let view: EnergyView = Api::connect(globals)?.get(&format!("/v1/jobs/{}/energy", self.job.0))?;
        if globals.output.is_data() {
            output::data(&view)?;
            return Ok(0);
        }
        let kwh = view.joules / 3.6e6;
        output::line(format!("{} used {kwh:.6} kWh, {}: {}", self.job, output::bold(&view.source), view.how));
        output::line(format!(
            "  at the meter {:.6} kWh (PUE {}), {:.4} USD at {} USD/kWh",
            view.kilowatt_hours, view.pue, view.usd, view.usd_per_kwh
        ));
        match view.co2_grams {
            Some(grams) => output::line(format!("  {grams:.1} g of CO2")),
            None => output::line(output::dim("  CO2 is not known: the blueprint's site has no `carbon`")),
        }
        let mut table =
            Table::new(&[("TRY", Side::Right), ("SECONDS", Side::Right), ("KWH", Side::Right), ("", Side::Left)]);
        for attempt in &view.attempts {
            let kwh = format!("{:.6}", attempt.joules / 3.6e6);
            table.row([attempt.attempt.to_string(), format!("{:.1}", attempt.seconds), kwh, attempt.source.clone()]);
        }
        table.lines().iter().for_each(output::line);
        Ok(0)
    }
}
