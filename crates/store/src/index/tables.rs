//! The tables, and one write transaction's view of them, which notes every row that it changes for the log.

use std::collections::BTreeMap;

use redb::{ReadableTable as _, Table, TableDefinition};

use super::codec::{decode, encode};
use super::meta::write_failed;
use super::wal::Batch;
use crate::Error;
use crate::mutation::UsageChange;
use crate::stats::BucketUsage;

type Bytes = &'static [u8];

/// A table of the index. Its number is part of the log's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TableId {
    /// The store's own numbers.
    State = 0,
    /// Buckets by name.
    Buckets = 1,
    /// Versions of objects.
    Objects = 2,
    /// Multipart uploads.
    Uploads = 3,
    /// Their parts.
    Parts = 4,
    /// Documents of buckets.
    Documents = 5,
    /// Identities: users, groups, keys, policies, sessions.
    Identities = 6,
    /// What each bucket holds.
    Usage = 7,
    /// Large extents that rows name: the id, big-endian, and the bytes before parity.
    Extents = 8,
    /// Segments of small bodies: the id, big-endian, and where they lie.
    Segments = 9,
    /// Tiers: what they hold by number, and how they are known by name.
    Tiers = 10,
    /// Bodies on the drives of tiers: the tier, the id, big-endian, and the bytes before parity.
    Cold = 11,
    /// Bodies in other stores that no row names, or none yet: the tier, the id, big-endian, and how many blocks.
    Doomed = 12,
}

impl TableId {
    pub(crate) const ALL: [Self; 13] = [
        Self::State,
        Self::Buckets,
        Self::Objects,
        Self::Uploads,
        Self::Parts,
        Self::Documents,
        Self::Identities,
        Self::Usage,
        Self::Extents,
        Self::Segments,
        Self::Tiers,
        Self::Cold,
        Self::Doomed,
    ];

    pub(super) const fn definition(self) -> TableDefinition<'static, Bytes, Bytes> {
        TableDefinition::new(match self {
            Self::State => "state",
            Self::Buckets => "buckets",
            Self::Objects => "objects",
            Self::Uploads => "uploads",
            Self::Parts => "parts",
            Self::Documents => "documents",
            Self::Identities => "identities",
            Self::Usage => "usage",
            Self::Extents => "extents",
            Self::Segments => "segments",
            Self::Tiers => "tiers",
            Self::Cold => "cold",
            Self::Doomed => "doomed",
        })
    }
}

/// The tables of one write transaction.
pub(crate) struct Tables<'t> {
    /// In the order of [`TableId::ALL`].
    open: Vec<Table<'t, Bytes, Bytes>>,
    /// What buckets hold, as far as this transaction touched them; `None` for those that are gone.
    usage: BTreeMap<String, Option<BucketUsage>>,
    /// The rows that this transaction changed.
    batch: Batch,
}

/// The key of what a tier holds.
pub(crate) const fn tier_key(tier: u8) -> [u8; 2] {
    [0, tier]
}

/// The key of a body on a tier.
pub(crate) fn placed_key(tier: u8, id: u64) -> Vec<u8> {
    [[tier].as_slice(), &id.to_be_bytes()].concat()
}

/// A row: key and value.
pub(crate) type Row = (Vec<u8>, Vec<u8>);
/// Rows in order.
pub(crate) type Rows = Vec<Row>;

impl<'t> Tables<'t> {
    pub(super) fn open(transaction: &'t redb::WriteTransaction) -> Result<Self, Error> {
        let open = |id: &TableId| transaction.open_table(id.definition()).map_err(write_failed);
        Ok(Self {
            open: TableId::ALL.iter().map(open).collect::<Result<_, _>>()?,
            usage: BTreeMap::new(),
            batch: Batch::default(),
        })
    }

    fn table(&self, id: TableId) -> Result<&Table<'t, Bytes, Bytes>, Error> {
        self.open.get(id as usize).ok_or_else(|| Error::Meta("an unknown table".to_owned()))
    }

    fn table_mut(&mut self, id: TableId) -> Result<&mut Table<'t, Bytes, Bytes>, Error> {
        self.open.get_mut(id as usize).ok_or_else(|| Error::Meta("an unknown table".to_owned()))
    }

    /// The value of a row.
    pub(crate) fn get(&self, id: TableId, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.table(id)?.get(key).map_err(write_failed)?.map(|value| value.value().to_vec()))
    }

    /// Sets a row.
    pub(crate) fn put(&mut self, id: TableId, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.table_mut(id)?.insert(key, value).map_err(write_failed)?;
        self.batch.put(id, key, value);
        Ok(())
    }

    /// Removes a row.
    pub(crate) fn remove(&mut self, id: TableId, key: &[u8]) -> Result<(), Error> {
        let before = self.table_mut(id)?.remove(key).map_err(write_failed)?.is_some();
        if before {
            self.batch.remove(id, key);
        }
        Ok(())
    }

    /// Sets or removes a row of a record, which is not noted again.
    pub(super) fn replay(&mut self, id: TableId, key: &[u8], value: Option<&[u8]>) -> Result<(), Error> {
        let table = self.table_mut(id)?;
        match value {
            Some(value) => drop(table.insert(key, value).map_err(write_failed)?),
            None => drop(table.remove(key).map_err(write_failed)?),
        }
        Ok(())
    }

    /// The rows that changed, with the counts of this transaction.
    pub(super) fn finish(mut self) -> Result<Batch, Error> {
        self.flush_usage()?;
        Ok(self.batch)
    }

    /// What a bucket holds.
    pub(crate) fn usage(&mut self, bucket: &str) -> Result<BucketUsage, Error> {
        if let Some(usage) = self.usage.get(bucket) {
            return Ok(usage.unwrap_or_default());
        }
        let key = bucket.as_bytes();
        let row = self.get(TableId::Usage, key)?;
        let usage = row.map(|value| Ok::<_, Error>(decode(key, &value)?.0)).transpose()?.unwrap_or_default();
        self.usage.insert(bucket.to_owned(), Some(usage));
        Ok(usage)
    }

    /// Counts what came and went.
    pub(crate) fn change_usage(&mut self, bucket: &str, change: UsageChange) -> Result<(), Error> {
        let mut usage = self.usage(bucket)?;
        usage.apply(change);
        self.usage.insert(bucket.to_owned(), Some(usage));
        Ok(())
    }

    /// Counts what came to a tier and went from it.
    pub(crate) fn change_tier(&mut self, tier: u8, change: UsageChange) -> Result<(), Error> {
        let key = tier_key(tier);
        let row = self.get(TableId::Tiers, &key)?;
        let row = row.map(|value| Ok::<_, Error>(decode::<BucketUsage>(&key, &value)?.0));
        let mut usage = row.transpose()?.unwrap_or_default();
        usage.apply(change);
        self.put(TableId::Tiers, &key, &encode(&key, &usage, &[]))
    }

    /// Forgets a bucket that is gone.
    pub(crate) fn forget_usage(&mut self, bucket: &str) {
        self.usage.insert(bucket.to_owned(), None);
    }

    /// Writes the counts of this transaction.
    fn flush_usage(&mut self) -> Result<(), Error> {
        for (bucket, usage) in std::mem::take(&mut self.usage) {
            let key = bucket.as_bytes();
            match usage {
                Some(usage) => self.put(TableId::Usage, key, &encode(key, &usage, &[]))?,
                None => self.remove(TableId::Usage, key)?,
            }
        }
        Ok(())
    }

    /// The first `limit` rows of `from..to`.
    pub(crate) fn rows(&self, id: TableId, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, Error> {
        self.table(id)?
            .range(from..to)
            .map_err(write_failed)?
            .take(limit)
            .map(|row| row.map(|(key, value)| (key.value().to_vec(), value.value().to_vec())).map_err(write_failed))
            .collect()
    }
}
