//! How each kind of row is written. Field order is part of the format; new fields get new flags at the end.

use super::codec::{Reader, Row, bytes, flags, list, number, some, text};
use super::rows::{
    BucketRow, Durability, Locking, MarkerInfo, ObjectHeaders, ObjectInfo, ObjectMeta, ObjectPart, PartRow, Quota, Sse,
    UploadRow, VersionRow,
};
use crate::body::packed::{CodedRow, SegmentRow};
use crate::digest::{ChecksumKind, Checksums};
use crate::extent::{ExtentRef, Place};
use crate::retention::{LegalHold, ObjectLock, Retention, RetentionMode};
use crate::stats::BucketUsage;
use crate::version::{VersionId, Versioning};

const fn bit(flags: u64, index: u32) -> bool {
    flags >> index & 1 == 1
}

fn pair(out: &mut Vec<u8>, (name, value): &(String, String)) {
    bytes(out, name.as_bytes());
    bytes(out, value.as_bytes());
}

fn read_pair(from: &mut Reader<'_>) -> Option<(String, String)> {
    Some((from.text()?, from.text()?))
}

/// Numbers in the place of a segment's, which are all beyond 2^40.
const COPIED: u64 = 1;
const COLD: u64 = 2;
const REMOTE: u64 = 3;

impl Row for ExtentRef {
    fn write(&self, out: &mut Vec<u8>) {
        number(out, self.id);
        number(out, self.len);
        number(out, self.stored);
        out.extend_from_slice(&self.crc.to_le_bytes());
        // No segment has the id zero.
        match self.place {
            Place::Large if self.sealed == self.id => number(out, 0),
            Place::Large => {
                number(out, COPIED);
                number(out, self.sealed);
            }
            Place::Cold { tier } => {
                number(out, COLD);
                number(out, u64::from(tier));
                number(out, self.sealed);
            }
            Place::Remote { tier } => {
                number(out, REMOTE);
                number(out, u64::from(tier));
                number(out, self.sealed);
            }
            Place::Packed { segment, offset } => {
                number(out, segment);
                number(out, offset);
            }
        }
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let (id, len, stored) = (from.number()?, from.number()?, from.number()?);
        let crc = u64::from_le_bytes(from.fixed()?);
        let tier = |from: &mut Reader<'_>| u8::try_from(from.number()?).ok();
        let (place, sealed) = match from.number()? {
            0 => (Place::Large, id),
            COPIED => (Place::Large, from.number()?),
            COLD => (Place::Cold { tier: tier(from)? }, from.number()?),
            REMOTE => (Place::Remote { tier: tier(from)? }, from.number()?),
            segment => (Place::Packed { segment, offset: from.number()? }, id),
        };
        Some(Self { id, len, stored, crc, place, sealed })
    }
}

const KINDS: [ChecksumKind; 5] = ChecksumKind::ALL;

impl Row for Checksums {
    fn write(&self, out: &mut Vec<u8>) {
        let kind = self.value.as_ref().and_then(|(kind, _value)| KINDS.iter().position(|have| have == kind));
        let kind = kind.map_or(0, |index| index as u64 + 1);
        number(out, kind << 1 | u64::from(self.composite));
        if let Some((_kind, value)) = &self.value {
            bytes(out, value.as_bytes());
        }
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let word = from.number()?;
        let value = match word >> 1 {
            0 => None,
            kind => Some((*KINDS.get(usize::try_from(kind - 1).ok()?)?, from.text()?)),
        };
        Some(Self { value, composite: word & 1 == 1 })
    }
}

impl Row for Sse {
    fn write(&self, out: &mut Vec<u8>) {
        number(out, flags(&[self.key_id.is_some(), self.key_md5.is_some(), self.context.is_some()]));
        bytes(out, self.scheme.as_bytes());
        text(out, self.key_id.as_ref());
        text(out, self.key_md5.as_ref());
        text(out, self.context.as_ref());
        bytes(out, &self.wrapped);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let flags = from.number()?;
        Some(Self {
            scheme: from.text()?,
            key_id: from.optional(bit(flags, 0), Reader::text)?,
            key_md5: from.optional(bit(flags, 1), Reader::text)?,
            context: from.optional(bit(flags, 2), Reader::text)?,
            wrapped: from.bytes()?.to_vec(),
        })
    }
}

impl Row for ObjectMeta {
    fn write(&self, out: &mut Vec<u8>) {
        let Self { headers, owner, tags, acl, lock, sse, storage_class } = self;
        let compliance = lock.retention.is_some_and(|retention| retention.mode == RetentionMode::Compliance);
        number(
            out,
            flags(&[
                headers.content_type.is_some(),
                headers.cache_control.is_some(),
                headers.content_disposition.is_some(),
                headers.content_encoding.is_some(),
                headers.content_language.is_some(),
                headers.expires_ms.is_some(),
                !headers.user.is_empty(),
                owner.is_some(),
                !tags.is_empty(),
                acl.is_some(),
                lock.retention.is_some(),
                compliance,
                lock.legal_hold.is_some(),
                lock.legal_hold == Some(LegalHold::On),
                sse.is_some(),
                storage_class.is_some(),
            ]),
        );
        text(out, headers.content_type.as_ref());
        text(out, headers.cache_control.as_ref());
        text(out, headers.content_disposition.as_ref());
        text(out, headers.content_encoding.as_ref());
        text(out, headers.content_language.as_ref());
        some(out, headers.expires_ms.as_ref(), |out, ms| number(out, *ms));
        if !headers.user.is_empty() {
            number(out, headers.user.len() as u64);
            for (name, value) in &headers.user {
                bytes(out, name.as_bytes());
                bytes(out, value.as_bytes());
            }
        }
        text(out, owner.as_ref());
        list(out, tags, pair);
        some(out, acl.as_ref(), |out, acl| bytes(out, acl));
        some(out, lock.retention.as_ref(), |out, retention| number(out, retention.until_ms));
        some(out, sse.as_ref(), |out, sse| sse.write(out));
        text(out, storage_class.as_ref());
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let flags = from.number()?;
        let headers = ObjectHeaders {
            content_type: from.optional(bit(flags, 0), Reader::text)?,
            cache_control: from.optional(bit(flags, 1), Reader::text)?,
            content_disposition: from.optional(bit(flags, 2), Reader::text)?,
            content_encoding: from.optional(bit(flags, 3), Reader::text)?,
            content_language: from.optional(bit(flags, 4), Reader::text)?,
            expires_ms: from.optional(bit(flags, 5), Reader::number)?,
            user: from.list(bit(flags, 6), read_pair)?.into_iter().collect(),
        };
        let owner = from.optional(bit(flags, 7), Reader::text)?;
        let tags = from.list(bit(flags, 8), read_pair)?;
        let acl = from.optional(bit(flags, 9), |from| Some(from.bytes()?.to_vec()))?;
        let mode = if bit(flags, 11) { RetentionMode::Compliance } else { RetentionMode::Governance };
        let until_ms = from.optional(bit(flags, 10), Reader::number)?;
        let retention = until_ms.map(|until_ms| Retention { mode, until_ms });
        let hold = if bit(flags, 13) { LegalHold::On } else { LegalHold::Off };
        let lock = ObjectLock { retention, legal_hold: bit(flags, 12).then_some(hold) };
        let sse = from.optional(bit(flags, 14), Sse::read)?;
        let storage_class = from.optional(bit(flags, 15), Reader::text)?;
        Some(Self { headers, owner, tags, acl, lock, sse, storage_class })
    }
}

/// An `ETag` that is an MD5 in hex takes half of its letters.
fn packed_etag(etag: &str) -> Option<[u8; 16]> {
    let mut md5 = [0; 16];
    let plain = etag.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (plain && etag.len() == 32 && hex::decode_to_slice(etag, &mut md5).is_ok()).then_some(md5)
}

impl Row for ObjectPart {
    fn write(&self, out: &mut Vec<u8>) {
        number(out, u64::from(self.number));
        number(out, self.size);
        self.checksums.write(out);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self { number: from.small()?, size: from.number()?, checksums: Checksums::read(from)? })
    }
}

fn write_etag(out: &mut Vec<u8>, etag: &str) {
    match packed_etag(etag) {
        Some(md5) => out.extend_from_slice(&md5),
        None => bytes(out, etag.as_bytes()),
    }
}

fn read_etag(from: &mut Reader<'_>, packed: bool) -> Option<String> {
    if packed { Some(hex::encode(from.fixed::<16>()?)) } else { from.text() }
}

fn write_version(out: &mut Vec<u8>, version: VersionId) {
    if let VersionId::Id(id) = version {
        number(out, id);
    }
}

fn read_version(from: &mut Reader<'_>, null: bool) -> Option<VersionId> {
    if null { Some(VersionId::Null) } else { from.number().map(VersionId::Id) }
}

impl Row for ObjectInfo {
    fn write(&self, out: &mut Vec<u8>) {
        number(
            out,
            flags(&[
                self.version == VersionId::Null,
                packed_etag(&self.etag).is_some(),
                self.meta != ObjectMeta::default(),
                !self.parts.is_empty(),
                !self.extents.is_empty(),
            ]),
        );
        write_version(out, self.version);
        number(out, self.size);
        write_etag(out, &self.etag);
        number(out, self.modified_ms);
        if self.meta != ObjectMeta::default() {
            self.meta.write(out);
        }
        self.checksums.write(out);
        list(out, &self.parts, |out, part| part.write(out));
        list(out, &self.extents, |out, extent| extent.write(out));
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let flags = from.number()?;
        Some(Self {
            version: read_version(from, bit(flags, 0))?,
            size: from.number()?,
            etag: read_etag(from, bit(flags, 1))?,
            modified_ms: from.number()?,
            meta: from.optional(bit(flags, 2), ObjectMeta::read)?.unwrap_or_default(),
            checksums: Checksums::read(from)?,
            parts: from.list(bit(flags, 3), ObjectPart::read)?,
            extents: from.list(bit(flags, 4), ExtentRef::read)?,
        })
    }
}

impl Row for VersionRow {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Object(info) => {
                out.push(0);
                info.write(out);
            }
            Self::Marker(MarkerInfo { version, modified_ms, owner }) => {
                out.push(1);
                number(out, flags(&[*version == VersionId::Null, owner.is_some()]));
                write_version(out, *version);
                number(out, *modified_ms);
                text(out, owner.as_ref());
            }
            Self::NullAt(sequence) => {
                out.push(2);
                number(out, *sequence);
            }
        }
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        match from.byte()? {
            0 => ObjectInfo::read(from).map(Self::Object),
            1 => {
                let flags = from.number()?;
                Some(Self::Marker(MarkerInfo {
                    version: read_version(from, bit(flags, 0))?,
                    modified_ms: from.number()?,
                    owner: from.optional(bit(flags, 1), Reader::text)?,
                }))
            }
            2 => from.number().map(Self::NullAt),
            _unknown => None,
        }
    }
}

impl Row for BucketRow {
    fn write(&self, out: &mut Vec<u8>) {
        let Quota { bytes, objects } = self.quota;
        number(
            out,
            flags(&[self.owner.is_some(), self.object_lock == Locking::On, bytes.is_some(), objects.is_some()]),
        );
        number(out, self.created_ms);
        text(out, self.owner.as_ref());
        out.push(match self.versioning {
            Versioning::Unversioned => 0,
            Versioning::Enabled => 1,
            Versioning::Suspended => 2,
        });
        out.push(match self.durability {
            Durability::Sync => 0,
            Durability::Group => 1,
            Durability::Cache => 2,
        });
        some(out, bytes.as_ref(), |out, limit| number(out, *limit));
        some(out, objects.as_ref(), |out, limit| number(out, *limit));
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let flags = from.number()?;
        let created_ms = from.number()?;
        let owner = from.optional(bit(flags, 0), Reader::text)?;
        let versioning = match from.byte()? {
            0 => Versioning::Unversioned,
            1 => Versioning::Enabled,
            2 => Versioning::Suspended,
            _unknown => return None,
        };
        let durability = match from.byte()? {
            0 => Durability::Sync,
            1 => Durability::Group,
            2 => Durability::Cache,
            _unknown => return None,
        };
        let quota = Quota {
            bytes: from.optional(bit(flags, 2), Reader::number)?,
            objects: from.optional(bit(flags, 3), Reader::number)?,
        };
        let object_lock = if bit(flags, 1) { Locking::On } else { Locking::Off };
        Some(Self { created_ms, owner, versioning, object_lock, quota, durability })
    }
}

impl Row for UploadRow {
    fn write(&self, out: &mut Vec<u8>) {
        let kind = self.checksum.and_then(|kind| KINDS.iter().position(|have| *have == kind));
        number(out, flags(&[self.full_object, self.initiator.is_some(), kind.is_some()]));
        number(out, self.created_ms);
        text(out, self.initiator.as_ref());
        some(out, kind.as_ref(), |out, kind| number(out, *kind as u64));
        self.meta.write(out);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let flags = from.number()?;
        Some(Self {
            full_object: bit(flags, 0),
            created_ms: from.number()?,
            initiator: from.optional(bit(flags, 1), Reader::text)?,
            checksum: from.optional(bit(flags, 2), |from| KINDS.get(usize::try_from(from.number()?).ok()?).copied())?,
            meta: ObjectMeta::read(from)?,
        })
    }
}

impl Row for PartRow {
    fn write(&self, out: &mut Vec<u8>) {
        number(out, flags(&[packed_etag(&self.etag).is_some()]));
        write_etag(out, &self.etag);
        number(out, self.modified_ms);
        self.checksums.write(out);
        self.extent.write(out);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let flags = from.number()?;
        Some(Self {
            etag: read_etag(from, bit(flags, 0))?,
            modified_ms: from.number()?,
            checksums: Checksums::read(from)?,
            extent: ExtentRef::read(from)?,
        })
    }
}

impl Row for SegmentRow {
    fn write(&self, out: &mut Vec<u8>) {
        number(out, self.copies.len() as u64);
        for drive in &self.copies {
            number(out, *drive as u64);
        }
        number(out, self.live);
        number(out, self.end);
        match self.coded {
            None => number(out, 0),
            Some(CodedRow { generation, len, records }) => {
                number(out, u64::from(generation) + 1);
                number(out, len);
                number(out, records);
            }
        }
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let drives = from.number()?;
        let copies = (0..drives).map(|_copy| usize::try_from(from.number()?).ok()).collect::<Option<Vec<_>>>()?;
        let (live, end) = (from.number()?, from.number()?);
        let coded = match from.number()? {
            0 => None,
            generation => Some(CodedRow {
                generation: u32::try_from(generation - 1).ok()?,
                len: from.number()?,
                records: from.number()?,
            }),
        };
        Some(Self { copies, live, end, coded })
    }
}

impl Row for BucketUsage {
    fn write(&self, out: &mut Vec<u8>) {
        number(out, self.objects);
        number(out, self.logical_bytes);
        number(out, self.stored_bytes);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self { objects: from.number()?, logical_bytes: from.number()?, stored_bytes: from.number()? })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::codec::{decode, encode};
    use super::*;

    pub(crate) fn plain() -> ObjectInfo {
        ObjectInfo {
            version: VersionId::Null,
            size: 5,
            etag: "5d41402abc4b2a76b9719d911017c592".to_owned(),
            modified_ms: 1_764_140_000_000,
            meta: ObjectMeta::default(),
            checksums: Checksums {
                value: Some((ChecksumKind::Crc64Nvme, "M3eFcAZSQlc=".to_owned())),
                composite: false,
            },
            parts: Vec::new(),
            extents: Vec::new(),
        }
    }

    pub(crate) fn full() -> ObjectInfo {
        let some = |text: &str| Some(text.to_owned());
        let pairs = [("a".to_owned(), "1".to_owned()), ("b".to_owned(), String::new())];
        let meta = ObjectMeta {
            headers: ObjectHeaders {
                content_type: some("text/plain"),
                cache_control: some("no-cache"),
                content_disposition: some("inline"),
                content_encoding: some("gzip"),
                content_language: some("de"),
                expires_ms: Some(7),
                user: pairs.iter().cloned().collect(),
            },
            owner: some("ada"),
            tags: pairs.to_vec(),
            acl: Some(vec![1, 2, 3]),
            lock: ObjectLock {
                retention: Some(Retention { mode: RetentionMode::Compliance, until_ms: u64::MAX }),
                legal_hold: Some(LegalHold::On),
            },
            sse: Some(Sse {
                scheme: "aws:kms".to_owned(),
                key_id: some("key"),
                key_md5: None,
                context: some("{}"),
                wrapped: vec![9; 60],
            }),
            storage_class: some("STANDARD_IA"),
        };
        let extent = ExtentRef {
            id: 1 << 40,
            len: 5 << 20,
            stored: (5 << 20) + 99,
            crc: u64::MAX,
            place: Place::Packed { segment: 1 << 40 | 7, offset: 64 },
            sealed: 1 << 40,
        };
        let moved = |place| ExtentRef { place, sealed: 3 << 40, ..extent };
        let extents = vec![
            extent,
            ExtentRef { place: Place::Large, ..extent },
            moved(Place::Large),
            moved(Place::Cold { tier: 1 }),
            moved(Place::Remote { tier: 255 }),
        ];
        let part = |number| ObjectPart { number, size: 5 << 20, checksums: Checksums::default() };
        ObjectInfo {
            version: VersionId::Id(4_097),
            etag: "5d41402abc4b2a76b9719d911017c592-2".to_owned(),
            meta,
            parts: vec![part(1), part(7)],
            extents,
            ..plain()
        }
    }

    fn check<T: Row + PartialEq + std::fmt::Debug>(row: &T) {
        let value = encode(b"bucket\0key", row, b"hello");
        assert_eq!(&decode::<T>(b"bucket\0key", &value).unwrap().0, row);
        assert_eq!(decode::<T>(b"bucket\0key", &value).unwrap().1, b"hello");
        assert!(decode::<T>(b"bucket\0other", &value).is_err());
        for byte in 0..value.len() {
            for bit in 0..8 {
                let mut flipped = value.clone();
                flipped[byte] ^= 1 << bit;
                assert!(decode::<T>(b"bucket\0key", &flipped).is_err(), "byte {byte} bit {bit}");
            }
        }
        for length in 0..value.len() {
            assert!(decode::<T>(b"bucket\0key", &value[..length]).is_err());
        }
        // Without the checksum's help: what is cut short or random is refused or read, never a panic.
        let mut out = Vec::new();
        row.write(&mut out);
        for length in 0..out.len() {
            assert!(T::read(&mut Reader::new(&out[..length])).is_none(), "cut at {length}");
        }
        for byte in 0..out.len() {
            for wrong in [0, 0x7f, 0x80, 0xff] {
                let mut changed = out.clone();
                changed[byte] = wrong;
                drop(T::read(&mut Reader::new(&changed)));
            }
        }
    }

    #[test]
    fn rows_read_back_and_every_flipped_bit_is_seen() {
        check(&VersionRow::Object(plain()));
        check(&VersionRow::Object(full()));
        check(&VersionRow::Object(ObjectInfo { version: VersionId::Null, etag: "X".to_owned(), ..full() }));
        let marker = MarkerInfo { version: VersionId::Id(1), modified_ms: 3, owner: Some("ada".to_owned()) };
        check(&VersionRow::Marker(MarkerInfo { version: VersionId::Null, owner: None, ..marker.clone() }));
        check(&VersionRow::Marker(marker));
        check(&VersionRow::NullAt(1 << 40));
        for (versioning, durability) in [
            (Versioning::Unversioned, Durability::Sync),
            (Versioning::Enabled, Durability::Group),
            (Versioning::Suspended, Durability::Cache),
        ] {
            check(&BucketRow {
                created_ms: 9,
                owner: (durability == Durability::Group).then(|| "ada".to_owned()),
                versioning,
                object_lock: if versioning == Versioning::Enabled { Locking::On } else { Locking::Off },
                quota: Quota { bytes: Some(1 << 50), objects: (durability == Durability::Sync).then_some(3) },
                durability,
            });
        }
        for checksum in ChecksumKind::ALL.map(Some).into_iter().chain([None]) {
            check(&UploadRow {
                created_ms: 1,
                meta: full().meta,
                checksum,
                full_object: checksum.is_some(),
                initiator: Some("bob".to_owned()),
            });
        }
        let extent = full().extents[0];
        check(&PartRow { etag: plain().etag, modified_ms: 2, checksums: plain().checksums, extent });
        check(&BucketUsage { objects: 1, logical_bytes: 1 << 40, stored_bytes: 128 });
    }

    #[test]
    fn a_small_objects_row_is_small() {
        let value = encode(b"bucket\0key", &VersionRow::Object(plain()), &[]);
        assert!(value.len() <= 56, "{} bytes", value.len());
    }
}
