//! The files of the database: making them whole at first, and giving a drive that has none a copy.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use super::mirror::Copy;
use super::place::{Place, on_each};
use super::wal;
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
    Ok(Copy { file, name: path.display().to_string(), failed: AtomicBool::new(false), place: place.clone() })
}

/// Opens the file of each place; [`prepare`] has seen that it is there.
pub(super) fn open(places: &[Place]) -> Result<Vec<Copy>, Error> {
    on_each(places, |place| {
        let fresh = place.dir.join(FRESH);
        let there = place.disk.list(&place.dir).map_err(named("list", &place.dir))?;
        let path = path(place);
        opened(place, if there.contains(&path) { &path } else { &fresh })
    })
}

/// Sees to it that every place has the file. A new one is made under another name by `make` and takes its own when it is
/// whole and durable, so a crash in the middle leaves either none or a good one.
pub(super) fn prepare(
    places: &[Place],
    bodies: Bodies,
    make: impl FnOnce(&[Place]) -> Result<(), Error>,
) -> Result<(), Error> {
    let found = on_each(places, |place| {
        let fresh = place.dir.join(FRESH);
        let there = place.disk.list(&place.dir).map_err(named("list", &place.dir))?;
        if there.contains(&fresh) {
            place.disk.remove(&fresh).map_err(named("remove", &fresh))?;
        }
        Ok((place.clone(), there.contains(&path(place)), there.iter().any(|path| wal::is_log(path))))
    })?;
    let logs = found.iter().any(|(_place, _index, log)| *log);
    let (have, lack): (Vec<_>, Vec<_>) = found.into_iter().partition(|(_place, index, _log)| *index);
    let lack: Vec<Place> = lack.into_iter().map(|(place, ..)| place).collect();
    if lack.is_empty() {
        return Ok(());
    }
    if let Some((source, ..)) = have.first() {
        for place in &lack {
            tracing::warn!(dir = %place.dir.display(), "a drive has no index and gets a copy");
            if let Err(error) = fill(source, place) {
                tracing::error!(%error, dir = %place.dir.display(), "it cannot be written");
                place.give_up(&error.to_string());
            }
        }
        return Ok(());
    }
    if logs || bodies == Bodies::There {
        return Err(Error::corrupt("the index is missing, and there are bodies or a log", NAME));
    }
    for place in &lack {
        let fresh = place.dir.join(FRESH);
        place.disk.create(&fresh).map_err(named("make", &fresh))?;
    }
    make(&lack)?;
    lack.iter().try_for_each(name)
}

/// Gives the new file, which is whole, its name.
fn name(place: &Place) -> Result<(), Error> {
    let (fresh, path) = (place.dir.join(FRESH), path(place));
    place.disk.open(&fresh).and_then(|file| file.sync_data()).map_err(named("sync", &fresh))?;
    place.disk.rename(&fresh, &path).map_err(named("rename", &fresh))?;
    place.disk.sync_dir(&place.dir).map_err(named("sync", &place.dir))
}

/// Removes what an older membership of a drive left there: it is not the index any more.
pub(super) fn forget(place: &Place) -> Result<(), Error> {
    let Ok(there) = place.disk.list(&place.dir) else { return Ok(()) };
    for old in there {
        if old == path(place) || old == place.dir.join(FRESH) || wal::is_log(&old) {
            place.disk.remove(&old).map_err(named("remove", &old))?;
        }
    }
    place.disk.sync_dir(&place.dir).map_err(named("sync", &place.dir))
}

/// Gives `target`, which has none, the index of another place, that nobody writes meanwhile.
pub(super) fn renew(places: &[Place], target: &Place) -> Result<(), Error> {
    let source = places.iter().find(|place| place.dir != target.dir && place.usable());
    fill(source.ok_or_else(|| Error::Drives("no other drive has the index".to_owned()))?, target)
}

fn fill(source: &Place, target: &Place) -> Result<(), Error> {
    let fresh = target.dir.join(FRESH);
    drop(target.disk.create(&fresh).map_err(named("make", &fresh))?);
    copy(source, target)?;
    name(target)
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
