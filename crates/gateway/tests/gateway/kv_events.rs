//! Events of engines' caches: what an engine threw out attracts no requests any more.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use dh_gateway::{EngineFacts, EngineTarget, Error, Gateway, GatewayConfig, KvEvents};
use dh_rig::engine::{Config, Engine};
use tokio::net::TcpListener;

use crate::clients::clients;
use crate::stage::*;

/// An engine whose cache takes 128 blocks of 64 bytes, and where it publishes.
struct Cached {
    engine: Engine,
    address: SocketAddr,
    events: SocketAddr,
}

impl Cached {
    async fn new() -> Self {
        let engine = Engine::new(Config { blocks: 128, answer: 1, kv_events: true, ..Config::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = engine.clone();
        tokio::spawn(async move { serving.serve(listener).await });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let events = listener.local_addr().unwrap();
        let publishing = engine.clone();
        tokio::spawn(async move { publishing.publish(listener).await });
        Self { engine, address, events }
    }

    fn target(&self, id: &str, heard: bool) -> EngineTarget {
        let events = heard.then(|| KvEvents { endpoint: format!("tcp://{}", self.events), replay: None });
        EngineTarget { facts: EngineFacts { kv_events: events, ..EngineFacts::default() }, ..target(id, self.address) }
    }

    /// Asks the engine itself, so that the gateway does not see it.
    async fn ask(&self, letter: char) {
        let beside = Stage::new(vec![target("beside", self.address)]).await;
        let (status, said) = text(beside.post(CHAT, prompt(letter)).await).await;
        assert_eq!(status, 200, "{said}");
    }
}

/// A chat of 5,000 bytes: 79 blocks.
fn prompt(letter: char) -> String {
    format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{}"}}]}}"#, letter.to_string().repeat(5_000))
}

/// Two engines, a gateway before them, and the place of the one that got the prompt `a`.
async fn stage(heard: bool) -> (Stage, [Cached; 2], usize) {
    let engines = [Cached::new().await, Cached::new().await];
    let targets = engines.iter().zip(["e0", "e1"]).map(|(engine, id)| engine.target(id, heard)).collect();
    let stage = Stage::new(targets).await;
    if heard {
        for id in ["e0", "e1"] {
            stage.metric_becomes(&format!("datahall_gateway_kv_connected{{engine=\"{id}\"}}"), "1").await;
        }
    }
    send_a(&stage).await;
    let first = usize::from(engines[0].engine.requests() == 0);
    if heard {
        stage.metric_becomes(&format!("datahall_gateway_kv_prompts_followed{{engine=\"e{first}\"}}"), "1").await;
    }
    (stage, engines, first)
}

async fn send_a(stage: &Stage) {
    let (status, said) = text(stage.post(CHAT, prompt('a')).await).await;
    assert_eq!(status, 200, "{said}");
}

#[tokio::test]
async fn what_an_engine_threw_out_attracts_no_requests() {
    for heard in [true, false] {
        let (stage, engines, first) = stage(heard).await;
        send_a(&stage).await;
        assert_eq!(engines[first].engine.requests(), 2, "what is cached attracts");
        // Two others take all of its blocks.
        engines[first].ask('b').await;
        engines[first].ask('c').await;
        if heard {
            let followed = format!("datahall_gateway_kv_prompts_followed{{engine=\"e{first}\"}}");
            stage.metric_becomes(&followed, "0").await;
            let lost = stage.metric(&format!("datahall_gateway_kv_events_total{{engine=\"e{first}\",event=\"lost\"}}"));
            assert_eq!(lost.as_deref(), Some("16"), "a prompt of 5,000 bytes has 16 links");
        }
        send_a(&stage).await;
        let asked = engines[first].engine.requests();
        assert_eq!(asked, if heard { 4 } else { 5 }, "heard: {heard}\n{}", stage.gateway.metrics());
    }
}

#[test]
fn places_of_events_are_checked() {
    let gateway = Gateway::new(GatewayConfig::default(), std::sync::Arc::new(Keys)).unwrap();
    for (endpoint, replay) in [("h:1", None), ("tcp://*:5557", None), ("tcp://h:5557", Some("ipc:///x".to_owned()))] {
        let events = Some(KvEvents { endpoint: endpoint.to_owned(), replay });
        let facts = EngineFacts { kv_events: events, ..EngineFacts::default() };
        let target = EngineTarget { facts, ..target("a", SocketAddr::from(([127, 0, 0, 1], 1))) };
        assert!(matches!(gateway.set_engines(vec![target]), Err(Error::BadEngine { .. })), "{endpoint}");
    }
}

/// The publisher with the real libraries.
struct Real(Child);

impl Drop for Real {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Real {
    /// One that publishes on these ports, or on free ones; and the ports.
    fn start(clients: &Path, ports: &str) -> (Self, String) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/kv_publisher.py");
        let mut command = Command::new(clients.join("bin/python"));
        command.arg(script).args(ports.split_whitespace()).env_clear().env("LANG", "C.UTF-8");
        let mut real = Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
        let mut ports = String::new();
        BufReader::new(real.0.stdout.take().unwrap()).read_line(&mut ports).unwrap();
        (real, ports)
    }

    fn say(&mut self, line: &str) {
        writeln!(self.0.stdin.as_mut().unwrap(), "{line}").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_of_the_real_libraries_are_read_and_missed_ones_asked_for() {
    let Some(clients) = clients() else { return };
    for shape in ["maps", "arrays"] {
        let (mut real, ports) = Real::start(&clients, "");
        let (publish, replay) = ports.trim().split_once(' ').unwrap();
        let stub = Stub::json("{}").await;
        let events = KvEvents {
            endpoint: format!("tcp://127.0.0.1:{publish}"),
            replay: Some(format!("tcp://127.0.0.1:{replay}")),
        };
        let facts = EngineFacts { kv_events: Some(events), ..EngineFacts::default() };
        // Nobody hears it; it is repeated when the next one comes.
        real.say(&format!("{shape} store lost"));
        let stage = Stage::new(vec![EngineTarget { facts, ..stub.target("a") }]).await;
        stage.metric_becomes("datahall_gateway_kv_connected{engine=\"a\"}", "1").await;
        let blocks = "datahall_gateway_kv_blocks{engine=\"a\"}";
        let count = |event: &str| format!("datahall_gateway_kv_events_total{{engine=\"a\",event=\"{event}\"}}");
        // The subscription may reach the publisher after the batch left.
        let removes = || stage.metric(blocks).as_deref() == Some("1");
        while !removes() {
            real.say(&format!("{shape} remove sent"));
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        assert!(
            stage.metric(&count("repeated")).is_some_and(|repeated| repeated != "0"),
            "{}",
            stage.gateway.metrics()
        );
        assert_eq!(stage.metric(&count("missed")).as_deref(), Some("0"));
        // One that is lost on the way comes by the other one.
        real.say(&format!("{shape} store lost"));
        real.say(&format!("{shape} remove sent"));
        stage.metric_becomes(&count("stored"), "6").await;
        stage.metric_becomes(blocks, "1").await;
        // One that nobody can repeat makes what was known void.
        real.say(&format!("{shape} store forgotten"));
        real.say(&format!("{shape} remove sent"));
        stage.metric_becomes(&count("missed"), "1").await;
        stage.metric_becomes(blocks, "0").await;
        real.say(&format!("{shape} store sent"));
        stage.metric_becomes(blocks, "3").await;
        real.say(&format!("{shape} clear sent"));
        stage.metric_becomes(&count("cleared"), "1").await;
        stage.metric_becomes(blocks, "0").await;
        real.say(&format!("{shape} store sent"));
        stage.metric_becomes(blocks, "3").await;
        // An engine that started afresh counts from 0 and holds nothing.
        drop(real);
        let (mut real, _) = Real::start(&clients, &ports);
        while stage.metric(&count("cleared")).as_deref() != Some("2") {
            real.say(&format!("{shape} remove sent"));
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        assert_eq!(stage.metric(blocks).as_deref(), Some("0"));
    }
}
