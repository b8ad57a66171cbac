//! `datahall check`: every problem of a blueprint, in one run.

use std::path::PathBuf;

use clap::Args;
use dh_blueprint::Blueprint;
use dh_core::{Kind, limits};

use super::{Globals, Verb};
use crate::blueprint_file;
use crate::failure::{Failure, OrFail};
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The blueprint; `-` reads it from standard input
    file: Option<PathBuf>,
}

impl Verb for Check {
    const NAME: &'static str = "check";
    const ABOUT: &'static str = "Check a blueprint and report every problem with its place";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let path = blueprint_file::path(globals, self.file.as_deref());
        let from_input = path.as_os_str() == "-";
        if globals.output.is_data() || from_input {
            let text = if from_input {
                let most = u64::try_from(limits::BLUEPRINT_BYTES_MAX).unwrap_or(u64::MAX);
                std::io::read_to_string(std::io::Read::take(std::io::stdin(), most + 1))
                    .or_fail_as(Kind::Invalid, "read standard input")?
            } else {
                std::fs::read_to_string(&path).or_fail_as(Kind::NotFound, format!("read {}", path.display()))?
            };
            let name = path.display().to_string();
            if globals.output.is_data() {
                return match Blueprint::parse_with(&name, &text, blueprint_file::base) {
                    Ok(_) => output::data(&serde_json::json!({ "schema_version": 1, "problems": [] })).map(|()| 0),
                    Err(report) => {
                        output::versioned(&report)?;
                        Ok(Kind::Blueprint.exit_code())
                    }
                };
            }
            blueprint_file::parse(&name, &text)?;
        } else {
            blueprint_file::load(&path)?;
        }
        if !globals.quiet {
            output::note(format!("{} is sound", path.display()));
        }
        Ok(0)
    }
}
