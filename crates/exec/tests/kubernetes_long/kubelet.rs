//! The kubelets of three nodes, by hand: they run what the scheduler gives them, end what is to go, and hand out logs.
//!
//! What they do follows the kubelet where the executor depends on it: no container starts before the Secret of its variables is
//! there, a pod that is deleted ends before it goes, and a log is followed until its container has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

use crate::cluster::{Admin, Cluster};

/// What the kubelets know and are told.
#[derive(Default)]
pub(crate) struct State {
    /// Nodes whose kubelets are silent.
    pub(crate) silent: Vec<String>,
    /// Pods whose containers have ever run.
    pub(crate) ran: BTreeSet<String>,
    /// Seconds that pods were given to end.
    pub(crate) graces: BTreeMap<String, u64>,
    /// Lines of output, each with its time.
    pub(crate) logs: BTreeMap<String, Vec<String>>,
    /// Containers that have ended.
    over: BTreeSet<String>,
    closed: bool,
}

/// Kubelets of the nodes `gpu1`, `gpu2` and `gpu10`, with eight accelerators each.
pub(crate) struct Kubelets {
    admin: Admin,
    state: Arc<Mutex<State>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Kubelets {
    pub(crate) fn start(cluster: &Cluster) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let port = serve(cluster, &state);
        let admin = cluster.admin();
        for name in ["gpu10", "gpu2", "gpu1"] {
            let has = json!({ "cpu": "64", "memory": "256Gi", "pods": "110", "nvidia.com/gpu": "8" });
            let node = json!({
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name } },
                "status": {
                    "capacity": has,
                    "allocatable": has,
                    "conditions": [{ "type": "Ready", "status": "True", "reason": "KubeletReady" }],
                    "addresses": [{ "type": "InternalIP", "address": "127.0.0.1" }],
                    "daemonEndpoints": { "kubeletEndpoint": { "Port": port } },
                },
            });
            admin.post("/api/v1/nodes", &node);
        }
        let (tended, of_tended) = (admin.clone(), Arc::clone(&state));
        let thread = std::thread::spawn(move || {
            while !of_tended.lock().unwrap().closed {
                tend(&tended, &of_tended);
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        Self { admin, state, thread: Some(thread) }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// What the node's own controller would say of it.
    pub(crate) fn ready(&self, node: &str, status: &str) {
        let said = json!([{ "type": "Ready", "status": status, "reason": "NodeStatusUnknown", "message": "Kubelet stopped posting node status." }]);
        let path = format!("/api/v1/nodes/{node}/status");
        assert_eq!(self.admin.patch(&path, &json!({ "status": { "conditions": said } })).0, 200);
    }

    /// A program ends by itself.
    pub(crate) fn finish(&self, name: &str, code: i32) {
        self.state().over.insert(name.to_owned());
        let reason = if code == 0 { "Completed" } else { "Error" };
        let phase = if code == 0 { "Succeeded" } else { "Failed" };
        status(&self.admin, name, phase, &json!({ "terminated": { "exitCode": code, "reason": reason } }));
    }
}

impl Drop for Kubelets {
    fn drop(&mut self) {
        if let Ok(mut state) = self.state.lock() {
            state.closed = true;
        }
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn status(admin: &Admin, name: &str, phase: &str, state: &Value) {
    let container = json!({ "name": "task", "state": state, "ready": false, "restartCount": 0, "image": "trainer:1", "imageID": "" });
    let body = json!({ "status": { "phase": phase, "containerStatuses": [container] } });
    admin.patch(&format!("{}/status", Admin::path("pods", name)), &body);
}

/// One look at all pods.
fn tend(admin: &Admin, state: &Mutex<State>) {
    let list = admin.get(&Admin::path("pods", ""));
    let secrets: BTreeSet<String> = admin.names("secrets").into_iter().collect();
    for pod in list["items"].as_array().into_iter().flatten() {
        let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
        let Some(node) = pod["spec"]["nodeName"].as_str() else { continue };
        let phase = pod["status"]["phase"].as_str().unwrap_or_default();
        let (over, silent) = {
            let state = state.lock().unwrap();
            (
                state.over.contains(&name) || phase != "Pending" && phase != "Running",
                state.silent.iter().any(|one| one == node),
            )
        };
        if silent {
            continue;
        }
        if pod["metadata"]["deletionTimestamp"].is_string() {
            if !over {
                let grace = pod["metadata"]["deletionGracePeriodSeconds"].as_u64().unwrap_or(0);
                state.lock().unwrap().graces.insert(name.clone(), grace);
                if state.lock().unwrap().ran.contains(&name) {
                    status(admin, &name, "Failed", &json!({ "terminated": { "exitCode": 143, "reason": "Error" } }));
                }
            }
            state.lock().unwrap().over.insert(name.clone());
            admin.delete(&Admin::path("pods", &name));
        } else if phase == "Pending" && !over {
            let secret = pod["spec"]["containers"][0]["envFrom"][0]["secretRef"]["name"].as_str();
            if let Some(secret) = secret.filter(|secret| !secrets.contains(*secret)) {
                let why = format!("secret \"{secret}\" not found");
                let waiting = json!({ "waiting": { "reason": "CreateContainerConfigError", "message": why } });
                status(admin, &name, "Pending", &waiting);
            } else {
                state.lock().unwrap().ran.insert(name.clone());
                status(admin, &name, "Running", &json!({ "running": { "startedAt": "2026-11-26T18:00:00Z" } }));
            }
        }
    }
}

/// The door of the kubelets, through which the API server asks for logs; its port.
fn serve(cluster: &Cluster, state: &Arc<Mutex<State>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let certificate = cluster.path("certs/apiserver.crt");
    let chain = CertificateDer::pem_file_iter(certificate).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(cluster.path("certs/apiserver.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap());
    let state = Arc::clone(state);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(stream), config, state) = (stream, Arc::clone(&config), Arc::clone(&state)) else { continue };
            std::thread::spawn(move || answer(stream, config, &state));
        }
    });
    port
}

/// Answers `GET /containerLogs/NAMESPACE/POD/CONTAINER?follow=true&...`.
fn answer(stream: TcpStream, config: Arc<rustls::ServerConfig>, state: &Mutex<State>) {
    let Ok(session) = rustls::ServerConnection::new(config) else { return };
    let mut reader = BufReader::new(rustls::StreamOwned::new(session, stream));
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return;
        }
    }
    let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let name = path.split('/').nth(3).unwrap_or_default();
    let since =
        query.split('&').find_map(|pair| pair.strip_prefix("sinceTime=")).unwrap_or_default().replace("%3A", ":");
    let mut stream = reader.into_inner();
    if !path.starts_with("/containerLogs/") {
        drop(stream.write_all(b"HTTP/1.1 404 X\r\ncontent-length: 0\r\n\r\n"));
        return;
    }
    if stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err() {
        return;
    }
    let mut sent = 0;
    loop {
        let (lines, over) = {
            let state = state.lock().unwrap();
            let over = state.over.contains(name) || state.closed;
            (state.logs.get(name).cloned().unwrap_or_default(), over)
        };
        for line in lines.iter().skip(sent).filter(|line| line[..19] >= since[..since.len().min(19)]) {
            let line = format!("{line}\n");
            if stream.write_all(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes()).is_err() {
                return;
            }
        }
        sent = lines.len();
        if over {
            drop(stream.write_all(b"0\r\n\r\n"));
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
