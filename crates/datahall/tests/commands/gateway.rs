//! The gateway alone in front of stub engines, the bench, and keys of a hall with bounds.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::support::{BLUEPRINT, PATIENCE, TestHall, command_at_home, http};

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn start(home: &Path, arguments: &[&str]) -> Running {
    Running(command_at_home(home).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

/// A port that nobody has at the moment.
fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What a bench says, once the server is there.
fn bench(home: &Path, key: &str, arguments: &[&str]) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut command = command_at_home(home);
        command.args(["bench", "gateway"]).args(arguments).args(["-o", "json"]).env("DATAHALL_BENCH_KEY", key);
        let output = command.output().unwrap();
        if output.status.success() {
            return serde_json::from_slice(&output.stdout).unwrap();
        }
        assert!(Instant::now() < deadline, "{output:?}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn a_gateway_alone_serves_engines_and_a_trace_is_played_through_it() {
    let home = tempfile::tempdir().unwrap();
    let (one, two, door) = (port(), port(), port());
    let _engines =
        [one, two].map(|port| start(home.path(), &["bench", "stub", "--port", &port.to_string(), "--blocks", "20000"]));
    let add = ["gateway", "--engine", "stub=http://127.0.0.1:1", "--add-key", "ann", "--rpm", "1000"];
    let made = command_at_home(home.path()).args(add).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let key = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    let engines = [one, two].map(|port| format!("stub=http://127.0.0.1:{port}/v1"));
    let listen = format!("127.0.0.1:{door}");
    let _gateway =
        start(home.path(), &["gateway", "--engine", &engines[0], "--engine", &engines[1], "--listen", &listen]);

    let trace = home.path().join("trace.csv");
    let rows: Vec<String> =
        (0..200).map(|row| format!("0.{row:03},1500,8,{} {} {}", 7, 100 + row % 10, 200 + row % 10)).collect();
    std::fs::write(&trace, format!("t_s,input_tokens,output_tokens,prefix_block_ids\n{}\n", rows.join("\n"))).unwrap();
    let report = bench(home.path(), &key, &[&listen, "--trace", trace.to_str().unwrap(), "--stream"]);
    assert_eq!((&report["good"], &report["broken"]), (&200.into(), &0.into()), "{report}");
    let (prompt, cached) = (report["prompt_tokens"].as_u64().unwrap(), report["cached_tokens"].as_u64().unwrap());
    assert!(cached * 10 > prompt * 8, "{report}");

    // 1,000 a minute, and some may be used.
    let report = bench(home.path(), &key, &[&listen, "--requests", "1200", "--connections", "8"]);
    let (good, limited) = (report["good"].as_u64().unwrap(), report["limited"].as_u64().unwrap());
    assert!(good <= 1_000 && good + limited == 1_200, "{report}");
}

#[test]
fn keys_of_a_hall_are_made_listed_and_ended() {
    let hall = TestHall::start(BLUEPRINT);
    let key = hall.ok(&["keys", "add", "ann", "--rpm", "2", "--model", "none-*", "--budget", "1.5"]);
    let url = format!("{}/v1/models", hall.url("gateway"));
    let bearer = format!("Bearer {}", key.trim());
    let status = || http("GET", &url, &[("authorization", bearer.as_str())], None).0;
    assert_eq!(status(), 200);
    let listed = hall.json(&["keys"]);
    let ann = listed["keys"].as_array().unwrap().iter().find(|key| key["name"] == "ann").unwrap();
    assert_eq!(
        (&ann["grant"]["requests_per_minute"], &ann["grant"]["budget_micro_usd"]),
        (&2.into(), &1_500_000.into())
    );
    assert!(!listed.to_string().contains(key.trim()), "a secret was listed");
    hall.ok(&["keys", "revoke", ann["id"].as_str().unwrap()]);
    assert_eq!(status(), 401);
    let own = hall.json(&["keys"])["keys"][0]["id"].as_str().unwrap().to_owned();
    assert!(hall.fails(&["keys", "revoke", &own]).1.contains("a key of the hall itself"));
    hall.ok(&["models"]);
}

#[test]
fn a_hall_keeps_files_for_batches_over_a_kill() {
    let mut hall = TestHall::start(BLUEPRINT);
    let key = hall.ok(&["keys", "add", "ann"]);
    let bearer = format!("Bearer {}", key.trim());
    let headers = [("authorization", bearer.as_str()), ("content-type", "multipart/form-data; boundary=b")];
    let line = r#"{"custom_id":"1","method":"POST","url":"/v1/chat/completions","body":{"model":"m","messages":[]}}"#;
    let part = |name: &str, text: &str| format!("--b\r\ncontent-disposition: form-data; {name}\r\n\r\n{text}\r\n");
    let body =
        [part("name=\"purpose\"", "batch"), part("name=\"file\"; filename=\"a.jsonl\"", line), "--b--\r\n".to_owned()];
    let files = |hall: &TestHall| format!("{}/v1/files", hall.url("gateway"));
    let (status, text) = http("POST", &files(&hall), &headers, Some(&body.concat()));
    assert_eq!(status, 200, "{text}");
    let made: Value = serde_json::from_str(&text).unwrap();
    hall.kill9();
    hall.restart();
    let content = format!("{}/{}/content", files(&hall), made["id"].as_str().unwrap());
    let (status, text) = http("GET", &content, &headers[..1], None);
    assert_eq!((status, text.trim_end()), (200, line));
    let other = format!("Bearer {}", hall.ok(&["keys", "add", "eve"]).trim());
    let (status, text) = http("GET", &content, &[("authorization", &other)], None);
    assert_eq!(status, 404, "{text}");
}
