//! Sia's workload files: what is trained, with how many accelerators and which batch; no lengths.
//!
//! The length of a job follows in the publication from a model of its speed that is not in the trace. Here it is the
//! accelerator time of its application over its accelerators, scaling without loss: an assumption, and a note says so. The
//! time of an application is the geometric middle of the class that Pollux and Sia put it in (small up to 1 accelerator-hour,
//! medium to 10, large to 100, extra large to 1,000); a caller who knows better says so in [`Options::accelerator_time`].
//! The cluster is 16 nodes of 4, the 64 accelerators of the publication's first setting.
//! Sources: Jayaram Subramanya et al. 2023, "Sia"; Qiao et al. 2021, "Pollux"; the published artifact.

use std::collections::BTreeMap;

use dh_core::time::Span;

use super::{
    ACCELERATORS_MAX, Cluster, Column, Divide, Elastic, Entry, Extra, Fault, Format, Gang, Options, Reader, Row, Trace,
    TraceJob,
};

/// The format.
#[derive(Debug)]
pub(super) struct Sia;

/// Accelerators of a node.
const NODE: u32 = 4;
/// Seconds on one accelerator by application: 0.32, 3.2, 32 and 316 hours.
const ASSUMED: [(&str, u64); 5] =
    [("cifar10", 1_138), ("bert", 11_384), ("deepspeech2", 11_384), ("yolov3", 113_842), ("imagenet", 1_138_420)];

#[derive(Debug)]
struct Columns {
    workload: Column,
    name: Column,
    submit: Column,
    application: Column,
    replicas: Column,
    batch: Column,
    only: Option<u32>,
    times: BTreeMap<String, Span>,
}

impl Format for Sia {
    fn name(&self) -> &'static str {
        "sia"
    }

    fn about(&self) -> &'static str {
        "Sia 2023: adaptive trainings by application, replicas and batch, lengths assumed; 16 nodes of 4"
    }

    fn sniff(&self, head: &str) -> bool {
        head.starts_with("workload,name,submit_s,application,num_replicas")
    }

    fn begin(&self, head: &Row<'_>, options: &Options<'_>, trace: &mut Trace) -> Result<Box<dyn Reader>, Fault> {
        trace.cluster = Cluster::equal("Jayaram Subramanya et al. 2023: 64 accelerators; 16 nodes of 4", 16, NODE);
        let mut times: BTreeMap<String, Span> =
            ASSUMED.iter().map(|(name, seconds)| ((*name).to_owned(), Span::from_secs(*seconds))).collect();
        times.extend(options.accelerator_time.iter().map(|(name, time)| ((*name).to_owned(), *time)));
        let told: Vec<String> = times.iter().map(|(name, time)| format!("{name} {} s", time.as_secs())).collect();
        trace.notes.push(format!(
            "lengths are an assumption: accelerator time by application over replicas ({})",
            told.join(", ")
        ));
        if options.workload.is_none() {
            trace
                .notes
                .push("all workloads of the file at once, a queue each; the publication runs one at a time".to_owned());
        }
        Ok(Box::new(Columns {
            workload: head.column("workload")?,
            name: head.column("name")?,
            submit: head.column("submit_s")?,
            application: head.column("application")?,
            replicas: head.column("num_replicas")?,
            batch: head.column("batch_size")?,
            only: options.workload,
            times,
        }))
    }
}

impl Reader for Columns {
    fn row(&mut self, row: &Row<'_>, trace: &mut Trace) -> Result<Option<Entry>, Fault> {
        let workload = row.small(self.workload, u32::MAX)?;
        if self.only.is_some_and(|only| only != workload) {
            return Ok(None);
        }
        let application = row.text(self.application);
        let time = self.times.get(application);
        let time =
            time.ok_or_else(|| Fault::cell("application", application, "one whose accelerator time is known"))?;
        let replicas = row.small(self.replicas, ACCELERATORS_MAX)?.max(1);
        let gang = Gang::divided(Divide { accelerators: replicas, node: NODE });
        let queue = trace.queues.of(row.text(self.workload))?;
        let job = TraceJob::new(0, row.moment(self.submit)?, gang, queue);
        let mut job = job.with_length(Some(Span(time.0 / u64::from(replicas))));
        job.model = Some(trace.models.of(application)?);
        let most = u32::try_from(trace.cluster.accelerators()).unwrap_or(u32::MAX).max(replicas);
        let extra = Extra {
            elastic: Some(Elastic { least: 1, most }),
            batch: Some(row.small(self.batch, u32::MAX)?),
            ..Extra::default()
        };
        Ok(Some(Entry { job, extra: Some(Box::new(extra)), label: Some(row.text(self.name).to_owned()) }))
    }
}
