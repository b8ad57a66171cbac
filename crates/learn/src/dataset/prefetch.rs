//! A thread that fetches the shards that come next while the rank computes.
//!
//! At most [`DEPTH`] shards wait; then the thread blocks, so memory stays bounded. The time that the rank waited, the
//! bytes and the fetches are counted: a store that is too slow shows up as waiting, not as slow computing.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::manifest::{Error, Manifest};
use super::order::{Order, Visit};
use super::{Samples, normalise};
use crate::number;
use crate::store::ObjectStore;

/// Shards that are fetched and not yet in use.
pub const DEPTH: usize = 2;

/// A shard with the samples that are to be taken from it.
struct Loaded {
    samples: Samples,
    indices: Vec<u32>,
    bytes: u64,
}

/// Where a run starts and how long it goes.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// First epoch to read.
    pub epoch: u64,
    /// First step of that epoch.
    pub step: u64,
    /// Epochs of the whole run; reading stops before this one.
    pub epochs: u64,
}

/// What reading has cost so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ReadCost {
    /// Time that the rank waited for data.
    pub waited: Duration,
    /// Bytes fetched and used.
    pub bytes: u64,
    /// Objects fetched and used.
    pub fetches: u64,
}

/// Samples in the order of training, batch by batch.
pub struct Prefetch {
    shards: Receiver<Result<Loaded, Error>>,
    current: Option<(Loaded, usize)>,
    cost: ReadCost,
}

/// Samples of one step on one rank.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// `[batch, pixels] f32`, each pixel from 0 to 1.
    pub pixels: Vec<f32>,
    /// One class per sample.
    pub labels: Vec<u32>,
}

impl Prefetch {
    /// Starts to fetch what `order` says, from `span` on. The thread ends by itself when this is dropped.
    pub fn start(store: Arc<dyn ObjectStore>, bucket: &str, manifest: Arc<Manifest>, order: Order, span: Span) -> Self {
        let (sender, shards) = sync_channel(DEPTH - 1);
        let bucket = bucket.to_owned();
        thread::spawn(move || fetch_all(store.as_ref(), &bucket, &manifest, &order, span, &sender));
        Self { shards, current: None, cost: ReadCost::default() }
    }

    /// What reading has cost so far.
    pub const fn cost(&self) -> ReadCost {
        self.cost
    }

    /// The next `count` samples; fewer only at the end of the run.
    ///
    /// # Errors
    /// What the store or the manifest said, at the moment the data is needed.
    pub fn batch(&mut self, count: usize) -> Result<Batch, Error> {
        let mut batch = Batch { pixels: Vec::new(), labels: Vec::with_capacity(count) };
        while batch.labels.len() < count {
            if self.current.is_none() && !self.advance()? {
                break;
            }
            if let Some((loaded, used)) = &mut self.current {
                let indices = loaded.indices.get(*used..).unwrap_or_default();
                let take = indices.len().min(count - batch.labels.len());
                batch.pixels.reserve_exact(take * loaded.samples.pixels_per_sample());
                for index in indices.iter().take(take) {
                    if let Some((pixels, label)) = loaded.samples.get(*index as usize) {
                        batch.pixels.extend(pixels.iter().map(|pixel| normalise(*pixel)));
                        batch.labels.push(u32::from(label));
                    }
                }
                *used += take;
                if *used >= loaded.indices.len() {
                    self.current = None;
                }
            }
        }
        Ok(batch)
    }

    /// Takes the next shard; false at the end of the run.
    fn advance(&mut self) -> Result<bool, Error> {
        let start = Instant::now();
        let next = self.shards.recv();
        self.cost.waited += start.elapsed();
        match next {
            Ok(loaded) => {
                let loaded = loaded?;
                self.cost.bytes += loaded.bytes;
                self.cost.fetches += 1;
                self.current = Some((loaded, 0));
                Ok(true)
            }
            Err(_) => Ok(false),
        }
    }
}

fn fetch_all(
    store: &dyn ObjectStore,
    bucket: &str,
    manifest: &Manifest,
    order: &Order,
    span: Span,
    sender: &SyncSender<Result<Loaded, Error>>,
) {
    for epoch in span.epoch..span.epochs {
        let from = if epoch == span.epoch { span.step } else { 0 };
        for Visit { shard, indices } in order.visits(epoch, from) {
            let Some(entry) = manifest.train.shards.get(shard) else { return };
            let loaded =
                manifest.fetch(store, bucket, entry).map(|samples| Loaded { samples, indices, bytes: entry.bytes });
            let failed = loaded.is_err();
            // Nobody listens any more when the rank has ended; an error is the last thing to say.
            if sender.send(loaded).is_err() || failed {
                return;
            }
        }
    }
}

/// Reads the samples `range` of the test split, shard after shard.
///
/// # Errors
/// What the store or the manifest said.
pub fn read_test(
    store: &dyn ObjectStore,
    bucket: &str,
    manifest: &Manifest,
    range: std::ops::Range<u64>,
) -> Result<(Samples, ReadCost), Error> {
    let start = Instant::now();
    let mut part = Samples { shape: manifest.shape, pixels: Vec::new(), labels: Vec::new() };
    let mut cost = ReadCost::default();
    let mut first = 0;
    for entry in &manifest.test.shards {
        let count = u64::from(entry.samples);
        let from = number::index(range.start.clamp(first, first + count) - first);
        let to = number::index(range.end.clamp(first, first + count) - first);
        first += count;
        if from >= to {
            continue;
        }
        let samples = manifest.fetch(store, bucket, entry)?;
        let width = samples.pixels_per_sample();
        part.pixels.extend_from_slice(samples.pixels.get(from * width..to * width).unwrap_or_default());
        part.labels.extend_from_slice(samples.labels.get(from..to).unwrap_or_default());
        cost.bytes += entry.bytes;
        cost.fetches += 1;
    }
    cost.waited = start.elapsed();
    Ok((part, cost))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::{synthetic, upload};
    use crate::store::MemoryStore;

    #[test]
    fn batches_come_in_order_and_end_with_the_run() {
        let store = Arc::new(MemoryStore::new());
        let set = synthetic::generate("s", 250, 70, 1);
        let manifest = Arc::new(upload(store.as_ref(), "b", "s", &set, 60, &mut |_| ()).unwrap());
        let sizes: Vec<u32> = manifest.train.shards.iter().map(|shard| shard.samples).collect();
        let order = Order::new(1, sizes, 1, 2, 20);
        let span = Span { epoch: 0, step: 3, epochs: 2 };
        let mut prefetch = Prefetch::start(store.clone(), "b", manifest.clone(), order.clone(), span);
        let mut expected = order.visits(0, 3);
        expected.extend(order.visits(1, 0));
        let mut wanted = expected.iter().flat_map(|visit| visit.indices.iter().map(|index| (visit.shard, *index)));
        let mut batches = 0;
        loop {
            let batch = prefetch.batch(10).unwrap();
            if batch.labels.is_empty() {
                break;
            }
            assert_eq!((batch.labels.len(), batch.pixels.len()), (10, 7840));
            for (pixels, label) in batch.pixels.chunks(784).zip(&batch.labels) {
                let (shard, index) = wanted.next().unwrap();
                let (raw, class) = set.train.get(shard * 60 + index as usize).unwrap();
                assert_eq!(u32::from(class), *label);
                assert!((pixels[300] - f32::from(raw[300]) / 255.0).abs() < f32::EPSILON);
            }
            batches += 1;
        }
        assert_eq!(batches, 12 - 3 + 12);
        assert_eq!(prefetch.cost().fetches, crate::number::wide(expected.len()));
    }

    #[test]
    fn a_missing_shard_is_an_error_where_it_is_needed() {
        let store = Arc::new(MemoryStore::new());
        let set = synthetic::generate("s", 100, 10, 1);
        let manifest = Arc::new(upload(store.as_ref(), "b", "s", &set, 100, &mut |_| ()).unwrap());
        store.delete("b", &manifest.train.shards[0].key).unwrap();
        let span = Span { epoch: 0, step: 0, epochs: 1 };
        let order = Order::new(1, vec![100], 0, 1, 10);
        assert!(Prefetch::start(store, "b", manifest, order, span).batch(10).is_err());
    }

    #[test]
    fn the_test_split_is_cut_without_gap_or_overlap() {
        let store = MemoryStore::new();
        let set = synthetic::generate("s", 20, 70, 1);
        let manifest = upload(&store, "b", "s", &set, 30, &mut |_| ()).unwrap();
        let mut labels = Vec::new();
        for rank in 0..3 {
            let range = rank * 70 / 3..(rank + 1) * 70 / 3;
            labels.extend(read_test(&store, "b", &manifest, range).unwrap().0.labels);
        }
        assert_eq!(labels, set.test.labels);
    }
}
