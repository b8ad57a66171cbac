//! The openb placement trace with its times: pods as jobs, and the list of nodes.
//!
//! A pod is one rank on one node, with whole accelerators or a part of one. Its moments are those of the file: creation, and
//! deletion less scheduling as its length (creation where it was never scheduled). The protocol that ignores times is in
//! [`crate::openb`]. Source: Weng et al. 2023, "Beware of Fragmentation", and its trace.

use dh_core::time::{SimTime, Span};

use super::cells::Split;
use super::{
    Cluster, Column, Entry, Fate, Fault, Format, Gang, NodeGroup, Options, Reader, Row, Shape, Trace, TraceJob,
};

/// Pods.
#[derive(Debug)]
pub(super) struct OpenB;

/// Nodes.
#[derive(Debug)]
pub(super) struct OpenBNodes;

/// Thousandths of cores and MiB of one node, at most.
const AMOUNT_MAX: u32 = 1_000_000_000;
const SOURCE: &str = "Weng et al. 2023: the list of nodes beside the pods";

#[derive(Debug)]
struct Pods {
    cpu: Column,
    memory: Column,
    accelerators: Column,
    milli: Column,
    spec: Option<Column>,
    name: Column,
    qos: Option<Column>,
    phase: Option<Column>,
    created: Option<Column>,
    deleted: Option<Column>,
    scheduled: Option<Column>,
}

#[derive(Debug)]
struct Nodes {
    cpu: Column,
    memory: Column,
    accelerators: Column,
    model: Column,
}

impl Format for OpenB {
    fn name(&self) -> &'static str {
        "openb"
    }

    fn about(&self) -> &'static str {
        "Alibaba openb 2023: pods with parts of accelerators, creation and deletion; the list of nodes is a second file"
    }

    fn sniff(&self, head: &str) -> bool {
        head.starts_with("name,cpu_milli,memory_mib,num_gpu,gpu_milli")
    }

    fn begin(&self, head: &Row<'_>, options: &Options<'_>, trace: &mut Trace) -> Result<Box<dyn Reader>, Fault> {
        match options.nodes {
            Some(nodes) => trace.cluster = read_nodes(nodes)?,
            None => trace
                .notes
                .push("without the list of nodes no cluster is known, and classes are told apart by name".to_owned()),
        }
        if head.optional("creation_time").is_none() {
            trace.notes.push("the list has no times: all pods come at moment 0, and no length is known".to_owned());
        }
        Ok(Box::new(Pods {
            cpu: head.column("cpu_milli")?,
            memory: head.column("memory_mib")?,
            accelerators: head.column("num_gpu")?,
            milli: head.column("gpu_milli")?,
            spec: head.optional("gpu_spec"),
            name: head.column("name")?,
            qos: head.optional("qos"),
            phase: head.optional("pod_phase"),
            created: head.optional("creation_time"),
            deleted: head.optional("deletion_time"),
            scheduled: head.optional("scheduled_time"),
        }))
    }
}

impl Reader for Pods {
    fn row(&mut self, row: &Row<'_>, trace: &mut Trace) -> Result<Option<Entry>, Fault> {
        let accelerators = row.small(self.accelerators, 1024)?;
        let milli = if accelerators == 0 { 0 } else { row.small(self.milli, 1000)? };
        let mut classes = 0;
        let spec = self.spec.map(|column| row.text(column)).unwrap_or_default();
        for name in spec.split('|').filter(|name| !name.is_empty()) {
            if trace.cluster.nodes.is_empty() {
                trace.cluster.class(name)?;
            }
            classes |= trace.cluster.bit(name);
        }
        let gang = Gang {
            ranks: 1,
            per_rank_milli: accelerators * milli,
            cpu_milli: row.small(self.cpu, AMOUNT_MAX)?,
            memory_mib: row.small(self.memory, u32::MAX)?,
            classes,
        };
        let span = |column: Option<Column>| -> Result<Option<Span>, Fault> {
            column.map_or(Ok(None), |column| row.maybe_span(column))
        };
        let created = span(self.created)?.unwrap_or_default();
        let start = span(self.scheduled)?.unwrap_or(created);
        let length = span(self.deleted)?.map(|end| Span(end.0.saturating_sub(start.0)));
        let qos = self.qos.map(|column| row.text(column)).filter(|qos| !qos.is_empty());
        let queue = match qos {
            Some(qos) => trace.queues.of(qos)?,
            None => trace.one_queue()?,
        };
        let mut job = TraceJob::new(0, SimTime(created.0), gang, queue).with_length(length);
        job.fate = match self.phase.map(|column| row.text(column)) {
            Some("Succeeded") => Fate::Completed,
            Some("Failed") => Fate::Failed,
            Some(_) | None => Fate::Unknown,
        };
        Ok(Some(Entry { job, extra: None, label: Some(row.text(self.name).to_owned()) }))
    }
}

impl Format for OpenBNodes {
    fn name(&self) -> &'static str {
        "openb-nodes"
    }

    fn about(&self) -> &'static str {
        "Alibaba openb 2023: nodes with cores, memory and accelerators; no jobs"
    }

    fn sniff(&self, head: &str) -> bool {
        head.starts_with("sn,cpu_milli,memory_mib,gpu,model")
    }

    fn begin(&self, head: &Row<'_>, _: &Options<'_>, trace: &mut Trace) -> Result<Box<dyn Reader>, Fault> {
        trace.cluster.source = SOURCE;
        Ok(Box::new(Nodes::of(head)?))
    }
}

impl Reader for Nodes {
    fn row(&mut self, row: &Row<'_>, trace: &mut Trace) -> Result<Option<Entry>, Fault> {
        self.add(row, &mut trace.cluster)?;
        Ok(None)
    }
}

impl Nodes {
    fn of(head: &Row<'_>) -> Result<Self, Fault> {
        Ok(Self {
            cpu: head.column("cpu_milli")?,
            memory: head.column("memory_mib")?,
            accelerators: head.column("gpu")?,
            model: head.column("model")?,
        })
    }

    fn add(&self, row: &Row<'_>, cluster: &mut Cluster) -> Result<(), Fault> {
        let accelerators = row.small(self.accelerators, 1024)?;
        let class = if accelerators == 0 { None } else { Some(cluster.class(row.text(self.model))?) };
        let (cpu_milli, memory_mib) = (row.small(self.cpu, AMOUNT_MAX)?, row.small(self.memory, u32::MAX)?);
        cluster.add(NodeGroup { count: 1, accelerators, cpu_milli, memory_mib, class, pool: None });
        Ok(())
    }
}

/// The nodes of a second file.
fn read_nodes(text: &str) -> Result<Cluster, Fault> {
    let mut cluster = Cluster { source: SOURCE, ..Cluster::default() };
    let mut split = Split::default();
    let mut columns: Option<Nodes> = None;
    for (line, text) in (1..).zip(text.lines()) {
        let at = |fault| Fault::Nodes { line, fault: Box::new(fault) };
        let row = split.split(text, Shape::Csv).map_err(at)?;
        match &columns {
            None => columns = Some(Nodes::of(&row).map_err(at)?),
            Some(_) if text.trim_ascii().is_empty() => {}
            Some(columns) => columns.add(&row, &mut cluster).map_err(at)?,
        }
    }
    if cluster.nodes.is_empty() { Err(Fault::Nodes { line: 1, fault: Box::new(Fault::Empty) }) } else { Ok(cluster) }
}
