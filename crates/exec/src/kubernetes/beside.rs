//! A program in a running rank's container, by the API's `exec`: what it prints comes in messages of a WebSocket, and at last how it
//! ended. Run by our own program's hidden `beside-pod` command, a process of its own, as [`crate::beside`] is on this machine.
//!
//! Invariants: every message is bounded; a connection that breaks off is no success. The program has the container's variables and
//! folder. When this process ends, its output has no reader any more; whether the container's runtime then ends it too is its own
//! affair, but it ends with the container. Source: the `v4.channel.k8s.io` and `v5.channel.k8s.io` protocols of remote commands.

use std::future::Future;
use std::io::{Read as _, Write};
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderMap, Method, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::access::Access;
use super::client::{CALL, Client, encoded};

/// The newest first; they differ in what only standard input needs.
const PROTOCOLS: &str = "v5.channel.k8s.io, v4.channel.k8s.io";
/// What a server adds to the key before it digests it. Source: RFC 6455, section 1.3.
const SALT: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The largest message: a kubelet sends some 32 KiB.
const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// First bytes of messages.
const OUTPUT: u8 = 1;
const ERRORS: u8 = 2;
const STATUS: u8 = 3;

/// Which container, and how it is reached: the executor's own settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InPod {
    /// A kubeconfig file, or `in-cluster`; found as `kubectl` does if absent.
    pub kubeconfig: Option<PathBuf>,
    /// The context of that file; its current one if absent.
    pub context: Option<String>,
    /// Where the pod is; the context's own, or `default`, if absent.
    pub namespace: Option<String>,
    /// The rank's pod.
    pub pod: String,
}

/// Runs `command` in the pod's container until it ends, or until standard input does. Its exit code; 255 for one that is none.
/// # Errors
/// A sentence, if it was not started or nobody knows how it ended.
pub fn main(place: &InPod, command: &[String]) -> Result<u8, String> {
    run(place, command, (&mut std::io::stdout(), &mut std::io::stderr()), caller_gone())
}

/// The same, with what it prints and what it says of errors going to `to`, until `gone` comes.
/// # Errors
/// As [`main`].
pub fn run(
    place: &InPod,
    command: &[String],
    to: (&mut dyn Write, &mut dyn Write),
    gone: impl Future<Output = ()>,
) -> Result<u8, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start a runtime: {error}"))?;
    runtime.block_on(async {
        tokio::select! {
            ended = attend(place, command, to) => ended,
            () = gone => Err("whoever asked for it has gone".to_owned()),
        }
    })
}

/// Returns when standard input has ended: it is the lifeline. Its thread ends with the process.
async fn caller_gone() {
    let (tell, gone) = tokio::sync::oneshot::channel();
    let reads = std::thread::Builder::new().name("lifeline".to_owned()).spawn(move || {
        let mut bytes = [0_u8; 64];
        while matches!(std::io::stdin().lock().read(&mut bytes), Ok(read) if read > 0) {}
        drop::<tokio::sync::oneshot::Sender<()>>(tell);
    });
    match reads {
        // The other end is dropped and never used.
        Ok(_thread) => drop(gone.await),
        Err(_) => std::future::pending().await,
    }
}

async fn attend(place: &InPod, command: &[String], to: (&mut dyn Write, &mut dyn Write)) -> Result<u8, String> {
    let (output, errors) = to;
    let access = Access::find(place.kubeconfig.as_deref(), place.context.as_deref());
    let client = Client::new(access.map_err(|error| error.to_string())?, place.namespace.clone());
    let mut socket = open(&client, &place.pod, command).await?;
    loop {
        let message = match socket.next().await {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Err(format!("the connection to the rank broke off: {error}")),
            None => return Err("the connection to the rank ended before the program".to_owned()),
        };
        let bytes = match &message {
            Message::Binary(bytes) => bytes.as_ref(),
            Message::Text(text) => text.as_bytes(),
            // Pings are answered below us; the end of the connection comes as such.
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => continue,
        };
        let Some((channel, piece)) = bytes.split_first() else { continue };
        let shown = match *channel {
            OUTPUT => show(output, piece),
            ERRORS => show(errors, piece),
            STATUS => return code(piece),
            _ => Ok(()),
        };
        shown.map_err(|error| format!("cannot pass on what it prints: {error}"))?;
    }
}

fn show(to: &mut dyn Write, piece: &[u8]) -> std::io::Result<()> {
    to.write_all(piece).and_then(|()| to.flush())
}

type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

/// Asks for the program and turns the connection into a WebSocket.
async fn open(client: &Client, pod: &str, command: &[String]) -> Result<Socket, String> {
    let words: Vec<String> = command.iter().map(|word| format!("&command={}", encoded(word))).collect();
    let path = format!("{}/exec?container=task&stdout=true&stderr=true{}", client.path("pods", pod), words.concat());
    let mut random = [0_u8; 16];
    getrandom::fill(&mut random).map_err(|error| format!("no randomness: {error}"))?;
    let key = BASE64.encode(random);
    let headers = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", &key),
        ("sec-websocket-protocol", PROTOCOLS),
    ];
    let answer = tokio::time::timeout(CALL, client.ask(Method::GET, &path, &headers, Bytes::new())).await;
    let answer = answer.map_err(|_late| format!("{} did not answer in {} s", client.server(), CALL.as_secs()))?;
    let answer = answer.map_err(|failure| failure.to_string())?;
    agreed(answer.status(), answer.headers(), &key)?;
    let upgraded = hyper::upgrade::on(answer).await.map_err(|error| format!("the connection broke off: {error}"))?;
    let config =
        WebSocketConfig::default().max_message_size(Some(MESSAGE_BYTES_MAX)).max_frame_size(Some(MESSAGE_BYTES_MAX));
    Ok(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, Some(config)).await)
}

/// Whether the server goes on as a WebSocket by one of our protocols.
fn agreed(status: StatusCode, headers: &HeaderMap, key: &str) -> Result<(), String> {
    if status != StatusCode::SWITCHING_PROTOCOLS {
        return Err(format!("the API answered {status} and opened no WebSocket"));
    }
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &[key.as_bytes(), SALT].concat());
    if header("sec-websocket-accept") != BASE64.encode(digest) {
        return Err("the API answered another's request for a WebSocket".to_owned());
    }
    let protocol = header("sec-websocket-protocol");
    if PROTOCOLS.split(", ").any(|ours| ours == protocol) {
        Ok(())
    } else {
        Err(format!(
            "the API speaks `{protocol}`, and not {PROTOCOLS}: Kubernetes before 1.9 and its like cannot do this"
        ))
    }
}

/// How it ended, in the API's words.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Ended {
    status: String,
    message: String,
    details: Option<Details>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Details {
    causes: Option<Vec<Cause>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Cause {
    reason: String,
    message: String,
}

fn code(status: &[u8]) -> Result<u8, String> {
    let ended: Ended =
        serde_json::from_slice(status).map_err(|error| format!("how it ended cannot be read: {error}"))?;
    if ended.status == "Success" {
        return Ok(0);
    }
    let causes = ended.details.unwrap_or_default().causes.unwrap_or_default();
    match causes.iter().find(|cause| cause.reason == "ExitCode") {
        Some(cause) => Ok(cause.message.parse().unwrap_or(u8::MAX)),
        // It was not started, or the container has gone.
        None => Err(ended.message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_as_kubelets_tell_them() {
        assert_eq!(code(br#"{"metadata":{},"status":"Success"}"#), Ok(0));
        let failed = br#"{"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code: exit status 3",
            "reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"3"}]}}"#;
        assert_eq!(code(failed), Ok(3));
        let missing = br#"{"status":"Failure","message":"exec failed: no such file or directory","reason":"InternalError","details":{"causes":null}}"#;
        assert_eq!(code(missing), Err("exec failed: no such file or directory".to_owned()));
        assert!(code(b"not JSON").is_err());
        assert_eq!(code(br#"{"details":{"causes":[{"reason":"ExitCode","message":"-1"}]}}"#), Ok(255));
    }

    #[test]
    fn only_the_answer_to_our_own_question_opens_a_socket() {
        // The example of RFC 6455, section 1.3.
        let (key, accept) = ("dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let headers = |accept: &str, protocol: &str| {
            let all = [("sec-websocket-accept", accept), ("sec-websocket-protocol", protocol)];
            all.into_iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect::<HeaderMap>()
        };
        let switch = StatusCode::SWITCHING_PROTOCOLS;
        assert_eq!(agreed(switch, &headers(accept, "v4.channel.k8s.io"), key), Ok(()));
        assert!(agreed(switch, &headers("AAAA", "v4.channel.k8s.io"), key).is_err());
        assert!(agreed(switch, &headers(accept, "channel.k8s.io"), key).is_err());
        assert!(agreed(StatusCode::OK, &headers(accept, "v4.channel.k8s.io"), key).is_err());
    }
}
