//! Hardware in the figures that the models need, read from the catalogue.
//!
//! Invariant: peaks and bandwidths are those of data sheets; what of them is reached is the business of efficiency profiles.

use dh_blueprint::{AcceleratorClass, AcceleratorItem, Catalog};
use dh_units::{Bytes, BytesPerSec, FlopPerSec, Watts};

use crate::collectives::Fabric;
use crate::error::Error;

/// The number format of a matrix product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// 32 bits, products in 19.
    Tf32,
    /// IEEE half precision.
    Fp16,
    /// bfloat16.
    Bf16,
    /// 8-bit floating point.
    Fp8,
    /// 4-bit floating point with shared scales.
    Fp4,
}

impl Format {
    /// Bytes of one element, scales included: a scale of 8 bits for 16 elements of 4 bits, none worth counting for 8 bits.
    pub const fn bytes(self) -> f64 {
        match self {
            Self::Tf32 => 4.0,
            Self::Fp16 | Self::Bf16 => 2.0,
            Self::Fp8 => 1.0,
            Self::Fp4 => 0.5625,
        }
    }
}

/// One accelerator, as a program sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Accelerator {
    /// Its name in the catalogue.
    pub name: String,
    /// Its family.
    pub class: AcceleratorClass,
    /// Dense peaks by [`Format`]: TF32, fp16, bf16, fp8, fp4.
    peaks: [Option<FlopPerSec>; 5],
    /// Its own memory.
    pub memory: Bytes,
    /// To and from its own memory.
    pub bandwidth: BytesPerSec,
    /// To its peers, each direction, over all links together.
    pub scale_up: Option<BytesPerSec>,
    /// Accelerators that its scale-up links join; 1 without such links.
    pub scale_up_domain: u32,
    /// Thermal design power, if it is known.
    pub tdp: Option<Watts>,
    /// The fastest bf16 matrix product that was measured, over the peak in bf16; if it is known.
    pub measured_share: Option<f64>,
}

impl Accelerator {
    /// The accelerator of the catalogue's `item`.
    /// # Errors
    /// [`Error::Impossible`] if the catalogue has neither its half-precision speed nor its memory.
    pub fn of(item: &AcceleratorItem) -> Result<Self, Error> {
        let value = |number: &Option<dh_blueprint::Sourced<FlopPerSec>>| number.as_ref().map(|number| number.value);
        let half = value(&item.bf16).or(value(&item.fp16));
        let (Some(half), Some(memory), Some(bandwidth)) = (half, &item.memory, &item.bandwidth) else {
            return Err(Error::Impossible("the catalogue lacks the accelerator's speed, memory or bandwidth"));
        };
        Ok(Self {
            name: item.name.clone(),
            class: item.class.value,
            peaks: [
                value(&item.tf32),
                value(&item.fp16).or(Some(half)),
                Some(half),
                value(&item.fp8),
                value(&item.fp4),
            ],
            memory: memory.value,
            bandwidth: bandwidth.value,
            scale_up: item.scale_up.as_ref().map(|number| number.value),
            scale_up_domain: item.scale_up_domain.as_ref().map_or(1, |number| number.value),
            tdp: item.tdp.as_ref().map(|number| number.value),
            measured_share: item.measured_matmul_bf16.as_ref().map(|number| number.value / half),
        })
    }

    /// The accelerator called `name` in `catalog`.
    /// # Errors
    /// [`Error::Impossible`] if there is none, or too little is known of it.
    pub fn named(catalog: &Catalog, name: &str) -> Result<Self, Error> {
        catalog
            .accelerator(name)
            .ok_or(Error::Impossible("the catalogue does not have this accelerator"))
            .and_then(Self::of)
    }

    /// Dense peak in `format`; `None` where the hardware does not have it.
    pub fn peak(&self, format: Format) -> Option<FlopPerSec> {
        let at = match format {
            Format::Tf32 => 0,
            Format::Fp16 => 1,
            Format::Bf16 => 2,
            Format::Fp8 => 3,
            Format::Fp4 => 4,
        };
        self.peaks.get(at).copied().flatten()
    }
}

/// Accelerators and what they talk over.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    /// Each of them.
    pub accelerator: Accelerator,
    /// Their links and their network.
    pub fabric: Fabric,
}

mod links;

pub use links::{Network, scale_up};

impl Machine {
    /// Accelerators with the links that their kind has, and between their domains `network`.
    pub fn new(accelerator: Accelerator, network: Option<Network>) -> Self {
        let fabric = Fabric { scale_up: scale_up(&accelerator), scale_out: network.map(Network::scale_out) };
        Self { accelerator, fabric }
    }
}
