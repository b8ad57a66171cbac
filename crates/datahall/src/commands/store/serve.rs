//! `datahall store up` serves a store, `datahall store keys` makes and lists its accounts.
//!
//! Accounts live in the store's own table, so `keys` needs the store to be stopped.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use dh_core::{Authenticate, Kind, Principal, Secret};
use dh_store::{Accounts, Code, DriveConfig, NewAccount, S3Options, Store as ObjectStore, StoreConfig};
use serde::Serialize;

use crate::commands::Globals;
use crate::failure::{Failure, OrFail};
use crate::{blueprint_file, output, place};

/// The largest file of accounts.
const ACCOUNTS_BYTES_MAX: u64 = 1 << 20;

/// Where a store lies.
#[derive(Debug, Args)]
struct Whereabouts {
    /// The store's directory; that of the blueprint's hall if left out
    #[arg(required_unless_present = "blueprint")]
    dir: Option<PathBuf>,
    /// Take drives, code, compression, encryption and tiers from this blueprint
    #[arg(long, value_name = "FILE", conflicts_with_all = ["drive", "parity"])]
    blueprint: Option<PathBuf>,
    /// The store of the blueprint, if there are several
    #[arg(long, value_name = "NAME", requires = "blueprint")]
    store: Option<String>,
    /// A drive that objects and index lie on instead of the directory, once for each drive, always in the same order
    #[arg(long, value_name = "DIR")]
    drive: Vec<PathBuf>,
    /// How many of the drives may be lost at once; 1 if there are several and nothing is said
    #[arg(long, value_name = "DRIVES", requires = "drive")]
    parity: Option<u8>,
}

impl Whereabouts {
    /// How to open the store, and how its front behaves.
    fn config(self, globals: &Globals) -> Result<(StoreConfig, S3Options), Failure> {
        if let Some(path) = &self.blueprint {
            return self.of_blueprint(path, globals);
        }
        Ok((self.plain()?, S3Options::default()))
    }

    fn of_blueprint(&self, path: &Path, globals: &Globals) -> Result<(StoreConfig, S3Options), Failure> {
        let settings = blueprint_file::load(path)?;
        let shown = path.display();
        let found = match &self.store {
            Some(name) => settings.stores.get(name).ok_or_else(|| {
                let names: Vec<&str> = settings.stores.keys().map(String::as_str).collect();
                let hint = match dh_blueprint::nearest(name, names.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("it has {}", names.join(", ")),
                };
                Failure::new(Kind::NotFound, format!("{shown} has no store `{name}`")).hint(hint)
            })?,
            None if settings.stores.len() > 1 => {
                let names: Vec<&str> = settings.stores.keys().map(String::as_str).collect();
                let hint = format!("--store NAME, one of {}", names.join(", "));
                return Err(Failure::new(Kind::Invalid, format!("{shown} has several stores")).hint(hint));
            }
            None => {
                let none = || Failure::new(Kind::NotFound, format!("{shown} has no store"));
                settings.stores.values().next().ok_or_else(none)?
            }
        };
        let dir = match &self.dir {
            Some(dir) => dir.clone(),
            None => place::of_hall(globals, &settings.name)?.join("store"),
        };
        Ok((dh_server::store_place::config(found, dir)?, dh_server::store_place::options(found)))
    }

    fn plain(self) -> Result<StoreConfig, Failure> {
        let mut config = StoreConfig::new(self.dir.unwrap_or_default());
        config.patrol = Some(dh_store::Patrol::default());
        let drives = u8::try_from(self.drive.len()).unwrap_or(u8::MAX);
        if drives == 0 {
            return Ok(config);
        }
        let parity = self.parity.unwrap_or(u8::from(drives > 1));
        let data = drives.checked_sub(parity).filter(|data| *data > 0);
        let data = data.ok_or_else(|| {
            Failure::new(Kind::Invalid, format!("of {drives} drives at most {} can be parity", drives - 1))
        })?;
        config.code = Code { data, parity };
        config.drives = self.drive.into_iter().map(|dir| DriveConfig { dir }).collect();
        Ok(config)
    }
}

#[derive(Debug, Args)]
pub(super) struct StoreUp {
    #[command(flatten)]
    place: Whereabouts,
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
    /// The region that the store says it is in
    #[arg(long, default_value = "us-east-1")]
    region: String,
    /// A name under which `BUCKET.NAME` is a bucket
    #[arg(long, value_name = "NAME")]
    domain: Vec<String>,
    /// A day of a lifecycle lasts so many seconds, for trying rules out
    #[arg(long, value_name = "SECONDS")]
    day_seconds: Option<u64>,
    /// A key of the built-in key service, for aws:kms
    #[arg(long, value_name = "NAME")]
    kms_key: Vec<String>,
    /// Post what happens to objects to this URL
    #[arg(long, value_name = "URL")]
    webhook: Option<String>,
    /// Let everybody who reaches the listener read the counters at /-/metrics
    #[arg(long)]
    open_metrics: bool,
}

#[derive(Debug, Args)]
pub(super) struct Keys {
    #[command(flatten)]
    place: Whereabouts,
    /// Make an account of this name, or give the account `--id` another key
    #[arg(long, value_name = "NAME")]
    add: Option<String>,
    /// The account's id instead of a random one
    #[arg(long, requires = "add")]
    id: Option<String>,
    /// The address by which grants may name the account
    #[arg(long, requires = "add")]
    email: Option<String>,
    /// Add a key to the ring that wraps the keys of encrypted objects
    #[arg(long)]
    rotate: bool,
    /// Take accounts from a JSON list of objects with `name` and, as wanted, `id`, `display_name`, `email`, `aliases`,
    /// `access_key`, `secret_key`
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
}

/// The store's own accounts are all there are.
struct Nobody;

impl Authenticate for Nobody {
    fn bearer(&self, _token: &str) -> Option<Principal> {
        None
    }

    fn signing_key(&self, _access_key_id: &str) -> Option<(Secret<String>, Principal)> {
        None
    }
}

#[derive(Serialize)]
struct Listed {
    accounts: Vec<Account>,
}

#[derive(Serialize)]
struct Account {
    id: String,
    name: String,
    email: Option<String>,
    access_keys: Vec<String>,
}

#[derive(Serialize)]
struct Made {
    access_key: String,
    secret_key: String,
}

async fn open(place: Whereabouts, globals: &Globals) -> Result<(ObjectStore, S3Options), Failure> {
    let (config, options) = place.config(globals)?;
    Ok((ObjectStore::open(config).await?, options))
}

pub(super) async fn serve(up: StoreUp, globals: &Globals) -> Result<u8, Failure> {
    crate::logging::begin(crate::logging::LogFormat::Text);
    let (store, options) = open(up.place, globals).await?;
    let mut options = S3Options { region: up.region, domains: up.domain, day_seconds: up.day_seconds, ..options };
    if up.open_metrics {
        options.metrics = dh_store::s3::Metrics::Everybody;
    }
    options.kms_keys.extend(up.kms_key);
    if let Some(url) = up.webhook {
        let url = url.parse().map_err(|error| Failure::new(Kind::Invalid, format!("`{url}` is no URL: {error}")))?;
        options.events = Some(dh_store::s3::webhook_to(url));
    }
    let listener = tokio::net::TcpListener::bind(up.listen).await.or_fail(format!("listen on {}", up.listen))?;
    if !globals.quiet {
        output::note(format!("S3 is served on http://{}; Ctrl-C stops it", up.listen));
    }
    let stop = async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            tracing::error!(%error, "cannot wait for a signal");
        }
    };
    dh_store::serve_with(store.clone(), listener, Arc::new(Nobody), options, stop).await?;
    store.close().await;
    Ok(0)
}

pub(super) async fn accounts(keys: Keys, globals: &Globals) -> Result<u8, Failure> {
    let (store, _options) = open(keys.place, globals).await?;
    let book = Accounts::open(&store).await?;
    let mut made = None;
    if keys.rotate {
        store.rotate_key_ring().await?;
    }
    if let Some(file) = keys.from {
        for new in from_file(&file)? {
            book.add_account(new).await?;
        }
    }
    if let Some(name) = keys.add {
        let new = NewAccount { id: keys.id, name, email: keys.email, ..NewAccount::default() };
        made = Some(book.add_account(new).await?);
    }
    let listed: Vec<Account> = book
        .accounts()
        .iter()
        .map(|user| Account {
            id: user.id.clone(),
            name: user.name.clone(),
            email: user.email.clone(),
            access_keys: user.keys.iter().map(|key| key.id.clone()).collect(),
        })
        .collect();
    store.close().await;
    match made {
        Some(key) if globals.output.is_data() => {
            output::versioned(&Made { access_key: key.id.clone(), secret_key: key.secret().expose().clone() })?;
        }
        Some(key) => {
            output::note(format!("access key  {}", key.id));
            output::note(format!("secret key  {}  (shown this once)", key.secret().expose()));
        }
        None if globals.output.is_data() => output::versioned(&Listed { accounts: listed })?,
        None => {
            for account in listed {
                output::note(format!("{}  {}  {}", account.id, account.name, account.access_keys.join(" ")));
            }
        }
    }
    Ok(0)
}

fn from_file(path: &Path) -> Result<Vec<NewAccount>, Failure> {
    let shown = path.display();
    let length = std::fs::metadata(path).or_fail(format!("read {shown}"))?.len();
    if length > ACCOUNTS_BYTES_MAX {
        return Err(Failure::new(Kind::TooLarge, format!("{shown} has more than {ACCOUNTS_BYTES_MAX} bytes")));
    }
    let bytes = std::fs::read(path).or_fail(format!("read {shown}"))?;
    serde_json::from_slice(&bytes).map_err(|error| Failure::new(Kind::Invalid, format!("{shown}: {error}")))
}
