//! The key ring through its public API: what is kept, what is refused, what is never shown.
#![allow(clippy::unwrap_used, clippy::panic, clippy::allow_attributes, reason = "tests fail by panicking")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use dh_core::{Authenticate as _, Grant, HasKind as _, Kind, Role};
use dh_guard::{Error, KeyRing};

struct Home {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

fn home() -> Home {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    Home { _folder: folder, path }
}

fn mode(path: &PathBuf) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn the_file_is_private_from_its_first_moment_and_after_each_change() {
    let home = home();
    let ring = KeyRing::create(&home.path).unwrap();
    assert_eq!(mode(&home.path), 0o600);
    let key = ring.issue(Role::Admin, "ops").unwrap();
    assert_eq!(mode(&home.path), 0o600);
    ring.revoke(&key.id).unwrap();
    assert_eq!(mode(&home.path), 0o600);
    let names: Vec<_> =
        std::fs::read_dir(home.path.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["keys.json"], "no temporary is left behind");
}

#[test]
fn a_file_that_others_can_open_is_refused_with_a_hint() {
    for loose in [0o640, 0o604, 0o620, 0o602, 0o601, 0o644, 0o666] {
        let home = home();
        KeyRing::create(&home.path).unwrap();
        std::fs::set_permissions(&home.path, std::fs::Permissions::from_mode(loose)).unwrap();
        let error = KeyRing::load(&home.path).unwrap_err();
        assert!(matches!(error, Error::Exposed { mode, .. } if mode == loose), "{error}");
        assert_eq!(error.kind(), Kind::Forbidden);
        assert!(error.hint().unwrap().contains("chmod 600"));
        assert!(KeyRing::load_or_create(&home.path).is_err(), "a loose file is not replaced either");
    }
}

#[test]
fn a_limited_key_is_the_same_after_a_reload_and_carries_its_limit() {
    let home = home();
    let ring = KeyRing::load_or_create(&home.path).unwrap();
    ring.issue(Role::Admin, "admin").unwrap();
    let key = ring.issue_limited("job/7.1", Role::Job, "{}").unwrap();
    assert_eq!(ring.limits(&key.id).len(), 1);
    assert!(ring.limits(&ring.issue_ephemeral("job/8.1", Role::Job).unwrap().id).is_empty());
    ring.revoke(&key.id).unwrap();
    assert!(ring.signing_key(&key.id).is_none() && ring.limits(&key.id).is_empty());

    let again = KeyRing::load_or_create(&home.path).unwrap();
    again.issue(Role::Admin, "another").unwrap();
    assert!(again.signing_key(&key.id).is_none());
    let same = again.issue_limited("job/7.1", Role::Job, "{}").unwrap();
    assert_eq!(same.id, key.id);
    assert!(same.secret.matches(key.secret.expose()));
}

#[test]
fn keys_survive_a_reload_and_ephemeral_ones_do_not() {
    let home = home();
    let ring = KeyRing::load_or_create(&home.path).unwrap();
    let admin = ring.issue(Role::Admin, "ops").unwrap();
    let model = ring.issue(Role::Model, "chat-app").unwrap();
    let job = ring.issue_ephemeral("job/7", Role::Job).unwrap();
    assert!(admin.secret.expose().starts_with("dh-admin-"));
    assert!(model.secret.expose().starts_with("dh-model-"));
    assert!(job.secret.expose().starts_with("dh-job-"));
    let principal = ring.bearer(job.secret.expose()).unwrap();
    assert_eq!((principal.name.as_str(), principal.role), ("job/7", Role::Job));

    let again = KeyRing::load_or_create(&home.path).unwrap();
    let principal = again.bearer(model.secret.expose()).unwrap();
    assert_eq!((principal.name.as_str(), principal.role), ("chat-app", Role::Model));
    let (secret, principal) = again.signing_key(&admin.id).unwrap();
    assert!(secret.matches(admin.secret.expose()) && principal.may_operate());
    assert!(again.bearer(job.secret.expose()).is_none());
    assert!(again.find("ops", Role::Admin).unwrap().secret.matches(admin.secret.expose()));
    assert!(again.find("ops", Role::Model).is_none());
    assert_eq!(again.keys().len(), 2);
}

#[test]
fn bounds_survive_a_reload_and_end_with_the_last_key_of_their_name() {
    let home = home();
    let ring = KeyRing::create(&home.path).unwrap();
    let grant = Grant { models: vec!["llama-*".to_owned()], requests_per_minute: Some(60), ..Grant::default() };
    let key = ring.issue_with(Role::Model, "ann", Some(grant.clone())).unwrap();
    ring.issue(Role::Model, "free").unwrap();
    let loaded = KeyRing::load(&home.path).unwrap();
    for ring in [&ring, &loaded] {
        assert_eq!(ring.grant("ann").as_deref(), Some(&grant));
        assert_eq!(ring.grant("free"), None);
    }
    loaded.revoke(&key.id).unwrap();
    assert_eq!(loaded.grant("ann"), None);
    assert_eq!(KeyRing::load(&home.path).unwrap().grant("ann"), None);
}

#[test]
fn near_misses_are_nobody() {
    let home = home();
    let ring = KeyRing::create(&home.path).unwrap();
    let key = ring.issue(Role::Model, "app").unwrap();
    let token = key.secret.expose();
    assert!(ring.bearer(token).is_some());
    for guess in [
        "",
        "dh-model-",
        &token[..token.len() - 1],
        &format!("{token}A"),
        &token.to_uppercase(),
        &key.id,
        &"x".repeat(1 << 20),
    ] {
        assert!(ring.bearer(guess).is_none());
    }
    assert!(ring.signing_key(token).is_none());
    assert!(ring.signing_key("DHAAAAAAAAAAAAAAAAAA").is_none());
}

#[test]
fn a_revoked_key_is_gone_from_memory_and_file_in_all_clones() {
    let home = home();
    let ring = KeyRing::create(&home.path).unwrap();
    let clone = ring.clone();
    let kept = ring.issue(Role::Model, "app").unwrap();
    let job = ring.issue_ephemeral("job/1", Role::Job).unwrap();
    clone.revoke(&kept.id).unwrap();
    clone.revoke(&job.id).unwrap();
    for key in [&kept, &job] {
        assert!(ring.bearer(key.secret.expose()).is_none());
        assert!(ring.signing_key(&key.id).is_none());
        assert!(matches!(ring.revoke(&key.id), Err(Error::UnknownKey(_))));
    }
    let text = std::fs::read_to_string(&home.path).unwrap();
    assert!(!text.contains(kept.secret.expose()) && !text.contains(&kept.id));
    assert!(KeyRing::load(&home.path).unwrap().bearer(kept.secret.expose()).is_none());
}

#[test]
fn nothing_that_prints_shows_a_secret() {
    let home = home();
    let ring = KeyRing::create(&home.path).unwrap();
    let key = ring.issue(Role::Admin, "ops").unwrap();
    let shown = format!("{ring:?} {key:?} {:?} {:?}", ring.keys(), ring.signing_key(&key.id));
    assert!(!shown.contains("dh-admin-"), "{shown}");
    assert!(shown.contains(&key.id));
}

#[test]
fn a_damaged_file_says_so_and_is_left_alone() {
    let good = {
        let home = home();
        KeyRing::create(&home.path).unwrap().issue(Role::Admin, "ops").unwrap();
        std::fs::read_to_string(&home.path).unwrap()
    };
    let secret = good.split('"').find(|word| word.starts_with("dh-admin-")).unwrap().to_owned();
    let key = good.split_once('[').unwrap().1.rsplit_once(']').unwrap().0.to_owned();
    for (bad, why) in [
        (String::new(), "ends too early"),
        (good[..good.len() / 2].to_owned(), "ends too early"),
        (good.replace('{', "("), "not JSON"),
        (good.replace("\"format\": 1", "\"format\": 2"), "format is 2"),
        (good.replace("\"admin\"", "\"root\""), "unknown or of the wrong type"),
        (good.replace("\"role\": \"admin\"", "\"role\": \"model\""), "`keys[0].secret`"),
        (good.replace("\"DH", "\"dh"), "`keys[0].id`"),
        (good.replace(&secret, "dh-admin-short"), "`keys[0].secret`"),
        (good.replace(&key, &format!("{key},{key}")), "there twice"),
        (good.replace("\"name\"", "\"nam\""), "unknown or of the wrong type"),
    ] {
        let home = home();
        KeyRing::create(&home.path).unwrap();
        std::fs::write(&home.path, &bad).unwrap();
        let error = KeyRing::load_or_create(&home.path).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
        assert!(error.to_string().contains(why), "{error} lacks {why}");
        assert!(!error.to_string().contains(&secret) && error.hint().is_some());
        assert_eq!(std::fs::read_to_string(&home.path).unwrap(), bad);
    }
}

#[test]
fn two_processes_never_undo_each_others_keys() {
    let home = home();
    let one = KeyRing::create(&home.path).unwrap();
    let two = KeyRing::load(&home.path).unwrap();
    let key = one.issue(Role::Admin, "first").unwrap();
    let refused = two.issue(Role::Admin, "second").unwrap_err();
    assert!(matches!(refused, Error::Changed(_)), "{refused}");
    assert!(two.find("second", Role::Admin).is_none(), "what is not kept does not count");
    assert!(KeyRing::load(&home.path).unwrap().bearer(key.secret.expose()).is_some());
}

#[test]
fn create_never_overwrites_and_load_never_invents() {
    let home = home();
    assert!(matches!(KeyRing::load(&home.path), Err(Error::Missing(_))));
    assert!(!home.path.exists());
    KeyRing::create(&home.path).unwrap();
    let error = KeyRing::create(&home.path).unwrap_err();
    assert!(matches!(error, Error::Exists(_)));
    assert_eq!(error.kind(), Kind::Conflict);
    assert!(KeyRing::load(home.path.parent().unwrap()).is_err(), "a folder is no key file");
}

#[test]
fn names_are_bounded_and_printable() {
    let home = home();
    let ring = KeyRing::create(&home.path).unwrap();
    for bad in ["", "a b", "a\nb", "caf\u{e9}", "\"", &"x".repeat(129)] {
        assert!(matches!(ring.issue(Role::Model, bad), Err(Error::BadName(_))), "{bad:?}");
        assert!(matches!(ring.issue_ephemeral(bad, Role::Job), Err(Error::BadName(_))), "{bad:?}");
    }
    assert!(ring.keys().is_empty());
}

#[test]
fn many_threads_may_issue_check_and_revoke_at_once() {
    let home = home();
    let ring = KeyRing::create(&home.path).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let ring = ring.clone();
            scope.spawn(move || {
                for round in 0..100 {
                    let key = ring.issue_ephemeral(&format!("job/{thread}.{round}"), Role::Job).unwrap();
                    assert!(ring.bearer(key.secret.expose()).unwrap().may_use_store());
                    ring.revoke(&key.id).unwrap();
                    assert!(ring.bearer(key.secret.expose()).is_none());
                }
                ring.issue(Role::Model, &format!("app-{thread}")).unwrap();
            });
        }
    });
    assert_eq!(ring.keys().len(), 4);
    assert_eq!(KeyRing::load(&home.path).unwrap().keys().len(), 4);
}
