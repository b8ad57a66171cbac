//! From the pools of a blueprint to the nodes of a running hall, and where they stand.
//!
//! Invariant: they are numbered pool by pool in the order of names, whether or not they could be laid out; the tree of racks and
//! blocks is the one that the twin simulates.

use dh_blueprint::{Executor, Settings};
use dh_hall::NodeSpec;
use dh_hall::layout::{LEVELS, Layout, layout};
use dh_policy::fleet::NodeFacts;

/// The nodes of the blueprint that jobs can run on, pool by pool, and where they stand; storage nodes have no slots.
pub(crate) struct Nodes {
    /// The nodes.
    pub(crate) specs: Vec<NodeSpec>,
    /// How the hall decides, told of the levels of its tree.
    pub(crate) policy: dh_hall::scheduler::Settings,
    /// What is not as the blueprint has it.
    pub(crate) notes: Vec<String>,
}

/// How many nodes there are.
pub(crate) fn node_count(settings: &Settings) -> u32 {
    settings.pools.values().filter(|pool| pool.slots > 0).map(|pool| pool.nodes).sum()
}

/// The nodes of `settings`. Where they cannot be laid out, they stand in no racks, and the notes say why.
pub(crate) fn nodes(settings: &Settings) -> Nodes {
    let spec = |name: &str, number: u32, slots, facts| NodeSpec {
        name: format!("{name}-{number}"),
        pool: name.to_owned(),
        slots,
        facts,
    };
    let mut policy = dh_hall::rules::settings(&settings.policy.scheduling);
    match laid_out(settings) {
        Ok((outline, layout)) => {
            policy.levels = LEVELS.map(str::to_owned).to_vec();
            policy.tori = layout.tori;
            let places = layout.pools.iter().zip(&layout.numbers).zip(layout.facts);
            let specs = places.filter_map(|((pool, number), facts)| {
                let pool = outline.pools.get(*pool)?;
                // Nodes that this machine only plays have its cores and memory, not those of the catalogue.
                let facts = if settings.target.executor == Executor::Local {
                    NodeFacts { cpu_milli: u32::MAX, memory_mib: u32::MAX, ..facts }
                } else {
                    facts
                };
                Some(spec(&pool.name, *number, u32::from(facts.accelerators), Some(facts)))
            });
            Nodes { specs: specs.collect(), policy, notes: Vec::new() }
        }
        Err(why) => {
            let pools = settings.pools.iter().filter(|(_, pool)| pool.slots > 0);
            let specs =
                pools.flat_map(|(name, pool)| (0..pool.nodes).map(move |number| spec(name, number, pool.slots, None)));
            let note = format!("racks and blocks: the nodes could not be laid out ({why}), so gangs go anywhere");
            Nodes { specs: specs.collect(), policy, notes: vec![note] }
        }
    }
}

fn laid_out(settings: &Settings) -> Result<(dh_plan::Outline, Layout), String> {
    let outline = dh_plan::outline(settings).map_err(|error| error.to_string())?;
    let layout = layout(settings, outline.standing(), &mut Vec::new()).map_err(|error| error.to_string())?;
    Ok((outline, layout))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use dh_blueprint::{Blueprint, template};
    use dh_core::SimTime;
    use dh_hall::{Action, Event, Hall};

    use super::*;
    use crate::launch;
    use crate::wire::JobRequest;

    fn lab(name: &str, executor: Executor) -> Settings {
        let mut settings = Blueprint::parse("hall.toml", template(name).unwrap()).unwrap();
        settings.target.executor = executor;
        settings
    }

    #[test]
    fn nodes_are_numbered_as_if_they_stood_nowhere() {
        for (name, _) in dh_blueprint::TEMPLATES {
            let settings = lab(name, Executor::Local);
            let pools = settings.pools.iter().filter(|(_, pool)| pool.slots > 0);
            let flat: Vec<String> =
                pools.flat_map(|(name, pool)| (0..pool.nodes).map(move |node| format!("{name}-{node}"))).collect();
            let nodes = nodes(&settings);
            let names: Vec<&str> = nodes.specs.iter().map(|node| node.name.as_str()).collect();
            assert_eq!((names, nodes.notes.len()), (flat.iter().map(String::as_str).collect(), 0), "{name}");
            assert_eq!(usize::try_from(node_count(&settings)).unwrap(), flat.len(), "{name}");
        }
    }

    #[test]
    fn only_nodes_of_their_own_have_the_memory_of_the_catalogue() {
        let memory = |executor| nodes(&lab("su32", executor)).specs[0].facts.as_ref().unwrap().memory_mib;
        assert_eq!(memory(Executor::Local), u32::MAX);
        assert!(memory(Executor::Slurm) < 8 << 20, "{} MiB", memory(Executor::Slurm));
    }

    #[test]
    fn a_gang_of_a_running_hall_stands_in_one_rack_where_it_can() {
        let settings = lab("su32", Executor::Sim);
        let nodes = nodes(&settings);
        let rack = |node: usize| nodes.specs[node].facts.as_ref().unwrap().path.clone();
        let wide = (0..nodes.specs.len()).filter(|node| rack(*node) == rack(0)).count();
        assert!((2..nodes.specs.len()).contains(&wide), "{wide} nodes in a rack");
        let mut hall = Hall::default();
        let mut step = |event| {
            let mut actions = Vec::new();
            hall.step(SimTime(1), event, &mut actions);
            let ranks = actions.into_iter().find_map(|action| match action {
                Action::Start { placement, .. } => Some(placement),
                Action::Accepted { .. } | Action::Stop { .. } | Action::Serve { .. } | Action::Close { .. } => None,
            });
            let ranks = ranks.unwrap_or_default().into_iter();
            ranks.map(|placed| usize::try_from(placed.node.0).unwrap()).collect::<BTreeSet<usize>>()
        };
        let queues = BTreeMap::from([("default".to_owned(), dh_hall::QueueSpec::default())]);
        step(Event::Configured { nodes: nodes.specs.clone(), queues, policy: Box::new(nodes.policy.clone()) });
        let mut submit = |ranks: u32| {
            let request = JobRequest {
                command: Some(vec!["true".to_owned()]),
                ranks: Some(ranks),
                slots_per_rank: Some(8),
                queue: Some("default".to_owned()),
                ..JobRequest::default()
            };
            let mut spec = launch::job(&settings, request).unwrap();
            spec.name = "gang".to_owned();
            step(Event::Submitted { spec: Box::new(spec), by: "test".to_owned(), idempotency_key: None })
        };
        let first = submit(1);
        assert_eq!(first.len(), 1);
        let gang = submit(u32::try_from(wide).unwrap());
        let racks: BTreeSet<Vec<u32>> = gang.iter().map(|node| rack(*node)).collect();
        assert_eq!((gang.len(), racks.len()), (wide, 1), "{gang:?} beside {first:?}");
    }
}
