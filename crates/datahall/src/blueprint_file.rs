//! Reading a blueprint: which file, its bounds, and its problems shown where they are.

use std::path::{Path, PathBuf};

use dh_blueprint::{Blueprint, Settings};
use dh_core::{Kind, limits};

use crate::commands::Globals;
use crate::failure::{Failure, OrFail};
use crate::output;

/// The file that commands take when none is named.
pub(crate) const DEFAULT_FILE: &str = "hall.toml";

/// The blueprint's path: as named, else as flagged, else `hall.toml` here.
pub(crate) fn path(globals: &Globals, named: Option<&Path>) -> PathBuf {
    named.map(Path::to_owned).or_else(|| globals.file.clone()).unwrap_or_else(|| PathBuf::from(DEFAULT_FILE))
}

/// Reads and checks a blueprint. Its problems go to stderr, all of them.
pub(crate) fn load(path: &Path) -> Result<Settings, Failure> {
    let text = read(path)?;
    parse(&path.display().to_string(), &text)
}

/// Checks the text of a blueprint.
pub(crate) fn parse(name: &str, text: &str) -> Result<Settings, Failure> {
    Blueprint::parse(name, text).map_err(|report| {
        output::note(report.to_string().trim_end());
        let count = report.problems.len();
        let problems = if count == 1 { "1 problem".to_owned() } else { format!("{count} problems") };
        Failure::new(Kind::Blueprint, format!("{name} has {problems}"))
            .hint("`datahall explain CODE` tells more about a code in brackets")
    })
}

fn read(path: &Path) -> Result<String, Failure> {
    let metadata = std::fs::metadata(path).map_err(|error| {
        if error.kind() == std::io::ErrorKind::NotFound {
            Failure::new(Kind::NotFound, format!("there is no blueprint {}", path.display()))
                .hint("`datahall init` writes one here; `-f FILE` names another")
        } else {
            Failure::new(Kind::Invalid, format!("{}: {error}", path.display()))
        }
    })?;
    if metadata.len() > u64::try_from(limits::BLUEPRINT_BYTES_MAX).unwrap_or(u64::MAX) {
        return Err(Failure::new(
            Kind::TooLarge,
            format!(
                "{} has {} bytes; a blueprint has at most {}",
                path.display(),
                metadata.len(),
                limits::BLUEPRINT_BYTES_MAX
            ),
        ));
    }
    std::fs::read_to_string(path).or_fail_as(Kind::Invalid, format!("read {}", path.display()))
}
