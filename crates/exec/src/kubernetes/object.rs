//! The parts of Kubernetes' objects that this executor reads; everything else in them is passed over. Pure.
//!
//! Source: the API reference of Kubernetes, core/v1. A field that a server leaves out reads as its empty value, so that servers of
//! different ages are read alike.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Labels of everything that a hall makes.
pub(super) const HALL: &str = "datahall/hall";
pub(super) const JOB: &str = "datahall/job";
pub(super) const ATTEMPT: &str = "datahall/attempt";
pub(super) const RANK: &str = "datahall/rank";
pub(super) const RANKS: &str = "datahall/ranks";
/// The fencing token of the leader that made it.
pub(super) const TERM: &str = "datahall/term";
/// What holds a gang's pods back from the scheduler until all of them exist.
pub(super) const GATE: &str = "datahall/gang";

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Meta {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) resource_version: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) deletion_timestamp: Option<String>,
}

/// What a watch can follow.
pub(super) trait Object: for<'de> Deserialize<'de> + Send + 'static {
    fn meta(&self) -> &Meta;
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Pod {
    pub(super) metadata: Meta,
    pub(super) spec: PodSpec,
    pub(super) status: PodStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodSpec {
    pub(super) node_name: String,
    pub(super) scheduling_gates: Vec<Gate>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Gate {
    pub(super) name: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodStatus {
    pub(super) phase: String,
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) conditions: Vec<Condition>,
    pub(super) container_statuses: Vec<ContainerStatus>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Condition {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) status: String,
    pub(super) reason: String,
    pub(super) message: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct ContainerStatus {
    pub(super) state: ContainerState,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct ContainerState {
    pub(super) waiting: Option<Waiting>,
    pub(super) running: Option<serde::de::IgnoredAny>,
    pub(super) terminated: Option<Terminated>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Waiting {
    pub(super) reason: String,
    pub(super) message: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Terminated {
    pub(super) exit_code: i32,
    pub(super) signal: i32,
    pub(super) reason: String,
    pub(super) message: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Node {
    pub(super) metadata: Meta,
    pub(super) spec: NodeSpec,
    pub(super) status: NodeStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct NodeSpec {
    pub(super) unschedulable: bool,
    pub(super) taints: Vec<Taint>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Taint {
    pub(super) key: String,
    pub(super) effect: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct NodeStatus {
    pub(super) allocatable: BTreeMap<String, String>,
    pub(super) capacity: BTreeMap<String, String>,
    pub(super) conditions: Vec<Condition>,
}

/// A page of a list.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub(super) struct List<T> {
    pub(super) metadata: ListMeta,
    /// `null` on some servers if there are none.
    #[serde(bound(deserialize = "T: Deserialize<'de>"))]
    pub(super) items: Option<Vec<T>>,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self { metadata: ListMeta::default(), items: None }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ListMeta {
    pub(super) resource_version: String,
    #[serde(rename = "continue")]
    pub(super) more: String,
}

/// How the server says that something did not go.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    pub(super) message: String,
    pub(super) code: u16,
}

impl Object for Pod {
    fn meta(&self) -> &Meta {
        &self.metadata
    }
}

impl Object for Node {
    fn meta(&self) -> &Meta {
        &self.metadata
    }
}

impl Pod {
    pub(super) fn label<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.metadata.labels.get(name)?.parse().ok()
    }

    /// Whether the hall still holds it back.
    pub(super) fn gated(&self) -> bool {
        self.spec.scheduling_gates.iter().any(|gate| gate.name == GATE)
    }

    pub(super) fn going(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    pub(super) fn container(&self) -> Option<&ContainerState> {
        self.status.container_statuses.first().map(|status| &status.state)
    }

    pub(super) fn terminated(&self) -> Option<&Terminated> {
        self.container()?.terminated.as_ref()
    }

    pub(super) fn running(&self) -> bool {
        self.container().is_some_and(|state| state.running.is_some())
    }

    /// Whether nothing of it runs, or ever will.
    pub(super) fn over(&self) -> bool {
        matches!(self.status.phase.as_str(), "Succeeded" | "Failed") || self.terminated().is_some()
    }

    pub(super) fn condition(&self, kind: &str, status: &str) -> Option<&Condition> {
        self.status.conditions.iter().find(|condition| condition.kind == kind && condition.status == status)
    }
}

impl Node {
    /// Why it takes no work; none if it does.
    pub(super) fn down(&self) -> Option<String> {
        match self.status.conditions.iter().find(|condition| condition.kind == "Ready") {
            Some(ready) if ready.status == "True" => {}
            Some(ready) => {
                let words = [ready.reason.as_str(), ready.message.as_str()].into_iter().filter(|word| !word.is_empty());
                let words: Vec<&str> = words.collect();
                return Some(format!(
                    "not ready: {}",
                    if words.is_empty() { "it does not say why".to_owned() } else { words.join(": ") }
                ));
            }
            None => return Some("not ready: its kubelet has said nothing yet".to_owned()),
        }
        self.spec.unschedulable.then(|| "cordoned".to_owned())
    }

    /// Whether its kubelet cannot be asked about its tasks.
    pub(super) fn lost(&self) -> bool {
        let ready = self.status.conditions.iter().find(|condition| condition.kind == "Ready");
        ready.is_none_or(|ready| ready.status != "True")
    }

    /// Whether it is for the cluster itself.
    pub(super) fn control_plane(&self) -> bool {
        self.spec.taints.iter().any(|taint| {
            matches!(taint.key.as_str(), "node-role.kubernetes.io/control-plane" | "node-role.kubernetes.io/master")
                && taint.effect != "PreferNoSchedule"
        })
    }

    /// What pods may use of it, by resource.
    pub(super) fn resources(&self) -> &BTreeMap<String, String> {
        if self.status.allocatable.is_empty() { &self.status.capacity } else { &self.status.allocatable }
    }
}
