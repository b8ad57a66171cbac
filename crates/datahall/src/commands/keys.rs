//! `datahall keys`: keys of applications, and what each may use of models.

use clap::{Args, Subcommand};
use dh_core::{DataClass, Grant, Kind};
use dh_server::wire::{KeyRequest, KeyView, NewKey};
use dh_units::whole;

use super::{Globals, Verb};
use crate::api::Api;
use crate::failure::Failure;
use crate::output;
use crate::ui::table::{Side, Table};

#[derive(Debug, Args)]
pub(crate) struct Keys {
    #[command(subcommand)]
    verb: Option<KeysVerb>,
}

#[derive(Debug, Subcommand)]
enum KeysVerb {
    /// List keys and their bounds
    List,
    /// Make a key and print its secret, once
    Add(Add),
    /// End a key
    Revoke {
        /// Its id, as `datahall keys` lists it
        id: String,
    },
}

/// The bounds of a key.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Bounds {
    /// A model that it may ask; a closing `*` stands for any rest; all models if none is given
    #[arg(long = "model", value_name = "NAME")]
    models: Vec<String>,
    /// Requests in any minute
    #[arg(long, value_name = "N")]
    rpm: Option<u64>,
    /// Tokens in any minute, of prompts and answers
    #[arg(long, value_name = "N")]
    tpm: Option<u64>,
    /// Money in all, in dollars
    #[arg(long, value_name = "USD", value_parser = usd)]
    budget: Option<u64>,
    /// The class of its requests that name none: `interactive`, `standard` or `batch`
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    /// Its share where callers wait for the same engines
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    weight: Option<u32>,
    /// What its data is at least: only engines cleared for it are asked
    #[arg(long, value_name = "CLASS", value_parser = data_class)]
    data_class: Option<DataClass>,
}

#[derive(Debug, Args)]
struct Add {
    /// Who holds it; all keys of one name share its bounds
    name: String,
    #[command(flatten)]
    bounds: Bounds,
}

/// Dollars as millionths.
pub(super) fn usd(text: &str) -> Result<u64, String> {
    match text.parse::<f64>() {
        Ok(usd) if (0.0..=1e12).contains(&usd) => Ok(whole((usd * 1e6).round())),
        Ok(_) | Err(_) => Err("expected dollars, such as 2.50".to_owned()),
    }
}

pub(super) fn data_class(text: &str) -> Result<DataClass, String> {
    DataClass::parse(text).ok_or_else(|| format!("expected one of {}", DataClass::ALL.map(|(word, _)| word).join(", ")))
}

impl Bounds {
    pub(crate) fn grant(self) -> Grant {
        let Self { models, rpm, tpm, budget, class, weight, data_class } = self;
        Grant {
            models,
            requests_per_minute: rpm,
            tokens_per_minute: tpm,
            budget_micro_usd: budget,
            class,
            weight,
            data_class,
        }
    }
}

impl Verb for Keys {
    const NAME: &'static str = "keys";
    const ABOUT: &'static str = "Make, list and end keys of applications";
    const AFTER: &'static str = "Examples:\n  datahall keys add ann --rpm 60 --tpm 100000\n  datahall keys add bot --model 'llama-*' --budget 20\n  datahall keys\n  datahall keys revoke DH0123456789ABCDEFGH";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let api = Api::connect(globals)?;
        match self.verb.unwrap_or(KeysVerb::List) {
            KeysVerb::List => show(&api.get::<Vec<KeyView>>("/v1/keys")?, globals),
            KeysVerb::Revoke { id } => {
                if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                    return Err(Failure::new(Kind::Invalid, format!("`{id}` is no id of a key")));
                }
                let _: Vec<KeyView> = api.post(&format!("/v1/keys/{id}/revoke"), &serde_json::json!({}))?;
                if !globals.quiet {
                    output::note(format!("{id} is no key any more"));
                }
                Ok(0)
            }
            KeysVerb::Add(Add { name, bounds }) => {
                let made: NewKey = api.post("/v1/keys", &KeyRequest { name, grant: bounds.grant() })?;
                if globals.output.is_data() {
                    output::versioned(&made)?;
                } else {
                    output::line(&made.secret);
                    output::note(format!("{} is shown once; its id is {}", output::bold("the key"), made.id));
                }
                Ok(0)
            }
        }
    }
}

fn show(keys: &[KeyView], globals: &Globals) -> Result<u8, Failure> {
    if globals.output.is_data() {
        output::versioned(&serde_json::json!({ "keys": keys }))?;
        return Ok(0);
    }
    let mut table = Table::new(&[
        ("id", Side::Left),
        ("name", Side::Left),
        ("role", Side::Left),
        ("models", Side::Left),
        ("requests/min", Side::Right),
        ("tokens/min", Side::Right),
        ("budget USD", Side::Right),
    ]);
    let or_any = |bound: Option<u64>| bound.map_or_else(|| "any".to_owned(), |bound| bound.to_string());
    for KeyView { id, name, role, grant } in keys {
        let models = if grant.models.is_empty() { "all".to_owned() } else { grant.models.join(" ") };
        let budget = grant.budget_micro_usd.map_or_else(
            || "any".to_owned(),
            |micro| format!("{}.{:02}", micro / 1_000_000, micro % 1_000_000 / 10_000),
        );
        let role = format!("{role:?}").to_lowercase();
        let (requests, tokens) = (or_any(grant.requests_per_minute), or_any(grant.tokens_per_minute));
        table.row([id.clone(), name.clone(), role, models, requests, tokens, budget]);
    }
    table.lines().into_iter().for_each(output::line);
    Ok(0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn dollars_are_read_to_the_millionth() {
        assert_eq!(super::usd("2.5"), Ok(2_500_000));
        assert!(super::usd("-1").is_err() && super::usd("nan").is_err() && super::usd("x").is_err());
    }
}
