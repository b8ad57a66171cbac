//! Operations on buckets themselves.

use http::{Response, StatusCode};

use super::acl;
use super::bucket::{Ownership, document};
use super::fault::Fault;
use super::job::Job;
use super::reply::{Answer, Body, Reply, iso};
use super::visitor::HOUSE;
use super::xml::{Node, Xml};
use crate::{BucketStart, Error, Locking, Versioning};

/// The most buckets of one page.
const BUCKETS_MAX: usize = 10_000;

pub(super) fn owner_element(job: &Job, xml: &mut Xml, name: &str, id: &str) {
    let shown = job.front.accounts.user(id).map_or_else(|| id.to_owned(), |user| user.display_name.clone());
    xml.element(name, |xml| {
        xml.leaf("ID", id);
        xml.leaf("DisplayName", shown);
    });
}

pub(super) async fn list(job: &mut Job) -> Answer {
    let call = &job.call;
    // Nobody in particular owns nothing, which is what nobody sees.
    let account = job.visitor.account().unwrap_or("anonymous").to_owned();
    let prefix = call.ask("prefix").unwrap_or_default();
    let after = call.ask("continuation-token").unwrap_or_default();
    let most: Option<usize> = call.ask_number("max-buckets")?;
    if most.is_some_and(|most| most == 0 || most > BUCKETS_MAX) {
        return Err(Fault::argument("max-buckets is from 1 to 10000"));
    }
    let most = most.unwrap_or(BUCKETS_MAX);
    let mut buckets: Vec<_> = job.store().buckets().await?;
    buckets.retain(|bucket| {
        let owner = bucket.owner.as_deref().unwrap_or(HOUSE);
        (owner == account) && bucket.name.starts_with(prefix) && bucket.name.as_str() > after
    });
    let more = buckets.len() > most;
    buckets.truncate(most);
    let next = buckets.last().filter(|_last| more).map(|last| last.name.clone());
    let document = Xml::answer("ListAllMyBucketsResult", |xml| {
        owner_element(job, xml, "Owner", &account);
        xml.element("Buckets", |xml| {
            for bucket in &buckets {
                xml.element("Bucket", |xml| {
                    xml.leaf("Name", &bucket.name);
                    xml.leaf("CreationDate", iso(bucket.created_ms));
                });
            }
        });
        xml.maybe("ContinuationToken", next);
        xml.maybe("Prefix", call.ask("prefix"));
    });
    Ok(Reply::ok().xml(document))
}

pub(super) async fn create(job: &mut Job) -> Answer {
    let name = job.call.bucket()?.to_owned();
    let Some(account) = job.visitor.account().map(ToOwned::to_owned) else { return Err(Fault::denied()) };
    if !crate::buckets::is_name(&name) {
        return Err(Fault::new("InvalidBucketName", "The specified bucket is not valid.").with("BucketName", name));
    }
    let body = job.payload.document().await?;
    if !body.is_empty() {
        let root = Node::root(&body, "CreateBucketConfiguration")?;
        let region = root.get("LocationConstraint").unwrap_or_default();
        if !["", "us-east-1", "EU", &job.front.options.region].contains(&region) {
            return Err(Fault::new("InvalidLocationConstraint", "The specified location-constraint is not valid"));
        }
    }
    let ownership = match job.call.header("x-amz-object-ownership") {
        None => None,
        Some(name) => Some(Ownership::parse(name).ok_or_else(|| Fault::argument("x-amz-object-ownership is unknown"))?),
    };
    let asked = acl::from_headers(job, &account, &account)?;
    if ownership == Some(Ownership::Enforced)
        && asked.as_ref().is_some_and(|asked| *asked != dh_policy::access::Acl::private(&account))
    {
        return Err(Fault::new(
            "InvalidBucketAclWithObjectOwnership",
            "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting",
        ));
    }
    let lock =
        job.call.header("x-amz-bucket-object-lock-enabled").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let start = BucketStart {
        owner: Some(account.clone()),
        object_lock: if lock { Locking::On } else { Locking::Off },
        ..BucketStart::default()
    };
    match job.store().create_bucket_with(&name, start).await {
        Ok(()) => {}
        Err(Error::BucketExists(_)) => {
            let there = job.front.bucket(&name).await?;
            if there.owner != account {
                return Err(Fault::new("BucketAlreadyExists", "The requested bucket name is not available. The bucket namespace is shared by all users of the system.").with("BucketName", name));
            }
            // Making the same bucket again succeeds, as it always did in the first region; another list is another bucket.
            let same = asked.unwrap_or_else(|| dh_policy::access::Acl::private(&account)) == there.acl;
            if !same {
                return Err(Fault::new("BucketAlreadyExists", "The bucket exists with another access list.")
                    .with("BucketName", name));
            }
            return Ok(Reply::ok().with("location", format!("/{name}")).empty());
        }
        Err(error) => return Err(error.into()),
    }
    if let Some(acl) = asked {
        job.store().put_document(&name, document::ACL, Some(acl::written(&acl)?)).await?;
    }
    if let Some(ownership) = ownership {
        job.store().put_document(&name, document::OWNERSHIP, Some(ownership.name().as_bytes().to_vec())).await?;
    }
    Ok(Reply::ok().with("location", format!("/{name}")).empty())
}

pub(super) async fn delete(job: &mut Job) -> Answer {
    job.store().delete_bucket(job.call.bucket()?).await?;
    Ok(Reply::no_content().empty())
}

pub(super) fn head(job: &Job) -> Answer {
    let mut reply = Reply::ok().with("x-amz-bucket-region", &job.front.options.region);
    // What Ceph's clients ask for.
    if job.call.has("read-stats") || job.call.header("x-rgw-read-stats").is_some() {
        let name = &job.bucket()?.info.name;
        let usage = job.store().stats().per_bucket.get(name).copied().unwrap_or_default();
        reply.set("x-rgw-object-count", usage.objects.to_string());
        reply.set("x-rgw-bytes-used", usage.logical_bytes.to_string());
    }
    Ok(reply.empty())
}

pub(super) fn location(job: &Job) -> Response<Body> {
    let region = &job.front.options.region;
    // S3 says us-east-1 by saying nothing.
    let shown = if region == "us-east-1" { "" } else { region.as_str() };
    let mut xml = Xml::document();
    xml.attributed("LocationConstraint", &format!("xmlns=\"{}\"", super::xml::S3), |xml| xml.push_text(shown));
    Reply::ok().xml(xml.finish())
}

pub(super) fn versioning(job: &Job) -> Answer {
    let status = match job.bucket()?.info.versioning {
        Versioning::Unversioned => None,
        Versioning::Enabled => Some("Enabled"),
        Versioning::Suspended => Some("Suspended"),
    };
    let document = Xml::answer("VersioningConfiguration", |xml| xml.maybe("Status", status));
    Ok(Reply::ok().xml(document))
}

pub(super) async fn set_versioning(job: &mut Job) -> Answer {
    let body = job.payload.document().await?;
    let root = Node::root(&body, "VersioningConfiguration")?;
    let versioning = match root.get("Status") {
        Some("Enabled") => Versioning::Enabled,
        Some("Suspended") => Versioning::Suspended,
        Some(_) | None => return Err(Fault::malformed("`Status` is Enabled or Suspended")),
    };
    if root.get("MfaDelete") == Some("Enabled") {
        return Err(Fault::unknown_operation());
    }
    let info = &job.bucket()?.info;
    if versioning == Versioning::Suspended && info.object_lock == Locking::On {
        return Err(Fault::new(
            "InvalidBucketState",
            "An Object Lock configuration is present on this bucket, so the versioning state cannot be changed.",
        ));
    }
    job.store().set_versioning(&info.name, versioning).await?;
    Ok(Reply::new(StatusCode::OK).empty())
}
