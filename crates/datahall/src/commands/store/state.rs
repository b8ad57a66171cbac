//! `datahall store status|drives|scrub|heal`: what a running store says about itself, asked with a root user's key.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use dh_core::Kind;
use dh_s3::Client;
use dh_store::operate::{DamageReport, DriveReport, ScrubOutcome, StoreStatus};
use dh_units::{Bytes, BytesPerSec, Seconds, real};
use http::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::remote::Remote;
use crate::commands::Globals;
use crate::failure::Failure;
use crate::output;
use crate::ui::table::{Side, Table};

/// The largest answer: a step of a scrub that found every block bad.
const ANSWER_BYTES_MAX: usize = 64 << 20;

#[derive(Debug, Args)]
pub(super) struct Status {
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Args)]
pub(super) struct Drives {
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Args)]
pub(super) struct Scrub {
    /// The most bytes read per second
    #[arg(long, value_name = "BYTES")]
    rate: Option<Bytes>,
    /// Bytes of one step; between steps it can be interrupted
    #[arg(long, value_name = "BYTES", default_value = "64MiB")]
    step: Bytes,
    /// Go on where an interrupted scrub said that it was
    #[arg(long)]
    cursor: Option<String>,
    /// Read what lies in other stores too, which may cost money there
    #[arg(long = "remote")]
    far: bool,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Args)]
pub(super) struct Heal {
    /// The drive's place in the set, as `store drives` shows it
    drive: usize,
    #[command(flatten)]
    remote: Remote,
}

async fn ask<T: DeserializeOwned>(
    client: &Client,
    method: Method,
    path: &str,
    query: &[(&str, String)],
) -> Result<T, Failure> {
    let answer = client.plain(method, path, query, ANSWER_BYTES_MAX).await?;
    serde_json::from_slice(&answer.body)
        .map_err(|error| Failure::new(Kind::Corrupt, format!("{path}: the answer is none of a store: {error}")))
}

fn drives(drives: &[DriveReport]) {
    let mut table = Table::new(&[
        ("DRIVE", Side::Right),
        ("STATE", Side::Left),
        ("ERRORS", Side::Right),
        ("DIRECTORY", Side::Left),
    ]);
    for drive in drives {
        let state = drive.why.as_ref().map_or_else(|| drive.state.clone(), |why| format!("{}: {why}", drive.state));
        table.row([drive.index.to_string(), state, drive.errors.to_string(), drive.name.clone()]);
    }
    table.lines().iter().for_each(output::line);
}

fn tiers(status: &StoreStatus) {
    let StoreStatus { moving, moved, moved_bytes, moves_failed, to_remove, heat_known, .. } = status;
    output::line(format!(
        "moves      {moving} under way, {moved} done ({}), {moves_failed} broke off",
        Bytes(*moved_bytes)
    ));
    output::line(format!("far        {to_remove} bodies are to be removed from other stores"));
    output::line(format!("heat       known of {heat_known} objects"));
    output::line("");
    let mut table = Table::new(&[
        ("TIER", Side::Left),
        ("CLASS", Side::Left),
        ("OBJECTS", Side::Right),
        ("BYTES", Side::Right),
        ("STORED", Side::Right),
        ("ON DRIVES", Side::Right),
    ]);
    for tier in &status.tiers {
        table.row([
            tier.name.clone(),
            tier.class.clone(),
            tier.objects.to_string(),
            Bytes(tier.logical_bytes).to_string(),
            Bytes(tier.stored_bytes).to_string(),
            tier.disk_bytes.map_or_else(|| "-".to_owned(), |bytes| Bytes(bytes).to_string()),
        ]);
    }
    table.lines().iter().for_each(output::line);
}

fn damage(one: &DamageReport) {
    let object = one.object.as_deref().unwrap_or("-");
    let state = if one.repaired { output::yellow("repaired") } else { output::red("NOT repaired") };
    output::line(format!("{state}  {object}  on {}, {}: {}", one.drive, one.file, one.what));
}

impl Status {
    pub(super) async fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let client = self.remote.client()?;
        let status: StoreStatus = ask(&client, Method::GET, "/-/status", &[]).await?;
        if globals.output.is_data() {
            output::versioned(&status)?;
            return Ok(0);
        }
        let whole = status.capacity_bytes.map(|bytes| format!(" of {}", Bytes(bytes))).unwrap_or_default();
        output::line(format!("{}  version {}, up {} s", client.endpoint(), status.version, status.uptime_seconds));
        output::line(format!("objects    {} in {} buckets", status.objects, status.buckets));
        output::line(format!("kept       {} in {}", Bytes(status.logical_bytes), Bytes(status.stored_bytes)));
        output::line(format!("disk       {}{whole}", Bytes(status.disk_bytes)));
        output::line(format!("requests   {}", status.requests));
        output::line(format!("moved      {} in, {} out", Bytes(status.bytes_in), Bytes(status.bytes_out)));
        output::line(format!("cache      {} blocks found, {} read", status.cache_hits, status.cache_misses));
        if status.corrupt_reads > 0 {
            output::line(output::red(format!("corrupt    {} reads found wrong bytes", status.corrupt_reads)));
        }
        if status.patrolled_ms > 0 {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let ago = now.saturating_sub(Duration::from_millis(status.patrolled_ms)).as_secs();
            output::line(format!(
                "checked    {} since it was opened; all of it last {} ago",
                Bytes(status.patrolled_bytes),
                Seconds(real(ago))
            ));
        }
        if !status.tiers.is_empty() {
            tiers(&status);
        }
        output::line("");
        drives(&status.drives);
        Ok(0)
    }
}

impl Drives {
    pub(super) async fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let all: Vec<DriveReport> = ask(&self.remote.client()?, Method::GET, "/-/drives", &[]).await?;
        if globals.output.is_data() {
            #[derive(Serialize)]
            struct Rows {
                drives: Vec<DriveReport>,
            }
            output::versioned(&Rows { drives: all })?;
        } else {
            drives(&all);
        }
        Ok(0)
    }
}

impl Scrub {
    pub(super) async fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let client = self.remote.patient()?;
        let mut line = super::bench::Line::new(globals.quiet);
        let mut all = ScrubOutcome { cursor: self.cursor, ..ScrubOutcome::default() };
        let (start, mut told) = (Instant::now(), Instant::now());
        loop {
            let mut query = vec![("bytes-max", self.step.0.max(1).to_string())];
            if let Some(rate) = self.rate {
                query.push(("bytes-per-second", rate.0.to_string()));
            }
            if self.far {
                query.push(("remote", "1".to_owned()));
            }
            if let Some(cursor) = all.cursor.take() {
                query.push(("cursor", cursor));
            }
            let step: ScrubOutcome = tokio::select! {
                step = ask(&client, Method::POST, "/-/scrub", &query) => step?,
                signal = tokio::signal::ctrl_c() => {
                    drop(signal);
                    line.end();
                    if let Some((_name, cursor)) = query.iter().find(|(name, _value)| *name == "cursor") {
                        output::note(format!("it goes on with --cursor {cursor}"));
                    }
                    return Ok(130);
                }
            };
            all.bodies += step.bodies;
            all.bytes += step.bytes;
            all.away += step.away;
            all.damages.extend(step.damages);
            all.cursor = step.cursor;
            if told.elapsed() >= Duration::from_secs(1) {
                told = Instant::now();
                let rate = BytesPerSec(real(all.bytes) / start.elapsed().as_secs_f64().max(1e-3));
                line.show(format!("{} objects, {}, {rate}, {} bad", all.bodies, Bytes(all.bytes), all.damages.len()));
            }
            if all.cursor.is_none() {
                break;
            }
        }
        line.end();
        outcome(&all, globals)
    }
}

impl Heal {
    pub(super) async fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let query = [("drive", self.drive.to_string())];
        let done: ScrubOutcome = ask(&self.remote.patient()?, Method::POST, "/-/heal", &query).await?;
        outcome(&done, globals)
    }
}

/// Prints it; 1 if something is left that is not right.
fn outcome(outcome: &ScrubOutcome, globals: &Globals) -> Result<u8, Failure> {
    if globals.output.is_data() {
        output::versioned(outcome)?;
    } else {
        outcome.damages.iter().for_each(damage);
        output::line(format!(
            "{} bodies, {} read, {} bad",
            outcome.bodies,
            Bytes(outcome.bytes),
            outcome.damages.len()
        ));
        if outcome.away > 0 {
            output::line(output::yellow(format!("{} bodies of other stores did not answer", outcome.away)));
        }
    }
    Ok(u8::from(outcome.damages.iter().any(|one| !one.repaired)))
}
