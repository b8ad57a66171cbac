//! The gate and the longer proofs: `cargo xtask test`, `cargo xtask prove`.
#![expect(clippy::print_stderr, reason = "a command-line tool talks to people on stderr")]

mod accuracy;
mod clients;
mod gate;
mod kubernetes;
mod layers;
mod prove;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  test     the whole gate: format, tidy, clippy, tests, documentation (what CI runs)
  tidy     only the style and layer checks; takes a second
  clients  only installs the real clients that the tests use, into target/clients
  servers  only installs the real servers that the tests start (PostgreSQL, Slurm, PyTorch), from Debian, as root
  accuracy writes docs/accuracy.md and its pictures from data/published; --held-out also fits again without each source
  prove    the long suites: storms of events and small halls against the deciding core, its digests without optimisation,
           many more crashes of the server under load, every model fitted again without each source; --events N (1e8, 10M) plays so
           many events in storms and in small halls, --only hall nothing else; --only store proves the store alone: --images N
           disks after a power cut, errors at every operation, --kills N of the real program, --inputs N to each fuzz target;
           --only frameworks runs TensorFlow, Ray and Spark as jobs (installs them into target/frameworks; as root, with Java);
           --only kubernetes runs gangs on a real API server and scheduler (builds them into target/kubernetes from Debian's
           source, some ten minutes; or DATAHALL_KUBERNETES names a folder that has kube-apiserver and kube-scheduler)
";

fn main() -> ExitCode {
    let command = std::env::args().nth(1).unwrap_or_default();
    let outcome = match command.as_str() {
        "test" => gate::run(),
        "tidy" => tidy::run().and_then(|()| layers::run()),
        "clients" => clients::install().map(|_| ()),
        "servers" => clients::install_servers(),
        "accuracy" => accuracy::run(std::env::args().nth(2).as_deref()),
        "prove" => prove::run(&std::env::args().skip(2).collect::<Vec<_>>()),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(if command == "help" || command == "--help" { 0 } else { 2 });
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}
