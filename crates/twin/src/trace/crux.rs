//! The jobs of Alibaba's Crux: large gangs, four fifths of them of a whole node or more.
//!
//! The publication states more than 2,000 accelerators; the cluster here is 256 nodes of 8, which is our assumption.
//! Source: Cao et al. 2024, "Crux: GPU-Efficient Communication Scheduling for Deep Learning Training".

use super::{
    ACCELERATORS_MAX, Cluster, Column, Divide, Entry, Fault, Format, Gang, Options, Reader, Row, Trace, TraceJob,
};

/// The format.
#[derive(Debug)]
pub(super) struct Crux;

#[derive(Debug)]
struct Columns {
    id: Column,
    submit: Column,
    duration: Column,
    accelerators: Column,
    node: u32,
}

impl Format for Crux {
    fn name(&self) -> &'static str {
        "crux"
    }

    fn about(&self) -> &'static str {
        "Alibaba Crux 2024, and any list of job_id, submit_s, duration_s, gpus; 256 nodes of 8 assumed"
    }

    fn sniff(&self, head: &str) -> bool {
        head == "job_id,submit_s,duration_s,gpus"
    }

    fn begin(&self, head: &Row<'_>, options: &Options<'_>, trace: &mut Trace) -> Result<Box<dyn Reader>, Fault> {
        let node = options.node_accelerators.unwrap_or(8).clamp(1, 1024);
        trace.cluster = Cluster::equal("Cao et al. 2024: above 2,000 accelerators; nodes assumed", 2048 / node, node);
        trace.notes.push(format!("the cluster is an assumption: {} nodes of {node}", 2048 / node));
        Ok(Box::new(Columns {
            id: head.column("job_id")?,
            submit: head.column("submit_s")?,
            duration: head.column("duration_s")?,
            accelerators: head.column("gpus")?,
            node,
        }))
    }
}

impl Reader for Columns {
    fn row(&mut self, row: &Row<'_>, trace: &mut Trace) -> Result<Option<Entry>, Fault> {
        let accelerators = row.small(self.accelerators, ACCELERATORS_MAX)?;
        let gang = Gang::divided(Divide { accelerators, node: self.node });
        let queue = trace.one_queue()?;
        let job = TraceJob::new(row.whole(self.id, u64::MAX)?, row.moment(self.submit)?, gang, queue);
        Ok(Some(job.with_length(Some(row.span(self.duration)?)).into()))
    }
}
