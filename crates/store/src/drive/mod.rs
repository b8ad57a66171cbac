//! The drives of a store: which there are, whether each may be written and read, and its name in every report.
//!
//! Invariants: an answer of success that a drive took no part in is given only after the other drives' superblocks say so
//! ([`Member::Out`]), so a drive that comes back is known to be stale. After a failed sync a drive is never written again
//! in this opening. Cost: superblocks are written when a set is opened and when a drive's membership changes, never else.

mod superblock;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

pub(crate) use superblock::{Found, Id, Member, Superblock};

use crate::Error;
use crate::config::{Code, StoreConfig};
use crate::disk::Disk;

/// Errors of reads and writes after which a drive is fenced: one may be a bad sector, many are a bad drive.
const ERRORS_MAX: u64 = 8;

/// The generation that says that a set is being made, and holds nothing yet.
const MAKING: u64 = 1;

/// How a drive stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriveState {
    /// It is read and written.
    Serving,
    /// It was replaced and is being filled; it is written, and read where it is already filled.
    Rebuilding,
    /// It failed while it was open, and is written no more; what it holds is read if nothing else has it.
    Fenced(String),
    /// It is not there, or cannot be opened.
    Missing(String),
    /// It was away while the others were written: it serves again once it is replaced (it may replace itself).
    Stale,
}

/// What is known of a drive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriveStatus {
    /// Its directory: its name in every report.
    pub name: String,
    /// Its place in the set.
    pub index: usize,
    /// How it stands.
    pub state: DriveState,
    /// Reads and writes that the operating system refused since the store was opened.
    pub errors: u64,
}

/// One drive.
#[derive(Debug)]
pub(crate) struct Drive {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    state: RwLock<DriveState>,
    errors: AtomicU64,
    /// Held while a directory is made, so that nobody takes one for durable that is not yet.
    pub(crate) making: Mutex<()>,
}

impl Drive {
    pub(crate) fn name(&self) -> String {
        self.dir.display().to_string()
    }

    pub(crate) fn state(&self) -> DriveState {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_state(&self, state: DriveState) {
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// Whether it takes new bytes.
    pub(crate) fn writable(&self) -> bool {
        matches!(
            *self.state.read().unwrap_or_else(PoisonError::into_inner),
            DriveState::Serving | DriveState::Rebuilding
        )
    }

    /// Whether it may be asked for bytes; they are checked in any case.
    pub(crate) fn readable(&self) -> bool {
        match *self.state.read().unwrap_or_else(PoisonError::into_inner) {
            DriveState::Serving | DriveState::Rebuilding | DriveState::Fenced(_) => true,
            DriveState::Missing(_) | DriveState::Stale => false,
        }
    }
}

struct Identity {
    store: Id,
    generation: u64,
    members: Vec<(Id, Member)>,
}

/// All drives of a store.
pub(crate) struct DriveSet {
    drives: Vec<Drive>,
    code: Code,
    identity: Mutex<Identity>,
}

impl std::fmt::Debug for DriveSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DriveSet").field("drives", &self.drives).field("code", &self.code).finish_non_exhaustive()
    }
}

fn fresh_id() -> Result<Id, Error> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| Error::Drives(format!("no randomness for a drive's id: {error}")))?;
    Ok(id)
}

impl DriveSet {
    /// Opens the drives that `config` names, or makes a new set of them if all are blank.
    /// # Errors
    /// [`Error::Drives`], which names each drive that is foreign, in another's place, stale or missing, if the set cannot
    /// serve with the rest.
    pub(crate) fn open(disk: &Arc<dyn Disk>, config: &StoreConfig) -> Result<Arc<Self>, Error> {
        let dirs: Vec<PathBuf> = if config.drives.is_empty() {
            vec![config.dir.clone()]
        } else {
            config.drives.iter().map(|drive| drive.dir.clone()).collect()
        };
        Self::open_known(disk, dirs, config.code, None)
    }

    /// The same for any directories; `known` is the set that they must be, if there is one already.
    /// # Errors
    /// As [`DriveSet::open`], and if they are another set, or none.
    pub(crate) fn open_known(
        disk: &Arc<dyn Disk>,
        dirs: Vec<PathBuf>,
        code: Code,
        known: Option<Id>,
    ) -> Result<Arc<Self>, Error> {
        if code.data == 0 || usize::from(code.data) + usize::from(code.parity) > dirs.len() || dirs.len() > 64 {
            return Err(Error::Drives(format!(
                "{code} needs at least {} drives and at most 64, not {}",
                code.total(),
                dirs.len()
            )));
        }
        let found: Vec<std::io::Result<Found>> = dirs.iter().map(|dir| Superblock::read(disk.as_ref(), dir)).collect();
        let newest = found
            .iter()
            .filter_map(|found| if let Ok(Found::Drive(block)) = found { Some(block) } else { None })
            .max_by_key(|block| block.generation)
            .cloned();
        let newest_generation = newest.as_ref().map_or(0, |block| block.generation);
        if let Some(known) = known
            && newest.as_ref().is_none_or(|newest| newest.store != known)
        {
            let named: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
            return Err(Error::Drives(format!("{} are not the drives that were there before", named.join(", "))));
        }
        let (identity, states) = match newest {
            None => Self::make(&dirs, code, &found)?,
            Some(newest) => Self::judge(&dirs, code, &found, &newest)?,
        };
        let drives = dirs
            .into_iter()
            .zip(states)
            .map(|(dir, state)| Drive {
                disk: Arc::clone(disk),
                dir,
                state: RwLock::new(state),
                errors: AtomicU64::new(0),
                making: Mutex::default(),
            })
            .collect();
        let set = Arc::new(Self { drives, code, identity: Mutex::new(identity) });
        for drive in set.drives.iter().filter(|drive| drive.writable()) {
            drive.disk.create_dir(&drive.dir).map_err(|error| Error::io(format!("make {}", drive.name()), error))?;
        }
        if newest_generation == 0 {
            // The first generation says that the set is being made; see `judge`.
            set.publish(|_members| ());
        }
        set.publish(|_members| ());
        for status in set.status().iter().filter(|status| status.state != DriveState::Serving) {
            tracing::error!(drive = status.name, state = ?status.state, "a drive does not serve; the set goes on without it");
        }
        Ok(set)
    }

    fn make(
        dirs: &[PathBuf],
        code: Code,
        found: &[std::io::Result<Found>],
    ) -> Result<(Identity, Vec<DriveState>), Error> {
        for (dir, found) in dirs.iter().zip(found) {
            let why = match found {
                Ok(Found::Blank) => continue,
                Ok(Found::Newer(version)) => format!("was made by a newer program (format {version})"),
                Ok(Found::Unknown | Found::Drive(_)) => {
                    "holds files but no superblock: it is no drive of a store".to_owned()
                }
                Err(error) => format!("cannot be read: {error}"),
            };
            return Err(Error::Drives(format!("drive {} {why}; the code is {code}", dir.display())));
        }
        let members = dirs.iter().map(|_dir| Ok((fresh_id()?, Member::In))).collect::<Result<Vec<_>, Error>>()?;
        let states = vec![DriveState::Serving; dirs.len()];
        Ok((Identity { store: fresh_id()?, generation: 0, members }, states))
    }

    fn judge(
        dirs: &[PathBuf],
        code: Code,
        found: &[std::io::Result<Found>],
        newest: &Superblock,
    ) -> Result<(Identity, Vec<DriveState>), Error> {
        if newest.code != code || newest.members.len() != dirs.len() {
            let (old, drives) = (newest.code, newest.members.len());
            return Err(Error::Drives(format!(
                "the store was made of {drives} drives with {old}, and is now opened as {} with {code}",
                dirs.len()
            )));
        }
        let mut states = Vec::with_capacity(dirs.len());
        let mut members = Vec::with_capacity(dirs.len());
        for (index, ((dir, found), (id, member))) in
            dirs.iter().zip(found).zip(newest.members.iter().copied()).enumerate()
        {
            let name = dir.display();
            let state = match found {
                Err(error) => DriveState::Missing(error.to_string()),
                // A crash while the set was made.
                Ok(Found::Blank) if newest.generation == MAKING => DriveState::Serving,
                Ok(Found::Blank) => DriveState::Missing("the directory is empty or not there".to_owned()),
                Ok(Found::Unknown) => DriveState::Missing("it has no superblock that checks".to_owned()),
                Ok(Found::Newer(version)) => {
                    return Err(Error::Drives(format!("drive {name} was made by a newer program (format {version})")));
                }
                Ok(Found::Drive(block)) if block.store != newest.store => {
                    return Err(Error::Drives(format!("drive {name} is foreign: it belongs to another store")));
                }
                Ok(Found::Drive(block)) if usize::from(block.index) != index => {
                    let place = block.index;
                    return Err(Error::Drives(format!(
                        "drive {name} is drive {place} of this store, and is named in the place of drive {index}"
                    )));
                }
                Ok(Found::Drive(block)) if block.drive != id => DriveState::Stale,
                Ok(Found::Drive(_)) => match member {
                    Member::In => DriveState::Serving,
                    Member::Rebuilding => DriveState::Rebuilding,
                    Member::Out => DriveState::Stale,
                },
            };
            let absent = matches!(state, DriveState::Missing(_) | DriveState::Stale);
            members.push((id, if absent { Member::Out } else { member }));
            states.push(state);
        }
        let absent = members.iter().filter(|(_id, member)| *member != Member::In).count();
        if absent > usize::from(code.parity) {
            let named: Vec<String> = dirs
                .iter()
                .zip(&states)
                .filter(|(_dir, state)| **state != DriveState::Serving)
                .map(|(dir, state)| format!("{} ({state:?})", dir.display()))
                .collect();
            return Err(Error::Drives(format!(
                "{code} bears the loss of {}, but these do not serve: {}",
                code.parity,
                named.join(", ")
            )));
        }
        Ok((Identity { store: newest.store, generation: newest.generation, members }, states))
    }

    /// Writes the superblocks after `change`; drives that fail at it are fenced, and the rest is told so.
    fn publish(&self, change: impl FnOnce(&mut Vec<(Id, Member)>)) {
        let mut identity = self.identity.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut identity.members);
        // Each round fences at least one drive, so there are at most as many rounds as drives.
        for _round in 0..=self.drives.len() {
            identity.generation += 1;
            let mut failed = Vec::new();
            for (index, drive) in self.drives.iter().enumerate().filter(|(_index, drive)| drive.writable()) {
                let Some((id, _member)) = identity.members.get(index) else { continue };
                let block = Superblock {
                    store: identity.store,
                    drive: *id,
                    code: self.code,
                    index: u8::try_from(index).unwrap_or(u8::MAX),
                    generation: identity.generation,
                    members: identity.members.clone(),
                };
                if let Err(error) = block.write(drive.disk.as_ref(), &drive.dir) {
                    failed.push((index, error));
                }
            }
            if failed.is_empty() {
                return;
            }
            for (index, error) in failed {
                if let (Some(drive), Some((_id, member))) = (self.drives.get(index), identity.members.get_mut(index)) {
                    tracing::error!(drive = drive.name(), %error, "a drive's superblock cannot be written: it is fenced");
                    drive.set_state(DriveState::Fenced(format!("its superblock cannot be written: {error}")));
                    *member = Member::Out;
                }
            }
        }
    }

    /// The id of the set.
    pub(crate) fn id(&self) -> Id {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner).store
    }

    pub(crate) const fn code(&self) -> Code {
        self.code
    }

    pub(crate) fn drives(&self) -> &[Drive] {
        &self.drives
    }

    pub(crate) fn drive(&self, index: usize) -> Option<&Drive> {
        self.drives.get(index)
    }

    /// The drive on which slot `slot` of the file `id` lies.
    pub(crate) fn drive_of(&self, id: u64, slot: usize) -> usize {
        let drives = self.drives.len().max(1);
        let turn = usize::try_from(id % drives as u64).unwrap_or(0);
        (turn + slot) % drives
    }

    /// Slots that must be durable before anybody is told of success. All drives that serve take part in every write; when
    /// some do not, `k` slots are enough with one parity shard, else the loss of a drive would stop writes at once, and
    /// `k + 1` with more, so that what was written without a drive still bears the loss of another.
    pub(crate) fn required(&self) -> usize {
        usize::from(self.code.data) + usize::from(self.code.parity > 1)
    }

    /// Whether enough drives take writes.
    /// # Errors
    /// [`Error::Sealed`], which names those that do not.
    pub(crate) fn serves(&self) -> Result<(), Error> {
        let writable = self.drives.iter().filter(|drive| drive.writable()).count();
        let lost = self.drives.len() - writable;
        if lost <= usize::from(self.code.parity) && writable >= self.required() {
            return Ok(());
        }
        let named: Vec<String> = self
            .drives
            .iter()
            .filter(|drive| !drive.writable())
            .map(|drive| format!("{} ({:?})", drive.name(), drive.state()))
            .collect();
        Err(Error::Sealed(format!("too many drives do not serve: {}", named.join(", "))))
    }

    /// Writes to the drive no more.
    pub(crate) fn fence(&self, index: usize, why: &str) {
        let Some(drive) = self.drives.get(index) else { return };
        if !drive.writable() {
            return;
        }
        tracing::error!(drive = drive.name(), why, "a drive is fenced");
        drive.set_state(DriveState::Fenced(why.to_owned()));
        self.publish(|members| {
            if let Some((_id, member)) = members.get_mut(index) {
                *member = Member::Out;
            }
        });
    }

    /// Counts an error that the operating system gave for a read or a write.
    pub(crate) fn failed(&self, index: usize, error: &std::io::Error) {
        let full = [std::io::ErrorKind::StorageFull, std::io::ErrorKind::QuotaExceeded];
        if full.contains(&error.kind()) {
            return;
        }
        let Some(drive) = self.drives.get(index) else { return };
        if drive.errors.fetch_add(1, Ordering::Relaxed) + 1 >= ERRORS_MAX {
            self.fence(index, &format!("{ERRORS_MAX} reads or writes failed, the last with: {error}"));
        }
    }

    /// A failed sync: nobody knows what the drive holds.
    pub(crate) fn sync_failed(&self, index: usize, path: &Path, error: &std::io::Error) {
        if let Some(drive) = self.drives.get(index) {
            drive.errors.fetch_add(1, Ordering::Relaxed);
        }
        self.fence(index, &format!("a sync of {} failed: {error}", path.display()));
    }

    /// Puts a blank or stale drive into service, to be filled.
    /// # Errors
    /// [`Error::Drives`] if the drive serves already, or is another store's.
    pub(crate) fn admit(&self, index: usize) -> Result<(), Error> {
        let drive = self.drives.get(index).ok_or_else(|| Error::Drives(format!("there is no drive {index}")))?;
        if drive.writable() {
            return Err(Error::Drives(format!("drive {} serves already", drive.name())));
        }
        let io = |error| Error::io(format!("open drive {}", drive.name()), error);
        drive.disk.create_dir(&drive.dir).map_err(io)?;
        let store = self.identity.lock().unwrap_or_else(PoisonError::into_inner).store;
        match Superblock::read(drive.disk.as_ref(), &drive.dir).map_err(io)? {
            Found::Blank => {}
            Found::Drive(block) if block.store == store && usize::from(block.index) == index => {}
            Found::Drive(_) | Found::Newer(_) | Found::Unknown => {
                return Err(Error::Drives(format!(
                    "drive {} is neither empty nor this store's drive {index}",
                    drive.name()
                )));
            }
        }
        let id = fresh_id()?;
        drive.errors.store(0, Ordering::Relaxed);
        drive.set_state(DriveState::Rebuilding);
        self.publish(|members| {
            if let Some(member) = members.get_mut(index) {
                *member = (id, Member::Rebuilding);
            }
        });
        if drive.writable() {
            Ok(())
        } else {
            Err(Error::Drives(format!("drive {} does not take writes", drive.name())))
        }
    }

    /// The drive holds all that it should.
    pub(crate) fn filled(&self, index: usize) {
        let Some(drive) = self.drives.get(index).filter(|drive| drive.state() == DriveState::Rebuilding) else {
            return;
        };
        drive.set_state(DriveState::Serving);
        self.publish(|members| {
            if let Some((_id, member)) = members.get_mut(index) {
                *member = Member::In;
            }
        });
    }

    pub(crate) fn status(&self) -> Vec<DriveStatus> {
        let status = |(index, drive): (usize, &Drive)| DriveStatus {
            name: drive.name(),
            index,
            state: drive.state(),
            errors: drive.errors.load(Ordering::Relaxed),
        };
        self.drives.iter().enumerate().map(status).collect()
    }
}
