//! `datahall probe`: measures this machine as a training rank meets it.

use clap::Args;
use dh_core::Kind;
use dh_learn::TrainConfig;

use super::{Globals, Verb};
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::ui::table::{Side, Table};

#[derive(Debug, Args)]
pub(crate) struct Probe {
    /// How many ranks work at once
    #[arg(long, default_value_t = 2)]
    ranks: u32,
}

impl Verb for Probe {
    const NAME: &'static str = "probe";
    const ABOUT: &'static str = "Measure this machine: products, memory, messages, disk";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        if self.ranks == 0 || self.ranks > 64 {
            return Err(Failure::new(Kind::Invalid, "`--ranks` must be 1 to 64"));
        }
        let batch = usize::try_from(self.ranks).unwrap_or(1) * 32;
        let config = TrainConfig { global_batch: batch, ..TrainConfig::new("probe", "probe", "probe") };
        let profile = dh_learn::probe::probe(&config, self.ranks, &std::env::temp_dir())?;
        if globals.output == Format::Json {
            output::json(&profile)?;
            return Ok(0);
        }
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
        Ok(0)
    }
}
