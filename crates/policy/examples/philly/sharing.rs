//! Whether a virtual cluster waits longer in the shared cluster than it would in one of its own (the
//! sharing anomaly of `HiveD`), with the guarantee of its own nodes and without.

use super::replay::{Discipline, Starts, replay};
use super::trace::{Job, Trace};

fn mean_queue(jobs: &[Job], ends: &[u64]) -> f64 {
    let waits = jobs.iter().zip(ends).map(|(job, end)| end - job.submit - job.duration);
    dh_units::real(waits.sum()) / dh_units::real(jobs.len() as u64).max(1.0)
}

/// Plays the jobs of each virtual cluster on its own nodes and all of them together; jobs that lost theirs are left out.
pub(crate) fn compare(
    trace: &Trace,
    vcs: &str,
    parts: u32,
    disciplines: &[Discipline],
) -> Result<(), Box<dyn std::error::Error>> {
    let mut sizes = vec![0; trace.vcs.len()];
    for line in vcs.lines().skip(1) {
        let (name, nodes) = line.split_once(',').ok_or("a row is too short")?;
        if let Some(vc) = trace.vcs.iter().position(|known| known == name) {
            sizes[vc] = nodes.trim().parse::<u32>()? / parts;
        }
    }
    let size_of = |job: &Job| job.vc.map_or(0, |vc| sizes[usize::from(vc)]);
    let jobs: Vec<Job> = trace.jobs.iter().copied().filter(|job| size_of(job) * 8 >= job.size).collect();
    println!("{} jobs, {} nodes; mean queue in seconds", jobs.len(), sizes.iter().sum::<u32>());
    println!("{:12} | {:8} | nodes |   jobs |  private |   shared", "", "vc");
    for how in disciplines {
        for guarantees in [Vec::new(), sizes.clone()] {
            // Who never displaces cannot be made to give back.
            if guarantees.is_empty() || how.starts == Starts::Preemptive {
                let guaranteed = Discipline { guarantees, ..how.clone() };
                one(trace, &jobs, &sizes, how, &guaranteed);
            }
        }
    }
    Ok(())
}

fn one(trace: &Trace, jobs: &[Job], sizes: &[u32], how: &Discipline, shares: &Discipline) {
    let together = replay(jobs, shares, sizes.iter().sum(), 0);
    let mark = if shares.guarantees.is_empty() { "" } else { " guaranteed" };
    for (vc, nodes) in (0_u8..).zip(sizes).filter(|(_, nodes)| **nodes > 0) {
        let own: Vec<(usize, Job)> = jobs.iter().copied().enumerate().filter(|(_, job)| job.vc == Some(vc)).collect();
        let shared: Vec<u64> = own.iter().map(|(index, _)| together.outcomes[*index].end).collect();
        let own: Vec<Job> = own.into_iter().map(|(_, job)| job).collect();
        let alone = replay(&own, how, *nodes, 0);
        let private: Vec<u64> = alone.outcomes.iter().map(|outcome| outcome.end).collect();
        let (private, shared) = (mean_queue(&own, &private), mean_queue(&own, &shared));
        let name = &trace.vcs[usize::from(vc)];
        let worse = if shared > private { " worse" } else { "" };
        println!(
            "{:12} | {name:8} | {nodes:5} | {:6} | {private:8.0} | {shared:8.0}{mark}{worse}",
            how.name,
            own.len()
        );
    }
}
