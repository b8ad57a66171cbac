//! Bounds that outlive a process, and that several gateways share: nothing is over-admitted, whoever is killed.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dh_core::Secret;
use dh_gateway::{Gateway, GatewayConfig, LedgerConfig, Price};
use dh_rig::engine::{Config, Engine};
use dh_rig::load::{Closed, Dress, Report, Shape, closed};
use http_body_util::Full;
use tokio::net::TcpListener;

use crate::batch::Folder;
use crate::stage::*;

const SAYS: &str = "serving on ";
/// A token of a prompt costs a millionth of a dollar, one of an answer two.
const PRICE: Price = Price { prompt: 1_000_000, cached: 0, answer: 2_000_000 };
const PRICED: &str = r#"{"model":"priced","max_tokens":20}"#;

fn config(ledger: LedgerConfig) -> GatewayConfig {
    let prices = BTreeMap::from([("priced".to_owned(), PRICE)]);
    GatewayConfig { ledger: Some(ledger), prices, ..GatewayConfig::default() }
}

fn lease(url: &str) -> LedgerConfig {
    LedgerConfig::Lease { url: url.to_owned(), key: Secret::new(ADMIN.to_owned()) }
}

fn targets(engine: SocketAddr) -> Vec<dh_gateway::EngineTarget> {
    let mut targets = vec![target("a", engine), target("b", engine)];
    "priced".clone_into(&mut targets[1].model);
    targets
}

#[test]
#[ignore = "this is the process that the next tests start and kill"]
fn ledger_process() {
    let Ok(engine) = std::env::var("DH_TEST_ENGINE") else { return };
    let ledger = match (std::env::var("DH_TEST_FOLDER"), std::env::var("DH_TEST_LEDGER")) {
        (Ok(folder), _) => LedgerConfig::Keep { folder: folder.into() },
        (_, Ok(url)) => lease(&url),
        _ => return,
    };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let gateway = Gateway::new(config(ledger), Arc::new(Keys)).unwrap();
        gateway.set_engines(targets(engine.parse().unwrap())).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        // Past the harness, which would keep it.
        let said = format!("\n{SAYS}{}\n", listener.local_addr().unwrap());
        std::io::Write::write_all(&mut std::io::stdout(), said.as_bytes()).unwrap();
        gateway.serve(listener, std::future::pending()).await.unwrap();
    });
}

/// A gateway as a process of its own; dropped, it is killed with SIGKILL.
struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    fn start(engine: SocketAddr, ledger: (&str, String)) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "ledger::ledger_process", "--ignored", "--nocapture"])
            .env("DH_TEST_ENGINE", engine.to_string())
            .env(ledger.0, ledger.1)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines.map_while(Result::ok).find_map(|line| line.strip_prefix(SAYS)?.parse().ok());
        Self { child, address: address.unwrap() }
    }

    fn keeper(engine: SocketAddr, folder: &std::path::Path) -> Self {
        Self::start(engine, ("DH_TEST_FOLDER", folder.display().to_string()))
    }

    fn lessee(engine: SocketAddr, keeper: SocketAddr) -> Self {
        Self::start(engine, ("DH_TEST_LEDGER", format!("http://{keeper}")))
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn post(address: SocketAddr, path: &str, key: &str, body: &'static str) -> (u16, Option<String>, String) {
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build_http();
    let request = http::Request::builder()
        .method("POST")
        .uri(format!("http://{address}{path}"))
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {key}"))
        .body(Full::new(Bytes::from_static(body.as_bytes())))
        .unwrap();
    let response = client.request(request).await.unwrap();
    let wait = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
    let (status, body) = text(response).await;
    (status.as_u16(), wait, body)
}

async fn engine(config: Config) -> (Engine, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let engine = Engine::new(config);
    let serving = engine.clone();
    tokio::spawn(async move { serving.serve(listener).await });
    (engine, address)
}

fn load(address: SocketAddr, requests: usize) -> impl Future<Output = Result<Report, dh_rig::load::Error>> {
    let dress = Dress {
        host: address.to_string(),
        path: CHAT.to_owned(),
        model: "m".to_owned(),
        key: Some(Secret::new(BOUNDED.to_owned())),
        stream: false,
    };
    let shape = |number: u32| Shape { at: 0, prompt: 100 + number % 50, answer: 10, blocks: Vec::new() };
    let all = (0..64_u32).map(|number| dress.request(&shape(number), u64::from(number))).collect();
    closed(
        address,
        Arc::new(all),
        Closed { connections: requests, time: Duration::from_mins(1), requests: u64::try_from(requests).unwrap() },
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn three_gateways_on_one_key_over_admit_nothing_though_one_is_killed() {
    let (engine, address) = engine(Config { decode: Duration::from_millis(2), ..Config::default() }).await;
    let folder = Folder::new();
    let keeper = Process::keeper(address, &folder.0);
    let mut dies = Process::lessee(address, keeper.address);
    let lives = Process::lessee(address, keeper.address);
    let all = [keeper.address, dies.address, lives.address].map(|gateway| load(gateway, 334));
    let [first, second, third] = all;
    // Killed while a third of the requests are under way in it.
    let killed = async {
        eventually(|| engine.prompt_tokens().0 > 1_000, || "nothing was asked".to_owned()).await;
        dies.kill();
    };
    let (first, second, third, ()) = tokio::join!(first, second, third, killed);
    let (first, third) = (first.unwrap(), third.unwrap());
    // Those of the dead one broke, unless they were answered before.
    let second = second.map_or(0, |report| report.good);
    assert_eq!((first.broken, third.broken, first.refused + third.refused), (0, 0, 0));
    assert!(first.limited + third.limited > 0 && first.good + third.good > 0);
    // What the engine computed, for whomever: prompts, and ten tokens for each answer.
    let seen = || engine.prompt_tokens().0 + (first.good + second + third.good) * 10;
    assert!(seen() <= 20_000, "{} tokens", seen());
    // More requests in the same minute, at the survivors, never pass the bound either.
    let more = (load(keeper.address, 100).await.unwrap(), load(lives.address, 100).await.unwrap());
    let used = seen() + (more.0.good + more.1.good) * 10;
    assert!((10_000..=20_000).contains(&used), "{used} tokens");
}

#[tokio::test]
async fn money_survives_kill_9_and_is_never_spent_twice() {
    let stub = Stub::json(r#"{"usage":{"prompt_tokens":10,"completion_tokens":5}}"#).await;
    let folder = Folder::new();
    let (mut good, mut rounds) = (0, 0);
    // 20 of 100 each; each crash may cost the caller what was lent, at most 56 and some.
    loop {
        let process = Process::keeper(stub.address, &folder.0);
        let (status, wait, body) = post(process.address, CHAT, BOUNDED, PRICED).await;
        rounds += 1;
        if status != 200 {
            assert_eq!((status, wait), (429, None), "{body}");
            assert_eq!(error_of(&body)["code"], "insufficient_quota");
            break;
        }
        good += 1;
        assert!(rounds < 6);
    }
    assert_eq!(good, 1, "what a crash leaves open counts as spent");
}

#[tokio::test]
async fn an_orderly_stop_gives_back_what_was_not_used() {
    let stub = Stub::json(r#"{"usage":{"prompt_tokens":10,"completion_tokens":5}}"#).await;
    let folder = Folder::new();
    let mut good = 0;
    let (status, body) = loop {
        let mut stage =
            Stage::with(config(LedgerConfig::Keep { folder: folder.0.clone() }), targets(stub.address)).await;
        let (status, body) = text(stage.send("POST", CHAT, Some(BOUNDED), PRICED).await).await;
        stage.stop();
        stage.served.take().unwrap().await.unwrap();
        if status != 200 {
            break (status, body);
        }
        good += 1;
        assert!(good < 10);
    };
    // As without a restart: a request is let out while its most, 56 and some, still fits.
    assert_eq!((good, status.as_u16()), (3, 429), "{body}");
}

#[tokio::test]
async fn without_its_keeper_a_gateway_uses_what_it_holds_and_then_says_when_to_come_back() {
    let stub = Stub::json(r#"{"usage":{"prompt_tokens":10,"completion_tokens":5}}"#).await;
    let folder = Folder::new();
    let mut keeper = Process::keeper(stub.address, &folder.0);
    let stage = Stage::with(config(lease(&format!("http://{}", keeper.address))), targets(stub.address)).await;
    let ask = || stage.send("POST", CHAT, Some(BOUNDED), r#"{"model":"m","max_tokens":500}"#);
    assert_eq!(ask().await.status(), 200);
    keeper.kill();
    // A quarter of 20,000 was lent, and each answer gives back what it did not use.
    for round in 0..8 {
        assert_eq!(ask().await.status(), 200, "{round}");
    }
    stage.clock.advance(Duration::from_secs(6));
    let refused = ask().await;
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()), (503, "1"));
    assert!(error_of(&text(refused).await.1)["message"].as_str().unwrap().contains("ledger"));
    assert_eq!(stage.chat().await.0, 200, "keys without bounds need no ledger");
}

#[tokio::test]
async fn the_ledger_is_for_admins_and_for_callers_it_knows() {
    let folder = Folder::new();
    let stage = Stage::with(config(LedgerConfig::Keep { folder: folder.0.clone() }), Vec::new()).await;
    let ask = |caller: &str| {
        format!(
            r#"{{"gateway":1,"caller":"{caller}","seq":1,"requests":0,"tokens":0,"less":[],"micro_usd":0,"wants":{{"tokens":100,"micro_usd":1}},"gives":"nothing"}}"#
        )
    };
    let send = |key: Option<&'static str>, body: String| stage.send("POST", "/v1/ledger", key, body);
    for (key, status) in [(None, 401), (Some("x"), 401), (Some(BOUNDED), 403), (Some(JOB), 403), (Some(ADMIN), 200)] {
        assert_eq!(send(key, ask("bounded")).await.status().as_u16(), status, "{key:?}");
    }
    assert_eq!(send(Some(ADMIN), ask("nobody")).await.status(), 404);
    assert_eq!(send(Some(ADMIN), "{}".to_owned()).await.status(), 400);
    let (_, lent) = text(send(Some(ADMIN), ask("bounded")).await).await;
    assert!(lent.contains("\"tokens\":5000"), "{lent}");
    // A gateway that keeps no ledger has no such route.
    let plain = Stage::new(Vec::new()).await;
    assert_eq!(plain.send("POST", "/v1/ledger", Some(ADMIN), ask("bounded")).await.status(), 404);
}
