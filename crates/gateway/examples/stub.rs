//! A stub engine and a gateway in front of it, for load tests by hand.
//!
//! ```text
//! cargo run --release -p dh-gateway --example stub -- [events] [microseconds between events]
//! wrk -c 64 -d 5 -s post.lua http://127.0.0.1:9101/v1/chat/completions     # the stub itself
//! wrk -c 64 -d 5 -s post.lua http://127.0.0.1:9100/v1/chat/completions     # through the gateway
//! ```
//!
//! where `post.lua` sets the method, a body like `{"model":"stub","stream":true}` and `Authorization: Bearer dh-model-stub`.
//! The stub answers a request for a stream with so many events at that pace (65 and 0 unless told), others with one object.

use std::convert::Infallible;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dh_core::{Authenticate, Principal, Role, Secret};
use dh_gateway::{EngineFacts, EngineKind, EngineTarget, Gateway, GatewayConfig};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

const ANSWER: &str = r#"{"id":"stub","object":"chat.completion","model":"stub","choices":[{"index":0,"message":{"role":"assistant","content":"Hello from the stub."},"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":5,"total_tokens":17}}"#;
const EVENT: &str = "data: {\"id\":\"stub\",\"object\":\"chat.completion.chunk\",\"model\":\"stub\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"word \"},\"finish_reason\":null}]}\n\n";

type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>;

struct OneKey;

impl Authenticate for OneKey {
    fn bearer(&self, token: &str) -> Option<Principal> {
        (token == "dh-model-stub").then(|| Principal { name: "load".to_owned(), role: Role::Model })
    }

    fn signing_key(&self, _: &str) -> Option<(Secret<String>, Principal)> {
        None
    }
}

#[derive(Clone, Copy)]
struct Pace {
    events: u32,
    gap: Duration,
}

async fn answer(request: Request<Incoming>, pace: Pace) -> Result<Response<Body>, hyper::Error> {
    let body = request.into_body().collect().await?.to_bytes();
    let streamed = body.windows(13).any(|window| window == br#""stream":true"#);
    let (kind, body) = if streamed {
        let events = futures::stream::unfold(0, move |sent| async move {
            if sent < pace.events && !pace.gap.is_zero() {
                tokio::time::sleep(pace.gap).await;
            }
            let text = match sent.cmp(&pace.events) {
                std::cmp::Ordering::Less => EVENT,
                std::cmp::Ordering::Equal => "data: [DONE]\n\n",
                std::cmp::Ordering::Greater => return None,
            };
            Some((Ok(Frame::data(Bytes::from_static(text.as_bytes()))), sent + 1))
        });
        ("text/event-stream", StreamBody::new(events).boxed_unsync())
    } else {
        ("application/json", Full::new(Bytes::from_static(ANSWER.as_bytes())).boxed_unsync())
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    Ok(response)
}

async fn engine(listener: TcpListener, pace: Pace) -> std::io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = service_fn(move |request| answer(request, pace));
        tokio::spawn(async move {
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = served.await {
                tracing::debug!(%error, "connection ended early");
            }
        });
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let events = arguments.next().map_or(Ok(65), |text| text.parse())?;
    let gap = Duration::from_micros(arguments.next().map_or(Ok(0), |text| text.parse())?);
    let stub = TcpListener::bind("127.0.0.1:9101").await?;
    let front = TcpListener::bind("127.0.0.1:9100").await?;
    let gateway = Gateway::new(GatewayConfig::default(), Arc::new(OneKey))?;
    gateway.set_engines(vec![EngineTarget {
        id: "stub".to_owned(),
        model: "stub".to_owned(),
        kind: EngineKind::Chat,
        url: format!("http://{}", stub.local_addr()?),
        key: None,
        facts: EngineFacts::default(),
    }])?;
    writeln!(std::io::stdout(), "engine {}\ngateway {}", stub.local_addr()?, front.local_addr()?)?;
    let stopped = async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            tracing::error!(%error, "cannot wait for a signal");
        }
    };
    tokio::select! {
        ended = engine(stub, Pace { events, gap }) => ended?,
        ended = gateway.serve(front, stopped) => ended?,
    }
    Ok(())
}
