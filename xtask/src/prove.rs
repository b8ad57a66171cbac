//! The long suites: the same tests as in the gate, with many more rounds.

use anyhow::{Context, Result, bail};

use crate::accuracy::document;
use crate::gate::{cargo, step};

/// Events of the storms against the deciding core, unless told otherwise.
const EVENTS: u64 = 20_000_000;

/// Small halls that are played, and states of each.
const WORLDS: &str = "20000";
const STATES: &str = "1000000";

/// Disks after a power cut that the store opens, unless told otherwise.
const IMAGES: u64 = 1_000_000;

/// `arguments` may be `--events N`, or `store` and perhaps `--images N` for the store alone.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if let [part, rest @ ..] = arguments
        && part == "store"
    {
        let images = match rest {
            [] => IMAGES,
            [name, number] if name == "--images" => parse(number)?,
            _ => bail!("prove store takes `--images N` and nothing else"),
        };
        return store(images);
    }
    let events = match arguments {
        [] => EVENTS,
        [name, number] if name == "--events" => parse(number)?,
        _ => bail!("prove takes `--events N`, or `store`, and nothing else"),
    };
    let events = events.to_string();
    step("the same digests without optimisation", || {
        let digests = ["--test", "scheduler_storm", "digest", "--", "--nocapture"];
        cargo(&[&["test", "--locked", "-p", "dh-hall"], &digests[..]].concat(), &[])
    })?;
    step("storms against the deciding core", || {
        let storms = ["--test", "scheduler_storm", "--", "--nocapture"];
        cargo(&[&["test", "--release", "--locked", "-p", "dh-hall"], &storms[..]].concat(), &[("DH_EVENTS", &events)])
    })?;
    step("small halls", || {
        let halls = ["--test", "scheduler_small", "--", "--nocapture"];
        let bounds = [("DH_WORLDS", WORLDS), ("DH_STATES", STATES)];
        cargo(&[&["test", "--release", "--locked", "-p", "dh-hall"], &halls[..]].concat(), &bounds)
    })?;
    step("storms", || {
        cargo(&["test", "--release", "--locked", "-p", "dh-hall", "--test", "storm"], &[("DATAHALL_PROVE", "1")])
    })?;
    step("crashes", || {
        cargo(
            &["test", "--release", "--locked", "-p", "datahall", "--test", "crash", "--", "--nocapture"],
            &[("DATAHALL_PROVE", "1")],
        )
    })?;
    store(IMAGES)?;
    step("accuracy", accuracy)
}

fn parse(number: &str) -> Result<u64> {
    number.replace('_', "").parse().with_context(|| format!("`{number}` is no number"))
}

/// The store after every crash of long lives.
fn store(images: u64) -> Result<()> {
    step("crashes of the store", || {
        let crashes = ["--test", "crashes", "--", "--nocapture"];
        let images = images.to_string();
        cargo(&[&["test", "--release", "--locked", "-p", "dh-store"], &crashes[..]].concat(), &[("DH_IMAGES", &images)])
    })
}

/// Every published file through `validate`, and, where a model is fitted, held out; then the document says the same.
fn accuracy() -> Result<()> {
    for subject in ["training", "inference", "collectives", "memory", "energy", "storage"] {
        let file = format!("data/published/{subject}.csv");
        let validate = ["run", "--release", "--locked", "-p", "datahall", "--", "validate", subject, file.as_str()];
        cargo(&validate, &[])?;
        // The model of memory counts; nothing of it is fitted.
        if subject != "memory" {
            cargo(&[&validate[..], &["--held-out"]].concat(), &[])?;
        }
    }
    document("")
}
