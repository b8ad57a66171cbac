//! The numbers of the collectives' profiles: what each means, its bounds, and what it is held to be without any row.
//!
//! Invariant: no prior comes from a fit. Priors are round numbers of the order that data sheets and the published overheads
//! of launches give (stated assumption), so that a source that is held out says nothing of itself.

use dh_blueprint::Catalog;
use dh_perf::collectives::{ScaleOutProfile, ScaleUpProfile};
use dh_units::{Bytes, Seconds, real, whole};

use crate::fit::{Parameter, Scale};

/// Every profile of the model.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Profiles {
    pub(super) up: Vec<ScaleUpProfile>,
    pub(super) out: Vec<ScaleOutProfile>,
}

/// A number of a profile.
pub(super) struct Knob<P> {
    pub(super) name: &'static str,
    meaning: &'static str,
    low: f64,
    high: f64,
    prior: f64,
    scale: Scale,
    pub(super) get: fn(&P) -> f64,
    pub(super) set: fn(&mut P, f64),
    /// Which rows it can matter to.
    pub(super) of: Of,
}

/// Which exchanges a number matters to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    All,
    Rings,
    Direct,
}

/// Pull of each parameter towards its prior.
///
/// Stated assumption: a twentieth of a row that is off by a factor of e, for a factor of e.
const PULL: f64 = 0.05;

impl<P> Knob<P> {
    pub(super) fn parameter(&self, profile: &str) -> Parameter {
        Parameter {
            name: format!("{profile}.{}", self.name),
            meaning: self.meaning.to_owned(),
            low: self.low,
            high: self.high,
            prior: self.prior,
            pull: PULL,
            scale: self.scale,
        }
    }
}

macro_rules! knob {
    ($profile:ty, $field:ident, $unit:ident, $meaning:literal, $low:literal .. $high:literal, $prior:literal, $scale:ident, $of:ident) => {
        Knob::<$profile> {
            name: knob!(@name $field, $unit),
            meaning: $meaning,
            low: $low,
            high: $high,
            prior: $prior,
            scale: Scale::$scale,
            get: |profile| knob!(@get profile.$field, $unit),
            set: |profile, value| profile.$field = knob!(@set value, $unit),
            of: Of::$of,
        }
    };
    (@name $field:ident, micros) => { concat!(stringify!($field), "_us") };
    (@name $field:ident, bytes) => { concat!(stringify!($field), "_bytes") };
    (@name $field:ident, ratio) => { stringify!($field) };
    (@get $value:expr, micros) => { $value.0 * 1e6 };
    (@get $value:expr, bytes) => { $value.as_f64() };
    (@get $value:expr, ratio) => { $value };
    (@set $value:expr, micros) => { Seconds($value * 1e-6) };
    (@set $value:expr, bytes) => { Bytes(whole($value)) };
    (@set $value:expr, ratio) => { $value };
}

/// Of a profile inside a domain.
pub(super) const UP: [Knob<ScaleUpProfile>; 11] = [
    knob!(
        ScaleUpProfile,
        launch,
        micros,
        "start of the kernel and first meeting of ranks, us",
        1.0..60.0,
        8.0,
        Logarithmic,
        All
    ),
    knob!(ScaleUpProfile, step, micros, "one step of a ring or chain, us", 0.1..20.0, 1.0, Logarithmic, Rings),
    knob!(
        ScaleUpProfile,
        peer,
        micros,
        "each further peer of a direct exchange, us",
        0.1..20.0,
        1.0,
        Logarithmic,
        Direct
    ),
    knob!(ScaleUpProfile, ring_share, ratio, "of the data sheet's bandwidth, by rings", 0.2..1.0, 0.8, Linear, Rings),
    knob!(ScaleUpProfile, switch_share, ratio, "of it when the switch adds", 0.2..1.0, 0.6, Linear, Rings),
    knob!(ScaleUpProfile, direct_share, ratio, "of it when each sends to each", 0.2..1.0, 0.7, Linear, Direct),
    knob!(ScaleUpProfile, copy, ratio, "local copy of a ring, in parts of the vector", 0.0..1.0, 0.3, Linear, Rings),
    knob!(ScaleUpProfile, direct_copy, ratio, "local copy of a direct exchange", 0.0..1.0, 0.3, Linear, Direct),
    knob!(
        ScaleUpProfile,
        fill,
        micros,
        "the plain protocol before any byte has gone, us",
        1.0..500.0,
        25.0,
        Logarithmic,
        All
    ),
    knob!(ScaleUpProfile, crossover, bytes, "where half of that is paid, bytes", 2e5..4e7, 4e6, Logarithmic, All),
    knob!(ScaleUpProfile, contention, ratio, "how bandwidth falls as ranks share a host", 0.0..3.0, 1.0, Linear, All),
];

/// Of a network's profile.
pub(super) const OUT: [Knob<ScaleOutProfile>; 6] = [
    knob!(
        ScaleOutProfile,
        launch,
        micros,
        "what leaving the domain costs a call, us",
        1.0..2000.0,
        20.0,
        Logarithmic,
        All
    ),
    knob!(ScaleOutProfile, hop, micros, "one step over the network, us", 1.0..200.0, 10.0, Logarithmic, All),
    knob!(ScaleOutProfile, share, ratio, "of the line rate", 0.3..1.0, 0.85, Linear, All),
    knob!(
        ScaleOutProfile,
        in_network_share,
        ratio,
        "of it when the network's switches add",
        0.2..1.0,
        0.48,
        Linear,
        Rings
    ),
    knob!(
        ScaleOutProfile,
        fill,
        micros,
        "the plain protocol over the network, us",
        1.0..2000.0,
        40.0,
        Logarithmic,
        All
    ),
    knob!(ScaleOutProfile, crossover, bytes, "where half of that is paid, bytes", 2e5..4e7, 4e6, Logarithmic, All),
];

/// What a profile has of its own; the rest is another's, as the constants' documentation says.
pub(super) fn own(profile: &ScaleUpProfile, knob: &Knob<ScaleUpProfile>) -> bool {
    match profile.name {
        "nvlink5-rack" => knob.name == "switch_share",
        "infinity-fabric" => knob.name == "ring_share",
        _ => match knob.name {
            // A unit that the hardware lacks stays 0.
            "switch_share" => profile.switch_share > 0.0,
            "contention" => profile.contention > 0.0,
            _ => true,
        },
    }
}

/// The profile whose numbers it takes besides its own.
pub(super) fn base(name: &str) -> Option<&'static str> {
    match name {
        "nvlink5-rack" => Some("nvlink5"),
        "infinity-fabric" => Some("nvlink4"),
        _ => None,
    }
}

/// The name of a profile's item in the catalogue.
pub(super) fn item(profile: &str) -> String {
    format!("collectives-{profile}")
}

impl Profiles {
    /// The built-in constants.
    pub(super) fn builtin() -> Self {
        Self { up: ScaleUpProfile::ALL.to_vec(), out: ScaleOutProfile::ALL.to_vec() }
    }

    /// The constants, with what the catalogue has instead.
    pub(super) fn of(catalog: &Catalog) -> Self {
        let mut profiles = Self::builtin();
        let numbers = |name: &str| catalog.efficiency(&item(name)).map(|found| &found.numbers.value.0);
        for profile in &mut profiles.up {
            let Some(numbers) = numbers(profile.name) else { continue };
            for knob in &UP {
                if let Some(value) = numbers.get(knob.name) {
                    (knob.set)(profile, value.clamp(knob.low, knob.high));
                }
            }
            profile.most_ranks = numbers.get("most_ranks").map_or(profile.most_ranks, |most| count(*most));
        }
        for profile in &mut profiles.out {
            let Some(numbers) = numbers(profile.name) else { continue };
            for knob in &OUT {
                if let Some(value) = numbers.get(knob.name) {
                    (knob.set)(profile, value.clamp(knob.low, knob.high));
                }
            }
            profile.most_domains = numbers.get("most_domains").map_or(profile.most_domains, |most| count(*most));
        }
        profiles
    }
}

fn count(value: f64) -> u32 {
    u32::try_from(whole(value)).unwrap_or(u32::MAX)
}

/// A number as it stands in a file: four digits are more than any row knows.
pub(super) fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let digits = real(10).powf(3.0 - value.abs().log10().floor());
    (value * digits).round() / digits
}
