//! A generated mix of jobs that loads a hall to a target, like that of a published cluster.
//!
//! Invariant: the same hall, mix and seed give the same jobs. The target is met on average over a time that is long beside
//! the longest job (weeks): lengths have a heavy tail. Cost: some ten draws a job.

use dh_core::JobId;
use dh_core::time::{SimTime, Span};

use super::{Entered, Error, Site};
use crate::generate::{Published, Stretch, Weights, Workload, published};
use crate::kernel::Arrival;

/// What is generated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mix {
    /// The cluster that it is like.
    pub like: Published,
    /// Accelerators that are asked for over those there are, on average, with what the blueprint's own work holds.
    pub load: f64,
    /// Where chance comes from.
    pub seed: u64,
    /// Nothing comes from this moment on.
    pub until: SimTime,
}

/// Users ask for one to three times of what they need. Stated assumption.
const STRETCH: Stretch = Stretch { least: 1.0, most: 3.0 };

/// The load of a hall if nobody says: busy, and not overfull. Stated assumption.
const LOAD: f64 = 0.8;

impl Mix {
    /// Like Philly, at a load of 0.8.
    pub fn philly(seed: u64, until: SimTime) -> Option<Self> {
        published("philly").map(|like| Self { like, load: LOAD, seed, until })
    }
}

/// Jobs that come, in order.
#[derive(Debug)]
pub struct Mixed {
    /// What was drawn from.
    pub workload: Workload,
    /// Accelerators that are asked for on average.
    pub wanted: f64,
    seed: u64,
    until: SimTime,
}

impl Site {
    /// A mix for this hall, of which `held` accelerators are taken by the blueprint's own work in the mean
    /// ([`super::Own::mean`]); none if that alone is the load that is wanted.
    /// # Errors
    /// [`Error::Generate`] if the load makes no sense.
    pub fn mix(&self, mix: Mix, held: u64) -> Result<Option<Mixed>, Error> {
        let all = self.accelerators();
        let wanted = mix.load * dh_units::real(all) - dh_units::real(held);
        if wanted <= 0.0 {
            return Ok(None);
        }
        let node = self.settings.nodes.iter().map(|node| u32::from(node.accelerators)).filter(|slots| *slots > 0).min();
        // No job asks for more than half of what is left: the tail of a cluster that was larger is cut.
        let most = u32::try_from((all.saturating_sub(held) / 2).max(1)).unwrap_or(u32::MAX);
        let mut workload = Workload::like(mix.like, 1.0);
        let sizes = workload.sizes.shares().filter(|(size, _)| *size <= most);
        workload.sizes = Weights::new(sizes).unwrap_or_else(|| Weights::always(1));
        workload.node_accelerators = node.unwrap_or(1);
        workload.limits = Some(STRETCH);
        let queues = (0_u16..).zip(&self.queues).map(|(place, queue)| (place, u64::from(queue.share)));
        workload.queues = Weights::new(queues).unwrap_or_else(|| Weights::always(0));
        let (sum, weights) = workload.sizes.shares().fold((0.0, 0.0), |(sum, all), (size, weight)| {
            (sum + f64::from(size) * dh_units::real(weight), all + dh_units::real(weight))
        });
        let hours = workload.durations.mean_seconds() / 3600.0;
        let per_hour = wanted / (hours * sum / f64::max(weights, 1.0)).max(f64::MIN_POSITIVE);
        workload.arrivals.gap = crate::generate::Gap::Poisson { per_hour };
        workload.jobs(mix.seed)?;
        Ok(Some(Mixed { workload, wanted, seed: mix.seed, until: mix.until }))
    }
}

impl Mixed {
    /// The jobs, numbered from `first`, with the first profile.
    /// # Errors
    /// [`Error::Generate`], which [`Site::mix`] has ruled out.
    pub fn arrivals<'a>(&'a self, site: &'a Site, first: u64) -> Result<impl Iterator<Item = Arrival> + 'a, Error> {
        let jobs = self.workload.jobs(self.seed)?;
        let until = self.until;
        let entries = jobs.take_while(move |entry| entry.job.submit < until);
        Ok((first..).zip(entries).map(|(job, entry)| {
            let queue = entry.job.queue.index();
            site.arrival(&entry.job, Entered { job: JobId(job), queue, profile: 0, length: Span(0) })
        }))
    }
}
