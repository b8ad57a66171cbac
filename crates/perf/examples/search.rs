//! How fast layouts are searched: `cargo run --release -p dh-perf --example search [THREADS]`.
//!
//! Prints the time of one estimate of memory and of a step, GPT-3 175B on 512 H100 and Llama 3 405B on 16,384, the same with every
//! choice, DeepSeek-V3 with every choice (more than a million layouts), and the process's peak of memory (`VmHWM` of Linux).
#![expect(clippy::disallowed_methods, reason = "a stopwatch reads the clock, and the peak of memory is in a file")]

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use dh_blueprint::Catalog;
use dh_perf::architecture::Architecture;
use dh_perf::collectives::ScaleOutProfile;
use dh_perf::hardware::{Accelerator, Format, Machine, Network};
use dh_perf::layout::{Layout, Offload, Recompute, Schedule};
use dh_perf::memory::{self, Overheads};
use dh_perf::pretraining::{self, Work};
use dh_perf::search::{Amount, Choices, Found, Objective, Partial, Question, SHARES, Search, degrees, reason};
use dh_units::{BytesPerSec, Tokens, UsdPerHour};

type Failure = Box<dyn std::error::Error>;

fn question(model: &str, accelerators: u64, sequence: u64, sequences: u64) -> Result<Question, Failure> {
    let catalog = Catalog::builtin();
    let shape = Architecture::from(catalog.model_called(model).ok_or("the catalogue lacks the model")?);
    let accelerator = Accelerator::named(catalog, "h100-80gb-sxm")?;
    let name = accelerator.name.clone();
    let network = Network {
        bandwidth: BytesPerSec(50e9),
        oversubscription: 1.0,
        in_network: false,
        profile: ScaleOutProfile::INFINIBAND,
    };
    let machine = Machine::new(accelerator, Some(network));
    let choices = Choices::of(&shape, &machine, sequence);
    Ok(Question {
        shape,
        products: Format::Bf16,
        machine,
        profile: pretraining::Profile::of(catalog, &name),
        power: dh_perf::power::Profile::of(catalog, &name),
        price: Some(UsdPerHour(2.5)),
        accelerators: Amount::UpTo(accelerators),
        sequence: Tokens(sequence),
        batch: Tokens(sequence * sequences),
        tokens: Tokens(300_000_000_000),
        objective: Objective::Time,
        choices,
    })
}

/// Shares on threads that take the next one when they are done.
fn parallel(search: &Search, threads: usize) -> Result<Found, Failure> {
    let shares = search.shares(SHARES);
    let next = AtomicUsize::new(0);
    let partials = std::thread::scope(|scope| {
        let run = || {
            let mut partials: Vec<Partial> = Vec::new();
            while let Some(share) = shares.get(next.fetch_add(1, Ordering::Relaxed)) {
                partials.push(share.run(&mut |_| {}));
            }
            partials
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        workers.into_iter().map(|worker| worker.join().map_err(|_| "a worker failed")).collect::<Result<Vec<_>, _>>()
    })?;
    Ok(search.merge(partials.into_iter().flatten()))
}

fn report(out: &mut impl Write, name: &str, question: Question, threads: usize) -> Result<(), Failure> {
    let start = Instant::now();
    let search = Search::new(question)?;
    let found = parallel(&search, threads)?;
    let seconds = start.elapsed().as_secs_f64();
    let tally = found.tally;
    writeln!(out, "{name}: {} layouts in {seconds:.2} s on {threads} threads", tally.enumerated)?;
    writeln!(
        out,
        "  {} impossible, {} out of memory, {} bounded, {} estimated; front of {}",
        tally.impossible,
        tally.out_of_memory,
        tally.bounded,
        tally.evaluated,
        found.front.len()
    )?;
    if let Some(best) = &found.best {
        writeln!(out, "  best: {} on {}, {} a step", degrees(&best.layout), best.accelerators, best.step.time)?;
        for other in found.runners_up.iter().take(2) {
            writeln!(out, "  next: {}", reason(best, other))?;
        }
    }
    Ok(())
}

fn every_choice(mut question: Question) -> Question {
    question.choices.offload = vec![Offload::None, Offload::Optimizer];
    question.choices.schedule = vec![Schedule::OneForwardOneBackward, Schedule::AllForward];
    question.choices.recompute = vec![Recompute::None, Recompute::Selective, Recompute::Operators, Recompute::Full];
    question
}

fn main() -> Result<(), Failure> {
    let threads = std::env::args().nth(1).map_or(Ok(2), |text| text.parse::<usize>())?;
    let mut out = std::io::stdout().lock();
    let gpt = question("gpt-3", 512, 2_048, 1_024)?;
    let layout = Layout { tp: 8, pp: 8, vpp: 3, dp: 8, micro_batches: Some(128), ..Layout::default() };
    let rounds = 100_000_u32;
    let start = Instant::now();
    let mut sum = 0.0;
    for _ in 0..rounds {
        sum += memory::needed(&gpt.shape, std::hint::black_box(&layout), Overheads::DEVICE).as_f64();
    }
    let needed = start.elapsed() / rounds;
    let start = Instant::now();
    for _ in 0..rounds {
        let work = Work { shape: &gpt.shape, layout: std::hint::black_box(&layout), products: gpt.products };
        sum += pretraining::step(&work, &gpt.machine, &gpt.profile)?.time.0;
    }
    let step = start.elapsed() / rounds;
    std::hint::black_box(sum);
    writeln!(out, "memory of a layout {needed:?}, a step of it {step:?}")?;
    report(&mut out, "GPT-3 175B on 512", gpt.clone(), threads)?;
    report(&mut out, "GPT-3 175B on 512, every choice", every_choice(gpt), threads)?;
    report(&mut out, "Llama 3 405B on 16,384", question("llama-3-405b", 16_384, 8_192, 2_048)?, threads)?;
    let mixture = every_choice(question("deepseek-v3", 2_048, 4_096, 15_360)?);
    report(&mut out, "DeepSeek-V3 on 2,048, every choice", mixture, threads)?;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(peak) = status.lines().find(|line| line.starts_with("VmHWM")) {
        writeln!(out, "{peak}")?;
    }
    Ok(())
}
