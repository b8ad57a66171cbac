//! From a blueprint and its plan to a hall that can be simulated: nodes, queues, power, failures, work.
//!
//! Every number is the plan's, the blueprint's or the catalogue's; what none of them says is a stated assumption beside its
//! constant, and what is not modelled is in [`Site::notes`]. Invariant: pure; the same settings, plan and seed give the same
//! hall and the same work. Cost: some hundred bytes a node.

mod data;
mod error;
mod faults;
mod mix;
mod power;
mod profiles;
mod rules;
mod shapes;
mod shared;
mod work;

use dh_blueprint::{Origins, Settings};
use dh_core::time::{SimTime, Span};
use dh_core::{JobId, NodeId};
use dh_hall::layout;
use dh_hall::scheduler::{Event, Gang, Grace, Scheduler, Submission};
use dh_plan::Plan;
use dh_policy::fleet::Service;
use dh_policy::packing::{Request, WHOLE};
use dh_policy::placement::{Need, Rails};

use crate::curve::{Curve, Of};
use crate::kernel::{Arrival, Caches, Fate, Resource, Work};
use crate::trace::TraceJob;

pub use dh_hall::layout::Class;
pub use error::Error;
pub use faults::{Faults, Outages};
pub use mix::{Mix, Mixed};
pub use power::{Drawn, Metered, PowerModel};
pub use profiles::Profiles;
pub use rules::Queue;
pub(crate) use shapes::box_of;
pub use work::Own;

/// A hall that can be simulated.
#[derive(Debug, Clone, PartialEq)]
pub struct Site {
    /// Its name.
    pub name: String,
    /// What the scheduler is made of, its policies as the blueprint says; a caller may change them.
    pub settings: dh_hall::scheduler::Settings,
    /// Names of nodes, by [`NodeId`].
    pub nodes: Vec<String>,
    /// Classes of accelerators, by number.
    pub classes: Vec<Class>,
    /// Queues, by number.
    pub queues: Vec<Queue>,
    /// Nodes that the blueprint keeps in reserve.
    pub spares: Vec<NodeId>,
    /// What running gangs may draw on top of idle nodes, watts; none is no limit.
    pub cap: Option<u64>,
    /// What is drawn when.
    pub power: PowerModel,
    /// Price of electricity; flat unless the caller has a curve.
    pub price: Curve,
    /// Its carbon, where the blueprint knows it.
    pub carbon: Option<Curve>,
    /// Stores and uplinks that jobs share.
    pub resources: Vec<Resource>,
    /// What nodes read of data sets, and keep.
    pub caches: Caches,
    /// How often plans of moves are made, if the blueprint wants them.
    pub moves: Option<Span>,
    /// What was assumed or is not modelled, in sentences.
    pub notes: Vec<String>,
    /// Nodes of a rack and of a block, of the largest pool.
    together: layout::Together,
}

/// What a trace or a generator does not know of a job: what it is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entered {
    /// Its number here; never used twice.
    pub job: JobId,
    /// The place of its queue in [`Site::queues`].
    pub queue: u16,
    /// The place of its profile.
    pub profile: u16,
    /// Its length where the trace knows none.
    pub length: Span,
}

impl Site {
    /// The hall that `settings` describe, planned first.
    /// # Errors
    /// [`Error`] if it cannot be planned, or cannot be simulated: see [`Site::of`].
    pub fn from_blueprint(settings: &Settings, origins: &Origins) -> Result<Self, Error> {
        Self::of(settings, &dh_plan::plan(settings, origins)?)
    }

    /// The hall of a plan.
    /// # Errors
    /// [`Error`] if it has no accelerators, more classes, slots or queues than a scheduler takes, or a price that none is.
    pub fn of(settings: &Settings, plan: &Plan) -> Result<Self, Error> {
        let mut notes = Vec::new();
        let drafted = layout::layout(settings, plan.standing(), &mut notes)?;
        if drafted.spares.is_empty()
            && let Some(wanted) = plan.failures.as_ref().map(|failures| failures.spares).filter(|spares| *spares > 0)
        {
            notes.push(format!("no node is kept in reserve; the failure rates want {wanted}"));
        }
        let power = power::model(settings, plan, &drafted, &mut notes);
        let (queues, rules) = rules::queues(settings, &mut notes)?;
        let main = plan.pools.iter().filter(|pool| pool.accelerators > 0).max_by_key(|pool| pool.nodes);
        let site = main.and_then(|pool| settings.sites.get(&pool.site)).or_else(|| settings.sites.values().next());
        if settings.sites.len() > 1 {
            notes.push("price and carbon are those of the site with the largest pool".to_owned());
        }
        let price = Curve::flat(Of::UsdPerKwh, site.map_or(0.0, |site| site.price.0))?;
        let carbon =
            site.and_then(|site| site.carbon).map(|grams| Curve::flat(Of::GramsPerKwh, grams.0)).transpose()?;
        let cap = settings.policy.power_cap.map(|cap| power.left_under(cap, &mut notes));
        let resources = shared::resources(settings, plan, &drafted, &mut notes);
        let caches = data::caches(settings, plan, &drafted, &mut notes);
        let names = drafted
            .pools
            .iter()
            .zip(&drafted.numbers)
            .filter_map(|(pool, number)| plan.pools.get(*pool).map(|pool| format!("{}-{}", pool.name, number + 1)));
        let names = names.collect();
        let made = dh_hall::scheduler::Settings {
            levels: layout::LEVELS.map(str::to_owned).to_vec(),
            nodes: drafted.facts,
            tori: drafted.tori,
            queues: rules,
            ..dh_hall::rules::settings(&settings.policy.scheduling)
        };
        Ok(Self {
            name: plan.name.clone(),
            settings: made,
            nodes: names,
            classes: drafted.classes,
            queues,
            spares: drafted.spares,
            cap,
            power,
            price,
            carbon,
            resources,
            caches,
            moves: dh_hall::rules::moves(&settings.policy.scheduling),
            notes,
            together: drafted.together,
        })
    }

    /// A scheduler of this hall, told of its reserve and its power cap.
    /// # Errors
    /// [`Error::Scheduler`] if it refuses the settings.
    pub fn scheduler(&self) -> Result<Scheduler, Error> {
        let mut scheduler = Scheduler::new(self.settings.clone())?;
        let mut actions = Vec::new();
        for node in &self.spares {
            scheduler.step(SimTime(0), &Event::Node { node: *node, service: Service::Spare }, &mut actions);
        }
        if self.cap.is_some() {
            scheduler.step(SimTime(0), &Event::PowerCap { watts: self.cap }, &mut actions);
        }
        Ok(scheduler)
    }

    /// Accelerators that jobs may have: all but those in reserve.
    pub fn accelerators(&self) -> u64 {
        let all: u64 = self.settings.nodes.iter().map(|node| u64::from(node.accelerators)).sum();
        let reserved: u64 = self.spares.iter().map(|node| self.slots(*node)).sum();
        all.saturating_sub(reserved)
    }

    fn slots(&self, node: NodeId) -> u64 {
        let facts = usize::try_from(node.0).ok().and_then(|at| self.settings.nodes.get(at));
        facts.map_or(0, |facts| u64::from(facts.accelerators))
    }

    /// The place of the queue called `name`.
    pub fn queue(&self, name: &str) -> Option<u16> {
        self.queues.iter().position(|queue| queue.name == name).and_then(|at| u16::try_from(at).ok())
    }

    /// The place of the class called `name`.
    pub fn class(&self, name: &str) -> Option<u8> {
        self.classes.iter().position(|class| class.name == name).and_then(|at| u8::try_from(at).ok())
    }

    /// Speeds of a profile, in millionths, of work that takes so long on each class; none where it is not known, which
    /// counts as the peak speeds of accelerators have it.
    pub fn speeds(&self, lengths: &[Option<Span>]) -> Vec<u32> {
        let fastest = lengths.iter().flatten().map(|length| length.0).filter(|length| *length > 0).min();
        let of = |(place, class): (usize, &Class)| match (fastest, lengths.get(place).copied().flatten()) {
            (Some(fastest), Some(length)) if length.0 > 0 => {
                u32::try_from(u128::from(fastest) * 1_000_000 / u128::from(length.0)).unwrap_or(1_000_000)
            }
            (_, _) => class.speed,
        };
        self.classes.iter().enumerate().map(of).collect()
    }

    /// What a rank with so many accelerators draws on top of an idle node, watts, rounded up; on the class that draws most.
    pub fn rank_watts(&self, accelerators: u8, milli: u16) -> u32 {
        self.power.rank_watts(accelerators, milli)
    }

    /// A job of a trace or a generator as it arrives here. What the scheduler is told of its length is its limit.
    /// Its classes count as the hall's: of a trace that numbers them otherwise, [`Profiles::models`] makes them so first.
    pub fn arrival(&self, job: &TraceJob, entered: Entered) -> Arrival {
        let gang = job.gang;
        let whole = gang.per_rank_milli.div_ceil(1000);
        let accelerators = u8::try_from(whole).unwrap_or(u8::MAX);
        let milli = if gang.per_rank_milli < 1000 { gang.per_rank_milli } else { u32::from(WHOLE) };
        let milli = u16::try_from(milli).unwrap_or(WHOLE);
        let rank = Request {
            cpu_milli: gang.cpu_milli,
            memory_mib: gang.memory_mib,
            accelerators,
            milli,
            models: gang.classes,
        };
        let most = self.queues.get(usize::from(entered.queue)).and_then(|queue| queue.limit);
        let bound = |length: Span| most.map_or(length, |most| length.min(most));
        let length = bound(job.length().unwrap_or(entered.length));
        let submission = Submission {
            job: entered.job,
            gang: Gang {
                need: Need { ranks: gang.ranks, rank, within: 0, rails: Rails::Any },
                least_ranks: gang.ranks,
                speeds: 0,
                dataset: None,
                rank_watts: self.rank_watts(accelerators, milli),
                grace: Grace::Preemptible,
            },
            queue: entered.queue,
            priority: job.priority,
            length: job.limit().or(most).map(bound),
            attained: Span(0),
            kind: 0,
            since: job.submit,
            deadline: None,
        };
        Arrival { at: job.submit, submission, work: Work { length, profile: entered.profile, fate: Fate::Completed } }
    }
}

/// Seconds as a span.
fn span(seconds: dh_units::Seconds) -> Span {
    Span(dh_units::whole((seconds.0 * 1e9).clamp(0.0, 9e18)))
}
