//! Opens the executor that the blueprint names, and brings its news to the hall.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dh_blueprint::Settings;
use dh_exec::{Beats, Executor, NodeEvent, Open, TaskEvent};
use dh_hall::Event;

use crate::actuator::event_of;
use crate::body::Handle;
use crate::log::Lease;
use crate::{Error, nodes};

/// How often a leader tells the tasks of its machine that it leads, and how long they go on without. Said while the lease holds that
/// long, so that they have ended when a successor begins.
const BEAT: Duration = Duration::from_millis(700);
const SILENCE: Duration = Duration::from_millis(2_500);

/// Opens the executor that the blueprint names; off the async threads, because a cluster is asked for its nodes.
pub(crate) async fn open(
    settings: &Settings,
    data: &Path,
    warden_command: Vec<OsString>,
    handle: &Handle,
    lease: &Lease,
) -> Result<Arc<dyn Executor>, Error> {
    let (hall, lease) = (handle.clone(), lease.clone());
    let of_nodes = handle.clone();
    let target = settings.target.clone();
    let of_beats = lease.clone();
    let beats = lease.may_be_lost().then(|| Beats {
        every: BEAT,
        patience: SILENCE,
        leads: Arc::new(move || of_beats.holds_for(SILENCE)),
    });
    let with = Open {
        warden_command,
        state_dir: data.join("tasks"),
        events: Arc::new(move |report: TaskEvent| hall.tell(event_of(report))),
        node_events: Arc::new(move |NodeEvent { node, down }| {
            // Only news are worth a line of the log; a node that the hall does not have yet is up.
            let known = of_nodes.read().nodes().find(|(id, _)| *id == node).and_then(|(_, node)| node.down.clone());
            if known != down {
                of_nodes.tell(Event::NodeReported { node, down });
            }
        }),
        cluster: cluster(&target.cluster),
        term: lease.term(),
        hall: settings.name.clone(),
        nodes: nodes::node_count(settings),
        hosts: target.hosts,
        partition: target.partition,
        beats,
        leads: Arc::new(move || lease.holds()),
    };
    let opened = tokio::task::spawn_blocking(move || dh_exec::open(target.executor.name(), with)).await;
    Ok(opened.map_err(|error| Error::Invalid(format!("the executor was not opened: {error}")))??)
}

/// What the executor's own system says of nodes that the hall has just got, where that is not what it knows.
pub(crate) fn report_nodes(handle: &Handle, executor: &dyn Executor) {
    let hosts = executor.hosts();
    let down = |node| hosts.iter().find(|host| host.node == node).and_then(|host| host.down.clone());
    let news: Vec<_> = handle.read().nodes().map(|(id, node)| (id, down(id), node.down.clone())).collect();
    for (node, down, _known) in news.into_iter().filter(|(_, down, known)| down != known) {
        handle.tell(Event::NodeReported { node, down });
    }
}

/// The blueprint's cluster in the executor's words.
fn cluster(cluster: &dh_blueprint::Cluster) -> dh_exec::Cluster {
    let ordinary = dh_exec::Cluster::default();
    let time = |written: Option<dh_units::Seconds>, ordinary| {
        written.and_then(|time| Duration::try_from_secs_f64(time.0).ok()).unwrap_or(ordinary)
    };
    dh_exec::Cluster {
        kubeconfig: cluster.kubeconfig.as_ref().map(PathBuf::from),
        context: cluster.context.clone(),
        namespace: cluster.namespace.clone(),
        image: cluster.image.clone(),
        service_account: cluster.service_account.clone(),
        pull_secrets: cluster.pull_secrets.clone(),
        tolerations: cluster.tolerations.clone(),
        cpus_per_slot: cluster.cpus_per_slot,
        start_within: time(cluster.start_within, ordinary.start_within),
        lost_after: time(cluster.node_lost_after, ordinary.lost_after),
    }
}
