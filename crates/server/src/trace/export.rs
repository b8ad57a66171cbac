//! To the collector: OTLP over HTTP as JSON, in batches, from one task.
//!
//! Layout: `ExportTraceServiceRequest` of `opentelemetry-proto` in its JSON mapping, ids in hexadecimal, times as strings. A batch that
//! is not taken is tried once more and then dropped: traces are for looking, and the hall goes on. Plain HTTP alone: a collector
//! stands on the machine or in the network of its servers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::sync::mpsc::Receiver;

use super::Span;
use crate::Error;

/// Spans of one request.
const BATCH_MAX: usize = 512;
/// How long spans wait for others.
const GATHER: Duration = Duration::from_millis(500);
/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a batch that was not taken waits for its second try.
const AGAIN: Duration = Duration::from_secs(1);

/// Where spans are sent.
pub(super) struct Collector {
    url: http::Uri,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Collector {
    /// The collector whose address `--otlp` names, with or without `/v1/traces`.
    pub(super) fn at(url: &str) -> Result<Self, Error> {
        let bad =
            |why: &str| Error::Invalid(format!("the collector `{url}`: {why}; write such as http://127.0.0.1:4318"));
        let base = url.trim_end_matches('/');
        let whole = if base.ends_with("/v1/traces") { base.to_owned() } else { format!("{base}/v1/traces") };
        let url: http::Uri = whole.parse().map_err(|_| bad("it is no URL"))?;
        if url.scheme_str() != Some("http") || url.authority().is_none() {
            return Err(bad("only plain `http` is spoken"));
        }
        Ok(Self { url, client: Client::builder(TokioExecutor::new()).build_http() })
    }

    async fn send(&self, body: &Bytes) -> Result<(), String> {
        let request = http::Request::post(self.url.clone())
            .header("content-type", "application/json")
            .body(Full::new(body.clone()))
            .map_err(|error| error.to_string())?;
        let answer = tokio::time::timeout(PATIENCE, self.client.request(request)).await;
        let answer = answer.map_err(|_| "it does not answer".to_owned())?.map_err(|error| error.to_string())?;
        let status = answer.status();
        // Read to its end, so that the connection is used again.
        let rest = tokio::time::timeout(PATIENCE, answer.into_body().collect()).await;
        if rest.is_err() || !status.is_success() {
            return Err(format!("it answers {status}"));
        }
        Ok(())
    }
}

/// Sends what comes until nobody sends any more.
pub(super) async fn run(collector: Collector, hall: String, mut spans: Receiver<Span>, dropped: Arc<AtomicU64>) {
    let mut complained = false;
    while let Some(first) = spans.recv().await {
        let mut batch = vec![first];
        let gather = tokio::time::sleep(GATHER);
        tokio::pin!(gather);
        while batch.len() < BATCH_MAX {
            tokio::select! {
                next = spans.recv() => match next {
                    Some(span) => batch.push(span),
                    None => break,
                },
                () = &mut gather => break,
            }
        }
        let body = Bytes::from(request(&hall, &batch).to_string());
        let mut sent = collector.send(&body).await;
        if sent.is_err() {
            tokio::time::sleep(AGAIN).await;
            sent = collector.send(&body).await;
        }
        match sent {
            Ok(()) => complained = false,
            Err(error) => {
                dropped.fetch_add(u64::try_from(batch.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
                // Once for each time that it is away.
                if !complained {
                    tracing::warn!(url = %collector.url, error, "the collector takes no traces; they are dropped meanwhile");
                }
                complained = true;
            }
        }
    }
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

/// The request that carries `spans`.
fn request(hall: &str, spans: &[Span]) -> Value {
    let spans: Vec<Value> = spans.iter().map(one).collect();
    json!({ "resourceSpans": [{
        "resource": { "attributes": [text("service.name", "datahall"), text("datahall.hall", hall)] },
        "scopeSpans": [{ "scope": { "name": "datahall", "version": env!("CARGO_PKG_VERSION") }, "spans": spans }],
    }] })
}

fn one(span: &Span) -> Value {
    let attributes: Vec<Value> = span.attributes.iter().map(|(key, value)| text(key, value)).collect();
    let mut value = json!({
        "traceId": hex::encode(span.at.trace),
        "spanId": hex::encode(span.at.span.unwrap_or_default()),
        "name": span.name,
        "kind": span.kind as u8,
        "startTimeUnixNano": span.start.0.to_string(),
        "endTimeUnixNano": span.end.0.to_string(),
        "attributes": attributes,
        "status": match &span.failure {
            Some(message) => json!({ "code": 2, "message": message }),
            None => json!({}),
        },
    });
    if let (Some(parent), Some(value)) = (span.parent, value.as_object_mut()) {
        value.insert("parentSpanId".to_owned(), Value::String(hex::encode(parent)));
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_get_their_path_and_only_plain_ones_are_taken() {
        let at = |url| Collector::at(url).map(|collector| collector.url.to_string()).map_err(|error| error.to_string());
        for url in ["http://127.0.0.1:4318", "http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/traces"] {
            assert_eq!(at(url).unwrap(), "http://127.0.0.1:4318/v1/traces");
        }
        assert!(at("https://h/").unwrap_err().contains("plain `http`") && at("4318").is_err() && at("a b").is_err());
    }
}
