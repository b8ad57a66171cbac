//! Utilisation of an emulated training, where nobody says how fast the store is.
//!
//! Results below a threshold are not published, and submitters add accelerators until one more would fall below it. So the
//! largest result of a system says where its limit lies: its utilisation is the threshold, a part `headroom` of what is left to
//! that of an accelerator alone, and a part `granularity` of what one accelerator a host more would take. The load that leaves so
//! much is that of the limit; smaller results of the same system have their part of it.
//!
//! Invariant: utilisation is never above that of an accelerator alone, and rises when accelerators are taken away.

use dh_blueprint::Catalog;
use dh_perf::loading::{self, Profile, Supply, load_that_leaves};
use dh_units::{BytesPerSec, real};

use super::rows::Emulation;

/// What is fitted: the model of loading, and where submitters stop.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Stopping {
    pub(super) loading: Profile,
    pub(super) headroom: f64,
    pub(super) granularity: f64,
}

/// The intervals, from errors of rows whose source was held out: in points of utilisation, and in percent of samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Widths {
    pub(super) au_below: f64,
    pub(super) au_above: f64,
    pub(super) samples_below: f64,
    pub(super) samples_above: f64,
}

impl Widths {
    pub(super) const NAMES: [&'static str; 4] =
        ["au_below_points", "au_above_points", "samples_below_pct", "samples_above_pct"];

    pub(super) fn of(catalog: &Catalog) -> Self {
        let [au_below, au_above, samples_below, samples_above] = Self::NAMES.map(|name| number(catalog, name, 4.0));
        Self { au_below, au_above, samples_below, samples_above }
    }
}

pub(super) fn number(catalog: &Catalog, name: &str, prior: f64) -> f64 {
    let numbers = catalog.efficiency("loading").map(|item| &item.numbers.value.0);
    numbers.and_then(|numbers| numbers.get(name)).copied().unwrap_or(prior)
}

impl Stopping {
    pub(super) fn of(catalog: &Catalog) -> Self {
        Self {
            loading: Profile::of(catalog),
            headroom: number(catalog, "headroom", 0.1),
            granularity: number(catalog, "granularity", 0.25),
        }
    }
}

/// Utilisation, and the part of it that an epoch's samples show: 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Predicted {
    pub(super) utilisation: f64,
    pub(super) alone: f64,
    pub(super) overall: f64,
}

pub(super) fn predict(emulation: &Emulation, stopping: &Stopping) -> Option<Predicted> {
    let Emulation { consumer, threshold, batches, of_most, .. } = emulation;
    let profile = &stopping.loading;
    let alone = loading::steady(consumer, &Supply::default(), profile).ok()?;
    let a_host = real(consumer.accelerators) / real(consumer.hosts) / of_most;
    let room = (alone.alone - threshold).max(0.0);
    let stopped = threshold + room * stopping.headroom + threshold * stopping.granularity / (2.0 * a_host);
    let load = load_that_leaves((stopped / alone.alone).min(1.0 - 1e-9), profile.host_sharpness) * of_most;
    let demand = consumer.most().0 * alone.alone;
    let host = BytesPerSec(demand / load / real(consumer.hosts));
    let steady = loading::steady(consumer, &Supply { host: Some(host), ..Supply::default() }, profile).ok()?;
    let share = batches.map_or(1.0, |batches| steady.steady_share(consumer.compute, batches));
    Some(Predicted { utilisation: steady.utilisation, alone: alone.alone, overall: steady.utilisation * share })
}
