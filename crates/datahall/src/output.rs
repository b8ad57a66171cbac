//! What people and programs read: data to stdout, everything else to stderr, colour only where it is wanted.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use crate::failure::Failure;
use crate::ui::rows;

/// How to print what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// For programs that want it so.
    Yaml,
    /// For spreadsheets: the rows of what is asked for.
    Csv,
}

impl Format {
    /// Whether it is for programs.
    pub(crate) const fn is_data(self) -> bool {
        !matches!(self, Self::Table)
    }
}

/// Whether to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Colour {
    Auto,
    Always,
    Never,
}

static COLOUR: AtomicBool = AtomicBool::new(false);

/// In which format [`data`] and [`versioned`] print, chosen once.
static DATA: std::sync::OnceLock<Format> = std::sync::OnceLock::new();

/// Chooses the format of data once, from the flag.
pub(crate) fn set_format(format: Format) {
    DATA.get_or_init(|| format);
}

/// Decides once, from the flag and the environment.
pub(crate) fn set_colour(wish: Colour) {
    let wanted = match wish {
        Colour::Always => true,
        Colour::Never => false,
        Colour::Auto => {
            io::stdout().is_terminal()
                && io::stderr().is_terminal()
                && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
                && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
        }
    };
    COLOUR.store(wanted, Ordering::Relaxed);
}

/// Whether colours are wanted.
pub(crate) fn coloured() -> bool {
    COLOUR.load(Ordering::Relaxed)
}

/// Whether stderr is a terminal that can redraw a line.
pub(crate) fn interactive() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

fn painted(code: &str, text: impl Display) -> String {
    if coloured() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
}

pub(crate) fn bold(text: impl Display) -> String {
    painted("1", text)
}

pub(crate) fn dim(text: impl Display) -> String {
    painted("2", text)
}

pub(crate) fn green(text: impl Display) -> String {
    painted("32", text)
}

pub(crate) fn yellow(text: impl Display) -> String {
    painted("33", text)
}

pub(crate) fn red(text: impl Display) -> String {
    painted("31", text)
}

/// A line of data. A reader that went away (`| head`) ends the program quietly, as other tools do.
pub(crate) fn line(text: impl Display) {
    if writeln!(io::stdout().lock(), "{text}").is_err() {
        quit_silently();
    }
}

/// Data without a line end, shown at once.
pub(crate) fn piece(text: impl Display) {
    let mut out = io::stdout().lock();
    if write!(out, "{text}").and_then(|()| out.flush()).is_err() {
        quit_silently();
    }
}

#[expect(clippy::exit, reason = "the reader of stdout is gone: there is nobody to return to")]
fn quit_silently() -> ! {
    std::process::exit(141)
}

/// A line about what is going on.
pub(crate) fn note(text: impl Display) {
    // Nobody may read stderr; the work goes on all the same.
    drop(writeln!(io::stderr().lock(), "{text}"));
}

/// A value for programs, in the format that was asked for.
pub(crate) fn data(value: &impl Serialize) -> Result<(), Failure> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: &dyn Display| Failure::new(dh_core::Kind::Internal, format!("cannot write {what}: {error}"))
    };
    match DATA.get().copied().unwrap_or(Format::Json) {
        Format::Table | Format::Json => {
            line(serde_json::to_string_pretty(value).map_err(|error| failed("JSON")(&error))?);
        }
        Format::Yaml => {
            let text = serde_saphyr::to_string(value).map_err(|error| failed("YAML")(&error))?;
            line(text.trim_end());
        }
        Format::Csv => {
            let value = serde_json::to_value(value).map_err(|error| failed("CSV")(&error))?;
            let rows = rows::of(&value).ok_or_else(|| {
                Failure::new(dh_core::Kind::Invalid, "what was asked for has no rows, so there is no CSV of it")
                    .hint("-o json and -o yaml print everything")
            })?;
            line(rows::csv(&rows)?.trim_end());
        }
    }
    Ok(())
}

/// The version of what `-o json` prints. It changes when a field changes its meaning or goes.
const SCHEMA_VERSION: u32 = 1;

/// A value that does not say its version by itself, for programs.
pub(crate) fn versioned(value: &impl Serialize) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Versioned<'a, T> {
        schema_version: u32,
        #[serde(flatten)]
        value: &'a T,
    }
    data(&Versioned { schema_version: SCHEMA_VERSION, value })
}

/// What went wrong, and what to do.
pub(crate) fn failure(failure: &Failure) {
    note(format!("{} {}", red(bold("error:")), failure.message));
    if let Some(hint) = &failure.hint {
        note(format!("{} {hint}", bold("hint:")));
    }
}
