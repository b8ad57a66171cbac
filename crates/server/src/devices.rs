//! Which accelerators of this machine stand behind the slots of the hall.
//!
//! A pool that names an accelerator gets this machine's devices of that model, node by node and slot by slot in the driver's
//! order; a device is behind one slot at most. Slots beyond them, and pools that name none, are bounds on how many ranks run.
//! Invariant: the same blueprint on the same machine gives the same device for a slot, so that it outlives a restart.

use std::collections::BTreeMap;

use dh_blueprint::{Executor, Settings};
use dh_core::NodeId;
use dh_exec::devices::{Device, Devices};

/// Devices behind slots.
#[derive(Debug, Default)]
pub(crate) struct Behind {
    nodes: BTreeMap<NodeId, Vec<Device>>,
    /// Of each pool that names an accelerator: its name, the accelerator's, slots, and devices behind them.
    pools: Vec<(String, String, usize, usize)>,
    /// What drivers that do not answer said.
    drivers: Vec<String>,
    /// Whether slots are places of this machine at all.
    looked: bool,
    /// The drivers, for whoever wants readings.
    devices: Option<Devices>,
}

/// Looks at this machine for the slots of `settings`; nothing is behind them if that fails.
pub(crate) async fn behind(settings: &Settings) -> Behind {
    if settings.target.executor != Executor::Local {
        return Behind::default();
    }
    let settings = settings.clone();
    let look = move || {
        let devices = Devices::discover();
        let behind = Behind { drivers: devices.notes().to_vec(), ..Behind::new(&settings, devices.all()) };
        Behind { devices: Some(devices), ..behind }
    };
    tokio::task::spawn_blocking(look).await.unwrap_or_default()
}

impl Behind {
    /// Deals `devices` out to the slots of `settings`, whose nodes count as [`crate::nodes::nodes`] lists them.
    pub(crate) fn new(settings: &Settings, devices: &[Device]) -> Self {
        let mut free: Vec<(&str, &Device)> = devices
            .iter()
            .filter_map(|device| {
                let item = settings.catalog.accelerator_of_driver(&device.name, device.memory)?;
                Some((item.name.as_str(), device))
            })
            .collect();
        let mut behind = Self { looked: true, ..Self::default() };
        let mut node = 0;
        for (name, pool) in settings.pools.iter().filter(|(_, pool)| pool.slots > 0) {
            let item = pool.item(&settings.catalog);
            let wanted = item.as_ref().and_then(|item| Some(item.accelerator.as_ref()?.value.clone()));
            let mut dealt = 0;
            for _ in 0..pool.nodes {
                let mut here = Vec::new();
                if let Some(wanted) = &wanted {
                    for _ in 0..pool.slots {
                        let Some(place) = free.iter().position(|(item, _)| item == wanted) else { break };
                        here.push(free.remove(place).1.clone());
                    }
                }
                dealt += here.len();
                if !here.is_empty() {
                    behind.nodes.insert(NodeId(node), here);
                }
                node += 1;
            }
            if let Some(wanted) = wanted {
                let slots = usize::try_from(u64::from(pool.nodes) * u64::from(pool.slots)).unwrap_or(usize::MAX);
                behind.pools.push((name.clone(), wanted, slots, dealt));
            }
        }
        behind
    }

    /// The devices behind `slots` of `node`; none if any of them has none, for a rank with some of its devices is no rank.
    pub(crate) fn of(&self, node: NodeId, slots: &[u32]) -> Vec<Device> {
        let there = self.nodes.get(&node).map(Vec::as_slice).unwrap_or_default();
        let device = |slot: &u32| there.get(usize::try_from(*slot).ok()?).cloned();
        slots.iter().map(device).collect::<Option<Vec<_>>>().unwrap_or_default()
    }

    /// The drivers, if there are devices behind slots; taken once.
    pub(crate) fn take_drivers(&mut self) -> Option<Devices> {
        self.devices.take().filter(|_| !self.nodes.is_empty())
    }

    /// What people must know of it.
    pub(crate) fn notes(&self) -> Vec<String> {
        let mut notes = self.drivers.clone();
        if !self.looked {
            return notes;
        }
        for (pool, accelerator, slots, dealt) in &self.pools {
            if dealt < slots {
                notes.push(format!(
                    "pool `{pool}` declares {slots} of {accelerator}, this machine has {dealt}: ranks on the other slots run without one"
                ));
            }
        }
        if self.pools.iter().all(|(_, _, _, dealt)| *dealt == 0) {
            notes.push(
                "accelerator slots are CPU slots here: they bound how many ranks run, not what a rank uses".to_owned(),
            );
        } else {
            notes.push(
                "a rank is shown its accelerators by its environment; a program that overrides that reaches others"
                    .to_owned(),
            );
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use dh_blueprint::Blueprint;
    use dh_units::Bytes;

    use super::*;

    fn device(index: u32, name: &str, mebibytes: u64) -> Device {
        Device {
            kind: "nvidia",
            index,
            id: format!("GPU-{index}"),
            name: name.to_owned(),
            memory: Some(Bytes(mebibytes << 20)),
            limit: None,
            sliced: false,
        }
    }

    fn settings(pools: &str) -> Settings {
        let text = format!("schema = 1\nname = \"t\"\n{pools}");
        Blueprint::parse("t", &text).map_err(|report| report.to_string()).unwrap()
    }

    fn ids(devices: &[Device]) -> Vec<&str> {
        devices.iter().map(|device| device.id.as_str()).collect()
    }

    #[test]
    fn slots_get_devices_of_their_model_node_by_node() {
        let settings = settings(
            "[pool.a]\nnodes = 1\nslots = 2\n[pool.b]\nnodes = 2\naccelerator = \"h200-141gb-sxm\"\naccelerators_per_node = 2\n",
        );
        let machine = [
            device(0, "NVIDIA L4", 23_034),
            device(1, "NVIDIA H200", 143_771),
            device(2, "NVIDIA H200", 143_771),
            device(3, "NVIDIA H200", 143_771),
        ];
        let behind = Behind::new(&settings, &machine);
        assert_eq!(ids(&behind.of(NodeId(1), &[1, 0])), ["GPU-2", "GPU-1"]);
        assert_eq!(ids(&behind.of(NodeId(2), &[0])), ["GPU-3"]);
        for nothing in [behind.of(NodeId(0), &[0]), behind.of(NodeId(2), &[0, 1]), behind.of(NodeId(9), &[0])] {
            assert_eq!(nothing, []);
        }
        assert!(behind.notes()[0].contains("declares 4 of h200-141gb-sxm, this machine has 3"), "{:?}", behind.notes());
    }

    #[test]
    fn a_machine_without_devices_has_slots_of_its_processor() {
        let behind = Behind::new(&settings("[pool.a]\nnodes = 1\nslots = 2\n"), &[]);
        assert_eq!(behind.of(NodeId(0), &[0, 1]), []);
        assert!(behind.notes().iter().any(|note| note.contains("CPU slots")), "{:?}", behind.notes());
    }
}
