//! What is answered when a request is refused: S3's code, its status, and a sentence.

use dh_core::{HasKind as _, Kind};
use http::StatusCode;

use super::xml::Xml;
use crate::Error;

/// When to ask again for an object on a tier that is away.
const AWAY_SECONDS: &str = "30";

/// A refusal.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    pub(super) code: &'static str,
    pub(super) status: StatusCode,
    pub(super) message: String,
    /// Elements beside code and message.
    pub(super) more: Vec<(&'static str, String)>,
    /// Headers of the answer.
    pub(super) headers: Vec<(&'static str, String)>,
}

/// S3's codes and the status of each. A code that is not here is a 400.
const STATUSES: &[(&str, StatusCode)] = &[
    ("AccessDenied", StatusCode::FORBIDDEN),
    ("AccountProblem", StatusCode::FORBIDDEN),
    ("BucketAlreadyExists", StatusCode::CONFLICT),
    ("BucketAlreadyOwnedByYou", StatusCode::CONFLICT),
    ("BucketNotEmpty", StatusCode::CONFLICT),
    ("ConditionalRequestConflict", StatusCode::CONFLICT),
    ("DeleteConflict", StatusCode::CONFLICT),
    ("EntityAlreadyExists", StatusCode::CONFLICT),
    ("InsufficientStorage", StatusCode::INSUFFICIENT_STORAGE),
    ("InternalError", StatusCode::INTERNAL_SERVER_ERROR),
    ("InvalidAccessKeyId", StatusCode::FORBIDDEN),
    ("InvalidClientTokenId", StatusCode::FORBIDDEN),
    ("InvalidBucketState", StatusCode::CONFLICT),
    ("InvalidObjectState", StatusCode::FORBIDDEN),
    ("InvalidRange", StatusCode::RANGE_NOT_SATISFIABLE),
    ("LimitExceeded", StatusCode::CONFLICT),
    ("MethodNotAllowed", StatusCode::METHOD_NOT_ALLOWED),
    ("MissingContentLength", StatusCode::LENGTH_REQUIRED),
    ("NoSuchBucket", StatusCode::NOT_FOUND),
    ("NoSuchBucketPolicy", StatusCode::NOT_FOUND),
    ("NoSuchCORSConfiguration", StatusCode::NOT_FOUND),
    ("NoSuchConfiguration", StatusCode::NOT_FOUND),
    ("NoSuchEntity", StatusCode::NOT_FOUND),
    ("NoSuchKey", StatusCode::NOT_FOUND),
    ("NoSuchLifecycleConfiguration", StatusCode::NOT_FOUND),
    ("NoSuchObjectLockConfiguration", StatusCode::NOT_FOUND),
    ("NoSuchPublicAccessBlockConfiguration", StatusCode::NOT_FOUND),
    ("NoSuchTagSet", StatusCode::NOT_FOUND),
    ("NoSuchUpload", StatusCode::NOT_FOUND),
    ("NoSuchVersion", StatusCode::NOT_FOUND),
    ("NoSuchWebsiteConfiguration", StatusCode::NOT_FOUND),
    ("NotImplemented", StatusCode::NOT_IMPLEMENTED),
    ("NotModified", StatusCode::NOT_MODIFIED),
    ("ObjectLockConfigurationNotFoundError", StatusCode::NOT_FOUND),
    ("OwnershipControlsNotFoundError", StatusCode::NOT_FOUND),
    ("PreconditionFailed", StatusCode::PRECONDITION_FAILED),
    ("ReplicationConfigurationNotFoundError", StatusCode::NOT_FOUND),
    ("RequestTimeTooSkewed", StatusCode::FORBIDDEN),
    ("ServerSideEncryptionConfigurationNotFoundError", StatusCode::NOT_FOUND),
    ("ServiceUnavailable", StatusCode::SERVICE_UNAVAILABLE),
    ("SignatureDoesNotMatch", StatusCode::FORBIDDEN),
    ("SlowDown", StatusCode::SERVICE_UNAVAILABLE),
    ("UnresolvableGrantByEmailAddress", StatusCode::BAD_REQUEST),
];

impl Fault {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        let status = STATUSES.iter().find(|(known, _status)| *known == code);
        let status = status.map_or(StatusCode::BAD_REQUEST, |(_code, status)| *status);
        Self { code, status, message: message.into(), more: Vec::new(), headers: Vec::new() }
    }

    pub(super) fn denied() -> Self {
        Self::new("AccessDenied", "Access Denied")
    }

    pub(super) fn argument(message: impl Into<String>) -> Self {
        Self::new("InvalidArgument", message)
    }

    pub(super) fn request(message: impl Into<String>) -> Self {
        Self::new("InvalidRequest", message)
    }

    pub(super) fn malformed(message: impl Into<String>) -> Self {
        Self::new("MalformedXML", message)
    }

    pub(super) fn unknown_operation() -> Self {
        Self::new("NotImplemented", "this store does not know the operation")
    }

    /// Adds an element.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.more.push((name, value.into()));
        self
    }

    /// Adds a header.
    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The body as S3 sends it.
    pub(super) fn document(&self, resource: &str, id: &str) -> String {
        let mut xml = Xml::document();
        xml.element("Error", |xml| {
            xml.leaf("Code", self.code);
            xml.leaf("Message", &self.message);
            for (name, value) in &self.more {
                xml.leaf(name, value);
            }
            xml.leaf("Resource", resource);
            xml.leaf("RequestId", id);
        });
        xml.finish()
    }

    /// The body as the identity services send it.
    pub(super) fn query_document(&self, id: &str) -> String {
        let mut xml = Xml::document();
        xml.element("ErrorResponse", |xml| {
            xml.element("Error", |xml| {
                xml.leaf("Type", "Sender");
                xml.leaf("Code", self.code);
                xml.leaf("Message", &self.message);
            });
            xml.leaf("RequestId", id);
        });
        xml.finish()
    }
}

fn code(error: &Error) -> &'static str {
    match error {
        Error::NoSuchBucket(_) => "NoSuchBucket",
        Error::NoSuchVersion { .. } => "NoSuchVersion",
        Error::NoSuchKey { .. } | Error::DeleteMarker { asked: crate::Version::Latest, .. } => "NoSuchKey",
        Error::DeleteMarker { .. } => "MethodNotAllowed",
        Error::NoSuchUpload(_) => "NoSuchUpload",
        Error::BucketExists(_) => "BucketAlreadyOwnedByYou",
        Error::BucketNotEmpty(_) => "BucketNotEmpty",
        Error::Precondition(_) => "PreconditionFailed",
        Error::Retained { .. } => "AccessDenied",
        Error::Quota(_) => "QuotaExceeded",
        Error::InvalidPart(_) => "InvalidPart",
        Error::InvalidPartOrder => "InvalidPartOrder",
        Error::PartTooSmall { .. } => "EntityTooSmall",
        Error::BadDigest("x-amz-content-sha256") => "XAmzContentSHA256Mismatch",
        Error::BadDigest(_) => "BadDigest",
        Error::InvalidRange(_) => "InvalidRange",
        Error::Invalid(_) => "InvalidArgument",
        Error::TooLarge(_) => "EntityTooLarge",
        Error::BodyBroken(_) => "IncompleteBody",
        Error::Full(_) => "InsufficientStorage",
        Error::Busy => "SlowDown",
        Error::Closed | Error::Sealed(_) | Error::Drives(_) | Error::Away(_) => "ServiceUnavailable",
        Error::Corrupt { .. } | Error::Io { .. } | Error::Meta(_) | Error::Locked(_) => "InternalError",
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let kind = error.kind();
        // What is wrong inside of the machine is told in the log, not to clients.
        let message = match kind {
            Kind::Internal | Kind::Unreachable => "the store failed; see its log".to_owned(),
            Kind::Corrupt => "the object's bytes on the disk are not those that were written".to_owned(),
            Kind::Full => "no space left".to_owned(),
            Kind::Invalid
            | Kind::Blueprint
            | Kind::Infeasible
            | Kind::Unauthorized
            | Kind::Forbidden
            | Kind::NotFound
            | Kind::Conflict
            | Kind::TooLarge
            | Kind::Busy
            | Kind::Timeout
            | Kind::Interrupted => error.to_string(),
        };
        if matches!(kind, Kind::Internal | Kind::Unreachable | Kind::Corrupt | Kind::Full) {
            tracing::error!(%error, "a request failed");
        }
        if let Error::Away(_) = error {
            let message = "The tier that holds the object cannot be reached now. Please try again later.";
            return Self::new(code(&error), message).header("retry-after", AWAY_SECONDS);
        }
        let fault = Self::new(code(&error), message);
        if let Error::DeleteMarker { version, .. } = error {
            return fault.header("x-amz-delete-marker", "true").header("x-amz-version-id", version.to_string());
        }
        if let Error::InvalidRange(size) = error {
            return fault.header("content-range", format!("bytes */{size}"));
        }
        fault
    }
}
