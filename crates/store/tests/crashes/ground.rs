//! Where the store of a life lies: a simulated disk, and another store behind it.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use dh_store::disk::SimDisk;
use dh_store::{
    Code, Compression, DriveConfig, Error, RemoteError, RemoteObjects, Store, StoreConfig, TierConfig, TierGround,
    Tiering,
};

use crate::life::Random;

pub(crate) const DISK_BYTES: u64 = 256 << 20;

/// Where a store lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// In one directory.
    Directory,
    /// On three drives, of which one may be lost.
    Drives,
    /// The same, with two colder drives and another store behind, between which objects move.
    Tiers,
}

impl Layout {
    /// Odd lives in a directory, even ones on drives.
    pub(crate) const fn of(seed: u64) -> Self {
        if seed % 2 == 1 { Self::Directory } else { Self::Drives }
    }
}

/// Another store, which remembers what it was asked for, and after how many operations of the disk.
#[derive(Debug)]
pub(crate) struct Elsewhere {
    disk: SimDisk,
    asked: Mutex<Vec<(u64, String, Option<Bytes>)>>,
}

impl Elsewhere {
    pub(crate) fn beside(disk: &SimDisk) -> Arc<Self> {
        Arc::new(Self { disk: disk.clone(), asked: Mutex::default() })
    }

    /// As it was when the disk had done `done` operations, beside the disk that was left.
    pub(crate) fn after(&self, done: u64, disk: &SimDisk) -> Arc<Self> {
        let asked = self.asked.lock().unwrap();
        let before = asked.iter().filter(|(at, ..)| *at < done);
        let asked = Mutex::new(before.map(|(_at, name, body)| (0, name.clone(), body.clone())).collect());
        Arc::new(Self { disk: disk.clone(), asked })
    }

    fn ask(&self, name: &str, body: Option<Bytes>) {
        self.asked.lock().unwrap().push((self.disk.operations(), name.to_owned(), body));
    }
}

impl RemoteObjects for Elsewhere {
    fn put(&self, name: &str, body: Bytes) -> Result<(), RemoteError> {
        self.ask(name, Some(body));
        Ok(())
    }

    fn get(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, RemoteError> {
        let asked = self.asked.lock().unwrap();
        let last = asked.iter().rev().find(|(_at, have, _body)| have == name);
        let body = last.and_then(|(_at, _name, body)| body.clone());
        let range = usize::try_from(offset).unwrap()..usize::try_from(offset + length).unwrap();
        let lost = || RemoteError::Lost(format!("{name} is not there, or too short"));
        body.filter(|body| range.end <= body.len()).map(|body| body.slice(range)).ok_or_else(lost)
    }

    fn delete(&self, name: &str) -> Result<(), RemoteError> {
        self.ask(name, None);
        Ok(())
    }
}

pub(crate) fn tiers(far: &Arc<Elsewhere>) -> Vec<TierConfig> {
    let ground = TierGround::Drives {
        drives: (0..2).map(|index| DriveConfig { dir: format!("/cold{index}").into() }).collect(),
        code: Code { data: 1, parity: 1 },
        capacity_bytes: None,
    };
    let remote = TierGround::Remote(Arc::clone(far) as Arc<dyn RemoteObjects>);
    [("cold", ground, 60_000), ("far", remote, 3_600_000)]
        .map(|(name, ground, after)| TierConfig {
            name: name.to_owned(),
            class: format!("CLASS_{name}"),
            ground,
            after_ms: Some(after),
            compression: Some(Compression::Zstd),
        })
        .to_vec()
}

/// Lets objects move: down if nobody reads them, up if somebody does.
pub(crate) async fn retier(store: &Store, random: &mut Random) -> Result<(), Error> {
    if store.tiers().is_empty() {
        return Ok(());
    }
    for index in 0..6 {
        if random.below(3) == 0 {
            for _read in 0..2 {
                drop(store.object("plain", &format!("plain/{index}")).await);
            }
        }
    }
    let later = if random.below(2) == 0 { 120_000 } else { 43_200_000 };
    store.retier(dh_store::Calendar::real().now_ms + later).await.map(drop)
}

pub(crate) fn config(layout: Layout, far: &Arc<Elsewhere>) -> StoreConfig {
    let compression = Compression::Auto;
    // A short log, so that this life has many checkpoints, and small segments, so that many are closed.
    let config =
        StoreConfig { cache_bytes: 1 << 20, compression, checkpoint_bytes: 24 << 10, ..StoreConfig::new("/store") };
    match layout {
        Layout::Directory => config,
        Layout::Drives | Layout::Tiers => StoreConfig {
            tiers: if layout == Layout::Tiers { tiers(far) } else { Vec::new() },
            tiering: Tiering {
                promote_at: 1,
                half_life_ms: 3_600_000,
                bytes_min: 0,
                every_ms: u64::MAX / 4,
                ..Tiering::default()
            },
            code: Code { data: 2, parity: 1 },
            drives: (0..3).map(|index| DriveConfig { dir: format!("/drive{index}").into() }).collect(),
            segment_bytes: 16 << 10,
            ..config
        },
    }
}

pub(crate) async fn open(disk: &SimDisk, layout: Layout, far: &Arc<Elsewhere>) -> Result<Store, Error> {
    Store::open_on(Arc::new(disk.clone()), config(layout, far)).await
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build().unwrap()
}
