//! `[store.NAME.tier.NAME]`: where objects of a store go that are seldom read.

use dh_units::{Bytes, Seconds};
use serde::{Deserialize, Serialize};

use super::store::{Code, Compression, Named, erasure_code, fits, paths};
use crate::codes;
use crate::docs::Doc;
use crate::problem::quoted;
use crate::section::Section;
use crate::write::Writer;

/// The storage classes that a tier may stand for, as S3 names them.
const CLASSES: &[(&str, &str)] = &[
    ("STANDARD_IA", "STANDARD_IA"),
    ("ONEZONE_IA", "ONEZONE_IA"),
    ("GLACIER_IR", "GLACIER_IR"),
    ("GLACIER", "GLACIER"),
    ("DEEP_ARCHIVE", "DEEP_ARCHIVE"),
];

/// What a tier lies on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TierPlace {
    /// Drives of this machine, with a code of their own.
    Drives {
        /// Their directories, in order.
        drives: Vec<String>,
        /// How objects are spread over them.
        code: Option<Code>,
    },
    /// A bucket of another S3 store.
    Remote {
        /// The other store's address.
        endpoint: String,
        /// The bucket, which must be there.
        bucket: String,
        /// What the names of all objects there begin with.
        prefix: String,
        /// The region that is signed for.
        region: String,
        /// The file with the access key; the environment's AWS variables if none is named.
        keys: Option<String>,
    },
}

/// A tier.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tier {
    /// What it lies on.
    pub place: TierPlace,
    /// The storage class that means it.
    pub class: String,
    /// Objects not read for so long move here; none if only their class brings them.
    pub after: Option<Seconds>,
    /// How objects that move here are compressed anew; kept as they are if not given.
    pub compression: Option<Compression>,
    /// The most it may hold.
    pub capacity: Option<Bytes>,
}

pub(crate) const DOC: Doc = Doc {
    pattern: "store.*.tier.*",
    about: "A colder tier of a store: other drives, or a bucket of another S3 store. Objects there are read as all others.",
    keys: &[
        ("drives", "The directories of the tier's drives, in order, each a file system of its own."),
        (
            "code",
            "The erasure code over the tier's drives, as data+parity; one drive of several is parity if left out.",
        ),
        ("endpoint", "The address of another S3 store; what goes there is encrypted, and names tell nothing."),
        ("bucket", "The bucket of the other store, which must be there."),
        ("prefix", "What the names of all objects in that bucket begin with."),
        ("region", "The region that requests to the other store are signed for."),
        (
            "keys",
            "The file with the other store's access key, as `datahall store keys -o json` prints it; AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY if left out.",
        ),
        (
            "class",
            "The S3 storage class that means this tier, in PUTs and in lifecycles; STANDARD_IA for drives and GLACIER_IR for another store if left out.",
        ),
        ("after", "Objects that were not read for so long move here; only their class brings them if left out."),
        (
            "compression",
            "How objects that move here are compressed anew: \"zstd\", \"lz4\", \"auto\" or \"none\"; as they are if left out.",
        ),
        ("capacity", "The most that it may hold."),
    ],
};

pub(super) fn read(section: &Section<'_>, known: &mut Vec<Named>, cold_after: Option<Seconds>) -> Option<Tier> {
    let drives = paths(section, "drives", known);
    let code = section.text("code").and_then(|found| erasure_code(section, &found));
    let endpoint = section.text("endpoint");
    let bucket = section.text("bucket");
    let (prefix, region, keys) = (section.text("prefix"), section.text("region"), section.text("keys"));
    let class = section.word("class", CLASSES);
    let after = section.positive("after", Seconds(0.0));
    let compression = section.word("compression", Compression::WORDS);
    let capacity = section.bound("capacity", Bytes(0));
    let (local, remote) = (section.has("drives"), section.has("endpoint"));
    if local == remote {
        let message = if local {
            "a tier has `drives` or an `endpoint`, not both"
        } else {
            "the tier has neither `drives` nor an `endpoint`"
        };
        let hint = Some(
            "drives = [\"/hdd/a\", \"/hdd/b\", \"/hdd/c\"], or endpoint = \"https://...\" and bucket = \"...\""
                .to_owned(),
        );
        section.problems.add(codes::Code::ONE_OF, &section.at, message, hint);
    } else if local {
        section.refuse(&["bucket", "prefix", "region", "keys"], "is for tiers with an `endpoint`");
    } else {
        section.refuse(&["code", "capacity"], "is for tiers with `drives`");
    }
    let bucket = if remote && !local { section.need("bucket", bucket) } else { None };
    section.finish();
    if local == remote {
        return None;
    }
    let place = if local {
        let drives = drives?;
        fits(section, &drives, code);
        TierPlace::Drives { drives: drives.value.clone(), code }
    } else {
        let endpoint = endpoint?;
        let address = endpoint.value.strip_prefix("http://").or_else(|| endpoint.value.strip_prefix("https://"));
        if address.is_none_or(|host| {
            host.is_empty() || host.contains(['@', '?', '#']) || host.trim_end_matches('/').contains('/')
        }) {
            let message = format!("{} is no address of a store", quoted(&endpoint.value));
            let hint = Some(
                "scheme, host and port, for example \"https://s3.example\" or \"http://10.0.0.7:9000\"".to_owned(),
            );
            section.problems.add(codes::Code::BAD_URL, &endpoint.at, message, hint);
        }
        TierPlace::Remote {
            endpoint: endpoint.value,
            bucket: bucket?.value,
            prefix: prefix.map(|prefix| prefix.value).unwrap_or_default(),
            region: region.map_or_else(|| "us-east-1".to_owned(), |region| region.value),
            keys: keys.map(|keys| keys.value),
        }
    };
    let usual = if local { "STANDARD_IA" } else { "GLACIER_IR" };
    Some(Tier {
        place,
        class: class.map_or(usual, |class| class.value).to_owned(),
        after: after.map(|after| after.value).or(cold_after),
        compression: compression.map(|compression| compression.value),
        capacity: capacity.map(|capacity| capacity.value),
    })
}

pub(crate) fn write(out: &mut Writer<'_>, tier: &Tier) {
    match &tier.place {
        TierPlace::Drives { drives, code } => {
            out.texts("drives", drives);
            out.maybe_text("code", code.map(|code| code.to_string()).as_deref());
        }
        TierPlace::Remote { endpoint, bucket, prefix, region, keys } => {
            out.text("endpoint", endpoint);
            out.text("bucket", bucket);
            out.text("prefix", prefix);
            out.text("region", region);
            out.maybe_text("keys", keys.as_deref());
        }
    }
    out.text("class", &tier.class);
    out.maybe_quantity("after", tier.after);
    out.maybe_text("compression", tier.compression.map(Compression::word));
    out.maybe_quantity("capacity", tier.capacity);
}
