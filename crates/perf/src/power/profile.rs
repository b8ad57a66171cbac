//! What the model of power has learned.
//!
//! A profile is the catalogue's `power`, with the numbers of `power-NAME` in place of its own for the accelerator NAME.
//! Invariant: each number is finite and within its bounds, whatever a file says.

use dh_blueprint::Catalog;

macro_rules! numbers {
    ($($name:ident = $start:literal in $low:literal .. $high:literal: $meaning:literal;)*) => {
        /// What the model of power has learned. Shares without another word are of thermal design power.
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub struct Profile {
            $(#[doc = $meaning] pub $name: f64,)*
            /// Published runs of the accelerator entered the fit of what it draws.
            pub calibrated: Option<Calibrated>,
            /// Published traces of the accelerator entered the fit of what a cap does.
            pub cap_calibrated: Option<Calibrated>,
        }

        impl Default for Profile {
            /// Before any fit.
            fn default() -> Self {
                Self { $($name: $start,)* calibrated: None, cap_calibrated: None }
            }
        }

        impl Profile {
            /// Every number: its name, what it means, the least and the most it can be.
            pub const NUMBERS: &[(&str, &str, f64, f64)] = &[$((stringify!($name), $meaning, $low, $high),)*];

            /// Sets the number called `name`, within its bounds; what has another name or is not finite is left alone.
            pub fn set(&mut self, name: &str, value: f64) {
                if !value.is_finite() {
                    return;
                }
                match name {
                    $(stringify!($name) => self.$name = value.clamp($low, $high),)*
                    _ => {}
                }
            }

            /// The number called `name`.
            pub fn get(&self, name: &str) -> Option<f64> {
                match name {
                    $(stringify!($name) => Some(self.$name),)*
                    _ => None,
                }
            }
        }
    };
}

/// Published measurements of the accelerator entered the fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Calibrated;

numbers! {
    idle = 0.15 in 0.05 .. 0.3: "drawn at rest between kernels, clocks up";
    busy = 0.4 in 0.1 .. 1.0: "more while any kernel runs";
    memory = 0.1 in 0.0 .. 1.0: "more at the full bandwidth of memory";
    compute = 0.5 in 0.0 .. 5.0: "more at the peak of products";
    links = 0.05 in 0.0 .. 0.3: "more at the full bandwidth of links to peers";
    dense_bandwidth = 0.8 in 0.3 .. 1.0: "of memory bandwidth, reached while weights and caches are read";
    expert_bandwidth = 0.4 in 0.05 .. 1.0: "of memory bandwidth, reached while experts are read";
    matrix_rate = 0.2 in 0.03 .. 1.0: "of the peak of products, below which an accelerator is not always busy";
    token_work = 2.0 in 1.0 .. 10.0: "operations switched for each that decoding needs: attention, sampling, padding";
    rescaling = 0.5 in 0.0 .. 3.0: "of the peak of products, switched while 8-bit experts are rescaled block by block";
    layer_us = 8.0 in 0.0 .. 100.0: "microseconds of a layer besides its reading and products";
    exchange_us = 50.0 in 0.0 .. 150.0: "microseconds more of a layer that several accelerators share";
    prefill_compute = 0.3 in 0.0 .. 1.0: "of the peak of products, while prompts are read";
    preprocessing_busy = 0.5 in 0.0 .. 1.0: "of time, while pictures are made ready";
    spread_low = 0.8 in 0.1 .. 1.0: "low end of the interval of power, times the prediction";
    spread_high = 1.25 in 1.0 .. 5.0: "high end";
    denoise_low = 0.8 in 0.1 .. 1.0: "low end of the interval of power of making pictures, times the prediction";
    denoise_high = 1.25 in 1.0 .. 5.0: "high end";
    cap_static = 0.2 in 0.02 .. 0.35: "drawn whatever the clock, of the default limit";
    cap_knee = 0.8 in 0.5 .. 0.99: "clock at which voltage is at its least, of the clock without a cap";
    cap_held = 0.97 in 0.85 .. 1.1: "power that a cap lets through, times the cap";
    cap_bound = 0.3 in 0.0 .. 2.0: "power of the share of its range that a job draws which gives its share bound to the clock";
    bite_low = 0.9 in 0.1 .. 1.0: "low end of the interval of the slowdown where a cap bites, times the prediction";
    bite_high = 1.15 in 1.0 .. 5.0: "high end";
    free_low = 0.97 in 0.5 .. 1.0: "low end of the interval of the slowdown where a cap does not bite";
    free_high = 1.04 in 1.0 .. 2.0: "high end";
}

impl Profile {
    /// The profile of an accelerator, from the catalogue's efficiency profiles `power` and `power-NAME`.
    pub fn of(catalog: &Catalog, accelerator: &str) -> Self {
        let mut profile = Self::default();
        let own = format!("power-{accelerator}");
        for name in ["power", own.as_str()] {
            let Some(item) = catalog.efficiency(name) else { continue };
            for (number, value) in &item.numbers.value.0 {
                profile.set(number, *value);
            }
            let hardware = item.hardware.as_ref().map_or(&[][..], |hardware| &hardware.value.0);
            if hardware.iter().any(|known| known == accelerator) {
                let numbers = &item.numbers.value.0;
                profile.calibrated = numbers.contains_key("busy").then_some(Calibrated).or(profile.calibrated);
                profile.cap_calibrated = (name != "power" && numbers.contains_key("cap_knee"))
                    .then_some(Calibrated)
                    .or(profile.cap_calibrated);
            }
        }
        profile
    }
}
