//! One of the clients of a run: prepares its own keys, then does one operation after another until it is told to stop.
//!
//! Invariant: a worker reads and deletes only keys that it wrote itself, so a missing or wrong object is the store's fault.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use super::filler::{Filler, SplitMix};
use super::histogram::Histogram;
use super::{Op, Plan};
use crate::{Client, Crc64, Error, Payload, Put, Query};

/// How long a worker rests after a failure, so that a dead server is not asked a million times.
const REST: std::time::Duration = std::time::Duration::from_millis(20);

/// A kind of operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Put,
    Get,
    Head,
    Delete,
    List,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] = [Self::Put, Self::Get, Self::Head, Self::Delete, Self::List];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Head => "head",
            Self::Delete => "delete",
            Self::List => "list",
        }
    }
}

/// What was measured of one kind.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    pub(crate) histogram: Histogram,
    pub(crate) bytes: u64,
    pub(crate) errors: u64,
}

/// What was measured.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    put: Counted,
    get: Counted,
    head: Counted,
    delete: Counted,
    list: Counted,
    pub(crate) verified: u64,
    pub(crate) errors: BTreeMap<String, u64>,
}

impl Tally {
    pub(crate) const fn of(&self, kind: Kind) -> &Counted {
        match kind {
            Kind::Put => &self.put,
            Kind::Get => &self.get,
            Kind::Head => &self.head,
            Kind::Delete => &self.delete,
            Kind::List => &self.list,
        }
    }

    const fn of_mut(&mut self, kind: Kind) -> &mut Counted {
        match kind {
            Kind::Put => &mut self.put,
            Kind::Get => &mut self.get,
            Kind::Head => &mut self.head,
            Kind::Delete => &mut self.delete,
            Kind::List => &mut self.list,
        }
    }

    /// Operations that succeeded, and their bytes.
    pub(crate) fn done(&self) -> (u64, u64) {
        Kind::ALL
            .into_iter()
            .map(|kind| self.of(kind))
            .fold((0, 0), |(count, bytes), one| (count + one.histogram.count(), bytes + one.bytes))
    }

    pub(crate) fn join(&mut self, other: &Self) {
        for kind in Kind::ALL {
            let (mine, theirs) = (self.of_mut(kind), other.of(kind));
            mine.histogram.join(&theirs.histogram);
            mine.bytes += theirs.bytes;
            mine.errors += theirs.errors;
        }
        self.verified += other.verified;
        for (word, count) in &other.errors {
            *self.errors.entry(word.clone()).or_default() += count;
        }
    }
}

/// What all workers of a run share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) measuring: AtomicBool,
    pub(crate) stop: AtomicBool,
    pub(crate) operations: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) failures: AtomicU64,
    /// Objects that were written, also outside of the measured time: the next one's number, and the bound of a run.
    pub(crate) written: AtomicU64,
}

/// One client.
pub(crate) struct Worker {
    client: Client,
    shared: Arc<Shared>,
    plan: Arc<Plan>,
    prefix: Arc<str>,
    known: Vec<(String, Crc64)>,
    filler: Filler,
    random: SplitMix,
    pub(crate) tally: Tally,
}

impl Worker {
    pub(crate) fn new(client: Client, shared: Arc<Shared>, plan: Arc<Plan>, prefix: Arc<str>, seed: u64) -> Self {
        let size = usize::try_from(plan.size).unwrap_or(usize::MAX);
        let filler = Filler::new(size, plan.compressible_percent, seed);
        let tally = Tally::default();
        Self { client, shared, plan, prefix, known: Vec::new(), filler, random: SplitMix(!seed), tally }
    }

    /// Writes `count` objects, unmeasured.
    pub(crate) async fn prepare(&mut self, count: u64) -> Result<(), Error> {
        for _object in 0..count {
            if self.shared.stop.load(Ordering::Relaxed) {
                break;
            }
            self.put().await?;
        }
        Ok(())
    }

    /// Operations until the end.
    pub(crate) async fn run(&mut self) {
        while !self.shared.stop.load(Ordering::Relaxed) {
            let kind = match self.plan.op {
                Op::Put => Kind::Put,
                Op::Get => Kind::Get,
                Op::List => Kind::List,
                Op::Delete => Kind::Delete,
                // The shares of warp's mixed run. Source: github.com/minio/warp, README, "Mixed".
                Op::Mixed => match self.random.next() % 100 {
                    0..45 => Kind::Get,
                    45..75 => Kind::Head,
                    75..90 => Kind::Put,
                    _ => Kind::Delete,
                },
            };
            // Without an object of its own, a worker of a mixed run writes one.
            let kind = if self.plan.op == Op::Mixed && self.known.is_empty() { Kind::Put } else { kind };
            if kind == Kind::Put && self.plan.op == Op::Put && !self.plan.may_write(&self.shared) {
                break;
            }
            if kind == Kind::Delete && self.known.is_empty() {
                break;
            }
            let start = Instant::now();
            let done = match kind {
                Kind::Put => self.put().await,
                Kind::Get => self.get().await,
                Kind::Head => self.head().await,
                Kind::Delete => self.delete().await,
                Kind::List => self.list().await,
            };
            let nanos = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.count(kind, done, nanos).await;
        }
    }

    async fn count(&mut self, kind: Kind, done: Result<u64, Error>, nanos: u64) {
        let measuring = self.shared.measuring.load(Ordering::Relaxed);
        match done {
            Ok(bytes) if measuring => {
                let one = self.tally.of_mut(kind);
                one.histogram.add(nanos);
                one.bytes += bytes;
                self.shared.operations.fetch_add(1, Ordering::Relaxed);
                self.shared.bytes.fetch_add(bytes, Ordering::Relaxed);
            }
            Ok(_bytes) => {}
            // Wrong bytes count whenever they are found.
            Err(error) => {
                self.tally.of_mut(kind).errors += 1;
                *self.tally.errors.entry(error.word().to_owned()).or_default() += 1;
                self.shared.failures.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(REST).await;
            }
        }
    }

    async fn put(&mut self) -> Result<u64, Error> {
        let number = self.shared.written.fetch_add(1, Ordering::Relaxed);
        // Keys spread over the whole range, as those of many clients do.
        let spread = SplitMix(number).next() >> 48;
        let key = format!("{}{spread:04x}/{number:08}", self.prefix);
        let (body, crc) = self.filler.next();
        let put = Put { body: body.into(), payload: self.plan.payload, content_type: None };
        self.client.put(&self.plan.bucket, &key, put).await?;
        // A run of puts alone reads nothing back.
        if self.plan.op != Op::Put {
            self.known.push((key, crc));
        }
        Ok(self.plan.size)
    }

    async fn get(&mut self) -> Result<u64, Error> {
        let at = self.random.index(self.known.len());
        let Some((key, crc)) = self.known.get(at) else { return Err(Error::Setting("there is no object".to_owned())) };
        let mut download = self.client.get(&self.plan.bucket, key, None).await?;
        let mut bytes = 0;
        while let Some(piece) = download.next().await? {
            bytes += piece.len() as u64;
        }
        if download.crc() != *crc {
            return Err(Error::corrupt("get", format!("{key} is not what was written")));
        }
        self.tally.verified += 1;
        Ok(bytes)
    }

    async fn head(&mut self) -> Result<u64, Error> {
        let at = self.random.index(self.known.len());
        let Some((key, _crc)) = self.known.get(at) else { return Err(Error::Setting("there is no object".to_owned())) };
        let head = self.client.head(&self.plan.bucket, key).await?;
        if head.bytes == self.plan.size {
            Ok(0)
        } else {
            Err(Error::corrupt("head", format!("{key} has another size")))
        }
    }

    async fn delete(&mut self) -> Result<u64, Error> {
        let at = self.random.index(self.known.len());
        if self.known.is_empty() {
            return Ok(0);
        }
        let (key, _crc) = self.known.swap_remove(at);
        self.client.delete(&self.plan.bucket, &key).await?;
        Ok(0)
    }

    async fn list(&mut self) -> Result<u64, Error> {
        let at = self.random.index(self.known.len());
        let after = self.known.get(at).map(|(key, _crc)| key.clone());
        let query = Query { prefix: self.prefix.to_string(), start_after: after.clone(), ..Query::default() };
        let page = self.client.list(&self.plan.bucket, &query).await?;
        let mut last = after.unwrap_or_default();
        for object in page.objects {
            if object.key <= last || !object.key.starts_with(&*self.prefix) {
                return Err(Error::corrupt("list", format!("{} comes behind {last}", object.key)));
            }
            last = object.key;
        }
        Ok(0)
    }
}

/// How bodies of a run are vouched for by default: as those that SDKs send.
pub(super) const PAYLOAD: Payload = Payload::Signed;
