//! Fuzz targets of rows: bytes behind a checksum that happens to be right.

use super::codec::{Reader, Row};
use super::rows::{BucketRow, PartRow, UploadRow, VersionRow};
use crate::BucketUsage;
use crate::body::packed::SegmentRow;

/// What is read is, written and read again, the same.
fn row<T: Row>(bytes: &[u8]) {
    let write = |row: &T| {
        let mut out = Vec::new();
        row.write(&mut out);
        out
    };
    let Some(read) = T::read(&mut Reader::new(bytes)) else { return };
    let once = write(&read);
    let again = T::read(&mut Reader::new(&once)).map(|row| write(&row));
    assert_eq!(again.as_ref(), Some(&once), "{}", bytes.escape_ascii());
}

/// The first byte says which row.
pub(crate) fn rows(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 6 {
        0 => row::<VersionRow>(bytes),
        1 => row::<BucketRow>(bytes),
        2 => row::<UploadRow>(bytes),
        3 => row::<PartRow>(bytes),
        4 => row::<BucketUsage>(bytes),
        _segment => row::<SegmentRow>(bytes),
    }
}

/// Rows without their checksum, behind the number that the target knows them by.
#[cfg(test)]
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    use super::encoding::tests::{full, plain};
    use super::rows::{Durability, Locking, MarkerInfo, Quota};
    use crate::{ChecksumKind, VersionId, Versioning};

    fn bytes(kind: u8, row: &impl Row) -> Vec<u8> {
        let mut out = vec![kind];
        row.write(&mut out);
        out
    }
    let marker = MarkerInfo { version: VersionId::Id(1), modified_ms: 3, owner: Some("ada".to_owned()) };
    let bucket = BucketRow {
        created_ms: 9,
        owner: Some("ada".to_owned()),
        versioning: Versioning::Enabled,
        object_lock: Locking::On,
        quota: Quota { bytes: Some(1 << 50), objects: Some(3) },
        durability: Durability::Group,
    };
    let upload = UploadRow {
        created_ms: 1,
        meta: full().meta,
        checksum: Some(ChecksumKind::Crc64Nvme),
        full_object: true,
        initiator: Some("bob".to_owned()),
    };
    let extent = full().extents[0];
    vec![
        bytes(0, &VersionRow::Object(plain())),
        bytes(0, &VersionRow::Object(full())),
        bytes(0, &VersionRow::Marker(marker)),
        bytes(0, &VersionRow::NullAt(1 << 40)),
        bytes(1, &bucket),
        bytes(2, &upload),
        bytes(3, &PartRow { etag: plain().etag, modified_ms: 2, checksums: plain().checksums, extent }),
        bytes(4, &BucketUsage { objects: 1, logical_bytes: 1 << 40, stored_bytes: 128 }),
        vec![5, 3, 2, 0, 1, 7, 9, 1, 1, 1],
    ]
}
