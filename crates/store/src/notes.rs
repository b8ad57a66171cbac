//! Small files beside the index for what the store would like to know again after a restart and may forget.
//!
//! Invariant: a note is read whole or not at all; nothing that was acknowledged depends on one. It lies at the first place
//! of the index that takes writes, and of several the latest is believed.

use crate::Error;
use crate::block::bound_crc;
use crate::index::place::Place;

/// A longer note is not read.
const BYTES_MAX: u64 = 16 << 20;
/// The time of writing before the note, the checksum behind it.
const AROUND: usize = 8;

fn fresh(name: &str) -> String {
    format!("{name}.tmp")
}

/// Writes the note `name`, durably, as of `now_ms`.
pub(crate) fn write(places: &[Place], name: &str, now_ms: u64, bytes: &[u8]) -> Result<(), Error> {
    let place = places.iter().find(|place| place.usable());
    let place = place.ok_or_else(|| Error::Drives("no drive of the index takes writes".to_owned()))?;
    let (from, to) = (place.dir.join(fresh(name)), place.dir.join(name));
    let failed = |error| Error::io(format!("write {}", to.display()), error);
    let mut framed = Vec::with_capacity(bytes.len() + 2 * AROUND);
    framed.extend_from_slice(&now_ms.to_le_bytes());
    framed.extend_from_slice(bytes);
    framed.extend_from_slice(&bound_crc(name.as_bytes(), &framed).to_le_bytes());
    forget(place, name);
    let file = place.disk.create(&from).map_err(failed)?;
    let written = file.write_at(0, &framed).and_then(|()| file.sync_data());
    let written = written.and_then(|()| place.disk.rename(&from, &to)).and_then(|()| place.disk.sync_dir(&place.dir));
    if written.is_err() {
        forget(place, name);
    }
    written.map_err(failed)
}

/// Removes what a write left that broke off.
fn forget(place: &Place, name: &str) {
    let path = place.dir.join(fresh(name));
    if place.disk.list(&place.dir).is_ok_and(|there| there.contains(&path))
        && let Err(error) = place.disk.remove(&path)
    {
        tracing::warn!(%error, path = %path.display(), "cannot be removed");
    }
}

fn read_one(place: &Place, name: &str) -> Option<(u64, Vec<u8>)> {
    let path = place.dir.join(name);
    if !place.disk.list(&place.dir).ok()?.contains(&path) {
        return None;
    }
    let file = place.disk.open(&path).ok()?;
    let length = file.len().ok().filter(|length| *length <= BYTES_MAX)?;
    let mut bytes = vec![0; usize::try_from(length).ok()?];
    file.read_at(0, &mut bytes).ok()?;
    let crc = bytes.split_off(bytes.len().checked_sub(AROUND)?);
    if bound_crc(name.as_bytes(), &bytes).to_le_bytes().as_slice() != crc.as_slice() {
        tracing::warn!(path = %path.display(), "is damaged and counts as not there");
        return None;
    }
    let note = bytes.split_off(AROUND.min(bytes.len()));
    Some((u64::from_le_bytes(bytes.try_into().ok()?), note))
}

/// The note `name` and when it was written; none if there is none that is whole.
pub(crate) fn read(places: &[Place], name: &str) -> Option<(u64, Vec<u8>)> {
    let usable = places.iter().filter(|place| place.usable());
    usable.clone().for_each(|place| forget(place, name));
    usable.filter_map(|place| read_one(place, name)).max_by_key(|(written_ms, _note)| *written_ms)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::disk::{Disk, SimDisk};

    #[test]
    fn a_note_is_whole_or_not_there_and_the_latest_counts() {
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1 << 20));
        let place = |dir: &str| {
            disk.create_dir(dir.as_ref()).unwrap();
            Place { disk: Arc::clone(&disk), dir: dir.into(), member: None }
        };
        let places = [place("/a"), place("/b")];
        assert_eq!(read(&places, "heat"), None);
        write(&places, "heat", 5, b"older").unwrap();
        write(&places[1..], "heat", 7, b"newer").unwrap();
        assert_eq!(read(&places, "heat"), Some((7, b"newer".to_vec())));
        assert_eq!(read(&places, "scrub"), None, "another note");
        disk.create("/b/heat.tmp".as_ref()).unwrap();
        disk.open("/b/heat".as_ref()).unwrap().write_at(9, b"X").unwrap();
        assert_eq!(read(&places, "heat"), Some((5, b"older".to_vec())), "a damaged note is none");
        assert!(!disk.list("/b".as_ref()).unwrap().contains(&"/b/heat.tmp".into()), "what broke off is gone");
        write(&places, "heat", 9, b"").unwrap();
        assert_eq!(read(&places, "heat"), Some((9, Vec::new())));
    }
}
