//! What a good blueprint becomes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]

use dh_blueprint::{
    Blueprint, Compression, Durability, Encryption, ErasureCode, ServiceSource, Settings, TierPlace, WorkloadKind,
    explain, template,
};
use dh_units::{Bytes, Seconds, UsdPerKwh, Watts};
use expect_test::expect;

fn parse(text: &str) -> Settings {
    Blueprint::parse("hall.toml", text).unwrap_or_else(|report| panic!("{report}"))
}

#[test]
fn the_first_hall_says_what_it_says() {
    let hall = parse(template("first-hall").unwrap());
    assert_eq!(hall.name, "first-hall");
    assert_eq!((hall.nodes(), hall.slots()), (1, 4));
    let store = hall.stores.get("main").unwrap();
    assert_eq!((store.capacity, store.cache), (Some(Bytes(2 << 30)), Bytes(96 << 20)));
    let fashion = hall.workloads.get("fashion").unwrap();
    assert_eq!((fashion.ranks, fashion.slots_per_rank, fashion.retries), (2, 1, 3));
    assert_eq!((fashion.queue.as_str(), fashion.store.as_str()), ("default", "main"));
    let WorkloadKind::Train(train) = &fashion.kind else { panic!("{fashion:?}") };
    assert_eq!(train.model.layers(), [784, 256, 10]);
    assert_eq!((train.epochs, train.batch, train.seed, train.checkpoint_every), (5, 64, 7, 300));
    assert_eq!(hall.services.get("chat").unwrap().source, ServiceSource::Model("smollm2-135m-instruct".to_owned()));
    assert_eq!(hall.services.get("fashion").unwrap().source, ServiceSource::Workload("fashion".to_owned()));
    assert!(hall.target.listen.is_loopback());
}

#[test]
fn what_is_not_written_has_its_default() {
    let hall = parse(template("laptop").unwrap());
    let site = hall.sites.get("main").unwrap();
    assert!((site.pue - 1.0).abs() < f64::EPSILON);
    assert_eq!(site.price, UsdPerKwh(0.15));
    let pool = hall.pools.get("local").unwrap();
    assert_eq!((pool.node.as_str(), pool.slots, pool.site.as_str()), ("this-machine", 4, "main"));
    let store = hall.stores.get("main").unwrap();
    assert_eq!((store.capacity, store.cache, store.compression), (None, Bytes(64 << 20), Compression::Auto));
    assert_eq!(hall.queues.get("default").unwrap().priority, 0);
    assert_eq!((hall.target.api_port, hall.target.gateway_port, hall.target.store_port), (4600, 4601, 4602));
}

#[test]
fn every_key_can_be_written() {
    let hall = parse(
        r#"
schema = 1
name = "big"
[site.north]
pue = 1.12
price = "$80/MWh"
carbon = "30 g/kWh"
[pool.train]
nodes = 127
node = "dgx-h100"
site = "north"
rated = "10.2 kW"
idle = "1.9 kW"
[store.hot]
capacity = "1 PB"
cache = "10 TiB"
compression = "off"
[queue.low]
priority = -5
max_jobs = 10
[queue.high]
[workload.any]
kind = "command"
command = ["python3", "train.py"]
env = { NCCL_DEBUG = "WARN" }
ranks = 127
slots_per_rank = 8
retries = 0
queue = "low"
store = "hot"
memory = "1.5 TiB"
time_limit = "30 d"
[service.other]
url = "http://127.0.0.1:8080/v1"
[target]
listen = "10.0.0.1"
expose = true
api_port = 0
gateway_port = 0
store_port = 0
executor = "local"
"#,
    );
    let pool = hall.pools.get("train").unwrap();
    assert_eq!((pool.slots, pool.rated, pool.idle), (8, Some(Watts(10_200.0)), Some(Watts(1_900.0))));
    assert_eq!(hall.slots(), 1_016);
    let any = hall.workloads.get("any").unwrap();
    assert_eq!((any.memory, any.time_limit), (Some(Bytes(3 << 39)), Some(Seconds(2_592_000.0))));
    assert_eq!(hall.target.api_port, 0);
    // What is printed for other programs reads back as the same settings.
    let json = serde_json::to_string(&hall).unwrap();
    assert_eq!(serde_json::from_str::<Settings>(&json).unwrap(), hall);
}

#[test]
fn a_report_is_json_too() {
    let report = Blueprint::parse("hall.toml", "schema = 1\nname = \"lab\"\n[pool.a]\nnode = 1\n").unwrap_err();
    expect![[r#"
        {
          "file": "hall.toml",
          "problems": [
            {
              "code": "DH0102",
              "file": "hall.toml",
              "line": 3,
              "column": 7,
              "span": {
                "start": 30,
                "end": 31
              },
              "message": "`[pool.a]` needs the key `nodes`",
              "hint": null,
              "source": "[pool.a]"
            },
            {
              "code": "DH0101",
              "file": "hall.toml",
              "line": 4,
              "column": 8,
              "span": {
                "start": 40,
                "end": 41
              },
              "message": "`node` is a whole number, expected a text in quotes",
              "hint": "put it in quotes: node = \"1\"",
              "source": "node = 1"
            }
          ],
          "more": 0
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&report).unwrap());
    assert!(report.problems.iter().all(|problem| explain(&problem.code.to_string()).is_some()));
}

#[test]
fn a_store_says_its_drives_and_its_tiers() {
    let hall = parse(
        r#"
schema = 1
name = "lab"
[pool.local]
nodes = 1
[store.main]
drives = ["/nvme/a", "/nvme/b", "/nvme/c"]
code = "2+1"
compression = "lz4"
durability = "group"
encryption = "store"
cold_after = "30 d"
promote_at = 5
[store.main.tier.cold]
drives = ["/hdd/a", "/hdd/b"]
[store.main.tier.far]
endpoint = "https://s3.example"
bucket = "hall"
keys = "/etc/datahall/far.json"
after = "180 d"
compression = "zstd"
"#,
    );
    let store = hall.stores.get("main").unwrap();
    assert_eq!(store.drives, ["/nvme/a", "/nvme/b", "/nvme/c"]);
    assert_eq!(store.code, Some(ErasureCode { data: 2, parity: 1 }));
    assert_eq!((store.durability, store.encryption), (Durability::Group, Encryption::Store));
    assert_eq!((store.compression, store.promote_at), (Compression::Lz4, 5));
    let (cold, far) = (store.tiers.get("cold").unwrap(), store.tiers.get("far").unwrap());
    assert_eq!((cold.class.as_str(), cold.after), ("STANDARD_IA", Some(Seconds(30.0 * 86_400.0))));
    assert!(matches!(&cold.place, TierPlace::Drives { drives, code: None } if drives.len() == 2));
    assert_eq!((far.class.as_str(), far.compression), ("GLACIER_IR", Some(Compression::Zstd)));
    let TierPlace::Remote { region, prefix, keys, .. } = &far.place else { panic!("{far:?}") };
    assert_eq!((region.as_str(), prefix.as_str(), keys.as_deref()), ("us-east-1", "", Some("/etc/datahall/far.json")));
    let again = hall.to_toml();
    assert_eq!(parse(&again), hall, "{again}");
}
