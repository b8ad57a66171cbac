//! Where halls keep their data, and how a command finds the one that it is meant for.
//!
//! Each hall has a directory below `$XDG_DATA_HOME/datahall/halls/` (or `~/.local/share/...`), named like the hall.
//! `--data DIR` takes another one. A running server writes `endpoint.json` there; its keys are in `keys.json`.

use std::path::{Path, PathBuf};

use dh_core::Kind;
use dh_server::{Endpoint, LogPlace};

use crate::commands::Globals;
use crate::failure::{Failure, OrFail};

/// The folder below which all halls lie.
pub(crate) fn halls() -> Result<PathBuf, Failure> {
    Ok(user_folder("XDG_DATA_HOME", ".local/share")?.join("datahall").join("halls"))
}

/// The folder of things that can be fetched again.
pub(crate) fn cache() -> Result<PathBuf, Failure> {
    Ok(user_folder("XDG_CACHE_HOME", ".cache")?.join("datahall"))
}

fn user_folder(variable: &str, below_home: &str) -> Result<PathBuf, Failure> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(variable).or_else(|| absolute("HOME").map(|home| home.join(below_home))).ok_or_else(|| {
        Failure::new(Kind::Invalid, "neither HOME nor the XDG folders are set")
            .hint("name a directory with `--data DIR`")
    })
}

/// The data directory of the hall called `name`.
pub(crate) fn of_hall(globals: &Globals, name: &str) -> Result<PathBuf, Failure> {
    match &globals.data {
        Some(data) => Ok(data.clone()),
        None => Ok(halls()?.join(name)),
    }
}

/// Makes a data directory that only its owner may enter: the event log and the objects in it are nobody else's business.
pub(crate) fn make_private(data: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data);
    made.or_fail(format!("make {}", data.display()))
}

/// The running hall that a command without a blueprint is meant for: the one of `--data`, or the only one that runs.
pub(crate) fn running(globals: &Globals) -> Result<(PathBuf, Endpoint), Failure> {
    if let Some(data) = &globals.data {
        let endpoint = Endpoint::read(data)?.filter(Endpoint::alive).ok_or_else(|| {
            Failure::new(Kind::Unreachable, format!("no hall runs in {}", data.display()))
                .hint("`datahall up` starts one")
        })?;
        return Ok((data.clone(), endpoint));
    }
    let mut found = Vec::new();
    for data in directories(&halls()?)? {
        if let Some(endpoint) = Endpoint::read(&data)?.filter(Endpoint::alive) {
            found.push((data, endpoint));
        }
    }
    match found.len() {
        0 => Err(Failure::new(Kind::Unreachable, "no hall runs on this machine for this user")
            .hint("`datahall up` starts one, `datahall demo` shows one")),
        1 => Ok(found.remove(0)),
        _ => {
            let names: Vec<String> = found.iter().map(|(data, _)| format!("--data {}", data.display())).collect();
            Err(Failure::new(Kind::Invalid, "more than one hall runs; say which one").hint(names.join("\n      ")))
        }
    }
}

/// Where the event log is of the hall that a command is meant for; it need not run.
pub(crate) fn log(globals: &Globals) -> Result<LogPlace, Failure> {
    let (data, endpoint) = match &globals.data {
        Some(data) => (data.clone(), Endpoint::read(data)?),
        None => running(globals).map(|(data, endpoint)| (data, Some(endpoint)))?,
    };
    // A hall that never ran with a database has its log in its directory.
    Ok(match endpoint.and_then(|endpoint| endpoint.database) {
        Some(address) => LogPlace::Database(address),
        None => LogPlace::File(data.join(dh_server::LOG_FILE)),
    })
}

fn directories(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Failure::new(Kind::Internal, format!("read {}: {error}", folder.display()))),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.or_fail(format!("read {}", folder.display()))?.path();
        if path.is_dir() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
