//! TPUs of Google.
//!
//! They are PCI devices of vendor 1ae0; the device's number says the generation. Numbers as JAX's `hardware_utils.py` lists them;
//! memory is that of the generation's chip. Drivers say neither power nor energy.

use std::path::{Path, PathBuf};

use super::{Device, Reading, Source, entries, number};

const GOOGLE: u64 = 0x1ae0;

/// Device numbers and the names of their generations.
const GENERATIONS: [(u64, &str); 6] = [
    (0x0027, "TPU v3"),
    (0x005e, "TPU v4"),
    (0x0062, "TPU v5p"),
    (0x0063, "TPU v5e"),
    (0x006f, "TPU v6e"),
    (0x0076, "TPU v7x"),
];

#[derive(Debug)]
struct Tpu {
    root: PathBuf,
}

pub(super) fn open(root: &Path) -> Option<Box<dyn Source>> {
    let source = Tpu { root: root.to_owned() };
    (!source.names().is_empty()).then(|| Box::new(source) as Box<dyn Source>)
}

impl Tpu {
    fn names(&self) -> Vec<&'static str> {
        let name = |device: &Path| {
            (number(&device.join("vendor"))? == GOOGLE).then_some(())?;
            let number = number(&device.join("device"))?;
            GENERATIONS.iter().find(|(known, _)| *known == number).map(|(_, name)| *name)
        };
        entries(&self.root.join("sys/bus/pci/devices")).iter().filter_map(|device| name(device)).collect()
    }
}

impl Source for Tpu {
    fn devices(&self) -> Result<Vec<Device>, String> {
        let device = |(index, name): (u32, &str)| Device {
            kind: "tpu",
            index,
            id: index.to_string(),
            name: name.to_owned(),
            memory: None,
            limit: None,
            sliced: false,
        };
        Ok((0..).zip(self.names()).map(device).collect())
    }

    fn read(&self, _device: &Device) -> Reading {
        Reading::default()
    }
}
