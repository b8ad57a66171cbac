//! Lifecycle documents: checked when they are put, and read as the rules of a sweep.
//!
//! Source: Amazon S3 User Guide, "Lifecycle configuration elements".

use super::bucket::document;
use super::fault::Fault;
use super::job::{Front, Job};
use super::reply::parse_time;
use super::xml::Node;
use crate::identity::random_text;
use crate::lifecycle::CLASSES;
use crate::{Calendar, DAY_MS, Expiry, Markers, Noncurrent, ObjectInfo, Rule, Transition};

/// Rules of one document; S3's own limit.
const RULES_MAX: usize = 1_000;

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

/// A class that objects can be moved to.
fn check_class(node: &Node) -> Result<(), Fault> {
    let class = node.need("StorageClass")?;
    let known = CLASSES.iter().any(|known| *known == class && class != "STANDARD");
    if known { Ok(()) } else { Err(Fault::malformed(format!("`{class}` is no storage class to move objects to"))) }
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
                    check_class(child)?;
                }
                "NoncurrentVersionTransition" => check_class(child)?,
                _other => continue,
            }
            actions += 1;
        }
        if actions == 0 {
            return Err(Fault::malformed("a rule has at least one action"));
        }
        self::rule(rule)?;
    }
    Ok(())
}

/// What a rule of a document says, for a sweep. A number that cannot be read is refused: to leave it out would widen the rule.
fn rule(node: &Node) -> Result<Rule, Fault> {
    let filter = node.child("Filter");
    let and = filter.and_then(|filter| filter.child("And"));
    let filters: Vec<&Node> = [Some(node), filter, and].into_iter().flatten().collect();
    let bound = |name: &str| filters.iter().find_map(|filter| filter.number::<u64>(name).transpose()).transpose();
    let days = |action: Option<&Node>, name: &str| -> Result<Option<u32>, Fault> {
        let days = action.map(|action| action.number::<u64>(name)).transpose()?.flatten();
        Ok(days.map(|days| u32::try_from(days).unwrap_or(u32::MAX)))
    };
    let expiration = node.child("Expiration");
    let date = expiration.and_then(|action| action.get("Date")).and_then(parse_time).map(Expiry::At);
    let markers = expiration.and_then(|action| action.get("ExpiredObjectDeleteMarker"));
    let older = node.child("NoncurrentVersionExpiration");
    let noncurrent = Noncurrent {
        days: days(older, "NoncurrentDays")?.unwrap_or_default(),
        keep: days(older, "NewerNoncurrentVersions")?.unwrap_or_default(),
    };
    let prefix = filters.iter().filter_map(|filter| filter.get("Prefix")).find(|prefix| !prefix.is_empty());
    let tag =
        |tag: &Node| (tag.get("Key").unwrap_or_default().to_owned(), tag.get("Value").unwrap_or_default().to_owned());
    let transitions = |action: &str, name: &str| -> Result<Vec<Transition>, Fault> {
        let read = |node: &Node| {
            let date = node.get("Date").and_then(parse_time).map(Expiry::At);
            let when = days(Some(node), name)?.map(Expiry::Days).or(date).unwrap_or(Expiry::Days(0));
            let keep = days(Some(node), "NewerNoncurrentVersions")?.unwrap_or_default();
            Ok(Transition { when, class: node.need("StorageClass")?.to_owned(), keep })
        };
        node.all(action).map(read).collect()
    };
    Ok(Rule {
        prefix: prefix.unwrap_or_default().to_owned(),
        tags: filters.iter().flat_map(|filter| filter.all("Tag")).map(tag).collect(),
        larger_than: bound("ObjectSizeGreaterThan")?,
        smaller_than: bound("ObjectSizeLessThan")?,
        expiry: days(expiration, "Days")?.map(Expiry::Days).or(date),
        noncurrent: older.map(|_action| noncurrent),
        markers: if markers.is_some_and(|text| text.eq_ignore_ascii_case("true")) {
            Markers::Go
        } else {
            Markers::Stay
        },
        transitions: transitions("Transition", "Days")?,
        noncurrent_transitions: transitions("NoncurrentVersionTransition", "NoncurrentDays")?,
        abort_days: days(node.child("AbortIncompleteMultipartUpload"), "DaysAfterInitiation")?,
    })
}

/// The rules of a document that are in force, with their ids.
pub(super) fn rules(root: &Node) -> Vec<(String, Rule)> {
    let enabled = root.all("Rule").filter(|rule| rule.get("Status") == Some("Enabled"));
    enabled.filter_map(|node| Some((node.get("ID").unwrap_or_default().to_owned(), rule(node).ok()?))).collect()
}

/// The time, and a day as long as this front has it.
pub(super) fn calendar(front: &Front) -> Calendar {
    let real = Calendar::real();
    let day_ms = front.options.day_seconds.map_or(DAY_MS, |seconds| seconds.saturating_mul(1_000));
    Calendar { day_ms, ..real }
}

/// The rule that expires an object, and when.
pub(super) fn expiration(job: &Job, info: &ObjectInfo) -> Option<(String, u64)> {
    let bytes = job.bucket.as_ref()?.document(document::LIFECYCLE)?;
    let root = Node::parse(bytes).ok()?;
    let key = job.call.key.as_deref()?;
    let calendar = calendar(&job.front);
    rules(&root)
        .into_iter()
        .filter(|(_id, rule)| rule.matches(key, info))
        .filter_map(|(id, rule)| Some((id, rule.due(info.modified_ms, calendar)?)))
        .min_by_key(|(_id, at)| *at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_the_rules_that_it_says() {
        let text = "<LifecycleConfiguration><Rule><ID>a</ID><Status>Enabled</Status><Filter><And><Prefix>log/</Prefix>\
            <Tag><Key>k</Key><Value>v</Value></Tag><ObjectSizeGreaterThan>7</ObjectSizeGreaterThan></And></Filter>\
            <Expiration><Days>3</Days></Expiration><Transition><Days>1</Days><StorageClass>STANDARD_IA</StorageClass>\
            </Transition><Transition><Date>2026-11-26</Date><StorageClass>GLACIER_IR</StorageClass></Transition>\
            <NoncurrentVersionExpiration><NoncurrentDays>4</NoncurrentDays>\
            <NewerNoncurrentVersions>2</NewerNoncurrentVersions></NoncurrentVersionExpiration></Rule>\
            <Rule><ID>b</ID><Status>Disabled</Status><Prefix>x</Prefix><Expiration><Days>1</Days></Expiration></Rule>\
            <Rule><ID>c</ID><Status>Enabled</Status><Prefix>tmp/</Prefix><Expiration>\
            <ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration><AbortIncompleteMultipartUpload>\
            <DaysAfterInitiation>9</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule></LifecycleConfiguration>";
        let first = Rule {
            prefix: "log/".to_owned(),
            tags: vec![("k".to_owned(), "v".to_owned())],
            larger_than: Some(7),
            expiry: Some(Expiry::Days(3)),
            noncurrent: Some(Noncurrent { days: 4, keep: 2 }),
            transitions: vec![
                Transition { when: Expiry::Days(1), class: "STANDARD_IA".to_owned(), keep: 0 },
                Transition { when: Expiry::At(1_795_651_200_000), class: "GLACIER_IR".to_owned(), keep: 0 },
            ],
            ..Rule::default()
        };
        let last = Rule { prefix: "tmp/".to_owned(), markers: Markers::Go, abort_days: Some(9), ..Rule::default() };
        let read = rules(&Node::parse(text.as_bytes()).unwrap());
        assert_eq!(read, [("a".to_owned(), first), ("c".to_owned(), last)]);
    }
}
