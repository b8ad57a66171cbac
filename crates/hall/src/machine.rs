//! The machine itself: state, and one step per event.

use std::collections::BTreeMap;
use std::io::BufWriter;

use dh_core::time::Span;
use dh_core::{AttemptId, HasKind, JobId, Kind, NodeId, SimTime, TaskId, limits};
use dh_policy::fleet::View;
use dh_policy::packing::WHOLE;
use dh_policy::placement::{self, Context, Misfit};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::event::{Action, Event};
use crate::job::{Attempt, Job, Outcome, Phase, Task, Verdict};
use crate::jobs::Jobs;
use crate::node::{Health, Node, NodeSpec, Nodes, QueueSpec};
use crate::scheduler::{self, Scheduler, Settings};
use crate::spec::{JobSpec, Part};

/// Ended jobs that stay readable. Older ones are only in the log.
const DONE_JOBS_KEPT: usize = 10_000;

/// Bytes that go into the hash at a time: the whole text of a hall with a long queue would fill the memory.
const HASHED_AT_A_TIME: usize = 64 << 10;

/// What is written goes into a hash.
struct Hashed(Sha256);

impl std::io::Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The state of a hall.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hall {
    /// The time of the newest event; it never goes back, whatever the body's clock does.
    pub(crate) now: SimTime,
    /// Events so far.
    pub(crate) steps: u64,
    /// The next job's number, from 1.
    pub(crate) jobs_accepted: u64,
    /// Whether gangs may start.
    pub(crate) open: bool,
    /// How it decides, without its nodes and queues.
    pub(crate) policy: Settings,
    pub(crate) nodes: Nodes,
    pub(crate) queues: BTreeMap<String, QueueSpec>,
    pub(crate) jobs: Jobs,
    pub(crate) by_key: BTreeMap<String, JobId>,
    /// Who decides, once the hall is configured.
    pub(crate) scheduler: Option<Scheduler>,
}

/// Why a job is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// A field is out of its bounds.
    #[error("{0}")]
    Invalid(String),
    /// The queue does not exist.
    #[error("there is no queue `{queue}`; there is {known}")]
    NoQueue {
        /// The queue asked for.
        queue: String,
        /// The queues there are.
        known: String,
    },
    /// The node does not exist.
    #[error("there is no node `{node}`")]
    NoNode {
        /// The node asked for.
        node: String,
    },
    /// It can never run here.
    #[error("it can never run on this hall: {0}")]
    Infeasible(Misfit),
    /// A bound on open jobs is reached.
    #[error("{0}")]
    Full(String),
}

impl HasKind for Rejection {
    fn kind(&self) -> Kind {
        match self {
            Self::Invalid(_) | Self::NoQueue { .. } | Self::NoNode { .. } => Kind::Invalid,
            Self::Infeasible(_) => Kind::Infeasible,
            Self::Full(_) => Kind::Busy,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Infeasible(_) => {
                Some("`nodes` and `slots` of the blueprint's pools decide; `datahall status` shows them".to_owned())
            }
            Self::NoNode { .. } => Some("`datahall nodes` lists them".to_owned()),
            Self::Full(_) => Some("wait for jobs to end, or cancel some".to_owned()),
            Self::Invalid(_) | Self::NoQueue { .. } => None,
        }
    }
}

impl Hall {
    /// Takes one event in, at a time that is not before the last one's, and pushes what is to be done.
    pub fn step(&mut self, now: SimTime, event: Event, out: &mut Vec<Action>) {
        self.now = self.now.max(now);
        self.steps += 1;
        match event {
            Event::ServerStarted => self.close(),
            Event::Configured { nodes, queues, policy } => self.configure(nodes, queues, *policy, out),
            Event::ServerStopping => self.wind_down(out),
            Event::Submitted { spec, by, idempotency_key } => self.submit(*spec, by, idempotency_key, out),
            Event::CancelRequested { job, by } => self.cancel(job, by, out),
            Event::TaskStarted { task, pid } => self.task_started(task, pid),
            Event::ServiceReady { task } => self.service_ready(task, out),
            Event::TaskEnded { task, end } => self.task_ended(task, &end, out),
            Event::NodeDrained { node, drained } => {
                if let Some(known) = self.nodes.get_mut(&node) {
                    known.health = if drained { Health::Drained } else { Health::Up };
                    let service = known.service();
                    self.tell(&scheduler::Event::Node { node, service }, out);
                }
            }
            Event::NodeReported { node, down } => {
                if let Some(known) = self.nodes.get_mut(&node) {
                    known.down = down;
                    let service = known.service();
                    self.tell(&scheduler::Event::Node { node, service }, out);
                }
            }
            Event::Tick => {}
        }
        self.enforce_time_limits(out);
        self.submit_due(out);
        if self.scheduler.as_ref().and_then(Scheduler::wakeup).is_some_and(|due| due <= self.now) {
            self.tell(&scheduler::Event::Tick, out);
        }
        self.check_invariants();
    }

    /// Whether `spec` would be accepted at this moment.
    /// # Errors
    /// The first reason against it.
    pub fn check(&self, spec: &JobSpec) -> Result<(), Rejection> {
        let invalid = |why: &str| Err(Rejection::Invalid(why.to_owned()));
        if spec.name.is_empty() || spec.name.len() > 200 || spec.name.chars().any(char::is_control) {
            return invalid("the job's name must have 1 to 200 characters and no control characters");
        }
        if spec.command.first().is_none_or(String::is_empty) {
            return invalid("the job has no command");
        }
        if spec.command.iter().any(|word| word.contains('\0'))
            || spec.env.iter().any(|(key, value)| key.is_empty() || key.contains(['=', '\0']) || value.contains('\0'))
        {
            return invalid("a word of the command or of the environment holds a NUL or an `=` in its name");
        }
        if spec.ranks == 0 || spec.ranks > limits::GANG_RANKS_MAX || spec.slots_per_rank == 0 {
            return Err(Rejection::Invalid(format!(
                "a gang has 1 to {} ranks of at least 1 slot; this one asks for {} of {}",
                limits::GANG_RANKS_MAX,
                spec.ranks,
                spec.slots_per_rank
            )));
        }
        if let Some(least) = spec.ranks_min
            && (least == 0 || least > spec.ranks)
        {
            return Err(Rejection::Invalid(format!(
                "an elastic gang goes on with 1 to all of its ranks; this one has {} and asks for at least {least}",
                spec.ranks
            )));
        }
        if let Some(level) = spec.within.as_ref().filter(|level| self.level(level).is_none()) {
            let known: Vec<String> = self.policy.levels.iter().map(|level| format!("`{level}`")).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(Rejection::Invalid(format!("there is no `{level}` to be within; this hall has {known}")));
        }
        if let Some(part) = &spec.part {
            let whole = matches!(part, Part::Share { .. }) && part.milli() >= WHOLE;
            if spec.slots_per_rank != 1 || part.milli() == 0 || part.milli() > WHOLE || whole {
                return invalid("a rank with a part of a slot has that of one, above nothing and below the whole");
            }
            if let Part::Slice { size, starts, .. } = part
                && (*size == 0 || *size > 8 || *starts == 0)
            {
                return invalid("a slice takes 1 to 8 slots of an accelerator and begins at one of them");
            }
        }
        if spec.retries >= limits::ATTEMPTS_MAX {
            return Err(Rejection::Invalid(format!("at most {} retries are allowed", limits::ATTEMPTS_MAX - 1)));
        }
        let Some(queue) = self.queues.get(&spec.queue) else {
            let known: Vec<String> = self.queues.keys().map(|name| format!("`{name}`")).collect();
            return Err(Rejection::NoQueue { queue: spec.queue.clone(), known: known.join(", ") });
        };
        if let Some(refused) = self.wish_refused(spec) {
            return Err(refused);
        }
        let misfit = self.fleet().and_then(|fleet| {
            let mut need = self.least(spec);
            // A wish is not in the scheduler's classes yet, and is looked at next.
            need.rank.models = 0;
            placement::misfit(fleet, &need, &Context::plain(View::All))
        });
        if let Some(never) = misfit.filter(Misfit::for_ever).or_else(|| self.wish_never(spec)) {
            return Err(Rejection::Infeasible(never));
        }
        let open = self.jobs.open();
        if open >= limits::JOBS_OPEN_MAX {
            return Err(Rejection::Full(format!("{open} jobs are open, and that is the limit")));
        }
        if let Some(most) = queue.max_jobs {
            let here = self.jobs.open_in(&spec.queue);
            if here >= u64::from(most) {
                return Err(Rejection::Full(format!(
                    "queue `{}` has {here} open jobs, and {most} is its limit",
                    spec.queue
                )));
            }
        }
        Ok(())
    }

    fn configure(
        &mut self,
        nodes: Vec<NodeSpec>,
        queues: BTreeMap<String, QueueSpec>,
        policy: Settings,
        out: &mut Vec<Action>,
    ) {
        let old = std::mem::take(&mut self.nodes);
        for (number, spec) in (0..).zip(nodes) {
            let id = NodeId(number);
            let same = old.get(&id).filter(|node| node.spec.same(&spec));
            let health = same.map_or(Health::Up, |node| node.health);
            let down = same.and_then(|node| node.down.clone());
            self.nodes.insert(id, Node { spec, health, down, busy: BTreeMap::new(), parts: BTreeMap::new() });
        }
        // Whoever runs keeps the slots that still exist; a gang that lost one cannot go on.
        for id in self.jobs.active_ids() {
            let Some(attempt) = self.jobs.get(id).and_then(Job::active) else { continue };
            let mut whole = true;
            for placed in &attempt.placement {
                for slot in &placed.slots {
                    match self.nodes.get_mut(&placed.node).filter(|node| *slot < node.spec.slots) {
                        Some(node) => node.give(*slot, attempt.id, placed),
                        None => whole = false,
                    }
                }
            }
            if !whole {
                self.stop_again(id, "a node or slot it ran on is no longer in the blueprint", out);
            }
        }
        self.queues = queues;
        self.policy = policy;
        self.open = true;
        self.new_scheduler(out);
    }

    fn submit(&mut self, spec: JobSpec, by: String, key: Option<String>, out: &mut Vec<Action>) {
        if let Some(known) = key.as_ref().and_then(|key| self.by_key.get(key)) {
            out.push(Action::Accepted { job: *known });
            return;
        }
        self.jobs_accepted += 1;
        let id = JobId(self.jobs_accepted);
        if let Some(key) = &key {
            self.by_key.insert(key.clone(), id);
        }
        let job = Job {
            id,
            spec,
            by,
            idempotency_key: key,
            submitted: self.now,
            attempts: 0,
            failures: 0,
            attained: Span(0),
            phase: Phase::Waiting { not_before: self.now },
            history: Vec::new(),
        };
        self.jobs.insert(job);
        out.push(Action::Accepted { job: id });
        self.forget_old_jobs();
        if self.jobs.get(id).is_some_and(|job| !self.knows_wish(&job.spec)) {
            self.new_scheduler(out);
        }
    }

    fn cancel(&mut self, id: JobId, by: String, out: &mut Vec<Action>) {
        let now = self.now;
        let waited = self.jobs.change(id, |job| match &mut job.phase {
            Phase::Waiting { .. } => {
                job.phase = Phase::Done { outcome: Outcome::Cancelled { by }, at: now };
                true
            }
            Phase::Active { attempt } => {
                // A success or failure that is already decided stands; only a retry is overruled.
                if !matches!(attempt.verdict, Some(Verdict::Over { .. })) {
                    attempt.verdict = Some(Verdict::Over { outcome: Outcome::Cancelled { by } });
                    out.push(Action::Stop { attempt: attempt.id });
                }
                false
            }
            Phase::Done { .. } => false,
        });
        if waited == Some(true) {
            self.tell(&scheduler::Event::Cancelled { job: id }, out);
        }
    }

    /// Nothing starts until the next [`Event::Configured`], which brings a scheduler of its own.
    fn close(&mut self) {
        self.open = false;
        self.scheduler = None;
    }

    fn wind_down(&mut self, out: &mut Vec<Action>) {
        self.close();
        for id in self.jobs.active_ids() {
            self.stop_again(id, "the server was stopped", out);
        }
    }

    fn task_started(&mut self, task: TaskId, pid: u32) {
        let Ok(place) = usize::try_from(task.rank.0) else { return };
        self.change_attempt(task.attempt, |attempt| {
            if let Some(state) = attempt.tasks.get_mut(place)
                && matches!(state, Task::Starting)
            {
                *state = Task::Running { pid };
            }
        });
    }

    fn service_ready(&mut self, task: TaskId, out: &mut Vec<Action>) {
        self.change_attempt(task.attempt, |attempt| {
            if !attempt.ready && attempt.verdict.is_none() {
                attempt.ready = true;
                out.push(Action::Serve { task });
            }
        });
    }

    fn forget_old_jobs(&mut self) {
        for id in self.jobs.done_before(DONE_JOBS_KEPT) {
            if let Some(key) = self.jobs.remove(id).and_then(|job| job.idempotency_key) {
                self.by_key.remove(&key);
            }
        }
    }

    /// Changes the attempt `id`, if it is the one that owns slots; a fenced one is not found.
    fn change_attempt(&mut self, id: AttemptId, change: impl FnOnce(&mut Attempt)) {
        self.jobs.change(id.job, |job| match &mut job.phase {
            Phase::Active { attempt } if attempt.id == id => change(attempt),
            Phase::Active { .. } | Phase::Waiting { .. } | Phase::Done { .. } => {}
        });
    }

    /// Stops what runs of a job, which then goes on from where it was; what is being stopped already stays as it is.
    pub(crate) fn stop_again(&mut self, id: JobId, because: &str, out: &mut Vec<Action>) {
        self.jobs.change(id, |job| {
            if let Phase::Active { attempt } = &mut job.phase
                && attempt.verdict.is_none()
            {
                attempt.verdict = Some(Verdict::Again { because: because.to_owned(), counts: false });
                out.push(Action::Stop { attempt: attempt.id });
            }
        });
    }

    /// Attempts that own slots, in order.
    pub fn open_attempts(&self) -> Vec<AttemptId> {
        self.jobs.active().filter_map(Job::active).map(|attempt| attempt.id).collect()
    }

    /// Jobs that own slots, in order. Cost: those alone.
    pub fn active_jobs(&self) -> impl Iterator<Item = &Job> {
        self.jobs.active()
    }

    /// Services that are not over, in order. Cost: those alone.
    pub fn open_services(&self) -> impl Iterator<Item = &Job> {
        self.jobs.services()
    }

    /// Jobs with larger numbers than `after`, oldest first.
    pub fn jobs_after(&self, after: JobId) -> impl Iterator<Item = &Job> {
        self.jobs.after(after)
    }

    /// Jobs with smaller numbers than `before`, newest first.
    pub fn jobs_before(&self, before: JobId) -> impl Iterator<Item = &Job> {
        self.jobs.before(before)
    }

    /// How many jobs there are in each state, by [`Job::word`].
    pub const fn jobs_by_word(&self) -> &BTreeMap<&'static str, u64> {
        self.jobs.words()
    }

    /// All jobs that are still remembered, oldest first.
    pub fn jobs(&self) -> impl DoubleEndedIterator<Item = &Job> {
        self.jobs.values()
    }

    /// How many jobs are still remembered.
    pub fn known_jobs(&self) -> u64 {
        u64::try_from(self.jobs.len()).unwrap_or(u64::MAX)
    }

    /// The job `id`.
    pub fn job(&self, id: JobId) -> Option<&Job> {
        self.jobs.get(id)
    }

    /// The job that was submitted under an idempotency key.
    pub fn job_by_key(&self, key: &str) -> Option<JobId> {
        self.by_key.get(key).copied()
    }

    /// All nodes, in order.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes.iter().map(|(id, node)| (*id, node))
    }

    /// The queues by name.
    pub const fn queues(&self) -> &BTreeMap<String, QueueSpec> {
        &self.queues
    }

    /// Events taken in so far.
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// The time of the newest event.
    pub const fn now(&self) -> SimTime {
        self.now
    }

    /// SHA-256 over the whole state in its canonical form (ordered maps, fields in order), in hexadecimal.
    pub fn state_hash(&self) -> String {
        let mut hash = BufWriter::with_capacity(HASHED_AT_A_TIME, Hashed(Sha256::new()));
        // Serialising plain data into memory cannot fail; if it ever did, the hash would be another than that of any state.
        let written = serde_json::to_writer(&mut hash, self).is_ok();
        match hash.into_inner() {
            Ok(Hashed(hash)) if written => hex::encode(hash.finalize()),
            Ok(_) | Err(_) => String::new(),
        }
    }
}
