//! After a crash of the server: which attempts still have pods, and what became of the others.
//!
//! A gang of which every pod is still behind the gate, or whose Secret was not made, never ran: a server died while it made them, and
//! they are deleted. One whose pods were let go is adopted, whatever has become of each; what has ended meanwhile is told as if it had just ended.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dh_core::{AttemptId, Rank, TaskId};
use http::{Method, StatusCode};

use super::client::Failure;
use super::object::{Pod, RANKS};
use super::state::{Gang, task_of};
use super::{PATIENCE, Shared, pod};
use crate::Error;
use crate::executor::{Fate, Outcome, Recovered, Stop};
use crate::layout::read_json;
use crate::record::ExitRecord;

impl Shared {
    pub(super) async fn recover(self: Arc<Self>, known: &[AttemptId]) -> Result<Vec<Recovered>, Error> {
        let pods = self.pods().await?;
        let mut of: BTreeMap<AttemptId, BTreeMap<Rank, &Pod>> = BTreeMap::new();
        for pod in &pods {
            if let Some(task) = task_of(pod) {
                of.entry(task.attempt).or_default().insert(task.rank, pod);
            }
        }
        let mut recovered = Vec::with_capacity(known.len());
        for attempt in known {
            let fate = match of.get(attempt) {
                None => Fate::Gone(self.recorded(*attempt)?),
                Some(pods) if self.never_ran(*attempt, pods).await? => {
                    self.clean(*attempt).await;
                    Fate::Gone(Vec::new())
                }
                Some(pods) => {
                    self.adopt(*attempt, pods);
                    Fate::Alive
                }
            };
            recovered.push(Recovered { attempt: *attempt, fate });
        }
        // What is adopted is told of after the hall has heard that it is.
        let (shared, adopted): (_, Vec<AttemptId>) = (Arc::clone(&self), self.table().gangs.keys().copied().collect());
        self.table().recovered = true;
        tokio::spawn(async move {
            let mut effects = Vec::new();
            {
                let mut table = shared.table();
                let at = Instant::now();
                for pod in &pods {
                    table.put(pod, at, &mut effects);
                }
                for attempt in &adopted {
                    let missing =
                        table.gangs.get(attempt).into_iter().flat_map(|gang| (0..).map(Rank).zip(&gang.ranks));
                    let missing: Vec<Rank> =
                        missing.filter(|(_, state)| state.pod.is_none()).map(|(rank, _)| rank).collect();
                    for rank in missing {
                        let task = TaskId { attempt: *attempt, rank };
                        table.vanished(task, "its pod is gone", &mut effects);
                    }
                }
            }
            shared.carry_out(effects);
            for attempt in adopted {
                let gated = pods.iter().filter(|pod| task_of(pod).is_some_and(|task| task.attempt == attempt));
                if gated.clone().any(Pod::gated) {
                    let ranks = gated.count();
                    if let Err(error) = shared.release(attempt, ranks).await {
                        tracing::warn!(%attempt, %error, "an adopted gang was not let go as a whole");
                    }
                }
            }
        });
        Ok(recovered)
    }

    /// Whether the gang is held back as a whole still. The pod of rank 0 owns the Secret: as long as it is there, nobody but this hall
    /// has deleted it.
    async fn never_ran(&self, attempt: AttemptId, pods: &BTreeMap<Rank, &Pod>) -> Result<bool, Error> {
        if pods.values().all(|pod| pod.gated()) {
            return Ok(true);
        }
        let ran = |pod: &&Pod| pod.gated() || pod.running() || pod.over();
        if !pods.contains_key(&Rank(0)) || pods.values().any(ran) {
            return Ok(false);
        }
        let path = self.client.path("secrets", &pod::of_attempt(&self.prefix, attempt));
        let until = Instant::now() + PATIENCE;
        loop {
            match self.client.call(Method::GET, &path, None).await {
                Ok(_) => return Ok(false),
                Err(failure) if failure.is(StatusCode::NOT_FOUND) => return Ok(true),
                Err(Failure::Passing(why)) if Instant::now() < until => tracing::debug!(why, "asking again"),
                Err(failure) => return Err(failure.into_error("look for the Secret of an attempt")),
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// All pods of this hall.
    async fn pods(&self) -> Result<Vec<Pod>, Error> {
        let until = Instant::now() + PATIENCE;
        let selector = pod::selector(&self.prefix);
        loop {
            match self.client.list::<Pod>(&self.client.path("pods", ""), &selector).await {
                Ok((pods, _version)) => return Ok(pods),
                Err(Failure::Passing(why)) if Instant::now() < until => tracing::debug!(why, "asking again"),
                Err(failure) => return Err(failure.into_error("list the hall's pods")),
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    fn adopt(&self, attempt: AttemptId, pods: &BTreeMap<Rank, &Pod>) {
        let ranks: u32 = pods.values().find_map(|pod| pod.label(RANKS)).unwrap_or(0);
        let host = |rank: u32| pods.get(&Rank(rank)).map(|pod| pod.spec.node_name.clone()).unwrap_or_default();
        let mut gang = Gang::new((0..ranks).map(host));
        let at = Instant::now();
        gang.released = Some(at);
        // Somebody has asked for its end already.
        if pods.values().any(|pod| pod.going()) {
            gang.ask(Stop::Polite, at);
        }
        for (rank, pod) in pods {
            if let Some(state) = gang.rank(*rank) {
                state.pod = Some((pod.metadata.uid.clone(), at));
            }
        }
        tracing::info!(%attempt, ranks, "adopted");
        self.table().gangs.insert(attempt, gang);
    }

    /// The ends that an earlier server wrote down.
    fn recorded(&self, attempt: AttemptId) -> Result<Vec<(Rank, Outcome)>, Error> {
        let mut ends = Vec::new();
        let Ok(folder) = std::fs::read_dir(self.layout.attempt(attempt)) else { return Ok(ends) };
        for name in folder.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
            let rank = name.strip_prefix("rank-").and_then(|name| name.strip_suffix(".exit.json"));
            let Some(rank) = rank.and_then(|rank| rank.parse().ok()).map(Rank) else { continue };
            let task = TaskId { attempt, rank };
            if let Some(record) = read_json::<ExitRecord>(&self.layout.task(task).exit())? {
                ends.push((rank, Outcome::from(record)));
            }
        }
        ends.sort_by_key(|(rank, _)| *rank);
        Ok(ends)
    }
}
