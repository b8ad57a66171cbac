//! The demo as a newcomer runs it, in a home of its own: the real one with downloads, the one without, and how it ends
//! when somebody ends it early.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::wildcard_enum_match_arm,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]

mod support;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dh_learn::train::Event;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::{command_at_home, processes_of};
use tempfile::TempDir;

/// A whole demo with downloads on a slow, busy machine.
const WHOLE: Duration = Duration::from_mins(15);

/// How long it may take to end when somebody ends it.
const END: Duration = Duration::from_secs(20);

/// Steps between two checkpoints in the blueprint.
const CHECKPOINT_EVERY: u64 = 300;

/// The server holds no data set and no model: it may not grow with them.
const SERVER_BYTES_MAX: u64 = 250_000_000;

/// A demo uses all cores; two at once would only disturb each other.
fn alone() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A demo that runs, in a home of its own. Killed at the end if it still does.
struct Demo {
    home: TempDir,
    child: Child,
}

impl Demo {
    fn start(flags: &[&str]) -> Self {
        let home = tempfile::Builder::new().prefix("dh-demo-").tempdir().unwrap();
        std::fs::create_dir(home.path().join("tmp")).unwrap();
        let child = Self::spawn(home.path(), flags);
        Self { home, child }
    }

    fn spawn(home: &Path, flags: &[&str]) -> Child {
        // Downloads outlive the test, so that the next run need not fetch them again.
        let cache = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-cache");
        std::fs::create_dir_all(&cache).unwrap();
        command_at_home(home)
            .args(["demo", "--exit", "-o", "json"])
            .args(flags)
            .env("XDG_CACHE_HOME", cache.canonicalize().unwrap())
            .env("TMPDIR", home.join("tmp"))
            .stdin(Stdio::null())
            .stdout(File::create(home.join("stdout")).unwrap())
            .stderr(File::create(home.join("stderr")).unwrap())
            .spawn()
            .unwrap()
    }

    fn said(&self, stream: &str) -> String {
        String::from_utf8_lossy(&std::fs::read(self.home.path().join(stream)).unwrap()).into_owned()
    }

    /// The last words on stderr; the keys stand at its beginning and are never shown by a test.
    fn last_words(&self) -> String {
        let said = self.said("stderr");
        let lines: Vec<&str> = said.lines().filter(|line| !line.contains("dh-")).collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    fn data(&self) -> PathBuf {
        self.home.path().join(".local/share/datahall/halls/demo")
    }

    /// Waits until stderr contains `words`.
    fn wait_until_it_says(&mut self, words: &str) {
        let begin = Instant::now();
        while !self.said("stderr").contains(words) {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "it ended ({ended:?}) before it said `{words}`: {}", self.last_words());
            assert!(begin.elapsed() < WHOLE, "it does not say `{words}`: {}", self.last_words());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn wait_for_end(&mut self, patience: Duration) -> ExitStatus {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begin.elapsed() < patience, "it does not end: {}", self.last_words());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Everything that it started is gone, and so are its temporary files.
    fn assert_nothing_left(&self) {
        let begin = Instant::now();
        loop {
            let left = processes_of(self.home.path());
            if left.is_empty() {
                break;
            }
            assert!(begin.elapsed() < END, "processes are left behind: {left:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn temporary_files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.home.path().join("tmp")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// What the ranks of an attempt of its first job said.
    fn events_of_attempt(&self, attempt: u32) -> Vec<Event> {
        let log = self.data().join(format!("tasks/tasks/job-1/attempt-{attempt}/rank-0.log"));
        let text = std::fs::read_to_string(&log).unwrap();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Its hall hangs on a lifeline and goes with it.
        if let Ok(None) = self.child.try_wait() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// What every whole demo must have done, whatever its data and model.
fn assert_went_the_whole_way(demo: &mut Demo) -> Value {
    let status = demo.wait_for_end(WHOLE);
    assert!(status.success(), "{status}: {}", demo.last_words());
    demo.assert_nothing_left();
    assert_eq!(demo.temporary_files(), Vec::<PathBuf>::new(), "temporary files are left behind");
    let text = demo.said("stdout");
    for prefix in ["dh-admin-", "dh-model-", "dh-job-"] {
        assert!(!text.contains(prefix), "the JSON holds a key");
    }
    let outcome: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(outcome["schema_version"], 1);

    let accuracies: Vec<f64> =
        outcome["accuracy_by_epoch"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
    assert_eq!(accuracies.len(), 5, "{outcome}");
    assert!(accuracies[4] >= 0.85 && accuracies[4] <= 1.0, "{accuracies:?}");

    assert_eq!(outcome["attempts"], 2, "{outcome}");
    let fault = &outcome["fault"];
    let (killed, resumed) =
        (fault["killed_after_step"].as_u64().unwrap(), fault["resumed_from_step"].as_u64().unwrap());
    assert!(resumed > 0 && resumed.is_multiple_of(CHECKPOINT_EVERY), "{fault}");
    // A checkpoint that was reported as durable is never lost. One more may have been on its way to the disk.
    let durable = demo.events_of_attempt(1).into_iter().filter_map(|event| match event {
        Event::Checkpoint { step, .. } => Some(step),
        _ => None,
    });
    assert!(durable.max().is_some_and(|step| step <= resumed), "{fault}");
    assert!(killed.saturating_sub(resumed) < 2 * CHECKPOINT_EVERY, "{fault}");
    assert!(fault["recovery_seconds"].as_f64().unwrap() > 0.0, "{fault}");

    let row = |name: &str| {
        let rows = outcome["rows"].as_array().unwrap();
        rows.iter().find(|row| row["figure"] == name).unwrap_or_else(|| panic!("no row `{name}`: {outcome}")).clone()
    };
    let through = row("accuracy through the gateway")["measured"].as_f64().unwrap();
    assert!(
        (through - accuracies[4]).abs() < 0.06,
        "500 images through the gateway: {through}, trained: {accuracies:?}"
    );
    for name in ["training time", "samples per second", "bytes read from the store"] {
        let row = row(name);
        assert!(row["predicted"].as_f64().unwrap() > 0.0 && row["measured"].as_f64().unwrap() > 0.0, "{row}");
    }
    assert!(row("tokens per second")["measured"].as_f64().unwrap() > 0.0);

    let peak = outcome["server_peak_bytes"].as_u64().unwrap();
    assert!(peak > 1_000_000 && peak < SERVER_BYTES_MAX, "the server used {peak} bytes");
    let (logical, stored) = (outcome["store_logical_bytes"].as_u64(), outcome["store_stored_bytes"].as_u64());
    assert!(logical > Some(50_000_000) && stored > Some(0), "{outcome}");
    assert!(
        !outcome["answer"].as_str().unwrap().is_empty() && outcome["answer_tokens"].as_u64() > Some(0),
        "{outcome}"
    );
    assert!(matches!(outcome["finish_reason"].as_str(), Some("stop" | "length")), "{outcome}");

    let replay = command_at_home(demo.home.path()).args(["replay", "-o", "json", "--data"]).arg(demo.data()).output();
    let replay: Value = serde_json::from_slice(&replay.unwrap().stdout).unwrap();
    assert!(replay["differs"].is_null() && replay["events"].as_u64() >= outcome["events"].as_u64(), "{replay}");
    outcome
}

/// Whether a text reads like English: words of letters, among them some that no English text lacks.
fn assert_reads_like_english(text: &str) {
    const COMMON: &[&str] = &[
        "a", "an", "and", "are", "as", "by", "can", "data", "for", "from", "in", "is", "it", "of", "or", "that", "the",
        "to", "with",
    ];
    let plain =
        text.chars().filter(|one| one.is_ascii_alphabetic() || matches!(one, ' ' | '.' | ',' | '\'' | '-')).count();
    let all = text.chars().count();
    assert!(plain * 10 >= all * 9, "{plain} of {all} characters are letters, spaces and stops: {text}");
    let words: Vec<String> = text
        .split_whitespace()
        .map(|word| word.trim_matches(|one: char| !one.is_alphanumeric()).to_lowercase())
        .collect();
    let common = words.iter().filter(|word| COMMON.contains(&word.as_str())).count();
    let different: std::collections::BTreeSet<&String> = words.iter().collect();
    assert!(words.len() >= 5 && common >= 3 && different.len() * 3 >= words.len(), "no English: {text}");
}

#[test]
fn the_demo_goes_the_whole_way_with_real_data_and_a_real_model() {
    let _alone = alone();
    let mut demo = Demo::start(&[]);
    let outcome = assert_went_the_whole_way(&mut demo);
    let nothing_may_be_skipped = std::env::var("CI").is_ok_and(|value| value == "true" || value == "1");
    let missing: Vec<String> =
        demo.said("stderr").lines().filter(|line| line.contains("cannot be had")).map(str::to_owned).collect();
    assert!(missing.is_empty() || !nothing_may_be_skipped, "{missing:?}");
    for line in &missing {
        eprintln!("without the network: {line}");
    }
    if missing.iter().any(|line| line.contains("Fashion-MNIST")) {
        assert_eq!(outcome["data"], "generated");
    } else {
        assert_eq!(outcome["data"], "Fashion-MNIST");
    }
    if missing.iter().any(|line| !line.contains("Fashion-MNIST")) {
        assert_eq!(outcome["chat_model_generated"], true);
    } else {
        assert_eq!(outcome["chat_model_generated"], false);
        assert!(!outcome["chat_model"].as_str().unwrap().contains("generated"), "{outcome}");
        assert_reads_like_english(outcome["answer"].as_str().unwrap());
    }
}

#[test]
fn without_downloads_the_demo_says_what_is_made_up_and_quiet_means_quiet() {
    let _alone = alone();
    let mut demo = Demo::start(&["--offline", "--quiet"]);
    let outcome = assert_went_the_whole_way(&mut demo);
    assert_eq!(outcome["data"], "generated");
    assert_eq!(outcome["chat_model_generated"], true);
    assert!(outcome["chat_model"].as_str().unwrap().contains("generated"), "{outcome}");
    assert!(demo.said("stderr").is_empty(), "quiet, and yet: {}", demo.last_words());
}

#[test]
fn ctrl_c_ends_the_demo_and_everything_that_it_started() {
    let _alone = alone();
    for words in ["measuring this machine", "epoch 1:"] {
        let mut demo = Demo::start(&["--offline"]);
        demo.wait_until_it_says(words);
        demo.signal(Signal::INT);
        let status = demo.wait_for_end(END);
        assert_eq!(status.code(), Some(130), "at `{words}`: {}", demo.last_words());
        demo.assert_nothing_left();
        assert!(demo.said("stdout").is_empty(), "an outcome was printed for a demo that was ended");
    }
}

#[test]
fn a_demo_that_is_killed_leaves_nothing_behind() {
    let _alone = alone();
    let mut demo = Demo::start(&["--offline"]);
    demo.wait_until_it_says("epoch 1:");
    assert!(processes_of(demo.home.path()).len() >= 1 + 1 + 2 * 2, "demo, hall, and two ranks with their wardens");
    demo.signal(Signal::KILL);
    assert!(!demo.wait_for_end(END).success());
    demo.assert_nothing_left();
    // The next demo starts afresh in the same place.
    demo.child = Demo::spawn(demo.home.path(), &["--offline"]);
    demo.wait_until_it_says("train a gang");
    demo.signal(Signal::INT);
    assert_eq!(demo.wait_for_end(END).code(), Some(130));
    demo.assert_nothing_left();
}
