//! When to checkpoint, and what remains of a run's time.
//!
//! Two models. *First order* (Young 1974, CACM 17(9) 530): of each period of `t` seconds of work, `C` go to the checkpoint,
//! and an interruption every `M` seconds costs half a period and the restart `R`; good while `t + R` is far below `M`.
//! *Exact* for exponential interruptions (Daly 2006, FGCS 22(3) 303), at any `t`: a segment of `L = t + C` seconds that must pass without
//! interruption takes, with a restart of `R` seconds after each that must itself pass, `S` seconds in the mean:
//!
//! ```text
//! restart  Q = M (e^(R/M) - 1)                                      time until R seconds pass undisturbed
//! segment  S = M (1 - e^(-L/M)) + (1 - e^(-L/M)) (Q + S)            time under way, and what an interruption adds
//!        S e^(-L/M) = (1 - e^(-L/M)) (M + Q)   =>   S = M e^(R/M) (e^(L/M) - 1)
//! effective ratio (ETTR) = t / S
//! ```
//!
//! `dETTR/dt = 0` gives `t/M = 1 - e^(-(t+C)/M)`, whose two sides cross once between 0 and `M`; there
//! `ETTR = e^(-R/M) (1 - t/M)`, which solved for `C` or `R` is the inversion. Pure; O(1) but for one bisection.

use dh_units::{Bytes, BytesPerSec, Seconds};
use serde::{Deserialize, Serialize};

use super::Error;

/// How the effective ratio is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    /// `1 - (C/t + (t/2 + R)/M)`: what most papers print; too low where interruptions are frequent.
    FirstOrder,
    /// The mean for exponential interruptions.
    Exact,
}

/// What interruptions and checkpoints of a job cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Costs {
    /// Mean time between interruptions, `M`.
    pub mtbf: Seconds,
    /// How long a checkpoint stops the work, `C`.
    pub checkpoint: Seconds,
    /// From an interruption until the work goes on from the last checkpoint, `R`.
    pub restart: Seconds,
}

/// Halvings of the bisection: from `M` down to less than its last bit.
const HALVINGS: u32 = 200;

impl Costs {
    /// Times that make sense: `M` above zero, `C` and `R` not negative, all finite.
    /// # Errors
    /// [`Error::BadTime`] with the name of the one that does not.
    pub fn checked(mtbf: Seconds, checkpoint: Seconds, restart: Seconds) -> Result<Self, Error> {
        let bad = |name, time: Seconds| Err(Error::BadTime { name, seconds: time.0.to_string() });
        if !(mtbf.0.is_finite() && mtbf.0 > 0.0) {
            return bad("the mean time between interruptions", mtbf);
        }
        for (name, time) in [("the time of a checkpoint", checkpoint), ("the time of a restart", restart)] {
            if !(time.0.is_finite() && time.0 >= 0.0) {
                return bad(name, time);
            }
        }
        Ok(Self { mtbf, checkpoint, restart })
    }

    /// Young's interval: `sqrt(2 C M)`.
    pub fn young(&self) -> Seconds {
        Seconds((2.0 * self.checkpoint.0 * self.mtbf.0).sqrt())
    }

    /// Daly's higher-order interval (Daly 2006): Young's with two corrections, and `M` where `C >= 2 M`.
    pub fn daly(&self) -> Seconds {
        let (checkpoint, mtbf) = (self.checkpoint.0, self.mtbf.0);
        if checkpoint >= 2.0 * mtbf {
            return self.mtbf;
        }
        let half = checkpoint / (2.0 * mtbf);
        Seconds(self.young().0 * (1.0 + half.sqrt() / 3.0 + half / 9.0) - checkpoint)
    }

    /// The interval with the highest exact ETTR, by bisection of `t/M = 1 - e^(-(t+C)/M)` between 0 and `M`.
    pub fn best(&self) -> Seconds {
        let cost = self.checkpoint.0 / self.mtbf.0;
        let (mut low, mut high) = (0.0_f64, 1.0_f64);
        for _ in 0..HALVINGS {
            let middle = f64::midpoint(low, high);
            if middle + (-(middle + cost)).exp_m1() < 0.0 {
                low = middle;
            } else {
                high = middle;
            }
        }
        self.mtbf * f64::midpoint(low, high)
    }

    /// The share of time that is kept work if a checkpoint is taken after each `interval` of work; never below 0.
    ///
    /// `interval` 0 gives what checkpoints that cost nothing would reach if `C` is 0, else 0.
    pub fn ettr(&self, interval: Seconds, model: Model) -> f64 {
        let (mtbf, checkpoint, restart, work) = (self.mtbf.0, self.checkpoint.0, self.restart.0, interval.0);
        let ettr = match model {
            Model::FirstOrder if work > 0.0 => 1.0 - (checkpoint / work + (work / 2.0 + restart) / mtbf),
            Model::FirstOrder if checkpoint == 0.0 => 1.0 - restart / mtbf,
            Model::Exact if work > 0.0 => work / mtbf * (-restart / mtbf).exp() / ((work + checkpoint) / mtbf).exp_m1(),
            Model::Exact if checkpoint == 0.0 => (-restart / mtbf).exp(),
            Model::FirstOrder | Model::Exact => 0.0,
        };
        ettr.max(0.0)
    }

    /// The highest ETTR: at Young's interval to first order, at [`Costs::best`] exactly.
    pub fn best_ettr(&self, model: Model) -> f64 {
        match model {
            Model::FirstOrder => self.ettr(self.young(), model),
            Model::Exact => self.ettr(self.best(), model),
        }
    }
}

/// The longest checkpoint with which a job can still reach `ettr`, given `M` and `R`, if its interval is the best one.
///
/// `None` if not even a checkpoint that costs nothing would do, or if `ettr` is not above 0 and at most 1.
pub fn checkpoint_max(ettr: f64, mtbf: Seconds, restart: Seconds, model: Model) -> Option<Seconds> {
    if !(ettr > 0.0 && ettr <= 1.0) {
        return None;
    }
    match model {
        // 1 - sqrt(2C/M) - R/M = ettr
        Model::FirstOrder => {
            let room = 1.0 - ettr - restart / mtbf;
            (room >= 0.0).then(|| mtbf * (room * room / 2.0))
        }
        // e^(-R/M) (1 - t/M) = ettr, and C/M = -ln(1 - t/M) - t/M
        Model::Exact => {
            let kept = ettr * (restart / mtbf).exp();
            (kept <= 1.0).then(|| mtbf * (kept - 1.0 - kept.ln()).max(0.0))
        }
    }
}

/// The longest restart with which a job can still reach `ettr` if its checkpoints cost nothing.
///
/// `None` if `ettr` is not above 0 and at most 1.
pub fn restart_max(ettr: f64, mtbf: Seconds, model: Model) -> Option<Seconds> {
    (ettr > 0.0 && ettr <= 1.0).then(|| match model {
        Model::FirstOrder => mtbf * (1.0 - ettr),
        Model::Exact => mtbf * -ettr.ln(),
    })
}

/// How long it takes to write the state of `parameters` parameters at `bandwidth`: weights, gradients and optimizer are
/// `bytes_per_parameter` together (12 without gradients, 16 with, for mixed precision with Adam).
///
/// `None` if the state does not fit 64 bits or the bandwidth is not above zero.
pub fn write_time(parameters: u64, bytes_per_parameter: u64, bandwidth: BytesPerSec) -> Option<(Bytes, Seconds)> {
    let bytes = Bytes(parameters.checked_mul(bytes_per_parameter)?);
    (bandwidth.0 > 0.0).then(|| (bytes, bytes / bandwidth))
}

#[cfg(test)]
mod tests {
    use dh_units::BitsPerSec;
    use proptest::prelude::*;

    use super::*;

    /// The run that the failure table was counted on.
    const MTBF: Seconds = Seconds(54.0 * 86_400.0 / 419.0);

    fn costs(checkpoint: f64, restart: f64) -> Costs {
        Costs::checked(MTBF, Seconds(checkpoint), Seconds(restart)).unwrap()
    }

    #[test]
    fn first_order_reproduces_the_worked_examples() {
        let row = |checkpoint, restart| {
            let costs = costs(checkpoint, restart);
            format!("{:.1} min {:.1} %", costs.young().0 / 60.0, costs.best_ettr(Model::FirstOrder) * 100.0)
        };
        assert_eq!(row(10.0, 360.0), "7.9 min 92.5 %");
        assert_eq!(row(60.0, 360.0), "19.3 min 86.4 %");
        assert_eq!(row(300.0, 900.0), "43.1 min 68.7 %");
    }

    #[test]
    fn nine_tenths_needs_short_checkpoints_and_restarts() {
        let longest = |model| checkpoint_max(0.9, MTBF, Seconds(360.0), model).unwrap().0;
        assert_eq!(format!("{:.0}", longest(Model::FirstOrder)), "25");
        assert_eq!(format!("{:.0}", longest(Model::Exact)), "29");
        let restart = |model| restart_max(0.9, MTBF, model).unwrap().0 / 60.0;
        assert_eq!(format!("{:.1}", restart(Model::FirstOrder)), "18.6");
        assert_eq!(format!("{:.1}", restart(Model::Exact)), "19.6");
        for model in [Model::FirstOrder, Model::Exact] {
            assert_eq!(checkpoint_max(0.9, MTBF, Seconds(1_200.0), model), None);
            assert_eq!(checkpoint_max(1.5, MTBF, Seconds(0.0), model), None);
            assert_eq!(restart_max(0.0, MTBF, model), None);
        }
    }

    #[test]
    fn published_checkpoints_take_the_time_that_their_bytes_need() {
        let (_, time) = write_time(530_000_000_000, 12, BitsPerSec(2e10).into()).unwrap();
        assert_eq!(format!("{:.1}", time.0 / 60.0), "42.4");
        let (bytes, _) = write_time(405_000_000_000, 16, BytesPerSec(2e12)).unwrap();
        assert_eq!(bytes, Bytes(6_480_000_000_000));
        let (bytes, time) = write_time(16_384, 4_000_000_000, BytesPerSec(2e12)).unwrap();
        assert_eq!((bytes, format!("{:.0}", time.0)), (Bytes(65_536_000_000_000), "33".to_owned()));
        assert_eq!(write_time(u64::MAX, 16, BytesPerSec(1.0)), None);
        assert_eq!(write_time(1, 16, BytesPerSec(0.0)), None);
    }

    #[test]
    fn daly_lies_next_to_the_best_and_young_beside_it() {
        for (checkpoint, within) in [(1.0, 1e-4), (60.0, 1e-3), (1_800.0, 2e-2)] {
            let costs = costs(checkpoint, 0.0);
            let best = costs.best().0;
            assert!((costs.daly().0 / best - 1.0).abs() < within, "C {checkpoint}: {} and {best}", costs.daly().0);
            assert!((costs.daly().0 - best).abs() < (costs.young().0 - best).abs());
        }
        assert_eq!(costs(3.0 * MTBF.0, 0.0).daly(), MTBF);
    }

    #[test]
    fn impossible_times_are_refused() {
        let bad = [(0.0, 1.0, 1.0), (f64::INFINITY, 1.0, 1.0), (9.0, -1.0, 1.0), (9.0, 1.0, f64::NAN)];
        for (mtbf, checkpoint, restart) in bad {
            assert!(Costs::checked(Seconds(mtbf), Seconds(checkpoint), Seconds(restart)).is_err());
        }
    }

    proptest! {
        /// No interval on a fine grid beats the one that is called best.
        #[test]
        fn the_best_interval_is_the_best(checkpoint in 0.01_f64..40_000.0, restart in 0.0_f64..4_000.0) {
            let costs = costs(checkpoint, restart);
            let best = costs.best_ettr(Model::Exact);
            let ratio = costs.best().0 / MTBF.0;
            // At the optimum the derivation gives a second, simpler formula.
            prop_assert!((best - (-restart / MTBF.0).exp() * (1.0 - ratio)).abs() < 1e-9);
            for step in 1..2_000_u32 {
                let tried = costs.ettr(MTBF * (f64::from(step) / 1_000.0), Model::Exact);
                prop_assert!(tried <= best + 1e-12, "{tried} above {best}");
            }
        }

        /// The longest checkpoint allowed reaches the ratio, and no longer one does.
        #[test]
        fn the_inversion_undoes_the_formula(ettr in 0.05_f64..0.999, restart in 0.0_f64..2_000.0) {
            for model in [Model::FirstOrder, Model::Exact] {
                let Some(longest) = checkpoint_max(ettr, MTBF, Seconds(restart), model) else {
                    prop_assert!(costs(0.0, restart).best_ettr(model) < ettr);
                    continue;
                };
                prop_assert!((costs(longest.0, restart).best_ettr(model) - ettr).abs() < 1e-6);
                prop_assert!(costs(longest.0 * 1.01 + 0.1, restart).best_ettr(model) < ettr);
            }
        }

        /// To first order the two models agree; at Young's interval the exact one is not below the other.
        #[test]
        fn the_models_meet_where_interruptions_are_rare(checkpoint in 0.1_f64..10.0, restart in 0.0_f64..100.0) {
            let rare = Costs { mtbf: Seconds(1e8), checkpoint: Seconds(checkpoint), restart: Seconds(restart) };
            let (first, exact) = (rare.best_ettr(Model::FirstOrder), rare.best_ettr(Model::Exact));
            prop_assert!((first - exact).abs() < 1e-6);
            let often = costs(checkpoint * 100.0, restart * 10.0);
            let work = often.young();
            prop_assert!(often.ettr(work, Model::Exact) + 1e-12 >= often.ettr(work, Model::FirstOrder));
        }
    }
}
