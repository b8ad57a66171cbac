//! What may be said about an object later: tags, retention, legal hold.

use super::documents::tags;
use super::fault::Fault;
use super::get::mode_name;
use super::job::Job;
use super::reply::{Answer, Reply, iso, parse_time};
use super::xml::{Node, Xml};
use crate::{
    Annotation, Condition, Governance, LegalHold, Locking, ObjectInfo, ObjectLock, Retention, RetentionMode, VersionId,
};

use super::bucket::document;

/// Refuses tags that S3 does not take. `most`: ten for objects, fifty for buckets.
pub(super) fn check_tags(tags: &[(String, String)], most: usize) -> Result<(), Fault> {
    if tags.len() > most {
        return Err(Fault::new("InvalidTag", format!("tags cannot be more than {most}")));
    }
    for (index, (name, value)) in tags.iter().enumerate() {
        let name_length = name.chars().count();
        if name_length == 0 || name_length > 128 {
            return Err(Fault::new("InvalidTag", "The TagKey you have provided is invalid"));
        }
        if value.chars().count() > 256 {
            return Err(Fault::new("InvalidTag", "The TagValue you have provided is invalid"));
        }
        if tags.iter().skip(index + 1).any(|(other, _value)| other == name) {
            return Err(Fault::new("InvalidTag", "Cannot provide multiple Tags with the same key"));
        }
    }
    Ok(())
}

fn mode(name: &str) -> Result<RetentionMode, Fault> {
    match name {
        "GOVERNANCE" => Ok(RetentionMode::Governance),
        "COMPLIANCE" => Ok(RetentionMode::Compliance),
        _other => Err(Fault::malformed("a retention's mode is GOVERNANCE or COMPLIANCE")),
    }
}

fn hold(name: &str) -> Result<LegalHold, Fault> {
    match name {
        "ON" => Ok(LegalHold::On),
        "OFF" => Ok(LegalHold::Off),
        _other => Err(Fault::malformed("a legal hold is ON or OFF")),
    }
}

fn no_lock() -> Fault {
    Fault::request("Bucket is missing Object Lock Configuration")
}

/// The retention that the bucket gives to new objects.
fn default_retention(job: &Job) -> Result<Option<Retention>, Fault> {
    let Some(bytes) = job.bucket()?.document(document::LOCK) else { return Ok(None) };
    let root = Node::parse(bytes)?;
    let Some(rule) = root.child("Rule").and_then(|rule| rule.child("DefaultRetention")) else { return Ok(None) };
    let days = match (rule.number::<u64>("Days")?, rule.number::<u64>("Years")?) {
        (Some(days), _) => days,
        (None, Some(years)) => years.saturating_mul(365),
        (None, None) => return Ok(None),
    };
    let until_ms = job.call.now_ms.saturating_add(days.saturating_mul(86_400_000));
    Ok(Some(Retention { mode: mode(rule.get("Mode").unwrap_or_default())?, until_ms }))
}

/// What keeps a new object: what the request says, else the bucket's default.
pub(super) fn new_lock(job: &Job) -> Result<ObjectLock, Fault> {
    let call = &job.call;
    let (said_mode, said_until, said_hold) = (
        call.header("x-amz-object-lock-mode"),
        call.header("x-amz-object-lock-retain-until-date"),
        call.header("x-amz-object-lock-legal-hold"),
    );
    let on = job.bucket()?.info.object_lock == Locking::On;
    if !on {
        return match (said_mode, said_until, said_hold) {
            (None, None, None) => Ok(ObjectLock::default()),
            (Some(_) | None, Some(_) | None, Some(_) | None) => Err(no_lock()),
        };
    }
    let retention = match (said_mode, said_until) {
        (None, None) => default_retention(job)?,
        (Some(name), Some(until)) => {
            let wrong = || Fault::argument("x-amz-object-lock-retain-until-date is no time");
            let mode = mode(name).map_err(|_fault| Fault::argument("Unknown wormMode directive."))?;
            let until_ms = parse_time(until).ok_or_else(wrong)?;
            if until_ms <= call.now_ms {
                return Err(Fault::argument("The retain until date must be in the future!"));
            }
            Some(Retention { mode, until_ms })
        }
        (Some(_), None) | (None, Some(_)) => {
            return Err(Fault::argument(
                "x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied",
            ));
        }
    };
    let legal_hold = said_hold
        .map(hold)
        .transpose()
        .map_err(|_fault| Fault::argument("Legal Hold must be either of 'ON' or 'OFF'"))?;
    Ok(ObjectLock { retention, legal_hold })
}

fn versioned(mut reply: Reply, info: &ObjectInfo) -> Reply {
    if info.version != VersionId::Null {
        reply.set("x-amz-version-id", info.version.to_string());
    }
    reply
}

async fn annotate(job: &Job, change: Annotation) -> Result<ObjectInfo, Fault> {
    let (bucket, key) = (job.call.bucket()?, job.call.key()?);
    Ok(job.store().annotate(bucket, key, job.version()?, change, Condition::Always).await?)
}

pub(super) fn get_tags(job: &Job) -> Answer {
    let info = job.object()?;
    let mut tags: Vec<&(String, String)> = info.meta.tags.iter().collect();
    tags.sort();
    let document = Xml::answer("Tagging", |xml| {
        xml.element("TagSet", |xml| {
            for (name, value) in tags {
                xml.element("Tag", |xml| {
                    xml.leaf("Key", name);
                    xml.leaf("Value", value);
                });
            }
        });
    });
    Ok(versioned(Reply::ok(), info).xml(document))
}

pub(super) async fn put_tags(job: &mut Job) -> Answer {
    let body = job.payload.document().await?;
    let tags = tags(&Node::root(&body, "Tagging")?)?;
    check_tags(&tags, 10)?;
    let info = annotate(job, Annotation::Tags(tags)).await?;
    Ok(versioned(Reply::ok(), &info).empty())
}

pub(super) async fn delete_tags(job: &mut Job) -> Answer {
    let info = annotate(job, Annotation::Tags(Vec::new())).await?;
    Ok(versioned(Reply::no_content(), &info).empty())
}

fn missing() -> Fault {
    Fault::new("NoSuchObjectLockConfiguration", "The specified object does not have a ObjectLock configuration")
}

pub(super) fn get_retention(job: &Job) -> Answer {
    if job.bucket()?.info.object_lock == Locking::Off {
        return Err(no_lock());
    }
    let retention = job.object()?.meta.lock.retention.ok_or_else(missing)?;
    let document = Xml::answer("Retention", |xml| {
        xml.leaf("Mode", mode_name(retention.mode));
        xml.leaf("RetainUntilDate", iso(retention.until_ms));
    });
    Ok(Reply::ok().xml(document))
}

pub(super) async fn put_retention(job: &mut Job) -> Answer {
    let body = job.payload.document().await?;
    if job.bucket()?.info.object_lock == Locking::Off {
        return Err(no_lock());
    }
    let root = Node::root(&body, "Retention")?;
    let retention = match (root.get("Mode"), root.get("RetainUntilDate")) {
        (None, None) => None,
        (Some(name), Some(until)) => {
            let wrong = || Fault::malformed("`RetainUntilDate` is no time");
            let retention = Retention { mode: mode(name)?, until_ms: parse_time(until).ok_or_else(wrong)? };
            if retention.until_ms <= job.call.now_ms {
                return Err(Fault::argument("The retain until date must be in the future!"));
            }
            Some(retention)
        }
        (Some(_), None) | (None, Some(_)) => return Err(Fault::malformed("a retention has a mode and a date")),
    };
    let wants =
        job.call.header("x-amz-bypass-governance-retention").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let may = wants && job.also("s3:BypassGovernanceRetention", job.object.as_ref());
    let governance = if may { Governance::Bypassed } else { Governance::Holds };
    let info = annotate(job, Annotation::Retention(retention, governance)).await?;
    Ok(versioned(Reply::ok(), &info).empty())
}

pub(super) fn get_legal_hold(job: &Job) -> Answer {
    if job.bucket()?.info.object_lock == Locking::Off {
        return Err(no_lock());
    }
    let hold = job.object()?.meta.lock.legal_hold.ok_or_else(missing)?;
    let document = Xml::answer("LegalHold", |xml| xml.leaf("Status", if hold == LegalHold::On { "ON" } else { "OFF" }));
    Ok(Reply::ok().xml(document))
}

pub(super) async fn put_legal_hold(job: &mut Job) -> Answer {
    let body = job.payload.document().await?;
    if job.bucket()?.info.object_lock == Locking::Off {
        return Err(no_lock());
    }
    let hold = hold(Node::root(&body, "LegalHold")?.need("Status")?)?;
    let info = annotate(job, Annotation::LegalHold(hold)).await?;
    Ok(versioned(Reply::ok(), &info).empty())
}
