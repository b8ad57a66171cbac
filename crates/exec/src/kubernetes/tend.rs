//! What goes on beside the calls: the two watches, the telling of starts and ends, and the deletion of what is to go.
//!
//! A deletion is repeated until the pod is gone: politely at first, and without waiting for the node's word once the grace and some
//! patience are over. An end is told once the rank's output is read and the end is on record.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use dh_core::{AttemptId, NodeId, Rank, TaskId, limits};
use http::{Method, StatusCode};
use serde_json::json;

use super::client::{Body, News};
use super::object::{Node, Pod};
use super::state::{Effect, End, Health};
use super::{Shared, logs, pod};
use crate::executor::{NodeEvent, Outcome, Stop, TaskEvent, What};
use crate::layout::{Durability, write_json};
use crate::record::{Bound, Enforcement, ExitRecord};

/// How often the clock is looked at.
const TICK: Duration = Duration::from_millis(250);
/// A deletion that has had no effect is asked for again after this.
const AGAIN: Duration = Duration::from_secs(2);
/// How long after its grace a pod may linger before it is deleted without its node's word.
const FORCE_AFTER: Duration = Duration::from_secs(10);
/// How long the last lines of a rank are waited for.
const LAST_LINES: Duration = Duration::from_secs(10);
/// What the hall does not know is left alone until it is as old as this: its start may not have been noted yet.
const UNKNOWN: Duration = Duration::from_secs(5);

/// A node that is not in the cluster.
pub(super) fn absent() -> Health {
    Health { down: Some("not in the cluster".to_owned()), lost_since: None }
}

/// A pod to delete, and how many seconds it gets.
struct Deletion {
    name: String,
    /// Only the pod of this id.
    uid: Option<String>,
    grace: u64,
    task: Option<TaskId>,
}

impl Shared {
    pub(super) async fn watch_pods(self: Arc<Self>) {
        let (path, selector) = (self.client.path("pods", ""), pod::selector(&self.prefix));
        let shared = Arc::clone(&self);
        let tell = move |news: News<Pod>| {
            let (mut effects, at) = (Vec::new(), Instant::now());
            let mut table = shared.table();
            match news {
                News::All(pods, asked) => table.all(&pods, asked, at, &mut effects),
                News::Put(pod) => table.put(&pod, at, &mut effects),
                News::Gone(pod) => table.gone(&pod, at, &mut effects),
            }
            drop(table);
            shared.carry_out(effects);
        };
        self.client.watch(&path, &selector, tell).await;
    }

    pub(super) async fn watch_nodes(self: Arc<Self>) {
        let shared = Arc::clone(&self);
        let tell = move |news: News<Node>| match news {
            News::All(nodes, _asked) => {
                for host in shared.hosts.values() {
                    match nodes.iter().find(|node| node.metadata.name == *host) {
                        Some(node) => shared.heard_of(host, health(node), Some(node)),
                        None => shared.heard_of(host, absent(), None),
                    }
                }
            }
            News::Put(node) => shared.heard_of(&node.metadata.name, health(&node), Some(&node)),
            News::Gone(node) => shared.heard_of(&node.metadata.name, absent(), None),
        };
        self.client.watch("/api/v1/nodes", "", tell).await;
    }

    /// Tells the hall of a node that has gone down or come back; it hears of each once at the start.
    fn heard_of(&self, host: &str, mut health: Health, node: Option<&Node>) {
        let Some(id) = self.hosts.iter().find(|(_, name)| *name == host).map(|(id, _): (&NodeId, _)| *id) else {
            return;
        };
        if let Some(node) = node {
            let mut resources = self.resources.lock().unwrap_or_else(PoisonError::into_inner);
            resources.insert(host.to_owned(), node.resources().clone());
        }
        let mut table = self.table();
        let before = table.nodes.get(host).cloned();
        if let (Some(since), Some(_)) = (before.as_ref().and_then(|before| before.lost_since), health.lost_since) {
            health.lost_since = Some(since);
        }
        let news = before.as_ref().map(|before| &before.down) != Some(&health.down);
        let down = health.down.clone();
        table.nodes.insert(host.to_owned(), health);
        drop(table);
        if news {
            (self.node_events)(NodeEvent { node: id, down });
        }
    }

    /// Tells of starts at once, and of ends when they are on record.
    pub(super) fn carry_out(self: &Arc<Self>, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Started(task) => {
                    (self.events)(TaskEvent { task, what: What::Started { pid: 0, enforcement: enforcement() } });
                    self.read_log(task);
                }
                Effect::Ended(task, outcome) => {
                    let shared = Arc::clone(self);
                    tokio::spawn(async move { shared.end(task, outcome).await });
                }
            }
        }
    }

    fn read_log(self: &Arc<Self>, task: TaskId) {
        let shared = Arc::clone(self);
        let reader = tokio::spawn(async move {
            let name = pod::of_rank(&shared.prefix, task.attempt, task.rank.0);
            let path = shared.layout.task(task).log();
            let folder = shared.layout.attempt(task.attempt);
            let made = crate::layout::make_folders(&folder);
            let ended = || {
                let mut table = shared.table();
                let rank = table.gangs.get_mut(&task.attempt).and_then(|gang| gang.rank(task.rank));
                rank.is_none_or(|rank| rank.end != End::Open)
            };
            if let Err(error) = match made {
                Ok(()) => logs::follow(&shared.client, &name, &path, ended).await,
                Err(error) => Err(error),
            } {
                tracing::warn!(%task, %error, "its output is not read");
            }
        });
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).insert(task, reader);
    }

    /// The end of a rank: its last lines, its record, the hall; and after the last rank the rest of the attempt.
    async fn end(self: Arc<Self>, task: TaskId, outcome: Outcome) {
        let reader = self.readers.lock().unwrap_or_else(PoisonError::into_inner).remove(&task);
        if let Some(mut reader) = reader
            && tokio::time::timeout(LAST_LINES, &mut reader).await.is_err()
        {
            reader.abort();
            tracing::warn!(%task, "its last lines did not come");
        }
        let record = ExitRecord {
            task,
            code: outcome.code,
            signal: outcome.signal,
            reason: outcome.reason,
            message: outcome.message.clone(),
            finished_at: outcome.finished_at,
        };
        let written = crate::layout::make_folders(&self.layout.attempt(task.attempt))
            .and_then(|()| write_json(&self.layout.task(task).exit(), &record, Durability::Power));
        if let Err(error) = written {
            tracing::error!(%task, %error, "the exit record cannot be written");
        }
        (self.events)(TaskEvent { task, what: What::Exited(outcome) });
        let over = {
            let mut table = self.table();
            let Some(gang) = table.gangs.get_mut(&task.attempt) else { return };
            if let Some(rank) = gang.rank(task.rank) {
                rank.end = End::Told;
            }
            let over = gang.over();
            if over {
                table.gangs.remove(&task.attempt);
            }
            over
        };
        if over {
            self.clean(task.attempt).await;
        }
    }

    /// Looks at the clock, and deletes what is to go, until the executor is closed.
    pub(super) async fn tend(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep(TICK) => {}
            }
            let at = Instant::now();
            let mut effects = Vec::new();
            let (deletions, strangers) = {
                let mut table = self.table();
                if table.closed {
                    return;
                }
                table.overdue(self.cluster.start_within, self.cluster.lost_after, at, &mut effects);
                (self.due(&mut table, at), self.strangers(&mut table, at))
            };
            self.carry_out(effects);
            if !self.leads() {
                continue;
            }
            for deletion in deletions {
                let shared = Arc::clone(&self);
                tokio::spawn(async move { shared.delete(deletion).await });
            }
            for (name, attempt) in strangers {
                tracing::warn!(name, "deleting a pod of this hall that the hall does not know");
                let shared = Arc::clone(&self);
                tokio::spawn(async move {
                    Arc::clone(&shared).delete(Deletion { name, uid: None, grace: 0, task: None }).await;
                    if let Some(attempt) = attempt {
                        shared.clean(attempt).await;
                    }
                });
            }
        }
    }

    /// Which pods are to be deleted now.
    fn due(&self, table: &mut super::Table, at: Instant) -> Vec<Deletion> {
        let grace = limits::STOP_GRACE_MS.div_ceil(1_000);
        let mut due = Vec::new();
        for (attempt, gang) in &mut table.gangs {
            let asked = gang.asked;
            for (rank, state) in (0..).map(Rank).zip(&mut gang.ranks) {
                let task = TaskId { attempt: *attempt, rank };
                // A pod whose node is lost has ended for the hall, and nobody there confirms its deletion.
                let lost = table.nodes.get(&state.host).is_some_and(|health| health.lost_since.is_some());
                let left = state.end != End::Open && lost && state.deleted.is_none();
                let wanted = (asked.is_some() || state.fault) && state.end == End::Open;
                let Some((uid, _)) = state.pod.clone().filter(|_| wanted || left) else { continue };
                if state.deleted.is_some_and(|last| at.saturating_duration_since(last) < AGAIN) {
                    continue;
                }
                let patience = Duration::from_secs(grace) + FORCE_AFTER;
                let late = asked.is_some_and(|(_, since)| at.saturating_duration_since(since) >= patience);
                let grace = match asked {
                    _ if late || left => 0,
                    Some((Stop::Polite, _)) if !state.fault => grace,
                    // The kubelet still ends the program before it says that the pod is gone.
                    Some(_) | None => 1,
                };
                state.deleted = Some(at);
                let name = pod::of_rank(&self.prefix, *attempt, rank.0);
                due.push(Deletion { name, uid: Some(uid), grace, task: Some(task) });
            }
        }
        due
    }

    /// Pods of this hall that no gang accounts for, old enough to be none of a start that is under way.
    fn strangers(&self, table: &mut super::Table, at: Instant) -> Vec<(String, Option<AttemptId>)> {
        if !table.recovered {
            return Vec::new();
        }
        let mut found = Vec::new();
        for (name, stranger) in &mut table.strangers {
            // A deposed server knows nothing of what its successor runs.
            if stranger.term <= self.term && at.saturating_duration_since(stranger.since) >= UNKNOWN {
                stranger.since = at;
                let attempt = stranger.attempt.filter(|attempt| !table.gangs.contains_key(attempt));
                found.push((name.clone(), attempt));
            }
        }
        found
    }

    async fn delete(self: Arc<Self>, deletion: Deletion) {
        let Deletion { name, uid, grace, task } = deletion;
        let _one = self.calls.acquire().await;
        if !self.leads() {
            return;
        }
        let mut options = json!({ "kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": grace });
        if let (Some(uid), Some(options)) = (&uid, options.as_object_mut()) {
            options.insert("preconditions".to_owned(), json!({ "uid": uid }));
        }
        let path = self.client.path("pods", &name);
        match self.client.call(Method::DELETE, &path, Some((Body::Json, &options))).await {
            // The answer is the pod as it was: one that had ended by itself meanwhile says how.
            Ok(answer) => {
                if let Ok(pod) = serde_json::from_slice::<Pod>(&answer)
                    && pod.over()
                {
                    let mut effects = Vec::new();
                    self.table().put(&pod, Instant::now(), &mut effects);
                    self.carry_out(effects);
                }
            }
            // Gone, or another pod of that name.
            Err(failure) if failure.is(StatusCode::NOT_FOUND) || failure.is(StatusCode::CONFLICT) => {
                if let Some(task) = task {
                    let mut effects = Vec::new();
                    self.table().vanished(task, "its pod was deleted, and not by this hall", &mut effects);
                    self.carry_out(effects);
                }
            }
            Err(failure) => tracing::warn!(name, %failure, "a pod was not deleted; trying again"),
        }
    }
}

fn health(node: &Node) -> Health {
    Health { down: node.down(), lost_since: node.lost().then(Instant::now) }
}

fn enforcement() -> Enforcement {
    let bound = Bound::EnforcedBy("the kubelet of its node".to_owned());
    Enforcement { memory: bound.clone(), processes: Bound::NotAsked, cores: bound }
}
