//! `simulate`: the placement protocol from plain and from gzipped files, and what it says of wrong ones.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use serde_json::Value;

use crate::support::{command_at_home, failure};

/// Ten nodes of eight accelerators and a list of pods of one, packed.
fn files(home: &Path) {
    let mut nodes = "sn,cpu_milli,memory_mib,gpu,model\n".to_owned();
    let mut pods = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n".to_owned();
    for n in 0..10 {
        writeln!(nodes, "n{n},96000,393216,8,G2").unwrap();
        writeln!(pods, "p{n},8000,1024,1,1000,").unwrap();
    }
    std::fs::write(home.join("nodes.csv"), nodes).unwrap();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(pods.as_bytes()).unwrap();
    std::fs::write(home.join("pods.csv.gz"), packed.finish().unwrap()).unwrap();
}

const PLAY: [&str; 6] = ["simulate", "openb", "--nodes", "nodes.csv", "--pods", "pods.csv.gz"];

#[test]
fn equal_requests_fill_every_accelerator() {
    let home = tempfile::tempdir().unwrap();
    files(home.path());
    let json = ["--policy", "best", "--ratio", "1.3", "--seeds", "42..43", "-o", "json"];
    let output = command_at_home(home.path()).args(PLAY).args(json).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&value["schema_version"], &value["accelerators"]), (&1.into(), &80.into()));
    // A mark is read at the pod that reaches it: 70 % of 80 is the 56th, 130 % finds all 80 taken.
    assert_eq!(value["allocation_pct"]["70"], 70.0);
    assert_eq!(value["allocation_pct"]["130"], 100.0);
    assert_eq!(value["runs"].as_array().unwrap().len(), 2);
    let output = command_at_home(home.path()).args(PLAY).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("10 nodes, 80 accelerators, 10 runs") && text.contains("130 %   100.00 %"), "{text}");
}

#[test]
fn what_is_wrong_with_a_trace_is_said() {
    let home = tempfile::tempdir().unwrap();
    files(home.path());
    let fails =
        |arguments: &[&str]| failure(arguments, &command_at_home(home.path()).args(arguments).output().unwrap());
    let (code, text) = fails(&[&PLAY[..], &["--policy", "bestfit"]].concat());
    assert!(code == 7 && text.contains("future-fill, fragmentation, best-fit"), "{code}: {text}");
    let swapped = ["simulate", "openb", "--nodes", "pods.csv.gz", "--pods", "nodes.csv"];
    let (code, text) = fails(&swapped);
    assert!(code == 2 && text.contains("nodes: there is no column `gpu`"), "{code}: {text}");
    let (code, text) = fails(&["simulate", "openb", "--nodes", "none.csv", "--pods", "nodes.csv"]);
    assert!(code == 7 && text.contains("none.csv"), "{code}: {text}");
}
