//! Machines and what stands in them: accelerators, drives, nodes.
//!
//! Invariant: speeds are dense peaks of one accelerator as its maker states them; what was measured has its own key.

use dh_units::{BitsPerSec, Bytes, BytesPerSec, FlopPerSec, Usd, Watts};

use crate::catalog::Catalog;
use crate::catalog::fact::{Sourced, words};
use crate::catalog::item::item;
use crate::catalog::slices::Slices;
use crate::codes::Code;
use crate::names::suggestion;
use crate::problem::quoted;
use crate::section::Section;

words! {
    /// A family of accelerators.
    AcceleratorClass {
        /// Graphics processor.
        Gpu = "gpu",
        /// Matrix processor of another maker.
        Npu = "npu",
        /// Google's tensor processor.
        Tpu = "tpu",
    }
}

item! {
    /// One accelerator, as a program sees it. Peaks are dense: without the zeros that a data sheet may count twice.
    AcceleratorItem: Accelerator, ACCELERATORS, accelerators, ["bf16", "memory", "bandwidth", "scale_up", "tdp", "price"];
    needed {
        /// Its family.
        class: AcceleratorClass,
    }
    known {
        /// Peak in 64-bit floating point, vector units.
        fp64: FlopPerSec,
        /// Peak in 32-bit floating point, vector units.
        fp32: FlopPerSec,
        /// Peak in TF32: 32-bit numbers with 10 bits of mantissa.
        tf32: FlopPerSec,
        /// Peak in bfloat16, the usual number of training.
        bf16: FlopPerSec,
        /// Peak in IEEE half precision, where it is not that of bfloat16 or there is no bfloat16.
        fp16: FlopPerSec,
        /// Peak in 8-bit floating point.
        fp8: FlopPerSec,
        /// Peak in 8-bit whole numbers; an operation counts as one FLOP.
        int8: FlopPerSec,
        /// Peak in 4-bit floating point.
        fp4: FlopPerSec,
        /// Its own memory.
        memory: Bytes,
        /// To and from its own memory.
        bandwidth: BytesPerSec,
        /// To its peers, in each direction, over all links together.
        scale_up: BytesPerSec,
        /// How many accelerators its scale-up links join.
        scale_up_domain: u32,
        /// Slices into which its hardware can cut it: name, parts of its processors, slots of memory, where they may begin.
        slices: Slices,
        /// Thermal design power.
        tdp: Watts,
        /// Generation of PCI Express.
        pcie: u32,
        /// The year it was first sold.
        year: u32,
        /// What one costs.
        price: Usd,
        /// What is said of its price, where it is not one number.
        price_note: String,
        /// The fastest bf16 matrix product that was measured.
        measured_matmul_bf16: FlopPerSec,
    }
}

item! {
    /// One drive.
    DriveItem: Drive, DRIVES, drives, ["capacity", "read", "write", "power", "price"];
    needed {
        /// What it holds.
        capacity: Bytes,
        /// Sequential reading.
        read: BytesPerSec,
        /// Sequential writing, kept up.
        write: BytesPerSec,
    }
    known {
        /// Busy.
        power: Watts,
        /// What one costs.
        price: Usd,
        /// What may be written to it in its life.
        endurance: Bytes,
    }
}

item! {
    /// One machine that is bought and placed as a whole; a rack where `own_rack` says so.
    NodeItem: Node, NODES, nodes, ["accelerators", "accelerator", "rated", "height_u", "price"], check = check_node;
    needed {
        /// The most it can draw.
        rated: Watts,
    }
    known {
        /// What it draws doing nothing.
        idle: Watts,
        /// The most that was measured on it.
        measured_max: Watts,
        /// How many accelerators it has; missing where the machine itself is asked.
        accelerators: u32,
        /// Which: the name of an accelerator item.
        accelerator: String,
        /// Rack units it takes.
        height_u: u32,
        /// Whether it is a full rack of its own.
        own_rack: bool,
        /// What one costs.
        price: Usd,
        /// Cores of its processors.
        cpu_cores: u32,
        /// Memory of its processors.
        memory: Bytes,
        /// Ports into the fabric that accelerators talk over.
        compute_ports: u32,
        /// Speed of each.
        compute_speed: BitsPerSec,
        /// Ports into the fabric that storage is reached over.
        storage_ports: u32,
        /// Speed of each.
        storage_speed: BitsPerSec,
        /// Ports for logins, containers and the scheduler.
        in_band_ports: u32,
        /// Speed of each.
        in_band_speed: BitsPerSec,
        /// Ports of management controllers; 1 Gb/s each.
        out_of_band_ports: u32,
        /// Drives in it that hold data, those for the system not counted.
        drives: u32,
        /// Which: the name of a drive item.
        drive: String,
    }
}

impl NodeItem {
    /// A node of which nothing is known but its accelerators and what they make it draw.
    pub(crate) fn of_accelerators(accelerator: &AcceleratorItem, count: u32, rated: Sourced<Watts>) -> Self {
        let number = |value: u32| Sourced { value, source: "blueprint".to_owned() };
        Self {
            name: format!("{count} x {}", accelerator.name),
            title: format!("{count} x {}", accelerator.title),
            vendor: None,
            rated,
            idle: None,
            measured_max: None,
            accelerators: Some(number(count)),
            accelerator: Some(Sourced { value: accelerator.name.clone(), source: "blueprint".to_owned() }),
            height_u: Some(Sourced {
                value: OWN_NODE_HEIGHT_U,
                source: "stated assumption: the height of eight-accelerator nodes of the catalogue".to_owned(),
            }),
            own_rack: None,
            price: accelerator.price.as_ref().map(|price| Sourced {
                value: price.value * f64::from(count) * OWN_NODE_PRICE_FACTOR,
                source: format!("{count} x {} ({}) x {OWN_NODE_PRICE_FACTOR} for the rest of the node (stated assumption: eight-GPU nodes of the catalogue cost 1.2 to 1.3 times their accelerators)", price.value, price.source),
            }),
            cpu_cores: None,
            memory: None,
            compute_ports: None,
            compute_speed: None,
            storage_ports: None,
            storage_speed: None,
            in_band_ports: None,
            in_band_speed: None,
            out_of_band_ports: None,
            drives: None,
            drive: None,
            notes: None,
        }
    }
}

/// Rack units of a node that is only known by its accelerators: DGX H100 has 8.
const OWN_NODE_HEIGHT_U: u32 = 8;

/// Price of such a node over that of its accelerators.
const OWN_NODE_PRICE_FACTOR: f64 = 1.25;

/// The parts it names exist, and no power is above the rated one.
fn check_node(node: &NodeItem, section: &Section<'_>, catalog: &Catalog) {
    let unknown = |key, written: &str, known: Vec<&str>| {
        let message = format!("the catalogue has no {key} {}", quoted(written));
        let hint = suggestion(written, known, key);
        section.problems.add(Code::NOT_IN_CATALOG, &section.key_at(key), message, Some(hint));
    };
    if let Some(written) = node.accelerator.as_ref().map(|accelerator| accelerator.value.as_str())
        && catalog.accelerator(written).is_none()
    {
        unknown("accelerator", written, catalog.names(crate::catalog::Kind::Accelerator));
    }
    if let Some(written) = node.drive.as_ref().map(|drive| drive.value.as_str())
        && catalog.drive(written).is_none()
    {
        unknown("drive", written, catalog.names(crate::catalog::Kind::Drive));
    }
    for (key, power) in [("idle", &node.idle), ("measured_max", &node.measured_max)] {
        if let Some(power) = power
            && power.value > node.rated.value
        {
            let (power, rated) = (power.value, node.rated.value);
            let message = format!("`{key}` is {power}, above the rated power of {rated}");
            let place = if section.has(key) { section.key_at(key) } else { section.key_at("rated") };
            section.problems.add(Code::IDLE_ABOVE_RATED, &place, message, None);
        }
    }
}
