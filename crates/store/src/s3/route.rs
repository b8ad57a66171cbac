//! The table of operations: how each is asked for, what policies call it, and what access lists must grant for it.
//!
//! Source: Amazon S3 API Reference, "Actions"; Amazon S3 User Guide, "Required permissions for Amazon S3 API operations".

use dh_policy::access::Permission;
use http::Method;

use super::call::Call;
use super::fault::Fault;

/// What an access list must grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grantable {
    /// No list can; only policies and ownership.
    Never,
    /// The bucket's list, with this.
    Bucket(Permission),
    /// The object's list, with this.
    Object(Permission),
}

/// What an operation is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Service,
    /// A bucket that may not exist yet.
    NewBucket,
    Bucket,
    /// A key of a bucket; the object may be missing.
    Key,
    /// An object that is there: its owner, list and tags count.
    Object,
}

use Grantable::{Bucket as OfBucket, Never, Object as OfObject};
use Permission::{Read, ReadAcp, Write, WriteAcp};

macro_rules! operations {
    ($($name:ident $action:literal $scope:ident $grant:expr;)*) => {
        /// An operation.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Op { $($name,)* }

        impl Op {
            /// Its name in counters and logs.
            pub(super) const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// What policies call it.
            pub(super) const fn action(self) -> &'static str {
                match self { $(Self::$name => concat!("s3:", $action),)* }
            }

            /// What it is about.
            pub(super) const fn scope(self) -> Scope {
                match self { $(Self::$name => Scope::$scope,)* }
            }

            /// What an access list must grant.
            pub(super) const fn grantable(self) -> Grantable {
                match self { $(Self::$name => $grant,)* }
            }
        }
    };
}

operations! {
    ListBuckets "ListAllMyBuckets" Service Never;
    CreateBucket "CreateBucket" NewBucket Never;
    DeleteBucket "DeleteBucket" Bucket Never;
    HeadBucket "ListBucket" Bucket OfBucket(Read);
    ListObjects "ListBucket" Bucket OfBucket(Read);
    ListObjectsV2 "ListBucket" Bucket OfBucket(Read);
    ListObjectVersions "ListBucketVersions" Bucket OfBucket(Read);
    ListMultipartUploads "ListBucketMultipartUploads" Bucket OfBucket(Read);
    GetBucketLocation "GetBucketLocation" Bucket OfBucket(Read);
    GetBucketAcl "GetBucketAcl" Bucket OfBucket(ReadAcp);
    PutBucketAcl "PutBucketAcl" Bucket OfBucket(WriteAcp);
    GetBucketVersioning "GetBucketVersioning" Bucket Never;
    PutBucketVersioning "PutBucketVersioning" Bucket Never;
    GetBucketPolicy "GetBucketPolicy" Bucket Never;
    PutBucketPolicy "PutBucketPolicy" Bucket Never;
    DeleteBucketPolicy "DeleteBucketPolicy" Bucket Never;
    GetBucketPolicyStatus "GetBucketPolicyStatus" Bucket Never;
    GetBucketCors "GetBucketCORS" Bucket Never;
    PutBucketCors "PutBucketCORS" Bucket Never;
    DeleteBucketCors "PutBucketCORS" Bucket Never;
    GetBucketLifecycle "GetLifecycleConfiguration" Bucket Never;
    PutBucketLifecycle "PutLifecycleConfiguration" Bucket Never;
    DeleteBucketLifecycle "PutLifecycleConfiguration" Bucket Never;
    GetBucketEncryption "GetEncryptionConfiguration" Bucket Never;
    PutBucketEncryption "PutEncryptionConfiguration" Bucket Never;
    DeleteBucketEncryption "PutEncryptionConfiguration" Bucket Never;
    GetBucketTagging "GetBucketTagging" Bucket Never;
    PutBucketTagging "PutBucketTagging" Bucket Never;
    DeleteBucketTagging "PutBucketTagging" Bucket Never;
    GetBucketOwnershipControls "GetBucketOwnershipControls" Bucket Never;
    PutBucketOwnershipControls "PutBucketOwnershipControls" Bucket Never;
    DeleteBucketOwnershipControls "PutBucketOwnershipControls" Bucket Never;
    GetPublicAccessBlock "GetBucketPublicAccessBlock" Bucket Never;
    PutPublicAccessBlock "PutBucketPublicAccessBlock" Bucket Never;
    DeletePublicAccessBlock "PutBucketPublicAccessBlock" Bucket Never;
    GetObjectLockConfiguration "GetBucketObjectLockConfiguration" Bucket Never;
    PutObjectLockConfiguration "PutBucketObjectLockConfiguration" Bucket Never;
    GetBucketNotification "GetBucketNotification" Bucket Never;
    PutBucketNotification "PutBucketNotification" Bucket Never;
    GetBucketRequestPayment "GetBucketRequestPayment" Bucket Never;
    PutBucketRequestPayment "PutBucketRequestPayment" Bucket Never;
    GetBucketWebsite "GetBucketWebsite" Bucket Never;
    PutBucketWebsite "PutBucketWebsite" Bucket Never;
    DeleteBucketWebsite "DeleteBucketWebsite" Bucket Never;
    GetBucketLogging "GetBucketLogging" Bucket Never;
    GetBucketReplication "GetReplicationConfiguration" Bucket Never;
    GetBucketAccelerate "GetAccelerateConfiguration" Bucket Never;
    PostForm "PutObject" Bucket OfBucket(Write);
    DeleteObjects "DeleteObject" Bucket OfBucket(Write);
    GetObject "GetObject" Object OfObject(Read);
    HeadObject "GetObject" Object OfObject(Read);
    GetObjectAttributes "GetObjectAttributes" Object OfObject(Read);
    GetObjectAcl "GetObjectAcl" Object OfObject(ReadAcp);
    PutObjectAcl "PutObjectAcl" Object OfObject(WriteAcp);
    GetObjectTagging "GetObjectTagging" Object OfObject(Read);
    PutObjectTagging "PutObjectTagging" Object Never;
    DeleteObjectTagging "DeleteObjectTagging" Object Never;
    GetObjectRetention "GetObjectRetention" Object Never;
    PutObjectRetention "PutObjectRetention" Object Never;
    GetObjectLegalHold "GetObjectLegalHold" Object Never;
    PutObjectLegalHold "PutObjectLegalHold" Object Never;
    PutObject "PutObject" Key OfBucket(Write);
    CopyObject "PutObject" Key OfBucket(Write);
    DeleteObject "DeleteObject" Key OfBucket(Write);
    CreateMultipartUpload "PutObject" Key OfBucket(Write);
    UploadPart "PutObject" Key OfBucket(Write);
    UploadPartCopy "PutObject" Key OfBucket(Write);
    CompleteMultipartUpload "PutObject" Key OfBucket(Write);
    AbortMultipartUpload "AbortMultipartUpload" Key OfBucket(Write);
    ListParts "ListMultipartUploadParts" Key OfBucket(Write);
}

/// A sub-resource: the word of the query, and what GET, PUT and DELETE of it are.
type Sub = (&'static str, Option<Op>, Option<Op>, Option<Op>);

/// Those of a bucket.
const OF_BUCKET: &[Sub] = &[
    ("location", Some(Op::GetBucketLocation), None, None),
    ("acl", Some(Op::GetBucketAcl), Some(Op::PutBucketAcl), None),
    ("versioning", Some(Op::GetBucketVersioning), Some(Op::PutBucketVersioning), None),
    ("policyStatus", Some(Op::GetBucketPolicyStatus), None, None),
    ("policy", Some(Op::GetBucketPolicy), Some(Op::PutBucketPolicy), Some(Op::DeleteBucketPolicy)),
    ("cors", Some(Op::GetBucketCors), Some(Op::PutBucketCors), Some(Op::DeleteBucketCors)),
    ("lifecycle", Some(Op::GetBucketLifecycle), Some(Op::PutBucketLifecycle), Some(Op::DeleteBucketLifecycle)),
    ("encryption", Some(Op::GetBucketEncryption), Some(Op::PutBucketEncryption), Some(Op::DeleteBucketEncryption)),
    ("tagging", Some(Op::GetBucketTagging), Some(Op::PutBucketTagging), Some(Op::DeleteBucketTagging)),
    (
        "ownershipControls",
        Some(Op::GetBucketOwnershipControls),
        Some(Op::PutBucketOwnershipControls),
        Some(Op::DeleteBucketOwnershipControls),
    ),
    (
        "publicAccessBlock",
        Some(Op::GetPublicAccessBlock),
        Some(Op::PutPublicAccessBlock),
        Some(Op::DeletePublicAccessBlock),
    ),
    ("object-lock", Some(Op::GetObjectLockConfiguration), Some(Op::PutObjectLockConfiguration), None),
    ("notification", Some(Op::GetBucketNotification), Some(Op::PutBucketNotification), None),
    ("requestPayment", Some(Op::GetBucketRequestPayment), Some(Op::PutBucketRequestPayment), None),
    ("website", Some(Op::GetBucketWebsite), Some(Op::PutBucketWebsite), Some(Op::DeleteBucketWebsite)),
    ("logging", Some(Op::GetBucketLogging), None, None),
    ("replication", Some(Op::GetBucketReplication), None, None),
    ("accelerate", Some(Op::GetBucketAccelerate), None, None),
    ("uploads", Some(Op::ListMultipartUploads), None, None),
    ("versions", Some(Op::ListObjectVersions), None, None),
    ("inventory", None, None, None),
    ("analytics", None, None, None),
    ("metrics", None, None, None),
    ("intelligent-tiering", None, None, None),
];

/// The same of an object.
const OF_OBJECT: &[Sub] = &[
    ("acl", Some(Op::GetObjectAcl), Some(Op::PutObjectAcl), None),
    ("tagging", Some(Op::GetObjectTagging), Some(Op::PutObjectTagging), Some(Op::DeleteObjectTagging)),
    ("retention", Some(Op::GetObjectRetention), Some(Op::PutObjectRetention), None),
    ("legal-hold", Some(Op::GetObjectLegalHold), Some(Op::PutObjectLegalHold), None),
    ("attributes", Some(Op::GetObjectAttributes), None, None),
    ("torrent", None, None, None),
];

fn sub(call: &Call, table: &[Sub]) -> Option<Result<Op, Fault>> {
    let (_word, get, put, delete) = table.iter().find(|(word, ..)| call.has(word))?;
    if call.has("torrent") {
        return Some(Err(Fault::new("NoSuchKey", "there are no torrents of objects")));
    }
    let found = match call.method {
        Method::GET => get,
        Method::PUT => put,
        Method::DELETE => delete,
        _ => &None,
    };
    Some(found.ok_or_else(|| if get.is_none() && put.is_none() { Fault::unknown_operation() } else { not_allowed() }))
}

fn not_allowed() -> Fault {
    Fault::new("MethodNotAllowed", "The specified method is not allowed against this resource.")
}

/// The operation that a request asks for.
pub(super) fn route(call: &Call) -> Result<Op, Fault> {
    match (&call.bucket, &call.key) {
        (None, _) => match call.method {
            Method::GET | Method::HEAD => Ok(Op::ListBuckets),
            _ => Err(not_allowed()),
        },
        (Some(_), None) => bucket(call),
        (Some(_), Some(_)) => object(call),
    }
}

fn bucket(call: &Call) -> Result<Op, Fault> {
    if call.method != Method::HEAD
        && call.method != Method::POST
        && let Some(found) = sub(call, OF_BUCKET)
    {
        return found;
    }
    match call.method {
        Method::GET if call.ask("list-type") == Some("2") => Ok(Op::ListObjectsV2),
        Method::GET => Ok(Op::ListObjects),
        Method::HEAD => Ok(Op::HeadBucket),
        Method::PUT => Ok(Op::CreateBucket),
        Method::DELETE => Ok(Op::DeleteBucket),
        Method::POST if call.has("delete") => Ok(Op::DeleteObjects),
        Method::POST => Ok(Op::PostForm),
        _ => Err(not_allowed()),
    }
}

fn object(call: &Call) -> Result<Op, Fault> {
    if call.method == Method::HEAD {
        return Ok(Op::HeadObject);
    }
    if let Some(found) = sub(call, OF_OBJECT).filter(|_found| call.method != Method::POST) {
        return found;
    }
    let upload = call.has("uploadId");
    match call.method {
        Method::GET if upload => Ok(Op::ListParts),
        Method::GET => Ok(Op::GetObject),
        Method::PUT if upload && call.headers.contains_key("x-amz-copy-source") => Ok(Op::UploadPartCopy),
        Method::PUT if upload => Ok(Op::UploadPart),
        Method::PUT if call.headers.contains_key("x-amz-copy-source") => Ok(Op::CopyObject),
        Method::PUT => Ok(Op::PutObject),
        Method::DELETE if upload => Ok(Op::AbortMultipartUpload),
        Method::DELETE => Ok(Op::DeleteObject),
        Method::POST if call.has("uploads") => Ok(Op::CreateMultipartUpload),
        Method::POST if upload => Ok(Op::CompleteMultipartUpload),
        Method::POST => Err(Fault::unknown_operation()),
        _ => Err(not_allowed()),
    }
}
