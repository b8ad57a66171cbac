//! `[target]` with `executor = "kubernetes"`: how the cluster is reached, and what its pods are made of.

use dh_units::Seconds;
use serde::{Deserialize, Serialize};

use crate::codes::Code;
use crate::section::Section;
use crate::write::Writer;

use super::target::Executor;

/// How a Kubernetes cluster is reached, and what its pods are made of.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// A kubeconfig file, or `in-cluster`; found as `kubectl` does if absent.
    pub kubeconfig: Option<String>,
    /// The context of that file; its current one if absent.
    pub context: Option<String>,
    /// Where the pods are; the context's own if absent.
    pub namespace: Option<String>,
    /// The image of jobs that name none by `DH_IMAGE`.
    pub image: Option<String>,
    /// The account of the pods.
    pub service_account: Option<String>,
    /// Secrets by which images are pulled.
    pub pull_secrets: Vec<String>,
    /// Keys of taints that the pods tolerate.
    pub tolerations: Vec<String>,
    /// Processors that a pod asks for with each slot.
    pub cpus_per_slot: Option<u32>,
    /// How long the pods of a gang may take until all run.
    pub start_within: Option<Seconds>,
    /// How long a node may not be ready before its tasks are taken for lost.
    pub node_lost_after: Option<Seconds>,
}

/// The keys, with their words.
pub(super) const KUBECONFIG: (&str, &str) = (
    "kubeconfig",
    "The file by which a Kubernetes cluster is reached, or \"in-cluster\"; found as kubectl does if left out.",
);
pub(super) const CONTEXT: (&str, &str) =
    ("context", "The context of the kubeconfig file; its current one if left out.");
pub(super) const NAMESPACE: (&str, &str) =
    ("namespace", "The Kubernetes namespace of the hall's pods; that of the context if left out.");
pub(super) const IMAGE: (&str, &str) =
    ("image", "The container image of jobs on Kubernetes that name none by the variable DH_IMAGE.");
pub(super) const ACCOUNT: (&str, &str) =
    ("service_account", "The service account of the pods on Kubernetes; without one they get no token.");
pub(super) const PULL: (&str, &str) = ("pull_secrets", "Names of the Secrets by which Kubernetes pulls images.");
pub(super) const TOLERATIONS: (&str, &str) =
    ("tolerations", "Keys of taints that pods tolerate; those of the accelerators they ask for are tolerated anyway.");
pub(super) const CPUS: (&str, &str) =
    ("cpus_per_slot", "Processors that a pod asks for with each of its slots; none if left out.");
pub(super) const WITHIN: (&str, &str) =
    ("start_within", "How long the pods of a gang may take until all run; 10 min if left out.");
pub(super) const LOST: (&str, &str) =
    ("node_lost_after", "How long a Kubernetes node may not be ready before its tasks are lost; 1 min if left out.");

/// A pod's processors: more than any machine has.
const CPUS_MAX: u32 = 4_096;

/// Reads them; with another executor they would do nothing, and are refused.
pub(super) fn read(section: &Section<'_>, executor: Executor) -> Cluster {
    let text = |key| section.text(key).map(|found| found.value);
    let texts = |key| section.texts(key).map(|found| found.value).unwrap_or_default();
    let time = |key| section.positive(key, Seconds(0.0)).map(|found| found.value);
    let cluster = Cluster {
        kubeconfig: text(KUBECONFIG.0),
        context: text(CONTEXT.0),
        namespace: text(NAMESPACE.0),
        image: text(IMAGE.0),
        service_account: text(ACCOUNT.0),
        pull_secrets: texts(PULL.0),
        tolerations: texts(TOLERATIONS.0),
        cpus_per_slot: section.integer(CPUS.0, 0..=CPUS_MAX).map(|found| found.value),
        start_within: time(WITHIN.0),
        node_lost_after: time(LOST.0),
    };
    let keys =
        [KUBECONFIG, CONTEXT, NAMESPACE, IMAGE, ACCOUNT, PULL, TOLERATIONS, CPUS, WITHIN, LOST].map(|(key, _)| key);
    let written = keys.into_iter().find(|key| section.has(key));
    if let Some(key) = written.filter(|_| executor != Executor::Kubernetes) {
        let message = format!("`{key}` is for pods, and the executor is \"{}\"", executor.name());
        let hint = "write executor = \"kubernetes\", or leave it out".to_owned();
        section.problems.add(Code::ELSEWHERE, &section.key_at(key), message, Some(hint));
    }
    cluster
}

pub(super) fn write(out: &mut Writer<'_>, cluster: &Cluster) {
    out.maybe_text(KUBECONFIG.0, cluster.kubeconfig.as_deref());
    out.maybe_text(CONTEXT.0, cluster.context.as_deref());
    out.maybe_text(NAMESPACE.0, cluster.namespace.as_deref());
    out.maybe_text(IMAGE.0, cluster.image.as_deref());
    out.maybe_text(ACCOUNT.0, cluster.service_account.as_deref());
    for (key, list) in [(PULL.0, &cluster.pull_secrets), (TOLERATIONS.0, &cluster.tolerations)] {
        if !list.is_empty() {
            out.texts(key, list);
        }
    }
    out.maybe_integer(CPUS.0, cluster.cpus_per_slot);
    out.maybe_quantity(WITHIN.0, cluster.start_within);
    out.maybe_quantity(LOST.0, cluster.node_lost_after);
}
