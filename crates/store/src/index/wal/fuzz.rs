//! Fuzz targets of the write-ahead log: a file with anything in it, and records whose checksum is right.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::codec::Reader;
use super::{Batch, Place, Record, Wal, change, path, read};
use crate::disk::{Disk as _, SimDisk};

fn place(disk: &SimDisk) -> Place {
    let dir = PathBuf::from("/log");
    assert!(disk.create_dir(&dir).is_ok(), "the simulated disk takes it");
    Place { disk: Arc::new(disk.clone()), dir, member: None }
}

/// A file of a log with these bytes is read, or damage is told.
pub(crate) fn log(bytes: &[u8]) {
    let disk = SimDisk::new(1 << 20);
    let place = place(&disk);
    let written = disk.create(&path(Path::new("/log"), 1)).and_then(|file| file.write_at(0, bytes));
    assert!(written.is_ok(), "the simulated disk takes it");
    if let Ok(found) = read(&[place]) {
        assert!(found.records.iter().map(|record| record.payload.len()).sum::<usize>() <= bytes.len());
        for record in found.records {
            drop(record.changes().collect::<Vec<_>>());
        }
    }
}

/// A record that holds these bytes comes back as it was; rows that can be read are, written and read again, the same.
pub(crate) fn records(bytes: &[u8]) {
    let disk = SimDisk::new(1 << 20);
    let place = place(&disk);
    let batch = Batch { payload: bytes.to_vec() };
    let Ok(mut wal) = Wal::create(std::slice::from_ref(&place), 1, 0) else { return };
    assert!(wal.append(1, &batch).and_then(|()| wal.append(2, &batch)).is_ok(), "the simulated disk takes it");
    let found = read(&[place]).unwrap_or_default();
    assert!(found.records.iter().all(|record| record.payload == bytes) && found.records.len() == 2);
    let mut again = Batch::default();
    let mut reader = Reader::new(bytes);
    let mut rows = 0;
    while let Some((table, key, value)) = change(&mut reader) {
        rows += 1;
        match value {
            Some(value) => again.put(table, key, value),
            None => again.remove(table, key),
        }
    }
    let (one, two) = (Record::new(1, &batch), Record::new(1, &again));
    assert!(one.changes().take(rows).eq(two.changes()), "{}", bytes.escape_ascii());
    assert!(one.changes().count() <= rows + 1);
}

#[cfg(test)]
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let disk = SimDisk::new(1 << 20);
    let places = [place(&disk)];
    let mut wal = Wal::create(&places, 1, 0).unwrap();
    for sequence in 1..=3 {
        let mut batch = Batch::default();
        batch.put(super::TableId::Objects, b"bucket\0key", &[7; 60]);
        batch.remove(super::TableId::Usage, b"bucket");
        wal.append(sequence, &batch).unwrap();
    }
    vec![disk.bytes(&path(Path::new("/log"), 1)).unwrap()]
}
