//! What ranks are told, variable by variable, and who wins where the user says something else.

use super::*;
use crate::{RankSpec, TaskLimits};
use dh_core::{JobId, Rank};
use expect_test::expect;
use std::path::PathBuf;

fn gang(nodes: &[u32]) -> GangSpec {
    GangSpec {
        attempt: AttemptId { job: JobId(7), attempt: 2 },
        name: "train".to_owned(),
        command: vec!["python3".to_owned()],
        env: BTreeMap::new(),
        secret_env: BTreeMap::new(),
        ranks: (0_u32..)
            .zip(nodes)
            .map(|(rank, node)| RankSpec {
                rank: Rank(rank),
                cores: vec![4, 5],
                node: NodeId(*node),
                devices: vec![2 * rank, 2 * rank + 1],
                real: vec![],
                part: None,
            })
            .collect(),
        devices: Devices::Cores,
        limits: TaskLimits::default(),
        workdir: PathBuf::from("/"),
    }
}

fn ports() -> Ports {
    Ports { master: 29500, jax: 29501, tensorflow: vec![29502, 29503, 29504] }
}

#[test]
fn the_whole_environment_of_rank_1_of_3() {
    let mut gang = gang(&[3, 3, 9]);
    gang.env = BTreeMap::from([
        ("LR".to_owned(), "0.1".to_owned()),
        ("EMPTY".to_owned(), String::new()),
        ("OMP_NUM_THREADS".to_owned(), "1".to_owned()),
        ("RANK".to_owned(), "99".to_owned()),
        ("RAYON_NUM_THREADS".to_owned(), String::new()),
    ]);
    let env = Launch::new(&gang, &ports(), "10.0.0.1").environment(1);
    let lines: Vec<String> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    expect![[r#"
        CROSS_RANK=0
        CROSS_SIZE=2
        DH_ATTEMPT=2
        DH_JOB=7
        DH_LOCAL_RANK=1
        DH_LOCAL_RANKS=2
        DH_MASTER_ADDR=10.0.0.1
        DH_MASTER_PORT=29500
        DH_NAME=train
        DH_NODES=2
        DH_NODE_RANK=0
        DH_RANK=1
        DH_RANKS=3
        DMLC_NUM_SERVER=0
        DMLC_NUM_WORKER=3
        DMLC_ROLE=worker
        DMLC_TASK_ID=1
        DMLC_TRACKER_PORT=29500
        DMLC_TRACKER_URI=10.0.0.1
        DMLC_WORKER_CONNECT_RETRY=5
        EMPTY=
        GROUP_RANK=0
        GROUP_WORLD_SIZE=2
        HOROVOD_CONTROLLER=gloo
        HOROVOD_CPU_OPERATIONS=gloo
        HOROVOD_CROSS_RANK=0
        HOROVOD_CROSS_SIZE=2
        HOROVOD_GLOO_RENDEZVOUS_ADDR=10.0.0.1
        HOROVOD_GLOO_RENDEZVOUS_PORT=29500
        HOROVOD_HOSTNAME=node-0
        HOROVOD_LOCAL_RANK=1
        HOROVOD_LOCAL_SIZE=2
        HOROVOD_RANK=1
        HOROVOD_SIZE=3
        JAX_COORDINATOR_ADDRESS=10.0.0.1:29501
        JAX_COORDINATOR_BIND_ADDRESS=10.0.0.1:29501
        JAX_NUM_PROCESSES=3
        JAX_PROCESS_ID=1
        LOCAL_RANK=1
        LOCAL_WORLD_SIZE=2
        LR=0.1
        MASTER_ADDR=10.0.0.1
        MASTER_PORT=29500
        MKL_NUM_THREADS=2
        MPI_LOCALNRANKS=2
        MPI_LOCALRANKID=1
        NUMEXPR_NUM_THREADS=2
        OMPI_COMM_WORLD_LOCAL_RANK=1
        OMPI_COMM_WORLD_LOCAL_SIZE=2
        OMPI_COMM_WORLD_NODE_RANK=1
        OMPI_COMM_WORLD_RANK=1
        OMPI_COMM_WORLD_SIZE=3
        OMPI_MCA_orte_hnp_uri=0.0;tcp://10.0.0.1:29501
        OMP_NUM_THREADS=1
        OPENBLAS_NUM_THREADS=2
        PADDLE_MASTER=10.0.0.1:29500
        PADDLE_TRAINERS_NUM=3
        PADDLE_TRAINER_ID=1
        PET_NNODES=3
        PET_NODE_RANK=1
        PET_NPROC_PER_NODE=1
        PET_RDZV_BACKEND=c10d
        PET_RDZV_ENDPOINT=10.0.0.1:29500
        PET_RDZV_ID=job-7-2
        PMI_RANK=1
        PMI_SIZE=3
        RANK=1
        RAY_ADDRESS=10.0.0.1:29500
        RAY_NODE_RANK=0
        RAY_PORT=29500
        RAY_USAGE_STATS_ENABLED=0
        ROLE_NAME=default
        ROLE_RANK=1
        ROLE_WORLD_SIZE=3
        TF_CONFIG={"cluster":{"worker":["10.0.0.1:29502","10.0.0.1:29503","10.0.0.1:29504"]},"task":{"type":"worker","index":1}}
        TORCHELASTIC_MAX_RESTARTS=99
        TORCHELASTIC_RESTART_COUNT=1
        TORCHELASTIC_RUN_ID=job-7
        TORCHELASTIC_USE_AGENT_STORE=False
        WORLD_SIZE=3
    "#]].assert_eq(&(lines.join("\n") + "\n"));
}

#[test]
fn places_count_ranks_per_node_wherever_they_stand() {
    let gang = gang(&[5, 2, 5, 5, 2]);
    let (places, nodes) = places(&gang);
    let seen: Vec<_> = places.iter().map(|p| (p.node_rank, p.local_rank, p.local_ranks)).collect();
    assert_eq!((seen, nodes), (vec![(0, 0, 3), (1, 0, 2), (0, 1, 3), (0, 2, 3), (1, 1, 2)], 2));
}

fn gpu(index: u32) -> Device {
    Device {
        kind: "nvidia",
        index,
        id: format!("GPU-{index}"),
        name: "NVIDIA H100 80GB HBM3".to_owned(),
        memory: None,
        limit: None,
        sliced: false,
    }
}

#[test]
fn ranks_see_the_devices_of_their_gang_on_their_node_and_know_their_own() {
    let mut gang = gang(&[3, 9, 3]);
    for (spec, devices) in gang.ranks.iter_mut().zip([[4, 5], [0, 1], [6, 2]]) {
        spec.real = devices.map(gpu).to_vec();
    }
    let ports = ports();
    let of = |index: usize, name: &str| Launch::new(&gang, &ports, "h").environment(index).remove(name);
    for index in [0, 2] {
        assert_eq!(of(index, "CUDA_VISIBLE_DEVICES").as_deref(), Some("GPU-4,GPU-5,GPU-6,GPU-2"));
    }
    assert_eq!(of(1, "CUDA_VISIBLE_DEVICES").as_deref(), Some("GPU-0,GPU-1"));
    assert_eq!((of(1, "ROCR_VISIBLE_DEVICES").as_deref(), of(1, "TPU_VISIBLE_CHIPS")), (Some(""), None));
    assert_eq!(of(2, "DH_DEVICES").as_deref(), Some("GPU-6,GPU-2"));
    let jax = [0, 1, 2].map(|index| of(index, "JAX_LOCAL_DEVICE_IDS").unwrap_or_default());
    assert_eq!(jax, ["0,1", "0,1", "2,3"]);
}

#[test]
fn a_part_of_a_device_is_seen_by_the_devices_own_name() {
    let mut gang = gang(&[3]);
    gang.ranks[0].part = Some(PartOf { device: 6, milli: 500, memory: None, slice: None });
    let seen = |gang: &GangSpec| Launch::new(gang, &ports(), "h").environment(0).remove("CUDA_VISIBLE_DEVICES");
    assert_eq!(seen(&gang).as_deref(), Some("6"));
    gang.ranks[0].real = vec![gpu(6)];
    assert_eq!(seen(&gang).as_deref(), Some("GPU-6"));
}

#[test]
fn a_lone_rank_has_no_launcher_and_no_tensorflow_without_ports() {
    let gang = gang(&[0]);
    let env = Launch::new(&gang, &ports(), "127.0.0.1").environment(0);
    assert!(!env.contains_key("OMPI_MCA_orte_hnp_uri") && !env.contains_key("TF_CONFIG"));
}

#[test]
fn tensorflow_gets_json_and_jax_all_devices_that_the_user_names() {
    let mut gang = gang(&[0, 0, 0]);
    gang.env.insert("CUDA_VISIBLE_DEVICES".to_owned(), "GPU-a,GPU-b".to_owned());
    let env = Launch::new(&gang, &ports(), "127.0.0.1").environment(2);
    let config: serde_json::Value = serde_json::from_str(&env["TF_CONFIG"]).unwrap();
    assert_eq!(config["cluster"]["worker"][2], "127.0.0.1:29504");
    assert_eq!(config["task"]["index"], 2);
    assert_eq!(env["JAX_LOCAL_DEVICE_IDS"], "0,1");
}

/// The environment of rank 1 of three on two nodes, as `NAME=VALUE` of the names asked for.
fn told(change: impl FnOnce(&mut GangSpec), names: &[&str]) -> Vec<String> {
    let mut gang = gang(&[3, 3, 9]);
    change(&mut gang);
    let env = Launch::new(&gang, &ports(), "10.0.0.1").environment(1);
    let of = |name: &&str| format!("{name}={}", env.get(*name).map_or("(not set)", String::as_str));
    names.iter().map(of).collect()
}

#[test]
fn horovod_and_deepspeed_know_the_ranks_beside_and_across() {
    let names =
        ["HOROVOD_RANK", "HOROVOD_LOCAL_SIZE", "HOROVOD_CROSS_SIZE", "CROSS_RANK", "HOROVOD_GLOO_RENDEZVOUS_PORT"];
    let expected = [
        "HOROVOD_RANK=1",
        "HOROVOD_LOCAL_SIZE=2",
        "HOROVOD_CROSS_SIZE=2",
        "CROSS_RANK=0",
        "HOROVOD_GLOO_RENDEZVOUS_PORT=29500",
    ];
    assert_eq!(told(|_| (), &names), expected);
}

#[test]
fn xgboost_finds_its_tracker_and_ray_its_head_which_is_rank_0() {
    let names = ["DMLC_TRACKER_URI", "DMLC_TASK_ID", "DMLC_NUM_WORKER", "RAY_ADDRESS", "PADDLE_TRAINER_ID"];
    let expected = [
        "DMLC_TRACKER_URI=10.0.0.1",
        "DMLC_TASK_ID=1",
        "DMLC_NUM_WORKER=3",
        "RAY_ADDRESS=10.0.0.1:29500",
        "PADDLE_TRAINER_ID=1",
    ];
    assert_eq!(told(|_| (), &names), expected);
    let head = Launch::new(&gang(&[0, 0, 0]), &ports(), "10.0.0.1").environment(0);
    assert!(!head.contains_key("RAY_ADDRESS") && head["RAY_PORT"] == "29500");
}

#[test]
fn each_maker_has_its_own_words_for_the_devices_of_a_rank() {
    let names = [
        "CUDA_VISIBLE_DEVICES",
        "ROCR_VISIBLE_DEVICES",
        "HIP_VISIBLE_DEVICES",
        "TPU_VISIBLE_CHIPS",
        "JAX_LOCAL_DEVICE_IDS",
    ];
    let seen = |devices| {
        told(|gang| gang.devices = devices, &names).into_iter().map(|text| text.split_once('=').unwrap().1.to_owned())
    };
    let none = "(not set)";
    assert!(seen(Devices::Cores).eq([none; 5]));
    assert!(seen(Devices::Cuda).eq(["2,3", none, none, none, "0,1"]));
    assert!(seen(Devices::Rocm).eq([none, "2,3", "0,1", none, "0,1"]));
    assert!(seen(Devices::Tpu).eq([none, none, none, "2,3", "0,1"]));
    // What the user says wins, and JAX follows.
    let user = |gang: &mut GangSpec| {
        gang.devices = Devices::Cuda;
        gang.env.insert("CUDA_VISIBLE_DEVICES".to_owned(), "GPU-a".to_owned());
    };
    assert_eq!(told(user, &names[..1]), ["CUDA_VISIBLE_DEVICES=GPU-a"]);
}

#[test]
fn workers_of_tensorflow_are_reached_on_their_own_hosts() {
    let (gang, ports) = (gang(&[3, 3, 9]), ports());
    let addresses = ["10.0.0.1", "10.0.0.1", "10.0.0.9"].map(str::to_owned);
    let env = Launch::on_hosts(&gang, &ports, &addresses).environment(2);
    let config: serde_json::Value = serde_json::from_str(&env["TF_CONFIG"]).unwrap();
    assert_eq!(config["cluster"]["worker"][2], "10.0.0.9:29504");
    assert_eq!(env["MASTER_ADDR"], "10.0.0.1");
}

#[test]
fn keys_of_the_server_are_not_inherited() {
    let server = ["PATH", "HOME", "LC_ALL", "AWS_SECRET_ACCESS_KEY", "DH_ROOT_KEY", "http_proxy", "DH_MARK"];
    let kept = inherited(server.iter().map(|name| ((*name).to_owned(), "x".to_owned())));
    assert_eq!(kept.keys().collect::<Vec<_>>(), ["HOME", "LC_ALL", "PATH"]);
}
