//! What must hold for every text.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]

use dh_blueprint::{Blueprint, Code, TEMPLATES};
use proptest::prelude::*;

fn never_panics(text: &str) -> Result<(), TestCaseError> {
    if let Err(report) = Blueprint::parse("hall.toml", text) {
        prop_assert!(!report.problems.is_empty());
        let rendered = report.render();
        prop_assert!(rendered.chars().all(|c| c == '\n' || !c.is_control()), "{rendered:?}");
        prop_assert!(serde_json::to_string(&report).is_ok());
        for problem in &report.problems {
            prop_assert!(text.get(problem.span.start..problem.span.end).is_some());
        }
    }
    Ok(())
}

/// Lines that are nearly right, in any order, so that the readers behind the TOML parser are reached.
fn line() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec![
        "schema",
        "name",
        "nodes",
        "node",
        "slots",
        "site",
        "rated",
        "idle",
        "pue",
        "price",
        "carbon",
        "capacity",
        "cache",
        "compression",
        "priority",
        "max_jobs",
        "kind",
        "model",
        "dataset",
        "ranks",
        "slots_per_rank",
        "epochs",
        "batch",
        "learning_rate",
        "seed",
        "checkpoint_every",
        "retries",
        "queue",
        "memory",
        "time_limit",
        "store",
        "command",
        "env",
        "url",
        "replicas",
        "listen",
        "expose",
        "api_port",
        "executor",
        "x",
        "\"\u{7f}é\"",
    ]);
    let value = prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| if number.is_finite() { format!("{number:e}") } else { "nan".to_owned() }),
        prop::sample::select(vec![
            "1",
            "2",
            "true",
            "[]",
            "{}",
            "[1]",
            "{ a = 1 }",
            "\"train\"",
            "\"command\"",
            "\"main\"",
            "\"dgx-h100\"",
            "\"10 GB\"",
            "\"65 W\"",
            "\"workload:a\"",
            "\"http://a\"",
            "\"0.0.0.0\"",
            "\"dense-2-2\"",
            "2020-01-01",
            "[\"a\"]",
            "'''\n\n'''",
        ])
        .prop_map(str::to_owned),
        "[a-z0-9 .:/-]{0,12}".prop_map(|text| format!("\"{text}\"")),
    ];
    let header = prop::sample::select(vec![
        "[site.main]",
        "[site.b]",
        "[pool.a]",
        "[pool.b]",
        "[store.main]",
        "[queue.default]",
        "[workload.a]",
        "[workload.b]",
        "[service.a]",
        "[service.b]",
        "[target]",
        "[fabric.x]",
        "[[pool]]",
        "[pool]",
        "[a.b.c]",
    ]);
    prop_oneof![
        2 => header.prop_map(str::to_owned),
        5 => (key, value).prop_map(|(key, value)| format!("{key} = {value}")),
    ]
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        never_panics(&String::from_utf8_lossy(&bytes))?;
    }

    #[test]
    fn no_text_panics(text in any::<String>()) {
        never_panics(&text)?;
    }

    #[test]
    fn no_nearly_right_file_panics(lines in prop::collection::vec(line(), 0..30)) {
        never_panics(&lines.join("\n"))?;
    }

    /// Bytes of a good file that are changed, dropped or doubled.
    #[test]
    fn no_damaged_template_panics(which in 0..TEMPLATES.len(), edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3), 1..6)) {
        let mut bytes = TEMPLATES.get(which).unwrap().1.as_bytes().to_vec();
        for (place, byte, kind) in edits {
            let at = place.index(bytes.len());
            match kind {
                0 => { bytes.remove(at); }
                1 => bytes.insert(at, byte),
                _ => { if let Some(old) = bytes.get_mut(at) { *old = byte; } }
            }
        }
        never_panics(&String::from_utf8_lossy(&bytes))?;
    }
}

#[test]
fn a_file_beyond_the_limit_is_refused_unread() {
    let text = "#".repeat((1 << 20) + 1);
    let report = Blueprint::parse("hall.toml", &text).unwrap_err();
    assert_eq!(report.problems.first().unwrap().code, Code::TOO_LARGE);
    assert!(report.render().len() < 1_000);
}

#[test]
fn deep_nesting_is_refused_without_overflow() {
    never_panics(&format!("a = {}", "[".repeat(100_000))).unwrap();
    never_panics(&format!("a = {}", "{a=".repeat(100_000))).unwrap();
    never_panics(&format!("[{}a]", "a.".repeat(100_000))).unwrap();
}

#[test]
fn thousands_of_problems_are_counted_and_the_first_shown() {
    let keys = (0..5_000).map(|number| format!("key{number} = 1")).collect::<Vec<_>>().join("\n");
    let report =
        Blueprint::parse("hall.toml", &format!("schema = 1\nname = \"lab\"\n[pool.a]\nnodes = 1\n{keys}")).unwrap_err();
    assert_eq!((report.problems.len(), report.more), (100, 4_900));
}

/// The largest files that refer to each other as badly as possible; they end in about a second, not in hours.
#[test]
fn the_largest_files_are_read_in_bounded_time() {
    let queues: String = (0..4_000).fold(String::new(), |text, number| text + &format!("[queue.q{number}x]\n"));
    let jobs: String =
        (0..4_000).fold(String::new(), |text, number| text + &format!("[workload.w{number}]\nqueue=\"q{number}y\"\n"));
    let report = Blueprint::parse("hall.toml", &format!("{queues}{jobs}")).unwrap_err();
    assert!(report.more > 4_000);
    let many: String = (0..80_000).fold(String::new(), |text, number| text + &format!("[pool.{number}]\n"));
    let text = many.get(..1 << 20).unwrap_or(&many);
    assert!(Blueprint::parse("hall.toml", text).is_err());
    let keys: String = (0..70_000).fold(String::new(), |text, number| text + &format!("k{number}=1\n"));
    let report = Blueprint::parse("hall.toml", &format!("[workload.a]\nkind=\"command\"\n[workload.a.env]\n{keys}"))
        .unwrap_err();
    assert!(report.more > 60_000);
}
