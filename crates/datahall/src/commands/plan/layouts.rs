//! The search for the best layout of each training, on all cores, with a bar; and what people see of what it found.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use dh_blueprint::{Origins, Settings};
use dh_perf::search::{Found, Partial, SHARES, Search, Tally};
use dh_plan::{Plan as HallPlan, Prediction, TrainingPlan};
use dh_units::{Tokens, Value, significant, whole};

use crate::commands::Globals;
use crate::failure::Failure;
use crate::output;
use crate::ui::progress::Progress;
use crate::ui::table::{Side, Table};

/// Ways of the front that are shown unless all are asked for.
const WAYS: usize = 6;

/// How much of what was found is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// The best, a short front, and why the next one lost.
    Short,
    /// All of the front, all runners-up, the parts of a step.
    Full,
}

/// The plan, its searches on all cores.
pub(crate) fn planned(settings: &Settings, origins: &Origins, globals: &Globals) -> Result<HallPlan, Failure> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(dh_plan::plan_with(settings, origins, &mut |name, search| parallel(name, search, cores, globals.quiet))?)
}

/// What a worker tells.
enum Told {
    Layouts(Tally),
    ShareDone,
}

/// Shares go to whoever is free; what is found does not depend on who that is.
fn parallel(name: &str, search: &Search, cores: usize, quiet: bool) -> Found {
    let shares = search.shares(SHARES);
    let next = AtomicUsize::new(0);
    let mut progress = Progress::new(&format!("layouts of {name}"), u64::try_from(shares.len()).unwrap_or(1), quiet);
    let partials = std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        let workers: Vec<_> = (0..cores.clamp(1, shares.len().max(1)))
            .map(|_| {
                let sender = sender.clone();
                let (shares, next) = (&shares, &next);
                scope.spawn(move || {
                    let mut partials: Vec<Partial> = Vec::new();
                    while let Some(share) = shares.get(next.fetch_add(1, Ordering::Relaxed)) {
                        // Nobody listens only when the listener is gone, and then nobody waits for words either.
                        partials.push(share.run(&mut |more| drop(sender.send(Told::Layouts(more)))));
                        drop(sender.send(Told::ShareDone));
                    }
                    partials
                })
            })
            .collect();
        drop(sender);
        let (mut done, mut tally) = (0, Tally::default());
        for told in receiver {
            match told {
                Told::Layouts(more) => tally += more,
                Told::ShareDone => done += 1,
            }
            progress.at(done, &format!("{} layouts", Value::from(tally.enumerated)));
        }
        let joined = workers.into_iter().map(|worker| match worker.join() {
            Ok(partials) => partials,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        joined.flatten().collect::<Vec<_>>()
    });
    progress.end();
    search.merge(partials)
}

/// What was found for each training.
pub(super) fn print(plan: &HallPlan, detail: Detail) {
    for training in &plan.trainings {
        if let Some(prediction) = &training.prediction {
            one(plan, training, prediction, detail);
        }
    }
}

fn one(plan: &HallPlan, training: &TrainingPlan, prediction: &Prediction, detail: Detail) {
    let way = &prediction.way;
    output::line("");
    output::line(format!(
        "{} {}: {} on {} accelerators, for the least {}",
        output::bold("LAYOUT"),
        training.name,
        output::bold(&way.layout),
        Value::from(way.accelerators),
        prediction.optimise
    ));
    output::line(format!(
        "     a step {} ({} to {} in four of five), {}/s, MFU {} %; {} of {} memory",
        output::bold(way.step),
        prediction.low,
        prediction.high,
        Tokens(whole(prediction.tokens_per_second)),
        significant(way.mfu * 100.0),
        prediction.needed,
        prediction.memory
    ));
    if plan.ledger.get(&format!("training.{}.predicted.step", training.name)).is_some() {
        let said = plan.ledger.get(&format!("workload.{}.mfu", training.name));
        let said = said.map_or_else(String::new, |number| number.value.to_string());
        output::line(format!("     the blueprint's MFU of {said} is what the times above rest on"));
    }
    if !prediction.outside.is_empty() {
        let why = prediction.outside.join(", ");
        output::line(format!("     {} {why}", output::yellow("outside the calibrated range:")));
    }
    if detail == Detail::Full {
        parts(prediction);
    }
    front(prediction, detail);
    let most = if detail == Detail::Full { usize::MAX } else { 1 };
    for runner_up in prediction.runners_up.iter().take(most) {
        output::line(format!("     {} {}", output::dim("next best:"), runner_up.why));
    }
    if detail == Detail::Full {
        let looked = prediction.looked;
        output::line(output::dim(format!(
            "     {} layouts: {} cannot be, {} do not fit, {} could not be better, {} were estimated",
            Value::from(looked.enumerated),
            Value::from(looked.impossible),
            Value::from(looked.out_of_memory),
            Value::from(looked.bounded),
            Value::from(looked.evaluated)
        )));
    }
}

/// What a step is made of.
fn parts(prediction: &Prediction) {
    let mut table = Table::new(&[("     PART OF A STEP", Side::Left), ("", Side::Right), ("", Side::Right)]);
    for part in &prediction.parts {
        let share = part.seconds / prediction.way.step * 100.0;
        table.row([format!("     {}", part.name), part.seconds.to_string(), format!("{share:.1} %")]);
    }
    table.lines().iter().for_each(output::line);
}

/// Ways that no other beats.
fn front(prediction: &Prediction, detail: Detail) {
    if prediction.front.len() < 2 {
        return;
    }
    let mut table = Table::new(&[
        ("     ON", Side::Left),
        ("TIME", Side::Right),
        ("COST", Side::Right),
        ("ENERGY", Side::Right),
        ("LAYOUT", Side::Left),
    ]);
    let most = if detail == Detail::Full { usize::MAX } else { WAYS };
    for way in prediction.front.iter().take(most) {
        table.row([
            format!("     {}", Value::from(way.accelerators)),
            way.time.to_string(),
            way.cost.map_or_else(|| "-".to_owned(), |cost| cost.to_string()),
            way.energy.map_or_else(|| "-".to_owned(), |energy| energy.to_string()),
            way.layout.clone(),
        ]);
    }
    table.lines().iter().for_each(output::line);
}
