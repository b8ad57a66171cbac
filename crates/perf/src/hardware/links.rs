//! The links of each kind of accelerator, and the network between them.
//!
//! Invariant: an accelerator without links of its own talks over PCI Express, at 32 GB/s each way (generation 4, 16 lanes), or
//! at 63 GB/s where it is known to have generation 5.

use dh_units::BytesPerSec;

use super::Accelerator;
use crate::collectives::{Links, ScaleOut, ScaleOutProfile, ScaleUp, ScaleUpProfile};

/// The network between scale-up domains, as one accelerator sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Network {
    /// Line rate that one accelerator has to itself, each direction.
    pub bandwidth: BytesPerSec,
    /// Bandwidth into the leaves over that out of them; 1 where nothing is oversubscribed.
    pub oversubscription: f64,
    /// Whether its switches add.
    pub in_network: bool,
    /// Its kind.
    pub profile: ScaleOutProfile,
}

impl Network {
    pub(super) fn scale_out(self) -> ScaleOut {
        ScaleOut {
            bandwidth: self.bandwidth,
            oversubscription: self.oversubscription,
            in_network: self.in_network,
            profile: self.profile,
        }
    }
}

/// What a name starts with, and the links that accelerators called so have. The first that fits is taken.
///
/// Profiles of makers of which nothing is published are those of the nearest kind that is: a stated assumption, and outside of
/// the calibrated range.
const PROFILES: [(&str, Links, ScaleUpProfile); 21] = [
    ("a100", Links::Switched, ScaleUpProfile::AMPERE),
    // Six links of `NVLink` 2 in a mesh that is taken as switched, as in the fit of its published rows.
    ("v100", Links::Switched, ScaleUpProfile::AMPERE),
    ("h100", Links::Switched, ScaleUpProfile::HOPPER),
    ("h200", Links::Switched, ScaleUpProfile::HOPPER),
    ("h800", Links::Switched, ScaleUpProfile::HOPPER),
    ("h20", Links::Switched, ScaleUpProfile::HOPPER),
    ("gh200", Links::Switched, ScaleUpProfile::HOPPER),
    ("gb200", Links::Switched, ScaleUpProfile::NVL72),
    ("gb300", Links::Switched, ScaleUpProfile::NVL72),
    ("b200", Links::Switched, ScaleUpProfile::BLACKWELL),
    ("b300", Links::Switched, ScaleUpProfile::BLACKWELL),
    ("mi", Links::FullMesh, ScaleUpProfile::INFINITY_FABRIC),
    ("gaudi", Links::FullMesh, ScaleUpProfile::INFINITY_FABRIC),
    ("ascend-910b", Links::FullMesh, ScaleUpProfile::INFINITY_FABRIC),
    ("ascend", Links::Switched, WITHOUT_SUMS),
    ("trainium3", Links::Switched, WITHOUT_SUMS),
    // Four by four, each to its four neighbours.
    ("trainium", Links::Torus([4, 4, 1]), WITHOUT_SUMS),
    // `PCIe` cards through the host.
    ("l4", Links::Host, ScaleUpProfile::PCIE_HOST),
    // Served models of eight cards are not slowed as the host of the L40S is.
    ("rtx-pro", Links::Host, ScaleUpProfile::PCIE_PEER),
    ("rtx", Links::Host, ScaleUpProfile::PCIE_HOST),
    ("t4", Links::Host, ScaleUpProfile::PCIE_HOST),
];

/// Links through switches that do not add.
const WITHOUT_SUMS: ScaleUpProfile = ScaleUpProfile { switch_share: 0.0, ..ScaleUpProfile::NVSWITCH };

/// Sides of the largest slice of each generation, from Google's system architecture pages; from memory where the catalogue's
/// `scale_up_domain` is.
const TORI: [(&str, [u32; 3]); 7] = [
    ("tpu-v2", [16, 16, 1]),
    ("tpu-v3", [32, 32, 1]),
    ("tpu-v4", [16, 16, 16]),
    ("tpu-v5e", [16, 16, 1]),
    ("tpu-v5p", [16, 20, 28]),
    ("tpu-v6e", [16, 16, 1]),
    ("tpu-v7x", [16, 24, 24]),
];

/// PCI Express 4 of 16 lanes, each way.
const PCIE: BytesPerSec = BytesPerSec(32e9);
/// Accelerators in a node without links of their own: stated assumption, as many as a server has slots for.
const SLOTS: u32 = 8;

/// PCI Express 5 of 16 lanes, each way, and what the names of accelerators that have it start with.
const PCIE_5: (BytesPerSec, &str) = (BytesPerSec(63e9), "rtx-pro-6000");

/// The links that join `accelerator` to its peers.
pub fn scale_up(accelerator: &Accelerator) -> ScaleUp {
    let domain = accelerator.scale_up_domain.max(1);
    let over = |accelerators: u32, bandwidth: BytesPerSec, links: Links, profile: ScaleUpProfile| ScaleUp {
        accelerators,
        bandwidth,
        links,
        in_switch: profile.switch_share > 0.0,
        profile,
    };
    let found = PROFILES.iter().find(|(start, ..)| accelerator.name.starts_with(start));
    let torus = TORI.iter().find(|(start, _)| accelerator.name.starts_with(start));
    let pcie = if accelerator.name.starts_with(PCIE_5.1) { PCIE_5.0 } else { PCIE };
    match (accelerator.scale_up, found, torus) {
        (Some(bandwidth), Some((_, Links::Host, profile)), _) => {
            over(domain.max(SLOTS), bandwidth, Links::Host, *profile)
        }
        (None, Some((_, Links::Host, profile)), _) => over(domain.max(SLOTS), pcie, Links::Host, *profile),
        (Some(bandwidth), Some((_, links, profile)), _) => over(domain, bandwidth, *links, *profile),
        (Some(bandwidth), None, Some((_, sides))) => over(domain, bandwidth, Links::Torus(*sides), WITHOUT_SUMS),
        (Some(bandwidth), None, None) => over(domain, bandwidth, Links::Switched, WITHOUT_SUMS),
        (None, _, _) => over(domain.max(SLOTS), PCIE, Links::Host, ScaleUpProfile::PCIE_PEER),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectives::{Group, Kind, time};
    use crate::hardware::Machine;
    use dh_blueprint::Catalog;
    use dh_units::Bytes;

    #[test]
    fn every_accelerator_of_the_catalogue_is_a_machine_of_which_eight_exchange() {
        let network = Network {
            bandwidth: BytesPerSec(25e9),
            oversubscription: 1.0,
            in_network: false,
            profile: ScaleOutProfile::ROCE,
        };
        let catalog = Catalog::builtin();
        let mut seen = 0;
        for item in catalog.accelerators() {
            let machine = Machine::new(Accelerator::of(item).unwrap(), Some(network));
            let up = machine.fabric.scale_up;
            let group = Group { ranks: 8, per_domain: up.accelerators.min(8) };
            for kind in Kind::ALL {
                let answer = time(kind, Bytes(1 << 26), group, &machine.fabric).unwrap();
                // A part of each vector has to leave, and no link is faster than the data sheet's allows.
                let least = 0.05 * f64::from(1_u32 << 26) / (up.bandwidth.0 * f64::from(group.domains().min(2)));
                assert!(answer.seconds.0 > least && answer.seconds.0 < 1.0, "{}: {kind:?} {answer:?}", item.name);
            }
            seen += 1;
        }
        assert!(seen >= 39, "{seen}");
    }

    #[test]
    fn sides_of_a_torus_multiply_to_the_domain_of_the_catalogue() {
        let catalog = Catalog::builtin();
        for (name, sides) in TORI {
            let item = catalog.accelerator(name).unwrap();
            assert_eq!(item.scale_up_domain.as_ref().unwrap().value, sides.iter().product::<u32>(), "{name}");
        }
    }

    #[test]
    fn cards_without_links_of_their_own_share_a_host() {
        let catalog = Catalog::builtin();
        for name in ["l4", "l40s", "rtx-4090", "t4", "a10", "h100-80gb-pcie"] {
            let up = scale_up(&Accelerator::named(catalog, name).unwrap());
            assert_eq!((up.links, up.accelerators), (Links::Host, 8), "{name}");
        }
    }
}
