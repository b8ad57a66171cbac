//! The hands: threads that carry out what the hall decided and the log holds, for each job in order.
//!
//! What concerns a job always goes to the same one of them, so that a stop never overtakes its start; several start gangs at once,
//! because a start waits for processes and for the disk.
//!
//! Each attempt gets a key of its own for the store, which opens the job's own data and dies with it: [`crate::job_access`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use dh_core::{AccessKey, AttemptId, Rank, Role, Secret, TaskId};
use dh_exec::{
    Devices, Executor, ExitReason, GangSpec, Outcome, PartOf, RankSpec, Stop, TaskEvent, TaskLimits, What, free_ports,
};
use dh_guard::KeyRing;
use dh_hall::{Action, End, EndCause, Event, JobKind, JobSpec, Part, Placed};
use dh_units::Bytes;

use crate::Error;
use crate::body::Handle;
use crate::devices::Behind;
use crate::job_access;
use crate::log::Lease;
use crate::meter::Meter;
use crate::secrets::Secrets;
use crate::services::Services;
use crate::trace::{self, Tracer};

/// What the hands need.
#[derive(Clone)]
pub(crate) struct Actuator {
    pub(crate) hall: Handle,
    /// Whether this server may still do anything.
    pub(crate) lease: Lease,
    pub(crate) executor: Arc<dyn Executor>,
    pub(crate) keys: KeyRing,
    pub(crate) secrets: Arc<Secrets>,
    pub(crate) services: Arc<Services>,
    pub(crate) store_url: String,
    pub(crate) workdir: PathBuf,
    /// The counters of their energy.
    pub(crate) meter: Arc<Meter>,
    /// The accelerators of this machine behind slots.
    pub(crate) behind: Arc<Behind>,
    /// Whose accelerators other nodes have.
    pub(crate) devices: Devices,
    pub(crate) tracer: Tracer,
    /// The hall's name.
    pub(crate) name: String,
    pub(crate) runtime: tokio::runtime::Handle,
    /// The key of each attempt of this thread's jobs that owns slots.
    pub(crate) issued: BTreeMap<AttemptId, AccessKey>,
}

/// Deals actions out to as many threads as `inboxes` until the hall ends.
pub(crate) fn deal(actions: &Receiver<Action>, inboxes: &[Sender<Action>]) {
    while let Ok(action) = actions.recv() {
        let job = match &action {
            Action::Accepted { .. } => continue,
            Action::Start { attempt, .. } | Action::Stop { attempt } | Action::Close { attempt } => attempt.job,
            Action::Serve { task } => task.attempt.job,
        };
        let threads = u64::try_from(inboxes.len()).unwrap_or(1).max(1);
        let inbox = usize::try_from(job.0 % threads).ok().and_then(|place| inboxes.get(place));
        if inbox.is_none_or(|inbox| inbox.send(action).is_err()) {
            // A thread ends early only when the lease is lost, and then so does everything.
            return;
        }
    }
}

impl Actuator {
    /// Runs until the hall ends.
    pub(crate) fn run(mut self, actions: &Receiver<Action>) {
        while let Ok(action) = actions.recv() {
            if !self.lease.holds() {
                // A successor may lead, and knows nothing of what is done here from now on.
                self.hall.lost(Error::Deposed);
                return;
            }
            match action {
                Action::Accepted { .. } => {}
                Action::Start { attempt, placement } => {
                    if let Err(error) = self.start(attempt, &placement) {
                        self.report_not_started(attempt, &placement, &error);
                    }
                }
                Action::Stop { attempt } => {
                    self.services.forget(attempt);
                    // An attempt that never started has nothing to stop; its ranks were reported as not started.
                    if let Err(error) = self.executor.stop(attempt, Stop::Polite) {
                        tracing::debug!(%attempt, %error, "nothing to stop");
                    }
                }
                Action::Serve { task } => self.services.serve(task.attempt),
                Action::Close { attempt } => {
                    self.services.forget(attempt);
                    self.meter.end(attempt);
                    if let Some(key) = self.issued.remove(&attempt)
                        && let Err(error) = self.keys.revoke(&key.id)
                    {
                        tracing::warn!(%attempt, %error, "the attempt's key was not revoked");
                    }
                }
            }
        }
    }

    fn start(&mut self, attempt: AttemptId, placement: &[Placed]) -> Result<(), Error> {
        let (spec, context) = self
            .hall
            .read()
            .job(attempt.job)
            .map(|job| (job.spec.clone(), trace::of_attempt(&self.name, job, attempt.attempt)))
            .ok_or_else(|| Error::NotFound(attempt.job.to_string()))?;
        let key = job_access::issue(&self.keys, attempt, &spec)?;
        self.issued.insert(attempt, key.clone());

        let mut env = spec.env.clone();
        if self.tracer.is_on() {
            // What ranks trace is below their attempt, which is below whatever the caller's was.
            env.insert(trace::VARIABLE.to_owned(), context.text());
        }
        // Who brings a key of their own keeps it whole.
        let own_key = env.contains_key("AWS_ACCESS_KEY_ID");
        let place = job_access::place(attempt, &spec);
        for (name, value) in [
            ("AWS_ENDPOINT_URL", self.store_url.as_str()),
            ("AWS_ENDPOINT_URL_S3", self.store_url.as_str()),
            ("AWS_ACCESS_KEY_ID", key.id.as_str()),
            (job_access::PLACE, place.as_str()),
            ("AWS_REGION", "us-east-1"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
        ] {
            env.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        }
        for (name, value) in job_access::told(attempt, &spec) {
            env.entry(name.to_owned()).or_insert(value);
        }
        let mut secret_env = BTreeMap::new();
        if !own_key {
            secret_env.insert("AWS_SECRET_ACCESS_KEY".to_owned(), key.secret);
        }
        // Last, so that what the job brings counts.
        let own = self.secrets.of(&spec)?;
        if let JobKind::Service { model, protocol, .. } = &spec.kind {
            let port = free_ports(1)
                .map_err(|source| Error::Listen { address: "a free port of loopback".to_owned(), source })?
                .first()
                .copied()
                .unwrap_or_default();
            let engine_key = self.keys.issue_ephemeral(&format!("engine/{attempt}"), Role::Model)?;
            // The engine knows one key, the gateway's; the ring need not know it, so that it opens nothing else.
            self.keys.revoke(&engine_key.id)?;
            env.insert("DH_SERVICE_PORT".to_owned(), port.to_string());
            secret_env.insert("DH_ENGINE_KEY".to_owned(), engine_key.secret.clone());
            self.services.expect(attempt, model, *protocol, port, engine_key.secret);
            let task = TaskId { attempt, rank: Rank(0) };
            let (services, hall) = (Arc::clone(&self.services), self.hall.clone());
            self.runtime.spawn(async move { services.watch(task, port, hall).await });
        }
        for name in own.keys() {
            env.remove(name);
        }
        secret_env.extend(own);
        let mut gang = gang(attempt, spec, placement, env, secret_env, self.workdir.clone());
        gang.devices = self.devices;
        for (rank, placed) in gang.ranks.iter_mut().zip(placement) {
            rank.real = self.behind.of(placed.node, &placed.slots);
        }
        // Of a device that others share nobody knows who used what.
        if gang.ranks.iter().all(|rank| rank.part.is_none()) {
            self.meter.begin(attempt, gang.ranks.iter().flat_map(|rank| rank.real.clone()).collect());
        }
        self.executor.start(gang)?;
        Ok(())
    }

    fn report_not_started(&self, attempt: AttemptId, placement: &[Placed], error: &Error) {
        tracing::warn!(%attempt, %error, "the gang did not start");
        for placed in placement {
            let end = End { code: None, signal: None, cause: EndCause::NotStarted, message: error.to_string() };
            self.hall.tell(Event::TaskEnded { task: TaskId { attempt, rank: placed.rank }, end });
        }
    }
}

fn gang(
    attempt: AttemptId,
    spec: JobSpec,
    placement: &[Placed],
    env: BTreeMap<String, String>,
    secret_env: BTreeMap<String, Secret<String>>,
    workdir: PathBuf,
) -> GangSpec {
    let job = attempt.job.0.to_string();
    let command = spec.command.into_iter().map(|word| word.replace("{job}", &job)).collect();
    let part = |placed: &Placed| {
        let (held, device) = (placed.held?, *placed.slots.first()?);
        let (memory, slice) = match spec.part.as_ref()? {
            Part::Share { memory_bytes, .. } => (memory_bytes.map(Bytes), None),
            Part::Slice { profile, .. } => (None, Some((profile.clone(), held.cut))),
        };
        Some(PartOf { device, milli: held.milli, memory, slice })
    };
    let rank = |placed: &Placed| RankSpec {
        rank: placed.rank,
        cores: Vec::new(),
        node: placed.node,
        devices: placed.slots.clone(),
        real: Vec::new(),
        part: part(placed),
    };
    let ranks = placement.iter().map(rank).collect();
    let limits = TaskLimits { memory: spec.memory_bytes.map(Bytes), ..TaskLimits::default() };
    let devices = Devices::Cores;
    GangSpec { attempt, name: spec.name, command, env, secret_env, ranks, devices, limits, workdir }
}

/// What an executor reports, in the hall's words.
pub(crate) fn event_of(report: TaskEvent) -> Event {
    match report.what {
        What::Started { pid, .. } => Event::TaskStarted { task: report.task, pid },
        What::Exited(outcome) => Event::TaskEnded { task: report.task, end: end_of(outcome) },
    }
}

/// How a task ended, in the hall's words.
pub(crate) fn end_of(outcome: Outcome) -> End {
    let cause = match outcome.reason {
        ExitReason::Exited | ExitReason::TimeLimit | ExitReason::MemoryLimit => EndCause::Exited,
        ExitReason::Killed => EndCause::Stopped,
        ExitReason::LifelineLost | ExitReason::WardenLost => EndCause::Lost,
        ExitReason::SpawnFailed => EndCause::NotStarted,
    };
    End { code: outcome.code, signal: outcome.signal, cause, message: outcome.message }
}
