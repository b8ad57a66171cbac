//! How long a store of many small objects takes to start after it was killed, what it holds in memory then, and how long
//! pages of its listing take.
//!
//! `cargo run --release -p dh-store --example start -- DIRECTORY 1000000`: a child fills the directory and dies without
//! closing; then the store is opened three times, each time killed again before it is closed. A directory that is filled
//! already is only opened.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "an example fails by panicking and prints what it found")]

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use dh_store::{ListQuery, Store, StoreConfig};

const AT_ONCE: u64 = 2_048;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let dir = PathBuf::from(arguments.get(1).map_or("start-store", String::as_str));
    let count: u64 = arguments.get(2).map_or(1_000_000, |count| count.parse().unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    match arguments.get(3).map(String::as_str) {
        Some("fill") => runtime.block_on(fill(dir, count)),
        Some(_open) => runtime.block_on(open(dir)),
        None => {
            let filled = dir.exists();
            for step in ["fill", "open", "open", "open"].into_iter().skip(usize::from(filled)) {
                let directory = dir.display().to_string();
                let status = Command::new(&arguments[0]).args([&directory, &count.to_string(), step]).status().unwrap();
                assert!(!status.success(), "the child ends by killing itself");
            }
        }
    }
}

async fn fill(dir: PathBuf, count: u64) {
    let store = Store::open(StoreConfig::new(dir)).await.unwrap();
    store.create_bucket("bucket").await.unwrap();
    let begin = Instant::now();
    for first in (0..count).step_by(usize::try_from(AT_ONCE).unwrap()) {
        let puts = (first..(first + AT_ONCE).min(count)).map(|number| {
            let (store, key) = (store.clone(), format!("prefix-{:03}/object-{number:012}", number % 997));
            async move { store.put_bytes("bucket", &key, format!("body of {number}")).await.unwrap() }
        });
        futures::future::join_all(puts).await;
    }
    let stats = store.stats();
    let rate = count * 1_000 / u64::try_from(begin.elapsed().as_millis()).unwrap().max(1);
    println!("{count} durable puts, {rate} a second, {} commits", stats.commits);
    std::process::abort();
}

async fn open(dir: PathBuf) {
    let begin = Instant::now();
    let store = Store::open(StoreConfig::new(dir)).await.unwrap();
    let opened = begin.elapsed();
    let read = Instant::now();
    let info = store.head("bucket", "prefix-001/object-000000000001").await.unwrap();
    println!(
        "open in {opened:?}, first head of {} bytes in {:?}, {} objects",
        info.size,
        read.elapsed(),
        store.stats().objects
    );
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default());
    pages(&store).await;
    std::process::abort();
}

/// Pages of a thousand: the common prefixes of all keys, and keys under a prefix from somewhere on.
async fn pages(store: &Store) {
    for what in ["common prefixes", "keys"] {
        let mut took = Vec::new();
        let mut entries = 0;
        for round in 0..1_000_u64 {
            let somewhere = round * 7_919 % 997;
            let query = ListQuery {
                prefix: if what == "keys" { format!("prefix-{somewhere:03}/") } else { String::new() },
                delimiter: "/".to_owned(),
                after: (what == "keys").then(|| format!("prefix-{somewhere:03}/object-{:012}", round * 7)),
                limit: 1_000,
            };
            let begin = Instant::now();
            let page = store.list("bucket", query).await.unwrap();
            took.push(begin.elapsed());
            entries = entries.max(page.entries.len() + page.prefixes.len());
        }
        took.sort();
        println!("a page of {entries} {what}: p50 {:?}, p99 {:?}, at most {:?}", took[500], took[990], took[999]);
    }
}
