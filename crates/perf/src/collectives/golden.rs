//! The model held against a published row: what its hardware is, what was measured, what the model says.
//!
//! Invariant: a row either gets a prediction in its own quantity or a reason; nothing measured enters the prediction.

mod link;

use dh_units::{Bytes, BytesPerSec, Seconds, whole};
use serde::{Deserialize, Serialize};

use super::{
    Algorithm, Fabric, Group, Kind, Links, ScaleOut, ScaleOutProfile, ScaleUp, ScaleUpProfile, one_sided, time, time_by,
};

/// A published measurement; the fields are the columns of its file. A cell may be empty.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Row {
    /// A stable name of the row.
    pub id: String,
    /// Who published it.
    pub source: String,
    /// Where.
    pub url_or_repo: String,
    /// `all_reduce`, `all_gather`, `reduce_scatter`, `all_to_all`, `broadcast` or `p2p`.
    pub collective: String,
    /// The accelerator.
    pub accelerator: String,
    /// Machines.
    pub n_nodes: Option<u32>,
    /// Ranks of all machines.
    pub ranks: Option<u32>,
    /// Ranks of one machine.
    pub ranks_per_node: Option<u32>,
    /// Links, in words.
    pub interconnect: String,
    /// Library and harness, in words.
    pub library: String,
    /// Size in the convention of nccl-tests: the larger of a rank's input and output.
    pub bytes: Option<f64>,
    /// Measured time in microseconds.
    pub time_us: Option<f64>,
    /// Bytes over time.
    pub algbw_gbytes_s: Option<f64>,
    /// Bus bandwidth.
    pub busbw_gbytes_s: Option<f64>,
    /// Remarks.
    pub notes: String,
}

/// What a row says was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// Microseconds.
    TimeUs,
    /// Bus bandwidth in 10^9 bytes a second.
    BusGigabytesPerSecond,
}

/// The model's answer to a row, in the row's own quantity.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Prediction {
    /// What is compared.
    pub quantity: Quantity,
    /// By the model.
    pub predicted: f64,
    /// By the row.
    pub published: f64,
    /// Four of five rows lie between this and `high`.
    pub low: f64,
    /// See `low`.
    pub high: f64,
    /// The model's answer in full.
    pub model: super::Prediction,
}

impl Prediction {
    /// Of the published value: 0.1 is 10 % too much.
    pub fn error(&self) -> f64 {
        self.predicted / self.published - 1.0
    }
}

/// What `torch.distributed` costs on top of nccl-tests: 40 against 18 us for 32 KiB on 8 H200, 48 against 26 us on 8 B200
/// (ml-engineering's harness against aiconfigurator's table).
const TORCH_HARNESS: Seconds = Seconds(22e-6);

/// A row as a question to the model: what is exchanged, between whom, and over what.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Question {
    /// The exchange.
    pub kind: Kind,
    /// Its size, as [`time`] takes it.
    pub bytes: Bytes,
    /// The ranks.
    pub group: Group,
    /// The links and the network, with the built-in profiles.
    pub fabric: Fabric,
    asked: Asked,
    harness: Seconds,
    quantity: Quantity,
    published: f64,
}

impl Question {
    /// What `row` asks.
    ///
    /// # Errors
    /// Why the row cannot be held against the model, in words.
    pub fn of(row: &Row) -> Result<Self, String> {
        if row.notes.contains("exclude") {
            return Err("its hardware is not named".to_owned());
        }
        let above_zero = |value: &f64| *value > 0.0;
        let (quantity, published) = match (row.time_us.filter(above_zero), row.busbw_gbytes_s.filter(above_zero)) {
            (Some(time), _) => (Quantity::TimeUs, time),
            (None, Some(rate)) => (Quantity::BusGigabytesPerSecond, rate),
            (None, None) => return Err("neither a time nor a bus bandwidth".to_owned()),
        };
        let question = |kind, bytes, (fabric, group), asked, harness| Self {
            kind,
            bytes,
            group,
            fabric,
            asked,
            harness,
            quantity,
            published,
        };
        let none = Seconds(0.0);
        if row.collective == "p2p" {
            let alone = (ONE_LINK, Group { ranks: 2, per_domain: 2 });
            return Ok(question(Kind::SendReceive, Bytes(0), alone, Asked::Link(of_link(row)?), none));
        }
        let ranks = row.ranks.ok_or("no number of ranks")?;
        if row.library.contains("DeepEP") {
            let bytes = expert_bytes(&row.notes).ok_or("an expert kernel whose tokens are not published")?;
            return Ok(question(Kind::AllToAll, bytes, fabric(row, ranks)?, Asked::OneSided, none));
        }
        let kind = kind(&row.collective)?;
        let size = row.bytes.filter(|bytes| *bytes >= 1.0).ok_or("no size in bytes")?;
        let bytes = Bytes(whole(size * input_of_one_rank(row, kind, ranks)));
        let harness = if row.library.contains("torch") { TORCH_HARNESS } else { none };
        Ok(question(kind, bytes, fabric(row, ranks)?, algorithm(row), harness))
    }

    /// The answer if the exchange ran over `fabric`.
    ///
    /// # Errors
    /// Why the model has none, in words.
    pub fn answer(&self, fabric: &Fabric) -> Result<Prediction, String> {
        let Self { kind, bytes, group, .. } = *self;
        let mut model = match self.asked {
            Asked::Any => time(kind, bytes, group, fabric),
            Asked::By(algorithm) => time_by(algorithm, kind, bytes, group, fabric),
            Asked::OneSided => one_sided(bytes, group, fabric),
            Asked::Link(prediction) => Ok(prediction),
        }
        .map_err(|error| error.to_string())?;
        if self.harness.0 > 0.0 {
            add(&mut model, self.harness);
        }
        Ok(in_its_quantity(self.quantity, self.published, model))
    }

    /// Whether the answer rests on the profiles of links and networks.
    pub const fn is_of_profiles(&self) -> bool {
        matches!(self.asked, Asked::Any | Asked::By(_))
    }
}

/// What the question of a single link has for a fabric: it is not asked.
const ONE_LINK: Fabric = Fabric {
    scale_up: ScaleUp {
        accelerators: 2,
        bandwidth: BytesPerSec(1e9),
        links: Links::Switched,
        in_switch: false,
        profile: ScaleUpProfile::NVSWITCH,
    },
    scale_out: None,
};

/// The model's answer to `row`.
///
/// # Errors
/// Why the row cannot be held against the model, in words.
pub fn predict(row: &Row) -> Result<Prediction, String> {
    let question = Question::of(row)?;
    question.answer(&question.fabric)
}

/// A row that tests one link; where it gives no size, one is taken that no start counts in.
fn of_link(row: &Row) -> Result<super::Prediction, String> {
    let bytes = Bytes(row.bytes.map_or(1 << 30, whole));
    if row.library.contains("perftest") {
        let line = ["1x200G", "one 200G"].iter().any(|words| row.interconnect.contains(words)).then_some(200e9 / 8.0);
        return Ok(link::write(bytes, BytesPerSec(line.ok_or("the adapter's rate is not stated")?)));
    }
    let found = ACCELERATORS.into_iter().find(|(name, ..)| row.accelerator.starts_with(name));
    let (_, gigabytes, ..) = found.ok_or_else(|| format!("no profile of the links of `{}`", row.accelerator))?;
    Ok(link::copy(bytes, BytesPerSec(gigabytes * 1e9)))
}

/// What one rank sends in a dispatch or a combine: its tokens, each to as many experts as `topk`, in 8 bits with a scale of four
/// bytes for 128 elements on the way there and in 16 on the way back.
fn expert_bytes(notes: &str) -> Option<Bytes> {
    let before = |words: &str| notes.split(words).next().filter(|text| text.len() < notes.len());
    let last = |text: &str| text.rsplit([' ', ':']).next().and_then(|word| word.parse::<f64>().ok());
    let after = |words: &str| {
        let rest = notes.split(words).nth(1)?;
        rest.split([' ', ';', ',']).next()?.parse::<f64>().ok()
    };
    let tokens = before(" tokens/rank").or_else(|| before(" tok/rank")).and_then(last)?;
    let hidden = after("hidden ")?;
    let experts = after("topk ").or_else(|| after("top-"))?;
    let element = if notes.contains("dispatch") { 1.0 + 4.0 / 128.0 } else { 2.0 };
    Some(Bytes(whole(tokens * hidden * experts * element)))
}

/// Slows a prediction by what a harness adds to each call.
fn add(model: &mut super::Prediction, more: Seconds) {
    let slower = (model.seconds + more) / model.seconds;
    model.terms.latency += more;
    model.bus_bandwidth = model.bus_bandwidth / slower;
    model.seconds += more;
    model.low = model.low * slower;
    model.high = model.high * slower;
}

fn in_its_quantity(quantity: Quantity, published: f64, model: super::Prediction) -> Prediction {
    const GIGA: f64 = 1e9;
    let rate = model.bus_bandwidth.0 / GIGA;
    let (predicted, low, high) = match quantity {
        Quantity::TimeUs => (model.seconds.0 * 1e6, model.low.0 * 1e6, model.high.0 * 1e6),
        Quantity::BusGigabytesPerSecond => {
            (rate, rate * (model.seconds / model.high), rate * (model.seconds / model.low))
        }
    };
    Prediction { quantity, predicted, published, low, high, model }
}

fn kind(text: &str) -> Result<Kind, String> {
    match text {
        "all_reduce" => Ok(Kind::AllReduce),
        "all_gather" => Ok(Kind::AllGather),
        "reduce_scatter" => Ok(Kind::ReduceScatter),
        "all_to_all" => Ok(Kind::AllToAll),
        "broadcast" => Ok(Kind::Broadcast),
        other => Err(format!("`{other}` is no kind of exchange")),
    }
}

/// What to multiply a row's size by. `oneCCL`'s all-gather rows give the input of one rank: their bus bandwidth is 1/n of the
/// reduce-scatter rows of the same machine (9.5 of 18.9 GB/s at 2 ranks, 4.6 of 18.3 at 4).
fn input_of_one_rank(row: &Row, kind: Kind, ranks: u32) -> f64 {
    if kind == Kind::AllGather && row.library.contains("oneCCL") { f64::from(ranks) } else { 1.0 }
}

/// Which algorithm a row says it used.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Asked {
    Any,
    By(Algorithm),
    /// An expert kernel, by messages of one side.
    OneSided,
    /// A single link, whose answer needs no fabric.
    Link(super::Prediction),
}

fn algorithm(row: &Row) -> Asked {
    let says = |words: &str| row.library.contains(words) || row.notes.contains(words);
    // Integers cannot be added in the switch as bytes. NCCL of 2019 rings: its times on EFA rise in proportion to the nodes.
    if says("algo Ring") || says("NVLS off") || says("NCCL 2019") || row.notes.starts_with("int8") {
        return Asked::By(Algorithm::Ring);
    }
    if says("NVLSTree") {
        return Asked::By(Algorithm::InSwitch);
    }
    if says("algo Tree") { Asked::By(Algorithm::Tree) } else { Asked::Any }
}

/// Data sheet bandwidth of one accelerator, each direction, in GB/s, and its profile. The first whose name begins so.
const ACCELERATORS: [(&str, f64, u32, Links, ScaleUpProfile); 16] = [
    // NVIDIA data sheets: `NVLink` 3, 4 and 5 carry 300, 450 and 900 GB/s each way.
    ("A100", 300.0, 8, Links::Switched, ScaleUpProfile::AMPERE),
    ("H100", 450.0, 8, Links::Switched, ScaleUpProfile::HOPPER),
    ("H200", 450.0, 8, Links::Switched, ScaleUpProfile::HOPPER),
    ("H800", 200.0, 8, Links::Switched, ScaleUpProfile::HOPPER),
    ("H20", 450.0, 8, Links::Switched, ScaleUpProfile::HOPPER),
    ("B200", 900.0, 8, Links::Switched, ScaleUpProfile::BLACKWELL),
    ("GB200", 900.0, 72, Links::Switched, ScaleUpProfile::NVL72),
    ("GB300", 900.0, 72, Links::Switched, ScaleUpProfile::NVL72),
    ("B300", 900.0, 8, Links::Switched, ScaleUpProfile::BLACKWELL),
    // Six links of `NVLink` 2, 25 GB/s each way, in a mesh that is taken as switched; its rings are those of A100.
    ("V100", 150.0, 8, Links::Switched, ScaleUpProfile::AMPERE),
    // One accelerator a node: its links are not used, its kernels are those of Blackwell.
    ("GB10", 900.0, 1, Links::Switched, ScaleUpProfile::BLACKWELL),
    // Two cores of a chip share its 384 GB/s each way (from memory); the documentation does not state the instance.
    ("Neuron", 192.0, 32, Links::Switched, ScaleUpProfile::NEURONLINK),
    ("Trn1", 192.0, 32, Links::Switched, ScaleUpProfile::NEURONLINK),
    // AMD data sheet: 7 links of 64 GB/s each way.
    ("MI300X", 448.0, 8, Links::FullMesh, ScaleUpProfile::INFINITY_FABRIC),
    // `PCIe` 4 x16 and `PCIe` 5 x8: 32 GB/s each way.
    ("L40S", 32.0, 8, Links::Host, ScaleUpProfile::PCIE_HOST),
    ("Intel-Arc-Pro-B60", 32.0, 4, Links::Host, ScaleUpProfile::PCIE_PEER),
];

fn fabric(row: &Row, ranks: u32) -> Result<(Fabric, Group), String> {
    let found = ACCELERATORS.into_iter().find(|(name, ..)| row.accelerator.starts_with(name));
    let (_, gigabytes, domain, links, profile) =
        found.ok_or_else(|| format!("no profile of the links of `{}`", row.accelerator))?;
    let nodes = row.n_nodes.unwrap_or(1).max(1);
    let per_node = row.ranks_per_node.unwrap_or(ranks / nodes).clamp(1, ranks.max(1));
    // Trays of a rack share its switches; a rack that is not full is still one domain.
    let rack = profile == ScaleUpProfile::NVL72;
    let per_domain = if rack { ranks.min(domain) } else { per_node };
    // A tray by itself is what the profile of nodes was fitted to.
    let profile = if rack && ranks <= 8 { ScaleUpProfile::BLACKWELL } else { profile };
    let in_switch = profile.switch_share > 0.0;
    let group = Group { ranks, per_domain };
    let scale_out = if group.domains() > 1 { Some(network(row, per_domain, per_node)?) } else { None };
    let scale_up = ScaleUp {
        accelerators: domain.max(per_domain),
        bandwidth: BytesPerSec(gigabytes * 1e9),
        links,
        in_switch,
        profile,
    };
    Ok((Fabric { scale_up, scale_out }, group))
}

/// Line rate of one accelerator's share of the node's adapters in Gbit/s, from the words of the row.
fn network(row: &Row, per_domain: u32, per_node: u32) -> Result<ScaleOut, String> {
    // (words of the row, Gbit/s of a node, profile)
    const NETWORKS: [(&str, f64, ScaleOutProfile); 12] = [
        ("EFA 400G/node", 400.0, ScaleOutProfile::EFA),
        ("EFA 3200G/node", 3200.0, ScaleOutProfile::EFA),
        ("EFAv1 100G/node", 100.0, ScaleOutProfile::EFA),
        ("IB HDR 8x200G", 1600.0, ScaleOutProfile::INFINIBAND),
        ("IB NDR 8x400G", 3200.0, ScaleOutProfile::INFINIBAND),
        ("TCPX 4x200G/node", 800.0, ScaleOutProfile::TCPX),
        ("RoCE 8x400G/node", 3200.0, ScaleOutProfile::ROCE),
        // OCI's BM.GPU.H100.8 has 8 adapters of 2 x 200 Gbit/s.
        ("RoCE (BM.GPU.H100.8)", 3200.0, ScaleOutProfile::ROCE),
        ("200G QSFP RoCE", 200.0, ScaleOutProfile::ROCE),
        ("IB CX7 400G per GPU", 3200.0, ScaleOutProfile::INFINIBAND),
        // Stated assumption: a port of 400 Gbit/s for each, as nodes of H100 have.
        ("RDMA (NIC not stated)", 3200.0, ScaleOutProfile::INFINIBAND),
        // "only one of 4 NICs used", of 400 Gbit/s.
        ("4 NICs visible per node, 1 GPU per node", 400.0, ScaleOutProfile::INFINIBAND),
    ];
    let of_rank = |node: f64| node / f64::from(per_node.max(1));
    let found = NETWORKS.into_iter().find(|(words, ..)| row.interconnect.contains(words));
    let (gigabits, profile) = match found {
        Some((_, node, profile)) => (of_rank(node), profile),
        // NVL72 racks have an adapter of 400 Gbit/s for each accelerator.
        None if per_domain > 8 && row.interconnect.contains("IB") => (400.0, ScaleOutProfile::INFINIBAND),
        None => return Err(format!("the network is not stated: `{}`", row.interconnect)),
    };
    Ok(ScaleOut {
        bandwidth: BytesPerSec(gigabits * 1e9 / 8.0),
        oversubscription: 1.0,
        in_network: row.interconnect.contains("SHARP"),
        profile,
    })
}
