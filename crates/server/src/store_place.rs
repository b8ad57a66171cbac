//! What `[store.NAME]` of a blueprint means to the store: the one place for halls and for stores that are served alone.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dh_blueprint::TierPlace;
use dh_store::{
    Code, Compression, DefaultEncryption, DriveConfig, Durability, Patrol, S3Options, StoreConfig, TierConfig,
    TierGround, Tiering,
};

const fn compression(compression: dh_blueprint::Compression) -> Compression {
    match compression {
        dh_blueprint::Compression::Auto => Compression::Auto,
        dh_blueprint::Compression::Lz4 => Compression::Lz4,
        dh_blueprint::Compression::Zstd => Compression::Zstd,
        dh_blueprint::Compression::None => Compression::Off,
    }
}

/// The code over these drives: the one that is written, else one drive of several is parity.
fn code(drives: &[String], code: Option<dh_blueprint::ErasureCode>) -> Code {
    let count = u8::try_from(drives.len()).unwrap_or(u8::MAX);
    match code {
        Some(code) if count > 0 => Code { data: code.data, parity: code.parity },
        Some(_) | None if count > 1 => Code { data: count - 1, parity: 1 },
        Some(_) | None => Code::SINGLE,
    }
}

fn drives(drives: &[String]) -> Vec<DriveConfig> {
    drives.iter().map(|dir| DriveConfig { dir: PathBuf::from(dir) }).collect()
}

/// Milliseconds of a time.
fn milliseconds(time: dh_units::Seconds) -> u64 {
    dh_units::whole(time.0 * 1_000.0)
}

fn bytes_per_second(rate: dh_units::BytesPerSec) -> u64 {
    dh_units::whole(rate.0).max(1)
}

/// Thousandths of a part.
fn milli(part: f64) -> u16 {
    u16::try_from(dh_units::whole(part * 1_000.0)).unwrap_or(1_000).min(1_000)
}

/// The key for another store: from its file, else from the environment.
fn credentials(name: &str, keys: Option<&String>) -> Result<dh_s3::Credentials, dh_store::Error> {
    let wrong = |why: String| dh_store::Error::Invalid(format!("the tier `{name}`: {why}"));
    let Some(path) = keys else {
        return dh_s3::Credentials::from_env().map_err(|error| wrong(format!("{error}, and it names no `keys`")));
    };
    let length = std::fs::metadata(path).map_err(|error| wrong(format!("{path}: {error}")))?.len();
    if length > KEYS_BYTES_MAX {
        return Err(wrong(format!("{path} has {length} bytes, which is no file of a key")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| wrong(format!("{path}: {error}")))?;
    dh_s3::Credentials::parse(&text).map_err(|error| wrong(format!("{path}: {error}")))
}

/// The largest file with a key.
const KEYS_BYTES_MAX: u64 = 64 << 10;

/// How often a call to another store is tried, and for how long each time: who waits is a reader.
const REMOTE_TRIES: u32 = 3;
const REMOTE_TIMEOUT: Duration = Duration::from_secs(20);

fn tier(name: &str, tier: &dh_blueprint::Tier) -> Result<TierConfig, dh_store::Error> {
    let ground = match &tier.place {
        TierPlace::Drives { drives: dirs, code: written } => TierGround::Drives {
            drives: drives(dirs),
            code: code(dirs, *written),
            capacity_bytes: tier.capacity.map(|capacity| capacity.0),
        },
        TierPlace::Remote { endpoint, bucket, prefix, region, keys } => {
            let settings = dh_s3::Settings {
                region: region.clone(),
                tries: REMOTE_TRIES,
                timeout: REMOTE_TIMEOUT,
                ..dh_s3::Settings::new(endpoint, Some(credentials(name, keys.as_ref())?))
            };
            let bucket = dh_store::remote::S3Bucket::new(settings, bucket.clone(), prefix.clone())?;
            TierGround::Remote(Arc::new(bucket))
        }
    };
    let recompressed = tier.compression.or(Some(dh_blueprint::Compression::Auto));
    Ok(TierConfig {
        name: name.to_owned(),
        class: tier.class.clone(),
        ground,
        after_ms: tier.after.map(milliseconds),
        compression: recompressed.map(|wanted| match wanted {
            // What moves is seldom read: small is better than quick.
            dh_blueprint::Compression::Auto | dh_blueprint::Compression::Zstd => Compression::Zstd,
            dh_blueprint::Compression::Lz4 => Compression::Lz4,
            dh_blueprint::Compression::None => Compression::Off,
        }),
    })
}

/// How to open the store that the blueprint describes; `dir` is its own directory.
/// # Errors
/// [`dh_store::Error::Invalid`] if the key of a tier cannot be read.
pub fn config(store: &dh_blueprint::Store, dir: PathBuf) -> Result<StoreConfig, dh_store::Error> {
    let mut tiers = store.tiers.iter().map(|(name, one)| tier(name, one)).collect::<Result<Vec<_>, _>>()?;
    // The coldest last: what only a class brings objects to is colder than what waiting does.
    let remote = |tier: &TierConfig| matches!(tier.ground, TierGround::Remote(_));
    tiers.sort_by_key(|tier| (tier.after_ms.unwrap_or(u64::MAX), remote(tier), tier.name.clone()));
    let tiering = Tiering {
        half_life_ms: milliseconds(store.half_life).max(1),
        promote_at: store.promote_at,
        bytes_min: store.tier_min.0,
        high_milli: milli(store.high_water),
        low_milli: milli(store.low_water),
        bytes_per_second: store.move_rate.map(bytes_per_second),
        ..Tiering::default()
    };
    let every_ms = milliseconds(store.scrub_every);
    let patrol = (every_ms > 0).then(|| Patrol { every_ms, bytes_per_second: bytes_per_second(store.scrub_rate) });
    Ok(StoreConfig {
        tiers,
        tiering,
        patrol,
        drives: drives(&store.drives),
        code: code(&store.drives, store.code),
        cache_bytes: store.cache.0,
        capacity_bytes: store.capacity.map(|capacity| capacity.0),
        compression: compression(store.compression),
        durability: match store.durability {
            dh_blueprint::Durability::Sync => Durability::Sync,
            dh_blueprint::Durability::Group => Durability::Group,
            dh_blueprint::Durability::Cache => Durability::Cache,
        },
        ..StoreConfig::new(dir)
    })
}

/// How its front behaves.
pub fn options(store: &dh_blueprint::Store) -> S3Options {
    S3Options {
        encryption: match store.encryption {
            dh_blueprint::Encryption::None => DefaultEncryption::None,
            dh_blueprint::Encryption::Store => DefaultEncryption::Managed,
        },
        ..S3Options::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(text: &str) -> dh_blueprint::Store {
        let text = format!("schema = 1\nname = \"lab\"\n[pool.local]\nnodes = 1\n[store.main]\n{text}");
        let settings = dh_blueprint::Blueprint::parse("hall.toml", &text).unwrap_or_else(|report| panic!("{report}"));
        settings.stores["main"].clone()
    }

    #[test]
    fn drives_without_a_code_bear_the_loss_of_one() {
        let opened = |text: &str| {
            let config = config(&store(text), PathBuf::from("/data")).unwrap();
            (config.drives.len(), config.code)
        };
        assert_eq!(opened(""), (0, Code::SINGLE));
        assert_eq!(opened("code = \"8+3\""), (0, Code::SINGLE), "a code of drives that are planned only");
        assert_eq!(opened("drives = [\"/a\"]"), (1, Code::SINGLE));
        assert_eq!(opened("drives = [\"/a\", \"/b\", \"/c\"]"), (3, Code { data: 2, parity: 1 }));
        assert_eq!(
            opened("drives = [\"/a\", \"/b\", \"/c\", \"/d\"]\ncode = \"1+2\""),
            (4, Code { data: 1, parity: 2 })
        );
    }

    #[test]
    fn tiers_go_from_the_warmest_to_the_coldest() {
        let keys = std::env::temp_dir().join(format!("datahall-keys-{}", std::process::id()));
        std::fs::write(&keys, "access_key = AK\nsecret_key = SK\n").unwrap();
        let text = format!(
            "drives = [\"/a\", \"/b\"]\nhigh_water = 0.7\nlow_water = 0.5\n[store.main.tier.a]\nendpoint = \
             \"http://127.0.0.1:1\"\nbucket = \"far\"\nkeys = \"{}\"\nafter = \"90 d\"\n[store.main.tier.b]\ndrives = \
             [\"/c\", \"/d\", \"/e\"]\nafter = \"30 d\"",
            keys.display()
        );
        let config = config(&store(&text), PathBuf::from("/data")).unwrap();
        std::fs::remove_file(keys).unwrap();
        let names: Vec<(&str, &str)> =
            config.tiers.iter().map(|tier| (tier.name.as_str(), tier.class.as_str())).collect();
        assert_eq!(names, [("b", "STANDARD_IA"), ("a", "GLACIER_IR")]);
        assert_eq!(config.tiers[0].after_ms, Some(30 * 86_400_000));
        assert!(matches!(&config.tiers[0].ground, TierGround::Drives { code: Code { data: 2, parity: 1 }, .. }));
        assert_eq!((config.tiering.high_milli, config.tiering.low_milli), (700, 500));
        let missing =
            store("[store.main.tier.a]\nendpoint = \"http://127.0.0.1:1\"\nbucket = \"far\"\nkeys = \"/none\"");
        let error = super::config(&missing, PathBuf::from("/data")).unwrap_err().to_string();
        assert!(error.contains("tier `a`") && error.contains("/none"), "{error}");
    }

    #[test]
    fn durability_compression_and_encryption_reach_the_store() {
        let store = store("durability = \"group\"\ncompression = \"none\"\nencryption = \"store\"");
        let config = config(&store, PathBuf::from("/data")).unwrap();
        assert_eq!((config.durability, config.compression), (Durability::Group, Compression::Off));
        assert_eq!(options(&store).encryption, DefaultEncryption::Managed);
    }
}
