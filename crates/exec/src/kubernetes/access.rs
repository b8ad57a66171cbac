//! How the API is reached: a kubeconfig file, or what a pod finds in its own folder. The order is that of `kubectl`.
//!
//! | where | when |
//! | --- | --- |
//! | the file that the blueprint names | `kubeconfig = "PATH"` |
//! | the pod's own account | `kubeconfig = "in-cluster"`, or nothing is named, `KUBECONFIG` is not set and this is a pod |
//! | `$KUBECONFIG`, `~/.kube/config` | nothing is named |
//!
//! A certificate that cannot be checked is refused: a key that goes to whoever answers is no key.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use dh_core::Secret;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;

use crate::Error;

/// What a pod finds about itself.
const OWN: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// How long a token from a file or a program is used before it is read again: both are renewed behind our back.
const TOKEN_AGE: Duration = Duration::from_mins(1);

/// Everything that is needed to ask the API.
pub(super) struct Access {
    /// Scheme, host, port, and a path if there is one; no slash at the end.
    pub(super) server: String,
    pub(super) namespace: String,
    pub(super) tls: Option<Arc<rustls::ClientConfig>>,
    pub(super) token: Token,
}

/// Where the bearer token is from.
pub(super) enum Token {
    None,
    Fixed(Secret<String>),
    File(PathBuf),
    Program { command: String, arguments: Vec<String>, env: Vec<(String, String)> },
}

/// A token that was read, and when.
pub(super) type Read = Option<(Instant, Secret<String>)>;

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct File {
    current_context: String,
    contexts: Vec<Named<Context>>,
    clusters: Vec<Named<Cluster>>,
    users: Vec<Named<User>>,
}

#[derive(Deserialize)]
struct Named<T> {
    name: String,
    #[serde(alias = "context", alias = "cluster", alias = "user", default = "Option::default")]
    value: Option<T>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Context {
    cluster: String,
    user: String,
    namespace: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct Cluster {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    insecure_skip_tls_verify: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct User {
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    exec: Option<Program>,
}

#[derive(Deserialize)]
struct Program {
    command: String,
    args: Option<Vec<String>>,
    env: Option<Vec<Variable>>,
}

#[derive(Deserialize)]
struct Variable {
    name: String,
    value: String,
}

/// What such a program prints.
#[derive(Deserialize)]
struct Credential {
    status: CredentialStatus,
}

#[derive(Deserialize)]
struct CredentialStatus {
    token: String,
}

fn wrong(what: &str, why: impl std::fmt::Display) -> Error {
    Error::Cluster { doing: what.to_owned(), why: why.to_string(), code: None }
}

impl Access {
    /// By the order above.
    pub(super) fn find(named: Option<&Path>, context: Option<&str>) -> Result<Self, Error> {
        let own = Path::new(OWN).join("token").exists() && std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
        let variable = std::env::var_os("KUBECONFIG").filter(|value| !value.is_empty());
        match (named, variable) {
            (Some(named), _) if named == Path::new("in-cluster") => Self::of_pod(),
            (Some(named), _) => Self::of_file(named, context),
            (None, Some(list)) => {
                // Of a list of files the first that is there; what `kubectl` merges is one file in practice.
                let found = std::env::split_paths(&list).find(|path| path.exists());
                Self::of_file(&found.unwrap_or_else(|| PathBuf::from(&list)), context)
            }
            (None, None) if own => Self::of_pod(),
            (None, None) => {
                let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
                Self::of_file(&home.join(".kube").join("config"), context)
            }
        }
    }

    fn of_pod() -> Result<Self, Error> {
        let (host, port) = (std::env::var("KUBERNETES_SERVICE_HOST"), std::env::var("KUBERNETES_SERVICE_PORT"));
        let (Ok(host), Ok(port)) = (host, port) else {
            return Err(wrong("find the cluster of this pod", "KUBERNETES_SERVICE_HOST is not set: this is no pod"));
        };
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let own = Path::new(OWN);
        let authority = read(&own.join("ca.crt"))?;
        let namespace = std::fs::read_to_string(own.join("namespace")).unwrap_or_default();
        Ok(Self {
            server: format!("https://{host}:{port}"),
            namespace: if namespace.trim().is_empty() { "default".to_owned() } else { namespace.trim().to_owned() },
            tls: Some(tls(&authority, None)?),
            token: Token::File(own.join("token")),
        })
    }

    fn of_file(path: &Path, context: Option<&str>) -> Result<Self, Error> {
        let text = read(path)?;
        let text = String::from_utf8_lossy(&text);
        let what = format!("use {}", path.display());
        let file: File = serde_saphyr::from_str(&text).map_err(|error| wrong(&what, error))?;
        let wanted = context.unwrap_or(&file.current_context);
        let context =
            named(&file.contexts, wanted).ok_or_else(|| wrong(&what, format!("it has no context `{wanted}`")))?;
        let cluster = named(&file.clusters, &context.cluster)
            .ok_or_else(|| wrong(&what, format!("it has no cluster `{}`", context.cluster)))?;
        let nobody = User::default();
        let user = named(&file.users, &context.user).unwrap_or(&nobody);
        // Paths in the file count from its own folder.
        let folder = path.parent().unwrap_or(Path::new("."));
        let either = |data: &Option<String>, file: &Option<PathBuf>| match (data, file) {
            (Some(data), _) => BASE64.decode(data.trim()).map(Some).map_err(|error| wrong(&what, error)),
            (None, Some(file)) => read(&folder.join(file)).map(Some),
            (None, None) => Ok(None),
        };
        let tls = if cluster.server.starts_with("https://") {
            if cluster.insecure_skip_tls_verify {
                let why = "`insecure-skip-tls-verify` is set, and a key is not sent to whoever answers; put the cluster's \
                           certificate into `certificate-authority-data`";
                return Err(wrong(&what, why));
            }
            let authority = either(&cluster.certificate_authority_data, &cluster.certificate_authority)?
                .ok_or_else(|| wrong(&what, "the cluster has no `certificate-authority-data`"))?;
            let certificate = either(&user.client_certificate_data, &user.client_certificate)?;
            let key = either(&user.client_key_data, &user.client_key)?;
            Some(tls(&authority, certificate.zip(key))?)
        } else {
            None
        };
        let token = match user {
            User { token: Some(token), .. } => Token::Fixed(Secret::new(token.clone())),
            User { token_file: Some(file), .. } => Token::File(folder.join(file)),
            User { exec: Some(program), .. } => Token::Program {
                command: program.command.clone(),
                arguments: program.args.clone().unwrap_or_default(),
                env: program.env.iter().flatten().map(|one| (one.name.clone(), one.value.clone())).collect(),
            },
            User { .. } => Token::None,
        };
        let server = cluster.server.trim_end_matches('/').to_owned();
        let namespace = context.namespace.clone().filter(|name| !name.is_empty());
        Ok(Self { server, namespace: namespace.unwrap_or_else(|| "default".to_owned()), tls, token })
    }
}

impl Token {
    /// The token as it is at this moment; `kept` is the one that was read last.
    pub(super) fn now(&self, kept: &mut Read) -> Result<Option<Secret<String>>, Error> {
        if let Some((at, token)) = kept
            && at.elapsed() < TOKEN_AGE
        {
            return Ok(Some(token.clone()));
        }
        let fresh = match self {
            Self::None => return Ok(None),
            Self::Fixed(token) => return Ok(Some(token.clone())),
            Self::File(path) => Secret::new(String::from_utf8_lossy(&read(path)?).trim().to_owned()),
            Self::Program { command, arguments, env } => {
                let what = format!("get a token from `{command}`");
                let output = std::process::Command::new(command)
                    .args(arguments)
                    .envs(env.iter().map(|(name, value)| (name, value)))
                    .env("KUBERNETES_EXEC_INFO", r#"{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","spec":{"interactive":false}}"#)
                    .stdin(std::process::Stdio::null())
                    .output()
                    .map_err(|error| wrong(&what, error))?;
                if !output.status.success() {
                    let said = String::from_utf8_lossy(&output.stderr);
                    return Err(wrong(&what, format!("it ended with {}: {}", output.status, said.trim())));
                }
                let said: Credential = serde_json::from_slice(&output.stdout).map_err(|error| wrong(&what, error))?;
                Secret::new(said.status.token)
            }
        };
        *kept = Some((Instant::now(), fresh.clone()));
        Ok(Some(fresh))
    }
}

fn named<'a, T>(list: &'a [Named<T>], name: &str) -> Option<&'a T> {
    list.iter().find(|one| one.name == name)?.value.as_ref()
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|error| wrong(&format!("read {}", path.display()), error))
}

/// A client's settings that trust `authority` alone, and show a certificate with its key if there is one.
fn tls(authority: &[u8], own: Option<(Vec<u8>, Vec<u8>)>) -> Result<Arc<rustls::ClientConfig>, Error> {
    const WHAT: &str = "read the cluster's certificates";
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority) {
        let certificate = certificate.map_err(|error| wrong(WHAT, format!("{error:?}")))?;
        roots.add(certificate).map_err(|error| wrong(WHAT, error))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(WHAT, error))?
        .with_root_certificates(roots);
    let config = match own {
        None => config.with_no_client_auth(),
        Some((chain, key)) => {
            let chain = CertificateDer::pem_slice_iter(&chain).collect::<Result<Vec<_>, _>>();
            let chain = chain.map_err(|error| wrong(WHAT, format!("{error:?}")))?;
            let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| wrong(WHAT, format!("{error:?}")))?;
            config.with_client_auth_cert(chain, key).map_err(|error| wrong(WHAT, error))?
        }
    };
    Ok(Arc::new(config))
}
