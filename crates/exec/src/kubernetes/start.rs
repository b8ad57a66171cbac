//! Makes a gang: the pod of rank 0, which owns the rest, then Secret, Service and the other pods; then all are let go at once.
//!
//! A server before 1.27 knows no gates and leaves ours out of its answer. There the Secret is made last: each pod takes its variables
//! from it, and no kubelet starts a container whose Secret is not there. Nothing runs before the last of them exists. A call whose answer was lost is repeated, and what it had made is then found by its
//! name and taken for ours if it says so; so a start that is repeated doubles nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dh_core::{AttemptId, Rank, TaskId};
use futures::future::join_all;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::client::{Body, Client, Failure};
use super::object::{ATTEMPT, HALL, JOB, Pod};
use super::pod::{self, Manifests};
use super::state::Gang;
use super::{PATIENCE, Shared};
use crate::layout::make_folders;
use crate::{Error, GangSpec};

/// How soon the deletion of what is left of an attempt is tried again, at first and at most.
const CLEAN_AGAIN: Duration = Duration::from_millis(250);
const CLEAN_AGAIN_MAX: Duration = Duration::from_secs(30);

/// What the account of the hall must be allowed in its namespace.
pub(super) const NEEDED: &[(&str, &str)] = &[
    ("create", "pods"),
    ("get", "pods"),
    ("list", "pods"),
    ("watch", "pods"),
    ("patch", "pods"),
    ("delete", "pods"),
    ("deletecollection", "pods"),
    ("get", "pods/log"),
    ("create", "secrets"),
    ("get", "secrets"),
    ("delete", "secrets"),
    ("create", "services"),
    ("get", "services"),
    ("delete", "services"),
];

/// What keeps the programs of a gang from running until all of it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    /// A gate before the scheduler, which is taken away pod by pod.
    ByGates,
    /// The Secret that each container needs.
    BySecret,
}

impl Shared {
    pub(super) async fn start(self: Arc<Self>, gang: GangSpec) -> Result<(), Error> {
        let attempt = gang.attempt;
        let first = TaskId { attempt, rank: Rank(0) };
        if self.table().gangs.contains_key(&attempt) || self.layout.task(first).exit().exists() {
            return Err(Error::AlreadyStarted(attempt));
        }
        let manifests = Manifests {
            gang: &gang,
            cluster: &self.cluster,
            prefix: &self.prefix,
            namespace: self.client.namespace(),
            term: self.term,
            hosts: &self.hosts,
        };
        let pods = manifests.pods()?;
        make_folders(&self.layout.attempt(attempt))?;
        let hosts = gang.ranks.iter().map(|spec| self.hosts.get(&spec.node).cloned().unwrap_or_default());
        self.table().gangs.insert(attempt, Gang::new(hosts));
        let made = self.make(&manifests, &pods).await;
        let made = match made {
            Ok(Held::ByGates) => self.release(attempt, gang.ranks.len()).await,
            Ok(Held::BySecret) => {
                self.let_go(attempt);
                Ok(())
            }
            Err(error) => Err(error),
        };
        if let Err(error) = made {
            self.table().gangs.remove(&attempt);
            self.clean(attempt).await;
            return Err(error);
        }
        self.wake.notify_one();
        Ok(())
    }

    /// Makes everything. Behind gates it still waits when this returns; held by its Secret it goes with it.
    async fn make(&self, manifests: &Manifests<'_>, pods: &[Value]) -> Result<Held, Error> {
        let attempt = manifests.gang.attempt;
        let Some((first, others)) = pods.split_first() else { return Ok(Held::ByGates) };
        let first = self.make_pod(attempt, Rank(0), first).await?;
        let held = if first.gated() { Held::ByGates } else { Held::BySecret };
        let owner = first.metadata.uid;
        let secret = manifests.secret(&owner, &token()?);
        if held == Held::ByGates {
            self.make_one::<Value>(attempt, "secrets", &secret).await?;
        }
        self.make_one::<Value>(attempt, "services", &manifests.service(&owner)).await?;
        // All are waited for, also after a refusal: a call that is let go of may still make its pod, after all were deleted.
        let made = join_all((1_u32..).map(Rank).zip(others).map(|(rank, pod)| self.make_pod(attempt, rank, pod))).await;
        made.into_iter().collect::<Result<Vec<_>, Error>>()?;
        if held == Held::BySecret {
            self.make_one::<Value>(attempt, "secrets", &secret).await?;
        }
        Ok(held)
    }

    /// Makes a pod; how it is then.
    async fn make_pod(&self, attempt: AttemptId, rank: Rank, pod: &Value) -> Result<Pod, Error> {
        let made: Pod = self.make_one(attempt, "pods", pod).await?;
        if let Some(state) = self.table().gangs.get_mut(&attempt).and_then(|gang| gang.rank(rank)) {
            state.pod = Some((made.metadata.uid.clone(), Instant::now()));
        }
        Ok(made)
    }

    /// Makes one object, or finds it made by a call of before whose answer was lost.
    async fn make_one<T: serde::de::DeserializeOwned>(
        &self,
        attempt: AttemptId,
        kind: &str,
        object: &Value,
    ) -> Result<T, Error> {
        let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let doing = format!("make {kind}/{name}");
        let until = Instant::now() + PATIENCE;
        let mut pause = Duration::from_millis(100);
        loop {
            let _one = self.calls.acquire().await;
            self.may_start(attempt)?;
            let failure = match self
                .client
                .read::<T>(Method::POST, &self.client.path(kind, ""), Some((Body::Json, object)))
                .await
            {
                Ok(made) => return Ok(made),
                Err(failure) => failure,
            };
            if failure.is(StatusCode::CONFLICT) {
                let found: Result<Value, _> = self.client.read(Method::GET, &self.client.path(kind, name), None).await;
                match found {
                    Ok(found) if ours(&found, object) => {
                        return serde_json::from_value(found)
                            .map_err(|error| Failure::Passing(error.to_string()).into_error(&doing));
                    }
                    Ok(_) => return Err(failure.into_error(&doing)),
                    // It went meanwhile.
                    Err(_) => {}
                }
            } else if let Failure::Refused { .. } = failure {
                return Err(failure.into_error(&doing));
            }
            if Instant::now() >= until {
                return Err(failure.into_error(&doing));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }

    /// Lets all pods of a gang go to the scheduler.
    pub(super) async fn release(&self, attempt: AttemptId, ranks: usize) -> Result<(), Error> {
        let one = |rank: u32| async move {
            let name = pod::of_rank(&self.prefix, attempt, rank);
            let doing = format!("let pods/{name} go");
            let patch = json!({ "spec": { "schedulingGates": null } });
            let until = Instant::now() + PATIENCE;
            loop {
                let _one = self.calls.acquire().await;
                self.may_start(attempt)?;
                match self
                    .client
                    .call(Method::PATCH, &self.client.path("pods", &name), Some((Body::MergePatch, &patch)))
                    .await
                {
                    Ok(_) => return Ok(()),
                    Err(Failure::Passing(why)) if Instant::now() < until => {
                        tracing::debug!(name, why, "patching again");
                    }
                    Err(failure) => return Err(failure.into_error(&doing)),
                }
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        };
        let released = join_all((0..u32::try_from(ranks).unwrap_or(u32::MAX)).map(one)).await;
        released.into_iter().collect::<Result<Vec<()>, Error>>()?;
        self.let_go(attempt);
        Ok(())
    }

    /// From this moment on the gang is late if it does not run.
    fn let_go(&self, attempt: AttemptId) {
        if let Some(gang) = self.table().gangs.get_mut(&attempt) {
            gang.released = Some(Instant::now());
        }
    }

    /// Whether this server may still start something of this attempt.
    fn may_start(&self, attempt: AttemptId) -> Result<(), Error> {
        let wanted = self.table().gangs.get(&attempt).is_some_and(|gang| gang.asked.is_none());
        if wanted && self.leads() { Ok(()) } else { Err(Error::StoppedWhileStarting(attempt)) }
    }

    /// Deletes everything that is left of an attempt. What cannot be reached now is tried again beside all else, until it is
    /// gone: no watch tells of pods that have ended and whose attempt is over.
    pub(super) async fn clean(self: &Arc<Self>, attempt: AttemptId) {
        if self.cleaned(attempt).await {
            return;
        }
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            let mut pause = CLEAN_AGAIN;
            loop {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(CLEAN_AGAIN_MAX);
                let over = {
                    let table = shared.table();
                    table.closed || table.gangs.contains_key(&attempt)
                };
                if over || shared.cleaned(attempt).await {
                    return;
                }
            }
        });
    }

    /// Whether all that is left of an attempt was deleted, or is another server's affair.
    async fn cleaned(&self, attempt: AttemptId) -> bool {
        if !self.leads() {
            return true;
        }
        let name = pod::of_attempt(&self.prefix, attempt);
        let pods = self.client.path("pods", "");
        let pods = format!("{pods}?labelSelector={}", super::client::encoded(&pod::selector_of(&self.prefix, attempt)));
        let mut all = true;
        for path in [pods, self.client.path("secrets", &name), self.client.path("services", &name)] {
            match self.client.call(Method::DELETE, &path, None).await {
                Ok(_) => {}
                Err(failure) if failure.is(StatusCode::NOT_FOUND) => {}
                Err(failure) => {
                    all = false;
                    tracing::warn!(%attempt, %failure, "not all of an attempt was deleted; trying again");
                }
            }
        }
        all
    }
}

/// Whether what is there was made for the same attempt of the same hall.
fn ours(found: &Value, wanted: &Value) -> bool {
    let same = |label: &&str| {
        let of = |object: &Value| object.pointer("/metadata/labels")?.get(label)?.as_str().map(str::to_owned);
        of(found).is_some() && of(found) == of(wanted)
    };
    let going = found.pointer("/metadata/deletionTimestamp").is_some();
    !going && [HALL, JOB, ATTEMPT].iter().all(same)
}

/// A secret that the ranks of one attempt share.
fn token() -> Result<String, Error> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| Error::doing("get random bytes", std::io::Error::other(error)))?;
    Ok(hex::encode(bytes))
}

/// What is wrong if the account may not do this.
pub(super) async fn may(client: &Client, verb: &str, resource: &str) -> Result<Option<Error>, Error> {
    let (kind, part) = resource.split_once('/').unwrap_or((resource, ""));
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": { "resourceAttributes": {
            "namespace": client.namespace(), "verb": verb, "resource": kind, "subresource": part,
        } },
    });
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let said: Value = client
        .read(Method::POST, path, Some((Body::Json, &review)))
        .await
        .map_err(|failure| failure.into_error("ask what this account may do"))?;
    let allowed = said.pointer("/status/allowed").and_then(Value::as_bool).unwrap_or(false);
    Ok((!allowed).then(|| Error::Cluster {
        doing: format!("{verb} {resource} in the namespace {}", client.namespace()),
        why: "this account may not".to_owned(),
        code: Some(403),
    }))
}
