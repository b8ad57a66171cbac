//! Draws a synthetic workload and failures, and prints what they hold and how fast they come: `generate [CLUSTER] [JOBS] [SEED]`.
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "an example prints and looks at the clock")]

use std::error::Error;
use std::time::Instant;

use dh_core::time::Span;
use dh_twin::generate::{Cause, Durations, Effect, Failures, Law, Lemons, Part, Reason, Sites, Workload, published};
use dh_units::real;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let name = arguments.first().map_or("philly", String::as_str);
    let jobs: usize = arguments.get(1).map_or(Ok(1_000_000), |text| text.parse())?;
    let seed: u64 = arguments.get(2).map_or(Ok(1), |text| text.parse())?;
    let like = published(name).ok_or("known are philly, helios and seren")?;
    workload(&Workload::like(like, 1000.0), jobs, seed)?;
    failures(seed)
}

fn workload(workload: &Workload, jobs: usize, seed: u64) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let (mut count, mut milli, mut time, mut work, mut last) = (0_u64, 0_u64, 0_u128, 0_u128, 0);
    for entry in workload.jobs(seed)?.take(jobs) {
        let length = entry.job.length().unwrap_or_default();
        count += 1;
        milli += entry.job.gang.milli();
        time += u128::from(length.0);
        work += u128::from(length.0) * u128::from(entry.job.gang.milli());
        last = entry.job.submit.0;
    }
    let seconds = start.elapsed().as_secs_f64();
    let n = real(count.max(1));
    let whole = |number: u128| real(u64::try_from(number).unwrap_or(u64::MAX));
    println!("{count} jobs over {:.1} days in {seconds:.2} s, {:.0} ns each", real(last) / 86_400e9, seconds * 1e9 / n);
    println!(
        "accelerators {:.3}, run time {:.0} s in the mean",
        real(milli) / 1e3 / n,
        whole(time / 1_000_000_000) / n
    );
    println!("accelerators busy in the mean: {:.0}", whole(work / 1000 / u128::from(last.max(1))));
    Ok(())
}

fn failures(seed: u64) -> Result<(), Box<dyn Error>> {
    let hours = |hours: u64| Span::from_secs(hours * 3600);
    let repair = Durations::LogNormal { median: hours(2), sigma: 1.0, longest: hours(24 * 14) };
    let cause = |name: &str, part, between| Cause {
        name: name.to_owned(),
        part,
        between: hours(between),
        law: Law::Exponential,
        repair: repair.clone(),
        effect: Effect::Down,
        lemons: None,
    };
    // Round numbers, to have something of each kind.
    let causes = vec![
        Cause { lemons: Some(Lemons { share: 0.01, factor: 20.0 }), ..cause("node", Part::Node, 20_000) },
        Cause { law: Law::Weibull { shape: 0.7 }, ..cause("disk", Part::Node, 100_000) },
        Cause { effect: Effect::Slow { speed_milli: 700 }, ..cause("gray", Part::Node, 50_000) },
        cause("rack", Part::Rack, 200_000),
        cause("feed", Part::Feed, 50_000),
        cause("switch", Part::Switch, 100_000),
    ];
    let sites = Sites { nodes: 12_500, rack: 4, feed: 250, switch: 32 };
    let start = Instant::now();
    let mut counts = vec![0_u64; causes.len()];
    let year = hours(24 * 365).0;
    for outage in Failures::new(sites, causes.clone(), None, seed)?.take_while(|outage| outage.at.0 < year) {
        if let Reason::Cause(place) = outage.reason
            && let Some(count) = counts.get_mut(usize::from(place))
        {
            *count += 1;
        }
    }
    println!("12,500 nodes, one year, in {:.1} ms:", start.elapsed().as_secs_f64() * 1e3);
    for (cause, count) in causes.iter().zip(counts) {
        println!("  {:<8} {count}", cause.name);
    }
    Ok(())
}
