//! `datahall`: your AI data center, as code. This file only wires.

mod api;
mod batch_script;
mod blueprint_file;
mod commands;
mod demo;
mod failure;
mod fetch;
mod logging;
mod output;
mod place;
mod secret_source;
mod store_client;
mod trace_file;
mod ui;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    // One is started for every rank: it does not wait for the whole command line to be built, which reads it the same.
    let mut words = std::env::args_os().skip(1);
    if let (Some(verb), Some(record), None) = (words.next(), words.next(), words.next())
        && verb == "warden"
        && record.as_encoded_bytes().first().is_some_and(|first| *first == b'/')
    {
        return dh_exec::warden::main(Path::new(&record));
    }
    commands::run(std::env::args_os())
}
