//! A blueprint over its bases: what is written in a file goes before what its base says, key by key; and who wrote what.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]

use dh_blueprint::{Allow, Blueprint, Origins, Report, ServiceSource, Settings, Topology, WorkloadKind};
use dh_units::{Bytes, UsdPerKwh, Watts};
use expect_test::expect;

/// `hall.toml` with bases by name.
fn read(text: &str, bases: &[(&str, &str)]) -> Result<(Settings, Origins), Report> {
    Blueprint::read("hall.toml", text, load(bases))
}

fn load(bases: &[(&str, &str)]) -> impl FnMut(&str, &str) -> Result<(String, String), String> {
    let bases: Vec<(String, String)> = bases.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect();
    move |_, path| {
        bases.iter().find(|(name, _)| name == path).cloned().ok_or_else(|| "there is no such file".to_owned())
    }
}

fn good(text: &str, bases: &[(&str, &str)]) -> Settings {
    read(text, bases).unwrap_or_else(|report| panic!("{report}")).0
}

const COMPANY: &str = r#"schema = 1
name = "company"

[site.main]
pue_split = { cooling = 0.3, conversion = 0.1 }
price = "$0.2/kWh"
carbon = "300 g/kWh"

[queue.low]
priority = -5

[zone.inside]
members = ["pool.train"]
allow = [
  { to = "outside", ports = ["443/tcp"], why = "updates" },
  { to = "outside", ports = ["53/udp"], why = "names" },
]

[zone.outside]
members = ["internet"]
"#;

const SITE: &str = r#"base = "company.toml"
name = "site"

[site.main]
price = "$0.1/kWh"

[pool.train]
nodes = 4
node = "dgx-h100"
rated = "9 kW"

[workload.script]
kind = "command"
command = ["python3", "train.py"]
env = { A = "site", B = "site" }
queue = "low"
"#;

const HALL: &str = r#"base = "site.toml"
name = "hall"

[site.main.pue_split]
cooling = 0.2

[pool.train]
nodes = 8

[workload.script]
command = ["true"]
env = { B = "hall", C = "hall" }

[zone.inside]
allow = [{ to = "outside", ports = ["80/tcp"], why = "hall" }]
"#;

const BASES: [(&str, &str); 2] = [("site.toml", SITE), ("company.toml", COMPANY)];

#[test]
fn a_key_is_taken_from_the_first_file_that_has_it() {
    let hall = good(HALL, &BASES);
    assert_eq!(hall.name, "hall");
    let pool = hall.pools.get("train").unwrap();
    assert_eq!((pool.nodes, pool.node.as_str(), pool.rated), (8, "dgx-h100", Some(Watts(9_000.0))));
    let site = hall.sites.get("main").unwrap();
    assert_eq!((site.price, site.carbon.is_some()), (UsdPerKwh(0.1), true));
    assert_eq!(hall.queues.get("low").unwrap().priority, -5);
    // The default of a queue is there only where no file has a queue.
    assert_eq!(hall.queues.len(), 1);
}

#[test]
fn tables_are_merged_key_by_key_at_every_depth() {
    let hall = good(HALL, &BASES);
    // The share of cooling is the hall's, that of conversion the company's.
    assert!((hall.sites.get("main").unwrap().pue - 1.3).abs() < 1e-9);
    let WorkloadKind::Command(command) = &hall.workloads.get("script").unwrap().kind else { panic!() };
    let env: Vec<(&str, &str)> = command.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(env, [("A", "site"), ("B", "hall"), ("C", "hall")]);
}

#[test]
fn lists_are_taken_whole() {
    let hall = good(HALL, &BASES);
    let WorkloadKind::Command(command) = &hall.workloads.get("script").unwrap().kind else { panic!() };
    assert_eq!(command.command, ["true"]);
    let zone = hall.zones.get("inside").unwrap();
    let rule = Allow { to: "outside".to_owned(), ports: vec!["80/tcp".to_owned()], why: "hall".to_owned() };
    assert_eq!(zone.allow, [rule]);
    assert_eq!(zone.members.len(), 1);
    // An empty list takes the rules away; a list of tables in sections goes before one in braces.
    let silent = "base = \"site.toml\"\n[zone.inside]\nallow = []\n";
    assert_eq!(good(silent, &BASES).zones.get("inside").unwrap().allow, []);
    let sections = "base = \"site.toml\"\n[[zone.inside.allow]]\nto = \"outside\"\nports = [\"any\"]\nwhy = \"all\"\n";
    assert_eq!(good(sections, &BASES).zones.get("inside").unwrap().allow.len(), 1);
}

#[test]
fn three_files_are_one_text() {
    let one = r#"schema = 1
name = "hall"

[site.main]
pue_split = { cooling = 0.2, conversion = 0.1 }
price = "$0.1/kWh"
carbon = "300 g/kWh"

[queue.low]
priority = -5

[zone.inside]
members = ["pool.train"]
allow = [{ to = "outside", ports = ["80/tcp"], why = "hall" }]

[zone.outside]
members = ["internet"]

[pool.train]
nodes = 8
node = "dgx-h100"
rated = "9 kW"

[workload.script]
kind = "command"
command = ["true"]
env = { A = "site", B = "hall", C = "hall" }
queue = "low"
"#;
    assert_eq!(good(HALL, &BASES), good(one, &[]));
}

#[test]
fn the_file_that_names_a_base_decides_where_it_is_looked_for() {
    let mut asked = Vec::new();
    let result = Blueprint::read("halls/hall.toml", "base = \"../site.toml\"", |from, path| {
        asked.push((from.to_owned(), path.to_owned()));
        match path {
            "../site.toml" => Ok(("site.toml".to_owned(), "base = \"company.toml\"\n[pool.a]\nnodes = 1".to_owned())),
            _ => Ok(("company.toml".to_owned(), "schema = 1\nname = \"lab\"".to_owned())),
        }
    });
    assert_eq!(result.unwrap().0.name, "lab");
    let pair = |from: &str, path: &str| (from.to_owned(), path.to_owned());
    assert_eq!(asked, [pair("halls/hall.toml", "../site.toml"), pair("site.toml", "company.toml")]);
}

/// What only a base has can be referred to, and is what is meant where nothing is said.
#[test]
fn sections_of_a_base_are_known_to_the_file() {
    let base = r#"schema = 1
name = "base"
[site.north]
[pool.train]
nodes = 4
node = "dgx-h100"
[pool.disks]
nodes = 1
node = "cpu-storage"
[store.hot]
[queue.batch]
[workload.fashion]
kind = "train"
model = "dense-784-256-10"
dataset = "fashion-mnist"
ranks = 2
epochs = 5
batch = 64
learning_rate = 0.001
seed = 7
checkpoint_every = 300
"#;
    let text = r#"base = "base.toml"
[fabric.compute]
topology = "rail"
switch = "qm9700"
[fabric.storage]
topology = "fat-tree"
switch = "qm9700"
[service.fashion]
model = "workload:fashion"
[zone.a]
members = ["pool.train", "store.hot", "service.fashion", "fabric.compute"]
[edge.shop]
link = "100 Mb/s"
services = ["fashion"]
"#;
    let hall = good(text, &[("base.toml", base)]);
    assert_eq!(hall.fabrics.get("compute").unwrap().pools, ["train"]);
    assert_eq!(hall.fabrics.get("storage").unwrap().pools, ["train", "disks"]);
    assert_eq!(hall.services.get("fashion").unwrap().source, ServiceSource::Workload("fashion".to_owned()));
    assert_eq!(hall.pools.get("train").unwrap().site, "north");
    let workload = hall.workloads.get("fashion").unwrap();
    assert_eq!((workload.queue.as_str(), workload.store.as_str()), ("batch", "hot"));
}

/// A base may refer to what only the file above it has.
#[test]
fn sections_of_the_file_are_known_to_its_base() {
    let base = "schema = 1\nname = \"base\"\n[store.main]\npool = \"disks\"\n[fabric.a]\ntopology = \"fat-tree\"\nswitch = \"mine\"\n";
    let text = r#"base = "base.toml"
[pool.disks]
nodes = 2
node = "cpu-storage"
[catalog.switch.mine]
base = "qm9700"
price = "$1"
"#;
    let hall = good(text, &[("base.toml", base)]);
    assert_eq!(hall.stores.get("main").unwrap().pool.as_deref(), Some("disks"));
    assert_eq!(hall.fabrics.get("a").unwrap().topology, Topology::FatTree);
}

/// An item of the file may start from one that the base describes, because the base stands before it.
#[test]
fn items_of_a_base_can_be_built_on() {
    let base = "schema = 1\nname = \"base\"\n[pool.a]\nnodes = 1\nnode = \"ours\"\n[catalog.node.house]\nbase = \"dgx-h100\"\nrated = \"9 kW\"\n[catalog.node.ours]\nbase = \"house\"\n";
    let text = "base = \"base.toml\"\n[catalog.node.mine]\nbase = \"house\"\nprice = \"$1\"\n[catalog.node.house]\nidle = \"1 kW\"\n";
    let hall = good(text, &[("base.toml", base)]);
    let node = |name| hall.catalog.node(name).unwrap();
    for name in ["mine", "ours", "house"] {
        assert_eq!((node(name).rated.value, node(name).idle.as_ref().unwrap().value), (Watts(9_000.0), Watts(1_000.0)));
    }
    assert!((node("mine").price.as_ref().unwrap().value.0 - 1.0).abs() < f64::EPSILON);
}

#[test]
fn origins_name_the_file_and_line_of_what_is_written_and_nothing_else() {
    let (_, origins) = read(HALL, &BASES).unwrap();
    for (path, place) in [
        ("name", Some("hall.toml:2")),
        ("schema", Some("company.toml:1")),
        ("site.main.price", Some("site.toml:5")),
        ("site.main.carbon", Some("company.toml:7")),
        ("site.main.pue_split.cooling", Some("hall.toml:5")),
        ("site.main.pue_split.conversion", Some("company.toml:5")),
        ("pool.train", Some("hall.toml:7")),
        ("pool.train.nodes", Some("hall.toml:8")),
        ("pool.train.node", Some("site.toml:9")),
        ("workload.script.queue", Some("site.toml:16")),
        ("workload.script.env.A", Some("site.toml:15")),
        ("workload.script.env.B", Some("hall.toml:12")),
        ("zone.inside.members", Some("company.toml:13")),
        ("zone.inside.allow", Some("hall.toml:15")),
        ("pool.train.slots", None),
        ("site.main.margin", None),
        ("target.listen", None),
        ("store.main", None),
        ("pool", Some("hall.toml:7")),
        ("", None),
    ] {
        assert_eq!(origins.of(path), place, "{path}");
    }
    // Dotted keys, inline tables and lists of tables have places too.
    let (_, origins) = read("schema = 1\nname = \"lab\"\r\n\npool.a.nodes = 1\nsite = { main = { pue = 1.2 } }\n[zone.b]\nmembers = [\"internet\"]\n[[zone.b.allow]]\nto = \"b\"\nports = [\"any\"]\nwhy = \"x\"\n", &[]).unwrap();
    for (path, line) in [("pool.a.nodes", 4), ("site.main.pue", 5), ("zone.b.allow", 8)] {
        assert_eq!(origins.of(path), Some(format!("hall.toml:{line}").as_str()), "{path}");
    }
}

#[test]
fn the_effective_blueprint_marks_defaults_and_only_them() {
    let effective = Blueprint::effective("hall.toml", HALL, load(&BASES)).unwrap();
    expect![[r#"
        schema = 1
        name = "hall"

        [site.main]
        pue_split = { cooling = 0.2, conversion = 0.1, other = 0.0 }
        price = "$0.1/kWh"
        carbon = "300 g/kWh"
        margin = 1.1  # default
        rack_power = "45 kW"  # default
        rack_height = 48  # default
        racks_per_row = 20  # default
        amortisation_years = 4.0  # default
        staff = "$0.00"  # default

        [pool.train]
        nodes = 8
        node = "dgx-h100"
        slots = 8  # default
        site = "main"  # default
        rated = "9 kW"
        load = 0.8  # default

        [store.main]
        cache = "64 MiB"  # default
        compression = "auto"  # default
        durability = "sync"  # default
        encryption = "none"  # default
        half_life = "24 h"  # default
        promote_at = 3  # default
        tier_min = "128 KiB"  # default
        high_water = 0.9  # default
        low_water = 0.8  # default
        scrub_every = "7 d"  # default
        scrub_rate = "33554432 B/s"  # default

        [queue.low]
        priority = -5
        preempt = false  # default

        [zone.inside]
        members = ["pool.train"]
        allow = [
          { to = "outside", ports = ["80/tcp"], why = "hall" },
        ]

        [zone.outside]
        members = ["internet"]

        [workload.script]
        kind = "command"
        ranks = 1  # default
        slots_per_rank = 1  # default
        retries = 3  # default
        queue = "low"
        store = "main"  # default
        command = ["true"]
        env = { A = "site", B = "hall", C = "hall" }

        [gateway]
        routing = "prefix_cache"  # default

        [policy]
        slowdown_max = 0.05  # default
        log_retention = "30 d"  # default
        audit_retention = "365 d"  # default
        encrypt_at_rest = false  # default
        encrypt_in_transit = false  # default
        order = "fifo"  # default
        placement = "best"  # default
        backfill = "easy"  # default
        sharing = "one-line"  # default
        quantum = "60 s"  # default
        claim = "10 min"  # default
        repair = "30 min"  # default
        grow_after = "10 min"  # default
        interleave = false  # default

        [policy.health]
        half_life = "7 d"  # default
        limit = 1.5  # default
        probation = "6 h"  # default

        [target]
        listen = "127.0.0.1"  # default
        expose = false  # default
        api_port = 4600  # default
        gateway_port = 4601  # default
        store_port = 4602  # default
        executor = "local"  # default
        state = "sqlite"  # default
    "#]]
    .assert_eq(&effective);
    assert_eq!(Blueprint::parse("effective.toml", &effective).unwrap(), good(HALL, &BASES));
}

#[test]
fn every_key_is_marked_exactly_if_no_file_writes_it() {
    let text = dh_blueprint::template("reference").unwrap();
    let over = "base = \"reference.toml\"\n[pool.train]\nload = 0.7\n[site.annex]\nmargin = 1.2\n";
    let bases = [("reference.toml", text)];
    let documents = [text, over].map(|text| toml_edit::Document::parse(text).unwrap());
    let writes = |path: &str| {
        documents.iter().any(|document| {
            let mut keys = path.split('.');
            let first = document.get(keys.next().unwrap_or_default());
            keys.try_fold(first, |item, key| item.map(|item| item.get(key)).filter(Option::is_some)).flatten().is_some()
        })
    };
    let effective = Blueprint::effective("hall.toml", over, load(&bases)).unwrap();
    let (mut section, mut marked, mut written) = (String::new(), 0, 0);
    for line in effective.lines().take_while(|line| !line.starts_with("[catalog")) {
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']').to_owned() + ".";
        } else if let Some((key, value)) = line.split_once(" = ").filter(|_| !line.starts_with(' ')) {
            let default = value.ends_with("# default");
            assert_eq!(writes(&format!("{section}{key}")), !default, "{section}{key}");
            (marked, written) = if default { (marked + 1, written) } else { (marked, written + 1) };
        }
    }
    assert!(marked > 30 && written > 100, "{marked} {written}");
}

#[test]
fn a_default_that_a_base_writes_is_not_a_default() {
    let base = "schema = 1\nname = \"lab\"\n[pool.a]\nnodes = 1\n[store.main]\ncache = \"64 MiB\"\n";
    let (hall, origins) = read("base = \"base.toml\"\n", &[("base.toml", base)]).unwrap();
    assert_eq!(hall.stores.get("main").unwrap().cache, Bytes(64 << 20));
    assert_eq!(origins.of("store.main.cache"), Some("base.toml:6"));
    let effective = Blueprint::effective("hall.toml", "base = \"base.toml\"\n", load(&[("base.toml", base)])).unwrap();
    assert!(effective.contains("cache = \"64 MiB\"\n"), "{effective}");
    assert!(effective.contains("compression = \"auto\"  # default\n"), "{effective}");
}

#[test]
fn problems_are_in_the_file_that_wrote_them() {
    let base = "schema = 1\nname = \"lab\"\n[pool.a]\nnodes = 0\nnode = \"none\"\n";
    // What the file corrects is not a problem of the base.
    let corrected = "base = \"base.toml\"\n[pool.a]\nnodes = 1\nnode = \"dgx-h100\"\n";
    assert!(read(corrected, &[("base.toml", base)]).is_ok());
    let report = read("base = \"base.toml\"\n[pool.a]\nnodes = 1\nslots = 0\n", &[("base.toml", base)]).unwrap_err();
    let places: Vec<(&str, usize)> =
        report.problems.iter().map(|problem| (problem.file.as_str(), problem.line)).collect();
    assert_eq!(places, [("hall.toml", 4), ("base.toml", 5)]);
}
