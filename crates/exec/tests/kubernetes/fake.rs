//! A small Kubernetes API in this process, with a scheduler and kubelets that do as they are told: lists with versions, watches with
//! bookmarks that can be cut or told that they are too old, creation with conflicts, deletion with grace, logs that are followed.
//!
//! Source: the API concepts of Kubernetes, and the answers of a real server. Plain HTTP/1.1, a thread per connection.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};

/// What the API does, and what it is told to do wrong.
#[derive(Default)]
pub(crate) struct State {
    /// By kind and name: `pods/a`.
    pub(crate) objects: BTreeMap<String, Value>,
    version: u64,
    /// Every change: version, kind, type, object.
    history: Vec<(u64, String, &'static str, Value)>,
    /// Watches from before this version are told 410.
    oldest: u64,
    /// Watches of before this number end.
    cut: u64,
    /// Nothing is answered.
    pub(crate) outage: bool,
    /// Creations that are done and whose answers are lost.
    pub(crate) lose_answers: u32,
    /// Deletions of all that a selector names that are answered 503.
    pub(crate) unwell: u32,
    /// Scheduling gates are left out of what is made, as servers before 1.27 do.
    pub(crate) no_gates: bool,
    /// Pods that are refused by name.
    pub(crate) refused: Vec<String>,
    /// Pods that no node has room for.
    pub(crate) no_room: Vec<String>,
    /// Nodes whose kubelets are silent.
    pub(crate) silent: Vec<String>,
    /// Pods whose kubelets never end them.
    pub(crate) stubborn: Vec<String>,
    /// Pods whose kubelets do not start them by themselves.
    pub(crate) waiting: Vec<String>,
    pub(crate) logs: BTreeMap<String, Vec<String>>,
    /// Every call that changes something: `POST pods/a`.
    pub(crate) calls: Vec<String>,
    closed: bool,
}

/// The API; its address, and its state.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) address: String,
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Api {
    /// A cluster with these nodes, each with eight of `resource`.
    pub(crate) fn start(nodes: &[&str], resource: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let api = Self { address, shared: Arc::default() };
        for name in nodes {
            let ready = json!([{ "type": "Ready", "status": "True" }]);
            let taints = if name.starts_with("control") {
                json!([{ "key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule" }])
            } else {
                json!([])
            };
            api.put(
                "nodes",
                json!({
                    "metadata": { "name": name },
                    "spec": { "taints": taints },
                    "status": { "conditions": ready, "allocatable": { "cpu": "64", resource: "8" } },
                }),
            );
        }
        let served = api.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (served, stream) = (served.clone(), stream.unwrap());
                if served.state().closed {
                    return;
                }
                std::thread::spawn(move || served.serve(stream));
            }
        });
        let kubelets = api.clone();
        std::thread::spawn(move || {
            while !kubelets.state().closed {
                kubelets.tend();
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        api
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().unwrap()
    }

    pub(crate) fn close(&self) {
        self.change(|state| state.closed = true);
        // Wakes the listener.
        drop(TcpStream::connect(self.address.trim_start_matches("http://")));
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let outcome = change(&mut self.state());
        self.shared.1.notify_all();
        outcome
    }

    fn put(&self, kind: &str, object: Value) -> Value {
        self.change(|state| state.put(kind, object))
    }

    /// Changes a pod as its kubelet would.
    pub(crate) fn pod(&self, name: &str, change: impl FnOnce(&mut Value)) {
        self.change(|state| {
            let mut pod = state.objects[&format!("pods/{name}")].clone();
            change(&mut pod);
            state.put("pods", pod);
        });
    }

    pub(crate) fn finish(&self, name: &str, code: i32, reason: &str) {
        let phase = if code == 0 { "Succeeded" } else { "Failed" };
        self.pod(name, |pod| {
            pod["status"] = json!({ "phase": phase, "containerStatuses": [
                { "name": "task", "state": { "terminated": { "exitCode": code, "reason": reason } } },
            ] });
        });
    }

    pub(crate) fn ready(&self, node: &str, status: &str) {
        self.change(|state| {
            let mut node = state.objects[&format!("nodes/{node}")].clone();
            node["status"]["conditions"] = json!([{ "type": "Ready", "status": status, "reason": "NodeStatusUnknown", "message": "Kubelet stopped posting node status." }]);
            state.put("nodes", node);
        });
    }

    /// Ends every watch; with `forget` those that come back are told that they are too old.
    pub(crate) fn cut(&self, forget: bool) {
        self.change(|state| {
            state.cut += 1;
            if forget {
                state.version += 1;
                state.oldest = state.version;
            }
        });
    }

    pub(crate) fn remove(&self, kind: &str, name: &str) {
        self.change(|state| state.remove(kind, name));
    }

    pub(crate) fn names(&self, kind: &str) -> Vec<String> {
        let prefix = format!("{kind}/");
        self.state().objects.keys().filter_map(|name| name.strip_prefix(&prefix)).map(str::to_owned).collect()
    }

    /// Scheduler and kubelets: pods that are let go run, those that are to go end.
    fn tend(&self) {
        self.change(|state| {
            let pods: Vec<Value> =
                state.objects.iter().filter(|(name, _)| name.starts_with("pods/")).map(|(_, pod)| pod.clone()).collect();
            for mut pod in pods {
                let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
                let gated = pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty());
                let node = pod.pointer("/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0/matchFields/0/values/0");
                let node = node.and_then(Value::as_str).unwrap_or_default().to_owned();
                let phase = pod["status"]["phase"].as_str().unwrap_or_default().to_owned();
                if gated || state.silent.contains(&node) {
                    continue;
                }
                if pod["metadata"]["deletionTimestamp"].is_string() {
                    if !state.stubborn.contains(&name) {
                        state.remove("pods", &name);
                    }
                } else if state.no_room.contains(&name) {
                    if pod["status"]["conditions"].is_null() {
                        pod["status"]["conditions"] = json!([{ "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available: 1 Insufficient nvidia.com/gpu." }]);
                        state.put("pods", pod);
                    }
                } else if phase == "Pending" && !state.waiting.contains(&name) {
                    let secret = pod["spec"]["containers"][0]["envFrom"][0]["secretRef"]["name"].as_str().unwrap();
                    if !state.objects.contains_key(&format!("secrets/{secret}")) {
                        let why = json!({ "reason": "CreateContainerConfigError", "message": format!("secret \"{secret}\" not found") });
                        if pod["status"]["containerStatuses"][0]["state"]["waiting"] != why {
                            pod["spec"]["nodeName"] = json!(node);
                            pod["status"]["containerStatuses"] = json!([{ "name": "task", "state": { "waiting": why } }]);
                            state.put("pods", pod);
                        }
                        continue;
                    }
                    pod["spec"]["nodeName"] = json!(node);
                    pod["status"] = json!({ "phase": "Running", "containerStatuses": [{ "name": "task", "state": { "running": {} } }] });
                    state.put("pods", pod);
                }
            }
        });
    }

    fn serve(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        loop {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if reader.read_line(&mut head).unwrap_or(0) == 0 {
                    return;
                }
            }
            let length = head
                .lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok())
                .unwrap_or(0);
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let mut words = head.split(' ');
            let (method, target) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
            if self.state().outage {
                return;
            }
            let (path, query) = target.split_once('?').unwrap_or((&target, ""));
            let query: BTreeMap<&str, String> = query
                .split('&')
                .filter_map(|pair| pair.split_once('='))
                .map(|(name, value)| (name, decoded(value)))
                .collect();
            if query.contains_key("watch") {
                return self.watch(&mut stream, path, &query);
            }
            if path.ends_with("/exec") {
                let key = head.lines().find_map(|line| {
                    line.split_once(": ").filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"))
                });
                return self.exec(stream, path, target.split_once('?').unwrap_or_default().1, key.unwrap().1);
            }
            if path.ends_with("/log") {
                return self.log(&mut stream, path, &query);
            }
            let body: Value = serde_json::from_slice(&body).unwrap_or_default();
            let Some((status, answer)) = self.answer(&method, path, &query, &body) else { return };
            let text = answer.to_string();
            let reply = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{text}", text.len());
            if stream.write_all(reply.as_bytes()).is_err() {
                return;
            }
        }
    }

    /// The answer to a call; none if it is lost.
    fn answer(&self, method: &str, path: &str, query: &BTreeMap<&str, String>, body: &Value) -> Option<(u16, Value)> {
        let (kind, name) = kind_of(path);
        let selector = query.get("labelSelector").cloned().unwrap_or_default();
        self.change(|state| {
            let missing =
                (404, json!({ "kind": "Status", "code": 404, "message": format!("{kind} \"{name}\" not found") }));
            if method != "GET" {
                let name = if name.is_empty() { body["metadata"]["name"].as_str().unwrap_or("*") } else { &name };
                state.calls.push(format!("{method} {kind}/{name}"));
            }
            let key = format!("{kind}/{name}");
            let answer = match (method, name.as_str()) {
                ("GET", "") => {
                    let items = state.selected(&kind, &selector);
                    (200, json!({ "metadata": { "resourceVersion": state.version.to_string() }, "items": items }))
                }
                ("GET", _) => state.objects.get(&key).map_or(missing, |object| (200, object.clone())),
                ("POST", _) => {
                    let name = body["metadata"]["name"].as_str().unwrap().to_owned();
                    if state.refused.contains(&name) {
                        return Some((
                            403,
                            json!({ "code": 403, "message": format!("pods \"{name}\" is forbidden: exceeded quota") }),
                        ));
                    }
                    if state.objects.contains_key(&format!("{kind}/{name}")) {
                        return Some((
                            409,
                            json!({ "code": 409, "message": format!("{kind} \"{name}\" already exists") }),
                        ));
                    }
                    let mut object = body.clone();
                    object["metadata"]["uid"] = json!(format!("uid-{}", state.version));
                    if kind == "pods" {
                        object["status"] = json!({ "phase": "Pending" });
                        if state.no_gates {
                            object["spec"].as_object_mut().unwrap().remove("schedulingGates");
                        }
                    }
                    let made = state.put(&kind, object);
                    if state.lose_answers > 0 {
                        state.lose_answers -= 1;
                        return None;
                    }
                    (201, made)
                }
                ("PATCH", _) => match state.objects.get(&key).cloned() {
                    None => missing,
                    Some(mut object) => {
                        if body["spec"]["schedulingGates"].is_null() {
                            object["spec"].as_object_mut().unwrap().remove("schedulingGates");
                        }
                        (200, state.put(&kind, object))
                    }
                },
                ("DELETE", "") if state.unwell > 0 => {
                    state.unwell -= 1;
                    (503, json!({ "code": 503, "message": "etcdserver: leader changed" }))
                }
                ("DELETE", "") => {
                    for object in state.selected(&kind, &selector) {
                        state.remove(&kind, object["metadata"]["name"].as_str().unwrap());
                    }
                    (200, json!({}))
                }
                ("DELETE", _) => match state.objects.get(&key).cloned() {
                    None => missing,
                    Some(object)
                        if body["preconditions"]["uid"]
                            .as_str()
                            .is_some_and(|uid| object["metadata"]["uid"] != uid) =>
                    {
                        (409, json!({ "code": 409, "message": "the UID in the precondition does not match" }))
                    }
                    Some(mut object) => {
                        let placed = object["spec"]["nodeName"].is_string() && object["status"]["phase"] == "Running";
                        if kind == "pods" && placed && body["gracePeriodSeconds"] != 0 {
                            object["metadata"]["deletionTimestamp"] = json!("2026-11-26T18:00:00Z");
                            object["metadata"]["deletionGracePeriodSeconds"] = body["gracePeriodSeconds"].clone();
                            object = state.put(&kind, object);
                        } else {
                            state.remove(&kind, &name);
                        }
                        (200, object)
                    }
                },
                _ => (405, json!({ "code": 405, "message": "what?" })),
            };
            Some(answer)
        })
    }

    fn watch(&self, stream: &mut TcpStream, path: &str, query: &BTreeMap<&str, String>) {
        let (kind, _) = kind_of(path);
        let mut since: u64 = query["resourceVersion"].parse().unwrap();
        let selector = query["labelSelector"].clone();
        if stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err() {
            return;
        }
        let mut send = |kind: &str, object: &Value| {
            let line = format!("{}\n", json!({ "type": kind, "object": object }));
            stream.write_all(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes()).is_ok()
        };
        let mut state = self.state();
        if since < state.oldest {
            send(
                "ERROR",
                &json!({ "kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version" }),
            );
            return;
        }
        if !send("BOOKMARK", &json!({ "metadata": { "resourceVersion": since.to_string() } })) {
            return;
        }
        let cut = state.cut;
        while !state.closed && !state.outage && state.cut == cut {
            let news: Vec<(u64, &'static str, Value)> = state
                .history
                .iter()
                .filter(|(version, of, _, object)| *version > since && *of == kind && matches(object, &selector))
                .map(|(version, _, what, object)| (*version, *what, object.clone()))
                .collect();
            for (version, what, object) in news {
                since = version;
                if !send(what, &object) {
                    return;
                }
            }
            state = self.shared.1.wait_timeout(state, Duration::from_millis(100)).unwrap().0;
        }
    }

    /// A kubelet whose containers have one program: it says its arguments, and ends with the code that its first one is.
    fn exec(&self, mut stream: TcpStream, path: &str, query: &str, key: &str) {
        use tokio_tungstenite::tungstenite::{Message, WebSocket, protocol::Role};
        let name = path.trim_end_matches("/exec").rsplit('/').next().unwrap();
        let words: Vec<String> =
            query.split('&').filter_map(|pair| Some(decoded(pair.strip_prefix("command=")?))).collect();
        if !self.state().objects.contains_key(&format!("pods/{name}")) {
            let text =
                json!({ "kind": "Status", "code": 404, "message": format!("pods \"{name}\" not found") }).to_string();
            let reply = format!("HTTP/1.1 404 X\r\ncontent-length: {}\r\n\r\n{text}", text.len());
            return stream.write_all(reply.as_bytes()).unwrap();
        }
        let salted = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
        let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, salted.as_bytes());
        let accept = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, digest);
        let head = format!(
            "HTTP/1.1 101 X\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {accept}\r\n\
             sec-websocket-protocol: v4.channel.k8s.io\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut socket = WebSocket::from_raw_socket(stream, Role::Server, None);
        let mut say = |channel: u8, text: &str| {
            socket.send(Message::Binary([&[channel], text.as_bytes()].concat().into())).unwrap();
        };
        // Kubelets begin with an empty piece of each stream.
        say(1, "");
        say(2, "");
        say(1, &format!("{} {}\n", name, words.join("|")));
        say(2, "a warning\n");
        match words[0].as_str() {
            "0" => say(3, &json!({ "metadata": {}, "status": "Success" }).to_string()),
            "cut" => return,
            // Until whoever asked goes away.
            "wait" => return drop(socket.read()),
            code if code.parse::<u8>().is_ok() => {
                let causes = json!([{ "reason": "ExitCode", "message": code }]);
                say(
                    3,
                    &json!({ "status": "Failure", "reason": "NonZeroExitCode", "details": { "causes": causes } })
                        .to_string(),
                );
            }
            missing => say(3, &json!({ "status": "Failure", "message": format!("{missing}: not found") }).to_string()),
        }
        socket.close(None).unwrap_or_default();
    }

    fn log(&self, stream: &mut TcpStream, path: &str, query: &BTreeMap<&str, String>) {
        let name = path.trim_end_matches("/log").rsplit('/').next().unwrap().to_owned();
        let since = query.get("sinceTime").cloned().unwrap_or_default();
        if stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err() {
            return;
        }
        let mut sent = 0;
        let mut state = self.state();
        let cut = state.cut;
        loop {
            let lines = state.logs.get(&name).cloned().unwrap_or_default();
            for line in lines.iter().skip(sent).filter(|line| line[..19] >= since[..since.len().min(19)]) {
                let line = format!("{line}\n");
                if stream.write_all(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes()).is_err() {
                    return;
                }
            }
            sent = lines.len();
            let running =
                state.objects.get(&format!("pods/{name}")).is_some_and(|pod| pod["status"]["phase"] == "Running");
            if !running {
                stream.write_all(b"0\r\n\r\n").unwrap_or_default();
                return;
            }
            if state.closed || state.outage || state.cut != cut {
                return;
            }
            state = self.shared.1.wait_timeout(state, Duration::from_millis(50)).unwrap().0;
        }
    }
}

impl State {
    fn put(&mut self, kind: &str, mut object: Value) -> Value {
        self.version += 1;
        let key = format!("{kind}/{}", object["metadata"]["name"].as_str().unwrap());
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let what = if self.objects.contains_key(&key) { "MODIFIED" } else { "ADDED" };
        self.history.push((self.version, kind.to_owned(), what, object.clone()));
        self.objects.insert(key, object.clone());
        object
    }

    fn remove(&mut self, kind: &str, name: &str) {
        if let Some(mut object) = self.objects.remove(&format!("{kind}/{name}")) {
            self.version += 1;
            object["metadata"]["resourceVersion"] = json!(self.version.to_string());
            self.history.push((self.version, kind.to_owned(), "DELETED", object));
        }
    }

    fn selected(&self, kind: &str, selector: &str) -> Vec<Value> {
        let prefix = format!("{kind}/");
        let of_kind = self.objects.iter().filter(|(name, _)| name.starts_with(&prefix));
        of_kind.map(|(_, object)| object.clone()).filter(|object| matches(object, selector)).collect()
    }
}

fn matches(object: &Value, selector: &str) -> bool {
    selector
        .split(',')
        .filter_map(|pair| pair.split_once('='))
        .all(|(label, value)| object["metadata"]["labels"].get(label).and_then(Value::as_str) == Some(value))
}

/// The kind and the name that a path is of.
fn kind_of(path: &str) -> (String, String) {
    let rest = path.trim_start_matches("/api/v1/");
    let rest = rest.strip_prefix("namespaces/").and_then(|rest| rest.split_once('/')).map_or(rest, |(_, rest)| rest);
    let (kind, name) = rest.split_once('/').unwrap_or((rest, ""));
    (kind.to_owned(), name.to_owned())
}

fn decoded(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let hex: Vec<u8> = bytes.by_ref().take(2).collect();
            out.push(u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap());
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).unwrap()
}
