//! Reads and checks every body once in a while, slowly, so that what rots is found while there is redundancy to mend it.
//!
//! It goes on where it stopped when the store was closed or killed, as it notes its place each minute; what lies in other
//! stores is left to them. Cost: the configured rate of reading, and what checking that takes of one core.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::config::Patrol;
use crate::operate::{read_cursor, write_cursor};
use crate::store::{Inner, now_ms};
use crate::upkeep::STEP;
use crate::{Error, ScrubCursor, ScrubOptions, notes};

/// The note of where it is.
const NOTE: &str = "scrub";
/// Bytes between two looks at whether to go on.
const STEP_BYTES: u64 = 8 << 20;
const NOTED_EVERY: Duration = Duration::from_mins(1);
/// How long it waits after rows could not be read.
const AFTER_TROUBLE: Duration = Duration::from_mins(5);

/// What it did since the store was opened, and when it came to an end last.
#[derive(Debug, Default)]
pub(crate) struct Patrolled {
    pub(crate) bytes: AtomicU64,
    /// Milliseconds of the Unix epoch; when the store was first opened if it never did.
    pub(crate) finished_ms: AtomicU64,
}

/// Where it is.
#[derive(Debug, PartialEq, Eq)]
struct At {
    /// When the last one ended.
    finished_ms: u64,
    /// How far this one is.
    cursor: Option<ScrubCursor>,
}

impl At {
    fn read(note: &[u8]) -> Option<Self> {
        let (finished, cursor) = note.split_first_chunk()?;
        let cursor = std::str::from_utf8(cursor).ok()?;
        let cursor = if cursor.is_empty() { None } else { Some(read_cursor(cursor).ok()?) };
        Some(Self { finished_ms: u64::from_le_bytes(*finished), cursor })
    }

    fn write(&self) -> Vec<u8> {
        let cursor = self.cursor.as_ref().map(write_cursor).unwrap_or_default();
        [&self.finished_ms.to_le_bytes(), cursor.as_bytes()].concat()
    }

    fn note(&self, inner: &Inner) {
        inner.patrolled.finished_ms.store(self.finished_ms, Ordering::Relaxed);
        if let Err(error) = notes::write(inner.meta.places(), NOTE, now_ms(), &self.write()) {
            tracing::warn!(%error, "how far the scrub is cannot be noted");
        }
    }

    /// Reads on for one step.
    fn step(&mut self, inner: &Inner, patrol: Patrol) -> Result<(), Error> {
        let from = self.cursor.take();
        let options = ScrubOptions {
            bytes_per_second: Some(patrol.bytes_per_second),
            bytes_max: Some(STEP_BYTES),
            from: from.clone(),
            remote: false,
        };
        let report = inner.scrub(options, None).inspect_err(|_error| self.cursor = from)?;
        inner.patrolled.bytes.fetch_add(report.bytes, Ordering::Relaxed);
        self.cursor = report.cursor;
        if self.cursor.is_none() {
            self.finished_ms = now_ms();
            self.note(inner);
            tracing::info!("all bodies were read and checked");
        }
        Ok(())
    }
}

/// Starts the thread that patrols for as long as the store is open.
pub(crate) fn start(inner: &Arc<Inner>) -> Result<(), Error> {
    let Some(patrol) = inner.config.patrol else { return Ok(()) };
    let known = notes::read(inner.meta.places(), NOTE).and_then(|(_written, note)| At::read(&note));
    let mut at = known.unwrap_or_else(|| At { finished_ms: now_ms(), cursor: None });
    at.note(inner);
    let store = Arc::downgrade(inner);
    let work = move || {
        let (mut noted, mut quiet_until) = (Instant::now(), Instant::now());
        loop {
            std::thread::sleep(STEP);
            let Some(inner) = store.upgrade() else { return };
            if inner.committer.closed() {
                return;
            }
            let due = at.cursor.is_some() || now_ms().saturating_sub(at.finished_ms) >= patrol.every_ms;
            if !due || Instant::now() < quiet_until {
                continue;
            }
            match at.step(&inner, patrol) {
                Ok(()) => {}
                Err(Error::Closed) => return,
                Err(error) => {
                    tracing::warn!(%error, "the scrub goes on later");
                    quiet_until = Instant::now() + AFTER_TROUBLE;
                }
            }
            if noted.elapsed() >= NOTED_EVERY {
                noted = Instant::now();
                at.note(&inner);
            }
        }
    };
    let thread = std::thread::Builder::new().name("store-patrol".to_owned()).spawn(work);
    thread.map(drop).map_err(|error| Error::io("start the patrol", error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Disk, SimDisk};
    use crate::{Code, DriveConfig, Store, StoreConfig};

    #[test]
    fn a_note_comes_back_and_a_wrong_one_is_none() {
        for cursor in [None, Some(ScrubCursor::Object(b"k".to_vec())), Some(ScrubCursor::Segment(7))] {
            let at = At { finished_ms: 9, cursor };
            assert_eq!(At::read(&at.write()), Some(at));
        }
        assert_eq!((At::read(b"short"), At::read(b"12345678zz")), (None, None));
    }

    async fn until(what: &str, holds: impl Fn() -> bool) {
        for _try in 0..400 {
            if holds() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        assert!(holds(), "{what}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_rots_is_found_and_mended_without_being_asked_for() {
        let disk = SimDisk::new(1 << 30);
        let config = |every_ms| StoreConfig {
            drives: ["/a", "/b", "/c"].map(|dir| DriveConfig { dir: dir.into() }).to_vec(),
            code: Code { data: 2, parity: 1 },
            cache_bytes: 0,
            patrol: Some(Patrol { every_ms, bytes_per_second: 1 << 30 }),
            ..StoreConfig::new("/store")
        };
        let open = |every_ms| Store::open_on(Arc::new(disk.clone()), config(every_ms));
        let store = open(86_400_000).await.unwrap();
        store.create_bucket("bucket").await.unwrap();
        // Bytes that do not shrink.
        let mut state = 7_u64;
        let next = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_le_bytes()[7]
        };
        let body: Vec<u8> = std::iter::repeat_with(next).take(5 << 20).collect();
        store.put_bytes("bucket", "large", body.clone()).await.unwrap();
        let path = disk.paths().into_iter().find(|path| path.to_string_lossy().contains("/extents/")).unwrap();
        disk.open(&path).unwrap().write_at(70_000, b"rot").unwrap();
        tokio::time::sleep(2 * STEP).await;
        assert_eq!(store.stats().damages, 0, "it is not due yet");
        store.close().await;
        let store = open(1).await.unwrap();
        until("it was mended", || store.stats().repairs > 0).await;
        let first = store.0.patrolled.finished_ms.load(Ordering::Relaxed);
        until("it begins again", || store.0.patrolled.finished_ms.load(Ordering::Relaxed) > first).await;
        assert!(store.stats().patrolled_bytes >= 5 << 20);
        assert_eq!(store.get_bytes("bucket", "large").await.unwrap(), body);
        store.close().await;
    }
}
