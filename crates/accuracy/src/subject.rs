//! What can be held against published measurements.

use dh_blueprint::Catalog;
use dh_perf::validation::Outcome;

use crate::Error;

/// One format of published measurements, and the model that predicts it.
pub trait Subject: Sync {
    /// Its name on the command line.
    fn word(&self) -> &'static str;

    /// What it is, in half a sentence.
    fn about(&self) -> &'static str;

    /// Predicts every row of `csv`.
    /// # Errors
    /// If the file is not in the format; a row that cannot be predicted is an outcome without a prediction.
    fn validate(&self, catalog: &Catalog, csv: &str) -> Result<Validation, Error>;

    /// Fits the profiles again to the rows of `csv`, and once more without each source in turn. `progress` hears of each
    /// step.
    /// # Errors
    /// If the file is not in the format, or the model has nothing to fit.
    fn calibrate(&self, catalog: &Catalog, csv: &str, progress: &dyn Fn(&str)) -> Result<Calibration, Error>;
}

/// Every row of a file against the model.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Validation {
    /// One for each row and quantity, in the file's order.
    pub outcomes: Vec<Outcome>,
    /// Parts of the outcomes that are judged for themselves, by name: places in `outcomes`. Empty: all are judged together.
    pub blocks: Vec<(&'static str, Vec<usize>)>,
}

/// A profile that was fitted.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// Its name in the catalogue, which is that of its file.
    pub name: String,
    /// The file.
    pub toml: String,
    /// Its numbers, before and after.
    pub moved: Vec<Moved>,
}

/// A number of a profile.
#[derive(Debug, Clone, PartialEq)]
pub struct Moved {
    /// Its name.
    pub name: String,
    /// What it means.
    pub meaning: String,
    /// In the catalogue.
    pub before: Option<f64>,
    /// Fitted.
    pub after: f64,
}

/// What a fit gives.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Calibration {
    /// Files for `catalog/efficiency`.
    pub profiles: Vec<Profile>,
    /// Every row as predicted by the fit to all rows.
    pub fitted: Validation,
    /// Every row as predicted, with its interval, by the fit to the rows of all other sources.
    pub held_out: Validation,
}
