//! `endpoint.json`: where a running hall listens, for commands on the same machine. It holds no key.

use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::wire::Listeners;

const FILE: &str = "endpoint.json";

/// Where a server that waits for its turn says whom it follows.
const FOLLOWS: &str = "follows.json";

/// Where a hall listens, and which process it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The hall's name.
    pub name: String,
    /// Process id of the server.
    pub pid: i32,
    /// When that process started, in clock ticks since boot: tells it from a later one with the same id.
    pub pid_started: u64,
    /// The listeners' addresses, as URLs.
    pub listeners: Listeners,
    /// The database that holds the event log, without a password; none where it is a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
}

impl Endpoint {
    /// What is written in a data directory; `None` if nothing is.
    /// # Errors
    /// [`Error::File`] if it cannot be read, [`Error::Invalid`] if it makes no sense.
    pub fn read(data: &Path) -> Result<Option<Self>, Error> {
        let path = data.join(FILE);
        match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text)
                .map(Some)
                .map_err(|error| Error::Invalid(format!("{}: {error}", path.display()))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::File { what: "read", path, source }),
        }
    }

    /// Writes it so that a reader sees the old or the new text, never half of one.
    pub(crate) fn write(&self, data: &Path) -> Result<(), Error> {
        let path = data.join(FILE);
        let fresh = data.join("endpoint.json.new");
        let text = serde_json::to_string_pretty(self).map_err(|error| Error::Invalid(error.to_string()))?;
        let failed = |source| Error::File { what: "write", path: path.clone(), source };
        std::fs::write(&fresh, text).map_err(failed)?;
        std::fs::rename(&fresh, &path).map_err(failed)
    }

    /// The leader that process `pid` follows from `data`, if it does.
    pub fn followed(data: &Path, pid: i32) -> Option<String> {
        let text = std::fs::read_to_string(data.join(FOLLOWS)).ok()?;
        let (of, leader): (i32, String) = serde_json::from_str(&text).ok()?;
        (of == pid).then_some(leader)
    }

    /// This process follows `leader`, or leads itself. What cannot be written is missed by those only who wait for it.
    pub(crate) fn follows(data: &Path, leader: Option<&str>) {
        let path = data.join(FOLLOWS);
        let told = match leader {
            Some(leader) => std::fs::write(&path, serde_json::json!([std::process::id(), leader]).to_string()),
            None if path.exists() => std::fs::remove_file(&path),
            None => Ok(()),
        };
        if let Err(error) = told {
            tracing::warn!(%error, "{} is not written", path.display());
        }
    }

    /// Whether its process still runs. The file of a server that was killed stays: the next one takes its ports again.
    pub fn alive(&self) -> bool {
        started(self.pid) == Some(self.pid_started)
    }

    /// The port that a listener had, to be taken again by the next server.
    pub(crate) fn port_of(url: &str) -> Option<u16> {
        url.rsplit_once(':')?.1.parse().ok()
    }
}

/// When process `pid` started, in clock ticks since boot; `None` if it is gone or a zombie.
pub(crate) fn started(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; fields are counted from its last `)`: state is the first.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    (!matches!(state, "Z" | "X")).then(|| fields.nth(18)?.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_another_start_is_not() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let pid_started = started(pid).unwrap();
        let listeners = Listeners {
            api: "http://127.0.0.1:1".into(),
            gateway: "http://127.0.0.1:2".into(),
            store: "http://127.0.0.1:3".into(),
        };
        let endpoint = Endpoint { name: "x".into(), pid, pid_started, listeners, database: None };
        assert!(endpoint.alive());
        assert!(!Endpoint { pid_started: pid_started + 1, ..endpoint.clone() }.alive());
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Endpoint::read(folder.path()).unwrap(), None);
        endpoint.write(folder.path()).unwrap();
        assert_eq!(Endpoint::read(folder.path()).unwrap(), Some(endpoint));
        assert_eq!(Endpoint::port_of("http://127.0.0.1:4600"), Some(4600));
    }
}
