//! Energy, carbon and the cost of a run: power summed over time, with prices that change.

use dh_core::time::{SimTime, Span};
use dh_units::{Joules, Seconds, UsdPerHour, Watts, real};

/// A value that holds for a while.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Piece {
    /// The value.
    pub value: f64,
    /// The first moment at which it does not hold any more.
    pub until: SimTime,
}

/// Something that changes in steps over time: the price of electricity in dollars, or its carbon in grams, per kilowatt-hour.
pub trait Curve: Sync {
    /// The value at a moment, and until when it holds.
    fn at(&self, moment: SimTime) -> Piece;
}

/// What energy and time cost.
#[derive(Clone, Copy, Default)]
pub struct Tariff<'a> {
    /// Dollars per kilowatt-hour.
    pub price: Option<&'a dyn Curve>,
    /// Grams of carbon dioxide per kilowatt-hour.
    pub carbon: Option<&'a dyn Curve>,
    /// What the hall costs by the hour whether it runs or not.
    pub capital: Option<UsdPerHour>,
}

impl std::fmt::Debug for Tariff<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tariff")
            .field("price", &self.price.is_some())
            .field("carbon", &self.carbon.is_some())
            .field("capital", &self.capital)
            .finish()
    }
}

/// What is drawn at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Power {
    /// By machines and networks.
    pub it: Watts,
    /// By the whole hall, with its cooling and losses.
    pub facility: Watts,
    /// What the whole hall would draw on top if the nodes that sleep were idle.
    pub saved: Watts,
}

/// Sums of power.
#[derive(Debug, Clone)]
pub(crate) struct Meter<'a> {
    pub(crate) tariff: Tariff<'a>,
    /// None until somebody says what is drawn.
    power: Option<Power>,
    pub(crate) it: Joules,
    pub(crate) facility: Joules,
    pub(crate) saved: Joules,
    pub(crate) peak: Watts,
    pub(crate) carbon_g: f64,
    pub(crate) energy_usd: f64,
}

/// Steps of a curve inside one interval between events, at most; a curve that has more is taken as it was at the last.
const STEPS_MAX: u32 = 1_000_000;

/// Whole nanoseconds as seconds.
pub(crate) fn seconds(span: Span) -> Seconds {
    Seconds(real(span.0) / 1e9)
}

impl<'a> Meter<'a> {
    pub(crate) fn new(tariff: Tariff<'a>) -> Self {
        let (it, facility, saved, peak) = (Joules(0.0), Joules(0.0), Joules(0.0), Watts(0.0));
        Self { tariff, power: None, it, facility, saved, peak, carbon_g: 0.0, energy_usd: 0.0 }
    }

    pub(crate) fn set(&mut self, power: Power) {
        self.power = Some(power);
    }

    pub(crate) const fn known(&self) -> bool {
        self.power.is_some()
    }

    /// Time goes on from `from` to `to`, both inside of what counts.
    pub(crate) fn advance(&mut self, (from, to): (SimTime, SimTime)) {
        let Some(power) = self.power.filter(|_| from < to) else { return };
        let length = seconds(to.since(from));
        self.it += power.it * length;
        self.facility += power.facility * length;
        self.saved += power.saved * length;
        if power.facility > self.peak {
            self.peak = power.facility;
        }
        if let Some(price) = self.tariff.price {
            self.energy_usd += weighted(price, power.facility, from, to);
        }
        if let Some(carbon) = self.tariff.carbon {
            self.carbon_g += weighted(carbon, power.facility, from, to);
        }
    }
}

/// Kilowatt-hours of `power` from `from` to `to`, each times what `curve` says of its moment.
fn weighted(curve: &dyn Curve, power: Watts, from: SimTime, to: SimTime) -> f64 {
    let mut sum = 0.0;
    let mut at = from;
    let mut steps = 0;
    while at < to {
        let piece = curve.at(at);
        steps += 1;
        // A piece that ends before it begins, and the last of too many, hold to the end.
        let end = if piece.until > at && steps < STEPS_MAX { piece.until.min(to) } else { to };
        sum += (power * seconds(end.since(at))).kwh() * piece.value;
        at = end;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cheap in the first half of each hour.
    struct Hours;
    impl Curve for Hours {
        fn at(&self, moment: SimTime) -> Piece {
            let half = 1_800 * 1_000_000_000;
            let place = moment.0 / half;
            Piece { value: if place.is_multiple_of(2) { 0.1 } else { 0.3 }, until: SimTime((place + 1) * half) }
        }
    }

    /// Says nonsense about how long it holds.
    struct Stuck;
    impl Curve for Stuck {
        fn at(&self, _: SimTime) -> Piece {
            Piece { value: 2.0, until: SimTime(0) }
        }
    }

    #[test]
    fn a_price_is_paid_at_the_moment_of_use() {
        let hour = |hours: u64| SimTime(hours * 3_600_000_000_000);
        let usd = weighted(&Hours, Watts(2_000.0), hour(1), hour(4));
        assert!((usd - 3.0 * 2.0 * 0.2).abs() < 1e-9, "{usd}");
        let part = weighted(&Hours, Watts(1_000.0), SimTime(900_000_000_000), SimTime(2_700_000_000_000));
        assert!((part - (0.25 * 0.1 + 0.25 * 0.3)).abs() < 1e-9, "{part}");
        assert!((weighted(&Stuck, Watts(1_000.0), hour(0), hour(2)) - 4.0).abs() < 1e-9);
    }
}
