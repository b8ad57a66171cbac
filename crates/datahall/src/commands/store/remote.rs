//! Which store a command talks to, and with whose key.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use dh_core::Kind;
use dh_s3::{Client, Credentials, Settings};

use crate::failure::{Failure, OrFail};

/// The largest file with a key.
const KEYS_BYTES_MAX: u64 = 64 << 10;

/// The endpoint of commands that do not have it as an argument.
#[derive(Debug, Args)]
pub(super) struct Remote {
    /// The store's address
    #[arg(long, value_name = "URL", env = "AWS_ENDPOINT_URL", default_value = "http://127.0.0.1:9000")]
    endpoint: String,
    #[command(flatten)]
    key: Key,
}

/// Whose key.
#[derive(Debug, Args)]
pub(super) struct Key {
    /// A file with `access_key` and `secret_key`, as `store keys -o json` prints them, instead of the environment's
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// The region that is signed for
    #[arg(long, env = "AWS_REGION", default_value = "us-east-1")]
    region: String,
}

impl Key {
    /// Settings of a client.
    pub(super) fn settings(&self, endpoint: &str) -> Result<Settings, Failure> {
        let credentials = match &self.keys {
            Some(path) => {
                let shown = path.display();
                let length = std::fs::metadata(path).or_fail(format!("read {shown}"))?.len();
                if length > KEYS_BYTES_MAX {
                    return Err(Failure::new(Kind::TooLarge, format!("{shown} has more than {KEYS_BYTES_MAX} bytes")));
                }
                Credentials::parse(&std::fs::read_to_string(path).or_fail(format!("read {shown}"))?)?
            }
            None => Credentials::from_env().map_err(|error| {
                Failure::from(error).hint("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a file with --keys")
            })?,
        };
        Ok(Settings { region: self.region.clone(), ..Settings::new(endpoint, Some(credentials)) })
    }
}

impl Remote {
    pub(super) fn client(&self) -> Result<Client, Failure> {
        Ok(Client::new(self.key.settings(&self.endpoint)?)?)
    }

    /// One for calls that take long and must not be made twice.
    pub(super) fn patient(&self) -> Result<Client, Failure> {
        let settings = self.key.settings(&self.endpoint)?;
        Ok(Client::new(Settings { tries: 1, timeout: Duration::from_hours(24 * 7), ..settings })?)
    }
}
