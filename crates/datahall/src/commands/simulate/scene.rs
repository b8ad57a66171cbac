//! What is played: jobs of a trace, on the cluster that it brings, with the faults that were asked for.

use std::path::{Path, PathBuf};

use clap::Args;
use dh_blueprint::Settings;
use dh_core::time::Span;
use dh_core::{Kind, NodeId, SimTime};
use dh_policy::fleet::Service;
use dh_twin::generate::{Cause, Durations, Effect, Failures, Law, Part, Sites};
use dh_twin::kernel::{Caches, Costs, Fault};
use dh_twin::play::{Datasets, Load, Own, Scene};
use dh_twin::site::{Outages, Site};
use dh_twin::trace::{self, FORMATS, Options};
use dh_units::{Bytes, BytesPerSec, Seconds, whole};

use super::requests::Ask;
use crate::blueprint_file;
use crate::commands::Globals;
use crate::commands::plan::planned;
use crate::failure::Failure;
use crate::trace_file;

/// What stops, starts and faults cost and how often they come.
#[derive(Debug, Clone, Args)]
pub(super) struct World {
    /// Jobs to play: a published trace, a log in the Standard Workload Format, or what `sacct -P` prints; may be gzipped
    #[arg(long, value_name = "FILE")]
    pub(super) trace: Option<PathBuf>,
    /// The trace's format, if its first line does not tell: philly, muri, sia, crux, pai-deadlines, openb, sacct, swf, ...
    #[arg(long, value_name = "FORMAT", requires = "trace")]
    format: Option<String>,
    /// The trace's nodes, for formats that have a second file
    #[arg(long, value_name = "FILE", requires = "trace")]
    nodes: Option<PathBuf>,
    /// Gavel's table of throughputs: how fast each job of the trace runs on each class of accelerators, and beside another
    #[arg(long, value_name = "FILE", requires = "trace", conflicts_with = "blueprint")]
    throughputs: Option<PathBuf>,
    /// The workload, for traces that hold several
    #[arg(long, value_name = "NUMBER", requires = "trace")]
    workload: Option<u32>,
    /// Time from the start of a gang to its first step
    #[arg(long, value_name = "TIME", default_value = "0 s", value_parser = span)]
    launch: Span,
    /// The same after a stop: what was saved is loaded
    #[arg(long, value_name = "TIME", default_value = "0 s", value_parser = span)]
    restart: Span,
    /// Time to save a gang's work when it is told to stop
    #[arg(long, value_name = "TIME", default_value = "0 s", value_parser = span)]
    save: Span,
    /// How often work is saved while it runs; a fault loses what came after
    #[arg(long, value_name = "TIME", default_value = "30 min", value_parser = span)]
    checkpoint_every: Span,
    /// Mean time between failures of one node; without it nodes do not fail
    #[arg(long, value_name = "TIME", value_parser = span)]
    mtbf: Option<Span>,
    /// Nodes of a blueprint's hall do not fail
    #[arg(long, conflicts_with = "mtbf")]
    no_faults: bool,
    /// How long jobs come to a blueprint's hall
    #[arg(long, value_name = "DAYS", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=3660), conflicts_with = "trace")]
    days: u32,
    /// Accelerators that are asked for over those there are, percent: jobs are drawn up to this load
    #[arg(long, value_name = "PERCENT", default_value_t = 80, value_parser = clap::value_parser!(u32).range(1..=1000), conflicts_with = "trace")]
    load: u32,
    /// Of the blueprint's own work play the services, not the trainings
    #[arg(long, conflicts_with = "trace")]
    services_only: bool,
    /// Batch jobs read one of so many data sets, popular ones more often; a node keeps what it read in its drives
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    datasets: Option<u32>,
    /// What each of these data sets takes
    #[arg(long, value_name = "SIZE", default_value = "1 TB", requires = "datasets")]
    dataset_size: Bytes,
    /// What the drives of a node keep; without it, as the catalogue says of the blueprint's nodes
    #[arg(long, value_name = "SIZE", requires = "datasets")]
    node_cache: Option<Bytes>,
    /// What the store gives all nodes together; without it, as the plan of the blueprint says
    #[arg(long, value_name = "RATE", requires = "datasets")]
    store_read: Option<BytesPerSec>,
    /// Median time until a failed node is back
    #[arg(long, value_name = "TIME", default_value = "2 h", value_parser = span)]
    repair: Span,
}

pub(in crate::commands) fn span(text: &str) -> Result<Span, String> {
    let seconds: Seconds = text.parse().map_err(|error| format!("{error}; a time is written like `30 min`"))?;
    if !(0.0..=1e10).contains(&seconds.0) {
        return Err("expected a time from 0 to some hundred years".to_owned());
    }
    Ok(Span(dh_units::whole(seconds.0 * 1e9)))
}

impl World {
    /// Whether a trace alone has anything to draw.
    pub(super) fn draws(&self) -> bool {
        self.mtbf.is_some()
    }

    pub(super) fn costs(&self) -> Costs {
        Costs { launch: self.launch, restart: self.restart, save: self.save, checkpoint_every: self.checkpoint_every }
    }

    /// The trace as a scene without faults.
    pub(super) fn scene(&self, file: &Path) -> Result<Scene, Failure> {
        Ok(Scene::of_trace(&self.read(file)?, self.costs())?)
    }

    /// Jobs of the scene read data sets, if that was asked for.
    pub(super) fn data(&self, known: Option<&Caches>, seed: u64, scene: &mut Scene) -> Result<(), Failure> {
        let Some(count) = self.datasets else { return Ok(()) };
        let nodes = scene.base.nodes.len();
        let mut caches = known.cloned().unwrap_or_default();
        match self.node_cache {
            Some(size) => caches.keep = vec![size.0; nodes],
            None if caches.keep.iter().all(|keep| *keep == 0) => {
                let why = "nobody says what the drives of these nodes keep";
                return Err(Failure::new(Kind::Invalid, why).hint("say it with `--node-cache '30 TB'`"));
            }
            None => {}
        }
        if let Some(rate) = self.store_read {
            caches.store = whole(rate.0);
        }
        if caches.store == 0 && caches.take.iter().all(|take| *take == 0) {
            let why = "nobody says how fast the store of this hall is";
            return Err(Failure::new(Kind::Invalid, why).hint("say it with `--store-read '100 GB/s'`"));
        }
        scene.read(Datasets { count, size: self.dataset_size.0, seed }, caches);
        Ok(())
    }

    pub(super) fn read(&self, file: &Path) -> Result<trace::Trace, Failure> {
        let text = trace_file::read(file)?;
        let shown = file.display().to_string();
        let format = match &self.format {
            None => trace::sniff(&text, &shown)?,
            Some(name) => trace::by_name(name).ok_or_else(|| {
                let known: Vec<&str> = FORMATS.iter().map(|format| format.name()).collect();
                Failure::new(Kind::NotFound, format!("there is no trace format `{name}`"))
                    .hint(format!("there is {}", known.join(", ")))
            })?,
        };
        let nodes = self.nodes.as_deref().map(trace_file::read).transpose()?;
        let options = Options { file: &shown, nodes: nodes.as_deref(), workload: self.workload, ..Options::default() };
        let mut read = trace::read(format, &text, options)?;
        if let Some(table) = &self.throughputs {
            let shown = table.display().to_string();
            read.rate(&trace::Throughputs::read(&trace_file::read(table)?, &shown)?);
        }
        Ok(read)
    }

    /// The faults of one seed on a scene's nodes, as long as its jobs could take.
    pub(super) fn faults(&self, scene: &Scene, seed: u64) -> Result<Vec<Fault>, Failure> {
        let Some(mtbf) = self.mtbf else { return Ok(scene.faults.clone()) };
        let nodes = u32::try_from(scene.base.nodes.len()).unwrap_or(u32::MAX);
        let sites = Sites { nodes, rack: 16, feed: 256, switch: 16 };
        let cause = Cause {
            name: "node".to_owned(),
            part: Part::Node,
            between: mtbf,
            law: Law::Exponential,
            repair: Durations::LogNormal {
                median: self.repair,
                sigma: 1.0,
                longest: Span(self.repair.0.saturating_mul(50)),
            },
            effect: Effect::Down,
            lemons: None,
        };
        let failures = Failures::new(sites, vec![cause], None, seed)
            .map_err(|error| Failure::new(Kind::Invalid, format!("--mtbf, --repair: {error}")))?;
        // Jobs may take longer than they were submitted over: ten times as long covers any hall that keeps up.
        let last = scene.jobs.last().map_or(SimTime(0), |job| job.at);
        let longest = scene.jobs.iter().map(|job| job.work.length).max().unwrap_or_default();
        let until = SimTime(last.0.saturating_mul(2)).after(Span(longest.0.saturating_mul(10)));
        let mut faults = Vec::new();
        for outage in failures.take_while(|outage| outage.at < until).take(FAULTS_MAX) {
            for node in sites.nodes(outage.scope) {
                let node = NodeId(node);
                faults.push(Fault { at: outage.at, node, service: Service::Down });
                faults.push(Fault { at: outage.until, node, service: Service::Up });
            }
        }
        faults.sort_by_key(|fault| fault.at);
        Ok(faults)
    }
}

/// A blueprint's hall, read and planned once.
pub(super) struct Hall {
    settings: Settings,
    plan: dh_plan::Plan,
    site: Site,
}

impl Hall {
    pub(super) fn read(path: &Path, globals: &Globals) -> Result<Self, Failure> {
        let (settings, origins) = blueprint_file::load_with_origins(path)?;
        let plan = planned(&settings, &origins, globals)?;
        let site = Site::of(&settings, &plan)?;
        Ok(Self { settings, plan, site })
    }

    /// What is played with one seed: the jobs of a trace, or drawn ones beside the blueprint's own work; and faults at the
    /// rates that the plan counts with.
    pub(super) fn scene(&self, world: &World, ask: &Ask, trace: Option<&Path>, seed: u64) -> Result<Scene, Failure> {
        let own = match (trace, world.services_only) {
            (Some(_), _) => Own::Nothing,
            (None, true) => Own::Services,
            (None, false) => Own::All,
        };
        let share = if trace.is_some() { 0.000_001 } else { f64::from(world.load) / 100.0 };
        let load = Load { share, horizon: Span::from_secs(u64::from(world.days) * 86_400), seed, own };
        let mut scene = Scene::of_site(&self.settings, &self.plan, &self.site, load)?;
        if let Some(file) = trace {
            scene.jobs.clear();
            scene.add(&world.read(file)?, world.costs())?;
        }
        world.data(Some(&self.site.caches), seed, &mut scene)?;
        ask.put(&self.settings, &self.plan, (world.days, seed), &mut scene)?;
        if world.mtbf.is_some() {
            scene.faults = world.faults(&scene, seed)?;
        } else if !world.no_faults {
            let last = scene.jobs.iter().map(|job| job.at.after(job.work.length)).max().unwrap_or(SimTime(0));
            let until = SimTime(last.0.saturating_mul(2));
            let faults = self.site.faults(&self.plan, Outages::default(), seed)?;
            scene.faults = faults.take_while(|fault| fault.at < until).take(FAULTS_MAX).collect();
        }
        Ok(scene)
    }
}

/// Outages of one run, at most: a bound on memory.
const FAULTS_MAX: usize = 5_000_000;
