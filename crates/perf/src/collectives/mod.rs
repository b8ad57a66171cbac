//! How long ranks take to exchange, on links inside a scale-up domain and a network between domains.
//!
//! Pure; O(1) for each call, without allocation. A time is `latency + pipeline + bandwidth`: the steps of the algorithm, what the library pays
//! until its pipeline is full, and the bytes over the slowest link. The library is taken to choose the fastest of the
//! algorithms it has ([`Algorithm`]), as its tuner means to do.
//!
//! Invariant: more bandwidth is never slower, more bytes are never faster, and one rank costs nothing.
//!
//! Sources of the forms: Patarasuk and Yuan 2009 (ring); Sanders, Speck and Träff 2009 (two trees); Thakur, Rabenseifner
//! and Gropp 2005 (alpha and beta). Sources of the numbers: [`ScaleUpProfile`] and [`ScaleOutProfile`].

mod algorithms;
pub mod golden;
mod interval;
mod one_sided;
mod profile;

use dh_units::{Bytes, BytesPerSec, Seconds, real};
use serde::{Deserialize, Serialize};

pub use one_sided::one_sided;
pub use profile::{ScaleOutProfile, ScaleUpProfile};

/// What the ranks do together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Every rank ends with the sum; bytes are those of the vector that each rank has.
    AllReduce,
    /// Every rank ends with the parts of all; bytes are those of the result.
    AllGather,
    /// Every rank ends with its part of the sum; bytes are those of the vector that each rank starts with.
    ReduceScatter,
    /// Every rank sends each other rank a part; bytes are those that one rank starts with, its own part among them.
    AllToAll,
    /// One rank's vector goes to all; bytes are those of the vector.
    Broadcast,
    /// One rank's message goes to one other; bytes are those of the message.
    SendReceive,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::AllReduce, Self::AllGather, Self::ReduceScatter, Self::AllToAll, Self::Broadcast, Self::SendReceive];

    /// Bus bandwidth over `bytes / time`, as nccl-tests defines it: what a link would carry were the exchange a ring.
    /// It is no wire speed: reduction in a switch brings it above that of the links.
    pub fn bus_factor(self, ranks: u32) -> f64 {
        let n = f64::from(ranks.max(1));
        match self {
            Self::AllReduce => 2.0 * (n - 1.0) / n,
            Self::AllGather | Self::ReduceScatter | Self::AllToAll => (n - 1.0) / n,
            Self::Broadcast | Self::SendReceive => 1.0,
        }
    }
}

/// How the accelerators of one domain are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Links {
    /// All of an accelerator's bandwidth reaches any other: `NVLink` through `NVSwitch`, or two accelerators side by side.
    Switched,
    /// A link to each other accelerator: of `n` ranks among `full`, each uses `(n-1)/(full-1)` of its bandwidth.
    FullMesh,
    /// `PCIe`, through the host where there is no path of peers.
    Host,
    /// A torus of so many accelerators along each dimension; a dimension of 1 does not exist.
    Torus([u32; 3]),
}

/// The domain inside which accelerators reach each other's memory: a node, or a rack.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ScaleUp {
    /// Accelerators in a domain.
    pub accelerators: u32,
    /// Of one accelerator, each direction, as the data sheet has it.
    pub bandwidth: BytesPerSec,
    /// How they are joined.
    pub links: Links,
    /// Whether the switch adds and multicasts (NVLS).
    pub in_switch: bool,
    /// What of the data sheet is reached, and the times of steps.
    pub profile: ScaleUpProfile,
}

/// The network between domains.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ScaleOut {
    /// Line rate that one accelerator has to itself, each direction: the node's over its accelerators.
    pub bandwidth: BytesPerSec,
    /// Bandwidth into the leaves over that out of them: 1 where nothing is oversubscribed. Values below 1 count as 1.
    pub oversubscription: f64,
    /// Whether the network's switches add (SHARP).
    pub in_network: bool,
    /// What of the line rate is reached, and the times of steps.
    pub profile: ScaleOutProfile,
}

/// What the ranks talk over.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Fabric {
    /// Inside a domain.
    pub scale_up: ScaleUp,
    /// Between domains; none if there is one domain.
    pub scale_out: Option<ScaleOut>,
}

/// The ranks of one exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// All of them.
    pub ranks: u32,
    /// Of these in one domain; the last domain may have fewer. 8 ranks with 1 a domain are 8 domains.
    pub per_domain: u32,
}

impl Group {
    /// Domains that the group spans.
    pub fn domains(self) -> u32 {
        self.ranks.div_ceil(self.per_domain.max(1))
    }
}

/// How the ranks exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// Nothing is exchanged: one rank.
    Alone,
    /// One ring through all ranks, domain after domain.
    Ring,
    /// Chains inside the domains, two binary trees over them, half of the vector on each.
    Tree,
    /// The domain's switch adds and multicasts; between domains two binary trees.
    InSwitch,
    /// The network's switches add what the domains have added.
    InNetwork,
    /// Each rank sends to each other rank.
    Direct,
    /// Rings along each dimension of a torus at once.
    TorusRings,
}

/// Which wire format the message travels in. Small ones carry a flag beside each word, which costs bandwidth and saves a
/// synchronisation (LL, LL128); large ones are sent plain and fenced (Simple).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Bound by latency.
    Flagged,
    /// Bound by bandwidth.
    Plain,
}

/// The parts of a time; they add up to it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Terms {
    /// Start, and the steps one after the other, of no bytes.
    pub latency: Seconds,
    /// What is lost until the pipeline is full. It grows with the message up to the cost of the plain protocol.
    pub pipeline: Seconds,
    /// The bytes over the link that has most to carry.
    pub bandwidth: Seconds,
}

impl Terms {
    /// Their sum.
    pub fn total(self) -> Seconds {
        self.latency + self.pipeline + self.bandwidth
    }
}

/// How long an exchange takes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// Until the last rank is done.
    pub seconds: Seconds,
    /// The fastest that the fabric has.
    pub algorithm: Algorithm,
    /// The wire format.
    pub protocol: Protocol,
    /// `bytes / seconds` times [`Kind::bus_factor`]; zero for one rank.
    pub bus_bandwidth: BytesPerSec,
    /// What the time is made of.
    pub terms: Terms,
    /// Four of five published times lie between this and `high`.
    pub low: Seconds,
    /// See `low`.
    pub high: Seconds,
    /// No published row of this profile is like this: more ranks, more domains, another kind, or no row of it at all.
    pub outside_calibrated_range: bool,
}

/// Why a time cannot be given.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// A bandwidth is zero, negative, or not a number.
    #[error("the fabric's `{figure}` is {value}, where a number above zero is needed")]
    Bandwidth {
        /// The field.
        figure: &'static str,
        /// What it is.
        value: f64,
    },
    /// The group has no ranks, or more in a domain than the domain has accelerators.
    #[error("a group of {ranks} ranks, {per_domain} in a domain of {accelerators} accelerators, cannot be")]
    Group {
        /// Ranks of the group.
        ranks: u32,
        /// Of these in one domain.
        per_domain: u32,
        /// Accelerators of a domain.
        accelerators: u32,
    },
    /// The group spans domains, and nothing joins them.
    #[error("the group spans {0} domains, and no network joins them")]
    NoScaleOut(u32),
    /// The algorithm that was asked for does not do this here.
    #[error("{0:?} does not do this exchange on this fabric")]
    NoAlgorithm(Algorithm),
}

/// How long `group` takes for an exchange of `bytes`, by the fastest algorithm that the fabric has.
///
/// # Errors
/// A group that cannot be, a bandwidth that is not above zero, several domains without a network.
pub fn time(kind: Kind, bytes: Bytes, group: Group, fabric: &Fabric) -> Result<Prediction, Error> {
    predict(kind, bytes, group, fabric, None)
}

/// As [`time`], by one algorithm.
///
/// # Errors
/// As [`time`]; [`Error::NoAlgorithm`] if it is none for this exchange.
pub fn time_by(
    algorithm: Algorithm,
    kind: Kind,
    bytes: Bytes,
    group: Group,
    fabric: &Fabric,
) -> Result<Prediction, Error> {
    predict(kind, bytes, group, fabric, Some(algorithm))
}

fn predict(
    kind: Kind,
    bytes: Bytes,
    group: Group,
    fabric: &Fabric,
    asked: Option<Algorithm>,
) -> Result<Prediction, Error> {
    check(group, fabric)?;
    if group.ranks == 1 {
        return Ok(alone());
    }
    let mut best: Option<(Algorithm, Terms)> = None;
    algorithms::candidates(kind, bytes, group, fabric, &mut |algorithm, terms| {
        let wanted = asked.is_none_or(|asked| asked == algorithm);
        if wanted && best.is_none_or(|(_, least)| terms.total() < least.total()) {
            best = Some((algorithm, terms));
        }
    });
    // Every kind has a candidate everywhere, so only an algorithm that was asked for can be missing.
    let (algorithm, terms) = best.ok_or(Error::NoAlgorithm(asked.unwrap_or(Algorithm::Alone)))?;
    let seconds = terms.total();
    let outside = interval::outside(kind, bytes, group, fabric);
    let factor = interval::factor(bytes, group, outside);
    let plain = bytes.as_f64() >= fabric.scale_up.profile.crossover.as_f64();
    Ok(Prediction {
        seconds,
        algorithm,
        protocol: if plain { Protocol::Plain } else { Protocol::Flagged },
        bus_bandwidth: BytesPerSec(real(bytes.0) * kind.bus_factor(group.ranks) / seconds.0),
        terms,
        low: seconds / factor,
        high: seconds * factor,
        outside_calibrated_range: outside,
    })
}

fn check(group: Group, fabric: &Fabric) -> Result<(), Error> {
    let Group { ranks, per_domain } = group;
    let accelerators = fabric.scale_up.accelerators;
    if ranks == 0 || per_domain == 0 || per_domain > accelerators {
        return Err(Error::Group { ranks, per_domain, accelerators });
    }
    above_zero("scale_up.bandwidth", fabric.scale_up.bandwidth.0)?;
    match fabric.scale_out {
        Some(network) => {
            above_zero("scale_out.bandwidth", network.bandwidth.0)?;
            above_zero("scale_out.oversubscription", network.oversubscription)
        }
        None if group.domains() > 1 => Err(Error::NoScaleOut(group.domains())),
        None => Ok(()),
    }
}

fn above_zero(figure: &'static str, value: f64) -> Result<(), Error> {
    if value.is_finite() && value > 0.0 { Ok(()) } else { Err(Error::Bandwidth { figure, value }) }
}

fn alone() -> Prediction {
    Prediction {
        seconds: Seconds(0.0),
        algorithm: Algorithm::Alone,
        protocol: Protocol::Flagged,
        bus_bandwidth: BytesPerSec(0.0),
        terms: Terms::default(),
        low: Seconds(0.0),
        high: Seconds(0.0),
        outside_calibrated_range: false,
    }
}
