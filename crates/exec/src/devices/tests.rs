//! Machines made of files: what their drivers would say is read as it stands there.

use std::path::Path;

use super::*;

fn write(root: &Path, path: &str, text: &str) {
    let file = root.join(path);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, text).unwrap();
}

/// Two GPUs of AMD behind a processor; the second says little.
fn amd(root: &Path) {
    let nodes = "sys/class/kfd/kfd/topology/nodes";
    write(root, &format!("{nodes}/0/gpu_id"), "0\n");
    write(root, &format!("{nodes}/0/properties"), "cpu_cores_count 64\n");
    write(root, &format!("{nodes}/2/gpu_id"), "51374\n");
    write(
        root,
        &format!("{nodes}/2/properties"),
        "simd_count 1216\ngfx_target_version 90402\nunique_id 8412365847713424211\ndrm_render_minor 128\n",
    );
    write(root, &format!("{nodes}/10/gpu_id"), "7\n");
    write(root, &format!("{nodes}/10/properties"), "gfx_target_version 90010\nunique_id 0\ndrm_render_minor 136\n");
    let card = "sys/class/drm/renderD128/device";
    write(root, &format!("{card}/product_name"), "AMD Instinct MI300X OAM\n");
    write(root, &format!("{card}/mem_info_vram_total"), "206141652992\n");
    write(root, &format!("{card}/mem_info_vram_used"), "1073741824\n");
    write(root, &format!("{card}/gpu_busy_percent"), "37\n");
    write(root, &format!("{card}/current_compute_partition"), "CPX\n");
    write(root, &format!("{card}/hwmon/hwmon4/power1_average"), "141000000\n");
    write(root, &format!("{card}/hwmon/hwmon4/power1_cap"), "750000000\n");
    write(root, &format!("{card}/hwmon/hwmon4/temp1_input"), "43500\n");
}

#[test]
fn a_machine_without_drivers_has_no_devices_and_no_notes() {
    let root = tempfile::tempdir().unwrap();
    let devices = Devices::under(root.path());
    assert_eq!((devices.all(), devices.notes()), (&[][..], &[][..]));
}

#[test]
fn gpus_of_amd_are_listed_in_the_drivers_order_without_processors() {
    let root = tempfile::tempdir().unwrap();
    amd(root.path());
    let devices = Devices::under(root.path());
    let [first, second] = devices.all() else { panic!("{:?}", devices.all()) };
    assert_eq!(first.name, "AMD Instinct MI300X OAM");
    assert_eq!(first.id, format!("GPU-{:016x}", 8_412_365_847_713_424_211_u64));
    assert_eq!((first.index, first.memory, first.sliced), (0, Some(Bytes(206_141_652_992)), true));
    assert_eq!(first.limit, Some(Watts(750.0)));
    assert_eq!((second.index, second.id.as_str(), second.name.as_str()), (1, "1", "AMD gfx90a"));
    let reading = devices.read(first);
    assert_eq!((reading.power, reading.used, reading.energy), (Some(Watts(141.0)), Some(Bytes(1 << 30)), None));
    assert_eq!((reading.busy, reading.temperature), (Some(0.37), Some(43.5)));
    assert_eq!(devices.read(second), Reading::default());
}

#[test]
fn tpus_are_told_from_other_pci_devices_by_their_numbers() {
    let root = tempfile::tempdir().unwrap();
    for (slot, vendor, device) in [
        ("0000:00:04.0", "0x1ae0", "0x0063"),
        ("0000:00:05.0", "0x1ae0", "0x0063"),
        ("0000:00:06.0", "0x1ae0", "0x0042"),
        ("0000:00:07.0", "0x10de", "0x0063"),
    ] {
        let folder = format!("sys/bus/pci/devices/{slot}");
        write(root.path(), &format!("{folder}/vendor"), vendor);
        write(root.path(), &format!("{folder}/device"), device);
    }
    let devices = Devices::under(root.path());
    let found: Vec<_> = devices.all().iter().map(|device| (device.index, device.name.as_str())).collect();
    assert_eq!(found, [(0, "TPU v5e"), (1, "TPU v5e")]);
}

#[test]
fn a_rank_is_shown_its_own_devices_and_none_of_another_kind() {
    let root = tempfile::tempdir().unwrap();
    amd(root.path());
    let devices = Devices::under(root.path());
    let [first, second] = devices.all() else { panic!("{:?}", devices.all()) };
    assert_eq!(
        visible(&[first, second]),
        [("CUDA_VISIBLE_DEVICES", String::new()), ("ROCR_VISIBLE_DEVICES", format!("{},1", first.id))]
    );
    let tpu = Device { kind: "tpu", index: 3, id: "3".to_owned(), name: "TPU v5e".to_owned(), ..first.clone() };
    assert_eq!(
        visible(&[&tpu]),
        [
            ("CUDA_VISIBLE_DEVICES", String::new()),
            ("ROCR_VISIBLE_DEVICES", String::new()),
            ("TPU_VISIBLE_CHIPS", "3".to_owned()),
            ("TPU_VISIBLE_DEVICES", "3".to_owned()),
        ]
    );
}

#[test]
fn files_that_hold_no_number_are_as_if_they_were_not_there() {
    let root = tempfile::tempdir().unwrap();
    amd(root.path());
    write(root.path(), "sys/class/drm/renderD128/device/gpu_busy_percent", "unknown\n");
    write(root.path(), "sys/class/drm/renderD128/device/mem_info_vram_total", "\n");
    let devices = Devices::under(root.path());
    let first = devices.all().first().unwrap();
    assert_eq!((first.memory, devices.read(first).busy), (None, None));
}
