//! The store's promise over several drives: `kill -9`, again and again, loses nothing that was acknowledged.
//!
//! The real program, `datahall store up` over four drives that may lose one, is killed at random moments, also while it
//! starts, under sixteen clients that put, get, delete, upload in parts, write on conditions and race for the same new
//! keys. Each keeps a ledger of what was acknowledged. Afterwards every acknowledged object is there byte by byte, none is
//! torn, a deleted one stays deleted, no condition was broken, listings agree, a scrub finds nothing wrong; and all of that
//! once more with one drive wiped, before and after it was healed.
//!
//! `DH_SEED=0x51ce cargo test --release -p datahall --test store_crash` takes the moments and sizes of a seed again (the
//! machine's own timing stays its own); `DATAHALL_ROUNDS=n` sets the number of kills, `DATAHALL_PROVE=1` means 1,000.
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
#[path = "crash/dice.rs"]
mod dice;
#[path = "crash/objects.rs"]
mod objects;
#[path = "store_crash/race.rs"]
mod race;
#[path = "crash/reply.rs"]
mod reply;
#[path = "store_crash/server.rs"]
mod server;
#[path = "store_crash/site.rs"]
mod site;
#[path = "store_crash/tiers.rs"]
mod tiers;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bucket::Bucket;
use dice::Dice;
use race::Races;
use server::Server;
use site::{Reply, Site};

/// Kills in the gate, and in the long proof.
const KILLS: u64 = 24;
const KILLS_PROVE: u64 = 1_000;

/// The seed of the gate.
const SEED: u64 = 0x51ce;

const WRITERS: u64 = 14;
const RACERS: u64 = 2;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    Some(number.unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

#[test]
fn nothing_acknowledged_is_lost_torn_or_resurrected() {
    let prove = std::env::var_os("DATAHALL_PROVE").is_some();
    let kills = number("DATAHALL_ROUNDS").unwrap_or(if prove { KILLS_PROVE } else { KILLS });
    kill_again_and_again(number("DH_SEED").unwrap_or(SEED), kills);
}

type Threads<T> = Vec<std::thread::JoinHandle<T>>;

/// Clients that go on until the site wants no more.
fn load(site: &Arc<Site>, seed: u64) -> (Threads<objects::Ledger>, Arc<Races>, Threads<()>) {
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| {
            let site = Arc::clone(site);
            std::thread::spawn(move || objects::write(site, number, seed))
        })
        .collect();
    let races = Arc::new(Races::default());
    let racers: Vec<_> = (0..RACERS)
        .map(|number| {
            let (site, races) = (Arc::clone(site), Arc::clone(&races));
            std::thread::spawn(move || {
                let (bucket, mut dice) = (Bucket::new(&site), Dice::new(seed, 100 + number));
                while !site.stopping() {
                    races.run(&site, &bucket, &mut dice);
                    std::thread::sleep(Duration::from_millis(dice.below(20)));
                }
            })
        })
        .collect();
    (writers, races, racers)
}

/// Kills until there were so many; the store runs afterwards.
fn storm(site: &Site, server: &mut Server, dice: &mut Dice, kills: u64, repeat: &str) {
    while server.kills < kills {
        // Most servers live for a while; some die at once, some before they have answered at all.
        let life = match dice.below(4) {
            0 => dice.below(50),
            _ => dice.below(600),
        };
        std::thread::sleep(Duration::from_millis(life));
        server.kill_9();
        while server.kills < kills && dice.one_in(4) {
            server.spawn();
            std::thread::sleep(Duration::from_millis(dice.below(120)));
            server.kill_9();
            server.kills_while_starting += 1;
        }
        server.spawn();
        server.wait_until_up();
        let violations = site.violations();
        assert!(violations.is_empty(), "after kill {}: {violations:#?}\nrepeat with: {repeat}", server.kills);
    }
}

fn kill_again_and_again(seed: u64, kills: u64) {
    let repeat = format!(
        "DH_SEED={seed:#x} DATAHALL_ROUNDS={kills} cargo test --release -p datahall --test store_crash -- --nocapture"
    );
    eprintln!("repeat with: {repeat}");
    let begin = Instant::now();
    let mut dice = Dice::new(seed, 0);
    let site = Arc::new(Site::new());
    let mut server = Server::new(Arc::clone(&site));
    let made = server.offline("keys", &["--add", "ann", "--output", "json"]);
    let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    site.let_in(made["access_key"].as_str().unwrap(), made["secret_key"].as_str().unwrap());
    server.spawn();
    server.wait_until_up();
    assert!(matches!(Bucket::new(&site).create(), Reply::Yes(())));

    let (writers, races, racers) = load(&site, seed);
    storm(&site, &mut server, &mut dice, kills, &repeat);
    let stormed = begin.elapsed();

    site.stop.store(true, Ordering::SeqCst);
    let mut ledger = objects::Ledger::default();
    for writer in writers {
        ledger.merge(writer.join().unwrap());
    }
    for racer in racers {
        racer.join().unwrap();
    }

    let check = |when: &str| {
        let objects = objects::check(&site, &ledger);
        let races = races.check(&site);
        let violations = site.violations();
        assert!(violations.is_empty(), "{when}: {violations:#?}\nrepeat with: {repeat}");
        (objects, races)
    };
    let (objects, (raced, lost)) = check("at the end");
    let scrub = server.online(&["scrub"]);
    assert_eq!(scrub["damages"].as_array().map(Vec::len), Some(0), "{scrub}\nrepeat with: {repeat}");

    // The redundancy is whole, too: a drive that lost everything is not missed, and is filled again.
    server.stop();
    let wiped = usize::try_from(dice.below(site::DRIVES as u64)).unwrap();
    std::fs::remove_dir_all(site.drive(wiped)).unwrap();
    std::fs::create_dir(site.drive(wiped)).unwrap();
    server.spawn();
    server.wait_until_up();
    check("with a drive wiped");
    server.online(&["heal", &wiped.to_string()]);
    check("with the drive healed");
    server.assert_runs();
    server.stop();
    let log = server.log();
    // That the wiped drive does not serve is said, and nothing else.
    let expected =
        format!("a drive does not serve; the set goes on without it drive=\"{}\"", site.drive(wiped).display());
    let wrong = log.lines().filter(|line| line.contains("panicked") || line.contains(" ERROR "));
    let (told, wrong): (Vec<&str>, Vec<&str>) = wrong.partition(|line| line.contains(&expected));
    assert_eq!(told.len(), 1, "the store's log says once that the drive is gone: {log}");
    assert!(wrong.is_empty(), "the store's log: {wrong:#?}\nrepeat with: {repeat}");

    eprintln!(
        "store_crash: {kills} kills ({} while starting) in {:.1} s, {} starts, the slowest {} ms; {} puts, {} on a condition, \
         {} deletes, {} uploads acknowledged, {} reads, {raced} races with {lost} losers, {} calls without an answer, \
         {objects} objects at the end; nothing lost, nothing torn, nothing resurrected, also with one drive of {} wiped; \
         {:.1} s in all",
        server.kills_while_starting,
        stormed.as_secs_f64(),
        server.starts,
        server.slowest_start.as_millis(),
        ledger.puts,
        ledger.conditional,
        ledger.deletes,
        ledger.uploads,
        ledger.reads,
        ledger.unknown,
        site::DRIVES,
        begin.elapsed().as_secs_f64(),
    );
    // A storm that missed everything would prove nothing.
    assert!(ledger.unknown > kills / 5 && ledger.puts > kills / 5, "the kills missed the writers: {}", ledger.unknown);
}
