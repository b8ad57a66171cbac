//! Alibaba's disaggregated recommendation serving, 2025: instances with processors, or with one accelerator.
//!
//! An instance is one rank of its application, which is its queue. Moments outside the published window are empty: created
//! before it is moment 0, deleted after it is a length that is not known. Network shares and disks are not carried over.
//! Source: alibaba/clusterdata, cluster-trace-gpu-v2025.

use dh_core::time::{SimTime, Span};

use super::{Column, Entry, Extra, Fault, Format, Gang, Options, Reader, Row, Trace, TraceJob};

/// The format.
#[derive(Debug)]
pub(super) struct Instances;

#[derive(Debug)]
struct Columns {
    name: Column,
    role: Column,
    application: Column,
    cpu: Column,
    accelerators: Column,
    memory: Column,
    per_node: Column,
    created: Column,
    scheduled: Column,
    deleted: Column,
}

impl Format for Instances {
    fn name(&self) -> &'static str {
        "dlrm2025"
    }

    fn about(&self) -> &'static str {
        "Alibaba GPU 2025: instances of recommendation services, processors and accelerators apart; no nodes"
    }

    fn sniff(&self, head: &str) -> bool {
        head.starts_with("instance_sn,role,app_name,cpu_request")
    }

    fn begin(&self, head: &Row<'_>, _: &Options<'_>, trace: &mut Trace) -> Result<Box<dyn Reader>, Fault> {
        trace.notes.push("an empty creation is moment 0; an empty deletion is an unknown length".to_owned());
        Ok(Box::new(Columns {
            name: head.column("instance_sn")?,
            role: head.column("role")?,
            application: head.column("app_name")?,
            cpu: head.column("cpu_request")?,
            accelerators: head.column("gpu_request")?,
            memory: head.column("memory_request")?,
            per_node: head.column("max_instance_per_node")?,
            created: head.column("creation_time")?,
            scheduled: head.column("scheduled_time")?,
            deleted: head.column("deletion_time")?,
        }))
    }
}

impl Reader for Columns {
    fn row(&mut self, row: &Row<'_>, trace: &mut Trace) -> Result<Option<Entry>, Fault> {
        let gibibytes_milli = row.fixed(self.memory, 3, 4_000_000_000)?;
        let gang = Gang {
            ranks: 1,
            per_rank_milli: row.small(self.accelerators, 1024)?.saturating_mul(1000),
            cpu_milli: u32::try_from(row.fixed(self.cpu, 3, 1_000_000_000)?).unwrap_or(u32::MAX),
            memory_mib: u32::try_from(gibibytes_milli * 1024 / 1000).unwrap_or(u32::MAX),
            classes: 0,
        };
        let created = row.maybe_span(self.created)?.unwrap_or_default();
        let start = row.maybe_span(self.scheduled)?.unwrap_or(created);
        let length = row.maybe_span(self.deleted)?.map(|end| Span(end.0.saturating_sub(start.0)));
        let queue = trace.queues.of(row.text(self.application))?;
        let mut job = TraceJob::new(0, SimTime(created.0), gang, queue).with_length(length);
        job.model = Some(trace.models.of(row.text(self.role))?);
        let per_node_max = match row.text(self.per_node) {
            "" | "-1" => None,
            _ => Some(row.small(self.per_node, u32::MAX)?),
        };
        let extra = per_node_max.map(|most| Box::new(Extra { per_node_max: Some(most), ..Extra::default() }));
        Ok(Some(Entry { job, extra, label: Some(row.text(self.name).to_owned()) }))
    }
}
