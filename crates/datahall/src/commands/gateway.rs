//! `datahall gateway`: the model gateway alone, without a hall, in front of engines that run already.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use dh_core::{Kind, Role};
use dh_gateway::{BatchConfig, EngineKind, EngineTarget, Gateway as Door, GatewayConfig, Price};
use dh_guard::KeyRing;
use dh_policy::routing;

use super::gateway_options::GatewayOptions;
use super::keys::{Bounds, usd};
use super::{Globals, Verb};
use crate::failure::{Failure, OrFail};
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Gateway {
    /// A model and the URL of an engine of it; several engines of one model share its requests
    #[arg(long = "engine", value_name = "MODEL=URL", required = true, value_parser = engine)]
    engines: Vec<(String, String)>,
    /// Where to listen
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4600")]
    listen: SocketAddr,
    /// How requests are routed: `datahall gateway --help` lists the policies
    #[arg(long, value_name = "NAME", default_value = "prefix_cache", value_parser = policy)]
    policy: String,
    /// Threads that serve connections; as many as there are cores unless told
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Requests at once; one more is refused with 429
    #[arg(long, value_name = "N", default_value_t = 2_048)]
    in_flight: usize,
    /// Connections at once; further ones wait
    #[arg(long, value_name = "N", default_value_t = 4_096)]
    connections: usize,
    /// The file of keys; it is made, with a key that is printed once, if it is not there
    #[arg(long, value_name = "FILE", default_value = "gateway-keys.json")]
    keys: PathBuf,
    /// What a million tokens of a model's prompts and answers cost, in dollars; a third number is for cached tokens
    #[arg(long = "price", value_name = "MODEL=IN/OUT[/CACHED]", value_parser = price)]
    prices: Vec<(String, Price)>,
    /// The folder that keeps files and batches; without it there are none
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Requests under way for each engine, above which batches send no more
    #[arg(long, value_name = "N", default_value = "8", requires = "data")]
    batch_per_engine: u32,
    #[command(flatten)]
    options: GatewayOptions,
    /// Make a key of this name with the bounds below, print it, and end
    #[arg(long, value_name = "NAME")]
    add_key: Option<String>,
    #[command(flatten)]
    bounds: Bounds,
}

fn engine(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((model, url)) if !model.is_empty() && !url.is_empty() => Ok((model.to_owned(), url.to_owned())),
        Some(_) | None => Err("expected MODEL=URL, such as llama=http://127.0.0.1:8000".to_owned()),
    }
}

/// Dollars for a million tokens, as millionths of a dollar.
fn price(text: &str) -> Result<(String, Price), String> {
    let wrong = || "expected MODEL=IN/OUT, such as llama=0.5/1.5".to_owned();
    let (model, rates) = text.rsplit_once('=').filter(|(model, _)| !model.is_empty()).ok_or_else(wrong)?;
    let rates: Vec<u64> = rates.split('/').map(usd).collect::<Result<_, _>>()?;
    let price = match *rates.as_slice() {
        // Cached tokens cost what others do, unless somebody says less.
        [prompt, answer] => Price { prompt, cached: prompt, answer },
        [prompt, answer, cached] => Price { prompt, cached, answer },
        _ => return Err(wrong()),
    };
    Ok((model.to_owned(), price))
}

fn policy(text: &str) -> Result<String, String> {
    routing::by_name(text)
        .map(|policy| policy.name().to_owned())
        .ok_or_else(|| format!("expected one of {}", routing::names().join(", ")))
}

impl Verb for Gateway {
    const NAME: &'static str = "gateway";
    const ABOUT: &'static str = "Run the model gateway alone, in front of any engines";
    const AFTER: &'static str = "Policies: round_robin, least_in_flight, least_tokens, power_of_two, bounded_hash, session, prefix_cache, site, least_cost, least_energy\nExamples:\n  datahall gateway --engine llama=http://10.0.0.1:8000 --engine llama=http://10.0.0.2:8000\n  datahall gateway --engine llama=http://10.0.0.1:8000 --add-key ann --rpm 60 --tpm 100000\n  datahall gateway --engine llama=http://10.0.0.1:8000 --price llama=0.5/1.5 --data ./gateway\n  datahall gateway --engine llama=http://10.0.0.1:8000 --engine-in-flight 64 --fallback llama=small --cache-bytes 1GiB";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let fresh = !self.keys.exists();
        let ring = KeyRing::load_or_create(&self.keys)?;
        if let Some(name) = &self.add_key {
            let key = ring.issue_with(Role::Model, name, Some(self.bounds.grant()))?;
            output::line(key.secret.expose());
            return Ok(0);
        }
        if fresh {
            let key = ring.issue(Role::Model, "model")?;
            output::line(key.secret.expose());
            output::note(format!("a key for clients, shown once; it is kept in {}", self.keys.display()));
        }
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        let prices: BTreeMap<String, Price> = self.prices.into_iter().collect();
        let per_engine = self.batch_per_engine;
        let batch = self.data.map(|data| BatchConfig { per_engine, ..BatchConfig::in_folder(data) });
        let config = GatewayConfig {
            policy: self.policy,
            threads: self.threads.map_or_else(cores, usize::from),
            in_flight_max: self.in_flight,
            connections_max: self.connections,
            prices,
            batch,
            options: self.options.read().map_err(|error| Failure::new(Kind::Invalid, error))?,
            ..GatewayConfig::default()
        };
        let door = Door::new(config, Arc::new(ring)).map_err(|error| Failure::new(Kind::Invalid, error))?;
        let target = |(place, (model, url)): (usize, (String, String))| EngineTarget {
            id: format!("{model}/{place}"),
            model,
            kind: EngineKind::Chat,
            url,
            key: None,
        };
        door.set_engines(self.engines.into_iter().enumerate().map(target).collect())
            .map_err(|error| Failure::new(Kind::Invalid, error))?;
        // It accepts; the gateway's own threads serve.
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().or_fail("start the async runtime")?;
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind(self.listen)
                .await
                .or_fail_as(Kind::Conflict, format!("listen on {}", self.listen))?;
            let address = listener.local_addr().or_fail("look at the listener")?;
            if !globals.quiet {
                output::note(format!("models are served on http://{address}/v1"));
            }
            let interrupted = async { drop(tokio::signal::ctrl_c().await) };
            door.serve(listener, interrupted).await.map_err(|error| Failure::new(Kind::Internal, error))?;
            Ok(0)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_read_by_direction() {
        let read = |text: &str| price(text).map(|(model, price)| (model, price.prompt, price.answer, price.cached));
        assert_eq!(read("a=b=0.5/1.5"), Ok(("a=b".to_owned(), 500_000, 1_500_000, 500_000)));
        assert_eq!(read("m=2/8/0.5"), Ok(("m".to_owned(), 2_000_000, 8_000_000, 500_000)));
        for bad in ["m", "=1/2", "m=1", "m=1/2/3/4", "m=-1/2", "m=a/b"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
