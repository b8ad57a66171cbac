//! Documents of buckets: checked when they are put, given back as they were.

use dh_policy::access::{Kind, Policy, PublicAccessBlock, Reach};
use http::Response;

use super::bucket::{Ownership, document};
use super::cors;
use super::fault::Fault;
use super::job::Job;
use super::lifecycle;
use super::object_docs::check_tags;
use super::reply::{Answer, Body, Reply};
use super::route::Op;
use super::xml::{Node, S3, Xml};
use crate::{Locking, Versioning};

/// A kind of document that is XML in and the same XML out.
struct Form {
    /// The operations that get, put and delete it.
    operations: &'static [Op],
    name: &'static str,
    root: &'static str,
    /// The refusal when there is none; `None` to answer with an empty document.
    missing: Option<(&'static str, &'static str)>,
}

const FORMS: &[Form] = &[
    Form {
        operations: &[Op::GetBucketCors, Op::PutBucketCors, Op::DeleteBucketCors],
        name: document::CORS,
        root: "CORSConfiguration",
        missing: Some(("NoSuchCORSConfiguration", "The CORS configuration does not exist")),
    },
    Form {
        operations: &[Op::GetBucketLifecycle, Op::PutBucketLifecycle, Op::DeleteBucketLifecycle],
        name: document::LIFECYCLE,
        root: "LifecycleConfiguration",
        missing: Some(("NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist")),
    },
    Form {
        operations: &[Op::GetBucketEncryption, Op::PutBucketEncryption, Op::DeleteBucketEncryption],
        name: document::ENCRYPTION,
        root: "ServerSideEncryptionConfiguration",
        missing: Some((
            "ServerSideEncryptionConfigurationNotFoundError",
            "The server side encryption configuration was not found",
        )),
    },
    Form {
        operations: &[Op::GetBucketTagging, Op::PutBucketTagging, Op::DeleteBucketTagging],
        name: document::TAGGING,
        root: "Tagging",
        missing: Some(("NoSuchTagSet", "The TagSet does not exist")),
    },
    Form {
        operations: &[Op::GetObjectLockConfiguration, Op::PutObjectLockConfiguration],
        name: document::LOCK,
        root: "ObjectLockConfiguration",
        missing: Some((
            "ObjectLockConfigurationNotFoundError",
            "Object Lock configuration does not exist for this bucket",
        )),
    },
    Form {
        operations: &[Op::GetBucketNotification, Op::PutBucketNotification],
        name: document::NOTIFICATION,
        root: "NotificationConfiguration",
        missing: None,
    },
    Form {
        operations: &[Op::GetBucketWebsite, Op::PutBucketWebsite, Op::DeleteBucketWebsite],
        name: document::WEBSITE,
        root: "WebsiteConfiguration",
        missing: Some(("NoSuchWebsiteConfiguration", "The specified bucket does not have a website configuration")),
    },
];

fn form(op: Op) -> Result<&'static Form, Fault> {
    FORMS.iter().find(|form| form.operations.contains(&op)).ok_or_else(Fault::unknown_operation)
}

pub(super) fn get(job: &Job) -> Answer {
    let form = form(job.op)?;
    let bucket = job.bucket()?;
    match (bucket.document(form.name), form.missing) {
        (Some(bytes), _) => {
            Ok(Reply::ok().with("content-type", "application/xml").body(super::reply::full(bytes.to_vec())))
        }
        (None, _) if job.op == Op::GetObjectLockConfiguration && bucket.info.object_lock == Locking::On => {
            let document = Xml::answer(form.root, |xml| xml.leaf("ObjectLockEnabled", "Enabled"));
            Ok(Reply::ok().xml(document))
        }
        (None, Some((code, message))) => Err(Fault::new(code, message).with("BucketName", &bucket.info.name)),
        (None, None) => Ok(Reply::ok().xml(Xml::answer(form.root, |_xml| {}))),
    }
}

pub(super) async fn put(job: &mut Job) -> Answer {
    let form = form(job.op)?;
    let body = job.payload.document().await?;
    check_md5(job, &body)?;
    let mut root = Node::root(&body, form.root)?;
    let bucket = job.bucket()?;
    match form.name {
        document::CORS => cors::check(&root)?,
        document::LIFECYCLE => lifecycle::check(&mut root)?,
        document::ENCRYPTION => super::sse::check_configuration(&root)?,
        document::TAGGING => check_tags(&tags(&root)?, 50)?,
        document::LOCK => {
            check_lock(&root)?;
            if bucket.info.versioning != Versioning::Enabled {
                return Err(Fault::new(
                    "InvalidBucketState",
                    "Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration",
                ));
            }
            job.store().set_object_lock(&bucket.info.name, Locking::On).await?;
        }
        _kept => {}
    }
    let mut text = Xml::document();
    text.attributed(form.root, &format!("xmlns=\"{S3}\""), |xml| {
        for child in &root.children {
            child.write(xml);
        }
    });
    let success = if job.op == Op::PutBucketTagging { Reply::no_content() } else { Reply::ok() };
    job.store().put_document(&bucket.info.name, form.name, Some(text.finish().into_bytes())).await?;
    Ok(success.empty())
}

pub(super) async fn delete(job: &mut Job) -> Answer {
    let form = form(job.op)?;
    job.store().put_document(&job.bucket()?.info.name, form.name, None).await?;
    Ok(Reply::no_content().empty())
}

/// Whether the bucket in a resource's path has a wildcard and may be this one.
fn may_mean(path: &str, bucket: &str) -> bool {
    let named = path.split_once('/').map_or(path, |(named, _key)| named);
    named.split_once('*').is_some_and(|(start, _rest)| bucket.starts_with(start))
}

/// Checks `Content-MD5` of a document.
pub(super) fn check_md5(job: &Job, body: &[u8]) -> Result<(), Fault> {
    let Some(said) = job.call.header("content-md5") else { return Ok(()) };
    let said = crate::digest::unbase64(said).filter(|md5| md5.len() == 16);
    let said = said.ok_or_else(|| Fault::new("InvalidDigest", "The Content-MD5 you specified was invalid."))?;
    if said == crate::digest::md5(body) {
        Ok(())
    } else {
        Err(Fault::new("BadDigest", "The Content-MD5 you specified did not match what we received."))
    }
}

/// The tags of a `Tagging` document.
pub(super) fn tags(root: &Node) -> Result<Vec<(String, String)>, Fault> {
    let set = root.child("TagSet").ok_or_else(|| Fault::malformed("`Tagging` lacks `TagSet`"))?;
    set.all("Tag").map(|tag| Ok((tag.need("Key")?.to_owned(), tag.need("Value")?.to_owned()))).collect()
}

pub(super) fn check_lock(root: &Node) -> Result<(), Fault> {
    if root.get("ObjectLockEnabled") != Some("Enabled") {
        return Err(Fault::malformed("`ObjectLockEnabled` is Enabled"));
    }
    let Some(rule) = root.child("Rule") else { return Ok(()) };
    let retention =
        rule.child("DefaultRetention").ok_or_else(|| Fault::malformed("a rule has a `DefaultRetention`"))?;
    if !matches!(retention.get("Mode"), Some("GOVERNANCE" | "COMPLIANCE")) {
        return Err(Fault::malformed("`Mode` is GOVERNANCE or COMPLIANCE"));
    }
    let (days, years) = (retention.number::<i64>("Days")?, retention.number::<i64>("Years")?);
    match (days, years) {
        (Some(_), Some(_)) | (None, None) => Err(Fault::malformed("a retention has `Days` or `Years`")),
        (Some(days), None) if !(1..=36_500).contains(&days) => {
            Err(Fault::new("InvalidRetentionPeriod", "Default retention period must be a positive integer value"))
        }
        (None, Some(years)) if !(1..=100).contains(&years) => {
            Err(Fault::new("InvalidRetentionPeriod", "Default retention period must be a positive integer value"))
        }
        (Some(_), None) | (None, Some(_)) => Ok(()),
    }
}

pub(super) fn get_policy(job: &Job) -> Answer {
    let bucket = job.bucket()?;
    match bucket.document(document::POLICY) {
        Some(bytes) => {
            Ok(Reply::ok().with("content-type", "application/json").body(super::reply::full(bytes.to_vec())))
        }
        None => {
            Err(Fault::new("NoSuchBucketPolicy", "The bucket policy does not exist")
                .with("BucketName", &bucket.info.name))
        }
    }
}

pub(super) async fn put_policy(job: &mut Job) -> Answer {
    let body = job.payload.document().await?;
    check_md5(job, &body)?;
    let malformed = |message: String| Fault::new("MalformedPolicy", message);
    let policy = Policy::parse(&body, Kind::Resource).map_err(|error| malformed(error.to_string()))?;
    let bucket = job.bucket()?;
    let name = &bucket.info.name;
    let of_bucket = format!("arn:aws:s3:::{name}");
    policy
        .check_resources(|resource| {
            resource == of_bucket
                || resource == "*"
                || resource.strip_prefix(&of_bucket).is_some_and(|rest| rest.starts_with('/'))
                || resource.strip_prefix("arn:aws:s3:::").is_some_and(|path| may_mean(path, name))
        })
        .map_err(|error| malformed(error.to_string()))?;
    if bucket.block.block_policy && policy.reach() == Reach::Public {
        return Err(Fault::denied());
    }
    // Kept as it came, but it must be JSON in UTF-8, which parsing has shown.
    job.store().put_document(name, document::POLICY, Some(body)).await?;
    Ok(Reply::no_content().empty())
}

pub(super) async fn delete_policy(job: &mut Job) -> Answer {
    job.store().put_document(&job.bucket()?.info.name, document::POLICY, None).await?;
    Ok(Reply::no_content().empty())
}

pub(super) fn policy_status(job: &Job) -> Answer {
    let bucket = job.bucket()?;
    let by_policy = bucket.policy.as_ref().is_some_and(|policy| policy.reach() == Reach::Public);
    let by_list = bucket.acl.is_public() && !bucket.block.ignore_acls;
    let public = (by_policy && !bucket.block.restrict_buckets) || by_list;
    Ok(Reply::ok().xml(Xml::answer("PolicyStatus", |xml| xml.leaf("IsPublic", public))))
}

pub(super) fn get_block(job: &Job) -> Answer {
    let bucket = job.bucket()?;
    if bucket.document(document::BLOCK).is_none() {
        return Err(Fault::new(
            "NoSuchPublicAccessBlockConfiguration",
            "The public access block configuration was not found",
        ));
    }
    let PublicAccessBlock { block_acls, ignore_acls, block_policy, restrict_buckets } = bucket.block;
    let document = Xml::answer("PublicAccessBlockConfiguration", |xml| {
        xml.leaf("BlockPublicAcls", block_acls);
        xml.leaf("IgnorePublicAcls", ignore_acls);
        xml.leaf("BlockPublicPolicy", block_policy);
        xml.leaf("RestrictPublicBuckets", restrict_buckets);
    });
    Ok(Reply::ok().xml(document))
}

pub(super) async fn put_block(job: &mut Job) -> Answer {
    let body = job.payload.document().await?;
    let root = Node::root(&body, "PublicAccessBlockConfiguration")?;
    let on = |name: &str| root.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let block = PublicAccessBlock {
        block_acls: on("BlockPublicAcls"),
        ignore_acls: on("IgnorePublicAcls"),
        block_policy: on("BlockPublicPolicy"),
        restrict_buckets: on("RestrictPublicBuckets"),
    };
    let bytes =
        serde_json::to_vec(&block).map_err(|_error| Fault::new("InternalError", "the block cannot be written"))?;
    job.store().put_document(&job.bucket()?.info.name, document::BLOCK, Some(bytes)).await?;
    Ok(Reply::ok().empty())
}

pub(super) async fn delete_block(job: &mut Job) -> Answer {
    job.store().put_document(&job.bucket()?.info.name, document::BLOCK, None).await?;
    Ok(Reply::no_content().empty())
}

pub(super) fn get_ownership(job: &Job) -> Answer {
    let bucket = job.bucket()?;
    if bucket.document(document::OWNERSHIP).is_none() {
        return Err(Fault::new("OwnershipControlsNotFoundError", "The bucket ownership controls were not found"));
    }
    let document = Xml::answer("OwnershipControls", |xml| {
        xml.element("Rule", |xml| xml.leaf("ObjectOwnership", bucket.ownership.name()));
    });
    Ok(Reply::ok().xml(document))
}

pub(super) async fn put_ownership(job: &mut Job) -> Answer {
    let body = job.payload.document().await?;
    let root = Node::root(&body, "OwnershipControls")?;
    let mut rules = root.all("Rule");
    let rule = rules.next().ok_or_else(|| Fault::malformed("`OwnershipControls` has one rule"))?;
    if rules.next().is_some() {
        return Err(Fault::malformed("`OwnershipControls` has one rule"));
    }
    let ownership =
        Ownership::parse(rule.need("ObjectOwnership")?).ok_or_else(|| Fault::malformed("the ownership is unknown"))?;
    let bucket = job.bucket()?;
    let shared = bucket
        .acl
        .grants
        .iter()
        .any(|grant| !matches!(&grant.grantee, dh_policy::access::Grantee::Account(id) if *id == bucket.owner));
    if ownership == Ownership::Enforced && shared {
        return Err(Fault::new(
            "InvalidBucketAclWithObjectOwnership",
            "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting",
        ));
    }
    let bytes = ownership.name().as_bytes().to_vec();
    job.store().put_document(&bucket.info.name, document::OWNERSHIP, Some(bytes)).await?;
    Ok(Reply::ok().empty())
}

pub(super) async fn delete_ownership(job: &mut Job) -> Answer {
    job.store().put_document(&job.bucket()?.info.name, document::OWNERSHIP, None).await?;
    Ok(Reply::no_content().empty())
}

pub(super) fn get_payment(job: &Job) -> Answer {
    let payer = job.bucket()?.document(document::PAYMENT).and_then(|bytes| std::str::from_utf8(bytes).ok());
    let document = Xml::answer("RequestPaymentConfiguration", |xml| xml.leaf("Payer", payer.unwrap_or("BucketOwner")));
    Ok(Reply::ok().xml(document))
}

pub(super) async fn put_payment(job: &mut Job) -> Answer {
    let body = job.payload.document().await?;
    let root = Node::root(&body, "RequestPaymentConfiguration")?;
    let payer = root.need("Payer")?;
    if !["BucketOwner", "Requester"].contains(&payer) {
        return Err(Fault::malformed("`Payer` is BucketOwner or Requester"));
    }
    job.store().put_document(&job.bucket()?.info.name, document::PAYMENT, Some(payer.as_bytes().to_vec())).await?;
    Ok(Reply::ok().empty())
}

pub(super) fn get_logging() -> Response<Body> {
    Reply::ok().xml(Xml::answer("BucketLoggingStatus", |_xml| {}))
}

pub(super) fn get_accelerate() -> Response<Body> {
    Reply::ok().xml(Xml::answer("AccelerateConfiguration", |_xml| {}))
}

pub(super) fn get_replication() -> Answer {
    Err(Fault::new("ReplicationConfigurationNotFoundError", "The replication configuration was not found"))
}
