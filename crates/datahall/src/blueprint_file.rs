//! Reading a blueprint: which file, its bounds, and its problems shown where they are.

use std::path::{Path, PathBuf};

use dh_blueprint::{Blueprint, Origins, Report, Settings};
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

/// Reads and checks a blueprint with its bases. Its problems go to stderr, all of them.
pub(crate) fn load(path: &Path) -> Result<Settings, Failure> {
    load_with_origins(path).map(|(settings, _)| settings)
}

/// The same, and where each key is written.
pub(crate) fn load_with_origins(path: &Path) -> Result<(Settings, Origins), Failure> {
    let text = read(path)?;
    let name = path.display().to_string();
    Blueprint::read(&name, &text, base).map_err(|report| reported(&name, &report))
}

/// Checks the text of a blueprint; its bases lie beside the file `name`.
pub(crate) fn parse(name: &str, text: &str) -> Result<Settings, Failure> {
    Blueprint::parse_with(name, text, base).map_err(|report| reported(name, &report))
}

/// Prints a report, and makes it the failure of a command.
pub(crate) fn reported(name: &str, report: &Report) -> Failure {
    output::note(report.to_string().trim_end());
    let count = report.problems.len() + report.more;
    let problems = if count == 1 { "1 problem".to_owned() } else { format!("{count} problems") };
    Failure::new(Kind::Blueprint, format!("{name} has {problems}"))
        .hint("`datahall explain CODE` tells more about a code in brackets")
}

/// Reads a base: its path counts from the folder of the file that names it.
pub(crate) fn base(from: &str, written: &str) -> Result<(String, String), String> {
    let path = Path::new(from).parent().unwrap_or(Path::new("")).join(written);
    let text = read(&path).map_err(|failure| failure.message)?;
    Ok((path.display().to_string(), text))
}

/// The text of a blueprint, within its bounds.
pub(crate) fn read(path: &Path) -> Result<String, Failure> {
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
