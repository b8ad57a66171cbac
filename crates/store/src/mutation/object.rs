//! Changes of objects and their versions.
//!
//! Cost of a put: one look-up of the key's newest version and one row; where versioning is suspended, one look-up more.

use super::{Condition, Effects, Moment, Path, UsageChange, bucket};
use crate::Error;
use crate::extent::ExtentRef;
use crate::index::codec::{decode, encode};
use crate::index::keys::{object_key, past_object, split_version, version_key};
use crate::index::meta::{TableId, Tables};
use crate::index::rows::{BucketRow, Locking, MarkerInfo, ObjectInfo, ObjectMeta, VersionRow};
use crate::retention::{Governance, LegalHold, Retention};
use crate::version::{Version, VersionId, Versioning};

/// What may be changed about a version that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Annotation {
    /// Its tags.
    Tags(Vec<(String, String)>),
    /// Its access list.
    Acl(Option<Vec<u8>>),
    /// Its owner.
    Owner(Option<String>),
    /// How long it is kept.
    Retention(Option<Retention>, Governance),
    /// Whether somebody holds it.
    LegalHold(LegalHold),
    /// Its encryption, for a new wrapping of the same key.
    Sse(Option<crate::index::rows::Sse>),
    /// Its storage class; `None` for the standard one.
    StorageClass(Option<String>),
}

/// What a delete did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deleted {
    /// Whether an object or marker was removed.
    pub existed: bool,
    /// The version that was removed, or that of the marker that was set.
    pub version: Option<VersionId>,
    /// Whether `version` is that of a delete marker.
    pub marker: bool,
}

/// How a delete is meant.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) condition: Condition,
    pub(super) governance: Governance,
    pub(super) owner: Option<String>,
}

/// A version that is there.
struct Found {
    sequence: u64,
    row: VersionRow,
    inline: Vec<u8>,
}

impl Found {
    const fn object(&self) -> Option<&ObjectInfo> {
        match &self.row {
            VersionRow::Object(info) => Some(info),
            VersionRow::Marker(_) | VersionRow::NullAt(_) => None,
        }
    }

    const fn version(&self) -> Option<VersionId> {
        match &self.row {
            VersionRow::Object(info) => Some(info.version),
            VersionRow::Marker(marker) => Some(marker.version),
            VersionRow::NullAt(_) => None,
        }
    }
}

fn read(row_key: &[u8], value: &[u8], sequence: u64) -> Result<Found, Error> {
    let (row, inline) = decode::<VersionRow>(row_key, value)?;
    Ok(Found { sequence, row, inline: inline.to_vec() })
}

fn at(tables: &Tables<'_>, path: &Path, sequence: u64) -> Result<Option<Found>, Error> {
    let row_key = version_key(&path.bucket, &path.key, sequence);
    let value = tables.get(TableId::Objects, &row_key)?;
    value.map(|value| read(&row_key, &value, sequence)).transpose()
}

/// The newest version.
fn latest(tables: &Tables<'_>, path: &Path) -> Result<Option<Found>, Error> {
    let (from, to) = (object_key(&path.bucket, &path.key), past_object(&path.bucket, &path.key));
    let rows = tables.rows(TableId::Objects, &from, &to, 1)?;
    let Some((row_key, value)) = rows.first() else { return Ok(None) };
    let sequence = split_version(row_key).map_or(0, |(_bucket, _key, sequence)| sequence);
    read(row_key, value, sequence).map(Some)
}

/// The null version, wherever it is.
fn null(tables: &Tables<'_>, path: &Path) -> Result<Option<Found>, Error> {
    let Some(found) = at(tables, path, 0)? else { return Ok(None) };
    match found.row {
        VersionRow::NullAt(sequence) => at(tables, path, sequence),
        VersionRow::Object(_) | VersionRow::Marker(_) => Ok(Some(found)),
    }
}

fn find(tables: &Tables<'_>, path: &Path, version: Version) -> Result<Option<Found>, Error> {
    match version {
        Version::Latest => latest(tables, path),
        Version::Id(VersionId::Null) => null(tables, path),
        Version::Id(id @ VersionId::Id(sequence)) => {
            Ok(at(tables, path, sequence)?.filter(|found| found.version() == Some(id)))
        }
    }
}

/// Removes a version's row, and the pointer to it if it is a null version elsewhere than in the last place.
fn remove(tables: &mut Tables<'_>, path: &Path, found: &Found) -> Result<(), Error> {
    tables.remove(TableId::Objects, &version_key(&path.bucket, &path.key, found.sequence))?;
    if found.sequence != 0 && found.version() == Some(VersionId::Null) {
        tables.remove(TableId::Objects, &version_key(&path.bucket, &path.key, 0))?;
    }
    Ok(())
}

/// Where a new version goes, and the null version that it replaces.
struct Place {
    version: VersionId,
    sequence: u64,
    replaced: Option<Found>,
    pointer: bool,
}

/// Finds the place; changes nothing.
fn place(
    tables: &Tables<'_>,
    path: &Path,
    versioning: Versioning,
    newest: Option<Found>,
    moment: Moment,
) -> Result<Place, Error> {
    let new = Place { version: VersionId::Null, sequence: 0, replaced: None, pointer: false };
    match versioning {
        Versioning::Enabled => Ok(Place { version: VersionId::Id(moment.sequence), sequence: moment.sequence, ..new }),
        Versioning::Unversioned => Ok(Place { replaced: newest, ..new }),
        Versioning::Suspended => {
            let replaced = null(tables, path)?;
            let alone = newest.as_ref().is_none_or(|newest| newest.sequence == 0);
            let sequence = if alone { 0 } else { moment.sequence };
            Ok(Place { replaced, sequence, pointer: !alone, ..new })
        }
    }
}

fn write(tables: &mut Tables<'_>, path: &Path, place: &Place, row: &VersionRow, inline: &[u8]) -> Result<(), Error> {
    if let Some(replaced) = place.replaced.as_ref().filter(|replaced| replaced.sequence != place.sequence) {
        remove(tables, path, replaced)?;
    }
    let row_key = version_key(&path.bucket, &path.key, place.sequence);
    tables.put(TableId::Objects, &row_key, &encode(&row_key, row, inline))?;
    if place.pointer {
        let row_key = version_key(&path.bucket, &path.key, 0);
        tables.put(TableId::Objects, &row_key, &encode(&row_key, &VersionRow::NullAt(place.sequence), &[]))?;
    }
    Ok(())
}

/// What the disk and the counters lose with a version.
fn lost(found: Option<Found>) -> (Option<(u64, u64)>, Vec<crate::extent::ExtentRef>) {
    match found.map(|found| found.row) {
        Some(VersionRow::Object(info)) => (Some((info.size, info.stored())), info.extents),
        Some(VersionRow::Marker(_) | VersionRow::NullAt(_)) | None => (None, Vec::new()),
    }
}

/// What colder tiers lose with a version.
fn tiers_lost(found: Option<&Found>) -> Vec<(u8, UsageChange)> {
    let info = found.and_then(Found::object).filter(|info| info.tier() > 0);
    info.map(|info| (info.tier(), UsageChange { added: None, removed: Some((info.size, info.stored())) }))
        .into_iter()
        .collect()
}

/// A body of a version lies elsewhere from now on, if it still lies where it was moved from.
pub(super) fn relocate(
    tables: &mut Tables<'_>,
    path: Path,
    version: VersionId,
    from: ExtentRef,
    to: ExtentRef,
) -> Result<Effects, Error> {
    let changed = || Error::Precondition("the object was not changed while it moved");
    let found = find(tables, &path, Version::Id(version))?;
    let Some(Found { sequence, row: VersionRow::Object(mut info), inline }) = found else { return Err(changed()) };
    let before = (info.tier(), info.size, info.stored());
    let slot = info.extents.iter_mut().find(|extent| **extent == from).ok_or_else(changed)?;
    *slot = to;
    let after = (info.tier(), info.size, info.stored());
    let row_key = version_key(&path.bucket, &path.key, sequence);
    tables.put(TableId::Objects, &row_key, &encode(&row_key, &VersionRow::Object(info), &inline))?;
    let left = UsageChange { added: None, removed: Some((before.1, before.2)) };
    let came = UsageChange { added: Some((after.1, after.2)), removed: None };
    let usage = UsageChange { added: came.added, removed: left.removed };
    tables.change_usage(&path.bucket, usage)?;
    let tiers = [(before.0, left), (after.0, came)].into_iter().filter(|(tier, _change)| *tier > 0).collect();
    Ok(Effects { added: vec![to], freed: vec![from], tiers, usage: Some((path.bucket, usage)), ..Effects::default() })
}

/// The newest version for a change that replaces or removes it. Where no versions are kept, a corrupt row may be
/// overwritten and deleted, else it could never be got rid of; its extents stay until a scrub finds that nothing names
/// them.
fn newest(tables: &Tables<'_>, path: &Path, row: &BucketRow, condition: &Condition) -> Result<Option<Found>, Error> {
    let found = latest(tables, path);
    let unreadable = matches!(&found, Err(Error::Corrupt { .. }));
    let replaceable = *condition == Condition::Always && row.versioning == Versioning::Unversioned;
    if unreadable && replaceable { Ok(None) } else { found }
}

/// Whether what a writer says fits to the bucket.
pub(super) fn check_meta(row: &BucketRow, meta: &ObjectMeta) -> Result<(), Error> {
    meta.check()?;
    if !meta.lock.is_empty() && row.object_lock == Locking::Off {
        return Err(Error::Invalid("the bucket has no object lock".to_owned()));
    }
    Ok(())
}

fn check_quota(tables: &mut Tables<'_>, path: &Path, row: &BucketRow, change: UsageChange) -> Result<(), Error> {
    if row.quota.bytes.is_none() && row.quota.objects.is_none() {
        return Ok(());
    }
    let before = tables.usage(&path.bucket)?;
    let mut after = before;
    after.apply(change);
    let over = |limit: Option<u64>, before: u64, after: u64| limit.is_some_and(|limit| after > limit && after > before);
    if over(row.quota.bytes, before.logical_bytes, after.logical_bytes) {
        return Err(Error::Quota(format!("bucket `{}` would hold {} bytes", path.bucket, after.logical_bytes)));
    }
    if over(row.quota.objects, before.objects, after.objects) {
        return Err(Error::Quota(format!("bucket `{}` would hold {} objects", path.bucket, after.objects)));
    }
    Ok(())
}

pub(super) fn put(
    tables: &mut Tables<'_>,
    path: Path,
    mut info: ObjectInfo,
    inline: &[u8],
    condition: &Condition,
    moment: Moment,
) -> Result<Effects, Error> {
    let row = bucket::row(tables, &path.bucket)?;
    check_meta(&row, &info.meta)?;
    let newest = newest(tables, &path, &row, condition)?;
    condition.check(&path.bucket, &path.key, newest.as_ref().and_then(Found::object))?;
    let place = place(tables, &path, row.versioning, newest, moment)?;
    if let Some(replaced) = place.replaced.as_ref().and_then(Found::object) {
        replaced.meta.lock.may_remove(&path.key, moment.now_ms, Governance::Holds)?;
    }
    let removed = place.replaced.as_ref().and_then(Found::object).map(|info| (info.size, info.stored()));
    let usage = UsageChange { added: Some((info.size, info.stored())), removed };
    check_quota(tables, &path, &row, usage)?;
    info.version = place.version;
    info.modified_ms = moment.now_ms;
    let row = VersionRow::Object(info);
    write(tables, &path, &place, &row, inline)?;
    tables.change_usage(&path.bucket, usage)?;
    let tiers = tiers_lost(place.replaced.as_ref());
    let (_removed, freed) = lost(place.replaced);
    let object = if let VersionRow::Object(info) = row { Some(info) } else { None };
    let added = object.as_ref().map(|info| info.extents.clone()).unwrap_or_default();
    Ok(Effects { object, added, freed, tiers, usage: Some((path.bucket, usage)), ..Effects::default() })
}

pub(super) fn delete(
    tables: &mut Tables<'_>,
    path: Path,
    version: Version,
    rules: &Rules,
    moment: Moment,
) -> Result<Effects, Error> {
    let row = bucket::row(tables, &path.bucket)?;
    let (deleted, gone) = match version {
        Version::Id(_) => {
            let found = find(tables, &path, version)?;
            rules.condition.check(&path.bucket, &path.key, found.as_ref().and_then(Found::object))?;
            remove_found(tables, &path, found, rules, moment)?
        }
        Version::Latest if row.versioning == Versioning::Unversioned => {
            let found = newest(tables, &path, &row, &rules.condition)?;
            rules.condition.check(&path.bucket, &path.key, found.as_ref().and_then(Found::object))?;
            if found.is_none() {
                // A row that cannot be read goes all the same.
                tables.remove(TableId::Objects, &version_key(&path.bucket, &path.key, 0))?;
            }
            let (deleted, gone) = remove_found(tables, &path, found, rules, moment)?;
            (Deleted { version: None, ..deleted }, gone)
        }
        Version::Latest => {
            let newest = latest(tables, &path)?;
            rules.condition.check(&path.bucket, &path.key, newest.as_ref().and_then(Found::object))?;
            let place = place(tables, &path, row.versioning, newest, moment)?;
            if let Some(replaced) = place.replaced.as_ref().and_then(Found::object) {
                replaced.meta.lock.may_remove(&path.key, moment.now_ms, rules.governance)?;
            }
            let marker = MarkerInfo { version: place.version, modified_ms: moment.now_ms, owner: rules.owner.clone() };
            write(tables, &path, &place, &VersionRow::Marker(marker), &[])?;
            let existed = place.replaced.as_ref().is_some_and(|found| found.object().is_some());
            (Deleted { existed, version: Some(place.version), marker: true }, place.replaced)
        }
    };
    let tiers = tiers_lost(gone.as_ref());
    let (removed, freed) = lost(gone);
    let usage = UsageChange { added: None, removed };
    tables.change_usage(&path.bucket, usage)?;
    Ok(Effects { deleted: Some(deleted), freed, tiers, usage: Some((path.bucket, usage)), ..Effects::default() })
}

fn remove_found(
    tables: &mut Tables<'_>,
    path: &Path,
    found: Option<Found>,
    rules: &Rules,
    moment: Moment,
) -> Result<(Deleted, Option<Found>), Error> {
    let Some(found) = found else { return Ok((Deleted::default(), None)) };
    if let Some(info) = found.object() {
        info.meta.lock.may_remove(&path.key, moment.now_ms, rules.governance)?;
    }
    remove(tables, path, &found)?;
    let marker = matches!(found.row, VersionRow::Marker(_));
    Ok((Deleted { existed: true, version: found.version(), marker }, Some(found)))
}

pub(super) fn annotate(
    tables: &mut Tables<'_>,
    path: &Path,
    version: Version,
    change: Annotation,
    condition: &Condition,
    moment: Moment,
) -> Result<Effects, Error> {
    let row = bucket::row(tables, &path.bucket)?;
    let found = find(tables, path, version)?;
    condition.check(&path.bucket, &path.key, found.as_ref().and_then(Found::object))?;
    let Some(Found { sequence, row: VersionRow::Object(mut info), inline }) = found else {
        return Err(missing(path, version, found.and_then(|found| found.version())));
    };
    match change {
        Annotation::Tags(tags) => info.meta.tags = tags,
        Annotation::Acl(acl) => info.meta.acl = acl,
        Annotation::Owner(owner) => info.meta.owner = owner,
        Annotation::Sse(sse) => info.meta.sse = sse,
        Annotation::StorageClass(class) => info.meta.storage_class = class,
        Annotation::LegalHold(hold) => info.meta.lock.legal_hold = Some(hold),
        Annotation::Retention(retention, governance) => {
            info.meta.lock.may_become(retention, &path.key, moment.now_ms, governance)?;
            info.meta.lock.retention = retention;
        }
    }
    check_meta(&row, &info.meta)?;
    let row_key = version_key(&path.bucket, &path.key, sequence);
    let row = VersionRow::Object(info);
    tables.put(TableId::Objects, &row_key, &encode(&row_key, &row, &inline))?;
    let object = if let VersionRow::Object(info) = row { Some(info) } else { None };
    Ok(Effects { object, ..Effects::default() })
}

/// Why there is no object: there is nothing, or the delete marker `marker`.
fn missing(path: &Path, version: Version, marker: Option<VersionId>) -> Error {
    let key = path.key.clone();
    match (version, marker) {
        (_, Some(marker)) => Error::DeleteMarker { key, version: marker, asked: version },
        (Version::Latest, None) => Error::no_key(&path.bucket, &path.key),
        (Version::Id(version), None) => Error::NoSuchVersion { key, version },
    }
}
