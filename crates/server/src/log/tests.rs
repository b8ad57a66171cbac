//! The same facts for every journal: a file, and a database where one can be started.

mod database;
mod encrypted;

use super::*;
use database::{Database, programs};

/// A journal's place, and what has to live as long.
struct Stage {
    place: LogPlace,
    _folder: tempfile::TempDir,
    server: Option<Database>,
}

impl Stage {
    fn file() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { place: LogPlace::File(folder.path().join(LOG_FILE)), _folder: folder, server: None }
    }

    /// `None` where it was skipped on purpose.
    fn database() -> Option<Self> {
        let programs = programs()?;
        let folder = tempfile::Builder::new().prefix("dh-pg").tempdir_in("/tmp").unwrap();
        let server = Database::start(folder.path(), programs);
        let place = LogPlace::Database(server.address.clone());
        Some(Self { place, _folder: folder, server: Some(server) })
    }
}

fn everywhere(check: fn(&LogPlace)) {
    check(&Stage::file().place);
    if let Some(stage) = Stage::database() {
        check(&stage.place);
        drop(stage.server);
    }
}

fn open(place: &LogPlace) -> EventLog {
    EventLog::new(place.open().unwrap())
}

/// A log that is led by `who`, with the hall that it made.
fn led(place: &LogPlace, who: &str) -> (EventLog, Hall) {
    let mut log = open(place);
    let (mut hall, mut replay) = (Hall::default(), Replay::default());
    log.lead(who).unwrap().unwrap();
    log.follow(&mut hall, &mut replay).unwrap();
    (log, hall)
}

fn tick(at: u64) -> (SimTime, Event) {
    (SimTime(at), Event::Tick)
}

#[test]
fn a_log_replays_to_the_hash_it_marked() {
    everywhere(|place| {
        let (mut log, mut hall) = led(place, "a");
        hall.step(SimTime(5), Event::ServerStarted, &mut Vec::new());
        hall.step(SimTime(6), Event::Tick, &mut Vec::new());
        log.append(&[(SimTime(5), Event::ServerStarted), tick(6)], Some(&hall.state_hash())).unwrap();
        drop(log);
        let (again, outcome) = replay(place).unwrap();
        assert_eq!(again, hall);
        assert_eq!((outcome.events, outcome.marks, outcome.differs), (2, 1, None));
    });
}

#[test]
fn a_second_server_waits_follows_and_takes_over() {
    everywhere(|place| {
        let (mut first, _) = led(place, "a");
        first.append(&[tick(1)], None).unwrap();
        let mut second = open(place);
        assert_eq!(second.lead("b").unwrap().unwrap_err(), "a");
        let (mut hall, mut seen) = (Hall::default(), Replay::default());
        second.follow(&mut hall, &mut seen).unwrap();
        first.append(&[tick(2), tick(3)], None).unwrap();
        second.follow(&mut hall, &mut seen).unwrap();
        assert_eq!((seen.events, hall.steps()), (3, 3));
        first.release();
        let lease = second.lead("b").unwrap().unwrap();
        assert_eq!(lease.term(), 2);
        second.append(&[tick(4)], None).unwrap();
        assert_eq!(replay(place).unwrap().1.events, 4);
    });
}

#[test]
fn a_deposed_server_writes_nothing() {
    everywhere(|place| {
        let (mut first, _) = led(place, "a");
        first.append(&[tick(1)], None).unwrap();
        first.release();
        let (mut second, _) = led(place, "b");
        assert!(matches!(first.append(&[tick(2)], None), Err(Error::Deposed)));
        assert!(!place.open().unwrap().renew(1, LEASE).unwrap());
        second.append(&[tick(3)], None).unwrap();
        // Not even a mark, and not even after its successor has let go.
        second.release();
        assert!(matches!(first.append(&[], Some("x")), Err(Error::Deposed)));
        assert_eq!(replay(place).unwrap().1.events, 2);
    });
}

#[test]
fn a_server_that_died_takes_its_own_lease_again_at_once() {
    everywhere(|place| {
        let (mut before, _) = led(place, "a");
        let (mut after, _) = led(place, "a");
        assert!(matches!(before.append(&[tick(1)], None), Err(Error::Deposed)));
        after.append(&[tick(1)], None).unwrap();
    });
}

#[test]
fn a_lease_that_is_not_renewed_runs_out() {
    everywhere(|place| {
        let mut journal = place.open().unwrap();
        let moment = std::time::Duration::from_millis(1);
        assert_eq!(journal.claim("a", moment).unwrap(), Claim::Won(1));
        std::thread::sleep(moment * 20);
        assert_eq!(journal.claim("b", LEASE).unwrap(), Claim::Won(2));
        assert_eq!(journal.claim("a", LEASE).unwrap(), Claim::Held("b".to_owned()));
    });
}

#[test]
fn a_copy_has_every_event_and_mark_and_can_be_restored() {
    everywhere(|place| {
        let (mut log, mut hall) = led(place, "a");
        for at in 1..=300 {
            hall.step(SimTime(at), Event::Tick, &mut Vec::new());
            log.append(&[tick(at)], (at % 50 == 0).then(|| hall.state_hash()).as_deref()).unwrap();
        }
        place.open().unwrap().keep_secret(1, "token", Some(b"sealed")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("copy.sqlite");
        assert_eq!(copy_log(place, &copy).unwrap(), 300);
        assert_eq!(replay(&LogPlace::File(copy.clone())).unwrap(), replay(place).unwrap());
        assert!(matches!(restore_log(&copy, place), Err(Error::Conflict(_))));
        let fresh = LogPlace::File(folder.path().join("fresh.sqlite"));
        assert_eq!(restore_log(&copy, &fresh).unwrap(), 300);
        assert_eq!(replay(&fresh).unwrap().1.marks, 6);
        assert_eq!(fresh.open().unwrap().secret("token").unwrap().as_deref(), Some(&b"sealed"[..]));
    });
}

#[test]
fn sealed_values_are_kept_by_the_newest_term_alone() {
    everywhere(|place| {
        let (mut first, _) = led(place, "a");
        let mut journal = place.open().unwrap();
        journal.keep_secret(1, "b", Some(b"one")).unwrap();
        journal.keep_secret(1, "a", Some(b"two")).unwrap();
        journal.keep_secret(1, "b", Some(b"three")).unwrap();
        first.release();
        let (_second, _) = led(place, "b");
        assert!(matches!(journal.keep_secret(1, "b", None), Err(Error::Deposed)));
        assert_eq!(journal.secrets().unwrap(), ["a", "b"]);
        assert_eq!(journal.secret("b").unwrap().as_deref(), Some(&b"three"[..]));
        journal.keep_secret(2, "b", None).unwrap();
        assert_eq!((journal.secret("b").unwrap(), journal.secrets().unwrap()), (None, vec!["a".to_owned()]));
    });
}

#[test]
fn a_changed_event_is_found_at_the_next_mark() {
    let stage = Stage::file();
    let (mut log, mut hall) = led(&stage.place, "a");
    for at in [10, 20] {
        hall.step(SimTime(at), Event::Tick, &mut Vec::new());
    }
    log.append(&[tick(10), tick(20)], Some(&hall.state_hash())).unwrap();
    let LogPlace::File(path) = &stage.place else { return };
    let connection = rusqlite::Connection::open(path).unwrap();
    connection.execute("UPDATE events SET at_ns = 21 WHERE seq = 2", []).unwrap();
    assert_eq!(replay(&stage.place).unwrap().1.differs.map(|(seq, ..)| seq), Some(2));
    connection.execute("UPDATE events SET body = '{\"event\":\"nonsense\"}' WHERE seq = 2", []).unwrap();
    assert!(matches!(replay(&stage.place), Err(Error::BadEvent { seq: 2, .. })));
    connection.execute("DELETE FROM events WHERE seq = 1", []).unwrap();
    assert!(matches!(replay(&stage.place), Err(Error::BadEvent { seq: 2, why, .. }) if why == "event 1 is missing"));
}
