//! The commands: one file each, one line in [`COMMANDS`]. Help, parsing and dispatch follow from the table.

mod backup;
mod bench;
mod beside;
mod beside_pod;
mod calibrate;
mod cancel;
mod catalog;
pub(crate) mod chat;
mod check;
mod completion;
mod cost;
mod cp;
mod demo;
mod diff;
mod doctor;
mod down;
mod drain;
mod energy;
mod engine;
mod env;
mod exec;
mod explain;
mod fault;
mod gateway;
mod gateway_options;
mod graph;
mod init;
mod jobs;
mod keys;
mod logs;
mod man;
mod models;
mod nodes;
pub(crate) mod plan;
mod power;
pub(crate) mod probe;
mod render;
mod replay;
mod schema;
mod secrets;
pub(crate) mod serve;
mod simulate;
mod status;
mod store;
mod submit;
mod top;
mod train;
pub(crate) mod up;
mod validate;
mod warden;
mod why;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgMatches, Args, FromArgMatches};

use crate::failure::Failure;
use crate::output::{self, Format};

/// Every command there is, in the order of the help text.
const COMMANDS: &[Entry] = &[
    entry::<demo::Demo>(),
    entry::<init::Init>(),
    entry::<check::Check>(),
    entry::<plan::Plan>(),
    entry::<diff::Diff>(),
    entry::<power::Power>(),
    entry::<cost::Cost>(),
    entry::<graph::Graph>(),
    entry::<catalog::Catalog>(),
    entry::<simulate::Simulate>(),
    entry::<validate::Validate>(),
    entry::<calibrate::Calibrate>(),
    entry::<up::Up>(),
    entry::<down::Down>(),
    entry::<status::Status>(),
    entry::<top::Top>(),
    entry::<submit::Submit>(),
    entry::<jobs::Jobs>(),
    entry::<logs::Logs>(),
    entry::<why::Why>(),
    entry::<cancel::Cancel>(),
    entry::<exec::Exec>(),
    entry::<cp::Cp>(),
    entry::<energy::Energy>(),
    entry::<nodes::Nodes>(),
    entry::<drain::Drain>(),
    entry::<serve::Serve>(),
    entry::<chat::Chat>(),
    entry::<models::Models>(),
    entry::<keys::Keys>(),
    entry::<secrets::Secrets>(),
    entry::<gateway::Gateway>(),
    entry::<bench::Bench>(),
    entry::<store::Store>(),
    entry::<env::Env>(),
    entry::<doctor::Doctor>(),
    entry::<probe::Probe>(),
    entry::<replay::Replay>(),
    entry::<render::Render>(),
    entry::<backup::Backup>(),
    entry::<backup::Restore>(),
    entry::<explain::Explain>(),
    entry::<schema::Schema>(),
    entry::<completion::Completion>(),
    entry::<man::Man>(),
    entry::<fault::Fault>(),
    entry::<train::Train>(),
    entry::<engine::Engine>(),
    entry::<warden::Warden>(),
    entry::<beside::Beside>(),
    entry::<beside_pod::BesidePod>(),
];

/// A command: its arguments as a type, and what it does.
pub(crate) trait Verb: Args + FromArgMatches {
    const NAME: &'static str;
    const ABOUT: &'static str;
    /// Shown below the options: examples, notes.
    const AFTER: &'static str = "";
    /// Started by the program itself, not by people.
    const HIDDEN: bool = false;

    /// Does it; the number is the process's exit code.
    fn run(self, globals: &Globals) -> Result<u8, Failure>;
}

/// Flags that every command takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Globals {
    /// The blueprint
    #[arg(short = 'f', long = "file", value_name = "BLUEPRINT", global = true, env = "DATAHALL_FILE")]
    pub(crate) file: Option<PathBuf>,
    /// The hall's data directory; by default one for each hall's name below the user's data folder
    #[arg(long, value_name = "DIR", global = true, env = "DATAHALL_DATA")]
    pub(crate) data: Option<PathBuf>,
    /// How to print what was asked for
    #[arg(short = 'o', long = "output", value_enum, default_value_t = Format::Table, global = true)]
    pub(crate) output: Format,
    /// Say nothing but what was asked for
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Colours: `auto` follows the terminal, `NO_COLOR` and `TERM=dumb`
    #[arg(long, value_enum, default_value_t = output::Colour::Auto, global = true)]
    pub(crate) color: output::Colour,
}

struct Entry {
    name: &'static str,
    build: fn() -> clap::Command,
    run: fn(&ArgMatches, &Globals) -> Result<u8, Failure>,
}

const fn entry<V: Verb>() -> Entry {
    Entry {
        name: V::NAME,
        build: || V::augment_args(clap::Command::new(V::NAME)).about(V::ABOUT).after_help(V::AFTER).hide(V::HIDDEN),
        run: |matches, globals| {
            let verb = V::from_arg_matches(matches).map_err(|error| Failure::new(dh_core::Kind::Invalid, error))?;
            verb.run(globals)
        },
    }
}

const ABOUT: &str = "Your AI data center, as code. One blueprint: plan it, simulate it, run it.";

/// The whole command line.
fn command_line() -> clap::Command {
    let root = clap::Command::new("datahall")
        .version(env!("CARGO_PKG_VERSION"))
        .after_help(
            "Start here: `datahall demo`\nExit codes: 0 ok, 1 failure, 2 usage, 3 blueprint invalid, 4 infeasible, 5 different,\n            6 not authorised, 7 not found, 8 unreachable, 9 timeout, 130 interrupted",
        )
        .subcommand_required(true)
        .arg_required_else_help(true);
    // The words on the flags' type are not the program's.
    let root = Globals::augment_args(root).about(ABOUT);
    COMMANDS.iter().fold(root, |root, entry| root.subcommand((entry.build)()))
}

/// Parses, runs, and turns the outcome into an exit code.
pub(crate) fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let matches = match command_line().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            // Help and version are answers, not mistakes; clap prints each to the right stream.
            let code = u8::from(error.use_stderr()) * 2;
            if error.print().is_err() {
                return ExitCode::FAILURE;
            }
            return ExitCode::from(code);
        }
    };
    let outcome = Globals::from_arg_matches(&matches)
        .map_err(|error| Failure::new(dh_core::Kind::Invalid, error))
        .and_then(|globals| {
            output::set_colour(globals.color);
            output::set_format(globals.output);
            dispatch(&matches, &globals)
        });
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            output::failure(&failure);
            ExitCode::from(failure.kind.exit_code())
        }
    }
}

fn dispatch(matches: &ArgMatches, globals: &Globals) -> Result<u8, Failure> {
    let (name, matches) =
        matches.subcommand().ok_or_else(|| Failure::new(dh_core::Kind::Invalid, "no command was given"))?;
    let entry = COMMANDS
        .iter()
        .find(|entry| entry.name == name)
        .ok_or_else(|| Failure::new(dh_core::Kind::Invalid, format!("there is no command `{name}`")))?;
    (entry.run)(matches, globals)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_well_formed() {
        super::command_line().debug_assert();
    }
}
