//! The blueprint of this machine: its accelerators where its drivers tell of any, else shares of its processor.

use dh_blueprint::{AcceleratorItem, Catalog};
use dh_exec::devices::Device;

/// The text. Accelerators of several models become the one of which there are most: a pool's nodes are equal.
pub(super) fn blueprint(devices: &[Device], notes: &[String], cores: usize) -> String {
    let mut text = vec!["# This machine as its drivers tell of it.\nschema = 1\nname = \"here\"\n".to_owned()];
    for note in notes {
        text.push(format!("# A driver that is there does not answer. {}", one_line(note)));
    }
    let catalog = Catalog::builtin();
    let known = |device: &Device| catalog.accelerator_of_driver(&device.name, device.memory);
    let mut counts: Vec<(&AcceleratorItem, u32)> = Vec::new();
    for device in devices {
        match known(device) {
            Some(item) => match counts.iter_mut().find(|(other, _)| other.name == item.name) {
                Some((_, count)) => *count += 1,
                None => counts.push((item, 1)),
            },
            None => text.push(format!(
                    "# The catalogue does not have `{}`: describe it in [catalog.accelerator.NAME] (`datahall catalog accelerator`).",
                    one_line(&device.name)
                ),
            ),
        }
    }
    // The first of those of which there are most; without a rated power it cannot make a node.
    let most = counts.iter().map(|(_, count)| *count).max().unwrap_or(0);
    let chosen = counts.iter().find(|(item, count)| *count == most && item.tdp.is_some());
    for (item, count) in counts.iter().filter(|(item, _)| Some(&item.name) != chosen.map(|(item, _)| &item.name)) {
        text.push(format!("# Left out, since the nodes of a pool are equal: {count} x {}.", item.name));
    }
    text.push("[pool.local]\nnodes = 1".to_owned());
    if let Some((item, count)) = chosen {
        text.push(format!("accelerator = \"{}\"\naccelerators_per_node = {count}", item.name));
    } else {
        text.push(format!(
            "# Places for ranks and engines; here they are shares of the processor.\nslots = {}",
            cores.max(1)
        ));
    }
    text.push("\n[service.chat]\nmodel = \"smollm2-135m-instruct\"\n".to_owned());
    text.join("\n")
}

/// What a driver says, in a comment: it must not end the line.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
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

    /// What is written is a blueprint; its slots are told.
    fn slots(devices: &[Device]) -> (u64, String) {
        let text = blueprint(devices, &["nvidia: the library\nis too old".to_owned()], 6);
        let settings = Blueprint::parse("here", &text).map_err(|report| report.to_string());
        (settings.as_ref().map(dh_blueprint::Settings::slots).unwrap_or_default(), text)
    }

    #[test]
    fn each_accelerator_is_a_slot() {
        let (slots, text) =
            slots(&[device(0, "NVIDIA H100 80GB HBM3", 81_559), device(1, "NVIDIA H100 80GB HBM3", 81_559)]);
        assert_eq!(slots, 2);
        assert!(text.contains("accelerator = \"h100-80gb-sxm\""), "{text}");
    }

    #[test]
    fn without_accelerators_cores_are_slots() {
        assert_eq!(slots(&[]).0, 6);
    }

    #[test]
    fn what_is_left_out_is_said() {
        let (slots, text) = slots(&[
            device(0, "NVIDIA L4", 23_034),
            device(1, "NVIDIA H200", 143_771),
            device(2, "NVIDIA H200", 143_771),
            device(3, "Unheard\nof", 1_024),
        ]);
        assert_eq!(slots, 2);
        assert!(text.contains("Left out, since the nodes of a pool are equal: 1 x l4."), "{text}");
        assert!(text.contains("does not have `Unheard of`"), "{text}");
    }
}
