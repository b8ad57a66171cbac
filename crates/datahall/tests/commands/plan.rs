//! `plan` and what belongs to it: the screen, why, cables, pages, comparing, the catalogue, published numbers.

use std::path::Path;
use std::process::Output;

use expect_test::expect;
use serde_json::Value;

use crate::support::{DATAHALL, clients, command_at_home, failure};

fn datahall(home: &Path, arguments: &[&str]) -> Output {
    command_at_home(home).args(arguments).output().unwrap()
}

/// Stdout of a command that must succeed.
fn says(home: &Path, arguments: &[&str]) -> String {
    let output = datahall(home, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn fails(home: &Path, arguments: &[&str]) -> (i32, String) {
    failure(arguments, &datahall(home, arguments))
}

fn json(home: &Path, arguments: &[&str]) -> Value {
    let value: Value = serde_json::from_str(&says(home, arguments)).unwrap();
    assert_eq!(value["schema_version"], 1);
    value
}

/// A folder with the blueprint of 127 nodes.
fn su127() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    says(home.path(), &["init", "--template", "su127", "-q"]);
    home
}

#[test]
fn the_screen_of_a_hall_says_it_all() {
    let home = su127();
    let path = home.path().join("hall.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("[workload.llm]\n", "[workload.llm]\nmfu = 0.4\n")).unwrap();
    let screen = says(home.path(), &["plan", "-q"]);
    let (before, _) = screen.split_once("LAYOUT").unwrap();
    expect![[r"
        su127: 151 nodes, 1,016 accelerators, 39 racks
          disks        24 x Storage node, 24 NVMe drives
          train        127 x NVIDIA DGX H100, 1,016 x h100-80gb-sxm

        POWER                      RATED  EXPECTED
        computers and network    1.42 MW   1.16 MW
        with cooling and losses  1.78 MW   1.45 MW  PUE 1.25; order 1.96 MW
        a year: 12.7 GWh, $1.02 M, 4.44 kt CO2

        NETWORK      TOPOLOGY  SWITCHES            CABLES      PORT  BISECTION    POWER    PRICE
        compute      rail      32 leaf + 16 spine   2,044  400 Gb/s      100 %  68.7 kW  $4.18 M
        storage      fat-tree  10 leaf + 8 spine      622  400 Gb/s      100 %  23.4 kW  $1.34 M
        in-band      fat-tree  1 leaf                 278  100 Gb/s      100 %  2.26 kW  $125680
        out-of-band  fat-tree  5 leaf + 1 spine       238    1 Gb/s      100 %  1.25 kW   $50490
        losing one costs, of their bandwidth: a leaf 32 nodes 12.5 %, a spine 127 nodes 6.25 %, a cable leaf-spine 32 nodes 0.391 %, a cable node-leaf 1 nodes 12.5 %, a rail 127 nodes 12.5 %

        COST build $69.1 M: compute $38.1 M, network $5.7 M, storage $1.8 M, building $23.5 M
             a year $15 M: capital $12.6 M, energy $1.02 M, maintenance $1.37 M; $2.1/h for a used accelerator-hour

        FAILURES a job on the whole hall is interrupted 176 times a year, one every 2.08 d; keeps 99.3 % of its time (ETTR); 3 spare nodes
             breaks first: faulty gpu 62 times, hbm3 30.2 times, software bug 22.6 times

        TRAINING  MODEL           ON    TIME    ETTR  CHECKPOINT                COST
        llm       llama-3-70b  1,016  24.3 d  99.6 %  481 ms every 6.92 min  $1.24 M
    "]].assert_eq(&format!("{}\n", before.trim_end()));
    // What the models predict is theirs to change; that it is there is not.
    for words in ["LAYOUT llm: ", " in four of five), ", " tokens/s, MFU ", "STORE main: 6.43 PB usable", "TIGHTEST\n"]
    {
        assert!(screen.contains(words), "{words}: {screen}");
    }
}

#[test]
fn a_number_is_followed_down_to_its_source() {
    let home = su127();
    expect![[r"
        cables at nodes and managers  1,020  network.compute.cables.node-leaf
        │  = 127 nodes x 8 ports + 4 managers
        ├─ ends that are joined  127  network.compute.nodes
        │  │  = 127 nodes of train
        │  └─ nodes of pool train  127  pool.train.nodes
        │        from hall.toml:12, key `nodes`
        ├─ ports of an end  8  network.compute.ports-per-node
        │  │  = of a node, each a rail
        │  └─ ports of a node  8  catalog.node.dgx-h100.compute_ports
        │        from NVIDIA DGX BasePOD reference architecture, core components: DGX H100 and H200
        └─ ports of fabric managers  4  network.compute.manager-ports
           │  = as the blueprint says
           └─ ports of fabric managers  4  fabric.compute.managers
                 from hall.toml:24, key `managers`
    "]]
    .assert_eq(&says(home.path(), &["plan", "--why", "network.compute.cables.node-leaf"]));
    let (code, said) = fails(home.path(), &["plan", "--why", "power.suply"]);
    assert_eq!(code, 7, "{said}");
    assert!(said.contains("did you mean `power.supply`?"), "{said}");
    let (code, said) = fails(home.path(), &["plan", "--why", "leaf"]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("name one") && said.contains("network.compute.leaf"), "{said}");
    let why = json(home.path(), &["plan", "--why", "power.supply", "-o", "json"]);
    assert_eq!(why["number"]["unit"], "W");
    let numbers = why["numbers"].as_array().unwrap();
    assert!(numbers.iter().any(|number| number["id"] == "catalog.node.dgx-h100.rated" && number["value"] == 10_200.0));
}

#[test]
fn every_number_and_network_is_there_for_programs() {
    let home = su127();
    let plan = json(home.path(), &["plan", "-o", "json"]);
    let compute = &plan["networks"][0];
    assert_eq!((&compute["name"], &compute["leaf"], &compute["spine"]), (&"compute".into(), &32.into(), &16.into()));
    assert_eq!(plan["findings"], Value::Array(vec![]));
    let csv = says(home.path(), &["plan", "-o", "csv"]);
    assert!(csv.starts_with("id,title,value,unit,text,"), "{}", csv.lines().next().unwrap());
    assert!(csv.contains("\nnetwork.compute.leaf,leaf switches,32,"), "{csv}");
    let yaml = says(home.path(), &["plan", "-o", "yaml"]);
    assert!(yaml.starts_with("schema_version: 1\nname: su127\n"), "{}", yaml.chars().take(200).collect::<String>());
}

#[test]
fn the_cable_list_and_the_page_are_written() {
    let home = su127();
    says(home.path(), &["plan", "-q", "--cables", "cables.csv", "--html", "plan.html"]);
    let cables = std::fs::read_to_string(home.path().join("cables.csv")).unwrap();
    let count = |segment: &str| cables.lines().filter(|line| line.contains(segment)).count();
    assert_eq!(count(",node-leaf,train-"), 127 * (8 + 2 + 2 + 1));
    assert!(cables.contains("compute-manager-0004"), "the managers have cables");
    assert_eq!(says(home.path(), &["plan", "--cables", "-"]), cables);
    let page = std::fs::read_to_string(home.path().join("plan.html")).unwrap();
    assert!(page.starts_with("<!doctype html>") || page.starts_with("<!DOCTYPE html>"), "{}", page.len());
    assert!(page.contains("<svg") && page.contains("prefers-color-scheme"));
    // One page that needs nothing else: nothing is fetched.
    assert!(!page.contains("src=\"http") && !page.contains("href=\"http"), "the page fetches something");
}

#[test]
fn what_cannot_be_had_is_said_and_exits_with_four() {
    let home = su127();
    let path = home.path().join("hall.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("power_limit = \"3 MW\"", "power_limit = \"1 MW\"").replace("60 d", "10 d"))
        .unwrap();
    let output = datahall(home.path(), &["plan", "-q"]);
    assert_eq!(output.status.code(), Some(4));
    let (screen, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(screen.contains("cannot be: site `main` draws") && screen.contains("must be done in 10 d"), "{screen}");
    assert!(said.contains("2 things that the blueprint asks for cannot be had"), "{said}");
    let output = datahall(home.path(), &["plan", "-q", "-o", "json"]);
    assert_eq!(output.status.code(), Some(4));
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(plan["findings"][0]["weight"], "infeasible");
    // What cannot be built at all is an error with what would fit.
    std::fs::write(&path, text.replace("switch = \"qm9700\"\nmanagers = 4", "switch = \"qm9700\"\ntiers = 1")).unwrap();
    let (code, said) = fails(home.path(), &["plan"]);
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("fabric `compute`"), "{said}");
}

#[test]
fn two_blueprints_are_compared_by_their_plans() {
    let home = su127();
    let text = std::fs::read_to_string(home.path().join("hall.toml")).unwrap();
    std::fs::write(home.path().join("small.toml"), "base = \"hall.toml\"\n[pool.train]\nnodes = 95\n").unwrap();
    let output = datahall(home.path(), &["diff", "hall.toml", "small.toml", "-q", "--only", "network.compute.leaf"]);
    assert_eq!(output.status.code(), Some(5));
    expect![[r"
        NUMBER                FROM  TO
        network.compute.leaf    32  24  -25.0 %
    "]]
    .assert_eq(&String::from_utf8_lossy(&output.stdout));
    std::fs::write(home.path().join("same.toml"), format!("# the same\n{text}")).unwrap();
    let output = datahall(home.path(), &["diff", "hall.toml", "same.toml"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let output = datahall(home.path(), &["diff", "hall.toml", "small.toml", "-o", "json"]);
    let differences: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(
        differences["differences"]
            .as_array()
            .unwrap()
            .iter()
            .any(|one| one["id"] == "count.accelerators" && one["to"] == 760)
    );
}

#[test]
fn the_catalogue_shows_every_number_with_its_source() {
    let home = tempfile::tempdir().unwrap();
    let kinds = json(home.path(), &["catalog", "-o", "json"]);
    assert_eq!(kinds["kinds"][0]["kind"], "accelerator");
    assert!(says(home.path(), &["catalog", "node"]).contains("gb200-nvl72"));
    let h100 = says(home.path(), &["catalog", "accelerator", "h100-80gb-sxm"]);
    assert!(h100.contains("700 W") && h100.contains("stas00/ml-engineering"), "{h100}");
    for (arguments, hint) in [
        (["catalog", "acelerator", "x"].as_slice(), "accelerator, nic"),
        (&["catalog", "node", "dgx-h1000"], "did you mean `dgx-h100`?"),
    ] {
        let (code, said) = fails(home.path(), arguments);
        assert!(code == 7 && said.contains(hint), "{said}");
    }
    std::fs::write(
        home.path().join("own.toml"),
        "schema = 1\nname = \"own\"\n[pool.a]\nnodes = 1\nnode = \"mine\"\n[catalog.node.mine]\nbase = \"dgx-h100\"\nrated = \"9 kW\"\n",
    )
    .unwrap();
    let own = says(home.path(), &["catalog", "node", "mine", "--with", "own.toml"]);
    assert!(own.contains("9 kW") && own.contains("blueprint") && own.contains("h100-80gb-sxm"), "{own}");
}

#[test]
fn published_numbers_are_reproduced_and_a_wrong_one_exits_with_five() {
    let home = tempfile::tempdir().unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fabric/tests/golden/superpod.csv");
    let golden = golden.to_str().unwrap();
    let outcome = json(home.path(), &["plan", "--golden", golden, "-o", "json", "-q"]);
    assert_eq!(outcome["rows"], outcome["matched"]);
    assert!(outcome["rows"].as_u64().unwrap() >= 13 && outcome["mismatches"] == Value::Array(vec![]));
    std::fs::write(
        home.path().join("wrong.csv"),
        "source,switch_radix_end_ports,planes,scalable_units,nodes,accelerators,leaf,spine,core,node_leaf_cables,leaf_spine_cables,spine_core_cables,notes\nDGX SuperPOD B200,64,1,2,64,512,16,9,0,512,512,0,\n",
    )
    .unwrap();
    let output = datahall(home.path(), &["plan", "--golden", "wrong.csv"]);
    assert_eq!(output.status.code(), Some(5));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("spine is 8 by our rule, published 9") && said.contains("1 rows, 0 reproduced"), "{said}");
    let (code, said) = fails(home.path(), &["plan", "--golden", "nowhere.csv"]);
    assert_eq!(code, 7, "{said}");
}

#[test]
fn keys_and_defaults_are_explained() {
    let home = su127();
    assert!(says(home.path(), &["explain", "pool.train.load"]).contains("0.76 to 0.83"));
    assert!(says(home.path(), &["explain", "fabric"]).contains("fabric.NAME.oversubscription"));
    assert!(says(home.path(), &["explain"]).contains("zone.NAME"));
    let (code, said) = fails(home.path(), &["explain", "pool.train.laod"]);
    assert!(code == 7 && said.contains("hint: "), "{said}");
    let effective = says(home.path(), &["explain", "--effective", "hall.toml"]);
    assert!(effective.contains("pue = 1.25\n") && effective.contains("margin = 1.1  # default\n"), "{effective}");
    // With every default written out it is a blueprint, and its plan is the same.
    std::fs::write(home.path().join("effective.toml"), &effective).unwrap();
    let output = datahall(home.path(), &["diff", "hall.toml", "effective.toml"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn completions_and_manual_pages_come_from_the_same_definitions() {
    let home = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = says(home.path(), &["completion", shell]);
        assert!(script.contains("plan") && script.contains("golden"), "{shell}");
    }
    assert!(says(home.path(), &["man", "plan"]).contains("\\-\\-golden"));
    says(home.path(), &["man", "--all", "man1", "-q"]);
    let help = says(home.path(), &["help"]);
    let pages = std::fs::read_dir(home.path().join("man1")).unwrap().count();
    let commands = help.lines().skip_while(|line| !line.starts_with("Commands:")).skip(1);
    let commands =
        commands.take_while(|line| line.starts_with("  ")).filter(|line| !line.trim().starts_with("help")).count();
    assert_eq!(pages, commands + 1, "{help}");
    assert_eq!(fails(home.path(), &["man", "castle"]).0, 7);
}

#[test]
fn an_independent_validator_agrees_with_the_schema() {
    let Some(clients) = clients() else { return };
    let home = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/schema.py");
    let templates: Vec<&str> = dh_blueprint::TEMPLATES.iter().map(|(name, _)| *name).collect();
    let output = std::process::Command::new(clients.join("bin/python"))
        .arg(&script)
        .env("DATAHALL", DATAHALL)
        .env("TEMPLATES", templates.join(","))
        .env("HOME", home.path())
        .current_dir(home.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}
