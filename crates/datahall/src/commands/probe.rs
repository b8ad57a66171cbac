//! `datahall probe`: measures this machine as a training rank meets it.
//!
//! The measuring happens in a process of its own that has a rank's environment: thread counts of the numeric libraries
//! are read once, at their first use.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use dh_core::Kind;
use dh_learn::TrainConfig;
use dh_learn::threads::RANK_ENVIRONMENT;
use dh_perf::MachineProfile;
use dh_perf::measured::{Facts, catalog_entries};
use dh_units::Bytes;

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
    /// Write what was measured as entries of the catalogue; a blueprint takes them with `base = "FILE.toml"`
    #[arg(long, value_name = "FILE.toml")]
    write: Option<PathBuf>,
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
        if let Some(file) = &self.write {
            write_catalog(&profile, file)?;
        }
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

/// Writes `profile` as a text that a blueprint can be based on.
fn write_catalog(profile: &MachineProfile, file: &Path) -> Result<(), Failure> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let disk = rustix::fs::statvfs(std::env::temp_dir()).or_fail("ask how large the disk is")?;
    let days = SystemTime::now().duration_since(UNIX_EPOCH).or_fail("read the clock")?.as_secs() / 86_400;
    let facts = Facts {
        date: &date(days),
        memory: memory()
            .ok_or_else(|| Failure::new(Kind::Internal, "/proc/meminfo does not say how much memory there is"))?,
        disk: Bytes(disk.f_blocks.saturating_mul(disk.f_frsize)),
        cores: u32::try_from(cores).unwrap_or(u32::MAX),
    };
    let text = catalog_entries(profile, &facts).or_fail("describe this machine")?;
    std::fs::write(file, text).or_fail_as(Kind::Invalid, format!("write {}", file.display()))
}

fn memory() -> Option<Bytes> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    Some(Bytes(line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()?.saturating_mul(1024)))
}

/// The day that is `days` after 1970-01-01, as `2026-11-26`: whole years, then whole months are taken off.
fn date(mut days: u64) -> String {
    let leap = |year: u64| u64::from(year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)));
    let mut year = 1970;
    while days >= 365 + leap(year) {
        days -= 365 + leap(year);
        year += 1;
    }
    let mut month = 1;
    for length in [31, 28 + leap(year), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", days + 1)
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

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn days_are_dates() {
        for (days, expected) in [(0, "1970-01-01"), (59, "1970-03-01"), (19_782, "2024-02-29"), (20_783, "2026-11-26")]
        {
            assert_eq!(date(days), expected);
        }
    }
}
