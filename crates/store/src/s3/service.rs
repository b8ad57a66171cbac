//! From a request to its answer: take apart, verify, look up, let in, do, dress.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use super::call::Call;
use super::fault::Fault;
use super::framing::Framing;
use super::job::{Front, Job};
use super::payload::{Payload, Wrapping};
use super::reply::{Answer, Body, Reply};
use super::route::{Op, Scope, route};
use super::sign::{Carrier, Claim, claim};
use super::visitor::{Asked, verify};
use super::{
    Strangers, acl, admin, attributes, bucket_ops, copy, cors, delete, documents, events, form, get, list, multipart,
    object_docs, put, query,
};
use crate::store::now_ms;

static REQUESTS: AtomicU64 = AtomicU64::new(0);

/// A name for a request that no other of this process has.
fn request_id(now_ms: u64) -> String {
    format!("{:08X}{:08X}", now_ms & 0xffff_ffff, REQUESTS.fetch_add(1, Ordering::Relaxed) & 0xffff_ffff)
}

/// Answers one request.
pub(super) async fn answer(front: Arc<Front>, request: Request<Incoming>, peer: IpAddr) -> Response<Body> {
    let now_ms = now_ms();
    let id = request_id(now_ms);
    let (parts, body) = request.into_parts();
    let head = parts.method == Method::HEAD;
    let call = match Call::new(&parts, peer, id.clone(), &front.options.domains, now_ms) {
        Ok(call) => call,
        Err(fault) => return dress(refuse(&fault, "/", &id, head), &id),
    };
    let resource = call.resource();
    let is_query = query::is_query(&call);
    let origin = call.header("origin").map(ToOwned::to_owned);
    // A page may name the method it means.
    let meant = call.header("access-control-request-method").and_then(|name| Method::from_bytes(name.as_bytes()).ok());
    let preflight = call.method == Method::OPTIONS;
    let wanted = (meant.unwrap_or_else(|| call.method.clone()), call.bucket.clone());
    let result = Box::pin(serve(Arc::clone(&front), call, body)).await;
    let mut response = match result {
        Ok(response) => response,
        Err(fault) if is_query => query::refuse(&fault, &id),
        Err(fault) => refuse(&fault, &resource, &id, head),
    };
    if let (Some(origin), (method, Some(bucket))) = (origin, wanted)
        && !preflight
    {
        cors::dress(&front.store, &bucket, &origin, &method, &mut response).await;
    }
    dress(response, &id)
}

fn refuse(fault: &Fault, resource: &str, id: &str, head: bool) -> Response<Body> {
    let mut reply = Reply::new(fault.status);
    for (name, value) in &fault.headers {
        reply.set(name, value);
    }
    if head || fault.status == StatusCode::NOT_MODIFIED {
        return reply.with("content-type", "application/xml").empty();
    }
    reply.xml(fault.document(resource, id))
}

fn dress(mut response: Response<Body>, id: &str) -> Response<Body> {
    if let Ok(id) = http::HeaderValue::try_from(id) {
        response.headers_mut().insert("x-amz-request-id", id.clone());
        response.headers_mut().insert("x-amz-id-2", id);
    }
    response.headers_mut().entry("server").or_insert(http::HeaderValue::from_static("Datahall"));
    response
}

/// The number of bytes that a request says its body has.
fn content_length(call: &Call) -> Result<Option<u64>, Fault> {
    let parse = |text: &str| text.parse().map_err(|_error| Fault::argument("Content-Length is no number"));
    call.header("content-length").map(parse).transpose()
}

/// The hash that a request claims for its body, and how the body is wrapped.
fn payload(call: &Call, claim: &Claim) -> Result<(String, Option<Framed>), Fault> {
    let unsigned = "UNSIGNED-PAYLOAD";
    let said = call.header("x-amz-content-sha256").or_else(|| call.ask("X-Amz-Content-Sha256"));
    let said = match (claim, said) {
        (_, Some(said)) => said,
        (Claim::V4(claim), None) if claim.carrier == Carrier::Header => {
            return Err(Fault::request("Missing required header for this request: x-amz-content-sha256"));
        }
        (Claim::None | Claim::V2(_) | Claim::V4(_), None) => unsigned,
    };
    let framed = match said {
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" => Some(Framed { signed: true, trailers: false }),
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" => Some(Framed { signed: true, trailers: true }),
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER" => Some(Framed { signed: false, trailers: true }),
        "UNSIGNED-PAYLOAD" => None,
        said if said.len() == 64 && said.bytes().all(|byte| byte.is_ascii_hexdigit()) => None,
        _other => {
            return Err(Fault::argument(
                "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD, or a valid sha256 value.",
            ));
        }
    };
    Ok((said.to_owned(), framed))
}

#[derive(Debug, Clone, Copy)]
struct Framed {
    signed: bool,
    trailers: bool,
}

async fn serve(front: Arc<Front>, call: Call, body: Incoming) -> Answer {
    // A form is signed by its fields; all else says here who asks.
    let stranger = !form::is_form(&call) && matches!(claim(&call), Ok(Claim::None));
    if stranger && front.options.strangers == Strangers::Refused {
        return Err(Fault::denied());
    }
    if call.method == Method::OPTIONS {
        return cors::preflight(&front.store, &call).await;
    }
    if admin::is_admin(&call) {
        return admin::serve(front, call).await;
    }
    if query::is_query(&call) {
        return query::serve(front, call, body).await;
    }
    if form::is_form(&call) {
        return form::serve(front, call, body).await;
    }
    let op = route(&call)?;
    front.store.0.counters.request(op.name());
    let claim = claim(&call)?;
    let (hash, framed) = payload(&call, &claim)?;
    let (visitor, chunks) = verify(&front.accounts, front.auth.as_ref(), &call, &claim, &hash, Asked::Objects)?;
    let announced = content_length(&call)?;
    let payload = if let Some(Framed { signed, trailers }) = framed {
        let length = call.header("x-amz-decoded-content-length");
        let length = length
            .ok_or_else(|| Fault::new("MissingContentLength", "You must provide the Content-Length HTTP header."))?;
        let length = length.parse().map_err(|_error| Fault::argument("x-amz-decoded-content-length is no number"))?;
        let denied = || Fault::new("AccessDenied", "signed chunks need a signed request");
        let chain = if signed { Some(chunks.ok_or_else(denied)?) } else { None };
        Payload::new(body, Wrapping::Framed(Box::new(Framing::new(chain, trailers))), None, Some(length))
    } else {
        let hash = (hash != "UNSIGNED-PAYLOAD").then_some(hash);
        Payload::new(body, Wrapping::Plain, hash, announced)
    };
    let mut job = Job { front, call, visitor, bucket: None, payload, op, object: None };
    if !matches!(op.scope(), Scope::Service | Scope::NewBucket) {
        let name = job.call.bucket()?;
        if !crate::buckets::is_name(name) {
            return Err(Fault::new("NoSuchBucket", "The specified bucket does not exist").with("BucketName", name));
        }
        job.bucket = Some(job.front.bucket(name).await?);
    }
    if job.call.key.as_ref().is_some_and(|key| key.len() > dh_core::limits::KEY_BYTES_MAX) {
        return Err(Fault::new("KeyTooLongError", "Your key is too long"));
    }
    job.admit().await?;
    let response = Box::pin(operate(&mut job)).await?;
    events::notify(&job, &response);
    Ok(response)
}

async fn operate(job: &mut Job) -> Answer {
    match job.op {
        Op::ListBuckets => bucket_ops::list(job).await,
        Op::CreateBucket => bucket_ops::create(job).await,
        Op::DeleteBucket => bucket_ops::delete(job).await,
        Op::HeadBucket => bucket_ops::head(job),
        Op::GetBucketLocation => Ok(bucket_ops::location(job)),
        Op::GetBucketVersioning => bucket_ops::versioning(job),
        Op::PutBucketVersioning => bucket_ops::set_versioning(job).await,
        Op::GetBucketAcl => acl::get_bucket(job),
        Op::PutBucketAcl => acl::put_bucket(job).await,
        Op::GetObjectAcl => acl::get_object(job),
        Op::PutObjectAcl => acl::put_object(job).await,
        Op::GetBucketPolicy => documents::get_policy(job),
        Op::PutBucketPolicy => documents::put_policy(job).await,
        Op::DeleteBucketPolicy => documents::delete_policy(job).await,
        Op::GetBucketPolicyStatus => documents::policy_status(job),
        Op::GetPublicAccessBlock => documents::get_block(job),
        Op::PutPublicAccessBlock => documents::put_block(job).await,
        Op::DeletePublicAccessBlock => documents::delete_block(job).await,
        Op::GetBucketOwnershipControls => documents::get_ownership(job),
        Op::PutBucketOwnershipControls => documents::put_ownership(job).await,
        Op::DeleteBucketOwnershipControls => documents::delete_ownership(job).await,
        Op::GetBucketRequestPayment => documents::get_payment(job),
        Op::PutBucketRequestPayment => documents::put_payment(job).await,
        Op::GetBucketLogging => Ok(documents::get_logging()),
        Op::GetBucketAccelerate => Ok(documents::get_accelerate()),
        Op::GetBucketReplication => documents::get_replication(),
        Op::GetBucketCors
        | Op::GetBucketLifecycle
        | Op::GetBucketEncryption
        | Op::GetBucketTagging
        | Op::GetObjectLockConfiguration
        | Op::GetBucketNotification
        | Op::GetBucketWebsite => documents::get(job),
        Op::PutBucketCors
        | Op::PutBucketLifecycle
        | Op::PutBucketEncryption
        | Op::PutBucketTagging
        | Op::PutObjectLockConfiguration
        | Op::PutBucketNotification
        | Op::PutBucketWebsite => documents::put(job).await,
        Op::DeleteBucketCors
        | Op::DeleteBucketLifecycle
        | Op::DeleteBucketEncryption
        | Op::DeleteBucketTagging
        | Op::DeleteBucketWebsite => documents::delete(job).await,
        Op::ListObjects => list::v1(job).await,
        Op::ListObjectsV2 => list::v2(job).await,
        Op::ListObjectVersions => list::versions(job).await,
        Op::ListMultipartUploads => multipart::uploads(job).await,
        Op::GetObject => get::get(job).await,
        Op::HeadObject => get::head(job),
        Op::GetObjectAttributes => attributes::get(job),
        Op::PutObject => put::put(job).await,
        Op::CopyObject => copy::copy(job).await,
        Op::DeleteObject => delete::one(job).await,
        Op::DeleteObjects => delete::many(job).await,
        Op::PostForm => Err(Fault::new(
            "MalformedPOSTRequest",
            "The body of your POST request is not well-formed multipart/form-data.",
        )),
        Op::GetObjectTagging => object_docs::get_tags(job),
        Op::PutObjectTagging => object_docs::put_tags(job).await,
        Op::DeleteObjectTagging => object_docs::delete_tags(job).await,
        Op::GetObjectRetention => object_docs::get_retention(job),
        Op::PutObjectRetention => object_docs::put_retention(job).await,
        Op::GetObjectLegalHold => object_docs::get_legal_hold(job),
        Op::PutObjectLegalHold => object_docs::put_legal_hold(job).await,
        Op::CreateMultipartUpload => multipart::create(job).await,
        Op::UploadPart => multipart::part(job).await,
        Op::UploadPartCopy => multipart::part_copy(job).await,
        Op::CompleteMultipartUpload => multipart::complete(job).await,
        Op::AbortMultipartUpload => multipart::abort(job).await,
        Op::ListParts => multipart::parts(job).await,
    }
}
