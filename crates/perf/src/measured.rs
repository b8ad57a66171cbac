//! A measured machine as entries of the catalogue, which a blueprint includes with `base = "FILE.toml"`.
//!
//! Invariant: pure; every number names the measurement as its source, and the text reads back with `Catalog::parse`.

use dh_units::Bytes;

use crate::MachineProfile;
use crate::error::{Error, above_zero};

/// What a profile does not say of the machine that it was measured on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Facts<'a> {
    /// The day it was measured, as `2026-11-26`.
    pub date: &'a str,
    /// Its main memory.
    pub memory: Bytes,
    /// What the measured disk holds.
    pub disk: Bytes,
    /// Its cores.
    pub cores: u32,
}

/// `[catalog.accelerator.this-cpu]`, `[catalog.drive.this-disk]`, `[catalog.node.this-machine]` and
/// `[catalog.efficiency.this-machine-training]`. All ranks of the profile together are one accelerator.
///
/// The catalogue has no class for a processor, so that it counts as `npu`; `bf16` is its rate in f32, in which the
/// built-in trainer computes, and the efficiency profile's `gemm` is 1 because the peak is already a measured one.
/// # Errors
/// [`Error::NoRates`] without a product, [`Error::Profile`] for a figure that is not above zero.
pub fn catalog_entries(profile: &MachineProfile, facts: &Facts<'_>) -> Result<String, Error> {
    let ranks = f64::from(profile.ranks.max(1));
    let fastest = profile.gemm.iter().map(|gemm| gemm.rate.0).reduce(f64::max).ok_or(Error::NoRates)?;
    let flops = above_zero("gemm", fastest)? * ranks / 1e9;
    let bandwidth = above_zero("memory", profile.memory.0)? * ranks / 1e9;
    let read = above_zero("disk_read", profile.disk_read.0)? / 1e6;
    let write = above_zero("disk_write", profile.disk_write.0)? / 1e6;
    let link = above_zero("message_bandwidth", profile.message_bandwidth.0)? / 1e6;
    let memory = above_zero("memory", facts.memory.as_f64())? / 1e9;
    let disk = above_zero("disk", facts.disk.as_f64())? / 1e9;
    let (date, cores) = (facts.date, facts.cores.max(1));
    let source = format!("source = \"measured by datahall probe on {date}\"");
    Ok(format!(
        "[catalog.accelerator.this-cpu]\ntitle = \"The processors of this machine\"\n{source}\nclass = \"npu\"\n\
         fp32 = \"{flops:.3} GFLOP/s\"\nbf16 = \"{flops:.3} GFLOP/s\"\nmemory = \"{memory:.3} GB\"\n\
         bandwidth = \"{bandwidth:.3} GB/s\"\nscale_up = \"{link:.3} MB/s\"\n\n\
         [catalog.drive.this-disk]\ntitle = \"The disk of this machine\"\n{source}\ncapacity = \"{disk:.3} GB\"\n\
         read = \"{read:.3} MB/s\"\nwrite = \"{write:.3} MB/s\"\n\n\
         [catalog.node.this-machine]\n{source}\naccelerators = 1\naccelerator = \"this-cpu\"\ncpu_cores = {cores}\n\
         memory = \"{memory:.3} GB\"\ndrives = 1\ndrive = \"this-disk\"\n\n\
         [catalog.efficiency.this-machine-training]\ntitle = \"Training, this machine\"\n{source}\n\
         subject = \"training\"\nstack = \"any\"\ndate = \"{date}\"\nhardware = [\"this-cpu\"]\n\
         numbers = {{ value = {{ gemm = 1.0 }} }}\n"
    ))
}

#[cfg(test)]
mod tests {
    use dh_blueprint::Catalog;
    use dh_units::{BytesPerSec, FlopPerSec, Seconds};

    use super::*;
    use crate::GemmRate;
    use crate::hardware::{Accelerator, Format};

    fn profile() -> MachineProfile {
        MachineProfile {
            ranks: 2,
            gemm: vec![GemmRate { m: 64, k: 784, n: 256, rate: FlopPerSec(40e9) }],
            memory: BytesPerSec(8e9),
            operation: Seconds(1e-6),
            message_latency: Seconds(1e-5),
            message_bandwidth: BytesPerSec(1.5e9),
            disk_write: BytesPerSec(2e8),
            disk_read: BytesPerSec(3e9),
        }
    }

    const FACTS: Facts<'_> =
        Facts { date: "2026-11-26", memory: Bytes(16_000_000_000), disk: Bytes(500_000_000_000), cores: 2 };

    #[test]
    fn the_written_text_is_a_catalogue() {
        let text = catalog_entries(&profile(), &FACTS).unwrap();
        let catalog = Catalog::parse("probe.toml", &text).unwrap_or_else(|report| panic!("{report:?}\n{text}"));
        let cpu = Accelerator::named(&catalog, "this-cpu").unwrap();
        assert!((cpu.peak(Format::Bf16).unwrap().0 / 80e9 - 1.0).abs() < 1e-9);
        assert!((cpu.bandwidth.0 / 16e9 - 1.0).abs() < 1e-9);
        assert_eq!(catalog.node("this-machine").unwrap().drive.as_ref().unwrap().value, "this-disk");
        let read = &catalog.drive("this-disk").unwrap().read;
        assert_eq!((read.value, read.source.as_str()), (BytesPerSec(3e9), "measured by datahall probe on 2026-11-26"));
        let gemm = catalog.efficiency("this-machine-training").unwrap().numbers.value.0.get("gemm").copied();
        assert_eq!(gemm, Some(1.0));
    }

    #[test]
    fn a_profile_without_figures_is_refused() {
        assert_eq!(catalog_entries(&MachineProfile { gemm: Vec::new(), ..profile() }, &FACTS), Err(Error::NoRates));
        assert!(catalog_entries(&MachineProfile { disk_read: BytesPerSec(0.0), ..profile() }, &FACTS).is_err());
    }
}
