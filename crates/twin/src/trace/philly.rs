//! Microsoft Philly, 2017: one row a job, with accelerators and the virtual cluster it was charged to.
//!
//! The cluster is that of the Helios experiment on this trace: 11 virtual clusters of 8-accelerator nodes, 352 in all (Hu et
//! al. 2021, its published artifact). A job of more than a node's accelerators is the fewest equal ranks that fit a node.
//! Sources: Jeon et al. 2019, "Analysis of Large-Scale Multi-Tenant GPU Clusters for DNN Training Workloads"; its trace.

use super::{
    ACCELERATORS_MAX, Cluster, Column, Divide, Entry, Fault, Format, Gang, NodeGroup, Options, Reader, Row, Trace,
    TraceJob,
};

/// The format.
#[derive(Debug)]
pub(super) struct Philly;

/// Nodes of 8 by virtual cluster, in the published order.
const NODES: [(&str, u32); 11] = [
    ("6214e9", 64),
    ("7f04ca", 32),
    ("11cb48", 16),
    ("b436b2", 64),
    ("ee9e8c", 64),
    ("e13805", 16),
    ("6c71a0", 32),
    ("2869ce", 16),
    ("ed69ec", 8),
    ("103959", 8),
    ("0e4a51", 32),
];
/// Accelerators of a node.
const NODE: u32 = 8;
/// The queue of jobs whose virtual cluster is not known.
const UNKNOWN: &str = "unknown";

#[derive(Debug)]
struct Columns {
    id: Column,
    submit: Column,
    duration: Column,
    accelerators: Column,
    cluster: Column,
    unknown: u64,
}

impl Format for Philly {
    fn name(&self) -> &'static str {
        "philly"
    }

    fn about(&self) -> &'static str {
        "Microsoft Philly 2017: jobs with accelerators and virtual clusters; 352 nodes of 8"
    }

    fn sniff(&self, head: &str) -> bool {
        head.starts_with("job_id,submit_s,duration_s,gpus,vc")
    }

    fn begin(&self, head: &Row<'_>, _: &Options<'_>, trace: &mut Trace) -> Result<Box<dyn Reader>, Fault> {
        trace.cluster =
            Cluster { source: "Hu et al. 2021, artifact: virtual clusters of Philly", ..Cluster::default() };
        for (name, count) in NODES {
            trace.queues.of(name)?;
            let pool = Some(trace.cluster.pools.of(name)?);
            let node = NodeGroup { count, accelerators: NODE, cpu_milli: 0, memory_mib: 0, class: None, pool };
            // Neighbours are different pools, so each stays a group.
            trace.cluster.add(node);
        }
        Ok(Box::new(Columns {
            id: head.column("job_id")?,
            submit: head.column("submit_s")?,
            duration: head.column("duration_s")?,
            accelerators: head.column("gpus")?,
            cluster: head.column("vc")?,
            unknown: 0,
        }))
    }
}

impl Reader for Columns {
    fn row(&mut self, row: &Row<'_>, trace: &mut Trace) -> Result<Option<Entry>, Fault> {
        let cluster = row.text(self.cluster);
        let queue = if cluster.is_empty() {
            self.unknown += 1;
            trace.queues.of(UNKNOWN)?
        } else {
            trace.queues.of(cluster)?
        };
        let accelerators = row.small(self.accelerators, ACCELERATORS_MAX)?;
        let gang = Gang::divided(Divide { accelerators, node: NODE });
        let job = TraceJob::new(row.whole(self.id, u64::MAX)?, row.moment(self.submit)?, gang, queue);
        Ok(Some(job.with_length(Some(row.span(self.duration)?)).into()))
    }

    fn finish(&mut self, trace: &mut Trace) {
        trace.notes.push("lengths are whole lives over all attempts, failed ones too".to_owned());
        if self.unknown > 0 {
            trace.notes.push(format!("{} jobs have no virtual cluster and wait in `{UNKNOWN}`", self.unknown));
        }
        let named = trace.queues.list().iter().filter(|name| *name != UNKNOWN);
        let without: Vec<&str> =
            named.filter(|name| trace.cluster.pools.find(name).is_none()).map(String::as_str).collect();
        if !without.is_empty() {
            trace.notes.push(format!("virtual clusters without published nodes: {}", without.join(", ")));
        }
    }
}
