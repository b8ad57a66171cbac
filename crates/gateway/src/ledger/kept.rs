//! The keeper's books, and their journal: a line of JSON for the beginning, then one for each message that changed them.
//!
//! A line is written before its message is answered, and on the drive before money is lent. Replaying the lines gives the books,
//! since they follow from the messages alone. At a start, and when it has grown, the journal is begun anew. A failed write is
//! final: nothing more is answered until the next start has read what there is.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use dh_core::SimTime;
use dh_policy::ledger::{Answer, Ask, Bounds, Ledger, Loan};
use serde::{Deserialize, Serialize};

use super::LIFE;
use crate::Error;

/// The journal's name in its folder. A copy of it, whenever it is made, gives the books of some moment: a cut last line was never answered.
pub const JOURNAL: &str = "ledger.jsonl";
/// A journal is begun anew when it has grown to so much: a second or two of the busiest gateways.
const JOURNAL_BYTES: u64 = 8 << 20;
/// For a killed gateway to let go of the folder.
const PATIENCE: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(20);

pub(crate) struct Kept(Mutex<State>);

struct State {
    ledger: Ledger,
    file: File,
    bytes: u64,
    folder: PathBuf,
    /// A write failed.
    broken: bool,
    _lock: File,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line<'a> {
    Begins(Ledger),
    Message { at: u64, bounds: Bounds, ask: std::borrow::Cow<'a, Ask> },
}

impl Kept {
    /// Takes hold of `folder`, and finds there what an earlier process left.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(folder.join("lock"))?;
        let begun = Instant::now();
        while lock.try_lock().is_err() {
            if begun.elapsed() >= PATIENCE {
                return Err(io::Error::new(io::ErrorKind::WouldBlock, "another gateway holds this folder"));
            }
            sleep(LOOK);
        }
        let mut ledger = replay(&folder.join(JOURNAL))?;
        ledger.set_life(LIFE);
        let (file, bytes) = begin(folder, &ledger)?;
        let folder = folder.to_owned();
        Ok(Self(Mutex::new(State { ledger, file, bytes, folder, broken: false, _lock: lock })))
    }

    pub(crate) async fn ask(self: &Arc<Self>, now: SimTime, bounds: Bounds, ask: &Ask) -> Result<Answer, Error> {
        let taken = if bounds.micro_usd.is_some() && ask.wants.is_some() {
            // It may wait for the drive.
            let (kept, ask) = (Arc::clone(self), ask.clone());
            tokio::task::spawn_blocking(move || kept.state().take(now, bounds, &ask)).await.map_err(io::Error::other)
        } else {
            Ok(self.state().take(now, bounds, ask))
        };
        taken.and_then(|taken| taken).map_err(|error| {
            tracing::error!(%error, "the journal of accounts cannot be written");
            Error::NoLedger("its journal cannot be written".to_owned())
        })
    }

    // Whoever panics between a change and its line leaves `broken` set.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self, now: SimTime, bounds: Bounds, ask: &Ask) -> io::Result<Answer> {
        if std::mem::replace(&mut self.broken, true) {
            return Err(io::Error::other("an earlier write failed"));
        }
        let before = self.ledger.micro_usd(&ask.caller);
        let answer = self.ledger.apply(now, bounds, ask);
        let mut line = serde_json::to_vec(&Line::Message { at: now.0, bounds, ask: std::borrow::Cow::Borrowed(ask) })?;
        line.push(b'\n');
        self.file.write_all(&line)?;
        let lends = matches!(answer, Answer::Lent(Loan { micro_usd: Some(1..), .. }));
        if lends || self.ledger.micro_usd(&ask.caller) > before {
            self.file.sync_data()?;
        }
        self.bytes += u64::try_from(line.len()).unwrap_or(0);
        if self.bytes > JOURNAL_BYTES {
            (self.file, self.bytes) = begin(&self.folder, &self.ledger)?;
        }
        self.broken = false;
        Ok(answer)
    }
}

/// A journal that begins with `ledger`, in the place of the one there.
fn begin(folder: &Path, ledger: &Ledger) -> io::Result<(File, u64)> {
    let (place, fresh) = (folder.join(JOURNAL), folder.join("ledger.new"));
    let mut line = serde_json::to_vec(&Line::Begins(ledger.clone()))?;
    line.push(b'\n');
    let mut file = File::create(&fresh)?;
    file.write_all(&line)?;
    file.sync_all()?;
    fs::rename(&fresh, &place)?;
    File::open(folder)?.sync_all()?;
    Ok((file, u64::try_from(line.len()).unwrap_or(0)))
}

/// The books that the journal tells of. A line that a crash cut off was never answered.
fn replay(path: &Path) -> io::Result<Ledger> {
    let mut ledger = Ledger::new(LIFE);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(ledger),
        Err(error) => return Err(error),
    };
    let (mut reader, mut line) = (BufReader::new(file), Vec::new());
    for number in 1_u64.. {
        line.clear();
        reader.read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            break;
        }
        match serde_json::from_slice(&line) {
            Ok(Line::Begins(begins)) => ledger = begins,
            Ok(Line::Message { at, bounds, ask }) => {
                ledger.apply(SimTime(at), bounds, &ask);
            }
            Err(error) => return Err(io::Error::other(format!("line {number} of {JOURNAL} cannot be read: {error}"))),
        }
    }
    Ok(ledger)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dh_policy::ledger::{Lessee, Use};

    const BOUNDS: Bounds = Bounds { requests: None, tokens: Some(1_000), micro_usd: Some(6_400) };

    fn most(tokens: u64, micro_usd: u64) -> Use {
        Use { tokens, micro_usd }
    }

    #[test]
    fn what_was_lent_is_known_after_a_crash_anywhere_in_a_line_and_nonsense_is_refused() {
        let folder = std::env::temp_dir().join(format!("dh-ledger-{}", std::process::id()));
        drop(fs::remove_dir_all(&folder));
        let now = SimTime(5_000_000_000);
        let kept = Kept::open(&folder).unwrap();
        assert!(Kept::open(&folder).is_err(), "one holder");
        let mut one = Lessee::new(1, "c");
        let ask = one.ask(now, Some(most(900, 300)), false);
        let lent = kept.state().take(now, BOUNDS, &ask).unwrap();
        one.answered(ask.seq, lent, 0).unwrap();
        assert!(one.take(now, most(900, 300)).is_ok());
        drop(kept);
        let journal = folder.join(JOURNAL);
        let whole = fs::read(&journal).unwrap();
        let last = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
        for cut in last..=whole.len() {
            fs::write(&journal, &whole[..cut]).unwrap();
            let kept = Kept::open(&folder).unwrap();
            let ask = Lessee::new(2, "c").ask(now, Some(most(200, 0)), false);
            let answer = kept.state().take(now, BOUNDS, &ask).unwrap();
            let known = cut == whole.len();
            assert_eq!(matches!(answer, Answer::Refused { .. }), known, "{cut}");
            let spent = kept.state().ledger.micro_usd("c");
            assert_eq!(spent >= 300, known, "{spent} at {cut}");
        }
        fs::write(&journal, b"{\"begins\":7}\n").unwrap();
        assert!(Kept::open(&folder).is_err());
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn after_a_failed_write_nothing_is_answered() {
        let folder = std::env::temp_dir().join(format!("dh-ledger-full-{}", std::process::id()));
        let kept = Kept::open(&folder).unwrap();
        kept.state().file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let ask = Lessee::new(1, "c").ask(SimTime(0), Some(most(1, 1)), false);
        assert!(kept.state().take(SimTime(0), BOUNDS, &ask).is_err());
        kept.state().file = File::create(folder.join("sound")).unwrap();
        assert!(kept.state().take(SimTime(0), BOUNDS, &ask).is_err(), "until a start has read what there is");
        drop(kept);
        fs::remove_dir_all(&folder).unwrap();
    }
}
