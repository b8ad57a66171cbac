//! Where the store is, who asks, and how patient.

use std::collections::BTreeMap;
use std::time::Duration;

use dh_core::Secret;

use crate::Error;

/// A key and its secret.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The access key's id.
    pub id: String,
    /// Its secret.
    pub secret: Secret<String>,
    /// The token of a session, if the key belongs to one.
    pub token: Option<Secret<String>>,
}

impl Credentials {
    /// From `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and, if set, `AWS_SESSION_TOKEN`.
    /// # Errors
    /// [`Error::Setting`] names the variable that is missing.
    pub fn from_env() -> Result<Self, Error> {
        let need = |name: &str| std::env::var(name).map_err(|_missing| Error::Setting(format!("{name} is not set")));
        let token = std::env::var("AWS_SESSION_TOKEN").ok().filter(|token| !token.is_empty());
        Ok(Self {
            id: need("AWS_ACCESS_KEY_ID")?,
            secret: Secret::new(need("AWS_SECRET_ACCESS_KEY")?),
            token: token.map(Secret::new),
        })
    }

    /// From the text of a file: lines of `name = value` or of a JSON object with `access_key` and `secret_key`, as
    /// `datahall store keys -o json` prints, or with AWS's own names.
    /// # Errors
    /// [`Error::Setting`] if the id or the secret is not in it.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut found = BTreeMap::new();
        for line in text.split(['\n', ',', '{', '}']) {
            let Some((name, value)) = line.split_once(['=', ':']) else { continue };
            let plain = |text: &str| text.trim().trim_matches(['"', '\'']).to_owned();
            found.entry(plain(name).to_ascii_lowercase()).or_insert_with(|| plain(value));
        }
        let mut take = |names: &[&str]| names.iter().find_map(|name| found.remove(*name));
        let id = take(&["access_key", "aws_access_key_id", "access_key_id"]);
        let secret = take(&["secret_key", "aws_secret_access_key", "secret_access_key"]);
        let token = take(&["session_token", "aws_session_token"]);
        let (Some(id), Some(secret)) = (id, secret) else {
            return Err(Error::Setting("a file of keys has `access_key` and `secret_key`".to_owned()));
        };
        Ok(Self { id, secret: Secret::new(secret), token: token.map(Secret::new) })
    }
}

/// Where a signature goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Signing {
    /// Into the header `Authorization`.
    #[default]
    Header,
    /// Into the address, which is then good by itself for five minutes; the body is not signed.
    Presigned,
}

/// How a client works.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The store's address, `http://host:port` or `https://host`.
    pub endpoint: String,
    /// The region that is signed for.
    pub region: String,
    /// Who asks; nobody for what is public.
    pub credentials: Option<Credentials>,
    /// Where signatures go.
    pub signing: Signing,
    /// How often a call is tried at most; at least once.
    pub tries: u32,
    /// How long the store may take for the head of an answer, and for each further piece.
    pub timeout: Duration,
    /// Connections that are kept while idle.
    pub idle_connections: usize,
}

impl Settings {
    /// Settings for this endpoint and key: five tries of at most a minute each.
    pub fn new(endpoint: impl Into<String>, credentials: Option<Credentials>) -> Self {
        Self {
            endpoint: endpoint.into(),
            region: "us-east-1".to_owned(),
            credentials,
            signing: Signing::Header,
            tries: 5,
            timeout: Duration::from_mins(1),
            idle_connections: 64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_in_the_forms_that_people_have() {
        for text in [
            "{\"schema_version\": 1,\n \"access_key\": \"AK\",\n \"secret_key\": \"s/e+c=\"\n}",
            "[default]\naws_access_key_id = AK\naws_secret_access_key = s/e+c=\n",
            "AWS_ACCESS_KEY_ID=AK\nAWS_SECRET_ACCESS_KEY='s/e+c='",
        ] {
            let read = Credentials::parse(text).unwrap();
            assert_eq!((read.id.as_str(), read.secret.expose().as_str()), ("AK", "s/e+c="), "{text}");
        }
        assert!(Credentials::parse("access_key = AK").is_err());
    }
}
