//! Serves a GGUF model (or a stand-in with random weights) on the loopback until interrupted.
//!
//! `DATAHALL_ENGINE_KEY=secret cargo run --release -p dh-infer --example serve -- smollm2 8090 MODEL.gguf`
#![expect(clippy::print_stdout, reason = "an example speaks to the one who runs it")]

use std::path::PathBuf;

use dh_core::Secret;
use dh_infer::{EngineConfig, LoadOptions, Model, standin};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_else(|| standin::NAME.to_owned());
    let port: u16 = arguments.next().unwrap_or_else(|| "0".to_owned()).parse()?;
    let given = arguments.next().map(PathBuf::from);
    let path = given.clone().unwrap_or_else(|| std::env::temp_dir().join("datahall-stand-in.gguf"));
    if given.is_none() {
        standin::Standin::default().write(&path)?;
    }
    let key = Secret::new(std::env::var("DATAHALL_ENGINE_KEY")?);
    let model = Model::open_gguf(&path, LoadOptions::default())?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("{name} on http://{}", listener.local_addr()?);
    let interrupted = async {
        // Without a handler for the signal the process ends by it anyway.
        let _interrupted = tokio::signal::ctrl_c().await;
    };
    dh_infer::serve(EngineConfig::new(name, model, key), listener, interrupted).await?;
    Ok(())
}
