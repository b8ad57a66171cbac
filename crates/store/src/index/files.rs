//! The files of the database: making them whole at first, and giving a drive that has none a copy.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use super::mirror::Copy;
use super::wal::Place;
use crate::Error;

const NAME: &str = "index.redb";
const FRESH: &str = "index.tmp";
const CHUNK: u64 = 1 << 20;

/// Whether the store has bodies: then its index must be there, for a new one would know none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bodies {
    /// It has.
    There,
    /// It has none.
    None,
}

fn path(place: &Place) -> PathBuf {
    place.dir.join(NAME)
}

fn named(what: &str, path: &std::path::Path) -> impl Fn(std::io::Error) -> Error {
    let what = format!("{what} {}", path.display());
    move |error| Error::io(what.clone(), error)
}

fn opened(place: &Place, path: &std::path::Path) -> Result<Copy, Error> {
    let file = place.disk.open(path).map_err(named("open", path))?;
    Ok(Copy { file, name: path.display().to_string(), failed: AtomicBool::new(false) })
}

/// Opens the file of each place; [`prepare`] has seen that it is there.
pub(super) fn open(places: &[Place]) -> Result<Vec<Copy>, Error> {
    places
        .iter()
        .map(|place| {
            let fresh = place.dir.join(FRESH);
            let there = place.disk.list(&place.dir).map_err(named("list", &place.dir))?;
            let path = path(place);
            opened(place, if there.contains(&path) { &path } else { &fresh })
        })
        .collect()
}

/// Sees to it that every place has the file. A new one is made under another name by `make` and takes its own when it is
/// whole and durable, so a crash in the middle leaves either none or a good one.
pub(super) fn prepare(
    places: &[Place],
    bodies: Bodies,
    make: impl FnOnce(&[Place]) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut have = Vec::new();
    let mut lack = Vec::new();
    let mut logs = false;
    for place in places {
        let fresh = place.dir.join(FRESH);
        let there = place.disk.list(&place.dir).map_err(named("list", &place.dir))?;
        if there.contains(&fresh) {
            place.disk.remove(&fresh).map_err(named("remove", &fresh))?;
        }
        let log = |path: &PathBuf| {
            path.file_name().and_then(std::ffi::OsStr::to_str).is_some_and(|name| name.starts_with("wal-"))
        };
        logs |= there.iter().any(log);
        if there.contains(&path(place)) { have.push(place) } else { lack.push(place) }
    }
    if lack.is_empty() {
        return Ok(());
    }
    for place in &lack {
        let fresh = place.dir.join(FRESH);
        place.disk.create(&fresh).map_err(named("make", &fresh))?;
    }
    if let Some(source) = have.first() {
        for place in &lack {
            tracing::warn!(dir = %place.dir.display(), "a drive has no index and gets a copy");
            copy(source, place)?;
        }
    } else if logs || bodies == Bodies::There {
        return Err(Error::corrupt("the index is missing, and there are bodies or a log", NAME));
    } else {
        make(places)?;
    }
    for place in &lack {
        let (fresh, path) = (place.dir.join(FRESH), path(place));
        place.disk.open(&fresh).and_then(|file| file.sync_data()).map_err(named("sync", &fresh))?;
        place.disk.rename(&fresh, &path).map_err(named("rename", &fresh))?;
        place.disk.sync_dir(&place.dir).map_err(named("sync", &place.dir))?;
    }
    Ok(())
}

fn copy(source: &Place, target: &Place) -> Result<(), Error> {
    let (from, to) = (path(source), target.dir.join(FRESH));
    let (read, written) = (named("read", &from), named("write", &to));
    let old = source.disk.open(&from).map_err(&read)?;
    let new = target.disk.open(&to).map_err(&written)?;
    let length = old.len().map_err(&read)?;
    let mut offset = 0;
    while offset < length {
        let size = CHUNK.min(length - offset);
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        old.read_at(offset, &mut bytes).map_err(&read)?;
        new.write_at(offset, &bytes).map_err(&written)?;
        offset += size;
    }
    Ok(())
}
