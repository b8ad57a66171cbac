//! Deleting objects and versions, one or many.

use dh_policy::access::{Decision, Permission};

use super::bucket::Bucket;
use super::conditions::{self, plain_tag, together};
use super::documents::check_md5;
use super::fault::Fault;
use super::job::{Access, Job, version};
use super::reply::{Answer, Reply, parse_time};
use super::route::Grantable;
use super::xml::{Node, Xml};
use crate::{Condition, DeleteRequest, Deleted, Error, Governance, Version, VersionId};

/// Keys of one request; S3's own limit.
const KEYS_MAX: usize = 1_000;

/// Whether the visitor wants and may pass over governance.
fn governance(job: &Job, key: &str) -> Governance {
    let wants =
        job.call.header("x-amz-bypass-governance-retention").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    if wants && allowed(job, "s3:BypassGovernanceRetention", Grantable::Never, key) {
        Governance::Bypassed
    } else {
        Governance::Holds
    }
}

fn allowed(job: &Job, action: &str, grantable: Grantable, key: &str) -> bool {
    let access = Access { action, grantable, bucket: job.bucket.as_deref(), key: Some(key), object: None };
    job.decide(access, &job.context(None)) == Decision::Allow
}

pub(super) async fn one(job: &mut Job) -> Answer {
    let key = job.call.key()?.to_owned();
    let request = DeleteRequest {
        version: version(&job.call)?,
        condition: conditions::of_write(&job.call)?,
        governance: governance(job, &key),
        owner: job.visitor.account().map(ToOwned::to_owned),
    };
    let result = job.store().delete_object(job.call.bucket()?, &key, request.clone()).await;
    let deleted = match result {
        Ok(deleted) => deleted,
        Err(error) => forgiving(job, &key, error, &request).await?,
    };
    let mut reply = Reply::no_content();
    if let Some(version) = deleted.version {
        reply.set("x-amz-version-id", version.to_string());
    }
    if deleted.marker {
        reply.set("x-amz-delete-marker", "true");
    }
    Ok(reply.empty())
}

/// Deleting what is not there succeeds, whatever was expected of it. A delete marker is there, and is not what was meant.
async fn forgiving(job: &Job, key: &str, error: Error, request: &DeleteRequest) -> Result<Deleted, Error> {
    if !matches!(error, Error::NoSuchKey { .. } | Error::NoSuchVersion { .. }) {
        return Err(error);
    }
    let any = matches!(request.condition, Condition::Always | Condition::IfPresent);
    if !any && request.version == Version::Latest {
        let bucket = job.bucket.as_ref().map(|bucket| bucket.info.name.as_str()).unwrap_or_default();
        if let Err(Error::DeleteMarker { .. }) = job.store().head(bucket, key).await {
            return Err(Error::Precondition("If-Match"));
        }
    }
    Ok(Deleted::default())
}

pub(super) struct Wanted {
    key: String,
    version: Option<String>,
    condition: Condition,
}

pub(super) fn wanted(root: &Node) -> Result<Vec<Wanted>, Fault> {
    let mut all = Vec::new();
    for node in root.all("Object") {
        let key =
            node.child("Key").map(|key| key.text.clone()).ok_or_else(|| Fault::malformed("an object has no key"))?;
        let mut conditions = Vec::new();
        if let Some(etag) = node.get("ETag") {
            let etag = plain_tag(etag);
            conditions.push(if etag == "*" { Condition::IfPresent } else { Condition::IfMatch(etag.to_owned()) });
        }
        if let Some(time) = node.get("LastModifiedTime") {
            let wrong = || Fault::malformed("`LastModifiedTime` is no time");
            conditions.push(Condition::IfModifiedAt(parse_time(time).ok_or_else(wrong)?));
        }
        if let Some(size) = node.number("Size")? {
            conditions.push(Condition::IfSize(size));
        }
        let version = node.get("VersionId").filter(|version| !version.is_empty()).map(ToOwned::to_owned);
        all.push(Wanted { key, version, condition: together(conditions) });
    }
    if all.is_empty() || all.len() > KEYS_MAX {
        return Err(Fault::malformed("a request deletes 1 to 1000 objects"));
    }
    Ok(all)
}

enum Outcome {
    Gone { key: String, asked: Option<String>, deleted: Deleted },
    Failed { key: String, asked: Option<String>, fault: Fault },
}

async fn delete(job: &Job, bucket: &Bucket, wanted: Wanted) -> Outcome {
    let Wanted { key, version, condition } = wanted;
    let failed = |fault: Fault, key: String, asked: Option<String>| Outcome::Failed { key, asked, fault };
    let parsed = match version.as_deref().map(VersionId::parse) {
        None => Version::Latest,
        Some(Some(id)) => Version::Id(id),
        Some(None) => {
            return failed(Fault::new("NoSuchVersion", "The specified version does not exist."), key, version);
        }
    };
    let action = if parsed == Version::Latest { "s3:DeleteObject" } else { "s3:DeleteObjectVersion" };
    if !allowed(job, action, Grantable::Bucket(Permission::Write), &key) {
        return failed(Fault::denied(), key, version);
    }
    let governance = governance(job, &key);
    let owner = job.visitor.account().map(ToOwned::to_owned);
    let request = DeleteRequest { version: parsed, condition, governance, owner };
    let result = job.store().delete_object(&bucket.info.name, &key, request.clone()).await;
    let result = match result {
        Ok(deleted) => Ok(deleted),
        Err(error) => forgiving(job, &key, error, &request).await,
    };
    match result {
        Ok(deleted) => Outcome::Gone { key, asked: version, deleted },
        Err(error) => failed(Fault::from(error), key, version),
    }
}

pub(super) async fn many(job: &mut Job) -> Answer {
    let body = job.payload.document().await?;
    check_md5(job, &body)?;
    let root = Node::root(&body, "Delete")?;
    let quiet = root.get("Quiet").is_some_and(|quiet| quiet.eq_ignore_ascii_case("true"));
    let wanted = wanted(&root)?;
    let job: &Job = job;
    let bucket = job.bucket()?;
    let deletes = wanted.into_iter().map(|wanted| delete(job, bucket, wanted));
    // Together, so that they share the syncs of one commit.
    let outcomes = futures::future::join_all(deletes).await;
    let document = Xml::answer("DeleteResult", |xml| {
        for outcome in &outcomes {
            match outcome {
                Outcome::Gone { .. } if quiet => {}
                Outcome::Gone { key, asked, deleted } => xml.element("Deleted", |xml| {
                    xml.leaf("Key", key);
                    xml.maybe("VersionId", asked.as_ref());
                    if deleted.marker {
                        xml.leaf("DeleteMarker", true);
                        xml.maybe("DeleteMarkerVersionId", deleted.version);
                    }
                }),
                Outcome::Failed { key, asked, fault } => xml.element("Error", |xml| {
                    xml.leaf("Key", key);
                    xml.maybe("VersionId", asked.as_ref());
                    xml.leaf("Code", fault.code);
                    xml.leaf("Message", &fault.message);
                }),
            }
        }
    });
    Ok(Reply::ok().xml(document))
}
