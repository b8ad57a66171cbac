//! What the model of serving has learned, by generation of accelerators and by family of engines.
//!
//! Invariant: without any profile in the catalogue the numbers are those of physics and of the sources named beside them;
//! a profile of a generation or of an engine replaces only the numbers that it has.

use dh_blueprint::{Catalog, Subject};

/// One number of a profile.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Number {
    /// Its name in files.
    pub name: &'static str,
    /// What it means, with its unit.
    pub meaning: &'static str,
    /// What it is without a profile.
    pub start: f64,
    /// The least it can be.
    pub low: f64,
    /// The most it can be.
    pub high: f64,
}

macro_rules! numbers {
    ($($name:ident = $start:literal, $low:literal ..= $high:literal, $meaning:literal;)*) => {
        /// What of the data sheet is reached, and what a step costs besides.
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub struct Profile {
            $(#[doc = $meaning] pub $name: f64,)*
        }

        impl Profile {
            /// Every number, in the order of files.
            pub const NUMBERS: &[Number] = &[
                $(Number { name: stringify!($name), meaning: $meaning, start: $start, low: $low, high: $high },)*
            ];

            /// Without any profile.
            pub const START: Self = Self { $($name: $start,)* };

            /// The number called `name`.
            pub fn get(&self, name: &str) -> Option<f64> {
                match name {
                    $(stringify!($name) => Some(self.$name),)*
                    _ => None,
                }
            }

            /// Sets the number called `name`, inside its bounds; another name changes nothing.
            pub fn set(&mut self, name: &str, value: f64) {
                match name {
                    $(stringify!($name) => self.$name = value.clamp($low, $high),)*
                    _ => {}
                }
            }
        }
    };
}

numbers! {
    gemm = 0.7, 0.2 ..= 1.0, "share of the dense peak that large products of 16 bits reach";
    gemm_8 = 0.55, 0.15 ..= 1.0, "share of the dense peak that large products of 8 bits reach";
    gemm_4 = 0.4, 0.1 ..= 1.0, "share of the dense peak that large products of 4 bits reach";
    tile = 64.0, 8.0 ..= 256.0, "rows that a product is padded by: what half a tile costs";
    bandwidth = 0.75, 0.3 ..= 1.0, "share of memory bandwidth at which weights of dense products are read";
    experts = 0.6, 0.15 ..= 1.0, "share of memory bandwidth at which weights of routed experts are read";
    cache = 0.6, 0.1 ..= 1.0, "share of memory bandwidth at which keys and values are read";
    attention = 0.4, 0.1 ..= 1.0, "share of the 16-bit peak that attention over a prompt reaches";
    exchange = 10e-6, 2e-6 ..= 40e-6, "seconds of a sum over a replica's accelerators that has few bytes";
    kernel = 25e-6, 3e-6 ..= 150e-6, "seconds of small kernels of a layer in a captured decode step";
    expert_kernel = 15e-6, 0.5e-6 ..= 150e-6, "seconds that routing adds to a layer with experts";
    mixer_kernel = 15e-6, 0.5e-6 ..= 150e-6, "seconds that latent attention or a state adds to a layer";
    imbalance = 0.2, 0.0 ..= 1.5, "how much more the fullest of parts of the experts has, over the mean";
    host = 1e-3, 0.05e-3 ..= 8e-3, "seconds of scheduling and sampling of a step";
    sequence = 20e-6, 1e-6 ..= 150e-6, "seconds of a step on the host and in sampling for each sequence";
    eager = 350e-6, 20e-6 ..= 2500e-6, "seconds of a layer at least, in passes over prompts, which are launched kernel by kernel";
    mixer_eager = 250e-6, 5e-6 ..= 4000e-6, "seconds that latent attention or a state adds to that";
    mixed = 0.5, 0.0 ..= 1.0, "share of passes over prompts that decode as well";
    first = 30e-3, 1e-3 ..= 250e-3, "seconds of a request outside of passes: network, tokens, queue, first answer";
    arrival = 1e-3, 0.05e-3 ..= 10e-3, "seconds of a request outside of passes that others wait for";
    burst = 0.1, 0.0 ..= 0.6, "share of the other requests that wait for prefill when one arrives, beyond a steady queue";
    tpot_spread = 1.35, 1.02 ..= 3.0, "factor within which four of five measured times per token lie";
    ttft_spread = 1.9, 1.05 ..= 5.0, "factor within which four of five measured times to the first token lie";
    rate_spread = 1.6, 1.05 ..= 4.0, "factor within which four of five measured rates at full load lie";
}

/// What an accelerator's name starts with, and its generation.
const GENERATIONS: [(&str, &str); 15] = [
    ("mi300x", "cdna3"),
    ("mi325x", "cdna3"),
    ("rtx-pro-6000", "blackwell-pcie"),
    ("v100", "volta"),
    ("a100", "ampere"),
    ("a10", "ampere"),
    ("h100", "hopper"),
    ("h200", "hopper"),
    ("h800", "hopper"),
    ("h20", "hopper"),
    ("gh200", "hopper"),
    ("b200", "blackwell"),
    ("b300", "blackwell"),
    ("gb200", "blackwell"),
    ("gb300", "blackwell"),
];

/// The generation of an accelerator of the catalogue: its own name where it has no kin.
pub fn generation(accelerator: &str) -> &str {
    let found = GENERATIONS.iter().find(|(start, _)| accelerator.starts_with(start));
    found.map_or(accelerator, |(_, generation)| generation)
}

/// The family of an engine: `vllm`, `sglang`, `trtllm`, or empty where no profile is of it.
pub fn family(engine: &str) -> &'static str {
    let written = engine.to_lowercase();
    // NIM serves large models by TensorRT-LLM.
    let names =
        [("vllm", "vllm"), ("sglang", "sglang"), ("trtllm", "trtllm"), ("tensorrt", "trtllm"), ("nim", "trtllm")];
    names.iter().find(|(start, _)| written.starts_with(start)).map_or("", |(_, family)| family)
}

impl Profile {
    /// The profile of an accelerator under an engine, from the catalogue's efficiency profiles: that of any, then that of
    /// the accelerator's generation, then that of the engine's family.
    pub fn of(catalog: &Catalog, accelerator: &str, engine: &str) -> Self {
        let mut profile = Self::START;
        let engine = family(engine);
        for name in ["serving", &format!("serving-{}", generation(accelerator)), &format!("serving-{engine}")] {
            if let Some(item) = catalog.efficiency(name).filter(|item| item.subject.value == Subject::Serving) {
                for (name, value) in &item.numbers.value.0 {
                    profile.set(name, *value);
                }
            }
        }
        profile
    }
}
