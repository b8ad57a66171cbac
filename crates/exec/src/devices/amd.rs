//! GPUs of AMD.
//!
//! The kernel's compute driver lists its nodes under `/sys/class/kfd/kfd/topology/nodes`, processors among them (their `gpu_id` is
//! 0); what a GPU draws and has in use is beside its render node. Sources: Linux, `Documentation/gpu/amdgpu` (`gpu_busy_percent`,
//! `mem_info_vram_*`, `power1_average` in microwatts, `temp1_input` in thousandths of a degree); `ROCm` documentation, GPU isolation
//! (`ROCR_VISIBLE_DEVICES` takes `GPU-` and the unique id in hexadecimal, or an index).

use std::path::{Path, PathBuf};

use dh_units::{Bytes, Watts, real};

use super::{Device, Reading, Source, entries, line, number};

#[derive(Debug)]
struct Amd {
    root: PathBuf,
}

pub(super) fn open(root: &Path) -> Option<Box<dyn Source>> {
    let nodes = root.join("sys/class/kfd/kfd/topology/nodes");
    nodes.is_dir().then(|| Box::new(Amd { root: root.to_owned() }) as Box<dyn Source>)
}

impl Amd {
    /// Folders of the nodes that are GPUs, in the driver's order, which is that of indices.
    fn nodes(&self) -> Vec<PathBuf> {
        let mut nodes: Vec<(u64, PathBuf)> = entries(&self.root.join("sys/class/kfd/kfd/topology/nodes"))
            .into_iter()
            .filter(|node| number(&node.join("gpu_id")).is_some_and(|id| id != 0))
            .filter_map(|node| Some((node.file_name()?.to_str()?.parse().ok()?, node)))
            .collect();
        nodes.sort();
        nodes.into_iter().map(|(_, node)| node).collect()
    }

    /// What `node`'s list of properties says.
    fn property(node: &Path, name: &str) -> Option<u64> {
        let text = std::fs::read_to_string(node.join("properties")).ok()?;
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
    }

    /// The folder of the graphics driver's device.
    fn card(&self, node: &Path) -> Option<PathBuf> {
        let minor = Self::property(node, "drm_render_minor")?;
        Some(self.root.join(format!("sys/class/drm/renderD{minor}/device")))
    }

    fn sensor(card: &Path, name: &str) -> Option<u64> {
        entries(&card.join("hwmon")).iter().find_map(|monitor| number(&monitor.join(name)))
    }
}

impl Source for Amd {
    fn devices(&self) -> Result<Vec<Device>, String> {
        let mut found = Vec::new();
        for (index, node) in (0..).zip(self.nodes()) {
            let card = self.card(&node);
            let unique = Self::property(&node, "unique_id").filter(|id| *id != 0);
            let version = Self::property(&node, "gfx_target_version").unwrap_or_default();
            let name = card.as_deref().and_then(|card| line(&card.join("product_name")));
            found.push(Device {
                kind: "amd",
                index,
                id: unique.map_or_else(|| index.to_string(), |id| format!("GPU-{id:016x}")),
                name: name.unwrap_or_else(|| {
                    format!("AMD gfx{}{:x}{:x}", version / 10_000, version / 100 % 100, version % 100)
                }),
                memory: card.as_deref().and_then(|card| number(&card.join("mem_info_vram_total"))).map(Bytes),
                limit: card.as_deref().and_then(|card| Self::sensor(card, "power1_cap")).map(microwatts),
                sliced: card
                    .as_deref()
                    .and_then(|card| line(&card.join("current_compute_partition")))
                    .is_some_and(|mode| mode != "SPX"),
            });
        }
        Ok(found)
    }

    fn read(&self, device: &Device) -> Reading {
        let node = usize::try_from(device.index).ok().and_then(|index| self.nodes().into_iter().nth(index));
        let Some(card) = node.and_then(|node| self.card(&node)) else { return Reading::default() };
        let power = Self::sensor(&card, "power1_average").or_else(|| Self::sensor(&card, "power1_input"));
        Reading {
            energy: None,
            power: power.map(microwatts),
            used: number(&card.join("mem_info_vram_used")).map(Bytes),
            busy: number(&card.join("gpu_busy_percent")).map(|percent| real(percent) / 100.0),
            temperature: Self::sensor(&card, "temp1_input").map(|thousandths| real(thousandths) / 1e3),
        }
    }
}

fn microwatts(value: u64) -> Watts {
    Watts(real(value) / 1e6)
}
