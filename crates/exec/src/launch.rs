//! The environment of each rank: our own names and those of the frameworks, so that their scripts start unchanged.
//! Pure. Cost: O(ranks) once per gang for `TF_CONFIG`, then O(1) per rank.
//!
//! | for | variables | remarks |
//! | --- | --- | --- |
//! | any program | `DH_JOB` (number), `DH_ATTEMPT`, `DH_NAME`, `DH_RANK`, `DH_RANKS`, `DH_LOCAL_RANK`, `DH_LOCAL_RANKS`, `DH_NODE_RANK`, `DH_NODES`, `DH_MASTER_ADDR`, `DH_MASTER_PORT` | |
//! | any program, from the executor | `DH_GANG_TOKEN` (a secret that the ranks of one attempt share), `DH_MARK` (finds strays), `PATH` with our own program's folder first | |
//! | `PyTorch` | `MASTER_ADDR`, `MASTER_PORT`, `RANK`, `WORLD_SIZE`, `LOCAL_RANK`, `LOCAL_WORLD_SIZE`, `GROUP_RANK`, `GROUP_WORLD_SIZE`, `ROLE_NAME`, `ROLE_RANK`, `ROLE_WORLD_SIZE`, `TORCHELASTIC_RUN_ID`, `TORCHELASTIC_RESTART_COUNT`, `TORCHELASTIC_MAX_RESTARTS`, `TORCHELASTIC_USE_AGENT_STORE` | the last is `False`: no agent holds the store, so rank 0 does |
//! | `torchrun` as the command | `PET_NNODES`, `PET_NPROC_PER_NODE`, `PET_NODE_RANK`, `PET_RDZV_BACKEND`, `PET_RDZV_ENDPOINT`, `PET_RDZV_ID` | each rank is one agent with one worker |
//! | `TensorFlow` | `TF_CONFIG` | one worker per rank; worker 0 acts as chief |
//! | JAX | `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES`, `JAX_PROCESS_ID`, `JAX_COORDINATOR_BIND_ADDRESS`, `JAX_LOCAL_DEVICE_IDS` | see below |
//! | Open MPI's names | `OMPI_COMM_WORLD_RANK`, `_SIZE`, `_LOCAL_RANK`, `_LOCAL_SIZE`, `_NODE_RANK` | also read by `DeepSpeed` and Accelerate |
//! | MPICH's and Intel MPI's | `PMI_RANK`, `PMI_SIZE`, `MPI_LOCALRANKID`, `MPI_LOCALNRANKS` | for scripts that read them; an MPI library itself is started by its own `mpirun`, with the hosts in `DH_HOSTS` |
//! | Horovod | `HOROVOD_RANK`, `_SIZE`, `_LOCAL_RANK`, `_LOCAL_SIZE`, `_CROSS_RANK`, `_CROSS_SIZE`, `HOROVOD_HOSTNAME`, `HOROVOD_CONTROLLER`, `HOROVOD_CPU_OPERATIONS`, `HOROVOD_GLOO_RENDEZVOUS_ADDR`, `_PORT` | Gloo; its rendezvous server is rank 0's to start |
//! | `DeepSpeed` | `CROSS_RANK`, `CROSS_SIZE` beside `PyTorch`'s | |
//! | `XGBoost`, `LightGBM` | `DMLC_TRACKER_URI`, `DMLC_TRACKER_PORT`, `DMLC_ROLE`, `DMLC_NUM_WORKER`, `DMLC_NUM_SERVER`, `DMLC_TASK_ID`, `DMLC_WORKER_CONNECT_RETRY` | the tracker is rank 0's to start |
//! | Ray | `RAY_ADDRESS` for all but rank 0, `RAY_PORT`, `RAY_NODE_RANK`, `RAY_USAGE_STATS_ENABLED` | rank 0 runs `ray start --head --port=$RAY_PORT`, the others `ray start --address=$RAY_ADDRESS` |
//! | Paddle | `PADDLE_MASTER`, `PADDLE_TRAINER_ID`, `PADDLE_TRAINERS_NUM` | |
//! | accelerators | `CUDA_VISIBLE_DEVICES`; `ROCR_VISIBLE_DEVICES`, `HIP_VISIBLE_DEVICES`; `TPU_VISIBLE_CHIPS`, `TPU_VISIBLE_DEVICES` | the rank's own, where the blueprint says whose accelerators the nodes have |
//! | a part of an accelerator | `DH_DEVICE`, `DH_SHARE` (above 0, at most 1), `DH_SHARE_MEMORY` (bytes), `DH_SLICE`, `DH_SLICE_SLOTS`; `CUDA_VISIBLE_DEVICES`, `ROCR_VISIBLE_DEVICES`, `CUDA_MPS_ACTIVE_THREAD_PERCENTAGE`, `CUDA_MPS_PINNED_DEVICE_MEM_LIMIT`, `XLA_PYTHON_CLIENT_MEM_FRACTION` | see below |
//! | whole accelerators of this machine | `CUDA_VISIBLE_DEVICES`, `ROCR_VISIBLE_DEVICES`, `TPU_VISIBLE_CHIPS`, `TPU_VISIBLE_DEVICES`, `JAX_LOCAL_DEVICE_IDS`, `DH_DEVICES` | see below |
//! | threads | `OMP_NUM_THREADS`, `MKL_NUM_THREADS`, `OPENBLAS_NUM_THREADS`, `NUMEXPR_NUM_THREADS`, `RAYON_NUM_THREADS` | the number of cores, if cores were given |
//!
//! JAX (read in 0.10): `initialize()` without arguments takes the address from `JAX_COORDINATOR_ADDRESS`, but number and
//! id only from a launcher it knows; it knows Open MPI's by the mere presence of `OMPI_MCA_orte_hnp_uri`. So gangs of
//! two or more get that variable too. Price: a program that initialises Open MPI 4 itself believes it has a launcher and
//! fails; such a job sets the variable to the empty text. JAX would also narrow each rank to the device of its local
//! rank, which is wrong where each rank sees only its own devices: if the user names devices (`CUDA_VISIBLE_DEVICES`,
//! `ROCR_VISIBLE_DEVICES`), `JAX_LOCAL_DEVICE_IDS` says to take all of those. The coordinator listens on all
//! interfaces unless told otherwise, so `JAX_COORDINATOR_BIND_ADDRESS` binds it to the master's address.
//!
//! A rank with whole accelerators sees those of all ranks of its gang on its node, in their order, and no other: scripts for
//! `PyTorch` take the device of their local rank, JAX is told which are its own, and `DH_DEVICES` names them for any other
//! program (`TensorFlow` takes all it sees: there, `CUDA_VISIBLE_DEVICES=$DH_DEVICES` before its start).
//!
//! A rank with a part of an accelerator sees that accelerator alone, by its number on its node, and is told how much of it is
//! its own, in our words and in those of CUDA's MPS and of JAX. Only what MPS or the slice itself enforces is enforced: a
//! program that asks neither can take more. A slice's own device name is known to the driver alone, so a program that runs on
//! one picks it among those of the accelerator by `DH_SLICE`.
//!
//! Who wins: the user, except for the identity of the rank ([`IDENTITY`]). One of our variables that the user sets to
//! the empty text is left out.

use std::collections::{BTreeMap, BTreeSet};

use dh_core::{AttemptId, NodeId, limits};

use crate::devices::{Device, visible};
use crate::{Devices, GangSpec, PartOf, Ports, RankSpec};

/// What makes a rank that rank; a user's value for these is ignored.
pub const IDENTITY: &[&str] = &[
    "DH_ATTEMPT",
    "DH_DEVICE",
    "DH_DEVICES",
    "DH_GANG_TOKEN",
    "DH_JOB",
    "DH_LOCAL_RANK",
    "DH_LOCAL_RANKS",
    "DH_MARK",
    "DH_NODES",
    "DH_NODE_RANK",
    "DH_RANK",
    "DH_RANKS",
    "DH_SHARE",
    "DH_SHARE_MEMORY",
    "DH_SLICE",
    "DH_SLICE_SLOTS",
    "DMLC_TASK_ID",
    "GROUP_RANK",
    "HOROVOD_CROSS_RANK",
    "HOROVOD_LOCAL_RANK",
    "HOROVOD_RANK",
    "HOROVOD_SIZE",
    "JAX_NUM_PROCESSES",
    "JAX_PROCESS_ID",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "OMPI_COMM_WORLD_LOCAL_SIZE",
    "OMPI_COMM_WORLD_NODE_RANK",
    "OMPI_COMM_WORLD_RANK",
    "OMPI_COMM_WORLD_SIZE",
    "PADDLE_TRAINER_ID",
    "PET_NODE_RANK",
    "PMI_RANK",
    "PMI_SIZE",
    "RANK",
    "ROLE_RANK",
    "WORLD_SIZE",
];

/// Makes the environments of one gang.
#[derive(Debug)]
pub struct Launch<'a> {
    gang: &'a GangSpec,
    ports: &'a Ports,
    master_addr: &'a str,
    places: Vec<Place>,
    nodes: u32,
    tensorflow_workers: Option<String>,
}

/// Where a rank is among the nodes of its gang.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    node_rank: u32,
    local_rank: u32,
    local_ranks: u32,
}

impl<'a> Launch<'a> {
    /// For `gang` on one machine, all of whose ranks are reached at `master_addr`.
    pub fn new(gang: &'a GangSpec, ports: &'a Ports, master_addr: &'a str) -> Self {
        Self::reached(gang, ports, master_addr, |_| master_addr)
    }

    /// For `gang`, whose ranks are reached at `addresses`, one each.
    pub fn on_hosts(gang: &'a GangSpec, ports: &'a Ports, addresses: &'a [String]) -> Self {
        let first = addresses.first().map_or("127.0.0.1", String::as_str);
        Self::reached(gang, ports, first, |rank| addresses.get(rank).map_or(first, String::as_str))
    }

    fn reached(gang: &'a GangSpec, ports: &'a Ports, master_addr: &'a str, address: impl Fn(usize) -> &'a str) -> Self {
        let (places, nodes) = places(gang);
        let tensorflow_workers = (ports.tensorflow.len() == gang.ranks.len()).then(|| {
            let workers = ports.tensorflow.iter().enumerate().map(|(rank, port)| format!("{}:{port}", address(rank)));
            serde_json::json!({ "worker": workers.collect::<Vec<_>>() }).to_string()
        });
        Self { gang, ports, master_addr, places, nodes, tensorflow_workers }
    }

    /// The environment of the rank at `index` of the gang's ranks; the user's variables alone if there is none.
    pub fn environment(&self, index: usize) -> BTreeMap<String, String> {
        let mut env = BTreeMap::new();
        if let (Some(place), Some(spec)) = (self.places.get(index), self.gang.ranks.get(index)) {
            self.ours(*place, spec.rank.0, spec.cores.len(), &mut env);
            match &spec.part {
                Some(part) => of_part(part, spec.real.first(), &mut env),
                None if spec.real.is_empty() => of_maker(self.gang.devices, &spec.devices, &mut env),
                None => self.real(spec, &mut env),
            }
        }
        for (name, value) in &self.gang.env {
            if IDENTITY.contains(&name.as_str()) {
                continue;
            }
            if value.is_empty() && env.contains_key(name) {
                env.remove(name);
            } else {
                env.insert(name.clone(), value.clone());
            }
        }
        env
    }

    /// Real accelerators: a rank sees those of all ranks of its gang on its node, in their order, so that a program which takes the
    /// device of its local rank is right; JAX is told which of them are its own, and so is who asks for `DH_DEVICES`.
    fn real(&self, spec: &RankSpec, env: &mut BTreeMap<String, String>) {
        let here: Vec<&Device> =
            self.gang.ranks.iter().filter(|other| other.node == spec.node).flat_map(|other| &other.real).collect();
        for (name, value) in visible(&here) {
            env.insert(name.to_owned(), value);
        }
        let own = |ids: &mut dyn Iterator<Item = String>| ids.collect::<Vec<_>>().join(",");
        let places = here.iter().enumerate().filter(|(_, device)| spec.real.contains(device));
        env.insert("JAX_LOCAL_DEVICE_IDS".to_owned(), own(&mut places.map(|(place, _)| place.to_string())));
        env.insert("DH_DEVICES".to_owned(), own(&mut spec.real.iter().map(|device| device.id.clone())));
    }

    fn ours(&self, place: Place, rank: u32, cores: usize, env: &mut BTreeMap<String, String>) {
        let mut set = |name: &str, value: &dyn std::fmt::Display| {
            env.insert(name.to_owned(), value.to_string());
        };
        let AttemptId { job, attempt } = self.gang.attempt;
        let ranks = self.gang.ranks.len();
        let master_port = self.ports.master;

        set("DH_JOB", &job.0);
        set("DH_ATTEMPT", &attempt);
        set("DH_NAME", &self.gang.name);
        set("DH_RANK", &rank);
        set("DH_RANKS", &ranks);
        set("DH_LOCAL_RANK", &place.local_rank);
        set("DH_LOCAL_RANKS", &place.local_ranks);
        set("DH_NODE_RANK", &place.node_rank);
        set("DH_NODES", &self.nodes);
        set("DH_MASTER_ADDR", &self.master_addr);
        set("DH_MASTER_PORT", &master_port);

        let run_id = format!("job-{}", job.0);
        set("MASTER_ADDR", &self.master_addr);
        set("MASTER_PORT", &master_port);
        set("RANK", &rank);
        set("WORLD_SIZE", &ranks);
        set("LOCAL_RANK", &place.local_rank);
        set("LOCAL_WORLD_SIZE", &place.local_ranks);
        set("GROUP_RANK", &place.node_rank);
        set("GROUP_WORLD_SIZE", &self.nodes);
        set("ROLE_NAME", &"default");
        set("ROLE_RANK", &rank);
        set("ROLE_WORLD_SIZE", &ranks);
        set("TORCHELASTIC_RUN_ID", &run_id);
        set("TORCHELASTIC_RESTART_COUNT", &attempt.saturating_sub(1));
        set("TORCHELASTIC_MAX_RESTARTS", &(limits::ATTEMPTS_MAX - 1));
        set("TORCHELASTIC_USE_AGENT_STORE", &"False");
        set("PET_NNODES", &ranks);
        set("PET_NPROC_PER_NODE", &1);
        set("PET_NODE_RANK", &rank);
        set("PET_RDZV_BACKEND", &"c10d");
        set("PET_RDZV_ENDPOINT", &format_args!("{}:{master_port}", self.master_addr));
        // The id differs between attempts, so that a late agent of the last one cannot join.
        set("PET_RDZV_ID", &format_args!("{run_id}-{attempt}"));

        if let Some(workers) = &self.tensorflow_workers {
            set("TF_CONFIG", &format_args!(r#"{{"cluster":{workers},"task":{{"type":"worker","index":{rank}}}}}"#));
        }

        let coordinator = format!("{}:{}", self.master_addr, self.ports.jax);
        set("JAX_COORDINATOR_ADDRESS", &coordinator);
        set("JAX_COORDINATOR_BIND_ADDRESS", &coordinator);
        set("JAX_NUM_PROCESSES", &ranks);
        set("JAX_PROCESS_ID", &rank);
        self.other_frameworks(place, rank, env);
        let mut set = |name: &str, value: &dyn std::fmt::Display| {
            env.insert(name.to_owned(), value.to_string());
        };
        let devices = ["CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"].map(|name| self.gang.env.get(name));
        if let Some(named) = devices.into_iter().flatten().find(|named| !named.is_empty()) {
            let ids: Vec<String> = (0..named.split(',').count()).map(|id| id.to_string()).collect();
            set("JAX_LOCAL_DEVICE_IDS", &ids.join(","));
        }
        set("OMPI_COMM_WORLD_SIZE", &ranks);
        set("OMPI_COMM_WORLD_RANK", &rank);
        set("OMPI_COMM_WORLD_LOCAL_SIZE", &place.local_ranks);
        set("OMPI_COMM_WORLD_LOCAL_RANK", &place.local_rank);
        set("OMPI_COMM_WORLD_NODE_RANK", &place.local_rank);
        if ranks > 1 {
            set("OMPI_MCA_orte_hnp_uri", &format_args!("0.0;tcp://{}:{}", self.master_addr, self.ports.jax));
        }

        if cores > 0 {
            for name in [
                "OMP_NUM_THREADS",
                "MKL_NUM_THREADS",
                "OPENBLAS_NUM_THREADS",
                "NUMEXPR_NUM_THREADS",
                "RAYON_NUM_THREADS",
            ] {
                set(name, &cores);
            }
        }
    }
}

impl Launch<'_> {
    /// Those whose processes find each other through a rank that starts a tracker, a head or a rendezvous.
    fn other_frameworks(&self, place: Place, rank: u32, env: &mut BTreeMap<String, String>) {
        let mut set = |name: &str, value: &dyn std::fmt::Display| {
            env.insert(name.to_owned(), value.to_string());
        };
        let (ranks, port, address) = (self.gang.ranks.len(), self.ports.master, self.master_addr);
        set("PMI_RANK", &rank);
        set("PMI_SIZE", &ranks);
        set("MPI_LOCALRANKID", &place.local_rank);
        set("MPI_LOCALNRANKS", &place.local_ranks);

        // Horovod's cross communicator: the ranks that have the same place on different nodes.
        for prefix in ["HOROVOD_", ""] {
            set(&format!("{prefix}CROSS_RANK"), &place.node_rank);
            set(&format!("{prefix}CROSS_SIZE"), &self.nodes);
        }
        set("HOROVOD_RANK", &rank);
        set("HOROVOD_SIZE", &ranks);
        set("HOROVOD_LOCAL_RANK", &place.local_rank);
        set("HOROVOD_LOCAL_SIZE", &place.local_ranks);
        set("HOROVOD_HOSTNAME", &format_args!("node-{}", place.node_rank));
        set("HOROVOD_CONTROLLER", &"gloo");
        set("HOROVOD_CPU_OPERATIONS", &"gloo");
        set("HOROVOD_GLOO_RENDEZVOUS_ADDR", &address);
        set("HOROVOD_GLOO_RENDEZVOUS_PORT", &port);

        set("DMLC_TRACKER_URI", &address);
        set("DMLC_TRACKER_PORT", &port);
        set("DMLC_ROLE", &"worker");
        set("DMLC_NUM_WORKER", &ranks);
        set("DMLC_NUM_SERVER", &0);
        set("DMLC_TASK_ID", &rank);
        set("DMLC_WORKER_CONNECT_RETRY", &5);

        set("RAY_PORT", &port);
        set("RAY_NODE_RANK", &place.node_rank);
        set("RAY_USAGE_STATS_ENABLED", &0);
        if rank > 0 {
            // Rank 0 starts the head; with the address set it would look for one instead.
            set("RAY_ADDRESS", &format_args!("{address}:{port}"));
        }

        set("PADDLE_MASTER", &format_args!("{address}:{port}"));
        set("PADDLE_TRAINER_ID", &rank);
        set("PADDLE_TRAINERS_NUM", &ranks);
    }
}

/// Which accelerators a rank may see, in the words of their maker.
fn of_maker(whose: Devices, devices: &[u32], env: &mut BTreeMap<String, String>) {
    let names: &[&str] = match whose {
        Devices::Cores => return,
        Devices::Cuda => &["CUDA_VISIBLE_DEVICES"],
        Devices::Rocm => &["ROCR_VISIBLE_DEVICES"],
        Devices::Tpu => &["TPU_VISIBLE_CHIPS", "TPU_VISIBLE_DEVICES"],
    };
    let list = |ids: &mut dyn Iterator<Item = u32>| ids.map(|id| id.to_string()).collect::<Vec<_>>().join(",");
    let own = list(&mut devices.iter().copied());
    for name in names {
        env.insert((*name).to_owned(), own.clone());
    }
    // What a rank sees counts from 0 for it; JAX would narrow that further to the device of its local rank.
    let seen = list(&mut (0..).take(devices.len()));
    if whose == Devices::Rocm {
        env.insert("HIP_VISIBLE_DEVICES".to_owned(), seen.clone());
    }
    env.insert("JAX_LOCAL_DEVICE_IDS".to_owned(), seen);
}

/// What a rank is told of its part of an accelerator, which is `device` where it is one of this machine.
fn of_part(part: &PartOf, device: Option<&Device>, env: &mut BTreeMap<String, String>) {
    let mut set = |name: &str, value: String| {
        env.insert(name.to_owned(), value);
    };
    let share = f64::from(part.milli) / 1000.0;
    set("DH_DEVICE", part.device.to_string());
    set("DH_SHARE", share.to_string());
    match device {
        Some(device) => visible(&[device]).into_iter().for_each(|(name, value)| set(name, value)),
        None => ["CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"]
            .into_iter()
            .for_each(|name| set(name, part.device.to_string())),
    }
    // The one device that is seen is the first.
    set("JAX_LOCAL_DEVICE_IDS", "0".to_owned());
    if let Some(memory) = part.memory {
        set("DH_SHARE_MEMORY", memory.0.to_string());
    }
    if let Some((profile, slots)) = &part.slice {
        set("DH_SLICE", profile.clone());
        let taken: Vec<String> =
            (0..8).filter(|slot| slots >> slot & 1 == 1).map(|slot: u8| slot.to_string()).collect();
        set("DH_SLICE_SLOTS", taken.join(","));
        return;
    }
    set("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", part.milli.div_ceil(10).to_string());
    set("XLA_PYTHON_CLIENT_MEM_FRACTION", share.to_string());
    if let Some(memory) = part.memory {
        set("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT", format!("0={}M", memory.0 >> 20));
    }
}

/// Each rank's place, and the number of nodes. Nodes count in the order in which ranks name them first.
fn places(gang: &GangSpec) -> (Vec<Place>, u32) {
    let mut order: BTreeMap<NodeId, (u32, u32)> = BTreeMap::new();
    let mut nodes = 0_u32;
    let mut places = Vec::with_capacity(gang.ranks.len());
    for spec in &gang.ranks {
        let (node_rank, ranks_here) = order.entry(spec.node).or_insert_with(|| {
            nodes += 1;
            (nodes - 1, 0)
        });
        places.push((spec.node, Place { node_rank: *node_rank, local_rank: *ranks_here, local_ranks: 0 }));
        *ranks_here += 1;
    }
    let with_counts = places
        .into_iter()
        .map(|(node, place)| Place { local_ranks: order.get(&node).map_or(0, |(_, ranks_here)| *ranks_here), ..place });
    (with_counts.collect(), nodes)
}

/// What a task keeps of its server's environment: how to find programs, libraries, files and a language, but none
/// of the server's keys. Proxies are left out on purpose: they make JAX's start-up hang.
pub(crate) fn inherited(from: impl Iterator<Item = (String, String)>) -> BTreeMap<String, String> {
    const KEPT: &[&str] = &[
        "CONDA_PREFIX",
        "CUDA_HOME",
        "HF_HOME",
        "HOME",
        "LANG",
        "LANGUAGE",
        "LD_LIBRARY_PATH",
        "LOGNAME",
        "PATH",
        "PYENV_ROOT",
        "PYTHONPATH",
        "REQUESTS_CA_BUNDLE",
        "SHELL",
        "SSL_CERT_DIR",
        "SSL_CERT_FILE",
        "TMPDIR",
        "TZ",
        "USER",
        "VIRTUAL_ENV",
    ];
    let kept: BTreeSet<&str> = KEPT.iter().copied().collect();
    from.filter(|(name, _)| kept.contains(name.as_str()) || name.starts_with("LC_")).collect()
}

#[cfg(test)]
mod tests;
