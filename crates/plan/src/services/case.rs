//! From a service of the blueprint to the question that the search answers.
//!
//! Invariant: nothing is guessed: what the catalogue does not know of a model or an accelerator is said.

use dh_blueprint::{AcceleratorItem, CacheFormat, ModelItem, Role, Service, ServiceSource, WeightFormat};
use dh_perf::architecture::Architecture;
use dh_perf::collectives::ScaleOutProfile;
use dh_perf::deploy::{self, Answer, Case, Choice, Degrees, Demand, Formats, Space, Speed, Split, Worth};
use dh_perf::hardware::{Accelerator, Format, Machine, Network};
use dh_perf::{power, serving};
use dh_units::{BitsPerSec, BytesPerSec, UsdPerHour, Value, Watts, real};

use super::Hall;
use crate::book::Book;
use crate::networks::{Counting, EndOf, NetworkPlan};
use crate::pools::PoolPlan;

/// Why there is no question.
pub(super) enum Why {
    /// Something is not known.
    Unknown(String),
    /// Something cannot be.
    Missed(String),
}

/// A question with all that it is about.
pub(super) struct Ready {
    pub(super) name: String,
    pub(super) model: String,
    pub(super) pool: String,
    /// The network between the pool's nodes.
    pub(super) network: Option<String>,
    /// Accelerators of the pool.
    pub(super) pool_accelerators: u64,
    pub(super) shape: Architecture,
    pub(super) machine: Machine,
    pub(super) profile: serving::Profile,
    pub(super) engine: &'static str,
    pub(super) demand: Demand,
    pub(super) space: Space,
    pub(super) worth: Worth,
    /// Formats that the accelerator has, with their words.
    pub(super) weights: Vec<(WeightFormat, Formats)>,
}

impl Ready {
    /// What the search finds in `space`.
    pub(super) fn search(&self, space: &Space) -> Result<Answer, dh_perf::Error> {
        deploy::search(&self.case(space))
    }

    /// How fast one replica of a choice is.
    pub(super) fn speeds(&self, choice: &Choice) -> Vec<Speed> {
        deploy::speeds(&self.case(&self.space), choice)
    }

    fn case<'a>(&'a self, space: &'a Space) -> Case<'a> {
        Case {
            shape: &self.shape,
            machine: &self.machine,
            profile: &self.profile,
            engine: self.engine,
            demand: self.demand,
            space,
            worth: &self.worth,
        }
    }
}

/// The question that a service on `pool` asks.
pub(super) fn ready(
    book: &Book<'_>,
    name: &str,
    service: &Service,
    pool: Option<&PoolPlan>,
    hall: Hall<'_>,
) -> Result<Ready, Why> {
    let unknown = |why: String| Err(Why::Unknown(why));
    let model = match model(book, service) {
        Ok(model) => model,
        Err(why) => return unknown(why),
    };
    let Some(pool) = pool else { return unknown("the hall has no pool that is known".to_owned()) };
    if pool.accelerators == 0 {
        return if pool.item.accelerators.is_none() {
            unknown(format!(
                "the catalogue does not know the accelerators of pool `{}`: the machine is asked when the hall runs",
                pool.name
            ))
        } else {
            Err(Why::Missed(format!("pool `{}` has no accelerators", pool.name)))
        };
    }
    let Some(item) = pool.accelerator_item(book) else {
        return unknown(format!("the catalogue does not know the accelerators of pool `{}`", pool.name));
    };
    let accelerator = match Accelerator::of(item) {
        Ok(accelerator) => accelerator,
        Err(error) => return unknown(format!("{}: {error}", item.name)),
    };
    let shape = Architecture::from(model);
    if shape.encoder {
        return unknown(format!("{} reads and does not answer; the model of serving is of models that do", model.name));
    }
    let weights = formats(service, item, &accelerator);
    let wanted = service.precision.unwrap_or(WeightFormat::Bf16);
    let Some((_, chosen)) = weights.iter().find(|(format, _)| *format == wanted) else {
        let there: Vec<&str> = weights.iter().map(|(format, _)| format.word()).collect();
        let why = format!("{} does not compute in {}; it does in {}", item.name, wanted.word(), there.join(", "));
        return Err(Why::Missed(why));
    };
    let engine = service.engine.map_or("", dh_blueprint::ServingEngine::word);
    let catalog = &book.settings.catalog;
    let network = network(book, pool, hall).unzip();
    Ok(Ready {
        network: network.0,
        name: name.to_owned(),
        model: model.name.clone(),
        pool: pool.name.clone(),
        pool_accelerators: pool.accelerators,
        shape,
        profile: serving::Profile::of(catalog, &item.name, engine),
        engine,
        demand: demand(service),
        space: space(book, name, service, pool, *chosen),
        worth: worth(book, pool, item),
        machine: Machine::new(accelerator, network.1),
        weights,
    })
}

fn model<'s>(book: &Book<'s>, service: &Service) -> Result<&'s ModelItem, String> {
    let name = match &service.source {
        ServiceSource::Model(model) => model.clone(),
        ServiceSource::Workload(workload) => super::pretrained(book, workload)
            .ok_or_else(|| format!("workload `{workload}` trains a model that the catalogue does not have"))?,
        ServiceSource::Url(_) => return Err("the accelerators of an engine at a URL are not known".to_owned()),
    };
    book.settings.catalog.model(&name).ok_or_else(|| format!("the catalogue has no model {name}"))
}

/// Formats of weights that the accelerator has, each with the cache that the service wants.
fn formats(service: &Service, item: &AcceleratorItem, accelerator: &Accelerator) -> Vec<(WeightFormat, Formats)> {
    let cache_bytes = match service.cache_precision.unwrap_or(CacheFormat::Bf16) {
        CacheFormat::Bf16 => Format::Bf16.bytes(),
        CacheFormat::Fp8 => Format::Fp8.bytes(),
    };
    let of = |(_, weights): (&str, WeightFormat)| {
        let (products, weight_bytes, there) = match weights {
            WeightFormat::Bf16 => (Format::Bf16, Format::Bf16.bytes(), true),
            WeightFormat::Fp8 => (Format::Fp8, Format::Fp8.bytes(), true),
            WeightFormat::Fp4 => (Format::Fp4, Format::Fp4.bytes(), true),
            // Stated assumption: weights of 8-bit whole numbers are widened before 16-bit products, as engines do where
            // activations are not quantised.
            WeightFormat::Int8 => (Format::Bf16, 1.0, item.int8.is_some()),
        };
        let there = there && accelerator.peak(products).is_some();
        there.then_some((weights, Formats { products, weight_bytes, cache_bytes }))
    };
    WeightFormat::ALL.into_iter().filter_map(of).collect()
}

fn demand(service: &Service) -> Demand {
    Demand {
        rate: service.requests_per_second,
        input: service.input.as_f64(),
        output: service.output.as_f64(),
        prefix_hit: service.prefix_hit,
        accepted: service.accepted_tokens,
        ttft: service.ttft_p99,
        tpot: service.tpot_p99,
    }
}

fn space(book: &Book<'_>, name: &str, service: &Service, pool: &PoolPlan, formats: Formats) -> Space {
    let written = |key: &str| book.written(&format!("service.{name}.{key}"));
    let degrees = service.layout.map(|layout| Degrees {
        pp: layout.pp.into(),
        tp: layout.tp.into(),
        ep: layout.ep.into(),
        attention_replicas: u64::from(layout.ep.max(layout.tp) / layout.tp.max(1)),
    });
    let slots = written("slots_per_replica") && degrees.is_none();
    let replicas = written("replicas") || service.requests_per_second.is_none();
    Space {
        formats: vec![formats],
        degrees,
        size: slots.then(|| service.slots_per_replica.into()),
        replicas: replicas.then(|| service.replicas.into()),
        accelerators: service.max_accelerators.map_or(pool.accelerators, |most| pool.accelerators.min(most.into())),
        node: pool.accelerators_per_node.into(),
        split: match service.disaggregated {
            None => Split::IfFewer,
            Some(true) => Split::Always,
            Some(false) => Split::Never,
        },
    }
}

fn worth(book: &Book<'_>, pool: &PoolPlan, item: &AcceleratorItem) -> Worth {
    let hour = book.ledger.get("cost.accelerator_hour").map(|number| number.value.clone());
    let pue = book.ledger.get(&format!("power.{}.pue", pool.site)).and_then(|number| number.value.number());
    let pue = pue.or_else(|| book.settings.sites.get(&pool.site).map(|site| site.pue));
    Worth {
        accelerator_hour: match hour {
            Some(Value::UsdPerHour(hour)) if hour.0 > 0.0 => Some(hour),
            _ => None::<UsdPerHour>,
        },
        overhead: overhead(pool, item),
        pue: pue.unwrap_or(1.0),
        power: power::Profile::of(&book.settings.catalog, &item.name),
    }
}

/// What a node draws at work beside its accelerators, for each of them.
pub(super) fn overhead(pool: &PoolPlan, item: &AcceleratorItem) -> Watts {
    let each = f64::from(pool.accelerators_per_node.max(1));
    let tdp = item.tdp.as_ref().map_or(0.0, |tdp| tdp.value.0);
    let load = pool.expected.0 / pool.rated.0.max(1.0);
    Watts((pool.rated.0 / each - tdp).max(0.0) * load)
}

/// The network that joins the pool's nodes, as one accelerator sees it: the compute network, or else any.
fn network(book: &Book<'_>, pool: &PoolPlan, hall: Hall<'_>) -> Option<(String, Network)> {
    let joins = |network: &&NetworkPlan| {
        network.ends.ranges.iter().any(|range| match &range.of {
            EndOf::Pool(place) => hall.pools.get(*place).is_some_and(|other| other.name == pool.name),
            EndOf::Switches(..) => false,
        })
    };
    let mut joining = hall.networks.iter().filter(joins).filter(|network| network.role != Role::OutOfBand);
    let first = joining.clone().find(|network| network.role == Role::Compute);
    let network = first.or_else(|| joining.next())?;
    if matches!(network.ends.count, Counting::Chips { .. }) {
        // A torus is the accelerators' own links, which the scale-up domain has.
        return None;
    }
    let fabric = book.settings.fabrics.get(&network.name)?;
    let ports = f64::from(network.request.ports_per_node.max(1)) * f64::from(network.request.planes.max(1));
    let each = BitsPerSec(network.request.port_speed.0 * ports / real(u64::from(pool.accelerators_per_node.max(1))));
    let leaf = network.design.tiers.first().map_or("", |tier| tier.switch.name.as_str());
    let network_here = Network {
        bandwidth: BytesPerSec::from(each),
        oversubscription: fabric.oversubscription.max(1.0),
        in_network: false,
        // Quantum switches are InfiniBand's; every other of the catalogue is Ethernet's.
        profile: if leaf.starts_with("qm") { ScaleOutProfile::INFINIBAND } else { ScaleOutProfile::ROCE },
    };
    Some((network.name.clone(), network_here))
}
