//! `[store.NAME]`: an object store.

use std::collections::BTreeMap;
use std::ops::Range;

use dh_units::{Bytes, BytesPerSec, Seconds};
use serde::{Deserialize, Serialize};

use super::tier::{self, Tier};
use super::{Facts, existing};
use crate::codes;
use crate::docs::Doc;
use crate::problem::quoted;
use crate::section::{Section, Spot};
use crate::write::Writer;

/// Small enough for a laptop that also trains; large enough for the pieces of a data set that are read every epoch.
const CACHE: Bytes = Bytes(64 << 20);

/// Reads of an object within a half-life that make it one that is read often: one more than a copy and a look at it.
const PROMOTE_AT: u32 = 3;

/// Objects below this size stay: moving them costs more than they take. S3's own limit for its colder classes.
const TIER_MIN: Bytes = Bytes(128 << 10);

/// How objects are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Objects that shrink are kept compressed: quickly on the store's own drives, thoroughly in colder tiers.
    #[default]
    Auto,
    /// By lz4 where it pays: quick to read.
    Lz4,
    /// By zstd where it pays: small.
    Zstd,
    /// Objects are kept as they came.
    None,
}

impl Compression {
    /// The words for them. "off" is what "none" was called.
    pub(super) const WORDS: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("lz4", Self::Lz4), ("zstd", Self::Zstd), ("none", Self::None), ("off", Self::None)];

    /// Its word.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
            Self::None => "none",
        }
    }
}

/// What an answer of success promises in buckets that say nothing of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Bytes and metadata are durable.
    #[default]
    Sync,
    /// The same, but changes wait a little for each other.
    Group,
    /// The last second may be lost with the power.
    Cache,
}

const DURABILITIES: &[(&str, Durability)] =
    &[("sync", Durability::Sync), ("group", Durability::Group), ("cache", Durability::Cache)];

/// How objects are encrypted that come without a wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encryption {
    /// Not at all.
    #[default]
    None,
    /// By keys of the store.
    Store,
}

const ENCRYPTIONS: &[(&str, Encryption)] = &[("none", Encryption::None), ("store", Encryption::Store)];

/// An erasure code: `data` pieces and `parity` more, any `parity` of which may be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code {
    /// Pieces of the data itself.
    pub data: u8,
    /// Pieces more.
    pub parity: u8,
}

impl Code {
    /// Raw bytes for each byte kept: at least 1.
    pub fn overhead(self) -> f64 {
        f64::from(self.data + self.parity) / f64::from(self.data)
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}+{}", self.data, self.parity)
    }
}

/// An object store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Store {
    /// The most it may hold; all of the drive if not given.
    pub capacity: Option<Bytes>,
    /// Memory for what is read often.
    pub cache: Bytes,
    /// How objects are compressed.
    pub compression: Compression,
    /// What an answer of success promises in buckets that say nothing of their own.
    pub durability: Durability,
    /// How objects are encrypted that come without a wish.
    pub encryption: Encryption,
    /// The directories of its drives; none for one in the hall's own.
    pub drives: Vec<String>,
    /// The pool whose nodes hold it; this machine's drive if not given.
    pub pool: Option<String>,
    /// How objects are spread over drives.
    pub code: Option<Code>,
    /// What all clients together must be able to read.
    pub read: Option<BytesPerSec>,
    /// What all clients together must be able to write: checkpoints set it.
    pub write: Option<BytesPerSec>,
    /// Objects not read for so long move to the next colder tier.
    pub cold_after: Option<Seconds>,
    /// The time in which what is known of reads counts half.
    pub half_life: Seconds,
    /// Reads within a half-life that bring an object back to the store's own drives.
    pub promote_at: u32,
    /// The smallest object that moves by itself.
    pub tier_min: Bytes,
    /// The part of the capacity above which the coldest objects move to a colder tier; at most 1.
    pub high_water: f64,
    /// The part of the capacity below which that ends; less than `high_water`.
    pub low_water: f64,
    /// The most bytes that move between tiers in a second.
    pub move_rate: Option<BytesPerSec>,
    /// The time from the end of one check of all objects to the beginning of the next; 0 for never.
    pub scrub_every: Seconds,
    /// The most bytes that such a check reads in a second.
    pub scrub_rate: BytesPerSec,
    /// Colder tiers by name.
    pub tiers: BTreeMap<String, Tier>,
}

pub(crate) const DOC: Doc = Doc {
    pattern: "store.*",
    about: "An object store.",
    keys: &[
        ("capacity", "The most it may hold; all of the drive if left out."),
        ("cache", "Memory for what is read often."),
        (
            "compression",
            "\"auto\" keeps objects compressed that shrink, quickly on the store's own drives (lz4) and thoroughly in colder tiers (zstd); \"lz4\" and \"zstd\" use that one where it pays; \"none\" keeps objects as they came.",
        ),
        (
            "durability",
            "What an answer of success promises: \"sync\", all is durable; \"group\", the same with changes that wait a little for each other; \"cache\", the last second may be lost with the power. Buckets may say otherwise.",
        ),
        ("encryption", "\"store\" encrypts objects that come without a wish by keys of the store; \"none\" does not."),
        (
            "drives",
            "The directories of its drives on this machine, in order, each a file system of its own; one directory of the hall if left out.",
        ),
        ("pool", "The pool of storage nodes that holds it; the drive of this machine if left out."),
        (
            "code",
            "The erasure code over drives, as data+parity: \"8+3\" survives the loss of any three of eleven drives.",
        ),
        ("read", "What all clients together must be able to read."),
        ("write", "What all clients together must be able to write. Checkpoints usually set it."),
        ("cold_after", "Objects that were not read for so long move to the next colder tier."),
        ("half_life", "What is known of reads counts half after so long."),
        ("promote_at", "Reads within a half-life that bring an object back from a colder tier."),
        ("tier_min", "Objects below this size do not move by themselves."),
        ("high_water", "The part of the capacity above which the coldest objects move to a colder tier."),
        ("low_water", "The part of the capacity below which that ends."),
        (
            "move_rate",
            "The most bytes that move between tiers in a second, all together; as fast as it goes if left out.",
        ),
        (
            "scrub_every",
            "All objects are read and checked, and mended where they can be, so long after the last time; \"0 s\" for only when asked for.",
        ),
        ("scrub_rate", "The most bytes that such a check reads in a second."),
        ("tier", "Colder tiers: [store.NAME.tier.NAME]."),
    ],
};

/// What a store is when nothing is said.
pub(super) const fn ordinary() -> Store {
    Store {
        capacity: None,
        cache: CACHE,
        compression: Compression::Auto,
        durability: Durability::Sync,
        encryption: Encryption::None,
        drives: Vec::new(),
        pool: None,
        code: None,
        read: None,
        write: None,
        cold_after: None,
        half_life: Seconds(86_400.0),
        promote_at: PROMOTE_AT,
        tier_min: TIER_MIN,
        high_water: 0.9,
        low_water: 0.8,
        move_rate: None,
        scrub_every: Seconds(604_800.0),
        scrub_rate: BytesPerSec(33_554_432.0),
        tiers: BTreeMap::new(),
    }
}

/// A directory that a store or tier lies on, and where that is written.
pub(super) type Named = (String, Range<usize>);

pub(super) fn read(section: &Section<'_>, facts: &Facts<'_>) -> Option<Store> {
    let capacity = section.bound("capacity", Bytes(0));
    let cache = section.quantity("cache");
    let compression = section.word("compression", Compression::WORDS);
    let durability = section.word("durability", DURABILITIES);
    let encryption = section.word("encryption", ENCRYPTIONS);
    let mut known = facts.drives.borrow_mut();
    let drives = paths(section, "drives", &mut known);
    let pool = section.text("pool").and_then(|found| existing(section, "pool", found, &facts.pools));
    let pool_written = section.has("pool");
    let code = section.text("code").and_then(|found| erasure_code(section, &found));
    let read = section.positive("read", BytesPerSec(0.0));
    let write = section.positive("write", BytesPerSec(0.0));
    let cold_after = section.positive("cold_after", Seconds(0.0)).map(|time| time.value);
    let half_life = section.positive("half_life", Seconds(0.0));
    let promote_at = section.integer("promote_at", 1..=1_000_000_u32);
    let tier_min = section.quantity("tier_min");
    let part = |part: f64| part > 0.0 && part <= 1.0;
    let high = section.real("high_water", "above 0 and at most 1", part);
    let low = section.real("low_water", "above 0 and at most 1", part);
    let move_rate = section.positive("move_rate", BytesPerSec(0.0)).map(|rate| rate.value);
    let scrub_every = section.quantity("scrub_every");
    let scrub_rate = section.positive("scrub_rate", BytesPerSec(0.0));
    let tiers: BTreeMap<String, Tier> = section
        .group("tier")
        .into_iter()
        .filter_map(|(name, below)| tier::read(&below, &mut known, cold_after).map(|tier| (name, tier)))
        .collect();
    if let Some(drives) = &drives {
        fits(section, drives, code);
    }
    let mut classes: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, tier) in &tiers {
        if let Some(other) = classes.insert(&tier.class, name) {
            let message = format!("tiers `{other}` and `{name}` both stand for {}", tier.class);
            let hint = Some("give each its own `class`, for example \"ONEZONE_IA\"".to_owned());
            section.problems.add(codes::Code::DUPLICATE, &section.name_at("tier", name), message, hint);
        }
    }
    let ordinary = ordinary();
    let (high_water, low_water) = (
        high.as_ref().map_or(ordinary.high_water, |high| high.value),
        low.as_ref().map_or(ordinary.low_water, |low| low.value),
    );
    if let Some(at) = low.as_ref().or(high.as_ref()).map(|spot| &spot.at)
        && low_water >= high_water
    {
        let message = format!("`low_water` is {low_water}, which is not below `high_water`, {high_water}");
        section.problems.add(codes::Code::OUT_OF_RANGE, at, message, None);
    }
    section.finish();
    if pool_written && pool.is_none() {
        return None;
    }
    Some(Store {
        capacity: capacity.map(|capacity| capacity.value),
        cache: cache.map_or(ordinary.cache, |cache| cache.value),
        compression: compression.map_or(ordinary.compression, |compression| compression.value),
        durability: durability.map_or(ordinary.durability, |durability| durability.value),
        encryption: encryption.map_or(ordinary.encryption, |encryption| encryption.value),
        drives: drives.map(|drives| drives.value).unwrap_or_default(),
        pool,
        code,
        read: read.map(|read| read.value),
        write: write.map(|write| write.value),
        cold_after,
        half_life: half_life.map_or(ordinary.half_life, |time| time.value),
        promote_at: promote_at.map_or(ordinary.promote_at, |count| count.value),
        tier_min: tier_min.map_or(ordinary.tier_min, |size| size.value),
        high_water,
        low_water,
        move_rate,
        scrub_every: scrub_every.map_or(ordinary.scrub_every, |time| time.value),
        scrub_rate: scrub_rate.map_or(ordinary.scrub_rate, |rate| rate.value),
        tiers,
    })
}

/// The directories of `key`. `known` has those of the whole file, and each may be named once.
pub(super) fn paths<'a>(section: &Section<'a>, key: &'a str, known: &mut Vec<Named>) -> Option<Spot<Vec<String>>> {
    let found = section.spots(key)?;
    for spot in &found.value {
        let problem = |code, message, hint: &str| section.problems.add(code, &spot.at, message, Some(hint.to_owned()));
        let plain = spot.value.trim_end_matches('/').to_owned();
        if !spot.value.starts_with('/') || plain.split('/').any(|part| part == "..") {
            let message = format!("{} is no directory of a drive", quoted(&spot.value));
            problem(codes::Code::OUT_OF_RANGE, message, "the whole path, for example \"/mnt/nvme0/store\"");
        } else if known.iter().any(|(have, _at)| *have == plain) {
            let message = format!("the drive {} is named twice", quoted(&spot.value));
            problem(codes::Code::DUPLICATE, message, "each drive is one place, of one store or tier");
        }
        known.push((plain, spot.at.clone()));
    }
    let most = 64;
    if found.value.is_empty() || found.value.len() > most {
        let message = format!("there are {} drives, possible are 1 to {most}", found.value.len());
        section.problems.add(codes::Code::OUT_OF_RANGE, &found.at, message, None);
    }
    Some(Spot { value: found.value.into_iter().map(|spot| spot.value).collect(), at: found.at })
}

/// Reports a code that needs more drives than there are.
pub(super) fn fits(section: &Section<'_>, drives: &Spot<Vec<String>>, code: Option<Code>) {
    let have = drives.value.len();
    if let Some(code) = code
        && usize::from(code.data) + usize::from(code.parity) > have
    {
        let wanted = usize::from(code.data) + usize::from(code.parity);
        let message = format!("the code {code} needs {wanted} drives, and there are {have}");
        let hint = match (have, usize::from(code.parity)) {
            (0 | 1, _) => "more drives, or no code".to_owned(),
            (have, parity) if parity >= have => {
                format!("more drives, or less parity: of {have} drives at most {} can be parity", have - 1)
            }
            (have, parity) => format!("more drives, or \"{}+{parity}\"", have - parity),
        };
        section.problems.add(codes::Code::BAD_ERASURE_CODE, &section.value_at("code"), message, Some(hint));
    }
}

/// `data+parity`, with bounds that Reed-Solomon codes over bytes and real chassis have.
pub(super) fn erasure_code(section: &Section<'_>, found: &Spot<String>) -> Option<Code> {
    let read = found.value.split_once('+').and_then(|(data, parity)| {
        let code = Code { data: data.trim().parse().ok()?, parity: parity.trim().parse().ok()? };
        ((1..=32).contains(&code.data) && (1..=8).contains(&code.parity)).then_some(code)
    });
    if read.is_none() {
        let message = format!("{} is not an erasure code", quoted(&found.value));
        let hint = Some("data+parity, with 1 to 32 and 1 to 8 pieces, for example \"8+3\"".to_owned());
        section.problems.add(codes::Code::BAD_ERASURE_CODE, &found.at, message, hint);
    }
    read
}

fn word_of<T: Copy + PartialEq>(words: &[(&'static str, T)], value: T) -> &'static str {
    words.iter().find(|(_word, known)| *known == value).map_or("", |(word, _value)| word)
}

pub(crate) fn write(out: &mut Writer<'_>, store: &Store) {
    out.maybe_quantity("capacity", store.capacity);
    out.quantity("cache", store.cache);
    out.text("compression", store.compression.word());
    out.text("durability", word_of(DURABILITIES, store.durability));
    out.text("encryption", word_of(ENCRYPTIONS, store.encryption));
    if !store.drives.is_empty() {
        out.texts("drives", &store.drives);
    }
    out.maybe_text("pool", store.pool.as_deref());
    out.maybe_text("code", store.code.map(|code| code.to_string()).as_deref());
    out.maybe_quantity("read", store.read);
    out.maybe_quantity("write", store.write);
    out.maybe_quantity("cold_after", store.cold_after);
    out.quantity("half_life", store.half_life);
    out.integer("promote_at", store.promote_at);
    out.quantity("tier_min", store.tier_min);
    out.real("high_water", store.high_water);
    out.real("low_water", store.low_water);
    out.maybe_quantity("move_rate", store.move_rate);
    out.quantity("scrub_every", store.scrub_every);
    out.quantity("scrub_rate", store.scrub_rate);
    for (name, tier) in &store.tiers {
        out.below("tier", name, |out| tier::write(out, tier));
    }
}
