//! The demo: a blueprint becomes a trained and a served model, with the same commands and calls that everybody has.
//!
//! Each stage is a real one: the probe measures, the hall is a process of its own, the data goes through the S3
//! endpoint, a rank is really killed, the answer comes through the gateway. What had to be made up is marked.

mod hall_process;
mod interrupt;
mod outcome;
mod serving;
mod supply;
mod training;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use dh_blueprint::Settings;

use self::hall_process::HallProcess;
use self::interrupt::Interrupt;
use self::outcome::Outcome;
use crate::api::Api;
use crate::commands::{Globals, plan, probe, up};
use crate::failure::{Failure, OrFail};
use crate::output::{self, Format};
use crate::{blueprint_file, place};

/// The blueprint that the demo runs, in a clone of the repository.
const BLUEPRINT: &str = "examples/first-hall/hall.toml";

/// What the caller wants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wishes {
    /// Stay up at the end.
    pub(crate) stay: bool,
    /// Kill a rank half-way.
    pub(crate) fault: bool,
    /// Download nothing.
    pub(crate) offline: bool,
}

/// Runs the demo. However it ends, the hall and all that it started have ended before.
pub(crate) fn run(globals: &Globals, wishes: Wishes) -> Result<u8, Failure> {
    let begin = Instant::now();
    let interrupt = Interrupt::listen()?;
    let stage = Stages::new(globals);

    stage.begin("plan", "what this hall is, draws, and how long its training will take here");
    let data = fresh_data(globals)?;
    let (blueprint, settings) = blueprint(globals, &data)?;
    let plan = measure(&settings, wishes, globals.quiet)?;
    if globals.output == Format::Table {
        plan.print(false);
    }

    stage.begin("up", "the hall starts on loopback, behind fresh keys");
    let hall = HallProcess::start(&blueprint, &data)?;
    interrupt.stops(hall.clone());
    let used = use_hall(globals, wishes, &stage, &hall, &settings, &plan, begin);
    if used.is_ok() && wishes.stay {
        outcome::next_commands(&hall);
        // Ctrl-C is handled beside us; the hall may also be stopped by `datahall down`.
        while hall.alive() {
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    interrupt.release();
    hall.stop()?;
    used.map(|()| 0)
}

/// Everything between the start and the end of the hall.
fn use_hall(
    globals: &Globals,
    wishes: Wishes,
    stage: &Stages,
    hall: &HallProcess,
    settings: &Settings,
    plan: &plan::Report,
    begin: Instant,
) -> Result<(), Failure> {
    let api = Api::of(&hall.data, hall.endpoint.clone())?;
    show_keys(globals, &api);

    stage.begin("store", "the data set goes in through the S3 endpoint");
    let supply = supply::bring(&api, wishes, globals.quiet)?;
    stage.say(&supply.sentence());

    stage.begin("train", "a gang of two ranks reads from the store, averages its gradients, checkpoints to the store");
    let training = training::run(&api, settings, wishes.fault, globals.quiet)?;
    training.show(globals);

    stage.begin("serve", "the trained classifier and a small language model, behind one gateway");
    let serving = serving::run(&api, &supply, settings, globals)?;

    let outcome = Outcome::new(plan, &supply, &training, &serving, hall, &api, begin.elapsed())?;
    if globals.output.is_data() {
        return output::data(&outcome);
    }
    stage.begin("predicted | measured", "");
    outcome.print();
    Ok(())
}

/// Numbers the stages.
struct Stages {
    quiet: bool,
    number: std::cell::Cell<u32>,
}

impl Stages {
    const fn new(globals: &Globals) -> Self {
        Self { quiet: globals.quiet, number: std::cell::Cell::new(0) }
    }

    fn begin(&self, name: &str, what: &str) {
        let number = self.number.get() + 1;
        self.number.set(number);
        self.say(&format!("\n{} {}", output::bold(format!("{number}  {name}")), output::dim(what)));
    }

    fn say(&self, words: &str) {
        if !self.quiet {
            output::note(words);
        }
    }
}

/// A data directory of its own, emptied of an earlier demo's: fresh keys, no old jobs.
fn fresh_data(globals: &Globals) -> Result<PathBuf, Failure> {
    let data = match &globals.data {
        Some(data) => data.join("demo"),
        None => place::halls()?.join("demo"),
    };
    if let Some(endpoint) = dh_server::Endpoint::read(&data)?.filter(dh_server::Endpoint::alive) {
        return Err(Failure::new(dh_core::Kind::Conflict, format!("a demo runs already, as process {}", endpoint.pid))
            .hint(format!("stop it with Ctrl-C there, or `datahall down --data {}`", data.display())));
    }
    match std::fs::remove_dir_all(&data) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Failure::new(dh_core::Kind::Internal, format!("empty {}: {error}", data.display())));
        }
        _ => {}
    }
    place::make_private(&data)?;
    Ok(data)
}

/// The blueprint's file: a named one, the example of the clone, or the same text from inside the program.
fn blueprint(globals: &Globals, data: &std::path::Path) -> Result<(PathBuf, Settings), Failure> {
    let path = match &globals.file {
        Some(file) => file.clone(),
        None if PathBuf::from(BLUEPRINT).is_file() => PathBuf::from(BLUEPRINT),
        None => {
            let path = data.join(blueprint_file::DEFAULT_FILE);
            let text = dh_blueprint::template("first-hall").unwrap_or_default();
            std::fs::write(&path, text).or_fail(format!("write {}", path.display()))?;
            path
        }
    };
    let settings = blueprint_file::load(&path)?;
    if plan::trainings(&settings).next().is_none() || settings.services.len() < 2 {
        return Err(Failure::new(
            dh_core::Kind::Blueprint,
            format!("{} has no training or no services", path.display()),
        )
        .hint("the demo trains the first `train` workload and serves it beside a language model"));
    }
    Ok((path, settings))
}

fn measure(settings: &Settings, wishes: Wishes, quiet: bool) -> Result<plan::Report, Failure> {
    let (_, workload, train) = plan::trainings(settings)
        .next()
        .ok_or_else(|| Failure::new(dh_core::Kind::Blueprint, "the blueprint has no training workload"))?;
    if !quiet {
        output::note("measuring this machine for about 5 seconds");
    }
    let profile = probe::measure(&plan::config("demo", train), workload.ranks)?;
    plan::Report::of(settings, Some(&profile), u32::from(wishes.fault))
}

/// Keys are shown once, on stderr, to the person who started the demo.
fn show_keys(globals: &Globals, api: &Api) {
    if globals.quiet {
        return;
    }
    up::listeners(&api.endpoint);
    output::note("  keys      fresh, shown this once, kept in keys.json (mode 0600)");
    let admin = api.admin_key();
    output::note(format!("            everything   {}  {}", admin.id, admin.secret.expose()));
    if let Some(model) = api.model_key() {
        output::note(format!("            models only  {}", model.secret.expose()));
    }
}
