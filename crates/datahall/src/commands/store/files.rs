//! `datahall store ls|cp|rm|mb|rb`: what is in a store, and moving it in and out.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Args;
use dh_core::Kind;
use dh_s3::transfer::{self, Depth, Meter, Options, Spot};
use dh_s3::{Place, Summary};
use dh_units::{Bytes, BytesPerSec, real};
use serde::Serialize;

use super::remote::Remote;
use crate::commands::Globals;
use crate::failure::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(super) struct Ls {
    /// `s3://BUCKET/PREFIX`; without it, the buckets
    place: Option<Place>,
    /// Everything below the prefix, not only what is in it
    #[arg(short, long)]
    recursive: bool,
    /// Stop after so many
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    max: usize,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Args)]
pub(super) struct Cp {
    /// A file, a folder, or `s3://BUCKET/KEY`
    from: Spot,
    /// The same; one of the two is in the store
    to: Spot,
    /// A folder or a prefix with all below it
    #[arg(short, long)]
    recursive: bool,
    /// Requests at once
    #[arg(long, value_name = "N", default_value_t = 8)]
    parallel: usize,
    /// Objects above this size travel in parts of it; at least 5 MiB
    #[arg(long, value_name = "BYTES", default_value = "16MiB")]
    part_size: Bytes,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Args)]
pub(super) struct Rm {
    /// `s3://BUCKET/KEY`
    place: Place,
    /// Everything that starts so
    #[arg(short, long)]
    recursive: bool,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Args)]
pub(super) struct Mb {
    /// `s3://BUCKET`
    place: Place,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Args)]
pub(super) struct Rb {
    /// `s3://BUCKET`
    place: Place,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Serialize)]
struct BucketRow {
    bucket: String,
    created: String,
}

#[derive(Serialize)]
struct ObjectRow {
    key: String,
    bytes: u64,
    modified: String,
    etag: String,
}

#[derive(Serialize, Default)]
struct Listed {
    objects: Vec<ObjectRow>,
    prefixes: Vec<String>,
    truncated: bool,
}

#[derive(Serialize)]
struct Copied {
    objects: u64,
    bytes: u64,
    /// Objects of which the store told no checksum.
    unchecked: u64,
    seconds: f64,
}

fn bucket_only(place: &Place) -> Result<&str, Failure> {
    if place.key.is_empty() {
        Ok(&place.bucket)
    } else {
        Err(Failure::new(Kind::Invalid, format!("{place} is not a bucket")))
    }
}

impl Ls {
    pub(super) async fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let client = self.remote.client()?;
        let Some(place) = self.place else {
            let rows = client.buckets().await?.into_iter();
            let rows: Vec<BucketRow> = rows.map(|one| BucketRow { bucket: one.name, created: one.created }).collect();
            if globals.output.is_data() {
                #[derive(Serialize)]
                struct Buckets {
                    buckets: Vec<BucketRow>,
                }
                output::versioned(&Buckets { buckets: rows })?;
            } else {
                for row in &rows {
                    output::line(format!("{}  s3://{}", row.created, row.bucket));
                }
            }
            return Ok(0);
        };
        let mut listing = client.listing(&place, (!self.recursive).then_some("/"));
        let mut listed = Listed::default();
        let mut seen = 0;
        while let Some(page) = listing.next().await? {
            seen += page.objects.len() + page.prefixes.len();
            if globals.output.is_data() {
                listed.prefixes.extend(page.prefixes);
                let row =
                    |one: Summary| ObjectRow { key: one.key, bytes: one.bytes, modified: one.modified, etag: one.etag };
                listed.objects.extend(page.objects.into_iter().map(row));
            } else {
                for prefix in page.prefixes {
                    output::line(format!("{:>24}  {:>12}  {prefix}", "", ""));
                }
                for one in page.objects {
                    output::line(format!("{:>24}  {:>12}  {}", one.modified, Bytes(one.bytes).to_string(), one.key));
                }
            }
            if seen >= self.max && page.next.is_some() {
                listed.truncated = true;
                if !globals.quiet {
                    output::note(format!("there is more; --max shows more than {seen}"));
                }
                break;
            }
        }
        if globals.output.is_data() {
            output::versioned(&listed)?;
        }
        Ok(0)
    }
}

impl Cp {
    pub(super) async fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let client = self.remote.client()?;
        let (depth, meter) = (if self.recursive { Depth::All } else { Depth::One }, Arc::new(Meter::default()));
        let options = Options { part_bytes: self.part_size.0, parallel: self.parallel };
        let start = Instant::now();
        let work = transfer::copy(&client, &self.from, &self.to, depth, options, &meter);
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        let mut work = std::pin::pin!(work);
        let told = || {
            let (objects, bytes) = (meter.objects.load(Ordering::Relaxed), meter.bytes.load(Ordering::Relaxed));
            (objects, bytes, BytesPerSec(real(bytes) / start.elapsed().as_secs_f64().max(1e-3)))
        };
        let mut line = super::bench::Line::new(globals.quiet);
        let done = loop {
            tokio::select! {
                done = &mut work => break done,
                _tick = ticks.tick() => {
                    let (objects, bytes, rate) = told();
                    line.show(format!("{objects} done, {}, {rate}", Bytes(bytes)));
                }
            }
        };
        line.end();
        done?;
        let (objects, bytes, rate) = told();
        let unchecked = meter.unchecked.load(Ordering::Relaxed);
        if globals.output.is_data() {
            let seconds = (start.elapsed().as_secs_f64() * 1e3).round() / 1e3;
            output::versioned(&Copied { objects, bytes, unchecked, seconds })?;
        } else if !globals.quiet {
            output::note(format!("{objects} copied, {}, {rate}", Bytes(bytes)));
            if unchecked > 0 {
                output::note(format!("of {unchecked} the store told no checksum: only their length was checked"));
            }
        }
        Ok(0)
    }
}

impl Rm {
    pub(super) async fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let client = self.remote.client()?;
        let removed = if self.recursive {
            transfer::remove_all(&client, &self.place, |_removed| ()).await?
        } else if self.place.key.is_empty() {
            return Err(Failure::new(Kind::Invalid, format!("{} is a bucket", self.place))
                .hint("`store rm -r` empties it, `store rb` removes it once it is empty"));
        } else {
            // S3 itself does not say whether there was anything; people want to know.
            client.head(&self.place.bucket, &self.place.key).await?;
            client.delete(&self.place.bucket, &self.place.key).await?;
            1
        };
        if globals.output.is_data() {
            #[derive(Serialize)]
            struct Removed {
                removed: u64,
            }
            output::versioned(&Removed { removed })?;
        } else if !globals.quiet {
            output::note(format!("{removed} removed"));
        }
        Ok(0)
    }
}

impl Mb {
    pub(super) async fn run(self, _globals: &Globals) -> Result<u8, Failure> {
        self.remote.client()?.create_bucket(bucket_only(&self.place)?).await?;
        Ok(0)
    }
}

impl Rb {
    pub(super) async fn run(self, _globals: &Globals) -> Result<u8, Failure> {
        self.remote.client()?.remove_bucket(bucket_only(&self.place)?).await?;
        Ok(0)
    }
}
