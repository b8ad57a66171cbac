//! Values that change with time: prices, carbon, outside temperature.
//!
//! A curve is a step function: a value holds from its moment to the next. It may repeat; before its first step the first value
//! holds, after the last the last. Values are measures, not decisions: they are floats. Integrals are sums of value times
//! whole nanoseconds, in order, so the same curve gives the same bits everywhere. Cost: a value is a binary search; an
//! integral is one step for each that it crosses in at most one period, whole periods are multiplied.

use dh_core::time::{SimTime, Span};
use dh_core::{HasKind, Kind};

/// What a curve is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// US dollars for a kWh.
    UsdPerKwh,
    /// Grams of carbon dioxide for a kWh.
    GramsPerKwh,
    /// Degrees Celsius outside.
    Celsius,
}

impl Of {
    /// Values that occur on this planet; what lies outside is an error of the file.
    fn bounds(self) -> (f64, f64) {
        match self {
            // Spot prices fall below zero, and rise to 20 in a shortage.
            Self::UsdPerKwh => (-10.0, 100.0),
            Self::GramsPerKwh => (0.0, 2_000.0),
            Self::Celsius => (-90.0, 60.0),
        }
    }
}

/// Why something is no curve.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// A line is no moment and value.
    #[error("{file}:{line}: {why}")]
    Line {
        /// The file, as the caller calls it.
        file: String,
        /// The line, from 1.
        line: u64,
        /// What is wrong.
        why: String,
    },
    /// Steps that are no curve.
    #[error("a curve must {0}")]
    Steps(&'static str),
}

impl HasKind for Error {
    fn kind(&self) -> Kind {
        Kind::Invalid
    }

    fn hint(&self) -> Option<String> {
        None
    }
}

/// A value from a moment on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// When it begins.
    pub at: SimTime,
    /// The value.
    pub value: f64,
}

/// A step function of time.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    of: Of,
    steps: Vec<Step>,
    period: Option<Span>,
}

const HOUR: u64 = 3_600_000_000_000;
/// Days of each month of a common year.
const MONTHS: [u32; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

impl Curve {
    /// The curve of these steps, which repeat after `period` if there is one.
    /// # Errors
    /// If there are none, moments do not rise, a value is outside what occurs, or a period ends before the last step.
    pub fn new(of: Of, steps: Vec<Step>, period: Option<Span>) -> Result<Self, Error> {
        let (Some(first), Some(last)) = (steps.first(), steps.last()) else { return Err(Error::Steps("have a step")) };
        if !steps.is_sorted_by(|one, next| one.at < next.at) {
            return Err(Error::Steps("have steps whose moments rise"));
        }
        let (low, high) = of.bounds();
        if !steps.iter().all(|step| (low..=high).contains(&step.value)) {
            return Err(Error::Steps("have values that occur"));
        }
        if period.is_some_and(|period| first.at != SimTime(0) || period.0 <= last.at.0) {
            return Err(Error::Steps("begin at moment 0 and end with its period if it has one"));
        }
        Ok(Self { of, steps, period })
    }

    /// Always the same.
    /// # Errors
    /// If the value is outside what occurs.
    pub fn flat(of: Of, value: f64) -> Result<Self, Error> {
        Self::new(of, vec![Step { at: SimTime(0), value }], None)
    }

    /// A value for each hour of the day in each month, over and over from the first of January of a common year.
    /// # Errors
    /// If a value is outside what occurs.
    pub fn of_months(of: Of, months: &[[f64; 24]; 12]) -> Result<Self, Error> {
        let mut steps = Vec::with_capacity(8760);
        let mut hour: u64 = 0;
        for (hours, days) in months.iter().zip(MONTHS) {
            for _ in 0..days {
                for value in hours {
                    steps.push(Step { at: SimTime(hour * HOUR), value: *value });
                    hour += 1;
                }
            }
        }
        Self::new(of, steps, Some(Span(hour * HOUR)))
    }

    /// The curve of a text of `seconds,value` lines with a head; `file` is what errors call it.
    /// # Errors
    /// The first line that is none, or what [`Curve::new`] refuses.
    pub fn read(of: Of, text: &str, file: &str, period: Option<Span>) -> Result<Self, Error> {
        let (low, high) = of.bounds();
        let mut steps: Vec<Step> = Vec::new();
        for (line, text) in (1_u64..).zip(text.lines()) {
            let error = |why: String| Error::Line { file: file.to_owned(), line, why };
            if line == 1 || text.trim_ascii().is_empty() {
                continue;
            }
            let (time, value) =
                text.split_once(',').ok_or_else(|| error("expected a moment, a comma and a value".to_owned()))?;
            let at = crate::trace::seconds(time.trim_ascii())
                .ok_or_else(|| error("the moment must be seconds from 0 to 4294967295".to_owned()))?;
            let value = value.trim_ascii().parse().ok().filter(|value| (low..=high).contains(value));
            let value = value.ok_or_else(|| error(format!("the value must be a number from {low} to {high}")))?;
            if steps.last().is_some_and(|last| last.at >= at) {
                return Err(error("the moment must be later than the one before".to_owned()));
            }
            steps.push(Step { at, value });
        }
        Self::new(of, steps, period)
    }

    /// What it is of.
    pub fn of(&self) -> Of {
        self.of
    }

    /// The value at a moment.
    pub fn at(&self, at: SimTime) -> f64 {
        self.steps.get(self.place(self.folded(at))).map_or(0.0, |step| step.value)
    }

    /// The first moment after `at` at which a step begins; none after the last of a curve that does not repeat.
    pub fn next_step(&self, at: SimTime) -> Option<SimTime> {
        let folded = self.folded(at);
        let next = self.steps.get(self.place(folded) + 1).map(|step| step.at).filter(|next| *next > folded);
        match (next, self.period) {
            (Some(next), _) => Some(at.after(next.since(folded))),
            (None, Some(period)) => Some(at.after(Span(period.0 - folded.0))),
            (None, None) => None,
        }
    }

    /// The integral from one moment to a later one: value times seconds. Divide by the seconds for the mean; times kW over 3600
    /// it is dollars or grams.
    pub fn integral(&self, from: SimTime, to: SimTime) -> f64 {
        let Some(period) = self.period else { return self.part(from, to) };
        let whole = |at: SimTime| at.0 / period.0;
        let (start, end) = (self.folded(from), self.folded(to));
        let turns = whole(to).saturating_sub(whole(from));
        if turns == 0 {
            return self.part(start, end);
        }
        let all = self.part(SimTime(0), SimTime(period.0));
        let ends = self.part(start, SimTime(period.0)) + self.part(SimTime(0), end);
        ends + all * dh_units::real(turns - 1)
    }

    /// The integral within one period.
    fn part(&self, from: SimTime, to: SimTime) -> f64 {
        let mut sum = 0.0;
        let mut at = from;
        let mut place = self.place(from);
        while at < to {
            let Some(step) = self.steps.get(place) else { break };
            let end = self.steps.get(place + 1).map_or(to, |next| next.at.min(to));
            // A step that begins after `at` is the first of a curve that begins later.
            sum += step.value * (dh_units::real(end.since(at).0) / 1e9);
            at = end.max(at);
            place += 1;
        }
        sum
    }

    /// The moment within the period.
    fn folded(&self, at: SimTime) -> SimTime {
        self.period.map_or(at, |period| SimTime(at.0 % period.0.max(1)))
    }

    /// The place of the step that holds at a moment.
    fn place(&self, at: SimTime) -> usize {
        self.steps.partition_point(|step| step.at <= at).saturating_sub(1)
    }
}

impl crate::measure::Curve for Curve {
    fn at(&self, moment: SimTime) -> crate::measure::Piece {
        let until = self.next_step(moment).unwrap_or(SimTime(u64::MAX));
        crate::measure::Piece { value: Self::at(self, moment), until }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(steps: &[(u64, f64)], period: Option<u64>) -> Curve {
        let step = |(seconds, value): &(u64, f64)| Step { at: SimTime(seconds * 1_000_000_000), value: *value };
        Curve::new(Of::Celsius, steps.iter().map(step).collect(), period.map(Span::from_secs)).unwrap()
    }

    fn seconds(seconds: u64) -> SimTime {
        SimTime(seconds * 1_000_000_000)
    }

    #[test]
    fn a_value_holds_until_the_next_and_repeats() {
        let once = curve(&[(10, 1.0), (20, 3.0)], None);
        let values = [0, 10, 19, 20, 999].map(|at| once.at(seconds(at)));
        assert_eq!(values.map(f64::to_bits), [1.0, 1.0, 1.0, 3.0, 3.0].map(f64::to_bits));
        let daily = curve(&[(0, 1.0), (20, 3.0)], Some(30));
        let values = [0, 25, 30, 55, 60].map(|at| daily.at(seconds(at)));
        assert_eq!(values.map(f64::to_bits), [1.0, 3.0, 1.0, 3.0, 1.0].map(f64::to_bits));
        assert_eq!(daily.next_step(seconds(5)), Some(seconds(20)));
        assert_eq!(daily.next_step(seconds(50)), Some(seconds(60)));
        assert_eq!((once.next_step(seconds(10)), once.next_step(seconds(20))), (Some(seconds(20)), None));
    }

    #[test]
    fn the_integral_is_the_sum_of_its_seconds() {
        for curve in [curve(&[(3, 1.0), (7, -2.5), (11, 4.0)], None), curve(&[(0, 1.0), (4, 6.0), (5, 2.0)], Some(7))] {
            for from in 0..25 {
                for to in from..25 {
                    let want: f64 = (from..to).map(|at| curve.at(seconds(at))).sum();
                    let found = curve.integral(seconds(from), seconds(to));
                    assert!((found - want).abs() < 1e-9, "{from}..{to}: {found} for {want}");
                }
            }
        }
    }

    #[test]
    fn twelve_months_of_hours_are_a_year() {
        let mut months = [[0.1; 24]; 12];
        months[1][5] = 0.3;
        let year = Curve::of_months(Of::UsdPerKwh, &months).unwrap();
        let february = (31 * 24 + 5) * 3600;
        assert!(
            (year.at(seconds(february)) - 0.3).abs() < 1e-12 && (year.at(seconds(february - 1)) - 0.1).abs() < 1e-12
        );
        let hours = year.integral(seconds(0), seconds(2 * 8760 * 3600)) / 3600.0;
        assert!((hours - 2.0 * (8760.0 * 0.1 + 28.0 * 0.2)).abs() < 1e-6);
    }

    #[test]
    fn what_is_no_curve_is_refused_with_its_line() {
        let error = |text: &str| Curve::read(Of::GramsPerKwh, text, "c", None).unwrap_err().to_string();
        assert_eq!(error("s,v\n0,400\n5\n"), "c:3: expected a moment, a comma and a value");
        assert_eq!(error("s,v\n0,-1\n"), "c:2: the value must be a number from 0 to 2000");
        assert_eq!(error("s,v\n0,NaN\n"), "c:2: the value must be a number from 0 to 2000");
        assert_eq!(error("s,v\n5,1\n5,1\n"), "c:3: the moment must be later than the one before");
        assert_eq!(error("s,v\n"), "a curve must have a step");
        let steps = vec![Step { at: SimTime(0), value: 1.0 }, Step { at: SimTime(9), value: 1.0 }];
        assert!(Curve::new(Of::Celsius, steps, Some(Span(9))).is_err());
        let read = Curve::read(Of::Celsius, "s,v\n0,-5\n60.5,7.25\n", "c", Some(Span::from_secs(100))).unwrap();
        assert!((read.at(seconds(161)) - 7.25).abs() < 1e-12 && (read.at(seconds(160)) + 5.0).abs() < 1e-12);
    }
}
