//! What hardware and library reach of the data sheet, and what a step costs, by generation of links and kind of network.
//!
//! Invariant: every share lies in (0, 1], or is 0 where a profile has no such unit; every time is above zero.
//!
//! Source of all numbers unless a profile says otherwise: fitted 2026-11 to published nccl-tests outputs (the table of
//! ai-dynamo/aiconfigurator at NCCL 2.27 and 2.29; stas00/ml-engineering; the READMEs of AWS and `CoreWeave`; GCP, Azure
//! and OCI documentation) by least absolute error of the logarithm (Nelder and Mead), a source weighing as the square root
//! of its rows, with a small pull (0.003 of the squared logarithm) towards the values that the generations have in common,
//! so that a number no row says anything about stays physical. Between domains twelve numbers are fitted, not five of each
//! kind of network: four launches, three hops, and shares, bytes in flight and a crossover that networks have in common.
//! Held out by source, each fit starting from one prior for all kinds of network, the median error is 23 % below 1 MiB and 9 %
//! from it (25 % and 16 % with five numbers of each kind, fitted in the same way); held out by fifths of the rows 5 % and 8 %.
//! The form was chosen among nine by the same rows, and the profiles inside a domain are those fitted to all rows.

use dh_units::{Bytes, Seconds};
use serde::Serialize;

/// Inside a domain.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ScaleUpProfile {
    /// Its name in a blueprint.
    pub name: &'static str,
    /// Where its numbers come from.
    pub source: &'static str,
    /// Start of the kernel and the first meeting of ranks.
    pub launch: Seconds,
    /// One step of a ring or chain, of no bytes.
    pub step: Seconds,
    /// Each further peer of a direct exchange, of no bytes.
    pub peer: Seconds,
    /// Of the data sheet's bandwidth in one direction, reached by rings and chains.
    pub ring_share: f64,
    /// Reached when the switch adds and multicasts, counted over `S (1 + 1/n)`; 0 if it cannot.
    pub switch_share: f64,
    /// Reached when each sends to each.
    pub direct_share: f64,
    /// A ring's local copy from input to output, as parts of 1/n of the vector that would take as long on the link.
    pub copy: f64,
    /// The same of a direct exchange.
    pub direct_copy: f64,
    /// What the plain protocol costs more than the flagged one before any byte has gone.
    pub fill: Seconds,
    /// Where half of `fill` is paid: the size at which the library changes over.
    pub crossover: Bytes,
    /// How bandwidth falls as ranks share a host: `(ranks/2)^-contention`. 0 where ranks have their own paths.
    pub contention: f64,
    /// Most ranks of one domain in a published row.
    pub most_ranks: u32,
}

/// Between domains.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ScaleOutProfile {
    /// Its name in a blueprint.
    pub name: &'static str,
    /// Where its numbers come from.
    pub source: &'static str,
    /// What a call costs more as soon as it leaves the domain: the proxy that drives the network.
    pub launch: Seconds,
    /// One step over the network.
    pub hop: Seconds,
    /// Reached of the line rate.
    pub share: f64,
    /// Reached of the line rate when the network's switches add, counted over `S`; it counts only with `in_network`.
    pub in_network_share: f64,
    /// As [`ScaleUpProfile::fill`], on top of it, where a port has 50 GB/s: what is in flight is counted in bytes, and a slower
    /// port takes longer over it.
    pub fill: Seconds,
    /// As [`ScaleUpProfile::crossover`].
    pub crossover: Bytes,
    /// Most domains in a published row.
    pub most_domains: u32,
}

/// Of the line rate, reached by verbs and EFA: fitted as one over ten sources.
const SHARE: f64 = 0.82;
/// What is in flight on each port, of verbs and TCP: fitted as one.
const FILL: Seconds = in_flight(1.45e6);
/// Where half of it is: fitted as one.
const CROSSOVER: Bytes = Bytes(1_500_000);

/// The time of so many bytes on a port of 50 GB/s.
const fn in_flight(bytes: f64) -> Seconds {
    Seconds(bytes / 50e9)
}

const fn us(microseconds: f64) -> Seconds {
    Seconds(microseconds * 1e-6)
}

impl ScaleUpProfile {
    /// Every profile.
    pub const ALL: [Self; 9] = [
        Self::AMPERE,
        Self::HOPPER,
        Self::BLACKWELL,
        Self::NVL72,
        Self::NVSWITCH,
        Self::INFINITY_FABRIC,
        Self::PCIE_HOST,
        Self::PCIE_PEER,
        Self::NEURONLINK,
    ];

    /// A100 on `NVLink` 3 and `NVSwitch`.
    pub const AMPERE: Self = Self {
        name: "nvlink3",
        source: "144 rows of A100, 2 to 8 ranks, NCCL 2.27",
        launch: us(9.5),
        step: us(0.86),
        peer: us(0.9),
        ring_share: 0.726,
        switch_share: 0.0,
        direct_share: 0.721,
        copy: 0.28,
        direct_copy: 0.28,
        fill: us(42.0),
        crossover: Bytes(4_100_000),
        contention: 0.0,
        most_ranks: 8,
    };

    /// H100 and H200 on `NVLink` 4 and `NVSwitch`.
    pub const HOPPER: Self = Self {
        name: "nvlink4",
        source: "358 rows of H100 and H200, 2 to 8 ranks, NCCL 2.27 to 2.29",
        launch: us(5.0),
        step: us(0.86),
        peer: us(0.86),
        ring_share: 0.844,
        switch_share: 0.673,
        direct_share: 0.765,
        copy: 0.46,
        direct_copy: 0.19,
        fill: us(26.0),
        crossover: Bytes(7_000_000),
        contention: 0.0,
        most_ranks: 8,
    };

    /// B200, GB200 and GB300 on `NVLink` 5 and `NVSwitch`, up to a node of 8 or a tray of 4.
    pub const BLACKWELL: Self = Self {
        name: "nvlink5",
        source: "382 rows of B200, GB200 and GB300, 2 to 8 ranks, NCCL 2.27 to 2.29",
        launch: us(8.1),
        step: us(1.25),
        peer: us(0.88),
        ring_share: 0.791,
        switch_share: 0.532,
        direct_share: 0.70,
        copy: 0.53,
        direct_copy: 0.73,
        fill: us(20.0),
        crossover: Bytes(7_200_000),
        contention: 0.0,
        most_ranks: 8,
    };

    /// A rack of 72 on `NVLink` 5. Only what the switch reaches is its own; the rest is that of [`Self::BLACKWELL`].
    pub const NVL72: Self = Self {
        name: "nvlink5-rack",
        source: "CoreWeave nccl-tests README: all-reduce of 72 GB200 in one rack, 5 rows, NCCL 2.26",
        switch_share: 0.449,
        most_ranks: 72,
        ..Self::BLACKWELL
    };

    /// Any `NVLink` through switches: the generations above fitted as one. For hardware that nobody has published.
    pub const NVSWITCH: Self = Self {
        name: "nvlink",
        source: "the rows of nvlink3, nvlink4 and nvlink5 fitted as one",
        launch: us(8.3),
        step: us(1.0),
        peer: us(0.84),
        ring_share: 0.81,
        switch_share: 0.605,
        direct_share: 0.713,
        copy: 0.48,
        direct_copy: 0.32,
        fill: us(23.0),
        crossover: Bytes(7_500_000),
        contention: 0.0,
        // No row is its own, so nothing is inside its range.
        most_ranks: 0,
    };

    /// MI300X, a mesh of links. Only bandwidth is published; times of steps are those of [`Self::HOPPER`], a stated
    /// assumption, since no latency is published for it.
    pub const INFINITY_FABRIC: Self = Self {
        name: "infinity-fabric",
        source: "ml-engineering: all-reduce of 4 GiB on 2 and 8 MI300X (47.7 of 64, 313 of 448 GB/s)",
        ring_share: 0.72,
        switch_share: 0.0,
        // Both rows together leave no room for a copy.
        copy: 0.0,
        most_ranks: 8,
        ..Self::HOPPER
    };

    /// `PCIe` through a host whose devices do not reach each other. From one machine, which may not be typical.
    pub const PCIE_HOST: Self = Self {
        name: "pcie-host",
        source: "99 rows of L40S at 2 and 4 ranks on one host, NCCL 2.27; 8 ranks follow from the same contention",
        launch: us(6.4),
        step: us(0.69),
        peer: us(1.0),
        ring_share: 0.658,
        switch_share: 0.0,
        direct_share: 0.618,
        copy: 0.12,
        direct_copy: 0.14,
        fill: us(26.0),
        crossover: Bytes(2_300_000),
        contention: 2.0,
        most_ranks: 4,
    };

    /// `PCIe` between peers below one root.
    pub const PCIE_PEER: Self = Self {
        name: "pcie",
        source: "89 rows of Arc Pro B60 at 2 and 4 ranks, oneCCL 2021.17; the direct exchange is not published and assumed as \
                 on NVLink",
        launch: us(12.6),
        step: us(0.95),
        peer: us(0.7),
        ring_share: 0.619,
        switch_share: 0.0,
        direct_share: 0.62,
        copy: 0.08,
        direct_copy: 0.3,
        fill: us(13.0),
        crossover: Bytes(10_000_000),
        contention: 0.0,
        most_ranks: 4,
    };

    /// Neuron cores of AWS. Two rates and two latencies give four numbers, so that nothing is left to check them.
    pub const NEURONLINK: Self = Self {
        name: "neuronlink",
        source: "AWS nccom-test documentation: 14 rows at 2 and 32 cores; shares of the others are assumed as its ring's",
        launch: us(55.0),
        step: us(3.0),
        peer: us(3.0),
        ring_share: 0.30,
        switch_share: 0.0,
        direct_share: 0.30,
        copy: 0.0,
        direct_copy: 0.0,
        fill: us(10.0),
        crossover: Bytes(1_000_000),
        contention: 0.0,
        most_ranks: 32,
    };

    /// The profile of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.name == name)
    }
}

impl ScaleOutProfile {
    /// Every profile.
    pub const ALL: [Self; 5] = [Self::INFINIBAND, Self::ROCE, Self::EFA, Self::TCPX, Self::UNKNOWN];

    /// `InfiniBand`, HDR and NDR.
    pub const INFINIBAND: Self = Self {
        name: "infiniband",
        source: "Azure (2 nodes of A100), CoreWeave (8 nodes of H100, 20 racks of GB200), nccl-tests issue 232: 29 rows",
        launch: us(22.0),
        hop: us(2.5),
        share: SHARE,
        // `CoreWeave`'s job with SHARP moved 2 GiB in 11.2 ms on 400 GB/s a node: 0.48 over `S`.
        in_network_share: 0.48,
        fill: FILL,
        crossover: CROSSOVER,
        most_domains: 20,
    };

    /// `RoCE` v2: all but the launch is fitted with [`Self::INFINIBAND`] as one.
    pub const ROCE: Self = Self {
        name: "roce",
        source: "GCP a3-ultra and OCI (2 nodes), two DGX Spark: 33 rows",
        launch: us(34.0),
        most_domains: 2,
        ..Self::INFINIBAND
    };

    /// AWS EFA.
    pub const EFA: Self = Self {
        name: "efa",
        source: "AWS p4de (2 nodes), p5en (4), p3dn (2 to 8, of 2019): 40 rows",
        launch: us(77.0),
        hop: us(31.7),
        fill: in_flight(2.2e6),
        most_domains: 8,
        ..Self::INFINIBAND
    };

    /// TCP that lands in accelerator memory (GCP a3-high).
    pub const TCPX: Self = Self {
        name: "tcpx",
        source: "GCP a3-high (2 nodes): 9 rows of all-gather",
        launch: us(760.0),
        hop: us(17.6),
        share: 0.90,
        most_domains: 2,
        ..Self::INFINIBAND
    };

    /// A network that nobody has published: verbs, with a hop between theirs and EFA's (their geometric mean).
    pub const UNKNOWN: Self = Self {
        name: "network",
        source: "infiniband, roce and efa; stated assumption",
        hop: us(10.0),
        most_domains: 0,
        ..Self::INFINIBAND
    };

    /// The profile of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.name == name)
    }
}
