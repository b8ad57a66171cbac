//! Copies between folders and buckets: many files and parts at once, each checked by checksum, none half there.
//!
//! A file that is written appears under its name only when it is whole and synced. Large objects travel in parts.
//! Invariant: no more requests are under way than the options say, over all files together; a key never leaves the folder
//! that it is copied into. Memory: one part for each request under way.

mod local;
mod object;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::{Client, Error, Place};

/// One end of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spot {
    /// A file or folder here.
    Local(PathBuf),
    /// An object, or a prefix of objects.
    Remote(Place),
}

impl std::str::FromStr for Spot {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.starts_with("s3://") {
            return text.parse().map(Self::Remote);
        }
        if text.is_empty() {
            return Err(Error::Setting("a path is empty".to_owned()));
        }
        Ok(Self::Local(PathBuf::from(text)))
    }
}

/// One thing, or all below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// A file or an object.
    One,
    /// A folder or a prefix, with all below it.
    All,
}

/// How to copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Objects above this size travel in parts of it; at least 5 MiB.
    pub part_bytes: u64,
    /// Requests at once.
    pub parallel: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { part_bytes: 16 << 20, parallel: 8 }
    }
}

/// How far a copy is; it may be read while it goes on.
#[derive(Debug, Default)]
pub struct Meter {
    /// Objects that are done.
    pub objects: AtomicU64,
    /// Bytes that are done.
    pub bytes: AtomicU64,
    /// Objects of which the store told no checksum, so that only their length is known to be right.
    pub unchecked: AtomicU64,
}

impl Meter {
    fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// What all files of a copy share.
#[derive(Debug)]
struct Copying {
    client: Client,
    options: Options,
    requests: Arc<Semaphore>,
    meter: Arc<Meter>,
}

/// One object's way.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Way {
    Up(PathBuf, Place),
    Down(Place, PathBuf),
    /// Inside of the store.
    Across(Place, Place),
}

/// Copies.
/// # Errors
/// The first failure; what was copied until then stays, and nothing is there half.
pub async fn copy(
    client: &Client,
    from: &Spot,
    to: &Spot,
    depth: Depth,
    options: Options,
    meter: &Arc<Meter>,
) -> Result<(), Error> {
    let parallel = options.parallel.clamp(1, 1_024);
    let options = Options { part_bytes: options.part_bytes.clamp(5 << 20, 1 << 30), parallel };
    let requests = Arc::new(Semaphore::new(parallel));
    let copying = Arc::new(Copying { client: client.clone(), options, requests, meter: Arc::clone(meter) });
    let mut tasks = JoinSet::new();
    let mut ways = ways(client, from, to, depth).await?;
    while let Some(way) = ways.next().await? {
        while tasks.len() >= parallel {
            joined(tasks.join_next().await)?;
        }
        let copying = Arc::clone(&copying);
        tasks.spawn(async move { copying.go(way).await });
    }
    while !tasks.is_empty() {
        joined(tasks.join_next().await)?;
    }
    Ok(())
}

/// The outcome of a task; its end by a panic is an error too.
fn joined<T>(outcome: Option<Result<Result<T, Error>, tokio::task::JoinError>>) -> Result<Option<T>, Error> {
    match outcome {
        None => Ok(None),
        Some(Ok(done)) => done.map(Some),
        Some(Err(error)) => Err(Error::Setting(format!("a transfer ended unexpectedly: {error}"))),
    }
}

/// What is to be copied: known at once, or page by page.
enum Ways<'c> {
    Known(std::vec::IntoIter<Way>),
    Listed(Box<Listed<'c>>),
}

/// A prefix that is copied page by page.
struct Listed<'c> {
    listing: crate::Listing<'c>,
    from: Place,
    to: Spot,
    page: std::vec::IntoIter<Way>,
}

impl Ways<'_> {
    async fn next(&mut self) -> Result<Option<Way>, Error> {
        match self {
            Self::Known(ways) => Ok(ways.next()),
            Self::Listed(all) => loop {
                if let Some(way) = all.page.next() {
                    return Ok(Some(way));
                }
                let Some(listed) = all.listing.next().await? else { return Ok(None) };
                let ways: Result<Vec<Way>, Error> = listed
                    .objects
                    .into_iter()
                    // Some tools write folders as empty objects.
                    .filter(|object| !object.key.ends_with('/'))
                    .map(|object| below(&all.from, &all.to, object.key))
                    .collect();
                all.page = ways?.into_iter();
            },
        }
    }
}

/// The way of a listed key.
fn below(from: &Place, to: &Spot, key: String) -> Result<Way, Error> {
    let relative = key.strip_prefix(&from.key).unwrap_or(&key).to_owned();
    let source = Place { bucket: from.bucket.clone(), key };
    match to {
        Spot::Local(folder) => Ok(Way::Down(source, local::inside(folder, &relative)?)),
        Spot::Remote(to) => {
            Ok(Way::Across(source, Place { bucket: to.bucket.clone(), key: format!("{}{relative}", to.key) }))
        }
    }
}

/// A prefix as a folder: empty, or with a slash at its end.
fn folder(place: &Place) -> Place {
    let key =
        if place.key.is_empty() || place.key.ends_with('/') { place.key.clone() } else { format!("{}/", place.key) };
    Place { bucket: place.bucket.clone(), key }
}

/// Where one thing called `name` goes.
fn under(to: &Place, name: &str) -> Place {
    let key = if to.key.is_empty() || to.key.ends_with('/') { format!("{}{name}", to.key) } else { to.key.clone() };
    Place { bucket: to.bucket.clone(), key }
}

async fn ways<'c>(client: &'c Client, from: &Spot, to: &Spot, depth: Depth) -> Result<Ways<'c>, Error> {
    let known = |way: Way| Ok(Ways::Known(vec![way].into_iter()));
    match (from, to, depth) {
        (Spot::Local(_), Spot::Local(_), _) => {
            Err(Error::Setting("one of the two must be of the form s3://BUCKET/KEY".to_owned()))
        }
        (Spot::Local(file), Spot::Remote(to), Depth::One) => {
            let name = file.file_name().and_then(|name| name.to_str());
            let name = name.ok_or_else(|| Error::Setting(format!("{} has no name that is text", file.display())))?;
            known(Way::Up(file.clone(), under(to, name)))
        }
        (Spot::Local(root), Spot::Remote(to), Depth::All) => {
            let (root, to) = (root.clone(), folder(to));
            let files = local::off_runtime(move || local::walk(&root)).await?;
            let ways: Vec<Way> = files
                .into_iter()
                .map(|(path, name)| {
                    Way::Up(path, Place { bucket: to.bucket.clone(), key: format!("{}{name}", to.key) })
                })
                .collect();
            Ok(Ways::Known(ways.into_iter()))
        }
        (Spot::Remote(from), _, Depth::All) => {
            let from = folder(from);
            let to = match to {
                Spot::Local(path) => Spot::Local(path.clone()),
                Spot::Remote(to) => Spot::Remote(folder(to)),
            };
            let listing = client.listing(&from, None);
            Ok(Ways::Listed(Box::new(Listed { listing, from, to, page: Vec::new().into_iter() })))
        }
        (Spot::Remote(from), to, Depth::One) => {
            let name = from.key.rsplit('/').next().filter(|name| !name.is_empty()).ok_or_else(|| {
                Error::Setting(format!("{from} is no single object; a prefix is copied with --recursive"))
            })?;
            match to {
                Spot::Local(path) => known(Way::Down(from.clone(), local::target(path, name)?)),
                Spot::Remote(to) => known(Way::Across(from.clone(), under(to, name))),
            }
        }
    }
}

impl Copying {
    async fn go(self: Arc<Self>, way: Way) -> Result<(), Error> {
        match &way {
            Way::Up(file, to) => self.up(file, to).await?,
            Way::Down(from, file) => self.down(from, file).await?,
            Way::Across(from, to) => {
                let _permit = self.permit().await?;
                let head = self.client.head(&from.bucket, &from.key).await?;
                self.client.copy(from, to).await?;
                self.meter.add(head.bytes);
            }
        }
        self.meter.objects.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn permit(&self) -> Result<tokio::sync::OwnedSemaphorePermit, Error> {
        Arc::clone(&self.requests)
            .acquire_owned()
            .await
            .map_err(|_closed| Error::Setting("the transfer was given up".to_owned()))
    }
}

/// Removes everything below a prefix, a thousand keys a call; `tell` hears how many are gone.
/// # Errors
/// The first failure, also one of a single key.
pub async fn remove_all(client: &Client, at: &Place, mut tell: impl FnMut(u64) + Send) -> Result<u64, Error> {
    let mut listing = client.listing(at, None);
    let mut removed = 0;
    while let Some(page) = listing.next().await? {
        let keys: Vec<String> = page.objects.into_iter().map(|object| object.key).collect();
        if keys.is_empty() {
            continue;
        }
        if let Some(left) = client.delete_many(&at.bucket, &keys).await?.into_iter().next() {
            return Err(Error::Refused {
                action: format!("delete {}/{}", at.bucket, left.key),
                status: 200,
                code: left.code,
                message: String::new(),
                request_id: None,
            });
        }
        removed += keys.len() as u64;
        tell(removed);
    }
    Ok(removed)
}

/// The media type that a file's name suggests, of those that browsers and data tools care about.
fn content_type(path: &Path) -> Option<&'static str> {
    let known = [
        ("html", "text/html"),
        ("txt", "text/plain"),
        ("md", "text/markdown"),
        ("csv", "text/csv"),
        ("css", "text/css"),
        ("js", "text/javascript"),
        ("json", "application/json"),
        ("jsonl", "application/x-ndjson"),
        ("parquet", "application/vnd.apache.parquet"),
        ("tar", "application/x-tar"),
        ("gz", "application/gzip"),
        ("zip", "application/zip"),
        ("pdf", "application/pdf"),
        ("png", "image/png"),
        ("jpg", "image/jpeg"),
        ("svg", "image/svg+xml"),
    ];
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    known.iter().find(|(known, _kind)| *known == extension).map(|(_known, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_ends_with_a_slash_keeps_the_name() {
        let under = |to: &str| under(&to.parse().unwrap(), "f").to_string();
        assert_eq!(under("s3://b"), "s3://b/f");
        assert_eq!(under("s3://b/d/"), "s3://b/d/f");
        assert_eq!(under("s3://b/other"), "s3://b/other");
    }

    #[test]
    fn a_key_cannot_leave_the_folder_it_is_copied_into() {
        let from: Place = "s3://b/d/".parse().unwrap();
        let to = Spot::Local(PathBuf::from("/out"));
        let way = below(&from, &to, "d/x/y".to_owned()).unwrap();
        assert_eq!(way, Way::Down("s3://b/d/x/y".parse().unwrap(), PathBuf::from("/out/x/y")));
        for key in ["d/../../etc/passwd", "d//etc/passwd", "d/a/./b", "d/a//b", "d/\0"] {
            assert!(below(&from, &to, key.to_owned()).is_err(), "{key}");
        }
    }
}
