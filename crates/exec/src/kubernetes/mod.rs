//! Runs gangs as pods of a Kubernetes cluster, one pod per rank. The hall chooses the nodes; the cluster starts, holds and cleans up.
//!
//! A gang's pods are made behind a scheduling gate (on servers that know none: without the Secret that they need) and let go together
//! once all of them exist; if one cannot be made, or does not come to run in time, all are deleted. Names and labels say hall, job, attempt and rank, so that any server of the hall finds them again:
//! after a crash what waits or runs is adopted, and nothing runs twice. A pod of the hall that it does not know was made by a server
//! that had been deposed, or died between asking and noting: it is deleted, unless it is of a later term than ours. Invariant: nothing
//! is made or deleted by a server that does not lead. Cost: two watches for all gangs, a call per pod and change, an open connection
//! per running rank for its log.

mod access;
pub mod beside;
mod client;
mod logs;
mod object;
mod pod;
mod recover;
mod start;
mod state;
mod tend;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dh_core::{AttemptId, NodeId, TaskId};
use tokio::sync::{Notify, Semaphore};

use crate::executor::{Executor, HostView, NodeSink, Open, RankUsage, Recovered, Stop};
use crate::layout::{Layout, make_folders};
use crate::{Error, EventSink, GangSpec, Leads};

use access::Access;
use client::Client;
use object::Node;
use state::Table;

/// Calls that make, release and delete pods, at once.
const CALLS: usize = 16;
/// How long a start, and a question at start-up, is tried while the API does not answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a cluster is reached and what its pods are made of.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// A kubeconfig file, or `in-cluster`; found as `kubectl` does if absent.
    pub kubeconfig: Option<PathBuf>,
    /// The context of that file; its current one if absent.
    pub context: Option<String>,
    /// Where the pods are; the context's own, or `default`, if absent.
    pub namespace: Option<String>,
    /// The image of jobs that name none by `DH_IMAGE`.
    pub image: Option<String>,
    /// The account of the pods; they get no token without one.
    pub service_account: Option<String>,
    /// Secrets by which images are pulled.
    pub pull_secrets: Vec<String>,
    /// Keys of taints that the pods tolerate.
    pub tolerations: Vec<String>,
    /// Processors that a pod asks for with each slot; none if absent.
    pub cpus_per_slot: Option<u32>,
    /// How long the pods of a gang may take until all run.
    pub start_within: Duration,
    /// How long a node may not be ready before its tasks are taken for lost.
    pub lost_after: Duration,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            kubeconfig: None,
            context: None,
            namespace: None,
            image: None,
            service_account: None,
            pull_secrets: Vec::new(),
            tolerations: Vec::new(),
            cpus_per_slot: None,
            start_within: Duration::from_mins(10),
            lost_after: Duration::from_mins(1),
        }
    }
}

/// Runs tasks on a Kubernetes cluster.
pub struct KubernetesExecutor {
    shared: Arc<Shared>,
    runtime: Option<tokio::runtime::Runtime>,
}

struct Shared {
    cluster: Cluster,
    client: Client,
    layout: Layout,
    /// What this hall's objects are called.
    prefix: String,
    term: u64,
    hosts: BTreeMap<NodeId, String>,
    events: EventSink,
    node_events: NodeSink,
    leads: Leads,
    /// Our own program, for what runs beside a rank; none where there is no such program.
    own_program: Option<OsString>,
    table: Mutex<Table>,
    resources: Mutex<BTreeMap<String, BTreeMap<String, String>>>,
    /// Something is to be deleted or looked at.
    wake: Notify,
    calls: Semaphore,
    /// Logs that are being read.
    readers: Mutex<BTreeMap<TaskId, tokio::task::JoinHandle<()>>>,
}

impl KubernetesExecutor {
    /// Opens it: asks the cluster for its nodes.
    /// # Errors
    /// If the cluster does not answer, refuses this account, or has fewer nodes than the hall.
    pub fn new(open: Open) -> Result<Self, Error> {
        make_folders(&open.state_dir)?;
        let state = open.state_dir.canonicalize().map_err(|error| Error::os("find", &open.state_dir, error))?;
        let cluster = open.cluster;
        let access = Access::find(cluster.kubeconfig.as_deref(), cluster.context.as_deref())?;
        let client = Client::new(access, cluster.namespace.clone());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("dh-exec-kube")
            .enable_all()
            .build()
            .map_err(|error| Error::doing("start threads", error))?;
        let asked = client.clone();
        let nodes = wait(&runtime, async move { nodes(&asked).await })?;
        let hosts = choose(&nodes, open.hosts.as_deref(), open.nodes, client.server())?;
        let mut table = Table::default();
        let resources = nodes.iter().map(|node| (node.metadata.name.clone(), node.resources().clone())).collect();
        for host in hosts.values().filter(|host| !nodes.iter().any(|node| node.metadata.name == **host)) {
            table.nodes.insert(host.clone(), tend::absent());
        }
        let shared = Arc::new(Shared {
            prefix: pod::prefix(&open.hall),
            cluster,
            client,
            layout: Layout::new(state),
            term: open.term,
            hosts,
            events: open.events,
            node_events: open.node_events,
            leads: open.leads,
            own_program: open.warden_command.into_iter().next(),
            table: Mutex::new(table),
            resources: Mutex::new(resources),
            wake: Notify::new(),
            calls: Semaphore::new(CALLS),
            readers: Mutex::default(),
        });
        runtime.spawn(Arc::clone(&shared).watch_nodes());
        runtime.spawn(Arc::clone(&shared).watch_pods());
        runtime.spawn(Arc::clone(&shared).tend());
        Ok(Self { shared, runtime: Some(runtime) })
    }

    /// Runs it on the executor's own threads and waits: the caller may be anywhere.
    fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        match &self.runtime {
            Some(runtime) => wait(runtime, work),
            None => Err(closed()),
        }
    }
}

impl Executor for KubernetesExecutor {
    fn start(&self, gang: GangSpec) -> Result<(), Error> {
        gang.check()?;
        let shared = Arc::clone(&self.shared);
        self.wait(async move { shared.start(gang).await })
    }

    fn stop(&self, attempt: AttemptId, how: Stop) -> Result<(), Error> {
        let mut table = self.shared.table();
        let Some(gang) = table.gangs.get_mut(&attempt) else {
            drop(table);
            let was = self.shared.layout.attempt(attempt).is_dir();
            return if was { Ok(()) } else { Err(Error::UnknownAttempt(attempt)) };
        };
        gang.ask(how, Instant::now());
        drop(table);
        self.shared.wake.notify_one();
        Ok(())
    }

    fn kill_rank(&self, task: TaskId) -> Result<(), Error> {
        let mut table = self.shared.table();
        let rank = table.gangs.get_mut(&task.attempt).and_then(|gang| gang.rank(task.rank));
        let rank = rank.filter(|rank| rank.started && rank.end == state::End::Open).ok_or(Error::NotRunning(task))?;
        rank.fault = true;
        drop(table);
        self.shared.wake.notify_one();
        Ok(())
    }

    fn recover(&self, known: &[AttemptId]) -> Result<Vec<Recovered>, Error> {
        let (shared, known) = (Arc::clone(&self.shared), known.to_vec());
        self.wait(async move { shared.recover(&known).await })
    }

    fn usage(&self, attempt: AttemptId) -> Result<Vec<RankUsage>, Error> {
        // It is in the cluster's own metrics, where there are some; asking each kubelet here would cost more than it tells.
        if self.shared.table().gangs.contains_key(&attempt) {
            Ok(Vec::new())
        } else {
            Err(Error::UnknownAttempt(attempt))
        }
    }

    fn beside(&self, task: TaskId, command: &[String]) -> Option<Result<Vec<OsString>, Error>> {
        let own = self.shared.own_program.clone()?;
        let mut table = self.shared.table();
        let rank = table.gangs.get_mut(&task.attempt).and_then(|gang| gang.rank(task.rank));
        if rank.is_none_or(|rank| !rank.started || rank.end != state::End::Open) {
            return Some(Err(Error::NotRunning(task)));
        }
        drop(table);
        let mut words = vec![own, "beside-pod".into()];
        let Cluster { kubeconfig, context, .. } = &self.shared.cluster;
        let named = [
            ("--kubeconfig", kubeconfig.as_ref().map(|path| path.clone().into_os_string())),
            ("--context", context.as_ref().map(OsString::from)),
            ("--namespace", Some(self.shared.client.namespace().into())),
        ];
        words.extend(named.into_iter().filter_map(|(name, value)| Some([name.into(), value?])).flatten());
        words.push(pod::of_rank(&self.shared.prefix, task.attempt, task.rank.0).into());
        words.push("--".into());
        words.extend(command.iter().map(OsString::from));
        Some(Ok(words))
    }

    fn log_path(&self, task: TaskId) -> PathBuf {
        self.shared.layout.task(task).log()
    }

    fn running(&self) -> Vec<AttemptId> {
        self.shared.table().gangs.keys().copied().collect()
    }

    fn hosts(&self) -> Vec<HostView> {
        let table = self.shared.table();
        let resources = self.shared.resources.lock().unwrap_or_else(PoisonError::into_inner);
        let view = |(node, name): (&NodeId, &String)| HostView {
            node: *node,
            name: name.clone(),
            down: table.nodes.get(name).and_then(|health| health.down.clone()),
            resources: resources.get(name).cloned().unwrap_or_default(),
        };
        self.shared.hosts.iter().map(view).collect()
    }
}

/// Lets go of everything: the pods run on, and the next server adopts them.
impl Drop for KubernetesExecutor {
    fn drop(&mut self) {
        self.shared.table().closed = true;
        self.shared.wake.notify_one();
        if let Some(runtime) = self.runtime.take() {
            // May be called where blocking is not allowed.
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        // A panic elsewhere leaves the table as it was between two entries.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leads(&self) -> bool {
        (self.leads)()
    }
}

/// What the cluster called `named` is at this moment, in a line per fact; for `datahall doctor`.
/// # Errors
/// What is missing, and how to get it.
pub fn examine(cluster: &Cluster) -> Result<Vec<String>, Error> {
    let access = Access::find(cluster.kubeconfig.as_deref(), cluster.context.as_deref())?;
    let client = Client::new(access, cluster.namespace.clone());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|error| Error::doing("start threads", error))?;
    let asked = async move {
        let nodes = nodes(&client).await?;
        let mut facts = vec![format!("{} at {}", many(nodes.len(), "node"), client.server())];
        for kind in ["nvidia.com/gpu", "amd.com/gpu", "google.com/tpu"] {
            let sum: u64 = nodes.iter().filter_map(|node| node.resources().get(kind)?.parse::<u64>().ok()).sum();
            facts.extend((sum > 0).then(|| format!("{sum} {kind}")));
        }
        let down = nodes.iter().filter(|node| node.down().is_some()).count();
        facts.extend((down > 0).then(|| format!("{down} not ready or cordoned")));
        for (verb, resource) in start::NEEDED {
            if let Some(missing) = start::may(&client, verb, resource).await? {
                return Err(missing);
            }
        }
        Ok(facts)
    };
    let outcome = wait(&runtime, asked);
    runtime.shutdown_background();
    outcome
}

fn many(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

async fn nodes(client: &Client) -> Result<Vec<Node>, Error> {
    let until = Instant::now() + PATIENCE / 3;
    loop {
        match client.list::<Node>("/api/v1/nodes", "").await {
            Ok((nodes, _version)) => return Ok(nodes),
            Err(client::Failure::Passing(why)) if Instant::now() < until => {
                tracing::debug!(why, "asking again");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Err(failure) => return Err(failure.into_error("list the cluster's nodes")),
        }
    }
}

/// The cluster's name of each node of the hall: those that the blueprint names, or all that are not for the cluster itself, by name.
fn choose(nodes: &[Node], named: Option<&str>, wanted: u32, server: &str) -> Result<BTreeMap<NodeId, String>, Error> {
    let names = if let Some(text) = named {
        host_list(text).ok_or_else(|| {
            Error::doing(
                "use Kubernetes",
                std::io::Error::other(format!(
                    "`hosts` is \"{text}\", which is no list of names such as \"gpu[001-128],cpu7\""
                )),
            )
        })?
    } else {
        let mut names: Vec<String> =
            nodes.iter().filter(|node| !node.control_plane()).map(|node| node.metadata.name.clone()).collect();
        names.sort_by_cached_key(|name| natural(name));
        names
    };
    if names.len() < usize::try_from(wanted).unwrap_or(usize::MAX) {
        let have = if named.is_some() { "`hosts` names".to_owned() } else { format!("the cluster at {server} has") };
        let why = format!("the blueprint has {wanted} nodes, and {have} {}", names.len());
        return Err(Error::doing("use Kubernetes", std::io::Error::other(why)));
    }
    Ok((0..wanted).map(NodeId).zip(names).collect())
}

/// A key that sorts `n2` before `n10`.
fn natural(name: &str) -> Vec<(u8, u64, String)> {
    let mut key = Vec::new();
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        let digits = first.is_ascii_digit();
        let end = rest.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(rest.len());
        let (part, after) = rest.split_at(end);
        key.push(match part.parse() {
            Ok(number) if digits => (0, number, part.to_owned()),
            _ => (1, 0, part.to_owned()),
        });
        rest = after;
    }
    key
}

/// The name of a rank's pod in the hall called `hall`.
pub fn pod_name(hall: &str, task: TaskId) -> String {
    pod::of_rank(&pod::prefix(hall), task.attempt, task.rank.0)
}

/// Names in one list, and digits of a number in it.
const NAMES_MAX: usize = 100_000;
const DIGITS_MAX: usize = 9;

/// The names that `gpu[001-128,200],cpu7` stands for; `None` if it is no such list, or one of more than 100,000.
pub fn host_list(text: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let comma = rest.find([',', '[']).unwrap_or(rest.len());
        let (head, after) = rest.split_at(comma);
        if let Some(inside) = after.strip_prefix('[') {
            let (list, tail) = inside.split_once(']')?;
            let end = tail.find(',').unwrap_or(tail.len());
            let (suffix, after) = tail.split_at(end);
            for part in list.split(',') {
                let (from, to) = part.split_once('-').unwrap_or((part, part));
                let (first, last): (u32, u32) = (from.parse().ok()?, to.parse().ok()?);
                let more = usize::try_from(last.checked_sub(first)?).ok()?;
                if names.len().saturating_add(more) > NAMES_MAX || from.len() > DIGITS_MAX {
                    return None;
                }
                let width = from.len();
                names.extend((first..=last).map(|number| format!("{}{number:0width$}{suffix}", head.trim())));
            }
            rest = after.trim_start_matches(',').trim_start();
        } else {
            if head.trim().is_empty() {
                return None;
            }
            names.push(head.trim().to_owned());
            rest = after.trim_start_matches(',').trim_start();
        }
    }
    Some(names)
}

fn wait<T: Send + 'static>(
    runtime: &tokio::runtime::Runtime,
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    let (sender, outcome) = std::sync::mpsc::channel();
    runtime.spawn(async move {
        // Nobody waits any more if this fails.
        sender.send(work.await).unwrap_or_default();
    });
    outcome.recv().unwrap_or_else(|_| Err(closed()))
}

fn closed() -> Error {
    Error::doing("ask Kubernetes", std::io::Error::other("the executor is closed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_hosts_are_read_as_slurm_writes_them() {
        let names = |text| host_list(text).map(|names| names.join(" "));
        assert_eq!(names("gpu[08-11],cpu7").as_deref(), Some("gpu08 gpu09 gpu10 gpu11 cpu7"));
        assert_eq!(names("a[1,3-4].b, c").as_deref(), Some("a1.b a3.b a4.b c"));
        assert_eq!(names("ip-10-0-0-1.internal").as_deref(), Some("ip-10-0-0-1.internal"));
        for wrong in ["gpu[1-", "gpu[x]", "gpu[3-1]", ",a"] {
            assert_eq!(names(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn nodes_stand_in_the_order_that_people_expect() {
        let mut names = ["n10", "n2", "m3", "n1", "n2b"];
        names.sort_by_cached_key(|name| natural(name));
        assert_eq!(names, ["m3", "n1", "n2", "n2b", "n10"]);
    }
}
