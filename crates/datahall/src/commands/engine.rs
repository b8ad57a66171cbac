//! `datahall engine`: the built-in inference engine as a process. Started by the hall for each replica of a service.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use dh_core::{Kind, Secret};
use dh_infer::{EngineConfig, LoadOptions, Model};
use dh_learn::s3::S3;
use dh_learn::store::ObjectStore;

use super::{Globals, Verb};
use crate::failure::{Failure, OrFail};
use crate::output;

/// Bytes read from the store at a time: enough to be fast, little beside the model.
const CHUNK: u64 = 8 << 20;

/// The largest classifier file; they are a few megabytes.
const CLASSIFIER_BYTES_MAX: u64 = 1 << 30;

#[derive(Debug, Args)]
pub(crate) struct Engine {
    /// The model file, `s3://BUCKET/KEY` or a path
    #[arg(long)]
    source: String,
    /// The model's name on the wire
    #[arg(long)]
    model: String,
    /// `chat` for a GGUF language model, `inference` for a safetensors classifier
    #[arg(long)]
    protocol: Protocol,
    /// The port on loopback
    #[arg(long, env = "DH_SERVICE_PORT")]
    port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Protocol {
    Chat,
    Inference,
}

impl Verb for Engine {
    const NAME: &'static str = "engine";
    const ABOUT: &'static str = "Serve one model (started by the hall)";
    const HIDDEN: bool = true;

    fn run(self, _globals: &Globals) -> Result<u8, Failure> {
        let key = std::env::var("DH_ENGINE_KEY").map_err(|_| {
            Failure::new(Kind::Invalid, "DH_ENGINE_KEY is not set: an engine does not listen without a key")
        })?;
        let model = match self.protocol {
            Protocol::Chat => {
                let (path, downloaded) = self.file()?;
                let model = Model::open_gguf(&path, LoadOptions::default());
                if downloaded {
                    // Loaded into memory: the copy on the disk has done its work.
                    drop(std::fs::remove_file(&path));
                }
                model?
            }
            Protocol::Inference => Model::dense(&self.bytes()?)?,
        };
        let config = EngineConfig::new(self.model.clone(), model, Secret::new(key));
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().or_fail("start the async runtime")?;
        runtime.block_on(async {
            let address = ("127.0.0.1", self.port);
            let listener = tokio::net::TcpListener::bind(address)
                .await
                .or_fail_as(Kind::Conflict, format!("listen on 127.0.0.1:{}", self.port))?;
            output::note(format!("{} serves on 127.0.0.1:{}", self.model, self.port));
            dh_infer::serve(config, listener, terminated()).await?;
            Ok(0)
        })
    }
}

async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut signal) => drop(signal.recv().await),
        // Without the signal the warden's second one, which nobody can catch, ends the engine.
        Err(_) => std::future::pending().await,
    }
}

impl Engine {
    /// Bucket and key, if the source is in the store.
    fn in_store(&self) -> Option<(&str, &str)> {
        self.source.strip_prefix("s3://").and_then(|rest| rest.split_once('/'))
    }

    fn bytes(&self) -> Result<Vec<u8>, Failure> {
        match self.in_store() {
            Some((bucket, key)) => {
                let store = S3::from_env()?;
                let size = store.head(bucket, key)?.bytes;
                if size > CLASSIFIER_BYTES_MAX {
                    return Err(Failure::new(Kind::TooLarge, format!("{} has {size} bytes", self.source)));
                }
                Ok(store.get(bucket, key)?)
            }
            None => std::fs::read(&self.source).or_fail_as(Kind::NotFound, format!("read {}", self.source)),
        }
    }

    /// The model as a file, and whether it is a copy of ours.
    fn file(&self) -> Result<(PathBuf, bool), Failure> {
        let Some((bucket, key)) = self.in_store() else {
            return Ok((PathBuf::from(&self.source), false));
        };
        let store = S3::from_env()?;
        let size = store.head(bucket, key)?.bytes;
        let path = std::env::temp_dir().join(format!("datahall-model-{}.gguf", std::process::id()));
        let mut file = std::fs::File::create(&path).or_fail(format!("write {}", path.display()))?;
        let mut offset = 0;
        while offset < size {
            let piece = store.get_range(bucket, key, offset, CHUNK.min(size - offset))?;
            if piece.is_empty() {
                return Err(Failure::new(
                    Kind::Corrupt,
                    format!("{} ended after {offset} of {size} bytes", self.source),
                ));
            }
            file.write_all(&piece).or_fail_as(Kind::Full, format!("write {}", path.display()))?;
            offset += u64::try_from(piece.len()).or_fail("count bytes")?;
        }
        Ok((path, true))
    }
}
