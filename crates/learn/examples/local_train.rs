//! Trains in one process: ranks as threads over loopback, data and checkpoints in memory. Prints the events.
//!
//! `local_train [--ranks 2] [--epochs 5] [--samples 60000] [--batch 64] [--idx DIRECTORY] [--probe]`

use std::error::Error;
use std::io::{Write, stdout};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use dh_core::Secret;
use dh_learn::collective::Collective;
use dh_learn::dataset::{Dataset, Origin, idx, synthetic, upload};
use dh_learn::train::run_in;
use dh_learn::{DataSize, MemoryStore, ObjectStore, TrainConfig, World, probe, train_shape};

type AnyError = Box<dyn Error + Send + Sync>;

struct Settings {
    ranks: u32,
    epochs: u64,
    samples: usize,
    batch: usize,
    idx: Option<PathBuf>,
    probe: bool,
}

fn settings() -> Result<Settings, AnyError> {
    let mut settings = Settings { ranks: 2, epochs: 5, samples: 60_000, batch: 64, idx: None, probe: false };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{name} needs a value"));
        match name.as_str() {
            "--ranks" => settings.ranks = value()?.parse()?,
            "--epochs" => settings.epochs = value()?.parse()?,
            "--samples" => settings.samples = value()?.parse()?,
            "--batch" => settings.batch = value()?.parse()?,
            "--idx" => settings.idx = Some(value()?.into()),
            "--probe" => settings.probe = true,
            _ => return Err(format!("unknown option {name}").into()),
        }
    }
    Ok(settings)
}

fn dataset(settings: &Settings) -> Result<Dataset, AnyError> {
    match &settings.idx {
        Some(directory) => Ok(idx::load(directory, "fashion-mnist", Origin::FashionMnist)?),
        None => Ok(synthetic::generate("generated", settings.samples, settings.samples / 6, 1)),
    }
}

fn main() -> Result<(), AnyError> {
    let settings = settings()?;
    let memory = MemoryStore::new();
    let manifest = upload(&memory, "data", "set", &dataset(&settings)?, 2_000, &mut |_| ())?;
    let config =
        TrainConfig { epochs: settings.epochs, global_batch: settings.batch, ..TrainConfig::new("data", "set", "run") };
    let shape = train_shape(&config, DataSize::from(&manifest), settings.ranks)?;
    if settings.probe {
        let profile = probe::probe(&config, settings.ranks, Path::new("."))?;
        writeln!(stdout(), "{profile:#?}\n{shape:#?}")?;
    }
    let store: Arc<dyn ObjectStore> = Arc::new(memory);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let mut listener = Some(listener);
    let mut handles = Vec::new();
    for rank in 0..settings.ranks {
        let (listener, config, store) = (listener.take(), config.clone(), store.clone());
        let world = World {
            rank,
            ranks: settings.ranks,
            master: address.to_string(),
            token: Secret::new("local".to_owned()),
            ..World::alone()
        };
        handles.push(thread::spawn(move || {
            let mut show = |event: &dh_learn::Event| {
                if rank == 0 {
                    // A closed standard output is no reason to stop training.
                    drop(writeln!(stdout(), "{}", event.to_json()));
                }
            };
            run_in(&config, &world, store, &mut show, || match &listener {
                Some(listener) => Collective::gather(&world, listener),
                None => Collective::join(&world),
            })
        }));
    }
    for handle in handles {
        let report = handle.join().map_err(|_| "a rank ended early")??;
        let milliseconds = |seconds: f64| seconds * 1e3 / f64::from(u32::try_from(report.steps.max(1)).unwrap_or(1));
        writeln!(
            stdout(),
            "per step: {:.3} ms (compute {:.3}, update {:.3}, exchange {:.3}, data {:.3}); evaluation {:.2} s; {:.0} samples/s",
            milliseconds(report.seconds - report.evaluation_seconds),
            milliseconds(report.compute_seconds),
            milliseconds(report.update_seconds),
            milliseconds(report.allreduce_seconds),
            milliseconds(report.wait_seconds),
            report.evaluation_seconds,
            report.samples_per_second,
        )?;
    }
    Ok(())
}
