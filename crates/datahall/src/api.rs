//! The client of a hall's job API. Every command that talks to a running hall goes through here.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

use dh_core::{AccessKey, Kind, Role, Secret};
use dh_guard::KeyRing;
use dh_server::wire::ErrorBody;
use dh_server::{Endpoint, KEYS_FILE};
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::Response;
use ureq::{Agent, Body, BodyReader};

use crate::commands::Globals;
use crate::failure::{Failure, OrFail};
use crate::place;

/// Answers are small; a listing of 100,000 jobs has some 40 MB.
const ANSWER_BYTES_MAX: u64 = 256 << 20;

/// A hall that runs, and the key to it.
pub(crate) struct Api {
    agent: Agent,
    base: String,
    key: AccessKey,
    model_key: Option<AccessKey>,
    pub(crate) endpoint: Endpoint,
}

impl Api {
    /// The hall that the flags mean.
    pub(crate) fn connect(globals: &Globals) -> Result<Self, Failure> {
        let (data, endpoint) = place::running(globals)?;
        Self::of(&data, endpoint)
    }

    /// The hall that keeps its data in `data`.
    pub(crate) fn of(data: &Path, endpoint: Endpoint) -> Result<Self, Failure> {
        let keys = KeyRing::load(data.join(KEYS_FILE))?;
        let key = keys.find(dh_server::ADMIN_KEY, Role::Admin).ok_or_else(|| {
            Failure::new(Kind::Unauthorized, format!("{} holds no admin key", data.join(KEYS_FILE).display()))
        })?;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .timeout_connect(Some(Duration::from_secs(3)))
            .build();
        let model_key = keys.find(dh_server::MODEL_KEY, Role::Model);
        Ok(Self { agent: config.new_agent(), base: endpoint.listeners.api.clone(), key, model_key, endpoint })
    }

    /// The key for everything: S3 pair and bearer token.
    pub(crate) const fn admin_key(&self) -> &AccessKey {
        &self.key
    }

    /// The key that applications use for models.
    pub(crate) const fn model_key(&self) -> Option<&AccessKey> {
        self.model_key.as_ref()
    }

    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let request = self.agent.get(format!("{}{path}", self.base)).header("authorization", self.bearer());
        read(self.answer(request.call())?)
    }

    pub(crate) fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        self.post_with_key(path, body, None)
    }

    /// Posts once, however often it is sent under the same key.
    pub(crate) fn post_with_key<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        idempotency_key: Option<&str>,
    ) -> Result<T, Failure> {
        let body = serde_json::to_string(body).or_fail("write the request")?;
        let mut request = self
            .agent
            .post(format!("{}{path}", self.base))
            .header("authorization", self.bearer())
            .header("content-type", "application/json");
        if let Some(key) = idempotency_key {
            request = request.header("idempotency-key", key);
        }
        read(self.answer(request.send(body))?)
    }

    /// Streams lines of JSON until the server ends them or `each` has enough.
    pub(crate) fn stream<T: DeserializeOwned>(
        &self,
        path: &str,
        mut each: impl FnMut(T) -> Result<Flow, Failure>,
    ) -> Result<(), Failure> {
        let request = self.agent.get(format!("{}{path}", self.base)).header("authorization", self.bearer());
        let answer = self.answer(request.call())?;
        for line in BufReader::new(answer.into_body().into_reader()).lines() {
            let line = line.or_fail_as(Kind::Unreachable, "the hall stopped answering")?;
            if line.is_empty() {
                continue;
            }
            let value = serde_json::from_str(&line).or_fail("the hall's answer makes no sense")?;
            if each(value)? == Flow::Stop {
                break;
            }
        }
        Ok(())
    }

    /// Posts, and hands the answer's body on as it comes.
    pub(crate) fn post_for_stream(&self, path: &str, body: &impl Serialize) -> Result<BodyReader<'static>, Failure> {
        let body = serde_json::to_string(body).or_fail("write the request")?;
        let request = self
            .agent
            .post(format!("{}{path}", self.base))
            .header("authorization", self.bearer())
            .header("content-type", "application/json");
        Ok(self.answer(request.send(body))?.into_body().into_reader())
    }

    /// The body of an answer, as it comes.
    pub(crate) fn get_stream(&self, path: &str) -> Result<BodyReader<'static>, Failure> {
        let request = self.agent.get(format!("{}{path}", self.base)).header("authorization", self.bearer());
        Ok(self.answer(request.call())?.into_body().into_reader())
    }

    /// Puts a file's bytes.
    pub(crate) fn put_file<T: DeserializeOwned>(&self, path: &str, file: File) -> Result<T, Failure> {
        let request = self
            .agent
            .put(format!("{}{path}", self.base))
            .header("authorization", self.bearer())
            .header("content-type", "application/octet-stream");
        read(self.answer(request.send(file))?)
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.key.secret.expose())
    }

    fn answer(&self, outcome: Result<Response<Body>, ureq::Error>) -> Result<Response<Body>, Failure> {
        let answer = outcome.map_err(|error| {
            Failure::new(Kind::Unreachable, format!("the hall at {} does not answer: {error}", self.base))
                .hint("`datahall status` tells whether it runs")
        })?;
        let status = answer.status().as_u16();
        if (200..300).contains(&status) {
            return Ok(answer);
        }
        let text = answer.into_body().into_with_config().limit(1 << 20).read_to_string().unwrap_or_default();
        let kind = Kind::from_http_status(status);
        Err(match serde_json::from_str::<ErrorBody>(&text) {
            Ok(body) => Failure { kind, message: body.error.message, hint: body.error.hint },
            Err(_) => Failure::new(kind, format!("the hall answered {status}: {}", text.trim())),
        })
    }
}

/// Whether a stream goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    Go,
    Stop,
}

/// `text` as a value in the query of an address.
pub(crate) fn in_query(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'/');
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn read<T: DeserializeOwned>(answer: Response<Body>) -> Result<T, Failure> {
    let text = answer
        .into_body()
        .into_with_config()
        .limit(ANSWER_BYTES_MAX)
        .read_to_string()
        .or_fail_as(Kind::Unreachable, "the hall's answer broke off")?;
    serde_json::from_str(&text).or_fail("the hall's answer makes no sense")
}

/// Asks `url` for a stream of server-sent events with a JSON body and hands each event's data on.
pub(crate) fn server_sent_events(
    url: &str,
    key: &Secret<String>,
    body: &serde_json::Value,
    mut each: impl FnMut(&str) -> Result<Flow, Failure>,
) -> Result<(), Failure> {
    let agent = Agent::config_builder().http_status_as_error(false).proxy(None).build().new_agent();
    let answer = agent
        .post(url)
        .header("authorization", format!("Bearer {}", key.expose()))
        .header("content-type", "application/json")
        .send(body.to_string())
        .or_fail_as(Kind::Unreachable, format!("{url} does not answer"))?;
    let status = answer.status().as_u16();
    let mut reader = answer.into_body().into_reader();
    if !(200..300).contains(&status) {
        let mut text = String::new();
        let mut bounded = std::io::Read::take(&mut reader, 1 << 20);
        std::io::Read::read_to_string(&mut bounded, &mut text).or_fail("the answer broke off")?;
        let kind = Kind::from_http_status(status);
        return Err(match serde_json::from_str::<ErrorBody>(&text) {
            Ok(body) => Failure { kind, message: body.error.message, hint: body.error.hint },
            Err(_) => Failure::new(kind, format!("{url} answered {status}: {}", text.trim())),
        });
    }
    for line in BufReader::new(reader).lines() {
        let line = line.or_fail_as(Kind::Unreachable, "the answer broke off")?;
        if let Some(data) = line.strip_prefix("data:")
            && each(data.trim_start())? == Flow::Stop
        {
            break;
        }
    }
    Ok(())
}
