//! What a run came to, as users read it. Units end the names; a figure that has no meaning in a run is absent.

use dh_core::time::Span;
use serde::{Deserialize, Serialize};

use super::energy::seconds;
use super::locality::Locality;
use super::sketch::Sketch;

/// Nanoseconds in an hour.
const HOUR: f64 = 3.6e12;

/// `sum` as a real number.
#[expect(clippy::cast_precision_loss, reason = "what is reported has 15 digits")]
pub(crate) const fn wide(sum: u128) -> f64 {
    sum as f64
}

/// Thousandths of accelerators times nanoseconds, as accelerator-hours.
pub(crate) fn hours(sum: u128) -> f64 {
    wide(sum) / 1_000.0 / HOUR
}

/// Nanoseconds of nodes, as node-hours.
pub(crate) const fn node_hours(sum: u128) -> f64 {
    wide(sum) / HOUR
}

/// `part` of `whole`; none where there is no whole.
pub(crate) fn ratio(part: u128, whole: u128) -> Option<f64> {
    (whole > 0).then(|| wide(part) / wide(whole))
}

/// How long things took. The mean and the largest are exact, the others within 1 % ([`super::RELATIVE_ERROR`]).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// How many.
    pub count: u64,
    /// Their mean.
    pub mean_s: f64,
    /// Half of them took no longer.
    pub p50_s: f64,
    /// Nine in ten took no longer.
    pub p90_s: f64,
    /// 99 in a hundred took no longer.
    pub p99_s: f64,
    /// The longest.
    pub max_s: f64,
}

impl Times {
    /// Of spans in nanoseconds; none where there are none.
    pub(crate) fn of(sketch: &Sketch) -> Option<Self> {
        let at = |per_mille| sketch.quantile(per_mille).map(|value| seconds(Span(value)).0);
        Some(Self {
            count: sketch.count(),
            mean_s: mean(sketch)? / 1e9,
            p50_s: at(500)?,
            p90_s: at(900)?,
            p99_s: at(990)?,
            max_s: seconds(Span(sketch.most())).0,
        })
    }
}

fn mean(sketch: &Sketch) -> Option<f64> {
    ratio(sketch.sum(), u128::from(sketch.count()))
}

/// Ratios of many jobs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ratios {
    /// How many.
    pub count: u64,
    /// Their mean.
    pub mean: f64,
    /// Half of them are not above.
    pub p50: f64,
    /// 99 in a hundred are not above.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

/// Ratios are sketched in millionths.
pub(crate) const MILLIONTHS: u64 = 1_000_000;

impl Ratios {
    /// Of ratios in millionths.
    pub(crate) fn of(sketch: &Sketch) -> Option<Self> {
        let millionths = dh_units::real(MILLIONTHS);
        let at = |per_mille| sketch.quantile(per_mille).map(|value| dh_units::real(value) / millionths);
        Some(Self {
            count: sketch.count(),
            mean: mean(sketch)? / millionths,
            p50: at(500)?,
            p99: at(990)?,
            max: at(1_000)?,
        })
    }
}

/// Jobs by what became of them; all were submitted inside of the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Jobs {
    /// Submitted.
    pub submitted: u64,
    /// Started at least once.
    pub started: u64,
    /// Did all their work.
    pub completed: u64,
    /// Failed by themselves.
    pub failed: u64,
    /// Were cancelled.
    pub cancelled: u64,
    /// Can never run here.
    pub rejected: u64,
    /// Were not over when the run was.
    pub unfinished: u64,
}

/// How often gangs were stopped before their end, inside of the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stops {
    /// For another job.
    pub preemptions: u64,
    /// Because a node went away.
    pub evictions: u64,
    /// Starts after the first.
    pub restarts: u64,
}

/// Finish-time fairness: JCT over what it would be alone on a 1/n share. Source: Mahajan et al. 2020 (Themis).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Fairness {
    /// The ratios.
    pub ratio: Ratios,
    /// Share of jobs that would have been faster alone (ratio above 1).
    pub unfair_share: f64,
}

/// Where the time of accelerators went. `useful + lost + checkpoints + starting = held`, `in_service + down = installed`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct AcceleratorHours {
    /// All that were there.
    pub installed: f64,
    /// On nodes that could run work, awake or asleep.
    pub in_service: f64,
    /// On nodes that were down.
    pub down: f64,
    /// On nodes that were asleep.
    pub asleep: f64,
    /// Held by gangs.
    pub held: f64,
    /// Held, for work that counts.
    pub useful: f64,
    /// Held, for work that had to be done again.
    pub lost: f64,
    /// Held, for writing checkpoints.
    pub checkpoints: f64,
    /// Held, for starting and loading.
    pub starting: f64,
    /// Awake and held by nobody.
    pub idle: f64,
}

/// Jobs that wait, over time.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct PendingJobs {
    /// Mean over time.
    pub mean: f64,
    /// The most at once.
    pub max: u64,
    /// Mean over time of the accelerators that they ask for.
    pub accelerators_mean: f64,
}

/// Energy of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Energy {
    /// Of machines and networks.
    pub it_mwh: f64,
    /// Of the whole hall.
    pub facility_mwh: f64,
    /// What nodes that slept would have drawn on top if they had been idle, with cooling and losses.
    #[serde(default)]
    pub saved_mwh: f64,
    /// The one over the other; none where nothing was drawn.
    pub pue: Option<f64>,
    /// The highest power of the hall.
    pub peak_kw: f64,
    /// Carbon dioxide, where its intensity is known.
    pub carbon_kg: Option<f64>,
    /// Energy of the hall by useful accelerator-hour; none where there is none.
    pub kwh_per_useful_accelerator_hour: Option<f64>,
}

/// Nodes that slept, and what that did to jobs, inside of the window.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Sleep {
    /// Hours that nodes slept, all nodes together.
    pub node_hours: f64,
    /// Share of all node-hours.
    pub share: f64,
    /// Times that a node was woken.
    pub woken: u64,
    /// Starts of gangs that had to wait for a node to wake.
    pub starts: u64,
    /// How long they waited for that, all together.
    pub waited_s: f64,
}

/// What a run cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Energy, where its price is known.
    pub energy_usd: Option<f64>,
    /// The hall itself by the hour, where that is known.
    pub capital_usd: Option<f64>,
    /// What is known of both.
    pub total_usd: f64,
    /// Of a useful accelerator-hour; none where there is none.
    pub usd_per_useful_accelerator_hour: Option<f64>,
}

/// Some of the jobs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Which.
    pub name: String,
    /// Jobs that are over.
    pub jobs: u64,
    /// Job completion time.
    pub jct: Option<Times>,
    /// Time until the first start.
    pub queueing: Option<Times>,
    /// Accelerator-hours that they held.
    pub held_accelerator_hours: f64,
    /// Of these, for work that counts.
    pub useful_accelerator_hours: f64,
    /// How often they made way for others.
    pub preemptions: u64,
}

/// Jobs between two times.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bar {
    /// From.
    pub from_s: f64,
    /// To, which is not part of it.
    pub to_s: f64,
    /// How many.
    pub jobs: u64,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// How much time of the run counts.
    pub counted_s: f64,
    /// Jobs.
    pub jobs: Jobs,
    /// Job completion time, end - submission, of all jobs that started and are over.
    pub jct: Option<Times>,
    /// Time from the submission to the first start.
    pub queueing: Option<Times>,
    /// All time that jobs waited, over all their attempts, by job that started.
    pub waiting_mean_s: Option<f64>,
    /// From the first submission to the last end.
    pub makespan_s: f64,
    /// Bounded slowdown: JCT over the larger of the job's length and 10 s.
    pub slowdown: Option<Ratios>,
    /// Finish-time fairness.
    pub fairness: Option<Fairness>,
    /// Accelerator-time that ran work (useful or lost) over that in service.
    pub utilisation: Option<f64>,
    /// Accelerator-time held over that installed.
    pub allocation: Option<f64>,
    /// Accelerator-time free that the expected mix of jobs cannot use, over that installed.
    pub fragmentation: Option<f64>,
    /// Useful accelerator-time over that in service.
    pub goodput: Option<f64>,
    /// Effective training time ratio: useful time over the time that gangs held their accelerators.
    pub ettr: Option<f64>,
    /// Where the time of accelerators went.
    pub accelerator_hours: AcceleratorHours,
    /// Gangs that were stopped.
    pub stops: Stops,
    /// Jobs that waited.
    pub pending: PendingJobs,
    /// How near to each other the ranks of gangs started, by level of the tree, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub locality: Vec<Locality>,
    /// Energy, where power is known.
    pub energy: Option<Energy>,
    /// Sleep, if nodes are sent to sleep.
    #[serde(default)]
    pub sleep: Option<Sleep>,
    /// Cost, where a price is known.
    pub cost: Option<Cost>,
    /// By queue.
    pub queues: Vec<Group>,
    /// By accelerators asked for.
    pub sizes: Vec<Group>,
    /// Job completion times.
    pub jct_histogram: Vec<Bar>,
    /// Times to the first start.
    pub queueing_histogram: Vec<Bar>,
}
