//! What has become of each gang by what the API says of its pods. No socket, no thread; the moment is an argument.
//!
//! Invariant: each rank is said to have started at most once and to have ended exactly once, whatever the watch repeats, leaves out
//! or lists again; an end follows its start. Cost: O(log gangs) per news, O(ranks) per list and per look at the clock.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dh_core::{AttemptId, JobId, Rank, TaskId};

use super::object::{ATTEMPT, JOB, Pod, RANK, Terminated};
use crate::executor::{Outcome, Stop};
use crate::record::{ExitReason, now, short};

/// How long a pod may be one that no node takes, or whose image does not come, before its gang has failed.
const STUCK: Duration = Duration::from_mins(1);
/// Signals end at 64; a container's code above 128 tells one.
const SIGNALS: std::ops::RangeInclusive<i32> = 129..=192;

/// Everything that is known.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) gangs: BTreeMap<AttemptId, Gang>,
    /// Nodes by their names in the cluster: why they take no work, and since when their tasks cannot be asked about.
    pub(super) nodes: BTreeMap<String, Health>,
    /// Pods of this hall that no gang accounts for, by name, and when they were first seen.
    pub(super) strangers: BTreeMap<String, Stranger>,
    /// Nothing is a stranger before the hall has said what it knows.
    pub(super) recovered: bool,
    pub(super) closed: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Health {
    pub(super) down: Option<String>,
    pub(super) lost_since: Option<Instant>,
}

#[derive(Debug, Clone)]
pub(super) struct Stranger {
    pub(super) since: Instant,
    pub(super) attempt: Option<AttemptId>,
    /// The fencing token of whoever made it.
    pub(super) term: u64,
}

/// A gang that starts or runs.
#[derive(Debug)]
pub(super) struct Gang {
    pub(super) ranks: Vec<RankState>,
    /// How its end was asked for, and when.
    pub(super) asked: Option<(Stop, Instant)>,
    /// When its pods were let go to the scheduler.
    pub(super) released: Option<Instant>,
    /// Why it did not start, if it did not.
    pub(super) failed: Option<String>,
}

#[derive(Debug, Default)]
pub(super) struct RankState {
    /// The node in the cluster.
    pub(super) host: String,
    /// The id of its pod, and when it was heard of; a pod of that name with another id is another's.
    pub(super) pod: Option<(String, Instant)>,
    pub(super) started: bool,
    pub(super) end: End,
    /// Whether it was killed as a fault would.
    pub(super) fault: bool,
    /// When its deletion was last asked for.
    pub(super) deleted: Option<Instant>,
    /// What it waits for in vain, and since when.
    stuck: Option<(Instant, String)>,
}

/// How far a rank's end has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum End {
    #[default]
    Open,
    /// It is known, and its output is being read to the end.
    Coming,
    Told,
}

/// What is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    Started(TaskId),
    Ended(TaskId, Outcome),
}

impl Gang {
    pub(super) fn new(hosts: impl Iterator<Item = String>) -> Self {
        let ranks = hosts.map(|host| RankState { host, ..RankState::default() }).collect();
        Self { ranks, asked: None, released: None, failed: None }
    }

    pub(super) fn rank(&mut self, rank: Rank) -> Option<&mut RankState> {
        self.ranks.get_mut(usize::try_from(rank.0).ok()?)
    }

    pub(super) fn over(&self) -> bool {
        self.ranks.iter().all(|rank| rank.end == End::Told)
    }

    pub(super) fn ask(&mut self, how: Stop, at: Instant) {
        let since = self.asked.map_or(at, |(_, since)| since);
        let how = if self.asked.is_some_and(|(how, _)| how == Stop::Now) { Stop::Now } else { how };
        self.asked = Some((how, since));
    }
}

/// Which task a pod is.
pub(super) fn task_of(pod: &Pod) -> Option<TaskId> {
    let attempt = AttemptId { job: JobId(pod.label(JOB)?), attempt: pod.label(ATTEMPT)? };
    Some(TaskId { attempt, rank: Rank(pod.label(RANK)?) })
}

impl Table {
    /// A pod is there, or has changed.
    pub(super) fn put(&mut self, pod: &Pod, at: Instant, out: &mut Vec<Effect>) {
        let Some((task, gang)) = self.known(pod) else {
            let attempt = task_of(pod).map(|task| task.attempt);
            let term = pod.label(super::object::TERM).unwrap_or(0);
            let name = pod.metadata.name.clone();
            self.strangers.entry(name).or_insert(Stranger { since: at, attempt, term });
            return;
        };
        self.strangers.remove(&pod.metadata.name);
        let Some(gang) = self.gangs.get_mut(&gang) else { return };
        let (asked, failed) = (gang.asked.is_some(), gang.failed.clone());
        let Some(rank) = gang.rank(task.rank) else { return };
        rank.pod.get_or_insert_with(|| (pod.metadata.uid.clone(), at));
        if rank.end != End::Open {
            return;
        }
        let ran = pod.terminated().is_some_and(|end| !never_ran(end));
        if !rank.started && (pod.running() || ran) {
            rank.started = true;
            out.push(Effect::Started(task));
        }
        if pod.over() {
            rank.end = End::Coming;
            let outcome = ended(pod, rank, asked, failed.as_deref());
            out.push(Effect::Ended(task, outcome));
            return;
        }
        rank.stuck = match (waits_for(pod), rank.stuck.take()) {
            (Some(why), Some((since, _))) => Some((since, why)),
            (Some(why), None) => Some((at, why)),
            (None, _) => None,
        };
    }

    /// A pod is gone; this is how it was last.
    pub(super) fn gone(&mut self, pod: &Pod, at: Instant, out: &mut Vec<Effect>) {
        self.strangers.remove(&pod.metadata.name);
        if self.known(pod).is_none() {
            return;
        }
        self.put(pod, at, out);
        if let Some(task) = task_of(pod) {
            self.vanished(task, "its pod was deleted, and not by this hall", out);
        }
    }

    /// Nothing is left of a rank that has not said how it ended.
    pub(super) fn vanished(&mut self, task: TaskId, why: &str, out: &mut Vec<Effect>) {
        let Some(gang) = self.gangs.get_mut(&task.attempt) else { return };
        let (asked, failed) = (gang.asked.is_some(), gang.failed.clone());
        let Some(rank) = gang.rank(task.rank).filter(|rank| rank.end == End::Open) else { return };
        rank.end = End::Coming;
        let end = match (failed, rank.fault) {
            (Some(why), _) if !rank.started => outcome(ExitReason::SpawnFailed, why),
            (_, true) => Outcome { signal: Some(9), ..outcome(ExitReason::Exited, String::new()) },
            (_, false) if asked => outcome(ExitReason::Killed, String::new()),
            (_, false) => outcome(ExitReason::WardenLost, why.to_owned()),
        };
        out.push(Effect::Ended(task, end));
    }

    /// These are all pods there were at the moment `asked`: others that are older have gone unseen.
    pub(super) fn all(&mut self, pods: &[Pod], asked: Instant, at: Instant, out: &mut Vec<Effect>) {
        for pod in pods {
            self.put(pod, at, out);
        }
        let there: std::collections::BTreeSet<&str> = pods.iter().map(|pod| pod.metadata.uid.as_str()).collect();
        let mut gone = Vec::new();
        for (attempt, gang) in &self.gangs {
            for (rank, state) in (0..).map(Rank).zip(&gang.ranks) {
                if state.pod.as_ref().is_some_and(|(uid, since)| *since < asked && !there.contains(uid.as_str())) {
                    gone.push(TaskId { attempt: *attempt, rank });
                }
            }
        }
        for task in gone {
            self.vanished(task, "its pod was deleted, and not by this hall", out);
        }
        let names: std::collections::BTreeSet<&str> = pods.iter().map(|pod| pod.metadata.name.as_str()).collect();
        self.strangers.retain(|name, _| names.contains(name.as_str()));
    }

    /// What the clock has ended: gangs that do not come to run, and ranks whose node has been lost for too long.
    pub(super) fn overdue(&mut self, start_within: Duration, lost_after: Duration, at: Instant, out: &mut Vec<Effect>) {
        let mut lost = Vec::new();
        for (attempt, gang) in &mut self.gangs {
            for (rank, state) in (0..).map(Rank).zip(&gang.ranks) {
                let since = self.nodes.get(&state.host).and_then(|health| health.lost_since);
                if state.end == End::Open
                    && state.pod.is_some()
                    && since.is_some_and(|since| at.saturating_duration_since(since) >= lost_after)
                {
                    lost.push((TaskId { attempt: *attempt, rank }, format!("its node {} is lost", state.host)));
                }
            }
            let Some(released) = gang.released.filter(|_| gang.asked.is_none()) else { continue };
            let late = at.saturating_duration_since(released) >= start_within;
            let waiting = |state: &&RankState| !state.started && state.end == End::Open;
            let stuck = gang.ranks.iter().filter(waiting).find_map(|state| {
                let (since, why) = state.stuck.as_ref()?;
                // What it waited for before it was let go was the rest of its gang.
                let since = released.max(*since);
                (late || at.saturating_duration_since(since) >= STUCK).then(|| why.clone())
            });
            let why = stuck.or_else(|| {
                let rank = gang.ranks.iter().find(waiting).filter(|_| late)?;
                Some(format!("a pod on {} has not started within {} s", rank.host, start_within.as_secs()))
            });
            if let Some(why) = why {
                tracing::warn!(%attempt, why, "the gang does not start; all its pods are deleted");
                gang.failed = Some(why);
                gang.ask(Stop::Now, at);
            }
        }
        for (task, why) in lost {
            self.vanished(task, &why, out);
        }
    }

    /// The task that a pod is, if it is one of a gang of ours; another pod of the same name is not.
    fn known(&self, pod: &Pod) -> Option<(TaskId, AttemptId)> {
        let task = task_of(pod)?;
        let gang = self.gangs.get(&task.attempt)?;
        let rank = gang.ranks.get(usize::try_from(task.rank.0).ok()?)?;
        let same = rank.pod.as_ref().is_none_or(|(uid, _)| *uid == pod.metadata.uid);
        same.then_some((task, task.attempt))
    }
}

/// What a pod waits for that may never come.
fn waits_for(pod: &Pod) -> Option<String> {
    if let Some(placed) = pod.condition("PodScheduled", "False").filter(|condition| condition.reason == "Unschedulable")
    {
        return Some(format!("Kubernetes does not place it: {}", placed.message));
    }
    let waiting = pod.container()?.waiting.as_ref()?;
    let stuck = [
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    ];
    stuck.contains(&waiting.reason.as_str()).then(|| format!("{}: {}", waiting.reason, waiting.message))
}

/// Whether a container ended without its program having run.
fn never_ran(end: &Terminated) -> bool {
    matches!(end.reason.as_str(), "ContainerCannotRun" | "StartError")
}

fn outcome(reason: ExitReason, message: String) -> Outcome {
    Outcome { code: None, signal: None, reason, message: short(message), finished_at: now() }
}

/// The end of a pod that is over.
fn ended(pod: &Pod, rank: &RankState, asked: bool, failed: Option<&str>) -> Outcome {
    let said = [pod.status.reason.as_str(), pod.status.message.as_str()].into_iter().filter(|word| !word.is_empty());
    let said = said.collect::<Vec<_>>().join(": ");
    // What the cluster itself took away is not the task's fault.
    let taken = pod
        .condition("DisruptionTarget", "True")
        .map(|condition| format!("{}: {}", condition.reason, condition.message));
    let Some(end) = pod.terminated() else {
        return match (pod.status.phase.as_str(), pod.status.reason.as_str()) {
            (_, "DeadlineExceeded") => outcome(ExitReason::TimeLimit, said),
            ("Succeeded", _) => Outcome { code: Some(0), ..outcome(ExitReason::Exited, String::new()) },
            _ if asked => failed.filter(|_| !rank.started).map_or_else(
                || outcome(ExitReason::Killed, String::new()),
                |why| outcome(ExitReason::SpawnFailed, why.to_owned()),
            ),
            // The node refused it, or put it out: `Evicted`, `NodeLost`, `Shutdown`, `OutOfcpu`, `UnexpectedAdmissionError`.
            _ => outcome(
                ExitReason::WardenLost,
                if said.is_empty() { "its pod failed and does not say why".to_owned() } else { said },
            ),
        };
    };
    if never_ran(end) {
        return outcome(ExitReason::SpawnFailed, format!("{}: {}", end.reason, end.message.trim()));
    }
    let signal = match end.signal {
        0 => SIGNALS.contains(&end.exit_code).then(|| end.exit_code - 128),
        signal => Some(signal),
    };
    let code = if signal.is_some() { None } else { Some(end.exit_code) };
    let (reason, message) = match (end.reason.as_str(), pod.status.reason.as_str()) {
        ("OOMKilled", _) => (ExitReason::MemoryLimit, "it used more memory than its limit".to_owned()),
        (_, "DeadlineExceeded") => (ExitReason::TimeLimit, said),
        (_, "Evicted" | "NodeLost" | "Shutdown" | "Terminated" | "NodeShutdown" | "Preempting") => {
            (ExitReason::WardenLost, said)
        }
        _ if asked && signal.is_some() => (ExitReason::Killed, String::new()),
        _ => match taken.filter(|_| signal.is_some() && !rank.fault) {
            Some(taken) => (ExitReason::WardenLost, taken),
            None => (ExitReason::Exited, String::new()),
        },
    };
    Outcome { code, signal, ..outcome(reason, message) }
}

#[cfg(test)]
mod tests;
