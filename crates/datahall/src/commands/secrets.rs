//! `datahall secrets`: values that the hall keeps for jobs. They go in, and come out in the environment of ranks alone.

use std::io::Read;

use clap::{Args, Subcommand};
use dh_core::Kind;
use dh_server::wire::{Hidden, SecretList, SecretRequest};

use super::{Globals, Verb};
use crate::api::Api;
use crate::failure::{Failure, OrFail};
use crate::output;
use crate::secret_source::{self, Source};

/// The longest value that is read; the hall takes less.
const VALUE_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, Args)]
pub(crate) struct Secrets {
    #[command(subcommand)]
    verb: Option<SecretsVerb>,
}

#[derive(Debug, Subcommand)]
enum SecretsVerb {
    /// List the names
    List,
    /// Keep a value, in place of the one of that name
    Set {
        /// Its name: letters, digits, `.`, `_`, `-`
        name: String,
        /// Where the value is: `env:VARIABLE` or `file:PATH`; standard input if absent
        #[arg(long, value_name = "REF")]
        from: Option<String>,
    },
    /// End one; ranks that have it keep it
    Rm {
        /// Its name
        name: String,
    },
}

impl Verb for Secrets {
    const NAME: &'static str = "secrets";
    const ABOUT: &'static str = "Keep secrets for jobs";
    const AFTER: &'static str = "Examples:\n  datahall secrets set hub-token < token.txt\n  datahall secrets set hub-token --from env:HF_TOKEN\n  datahall submit --secret HF_TOKEN=hub-token -- python train.py\n  datahall secrets rm hub-token";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let list: SecretList = match self.verb.unwrap_or(SecretsVerb::List) {
            SecretsVerb::List => Api::connect(globals)?.get("/v1/secrets")?,
            SecretsVerb::Set { name, from } => {
                let value = match from.as_deref() {
                    Some(from) => match secret_source::read(from)? {
                        Source::Value(value) => value,
                        Source::Kept(_) => {
                            return Err(Failure::new(
                                Kind::Invalid,
                                format!("`--from {from}` is neither `env:` nor `file:`"),
                            )
                            .hint("write `--from env:VARIABLE` or `--from file:PATH`"));
                        }
                    },
                    None => from_input()?,
                };
                Api::connect(globals)?.post("/v1/secrets", &SecretRequest { name: name.clone(), value })?
            }
            SecretsVerb::Rm { name } => {
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
                if name.is_empty() || !name.bytes().all(plain) {
                    return Err(Failure::new(Kind::Invalid, format!("`{name}` is no name of a secret")));
                }
                Api::connect(globals)?.post(&format!("/v1/secrets/{name}/remove"), &serde_json::json!({}))?
            }
        };
        if globals.output.is_data() {
            output::data(&list)?;
        } else {
            list.secrets.iter().for_each(output::line);
        }
        Ok(0)
    }
}

/// Standard input to its end, without the line end that an editor or `echo` leaves.
fn from_input() -> Result<Hidden, Failure> {
    let mut text = String::new();
    std::io::stdin()
        .lock()
        .take(VALUE_BYTES_MAX)
        .read_to_string(&mut text)
        .or_fail_as(Kind::Invalid, "read the value")?;
    Ok(secret_source::without_line_end(text))
}
