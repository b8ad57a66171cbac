//! The `openai` package, unmodified, against the gateway in front of a stub engine.

use std::path::{Path, PathBuf};
use std::process::Command;

use axum::response::Response;

use crate::batch::Folder;
use crate::stage::*;

const CHAT_ANSWER: &str = r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":null,"tool_calls":[{"id":"t","type":"function","function":{"name":"f","arguments":"{}"}}]},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}}"#;
const STREAM: &str = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"},\"finish_reason\":null}]}\n\ndata: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
const EMBEDDING: &str = r#"{"object":"list","model":"m","data":[{"object":"embedding","index":0,"embedding":[0.5,0.25]}],"usage":{"prompt_tokens":2,"total_tokens":2}}"#;
const RESPONSE: &str = r#"{"id":"r","object":"response","created_at":1,"model":"m","status":"completed","parallel_tool_calls":true,"tool_choice":"auto","tools":[],"output":[{"id":"o","type":"message","role":"assistant","status":"completed","content":[{"type":"output_text","text":"hi","annotations":[]}]}],"usage":{"input_tokens":2,"output_tokens":1,"total_tokens":3,"input_tokens_details":{"cached_tokens":0},"output_tokens_details":{"reasoning_tokens":0}}}"#;

/// The Python environment with the real clients; `None` where they were skipped on purpose.
pub(crate) fn clients() -> Option<PathBuf> {
    match std::env::var("DATAHALL_TEST_CLIENTS") {
        Ok(skip) if skip == "skip" => {
            assert!(std::env::var("CI").is_err(), "nothing may be skipped in CI");
            None
        }
        Ok(folder) => Some(PathBuf::from(folder)),
        Err(_) => {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/clients");
            let says = "the real clients are missing; `cargo xtask clients` installs them into target/clients";
            assert!(folder.join("bin/python").exists(), "{says}");
            Some(folder)
        }
    }
}

/// What the engine answers.
pub(crate) fn answers(seen: &Seen) -> Response {
    // LiteLLM says `"stream": false` too.
    let wants = |text: &[u8]| seen.body.windows(text.len()).any(|part| part == text);
    let stream = wants(b"\"stream\":true") || wants(b"\"stream\": true");
    match seen.path.as_str() {
        "/v1/embeddings" => reply(200, "application/json", EMBEDDING),
        "/v1/responses" => reply(200, "application/json", RESPONSE),
        _ if stream => reply(200, "text/event-stream", STREAM),
        _ => reply(200, "application/json", CHAT_ANSWER),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openai_works_unmodified_with_files_and_batches() {
    let Some(clients) = clients() else { return };
    let stub = Stub::start(|seen| Box::pin(async move { answers(&seen) })).await;
    let folder = Folder::new();
    let stage = folder.stage(vec![stub.target("a")]).await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/openai_client.py");
    let mut command = Command::new(clients.join("bin/python"));
    command.arg(script).env_clear().env("LANG", "C.UTF-8");
    command.env("OPENAI_BASE_URL", format!("http://{}/v1", stage.address)).env("OPENAI_API_KEY", CALLER);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}{said}", String::from_utf8_lossy(&output.stdout));
    assert!(stub.seen().iter().any(|seen| seen.body.windows(7).any(|seven| seven == b"\"tools\"")));
}
