//! What bytes travel over between machines: network cards, switches, cables and optics, links inside.
//!
//! Invariant: speeds are in bits per second and in one direction, as ports are sold; memory and scale-up bandwidths of
//! accelerators are in bytes. A switch's power leaves out what is plugged into it: that is the power of the cable's end.

use dh_units::{BitsPerSec, Meters, Seconds, Usd, Watts};

use crate::catalog::fact::words;
use crate::catalog::item::item;

item! {
    /// A network card.
    NicItem: Nic, NICS, nics, ["ports", "speed", "power", "price", "fabric"];
    needed {
        /// Of each port.
        speed: BitsPerSec,
    }
    known {
        /// Ports of one card; for a cloud's adapters, adapters of one node.
        ports: u32,
        /// Without optics.
        power: Watts,
        /// What one costs.
        price: Usd,
        /// The networks it speaks.
        fabric: String,
    }
}

words! {
    /// What a switch switches.
    SwitchKind {
        /// Packets; a whole device.
        Packet = "packet",
        /// Light, without looking at it: an optical circuit switch.
        Ocs = "ocs",
        /// Packets; the chip alone, which others build devices from.
        Asic = "asic",
    }
}

item! {
    /// A switch.
    SwitchItem: Switch, SWITCHES, switches, ["kind", "ports", "speed", "power", "height_u", "price", "fabric"];
    needed {
        /// What it switches.
        kind: SwitchKind,
        /// Ports at `speed`; its radix.
        ports: u32,
        /// Of each port, in each direction.
        speed: BitsPerSec,
    }
    known {
        /// All ports together, counted as its maker does.
        throughput: BitsPerSec,
        /// From port to port.
        latency: Seconds,
        /// Without what stands in its cages.
        power: Watts,
        /// Holes in its front plate that a connector goes into.
        cages: u32,
        /// Ports of one cage.
        ports_per_cage: u32,
        /// Slower ports beside the others, towards the next tier.
        uplinks: u32,
        /// Of each uplink.
        uplink_speed: BitsPerSec,
        /// What it can add up on the way.
        in_network_reduction: String,
        /// Rack units it takes.
        height_u: u32,
        /// What one costs.
        price: Usd,
        /// The networks it speaks.
        fabric: String,
    }
}

words! {
    /// How a cable carries bits.
    CableKind {
        /// Copper with nothing in it.
        Dac = "dac",
        /// Copper with amplifiers in its ends.
        Aec = "aec",
        /// Twisted pairs, for management.
        Copper = "copper",
        /// Optics of one end; fibre is bought beside it.
        Optic = "optic",
        /// Fibre with its optics fixed to it.
        Aoc = "aoc",
        /// Fibre alone, between two optics.
        Fiber = "fiber",
    }
}

item! {
    /// A cable, or the optics of one of its ends.
    CableItem: Cable, CABLES, cables, ["kind", "ports", "speed", "reach", "power", "price", "fabric"];
    needed {
        /// How it carries bits.
        kind: CableKind,
        /// Ports it joins at each end; two for twin-port optics and splitters.
        ports: u32,
        /// Of each port.
        speed: BitsPerSec,
    }
    known {
        /// The longest it works over.
        reach: Meters,
        /// At each end.
        power: Watts,
        /// What one costs; of optics, one end.
        price: Usd,
        /// The networks it carries.
        fabric: String,
    }
}

words! {
    /// What a link joins.
    LinkKind {
        /// Accelerators with each other.
        ScaleUp = "scale-up",
        /// An accelerator or card with its host.
        Host = "host",
        /// A port of a network generation.
        Port = "port",
    }
}

item! {
    /// A link inside a machine or a rack, or a port of a network generation.
    LinkItem: Link, LINKS, links, ["kind", "ports", "speed", "latency", "fabric"];
    needed {
        /// What it joins.
        kind: LinkKind,
        /// How many ends one domain has.
        ports: u32,
        /// Of each end, in each direction.
        speed: BitsPerSec,
    }
    known {
        /// From end to end.
        latency: Seconds,
        /// What it can add up on the way.
        in_network_reduction: String,
        /// Its family.
        fabric: String,
    }
}
