//! The profiles fitted to rows, and to the rows of all sources but one in turn.
//!
//! Invariant: a held-out row meets profiles, and a calibrated range, that its own source had no part in.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use dh_perf::collectives::golden::{Prediction, Question};
use dh_perf::collectives::{Kind, ScaleUpProfile};

use super::Asked;
use super::parameters::{Knob, OUT, Of, Profiles, UP, base, item, own, rounded};
use crate::fit::{self, Parameter, Problem};
use crate::{Calibration, Error, Moved, Profile, Validation};

/// Where a parameter belongs.
#[derive(Clone, Copy)]
enum Place {
    Up(usize, usize),
    Out(usize, usize),
}

/// Searches, one from the end of the other; a fourth moves nothing.
const ROUNDS: usize = 3;

struct Exchanges<'a> {
    rows: Vec<(&'a str, &'a Question)>,
    parameters: Vec<Parameter>,
    places: Vec<Place>,
    builtin: Profiles,
}

impl<'a> Exchanges<'a> {
    /// The rows that have an answer, and the parameters that some of them can depend on.
    fn new(asked: &'a Asked) -> Self {
        let rows = asked.rows.iter().zip(&asked.questions);
        let rows: Vec<(&str, &Question)> = rows
            .filter_map(|(row, question)| Some((row.source.as_str(), question.as_ref().ok()?)))
            .filter(|(_, question)| question.answer(&question.fabric).is_ok())
            .collect();
        let builtin = Profiles::builtin();
        let mut problem = Self { rows, parameters: Vec::new(), places: Vec::new(), builtin: builtin.clone() };
        for (at, profile) in builtin.up.iter().enumerate() {
            for (knob, number) in UP.iter().enumerate().filter(|(_, knob)| own(profile, knob)) {
                problem.add(Place::Up(at, knob), number.parameter(profile.name));
            }
        }
        for (at, profile) in builtin.out.iter().enumerate() {
            for (knob, number) in OUT.iter().enumerate() {
                problem.add(Place::Out(at, knob), number.parameter(profile.name));
            }
        }
        problem
    }

    fn add(&mut self, place: Place, parameter: Parameter) {
        if self.rows.iter().any(|(_, question)| self.matters(place, question)) {
            self.places.push(place);
            self.parameters.push(parameter);
        }
    }

    fn matters(&self, place: Place, question: &Question) -> bool {
        let uses = |of: Of| match of {
            Of::All => true,
            Of::Rings => question.kind != Kind::AllToAll,
            Of::Direct => question.kind == Kind::AllToAll,
        };
        match place {
            Place::Up(profile, knob) => {
                let (name, used) = (self.builtin.up[profile].name, question.fabric.scale_up.profile.name);
                let by_base = base(used) == Some(name) && !own(&question.fabric.scale_up.profile, &UP[knob]);
                (used == name || by_base) && uses(UP[knob].of)
            }
            Place::Out(profile, knob) => {
                let network = question.fabric.scale_out.filter(|_| question.group.domains() > 1);
                let summing = OUT[knob].name != "in_network_share" || network.is_some_and(|out| out.in_network);
                network.is_some_and(|out| out.profile.name == self.builtin.out[profile].name)
                    && summing
                    && uses(OUT[knob].of)
            }
        }
    }

    /// The profiles with these values; their ranges are those of the built-in ones.
    fn profiles(&self, values: &[f64]) -> Profiles {
        let mut profiles = self.builtin.clone();
        for (place, value) in self.places.iter().zip(values) {
            match *place {
                Place::Up(profile, knob) => (UP[knob].set)(&mut profiles.up[profile], *value),
                Place::Out(profile, knob) => (OUT[knob].set)(&mut profiles.out[profile], *value),
            }
        }
        for at in 0..profiles.up.len() {
            let profile = profiles.up[at];
            let Some(of) = base(profile.name).and_then(|name| profiles.up.iter().find(|up| up.name == name)) else {
                continue;
            };
            let mut merged = ScaleUpProfile {
                name: profile.name,
                source: profile.source,
                most_ranks: profile.most_ranks,
                // A mesh has no switch, and both of its rows together leave no room for a copy.
                switch_share: profile.switch_share,
                copy: if profile.copy > 0.0 { of.copy } else { 0.0 },
                ..*of
            };
            for knob in UP.iter().filter(|knob| own(&profile, knob)) {
                (knob.set)(&mut merged, (knob.get)(&profile));
            }
            profiles.up[at] = merged;
        }
        profiles
    }

    /// The most ranks and domains that rows for which `include` holds have of each profile.
    fn limit(&self, profiles: &mut Profiles, include: &dyn Fn(usize) -> bool) {
        let mut most: BTreeMap<&str, u32> = BTreeMap::new();
        for (_, (_, question)) in self.rows.iter().enumerate().filter(|(at, _)| include(*at)) {
            let inside = question.group.per_domain.min(question.group.ranks);
            let ranks = most.entry(question.fabric.scale_up.profile.name).or_default();
            *ranks = (*ranks).max(inside);
            if let Some(out) = question.fabric.scale_out.filter(|_| question.group.domains() > 1) {
                let domains = most.entry(out.profile.name).or_default();
                *domains = (*domains).max(question.group.domains());
            }
        }
        for profile in &mut profiles.up {
            profile.most_ranks = most.get(profile.name).copied().unwrap_or(0);
        }
        for profile in &mut profiles.out {
            profile.most_domains = most.get(profile.name).copied().unwrap_or(0);
        }
    }

    /// The values of `profiles`.
    fn values(&self, profiles: &Profiles) -> Vec<f64> {
        let value = |place: &Place| match *place {
            Place::Up(profile, knob) => (UP[knob].get)(&profiles.up[profile]),
            Place::Out(profile, knob) => (OUT[knob].get)(&profiles.out[profile]),
        };
        let bounded = |(place, parameter): (&Place, &Parameter)| value(place).clamp(parameter.low, parameter.high);
        self.places.iter().zip(&self.parameters).map(bounded).collect()
    }

    /// Fits from `start`, and again from where that ends: a search along one parameter at a time can stop in a corner that
    /// larger steps leave.
    fn fit(&self, include: &dyn Fn(usize) -> bool, start: Vec<f64>) -> Vec<f64> {
        (0..ROUNDS).fold(start, |values, _| fit::fit_from(self, include, &values))
    }

    fn priors(&self) -> Vec<f64> {
        self.parameters.iter().map(|parameter| parameter.prior).collect()
    }

    fn predict(&self, row: usize, profiles: &Profiles) -> Option<Prediction> {
        let (_, question) = self.rows.get(row)?;
        question.answer(&profiles.fabric(&question.fabric)).ok()
    }
}

impl Problem for Exchanges<'_> {
    fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn source(&self, row: usize) -> &str {
        self.rows[row].0
    }

    fn touches(&self, parameter: usize, row: usize) -> bool {
        self.matters(self.places[parameter], self.rows[row].1)
    }

    fn log_ratio(&self, row: usize, values: &[f64]) -> Option<f64> {
        let answer = self.predict(row, &self.profiles(values))?;
        Some((answer.predicted / answer.published).ln())
    }
}

/// Fits, holds out each source in turn, and writes the profiles.
pub(super) fn calibrate(asked: &Asked, before: &Profiles, progress: &dyn Fn(&str)) -> Result<Calibration, Error> {
    let problem = Exchanges::new(asked);
    if problem.rows.is_empty() {
        return Err(Error::Nothing("no row of the file has an answer, so there is nothing to fit to"));
    }
    progress("all sources");
    let values = problem.fit(&|_| true, problem.values(before));
    let mut after = problem.profiles(&values);
    problem.limit(&mut after, &|_| true);
    let fitted = asked.validation(|_, question| question.answer(&after.fabric(&question.fabric)));

    let sources: BTreeSet<&str> = problem.rows.iter().map(|(source, _)| *source).collect();
    let mut without: BTreeMap<&str, Profiles> = BTreeMap::new();
    for source in sources {
        progress(source);
        let include = |row: usize| problem.source(row) != source;
        let mut profiles = problem.profiles(&problem.fit(&include, problem.priors()));
        problem.limit(&mut profiles, &include);
        without.insert(source, profiles);
    }
    let mut held_out = asked.validation(|at, question| {
        let source = asked.rows.get(at).map_or("", |row| row.source.as_str());
        let profiles = without.get(source).unwrap_or(&after);
        question.answer(&profiles.fabric(&question.fabric))
    });
    widen(&mut held_out);
    Ok(Calibration { profiles: files(&problem, before, &after), fitted, held_out })
}

/// Gives held-out rows the interval that the rows of all other held-out sources of their block need: what a source that
/// nobody fitted to can expect.
fn widen(held_out: &mut Validation) {
    for (_, rows) in &held_out.blocks {
        let errors: Vec<(String, f64)> = rows
            .iter()
            .filter_map(|row| held_out.outcomes.get(*row))
            .filter_map(|outcome| Some((outcome.source.clone(), outcome.factor()?)))
            .collect();
        for row in rows {
            let Some(outcome) = held_out.outcomes.get_mut(*row) else { continue };
            let others = errors.iter().filter(|(source, _)| *source != outcome.source);
            let (Some(predicted), Some(factor)) = (outcome.predicted, four_of_five(others)) else { continue };
            outcome.low = Some(predicted / factor);
            outcome.high = Some(predicted * factor);
        }
    }
}

/// The factor that 80 % of rows stay within, a source weighing as the square root of its rows.
fn four_of_five<'a>(errors: impl Iterator<Item = &'a (String, f64)>) -> Option<f64> {
    let mut of_source: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (source, factor) in errors {
        of_source.entry(source).or_default().push(*factor);
    }
    let count = |factors: &[f64]| u64::try_from(factors.len()).map_or(1.0, dh_units::real);
    let mut weighted: Vec<(f64, f64)> = of_source
        .values()
        .flat_map(|factors| factors.iter().map(|factor| (*factor, 1.0 / count(factors).sqrt())))
        .collect();
    weighted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut left = 0.8 * weighted.iter().map(|(_, weight)| weight).sum::<f64>();
    weighted
        .iter()
        .find(|(_, weight)| {
            left -= weight;
            left <= 0.0
        })
        .map(|(factor, _)| *factor)
}

/// A file for each profile that rows speak of.
fn files(problem: &Exchanges<'_>, before: &Profiles, after: &Profiles) -> Vec<Profile> {
    let mut files = Vec::new();
    for (at, (old, new)) in before.up.iter().zip(&after.up).enumerate() {
        let fitted =
            |knob: usize| problem.places.iter().any(|place| matches!(place, Place::Up(p, k) if (*p, *k) == (at, knob)));
        let moved = moved(&UP, fitted, old, new);
        let limit = ("most_ranks", f64::from(new.most_ranks));
        files.extend(file(old.name, "Inside a domain", moved, limit, rows_of(problem, old.name)));
    }
    for (at, (old, new)) in before.out.iter().zip(&after.out).enumerate() {
        let fitted = |knob: usize| {
            problem.places.iter().any(|place| matches!(place, Place::Out(p, k) if (*p, *k) == (at, knob)))
        };
        let moved = moved(&OUT, fitted, old, new);
        let limit = ("most_domains", f64::from(new.most_domains));
        files.extend(file(old.name, "Between domains", moved, limit, rows_of(problem, old.name)));
    }
    files
}

fn moved<P>(knobs: &[Knob<P>], fitted: impl Fn(usize) -> bool, old: &P, new: &P) -> Vec<Moved> {
    let each = knobs.iter().enumerate().filter(|(at, _)| fitted(*at));
    each.map(|(_, knob)| Moved {
        name: knob.name.to_owned(),
        meaning: knob.parameter("").meaning,
        before: Some((knob.get)(old)),
        after: rounded((knob.get)(new)),
    })
    .collect()
}

fn rows_of(problem: &Exchanges<'_>, profile: &str) -> usize {
    let uses = |question: &Question| {
        let out = question.fabric.scale_out.map_or("", |out| out.profile.name);
        question.fabric.scale_up.profile.name == profile || out == profile
    };
    problem.rows.iter().filter(|(_, question)| uses(question)).count()
}

fn file(name: &str, what: &str, moved: Vec<Moved>, limit: (&str, f64), rows: usize) -> Option<Profile> {
    if moved.is_empty() {
        return None;
    }
    let source = format!("fitted by `datahall calibrate collectives` to {rows} published rows");
    let mut toml = format!(
        "# What exchanges reach of the data sheet, and what a step costs; fitted by `datahall calibrate collectives`.\n\
         title = \"{what}: {name}\"\nsource = \"{source}\"\nsubject = \"collectives\"\nstack = \"NCCL and others of the rows\"\n\
         date = \"2026-11\"\nhardware = [\"any\"]\n\n[numbers]\nsource = \"{source}\"\n\n[numbers.value]\n"
    );
    for (name, value) in moved.iter().map(|moved| (moved.name.as_str(), moved.after)).chain([limit]) {
        // A `String` takes every write.
        _ = writeln!(toml, "{name} = {value:?}");
    }
    Some(Profile { name: item(name), toml, moved })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_of_the_priors_keep_what_hardware_lacks() {
        let asked = Asked { rows: Vec::new(), questions: Vec::new() };
        let problem = Exchanges::new(&asked);
        let profiles = problem.profiles(&[]);
        assert_eq!(profiles, Profiles::builtin());
        assert!(calibrate(&asked, &Profiles::builtin(), &|_| ()).is_err());
    }

    #[test]
    fn a_profile_is_a_file_that_the_catalogue_reads() {
        let moved = vec![Moved { name: "share".to_owned(), meaning: String::new(), before: None, after: 0.5 }];
        let file = file("efa", "Between domains", moved, ("most_domains", 4.0), 3).unwrap();
        assert!(file.toml.contains("share = 0.5\nmost_domains = 4.0\n"), "{}", file.toml);
    }

    #[test]
    fn four_of_five_weighs_sources_by_the_root_of_their_rows() {
        let rows: Vec<(String, f64)> =
            [("a", 1.1), ("b", 1.2), ("c", 1.3), ("d", 1.4), ("e", 9.0)].map(|(name, f)| (name.to_owned(), f)).to_vec();
        assert_eq!(four_of_five(rows.iter()), Some(1.4));
        assert_eq!(four_of_five([].iter()), None);
    }
}
