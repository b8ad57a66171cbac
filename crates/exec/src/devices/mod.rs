//! The accelerators of this machine: what there is, how a program is shown some of them, and what they draw.
//!
//! Adding a kind: a file beside this one, and a line in [`KINDS`]. Invariants: nothing is changed on a device; a kind whose driver
//! is not there is no error, one whose driver answers wrongly is a note and hides no other kind. Cost: opening takes some tens of
//! milliseconds with a driver (its library is loaded once) and some file reads without; a reading is one call of the driver.

mod amd;
mod nvidia;
#[cfg(test)]
mod tests;
mod tpu;

use std::fmt::Debug;
use std::path::Path;

use dh_units::{Bytes, Joules, Watts};
use serde::Serialize;

/// One accelerator.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Device {
    /// Its kind, a name in [`KINDS`].
    pub kind: &'static str,
    /// Its number among those of its kind, from 0.
    pub index: u32,
    /// What the variables of its kind call it; stays the same over restarts where the driver offers that.
    pub id: String,
    /// What its driver calls it.
    pub name: String,
    /// All of its memory; none where the driver does not say.
    pub memory: Option<Bytes>,
    /// The power that it is held to; none where the driver does not say.
    pub limit: Option<Watts>,
    /// Whether it is cut into slices, so that programs see these instead.
    pub sliced: bool,
}

/// A device at one moment; what the driver does not say is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Reading {
    /// Energy since the driver was loaded: the difference of two readings is what was used between them.
    pub energy: Option<Joules>,
    /// Power.
    pub power: Option<Watts>,
    /// Memory in use.
    pub used: Option<Bytes>,
    /// Share of the last moment in which it worked, 0 to 1.
    pub busy: Option<f64>,
    /// Degrees Celsius.
    pub temperature: Option<f64>,
}

/// The devices of one kind, by way of its driver.
trait Source: Debug + Send + Sync {
    /// All of them, by index.
    fn devices(&self) -> Result<Vec<Device>, String>;
    /// One of them, now.
    fn read(&self, device: &Device) -> Reading;
}

/// A driver that answers, or none if there is none; or what is wrong with it and what to do.
type Opened = Result<Option<Box<dyn Source>>, String>;

/// One kind of accelerator.
#[derive(Debug)]
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// What it is, in a sentence.
    pub about: &'static str,
    /// The variables by which a program is shown some of them, each a list of [`Device::id`] with commas.
    pub visible: &'static [&'static str],
    /// Opens its driver under a root of the file system, `/` but in tests.
    open: fn(&Path) -> Opened,
}

/// Every kind.
pub static KINDS: &[Kind] = &[
    Kind {
        name: "nvidia",
        about: "GPUs of NVIDIA, by its management library (NVML)",
        visible: &["CUDA_VISIBLE_DEVICES"],
        open: nvidia::open,
    },
    Kind {
        name: "amd",
        about: "GPUs of AMD, by what the kernel's driver says under /sys",
        visible: &["ROCR_VISIBLE_DEVICES"],
        open: |root| Ok(amd::open(root)),
    },
    Kind {
        name: "tpu",
        about: "TPUs of Google, by the machine's list of PCI devices",
        visible: &["TPU_VISIBLE_CHIPS", "TPU_VISIBLE_DEVICES"],
        open: |root| Ok(tpu::open(root)),
    },
];

/// What this machine has.
#[derive(Debug, Default)]
pub struct Devices {
    found: Vec<Device>,
    notes: Vec<String>,
    sources: Vec<(&'static str, Box<dyn Source>)>,
}

impl Devices {
    /// Looks at this machine. Blocks for as long as drivers take to answer.
    pub fn discover() -> Self {
        Self::under(Path::new("/"))
    }

    fn under(root: &Path) -> Self {
        let mut all = Self::default();
        for kind in KINDS {
            let found = (kind.open)(root)
                .and_then(|source| source.map(|source| source.devices().map(|devices| (source, devices))).transpose());
            match found {
                Ok(None) => {}
                Ok(Some((source, devices))) => {
                    all.found.extend(devices);
                    all.sources.push((kind.name, source));
                }
                Err(why) => all.notes.push(format!("{}: {why}", kind.name)),
            }
        }
        all
    }

    /// The devices, kind by kind in the order of [`KINDS`], each kind by index.
    pub fn all(&self) -> &[Device] {
        &self.found
    }

    /// What went wrong with drivers that are there, and what to do.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// A device at this moment.
    pub fn read(&self, device: &Device) -> Reading {
        let source = self.sources.iter().find(|(kind, _)| *kind == device.kind);
        source.map_or_else(Reading::default, |(_, source)| source.read(device))
    }
}

/// The variables that show a program `devices` and no other, with their values; a kind of which there is none in `devices` is
/// hidden whole, so that no rank reaches what is not its own.
pub fn visible(devices: &[&Device]) -> Vec<(&'static str, String)> {
    let mut variables = Vec::new();
    for kind in KINDS {
        let ids: Vec<&str> =
            devices.iter().filter(|device| device.kind == kind.name).map(|device| device.id.as_str()).collect();
        // The runtimes of NVIDIA and AMD take an empty list for no device; TPU programs would not start, and need not be told.
        if ids.is_empty() && kind.name == "tpu" {
            continue;
        }
        variables.extend(kind.visible.iter().map(|name| (*name, ids.join(","))));
    }
    variables
}

/// The first line of a small file; none if it cannot be read or is empty.
fn line(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().next()?.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

/// A file that holds one whole number, decimal or `0x...`.
fn number(path: &Path) -> Option<u64> {
    let line = line(path)?;
    match line.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => line.parse().ok(),
    }
}

/// What is in a folder, by name; nothing if it cannot be read. Bound: 4,096 entries, more than any machine has devices.
fn entries(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .map(|entries| entries.take(4_096).filter_map(|entry| Some(entry.ok()?.path())).collect())
        .unwrap_or_default();
    found.sort();
    found
}
