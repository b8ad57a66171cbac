//! Muri's four virtual clusters of Philly, with the model of each job and the time of an iteration on each resource.
//!
//! The cluster is the published one: 8 nodes of 8 accelerators. Lengths are those alone on a cluster without others. The
//! column of priorities says which half of the jobs are opportunistic under `AntMan`; no other published policy looks at it,
//! so here it is no priority.
//! Source: Zhao et al. 2022, "Multi-Resource Interleaving for Deep Learning Training", and its simulator.

use dh_core::time::Span;

use super::{
    ACCELERATORS_MAX, Cluster, Column, Divide, Entry, Extra, Fault, Format, Gang, Options, Reader, Row, Stages, Trace,
    TraceJob,
};

/// The format.
#[derive(Debug)]
pub(super) struct Muri;

/// Accelerators of a node.
const NODE: u32 = 8;
/// Nanoseconds of one iteration on one resource, at most: a day.
const STAGE_MAX: u64 = 86_400_000_000_000;

#[derive(Debug)]
struct Columns {
    id: Column,
    submit: Column,
    duration: Column,
    accelerators: Column,
    model: Column,
    iterations: Column,
    iteration: Column,
    parts: [Column; 3],
}

impl Format for Muri {
    fn name(&self) -> &'static str {
        "muri"
    }

    fn about(&self) -> &'static str {
        "Muri 2022: four virtual clusters of Philly with models and stages of an iteration; 8 nodes of 8"
    }

    fn sniff(&self, head: &str) -> bool {
        head.starts_with("job_id,submit_s,duration_s,gpus,model,iterations")
    }

    fn begin(&self, head: &Row<'_>, _: &Options<'_>, trace: &mut Trace) -> Result<Box<dyn Reader>, Fault> {
        trace.cluster = Cluster::equal("Zhao et al. 2022: 8 nodes of 8 accelerators", 8, NODE);
        trace
            .notes
            .push("which resource each stage is was not checked: accelerator, storage, other by the names".to_owned());
        Ok(Box::new(Columns {
            id: head.column("job_id")?,
            submit: head.column("submit_s")?,
            duration: head.column("duration_s")?,
            accelerators: head.column("gpus")?,
            model: head.column("model")?,
            iterations: head.column("iterations")?,
            iteration: head.column("iter_ms")?,
            parts: [head.column("res_gpu_ms")?, head.column("res_io_ms")?, head.column("res_other_ms")?],
        }))
    }
}

impl Reader for Columns {
    fn row(&mut self, row: &Row<'_>, trace: &mut Trace) -> Result<Option<Entry>, Fault> {
        let accelerators = row.small(self.accelerators, ACCELERATORS_MAX)?;
        let gang = Gang::divided(Divide { accelerators, node: NODE });
        let queue = trace.one_queue()?;
        let job = TraceJob::new(row.whole(self.id, u64::MAX)?, row.moment(self.submit)?, gang, queue);
        let mut job = job.with_length(Some(row.span(self.duration)?));
        job.model = Some(trace.models.of(row.text(self.model))?);
        let milliseconds = |column| row.fixed(column, 6, STAGE_MAX).map(Span);
        let [first, second, third] = self.parts;
        let stages = Stages {
            iterations: row.whole(self.iterations, u64::MAX)?,
            iteration: milliseconds(self.iteration)?,
            parts: [milliseconds(first)?, milliseconds(second)?, milliseconds(third)?],
        };
        let extra = Extra { stages: Some(stages), ..Extra::default() };
        Ok(Some(Entry { job, extra: Some(Box::new(extra)), label: None }))
    }
}
