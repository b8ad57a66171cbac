//! The listener: connections, their bounds, and an orderly end.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use dh_core::Authenticate;
use dh_core::limits::{CONNECTIONS_MAX, HEAD_TIMEOUT_MS, STOP_GRACE_MS};
use http::{Method, Request, Response, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpError, S3Error, s3_error};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::Front;
use super::auth::{Gate, Keys};
use crate::store::now_ms;
use crate::{Error, Store};

/// How long a presigned URL may be valid; S3's own limit for version 4.
const PRESIGNED_SECONDS_MAX: u64 = 7 * 24 * 3_600;

/// How long `accept` rests when the process has no descriptors left.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Serves S3 on `listener` until `shutdown` is ready, then lets requests in progress end, for a few seconds at most.
/// The store stays open.
/// # Errors
/// If the listener cannot be asked for its address, which means that it is not usable.
pub async fn serve(
    store: Store,
    listener: TcpListener,
    auth: Arc<dyn Authenticate>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let address = listener.local_addr().map_err(|error| Error::io("the S3 listener", error))?;
    tracing::info!(%address, "S3 is served");
    let mut builder = S3ServiceBuilder::new(Front(store.clone()));
    builder.set_auth(Keys(Arc::clone(&auth)));
    builder.set_access(Gate { auth, store });
    let service = builder.build();
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (stop, stopping) = watch::channel(false);
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = async {
            // Beyond the bound, connections wait in the kernel's queue.
            let permit = Arc::clone(&connections).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            () = &mut shutdown => break,
            accepted = accepted => accepted,
        };
        let Ok(permit) = permit else { break };
        match accepted {
            Ok((stream, _peer)) => {
                let (service, stopping) = (service.clone(), stopping.clone());
                tokio::spawn(async move {
                    connection(stream, service, stopping).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
    drop(listener);
    stop.send_replace(true);
    let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
    let grace = Duration::from_millis(STOP_GRACE_MS);
    if tokio::time::timeout(grace, connections.acquire_many(all)).await.is_err() {
        tracing::warn!("requests were still in progress when the S3 listener ended");
    }
    tracing::info!(%address, "S3 is no longer served");
    Ok(())
}

async fn connection(stream: TcpStream, service: S3Service, mut stopping: watch::Receiver<bool>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let answer = service_fn(move |request| answer(service.clone(), request));
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_millis(HEAD_TIMEOUT_MS))
            .serve_connection(TokioIo::new(stream), answer)
    );
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stopped(&mut stopping) => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(Duration::from_millis(STOP_GRACE_MS), connection.as_mut()).await {
                Ok(result) => result,
                Err(_elapsed) => return,
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection broke off");
    }
}

/// Ready once the listener stops.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    if stopping.wait_for(|stop| *stop).await.is_err() {
        tracing::debug!("the listener is gone");
    }
}

/// What s3s would let in or read whole into memory before it asks who is there.
fn refusal<B>(request: &Request<B>) -> Option<S3Error> {
    let text = |name: header::HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
    let query = request.uri().query().unwrap_or_default();
    let value = |name: &str| {
        query.split('&').find_map(|pair| {
            let (have, value) = pair.split_once('=').unwrap_or((pair, ""));
            (have == name).then_some(value)
        })
    };
    let authorization = text(header::AUTHORIZATION);
    if authorization.is_some_and(|value| value.starts_with("AWS ")) {
        return Some(s3_error!(InvalidRequest, "signature version 2 is not accepted; use AWS4-HMAC-SHA256"));
    }
    // Version 2 in a URL is what boto3 makes when it is not told otherwise. Unlike version 4 it sets no limit of its own.
    if value("AWSAccessKeyId").is_some() {
        let expires = value("Expires").and_then(|expires| expires.parse::<u64>().ok());
        if expires.is_none_or(|expires| expires > (now_ms() / 1_000).saturating_add(PRESIGNED_SECONDS_MAX)) {
            return Some(s3_error!(AccessDenied, "a presigned URL is valid for at most seven days"));
        }
    }
    let presigned = value("X-Amz-Signature").or(value("Signature")).is_some();
    if authorization.is_none() && !presigned {
        return Some(s3_error!(AccessDenied, "every request must be signed"));
    }
    let form =
        text(header::CONTENT_TYPE).is_some_and(|value| value.to_ascii_lowercase().starts_with("multipart/form-data"));
    if request.method() == Method::POST && form {
        return Some(s3_error!(NotImplemented, "form uploads are not supported; use PUT"));
    }
    None
}

async fn answer(service: S3Service, request: Request<Incoming>) -> Result<Response<Body>, HttpError> {
    if let Some(error) = refusal(&request) {
        // A HEAD request's answer has no body, and the rest of a body nobody reads ends the connection.
        let mut response = error.to_http_response().map_err(|error| HttpError::new(Box::new(error)))?;
        if request.method() == Method::HEAD {
            *response.body_mut() = Body::empty();
        }
        return Ok(response);
    }
    service.call(request.map(Body::from)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_requests_that_claim_an_acceptable_signature_come_through() {
        let check =
            |request: http::request::Builder| refusal(&request.body(()).unwrap()).map(|error| error.code().clone());
        let v4 = "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=c";
        assert_eq!(check(Request::get("/bucket").header("authorization", v4)), None);
        assert_eq!(check(Request::get("/bucket/key?X-Amz-Signature=00")), None);
        for unsigned in ["/", "/bucket", "/bucket/key", "/bucket?x=X-Amz-Signature"] {
            assert_eq!(check(Request::get(unsigned)), Some(s3s::S3ErrorCode::AccessDenied), "{unsigned}");
        }
        assert_eq!(
            check(Request::get("/bucket").header("authorization", "AWS id:signature")),
            Some(s3s::S3ErrorCode::InvalidRequest)
        );
        let soon = now_ms() / 1_000 + 60;
        let presigned = |expires: u64| Request::get(format!("/b/k?AWSAccessKeyId=x&Signature=y&Expires={expires}"));
        assert_eq!(check(presigned(soon)), None);
        assert_eq!(check(presigned(soon + PRESIGNED_SECONDS_MAX)), Some(s3s::S3ErrorCode::AccessDenied));
        assert_eq!(check(Request::get("/b/k?AWSAccessKeyId=x&Signature=y")), Some(s3s::S3ErrorCode::AccessDenied));
        let form = Request::post("/bucket")
            .header("authorization", v4)
            .header("content-type", "Multipart/form-data; boundary=x");
        assert_eq!(check(form), Some(s3s::S3ErrorCode::NotImplemented));
    }
}
