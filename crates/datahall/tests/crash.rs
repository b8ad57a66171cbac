//! The promise: a server that is killed loses no accepted job, runs none twice, and loses no acknowledged object.
//!
//! The real program is killed by `kill -9` at random moments, again and again, also while it starts and recovers, while
//! jobs run and clients write; some kills take the wardens along. Clients keep a ledger of what was acknowledged, jobs
//! keep a diary (see `crash/diary.rs`). Afterwards:
//!
//! - every acknowledged job is known, was one job under its key, and succeeded without a retry of its own;
//! - no two attempts of a job were ever alive together; none started after the API had called the job succeeded, or
//!   after all ranks of an earlier attempt were on record as done; the last one did all the work of every rank;
//! - every acknowledged object is there byte by byte, deleted ones are gone, and listings agree with that;
//! - the event log replays to the same state, and no process is left.
//!
//! `DH_SEED=0x51ce cargo test --release -p datahall --test crash` takes the moments and sizes of a seed again (the
//! machine's own timing stays its own); `DATAHALL_ROUNDS=n` sets the number of kills, `DATAHALL_PROVE=1` means 500.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::let_underscore_must_use,
    clippy::wildcard_enum_match_arm,
    clippy::needless_pass_by_value,
    clippy::allow_attributes,
    unreachable_pub,
    reason = "tests fail by panicking"
)]

#[path = "crash/bucket.rs"]
mod bucket;
#[path = "crash/diary.rs"]
mod diary;
#[path = "crash/dice.rs"]
mod dice;
#[path = "crash/jobs.rs"]
mod jobs;
#[path = "crash/objects.rs"]
mod objects;
#[path = "crash/reply.rs"]
mod reply;
#[path = "crash/server.rs"]
mod server;
#[path = "crash/site.rs"]
mod site;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bucket::Bucket;
use dh_infer::standin::Standin;
use dice::Dice;
use server::{Server, processes_of, wait_until_gone};
use site::{Reply, Site};

/// Kills in the gate, and in the long proof.
const KILLS: u64 = 50;
const KILLS_PROVE: u64 = 500;

/// The seed of the gate.
const SEED: u64 = 0x51ce;

const WRITERS: u64 = 3;
const SUBMITTERS: u64 = 2;

#[test]
fn nothing_accepted_is_lost_or_run_twice() {
    let prove = std::env::var_os("DATAHALL_PROVE").is_some();
    let kills = number("DATAHALL_ROUNDS").unwrap_or(if prove { KILLS_PROVE } else { KILLS });
    crash_again_and_again(number("DH_SEED").unwrap_or(SEED), kills);
}

fn crash_again_and_again(seed: u64, kills: u64) {
    let repeat = format!(
        "DH_SEED={seed:#x} DATAHALL_ROUNDS={kills} cargo test --release -p datahall --test crash -- --nocapture"
    );
    eprintln!("repeat with: {repeat}");
    let begin = Instant::now();
    let mut dice = Dice::new(seed, 0);
    let site = Arc::new(Site::new());
    let mut server = Server::new(Arc::clone(&site));
    server.spawn();
    server.wait_until_up();
    assert!(matches!(Bucket::new(&site).create(), Reply::Yes(())));

    let run = |work: fn(Arc<Site>, u64, u64) -> objects::Ledger, number| {
        let site = Arc::clone(&site);
        std::thread::spawn(move || work(site, number, seed))
    };
    let writers: Vec<_> = (0..WRITERS).map(|number| run(objects::write, number)).collect();
    let submitters: Vec<_> = (0..SUBMITTERS)
        .map(|number| {
            let site = Arc::clone(&site);
            std::thread::spawn(move || jobs::submit_small(site, number, seed))
        })
        .collect();
    let trainer = {
        let site = Arc::clone(&site);
        std::thread::spawn(move || jobs::submit_long(site, seed))
    };

    while server.kills < kills {
        // Most servers live for a while; some die at once, some before they have answered at all.
        let life = match dice.below(4) {
            0 => dice.below(50),
            _ => dice.below(600),
        };
        std::thread::sleep(Duration::from_millis(life));
        server.kill(dice.one_in(8));
        while server.kills < kills && dice.one_in(4) {
            server.spawn();
            std::thread::sleep(Duration::from_millis(dice.below(120)));
            server.kill(false);
            server.kills_while_starting += 1;
        }
        server.spawn();
        server.wait_until_up();
        let violations = site.violations();
        assert!(violations.is_empty(), "after kill {}: {violations:#?}\nrepeat with: {repeat}", server.kills);
    }
    let storm = begin.elapsed();

    site.stop.store(true, Ordering::SeqCst);
    let mut ledger = objects::Ledger::default();
    for writer in writers {
        ledger.merge(writer.join().unwrap());
    }
    let mut submissions = trainer.join().unwrap();
    submissions.extend(submitters.into_iter().flat_map(|submitter| submitter.join().unwrap()));

    let tally = jobs::check(&site, &submissions);
    let objects = objects::check(&site, &ledger);
    server.assert_runs();
    server.stop();
    wait_until_gone(&site.path(""), Duration::from_secs(5));
    let replay = server.run(&["replay", "--output", "json"]);
    let replayed: serde_json::Value = serde_json::from_slice(&replay.stdout).unwrap_or_default();
    if !replay.status.success() || !replayed["differs"].is_null() || replayed["marks"].as_u64() < Some(2) {
        site.violation(format!("the log does not replay to the state that it led to: {replay:?}"));
    }
    let log = server.log();
    log.lines()
        .filter(|line| line.contains("panicked") || line.contains(" ERROR "))
        .for_each(|line| site.violation(format!("the server's log: {line}")));

    let violations = site.violations();
    assert!(violations.is_empty(), "{violations:#?}\nrepeat with: {repeat}");
    // A storm that missed everything would prove nothing.
    assert!(tally.cut_off > kills / 5 && tally.long_attempts > 2, "the kills missed the jobs: {}", tally.cut_off);
    assert!(ledger.unknown > kills / 5 && ledger.puts > kills, "the kills missed the writers: {}", ledger.unknown);
    assert!(
        server.moves <= server.starts / 4,
        "{} of {} servers did not get their ports again",
        server.moves,
        server.starts
    );
    eprintln!(
        "crash: {kills} kills ({} while starting, {} with all wardens) in {:.1} s, {} starts, the slowest {} ms; \
         {} jobs acknowledged, {} attempts cut off, up to {} attempts of one long job; {} puts, {} deletes, {} uploads \
         acknowledged, {} reads, {} calls without an answer, {objects} objects at the end; {} events, {} marks; nothing lost, \
         nothing run twice; {:.1} s in all",
        server.kills_while_starting,
        server.kills_with_wardens,
        storm.as_secs_f64(),
        server.starts,
        server.slowest_start.as_millis(),
        submissions.len(),
        tally.cut_off,
        tally.long_attempts,
        ledger.puts,
        ledger.deletes,
        ledger.uploads,
        ledger.reads,
        ledger.unknown,
        replayed["events"],
        replayed["marks"],
        begin.elapsed().as_secs_f64(),
    );
}

/// A number in decimal or, after `0x`, in hexadecimal.
fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    Some(number.unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

#[test]
fn a_killed_server_takes_engines_and_jobs_along() {
    let site = Arc::new(Site::new());
    let mut server = Server::new(Arc::clone(&site));
    server.spawn();
    server.wait_until_up();
    let model = site.path("generated-tiny.gguf");
    Standin::default().write(&model).unwrap();
    let served = server.run(&["serve", model.to_str().unwrap()]);
    assert!(served.status.success(), "{served:?}");
    // Deaf to the polite signal, with a daemon that left the session.
    let stubborn = "trap '' TERM; setsid sh -c \"trap '' TERM; while :; do sleep 1; done\" & while :; do sleep 1; done";
    let data = site.data();
    let gang = ["submit", "--ranks", "3", "--data", data.to_str().unwrap(), "--", "sh", "-c", stubborn];
    let submitted = std::process::Command::new(server::DATAHALL).args(gang).output().unwrap();
    assert!(submitted.status.success(), "{submitted:?}");
    let here = site.path("");
    let count = |word: &str| processes_of(&here).iter().filter(|(_, line)| line.contains(word)).count();
    let begin = Instant::now();
    while count("sleep 1") < 3 * 4 {
        assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", processes_of(&here));
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!((count(" warden "), count("datahall engine ")), (4, 1), "{:?}", processes_of(&here));
    let before = processes_of(&here).len();
    server.kill(false);
    let took = wait_until_gone(&here, Duration::from_secs(5));
    eprintln!("crash: {before} processes, one of them an engine, were gone {} ms after their server", took.as_millis());
}

/// The processes of a gang whose ranks, when they are asked to end, do a last thing with the hall.
const CONSCIENTIOUS: &str = "trap 'datahall status --quiet --data \"$DATA\" >/dev/null && echo last >>\"$DIARY\"; exit 0' TERM; \
     echo runs >>\"$DIARY\"; while :; do sleep 0.02; done";

#[test]
fn down_ends_the_jobs_before_the_listeners() {
    let site = Arc::new(Site::new());
    let mut server = Server::new(Arc::clone(&site));
    let count = |word: &str| site.diary().lines().filter(|line| *line == word).count();
    for round in 1..=3 {
        server.spawn();
        server.wait_until_up();
        if round == 1 {
            let variables = [("DATA", site.data()), ("DIARY", site.path("diary"))];
            let variables = variables.map(|(name, path)| format!("--env={name}={}", path.display()));
            let submitted = std::process::Command::new(server::DATAHALL)
                .args(["submit", "--ranks", "2", "--data"])
                .arg(site.data())
                .args(variables)
                .args(["--", "sh", "-c", CONSCIENTIOUS])
                .output()
                .unwrap();
            assert!(submitted.status.success(), "{submitted:?}");
        }
        let begin = Instant::now();
        while count("runs") < 2 * round {
            assert!(begin.elapsed() < Duration::from_secs(20), "{}", site.diary());
            std::thread::sleep(Duration::from_millis(5));
        }
        server.stop();
        assert_eq!(count("last"), 2 * round, "a rank could not do its last work: {}", site.diary());
    }
    assert!(server.run(&["replay"]).status.success());
}

/// A server that dies while it starts a child leaves a copy of its lock in that child until the child's program runs.
#[test]
fn a_dead_servers_lock_that_lingers_is_waited_for() {
    let site = Arc::new(Site::new());
    let mut server = Server::new(Arc::clone(&site));
    server.spawn();
    server.wait_until_up();
    server.kill(false);
    let copy = std::fs::File::open(site.data().join("lock")).unwrap();
    copy.lock().unwrap();
    server.spawn();
    std::thread::sleep(Duration::from_millis(300));
    server.assert_runs();
    drop(copy);
    server.wait_until_up();
    // A lock whose owner lives is not waited for.
    let blueprint = site.path("hall.toml");
    let begin = Instant::now();
    let second = server.run(&["up", blueprint.to_str().unwrap()]);
    assert!(
        !second.status.success() && String::from_utf8_lossy(&second.stderr).contains("is in use by process"),
        "{second:?}"
    );
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    server.stop();
}
