//! `validate` and `calibrate`: figures for people and programs, and every way a file can be wrong.

use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::Value;

use crate::support::{command_at_home, failure};

const HEAD: &str = "id,source,collective,accelerator,n_nodes,ranks,ranks_per_node,interconnect,library,bytes,time_us,busbw_gbytes_s,notes";

/// Two sources, one of them with a row that nobody can answer.
fn rows() -> String {
    let mut text = format!("{HEAD}\n");
    for (at, (source, bytes, time)) in [
        ("paper", "1024", "30"),
        ("paper", "1073741824", "9000"),
        ("forum", "65536", "25"),
        ("forum", "268435456", "2300"),
        ("forum", "", "10"),
    ]
    .into_iter()
    .enumerate()
    {
        writeln!(text, "r{at},{source},all_reduce,A100,1,8,8,NVLink3,NCCL,{bytes},{time},,").unwrap();
    }
    text
}

fn datahall(home: &Path, arguments: &[&str]) -> Output {
    command_at_home(home).args(arguments).output().unwrap()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn written(text: impl AsRef<[u8]>) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("rows.csv"), text).unwrap();
    home
}

#[test]
fn a_program_finds_every_row_and_the_figures() {
    let home = written(rows());
    let report = json(&datahall(home.path(), &["validate", "collectives", "rows.csv", "-o", "json"]));
    assert_eq!((&report["schema_version"], &report["subject"]), (&1.into(), &"collectives".into()));
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 5);
    let columns: Vec<&String> = rows[0].as_object().unwrap().keys().collect();
    assert_eq!(columns.len(), 10, "{columns:?}");
    assert_eq!(
        (&rows[0]["id"], &rows[0]["measured"], &rows[0]["quantity"]),
        (&"r0".into(), &30.0.into(), &"time_us".into())
    );
    assert_eq!((&rows[4]["predicted"], &rows[4]["note"]), (&Value::Null, &"no size in bytes".into()));
    let small = &report["summary"]["one_domain_below_1MiB"];
    assert_eq!((&small["rows"], &small["answered"]), (&3.into(), &2.into()));
    for figure in ["median_abs_pct_err", "mean_abs_pct_err", "p90_abs_pct_err", "max_factor", "within_80", "bias_pct"] {
        assert!(small[figure].is_number(), "{figure}: {small}");
    }
    assert_eq!(report["sources"]["paper"]["one_domain_from_1MiB"]["rows"], 1);
    // The same rows through a pipe, and as a table for spreadsheets.
    let mut child = command_at_home(home.path())
        .args(["validate", "collectives", "-", "-o", "csv"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(self::rows().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 6, "{text}");
    assert!(text.starts_with("id,"), "{text}");
}

#[test]
fn people_see_the_worst_rows_and_why_others_have_no_answer() {
    let home = written(rows());
    let output = datahall(home.path(), &["validate", "collectives", "rows.csv"]);
    let text = String::from_utf8(output.stdout).unwrap();
    for words in ["one_domain_below_1MiB", "SOURCE", "forum", "FURTHEST OFF", "NOT ANSWERED", "no size in bytes"] {
        assert!(text.contains(words), "`{words}` is not in\n{text}");
    }
    let text =
        String::from_utf8(datahall(home.path(), &["validate", "collectives", "rows.csv", "--rows"]).stdout).unwrap();
    assert!(text.contains("\nr0 ") && text.contains("\nr4 ") && !text.contains("FURTHEST OFF"), "{text}");
}

#[test]
fn a_file_that_cannot_be_used_says_why() {
    let bad_cell = rows().replace("65536", "many");
    let missing = rows().replace("time_us", "time");
    let latin: &[u8] = b"id,source\na,caf\xe9\n";
    for (text, subject, code, words) in [
        (bad_cell.as_bytes(), "collectives", 2, "line 4: column `bytes` has `many`"),
        (missing.as_bytes(), "collectives", 2, "no column `time_us`"),
        (b"", "collectives", 2, "rows.csv is empty"),
        (HEAD.as_bytes(), "collectives", 2, "has a head and no rows"),
        (latin, "memory", 2, "line 2 is not UTF-8"),
        (b"id\n", "colectives", 7, "did you mean `collectives`?"),
        (b"id\n", "weather", 7, "there is "),
    ] {
        let home = written(text);
        for command in ["validate", "calibrate"] {
            let arguments = [command, subject, "rows.csv"];
            let (found, said) = failure(&arguments, &datahall(home.path(), &arguments));
            assert!(found == code && said.contains(words), "{arguments:?} {found}: {said}");
        }
    }
    let home = tempfile::tempdir().unwrap();
    let arguments = ["validate", "memory", "nowhere.csv"];
    let (code, said) = failure(&arguments, &datahall(home.path(), &arguments));
    assert!(code == 7 && said.contains("nowhere.csv"), "{said}");
    let large = std::fs::File::create(home.path().join("large.csv")).unwrap();
    large.set_len((64 << 20) + 1).unwrap();
    let arguments = ["validate", "memory", "large.csv"];
    let (code, said) = failure(&arguments, &datahall(home.path(), &arguments));
    assert!(code == 2 && said.contains("64 MiB"), "{said}");
}

#[test]
fn a_fit_is_shown_held_out_and_its_profiles_are_taken_back() {
    let home = written(rows());
    let output = datahall(home.path(), &["calibrate", "collectives", "rows.csv", "--write", "profiles"]);
    assert!(output.status.success(), "{output:?}");
    let (text, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("HELD OUT") && text.contains("launch_us") && text.contains("BEFORE"), "{text}");
    assert!(said.contains("fitting: forum") && said.contains("fitting: paper"), "{said}");
    let names: Vec<_> =
        std::fs::read_dir(home.path().join("profiles")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["collectives-nvlink3.toml"], "no temporary file stays");
    let profile = std::fs::read_to_string(home.path().join("profiles/collectives-nvlink3.toml")).unwrap();
    // What was written is an item that a blueprint can have.
    let own = profile.replace("[numbers", "[catalog.efficiency.collectives-nvlink3.numbers");
    let own =
        format!("schema = 1\nname = \"own\"\n[pool.a]\nnodes = 1\n[catalog.efficiency.collectives-nvlink3]\n{own}");
    std::fs::write(home.path().join("own.toml"), own).unwrap();
    let with =
        json(&datahall(home.path(), &["validate", "collectives", "rows.csv", "--with", "own.toml", "-o", "json"]));
    let without = json(&datahall(home.path(), &["validate", "collectives", "rows.csv", "-o", "json"]));
    assert_ne!(with["rows"][1]["predicted"], without["rows"][1]["predicted"]);
    let report = json(&datahall(home.path(), &["calibrate", "collectives", "rows.csv", "-o", "json", "-q"]));
    assert_eq!(report["profiles"][0]["toml"], profile);
    assert!(
        report["held_out"]["one_domain_below_1MiB"]["rows"] == 3
            && report["profiles"][0]["numbers"][0]["after"].is_number()
    );
    let unseen =
        json(&datahall(home.path(), &["validate", "collectives", "rows.csv", "--held-out", "-o", "json", "-q"]));
    assert_eq!(unseen["rows"].as_array().unwrap().len(), 5);
    // The model of memory counts; there is nothing to fit.
    std::fs::write(home.path().join("memory.csv"), "id,source,model,accelerator,memory_gb,n_accel,tp,pp,dp,cp,ep,zero,micro_batch,seq_len,recompute,sequence_parallel,precision,quantity,value,notes\na,b,GPT-22B,A100,80,8,8,1,1,1,1,0,4,2048,none,0,fp16,peak_gb,40,\n").unwrap();
    let arguments = ["calibrate", "memory", "memory.csv"];
    let (code, said) = failure(&arguments, &datahall(home.path(), &arguments));
    assert!(code == 2 && said.contains("nothing of the model of memory is fitted"), "{said}");
}
