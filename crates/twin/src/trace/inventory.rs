//! Lists of nodes without jobs: Alibaba PAI 2020 and the cluster of its spot trace of 2026.
//!
//! Sources: Weng et al. 2022, "`MLaaS` in the Wild" (machines of cluster-trace-gpu-v2020); cluster-trace-v2026-spot-gpu.

use super::{Column, Entry, Fault, Format, NodeGroup, Options, Reader, Row, Trace};

/// PAI 2020.
#[derive(Debug)]
pub(super) struct Pai2020;

/// Spot 2026.
#[derive(Debug)]
pub(super) struct Spot2026;

/// Cores of a node, at most.
const CORES_MAX: u32 = 1_000_000;
/// Memory of a node, GiB, at most.
const MEMORY_GIB_MAX: u32 = 4_000_000;

#[derive(Debug)]
struct Columns {
    class: Column,
    cores: Column,
    memory_gib: Option<Column>,
    accelerators: Column,
}

impl Format for Pai2020 {
    fn name(&self) -> &'static str {
        "pai2020-machines"
    }

    fn about(&self) -> &'static str {
        "Alibaba PAI 2020: machines with cores, memory and accelerators; no jobs"
    }

    fn sniff(&self, head: &str) -> bool {
        head.starts_with("machine,gpu_type,cap_cpu,cap_mem_gb,cap_gpu")
    }

    fn begin(&self, head: &Row<'_>, _: &Options<'_>, trace: &mut Trace) -> Result<Box<dyn Reader>, Fault> {
        trace.cluster.source = "Weng et al. 2022: machines of the trace";
        Ok(Box::new(Columns {
            class: head.column("gpu_type")?,
            cores: head.column("cap_cpu")?,
            memory_gib: Some(head.column("cap_mem_gb")?),
            accelerators: head.column("cap_gpu")?,
        }))
    }
}

impl Format for Spot2026 {
    fn name(&self) -> &'static str {
        "spot2026-nodes"
    }

    fn about(&self) -> &'static str {
        "Alibaba spot 2026: nodes with cores and accelerators; no jobs"
    }

    fn sniff(&self, head: &str) -> bool {
        head.starts_with("gpu_model,gpu_capacity_num,cpu_num")
    }

    fn begin(&self, head: &Row<'_>, _: &Options<'_>, trace: &mut Trace) -> Result<Box<dyn Reader>, Fault> {
        trace.cluster.source = "Alibaba, cluster-trace-v2026-spot-gpu: nodes";
        trace.notes.push("memory of nodes is not published".to_owned());
        Ok(Box::new(Columns {
            class: head.column("gpu_model")?,
            cores: head.column("cpu_num")?,
            memory_gib: None,
            accelerators: head.column("gpu_capacity_num")?,
        }))
    }
}

impl Reader for Columns {
    fn row(&mut self, row: &Row<'_>, trace: &mut Trace) -> Result<Option<Entry>, Fault> {
        let accelerators = row.small(self.accelerators, 1024)?;
        let class = if accelerators == 0 { None } else { Some(trace.cluster.class(row.text(self.class))?) };
        let memory_gib = self.memory_gib.map(|column| row.small(column, MEMORY_GIB_MAX)).transpose()?.unwrap_or(0);
        let cpu_milli = row.small(self.cores, CORES_MAX)? * 1000;
        let node = NodeGroup { count: 1, accelerators, cpu_milli, memory_mib: memory_gib * 1024, class, pool: None };
        trace.cluster.add(node);
        Ok(None)
    }
}
