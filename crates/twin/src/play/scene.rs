//! Nodes, jobs and faults of a run: from a trace with the cluster it brings, or from a log.

use std::collections::BTreeMap;

use dh_core::time::Span;
use dh_core::{HasKind, JobId, Kind, SimTime};
use dh_hall::scheduler::{self, Event, Gang, Grace, QueueRules, Settings, Submission};
use dh_policy::fleet::{ACCELERATORS_MAX, CLASSES_MAX, NodeFacts, Service};
use dh_policy::packing::{Request, WHOLE};
use dh_policy::placement::{Need, Rails, Speed};
use dh_policy::sharing::Iteration;

use super::asked::Asked;
use super::rules::{Lengths, Rules, Told};
use crate::curve::Curve;
use crate::kernel::{Arrival, Caches, Costs, Fate, Fault, Profile, Sharing, Work};
use crate::record::Header;
use crate::site::{Mix, PowerModel, Site};
use crate::trace::{Cluster, Fate as TraceFate, Trace, TraceJob};

/// Nodes of a group that stand together where a trace does not say which do.
const GROUP: u32 = 32;

/// Why a scene cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum SceneError {
    /// There are no nodes.
    #[error("the trace brings no cluster: give a blueprint")]
    NoNodes,
    /// Boxes are to be played, and no nodes make a torus.
    #[error("no nodes make a torus: give a blueprint with one")]
    NoTorus,
    /// There are no jobs.
    #[error("the trace has no jobs")]
    NoJobs,
    /// The trace does not say how long jobs run.
    #[error("the trace does not say how long its jobs run, such as job {0}")]
    NoLength(u64),
    /// A node has more accelerators, or the cluster more classes, than a fleet can tell apart.
    #[error(
        "a node has {accelerators} accelerators of {classes} classes; at most {ACCELERATORS_MAX} of {CLASSES_MAX} can be"
    )]
    Node {
        /// Its accelerators.
        accelerators: u32,
        /// Classes of the cluster.
        classes: usize,
    },
    /// Requests come to a service that is not there, or of which nothing is known.
    #[error("service `{0}`: {1}")]
    Service(String, &'static str),
    /// Jobs differ in more ways than profiles can tell apart.
    #[error("jobs have more than 65,535 different speeds")]
    Profiles,
    /// The blueprint's hall cannot be played.
    #[error(transparent)]
    Site(#[from] crate::site::Error),
    /// The scheduler refuses.
    #[error(transparent)]
    Settings(#[from] scheduler::Error),
}

impl HasKind for SceneError {
    fn kind(&self) -> Kind {
        Kind::Invalid
    }

    fn hint(&self) -> Option<String> {
        None
    }
}

/// What is played.
#[derive(Debug, Clone)]
pub struct Scene {
    /// What it is, in a few words.
    pub title: String,
    /// Nodes, tree and queues; policies are those of the rules.
    pub base: Settings,
    /// Jobs in order of time, as the scheduler would see them if it were told nothing of lengths.
    pub jobs: Vec<Arrival>,
    /// Limits that users gave, by place in `jobs`; empty if there are none.
    pub limits: Vec<Option<Span>>,
    /// Faults in order of time.
    pub faults: Vec<Fault>,
    /// What jobs of one kind have in common.
    pub profiles: Vec<Profile>,
    /// Names of queues.
    pub queues: Vec<String>,
    /// Names of classes of accelerators.
    pub classes: Vec<String>,
    /// What was assumed, in sentences.
    pub notes: Vec<String>,
    /// What the scheduler is told before anything happens: reserves, caps.
    pub opening: Vec<Event>,
    /// What nodes and work draw, if that is known.
    pub power: Option<PowerModel>,
    /// Work that draws other than fully, by job, in thousandths.
    pub loads: BTreeMap<u64, u32>,
    /// What jobs share, if that is known.
    pub sharing: Option<Sharing>,
    /// The price of energy, dollars per kWh.
    pub price: Option<Curve>,
    /// Its carbon, grams per kWh.
    pub carbon: Option<Curve>,
    /// Replicas of the blueprint's services.
    pub services: BTreeMap<String, Vec<JobId>>,
    /// Services with the requests that come to them.
    pub asked: Vec<Asked>,
    /// Data sets of jobs, and what reads and keeps them, if any job has one.
    pub caches: Option<Caches>,
    /// How often the scheduler is asked for plans of moves, if the blueprint wants them.
    pub moves: Option<Span>,
}

/// What is played on a blueprint's hall.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Accelerators that are asked for over those there are, on average.
    pub share: f64,
    /// How long jobs come.
    pub horizon: Span,
    /// Where chance comes from.
    pub seed: u64,
    /// The blueprint's own work that runs beside the jobs that are drawn.
    pub own: Own,
}

/// The blueprint's own work that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Own {
    /// Its trainings and its services.
    All,
    /// Its services.
    Services,
    /// None of it.
    Nothing,
}

impl Scene {
    /// A blueprint's hall, its own work, and jobs that are drawn up to the load that is wanted.
    /// # Errors
    /// If the hall cannot be played.
    pub fn of_site(
        blueprint: &dh_blueprint::Settings,
        plan: &dh_plan::Plan,
        site: &Site,
        load: Load,
    ) -> Result<Self, SceneError> {
        let all = site.own(blueprint, plan, load.horizon);
        let own = match load.own {
            Own::All => all,
            Own::Services | Own::Nothing => all.only_services(),
        };
        let mut scene = Self {
            title: format!("blueprint {}", site.name),
            base: site.settings.clone(),
            jobs: if load.own == Own::Nothing { Vec::new() } else { own.arrivals.clone() },
            limits: Vec::new(),
            faults: Vec::new(),
            profiles: own.profiles.clone(),
            queues: site.queues.iter().map(|queue| queue.name.clone()).collect(),
            classes: site.classes.iter().map(|class| class.name.clone()).collect(),
            notes: site.notes.iter().chain(&own.notes).cloned().collect(),
            opening: opening(site),
            power: Some(site.power.clone()),
            loads: own.loads.clone(),
            sharing: Some(own.sharing(site)),
            price: Some(site.price.clone()),
            carbon: site.carbon.clone(),
            services: if load.own == Own::Nothing { BTreeMap::new() } else { own.services.clone() },
            asked: Vec::new(),
            caches: own.caches(site).filter(|_| load.own == Own::All),
            moves: site.moves,
        };
        let until = SimTime(0).after(load.horizon);
        let mix = Mix::philly(load.seed, until).map(|mix| Mix { load: load.share, ..mix });
        let held = if load.own == Own::Nothing { 0 } else { own.mean(load.horizon) };
        match mix.map(|mix| site.mix(mix, held)).transpose()?.flatten() {
            Some(mixed) => scene.jobs.extend(mixed.arrivals(site, own.next())?),
            None => scene.notes.push(
                "the blueprint's own work alone asks for as much as was wanted: no other jobs are drawn".to_owned(),
            ),
        }
        if scene.jobs.is_empty() { Err(SceneError::NoJobs) } else { Ok(scene) }
    }

    /// A site on which nothing runs yet, for jobs that are added.
    pub(super) fn empty(site: &Site, costs: Costs) -> Self {
        Self {
            title: site.name.clone(),
            base: site.settings.clone(),
            jobs: Vec::new(),
            limits: Vec::new(),
            faults: Vec::new(),
            profiles: vec![Profile { costs, ..Profile::default() }],
            queues: site.queues.iter().map(|queue| queue.name.clone()).collect(),
            classes: site.classes.iter().map(|class| class.name.clone()).collect(),
            notes: site.notes.clone(),
            opening: opening(site),
            power: Some(site.power.clone()),
            loads: BTreeMap::new(),
            sharing: None,
            price: Some(site.price.clone()),
            carbon: site.carbon.clone(),
            services: BTreeMap::new(),
            asked: Vec::new(),
            caches: None,
            moves: site.moves,
        }
    }

    /// A trace on the cluster it brings, or on `nodes` with their tree if those are given.
    /// # Errors
    /// If there is no cluster, no job, or no length.
    pub fn of_trace(trace: &Trace, costs: Costs) -> Result<Self, SceneError> {
        let (levels, nodes) = nodes(&trace.cluster)?;
        let base = Settings {
            levels,
            nodes,
            queues: vec![QueueRules::default(); trace.queues.list().len().max(1)],
            ..Settings::default()
        };
        let mut scene = Self {
            title: format!("trace {}", trace.format),
            base,
            jobs: Vec::new(),
            limits: Vec::new(),
            faults: Vec::new(),
            profiles: vec![Profile { costs, ..Profile::default() }],
            queues: trace.queues.list().to_vec(),
            classes: trace.cluster.classes.clone(),
            notes: trace.notes.clone(),
            opening: Vec::new(),
            power: None,
            loads: BTreeMap::new(),
            sharing: None,
            price: None,
            carbon: None,
            services: BTreeMap::new(),
            asked: Vec::new(),
            caches: None,
            moves: None,
        };
        scene.add(trace, costs)?;
        Ok(scene)
    }

    /// What a log says that came and failed.
    pub fn of_log(header: &Header, jobs: Vec<Arrival>, faults: Vec<Fault>) -> Self {
        Self {
            title: "log".to_owned(),
            base: header.settings.clone(),
            jobs,
            limits: Vec::new(),
            faults,
            profiles: header.profiles.clone(),
            queues: header.queues.clone(),
            classes: Vec::new(),
            notes: Vec::new(),
            opening: Vec::new(),
            power: None,
            loads: BTreeMap::new(),
            sharing: None,
            price: None,
            carbon: None,
            services: BTreeMap::new(),
            asked: Vec::new(),
            caches: None,
            moves: None,
        }
    }

    /// Adds the jobs of a trace, whatever cluster it brings.
    /// # Errors
    /// If it has none, or one without a length.
    pub fn add(&mut self, trace: &Trace, costs: Costs) -> Result<(), SceneError> {
        if trace.jobs.is_empty() {
            return Err(SceneError::NoJobs);
        }
        let mut known = BTreeMap::new();
        let rated = self.rated(trace, costs)?;
        let limits = trace.jobs.iter().any(|job| job.limit().is_some());
        let first = self.jobs.iter().map(|job| job.submission.job.0).max().unwrap_or(0) + 1;
        let queues = self.base.queues.len();
        for (number, job) in (first..).zip(&trace.jobs) {
            let length = job.length().ok_or(SceneError::NoLength(job.id))?;
            let typed = trace.extra(job).and_then(|extra| rated.get(&extra.rated?)).copied();
            let profile = match typed {
                Some(profile) => profile,
                None => self.profile(trace, job, length, costs, &mut known)?,
            };
            let gang = gang(trace, job);
            let submission = Submission {
                job: JobId(number),
                gang,
                queue: if usize::from(job.queue.index()) < queues { job.queue.index() } else { 0 },
                priority: job.priority,
                length: None,
                attained: Span(0),
                // Who submits the same again runs about as long again.
                kind: job.user.or(job.model).map_or(0, |name| u32::from(name.index()) + 1),
                since: job.submit,
                deadline: trace.extra(job).and_then(|extra| extra.deadline),
            };
            let fate = match job.fate {
                TraceFate::Failed | TraceFate::Evicted | TraceFate::TimedOut => Fate::Failed,
                TraceFate::Cancelled => Fate::Cancelled,
                TraceFate::Unknown | TraceFate::Completed => Fate::Completed,
            };
            self.jobs.push(Arrival { at: job.submit, submission, work: Work { length, profile, fate } });
            if limits {
                self.limits.push(job.limit());
            }
        }
        self.jobs.sort_by_key(|job| job.at);
        Ok(())
    }

    /// The profile of each type that has rates.
    fn rated(&mut self, trace: &Trace, costs: Costs) -> Result<BTreeMap<u16, u16>, SceneError> {
        let first = self.profiles.len();
        let numbers = (first..).zip(trace.rated.keys());
        let of: Option<BTreeMap<u16, u16>> =
            numbers.map(|(number, of)| Some((*of, u16::try_from(number).ok()?))).collect();
        let of = of.ok_or(SceneError::Profiles)?;
        for rated in trace.rated.values() {
            let beside = rated.beside.iter().filter_map(|(other, speeds)| Some((*of.get(other)?, speeds.clone())));
            let beside = beside.collect();
            self.profiles.push(Profile { speeds: rated.speeds.clone(), costs, beside, iteration: None });
        }
        Ok(of)
    }

    /// The profile of a job that runs at other speeds on other accelerators.
    fn profile(
        &mut self,
        trace: &Trace,
        job: &TraceJob,
        length: Span,
        costs: Costs,
        known: &mut BTreeMap<(Vec<u32>, Option<Iteration>), u16>,
    ) -> Result<u16, SceneError> {
        let on = trace.extra(job).map(|extra| extra.on_classes.as_slice()).unwrap_or_default();
        let iteration = trace.extra(job).and_then(|extra| extra.stages).map(|stages| stages.iteration());
        if on.is_empty() && iteration.is_none() {
            return Ok(0);
        }
        let mut speeds = if on.is_empty() { Vec::new() } else { vec![1_000_000; trace.cluster.classes.len()] };
        for one in on {
            let speed = u128::from(length.0) * 1_000_000 / u128::from(one.length.0.max(1));
            if let Some(place) = speeds.get_mut(usize::from(one.class)) {
                *place = u32::try_from(speed).unwrap_or(u32::MAX);
            }
        }
        let key = (speeds.clone(), iteration);
        if let Some(profile) = known.get(&key) {
            return Ok(*profile);
        }
        let profile = u16::try_from(self.profiles.len()).map_err(|_| SceneError::Profiles)?;
        self.profiles.push(Profile { speeds, costs, iteration, ..Profile::default() });
        known.insert(key, profile);
        Ok(profile)
    }

    /// The scheduler's settings under `rules`.
    pub fn settings(&self, rules: &Rules) -> Settings {
        let mut settings = self.base.clone();
        rules.apply(&mut settings);
        settings
    }

    /// How fast jobs of each profile run on each class: a gang names the number of its profile, and one.
    fn speeds(&self) -> Vec<Event> {
        let told = (1..).zip(&self.profiles).filter(|(_, profile)| !profile.speeds.is_empty());
        told.map(|(id, profile)| Event::Speeds { id, speeds: profile.speeds.clone() }).collect()
    }

    /// The same, and what they are like to others on the same accelerators.
    pub(super) fn known_of_jobs(&self) -> Vec<Event> {
        let mut events = self.speeds();
        for (id, profile) in (1..).zip(&self.profiles) {
            if profile.iteration.is_some() {
                events.push(Event::Iteration { id, iteration: profile.iteration });
            }
            let pairs = profile.beside.iter().map(|(other, speeds)| (other.saturating_add(1), speeds.clone()));
            events.extend(pairs.map(|(other, speeds)| Event::Beside { id, other, speeds }));
        }
        events
    }

    /// The jobs as they come, with what the scheduler is told of their lengths, and of their speeds if it asks.
    pub fn arrivals(&self, lengths: Lengths, asks: Speed) -> impl Iterator<Item = Arrival> {
        self.jobs.iter().enumerate().map(move |(at, arrival)| {
            let limit = || self.limits.get(at).copied().flatten();
            let length = match lengths {
                Lengths::Limits => limit().or(arrival.submission.length),
                Lengths::Exact => Some(arrival.work.length),
                Lengths::Unknown => None,
            };
            let speeds = match asks {
                Speed::Asked => arrival.work.profile.saturating_add(1),
                Speed::Ignored => 0,
            };
            let gang = Gang { speeds, ..arrival.submission.gang };
            Arrival { submission: Submission { length, gang, ..arrival.submission }, ..*arrival }
        })
    }

    /// Whether the scheduler is told how long any job runs.
    pub fn told(&self, lengths: Lengths) -> Told {
        let tells = self.arrivals(lengths, Speed::Ignored).any(|arrival| arrival.submission.length.is_some());
        if tells { Told::Something } else { Told::Nothing }
    }

    /// Accelerators of all nodes.
    pub fn accelerators(&self) -> u64 {
        self.base.nodes.iter().map(|node| u64::from(node.accelerators)).sum()
    }
}

/// What a site's scheduler is told first.
fn opening(site: &Site) -> Vec<Event> {
    let spares = site.spares.iter().map(|node| Event::Node { node: *node, service: Service::Spare });
    spares.chain(site.cap.map(|watts| Event::PowerCap { watts: Some(watts) })).collect()
}

/// The nodes of a cluster, and the names of its levels.
fn nodes(cluster: &Cluster) -> Result<(Vec<String>, Vec<NodeFacts>), SceneError> {
    let (level, size) = match cluster.rack_nodes {
        Some(nodes) => ("rack", nodes.max(1)),
        None => ("group", GROUP),
    };
    // What a trace does not know does not limit.
    let known = |amount: u32| if amount == 0 { u32::MAX } else { amount };
    let mut nodes = Vec::new();
    for group in &cluster.nodes {
        let class = group.class.unwrap_or(0);
        let accelerators = u8::try_from(group.accelerators).ok().filter(|count| *count <= ACCELERATORS_MAX);
        let (Some(accelerators), true) = (accelerators, usize::from(class) < CLASSES_MAX) else {
            return Err(SceneError::Node { accelerators: group.accelerators, classes: cluster.classes.len() });
        };
        for _ in 0..group.count {
            let number = u32::try_from(nodes.len()).unwrap_or(u32::MAX);
            nodes.push(NodeFacts {
                class,
                accelerators,
                cpu_milli: known(group.cpu_milli),
                memory_mib: known(group.memory_mib),
                path: vec![number / size],
            });
        }
    }
    if nodes.is_empty() { Err(SceneError::NoNodes) } else { Ok((vec![level.to_owned()], nodes)) }
}

/// What a job of a trace asks for.
fn gang(trace: &Trace, job: &TraceJob) -> Gang {
    let asked = &job.gang;
    let whole = asked.per_rank_milli / u32::from(WHOLE);
    let (accelerators, milli) = match whole {
        0 if asked.per_rank_milli == 0 => (0, WHOLE),
        0 => (1, u16::try_from(asked.per_rank_milli).unwrap_or(WHOLE)),
        count => (u8::try_from(count).unwrap_or(u8::MAX), WHOLE),
    };
    let rank = Request {
        cpu_milli: asked.cpu_milli,
        memory_mib: asked.memory_mib,
        accelerators,
        milli,
        models: asked.classes,
    };
    let elastic = trace.extra(job).and_then(|extra| extra.elastic);
    let (ranks, least_ranks) = elastic.map_or((asked.ranks, asked.ranks), |elastic| (elastic.most, elastic.least));
    Gang {
        need: Need { ranks: ranks.max(1), rank, within: 0, rails: Rails::Any },
        least_ranks: least_ranks.clamp(1, ranks.max(1)),
        speeds: 0,
        dataset: None,
        rank_watts: 0,
        grace: Grace::Preemptible,
    }
}
