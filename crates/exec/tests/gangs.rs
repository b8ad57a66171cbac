//! Real processes: this program is the test, the warden of its tasks, and the server that is killed.
//!
//! `cargo test -p dh-exec --test gangs NAME` runs the tests whose names contain NAME.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::allow_attributes,
    clippy::print_stdout,
    reason = "tests fail by panicking and talk to whoever runs them"
)]

#[path = "gangs/bench.rs"]
mod bench;
#[path = "gangs/crash.rs"]
mod crash;
#[path = "gangs/rig.rs"]
mod rig;
#[path = "gangs/storm.rs"]
mod storm;
#[path = "gangs/tasks.rs"]
mod tasks;

use std::panic::catch_unwind;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

type Test = (&'static str, fn());

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["warden", record] => return dh_exec::warden::main(Path::new(record)),
        ["serve", state, ranks, command @ ..] => {
            return crash::serve(Path::new(state), ranks.parse().unwrap(), command);
        }
        _ => {}
    }
    let wanted = arguments.iter().find(|word| !word.starts_with('-')).map_or("", String::as_str);
    let mut failed = Vec::new();
    let tests = [tasks::TESTS, crash::TESTS, storm::TESTS, bench::TESTS].concat();
    for (name, test) in tests.into_iter().filter(|(name, _)| name.contains(wanted)) {
        let start = Instant::now();
        let verdict = if catch_unwind(test).is_ok() { "ok" } else { "FAILED" };
        println!("test {name} ... {verdict} ({} ms)", start.elapsed().as_millis());
        if verdict != "ok" {
            failed.push(name);
        }
    }
    println!("\ntest result: {} failed {failed:?}", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
