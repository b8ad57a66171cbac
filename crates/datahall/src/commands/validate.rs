//! `datahall validate SUBJECT FILE`: the models of performance against published measurements, row by row.

mod screen;
mod table_file;

use std::path::{Path, PathBuf};

use clap::Args;
use dh_accuracy::{SUBJECTS, Subject, Validation, report};
use dh_blueprint::Catalog;
use dh_core::Kind;

use super::{Globals, Verb};
use crate::blueprint_file;
use crate::failure::Failure;
use crate::output;

pub(super) use screen::{judged_lines, number};
pub(super) use table_file::read;

#[derive(Debug, Args)]
pub(crate) struct Validate {
    /// training, inference, collectives, memory, energy or storage
    subject: String,
    /// The measurements, as CSV; `-` is standard input
    csv: PathBuf,
    /// Predict each row by a fit to the rows of all other sources
    #[arg(long)]
    held_out: bool,
    /// Take what this blueprint adds to the catalogue or overrides
    #[arg(long, value_name = "BLUEPRINT")]
    with: Option<PathBuf>,
    /// Print every row, in the file's order
    #[arg(long)]
    rows: bool,
}

impl Verb for Validate {
    const NAME: &'static str = "validate";
    const ABOUT: &'static str = "Hold the models of performance against published measurements";
    const AFTER: &'static str = "Examples:\n  datahall validate collectives data/published/collectives.csv\n  datahall validate memory mine.csv --rows\n  datahall validate training runs.csv --held-out -o json\nThe quantity that is predicted never enters its own prediction; power uses the row's throughput and times. The columns of each format are those of data/published/.";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let subject = subject(&self.subject)?;
        let csv = read(&self.csv)?;
        let catalog = catalog(self.with.as_deref())?;
        let validation = if self.held_out {
            subject.calibrate(&catalog, &csv, &progress(globals))?.held_out
        } else {
            subject.validate(&catalog, &csv)?
        };
        some(&validation, &self.csv)?;
        if globals.output.is_data() {
            output::data(&report::report(subject.word(), &validation))?;
        } else {
            screen::print(subject.word(), &validation, self.rows);
        }
        Ok(0)
    }
}

/// The subject that `word` names, or what was probably meant.
pub(super) fn subject(word: &str) -> Result<&'static dyn Subject, Failure> {
    dh_accuracy::subject(word).ok_or_else(|| {
        let words: Vec<&str> = SUBJECTS.iter().map(|subject| subject.word()).collect();
        let lower = word.to_lowercase();
        let near = words.iter().map(|known| (strsim::damerau_levenshtein(&lower, known), known)).min();
        let failure = Failure::new(Kind::NotFound, format!("there is no subject `{word}`"));
        match near.filter(|(steps, known)| steps * 3 <= known.len()) {
            Some((_, known)) => failure.hint(format!("did you mean `{known}`?")),
            None => failure.hint(format!("there is {}", words.join(", "))),
        }
    })
}

/// The built-in catalogue, and what a blueprint has of its own before it.
pub(super) fn catalog(with: Option<&Path>) -> Result<Catalog, Failure> {
    Ok(match with {
        Some(path) => blueprint_file::load(path)?.catalog,
        None => Catalog::default(),
    })
}

/// Says each step of a fit on stderr.
pub(super) fn progress(globals: &Globals) -> impl Fn(&str) {
    let quiet = globals.quiet;
    move |step: &str| {
        if !quiet {
            output::note(output::dim(format!("fitting: {step}")));
        }
    }
}

/// A file with a head and nothing below it answers nothing.
pub(super) fn some(validation: &Validation, file: &Path) -> Result<(), Failure> {
    if validation.outcomes.is_empty() {
        return Err(Failure::new(Kind::Invalid, format!("{} has a head and no rows", table_file::named(file))));
    }
    Ok(())
}
