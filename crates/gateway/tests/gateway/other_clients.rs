//! Other clients than Python's `openai`, unmodified: that of npm, and `LiteLLM`.

use std::path::Path;
use std::process::Command;

use crate::batch::Folder;
use crate::clients::{answers, clients};
use crate::stage::*;

async fn is_content(command: impl FnOnce(&Path) -> Command) {
    let Some(clients) = clients() else { return };
    let stub = Stub::start(|seen| Box::pin(async move { answers(&seen) })).await;
    let folder = Folder::new();
    let stage = folder.stage(vec![stub.target("a")]).await;
    let mut command = command(&clients);
    command.env_clear().env("LANG", "C.UTF-8").env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("OPENAI_BASE_URL", format!("http://{}/v1", stage.address)).env("OPENAI_API_KEY", CALLER);
    command.env("DATAHALL_NODE_MODULES", clients.join("node/node_modules"));
    command.env("PYTHONPATH", clients.join("litellm"));
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}{said}", String::from_utf8_lossy(&output.stdout));
}

fn script(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openai_of_npm_works_unmodified() {
    is_content(|_clients| {
        let mut node = Command::new("node");
        node.arg(script("js/openai_client.mjs"));
        node
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn litellm_works_unmodified() {
    is_content(|clients| {
        let mut python = Command::new(clients.join("bin/python"));
        python.arg(script("python/litellm_client.py"));
        python
    })
    .await;
}
