//! Lifecycle documents: checked when they are put, and asked what they mean for an object.
//!
//! Source: Amazon S3 User Guide, "Lifecycle configuration elements".

use super::bucket::document;
use super::fault::Fault;
use super::job::Job;
use super::reply::parse_time;
use super::xml::Node;
use crate::ObjectInfo;
use crate::identity::random_text;

/// Rules of one document; S3's own limit.
const RULES_MAX: usize = 1_000;

/// A day.
pub(super) const DAY_MS: u64 = 86_400_000;

fn positive(node: &Node, name: &str) -> Result<(), Fault> {
    match node.number::<i64>(name)? {
        Some(number) if number < 1 => Err(Fault::argument(format!("'{name}' must be a positive integer"))),
        Some(_) | None => Ok(()),
    }
}

/// A date of a rule: midnight of a day in UTC.
fn check_date(node: &Node) -> Result<(), Fault> {
    match node.get("Date") {
        None => Ok(()),
        Some(text) => {
            let wrong = || Fault::malformed("`Date` is no time");
            let ms = parse_time(text).ok_or_else(wrong)?;
            if ms % DAY_MS == 0 { Ok(()) } else { Err(Fault::argument("'Date' must be at midnight GMT")) }
        }
    }
}

/// Refuses documents that S3 does not take; gives ids to rules without one.
pub(super) fn check(root: &mut Node) -> Result<(), Fault> {
    let rules = root.all("Rule").count();
    if rules == 0 || rules > RULES_MAX {
        return Err(Fault::malformed("a lifecycle has 1 to 1000 rules"));
    }
    let mut ids: Vec<String> = Vec::new();
    for rule in root.children.iter_mut().filter(|child| child.name == "Rule") {
        let id = match rule.get("ID") {
            Some(id) if id.chars().count() > 255 => {
                return Err(Fault::argument("ID length should not exceed allowed limit of 255"));
            }
            Some(id) if !id.is_empty() => id.to_owned(),
            Some(_) | None => {
                let id = random_text(24, b"abcdefghijklmnopqrstuvwxyz012345")?;
                rule.children.retain(|child| child.name != "ID");
                rule.children.insert(0, Node { name: "ID".to_owned(), text: id.clone(), ..Node::default() });
                id
            }
        };
        if ids.contains(&id) {
            return Err(Fault::argument("RuleId must be unique. Found same ID for more than one rule"));
        }
        ids.push(id);
        if !matches!(rule.get("Status"), Some("Enabled" | "Disabled")) {
            return Err(Fault::malformed("`Status` is Enabled or Disabled"));
        }
        if rule.child("Filter").is_some() && rule.child("Prefix").is_some() {
            return Err(Fault::malformed("a rule has `Filter` or `Prefix`, not both"));
        }
        let mut actions = 0;
        for child in &rule.children {
            match child.name.as_str() {
                "Expiration" => {
                    positive(child, "Days")?;
                    check_date(child)?;
                    let named = ["Days", "Date", "ExpiredObjectDeleteMarker"]
                        .iter()
                        .filter(|name| child.child(name).is_some())
                        .count();
                    if named != 1 {
                        return Err(Fault::malformed(
                            "an expiration has one of `Days`, `Date`, `ExpiredObjectDeleteMarker`",
                        ));
                    }
                }
                "NoncurrentVersionExpiration" => {
                    positive(child, "NoncurrentDays")?;
                    positive(child, "NewerNoncurrentVersions")?;
                }
                "AbortIncompleteMultipartUpload" => positive(child, "DaysAfterInitiation")?,
                "Transition" => {
                    check_date(child)?;
                    child.need("StorageClass")?;
                }
                "NoncurrentVersionTransition" => {
                    child.need("StorageClass")?;
                }
                _other => continue,
            }
            actions += 1;
        }
        if actions == 0 {
            return Err(Fault::malformed("a rule has at least one action"));
        }
    }
    Ok(())
}

/// Whether a rule's prefixes are those of a key.
pub(super) fn fits_prefix(rule: &Node, key: &str) -> bool {
    let fits = |node: &Node| node.get("Prefix").is_none_or(|prefix| key.starts_with(prefix));
    let filter = rule.child("Filter");
    fits(rule) && filter.is_none_or(|filter| fits(filter) && filter.child("And").is_none_or(fits))
}

/// Whether a rule is about an object.
pub(super) fn applies(rule: &Node, key: &str, info: &ObjectInfo) -> bool {
    let tags = |node: &Node| {
        node.all("Tag").all(|tag| {
            let want = (tag.get("Key").unwrap_or_default(), tag.get("Value").unwrap_or_default());
            info.meta.tags.iter().any(|(name, value)| (name.as_str(), value.as_str()) == want)
        })
    };
    let size = |node: &Node| {
        let bound = |name: &str| node.get(name).and_then(|text| text.parse::<u64>().ok());
        bound("ObjectSizeGreaterThan").is_none_or(|least| info.size > least)
            && bound("ObjectSizeLessThan").is_none_or(|most| info.size < most)
    };
    let rest = |node: &Node| tags(node) && size(node);
    let filter = rule.child("Filter");
    fits_prefix(rule, key) && filter.is_none_or(|filter| rest(filter) && filter.child("And").is_none_or(rest))
}

/// When a rule expires an object that was written at `modified_ms`, if it does.
pub(super) fn due(rule: &Node, modified_ms: u64, day_ms: u64) -> Option<u64> {
    let expiration = rule.child("Expiration")?;
    match (expiration.number::<u64>("Days").ok()?, expiration.get("Date").and_then(parse_time)) {
        (Some(days), _) => {
            let due = modified_ms.saturating_add(days.saturating_mul(day_ms));
            // S3 rounds up to the next midnight.
            Some(if day_ms == DAY_MS { due.div_ceil(DAY_MS).saturating_mul(DAY_MS) } else { due })
        }
        (None, date) => date,
    }
}

/// The rule that expires an object, and when.
pub(super) fn expiration(job: &Job, info: &ObjectInfo) -> Option<(String, u64)> {
    let bytes = job.bucket.as_ref()?.document(document::LIFECYCLE)?;
    let root = Node::parse(bytes).ok()?;
    let key = job.call.key.as_deref()?;
    let day_ms = job.front.options.day_seconds.map_or(DAY_MS, |seconds| seconds.saturating_mul(1_000));
    root.all("Rule")
        .filter(|rule| rule.get("Status") == Some("Enabled") && applies(rule, key, info))
        .filter_map(|rule| Some((rule.get("ID").unwrap_or_default().to_owned(), due(rule, info.modified_ms, day_ms)?)))
        .min_by_key(|(_rule, at)| *at)
}
