//! What the model of training has learned: numbers by name, with what each means and what it is without any measurement.
//!
//! Invariant: a profile is made of layers of the catalogue's efficiency items of the subject `training`: those of any hardware
//! and any stack, over them those that name the accelerator, over them those of the software stack. A number that no layer has
//! is the default here.

use dh_blueprint::{Catalog, Subject};

use crate::hardware::Accelerator;

/// One number of a profile.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Number {
    /// Its name in a profile's file.
    pub name: &'static str,
    /// What it means, with its unit.
    pub meaning: &'static str,
    /// What it is where no file says.
    pub default: f64,
    /// The least it can be.
    pub low: f64,
    /// The most it can be.
    pub high: f64,
}

macro_rules! numbers {
    ($($(#[doc = $doc:literal])* $name:ident = $default:literal, $low:literal, $high:literal;)*) => {
        /// What of the data sheet is reached, and what hides behind what.
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub struct Profile {
            $( $(#[doc = $doc])* pub $name: f64, )*
            /// Whether a file names the accelerator.
            pub known_accelerator: bool,
            /// Whether a file names the software stack.
            pub known_stack: bool,
        }

        impl Profile {
            /// Every number there is.
            pub const NUMBERS: &'static [Number] = &[
                $( Number {
                    name: stringify!($name),
                    meaning: concat!($($doc),*),
                    default: $default,
                    low: $low,
                    high: $high,
                }, )*
            ];

            /// Physics and assumptions alone.
            pub const DEFAULT: Self = Self {
                $( $name: $default, )*
                known_accelerator: false,
                known_stack: false,
            };

            /// Sets the number called `name`, inside its bounds; an unknown name is passed over.
            pub fn set(&mut self, name: &str, value: f64) {
                match name {
                    $( stringify!($name) => self.$name = value.clamp($low, $high), )*
                    _ => {}
                }
            }

            /// The number called `name`.
            pub fn get(&self, name: &str) -> Option<f64> {
                match name {
                    $( stringify!($name) => Some(self.$name), )*
                    _ => None,
                }
            }
        }
    };
}

numbers! {
    /// Share of the bf16 peak that large matrix products reach
    gemm = 0.75, 0.2, 0.98;
    /// Share of the fp8 peak that they reach
    gemm_fp8 = 0.6, 0.15, 0.95;
    /// Share of the fp4 peak that they reach
    gemm_fp4 = 0.4, 0.1, 0.95;
    /// Smallest side of a product that reaches half of that, on hardware with 150 operations a byte
    half_side = 120.0, 5.0, 2000.0;
    /// Share of the bf16 peak that fused attention reaches
    attention = 0.45, 0.1, 0.9;
    /// Share of memory bandwidth that operators reach which compute little
    memory = 0.75, 0.2, 1.0;
    /// Passes over memory of norms, activation functions and residuals, over those of fused kernels
    vector = 1.5, 0.3, 8.0;
    /// Time of quantisation to 8 or 4 bits, over one pass over memory
    quantise = 1.0, 0.0, 6.0;
    /// Matrix products of experts: smallest side that reaches half, over that of others
    expert_side = 2.0, 0.3, 20.0;
    /// Routing and permuting of tokens to experts, over one pass over memory
    permute = 4.0, 0.0, 40.0;
    /// Imbalance of experts: tokens of the busiest over the mean
    imbalance = 1.1, 1.0, 2.0;
    /// Share of tensor-parallel exchange that nothing hides
    tensor_exposed = 0.8, 0.05, 1.5;
    /// Share of context-parallel exchange that nothing hides
    context_exposed = 0.3, 0.0, 1.5;
    /// Share of expert-parallel exchange that nothing hides
    expert_exposed = 0.7, 0.05, 2.5;
    /// Share of messages between stages that nothing hides
    pipeline_exposed = 0.5, 0.0, 3.0;
    /// Share of computing behind which the gathering of sharded weights hides
    data_hidden = 0.8, 0.0, 1.0;
    /// Share of the gathering of sharded weights that slows computing, hidden or not
    data_leak = 0.1, 0.0, 1.0;
    /// Share of the exchange of gradients and weights once a step that nothing hides
    gradient_exposed = 0.5, 0.0, 1.5;
    /// Share of the pipeline's ideal bubble that is paid
    bubble = 1.0, 0.5, 2.0;
    /// What the host takes to start a layer's kernels in one pass, microseconds; seen where kernels are shorter
    host_us = 150.0, 1.0, 500.0;
    /// The same for a layer of experts, on top
    expert_host_us = 400.0, 1.0, 3000.0;
    /// Bytes a second that a state in host memory moves for each accelerator, in 10^9
    offload_gb = 10.0, 1.0, 60.0;
    /// Share of the forward pass that recomputation of selected operators repeats
    operators = 0.4, 0.0, 1.0;
    /// The same for layers of experts, on top
    expert_slowdown = 1.0, 0.6, 3.0;
    /// Time over what the model of hardware says: what this software does besides
    slowdown = 1.0, 0.6, 2.5;
}

/// The name of a stack that is any.
pub const ANY: &str = "any";

impl Profile {
    /// The profile of an accelerator of the catalogue under software that nothing is known of.
    pub fn of(catalog: &Catalog, accelerator: &str) -> Self {
        Self::under(catalog, accelerator, ANY)
    }

    /// The profile of an accelerator under a software stack, by the stack's name in the catalogue's profiles: `NAME`, or
    /// `NAME RELEASE`, which has the numbers of `NAME` where it has none of its own.
    pub fn under(catalog: &Catalog, accelerator: &str, stack: &str) -> Self {
        let mut profile = Self::DEFAULT;
        if let Some(share) = Accelerator::named(catalog, accelerator).ok().and_then(|found| found.measured_share) {
            // What the best product reaches, a model's do not quite: stated assumption.
            profile.gemm = share * 0.95;
        }
        // Any hardware and any stack first, then the hardware, then the stack, then its release.
        let family = stack.split(' ').next().unwrap_or(stack);
        for level in 0..4 {
            for item in catalog.efficiencies().filter(|item| item.subject.value == Subject::Training) {
                let hardware = item.hardware.as_ref().map_or(&[][..], |hardware| &hardware.value.0[..]);
                let any_hardware = hardware.iter().all(|name| name == ANY);
                let of_this = hardware.iter().any(|name| name == accelerator);
                let of_family = item.stack.value == family && family != ANY;
                let of_release = item.stack.value == stack && stack != family;
                let wanted = match level {
                    0 => any_hardware && item.stack.value == ANY,
                    1 => of_this && item.stack.value == ANY,
                    2 => of_family && (any_hardware || of_this),
                    _ => of_release && (any_hardware || of_this),
                };
                if wanted {
                    item.numbers.value.0.iter().for_each(|(name, value)| profile.set(name, *value));
                    profile.known_accelerator |= level == 1;
                    profile.known_stack |= level == 2;
                }
            }
        }
        profile
    }
}
