//! Where the hall lives and how clients reach it. A site outlives all its servers.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use dh_core::{AccessKey, Role};
use dh_guard::KeyRing;
use dh_server::wire::Listeners;
use tempfile::TempDir;

pub use crate::reply::{Reply, pause, sort};

/// Two nodes, so that gangs are spread, and ports that the system chooses.
const BLUEPRINT: &str = r#"
schema = 1
name = "crash"
[pool.local]
nodes = 2
slots = 4
[queue.default]
[target]
api_port = 0
gateway_port = 0
store_port = 0
"#;

/// Folder, addresses and findings.
pub struct Site {
    folder: Option<TempDir>,
    listeners: Mutex<Option<Listeners>>,
    key: Mutex<Option<AccessKey>>,
    diary: Mutex<File>,
    violations: Mutex<Vec<String>>,
    /// Set when no new load is wanted.
    pub stop: AtomicBool,
}

impl Site {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("dh-crash-").tempdir().unwrap();
        std::fs::write(folder.path().join("hall.toml"), BLUEPRINT).unwrap();
        std::fs::create_dir(folder.path().join("locks")).unwrap();
        let diary = File::options().create(true).append(true).open(folder.path().join("diary")).unwrap();
        Self {
            folder: Some(folder),
            listeners: Mutex::new(None),
            key: Mutex::new(None),
            diary: Mutex::new(diary),
            violations: Mutex::new(Vec::new()),
            stop: AtomicBool::new(false),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.as_ref().unwrap().path().join(name)
    }

    pub fn data(&self) -> PathBuf {
        self.path("data")
    }

    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// The storage class that a new object of this key asks for.
    #[expect(clippy::unused_self, reason = "other sites of the same clients have classes")]
    pub const fn class(&self, _key: &str) -> Option<&'static str> {
        None
    }

    /// Whether a part of what is stored may be away for a while, which is no violation.
    #[expect(clippy::unused_self, reason = "parts of other sites may be")]
    pub const fn part_may_be_away(&self) -> bool {
        false
    }

    /// A new server answers there. Tells whether it is another place than before.
    pub fn moved_to(&self, listeners: Listeners) -> bool {
        if self.key.lock().unwrap().is_none() {
            let ring = KeyRing::load(self.data().join(dh_server::KEYS_FILE)).unwrap();
            *self.key.lock().unwrap() = ring.find(dh_server::ADMIN_KEY, Role::Admin);
        }
        self.listeners.lock().unwrap().replace(listeners.clone()).is_some_and(|before| before != listeners)
    }

    pub fn listeners(&self) -> Listeners {
        self.listeners.lock().unwrap().clone().unwrap()
    }

    pub fn key(&self) -> AccessKey {
        self.key.lock().unwrap().clone().unwrap()
    }

    /// Writes a line into the diary that the jobs write, too. One write each, so its order is that of the events.
    pub fn note(&self, line: &str) {
        self.diary.lock().unwrap().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    pub fn diary(&self) -> String {
        std::fs::read_to_string(self.path("diary")).unwrap()
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
