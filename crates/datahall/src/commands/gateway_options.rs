//! What `datahall gateway` does only when asked: lines, other models, second tries, caches.

use std::time::Duration;

use clap::Args;
use dh_gateway::{CacheConfig, ClassConfig, HedgeAfter, HedgeConfig, LineConfig, Options, SemanticConfig};
use dh_units::{Bytes, Seconds};

/// Flags of [`Options`].
#[derive(Debug, Args)]
pub(super) struct GatewayOptions {
    /// Requests that one engine works on at once; further ones wait in line, by class and by key
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    engine_in_flight: Option<u32>,
    /// Requests that wait for one model; one more is refused with 429
    #[arg(long, value_name = "N", default_value_t = 1_024, requires = "engine_in_flight")]
    queue: usize,
    /// A class of requests, the most urgent first: when its first token should come, and how long it waits for an engine
    #[arg(long = "class", value_name = "NAME=TTFT/WAIT", value_parser = class, requires = "engine_in_flight")]
    classes: Vec<ClassConfig>,
    /// The class of requests that name none
    #[arg(long, value_name = "NAME", requires = "engine_in_flight")]
    default_class: Option<String>,
    /// Models that are asked when no engine of the first answers, in order
    #[arg(long = "fallback", value_name = "MODEL=OTHER,...", value_parser = fallback)]
    fallbacks: Vec<(String, Vec<String>)>,
    /// Ask a second engine when the first byte takes longer than it does for so many requests, or than a time
    #[arg(long, value_name = "PERCENT|TIME", value_parser = hedge_after)]
    hedge_after: Option<HedgeAfter>,
    /// Of a hundred requests, how many may go to a second engine
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u8).range(0..=100), requires = "hedge_after")]
    hedge_percent: u8,
    /// Memory for answers that are given again to the same deterministic request
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    cache_bytes: Option<usize>,
    /// How long such an answer is good
    #[arg(long, value_name = "TIME", default_value = "10min", value_parser = time, requires = "cache_bytes")]
    cache_ttl: Duration,
    /// Callers share such answers; else each sees only its own
    #[arg(long, requires = "cache_bytes")]
    cache_shared: bool,
    /// Answer a model's questions as one before that means the same, by a model of embeddings behind this gateway
    #[arg(long = "semantic-cache", value_name = "MODEL=EMBEDDINGS[@COSINE]", value_parser = semantic)]
    semantic: Vec<(String, SemanticConfig)>,
}

impl GatewayOptions {
    /// # Errors
    /// What does not fit together.
    pub(super) fn read(self) -> Result<Options, String> {
        let line = self.engine_in_flight.map(|engine_in_flight| {
            let mut line = LineConfig { length_max: self.queue, ..LineConfig::new(engine_in_flight) };
            if !self.classes.is_empty() {
                line.classes = self.classes;
            }
            match self.default_class {
                Some(class) => line.class = class,
                None if line.classes.iter().any(|class| class.name == line.class) => {}
                None => line.class = line.classes.first().map(|class| class.name.clone()).unwrap_or_default(),
            }
            line
        });
        if let Some(line) = &line
            && !line.classes.iter().any(|class| class.name == line.class)
        {
            return Err(format!("`--default-class {}` is none of the classes", line.class));
        }
        let cache =
            self.cache_bytes.map(|bytes_max| CacheConfig { bytes_max, ttl: self.cache_ttl, shared: self.cache_shared });
        Ok(Options {
            line,
            fallbacks: self.fallbacks.into_iter().collect(),
            hedge: self.hedge_after.map(|after| HedgeConfig { after, percent_max: self.hedge_percent }),
            cache,
            semantic: self.semantic.into_iter().collect(),
        })
    }
}

fn class(text: &str) -> Result<ClassConfig, String> {
    let wrong = || "expected NAME=TTFT/WAIT, such as interactive=500ms/2s".to_owned();
    let (name, times) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(wrong)?;
    let (first, wait) = times.split_once('/').ok_or_else(wrong)?;
    Ok(ClassConfig { name: name.to_owned(), first_token: time(first)?, wait_max: time(wait)? })
}

fn fallback(text: &str) -> Result<(String, Vec<String>), String> {
    let (model, others) = text.split_once('=').unwrap_or_default();
    let others: Vec<String> = others.split(',').filter(|other| !other.is_empty()).map(ToOwned::to_owned).collect();
    if model.is_empty() || others.is_empty() || others.iter().any(|other| other == model) {
        return Err("expected MODEL=OTHER,..., such as large=medium,small".to_owned());
    }
    Ok((model.to_owned(), others))
}

fn hedge_after(text: &str) -> Result<HedgeAfter, String> {
    let wrong = || "expected a percentage from 1% to 99%, such as 95%, or a time, such as 800ms".to_owned();
    match text.strip_suffix('%') {
        Some(percent) => {
            let percent: Option<u8> = percent.parse().ok();
            percent.filter(|percent| (1..=99).contains(percent)).map(HedgeAfter::Percent).ok_or_else(wrong)
        }
        None => time(text).map(HedgeAfter::Time).map_err(|_| wrong()),
    }
}

fn time(text: &str) -> Result<Duration, String> {
    let time: Seconds = text.parse().map_err(|error: dh_units::Error| error.to_string())?;
    Duration::try_from_secs_f64(time.0).map_err(|_| format!("`{text}` is no length of time"))
}

fn bytes(text: &str) -> Result<usize, String> {
    let bytes: Bytes = text.parse().map_err(|error: dh_units::Error| error.to_string())?;
    usize::try_from(bytes.0).map_err(|_| format!("`{text}` is more than there can be"))
}

fn semantic(text: &str) -> Result<(String, SemanticConfig), String> {
    let wrong = || "expected MODEL=EMBEDDINGS[@COSINE], such as llama=minilm@0.95".to_owned();
    let (model, rest) = text.split_once('=').filter(|(model, _)| !model.is_empty()).ok_or_else(wrong)?;
    let (embeddings, cosine) = rest.rsplit_once('@').unwrap_or((rest, "0.95"));
    // Thousandths, read as text so that nothing is rounded.
    let similar_milli: u32 = match cosine.split_once('.') {
        None if cosine == "1" => 1_000,
        Some(("0", parts)) if (1..=3).contains(&parts.len()) && parts.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("{parts:0<3}").parse().map_err(|_| wrong())?
        }
        Some(_) | None => return Err(wrong()),
    };
    if embeddings.is_empty() || similar_milli == 0 {
        return Err(wrong());
    }
    Ok((model.to_owned(), SemanticConfig { embeddings: embeddings.to_owned(), similar_milli }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_or_say_what_they_expect() {
        assert_eq!(time("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(time("10min"), Ok(Duration::from_mins(10)));
        assert_eq!(bytes("2GiB"), Ok(2 << 30));
        assert_eq!(hedge_after("95%"), Ok(HedgeAfter::Percent(95)));
        assert_eq!(hedge_after("2s"), Ok(HedgeAfter::Time(Duration::from_secs(2))));
        assert_eq!(fallback("a=b,c"), Ok(("a".to_owned(), vec!["b".to_owned(), "c".to_owned()])));
        let read =
            |text: &str| semantic(text).map(|(model, semantic)| (model, semantic.embeddings, semantic.similar_milli));
        assert_eq!(read("m=org/e@0.9"), Ok(("m".to_owned(), "org/e".to_owned(), 900)));
        assert_eq!(read("m=e"), Ok(("m".to_owned(), "e".to_owned(), 950)));
        let fast = class("fast=100ms/1s").map(|fast| (fast.first_token, fast.wait_max));
        assert_eq!(fast, Ok((Duration::from_millis(100), Duration::from_secs(1))));
        for bad in ["", "5", "5x", "-1s"] {
            assert!(time(bad).is_err(), "{bad}");
        }
        assert!(bytes("1").is_err() && bytes("GiB").is_err());
        assert!(hedge_after("100%").is_err() && hedge_after("0%").is_err() && hedge_after("x").is_err());
        assert!(fallback("a=a").is_err() && fallback("a=").is_err() && fallback("a").is_err());
        assert!(class("=1s/1s").is_err() && class("a=1s").is_err());
        for bad in ["m=e@1.1", "m=e@0.9999", "m=e@x", "m=@0.9", "=e", "m=e@0.000"] {
            assert!(semantic(bad).is_err(), "{bad}");
        }
    }
}
