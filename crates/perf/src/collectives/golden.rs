//! The model held against a published row: what its hardware is, what was measured, what the model says.
//!
//! Invariant: a row either gets a prediction in its own quantity or a reason; nothing measured enters the prediction.

use dh_units::{Bytes, BytesPerSec, Seconds, whole};
use serde::{Deserialize, Serialize};

use super::{Algorithm, Fabric, Group, Kind, Links, ScaleOut, ScaleOutProfile, ScaleUp, ScaleUpProfile, time, time_by};

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

/// The model's answer to `row`.
///
/// # Errors
/// Why the row cannot be held against the model, in words.
pub fn predict(row: &Row) -> Result<Prediction, String> {
    if row.notes.contains("exclude") {
        return Err("its hardware is not named".to_owned());
    }
    if row.library.contains("DeepEP") {
        return Err("an expert-parallel kernel; its size is in tokens, part of which stays at home".to_owned());
    }
    let kind = kind(&row.collective)?;
    let ranks = row.ranks.ok_or("no number of ranks")?;
    let size = row.bytes.filter(|bytes| *bytes >= 1.0).ok_or("no size in bytes")?;
    let (fabric, group) = fabric(row, ranks)?;
    let bytes = Bytes(whole(size * input_of_one_rank(row, kind, ranks)));
    let mut model = match algorithm(row) {
        Asked::Any => time(kind, bytes, group, &fabric),
        Asked::By(algorithm) => time_by(algorithm, kind, bytes, group, &fabric),
    }
    .map_err(|error| error.to_string())?;
    if row.library.contains("torch") {
        add(&mut model, TORCH_HARNESS);
    }
    in_its_quantity(row, model)
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

fn in_its_quantity(row: &Row, model: super::Prediction) -> Result<Prediction, String> {
    const GIGA: f64 = 1e9;
    if let Some(published) = row.time_us.filter(|time| *time > 0.0) {
        return Ok(Prediction {
            quantity: Quantity::TimeUs,
            predicted: model.seconds.0 * 1e6,
            published,
            low: model.low.0 * 1e6,
            high: model.high.0 * 1e6,
            model,
        });
    }
    let published = row.busbw_gbytes_s.filter(|rate| *rate > 0.0).ok_or("neither a time nor a bus bandwidth")?;
    let rate = model.bus_bandwidth.0 / GIGA;
    Ok(Prediction {
        quantity: Quantity::BusGigabytesPerSecond,
        predicted: rate,
        published,
        low: rate * (model.seconds / model.high),
        high: rate * (model.seconds / model.low),
        model,
    })
}

fn kind(text: &str) -> Result<Kind, String> {
    match text {
        "all_reduce" => Ok(Kind::AllReduce),
        "all_gather" => Ok(Kind::AllGather),
        "reduce_scatter" => Ok(Kind::ReduceScatter),
        "all_to_all" => Ok(Kind::AllToAll),
        "broadcast" => Ok(Kind::Broadcast),
        "p2p" => Err("a test of a link or a host's adapter, not of ranks".to_owned()),
        other => Err(format!("`{other}` is no kind of exchange")),
    }
}

/// What to multiply a row's size by. `oneCCL`'s all-gather rows give the input of one rank: their bus bandwidth is 1/n of the
/// reduce-scatter rows of the same machine (9.5 of 18.9 GB/s at 2 ranks, 4.6 of 18.3 at 4).
fn input_of_one_rank(row: &Row, kind: Kind, ranks: u32) -> f64 {
    if kind == Kind::AllGather && row.library.contains("oneCCL") { f64::from(ranks) } else { 1.0 }
}

/// Which algorithm a row says it used.
enum Asked {
    Any,
    By(Algorithm),
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
const ACCELERATORS: [(&str, f64, u32, Links, ScaleUpProfile); 13] = [
    // NVIDIA data sheets: `NVLink` 3, 4 and 5 carry 300, 450 and 900 GB/s each way.
    ("A100", 300.0, 8, Links::Switched, ScaleUpProfile::AMPERE),
    ("H100", 450.0, 8, Links::Switched, ScaleUpProfile::HOPPER),
    ("H200", 450.0, 8, Links::Switched, ScaleUpProfile::HOPPER),
    ("H20", 450.0, 8, Links::Switched, ScaleUpProfile::HOPPER),
    ("B200", 900.0, 8, Links::Switched, ScaleUpProfile::BLACKWELL),
    ("GB200", 900.0, 72, Links::Switched, ScaleUpProfile::NVL72),
    ("GB300", 900.0, 72, Links::Switched, ScaleUpProfile::NVL72),
    ("B300", 900.0, 8, Links::Switched, ScaleUpProfile::BLACKWELL),
    // Six links of `NVLink` 2, 25 GB/s each way, in a mesh that is taken as switched; its rings are those of A100.
    ("V100", 150.0, 8, Links::Switched, ScaleUpProfile::AMPERE),
    // One accelerator a node: its links are not used, its kernels are those of Blackwell.
    ("GB10", 900.0, 1, Links::Switched, ScaleUpProfile::BLACKWELL),
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
    let rack = domain > 8;
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
    const NETWORKS: [(&str, f64, ScaleOutProfile); 10] = [
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
