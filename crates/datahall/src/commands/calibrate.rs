//! `datahall calibrate SUBJECT FILE`: fits the efficiency profiles of a model to measurements, and says what that is worth.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use dh_accuracy::report::{Judged, judged};
use dh_accuracy::{Calibration, Moved, Profile};
use dh_core::Kind;
use serde::Serialize;

use super::validate::{catalog, judged_lines, number, progress, read, some, subject};
use super::{Globals, Verb};
use crate::failure::{Failure, OrFail};
use crate::output;
use crate::ui::table::{Side, Table};

#[derive(Debug, Args)]
pub(crate) struct Calibrate {
    /// training, inference, collectives, energy or storage
    subject: String,
    /// The measurements, as CSV; `-` is standard input
    csv: PathBuf,
    /// Write the fitted profiles here, a file each
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
    /// Take what this blueprint adds to the catalogue or overrides
    #[arg(long, value_name = "BLUEPRINT")]
    with: Option<PathBuf>,
}

/// What `calibrate -o json` says.
#[derive(Serialize)]
struct Report<'a> {
    subject: &'a str,
    profiles: Vec<Fitted<'a>>,
    /// Every row by the fit to all of them.
    fitted: Judged,
    /// Every row by the fit to the rows of all other sources.
    held_out: Judged,
}

#[derive(Serialize)]
struct Fitted<'a> {
    name: &'a str,
    toml: &'a str,
    numbers: Vec<Number<'a>>,
}

#[derive(Serialize)]
struct Number<'a> {
    name: &'a str,
    meaning: &'a str,
    before: Option<f64>,
    after: f64,
}

impl Verb for Calibrate {
    const NAME: &'static str = "calibrate";
    const ABOUT: &'static str = "Fit the models of performance to measurements, and say what the fit is worth";
    const AFTER: &'static str = "Examples:\n  datahall calibrate collectives data/published/collectives.csv\n  datahall calibrate training runs.csv --write profiles\nHeld out means: each row as predicted by the fit to the rows of all other sources. A blueprint takes a profile\nas [catalog.efficiency.NAME] with what is in its file.";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let subject = subject(&self.subject)?;
        let csv = read(&self.csv)?;
        let catalog = catalog(self.with.as_deref())?;
        some(&subject.validate(&catalog, &csv)?, &self.csv)?;
        let calibration = subject.calibrate(&catalog, &csv, &progress(globals))?;
        if let Some(folder) = &self.write {
            write(folder, &calibration.profiles, globals)?;
        }
        if globals.output.is_data() {
            output::versioned(&Report {
                subject: subject.word(),
                profiles: calibration.profiles.iter().map(Fitted::of).collect(),
                fitted: judged(&calibration.fitted),
                held_out: judged(&calibration.held_out),
            })?;
        } else {
            print(&calibration);
        }
        Ok(0)
    }
}

impl<'a> Fitted<'a> {
    fn of(profile: &'a Profile) -> Self {
        let number = |moved: &'a Moved| Number {
            name: &moved.name,
            meaning: &moved.meaning,
            before: moved.before,
            after: moved.after,
        };
        Self { name: &profile.name, toml: &profile.toml, numbers: profile.moved.iter().map(number).collect() }
    }
}

fn print(calibration: &Calibration) {
    for profile in &calibration.profiles {
        let mut table = Table::new(&[
            (profile.name.as_str(), Side::Left),
            ("BEFORE", Side::Right),
            ("AFTER", Side::Right),
            ("", Side::Right),
            ("", Side::Left),
        ]);
        for moved in &profile.moved {
            let change = moved.before.filter(|before| *before != 0.0).map(|before| moved.after / before - 1.0);
            // Less than this is the same number with fewer digits.
            let change = change.filter(|change| change.abs() >= 0.0005);
            table.row([
                moved.name.clone(),
                number(moved.before),
                number(Some(moved.after)),
                change.map_or_else(String::new, |change| format!("{:+.1} %", change * 100.0)),
                output::dim(&moved.meaning),
            ]);
        }
        table.lines().iter().for_each(output::line);
        output::line("");
    }
    judged_lines("FITTED", &judged(&calibration.fitted)).iter().for_each(output::line);
    output::line("");
    judged_lines("HELD OUT", &judged(&calibration.held_out)).iter().for_each(output::line);
}

/// Writes each profile beside its place and moves it there, so that a reader never finds half of one.
fn write(folder: &Path, profiles: &[Profile], globals: &Globals) -> Result<(), Failure> {
    std::fs::create_dir_all(folder).or_fail_as(Kind::Invalid, format!("make {}", folder.display()))?;
    for profile in profiles {
        let place = folder.join(format!("{}.toml", profile.name));
        let beside = folder.join(format!(".{}.toml.{}", profile.name, std::process::id()));
        let written = std::fs::File::create(&beside)
            .and_then(|mut file| file.write_all(profile.toml.as_bytes()).and_then(|()| file.sync_all()))
            .and_then(|()| std::fs::rename(&beside, &place));
        if let Err(error) = written {
            // What was begun is of no use; the error that matters is the first one.
            drop(std::fs::remove_file(&beside));
            return Err(Failure::new(Kind::Invalid, format!("write {}: {error}", place.display())));
        }
        if !globals.quiet {
            output::note(format!("wrote {}", place.display()));
        }
    }
    Ok(())
}
