//! A keeper at another address.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use dh_core::Secret;
use dh_policy::ledger::{Answer, Ask};
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use tokio::time::Instant;

use super::serve::PATH;
use crate::Error;
use crate::engines::{self, Engine};
use crate::upstream::Upstream;

/// An answer takes a lock and a write of a drive.
const PATIENCE: Duration = Duration::from_secs(2);
/// After a failure nobody asks for so long, so that requests are refused at once.
const PAUSE: Duration = Duration::from_millis(250);
const ANSWER_BYTES_MAX: usize = 16 << 10;

pub(crate) struct Far {
    door: Engine,
    failed: Mutex<Option<Instant>>,
}

impl Far {
    pub(crate) fn new(url: &str, key: &Secret<String>) -> Result<Self, Error> {
        Ok(Self { door: engines::door("ledger", url, key)?, failed: Mutex::default() })
    }

    pub(crate) async fn ask(&self, upstream: &Upstream, ask: &Ask) -> Result<Answer, Error> {
        let failed = *self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if failed.is_some_and(|then| then.elapsed() < PAUSE) {
            return Err(Error::NoLedger("it did not answer a moment ago".to_owned()));
        }
        let answered = tokio::time::timeout(PATIENCE, self.exchange(upstream, ask)).await;
        let answered = answered.unwrap_or_else(|_| Err("it does not answer".to_owned()));
        let failed = answered.is_err().then(Instant::now);
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = failed;
        answered.map_err(|why| {
            tracing::warn!(why, "the keeper of the ledger gives no answer");
            Error::NoLedger(why)
        })
    }

    async fn exchange(&self, upstream: &Upstream, ask: &Ask) -> Result<Answer, String> {
        let body = serde_json::to_vec(ask).map_err(|error| error.to_string())?;
        let mut head = Vec::with_capacity(256);
        self.door.begin(&Method::POST, PATH, &mut head);
        for part in [
            &b"content-type: application/json\r\nauthorization: "[..],
            self.door.authorization.as_ref().map(http::HeaderValue::as_bytes).unwrap_or_default(),
            b"\r\ncontent-length: ",
            body.len().to_string().as_bytes(),
            b"\r\n\r\n",
        ] {
            head.extend_from_slice(part);
        }
        let mut asked = upstream.exchange(&self.door, &head, &body).await;
        if asked.is_err() {
            // A kept connection that it was closing; asking twice is harmless.
            asked = upstream.exchange(&self.door, &head, &body).await;
        }
        let response = asked.map_err(|_| "it is not reached".to_owned())?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|_| "it broke off its answer".to_owned())?.to_bytes();
        if status != StatusCode::OK {
            return Err(format!("it answers {status}"));
        }
        serde_json::from_slice(&body).map_err(|error| format!("its answer cannot be read: {error}"))
    }
}
