//! `datahall probe`: measures this machine as a training rank meets it.
//!
//! The measuring happens in a process of its own that has a rank's environment: thread counts of the numeric libraries
//! are read once, at their first use.

use std::process::{Command, Stdio};

use clap::Args;
use dh_core::Kind;
use dh_learn::TrainConfig;
use dh_learn::threads::RANK_ENVIRONMENT;
use dh_perf::MachineProfile;

use super::{Globals, Verb, up};
use crate::failure::{Failure, OrFail};
use crate::output;
use crate::ui::table::{Side, Table};

#[derive(Debug, Args)]
pub(crate) struct Probe {
    /// How many ranks work at once
    #[arg(long, default_value_t = 2)]
    ranks: u32,
    /// Sizes of the network's layers, inputs first
    #[arg(long, value_delimiter = ',', default_value = "784,256,10")]
    layers: Vec<usize>,
    /// Samples of one step, over all ranks
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// This is the process that measures
    #[arg(long, hide = true)]
    here: bool,
}

impl Verb for Probe {
    const NAME: &'static str = "probe";
    const ABOUT: &'static str = "Measure this machine: products, memory, messages, disk";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        if self.ranks == 0 || self.ranks > 64 {
            return Err(Failure::new(Kind::Invalid, "`--ranks` must be 1 to 64"));
        }
        let config = TrainConfig {
            layers: self.layers,
            global_batch: self.batch,
            ..TrainConfig::new("probe", "probe", "probe")
        };
        let profile = if self.here {
            dh_learn::probe::probe(&config, self.ranks, &std::env::temp_dir())?
        } else {
            measure(&config, self.ranks)?
        };
        if globals.output.is_data() {
            output::versioned(&profile)?;
        } else {
            print(&profile);
        }
        Ok(0)
    }
}

/// Measures this machine for `ranks` ranks of this training.
pub(crate) fn measure(config: &TrainConfig, ranks: u32) -> Result<MachineProfile, Failure> {
    let layers: Vec<String> = config.layers.iter().map(usize::to_string).collect();
    let output = Command::new(up::own_program()?)
        .args(["probe", "--here", "-o", "json"])
        .args(["--ranks", &ranks.to_string()])
        .args(["--layers", &layers.join(",")])
        .args(["--batch", &config.global_batch.to_string()])
        .envs(RANK_ENVIRONMENT.iter().copied())
        .stdin(Stdio::null())
        .output()
        .or_fail("start the probe")?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(Failure::new(Kind::Internal, format!("the probe failed ({}): {}", output.status, words.trim())));
    }
    serde_json::from_slice(&output.stdout).or_fail("the probe's answer makes no sense")
}

fn print(profile: &MachineProfile) {
    let mut table = Table::new(&[("FIGURE", Side::Left), ("VALUE", Side::Right)]);
    let mut row = |what: String, value: String| table.row([what, value]);
    for gemm in &profile.gemm {
        row(format!("product {}x{}x{}", gemm.m, gemm.k, gemm.n), gemm.rate.to_string());
    }
    row("memory, read and write".to_owned(), profile.memory.to_string());
    row("one small operation".to_owned(), profile.operation.to_string());
    row("message, one way".to_owned(), profile.message_latency.to_string());
    row("messages, large".to_owned(), profile.message_bandwidth.to_string());
    row("disk, durable write".to_owned(), profile.disk_write.to_string());
    row("disk, read".to_owned(), profile.disk_read.to_string());
    table.lines().iter().for_each(output::line);
}
