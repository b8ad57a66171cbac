//! The colder tiers of a store: which there are, and what each lies on.
//!
//! A tier has a number for ever, which rows name, and is found by its name in the configuration. Invariant: a tier on which
//! bodies lie is there under its name, on the drives or with the secret that it had, or the store does not open.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{Compression, TierGround};
use crate::crypto::KeyRing;
use crate::disk::Disk;
use crate::drive::{DriveSet, DriveStatus};
use crate::index::codec::{Reader, Row, bytes, decode, encode, number};
use crate::index::files;
use crate::index::meta::{Commit, Meta, Next, TableId};
use crate::reaper::Meter;
use crate::recover::{Recovery, recover_tier};
use crate::remote::RemoteTier;
use crate::stats::BucketUsage;
use crate::store::bodies_of;
use crate::{Error, StoreConfig};

/// How a tier is known: the row of its name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct TierRow {
    number: u8,
    /// The id of its set of drives; empty for another store.
    set: Vec<u8>,
    /// The secret of another store, encrypted by the ring; empty for drives.
    secret: Vec<u8>,
}

impl Row for TierRow {
    fn write(&self, out: &mut Vec<u8>) {
        number(out, u64::from(self.number));
        bytes(out, &self.set);
        bytes(out, &self.secret);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let number = u8::try_from(from.number()?).ok()?;
        Some(Self { number, set: from.bytes()?.to_vec(), secret: from.bytes()?.to_vec() })
    }
}

enum Ground {
    Drives { set: Arc<DriveSet>, meter: Meter },
    Remote(Box<RemoteTier>),
}

/// A tier.
pub(crate) struct Tier {
    pub(crate) number: u8,
    pub(crate) name: String,
    pub(crate) class: String,
    pub(crate) after_ms: Option<u64>,
    pub(crate) compression: Option<Compression>,
    ground: Ground,
}

/// All of them, the coldest last.
#[derive(Default)]
pub(crate) struct Tiers(Vec<Tier>);

impl Tiers {
    pub(crate) fn all(&self) -> &[Tier] {
        &self.0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn find(&self, number: u8) -> Option<&Tier> {
        self.0.iter().find(|tier| tier.number == number)
    }

    /// The drives of a tier.
    pub(crate) fn set(&self, number: u8) -> Option<&Arc<DriveSet>> {
        match &self.find(number)?.ground {
            Ground::Drives { set, .. } => Some(set),
            Ground::Remote(_) => None,
        }
    }

    /// What counts the bytes on the drives of a tier.
    pub(crate) fn meter(&self, number: u8) -> Option<&Meter> {
        match &self.find(number)?.ground {
            Ground::Drives { meter, .. } => Some(meter),
            Ground::Remote(_) => None,
        }
    }

    /// The tier in another store.
    /// # Errors
    /// [`Error::Away`] if it is not named any more.
    pub(crate) fn remote(&self, number: u8) -> Result<&RemoteTier, Error> {
        match self.find(number).map(|tier| &tier.ground) {
            Some(Ground::Remote(remote)) => Ok(remote),
            Some(Ground::Drives { .. }) | None => Err(Error::Away(format!("{number} is no store that is named"))),
        }
    }

    /// Whether it lies in another store.
    pub(crate) fn is_remote(&self, number: u8) -> bool {
        matches!(self.find(number).map(|tier| &tier.ground), Some(Ground::Remote(_)))
    }

    /// Tier, set and place in it of drive `index` of all drives: the store's own first.
    pub(crate) fn drive(&self, own: &Arc<DriveSet>, index: usize) -> Result<(u8, Arc<DriveSet>, usize), Error> {
        let sets = self.0.iter().filter_map(|tier| Some((tier.number, self.set(tier.number)?)));
        let mut left = index;
        for (number, set) in [(0, own)].into_iter().chain(sets) {
            if left < set.drives().len() {
                return Ok((number, Arc::clone(set), left));
            }
            left -= set.drives().len();
        }
        Err(Error::Drives(format!("there is no drive {index}")))
    }

    /// How the drives of tiers are; they are counted on from `next`.
    pub(crate) fn drives(&self, next: usize) -> Vec<DriveStatus> {
        let all = self.0.iter().filter_map(|tier| self.set(tier.number)).flat_map(|set| set.status());
        all.enumerate().map(|(index, status)| DriveStatus { index: next + index, ..status }).collect()
    }
}

fn name_key(name: &str) -> Vec<u8> {
    [&[1], name.as_bytes()].concat()
}

/// What rows know of tiers.
#[derive(Debug, Default)]
struct Rows {
    names: BTreeMap<String, TierRow>,
    usage: BTreeMap<u8, BucketUsage>,
}

fn rows(meta: &Meta) -> Result<Rows, Error> {
    let mut rows = Rows::default();
    Meta::scan(&meta.read()?, TableId::Tiers, Vec::new(), &[0xff], |key, value| {
        match key {
            [0, number] => drop(rows.usage.insert(*number, decode::<BucketUsage>(key, value)?.0)),
            [1, name @ ..] => {
                let name = String::from_utf8_lossy(name).into_owned();
                rows.names.insert(name, decode::<TierRow>(key, value)?.0);
            }
            _ => return Err(Error::corrupt("a tier's key", "the index")),
        }
        Ok(Next::Row)
    })?;
    Ok(rows)
}

/// What opening tiers takes.
pub(crate) struct Opening<'o> {
    pub(crate) disk: &'o Arc<dyn Disk>,
    pub(crate) config: &'o StoreConfig,
    pub(crate) meta: &'o Meta,
    /// The first id that is not in use.
    pub(crate) first: u64,
}

/// Opens or makes the tiers of the configuration; `lock` keeps others from the directory of a drive.
/// # Errors
/// If a tier on which objects lie is not named, or is not what it was.
pub(crate) fn open(
    opening: &Opening<'_>,
    report: &mut Recovery,
    mut lock: impl FnMut(&PathBuf) -> Result<(), Error>,
) -> Result<(Tiers, BTreeMap<u8, BucketUsage>), Error> {
    let Opening { disk, config, meta, first } = *opening;
    let rows = rows(meta)?;
    for (name, row) in &rows.names {
        let held = rows.usage.get(&row.number).map_or(0, |usage| usage.objects);
        if held > 0 && config.tiers.iter().all(|tier| tier.name != *name) {
            return Err(Error::Invalid(format!(
                "{held} objects lie on the tier `{name}`, which is not named any more: name it again"
            )));
        }
    }
    let mut next = rows.names.values().map(|row| row.number).max().unwrap_or(0);
    let mut tiers = Tiers::default();
    for tier in &config.tiers {
        let known = rows.names.get(&tier.name).cloned();
        let mut row = known.clone().unwrap_or_default();
        if known.is_none() {
            next = next.checked_add(1).ok_or_else(|| Error::Invalid("a store has at most 255 tiers".to_owned()))?;
            row.number = next;
        }
        let other = || Error::Invalid(format!("the tier `{}` was of another kind before", tier.name));
        let ground = match &tier.ground {
            TierGround::Drives { drives, code, capacity_bytes } => {
                let dirs: Vec<PathBuf> = drives.iter().map(|drive| drive.dir.clone()).collect();
                dirs.iter().filter(|dir| disk.list(dir).is_ok()).try_for_each(&mut lock)?;
                let id = match &known {
                    Some(known) => Some(known.set.as_slice().try_into().map_err(|_length| other())?),
                    None => None,
                };
                let set = DriveSet::open_known(disk, dirs, *code, id)?;
                let serving = set.drives().iter().filter(|drive| drive.writable());
                serving.map(|drive| &drive.dir).try_for_each(&mut lock)?;
                row.set = set.id().to_vec();
                if known.is_none() && bodies_of(&set) == files::Bodies::There {
                    let first = tier.name.as_str();
                    return Err(Error::Drives(format!("the drives of tier `{first}` hold bodies of another store")));
                }
                let used = recover_tier((row.number, &set), meta, first, report)?;
                let meter = Meter::new(Arc::clone(&set), *capacity_bytes, used);
                Ground::Drives { set, meter }
            }
            TierGround::Remote(objects) => {
                let ring = KeyRing::open(meta.places())?;
                let bound = format!("tier/{}", tier.name);
                if known.is_none() {
                    row.secret = ring.seal(crate::crypto::new_object_key()?.expose(), &bound)?;
                } else if row.secret.is_empty() {
                    return Err(other());
                }
                let secret = ring.unseal(&row.secret, &bound);
                let lost = || Error::corrupt(format!("the secret of tier `{}`", tier.name), "the key ring");
                let secret = secret.ok_or_else(lost)?;
                let remote = RemoteTier::new(Arc::clone(objects), secret.expose(), tier.name.clone(), row.number);
                Ground::Remote(Box::new(remote))
            }
        };
        if known.is_none() {
            let key = name_key(&tier.name);
            meta.write(|tables, _sequence| {
                tables.put(TableId::Tiers, &key, &encode(&key, &row, &[]))?;
                Ok(((), Commit::Needed))
            })?;
        }
        tiers.0.push(Tier {
            number: row.number,
            name: tier.name.clone(),
            class: tier.class.clone(),
            after_ms: tier.after_ms,
            compression: tier.compression,
            ground,
        });
    }
    Ok((tiers, rows.usage))
}
