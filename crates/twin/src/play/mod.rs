//! A run from beginning to end: a scene (nodes, jobs, faults), rules (policies by name), and what came of it.
//!
//! Invariant: the same scene and rules give the same run. Cost: memory follows the jobs of the scene, which are held as they
//! were read, and those that are in the hall.

mod asked;
mod data;
mod locality;
mod rules;
mod scene;
mod shared;
mod sleep;
mod slices;
mod watch;

pub use asked::{Answers, Ask, Asked, Replicas};
pub use data::Datasets;
pub use rules::{Lengths, OWN, Rules, Told, UnknownPolicy};
pub use scene::{Load, Own, Scene, SceneError};
pub use slices::Slices;
pub use watch::{Draw, Watch};

use dh_core::SimTime;
use dh_core::time::Span;
use dh_hall::scheduler::{Scheduler, Settings};
use dh_policy::placement::Speed;
use serde::Serialize;

use crate::kernel::{Fetched, Idle, Kernel, Moved, Observer, Stopped};
use crate::measure::{Outcome, Tariff, Window};
use crate::timeline::Chart;

/// What is wanted of a run beside its outcome.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// Whether a picture is drawn.
    pub draw: Draw,
    /// What counts.
    pub window: Window,
    /// What energy and time cost.
    pub tariff: Tariff<'a>,
    /// When the run is broken off.
    pub until: Option<SimTime>,
    /// How often the scheduler is asked for plans of moves; those that pay are carried out.
    pub consolidate: Option<Span>,
}

/// What came of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Ran {
    /// The measures.
    pub outcome: Outcome,
    /// The picture, if one was wanted.
    #[serde(skip)]
    pub chart: Option<Chart>,
    /// Events that the scheduler was told.
    pub events: u64,
    /// Digest of all events and decisions, 16 hexadecimal digits.
    pub digest: String,
    /// Jobs that never started because nothing that was to come could have started them.
    pub stuck: usize,
    /// What those who asked services have seen.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Answers>,
    /// What plans of moves came to, if they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved: Option<Moved>,
    /// What reading data sets came to, if jobs have any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Fetched>,
}

/// Plays `scene` under `rules`. `beside` watches too: a log, a progress bar.
/// # Errors
/// If the rules do not fit the scene.
pub fn play(scene: &Scene, rules: &Rules, wanted: &Wanted<'_>, beside: &mut impl Observer) -> Result<Ran, SceneError> {
    let wanted = Wanted { consolidate: wanted.consolidate.or(rules.moves).or(scene.moves), ..*wanted };
    play_with(scene, scene.settings(rules), rules.lengths, &wanted, beside)
}

/// Plays `scene` under other settings of the scheduler, such as those of a log.
/// # Errors
/// If they do not fit the scene.
pub fn play_as<'a>(
    scene: &'a Scene,
    settings: Settings,
    wanted: &Wanted<'a>,
    beside: &mut impl Observer,
) -> Result<Ran, SceneError> {
    play_with(scene, settings, Lengths::Limits, wanted, beside)
}

fn play_with<'a>(
    scene: &'a Scene,
    settings: Settings,
    lengths: Lengths,
    wanted: &Wanted<'a>,
    beside: &mut impl Observer,
) -> Result<Ran, SceneError> {
    let idle = settings.sleep_after.map_or(Idle::StaysUp, Idle::Sleeps);
    let scheduler = Scheduler::new(settings)?;
    let mut watch = Watch::new(scene, scheduler.fleet(), wanted);
    let asks = scheduler.asks_speeds();
    let arrivals = scene.arrivals(lengths, asks);
    let mut kernel = Kernel::new(scheduler, arrivals, scene.faults.iter().copied(), scene.profiles.clone());
    if let Some(sharing) = &scene.sharing {
        kernel = kernel.sharing(sharing.clone());
    }
    if let Some(caches) = &scene.caches {
        kernel = kernel.reading(caches.clone());
    }
    if let Some(every) = wanted.consolidate {
        kernel = kernel.consolidating(every, idle);
    }
    let mut replicas = Replicas::of(&scene.asked);
    let beside = &mut (&mut replicas, beside);
    kernel.open(&scene.opening, &mut (&mut watch, &mut *beside));
    if asks == Speed::Asked {
        kernel.open(&scene.known_of_jobs(), &mut (&mut watch, &mut *beside));
    }
    let stopped = kernel.run(wanted.until.unwrap_or(SimTime(u64::MAX)), &mut (&mut watch, &mut *beside));
    kernel.close(&mut (&mut watch, beside));
    let stuck = match stopped {
        Stopped::Stuck { jobs } => jobs,
        Stopped::Done | Stopped::Time => 0,
    };
    let digest = format!("{:016x}", kernel.scheduler().digest());
    let (outcome, chart) = watch.finish(kernel.now());
    let services = replicas.answers(&scene.asked);
    let (moved, data) = (kernel.moved(), kernel.fetched());
    Ok(Ran { outcome, chart, events: kernel.events(), digest, stuck, services, moved, data })
}

/// The settings of a scene's scheduler under `rules`, as a log's header has them.
pub fn settings(scene: &Scene, rules: &Rules) -> Settings {
    scene.settings(rules)
}
