//! `[store.NAME]`: an object store.

use dh_units::{Bytes, BytesPerSec, Seconds};
use serde::{Deserialize, Serialize};

use super::{Facts, existing};
use crate::codes;
use crate::docs::Doc;
use crate::problem::quoted;
use crate::section::{Section, Spot};
use crate::write::Writer;

/// Small enough for a laptop that also trains; large enough for the pieces of a data set that are read every epoch.
const CACHE: Bytes = Bytes(64 << 20);

/// Whether a store compresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Objects that shrink are kept compressed.
    #[default]
    Auto,
    /// Objects are kept as they came.
    Off,
}

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
    /// Whether objects are compressed.
    pub compression: Compression,
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
}

pub(crate) const DOC: Doc = Doc {
    pattern: "store.*",
    about: "An object store.",
    keys: &[
        ("capacity", "The most it may hold; all of the drive if left out."),
        ("cache", "Memory for what is read often."),
        ("compression", "\"auto\" keeps objects compressed that shrink, \"off\" keeps them as they came."),
        ("pool", "The pool of storage nodes that holds it; the drive of this machine if left out."),
        (
            "code",
            "The erasure code over drives, as data+parity: \"8+3\" survives the loss of any three of eleven drives.",
        ),
        ("read", "What all clients together must be able to read."),
        ("write", "What all clients together must be able to write. Checkpoints usually set it."),
        ("cold_after", "Objects that were not read for so long move to the next colder tier."),
    ],
};

/// What a store is when nothing is said.
pub(super) const fn ordinary() -> Store {
    Store {
        capacity: None,
        cache: CACHE,
        compression: Compression::Auto,
        pool: None,
        code: None,
        read: None,
        write: None,
        cold_after: None,
    }
}

pub(super) fn read(section: &Section<'_>, facts: &Facts<'_>) -> Option<Store> {
    let capacity = section.bound("capacity", Bytes(0));
    let cache = section.quantity("cache");
    let compression = section.word("compression", &[("auto", Compression::Auto), ("off", Compression::Off)]);
    let pool = section.text("pool").and_then(|found| existing(section, "pool", found, &facts.pools));
    let pool_written = section.has("pool");
    let code = section.text("code").and_then(|found| erasure_code(section, &found));
    let read = section.positive("read", BytesPerSec(0.0));
    let write = section.positive("write", BytesPerSec(0.0));
    let cold_after = section.positive("cold_after", Seconds(0.0));
    section.finish();
    if pool_written && pool.is_none() {
        return None;
    }
    let ordinary = ordinary();
    Some(Store {
        capacity: capacity.map(|capacity| capacity.value),
        cache: cache.map_or(ordinary.cache, |cache| cache.value),
        compression: compression.map_or(ordinary.compression, |compression| compression.value),
        pool,
        code,
        read: read.map(|read| read.value),
        write: write.map(|write| write.value),
        cold_after: cold_after.map(|time| time.value),
    })
}

/// `data+parity`, with bounds that Reed-Solomon codes over bytes and real chassis have.
fn erasure_code(section: &Section<'_>, found: &Spot<String>) -> Option<Code> {
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

pub(crate) fn write(out: &mut Writer<'_>, store: &Store) {
    out.maybe_quantity("capacity", store.capacity);
    out.quantity("cache", store.cache);
    out.text(
        "compression",
        match store.compression {
            Compression::Auto => "auto",
            Compression::Off => "off",
        },
    );
    out.maybe_text("pool", store.pool.as_deref());
    out.maybe_text("code", store.code.map(|code| code.to_string()).as_deref());
    out.maybe_quantity("read", store.read);
    out.maybe_quantity("write", store.write);
    out.maybe_quantity("cold_after", store.cold_after);
}
