//! A real API server and scheduler with a throwaway `etcd`, all on loopback, all in one folder; and a client of it.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};

use crate::hall::{PATIENCE, wait};

/// The namespace of the hall, as in `examples/kubernetes`.
pub(crate) const NAMESPACE: &str = "training";
const ADMIN: &str = "admintoken";
const SCHEDULER: &str = "schedulertoken";

/// A running cluster.
pub(crate) struct Cluster {
    folder: tempfile::TempDir,
    programs: PathBuf,
    port: u16,
    etcd: Child,
    api: Mutex<Child>,
    scheduler: Option<Child>,
}

/// Asks the API as an administrator.
#[derive(Clone)]
pub(crate) struct Admin {
    port: u16,
    tls: Arc<rustls::ClientConfig>,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Cluster {
    /// Starts it with the programs of this folder.
    pub(crate) fn start(programs: &Path) -> Self {
        let folder = tempfile::Builder::new().prefix("dh-kube").tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for words in [["genrsa", "-out", "sa.key", "2048"], ["rsa", "-in", "sa.key", "-pubout"]] {
            let done = Command::new("openssl").args(words).current_dir(folder.path()).output().unwrap();
            assert!(done.status.success(), "openssl: {}", String::from_utf8_lossy(&done.stderr));
            if words[0] == "rsa" {
                std::fs::write(path("sa.pub"), done.stdout).unwrap();
            }
        }
        let tokens = format!("{ADMIN},admin,1,\"system:masters\"\n{SCHEDULER},system:kube-scheduler,2\n");
        std::fs::write(path("tokens.csv"), tokens).unwrap();
        let (etcd_port, peers, port) = (free_port(), free_port(), free_port());
        let (clients, peers) = (format!("http://127.0.0.1:{etcd_port}"), format!("http://127.0.0.1:{peers}"));
        let etcd = daemon(
            Path::new("etcd"),
            &[
                "--data-dir=etcd",
                &format!("--listen-client-urls={clients}"),
                &format!("--advertise-client-urls={clients}"),
                &format!("--listen-peer-urls={peers}"),
                &format!("--initial-advertise-peer-urls={peers}"),
                &format!("--initial-cluster=default={peers}"),
            ],
            folder.path(),
        );
        std::fs::write(path("etcd.url"), &clients).unwrap();
        let api = spawn_api(programs, folder.path(), port);
        let mut cluster =
            Self { folder, programs: programs.to_owned(), port, etcd, api: Mutex::new(api), scheduler: None };
        cluster.wait_until_ready();
        let kubeconfig = cluster.kubeconfig("scheduler", cluster.port, SCHEDULER);
        let words = [
            &format!("--kubeconfig={}", kubeconfig.display()),
            "--leader-elect=false",
            "--port=0",
            "--bind-address=127.0.0.1",
            &format!("--secure-port={}", free_port()),
            "--cert-dir=certs-of-scheduler",
        ];
        cluster.scheduler = Some(daemon(&cluster.programs.join("kube-scheduler"), &words, cluster.folder.path()));
        cluster
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The API server dies without a word, and another comes with what `etcd` has.
    pub(crate) fn restart_api(&self) {
        {
            let mut api = self.api.lock().unwrap();
            api.kill().unwrap();
            api.wait().unwrap();
            *api = spawn_api(&self.programs, self.folder.path(), self.port);
        }
        self.wait_until_ready();
    }

    fn wait_until_ready(&self) {
        wait("the API server", || {
            let ended = self.api.lock().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "the API server ended: {}", self.said("kube-apiserver"));
            self.path("certs/apiserver.crt").exists()
                && self.admin().try_ask("GET", "/readyz", "", "").is_some_and(|(status, _)| status == 200)
        });
    }

    fn said(&self, program: &str) -> String {
        let text = std::fs::read_to_string(self.path(&format!("{program}.log"))).unwrap_or_default();
        text.lines().rev().take(20).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Writes a kubeconfig by which whoever has `token` reaches the API at `port`.
    pub(crate) fn kubeconfig(&self, name: &str, port: u16, token: &str) -> PathBuf {
        let file = self.path(&format!("{name}.kubeconfig"));
        let text = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "contexts": [{ "name": "here", "context": { "cluster": "real", "user": name, "namespace": NAMESPACE } }],
            "clusters": [{ "name": "real", "cluster": {
                "server": format!("https://127.0.0.1:{port}"),
                "certificate-authority": self.path("certs/apiserver.crt"),
            } }],
            "users": [{ "name": name, "user": { "token": token } }],
        });
        std::fs::write(&file, text.to_string()).unwrap();
        file
    }

    pub(crate) fn admin(&self) -> Admin {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(self.path("certs/apiserver.crt")).unwrap() {
            roots.add(certificate.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let tls = config.unwrap().with_root_certificates(roots).with_no_client_auth();
        Admin { port: self.port, tls: Arc::new(tls) }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for program in ["kube-apiserver", "kube-scheduler"] {
                println!("{program} said:\n{}", self.said(program));
            }
        }
        let api = self.api.get_mut().unwrap();
        for child in self.scheduler.iter_mut().chain([api, &mut self.etcd]) {
            // Either it has ended by itself, or it ends here.
            child.kill().unwrap_or_default();
            drop(child.wait());
        }
    }
}

fn spawn_api(programs: &Path, folder: &Path, port: u16) -> Child {
    let etcd = std::fs::read_to_string(folder.join("etcd.url")).unwrap();
    let words = [
        &format!("--etcd-servers={etcd}"),
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        &format!("--secure-port={port}"),
        "--cert-dir=certs",
        "--token-auth-file=tokens.csv",
        "--authorization-mode=RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--service-account-signing-key-file=sa.key",
        "--service-account-key-file=sa.pub",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--kubelet-preferred-address-types=InternalIP",
        // What these wait for are controllers, and this cluster has none: accounts of pods, and taints that are taken away.
        "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition",
    ];
    daemon(&programs.join("kube-apiserver"), &words, folder)
}

fn daemon(program: &Path, words: &[&str], folder: &Path) -> Child {
    let name = program.file_name().unwrap().to_string_lossy();
    let log = std::fs::File::options().create(true).append(true).open(folder.join(format!("{name}.log"))).unwrap();
    Command::new(program)
        .args(words)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()))
}

impl Admin {
    /// One call; nothing if it is not answered.
    fn try_ask(&self, method: &str, path: &str, kind: &str, body: &str) -> Option<(u16, Value)> {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut session = rustls::ClientConnection::new(Arc::clone(&self.tls), name).ok()?;
        let mut stream = rustls::Stream::new(&mut session, &mut socket);
        // As HTTP/1.0 the answer ends with the connection.
        let head = format!(
            "{method} {path} HTTP/1.0\r\nhost: 127.0.0.1\r\nauthorization: Bearer {ADMIN}\r\naccept: application/json\r\n\
             content-type: {kind}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(body.as_bytes()).ok()?;
        let mut answer = Vec::new();
        // A connection that is closed without a farewell has brought all the same.
        drop(stream.read_to_end(&mut answer));
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        Some((status, serde_json::from_str(body).unwrap_or_else(|_| json!(body))))
    }

    /// One call, tried until it is answered.
    pub(crate) fn ask(&self, method: &str, path: &str, kind: &str, body: &str) -> (u16, Value) {
        let begin = Instant::now();
        loop {
            if let Some(answer) = self.try_ask(method, path, kind, body) {
                return answer;
            }
            assert!(begin.elapsed() < PATIENCE, "{method} {path} is not answered");
        }
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        self.ask("GET", path, "", "").1
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.ask("POST", path, "application/json", &body.to_string());
        assert!([200, 201].contains(&status), "POST {path}: {answer}");
        answer
    }

    pub(crate) fn patch(&self, path: &str, body: &Value) -> (u16, Value) {
        self.ask("PATCH", path, "application/merge-patch+json", &body.to_string())
    }

    /// Deletes at once, as nobody waited for it.
    pub(crate) fn delete(&self, path: &str) {
        let body = json!({ "kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0 });
        self.ask("DELETE", path, "application/json", &body.to_string());
    }

    /// The path of a kind of object in the hall's namespace, or of one.
    pub(crate) fn path(kind: &str, name: &str) -> String {
        format!("/api/v1/namespaces/{NAMESPACE}/{kind}/{name}").trim_end_matches('/').to_owned()
    }

    pub(crate) fn names(&self, kind: &str) -> Vec<String> {
        let list = self.get(&Self::path(kind, ""));
        let items = list["items"].as_array().cloned().unwrap_or_default();
        items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }
}
