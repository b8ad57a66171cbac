//! Posts events to a URL, one after another.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::sync::mpsc;

/// Events that may wait.
const WAITING_MAX: usize = 4_096;

/// How long the listener may take for one event.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How often an event is tried.
const TRIES: u32 = 3;

/// Starts posting to `url`; the sender goes into [`S3Options::events`](super::S3Options::events).
/// Ends with its last sender.
pub fn webhook_to(url: Uri) -> mpsc::Sender<String> {
    let (sender, mut events) = mpsc::channel::<String>(WAITING_MAX);
    tokio::spawn(async move {
        let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
        while let Some(event) = events.recv().await {
            let body = Bytes::from(event);
            let mut told = false;
            for _try in 0..TRIES {
                let request =
                    Request::post(url.clone()).header("content-type", "application/json").body(Full::new(body.clone()));
                let Ok(request) = request else { break };
                if let Ok(Ok(response)) = tokio::time::timeout(TIMEOUT, client.request(request)).await
                    && response.status().is_success()
                {
                    told = true;
                    break;
                }
            }
            if !told {
                tracing::warn!(%url, "an event could not be delivered");
            }
        }
    });
    sender
}
