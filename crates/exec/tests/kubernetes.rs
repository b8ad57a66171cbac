//! The whole life of gangs on Kubernetes, against a small API in this process whose kubelets do as they are told.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

#[path = "kubernetes/fake.rs"]
mod fake;
#[path = "kubernetes/hall.rs"]
mod hall;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dh_core::{NodeId, Rank, TaskId};
use dh_exec::kubernetes::beside::{self, InPod};
use dh_exec::{Cluster, Error, Executor, ExitReason, Fate, KubernetesExecutor, NodeEvent, Stop};
use fake::Api;
use hall::{Ears, PATIENCE, attempt, gang, wait};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A server of the hall `lab`, and the cluster that it uses.
struct Hall {
    api: Api,
    state: TempDir,
    executor: Option<KubernetesExecutor>,
    ears: Ears,
}

impl std::ops::Deref for Hall {
    type Target = Ears;
    fn deref(&self) -> &Ears {
        &self.ears
    }
}

impl Hall {
    fn start() -> Self {
        Self::of(Api::start(&["control", "gpu10", "gpu2", "gpu1"], "nvidia.com/gpu"), tempfile::tempdir().unwrap(), 1)
    }

    fn of(api: Api, state: TempDir, term: u64) -> Self {
        let kubeconfig = state.path().join("config");
        std::fs::write(
            &kubeconfig,
            format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: here\ncontexts:\n- name: here\n  context: {{cluster: fake, user: me, namespace: train}}\n\
                 clusters:\n- name: fake\n  cluster:\n    server: {}\nusers:\n- name: me\n  user:\n    token: \"abc\"\n",
                api.address
            ),
        )
        .unwrap();
        let (executor, ears) = Ears::open(&kubeconfig, state.path(), term, Duration::from_secs(2));
        Self { api, state, executor: Some(executor), ears }
    }

    /// The server dies, and another comes.
    fn crash(mut self, term: u64) -> Self {
        drop(self.executor.take());
        let api = self.api.clone();
        let state = std::mem::replace(&mut self.state, tempfile::tempdir().unwrap());
        std::mem::forget(self);
        Self::of(api, state, term)
    }

    fn executor(&self) -> &KubernetesExecutor {
        self.executor.as_ref().unwrap()
    }

    /// Nothing more is said, and nothing of any attempt is left in the cluster.
    fn quiet(&self) {
        let left = || ["pods", "secrets", "services"].map(|kind| self.api.names(kind)).concat();
        let begin = Instant::now();
        while !left().is_empty() {
            assert!(begin.elapsed() < PATIENCE, "{:?} are left", left());
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(self.events.recv_timeout(Duration::from_millis(300)).is_err(), "something was said after all");
        assert!(self.executor().running().is_empty());
    }

    fn log(&self, job: u64, rank: u32) -> String {
        let task = TaskId { attempt: attempt(job, 1), rank: Rank(rank) };
        std::fs::read_to_string(self.executor().log_path(task)).unwrap_or_default()
    }
}

impl Drop for Hall {
    fn drop(&mut self) {
        self.api.close();
    }
}

fn env(pod: &Value) -> BTreeMap<&str, &str> {
    let env = pod["spec"]["containers"][0]["env"].as_array().unwrap();
    env.iter().map(|one| (one["name"].as_str().unwrap(), one["value"].as_str().unwrap())).collect()
}

#[test]
fn a_gang_starts_whole_runs_where_it_was_placed_and_leaves_nothing() {
    let hall = Hall::start();
    hall.api.state().waiting = vec!["dh-lab-7-1-1".to_owned()];
    hall.executor().start(gang(attempt(7, 1), &[2, 0])).unwrap();
    hall.started(1);
    hall.api.state().logs.insert("dh-lab-7-1-0".to_owned(), vec!["2026-11-26T18:00:00.1Z hello".to_owned()]);
    hall.api.state().waiting.clear();
    hall.started(1);
    {
        let state = hall.api.state();
        // Every pod was made before the first was let go, and Secret and Service before that.
        let first = state.calls.iter().position(|call| call.starts_with("PATCH")).unwrap();
        let made = state.calls.iter().take(first).filter(|call| call.starts_with("POST")).count();
        assert_eq!(made, 4, "{:?}", state.calls);
        // Nodes count from the first of those that are for pods, as people count.
        let (first, second) = (&state.objects["pods/dh-lab-7-1-0"], &state.objects["pods/dh-lab-7-1-1"]);
        assert_eq!(first["spec"]["nodeName"], "gpu10");
        assert_eq!(second["spec"]["nodeName"], "gpu1");
        let env = env(second);
        for (name, value) in [
            ("RANK", "1"),
            ("WORLD_SIZE", "2"),
            ("LOCAL_RANK", "0"),
            ("TEXT", "a b"),
            ("CUDA_VISIBLE_DEVICES", "0,1"),
            ("MASTER_ADDR", "r0.dh-lab-7-1.train.svc"),
            ("JAX_COORDINATOR_BIND_ADDRESS", "0.0.0.0:29501"),
        ] {
            assert_eq!(env.get(name), Some(&value), "{name}");
        }
        assert!(env["TF_CONFIG"].contains("r1.dh-lab-7-1.train.svc:29502"), "{}", env["TF_CONFIG"]);
        let container = &second["spec"]["containers"][0];
        assert_eq!(container["command"], json!(["train", "$$(HOME)"]));
        assert_eq!(container["resources"]["limits"], json!({ "nvidia.com/gpu": "2", "memory": "1073741824" }));
        assert_eq!(second["metadata"]["labels"]["datahall/term"], "1");
        // The secret is in the Secret alone, which goes with the pod of rank 0.
        assert!(!first.to_string().contains("sesame") && !second.to_string().contains("sesame"));
        let secret = &state.objects["secrets/dh-lab-7-1"];
        assert_eq!(secret["stringData"]["KEY"], "open sesame");
        assert_eq!(secret["metadata"]["ownerReferences"][0]["uid"], first["metadata"]["uid"]);
    }
    hall.api.finish("dh-lab-7-1-1", 0, "Completed");
    hall.api.finish("dh-lab-7-1-0", 3, "Error");
    let ends = hall.ends(2);
    assert_eq!((ends[&Rank(0)].code, ends[&Rank(0)].reason), (Some(3), ExitReason::Exited));
    assert_eq!(ends[&Rank(1)].code, Some(0));
    assert_eq!(hall.log(7, 0), "hello\n");
    hall.quiet();
    let again = hall.executor().start(gang(attempt(7, 1), &[2, 0])).unwrap_err().to_string();
    assert!(again.contains("at most once"), "{again}");
}

#[test]
fn a_server_without_gates_starts_no_part_of_a_gang_before_the_whole() {
    let hall = Hall::start();
    hall.api.state().no_gates = true;
    hall.executor().start(gang(attempt(1, 1), &[0, 1])).unwrap();
    hall.started(2);
    let calls = hall.api.state().calls.clone();
    assert_eq!(calls.last().map(String::as_str), Some("POST secrets/dh-lab-1-1"), "{calls:?}");
    // A gang of which one is refused has no Secret, and nothing of it has run.
    hall.api.state().refused = vec!["dh-lab-2-1-2".to_owned()];
    assert!(hall.executor().start(gang(attempt(2, 1), &[0, 1, 2])).is_err());
    wait("the rest goes", || hall.api.names("pods") == ["dh-lab-1-1-0", "dh-lab-1-1-1"]);
    assert!(!hall.api.state().calls.contains(&"POST secrets/dh-lab-2-1".to_owned()));
    assert!(hall.events.recv_timeout(Duration::from_millis(200)).is_err());
    // One whose server died while it was made has never run either, and one that was made whole is adopted.
    let mut cut_off = hall.api.state().objects["pods/dh-lab-1-1-0"].clone();
    cut_off["metadata"]["name"] = json!("dh-lab-3-1-0");
    cut_off["metadata"]["uid"] = json!("another");
    cut_off["metadata"]["labels"]["datahall/job"] = json!("3");
    cut_off["spec"]["containers"][0]["envFrom"][0]["secretRef"]["name"] = json!("dh-lab-3-1");
    cut_off["status"] = json!({ "phase": "Pending" });
    hall.api.state().objects.insert("pods/dh-lab-3-1-0".to_owned(), cut_off);
    let hall = hall.crash(2);
    let recovered = hall.executor().recover(&[attempt(1, 1), attempt(3, 1)]).unwrap();
    assert_eq!(recovered.iter().map(|one| &one.fate).collect::<Vec<_>>(), [&Fate::Alive, &Fate::Gone(Vec::new())]);
    hall.started(2);
    wait("what was cut off goes", || hall.api.names("pods") == ["dh-lab-1-1-0", "dh-lab-1-1-1"]);
    hall.executor().stop(attempt(1, 1), Stop::Now).unwrap();
    assert_eq!(hall.ends(2)[&Rank(0)].reason, ExitReason::Killed);
    hall.quiet();
}

#[test]
fn a_gang_of_which_one_pod_is_refused_never_starts() {
    let hall = Hall::start();
    hall.api.state().refused = vec!["dh-lab-1-1-2".to_owned()];
    let error = hall.executor().start(gang(attempt(1, 1), &[0, 1, 2])).unwrap_err().to_string();
    assert!(error.contains("exceeded quota"), "{error}");
    hall.quiet();
    assert!(!hall.api.state().calls.iter().any(|call| call.starts_with("PATCH")), "a pod was let go");
}

#[test]
fn a_gang_of_which_one_pod_finds_no_room_fails_and_all_are_deleted() {
    let hall = Hall::start();
    hall.api.state().no_room = vec!["dh-lab-1-1-1".to_owned()];
    hall.executor().start(gang(attempt(1, 1), &[0, 1])).unwrap();
    let ends = hall.ends(2);
    assert_eq!(ends[&Rank(0)].reason, ExitReason::Killed);
    assert_eq!(ends[&Rank(1)].reason, ExitReason::SpawnFailed);
    assert!(ends[&Rank(1)].message.contains("Insufficient nvidia.com/gpu"), "{:?}", ends[&Rank(1)]);
    hall.quiet();
}

#[test]
fn an_answer_that_is_lost_makes_no_second_pod() {
    let hall = Hall::start();
    hall.api.state().lose_answers = 2;
    hall.executor().start(gang(attempt(1, 1), &[0, 1])).unwrap();
    hall.started(2);
    assert_eq!(hall.api.names("pods"), ["dh-lab-1-1-0", "dh-lab-1-1-1"]);
    hall.executor().stop(attempt(1, 1), Stop::Polite).unwrap();
    assert_eq!(hall.ends(2)[&Rank(0)].reason, ExitReason::Killed);
    hall.quiet();
    hall.executor().stop(attempt(1, 1), Stop::Now).unwrap();
    assert!(hall.executor().stop(attempt(9, 1), Stop::Now).is_err());
}

#[test]
fn ends_say_what_they_were() {
    let hall = Hall::start();
    hall.executor().start(gang(attempt(1, 1), &[0, 0, 1, 1, 2])).unwrap();
    hall.started(5);
    hall.api.finish("dh-lab-1-1-0", 137, "OOMKilled");
    hall.api.finish("dh-lab-1-1-1", 139, "Error");
    hall.api.pod("dh-lab-1-1-2", |pod| {
        pod["status"] =
            json!({ "phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory." });
    });
    hall.api.pod("dh-lab-1-1-3", |pod| {
        pod["status"] = json!({ "phase": "Failed", "containerStatuses": [{ "state": { "terminated":
            { "exitCode": 128, "reason": "StartError", "message": "exec: \"train\": executable file not found in $PATH" } } }] });
    });
    hall.executor().kill_rank(TaskId { attempt: attempt(1, 1), rank: Rank(4) }).unwrap();
    let ends = hall.ends(5);
    let of = |rank| (ends[&Rank(rank)].code, ends[&Rank(rank)].signal, ends[&Rank(rank)].reason);
    assert_eq!(of(0), (None, Some(9), ExitReason::MemoryLimit));
    assert_eq!(of(1), (None, Some(11), ExitReason::Exited));
    assert_eq!(of(2), (None, None, ExitReason::WardenLost));
    assert!(ends[&Rank(2)].message.contains("low on resource"), "{:?}", ends[&Rank(2)]);
    assert_eq!(of(3), (None, None, ExitReason::SpawnFailed));
    assert_eq!(of(4), (None, Some(9), ExitReason::Exited));
    hall.quiet();
}

#[test]
fn a_program_runs_in_a_rank_and_its_output_and_code_come_back() {
    let hall = Hall::start();
    let id = attempt(7, 1);
    hall.executor().start(gang(id, &[0, 2])).unwrap();
    hall.started(2);
    let task = TaskId { attempt: id, rank: Rank(1) };
    let words = hall.executor().beside(task, &["0".to_owned(), "a b&c".to_owned()]).unwrap().unwrap();
    let words: Vec<&str> = words.iter().map(|word| word.to_str().unwrap()).collect();
    let kubeconfig = hall.state.path().join("config");
    let pod = dh_exec::kubernetes::pod_name("lab", task);
    let config = kubeconfig.to_str().unwrap();
    assert_eq!(
        words,
        ["/bin/datahall", "beside-pod", "--kubeconfig", config, "--namespace", "train", &pod, "--", "0", "a b&c"]
    );

    let place =
        InPod { kubeconfig: Some(kubeconfig), context: None, namespace: Some("train".to_owned()), pod: pod.clone() };
    let run = |place: &InPod, command: &[&str]| {
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        let code = beside::run(place, &command, (&mut output, &mut errors), std::future::pending());
        (code, String::from_utf8(output).unwrap(), String::from_utf8(errors).unwrap())
    };
    assert_eq!(run(&place, &["0", "a b&c=%"]), (Ok(0), format!("{pod} 0|a b&c=%\n"), "a warning\n".to_owned()));
    assert_eq!(run(&place, &["3"]).0, Ok(3));
    assert_eq!(run(&place, &["nothing"]).0, Err("nothing: not found".to_owned()));
    assert!(run(&place, &["cut"]).0.is_err(), "a connection that breaks off is no success");
    let elsewhere = InPod { pod: "other".to_owned(), ..place.clone() };
    assert!(run(&elsewhere, &["0"]).0.unwrap_err().contains("not found"));
    let word = ["wait".to_owned()];
    let gone = beside::run(&place, &word, (&mut Vec::new(), &mut Vec::new()), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
    });
    assert_eq!(gone, Err("whoever asked for it has gone".to_owned()));

    // Of a rank that has ended nothing runs any more.
    hall.api.finish(&pod, 0, "Completed");
    wait("the end is heard", || {
        matches!(hall.executor().beside(task, &["0".to_owned()]), Some(Err(Error::NotRunning(_))))
    });
}

#[test]
fn what_could_not_be_deleted_is_deleted_later() {
    let hall = Hall::start();
    hall.executor().start(gang(attempt(1, 1), &[0, 1])).unwrap();
    hall.started(2);
    hall.api.state().unwell = 3;
    hall.api.finish("dh-lab-1-1-0", 0, "Completed");
    hall.api.finish("dh-lab-1-1-1", 0, "Completed");
    assert_eq!(hall.ends(2).values().map(|end| end.code).collect::<Vec<_>>(), [Some(0), Some(0)]);
    hall.quiet();
    assert_eq!(hall.api.state().unwell, 0, "it was refused three times");
}

#[test]
fn a_server_that_crashed_finds_its_gangs_again() {
    let hall = Hall::start();
    hall.executor().start(gang(attempt(1, 1), &[0, 1])).unwrap();
    hall.started(2);
    // Another attempt ended, and one was cut off before its pods were let go.
    hall.executor().start(gang(attempt(2, 1), &[2])).unwrap();
    hall.started(1);
    hall.api.finish("dh-lab-2-1-0", 5, "Error");
    assert_eq!(hall.ends(1)[&Rank(0)].code, Some(5));
    // What is left of it when the server dies would be adopted.
    wait("the rest of it goes", || !hall.api.names("pods").contains(&"dh-lab-2-1-0".to_owned()));
    hall.api.state().logs.insert(
        "dh-lab-1-1-0".to_owned(),
        ["0.1Z a", "0.2Z b", "1.0Z c"].map(|line| format!("2026-11-26T18:00:0{line}")).to_vec(),
    );
    wait("the log", || hall.log(1, 0) == "a\nb\nc\n");
    std::thread::sleep(Duration::from_millis(100));
    let hall = hall.crash(2);
    hall.api.state().logs.get_mut("dh-lab-1-1-0").unwrap().push("2026-11-26T18:00:01.5Z d".to_owned());
    let known = [attempt(1, 1), attempt(2, 1), attempt(3, 1)];
    let recovered = hall.executor().recover(&known).unwrap();
    assert_eq!(recovered[0].fate, Fate::Alive);
    assert_eq!(recovered[1].outcomes()[0].1.code, Some(5));
    assert_eq!(recovered[2].fate, Fate::Gone(Vec::new()));
    hall.started(2);
    hall.api.finish("dh-lab-1-1-0", 0, "Completed");
    hall.api.finish("dh-lab-1-1-1", 0, "Completed");
    assert_eq!(hall.ends(2).values().map(|end| end.code).collect::<Vec<_>>(), [Some(0), Some(0)]);
    // Not a line twice, and none left out.
    assert_eq!(hall.log(1, 0), "a\nb\nc\nd\n");
    hall.quiet();
}

#[test]
fn pods_of_a_deposed_leader_are_deleted_and_those_of_a_later_one_are_not() {
    let hall = Hall::start();
    hall.executor().start(gang(attempt(1, 1), &[0])).unwrap();
    hall.started(1);
    let hall = hall.crash(5);
    let mut later = hall.api.state().objects["pods/dh-lab-1-1-0"].clone();
    later["metadata"]["name"] = json!("dh-lab-9-1-0");
    later["metadata"]["labels"]["datahall/job"] = json!("9");
    later["metadata"]["labels"]["datahall/term"] = json!("6");
    later["metadata"]["uid"] = json!("another");
    hall.api.state().objects.insert("pods/dh-lab-9-1-0".to_owned(), later);
    // The hall knows of none of them.
    assert_eq!(hall.executor().recover(&[]).unwrap(), []);
    wait("the stranger goes", || hall.api.names("pods") == ["dh-lab-9-1-0"]);
    assert!(hall.events.recv_timeout(Duration::from_millis(200)).is_err());
    hall.api.remove("pods", "dh-lab-9-1-0");
}

#[test]
fn who_does_not_lead_starts_and_deletes_nothing() {
    let hall = Hall::start();
    hall.executor().start(gang(attempt(1, 1), &[0])).unwrap();
    hall.started(1);
    hall.leads.store(false, Ordering::SeqCst);
    assert!(hall.executor().start(gang(attempt(2, 1), &[1])).is_err());
    hall.executor().stop(attempt(1, 1), Stop::Now).unwrap();
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(hall.api.names("pods"), ["dh-lab-1-1-0"]);
    let changes = hall.api.state().calls.iter().filter(|call| call.starts_with("DELETE")).count();
    assert_eq!(changes, 0);
}

#[test]
fn a_node_that_is_lost_takes_its_ranks_along_and_comes_back() {
    let hall = Hall::start();
    let up = |event: &NodeEvent| event.down.is_none();
    let first: Vec<NodeEvent> = (0..3).map(|_| hall.nodes.recv_timeout(PATIENCE).unwrap()).collect();
    assert!(first.iter().all(up), "{first:?}");
    hall.executor().start(gang(attempt(1, 1), &[0, 1])).unwrap();
    hall.started(2);
    hall.api.state().silent = vec!["gpu2".to_owned()];
    hall.api.ready("gpu2", "Unknown");
    let down = hall.nodes.recv_timeout(PATIENCE).unwrap();
    assert_eq!(down.node, NodeId(1));
    assert!(down.down.unwrap().contains("Kubelet stopped posting"));
    assert!(hall.executor().hosts()[1].down.is_some());
    let ends = hall.ends(1);
    assert_eq!(ends[&Rank(1)].reason, ExitReason::WardenLost);
    assert!(ends[&Rank(1)].message.contains("gpu2"), "{ends:?}");
    // The hall stops the rest of the gang.
    hall.executor().stop(attempt(1, 1), Stop::Polite).unwrap();
    assert_eq!(hall.ends(1)[&Rank(0)].reason, ExitReason::Killed);
    hall.quiet();
    hall.api.state().silent.clear();
    hall.api.ready("gpu2", "True");
    let back = hall.nodes.recv_timeout(PATIENCE).unwrap();
    assert_eq!(back, NodeEvent { node: NodeId(1), down: None });
}

#[test]
fn an_outage_of_the_api_ends_nothing_and_nothing_is_missed() {
    let hall = Hall::start();
    hall.executor().start(gang(attempt(1, 1), &[0, 1])).unwrap();
    hall.started(2);
    hall.api.state().outage = true;
    hall.api.cut(true);
    hall.api.finish("dh-lab-1-1-0", 0, "Completed");
    hall.api.remove("pods", "dh-lab-1-1-1");
    assert!(hall.events.recv_timeout(Duration::from_millis(500)).is_err());
    // What is asked for meanwhile is done afterwards.
    hall.executor().stop(attempt(1, 1), Stop::Polite).unwrap();
    hall.api.state().outage = false;
    let ends = hall.ends(2);
    assert_eq!(ends[&Rank(0)].code, Some(0));
    assert_eq!(ends[&Rank(1)].reason, ExitReason::Killed);
    hall.quiet();
}

#[test]
fn watches_that_are_cut_or_too_old_miss_nothing_and_repeat_nothing() {
    let hall = Hall::start();
    hall.executor().start(gang(attempt(1, 1), &[0, 1, 2])).unwrap();
    for forget in [false, true, false, true] {
        hall.api.cut(forget);
        std::thread::sleep(Duration::from_millis(50));
    }
    hall.started(3);
    hall.api.finish("dh-lab-1-1-0", 0, "Completed");
    hall.api.cut(true);
    hall.api.finish("dh-lab-1-1-1", 1, "Error");
    hall.api.cut(false);
    hall.api.remove("pods", "dh-lab-1-1-2");
    let ends = hall.ends(3);
    assert_eq!((ends[&Rank(0)].code, ends[&Rank(1)].code), (Some(0), Some(1)));
    assert_eq!(ends[&Rank(2)].reason, ExitReason::WardenLost);
    hall.quiet();
}

#[test]
fn a_pod_that_does_not_go_is_deleted_by_force() {
    let hall = Hall::start();
    hall.executor().start(gang(attempt(1, 1), &[0])).unwrap();
    hall.started(1);
    hall.api.state().stubborn = vec!["dh-lab-1-1-0".to_owned()];
    hall.executor().stop(attempt(1, 1), Stop::Polite).unwrap();
    assert_eq!(hall.ends(1)[&Rank(0)].reason, ExitReason::Killed);
    hall.quiet();
}

#[test]
fn what_cannot_run_there_is_refused_with_the_reason() {
    let hall = Hall::start();
    let mut none = gang(attempt(1, 1), &[7]);
    let error = hall.executor().start(none.clone()).unwrap_err().to_string();
    assert!(error.contains("which the cluster does not have"), "{error}");
    none.ranks[0].part = Some(dh_exec::PartOf { device: 0, milli: 500, memory: None, slice: None });
    let error = hall.executor().start(none).unwrap_err().to_string();
    assert!(error.contains("Kubernetes gives whole ones"), "{error}");
    hall.quiet();
}

#[test]
fn a_cluster_that_cannot_be_used_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config");
    let of = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let cluster = Cluster { kubeconfig: Some(file.clone()), ..Cluster::default() };
        dh_exec::kubernetes::examine(&cluster).unwrap_err().to_string()
    };
    assert!(of("current-context: a\n").contains("no context `a`"));
    let unchecked = "current-context: a\ncontexts: [{name: a, context: {cluster: a, user: a}}]\n\
                     clusters: [{name: a, cluster: {server: 'https://127.0.0.1:1', insecure-skip-tls-verify: true}}]\n";
    assert!(of(unchecked).contains("insecure-skip-tls-verify"));
    let gone = Cluster { kubeconfig: Some(Path::new("/nowhere/config").to_owned()), ..Cluster::default() };
    assert!(dh_exec::kubernetes::examine(&gone).unwrap_err().to_string().contains("/nowhere/config"));
}
