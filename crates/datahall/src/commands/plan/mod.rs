//! `datahall plan`: what a blueprint's hall is, needs, draws, costs and delivers; and what each number rests on.

mod golden;
mod layouts;
mod machine;
mod screen;
mod services;
mod why;

use std::path::{Path, PathBuf};

use clap::Args;
use dh_blueprint::Settings;
use dh_core::Kind;
use dh_plan::{Plan as HallPlan, Weight};
use serde::Serialize;

pub(crate) use layouts::planned;
pub(crate) use machine::{Report, config, trainings};

use super::{Globals, Verb};
use crate::blueprint_file;
use crate::failure::{Failure, OrFail};
use crate::output::{self, Format};

#[derive(Debug, Args)]
pub(crate) struct Plan {
    /// The blueprint
    blueprint: Option<PathBuf>,
    /// Print what a number rests on, down to the catalogue: its id or a part of it, such as `power.supply`
    #[arg(long, value_name = "NUMBER")]
    why: Option<String>,
    /// Print every number with its formula
    #[arg(long)]
    basis: bool,
    /// Write the complete cable list as CSV; `-` is standard output
    #[arg(long, value_name = "FILE")]
    cables: Option<PathBuf>,
    /// Write the plan as one page with pictures that needs nothing else
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print more of the layouts that were searched: the parts of a step, all ways worth choosing between, why others lost
    #[arg(long)]
    layouts: bool,
    /// Do not measure this machine for workloads of built-in training
    #[arg(long)]
    no_probe: bool,
    /// Compare the models with a file of published numbers instead of planning
    #[arg(long, value_name = "CSV", conflicts_with_all = ["blueprint", "why", "basis", "cables", "html", "layouts"])]
    golden: Option<PathBuf>,
}

/// What `plan -o json` says: the plan, and what this machine was measured to do.
#[derive(Serialize)]
struct Whole<'a> {
    schema_version: u32,
    #[serde(flatten)]
    plan: &'a HallPlan,
    power: &'a dh_facility::HallPower,
    year: &'a dh_facility::Bill,
    machine: &'a Option<dh_perf::MachineProfile>,
    workloads: &'a [machine::WorkloadPlan],
}

impl Verb for Plan {
    const NAME: &'static str = "plan";
    const ABOUT: &'static str = "What a blueprint's hall is, needs, draws, costs and delivers";
    const AFTER: &'static str = "Examples:\n  datahall plan hall.toml --why power.supply\n  datahall plan hall.toml --cables cables.csv --html plan.html\n  datahall plan hall.toml --layouts       how each training is laid out, and why\n  datahall plan hall.toml -o csv          every number as a row\nExit codes: 4 if something that the blueprint asks for cannot be had, 5 if a published number is not reproduced";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        if let Some(golden) = &self.golden {
            return golden::check(golden, globals);
        }
        let path = blueprint_file::path(globals, self.blueprint.as_deref());
        let (settings, origins) = blueprint_file::load_with_origins(&path)?;
        let plan = planned(&settings, &origins, globals)?;
        if let Some(number) = &self.why {
            why::print(&plan, number, globals)?;
            return Ok(0);
        }
        if let Some(file) = &self.cables {
            cables(&plan, file, globals)?;
        }
        if let Some(file) = &self.html {
            write(file, &dh_plan::page::html(&plan, &settings), "page", globals)?;
        }
        if self.cables.as_deref() != Some(Path::new("-")) {
            self.show(&settings, &plan, globals)?;
        }
        verdict(&plan, globals)
    }
}

impl Plan {
    fn show(&self, settings: &Settings, plan: &HallPlan, globals: &Globals) -> Result<(), Failure> {
        let profile = if self.no_probe { None } else { machine::probe_for(settings, globals)? };
        let report = Report::of(settings, profile.as_ref(), 0)?;
        match globals.output {
            Format::Table => {
                if self.basis {
                    screen::numbers(plan.ledger.numbers().iter());
                } else {
                    let detail = if self.layouts { layouts::Detail::Full } else { layouts::Detail::Short };
                    screen::print(plan, settings, detail);
                }
                report.print(self.basis);
                if !globals.quiet {
                    output::note(output::dim(
                        "`datahall plan --why NUMBER` shows what a number rests on; `--basis` lists all of them",
                    ));
                }
                Ok(())
            }
            Format::Csv => output::data(&plan.ledger.numbers()),
            Format::Json | Format::Yaml => output::data(&Whole {
                schema_version: 1,
                plan,
                power: &report.power,
                year: &report.year,
                machine: &report.machine,
                workloads: &report.workloads,
            }),
        }
    }
}

/// Prints the numbers of a plan whose ids start with `start`, for commands that look at one part.
pub(crate) fn numbers_below(blueprint: Option<&Path>, start: &str, globals: &Globals) -> Result<u8, Failure> {
    #[derive(Serialize)]
    struct Numbers<'a> {
        numbers: Vec<&'a dh_units::Number>,
    }
    let (settings, origins) = blueprint_file::load_with_origins(&blueprint_file::path(globals, blueprint))?;
    let plan = planned(&settings, &origins, globals)?;
    let numbers: Vec<&dh_units::Number> =
        plan.ledger.numbers().iter().filter(|number| number.id.starts_with(start)).collect();
    if globals.output.is_data() {
        output::versioned(&Numbers { numbers })?;
    } else {
        screen::numbers(numbers.into_iter());
    }
    Ok(0)
}

/// The exit code: 4 if something cannot be had. For people it was printed already; a program finds it in `findings`.
fn verdict(plan: &HallPlan, globals: &Globals) -> Result<u8, Failure> {
    let wrong = plan.findings.iter().filter(|finding| finding.weight == Weight::Infeasible).count();
    if wrong == 0 {
        return Ok(0);
    }
    if globals.output.is_data() {
        return Ok(Kind::Infeasible.exit_code());
    }
    let things = if wrong == 1 { "one thing".to_owned() } else { format!("{wrong} things") };
    Err(Failure::new(Kind::Infeasible, format!("{things} that the blueprint asks for cannot be had; see above")))
}

/// Writes the cable list, and says how long it is.
fn cables(plan: &HallPlan, file: &Path, globals: &Globals) -> Result<(), Failure> {
    // A row has about 120 characters.
    let rows = usize::try_from(plan.cable_count()).unwrap_or(0);
    let mut text = String::with_capacity(rows.saturating_mul(128).min(1 << 30));
    plan.write_cables(&mut text)?;
    if file == Path::new("-") {
        output::piece(&text);
        return Ok(());
    }
    write(file, &text, &format!("{} cables", plan.cable_count()), globals)
}

fn write(file: &Path, text: &str, what: &str, globals: &Globals) -> Result<(), Failure> {
    std::fs::write(file, text).or_fail_as(Kind::Invalid, format!("write {}", file.display()))?;
    if !globals.quiet {
        output::note(format!("wrote {what} to {}", file.display()));
    }
    Ok(())
}
