//! The executor on a real API server and scheduler: what its kubelets do is done by the test, everything else by Kubernetes.
//!
//! `cargo xtask prove --only kubernetes` builds both from Debian's source and names their folder by `DATAHALL_KUBERNETES`; without it
//! this test is left out. The hall has the rights of `examples/kubernetes/rbac.yaml` and no others. Kubernetes 1.20 knows no scheduling
//! gates, so a gang is held by its Secret here; gates are in the gate, against a small API of our own.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::allow_attributes,
    reason = "tests fail by panicking and tell how far they are"
)]

#[path = "kubernetes_long/cluster.rs"]
mod cluster;
#[path = "kubernetes/hall.rs"]
mod hall;
#[path = "kubernetes_long/kubelet.rs"]
mod kubelet;
#[path = "kubernetes_long/wire.rs"]
mod wire;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cluster::{Admin, Cluster, NAMESPACE};
use dh_core::{NodeId, Rank, TaskId};
use dh_exec::{Executor as _, ExitReason, Fate, KubernetesExecutor, NodeEvent, Stop};
use hall::{Ears, attempt, gang, wait};
use kubelet::Kubelets;
use serde_json::json;
use wire::Wire;

/// A thing that happens to gangs, from a quiet site to a quiet site.
type Scene = fn(&mut Site);

/// Longer than a scheduler waits before it asks a server again that was away.
const START_WITHIN: Duration = Duration::from_secs(20);

/// A cluster with one namespace and a hall in it.
struct Site {
    executor: Option<KubernetesExecutor>,
    ears: Ears,
    wire: Wire,
    kubelets: Kubelets,
    admin: Admin,
    kubeconfig: PathBuf,
    state: tempfile::TempDir,
    cluster: Cluster,
}

impl Site {
    fn start(programs: &Path) -> Self {
        let cluster = Cluster::start(programs);
        let admin = cluster.admin();
        admin.post("/api/v1/namespaces", &json!({ "metadata": { "name": NAMESPACE } }));
        let rights = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/kubernetes/rbac.yaml");
        for text in std::fs::read_to_string(rights).unwrap().split("\n---\n") {
            let kind = text.lines().find_map(|line| line.strip_prefix("kind: ")).unwrap();
            let rbac = "/apis/rbac.authorization.k8s.io/v1";
            let path = match kind {
                "ServiceAccount" => Admin::path("serviceaccounts", ""),
                "Role" => format!("{rbac}/namespaces/{NAMESPACE}/roles"),
                "RoleBinding" => format!("{rbac}/namespaces/{NAMESPACE}/rolebindings"),
                "ClusterRole" => format!("{rbac}/clusterroles"),
                "ClusterRoleBinding" => format!("{rbac}/clusterrolebindings"),
                other => panic!("the rights have an object of the kind {other}"),
            };
            let (status, answer) = admin.ask("POST", &path, "application/yaml", text);
            assert_eq!(status, 201, "{kind}: {answer}");
        }
        let request =
            json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": { "audiences": [] } });
        let token = admin.post(&Admin::path("serviceaccounts", "datahall/token"), &request);
        let kubelets = Kubelets::start(&cluster);
        let wire = Wire::to(cluster.port());
        let kubeconfig = cluster.kubeconfig("hall", wire.port, token["status"]["token"].as_str().unwrap());
        let state = tempfile::tempdir().unwrap();
        let (executor, ears) = Ears::open(&kubeconfig, state.path(), 1, START_WITHIN);
        Self { executor: Some(executor), ears, wire, kubelets, admin, kubeconfig, state, cluster }
    }

    fn executor(&self) -> &KubernetesExecutor {
        self.executor.as_ref().unwrap()
    }

    fn pod(&self, name: &str) -> serde_json::Value {
        self.admin.get(&Admin::path("pods", name))
    }

    fn ran(&self, name: &str) -> bool {
        self.kubelets.state().ran.contains(name)
    }

    /// Nothing more is said, and nothing of any attempt is left in the cluster.
    fn quiet(&self) {
        wait("nothing is left", || {
            ["pods", "secrets", "services"].iter().all(|kind| self.admin.names(kind).is_empty())
        });
        assert!(self.ears.events.recv_timeout(Duration::from_millis(500)).is_err(), "something was said after all");
        assert!(self.executor().running().is_empty());
    }
}

#[test]
fn gangs_live_and_die_on_a_real_api_server_and_scheduler() {
    let Some(programs) = std::env::var_os("DATAHALL_KUBERNETES") else {
        eprintln!("left out: `cargo xtask prove --only kubernetes` runs it");
        return;
    };
    let begin = Instant::now();
    let mut site = Site::start(Path::new(&programs));
    println!(
        "{:6.1} s  a cluster of three nodes and a hall with the rights of the example",
        begin.elapsed().as_secs_f64()
    );
    let scenes: &[(&str, Scene)] = &[
        ("the account is examined", examined),
        ("a gang runs where it was placed", placed),
        ("a gang of which one pod is refused never runs", refused),
        ("a gang of which one pod finds no room fails as a whole", no_room),
        ("a gang is cancelled", cancelled),
        ("a pod is deleted by somebody else", deleted),
        ("a node is lost and comes back", lost),
        ("the wire is cut, the API server dies, and nothing is missed", cut),
        ("the hall's server dies and another goes on", restarted),
    ];
    for (what, scene) in scenes {
        scene(&mut site);
        println!("{:6.1} s  {what}", begin.elapsed().as_secs_f64());
    }
}

fn examined(site: &mut Site) {
    let cluster = dh_exec::Cluster { kubeconfig: Some(site.kubeconfig.clone()), ..dh_exec::Cluster::default() };
    let facts = dh_exec::kubernetes::examine(&cluster).unwrap();
    assert!(facts[0].starts_with("3 nodes at https://127.0.0.1:"), "{facts:?}");
    assert_eq!(facts[1], "24 nvidia.com/gpu");
    let up: Vec<NodeEvent> = (0..3).map(|_| site.ears.nodes.recv_timeout(hall::PATIENCE).unwrap()).collect();
    assert!(up.iter().all(|event| event.down.is_none()), "{up:?}");
}

fn placed(site: &mut Site) {
    site.executor().start(gang(attempt(1, 1), &[2, 0])).unwrap();
    site.ears.started(2);
    let (first, second) = (site.pod("dh-lab-1-1-0"), site.pod("dh-lab-1-1-1"));
    assert_eq!((&first["spec"]["nodeName"], &second["spec"]["nodeName"]), (&json!("gpu10"), &json!("gpu1")));
    // It was the scheduler that put them there.
    let conditions = first["status"]["conditions"].as_array().unwrap();
    assert!(conditions.iter().any(|one| one["type"] == "PodScheduled" && one["status"] == "True"), "{conditions:?}");
    let container = &second["spec"]["containers"][0];
    assert_eq!(container["resources"]["limits"]["nvidia.com/gpu"], "2");
    assert!(!second.to_string().contains("sesame"));
    let secret = site.admin.get(&Admin::path("secrets", "dh-lab-1-1"));
    assert_eq!(secret["data"]["KEY"], "b3BlbiBzZXNhbWU=");
    assert_eq!(secret["metadata"]["ownerReferences"][0]["uid"], first["metadata"]["uid"]);
    let lines = ["0.1Z hello", "1.0Z world"].map(|line| format!("2026-11-26T18:00:0{line}")).to_vec();
    site.kubelets.state().logs.insert("dh-lab-1-1-0".to_owned(), lines);
    let log = site.executor().log_path(TaskId { attempt: attempt(1, 1), rank: Rank(0) });
    wait("the log", || std::fs::read_to_string(&log).is_ok_and(|text| text == "hello\nworld\n"));
    site.kubelets.finish("dh-lab-1-1-1", 0);
    site.kubelets.finish("dh-lab-1-1-0", 3);
    let ends = site.ears.ends(2);
    assert_eq!((ends[&Rank(0)].code, ends[&Rank(0)].reason), (Some(3), ExitReason::Exited));
    assert_eq!(ends[&Rank(1)].code, Some(0));
    site.quiet();
}

fn refused(site: &mut Site) {
    let quota = json!({ "metadata": { "name": "two" }, "spec": { "hard": { "pods": "2" } } });
    site.admin.post(&Admin::path("resourcequotas", ""), &quota);
    // A controller would say how much of it is used.
    let status = json!({ "status": { "hard": { "pods": "2" }, "used": { "pods": "0" } } });
    let path = Admin::path("resourcequotas", "two");
    assert_eq!(site.admin.patch(&format!("{path}/status"), &status).0, 200);
    // The server looks at its quotas with a delay of its own.
    let mut job = 100;
    let error = loop {
        job += 1;
        if let Err(error) = site.executor().start(gang(attempt(job, 1), &[0, 1, 2])) {
            break error.to_string();
        }
        site.executor().stop(attempt(job, 1), Stop::Now).unwrap();
        site.ears.ends(3);
        site.admin.patch(&format!("{path}/status"), &status);
        assert!(job < 120, "the quota is never looked at");
    };
    assert!(error.contains("exceeded quota"), "{error}");
    site.quiet();
    let ran = (0..3).any(|rank| site.ran(&format!("dh-lab-{job}-1-{rank}")));
    assert!(!ran, "a part of a gang that was refused has run");
    site.admin.delete(&path);
    wait("the quota goes", || site.admin.names("resourcequotas").is_empty());
}

fn no_room(site: &mut Site) {
    let other = json!({
        "metadata": { "name": "another" },
        "spec": { "nodeName": "gpu2", "containers": [{ "name": "task", "image": "trainer:1",
            "resources": { "limits": { "nvidia.com/gpu": "7" } } }] },
    });
    site.admin.post(&Admin::path("pods", ""), &other);
    wait("the other runs", || site.ran("another"));
    site.executor().start(gang(attempt(2, 1), &[0, 1])).unwrap();
    let ends = site.ears.ends(2);
    assert_eq!(ends[&Rank(0)].reason, ExitReason::Killed);
    assert_eq!(ends[&Rank(1)].reason, ExitReason::SpawnFailed);
    assert!(ends[&Rank(1)].message.contains("Insufficient nvidia.com/gpu"), "{:?}", ends[&Rank(1)]);
    assert!(!site.ran("dh-lab-2-1-1"));
    // It is not ours, and nothing was done to it.
    assert_eq!(site.pod("another")["status"]["phase"], "Running");
    site.admin.delete(&Admin::path("pods", "another"));
    site.quiet();
}

fn cancelled(site: &mut Site) {
    site.executor().start(gang(attempt(3, 1), &[0, 1])).unwrap();
    site.ears.started(2);
    site.executor().stop(attempt(3, 1), Stop::Polite).unwrap();
    let ends = site.ears.ends(2);
    assert!(ends.values().all(|end| end.reason == ExitReason::Killed), "{ends:?}");
    // The kubelets were told how long the programs may take.
    let graces = site.kubelets.state().graces.clone();
    let grace = dh_core::limits::STOP_GRACE_MS.div_ceil(1_000);
    assert_eq!((graces["dh-lab-3-1-0"], graces["dh-lab-3-1-1"]), (grace, grace));
    site.quiet();
}

fn deleted(site: &mut Site) {
    site.executor().start(gang(attempt(4, 1), &[0, 1])).unwrap();
    site.ears.started(2);
    site.admin.delete(&Admin::path("pods", "dh-lab-4-1-1"));
    let ends = site.ears.ends(1);
    assert_eq!(ends[&Rank(1)].reason, ExitReason::WardenLost);
    assert!(ends[&Rank(1)].message.contains("not by this hall"), "{ends:?}");
    site.executor().stop(attempt(4, 1), Stop::Now).unwrap();
    assert_eq!(site.ears.ends(1)[&Rank(0)].reason, ExitReason::Killed);
    site.quiet();
}

fn lost(site: &mut Site) {
    site.executor().start(gang(attempt(5, 1), &[0, 1])).unwrap();
    site.ears.started(2);
    site.kubelets.state().silent = vec!["gpu2".to_owned()];
    site.kubelets.ready("gpu2", "Unknown");
    let down = site.ears.nodes.recv_timeout(hall::PATIENCE).unwrap();
    assert_eq!(down.node, NodeId(1));
    assert!(down.down.unwrap().contains("Kubelet stopped posting"));
    let ends = site.ears.ends(1);
    assert_eq!(ends[&Rank(1)].reason, ExitReason::WardenLost);
    assert!(ends[&Rank(1)].message.contains("gpu2"), "{ends:?}");
    site.executor().stop(attempt(5, 1), Stop::Polite).unwrap();
    assert_eq!(site.ears.ends(1)[&Rank(0)].reason, ExitReason::Killed);
    // Nobody on the lost node says that its pod is gone, and it goes all the same.
    site.quiet();
    site.kubelets.state().silent.clear();
    site.kubelets.ready("gpu2", "True");
    let back = site.ears.nodes.recv_timeout(hall::PATIENCE).unwrap();
    assert_eq!(back, NodeEvent { node: NodeId(1), down: None });
}

fn cut(site: &mut Site) {
    site.executor().start(gang(attempt(6, 1), &[0, 1, 2])).unwrap();
    site.ears.started(3);
    // A wire that breaks while nothing happens, and one that breaks while much does.
    site.wire.cut();
    std::thread::sleep(Duration::from_millis(300));
    site.wire.mend();
    site.kubelets.finish("dh-lab-6-1-0", 0);
    assert_eq!(site.ears.ends(1)[&Rank(0)].code, Some(0));
    site.wire.cut();
    site.kubelets.finish("dh-lab-6-1-1", 7);
    site.admin.delete(&Admin::path("pods", "dh-lab-6-1-2"));
    site.cluster.restart_api();
    assert!(site.ears.events.recv_timeout(Duration::from_millis(500)).is_err(), "something went through");
    site.wire.mend();
    let ends = site.ears.ends(2);
    assert_eq!(ends[&Rank(1)].code, Some(7));
    assert_eq!(ends[&Rank(2)].reason, ExitReason::WardenLost);
    site.quiet();
    // And once more under an executor that is connected.
    site.executor().start(gang(attempt(7, 1), &[0, 1])).unwrap();
    site.ears.started(2);
    site.cluster.restart_api();
    site.kubelets.finish("dh-lab-7-1-0", 0);
    site.kubelets.finish("dh-lab-7-1-1", 0);
    assert_eq!(site.ears.ends(2).values().map(|end| end.code).collect::<Vec<_>>(), [Some(0), Some(0)]);
    site.quiet();
}

fn restarted(site: &mut Site) {
    site.executor().start(gang(attempt(8, 1), &[0, 1])).unwrap();
    site.ears.started(2);
    // Pods as a server leaves them that dies while it makes a gang; and as one makes them that had been deposed.
    for job in ["9", "10"] {
        let mut pod = site.pod("dh-lab-8-1-0");
        let spec = pod["spec"].as_object_mut().unwrap();
        spec.remove("nodeName");
        spec["containers"][0]["envFrom"][0]["secretRef"]["name"] = json!(format!("dh-lab-{job}-1"));
        let mut labels = pod["metadata"]["labels"].clone();
        labels["datahall/job"] = json!(job);
        pod["metadata"] = json!({ "name": format!("dh-lab-{job}-1-0"), "labels": labels });
        pod.as_object_mut().unwrap().remove("status");
        site.admin.post(&Admin::path("pods", ""), &pod);
    }
    let waits = |name: &str| site.pod(name)["status"]["containerStatuses"][0]["state"]["waiting"].is_object();
    wait("they wait for their Secrets", || waits("dh-lab-9-1-0") && waits("dh-lab-10-1-0"));
    drop(site.executor.take());
    site.kubelets.finish("dh-lab-8-1-0", 5);
    let (executor, ears) = Ears::open(&site.kubeconfig, site.state.path(), 2, START_WITHIN);
    (site.executor, site.ears) = (Some(executor), ears);
    let recovered = site.executor().recover(&[attempt(8, 1), attempt(9, 1), attempt(11, 1)]).unwrap();
    let fates: Vec<&Fate> = recovered.iter().map(|one| &one.fate).collect();
    assert_eq!(fates, [&Fate::Alive, &Fate::Gone(Vec::new()), &Fate::Gone(Vec::new())]);
    let mut heard = site.ears.ends(1);
    assert_eq!(heard.remove(&Rank(0)).unwrap().code, Some(5));
    wait("what nobody knows goes", || site.admin.names("pods").iter().all(|name| name.starts_with("dh-lab-8-1-")));
    assert!(!site.ran("dh-lab-9-1-0") && !site.ran("dh-lab-10-1-0"));
    site.executor().stop(attempt(8, 1), Stop::Polite).unwrap();
    assert_eq!(site.ears.ends(1)[&Rank(1)].reason, ExitReason::Killed);
    site.quiet();
}
