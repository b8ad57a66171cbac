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
mod store_client;
mod trace_file;
mod ui;

use std::process::ExitCode;

fn main() -> ExitCode {
    commands::run(std::env::args_os())
}
