//! What `[gateway]` and the services of a blueprint mean to the gateway.

use std::collections::BTreeMap;
use std::time::Duration;

use dh_blueprint::{Service, ServiceSource, Settings};
use dh_gateway::{CacheConfig, GatewayConfig, HedgeAfter, HedgeConfig, LineConfig, Options, SemanticConfig};
use dh_units::{Seconds, whole};

use crate::scaling::model_of;

/// Where two questions mean the same if nobody says it.
const SIMILAR: f64 = 0.95;

fn time(Seconds(seconds): Seconds) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

/// What requests for a service ask for.
fn asked_as(name: &str, service: &Service) -> String {
    match &service.source {
        ServiceSource::Url(_) => service.facts.serves.clone().unwrap_or_else(|| name.to_owned()),
        ServiceSource::Model(_) | ServiceSource::Workload(_) => {
            model_of(name, service).map_or_else(|| name.to_owned(), |(model, _)| model)
        }
    }
}

fn options(settings: &Settings) -> Options {
    let said = &settings.gateway;
    let model = |name: &String| settings.services.get(name).map(|service| asked_as(name, service));
    let line = said.engine_in_flight.map(|engine_in_flight| LineConfig {
        length_max: usize::try_from(said.queue).unwrap_or(usize::MAX),
        class: said.class.clone(),
        ..LineConfig::new(engine_in_flight)
    });
    let after = match (said.hedge_after, said.hedge_percentile) {
        (Some(after), _) => Some(HedgeAfter::Time(time(after))),
        (None, percentile) => percentile.and_then(|part| u8::try_from(part).ok()).map(HedgeAfter::Percent),
    };
    let hedge =
        after.map(|after| HedgeConfig { after, percent_max: u8::try_from(said.hedge_percent).unwrap_or(u8::MAX) });
    let cache = said.cache.map(|size| CacheConfig {
        bytes_max: usize::try_from(size.0).unwrap_or(usize::MAX),
        ttl: time(said.cache_ttl),
        shared: said.cache_shared,
    });
    let (mut fallbacks, mut semantic) = (BTreeMap::<String, Vec<String>>::new(), BTreeMap::new());
    for (name, service) in &settings.services {
        let asked = asked_as(name, service);
        let others = service.facts.fallback.iter().filter_map(model).filter(|other| *other != asked);
        let known = fallbacks.entry(asked.clone()).or_default();
        for other in others {
            if !known.contains(&other) {
                known.push(other);
            }
        }
        if let Some(embeddings) = service.facts.similar_by.as_ref().and_then(model) {
            let cosine = service.facts.similar_at.unwrap_or(SIMILAR);
            let similar_milli = u32::try_from(whole((cosine * 1_000.0).round())).unwrap_or(1_000).max(1);
            semantic.insert(asked, SemanticConfig { embeddings, similar_milli });
        }
    }
    fallbacks.retain(|_, others| !others.is_empty());
    Options { line, fallbacks, hedge, cache, semantic }
}

/// How the hall's gateway behaves, but for what lies in its folders.
pub(crate) fn config(settings: &Settings) -> GatewayConfig {
    GatewayConfig { policy: settings.gateway.routing.clone(), options: options(settings), ..GatewayConfig::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(more: &str) -> GatewayConfig {
        let text = format!("schema = 1\nname = \"test\"\n[pool.local]\nnodes = 1\n{more}");
        config(&dh_blueprint::Blueprint::parse("test.toml", &text).unwrap())
    }

    #[test]
    fn routing_and_classes_have_the_names_of_the_gateway() {
        let mut known = dh_policy::routing::names();
        let mut said = dh_blueprint::ROUTING.to_vec();
        known.sort_unstable();
        said.sort_unstable();
        assert_eq!(said, known);
        let classes: Vec<_> = LineConfig::new(1).classes.into_iter().map(|class| class.name).collect();
        assert_eq!(classes, dh_blueprint::CLASSES);
    }

    #[test]
    fn a_blueprint_without_a_gateway_means_the_shortest_way() {
        let config = read("");
        assert_eq!(config.options, Options::default());
        assert_eq!(config.policy, GatewayConfig::default().policy);
    }

    #[test]
    fn what_is_written_is_what_the_gateway_does() {
        let config = read(
            "[gateway]\nrouting = \"least_cost\"\nengine_in_flight = 8\nqueue = 99\nclass = \"interactive\"\n\
             hedge_percentile = 95\ncache = \"1 GiB\"\ncache_ttl = \"1 min\"\n\
             [service.large]\nurl = \"http://a:1\"\nserves = \"llama\"\nfallback = [\"small\"]\nsimilar_by = \"words\"\n\
             similar_at = 0.9\n[service.small]\nurl = \"http://b:1\"\n[service.words]\nurl = \"http://c:1\"\n",
        );
        assert_eq!(config.policy, "least_cost");
        let Options { line, fallbacks, hedge, cache, semantic } = config.options;
        let line = line.unwrap();
        assert_eq!((line.engine_in_flight, line.length_max, line.class.as_str()), (8, 99, "interactive"));
        assert_eq!(fallbacks, BTreeMap::from([("llama".to_owned(), vec!["small".to_owned()])]));
        assert_eq!(hedge, Some(HedgeConfig { after: HedgeAfter::Percent(95), percent_max: 5 }));
        let kept = CacheConfig { bytes_max: 1 << 30, ttl: Duration::from_mins(1), shared: false };
        assert_eq!(cache, Some(kept));
        let words = SemanticConfig { embeddings: "words".to_owned(), similar_milli: 900 };
        assert_eq!(semantic, BTreeMap::from([("llama".to_owned(), words)]));
    }
}
