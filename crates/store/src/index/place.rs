//! The directories in which the index and its log lie, one on each of a few drives, all alike.
//!
//! Invariant: nothing is acknowledged that a place lacks unless the drive's set knows that the drive is out, so that what
//! the place holds is never believed again. Whether a place is written is therefore the set's word alone.

use std::path::PathBuf;
use std::sync::Arc;

use crate::Error;
use crate::disk::Disk;
use crate::drive::{Drive, DriveSet};

/// A directory on a drive.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    /// The set that the drive belongs to and its place there; none in tests of a part.
    pub(crate) member: Option<(Arc<DriveSet>, usize)>,
}

impl Place {
    /// The places of a set's index: as many as bear the loss of all drives that may be lost.
    pub(crate) fn of(set: &Arc<DriveSet>) -> Vec<Self> {
        let copies = usize::from(set.code().parity) + 1;
        let place = |(index, drive): (usize, &Drive)| Self {
            disk: Arc::clone(&drive.disk),
            dir: drive.dir.clone(),
            member: Some((Arc::clone(set), index)),
        };
        set.drives().iter().enumerate().take(copies).map(place).collect()
    }

    /// Whether it takes writes.
    pub(crate) fn usable(&self) -> bool {
        let member = self.member.as_ref();
        member.is_none_or(|(set, index)| set.drive(*index).is_some_and(Drive::writable))
    }

    /// Goes on without it.
    pub(crate) fn give_up(&self, why: &str) {
        if let Some((set, index)) = &self.member {
            set.fence(*index, why);
        }
    }
}

/// Whether the disk is only full: then nobody is given up, as the same would happen to all in turn.
pub(super) fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

/// Does `work` at every place that takes writes. Those that fail are given up if another is good and they are not just full.
/// # Errors
/// The failure, if all fail or a disk is full.
pub(super) fn on_each<T>(places: &[Place], work: impl Fn(&Place) -> Result<T, Error>) -> Result<Vec<T>, Error> {
    let mut done = Vec::new();
    let mut failures = Vec::new();
    for place in places.iter().filter(|place| place.usable()) {
        match work(place) {
            Ok(value) => done.push(value),
            Err(error) => failures.push((place, error)),
        }
    }
    if let Some(at) = failures.iter().position(|(_place, error)| done.is_empty() || matches!(error, Error::Full(_))) {
        return Err(failures.swap_remove(at).1);
    }
    if done.is_empty() {
        return Err(Error::Drives("no drive of the index takes writes".to_owned()));
    }
    for (place, error) in failures {
        tracing::error!(%error, dir = %place.dir.display(), "a place of the index is given up");
        place.give_up(&error.to_string());
    }
    Ok(done)
}
