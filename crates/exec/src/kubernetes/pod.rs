//! What the API is handed: a pod per rank, a Secret and a Service per attempt. Pure.
//!
//! | object | name | for |
//! | --- | --- | --- |
//! | pod | `dh-HALL-JOB-ATTEMPT-RANK` | a rank; held back by a gate until all of its gang exist |
//! | Secret | `dh-HALL-JOB-ATTEMPT` | what must not stand in a pod's text; goes with the pod of rank 0, which owns it |
//! | Service without an address | `dh-HALL-JOB-ATTEMPT` | gives each rank a name, `rRANK.SERVICE.NAMESPACE.svc`, before it is ready |
//!
//! A pod is bound to its node by an affinity for the node's name, as a daemon set's are: the scheduler still counts what the node
//! has, sees its taints, and says why when something does not fit. `nodeName` would go past all that, and a gate holds nothing back
//! from a kubelet. Each rank has a network and devices of its own, so to its program it is the only one on its node.

use std::collections::BTreeMap;

use dh_core::{AttemptId, NodeId, limits};
use serde_json::{Value, json};

use super::Cluster;
use super::object::{ATTEMPT, GATE, HALL, JOB, RANK, RANKS, TERM};
use crate::launch::Launch;
use crate::{Devices, Error, GangSpec, Ports, RankSpec};

/// Ports of a rank's own network: nothing else listens there.
const MASTER_PORT: u16 = 29_500;
const JAX_PORT: u16 = 29_501;
const TENSORFLOW_PORT: u16 = 29_502;
/// The variable by which a job names its own image.
pub(super) const IMAGE: &str = "DH_IMAGE";
/// Taints of nodes that have accelerators: their pods are those that ask for some.
const RESOURCES: [&str; 3] = ["nvidia.com/gpu", "amd.com/gpu", "google.com/tpu"];

/// What the names of a hall's objects start with: its name as a part of a host name.
pub(super) fn prefix(hall: &str) -> String {
    let plain: String =
        hall.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    let plain = plain.trim_matches('-');
    if plain == hall && plain.len() <= 20 {
        return format!("dh-{plain}");
    }
    // Two halls whose names differ only in what was lost are told apart by a checksum (FNV-1a).
    let sum = hall
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let short: String = plain.chars().take(12).collect();
    format!("dh-{}-{:08x}", short.trim_matches('-'), sum >> 32)
}

/// The name of an attempt's Secret and Service.
pub(super) fn of_attempt(prefix: &str, attempt: AttemptId) -> String {
    format!("{prefix}-{}-{}", attempt.job.0, attempt.attempt)
}

/// The name of a rank's pod.
pub(super) fn of_rank(prefix: &str, attempt: AttemptId, rank: u32) -> String {
    format!("{}-{rank}", of_attempt(prefix, attempt))
}

/// The labels by which a hall finds its own again; a label's value holds what a name does.
pub(super) fn selector(prefix: &str) -> String {
    format!("{HALL}={prefix}")
}

/// Selects one attempt.
pub(super) fn selector_of(prefix: &str, attempt: AttemptId) -> String {
    format!("{HALL}={prefix},{JOB}={},{ATTEMPT}={}", attempt.job.0, attempt.attempt)
}

/// Everything that the manifests of one gang are made from.
pub(super) struct Manifests<'a> {
    pub(super) gang: &'a GangSpec,
    pub(super) cluster: &'a Cluster,
    pub(super) prefix: &'a str,
    pub(super) namespace: &'a str,
    pub(super) term: u64,
    pub(super) hosts: &'a BTreeMap<NodeId, String>,
}

impl Manifests<'_> {
    fn name(&self) -> String {
        of_attempt(self.prefix, self.gang.attempt)
    }

    fn labels(&self, rank: Option<u32>) -> BTreeMap<&'static str, String> {
        let AttemptId { job, attempt } = self.gang.attempt;
        let mut labels = BTreeMap::from([
            (HALL, self.prefix.to_owned()),
            (JOB, job.0.to_string()),
            (ATTEMPT, attempt.to_string()),
            (RANKS, self.gang.ranks.len().to_string()),
            (TERM, self.term.to_string()),
            ("app.kubernetes.io/managed-by", "datahall".to_owned()),
        ]);
        labels.extend(rank.map(|rank| (RANK, rank.to_string())));
        labels
    }

    /// The image of this gang: its own variable's, else the target's.
    fn image(&self) -> Result<&str, Error> {
        let own = self.gang.env.get(IMAGE).filter(|image| !image.is_empty());
        own.or(self.cluster.image.as_ref()).map(String::as_str).ok_or_else(|| Error::Invalid {
            attempt: self.gang.attempt,
            why: format!("no image is named: neither `image` of [target] nor the job's variable {IMAGE}"),
        })
    }

    /// The pods, in the order of ranks.
    pub(super) fn pods(&self) -> Result<Vec<Value>, Error> {
        let gang = self.gang;
        let invalid = |why: String| Error::Invalid { attempt: gang.attempt, why };
        if let Some(spec) = gang.ranks.iter().find(|spec| spec.part.is_some()) {
            return Err(invalid(format!(
                "rank {} asks for a part of an accelerator, and Kubernetes gives whole ones; run it with the executor `local`",
                spec.rank
            )));
        }
        let image = self.image()?;
        let alone = alone(gang);
        let ports = Ports { master: MASTER_PORT, jax: JAX_PORT, tensorflow: vec![TENSORFLOW_PORT; gang.ranks.len()] };
        let ports = if gang.ranks.len() > crate::limits::TENSORFLOW_RANKS_MAX {
            Ports { tensorflow: Vec::new(), ..ports }
        } else {
            ports
        };
        let addresses: Vec<String> =
            gang.ranks.iter().map(|spec| format!("r{}.{}.{}.svc", spec.rank, self.name(), self.namespace)).collect();
        let launch = Launch::on_hosts(&alone, &ports, &addresses);
        let pod = |(index, spec): (usize, &RankSpec)| {
            let host = self.hosts.get(&spec.node);
            let host = host.ok_or_else(|| {
                invalid(format!("rank {} is on {}, which the cluster does not have", spec.rank, spec.node))
            })?;
            let mut env = launch.environment(index);
            env.remove(IMAGE);
            // Its own name may not be known yet when it starts, and nobody but its gang reaches it.
            if !gang.env.contains_key("JAX_COORDINATOR_BIND_ADDRESS") {
                env.insert("JAX_COORDINATOR_BIND_ADDRESS".to_owned(), format!("0.0.0.0:{JAX_PORT}"));
            }
            Ok(self.pod(spec, host, image, &env))
        };
        gang.ranks.iter().enumerate().map(pod).collect()
    }

    fn pod(&self, spec: &RankSpec, host: &str, image: &str, env: &BTreeMap<String, String>) -> Value {
        let (cluster, gang) = (self.cluster, self.gang);
        let env: Vec<Value> =
            env.iter().map(|(name, value)| json!({ "name": name, "value": dollars(value) })).collect();
        let command: Vec<String> = gang.command.iter().map(|word| dollars(word)).collect();
        let (requests, bounds) = self.resources(spec);
        let tolerated = cluster.tolerations.iter().map(String::as_str);
        let tolerated = tolerated.chain(resource_of(gang.devices).filter(|_| !spec.devices.is_empty()));
        let tolerations: Vec<Value> = tolerated.map(|key| json!({ "key": key, "operator": "Exists" })).collect();
        let mut pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": of_rank(self.prefix, gang.attempt, spec.rank.0),
                "labels": self.labels(Some(spec.rank.0)),
                "annotations": { "datahall/name": gang.name },
            },
            "spec": {
                "restartPolicy": "Never",
                "schedulingGates": [{ "name": GATE }],
                "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [
                    { "matchFields": [{ "key": "metadata.name", "operator": "In", "values": [host] }] },
                ] } } },
                "tolerations": tolerations,
                "hostname": format!("r{}", spec.rank),
                "subdomain": self.name(),
                "terminationGracePeriodSeconds": limits::STOP_GRACE_MS.div_ceil(1_000),
                // Signals reach a program that is not the first of its namespace, and its orphans are reaped.
                "shareProcessNamespace": true,
                "enableServiceLinks": false,
                "automountServiceAccountToken": cluster.service_account.is_some(),
                "containers": [{
                    "name": "task",
                    "image": image,
                    "command": command,
                    "env": env,
                    "envFrom": [{ "secretRef": { "name": self.name() } }],
                    "resources": { "requests": requests, "limits": bounds },
                    "terminationMessagePolicy": "File",
                    "volumeMounts": [{ "name": "shm", "mountPath": "/dev/shm" }],
                }],
                // The 64 MiB that containers have otherwise end loaders of data.
                "volumes": [{ "name": "shm", "emptyDir": { "medium": "Memory" } }],
            },
        });
        let mut set = |key: &str, value: Value| {
            if let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) {
                spec.insert(key.to_owned(), value);
            }
        };
        if let Some(account) = &cluster.service_account {
            set("serviceAccountName", json!(account));
        }
        if !cluster.pull_secrets.is_empty() {
            set("imagePullSecrets", cluster.pull_secrets.iter().map(|name| json!({ "name": name })).collect());
        }
        if let Some(time) = gang.limits.time {
            // The hall's own limit comes first; this one is for a hall that is gone.
            set("activeDeadlineSeconds", json!(time.as_secs() + 60));
        }
        pod
    }

    /// What the rank asks for, and what it may not exceed.
    fn resources(&self, spec: &RankSpec) -> (BTreeMap<&'static str, String>, BTreeMap<&'static str, String>) {
        let (mut requests, mut bounds) = (BTreeMap::new(), BTreeMap::new());
        let slots = u64::try_from(spec.devices.len()).unwrap_or(u64::MAX);
        if let Some(resource) = resource_of(self.gang.devices).filter(|_| slots > 0) {
            requests.insert(resource, slots.to_string());
            bounds.insert(resource, slots.to_string());
        }
        if let Some(cpus) = self.cluster.cpus_per_slot.filter(|cpus| *cpus > 0) {
            requests.insert("cpu", slots.max(1).saturating_mul(u64::from(cpus)).to_string());
        }
        if let Some(memory) = self.gang.limits.memory {
            requests.insert("memory", memory.0.to_string());
            bounds.insert("memory", memory.0.to_string());
        }
        (requests, bounds)
    }

    /// The Secret, owned by the pod of rank 0, which has `owner` as its id.
    pub(super) fn secret(&self, owner: &str, token: &str) -> Value {
        let mut data: BTreeMap<&str, &str> =
            self.gang.secret_env.iter().map(|(name, value)| (name.as_str(), value.expose().as_str())).collect();
        data.insert("DH_GANG_TOKEN", token);
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": self.owned(owner),
            "immutable": true,
            "stringData": data,
        })
    }

    pub(super) fn service(&self, owner: &str) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": self.owned(owner),
            "spec": {
                "clusterIP": "None",
                // Ranks look for each other before any of them could be called ready.
                "publishNotReadyAddresses": true,
                "selector": {
                    HALL: self.prefix,
                    JOB: self.gang.attempt.job.0.to_string(),
                    ATTEMPT: self.gang.attempt.attempt.to_string(),
                },
            },
        })
    }

    fn owned(&self, owner: &str) -> Value {
        json!({
            "name": self.name(),
            "labels": self.labels(None),
            "ownerReferences": [{
                "apiVersion": "v1",
                "kind": "Pod",
                "name": of_rank(self.prefix, self.gang.attempt, 0),
                "uid": owner,
            }],
        })
    }
}

/// The gang as its programs see it: each rank alone on a node, with devices that count from 0.
fn alone(gang: &GangSpec) -> GangSpec {
    let mut gang = gang.clone();
    for (place, spec) in (0_u32..).zip(&mut gang.ranks) {
        spec.node = NodeId(place);
        spec.devices = (0_u32..).take(spec.devices.len()).collect();
    }
    gang
}

const fn resource_of(devices: Devices) -> Option<&'static str> {
    match devices {
        Devices::Cores => None,
        Devices::Cuda => Some(RESOURCES[0]),
        Devices::Rocm => Some(RESOURCES[1]),
        Devices::Tpu => Some(RESOURCES[2]),
    }
}

/// Kubernetes replaces `$(NAME)` in words and values; a doubled dollar stands for one.
fn dollars(text: &str) -> String {
    text.replace("$(", "$$(")
}
