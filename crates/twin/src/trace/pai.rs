//! Jobs of one accelerator with their run times on three classes, all submitted at once, a fifth with deadlines.
//!
//! The cluster is that of the source's report: 10 A100, 15 `GTX2080Ti` and 20 V100; that each is a node of its own is our
//! assumption. The reference class is the A100. Derived from Alibaba PAI 2020 (Weng et al. 2022).

use dh_core::time::SimTime;

use super::{
    Cluster, Column, Divide, Entry, Extra, Fault, Format, Gang, NodeGroup, OnClass, Options, Reader, Row, Trace,
    TraceJob,
};

/// The format.
#[derive(Debug)]
pub(super) struct Deadlines;

/// Classes and how many there are, the reference first.
const CLASSES: [(&str, u32, &str); 3] =
    [("A100", 10, "runtime_a100_s"), ("GTX2080Ti", 15, "runtime_gtx2080ti_s"), ("V100", 20, "runtime_v100_s")];

#[derive(Debug)]
struct Columns {
    id: Column,
    submit: Column,
    deadline: Column,
    times: [(u8, Column); 3],
}

impl Format for Deadlines {
    fn name(&self) -> &'static str {
        "pai-deadlines"
    }

    fn about(&self) -> &'static str {
        "Alibaba PAI 2020, derived: 1-accelerator jobs with times on three classes and deadlines; 45 accelerators"
    }

    fn sniff(&self, head: &str) -> bool {
        head.starts_with("job_id,submit_s,deadline_s,runtime_")
    }

    fn begin(&self, head: &Row<'_>, _: &Options<'_>, trace: &mut Trace) -> Result<Box<dyn Reader>, Fault> {
        trace.cluster = Cluster { source: "the source's report: 10 A100, 15 GTX2080Ti, 20 V100", ..Cluster::default() };
        trace.notes.push("that every accelerator is a node of its own is an assumption".to_owned());
        let mut time = |place: usize| -> Result<(u8, Column), Fault> {
            let (name, count, column) = CLASSES.get(place).copied().unwrap_or_default();
            let class = trace.cluster.class(name)?;
            let node =
                NodeGroup { count, accelerators: 1, cpu_milli: 0, memory_mib: 0, class: Some(class), pool: None };
            trace.cluster.add(node);
            Ok((class, head.column(column)?))
        };
        let times = [time(0)?, time(1)?, time(2)?];
        Ok(Box::new(Columns {
            id: head.column("job_id")?,
            submit: head.column("submit_s")?,
            deadline: head.column("deadline_s")?,
            times,
        }))
    }
}

impl Reader for Columns {
    fn row(&mut self, row: &Row<'_>, trace: &mut Trace) -> Result<Option<Entry>, Fault> {
        let deadline: Option<SimTime> =
            if row.text(self.deadline) == "inf" { None } else { Some(row.moment(self.deadline)?) };
        let mut on_classes = Vec::with_capacity(self.times.len());
        for (class, column) in self.times {
            on_classes.push(OnClass { class, length: row.span(column)? });
        }
        let queue = trace.one_queue()?;
        let gang = Gang::divided(Divide { accelerators: 1, node: 1 });
        let job = TraceJob::new(0, row.moment(self.submit)?, gang, queue);
        let job = job.with_length(on_classes.first().map(|on| on.length));
        let extra = Extra { deadline, on_classes, ..Extra::default() };
        Ok(Some(Entry { job, extra: Some(Box::new(extra)), label: Some(row.text(self.id).to_owned()) }))
    }
}
