//! When jobs come: gaps by a law, stretched and shrunk by the hour of the week and by bursts.
//!
//! Gaps are drawn on a clock that runs at the pattern's speed, so that any law may follow any pattern, and the mean rate over
//! whole weeks is the one asked for. Moment 0 is the start of the first day of the week.
//! Invariant: moments never fall. Cost: one draw a gap, and one step for each hour or burst that it crosses.

use dh_core::time::{SimTime, Span};

use super::Error;
use super::draw::{Draw, span};
use super::mix::Weights;

const HOUR: u64 = 3_600_000_000_000;
/// Beyond this there are no more arrivals: 146 years.
const LAST: u64 = u64::MAX / 4;
/// Steps of one gap, at most: a gap over more hours or bursts is the end.
const STEPS_MAX: u32 = 1_000_000;

/// The law of gaps.
#[derive(Debug, Clone, PartialEq)]
pub enum Gap {
    /// Exponential gaps.
    Poisson {
        /// Arrivals per hour, the mean.
        per_hour: f64,
    },
    /// Gamma gaps, more even than Poisson below a variation of 1, in bursts above.
    Gamma {
        /// Arrivals per hour, the mean.
        per_hour: f64,
        /// Deviation of gaps over their mean.
        cv: f64,
    },
    /// Gaps that were measured, by weight.
    Histogram(Weights<Span>),
}

/// How much more comes at some hours than at others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Week {
    /// Weight of each hour of a day.
    pub hours: [u32; 24],
    /// Weight of each day of a week.
    pub days: [u32; 7],
}

impl Week {
    /// Working days: nights at 0.6 of the mean, afternoons at 1.4, week-ends at two thirds of other days. The numbers are an
    /// assumption; the shape, low at night with dips at noon and in the evening, is the one reported for Helios (Hu et al. 2021).
    pub const WORKING: Self = Self {
        hours: [7, 6, 6, 6, 6, 6, 7, 8, 9, 11, 13, 13, 11, 11, 13, 14, 14, 14, 13, 12, 12, 11, 10, 8],
        days: [3, 3, 3, 3, 3, 2, 2],
    };

    /// Speed at a moment, and when the hour ends. The mean over a week is 1.
    fn speed(&self, at: u64) -> (f64, u64) {
        let hour = at / HOUR;
        let weight = |list: &[u32], place: u64| -> f64 {
            usize::try_from(place).ok().and_then(|place| list.get(place)).copied().map_or(0.0, f64::from)
        };
        let mean = |list: &[u32], count: f64| list.iter().copied().map(f64::from).sum::<f64>() / count;
        let means = mean(&self.hours, 24.0) * mean(&self.days, 7.0);
        let here = weight(&self.hours, hour % 24) * weight(&self.days, hour / 24 % 7);
        (here / means, (hour + 1) * HOUR)
    }
}

/// Times in which more comes than otherwise; both lengths are exponential.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bursts {
    /// How many times more comes in a burst.
    pub factor: f64,
    /// Mean length of the calm between.
    pub calm: Span,
    /// Mean length of a burst.
    pub burst: Span,
}

/// How jobs come.
#[derive(Debug, Clone, PartialEq)]
pub struct Arrivals {
    /// The law of gaps.
    pub gap: Gap,
    /// The pattern of a week.
    pub week: Option<Week>,
    /// Bursts.
    pub bursts: Option<Bursts>,
}

impl Arrivals {
    /// Exponential gaps without a pattern.
    pub fn poisson(per_hour: f64) -> Self {
        Self { gap: Gap::Poisson { per_hour }, week: None, bursts: None }
    }

    /// The moments, from a seed.
    /// # Errors
    /// If a rate, a variation or a length is not positive, or a week has no hour with weight.
    pub fn moments(&self, seed: u64) -> Result<Moments, Error> {
        let positive = |what, value: f64| {
            if value > 0.0 && value <= 1e12 { Ok(()) } else { Err(Error { what, want: "above 0 and at most 10^12" }) }
        };
        match &self.gap {
            Gap::Poisson { per_hour } => positive("arrivals per hour", *per_hour)?,
            Gap::Gamma { per_hour, cv } => {
                positive("arrivals per hour", *per_hour)?;
                if !(0.0..=1000.0).contains(cv) {
                    return Err(Error { what: "the variation of gaps", want: "between 0 and 1000" });
                }
            }
            Gap::Histogram(gaps) => {
                if gaps.shares().all(|(gap, _)| gap.0 == 0) {
                    return Err(Error { what: "gaps", want: "above 0, one at least" });
                }
            }
        }
        if self.week.is_some_and(|week| week.hours.iter().all(|w| *w == 0) || week.days.iter().all(|w| *w == 0)) {
            return Err(Error { what: "a week", want: "of one hour with weight at least" });
        }
        if let Some(bursts) = self.bursts {
            positive("the factor of bursts", bursts.factor)?;
            if bursts.calm.0.min(bursts.burst.0) < 1_000_000_000 {
                return Err(Error { what: "calms and bursts", want: "a second long at least" });
            }
        }
        Ok(Moments {
            arrivals: self.clone(),
            draw: Draw::of(seed, &[0x6761_7073]),
            at: 0,
            phase: Phase { draw: Draw::of(seed, &[0x6275_7273]), bursting: true, until: 0 },
        })
    }
}

/// Whether it is a burst, and until when.
#[derive(Debug, Clone)]
struct Phase {
    draw: Draw,
    bursting: bool,
    until: u64,
}

impl Phase {
    /// Speed at a moment that never falls, and until when; the mean over long times is 1.
    fn speed(&mut self, bursts: &Bursts, at: u64) -> (f64, u64) {
        while self.until <= at {
            self.bursting = !self.bursting;
            let mean = if self.bursting { bursts.burst } else { bursts.calm };
            let length = span(self.draw.exponential() * dh_units::real(mean.0)).0;
            self.until = self.until.saturating_add(length.max(1));
        }
        let (calm, burst) = (dh_units::real(bursts.calm.0), dh_units::real(bursts.burst.0));
        let mean = (calm + bursts.factor * burst) / (calm + burst);
        (if self.bursting { bursts.factor / mean } else { 1.0 / mean }, self.until)
    }
}

/// Moments of arrival, without end but the end of time.
#[derive(Debug, Clone)]
pub struct Moments {
    arrivals: Arrivals,
    draw: Draw,
    at: u64,
    phase: Phase,
}

impl Iterator for Moments {
    type Item = SimTime;

    fn next(&mut self) -> Option<SimTime> {
        let gap = match &self.arrivals.gap {
            Gap::Poisson { per_hour } => self.draw.exponential() * (dh_units::real(HOUR) / per_hour),
            Gap::Gamma { per_hour, cv } => self.draw.gamma(*cv) * (dh_units::real(HOUR) / per_hour),
            Gap::Histogram(gaps) => dh_units::real(gaps.draw(&mut self.draw)?.0),
        };
        let (week, bursts) = (self.arrivals.week, self.arrivals.bursts);
        let phase = &mut self.phase;
        self.at = advance(self.at, gap, |at| {
            let (mut speed, mut until) = week.map_or((1.0, u64::MAX), |week| week.speed(at));
            if let Some(bursts) = &bursts {
                let (faster, end) = phase.speed(bursts, at);
                speed *= faster;
                until = until.min(end);
            }
            (speed, until)
        })?;
        Some(SimTime(self.at))
    }
}

/// The moment at which a clock that runs at the given speeds has gone on by `amount` nanoseconds since `at`. `None` beyond the
/// end of time. `speed` gives the speed at a moment and until when it holds.
pub(super) fn advance(at: u64, amount: f64, mut speed: impl FnMut(u64) -> (f64, u64)) -> Option<u64> {
    let (mut at, mut left) = (at, amount);
    for _ in 0..STEPS_MAX {
        let (fast, until) = speed(at);
        let room = until.saturating_sub(at).max(1);
        let run = dh_units::real(room) * fast;
        if run >= left && fast > 0.0 {
            return at.checked_add(span(left / fast).0.min(room)).filter(|moment| *moment < LAST);
        }
        left -= run;
        at = at.checked_add(room).filter(|moment| *moment < LAST)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEEK: u64 = 7 * 24 * HOUR;

    fn until(arrivals: &Arrivals, end: u64) -> Vec<u64> {
        arrivals.moments(9).unwrap().map(|moment| moment.0).take_while(|moment| *moment < end).collect()
    }

    #[test]
    fn the_rate_is_the_one_asked_for_whatever_the_pattern() {
        let bursts = Bursts { factor: 10.0, calm: Span(3 * HOUR), burst: Span(HOUR / 2) };
        for (week, bursts) in
            [(None, None), (Some(Week::WORKING), None), (None, Some(bursts)), (Some(Week::WORKING), Some(bursts))]
        {
            for gap in [Gap::Poisson { per_hour: 50.0 }, Gap::Gamma { per_hour: 50.0, cv: 2.0 }] {
                let arrivals = Arrivals { gap, week, bursts };
                let found = until(&arrivals, 40 * WEEK);
                assert!(found.is_sorted());
                let rate = dh_units::real(u64::try_from(found.len()).unwrap()) / (40.0 * 168.0);
                // Bursts come in some 1,900 pairs: their own share spreads the rate by some 2 %.
                assert!((rate / 50.0 - 1.0).abs() < 0.06, "{arrivals:?}: {rate}");
            }
        }
    }

    #[test]
    fn hours_and_days_have_their_weights() {
        let arrivals = Arrivals { gap: Gap::Poisson { per_hour: 500.0 }, week: Some(Week::WORKING), bursts: None };
        let found = until(&arrivals, 20 * WEEK);
        let count = |pick: &dyn Fn(u64) -> bool| found.iter().filter(|at| pick(**at / HOUR)).count();
        let (night, afternoon) = (count(&|hour| hour % 24 == 2), count(&|hour| hour % 24 == 15));
        let ratio = dh_units::real(u64::try_from(afternoon).unwrap()) / dh_units::real(u64::try_from(night).unwrap());
        assert!((ratio / (14.0 / 6.0) - 1.0).abs() < 0.03, "{ratio}");
        let (monday, sunday) = (count(&|hour| hour / 24 % 7 == 0), count(&|hour| hour / 24 % 7 == 6));
        let ratio = dh_units::real(u64::try_from(monday).unwrap()) / dh_units::real(u64::try_from(sunday).unwrap());
        assert!((ratio / 1.5 - 1.0).abs() < 0.03, "{ratio}");
    }

    #[test]
    fn bursts_raise_the_variation_of_counts() {
        let spread = |bursts| {
            let arrivals = Arrivals { gap: Gap::Poisson { per_hour: 50.0 }, week: None, bursts };
            let mut counts = vec![0.0; 40 * 168];
            for at in until(&arrivals, 40 * WEEK) {
                counts[usize::try_from(at / HOUR).unwrap()] += 1.0;
            }
            let mean = counts.iter().sum::<f64>() / 6720.0;
            counts.iter().map(|count| (count - mean) * (count - mean)).sum::<f64>() / 6720.0 / mean
        };
        assert!((spread(None) - 1.0).abs() < 0.1, "Poisson counts vary as much as their mean");
        let bursts = Bursts { factor: 20.0, calm: Span(5 * HOUR), burst: Span(HOUR) };
        assert!(spread(Some(bursts)) > 10.0);
    }

    #[test]
    fn a_histogram_gives_its_gaps_alone() {
        let gaps = [Span(5), Span(70)];
        let gap = Gap::Histogram(Weights::new(gaps.map(|gap| (gap, 1))).unwrap());
        let found: Vec<u64> =
            Arrivals { gap, week: None, bursts: None }.moments(1).unwrap().take(100).map(|at| at.0).collect();
        assert!(found.windows(2).all(|pair| [5, 70].contains(&(pair[1] - pair[0]))));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let refused = |arrivals: Arrivals| arrivals.moments(1).unwrap_err().to_string();
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(refused(Arrivals::poisson(rate)), "arrivals per hour must be above 0 and at most 10^12");
        }
        let week = Some(Week { hours: [0; 24], days: [1; 7] });
        assert!(refused(Arrivals { week, ..Arrivals::poisson(1.0) }).starts_with("a week"));
        let bursts = Some(Bursts { factor: 2.0, calm: Span(0), burst: Span(HOUR) });
        assert!(refused(Arrivals { bursts, ..Arrivals::poisson(1.0) }).starts_with("calms"));
    }
}
