//! A real API server and scheduler of Kubernetes, for `cargo xtask prove --only kubernetes`: built from Debian's source package, which
//! carries everything that it needs, by the Go of the same release. Nobody publishes the programs where package managers find them.
//!
//! Measured on two busy cores: see docs/running.md. What is built stays in `target/kubernetes`.
#![expect(clippy::print_stderr, reason = "a command-line tool talks to people on stderr")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::clients::{apt_install, run};
use crate::gate::root;

/// The release of Debian whose source is complete; later ones carry the command line alone.
const RELEASE: &str = "bookworm";
const SOURCE: &str = "kubernetes-1.20.2";
const GO: &str = "/usr/lib/go-1.19/bin";
const PROGRAMS: [&str; 2] = ["kube-apiserver", "kube-scheduler"];

/// What is missing, in Debian's words, each with a file that shows that it is there.
const NEEDED: &[(&str, &str)] = &[("/usr/bin/etcd", "etcd-server"), ("/usr/bin/openssl", "openssl")];
const NEEDED_TO_BUILD: &[(&str, &str)] = &[
    (GO, "golang-1.19-go"),
    ("/usr/bin/rsync", "rsync"),
    ("/usr/bin/make", "make"),
    ("/usr/bin/gcc", "gcc"),
    ("/usr/bin/dpkg-source", "dpkg-dev"),
];

/// Builds the programs if they are not there, and returns their folder. `DATAHALL_KUBERNETES` names one that has them already.
pub(crate) fn install() -> Result<PathBuf> {
    install_missing(NEEDED)?;
    let folder = match std::env::var_os("DATAHALL_KUBERNETES") {
        Some(folder) => PathBuf::from(folder),
        None => root()?.join("target").join("kubernetes"),
    };
    if PROGRAMS.iter().all(|program| folder.join(program).exists()) {
        eprintln!("    {} has {}", folder.display(), PROGRAMS.join(" and "));
        return Ok(folder);
    }
    install_missing(NEEDED_TO_BUILD)?;
    std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let begin = Instant::now();
    fetch(&folder).with_context(|| {
        format!(
            "the source of Kubernetes was not fetched: it needs a Debian or its mirror with the release {RELEASE}; or name a folder with \
             {} by DATAHALL_KUBERNETES",
            PROGRAMS.join(" and ")
        )
    })?;
    eprintln!(
        "    the source is here after {} s; building takes some ten minutes of two cores",
        begin.elapsed().as_secs()
    );
    build(&folder)?;
    eprintln!("    built after {} s", begin.elapsed().as_secs());
    Ok(folder)
}

fn install_missing(needed: &[(&str, &str)]) -> Result<()> {
    let missing = needed.iter().filter(|(sign, _)| !Path::new(sign).exists()).map(|(_, package)| *package);
    let missing: Vec<&str> = missing.collect();
    if missing.is_empty() { Ok(()) } else { apt_install(&missing) }
}

/// Downloads the source with a list of sources of its own, from the mirror that the system uses; the system's lists stay as they are.
fn fetch(folder: &Path) -> Result<()> {
    if folder.join(SOURCE).join("Makefile").exists() {
        return Ok(());
    }
    std::fs::create_dir_all(folder.join("lists").join("partial"))?;
    std::fs::write(folder.join("source.list"), format!("deb-src {} {RELEASE} main\n", mirror()?))?;
    let option = |name: &str, file: &str| format!("{name}={}", folder.join(file).display());
    let options = [
        option("Dir::Etc::SourceList", "source.list"),
        "Dir::Etc::SourceParts=/dev/null".to_owned(),
        option("Dir::State::Lists", "lists"),
        option("Dir::Cache::pkgcache", "packages.cache"),
        option("Dir::Cache::srcpkgcache", "sources.cache"),
    ];
    let apt = |words: &[&str]| {
        let mut command = Command::new("apt-get");
        command.current_dir(folder).arg("-qq");
        for option in &options {
            command.args(["-o", option]);
        }
        run(command.args(words))
    };
    apt(&["update"])?;
    apt(&["source", "--download-only", "kubernetes"])?;
    let archive = std::fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.to_string_lossy().ends_with(".orig.tar.gz"))
        .context("no source came")?;
    run(Command::new("tar").arg("xf").arg(archive).current_dir(folder))
}

/// Where the system gets its packages.
fn mirror() -> Result<String> {
    let of = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    let parts = of(Path::new("/etc/apt/sources.list.d/debian.sources"));
    let uri = parts.lines().find_map(|line| line.strip_prefix("URIs:")?.split_whitespace().next());
    let list = of(Path::new("/etc/apt/sources.list"));
    let old =
        list.lines().find_map(|line| line.strip_prefix("deb ")?.split_whitespace().find(|word| word.contains("://")));
    match uri.or(old) {
        Some(uri) => Ok(uri.to_owned()),
        None => bail!("neither /etc/apt/sources.list.d/debian.sources nor /etc/apt/sources.list names a mirror"),
    }
}

fn build(folder: &Path) -> Result<()> {
    let source = folder.join(SOURCE);
    let go_path = source.join(".go");
    let inside = go_path.join("src/k8s.io");
    std::fs::create_dir_all(&inside)?;
    if !inside.join("kubernetes").exists() {
        std::os::unix::fs::symlink("../../..", inside.join("kubernetes"))?;
    }
    let path = format!("{GO}:{}", std::env::var("PATH").unwrap_or_default());
    let home = folder.join("home");
    std::fs::create_dir_all(&home)?;
    let what = PROGRAMS.map(|program| format!("cmd/{program}")).join(" ");
    run(Command::new("nice")
        .args(["make", &format!("WHAT={what}")])
        .current_dir(&source)
        .env("PATH", path)
        .env("GOPATH", &go_path)
        .env("HOME", home)
        // Without what knows the clouds: a quarter of it less.
        .env("GOFLAGS", "-tags=providerless")
        // Everything is in the package: nothing is downloaded.
        .env("GOPROXY", "off")
        .env("CGO_ENABLED", "0")
        .envs([("KUBE_GIT_VERSION", "v1.20.2"), ("KUBE_GIT_MAJOR", "1"), ("KUBE_GIT_MINOR", "20")])
        .envs([("KUBE_GIT_COMMIT", "0"), ("KUBE_GIT_TREE_STATE", "clean")]))?;
    for program in PROGRAMS {
        std::fs::copy(source.join("_output/bin").join(program), folder.join(program))
            .with_context(|| format!("{program} was not built"))?;
    }
    Ok(())
}
