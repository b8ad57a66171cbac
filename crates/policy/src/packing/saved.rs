//! What a packer needs to go on where another stopped: nodes, what is free on them, and what is expected.
//!
//! Invariant: states, worths and heaps are not saved; they follow.

use serde::{Deserialize, Serialize};

use super::fleet::{Machine, OUT};
use super::histogram::Histogram;
use super::racks::{Racks, Ranking};
use super::{ACCELERATORS_MAX, Detail, Mix, Node, Packer, Request, WHOLE, by_name};

/// A packer, written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    policy: String,
    detail: Detail,
    mix: Vec<(Request, u64)>,
    histogram: Histogram,
    racks: Vec<Ranking>,
    nodes: Vec<SavedNode>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SavedNode {
    cpu_milli: u32,
    memory_mib: u32,
    model: u8,
    cpu_milli_free: u32,
    memory_mib_free: u32,
    /// Thousandths free of each accelerator.
    free: Vec<u16>,
    rack: u32,
    service: Service,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Service {
    In,
    Out,
}

impl Packer {
    /// Writes it down.
    pub fn saved(&self) -> Saved {
        let node = |machine: &Machine| SavedNode {
            cpu_milli: machine.whole.cpu_milli,
            memory_mib: machine.whole.memory_mib,
            model: machine.whole.model,
            cpu_milli_free: machine.cpu_milli,
            memory_mib_free: machine.memory_mib,
            free: machine.free.iter().copied().take(usize::from(machine.accelerators)).collect(),
            rack: machine.rack,
            service: if machine.state == OUT { Service::Out } else { Service::In },
        };
        Saved {
            policy: self.table.policy.name().to_owned(),
            detail: self.table.scale.detail(),
            mix: self.table.mix.requests().to_vec(),
            histogram: self.histogram.written(),
            racks: self.fleet.racks.rankings().collect(),
            nodes: self.fleet.machines.iter().map(node).collect(),
        }
    }

    /// Goes on from there; `None` if there is no such policy or rack, or a node has more free than it has.
    pub fn restored(saved: &Saved) -> Option<Self> {
        let mut packer = Self::seen(by_name(&saved.policy)?, Mix::weighted(saved.mix.iter().copied()), saved.detail);
        packer.histogram = saved.histogram.clone();
        packer.fleet.racks = Racks::of(&saved.racks);
        for node in &saved.nodes {
            let machine =
                node.machine().filter(|_| usize::try_from(node.rack).is_ok_and(|at| at < saved.racks.len()))?;
            let number = packer.stand(machine);
            if node.service == Service::In {
                packer.serve(number);
            }
        }
        Some(packer)
    }
}

impl SavedNode {
    fn machine(&self) -> Option<Machine> {
        let more = self.free.len() > ACCELERATORS_MAX || self.free.iter().any(|free| *free > WHOLE);
        if more || self.cpu_milli_free > self.cpu_milli || self.memory_mib_free > self.memory_mib {
            return None;
        }
        let whole = Node::empty(self.cpu_milli, self.memory_mib, self.model, self.free.len());
        let mut machine = Machine::new(whole, self.rack);
        (machine.cpu_milli, machine.memory_mib) = (self.cpu_milli_free, self.memory_mib_free);
        machine.free.iter_mut().zip(&self.free).for_each(|(to, from)| *to = *from);
        Some(machine)
    }
}
