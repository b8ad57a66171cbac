//! Tells a webhook what happened to objects.
//!
//! Events wait in a bounded queue and are dropped, counted and logged when it is full: no write waits for a listener.
//! Source of the form: Amazon S3 User Guide, "Event message structure".

use http::Response;
use serde_json::json;

use super::call::{Slash, encode};
use super::job::Job;
use super::reply::{Body, iso};
use super::route::Op;

/// What an operation is called in events, if it is told.
fn name(op: Op) -> Option<&'static str> {
    TOLD.iter().find(|(told, _name)| *told == op).map(|(_told, name)| *name)
}

const TOLD: &[(Op, &str)] = &[
    (Op::PutObject, "ObjectCreated:Put"),
    (Op::PostForm, "ObjectCreated:Post"),
    (Op::CopyObject, "ObjectCreated:Copy"),
    (Op::CompleteMultipartUpload, "ObjectCreated:CompleteMultipartUpload"),
    (Op::DeleteObject, "ObjectRemoved:Delete"),
    (Op::PutObjectTagging, "ObjectTagging:Put"),
    (Op::DeleteObjectTagging, "ObjectTagging:Delete"),
    (Op::PutObjectAcl, "ObjectAcl:Put"),
];

/// Hands the event of a request that succeeded to the listener, if there is one.
pub(super) fn notify(job: &Job, response: &Response<Body>) {
    let Some(listener) = &job.front.options.events else { return };
    let (Some(name), Some(bucket), Some(key)) = (name(job.op), &job.call.bucket, &job.call.key) else { return };
    let name =
        if response.headers().contains_key("x-amz-delete-marker") { "ObjectRemoved:DeleteMarkerCreated" } else { name };
    let object = job.object.as_ref();
    let version = response.headers().get("x-amz-version-id").and_then(|value| value.to_str().ok());
    let event = json!({ "Records": [{
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": job.front.options.region,
        "eventTime": iso(job.call.now_ms),
        "eventName": name,
        "userIdentity": { "principalId": job.visitor.account().unwrap_or("anonymous") },
        "requestParameters": { "sourceIPAddress": job.call.peer.to_string() },
        "responseElements": { "x-amz-request-id": job.call.id },
        "s3": {
            "s3SchemaVersion": "1.0",
            "bucket": { "name": bucket, "arn": format!("arn:aws:s3:::{bucket}") },
            "object": {
                "key": encode(key, Slash::Kept),
                "size": object.map(|object| object.size),
                "eTag": object.map(|object| object.etag.as_str()),
                "versionId": version,
            },
        },
    }]});
    if listener.try_send(event.to_string()).is_err() {
        tracing::warn!(event = name, bucket, "an event was dropped: the listener is too slow or gone");
    }
}
