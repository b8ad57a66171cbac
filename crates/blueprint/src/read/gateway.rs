//! `[gateway]`: how requests to models go through the hall.

use dh_units::{Bytes, Seconds};
use serde::{Deserialize, Serialize};

use crate::docs::Doc;
use crate::section::Section;
use crate::write::Writer;

/// How an engine is chosen, by the names that the gateway has for it.
pub const ROUTING: [&str; 10] = [
    "prefix_cache",
    "round_robin",
    "least_in_flight",
    "least_tokens",
    "power_of_two",
    "bounded_hash",
    "session",
    "site",
    "least_cost",
    "least_energy",
];

/// Classes of requests, the most urgent first.
pub const CLASSES: [&str; 3] = ["interactive", "standard", "batch"];

/// How requests to models go through the hall.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gateway {
    /// One of [`ROUTING`].
    pub routing: String,
    /// Requests that one engine works on at once; further ones wait in line. As many as come if not given.
    pub engine_in_flight: Option<u32>,
    /// Requests that wait for one model.
    pub queue: u32,
    /// Of [`CLASSES`], that of requests that name none, whose key has none.
    pub class: String,
    /// A second engine is asked when the first has not begun its answer after so long.
    pub hedge_after: Option<Seconds>,
    /// The same, after the time in which so many of a hundred requests had their first byte.
    pub hedge_percentile: Option<u32>,
    /// Of a hundred requests, how many may go to a second engine.
    pub hedge_percent: u32,
    /// Memory for answers that are given again to the same request; none are if not given.
    pub cache: Option<Bytes>,
    /// How long such an answer is good.
    pub cache_ttl: Seconds,
    /// Whether callers share such answers.
    pub cache_shared: bool,
}

impl Default for Gateway {
    /// The shortest way: nobody waits in line, nothing is asked twice, nothing is kept.
    fn default() -> Self {
        Self {
            routing: "prefix_cache".to_owned(),
            engine_in_flight: None,
            queue: 1_024,
            class: "standard".to_owned(),
            hedge_after: None,
            hedge_percentile: None,
            hedge_percent: 5,
            cache: None,
            cache_ttl: Seconds(600.0),
            cache_shared: false,
        }
    }
}

pub(crate) const DOC: Doc = Doc {
    pattern: "gateway",
    about: "How requests to models go through the hall.",
    keys: &[
        (
            "routing",
            "How an engine is chosen: prefix_cache (where most of the prompt is cached), round_robin, least_in_flight, least_tokens, power_of_two, bounded_hash, session, site, least_cost, least_energy.",
        ),
        (
            "engine_in_flight",
            "Requests that one engine works on at once; further ones wait in line, by class and by key. As many as come if left out.",
        ),
        ("queue", "Requests that wait for one model; one more is refused."),
        ("class", "The class of requests that name none and whose key has none: interactive, standard or batch."),
        ("hedge_after", "A second engine is asked when the first has not begun its answer after so long."),
        (
            "hedge_percentile",
            "The same, after the time in which so many of a hundred requests of the model had their first byte.",
        ),
        ("hedge_percent", "Of a hundred requests, how many may go to a second engine."),
        (
            "cache",
            "Memory for answers that are given again to the same deterministic request; none are kept if left out.",
        ),
        ("cache_ttl", "How long such an answer is good."),
        ("cache_shared", "Whether callers share such answers; else each sees only its own."),
    ],
};

/// The gateway of the file, or the ordinary one if it has none.
pub(super) fn read(root: &Section<'_>) -> Gateway {
    if !root.has("gateway") {
        root.know(&["gateway"]);
        return Gateway::default();
    }
    root.table("gateway").map(|section| gateway(&section)).unwrap_or_default()
}

fn gateway(section: &Section<'_>) -> Gateway {
    let ordinary = Gateway::default();
    let same = |words: &[&'static str]| -> Vec<(&'static str, &'static str)> {
        words.iter().map(|word| (*word, *word)).collect()
    };
    let routing = section.word("routing", &same(&ROUTING));
    let engine_in_flight = section.integer("engine_in_flight", 1..=1_000_000_u32);
    let queue = section.integer("queue", 1..=1_000_000_u32);
    let class = section.word("class", &same(&CLASSES));
    let hedge_after = section.positive("hedge_after", Seconds(0.0));
    let hedge_percentile = section.integer("hedge_percentile", 1..=99_u32);
    let hedge_percent = section.integer("hedge_percent", 1..=100_u32);
    let cache = section.positive("cache", Bytes(0));
    let cache_ttl = section.positive("cache_ttl", Seconds(0.0));
    let cache_shared = section.boolean("cache_shared");
    if let (Some(_), Some(percentile)) = (&hedge_after, &hedge_percentile) {
        let message = "`hedge_after` and `hedge_percentile` exclude each other";
        let hint = super::of_base(section, ["hedge_after", "hedge_percentile"])
            .or_else(|| Some("one is a time, the other follows what the model does".to_owned()));
        section.problems.add(crate::codes::Code::ONE_OF, &percentile.at, message, hint);
    }
    // Where a key is misspelled, that is the mistake.
    let spelled = section.unknown().is_empty();
    for (key, needs, there) in [
        ("queue", "engine_in_flight", section.has("engine_in_flight")),
        ("class", "engine_in_flight", section.has("engine_in_flight")),
        ("hedge_percent", "hedge_after", section.has("hedge_after") || section.has("hedge_percentile")),
        ("cache_ttl", "cache", section.has("cache")),
        ("cache_shared", "cache", section.has("cache")),
    ] {
        if spelled && section.has(key) && !there {
            let message = format!("`{key}` says nothing without `{needs}`");
            section.problems.add(
                crate::codes::Code::ELSEWHERE,
                &section.key_at(key),
                message,
                Some(format!("add `{needs}`")),
            );
        }
    }
    section.finish();
    Gateway {
        routing: routing.map_or(ordinary.routing, |word| word.value.to_owned()),
        engine_in_flight: engine_in_flight.map(|count| count.value),
        queue: queue.map_or(ordinary.queue, |count| count.value),
        class: class.map_or(ordinary.class, |word| word.value.to_owned()),
        hedge_after: hedge_after.map(|time| time.value),
        hedge_percentile: hedge_percentile.map(|part| part.value),
        hedge_percent: hedge_percent.map_or(ordinary.hedge_percent, |part| part.value),
        cache: cache.map(|size| size.value),
        cache_ttl: cache_ttl.map_or(ordinary.cache_ttl, |time| time.value),
        cache_shared: cache_shared.is_some_and(|shared| shared.value),
    }
}

/// What says nothing without another key is written with that key alone, so that what is written reads back.
pub(crate) fn write(out: &mut Writer<'_>, gateway: &Gateway) {
    out.text("routing", &gateway.routing);
    if let Some(count) = gateway.engine_in_flight {
        out.integer("engine_in_flight", count);
        out.integer("queue", gateway.queue);
        out.text("class", &gateway.class);
    }
    out.maybe_quantity("hedge_after", gateway.hedge_after);
    out.maybe_integer("hedge_percentile", gateway.hedge_percentile);
    if gateway.hedge_after.is_some() || gateway.hedge_percentile.is_some() {
        out.integer("hedge_percent", gateway.hedge_percent);
    }
    if let Some(size) = gateway.cache {
        out.quantity("cache", size);
        out.quantity("cache_ttl", gateway.cache_ttl);
        out.boolean("cache_shared", gateway.cache_shared);
    }
}
