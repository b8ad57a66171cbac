//! What one estimate of a training step costs: `step [ESTIMATES]`, over layouts that differ, on one core.
#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "an example reads the clock and prints")]

use dh_blueprint::Catalog;
use dh_perf::architecture::Architecture;
use dh_perf::collectives::ScaleOutProfile;
use dh_perf::hardware::{Accelerator, Format, Machine, Network};
use dh_perf::layout::{Layout, Sharding};
use dh_perf::pretraining::{Profile, Work, step};
use dh_units::BytesPerSec;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let estimates: u64 = std::env::args().nth(1).map_or(Ok(100_000), |word| word.parse())?;
    let catalog = Catalog::builtin();
    let network = Network {
        bandwidth: BytesPerSec(50e9),
        oversubscription: 1.0,
        in_network: false,
        profile: ScaleOutProfile::INFINIBAND,
    };
    let machine = Machine::new(Accelerator::named(catalog, "h100-80gb-sxm")?, Some(network));
    let profile = Profile::of(catalog, "h100-80gb-sxm");
    for name in ["llama-3-405b", "deepseek-v3", "nemotron-3-super"] {
        let shape = Architecture::from(catalog.model(name).ok_or("the catalogue lacks the model")?);
        let (mut times, mut total) = (Vec::new(), 0.0);
        for at in 0..estimates {
            let layout = Layout {
                tp: 1 << (at % 4),
                pp: 1 << (at / 4 % 4),
                dp: 8 << (at / 16 % 4),
                ep: if shape.experts.is_some() { 8 } else { 1 },
                micro_batches: Some(32),
                sequence: 4096,
                sharding: if at % 2 == 0 { Sharding::Optimizer } else { Sharding::Weights },
                sequence_parallel: true,
                ..Layout::default()
            };
            let work = Work { shape: &shape, layout: &layout, products: Format::Fp8 };
            let start = std::time::Instant::now();
            total += step(&work, &machine, &profile)?.time.0;
            times.push(start.elapsed());
        }
        times.sort_unstable();
        println!(
            "{name}: median {:?}, sum of steps {total:.0} s",
            times.get(times.len() / 2).copied().unwrap_or_default()
        );
    }
    Ok(())
}
