//! A gateway as a process of its own, killed with SIGKILL in the middle of a batch, again and again.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dh_gateway::{BatchConfig, Gateway, GatewayConfig};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::batch::{Folder, form, requests};
use crate::stage::*;

const SAYS: &str = "serving on ";

#[test]
#[ignore = "this is the process that the next test starts and kills"]
fn gateway_process() {
    let (Ok(folder), Ok(engine)) = (std::env::var("DH_TEST_FOLDER"), std::env::var("DH_TEST_ENGINE")) else { return };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let batch = Some(BatchConfig { per_engine: 8, ..BatchConfig::in_folder(folder.into()) });
        let gateway = Gateway::new(GatewayConfig { batch, ..GatewayConfig::default() }, Arc::new(Keys)).unwrap();
        gateway.set_engines(vec![target("a", engine.parse().unwrap())]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        // Past the harness, which would keep it.
        let said = format!("\n{SAYS}{}\n", listener.local_addr().unwrap());
        std::io::Write::write_all(&mut std::io::stdout(), said.as_bytes()).unwrap();
        gateway.serve(listener, std::future::pending()).await.unwrap();
    });
}

struct Process {
    child: Child,
    address: SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Process {
    fn start(folder: &Folder, engine: SocketAddr) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed::gateway_process", "--ignored", "--nocapture"])
            .env("DH_TEST_FOLDER", &folder.0)
            .env("DH_TEST_ENGINE", engine.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines.map_while(Result::ok).find_map(|line| line.strip_prefix(SAYS)?.parse().ok());
        Self { child, address: address.unwrap(), client: Client::builder(TokioExecutor::new()).build_http() }
    }

    async fn send(&self, method: &str, path: &str, kind: &str, body: String) -> String {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address))
            .header("authorization", format!("Bearer {CALLER}"))
            .header("content-type", kind)
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        let (status, body) = text(self.client.request(request).await.unwrap()).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    async fn get(&self, path: &str) -> Value {
        serde_json::from_str(&self.send("GET", path, "text/plain", String::new()).await).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_survives_kill_9_and_no_line_is_lost_or_doubled() {
    let folder = Folder::new();
    let engine = Stub::start(|_| {
        Box::pin(async {
            tokio::time::sleep(Duration::from_millis(2)).await;
            reply(200, "application/json", r#"{"id":"x","choices":[]}"#)
        })
    })
    .await;
    let process = Process::start(&folder, engine.address);
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let kind = "multipart/form-data; boundary=b";
    let file = json(&process.send("POST", "/v1/files", kind, form(&requests(400))).await);
    let wanted = serde_json::json!({ "input_file_id": file["id"], "endpoint": CHAT }).to_string();
    let batch = json(&process.send("POST", "/v1/batches", "application/json", wanted).await);
    let path = format!("/v1/batches/{}", batch["id"].as_str().unwrap());
    drop(process);
    for _ in 0..4 {
        let (process, before) = (Process::start(&folder, engine.address), engine.asked());
        eventually(|| engine.asked() >= before + 40, || format!("{} asked", engine.asked())).await;
        drop(process);
    }
    let process = Process::start(&folder, engine.address);
    let mut batch = process.get(&path).await;
    for _ in 0..4_000 {
        if batch["status"] == "completed" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        batch = process.get(&path).await;
    }
    assert_eq!(batch["request_counts"]["completed"], 400, "{batch}");
    let path = format!("/v1/files/{}/content", batch["output_file_id"].as_str().unwrap());
    let body = process.send("GET", &path, "text/plain", String::new()).await;
    let mut names: Vec<String> =
        body.lines().map(|line| json(line)["custom_id"].as_str().unwrap().to_owned()).collect();
    names.sort_unstable();
    let mut expected: Vec<String> = (0..400).map(|number| format!("r{number}")).collect();
    expected.sort_unstable();
    assert_eq!(names, expected);
    assert!(engine.asked() <= 400 + 4 * 8, "{} asked", engine.asked());
}
