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

/// The address that clients ask.
pub struct Listeners {
    pub store: String,
}

/// Folder, address, key and findings.
pub struct Site {
    folder: Option<TempDir>,
    pub port: u16,
    key: Mutex<Option<AccessKey>>,
    violations: Mutex<Vec<String>>,
    /// Set when no new load is wanted.
    pub stop: AtomicBool,
}

impl Site {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("dh-store-crash-").tempdir().unwrap();
        // Free at this moment; all servers of the site use it one after another.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self {
            folder: Some(folder),
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
        for drive in 0..DRIVES {
            place.extend(["--drive".to_owned(), text(self.drive(drive))]);
        }
        place.extend(["--parity".to_owned(), PARITY.to_string()]);
        place
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
