//! A small blocking S3 client: `rusty-s3` signs (no I/O of its own), `ureq` carries; path style.
//!
//! A store may be killed and started again under a running job, so every call is tried for up to [`PATIENCE`] as long as
//! the failure is one that passes: no answer, a broken answer, HTTP 5xx, 429. All calls may safely be made twice.
//! The body of every answer is checked against its announced length. Signatures live in the address of a request, so no
//! address is ever part of a message.

use std::env;
use std::io::Read;
use std::thread;
use std::time::{Duration, Instant};

use dh_core::Secret;
use rusty_s3::actions::{ListObjectsV2, S3Action};
use rusty_s3::{Bucket, Credentials, UrlStyle};
use ureq::http::{self, Response};

use crate::number;
use crate::store::{Error, GET_BYTES_MAX, ObjectEntry, ObjectStore};

/// For how long a call is tried again. A killed store is back within ten seconds; this is twice that.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The first pause between tries; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How long a signed address is good for; longer than any call.
const SIGNED_FOR: Duration = Duration::from_mins(5);

/// How much of a refusal is read to find the store's error code.
const REFUSAL_BYTES_MAX: u64 = 16 << 10;

/// Pages of one listing, so that a store that never ends one does not hold us for ever. A million keys.
const LIST_PAGES_MAX: u32 = 1_000;

/// A client of one store with one key.
#[derive(Debug)]
pub struct S3 {
    endpoint: String,
    region: String,
    key_id: String,
    secret: Secret<String>,
    patience: Duration,
    agent: ureq::Agent,
}

/// What is known of an object without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectHead {
    /// Its size.
    pub bytes: u64,
    /// Its entity tag, if the store gave one.
    pub etag: Option<String>,
}

/// How one try ended.
enum Try {
    Final(Error),
    Passing(String),
}

impl S3 {
    /// A client of the store at `endpoint` (`http://127.0.0.1:9000`).
    ///
    /// # Errors
    /// [`Error::Setting`] if the endpoint is not an address.
    pub fn new(endpoint: &str, key_id: &str, secret: Secret<String>, region: &str) -> Result<Self, Error> {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .timeout_connect(Some(Duration::from_secs(3)))
            .timeout_global(Some(Duration::from_mins(1)))
            .build();
        let client = Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            region: region.to_owned(),
            key_id: key_id.to_owned(),
            secret,
            patience: PATIENCE,
            agent: config.new_agent(),
        };
        client.bucket("probe")?;
        Ok(client)
    }

    /// A client as the environment describes it: `AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, and
    /// `AWS_REGION` (default `us-east-1`).
    ///
    /// # Errors
    /// [`Error::Setting`] names the variable that is missing or wrong.
    pub fn from_env() -> Result<Self, Error> {
        let variable =
            |name: &str| env::var(name).map_err(|_| Error::Setting(format!("{name} is not set, or not UTF-8")));
        let region = env::var("AWS_REGION").unwrap_or_else(|_| "us-east-1".to_owned());
        let secret = Secret::new(variable("AWS_SECRET_ACCESS_KEY")?);
        Self::new(&variable("AWS_ENDPOINT_URL")?, &variable("AWS_ACCESS_KEY_ID")?, secret, &region)
    }

    /// The same client, trying for `patience` instead of [`PATIENCE`].
    #[must_use]
    pub const fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Reads `length` bytes of an object from `offset`; fewer only if the object ends before.
    ///
    /// # Errors
    /// As for every call: what the store said, or that it does not answer.
    pub fn get_range(&self, bucket: &str, key: &str, offset: u64, length: u64) -> Result<Vec<u8>, Error> {
        let action = format!("get {bucket}/{key} from byte {offset}");
        if length == 0 {
            return Ok(Vec::new());
        }
        let range = format!("bytes={offset}-{}", offset.saturating_add(length - 1));
        let target = self.object(bucket, key)?;
        self.attempt(&action, || {
            let url = target.get_object(Some(&self.credentials()), key).sign(SIGNED_FOR);
            let response = self.agent.get(url.as_str()).header("range", &range).call();
            let mut response = self.accept(&action, &format!("{bucket}/{key}"), response)?;
            let body = read_body(&action, &mut response, GET_BYTES_MAX)?;
            if number::wide(body.len()) > length {
                return Err(Try::Final(Error::Corrupt {
                    action: action.clone(),
                    why: format!("asked for {length} bytes and got {}", body.len()),
                }));
            }
            Ok(body)
        })
    }

    /// Size and entity tag of an object.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none; else as for every call.
    pub fn head(&self, bucket: &str, key: &str) -> Result<ObjectHead, Error> {
        let action = format!("head {bucket}/{key}");
        let target = self.object(bucket, key)?;
        self.attempt(&action, || {
            let url = target.head_object(Some(&self.credentials()), key).sign(SIGNED_FOR);
            let response = self.accept(&action, &format!("{bucket}/{key}"), self.agent.head(url.as_str()).call())?;
            let bytes = announced_length(&response)
                .ok_or_else(|| Try::Passing("the store did not announce the object's length".to_owned()))?;
            let etag = response.headers().get("etag").and_then(|value| value.to_str().ok()).map(str::to_owned);
            Ok(ObjectHead { bytes, etag })
        })
    }

    fn credentials(&self) -> Credentials {
        Credentials::new(self.key_id.clone(), self.secret.expose().clone())
    }

    fn bucket(&self, name: &str) -> Result<Bucket, Error> {
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte)) {
            return Err(Error::Name { what: "bucket", name: name.to_owned(), why: "letters, digits, `.`, `-`, `_`" });
        }
        let wrong = |why: String| Error::Setting(format!("`{}` is not a store's address: {why}", self.endpoint));
        let endpoint = self.endpoint.parse().map_err(|error| wrong(format!("{error}")))?;
        Bucket::new(endpoint, UrlStyle::Path, name.to_owned(), self.region.clone())
            .map_err(|error| wrong(format!("{error}")))
    }

    fn object(&self, bucket: &str, key: &str) -> Result<Bucket, Error> {
        let wrong = |why| Error::Name { what: "key", name: key.to_owned(), why };
        if key.is_empty() {
            return Err(wrong("it is empty"));
        }
        if key.len() > dh_core::limits::KEY_BYTES_MAX {
            return Err(wrong("it is longer than 1024 bytes"));
        }
        if key.split('/').any(|segment| segment == "." || segment == "..") {
            return Err(wrong("a segment `.` or `..` would name another object"));
        }
        self.bucket(bucket)
    }

    /// Tries until it works, fails for good, or patience ends.
    fn attempt<T>(&self, action: &str, mut once: impl FnMut() -> Result<T, Try>) -> Result<T, Error> {
        let start = Instant::now();
        let mut pause = PAUSE_MIN;
        let mut tries = 0;
        loop {
            tries += 1;
            match once() {
                Ok(value) => return Ok(value),
                Err(Try::Final(error)) => return Err(error),
                Err(Try::Passing(why)) => {
                    let wait = jittered(pause);
                    if start.elapsed() + wait > self.patience {
                        let (action, endpoint) = (action.to_owned(), self.endpoint.clone());
                        return Err(Error::Unreachable { action, endpoint, why, tries });
                    }
                    thread::sleep(wait);
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    /// Turns transport failures and refusals into the way a try ends.
    fn accept(
        &self,
        action: &str,
        what: &str,
        response: Result<Response<ureq::Body>, ureq::Error>,
    ) -> Result<Response<ureq::Body>, Try> {
        let mut response = response.map_err(|error| Try::Passing(self.describe(&error)))?;
        let status = response.status().as_u16();
        match status {
            200..=299 => return Ok(response),
            404 => return Err(Try::Final(Error::NotFound(what.to_owned()))),
            _ => {}
        }
        let refusal = response.body_mut().with_config().limit(REFUSAL_BYTES_MAX).read_to_vec().unwrap_or_default();
        let code = error_code(&String::from_utf8_lossy(&refusal));
        if status == 408 || status == 429 || (status >= 500 && status != 501 && status != 507) {
            let code = code.map(|code| format!(" ({code})")).unwrap_or_default();
            return Err(Try::Passing(format!("HTTP {status}{code}")));
        }
        Err(Try::Final(Error::Refused { action: action.to_owned(), status, code }))
    }

    /// A transport failure in words; the signed address must not slip into them.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the list is open, and only these two have better words")]
    fn describe(&self, error: &ureq::Error) -> String {
        match error {
            ureq::Error::BadUri(_) => format!("`{}` is not a usable address", self.endpoint),
            ureq::Error::Io(error) => error.to_string(),
            other => other.to_string(),
        }
    }
}

impl ObjectStore for S3 {
    fn put(&self, bucket: &str, key: &str, body: &[u8]) -> Result<(), Error> {
        let action = format!("put {bucket}/{key}");
        let target = self.object(bucket, key)?;
        self.attempt(&action, || {
            let url = target.put_object(Some(&self.credentials()), key).sign(SIGNED_FOR);
            self.accept(&action, bucket, self.agent.put(url.as_str()).send(body)).map(drop)
        })
    }

    fn get(&self, bucket: &str, key: &str) -> Result<Vec<u8>, Error> {
        let action = format!("get {bucket}/{key}");
        let target = self.object(bucket, key)?;
        self.attempt(&action, || {
            let url = target.get_object(Some(&self.credentials()), key).sign(SIGNED_FOR);
            let response = self.agent.get(url.as_str()).call();
            let mut response = self.accept(&action, &format!("{bucket}/{key}"), response)?;
            read_body(&action, &mut response, GET_BYTES_MAX)
        })
    }

    fn list(&self, bucket: &str, prefix: &str) -> Result<Vec<ObjectEntry>, Error> {
        let action = format!("list {bucket}/{prefix}");
        let target = self.bucket(bucket)?;
        let mut entries = Vec::new();
        let mut token: Option<String> = None;
        for _ in 0..LIST_PAGES_MAX {
            let page = self.attempt(&action, || {
                let credentials = self.credentials();
                let mut request = target.list_objects_v2(Some(&credentials));
                request.with_prefix(prefix);
                if let Some(token) = &token {
                    request.with_continuation_token(token.as_str());
                }
                let url = request.sign(SIGNED_FOR);
                let mut response = self.accept(&action, bucket, self.agent.get(url.as_str()).call())?;
                let body = read_body(&action, &mut response, GET_BYTES_MAX)?;
                let corrupt = |why: String| Try::Final(Error::Corrupt { action: action.clone(), why });
                let text = String::from_utf8(body).map_err(|_| corrupt("the listing is not UTF-8".to_owned()))?;
                ListObjectsV2::parse_response(&text).map_err(|error| corrupt(format!("not a listing: {error}")))
            })?;
            entries.extend(
                page.contents
                    .into_iter()
                    .map(|object| ObjectEntry { key: object.key, bytes: object.size.unwrap_or_default() }),
            );
            match page.next_continuation_token {
                Some(next) => token = Some(next),
                None => return Ok(entries),
            }
        }
        Err(Error::TooLarge { what: format!("the listing of {bucket}/{prefix}"), limit: u64::from(LIST_PAGES_MAX) })
    }

    fn delete(&self, bucket: &str, key: &str) -> Result<(), Error> {
        let action = format!("delete {bucket}/{key}");
        let target = self.object(bucket, key)?;
        let deleted = self.attempt(&action, || {
            let url = target.delete_object(Some(&self.credentials()), key).sign(SIGNED_FOR);
            self.accept(&action, &format!("{bucket}/{key}"), self.agent.delete(url.as_str()).call()).map(drop)
        });
        match deleted {
            Err(Error::NotFound(_)) => Ok(()),
            other => other,
        }
    }

    fn create_bucket(&self, bucket: &str) -> Result<(), Error> {
        let action = format!("create bucket {bucket}");
        let target = self.bucket(bucket)?;
        let created = self.attempt(&action, || {
            let url = target.create_bucket(&self.credentials()).sign(SIGNED_FOR);
            self.accept(&action, bucket, self.agent.put(url.as_str()).send_empty()).map(drop)
        });
        match created {
            Err(Error::Refused { status: 409, code: Some(code), .. }) if code == "BucketAlreadyOwnedByYou" => Ok(()),
            other => other,
        }
    }
}

/// The whole body, checked against its announced length.
fn read_body(action: &str, response: &mut Response<ureq::Body>, limit: u64) -> Result<Vec<u8>, Try> {
    let announced = announced_length(response);
    let too_large = || Try::Final(Error::TooLarge { what: action.to_owned(), limit });
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let mut body = Vec::with_capacity(number::index(announced.unwrap_or(0)));
    let mut reader = response.body_mut().with_config().limit(limit).reader();
    if let Err(error) = reader.read_to_end(&mut body) {
        return Err(Try::Passing(format!("the answer broke off after {} bytes: {error}", body.len())));
    }
    match announced {
        Some(length) if length != number::wide(body.len()) => {
            Err(Try::Passing(format!("got {} of {length} bytes", body.len())))
        }
        _ => Ok(body),
    }
}

fn announced_length(response: &Response<ureq::Body>) -> Option<u64> {
    response.headers().get(http::header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The text of `<Code>` in an S3 error document, if it looks like a code.
fn error_code(document: &str) -> Option<String> {
    let (_, rest) = document.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    let plausible = !code.is_empty() && code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    plausible.then(|| code.to_owned())
}

/// A pause between half of `pause` and all of it, so that ranks that failed together do not come back together.
fn jittered(pause: Duration) -> Duration {
    // Without randomness of the system the pause is simply whole.
    let share = getrandom::u32().map_or(1.0, |bits| f64::from(bits) / f64::from(u32::MAX));
    pause.mul_f64(0.5 + share / 2.0)
}

#[cfg(test)]
#[path = "s3_tests.rs"]
mod tests;
