//! What a job may use of the store: a key per attempt whose policy names the job's own data, and which ends with the attempt.
//!
//! | what the job says | what its key opens |
//! | --- | --- |
//! | words of its command such as `s3://datasets/fashion` | that object and all below it; in `datasets` and `models`, and for a service, to read only |
//! | its `datasets`, and its `checkpoints` | to read only, and whole |
//! | its variable `DH_DATA="s3://a/b ro:s3://c"` | the same, or the whole bucket; to read only where `ro:` says so |
//! | always | `s3://jobs/QUEUE/job-N`, which `DH_STORE` names: a place of its own that all its attempts share |
//!
//! Who submits a job may do all of this already, so what a job says of itself takes nothing from others. Invariant: nothing else in
//! the store opens for the key, not even the list of buckets. The key follows from the hall's own and the attempt's name, so that
//! what runs on after a change of leaders goes on with it. Cost: a policy of some hundred bytes, parsed with each request.

use std::collections::BTreeMap;

use dh_core::{AccessKey, AttemptId, Role};
use dh_guard::KeyRing;
use dh_hall::{JobKind, JobSpec};
use serde_json::{Value, json};

use crate::Error;
use crate::body::Handle;
use crate::launch::{DATASETS, JOBS, MODELS};

/// The variable by which a job says what it uses.
const DATA: &str = "DH_DATA";
/// The variable that tells it where its own place is.
pub(crate) const PLACE: &str = "DH_STORE";

/// Variables that tell a job where its data is: what `datasets`, `data_seed` and `checkpoints` say, if they say anything.
pub(crate) fn told(attempt: AttemptId, spec: &JobSpec) -> Vec<(&'static str, String)> {
    let mut told = Vec::new();
    if !spec.datasets.is_empty() {
        told.push(("DH_DATASETS", spec.datasets.join(" ")));
    }
    told.extend(spec.data_seed.map(|seed| ("DH_DATA_SEED", seed.to_string())));
    told.extend(checkpoints(attempt, spec).map(|place| ("DH_CHECKPOINTS", place)));
    told
}

fn checkpoints(attempt: AttemptId, spec: &JobSpec) -> Option<String> {
    Some(spec.checkpoints.as_ref()?.replace("{job}", &attempt.job.0.to_string()))
}

/// Something in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Data {
    bucket: String,
    /// Empty for the whole bucket.
    prefix: String,
    access: Use,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Read,
    Write,
}

/// The job's own place in the store.
pub(crate) fn place(attempt: AttemptId, spec: &JobSpec) -> String {
    format!("s3://{JOBS}/{}/job-{}", spec.queue, attempt.job.0)
}

/// The key of an attempt.
pub(crate) fn issue(keys: &KeyRing, attempt: AttemptId, spec: &JobSpec) -> Result<AccessKey, Error> {
    let policy = policy(&data(attempt, spec)?).to_string();
    Ok(keys.issue_limited(&attempt.to_string(), Role::Job, &policy)?)
}

/// The keys of attempts that an earlier server had started.
pub(crate) fn issue_again(
    keys: &KeyRing,
    hall: &Handle,
    open: &[(AttemptId, u32)],
) -> Result<BTreeMap<AttemptId, AccessKey>, Error> {
    let hall = hall.read();
    let jobs = open.iter().filter_map(|(attempt, _)| Some((*attempt, hall.job(attempt.job)?)));
    jobs.map(|(attempt, job)| Ok((attempt, issue(keys, attempt, &job.spec)?))).collect()
}

/// What the job says it uses, and its own place.
fn data(attempt: AttemptId, spec: &JobSpec) -> Result<Vec<Data>, Error> {
    let number = attempt.job.0.to_string();
    let serves = matches!(spec.kind, JobKind::Service { .. });
    let mut all = Vec::new();
    for word in &spec.command {
        if let Some((bucket, prefix)) = place_of(&word.replace("{job}", &number)) {
            let reads = serves || [DATASETS, MODELS].contains(&bucket.as_str());
            let access = if reads { Use::Read } else { Use::Write };
            all.push(Data { bucket, prefix, access });
        }
    }
    for word in spec.env.get(DATA).map(String::as_str).unwrap_or_default().split_whitespace() {
        let (word, access) = word.strip_prefix("ro:").map_or((word, Use::Write), |word| (word, Use::Read));
        let (bucket, prefix) = place_of(word).ok_or_else(|| {
            Error::Invalid(format!(
                "{DATA} names `{word}`; write s3://BUCKET or s3://BUCKET/PREFIX, with ro: before it to read only"
            ))
        })?;
        all.push(Data { bucket, prefix, access });
    }
    for (words, access) in
        [(spec.datasets.clone(), Use::Read), (checkpoints(attempt, spec).into_iter().collect(), Use::Write)]
    {
        let places = words.iter().filter_map(|word| place_of(word));
        all.extend(places.map(|(bucket, prefix)| Data { bucket, prefix, access }));
    }
    all.extend(place_of(&place(attempt, spec)).map(|(bucket, prefix)| Data { bucket, prefix, access: Use::Write }));
    Ok(all)
}

/// Bucket and prefix of an address; a text that would be a pattern in a policy is none.
pub(crate) fn place_of(word: &str) -> Option<(String, String)> {
    let rest = word.strip_prefix("s3://")?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let plain = !bucket.is_empty() && !word.contains(['*', '?', '$', '"', '\\']) && !word.chars().any(char::is_control);
    plain.then(|| (bucket.to_owned(), prefix.trim_end_matches('/').to_owned()))
}

/// The policy that opens `data` and nothing else.
fn policy(data: &[Data]) -> Value {
    const READ: &[&str] = &["s3:GetObject*", "s3:ListMultipartUploadParts"];
    const WRITE: &[&str] = &["s3:PutObject*", "s3:DeleteObject*", "s3:AbortMultipartUpload"];
    let mut statements = Vec::new();
    for Data { bucket, prefix, access } in data {
        let bucket_arn = format!("arn:aws:s3:::{bucket}");
        let objects = match prefix.as_str() {
            "" => vec![format!("{bucket_arn}/*")],
            prefix => vec![format!("{bucket_arn}/{prefix}"), format!("{bucket_arn}/{prefix}/*")],
        };
        let actions: Vec<&str> = match access {
            Use::Read => READ.to_vec(),
            Use::Write => [READ, WRITE].concat(),
        };
        statements.push(json!({ "Effect": "Allow", "Action": actions, "Resource": objects }));
        let mut list = json!({
            "Effect": "Allow",
            "Action": ["s3:ListBucket", "s3:ListBucketVersions", "s3:ListBucketMultipartUploads"],
            "Resource": [bucket_arn.as_str()],
        });
        if let (false, Some(list)) = (prefix.is_empty(), list.as_object_mut()) {
            list.insert(
                "Condition".to_owned(),
                json!({ "StringLike": { "s3:prefix": [prefix, format!("{prefix}/*")] } }),
            );
        }
        statements.push(list);
        statements.push(json!({ "Effect": "Allow", "Action": ["s3:GetBucketLocation"], "Resource": [bucket_arn] }));
    }
    json!({ "Version": "2012-10-17", "Statement": statements })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_patterns_are_not() {
        let of = |word| place_of(word).map(|(bucket, prefix)| format!("{bucket} {prefix}"));
        assert_eq!(of("s3://a/b/c/").as_deref(), Some("a b/c"));
        assert_eq!(of("s3://a").as_deref(), Some("a "));
        for none in ["a/b", "s3://", "s3:///b", "s3://a/*", "s3://a/${aws:username}", "s3://?/x", "S3://a"] {
            assert_eq!(of(none), None, "{none}");
        }
    }

    #[test]
    fn a_policy_is_one_that_the_store_reads() {
        let data = [
            Data { bucket: "a".to_owned(), prefix: String::new(), access: Use::Read },
            Data { bucket: "b".to_owned(), prefix: "c/d".to_owned(), access: Use::Write },
        ];
        let text = policy(&data).to_string();
        dh_policy::access::Policy::parse(text.as_bytes(), dh_policy::access::Kind::Identity).unwrap();
        assert!(!text.contains("\"*\"") && text.contains("arn:aws:s3:::b/c/d/*"), "{text}");
    }
}
