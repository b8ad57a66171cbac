//! Where the store and its drives lie, how clients reach it, and what was found wrong. A site outlives all its servers.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use dh_core::{AccessKey, Secret};
use tempfile::TempDir;

pub use crate::reply::{Reply, pause, sort};

/// Drives, and how many of them may be lost.
pub const DRIVES: usize = 4;
pub const PARITY: usize = 1;

/// What a site is.
enum Kind {
    /// A store over [`DRIVES`] drives.
    Drives,
    /// A store with a tier of drives and one in another store, by a blueprint.
    Tiers,
    /// A store in one directory: the other one.
    Other,
}

/// The address that clients ask.
pub struct Listeners {
    pub store: String,
}

/// Folder, address, key and findings.
pub struct Site {
    folder: Option<TempDir>,
    kind: Kind,
    /// Whether the other store may be away now.
    pub away: AtomicBool,
    pub port: u16,
    key: Mutex<Option<AccessKey>>,
    violations: Mutex<Vec<String>>,
    /// Set when no new load is wanted.
    pub stop: AtomicBool,
}

impl Site {
    pub fn new() -> Self {
        Self::of(Kind::Drives)
    }

    /// The other store, that of a far tier.
    pub fn other() -> Self {
        Self::of(Kind::Other)
    }

    /// A store whose tiers are two drives and a bucket of `other`; drives of its own are three.
    pub fn with_tiers(other: &Self) -> Self {
        let site = Self::of(Kind::Tiers);
        let list =
            |names: [&str; 3]| names.map(|name| format!("{:?}", site.path(name).display().to_string())).join(", ");
        let (near, cold) = (list(["near-0", "near-1", "near-2"]), list(["cold-0", "cold-1", "cold-2"]));
        let keys = site.path("other.json");
        let key = other.key();
        let pair = serde_json::json!({"access_key": key.id, "secret_key": key.secret.expose()});
        std::fs::write(&keys, pair.to_string()).unwrap();
        std::fs::set_permissions(&keys, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let blueprint = format!(
            "schema = 1\nname = \"tiers\"\n[pool.local]\nnodes = 1\n[store.main]\ndrives = [{near}]\ncode = \"2+1\"\npromote_at = 2\n\
             [store.main.tier.cold]\ndrives = [{cold}]\ncode = \"2+1\"\n\
             [store.main.tier.far]\nendpoint = \"{}\"\nbucket = \"crash\"\nkeys = \"{}\"\n",
            other.listeners().store,
            keys.display(),
        );
        std::fs::write(site.path("hall.toml"), blueprint).unwrap();
        site
    }

    fn of(kind: Kind) -> Self {
        let folder = tempfile::Builder::new().prefix("dh-store-crash-").tempdir().unwrap();
        // Free at this moment; all servers of the site use it one after another.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self {
            folder: Some(folder),
            kind,
            away: AtomicBool::new(false),
            port,
            key: Mutex::new(None),
            violations: Mutex::new(Vec::new()),
            stop: AtomicBool::new(false),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.as_ref().unwrap().path().join(name)
    }

    /// The directory of a drive.
    pub fn drive(&self, index: usize) -> PathBuf {
        self.path(&format!("drive-{index}"))
    }

    /// What every command of the store says about where it lies.
    pub fn place(&self) -> Vec<String> {
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        let mut place = vec![text(self.path("store"))];
        match self.kind {
            Kind::Drives => {
                for drive in 0..DRIVES {
                    place.extend(["--drive".to_owned(), text(self.drive(drive))]);
                }
                place.extend(["--parity".to_owned(), PARITY.to_string()]);
            }
            Kind::Tiers => place.extend(["--blueprint".to_owned(), text(self.path("hall.toml"))]),
            Kind::Other => {}
        }
        place
    }

    /// The storage class that a new object of this key asks for: with tiers, a third for each.
    pub fn class(&self, key: &str) -> Option<&'static str> {
        match (&self.kind, key.bytes().map(u32::from).sum::<u32>() % 3) {
            (Kind::Tiers, 0) => Some("STANDARD_IA"),
            (Kind::Tiers, 1) => Some("GLACIER_IR"),
            _ => None,
        }
    }

    /// Whether a part of what is stored may be away for a while, which is no violation.
    pub fn part_may_be_away(&self) -> bool {
        self.away.load(Ordering::SeqCst)
    }

    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    pub fn listeners(&self) -> Listeners {
        Listeners { store: format!("http://127.0.0.1:{}", self.port) }
    }

    pub fn let_in(&self, id: &str, secret: &str) {
        let key = AccessKey { id: id.to_owned(), secret: Secret::new(secret.to_owned()) };
        *self.key.lock().unwrap() = Some(key);
    }

    pub fn key(&self) -> AccessKey {
        self.key.lock().unwrap().clone().unwrap()
    }

    /// A promise was broken. The round that runs ends the test.
    pub fn violation(&self, what: String) {
        self.violations.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    pub fn violations(&self) -> Vec<String> {
        self.violations.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // After a failure everything is kept, for whoever looks into it.
        if std::thread::panicking()
            && let Some(folder) = self.folder.take()
        {
            eprintln!("kept: {}", folder.keep().display());
        }
    }
}
