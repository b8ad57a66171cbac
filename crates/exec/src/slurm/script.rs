//! The texts that Slurm is handed: the batch script, the list of hosts, and what each rank runs. Pure.
//!
//! ```text
//! STATE/tasks/job-7/attempt-2/    on a file system that the nodes share
//!     batch.sh                    one `srun` over the whole gang
//!     hosts                       a line per rank: where the hall placed it
//!     rank.sh                     the same for every rank: its variables, its program, its end on record
//!     rank-0.env.sh               the variables of rank 0, without secrets
//!     rank-0.log                  what it prints
//!     rank-0.pid                  where it runs, `HOST PID`
//!     rank-0.exit                 its exit code; there only when its program has ended
//! ```
//!
//! Secrets go through the environment of `sbatch`, which the controller keeps in its own state, readable for its user only.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use dh_core::{AttemptId, NodeId, Rank, limits};

use super::client::Host;
use crate::{GangSpec, Ports};

/// A text as one word of a shell.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// What the names of a hall's jobs in Slurm start with.
pub(super) fn prefix(hall: &str) -> String {
    format!("dh-{hall}-")
}

/// What follows the prefix: unique in the hall, and readable again.
pub(super) fn suffix(attempt: AttemptId) -> String {
    format!("{}.{}", attempt.job.0, attempt.attempt)
}

/// The batch script: it ends when every rank has.
pub(super) fn batch(gang: &GangSpec, folder: &Path) -> String {
    let folder = quoted(&folder.to_string_lossy());
    let (ranks, nodes) = (gang.ranks.len(), nodes_of(gang).len());
    format!(
        "#!/bin/sh\nD={folder}\nexport SLURM_HOSTFILE=\"$D/hosts\"\n\
         exec srun --distribution=arbitrary --ntasks={ranks} --nodes={nodes} --kill-on-bad-exit=0 --export=ALL --input=none \
         --output=\"$D/rank-%t.log\" --open-mode=append sh \"$D/rank.sh\"\n"
    )
}

/// What each rank runs. Its end is on record before its shell ends; a polite signal reaches the program itself, too.
pub(super) fn rank(gang: &GangSpec, folder: &Path) -> String {
    let command: Vec<String> = gang.command.iter().map(|word| quoted(word)).collect();
    let folder = quoted(&folder.to_string_lossy());
    let workdir = quoted(&gang.workdir.to_string_lossy());
    format!(
        "#!/bin/sh\nD={folder}\nR=$SLURM_PROCID\nNEAR=$SLURM_LOCALID\n. \"$D/rank-$R.env.sh\"\n\
         # Slurm gave the node to all ranks on it: each takes its own part of the list.\n\
         FIRST=$((NEAR * DH_SLOTS + 1)) LAST=$(((NEAR + 1) * DH_SLOTS))\n\
         for V in CUDA_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES; do\n  eval \"OF=\\${{$V:-}}\"\n  \
         [ -n \"$OF\" ] && export \"$V=$(echo \"$OF\" | cut -d, -f$FIRST-$LAST)\"\ndone\n\
         unset D_ V OF FIRST LAST\ncd {workdir} || exit 126\ntrap : TERM INT\n{} &\nP=$!\n\
         echo \"$(hostname) $P\" >\"$D/rank-$R.pid\"\n\
         wait $P; CODE=$?\nwhile kill -0 $P 2>/dev/null; do wait $P; CODE=$?; done\n\
         echo $CODE >\"$D/rank-$R.exit.new\" && mv \"$D/rank-$R.exit.new\" \"$D/rank-$R.exit\"\nexit $CODE\n",
        command.join(" ")
    )
}

/// The variables of a rank as lines of a shell.
pub(super) fn variables(env: &BTreeMap<String, String>, slots: usize) -> String {
    let mut text = format!("DH_SLOTS={slots}\n");
    for (name, value) in env {
        // A name that no shell takes cannot be handed over; the hall refuses none, so it is left out.
        let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if plain && !name.starts_with(|c: char| c.is_ascii_digit()) && write!(text, "export {name}=").is_ok() {
            text.push_str(&quoted(value));
            text.push('\n');
        }
    }
    text
}

/// A program beside a rank: a step of its own in the same job, on the same host, with the rank's folder and its variables but for
/// the secrets.
pub(super) fn beside(job: u64, host: &str, folder: &Path, rank: Rank, command: &[String]) -> Vec<String> {
    let folder = quoted(&folder.to_string_lossy());
    let script = format!(
        "D={folder}; . \"$D/rank-{rank}.env.sh\"; unset D_; eval \"$(grep '^cd ' \"$D/rank.sh\")\"; unset D; exec \"$@\""
    );
    let step = [
        "srun",
        &format!("--jobid={job}"),
        "--overlap",
        "--nodes=1",
        "--ntasks=1",
        &format!("--nodelist={host}"),
        "--input=none",
        // Nothing of the server's own environment but what programs need to be found.
        "--export=PATH,HOME,LANG",
        "/bin/sh",
        "-c",
        &script,
        "beside",
    ];
    step.into_iter().map(str::to_owned).chain(command.iter().cloned()).collect()
}

/// A line per rank.
pub(super) fn host_list(gang: &GangSpec, hosts: &BTreeMap<NodeId, Host>) -> String {
    let names = gang.ranks.iter().filter_map(|spec| hosts.get(&spec.node));
    names.flat_map(|host| [host.name.as_str(), "\n"]).collect()
}

/// Each node of the gang with its number of ranks.
pub(super) fn nodes_of(gang: &GangSpec) -> BTreeMap<NodeId, usize> {
    let mut nodes = BTreeMap::new();
    for spec in &gang.ranks {
        *nodes.entry(spec.node).or_insert(0) += 1;
    }
    nodes
}

/// The options of `sbatch` for a gang.
pub(super) fn options(
    gang: &GangSpec,
    hall: &str,
    partition: Option<&str>,
    hosts: &BTreeMap<NodeId, Host>,
    folder: &Path,
) -> Vec<String> {
    let nodes = nodes_of(gang);
    let names: Vec<&str> = nodes.keys().filter_map(|node| Some(hosts.get(node)?.name.as_str())).collect();
    let most = nodes.values().copied().max().unwrap_or(1);
    let slots = gang.ranks.iter().map(|spec| spec.devices.len()).max().unwrap_or(0);
    let mut options = vec![
        "--parsable".to_owned(),
        // The hall decides about a retry; Slurm's own would run an attempt twice.
        "--no-requeue".to_owned(),
        format!("--job-name={}{}", prefix(hall), suffix(gang.attempt)),
        format!("--comment=datahall: {} of hall {hall}", gang.name.replace(char::is_control, " ")),
        format!("--output={}", folder.join("slurm.log").display()),
        format!("--nodelist={}", names.join(",")),
        format!("--nodes={}", names.len()),
        format!("--ntasks={}", gang.ranks.len()),
        format!("--ntasks-per-node={most}"),
        "--export=ALL".to_owned(),
    ];
    options.extend(partition.map(|name| format!("--partition={name}")));
    if slots > 0 && nodes.keys().filter_map(|node| hosts.get(node)).all(|host| host.gpus) {
        options.push(format!("--gres=gpu:{}", slots * most));
    }
    if let Some(memory) = gang.limits.memory {
        options.push(format!("--mem-per-cpu={}M", memory.0.div_ceil(1 << 20)));
    }
    if let Some(time) = gang.limits.time {
        // The hall's own limit comes first; this one is for a hall that is gone.
        options.push(format!("--time={}", time.as_secs().div_ceil(60) + 1));
    }
    options
}

/// Ports by the attempt's number: nobody here can see which are free on a far node. Two gangs with rank 0 on the same node get
/// different ones unless their numbers are thousands apart.
pub(super) fn ports(gang: &GangSpec, most: usize) -> Ports {
    const FIRST: u64 = 20_000;
    const GANGS: u64 = 1_500;
    const EACH: u64 = 8;
    let number = gang.attempt.job.0.wrapping_mul(u64::from(limits::ATTEMPTS_MAX)) + u64::from(gang.attempt.attempt);
    let base = u16::try_from(FIRST + number % GANGS * EACH).unwrap_or(20_000);
    // One TensorFlow worker per rank, its port by its place on the node; wider nodes than that have none.
    let tensorflow = if most <= 6 {
        let mut seen: BTreeMap<NodeId, u16> = BTreeMap::new();
        let port = |spec: &crate::RankSpec| {
            let next = seen.entry(spec.node).or_insert(base + 2);
            *next += 1;
            *next - 1
        };
        gang.ranks.iter().map(port).collect()
    } else {
        Vec::new()
    };
    Ports { master: base, jax: base + 1, tensorflow }
}
