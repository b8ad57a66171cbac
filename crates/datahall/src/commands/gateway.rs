//! `datahall gateway`: the model gateway alone, without a hall, in front of engines that run already.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use dh_core::{Kind, Role, Secret};
use dh_gateway::{
    BatchConfig, Energy, EngineFacts, EngineKind, EngineRole, EngineTarget, Gateway as Door, GatewayConfig, KvEvents,
    LedgerConfig, Price,
};
use dh_guard::KeyRing;
use dh_policy::routing;

use super::gateway_options::GatewayOptions;
use super::keys::{Bounds, data_class, usd};
use super::{Globals, Verb};
use crate::failure::{Failure, OrFail};
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Gateway {
    /// A model and the URL of an engine of it; several engines of one model share its requests
    ///
    /// Behind the URL may stand, each after a comma: site=NAME, rtt=MS, egress=USD for a GB, class=DATA, usd=IN/OUT for a million
    /// tokens, joules=IN/OUT for a token, role=prefill or
    /// role=decode, kv=tcp://HOST:PORT for the events of its cache, kv-replay=tcp://HOST:PORT for those that were missed.
    #[arg(long = "engine", value_name = "MODEL=URL", required = true, value_parser = engine)]
    engines: Vec<EngineTarget>,
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
    /// The folder that keeps files, batches and what keys have used; without it nothing of them is kept
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Requests under way for each engine, above which batches send no more
    #[arg(long, value_name = "N", default_value = "8", requires = "data")]
    batch_per_engine: u32,
    #[command(flatten)]
    options: GatewayOptions,
    /// Lease what keys may use from the gateway at this URL, which keeps it with `--data`, so that several share one set of bounds
    #[arg(long, value_name = "URL", requires = "ledger_key", conflicts_with = "data")]
    ledger: Option<String>,
    /// The file that holds the key for `--ledger`; the keeper prints one with `--add-ledger-key`
    #[arg(long, value_name = "FILE", requires = "ledger")]
    ledger_key: Option<PathBuf>,
    /// Make a key of this name that other gateways lease with, print it, and end
    #[arg(long, value_name = "NAME", conflicts_with = "add_key")]
    add_ledger_key: Option<String>,
    /// Make a key of this name with the bounds below, print it, and end
    #[arg(long, value_name = "NAME")]
    add_key: Option<String>,
    #[command(flatten)]
    bounds: Bounds,
}

/// An engine without its id.
fn engine(text: &str) -> Result<EngineTarget, String> {
    let wrong = || "expected MODEL=URL, such as llama=http://127.0.0.1:8000".to_owned();
    let mut parts = text.split(',');
    let first = parts.next().and_then(|part| part.split_once('='));
    let (model, url) = first.filter(|(model, url)| !model.is_empty() && !url.is_empty()).ok_or_else(wrong)?;
    let mut facts = EngineFacts::default();
    for part in parts {
        let (name, value) = part.split_once('=').ok_or_else(|| format!("`{part}` is no FACT=VALUE"))?;
        fact(&mut facts, name, value)?;
    }
    if facts.kv_events.as_ref().is_some_and(|events| events.endpoint.is_empty()) {
        return Err("kv-replay= says nothing without kv=".to_owned());
    }
    let (id, model, url) = (String::new(), model.to_owned(), url.to_owned());
    Ok(EngineTarget { id, model, kind: EngineKind::Chat, url, key: None, facts })
}

fn fact(facts: &mut EngineFacts, name: &str, value: &str) -> Result<(), String> {
    let pair = || match value.split_once('/') {
        Some((prompt, answer)) => Ok((usd(prompt)?, usd(answer)?)),
        None => Err(format!("expected {name}=IN/OUT, such as {name}=0.5/1.5")),
    };
    match name {
        "site" => facts.site = Some(value.to_owned()),
        "rtt" => {
            let millis = value.parse::<f64>().ok().filter(|millis| (0.0..=1e6).contains(millis));
            facts.round_trip = Duration::from_secs_f64(millis.ok_or("expected rtt=MS, such as rtt=12")? / 1e3);
        }
        "egress" => facts.egress_micro_usd = usd(value)?,
        "class" => facts.data_class = data_class(value)?,
        "usd" => facts.price = Some(pair().map(|(prompt, answer)| Price { prompt, cached: prompt, answer })?),
        "joules" => facts.energy = Some(pair().map(|(prompt, answer)| Energy { prompt, answer })?),
        "kv" => value.clone_into(&mut kv_events(facts).endpoint),
        "kv-replay" => kv_events(facts).replay = Some(value.to_owned()),
        "role" => {
            let role = EngineRole::ALL.iter().find(|(word, _)| *word == value);
            facts.role = role.map(|(_, role)| *role).ok_or("expected role=both, role=prefill or role=decode")?;
        }
        _ => return Err(format!("`{name}` is none of site, rtt, egress, class, usd, joules, role, kv and kv-replay")),
    }
    Ok(())
}

fn kv_events(facts: &mut EngineFacts) -> &mut KvEvents {
    facts.kv_events.get_or_insert_with(|| KvEvents { endpoint: String::new(), replay: None })
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
        if let Some(name) = &self.add_ledger_key {
            output::line(ring.issue(Role::Admin, name)?.secret.expose());
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
        let ledger = match (&self.data, self.ledger, &self.ledger_key) {
            (Some(data), ..) => Some(LedgerConfig::Keep { folder: data.join("accounts") }),
            (None, Some(url), Some(file)) => {
                let text = std::fs::read_to_string(file).or_fail(format!("read {}", file.display()))?;
                Some(LedgerConfig::Lease { url, key: Secret::new(text.trim().to_owned()) })
            }
            (None, ..) => None,
        };
        let batch = self.data.map(|data| BatchConfig { per_engine, ..BatchConfig::in_folder(data) });
        let config = GatewayConfig {
            policy: self.policy,
            threads: self.threads.map_or_else(cores, usize::from),
            in_flight_max: self.in_flight,
            connections_max: self.connections,
            prices,
            batch,
            options: self.options.read().map_err(|error| Failure::new(Kind::Invalid, error))?,
            ledger,
            ..GatewayConfig::default()
        };
        let door = Door::new(config, Arc::new(ring)).map_err(|error| Failure::new(Kind::Invalid, error))?;
        let target =
            |(place, engine): (usize, EngineTarget)| EngineTarget { id: format!("{}/{place}", engine.model), ..engine };
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
    fn engines_are_read_with_what_is_known_of_them() {
        let text = "llama=http://h:1,site=fra,rtt=12.5,usd=0.5/1.5,joules=0.4/2.1,class=internal,role=prefill";
        let facts = EngineFacts {
            site: Some("fra".to_owned()),
            round_trip: Duration::from_micros(12_500),
            data_class: dh_core::DataClass::Internal,
            price: Some(Price { prompt: 500_000, cached: 500_000, answer: 1_500_000 }),
            energy: Some(Energy { prompt: 400_000, answer: 2_100_000 }),
            role: EngineRole::Prefill,
            ..EngineFacts::default()
        };
        let read = engine(text).map(|target| (target.model, target.url, target.facts));
        assert_eq!(read, Ok(("llama".to_owned(), "http://h:1".to_owned(), facts)));
        let events = KvEvents { endpoint: "tcp://h:5557".to_owned(), replay: Some("tcp://h:5558".to_owned()) };
        let read = engine("m=http://h,kv-replay=tcp://h:5558,kv=tcp://h:5557").map(|target| target.facts.kv_events);
        assert_eq!(read, Ok(Some(events)));
        for bad in [
            "llama",
            "=http://h",
            "m=u,rtt=-1",
            "m=u,usd=1",
            "m=u,x=1",
            "m=u,role=all",
            "m=u,class=x",
            "m=u,kv-replay=tcp://h:1",
        ] {
            assert!(engine(bad).is_err(), "{bad}");
        }
    }

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
