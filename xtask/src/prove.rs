//! The long suites: the same tests as in the gate, with many more rounds.

use anyhow::{Context, Result, bail};

use crate::accuracy::document;
use crate::clients;
use crate::gate::{cargo, step};
use crate::kubernetes as cluster;

/// Events of the storms against the deciding core, and as many in small halls, unless told otherwise.
const EVENTS: u64 = 20_000_000;

/// How much the store is tried.
#[derive(Debug, Clone, Copy)]
struct StoreRounds {
    /// Disks after a power cut that it opens.
    images: u64,
    /// Times that the real program is killed.
    kills: u64,
    /// Inputs of each fuzz target.
    inputs: u64,
}

/// What the store is tried with unless told otherwise.
const STORE: StoreRounds = StoreRounds { images: 1_000_000, kills: 1_000, inputs: 1_000_000 };

/// `arguments` may be `--events N` (`1e8`, `10M`, `1_000_000`), `--images N`, `--kills N` and `--inputs N` of the store, and
/// `--only hall`, `--only store` (or `store` alone), `--only frameworks` or `--only kubernetes`.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let (mut events, mut rounds, mut only) = (EVENTS, STORE, None);
    let mut given = arguments.iter().map(String::as_str);
    while let Some(name) = given.next() {
        match name {
            "store" => only = Some("store"),
            "--only" => match given.next() {
                Some(part @ ("hall" | "store" | "frameworks" | "kubernetes")) => only = Some(part),
                _ => bail!("--only takes `hall`, `store`, `frameworks` or `kubernetes`"),
            },
            "--events" | "--images" | "--kills" | "--inputs" => {
                let text = given.next().unwrap_or_default();
                let wanted =
                    number(text).with_context(|| format!("`{text}` is no number for {name}, such as 1e7 or 10M"))?;
                *match name {
                    "--events" => &mut events,
                    "--images" => &mut rounds.images,
                    "--kills" => &mut rounds.kills,
                    _inputs => &mut rounds.inputs,
                } = wanted;
            }
            _ => bail!(
                "prove takes `--events N`, `--images N`, `--kills N`, `--inputs N`, and `--only` with `hall`, `store`, `frameworks` or \
                 `kubernetes`, and not `{name}`"
            ),
        }
    }
    match only {
        Some("store") => store(rounds),
        Some("frameworks") => frameworks(),
        Some("kubernetes") => kubernetes(),
        Some(_) => hall(events),
        None => {
            hall(events)?;
            beside(rounds)
        }
    }
}

/// A whole number as people write it: `1000000`, `1_000_000`, `1e6`, `1.5e6`, `10k`, `10M`, `2G`.
fn number(text: &str) -> Option<u64> {
    let plain = text.trim().replace(['_', ','], "");
    let (mantissa, power) = match plain.split_once(['e', 'E']) {
        Some((mantissa, power)) => (mantissa, power.trim_start_matches('+').parse::<usize>().ok()?),
        None => match plain.char_indices().last()? {
            (at, 'k' | 'K') => (plain.get(..at)?, 3),
            (at, 'M') => (plain.get(..at)?, 6),
            (at, 'G') => (plain.get(..at)?, 9),
            _ => (plain.as_str(), 0),
        },
    };
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let zeros = power.checked_sub(part.len()).filter(|zeros| *zeros < 20)?;
    let digits = [whole, part].concat();
    let all_digits = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    if !all_digits {
        return None;
    }
    format!("{digits}{}", "0".repeat(zeros)).parse().ok().filter(|events| *events > 0)
}

/// The deciding core: storms of `events` events, and small halls with as many.
fn hall(events: u64) -> Result<()> {
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
        cargo(&[&["test", "--release", "--locked", "-p", "dh-hall"], &halls[..]].concat(), &[("DH_EVENTS", &events)])
    })
}

/// What is proved beside the deciding core.
fn beside(rounds: StoreRounds) -> Result<()> {
    step("storms", || {
        cargo(&["test", "--release", "--locked", "-p", "dh-hall", "--test", "storm"], &[("DATAHALL_PROVE", "1")])
    })?;
    step("crashes", || {
        cargo(
            &["test", "--release", "--locked", "-p", "datahall", "--test", "crash", "--", "--nocapture"],
            &[("DATAHALL_PROVE", "1")],
        )
    })?;
    store(rounds)?;
    frameworks()?;
    kubernetes()?;
    step("accuracy", accuracy)
}

/// The store after every crash of long lives on a simulated disk, killed as a process over and over, and against inputs that
/// nobody would send.
fn store(rounds: StoreRounds) -> Result<()> {
    let StoreRounds { images, kills, inputs } = rounds;
    let test = |package: &str, which: &[&str], variables: &[(&str, &str)]| {
        let test = ["test", "--release", "--locked", "-p", package];
        cargo(&[&test[..], which, &["--", "--nocapture"]].concat(), variables)
    };
    step("crashes of the store", || test("dh-store", &["--test", "crashes"], &[("DH_IMAGES", &images.to_string())]))?;
    step("kills of the store", || {
        test("datahall", &["--test", "store_crash"], &[("DATAHALL_ROUNDS", &kills.to_string())])
    })?;
    step("inputs of the store", || test("dh-store", &["--lib", "fuzz"], &[("DH_FUZZ_CASES", &inputs.to_string())]))
}

/// TensorFlow, Ray and Spark as jobs of a hall.
fn frameworks() -> Result<()> {
    step("frameworks", || {
        let folder = clients::install_frameworks()?.display().to_string();
        let test = ["test", "--release", "--locked", "-p", "datahall", "--test", "frameworks_long"];
        // One after another: each takes all cores.
        let flags = ["--", "--nocapture", "--test-threads=1"];
        cargo(&[&test[..], &flags[..]].concat(), &[("DATAHALL_FRAMEWORKS", &folder)])
    })
}

/// Gangs on a real API server and scheduler.
fn kubernetes() -> Result<()> {
    step("kubernetes", || {
        let folder = cluster::install()?.display().to_string();
        let test = ["test", "--release", "--locked", "-p", "dh-exec", "--test", "kubernetes_long", "--", "--nocapture"];
        cargo(&test, &[("DATAHALL_KUBERNETES", &folder)])
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

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_of_events_are_read_as_people_write_them() {
        let same = ["10000000", "10_000_000", "10,000,000", "1e7", "1E7", "1e+7", "10M", "10000k", "0.01G", "1.0e7"];
        for text in same {
            assert_eq!(number(text), Some(10_000_000), "{text}");
        }
        assert_eq!(number("1.5e6"), Some(1_500_000));
        for wrong in ["", "e7", "1e", "M", "1.5", "-1", "1e-3", "0", "ten", "1e30", "1.2.3e9", "1ee7"] {
            assert_eq!(number(wrong), None, "{wrong}");
        }
    }
}
