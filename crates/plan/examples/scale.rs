//! How long a plan takes and how much memory, by the size of the hall: `scale ACCELERATORS...`, in ascending order.
//!
//! For each size a blueprint is written as text, read, planned, and its complete cable list written to a sink that counts.
//! Memory is the process's peak so far (`VmHWM` of Linux), so that one process for each size tells the most.
#![expect(clippy::disallowed_methods, reason = "a stopwatch reads the clock, and the peak of memory is in a file")]

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Instant;

use dh_blueprint::Blueprint;
use dh_plan::plan;

/// Accelerators of one node.
const PER_NODE: u32 = 8;

/// A hall of `nodes` eight-accelerator nodes as a blueprint: a compute network of 102.4 Tb/s switches that does not block,
/// storage, in-band and out-of-band networks, and a storage node for every five and a third nodes.
fn blueprint(nodes: u32) -> String {
    let disks = (u64::from(nodes) * 3).div_ceil(16);
    // Rows as long as the hall is deep: a rack is 0.6 m wide, a row and its aisle 2.4 m deep.
    let racks = nodes.div_ceil(4);
    let row = (racks * 4).isqrt().clamp(20, 1_000);
    format!(
        "schema = 1\nname = \"scale\"\n\
         [site.main]\npue = 1.2\nprice = \"$0.06/kWh\"\nracks_per_row = {row}\n\
         [pool.train]\nnodes = {nodes}\nnode = \"dgx-h100\"\nnodes_per_rack = 4\n\
         [pool.disks]\nnodes = {disks}\nnode = \"cpu-storage\"\n\
         [fabric.compute]\ntopology = \"rail\"\nswitch = \"tomahawk-6\"\n\
         [fabric.storage]\ntopology = \"fat-tree\"\nswitch = \"sn6600\"\nport_speed = \"400 Gb/s\"\noversubscription = 3\n\
         [fabric.in-band]\ntopology = \"fat-tree\"\nswitch = \"sn6600\"\nport_speed = \"100 Gb/s\"\noversubscription = 3\n\
         [fabric.out-of-band]\ntopology = \"fat-tree\"\nswitch = \"sn2201\"\nspine_switch = \"sn5600\"\n\
         core_switch = \"sn5600\"\noversubscription = 5\n\
         [store.main]\npool = \"disks\"\ncode = \"8+3\"\n\
         [workload.llm]\nkind = \"pretrain\"\nmodel = \"llama-3-405b\"\ntokens = \"15.6 T tokens\"\n\
         batch_tokens = \"16 M tokens\"\n"
    )
}

/// Counts what is written and keeps nothing.
#[derive(Default)]
struct Sink {
    bytes: usize,
    rows: usize,
}

impl fmt::Write for Sink {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.bytes += text.len();
        self.rows += text.bytes().filter(|byte| *byte == b'\n').count();
        Ok(())
    }
}

/// The most memory that the process has had, in MB of 10^6 bytes; nothing where the system does not say.
fn peak_mb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024 / 1_000_000)
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1_000.0
}

/// One line for a hall of `accelerators`, or why there is none.
fn measure(accelerators: u32) -> Result<String, String> {
    let text = blueprint(accelerators / PER_NODE);
    let peak = || peak_mb().map_or_else(|| "?".to_owned(), |peak| peak.to_string());
    let start = Instant::now();
    let read = Blueprint::read("scale.toml", &text, |_, _| Err(String::new()));
    let (settings, origins) = read.map_err(|report| report.to_string())?;
    let read_ms = milliseconds(start);
    let start = Instant::now();
    let plan = plan(&settings, &origins).map_err(|error| error.to_string())?;
    let plan_ms = milliseconds(start);
    let plan_mb = peak();
    let mut sink = Sink::default();
    let start = Instant::now();
    plan.write_cables(&mut sink).map_err(|error| error.to_string())?;
    let list_ms = milliseconds(start);
    let switches: u64 = plan.networks.iter().flat_map(|network| &network.design.tiers).map(|tier| tier.count).sum();
    let mut line = String::new();
    let written = write!(
        line,
        "{accelerators} accelerators  {} racks  {switches} switches  {} cables  {} numbers  \
         read {read_ms:.1} ms  plan {plan_ms:.1} ms  {plan_mb} MB  list {list_ms:.1} ms  {} rows  {} bytes  {} MB",
        plan.floors.racks(),
        plan.cable_count(),
        plan.ledger.numbers().len(),
        sink.rows,
        sink.bytes,
        peak(),
    );
    written.map(|()| line).map_err(|error| error.to_string())
}

fn main() -> ExitCode {
    let mut out = std::io::stdout().lock();
    let mut sizes: Vec<String> = std::env::args().skip(1).collect();
    if sizes.is_empty() {
        sizes = ["16384", "65536", "262144", "1048576"].map(str::to_owned).to_vec();
    }
    for size in sizes {
        let line = match size.parse::<u32>() {
            Ok(accelerators) if accelerators >= PER_NODE => measure(accelerators),
            _ => Err(format!("`{size}` is no number of accelerators; write 16384")),
        };
        let failed = line.is_err();
        if writeln!(out, "{}", line.unwrap_or_else(|error| error)).is_err() || failed {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
