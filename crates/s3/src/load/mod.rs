//! A load generator for any S3 endpoint: bodies that nobody has seen, latencies as percentiles, the server's own cost.
//!
//! Phases: make the bucket if there is none, write what the operation needs, warm up, measure, remove all that was
//! written. Invariant: a run ends by its duration or its number of objects, whatever the server does; every body that is
//! read is compared with what was written, by checksum. Cost: a body's checksum, about 6 us for 64 KiB; no copy.

mod filler;
mod histogram;
mod processes;
mod report;
mod worker;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

pub use report::{Figures, Latency, Report, Seconds, Server};

use self::filler::SplitMix;
use self::worker::{Shared, Tally, Worker};
use crate::{Client, Error, Payload, Place};

/// What a run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Writes new objects.
    Put,
    /// Reads objects at random.
    Get,
    /// 45 % reads, 30 % heads, 15 % writes, 10 % deletes.
    Mixed,
    /// Pages of a thousand keys from a random key on.
    List,
    /// Deletes objects one by one.
    Delete,
}

impl Op {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Mixed => "mixed",
            Self::List => "list",
            Self::Delete => "delete",
        }
    }
}

/// A run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What to do.
    pub op: Op,
    /// Bytes of an object.
    pub size: u64,
    /// Requests at once.
    pub concurrency: u32,
    /// How long to measure at most.
    pub duration: Duration,
    /// How long to work before it is measured.
    pub warm_up: Duration,
    /// Objects that are prepared; for puts, objects after which to end.
    pub objects: Option<u64>,
    /// Where.
    pub bucket: String,
    /// How bodies are vouched for.
    pub payload: Payload,
    /// The share of a body that compression can take away, in per cent.
    pub compressible_percent: u8,
    /// The most bytes that a run of puts leaves in the store before it ends.
    pub bytes_max: u64,
    /// Processes of the server.
    pub server: Vec<u32>,
    /// What happens to the objects afterwards.
    pub afterwards: Afterwards,
}

/// What happens to a run's objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Afterwards {
    /// They are removed, and the bucket if the run made it.
    Removed,
    /// They stay.
    Kept,
}

impl Plan {
    /// A run of ten seconds against the bucket `datahall-bench`.
    pub fn new(op: Op, size: u64, concurrency: u32) -> Self {
        Self {
            op,
            size,
            concurrency,
            duration: Duration::from_secs(10),
            warm_up: Duration::from_secs(1),
            objects: None,
            bucket: "datahall-bench".to_owned(),
            payload: worker::PAYLOAD,
            compressible_percent: 0,
            bytes_max: 16 << 30,
            server: Vec::new(),
            afterwards: Afterwards::Removed,
        }
    }

    /// Objects that are written beforehand.
    fn prepared(&self) -> u64 {
        let fitting = (512_u64 << 20) / self.size.max(1);
        match self.op {
            Op::Put => 0,
            Op::Get | Op::Mixed | Op::List => {
                self.objects.unwrap_or_else(|| fitting.clamp(16, 2_000)).max(u64::from(self.concurrency))
            }
            Op::Delete => self.objects.unwrap_or_else(|| fitting.clamp(16, 5_000)).max(u64::from(self.concurrency)),
        }
    }

    /// Whether a run of puts may write another object.
    fn may_write(&self, shared: &Shared) -> bool {
        let written = shared.written.load(Ordering::Relaxed);
        self.objects.is_none_or(|objects| written < objects) && written.saturating_mul(self.size) < self.bytes_max
    }

    fn check(&self) -> Result<(), Error> {
        let wrong = |what: &str| Err(Error::Setting(what.to_owned()));
        if self.concurrency == 0 || self.concurrency > 4_096 {
            return wrong("between 1 and 4096 requests can be made at once");
        }
        if self.size > 1 << 30 {
            return wrong("an object of a run has at most 1 GiB");
        }
        if u64::from(self.concurrency).saturating_mul(self.size) > 8 << 30 {
            return wrong("the bodies of all requests at once would take more than 8 GiB");
        }
        Ok(())
    }
}

/// What goes on in a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Progress {
    /// Objects are written beforehand: so many of so many.
    Preparing {
        /// Done.
        done: u64,
        /// All.
        of: u64,
    },
    /// It is measured.
    Measuring {
        /// For how long already.
        elapsed: Duration,
        /// Operations of the last second.
        operations: u64,
        /// Bytes of the last second.
        bytes: u64,
        /// Failures so far.
        failures: u64,
    },
    /// What was written is removed.
    Removing,
}

/// Runs a plan; `tell` hears about once a second how it goes. Sending `true` over `stop` ends it early, and tidily.
/// # Errors
/// If the bucket cannot be made, or an object not be prepared. Failures while it is measured are counted, not returned.
pub async fn run(
    client: &Client,
    plan: Plan,
    mut tell: impl FnMut(Progress) + Send,
    stop: tokio::sync::watch::Receiver<bool>,
) -> Result<Report, Error> {
    plan.check()?;
    processes::taken(&plan.server)?;
    let made = !client.has_bucket(&plan.bucket).await?;
    if made {
        client.create_bucket(&plan.bucket).await?;
    }
    let seed = u64::from(getrandom::u32().unwrap_or_else(|_error| std::process::id())) << 32;
    let prefix: Arc<str> = format!("load-{:08x}/", seed >> 32).into();
    let plan = Arc::new(plan);
    let measured = measure(client, &plan, &prefix, seed, &mut tell, stop).await;
    if plan.afterwards == Afterwards::Removed {
        tell(Progress::Removing);
        let removed = remove(client, &plan.bucket, &prefix).await;
        let removed = match removed {
            Ok(()) if made => client.remove_bucket(&plan.bucket).await,
            other => other,
        };
        // What went wrong first is told. What was measured stays worth something where tidying up fails: some stores keep
        // empty folders, so that the bucket is not empty.
        let mut report = measured?;
        report.left_behind = removed.err().map(|error| error.to_string());
        return Ok(report);
    }
    measured
}

async fn measure(
    client: &Client,
    plan: &Arc<Plan>,
    prefix: &Arc<str>,
    seed: u64,
    tell: &mut (impl FnMut(Progress) + Send),
    mut stop: tokio::sync::watch::Receiver<bool>,
) -> Result<Report, Error> {
    let load_before = processes::load_average();
    let shared = Arc::new(Shared::default());
    // A failure is counted when it happens, not hidden by another try.
    let once = client.with_tries(1)?;
    let workers: Vec<Worker> = (0..plan.concurrency)
        .map(|number| {
            let mut seeds = SplitMix(seed + u64::from(number));
            Worker::new(once.clone(), Arc::clone(&shared), Arc::clone(plan), Arc::clone(prefix), seeds.next())
        })
        .collect();
    let workers = prepare(workers, plan, &shared, tell, &mut stop).await?;
    let mut running = JoinSet::new();
    for mut worker in workers {
        running.spawn(async move {
            worker.run().await;
            worker.tally
        });
    }
    // Deleting ends with the objects; warming up would take them away.
    let warm_up = if plan.op == Op::Delete { Duration::ZERO } else { plan.warm_up };
    let mut ended_early = None;
    if wait(warm_up, &mut stop).await {
        ended_early = Some("it was stopped".to_owned());
    }
    let me = [std::process::id()];
    let before = (processes::taken(&plan.server)?, processes::taken(&me)?);
    shared.measuring.store(true, Ordering::Relaxed);
    let start = Instant::now();
    let (mut series, mut last) = (Vec::new(), (0, 0));
    let mut tally = Tally::default();
    while start.elapsed() < plan.duration && !running.is_empty() && ended_early.is_none() {
        let next = Duration::from_secs(series.len() as u64 + 1).min(plan.duration);
        tokio::select! {
            stopped = wait(next.saturating_sub(start.elapsed()), &mut stop) => {
                if stopped {
                    ended_early = Some("it was stopped".to_owned());
                    break;
                }
            }
            joined = running.join_next() => {
                if let Some(Ok(one)) = joined {
                    tally.join(&one);
                }
                continue;
            }
        }
        let now = (shared.operations.load(Ordering::Relaxed), shared.bytes.load(Ordering::Relaxed));
        series.push(now.0 - last.0);
        let failures = shared.failures.load(Ordering::Relaxed);
        tell(Progress::Measuring {
            elapsed: start.elapsed(),
            operations: now.0 - last.0,
            bytes: now.1 - last.1,
            failures,
        });
        last = now;
    }
    if ended_early.is_none() && start.elapsed() < plan.duration {
        ended_early =
            Some(if plan.op == Op::Put { "its objects were written" } else { "its objects were used up" }.to_owned());
    }
    shared.measuring.store(false, Ordering::Relaxed);
    let elapsed = start.elapsed();
    let after = (processes::taken(&plan.server), processes::taken(&me)?);
    shared.stop.store(true, Ordering::Relaxed);
    while let Some(joined) = running.join_next().await {
        if let Ok(one) = joined {
            tally.join(&one);
        }
    }
    let (count, _bytes) = tally.done();
    let server = match &after.0 {
        Ok(taken) if !plan.server.is_empty() => {
            Some(report::server(taken.cpu.saturating_sub(before.0.cpu), taken.resident_bytes, &tally))
        }
        // A server that died meanwhile leaves no figures; its failures are told.
        Ok(_) | Err(_) => None,
    };
    let client_cpu = after.1.cpu.saturating_sub(before.1.cpu).as_secs_f64();
    Ok(Report {
        endpoint: client.endpoint().to_owned(),
        op: plan.op.name(),
        size: plan.size,
        concurrency: plan.concurrency,
        signing: client.signing_name(),
        seconds: (elapsed.as_secs_f64() * 1e3).round() / 1e3,
        prepared: plan.prepared(),
        verified: tally.verified,
        operations: report::figures(&tally, elapsed),
        by_second: Seconds::of(&series),
        server,
        client_cpu_us_per_operation: (client_cpu * 1e9 / dh_units::real(count.max(1))).round() / 1e3,
        load_average: (load_before, processes::load_average()),
        errors: tally.errors,
        ended_early,
        left_behind: None,
    })
}

/// Has every worker write its share.
async fn prepare(
    workers: Vec<Worker>,
    plan: &Plan,
    shared: &Arc<Shared>,
    tell: &mut (impl FnMut(Progress) + Send),
    stop: &mut tokio::sync::watch::Receiver<bool>,
) -> Result<Vec<Worker>, Error> {
    let of = plan.prepared();
    let mut preparing = JoinSet::new();
    for (number, mut worker) in workers.into_iter().enumerate() {
        let share = of / u64::from(plan.concurrency) + u64::from((number as u64) < of % u64::from(plan.concurrency));
        preparing.spawn(async move { worker.prepare(share).await.map(|()| worker) });
    }
    let mut ready = Vec::new();
    while !preparing.is_empty() {
        tokio::select! {
            joined = preparing.join_next() => match joined {
                Some(Ok(Ok(worker))) => ready.push(worker),
                Some(Ok(Err(error))) => return Err(error),
                Some(Err(_panicked)) => return Err(Error::Setting("a worker ended by a panic".to_owned())),
                None => break,
            },
            stopped = wait(Duration::from_secs(1), stop) => {
                if stopped {
                    shared.stop.store(true, Ordering::Relaxed);
                }
                tell(Progress::Preparing { done: shared.written.load(Ordering::Relaxed), of });
            }
        }
    }
    Ok(ready)
}

/// Waits; whether it was told to stop meanwhile.
async fn wait(time: Duration, stop: &mut tokio::sync::watch::Receiver<bool>) -> bool {
    tokio::select! {
        () = tokio::time::sleep(time) => false,
        // Nobody will say so any more once the sender is gone.
        stopped = stop.wait_for(|stop| *stop) => match stopped {
            Ok(_) => true,
            Err(_gone) => {
                tokio::time::sleep(time).await;
                false
            }
        },
    }
}

/// Removes all keys below a prefix.
async fn remove(client: &Client, bucket: &str, prefix: &str) -> Result<(), Error> {
    let at = Place { bucket: bucket.to_owned(), key: prefix.to_owned() };
    crate::transfer::remove_all(client, &at, |_count| ()).await.map(drop)
}
