//! The cost of each algorithm, in the alpha-beta form: steps one after the other, and bytes over the busiest link.
//!
//! Invariant: each cost falls in every bandwidth and rises in bytes, so the least of them does too.
//! Sources: Patarasuk and Yuan 2009 (ring); Sanders, Speck and Träff 2009 (two trees); Klenk et al. 2020, "An in-network
//! architecture for accelerating shared-memory multiprocessor collectives" (in-switch).

use dh_units::{Bytes, Seconds};

use super::{Algorithm, Fabric, Group, Kind, Links, Terms};

/// Ports by which the rings and trees of one domain leave it at most: `CoreWeave`'s 20 racks of 72 reach 433 GB/s of bus
/// bandwidth, which is ten ports of 400 Gb/s. Nodes have fewer, so that nothing else says whether racks of others do.
const PORTS: f64 = 10.0;
/// The port that [`ScaleOutProfile::fill`](super::ScaleOutProfile) is stated for, bytes a second.
const FILLED: f64 = 50e9;

/// One exchange, its sizes as real numbers.
struct Exchange<'a> {
    kind: Kind,
    /// Bytes of the vector.
    bytes: f64,
    /// All ranks.
    ranks: f64,
    /// Ranks in one domain.
    inside: f64,
    /// Domains.
    domains: f64,
    /// Reached by one accelerator inside its domain were all of the data sheet reached, bytes a second.
    link: f64,
    /// Reached by the accelerators of one domain together on the network; infinite if it is not used.
    network: f64,
    fabric: &'a Fabric,
}

/// Hands every algorithm that does `kind` here to `offer`, with its cost. `group` has two ranks or more, and `fabric` what it
/// needs. Nothing is allocated: a search over layouts asks for millions of times.
pub(super) fn candidates(
    kind: Kind,
    bytes: Bytes,
    group: Group,
    fabric: &Fabric,
    offer: &mut impl FnMut(Algorithm, Terms),
) {
    let exchange = Exchange::new(kind, bytes, group, fabric);
    match kind {
        Kind::AllToAll => offer(Algorithm::Direct, exchange.direct()),
        Kind::SendReceive => offer(Algorithm::Direct, exchange.message()),
        Kind::AllReduce | Kind::AllGather | Kind::ReduceScatter | Kind::Broadcast => {
            match fabric.scale_up.links {
                Links::Torus(sides) if exchange.domains < 1.5 => {
                    offer(Algorithm::TorusRings, exchange.torus_rings(sides));
                }
                Links::Torus(_) | Links::Switched | Links::FullMesh | Links::Host => {
                    offer(Algorithm::Ring, exchange.ring());
                }
            }
            exchange.trees(offer);
        }
    }
}

impl<'a> Exchange<'a> {
    fn new(kind: Kind, bytes: Bytes, group: Group, fabric: &'a Fabric) -> Self {
        let domains = group.domains();
        let per_domain = group.per_domain.min(group.ranks);
        let (inside, up) = (f64::from(per_domain), &fabric.scale_up);
        let reach = match up.links {
            Links::FullMesh => f64::from(per_domain.max(2) - 1) / f64::from(up.accelerators.max(2) - 1),
            Links::Host => (inside.max(2.0) / 2.0).powf(-up.profile.contention),
            Links::Torus(sides) => used(sides, inside) / f64::from(count(sides).max(1)),
            Links::Switched => 1.0,
        };
        let network = match fabric.scale_out {
            Some(network) if domains > 1 => {
                let ports = if kind == Kind::AllToAll { inside } else { inside.min(PORTS) };
                ports * network.bandwidth.0 / network.oversubscription.max(1.0) * network.profile.share
            }
            Some(_) | None => f64::INFINITY,
        };
        Self {
            kind,
            bytes: bytes.as_f64(),
            ranks: f64::from(group.ranks),
            inside,
            domains: f64::from(domains),
            link: up.bandwidth.0 * reach,
            network,
            fabric,
        }
    }

    /// Adds the start of the library and the pipeline to `steps` (seconds), and takes the slower of both links.
    fn terms(&self, steps: f64, inside: f64, between: f64) -> Terms {
        let up = &self.fabric.scale_up.profile;
        let (mut start, mut pipeline) = (up.launch.0, fill(up.fill.0, up.crossover, self.bytes));
        if let Some(network) = self.fabric.scale_out.filter(|_| self.domains > 1.5) {
            let out = &network.profile;
            start += out.launch.0;
            pipeline += fill(out.fill.0 * (FILLED / network.bandwidth.0), out.crossover, self.bytes);
        }
        Terms { latency: Seconds(start + steps), pipeline: Seconds(pipeline), bandwidth: Seconds(inside.max(between)) }
    }

    /// The network's profile, if the group spans domains.
    fn spanned(&self) -> Option<&super::ScaleOutProfile> {
        self.fabric.scale_out.as_ref().filter(|_| self.domains > 1.5).map(|out| &out.profile)
    }

    fn hop(&self) -> f64 {
        self.spanned().map_or(0.0, |out| out.hop.0)
    }

    /// Whether ranks share a domain: if not, nothing crosses its links.
    fn shares_domain(&self) -> bool {
        self.inside > 1.5
    }

    /// One ring: an all-reduce goes round twice. The slowest chunk crosses every border between domains but one.
    fn ring(&self) -> Terms {
        let up = &self.fabric.scale_up.profile;
        let rounds = if self.kind == Kind::AllReduce { 2.0 } else { 1.0 };
        let (steps, hops) = (rounds * (self.ranks - 1.0), rounds * (self.domains - 1.0));
        // A broadcast passes all of the vector on at each rank; the others a part of it in each step.
        let part = if self.kind == Kind::Broadcast { 1.0 } else { steps / self.ranks };
        let copy = if self.kind == Kind::Broadcast { 0.0 } else { up.copy / self.ranks };
        let inside = if self.shares_domain() { (part + copy) * self.bytes / (self.link * up.ring_share) } else { 0.0 };
        self.terms(up.step.0 * (steps - hops) + self.hop() * hops, inside, part * self.bytes / self.network)
    }

    /// Trees over the domains, with or without switches that add. Only sums and broadcasts go up and down trees.
    fn trees(&self, offer: &mut impl FnMut(Algorithm, Terms)) {
        let up = &self.fabric.scale_up;
        let rounds = match self.kind {
            Kind::AllReduce => 2.0,
            Kind::Broadcast => 1.0,
            Kind::AllGather | Kind::ReduceScatter | Kind::AllToAll | Kind::SendReceive => return,
        };
        let chain = up.profile.step.0 * rounds * (self.inside - 1.0);
        let steps = chain + self.hop() * rounds * self.domains.log2().ceil();
        // Every edge of the trees carries the vector once in each round; domains share the M - 1 edges evenly.
        let between = rounds * (self.domains - 1.0) / self.domains * self.bytes / self.network;
        if self.domains > 1.5 {
            let inside =
                if self.shares_domain() { rounds * self.bytes / (self.link * up.profile.ring_share) } else { 0.0 };
            offer(Algorithm::Tree, self.terms(steps, inside, between));
        }
        // NCCL's tuner leaves four and fewer to the ring (ml-engineering's ramp of H200: NVLS from 5 ranks on).
        let adds = up.in_switch && up.links == Links::Switched && up.profile.switch_share > 0.0 && self.inside > 4.5;
        if self.kind != Kind::AllReduce {
            return;
        }
        // Each accelerator gives its vector to be added, and reads and multicasts one part of it: S (1 + 1/n) on a link.
        let in_switch = (1.0 + 1.0 / self.inside) * self.bytes / (self.link * up.profile.switch_share);
        if adds {
            offer(Algorithm::InSwitch, self.terms(steps, in_switch, between));
        }
        if let Some(out) = self.fabric.scale_out.filter(|out| out.in_network && self.domains > 1.5) {
            let inside = match (self.shares_domain(), adds) {
                (false, _) => 0.0,
                (true, true) => in_switch,
                (true, false) => rounds * self.bytes / (self.link * up.profile.ring_share),
            };
            // Once up and once down, whatever the number of domains. `network` has the share of plain sends in it.
            let between = self.bytes / (self.network / out.profile.share * out.profile.in_network_share);
            offer(Algorithm::InNetwork, self.terms(chain + 2.0 * self.hop(), inside, between));
        }
    }

    /// Each rank sends each other rank its part; those of other domains leave by the domain's ports.
    fn direct(&self) -> Terms {
        let up = &self.fabric.scale_up.profile;
        let part = self.bytes / self.ranks;
        let distance = match self.fabric.scale_up.links {
            // A message crosses a quarter of a ring of each dimension on average, and uses a link at every hop.
            Links::Torus(sides) => {
                let dimensions = used(sides, self.inside);
                (dimensions * self.inside.powf(1.0 / dimensions) / 4.0).max(1.0)
            }
            Links::Switched | Links::FullMesh | Links::Host => 1.0,
        };
        let inside = (self.inside - 1.0 + up.direct_copy) * part * distance / (self.link * up.direct_share);
        let between = self.inside * (self.ranks - self.inside) * part / self.network;
        self.terms(up.peer.0 * (self.ranks - 1.0) + self.hop(), inside, between)
    }

    /// One message between two ranks: of the same domain if the group shares one. The message has one port.
    fn message(&self) -> Terms {
        let up = &self.fabric.scale_up.profile;
        if self.spanned().is_some() {
            return self.terms(self.hop(), 0.0, self.bytes * self.inside.min(PORTS) / self.network);
        }
        self.terms(up.peer.0, self.bytes / (self.link * up.direct_share), 0.0)
    }

    /// Rings along each dimension of the part of the torus that takes part, a part of the vector starting on each, so that
    /// every link there is used.
    fn torus_rings(&self, sides: [u32; 3]) -> Terms {
        let up = &self.fabric.scale_up.profile;
        let rounds = if self.kind == Kind::AllReduce { 2.0 } else { 1.0 };
        let part = if self.kind == Kind::Broadcast { 1.0 } else { rounds * (self.ranks - 1.0) / self.ranks };
        let dimensions = used(sides, self.ranks);
        let steps = dimensions * (self.ranks.powf(1.0 / dimensions) - 1.0) * rounds;
        self.terms(up.step.0 * steps, part * self.bytes / (self.link * up.ring_share), 0.0)
    }
}

/// Dimensions of a torus that a group of `ranks` spans: stated assumption, parts are dealt out four along a dimension before
/// they grow along the next, as slices of four by four and cubes of four by four by four are.
fn used(sides: [u32; 3], ranks: f64) -> f64 {
    let spanned = match ranks {
        few if few < 15.5 => 1.0,
        some if some < 63.5 => 2.0,
        _ => 3.0,
    };
    f64::from(count(sides).max(1)).min(spanned)
}

/// Dimensions that exist.
fn count(size: [u32; 3]) -> u32 {
    size.iter().map(|&d| u32::from(d > 1)).sum()
}

/// The cost of a pipeline that is not full: half of `whole` at `crossover`, all of it far above. It is the smooth least of
/// the two protocols, whose tuner changes over between them.
fn fill(whole: f64, crossover: Bytes, bytes: f64) -> f64 {
    let total = bytes + crossover.as_f64();
    if total > 0.0 { whole * bytes / total } else { 0.0 }
}
