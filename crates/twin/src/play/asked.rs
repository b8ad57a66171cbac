//! Requests to the services of a scene: replicas are gangs of the hall, and answer while they run there.

use std::collections::{BTreeMap, BTreeSet};

use dh_core::time::Span;
use dh_core::{JobId, SimTime};
use dh_hall::scheduler::Scheduler;
use dh_units::real;
use serde::Serialize;

use super::{Scene, SceneError};
use crate::kernel::{Happening, Observer, Work};
use crate::requests::{Call, Scale, Served, Service, Stay, replicas, serve};

/// From the start of a replica that was added to its first request: its weights are loaded (stated assumption).
const LOADS: Span = Span::from_secs(120);

/// A service with the requests that come to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// Its name.
    pub name: String,
    /// What it is to those who ask.
    pub service: Service,
    /// The requests, in order of time.
    pub calls: Vec<Call>,
    /// What an accelerator of it costs in an hour, dollars, if that is known.
    pub usd_per_accelerator_hour: Option<f64>,
    /// Thousandths of accelerators of one replica.
    milli: u64,
    /// Its replicas.
    jobs: BTreeSet<JobId>,
}

/// What is asked of a service.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// What it is to those who ask.
    pub service: Service,
    /// The requests, in order of time.
    pub calls: Vec<Call>,
    /// Its replicas come and go with the requests, until this moment; without, those of the scene answer.
    pub scale: Option<(Scale, SimTime)>,
    /// What an accelerator of it costs in an hour, dollars, if that is known.
    pub usd_per_accelerator_hour: Option<f64>,
}

/// What those who asked a service have seen.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answers {
    /// The service.
    pub service: String,
    /// What they saw.
    #[serde(flatten)]
    pub served: Served,
    /// Hours of the accelerators of its replicas.
    pub accelerator_hours: f64,
    /// What a million generated tokens cost, dollars, idle replicas included.
    pub usd_per_million_tokens: Option<f64>,
}

impl Scene {
    /// Requests come to the service called `name`.
    /// # Errors
    /// If the scene has no such service.
    pub fn ask(&mut self, name: &str, ask: Ask) -> Result<(), SceneError> {
        let Ask { service, calls, scale, usd_per_accelerator_hour } = ask;
        let unknown = |why| SceneError::Service(name.to_owned(), why);
        let known = self.services.get(name).ok_or_else(|| unknown("no replica of it runs in this hall"))?;
        let mut jobs: BTreeSet<JobId> = known.iter().copied().collect();
        let first = self.jobs.iter().find(|job| jobs.contains(&job.submission.job)).copied();
        let pattern = first.ok_or_else(|| unknown("no replica of it runs in this hall"))?;
        let need = pattern.submission.gang.need;
        let milli = u64::from(need.ranks) * need.rank.demand();
        if let Some((scale, until)) = scale {
            self.jobs.retain(|job| !jobs.contains(&job.submission.job));
            let load = self.loads.get(&pattern.submission.job.0).copied();
            let next = self.jobs.iter().map(|job| job.submission.job.0).chain(jobs.iter().map(|job| job.0)).max();
            jobs.clear();
            for (number, stay) in (next.unwrap_or(0) + 1..).zip(replicas(&calls, &scale, until)) {
                let mut replica = pattern;
                replica.at = stay.from;
                replica.submission.job = JobId(number);
                replica.submission.since = stay.from;
                replica.work = Work { length: stay.to.since(stay.from), ..pattern.work };
                self.loads.extend(load.map(|load| (number, load)));
                jobs.insert(JobId(number));
                self.jobs.push(replica);
            }
            self.jobs.sort_by_key(|job| job.at);
        }
        self.asked.push(Asked { name: name.to_owned(), service, calls, usd_per_accelerator_hour, milli, jobs });
        Ok(())
    }
}

/// When replicas ran.
#[derive(Debug, Default)]
pub struct Replicas {
    /// The service of each replica, by its place among those that are asked.
    of: BTreeMap<JobId, usize>,
    since: BTreeMap<JobId, SimTime>,
    stays: Vec<Vec<Stay>>,
}

impl Replicas {
    /// Of services that are asked, before anything runs.
    pub fn of(asked: &[Asked]) -> Self {
        let jobs = asked.iter().enumerate().flat_map(|(at, asked)| asked.jobs.iter().map(move |job| (*job, at)));
        Self { of: jobs.collect(), since: BTreeMap::new(), stays: vec![Vec::new(); asked.len()] }
    }

    /// What those who asked have seen.
    pub fn answers(mut self, asked: &[Asked]) -> Vec<Answers> {
        let each = asked.iter().zip(&mut self.stays).map(|(asked, stays)| {
            stays.sort_unstable();
            let served = serve(&asked.calls, &asked.service, stays);
            let accelerator_hours = served.replica_hours * real(asked.milli) / 1e3;
            let tokens = served.tokens;
            let usd = asked.usd_per_accelerator_hour.filter(|_| tokens > 0);
            Answers {
                service: asked.name.clone(),
                served,
                accelerator_hours,
                usd_per_million_tokens: usd.map(|usd| usd * accelerator_hours / (real(tokens) / 1e6)),
            }
        });
        each.collect()
    }

    fn gone(&mut self, now: SimTime, job: JobId) {
        let (Some(since), Some(at)) = (self.since.remove(&job), self.of.get(&job)) else { return };
        if let Some(stays) = self.stays.get_mut(*at).filter(|_| since < now) {
            stays.push(Stay { from: since, to: now });
        }
    }
}

impl Observer for Replicas {
    fn happened(&mut self, now: SimTime, what: Happening<'_>, _: &Scheduler) {
        match what {
            Happening::Started { job, .. } if self.of.contains_key(&job.job) => {
                // Those that were there before the first request came have loaded already.
                let ready = if now == SimTime(0) { now } else { now.after(LOADS) };
                self.since.insert(job.job, ready);
            }
            Happening::Stopped { job, .. } | Happening::Ended { job, .. } | Happening::Unfinished { job, .. } => {
                self.gone(now, job.job);
            }
            Happening::Started { .. }
            | Happening::Shares { .. }
            | Happening::Submitted(_)
            | Happening::Refused(..)
            | Happening::Node { .. } => {}
        }
    }
}
