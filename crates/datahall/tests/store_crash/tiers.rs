//! The same promise of a store whose objects move to other drives and to another store, which is killed as well.
//!
//! A third of the keys asks for a tier of drives, a third for a bucket of a second `datahall store up`, and both programs
//! are killed at random moments, under clients and with moves under way. While the other store is away its objects may
//! answer 503, and only that. Afterwards all is there byte by byte, also with a drive of the tier wiped; every body is on
//! the tier of its class; and the other store holds what the first one knows of and nothing more.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::bucket::Bucket;
use crate::dice::Dice;
use crate::objects;
use crate::server::Server;
use crate::site::{Reply, Site};

/// How long moves, and removals in the other store, may take after the last kill on a slow, busy machine.
const SETTLE_TIMEOUT: Duration = Duration::from_mins(2);

fn started(site: &Arc<Site>) -> Server {
    let mut server = Server::new(Arc::clone(site));
    let made = server.offline("keys", &["--add", "ann", "--output", "json"]);
    let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    site.let_in(made["access_key"].as_str().unwrap(), made["secret_key"].as_str().unwrap());
    server.spawn();
    server.wait_until_up();
    assert!(matches!(Bucket::new(site).create(), Reply::Yes(())));
    server
}

/// Kills both, each at its own moments, until the first was killed so often.
fn storm(near: (&Site, &mut Server), far: (&Site, &mut Server), dice: &mut Dice, kills: u64) {
    let ((near, store), (_, other)) = (near, far);
    for turn in 0_u64.. {
        if store.kills >= kills {
            return;
        }
        // Long enough for a few moves, or hardly any time.
        let life = if dice.one_in(4) { dice.below(80) } else { 200 + dice.below(1_200) };
        std::thread::sleep(Duration::from_millis(life));
        // Every third time at least: no seed leaves the other store alone.
        if turn % 3 == 2 || dice.one_in(4) {
            near.away.store(true, Ordering::SeqCst);
            other.kill_9();
            std::thread::sleep(Duration::from_millis(dice.below(400)));
            if dice.one_in(2) {
                store.kill_9();
                store.spawn();
                store.wait_until_up();
            }
            other.spawn();
            other.wait_until_up();
            // Answers that were given while it was away are on their way.
            std::thread::sleep(Duration::from_secs(1));
            near.away.store(false, Ordering::SeqCst);
        } else {
            store.kill_9();
            if dice.one_in(4) {
                store.spawn();
                std::thread::sleep(Duration::from_millis(dice.below(120)));
                store.kill_9();
                store.kills_while_starting += 1;
            }
            store.spawn();
            store.wait_until_up();
        }
        let violations = near.violations();
        assert!(violations.is_empty(), "after kill {}: {violations:#?}", store.kills);
    }
}

/// What a tier of `status` says.
fn tier<'a>(status: &'a serde_json::Value, name: &str) -> &'a serde_json::Value {
    status["tiers"].as_array().unwrap().iter().find(|tier| tier["name"] == name).unwrap()
}

/// Waits until nothing more is to be moved or removed, and returns how many bodies lie on the tiers.
fn settled(site: &Arc<Site>, server: &Server, wanted: (usize, usize)) {
    let begin = Instant::now();
    loop {
        let status = server.online(&["status"]);
        let objects = |name: &str| usize::try_from(tier(&status, name)["objects"].as_u64().unwrap()).unwrap();
        if (objects("cold"), objects("far")) == wanted && status["to_remove"] == 0 && status["moving"] == 0 {
            return;
        }
        assert!(
            begin.elapsed() < SETTLE_TIMEOUT,
            "{wanted:?} bodies are to lie on the tiers: {status}\n{}",
            server.log()
        );
        assert_eq!(site.violations(), Vec::<String>::new());
        std::thread::sleep(Duration::from_millis(250));
    }
}

/// How many of the objects that are there belong on the tier of drives, and in the other store.
fn wanted(site: &Arc<Site>) -> (usize, usize) {
    // Smaller ones lie in the index and never move.
    const MOVES_FROM: u64 = 4 << 10;
    let Reply::Yes(listed) = Bucket::new(site).list(1_000) else { panic!("the listing failed") };
    let of =
        |class: &str| listed.iter().filter(|(key, size)| *size > MOVES_FROM && site.class(key) == Some(class)).count();
    (of("STANDARD_IA"), of("GLACIER_IR"))
}

#[test]
fn what_moves_to_other_drives_and_another_store_is_neither_lost_nor_left_behind() {
    let seed = super::number("DH_SEED").unwrap_or(super::SEED);
    let prove = std::env::var_os("DATAHALL_PROVE").is_some();
    let kills = super::number("DATAHALL_ROUNDS").unwrap_or(if prove { super::KILLS_PROVE } else { super::KILLS }) / 2;
    eprintln!("repeat with: DH_SEED={seed:#x} DATAHALL_ROUNDS={}", kills * 2);
    let mut dice = Dice::new(seed, 1);
    let far = Arc::new(Site::other());
    let mut other = started(&far);
    let near = Arc::new(Site::with_tiers(&far));
    let mut store = started(&near);

    let writers: Vec<_> = (0..4)
        .map(|number| {
            let site = Arc::clone(&near);
            std::thread::spawn(move || objects::write(site, number, seed))
        })
        .collect();
    storm((&near, &mut store), (&far, &mut other), &mut dice, kills);
    near.stop.store(true, Ordering::SeqCst);
    let mut ledger = objects::Ledger::default();
    for writer in writers {
        ledger.merge(writer.join().unwrap());
    }

    let check = |when: &str| {
        let objects = objects::check(&near, &ledger);
        let violations = near.violations();
        assert!(violations.is_empty(), "{when}: {violations:#?}");
        objects
    };
    check("after the last kill");
    let wanted = wanted(&near);
    settled(&near, &store, wanted);
    let objects = check("with everything on its tier");
    let scrub = store.online(&["scrub", "--remote"]);
    assert_eq!(scrub["damages"].as_array().map(Vec::len), Some(0), "{scrub}");

    // A drive of the tier that lost everything is not missed, and is filled again: after the store's own three.
    store.stop();
    std::fs::remove_dir_all(near.path("cold-1")).unwrap();
    std::fs::create_dir(near.path("cold-1")).unwrap();
    store.spawn();
    store.wait_until_up();
    check("with a drive of the tier wiped");
    store.online(&["heal", "4"]);
    let scrub = store.online(&["scrub", "--remote"]);
    assert_eq!(scrub["damages"].as_array().map(Vec::len), Some(0), "{scrub}");

    // And nothing is left anywhere once everything was deleted.
    let bucket = Bucket::new(&near);
    for key in ledger.objects.keys() {
        assert!(matches!(bucket.delete(key), Reply::Yes(())), "{key}");
    }
    settled(&near, &store, (0, 0));
    let Reply::Yes(there) = Bucket::new(&far).list(1_000) else { panic!("the other store's listing failed") };
    assert!(there.is_empty(), "{there:?}");
    store.stop();
    other.stop();
    eprintln!(
        "tiers: {kills} kills ({} while starting) and {} of the other store; {} puts, {} deletes, {} uploads acknowledged, \
         {} reads, {} calls without an answer, {objects} objects at the end, {} on other drives, {} in the other store",
        store.kills_while_starting,
        other.kills,
        ledger.puts,
        ledger.deletes,
        ledger.uploads,
        ledger.reads,
        ledger.unknown,
        wanted.0,
        wanted.1,
    );
    assert!(
        wanted.0 > 0 && wanted.1 > 0 && other.kills > 0 && ledger.unknown > 0,
        "the kills missed what they were for"
    );
}
