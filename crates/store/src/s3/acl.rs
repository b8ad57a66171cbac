//! Access lists: the four ways clients write them, and the one way they are read.

use dh_policy::access::{Acl, Grant, Grantee, Permission};
use http::Response;

use super::bucket::{Bucket, Ownership, document};
use super::bucket_ops::owner_element;
use super::call::Call;
use super::fault::Fault;
use super::job::{Job, object_acl, object_owner};
use super::reply::{Answer, Body, Reply};
use super::visitor::HOUSE;
use super::xml::{Node, Xml};
use crate::identity::Accounts;
use crate::{Annotation, Condition, ObjectInfo};

const ALL_USERS: &str = "http://acs.amazonaws.com/groups/global/AllUsers";
const AUTHENTICATED: &str = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers";
const LOG_DELIVERY: &str = "http://acs.amazonaws.com/groups/s3/LogDelivery";

/// Grants of one list; S3's own limit.
const GRANTS_MAX: usize = 100;

const PERMISSIONS: &[(&str, Permission)] = &[
    ("FULL_CONTROL", Permission::FullControl),
    ("READ", Permission::Read),
    ("WRITE", Permission::Write),
    ("READ_ACP", Permission::ReadAcp),
    ("WRITE_ACP", Permission::WriteAcp),
];

const GRANT_HEADERS: &[(&str, Permission)] = &[
    ("x-amz-grant-read", Permission::Read),
    ("x-amz-grant-write", Permission::Write),
    ("x-amz-grant-read-acp", Permission::ReadAcp),
    ("x-amz-grant-write-acp", Permission::WriteAcp),
    ("x-amz-grant-full-control", Permission::FullControl),
];

/// The form in which lists are stored.
pub(super) fn written(acl: &Acl) -> Result<Vec<u8>, Fault> {
    serde_json::to_vec(acl).map_err(|_error| Fault::new("InternalError", "the access list cannot be written"))
}

fn grant(grantee: Grantee, permission: Permission) -> Grant {
    Grant { grantee, permission }
}

/// The list that a name stands for.
fn canned(name: &str, owner: &str, bucket_owner: &str) -> Result<Acl, Fault> {
    let mut acl = Acl::private(owner);
    let bucket_owner = || Grantee::Account(bucket_owner.to_owned());
    match name {
        "private" | "aws-exec-read" => {}
        "public-read" => acl.grants.push(grant(Grantee::AllUsers, Permission::Read)),
        "public-read-write" => {
            acl.grants.push(grant(Grantee::AllUsers, Permission::Read));
            acl.grants.push(grant(Grantee::AllUsers, Permission::Write));
        }
        "authenticated-read" => acl.grants.push(grant(Grantee::AuthenticatedUsers, Permission::Read)),
        "bucket-owner-read" => acl.grants.push(grant(bucket_owner(), Permission::Read)),
        "bucket-owner-full-control" => acl.grants.push(grant(bucket_owner(), Permission::FullControl)),
        "log-delivery-write" => {
            acl.grants.push(grant(Grantee::LogDelivery, Permission::Write));
            acl.grants.push(grant(Grantee::LogDelivery, Permission::ReadAcp));
        }
        _other => {
            return Err(Fault::argument("the canned access list is unknown")
                .with("ArgumentName", "x-amz-acl")
                .with("ArgumentValue", name));
        }
    }
    acl.grants.dedup();
    Ok(acl)
}

fn group(uri: &str) -> Result<Grantee, Fault> {
    match uri {
        ALL_USERS => Ok(Grantee::AllUsers),
        AUTHENTICATED => Ok(Grantee::AuthenticatedUsers),
        LOG_DELIVERY => Ok(Grantee::LogDelivery),
        _other => Err(Fault::argument("Invalid group uri").with("ArgumentName", "uri").with("ArgumentValue", uri)),
    }
}

fn account(accounts: &Accounts, id: &str) -> Result<Grantee, Fault> {
    match accounts.user(id) {
        Some(user) => Ok(Grantee::Account(user.account.clone())),
        None if id == HOUSE => Ok(Grantee::Account(id.to_owned())),
        None => Err(Fault::argument("Invalid id").with("ArgumentName", "CanonicalUser/ID").with("ArgumentValue", id)),
    }
}

fn email(accounts: &Accounts, address: &str) -> Result<Grantee, Fault> {
    let user = accounts.by_email(address);
    user.map(|user| Grantee::Account(user.account.clone())).ok_or_else(|| {
        Fault::new(
            "UnresolvableGrantByEmailAddress",
            "The email address you provided does not match any account on record.",
        )
    })
}

/// The list that a request's headers ask for, if they do.
pub(super) fn from_headers(job: &Job, owner: &str, bucket_owner: &str) -> Result<Option<Acl>, Fault> {
    headers(&job.call, &job.front.accounts, owner, bucket_owner)
}

fn headers(call: &Call, accounts: &Accounts, owner: &str, bucket_owner: &str) -> Result<Option<Acl>, Fault> {
    let name = call.header("x-amz-acl").filter(|name| !name.is_empty());
    let mut grants = Vec::new();
    for (header, permission) in GRANT_HEADERS {
        let Some(value) = call.header(header) else { continue };
        for one in value.split(',').map(str::trim).filter(|one| !one.is_empty()) {
            let (kind, who) =
                one.split_once('=').ok_or_else(|| Fault::argument("a grant's header is written kind=\"value\""))?;
            let who = who.trim().trim_matches('"');
            let grantee = match kind.trim().to_ascii_lowercase().as_str() {
                "id" => account(accounts, who)?,
                "uri" => group(who)?,
                "emailaddress" => email(accounts, who)?,
                _other => return Err(Fault::argument("a grant names id, uri or emailAddress")),
            };
            grants.push(grant(grantee, *permission));
        }
    }
    match (name, grants.is_empty()) {
        (Some(_), false) => Err(Fault::request("Specifying both Canned ACLs and Header Grants is not allowed")),
        (Some(name), true) => canned(name, owner, bucket_owner).map(Some),
        (None, false) => Ok(Some(Acl { grants })),
        (None, true) => Ok(None),
    }
}

/// The list of a form's `acl` field.
pub(super) fn from_name(name: &str, owner: &str, bucket_owner: &str) -> Result<Acl, Fault> {
    canned(name, owner, bucket_owner)
}

fn from_xml(accounts: &Accounts, body: &[u8], owner: &str) -> Result<Acl, Fault> {
    let root = Node::root(body, "AccessControlPolicy")?;
    let said = root.child("Owner").ok_or_else(|| Fault::malformed("the list names no owner"))?;
    if said.get("ID").is_some_and(|id| id != owner) {
        return Err(Fault::denied());
    }
    let list =
        root.child("AccessControlList").ok_or_else(|| Fault::malformed("the list has no `AccessControlList`"))?;
    let mut acl = Acl::default();
    for node in list.all("Grant") {
        let who = node.child("Grantee").ok_or_else(|| Fault::malformed("a grant has no grantee"))?;
        let grantee = match who.kind.as_deref() {
            Some("Group") => group(who.need("URI")?)?,
            Some("AmazonCustomerByEmail") => email(accounts, who.need("EmailAddress")?)?,
            Some("CanonicalUser") => account(accounts, who.need("ID")?)?,
            Some(_) | None => return Err(Fault::malformed("a grantee's type is unknown")),
        };
        let name = node.need("Permission")?;
        let permission = PERMISSIONS.iter().find(|(known, _permission)| *known == name);
        let (_name, permission) = permission.ok_or_else(|| Fault::malformed("a permission is unknown"))?;
        acl.grants.push(grant(grantee, *permission));
    }
    if acl.grants.len() > GRANTS_MAX {
        return Err(Fault::malformed("an access list has at most 100 grants"));
    }
    Ok(acl)
}

fn show(job: &Job, acl: &Acl, owner: &str) -> Response<Body> {
    const XSI: &str = "xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"";
    let document = Xml::answer("AccessControlPolicy", |xml| {
        owner_element(job, xml, "Owner", owner);
        xml.element("AccessControlList", |xml| {
            // Groups first, as clients expect them.
            let named = |grant: &&Grant| matches!(grant.grantee, Grantee::Account(_));
            let groups = acl.grants.iter().filter(|grant| !named(grant));
            for Grant { grantee, permission } in groups.chain(acl.grants.iter().filter(named)) {
                let uri = match grantee {
                    Grantee::Account(_) => None,
                    Grantee::AllUsers => Some(ALL_USERS),
                    Grantee::AuthenticatedUsers => Some(AUTHENTICATED),
                    Grantee::LogDelivery => Some(LOG_DELIVERY),
                };
                xml.element("Grant", |xml| {
                    match (grantee, uri) {
                        (Grantee::Account(id), _) => {
                            let user = job.front.accounts.user(id);
                            let shown = user.map_or_else(|| id.clone(), |user| user.display_name.clone());
                            xml.attributed("Grantee", &format!("{XSI} xsi:type=\"CanonicalUser\""), |xml| {
                                xml.leaf("ID", id);
                                xml.leaf("DisplayName", shown);
                            });
                        }
                        (Grantee::AllUsers | Grantee::AuthenticatedUsers | Grantee::LogDelivery, uri) => {
                            xml.attributed("Grantee", &format!("{XSI} xsi:type=\"Group\""), |xml| {
                                xml.maybe("URI", uri);
                            });
                        }
                    }
                    let name =
                        PERMISSIONS.iter().find(|(_name, known)| known == permission).map(|(name, _known)| *name);
                    xml.maybe("Permission", name);
                });
            }
        });
    });
    Reply::ok().xml(document)
}

/// Refuses lists where they do not count or may not be public.
pub(super) fn check(bucket: &Bucket, acl: &Acl) -> Result<(), Fault> {
    if bucket.ownership == Ownership::Enforced {
        let harmless =
            acl.grants.iter().all(|grant| matches!(&grant.grantee, Grantee::Account(id) if *id == bucket.owner));
        if !harmless {
            return Err(Fault::new("AccessControlListNotSupported", "The bucket does not allow ACLs"));
        }
    }
    if bucket.block.block_acls && acl.is_public() {
        return Err(Fault::denied());
    }
    Ok(())
}

/// The owner and the stored list of an object that is written.
pub(super) fn of_new_object(job: &Job) -> Result<(Option<String>, Option<Vec<u8>>), Fault> {
    let bucket = job.bucket()?;
    // Nobody in particular cannot own anything.
    let writer = job.visitor.account().unwrap_or(&bucket.owner).to_owned();
    let canned = job.call.header("x-amz-acl");
    let gives = canned == Some("bucket-owner-full-control");
    let grants = GRANT_HEADERS.iter().any(|(header, _permission)| job.call.header(header).is_some());
    if bucket.ownership == Ownership::Enforced && ((canned.is_some() && !gives) || grants) {
        return Err(Fault::new("AccessControlListNotSupported", "The bucket does not allow ACLs"));
    }
    let owner = match bucket.ownership {
        Ownership::Enforced => bucket.owner.clone(),
        Ownership::Preferred if gives => bucket.owner.clone(),
        Ownership::Preferred | Ownership::Writer => writer,
    };
    let acl = from_headers(job, &owner, &bucket.owner)?;
    if let Some(acl) = &acl {
        check(bucket, acl)?;
    }
    let stored = acl.as_ref().map(written).transpose()?;
    Ok((Some(owner), stored.filter(|_stored| bucket.ownership != Ownership::Enforced)))
}

pub(super) fn get_bucket(job: &Job) -> Answer {
    let bucket = job.bucket()?;
    let acl = if bucket.ownership == Ownership::Enforced { Acl::private(&bucket.owner) } else { bucket.acl.clone() };
    Ok(show(job, &acl, &bucket.owner))
}

pub(super) async fn put_bucket(job: &mut Job) -> Answer {
    let body = job.payload.document().await?;
    let bucket = job.bucket()?;
    let acl = asked(job, &body, &bucket.owner)?;
    if bucket.ownership == Ownership::Enforced {
        return Err(Fault::new("AccessControlListNotSupported", "The bucket does not allow ACLs"));
    }
    check(bucket, &acl)?;
    job.store().put_document(&bucket.info.name, document::ACL, Some(written(&acl)?)).await?;
    Ok(Reply::ok().empty())
}

fn asked(job: &Job, body: &[u8], owner: &str) -> Result<Acl, Fault> {
    let bucket = job.bucket()?;
    match from_headers(job, owner, &bucket.owner)? {
        Some(acl) => Ok(acl),
        None if body.is_empty() => {
            Err(Fault::new("MissingSecurityHeader", "Your request was missing a required header")
                .with("MissingHeaderName", "x-amz-acl"))
        }
        None => from_xml(&job.front.accounts, body, owner),
    }
}

pub(super) fn get_object(job: &Job) -> Answer {
    let (bucket, object) = (job.bucket()?, job.object()?);
    let owner = object_owner(object, bucket).to_owned();
    let acl = if bucket.ownership == Ownership::Enforced { Acl::private(&owner) } else { object_acl(object, bucket) };
    let mut response = show(job, &acl, &owner);
    version_header(&mut response, object);
    Ok(response)
}

fn version_header(response: &mut Response<Body>, object: &ObjectInfo) {
    if let Ok(value) = http::HeaderValue::try_from(object.version.to_string())
        && object.version != crate::VersionId::Null
    {
        response.headers_mut().insert("x-amz-version-id", value);
    }
}

pub(super) async fn put_object(job: &mut Job) -> Answer {
    let body = job.payload.document().await?;
    let (bucket, object) = (job.bucket()?, job.object()?);
    let owner = object_owner(object, bucket).to_owned();
    let acl = asked(job, &body, &owner)?;
    if bucket.ownership == Ownership::Enforced {
        return Err(Fault::new("AccessControlListNotSupported", "The bucket does not allow ACLs"));
    }
    check(bucket, &acl)?;
    let change = Annotation::Acl(Some(written(&acl)?));
    let info =
        job.store().annotate(&bucket.info.name, job.call.key()?, job.version()?, change, Condition::Always).await?;
    let mut response = Reply::ok().empty();
    version_header(&mut response, &info);
    Ok(response)
}
