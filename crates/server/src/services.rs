//! Engines behind the gateway: who serves which model, and whether it answers yet.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use dh_core::{AttemptId, Secret, TaskId};
use dh_gateway::{EngineFacts, EngineKind, EngineTarget, Gateway};
use dh_hall::{Event, Protocol};
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::body::Handle;

/// How often a starting engine is asked whether it is ready. Loading takes a second or more.
const READY_POLL: Duration = Duration::from_millis(50);

/// How long one such question may take.
const READY_TIMEOUT: Duration = Duration::from_secs(2);

/// An engine process of an attempt that owns slots.
struct Replica {
    target: EngineTarget,
    /// Whether the hall has said that it may serve.
    serving: bool,
}

/// The registry of engines.
pub(crate) struct Services {
    gateway: Gateway,
    replicas: Mutex<BTreeMap<AttemptId, Replica>>,
    /// Engines that run elsewhere, by service.
    external: Vec<EngineTarget>,
    /// What is known of the engines of a model.
    facts: BTreeMap<String, EngineFacts>,
}

impl Services {
    pub(crate) fn new(gateway: Gateway, external: Vec<EngineTarget>, facts: BTreeMap<String, EngineFacts>) -> Self {
        let services = Self { gateway, replicas: Mutex::new(BTreeMap::new()), external, facts };
        services.publish(&services.lock());
        services
    }

    /// An engine process was ordered: it will listen on `port` and want `key`.
    pub(crate) fn expect(&self, attempt: AttemptId, model: &str, protocol: Protocol, port: u16, key: Secret<String>) {
        let kind = match protocol {
            Protocol::Chat => EngineKind::Chat,
            Protocol::Inference => EngineKind::Classifier,
        };
        let target = EngineTarget {
            id: attempt.to_string(),
            model: model.to_owned(),
            kind,
            url: format!("http://127.0.0.1:{port}"),
            key: Some(key),
            facts: self.facts.get(model).cloned().unwrap_or_default(),
        };
        self.lock().insert(attempt, Replica { target, serving: false });
    }

    /// The hall says that it may serve.
    pub(crate) fn serve(&self, attempt: AttemptId) {
        let mut replicas = self.lock();
        if let Some(replica) = replicas.get_mut(&attempt) {
            replica.serving = true;
            self.publish(&replicas);
        }
    }

    /// It is being stopped, or is gone.
    pub(crate) fn forget(&self, attempt: AttemptId) {
        let mut replicas = self.lock();
        if replicas.remove(&attempt).is_some_and(|replica| replica.serving) {
            self.publish(&replicas);
        }
    }

    /// Asks a starting engine until it answers, and tells the hall; ends when the engine is forgotten.
    pub(crate) async fn watch(&self, task: TaskId, port: u16, hall: Handle) {
        let client: Client<HttpConnector, Empty<bytes::Bytes>> = Client::builder(TokioExecutor::new()).build_http();
        let Ok(address) = format!("http://127.0.0.1:{port}/healthz").parse::<http::Uri>() else { return };
        let mut pause = tokio::time::interval(READY_POLL);
        while self.lock().contains_key(&task.attempt) {
            pause.tick().await;
            let question = tokio::time::timeout(READY_TIMEOUT, client.get(address.clone())).await;
            if let Ok(Ok(answer)) = question
                && answer.status().is_success()
            {
                // Read to its end, so that the connection closes in order.
                if answer.into_body().collect().await.is_ok() {
                    hall.tell(Event::ServiceReady { task });
                    return;
                }
            }
        }
    }

    fn publish(&self, replicas: &BTreeMap<AttemptId, Replica>) {
        let ours = replicas.values().filter(|replica| replica.serving).map(|replica| replica.target.clone());
        let engines: Vec<EngineTarget> = ours.chain(self.external.iter().cloned()).collect();
        if let Err(error) = self.gateway.set_engines(engines) {
            // Our own targets are well formed; an external URL was checked with the blueprint.
            tracing::error!(%error, "the gateway refused the engines");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<AttemptId, Replica>> {
        // Inserts and removals cannot stop half-way, so a poisoned lock still guards a sound map.
        self.replicas.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
