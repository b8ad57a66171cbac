//! Nothing of a hall can be reached from another machine: every socket of every process of it is bound to loopback.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use dh_core::Secret;
use dh_infer::standin::{self, Standin};
use dh_learn::S3;
use dh_learn::dataset::{manifest, synthetic};

use crate::support::{BLUEPRINT, PATIENCE, TestHall, http, processes_of};

const TRAINING: &str = r#"
[workload.long]
kind = "train"
model = "dense-784-32-10"
dataset = "made-up"
ranks = 2
epochs = 5000
batch = 64
learning_rate = 0.001
seed = 7
checkpoint_every = 1000
"#;

/// A socket of a process.
#[derive(Debug, Clone)]
struct Socket {
    process: String,
    address: IpAddr,
    port: u16,
    listening: bool,
}

/// The kernel's text form of an address: each 32-bit word as the machine's own number.
fn address(text: &str) -> IpAddr {
    let word = |at: usize| u32::from_str_radix(&text[at..at + 8], 16).unwrap().to_ne_bytes();
    if text.len() == 8 {
        return Ipv4Addr::from(word(0)).into();
    }
    let mut bytes = [0; 16];
    for part in 0..4 {
        bytes[part * 4..part * 4 + 4].copy_from_slice(&word(part * 8));
    }
    Ipv6Addr::from(bytes).to_canonical()
}

/// All sockets of the machine by inode, without their processes.
fn table() -> BTreeMap<u64, (IpAddr, u16, bool)> {
    let mut sockets = BTreeMap::new();
    for name in ["tcp", "tcp6", "udp", "udp6"] {
        let text = std::fs::read_to_string(format!("/proc/net/{name}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let (host, port) = fields[1].split_once(':').unwrap();
            // 0A is LISTEN; a UDP socket that is only bound receives from anybody.
            let listening = fields[3] == "0A" || (name.starts_with("udp") && fields[3] == "07");
            let entry = (address(host), u16::from_str_radix(port, 16).unwrap(), listening);
            sockets.insert(fields[9].parse().unwrap(), entry);
        }
    }
    sockets
}

/// The sockets of all processes of a hall.
fn sockets_of(hall: &TestHall) -> Vec<Socket> {
    let mut found = Vec::new();
    for process in processes_of(&hall.path("")) {
        let pid = process.split(' ').next().unwrap().to_owned();
        let Ok(descriptors) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        let inodes: Vec<u64> = descriptors
            .flatten()
            .filter_map(|entry| std::fs::read_link(entry.path()).ok())
            .filter_map(|link| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok())
            .collect();
        // Read after the descriptors, so that a socket that was opened meanwhile is not missed.
        let table = table();
        for inode in inodes {
            if let Some((address, port, listening)) = table.get(&inode) {
                found.push(Socket { process: process.clone(), address: *address, port: *port, listening: *listening });
            }
        }
    }
    found
}

#[test]
fn addresses_are_read_as_the_kernel_writes_them() {
    assert_eq!(address("0100007F"), IpAddr::from([127, 0, 0, 1]));
    assert_eq!(address("00000000"), IpAddr::from([0, 0, 0, 0]));
    assert_eq!(address("00000000000000000000000001000000"), IpAddr::from(Ipv6Addr::LOCALHOST));
    assert_eq!(address("0000000000000000FFFF00000100007F"), IpAddr::from([127, 0, 0, 1]));
    let open = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = open.local_addr().unwrap().port();
    assert!(table().values().any(|(address, at, listening)| !address.is_loopback() && *at == port && *listening));
}

#[test]
fn servers_engines_and_ranks_use_loopback_only_and_engines_want_their_own_key() {
    let hall = TestHall::start(&format!("{BLUEPRINT}{TRAINING}"));
    let variables = hall.variables();
    let store = S3::new(
        &hall.url("store"),
        &variables["AWS_ACCESS_KEY_ID"],
        Secret::new(variables["AWS_SECRET_ACCESS_KEY"].clone()),
        "us-east-1",
    )
    .unwrap();
    manifest::upload(&store, "datasets", "made-up", &synthetic::generate("made-up", 640, 64, 7), 640, &mut |_| {})
        .unwrap();
    let model = hall.path(&format!("{}.gguf", standin::NAME));
    Standin::default().write(&model).unwrap();
    hall.ok(&["serve", model.to_str().unwrap()]);
    hall.ok(&["submit", "long"]);
    hall.wait_for_job(2, "running", |view| view["ranks_running"] == 2);

    let begin = Instant::now();
    let rank = |socket: &&Socket| socket.process.contains(" train ");
    let sockets = loop {
        let sockets = sockets_of(&hall);
        for socket in &sockets {
            assert!(socket.address.is_loopback(), "it can be reached from elsewhere: {socket:?}");
        }
        // Both ranks have met: each has a connection that is not to the store, so more than one socket at once.
        let ranks: std::collections::BTreeSet<&str> =
            sockets.iter().filter(rank).map(|socket| socket.process.as_str()).collect();
        if ranks.len() == 2 && hall.ok(&["logs", "2"]).contains("\"step\"") {
            break sockets;
        }
        assert!(begin.elapsed() < PATIENCE, "the ranks do not meet: {}", hall.ok(&["logs", "2"]));
        std::thread::sleep(std::time::Duration::from_millis(20));
    };

    let server = format!("{} ", hall.pid());
    let of_server = sockets.iter().filter(|socket| socket.listening && socket.process.starts_with(&server)).count();
    assert_eq!(of_server, 3, "{sockets:?}");
    let engines: Vec<&Socket> =
        sockets.iter().filter(|socket| socket.listening && socket.process.contains(" engine ")).collect();
    assert_eq!(engines.len(), 1, "{sockets:?}");

    // An engine knows one key, which is the gateway's: not even the administrator's opens it.
    let engine = format!("http://127.0.0.1:{}", engines[0].port);
    let admin = format!("Bearer {}", hall.key("admin"));
    for (method, path) in [
        ("GET", "/v1/models"),
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/completions"),
        ("GET", "/v2/models/x"),
        ("POST", "/v2/models/x/infer"),
        ("GET", "/metrics"),
        ("GET", "/nothing"),
    ] {
        let body = (method == "POST").then_some("{}");
        for headers in [&[][..], &[("authorization", admin.as_str())]] {
            let (status, _) = http(method, &format!("{engine}{path}"), headers, body);
            assert_eq!(status, 401, "{method} {path} of an engine");
        }
    }
    hall.ok(&["cancel", "2"]);
}

#[test]
fn a_blueprint_cannot_open_the_hall_to_others_by_mistake() {
    let home = tempfile::tempdir().unwrap();
    let text = BLUEPRINT.replace("[target]\n", "[target]\nlisten = \"0.0.0.0\"\n");
    std::fs::write(home.path().join("hall.toml"), &text).unwrap();
    assert!(text.contains("0.0.0.0"));
    let output = crate::support::command_at_home(home.path()).args(["up", "--data", "data"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
}
