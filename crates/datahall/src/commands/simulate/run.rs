//! One policy or several, one seed or several: the runs, what they came to, a page, a log.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use clap::{Args, ValueEnum};
use dh_core::time::Span;
use dh_core::{Kind, SimTime};
use dh_hall::scheduler::Scheduler;
use dh_twin::comparison::{Comparison, Runs};
use dh_twin::kernel::{Happening, Observer};
use dh_twin::measure::Window;
use dh_twin::page;
use dh_twin::play::{self, Draw, Lengths, OWN, Ran, Rules, Scene, Wanted};
use dh_twin::record::{Header, Recorder};
use serde::Serialize;

use super::openb::{Seeds, seeds};
use super::print;
use super::scene::{Hall, World, span};
use crate::blueprint_file;
use crate::commands::Globals;
use crate::failure::Failure;
use crate::output;
use crate::ui::progress::Progress;

#[derive(Debug, Args)]
pub(super) struct Run {
    /// The hall: without one, a trace brings its published cluster
    blueprint: Option<PathBuf>,
    #[command(flatten)]
    world: World,
    #[command(flatten)]
    ask: super::requests::Ask,
    /// Policies by name, joined by `+`, in place of those of the blueprint's `[policy]`
    #[arg(long, conflicts_with = "compare", long_help = policies())]
    policy: Option<String>,
    /// Several policies side by side, the first is what the others are compared with
    #[arg(long, value_name = "POLICY,...", value_delimiter = ',')]
    compare: Vec<String>,
    /// What the scheduler is told of how long jobs run
    #[arg(long, value_enum, default_value = "limits")]
    lengths: Told,
    /// The seed of whatever is drawn: faults, generated jobs
    #[arg(long, default_value_t = 1, conflicts_with = "seeds")]
    seed: u64,
    /// One run for each seed: `1..10` with both ends, or how many
    #[arg(long, value_parser = several)]
    seeds: Option<Seeds>,
    /// Jobs submitted before this are not counted: the hall fills up
    #[arg(long, value_name = "TIME", value_parser = span)]
    from: Option<Span>,
    /// Jobs submitted from then on are not counted: the hall runs empty
    #[arg(long, value_name = "TIME", value_parser = span)]
    to: Option<Span>,
    /// Stop the run at this moment
    #[arg(long, value_name = "TIME", value_parser = span)]
    until: Option<Span>,
    /// Ask the scheduler for plans of moves so often, and carry out those that pay: a gang starts because others move, nodes come free to sleep
    #[arg(long, value_name = "EVERY", value_parser = span)]
    consolidate: Option<Span>,
    /// Write what happened as one page with pictures that needs nothing else
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write every event to a log that `datahall replay` and `datahall why` read
    #[arg(long, value_name = "FILE", conflicts_with_all = ["compare", "seeds"])]
    log: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Told {
    /// The limit that the user gave, where the trace has one
    Limits,
    /// The truth: an oracle
    Exact,
    /// Nothing
    Unknown,
}

/// Every policy by its name, for the long help.
fn policies() -> String {
    let line = |name: &str, about: &str| format!("\n  {name:<27} {about}");
    let orders = dh_policy::order::POLICIES.iter().map(|policy| line(policy.name(), policy.about()));
    let placements = dh_policy::placement::POLICIES.iter().map(|policy| line(policy.name(), policy.about()));
    let backfills = [
        ("none", "nothing passes a job that is ahead and does not fit"),
        ("any", "whatever fits; large jobs may starve"),
        ("easy", "what does not delay the first that waits"),
        ("conservative", "what delays none of the first 16 that wait"),
    ];
    let sharings = [
        ("one-line", "all jobs stand in one line"),
        ("fair", "the queue that has and had least of its share goes first"),
    ];
    let besides = [
        ("blueprint", "what the blueprint's [policy] says itself"),
        ("rounds", "all jobs are arranged anew, at most once in a minute, by orders that let later jobs be displaced"),
        ("interleave", "in rounds jobs whose stages interleave share accelerators, as far as their stages are known"),
        ("moves", "running jobs move if that pays: asked every 10 minutes, or with --consolidate"),
    ];
    let plain = |pairs: &[(&str, &str)]| pairs.iter().map(|(name, about)| line(name, about)).collect::<String>();
    format!(
        "Policies by name, joined by `+`, in place of those of the blueprint's `[policy]`; `best` is the recommended one of each.\n\nOrders:{}\nPlacements:{}\nBackfills:{}\nSharings:{}\nBesides:{}",
        orders.collect::<String>(),
        placements.collect::<String>(),
        plain(&backfills),
        plain(&sharings),
        plain(&besides)
    )
}

/// `10` is the seeds 1 to 10; `3..7` has both ends.
fn several(text: &str) -> Result<Seeds, String> {
    if text.contains("..") { seeds(text) } else { seeds(&format!("1..{text}")) }
}

/// One run in the output.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) policy: String,
    pub(super) seed: u64,
    #[serde(flatten)]
    pub(super) ran: Ran,
}

/// What `-o json` says.
#[derive(Debug, Serialize)]
struct Whole<'a> {
    scene: &'a str,
    nodes: usize,
    accelerators: u64,
    notes: &'a [String],
    /// The first run's, for those who play one.
    outcome: &'a dh_twin::measure::Outcome,
    runs: &'a [Report],
    #[serde(skip_serializing_if = "Option::is_none")]
    comparison: Option<&'a Comparison>,
}

impl Run {
    pub(super) fn run(&self, globals: &Globals) -> Result<u8, Failure> {
        let lengths = match self.lengths {
            Told::Limits => Lengths::Limits,
            Told::Exact => Lengths::Exact,
            Told::Unknown => Lengths::Unknown,
        };
        let own = if self.blueprint.is_some() || self.world.trace.is_none() { OWN } else { "best" };
        let one = [self.policy.clone().unwrap_or_else(|| own.to_owned())];
        let names = if self.compare.is_empty() { one.as_slice() } else { self.compare.as_slice() };
        let rules: Vec<Rules> = names.iter().map(|name| Rules::named(name, lengths)).collect::<Result<_, _>>()?;
        let seeds = self.seeds.map_or_else(|| vec![self.seed], Seeds::all);
        let scenes = self.scenes(&seeds, globals)?;
        if let Some((_, scene)) = scenes.first() {
            let told = scene.told(lengths);
            for caution in rules.iter().filter_map(|rules| rules.caution(told)) {
                output::note(format!("{} {caution}", output::yellow("note:")));
            }
            if seeds.len() > 1 && self.blueprint.is_none() && !self.world.draws() {
                output::note(format!(
                    "{} a trace without `--mtbf` has nothing to draw: every seed gives the same run",
                    output::yellow("note:")
                ));
            }
        }
        let reports = match &self.log {
            Some(file) => vec![self.recorded(&scenes, &rules, file, globals)?],
            None => self.play(&scenes, &rules, globals)?,
        };
        let comparison = (reports.len() > 1).then(|| {
            let runs: Vec<Runs> = rules
                .iter()
                .map(|rules| Runs {
                    policy: rules.name.clone(),
                    outcomes: reports
                        .iter()
                        .filter(|report| report.policy == rules.name)
                        .map(|report| (report.seed, report.ran.outcome.clone()))
                        .collect(),
                })
                .collect();
            Comparison::of(&runs)
        });
        let (Some(first), Some((_, scene))) = (reports.first(), scenes.first()) else {
            return Err(Failure::new(Kind::Invalid, "nothing was played"));
        };
        if let Some(file) = &self.html {
            write_page(file, scene, first, comparison.as_ref(), globals)?;
        }
        if globals.output.is_data() {
            output::versioned(&Whole {
                scene: &scene.title,
                nodes: scene.base.nodes.len(),
                accelerators: scene.accelerators(),
                notes: &scene.notes,
                outcome: &first.ran.outcome,
                runs: &reports,
                comparison: comparison.as_ref(),
            })?;
        } else {
            print::runs(scene, &reports, comparison.as_ref());
        }
        Ok(0)
    }

    /// One scene for each seed.
    fn scenes(&self, seeds: &[u64], globals: &Globals) -> Result<Vec<(u64, Scene)>, Failure> {
        match (&self.world.trace, &self.blueprint) {
            (Some(trace), None) => {
                let scene = self.world.scene(trace)?;
                let with = |seed: &u64| {
                    let mut scene = Scene { faults: self.world.faults(&scene, *seed)?, ..scene.clone() };
                    self.world.data(None, *seed, &mut scene)?;
                    Ok((*seed, scene))
                };
                seeds.iter().map(with).collect()
            }
            (trace, blueprint) => {
                let path = blueprint_file::path(globals, blueprint.as_deref());
                let hall = Hall::read(&path, globals)?;
                seeds
                    .iter()
                    .map(|seed| Ok((*seed, hall.scene(&self.world, &self.ask, trace.as_deref(), *seed)?)))
                    .collect()
            }
        }
    }

    fn wanted(&self) -> Wanted<'static> {
        let at = |span: Span| SimTime(0).after(span);
        let whole = Window::default();
        Wanted {
            draw: if self.html.is_some() { Draw::All } else { Draw::Nothing },
            window: Window { from: self.from.map_or(whole.from, at), to: self.to.map_or(whole.to, at) },
            until: self.until.map(at),
            consolidate: self.consolidate.filter(|every| every.0 > 0),
            ..Wanted::default()
        }
    }

    /// Every policy on every seed, on all cores; in the order of policies, then of seeds.
    fn play(&self, scenes: &[(u64, Scene)], rules: &[Rules], globals: &Globals) -> Result<Vec<Report>, Failure> {
        let tasks: Vec<(&Rules, u64, &Scene)> =
            rules.iter().flat_map(|rules| scenes.iter().map(move |(seed, scene)| (rules, *seed, scene))).collect();
        let total: u64 = tasks.iter().map(|(.., scene)| u64::try_from(scene.jobs.len()).unwrap_or(u64::MAX)).sum();
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(tasks.len().max(1));
        let (next, done) = (AtomicUsize::new(0), AtomicU64::new(0));
        let wanted = self.wanted();
        let work = |mut progress: Option<Progress>| {
            let mut reports = Vec::new();
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some((rules, seed, scene)) = tasks.get(at).copied() else { return reports };
                let mut beside = Count { done: &done, total, progress: progress.as_mut(), unseen: 0 };
                let ran = play::play(scene, rules, &wanted, &mut beside);
                reports.push((at, ran.map(|ran| Report { policy: rules.name.clone(), seed, ran })));
            }
        };
        let progress = Progress::new("simulate", total, globals.quiet);
        let mut reports = std::thread::scope(|scope| {
            let others: Vec<_> = (1..cores).map(|_| scope.spawn(|| work(None))).collect();
            let mut reports = work(Some(progress));
            // A thread that panicked took its runs with it; the panic itself was printed.
            reports.extend(others.into_iter().filter_map(|other| other.join().ok()).flatten());
            reports
        });
        reports.sort_by_key(|(at, _)| *at);
        reports.into_iter().map(|(_, report)| Ok(report?)).collect()
    }

    /// One run, with its log.
    fn recorded(
        &self,
        scenes: &[(u64, Scene)],
        rules: &[Rules],
        file: &Path,
        globals: &Globals,
    ) -> Result<Report, Failure> {
        let failed =
            |error: &dyn std::fmt::Display| Failure::new(Kind::Internal, format!("{}: {error}", file.display()));
        let (Some((seed, scene)), Some(rules)) = (scenes.first(), rules.first()) else {
            return Err(Failure::new(Kind::Invalid, "nothing was played"));
        };
        let out = BufWriter::new(File::create(file).map_err(|error| failed(&error))?);
        let header = Header::new(play::settings(scene, rules), scene.profiles.clone(), scene.queues.clone());
        let mut recorder = Recorder::new(out, &header).map_err(|error| failed(&error))?;
        let total = u64::try_from(scene.jobs.len()).unwrap_or(u64::MAX);
        let done = AtomicU64::new(0);
        let mut progress = Progress::new("simulate", total, globals.quiet);
        let mut last = Last(0);
        let ran = {
            let count = Count { done: &done, total, progress: Some(&mut progress), unseen: 0 };
            play::play(scene, rules, &self.wanted(), &mut ((&mut recorder, &mut last), count))?
        };
        drop(progress);
        recorder.finish(last.0).map_err(|error| failed(&error))?;
        Ok(Report { policy: rules.name.clone(), seed: *seed, ran })
    }
}

/// The digest after the last event.
#[derive(Debug)]
struct Last(u64);

impl Observer for Last {
    fn settled(&mut self, _now: SimTime, scheduler: &Scheduler) {
        self.0 = scheduler.digest();
    }
}

/// Counts jobs that are over, and shows how far the runs are.
struct Count<'a> {
    done: &'a AtomicU64,
    total: u64,
    progress: Option<&'a mut Progress>,
    unseen: u64,
}

/// Jobs from one look at the display to the next.
const LOOK_EVERY: u64 = 1024;

impl Observer for Count<'_> {
    fn happened(&mut self, now: SimTime, what: Happening<'_>, _: &Scheduler) {
        if !matches!(what, Happening::Ended { .. } | Happening::Refused(..)) {
            return;
        }
        self.unseen += 1;
        if self.unseen == LOOK_EVERY {
            let done = self.done.fetch_add(self.unseen, Ordering::Relaxed) + self.unseen;
            self.unseen = 0;
            if let Some(progress) = &mut self.progress {
                let left = self.total.saturating_sub(done);
                progress.at(done, &format!("day {}, {left} jobs left", now.0 / 86_400_000_000_000));
            }
        }
    }
}

fn write_page(
    file: &Path,
    scene: &Scene,
    first: &Report,
    comparison: Option<&Comparison>,
    globals: &Globals,
) -> Result<(), Failure> {
    let facts = vec![
        ("Cluster".to_owned(), format!("{} nodes, {} accelerators", scene.base.nodes.len(), scene.accelerators())),
        ("Jobs".to_owned(), scene.jobs.len().to_string()),
        ("Policy".to_owned(), first.policy.clone()),
        ("Seed".to_owned(), first.seed.to_string()),
        ("Events".to_owned(), first.ran.events.to_string()),
        ("Digest".to_owned(), first.ran.digest.clone()),
    ];
    let text = page::html(&page::Page {
        title: &scene.title,
        lead: &scene.notes.join("; "),
        facts: &facts,
        outcome: &first.ran.outcome,
        chart: first.ran.chart.as_ref(),
        queues: &scene.queues,
        comparison,
        services: &first.ran.services,
    });
    std::fs::write(file, text).map_err(|error| Failure::new(Kind::Internal, format!("{}: {error}", file.display())))?;
    if !globals.quiet {
        output::note(format!("wrote {}", file.display()));
    }
    Ok(())
}
