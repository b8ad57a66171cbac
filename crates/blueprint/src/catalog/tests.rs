//! Every built-in item is plausible, and own items go over built-in ones, so that a new file needs no test of its own.

mod models;

use std::collections::BTreeSet;

use dh_units::{BitsPerSec, Bytes, BytesPerSec, FlopPerSec, Usd, Watts};
use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::item::Item;
use super::*;
use crate::names::is_name;

fn catalog() -> &'static Catalog {
    Catalog::builtin()
}

/// Every file of one kind can be read, has a name that a blueprint can write, and a source for every number.
fn check_kind<T: Item>() {
    assert!(T::FILES.windows(2).all(|pair| pair[0].0 < pair[1].0));
    for (name, text) in T::FILES {
        let item: T = shelf::parse(name, text).unwrap_or_else(|report| panic!("{report}"));
        assert_eq!(item.name(), *name);
        assert!(is_name(name), "{name}");
        for field in item.fields() {
            let remark = ["title", "vendor", "notes"].contains(&field.key);
            assert_eq!(field.source.is_none(), remark, "{name}: {}", field.key);
            assert!(field.source.is_none_or(|source| source.len() >= 10), "{name}: {}", field.key);
            assert!(!field.value.is_empty(), "{name}: {}", field.key);
        }
        for key in T::COLUMNS {
            assert!(T::FILES.iter().any(|(_, text)| text.contains(&format!("\n{key} = "))), "{key}");
        }
        // A change of nothing changes nothing but where it was written.
        let own = Catalog::parse("x.toml", &format!("[catalog.{}.{name}]\n", T::KIND)).unwrap();
        let fields = |item: Option<&T>| item.map(Item::fields);
        assert_eq!(fields(T::own(&own).get(*name)), fields(Some(&item)), "{name}");
        assert_eq!(Catalog::parse("x.toml", &own.toml()).unwrap(), own, "{name}");
    }
    assert_eq!(catalog().names(T::KIND).len(), T::FILES.len());
    assert_eq!(catalog().all::<T>().count(), T::FILES.len());
    assert_eq!(catalog().summary(T::KIND).rows.len(), T::FILES.len());
}

#[test]
fn every_file_can_be_read_and_every_number_has_a_source() {
    for kind in Kind::ALL {
        of_kind!(kind, T => check_kind::<T>());
    }
}

#[test]
fn folders_are_called_like_the_kinds() {
    let script: BTreeSet<&str> = include_str!("../../build.rs").split('"').collect();
    for kind in Kind::ALL {
        assert!(script.contains(kind.plural()), "{kind}");
        assert_eq!((Kind::from_word(kind.word()), Kind::from_word(kind.plural())), (Some(kind), Some(kind)));
    }
    assert_eq!(Kind::from_word("gpu"), None);
}

#[test]
fn accelerators_are_plausible() {
    for item in catalog().accelerators() {
        let name = &item.name;
        if let (Some(bf16), Some(bandwidth)) = (&item.bf16, &item.bandwidth) {
            // Operations for each byte that keep both busy. Only an accelerator without matrix units would be below.
            let ridge = bf16.value.0 / bandwidth.value.0;
            assert!((50.0..700.0).contains(&ridge), "{name}: {ridge} FLOP/B");
        }
        if let Some(tdp) = &item.tdp {
            assert!((60.0..2_500.0).contains(&tdp.value.0), "{name}");
        }
        if let Some(memory) = &item.memory {
            assert!((Bytes(12_000_000_000)..Bytes(1_000_000_000_000)).contains(&memory.value), "{name}");
        }
        if let Some(bandwidth) = &item.bandwidth {
            assert!((BytesPerSec(1e11)..BytesPerSec(3e13)).contains(&bandwidth.value), "{name}");
        }
        if let Some(scale_up) = &item.scale_up {
            assert!((BytesPerSec(3e10)..BytesPerSec(2e12)).contains(&scale_up.value), "{name}");
        }
        if let (Some(measured), Some(peak)) = (&item.measured_matmul_bf16, &item.bf16) {
            assert!(measured.value < peak.value, "{name}");
        }
        let widths = [&item.fp64, &item.fp32, &item.tf32, &item.bf16, &item.fp8, &item.fp4];
        let speeds: Vec<FlopPerSec> = widths.into_iter().flatten().map(|speed| speed.value).collect();
        assert!(speeds.windows(2).all(|pair| pair[0] <= pair[1]), "{name}: narrower numbers are not slower");
        assert!(item.year.as_ref().is_none_or(|year| (2015..2035).contains(&year.value)), "{name}");
        assert!(item.price.as_ref().is_none_or(|price| (Usd(500.0)..Usd(100_000.0)).contains(&price.value)), "{name}");
    }
}

#[test]
fn nodes_are_plausible() {
    for item in catalog().nodes() {
        let name = &item.name;
        assert!((Watts(10.0)..Watts(250_000.0)).contains(&item.rated.value), "{name}");
        assert!(item.idle.iter().chain(&item.measured_max).all(|power| power.value <= item.rated.value), "{name}");
        let count = item.accelerators.as_ref().map_or(0, |count| count.value);
        assert_eq!(count > 0, item.accelerator.is_some(), "{name}");
        if let Some(accelerator) = &item.accelerator {
            let accelerator = catalog().accelerator(&accelerator.value).unwrap_or_else(|| panic!("{name}"));
            let tdp = accelerator.tdp.as_ref().map_or(Watts(50.0), |tdp| tdp.value);
            assert!(item.rated.value >= tdp * f64::from(count) * 0.8, "{name}");
        }
        if let Some(drive) = &item.drive {
            assert!(item.drives.is_some() && catalog().drive(&drive.value).is_some(), "{name}");
        }
        for (ports, speed) in [
            (&item.compute_ports, &item.compute_speed),
            (&item.storage_ports, &item.storage_speed),
            (&item.in_band_ports, &item.in_band_speed),
        ] {
            assert_eq!(ports.is_some(), speed.is_some(), "{name}");
        }
        assert!(item.height_u.as_ref().is_none_or(|height| (1..=48).contains(&height.value)), "{name}");
    }
}

#[test]
fn networks_and_drives_are_plausible() {
    let sold = BitsPerSec(1e9)..=BitsPerSec(1.6e12);
    for item in catalog().switches() {
        let name = &item.name;
        assert!(sold.contains(&item.speed.value), "{name}");
        assert!((8..=512).contains(&item.ports.value), "{name}");
        if let (Some(cages), Some(each)) = (&item.cages, &item.ports_per_cage) {
            assert_eq!(cages.value * each.value, item.ports.value, "{name}");
        }
        if let Some(throughput) = &item.throughput {
            // Some makers count a bit once, others at both of its ports.
            let times = throughput.value / (item.speed.value * f64::from(item.ports.value));
            assert!((times - 1.0).abs() < 0.01 || (times - 2.0).abs() < 0.01, "{name}: {times}");
        }
        assert!(item.power.as_ref().is_none_or(|power| (Watts(50.0)..Watts(5_000.0)).contains(&power.value)), "{name}");
    }
    for item in catalog().cables() {
        assert!(sold.contains(&item.speed.value), "{}", item.name);
        assert!(item.reach.as_ref().is_some_and(|reach| (1.0..=10_000.0).contains(&reach.value.0)), "{}", item.name);
        assert!(item.power.as_ref().is_some_and(|power| power.value < Watts(30.0)), "{}", item.name);
        assert!(item.price.as_ref().is_some_and(|price| price.value > Usd(0.0)), "{}", item.name);
    }
    for item in catalog().nics() {
        assert!(sold.contains(&item.speed.value), "{}", item.name);
    }
    for item in catalog().links() {
        assert!((BitsPerSec(1e11)..BitsPerSec(1e13)).contains(&item.speed.value), "{}", item.name);
    }
    for item in catalog().drives() {
        assert!(item.write.value <= item.read.value, "{}", item.name);
        let days = (item.capacity.value / item.write.value).0 / 86_400.0;
        assert!(days < 2.0, "{}: {days} days to fill", item.name);
    }
}

/// Rows of the collections that the items were made from: 39 accelerators, and three more that only power traces have;
/// 28 network devices.
#[test]
fn no_row_is_lost() {
    assert_eq!(catalog().accelerators().count(), 42);
    let rows = [
        (Kind::Nic, "connectx-7 connectx-8 connectx-9 pollara-400 vulcano efa-v2 efa-v3 efa-v4"),
        (Kind::Switch, "qm9700 q3400 sn5600 sn5400 sn6600 tomahawk-5 s9321-64e ais800-64d tomahawk-6"),
        (Kind::Cable, "mms4x00-ns400 mms4x00-ns-t mma4z00-ns400-t mcp7y00"),
        (Kind::Link, "hdr-port edr-port nvlink-4 nvlink-5-nvl72 pcie-4-x16 pcie-5-x16 pcie-6-x16"),
    ];
    let mut count = 0;
    for (kind, names) in rows {
        for name in names.split(' ') {
            assert!(catalog().describe(kind, name).is_some(), "{name}");
            count += 1;
        }
    }
    assert_eq!(count, 28);
}

/// Scale-up links are in bytes, ports in bits, both in one direction: `NVLink` 4 is 900 GB/s in both together.
#[test]
fn bits_and_bytes_are_not_mixed_up() {
    for (accelerator, link) in [("h100-80gb-sxm", "nvlink-4"), ("gb200", "nvlink-5-nvl72")] {
        let scale_up = catalog().accelerator(accelerator).unwrap().scale_up.clone().unwrap().value;
        assert_eq!(BitsPerSec::from(scale_up), catalog().link(link).unwrap().speed.value, "{link}");
    }
    let h100 = catalog().accelerator("h100-80gb-sxm").unwrap();
    assert_eq!(h100.scale_up.as_ref().unwrap().value, BytesPerSec(4.5e11));
    assert_eq!(h100.bandwidth.as_ref().unwrap().value, BytesPerSec(3.35e12));
    assert_eq!(catalog().node("dgx-h100").unwrap().compute_speed.as_ref().unwrap().value, BitsPerSec(4e11));
}

#[test]
fn near_names_are_offered() {
    assert_eq!(catalog().nearest(Kind::Node, "dgx-h10"), Some("dgx-h100"));
    assert_eq!(catalog().nearest(Kind::Model, "smollm2-135m"), Some("smollm2-135m-instruct"), "an alias");
    assert_eq!(catalog().nearest(Kind::Model, "smollm3"), None);
    assert_eq!(catalog().nearest(Kind::Model, "smollm2-135m-instrct"), Some("smollm2-135m-instruct"));
    assert_eq!(catalog().nearest(Kind::Switch, "qm970"), Some("qm9700"));
}

#[test]
fn a_number_without_source_is_refused_in_a_file() {
    let refused = |text: &str| shelf::parse::<NodeItem>("x", text).unwrap_err().problems[0].message.clone();
    assert_eq!(refused("title = \"X\"\nrated = { value = \"5 W\" }\n"), "`[rated]` needs the key `source`");
    assert_eq!(refused("title = \"X\"\nrated = \"5 W\"\nidle = \"1 W\"\n"), "the blueprint needs the key `source`");
    assert_eq!(refused("source = \"label\"\nrated = \"5 W\"\n"), "the blueprint needs the key `title`");
}

const OWN: &str = r#"
[catalog.accelerator.h100-quiet]
base = "h100-80gb-sxm"
tdp = "500 W"

[catalog.node.dgx-h100]
rated = "9 kW"

[catalog.node.quiet]
base = "dgx-h100"
title = "A quieter node"
accelerator = "h100-quiet"
price = { value = "$250000", source = "offer of 3 May" }

[catalog.drive.own-drive]
source = "data sheet"
capacity = "30 TB"
read = "7 GB/s"
write = { value = "3 GB/s", source = "measured" }
"#;

#[test]
fn an_own_item_changes_only_what_is_written() {
    let own = Catalog::parse("hall.toml", OWN).unwrap();
    let (ours, theirs) = (own.node("dgx-h100").unwrap(), catalog().node("dgx-h100").unwrap());
    assert_eq!((ours.rated.value, ours.rated.source.as_str()), (Watts(9_000.0), "blueprint"));
    assert_eq!((&ours.title, &ours.price, &ours.measured_max), (&theirs.title, &theirs.price, &theirs.measured_max));
    let quiet = own.node("quiet").unwrap();
    assert_eq!(quiet.rated.value, Watts(9_000.0), "a base may be an own item");
    assert_eq!(quiet.price.as_ref().unwrap().source, "offer of 3 May");
    assert_eq!(own.accelerator("h100-quiet").unwrap().memory.as_ref().unwrap().value, Bytes(80_000_000_000));
    let drive = own.drive("own-drive").unwrap();
    assert_eq!(
        (drive.title.as_str(), drive.read.source.as_str(), drive.write.source.as_str()),
        ("own-drive", "data sheet", "measured")
    );
    assert!(own.node("dgx-b200").is_some() && catalog().node("quiet").is_none());
    assert_eq!(own.names(Kind::Node).len(), catalog().names(Kind::Node).len() + 1);
    assert!(own.names(Kind::Node).is_sorted());
    assert_eq!(own.nearest(Kind::Node, "quiett"), Some("quiet"));
    assert_eq!(Catalog::default().with(own.clone()), own);
    assert_eq!(Catalog::default(), *catalog());
}

#[test]
fn own_items_can_be_printed_and_read_again() {
    let own = Catalog::parse("hall.toml", OWN).unwrap();
    assert_eq!(Catalog::parse("hall.toml", &own.toml()).unwrap(), own);
    assert_eq!(serde_json::from_str::<Catalog>(&serde_json::to_string(&own).unwrap()).unwrap(), own);
    assert_eq!(Catalog::default().toml(), "");
    assert_eq!(serde_json::to_string(catalog()).unwrap(), "{}");
    expect![[r#"
        [catalog.drive.own-drive]
        title = "own-drive"
        capacity = { value = "30 TB", source = "data sheet" }
        read = { value = "7 GB/s", source = "data sheet" }
        write = { value = "3 GB/s", source = "measured" }
    "#]]
    .assert_eq(&Catalog { drives: own.drives, ..Catalog::default() }.toml());
}

#[test]
fn one_item_and_one_kind_can_be_listed() {
    let fields = catalog().describe(Kind::Link, "nvlink-4").unwrap();
    let text: Vec<String> = fields.iter().map(|field| format!("{} = {}", field.key, field.value)).collect();
    expect![[r"
        title = NVLink 4 with NVSwitch, eight H100
        vendor = NVIDIA
        kind = scale-up
        ports = 8
        speed = 3.6 Tb/s
        in_network_reduction = SHARP (NVLS)
        fabric = NVLink
        notes = 450 GB/s per GPU each direction"]]
    .assert_eq(&text.join("\n"));
    assert_eq!(catalog().describe(Kind::Link, "nvlink-9"), None);
    let summary = catalog().summary(Kind::Drive);
    expect![[r"
        name | title | capacity | read | write | power | price
        hdd-24tb | Hard disk, 24 TB, 7200 rpm | 24 TB | 285 MB/s | 285 MB/s | 9.5 W | $450.00
        nvme-qlc-61tb | NVMe drive, QLC, 61.44 TB (Solidigm D5-P5336) | 61.4 TB | 7 GB/s | 3.3 GB/s | 25 W | $7000
        nvme-tlc-15tb | NVMe drive, TLC, 15.36 TB | 15.4 TB | 14 GB/s | 9 GB/s | 25 W | $2200"]]
    .assert_eq(
        &[vec![summary.columns.join(" | ")], summary.rows.iter().map(|row| row.join(" | ")).collect()]
            .concat()
            .join("\n"),
    );
}

#[expect(clippy::needless_pass_by_value, reason = "as in every test of reports")]
fn check_refused(text: &str, expected: Expect) {
    let report = Catalog::parse("hall.toml", text).unwrap_err();
    let lines = report.problems.iter().map(|problem| {
        let hint = problem.hint.as_ref().map_or(String::new(), |hint| format!(" ({hint})"));
        format!("{}:{}:{} {}{hint}", problem.code, problem.line, problem.column, problem.message)
    });
    expected.assert_eq(&lines.collect::<Vec<_>>().join("\n"));
}

#[test]
fn what_cannot_be_an_item_is_reported() {
    check_refused(
        "[catalog.nodes.a]\nrated = \"1 kW\"\n[catalog.gpu.a]\n",
        expect![[r"
            DH0103:1:10 the catalogue has no kind of item `nodes` (write `[catalog.node.NAME]`)
            DH0103:3:10 the catalogue has no kind of item `gpu` (known: accelerator, nic, switch, cable, link, drive, node, model, efficiency)"]],
    );
    check_refused(
        "[catalog.node.a]\nratd = \"1 kW\"\nidle = \"5 b\"\n",
        expect![[r#"
        DH0102:1:15 `[catalog.node.a]` needs the key `rated`
        DH0103:2:1 unknown key `ratd` (did you mean `rated`?)
        DH0201:3:8 `idle`: `5 b` is not a power: unknown unit `b` (write for example "700 W"; units: W, mW, kW, MW, GW)"#]],
    );
    check_refused(
        "[catalog.node.a]\nbase = \"dgx-h10\"\n[catalog.node.b]\nbase = \"c\"\n[catalog.node.c]\nrated = \"1 W\"\n",
        expect![[r"
            DH0303:2:8 the catalogue has no node `dgx-h10` to start from (did you mean `dgx-h100`?; a base is built in or written above)
            DH0303:4:8 the catalogue has no node `c` to start from (known: ascend-910b-8, cpu-storage, dgx-a100, dgx-b200, dgx-b300, dgx-h100, dgx-h200, gaudi3-8, gb200-nvl72, mi300x-8, this-machine, tpu-v4-cube, and 1 more; a base is built in or written above)"]],
    );
    check_refused(
        "[catalog.node.dgx-h100]\naccelerator = \"h100-80gb-sx\"\nidle = \"11 kW\"\ndrive = \"floppy\"\n",
        expect![[r"
            DH0303:2:1 the catalogue has no accelerator `h100-80gb-sx` (did you mean `h100-80gb-sxm`?)
            DH0408:3:1 `idle` is 11 kW, above the rated power of 10.2 kW
            DH0303:4:1 the catalogue has no drive `floppy` (known: hdd-24tb, nvme-qlc-61tb, nvme-tlc-15tb)"]],
    );
    check_refused(
        "[catalog.node.dgx-h100]\nrated = { value = \"0 W\", why = 1 }\n",
        expect![[r"
        DH0202:2:1 `rated` is zero, expected more
        DH0103:2:26 unknown key `why` (known: value, source)"]],
    );
    check_refused(
        "[catalog.model.llama-3-8b]\nkv_heads = 5\nattention = \"gqq\"\npackage = \"pypi\"\n",
        expect![[r#"
            DH0203:3:13 `attention` is `gqq`, expected "mha", "gqa", "mqa" or "mla" (did you mean "gqa"?)
            DH0101:4:11 `package` does not say registry, name and version (write package = "pypi:NAME==VERSION")"#]],
    );
    check_refused(
        "[catalog.model.llama-3-8b]\nkv_heads = 5\n",
        expect!["DH0202:2:1 32 `heads` cannot be shared equally among 5 `kv_heads`"],
    );
    check_refused(
        "[catalog.node]\nx = 1\n[other]\n",
        expect![[r"
            DH0101:2:5 `catalog.node.x` is a whole number, expected a table (write `[catalog.node.NAME]`, for example `[catalog.node.main]`)
            DH0103:3:2 unknown key `other` (known: catalog)"]],
    );
    check_refused(
        "catalog = 1\n",
        expect!["DH0101:1:11 `catalog` is a whole number, expected a table (write a section `[catalog]`)"],
    );
}

/// Lines of items that are nearly right.
fn line() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec![
        "base",
        "title",
        "source",
        "notes",
        "rated",
        "idle",
        "price",
        "accelerator",
        "drive",
        "capacity",
        "heads",
        "kv_heads",
        "package",
        "attention",
        "speed",
        "ports",
        "reach",
    ]);
    let value = prop::sample::select(vec![
        "\"dgx-h100\"",
        "\"llama-3-8b\"",
        "\"400 Gb/s\"",
        "\"1.2345678 kW\"",
        "\"700 W\"",
        "\"$12.345\"",
        "8",
        "0",
        "-1",
        "true",
        "\"a \\\"b\\\\ \\u0007 é\"",
        "\"nvme-tlc-15tb\"",
        "\"pypi:a==1\"",
        "\"gqa\"",
        "{ value = 16 }",
        "{ value = \"1 kW\", source = \"measured\" }",
        "{ source = \"x\" }",
        "[]",
    ]);
    let section = prop::sample::select(vec![
        "[catalog.node.dgx-h100]",
        "[catalog.node.mine]",
        "[catalog.model.llama-3-8b]",
        "[catalog.drive.mine]",
        "[catalog.cable.dac-400g]",
        "[catalog.switch.mine]",
        "[catalog.hat.mine]",
        "[catalog]",
    ]);
    prop_oneof![
        4 => (key, value).prop_map(|(key, value)| format!("{key} = {value}\n")),
        1 => section.prop_map(|section| format!("{section}\n")),
    ]
}

proptest! {
    #[test]
    fn whatever_is_accepted_can_be_printed_and_read_again(
        section in prop::sample::select(vec!["node.dgx-h100", "model.llama-3-8b", "drive.hdd-24tb", "cable.dac-400g"]),
        lines in prop::collection::vec(line(), 0..4),
    ) {
        let text = format!("[catalog.{section}]\n{}", lines.concat());
        match Catalog::parse("hall.toml", &text) {
            Ok(own) => prop_assert_eq!(Catalog::parse("hall.toml", &own.toml()).unwrap(), own),
            Err(report) => prop_assert!(!report.problems.is_empty()),
        }
    }
}
