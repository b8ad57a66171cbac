//! Ids. Each is a number that its owner hands out in order, so that two runs of the same events name things alike.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A job, counted from 1 in the order of acceptance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub u64);

/// A node, by its place in the blueprint's pools, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u32);

/// A rank inside a gang, dense from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rank(pub u32);

/// One try at running a job's gang. A new attempt fences the older ones: whatever they still report has no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AttemptId {
    /// The job.
    pub job: JobId,
    /// The try, counted from 1.
    pub attempt: u32,
}

/// One process of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TaskId {
    /// The attempt it belongs to.
    pub attempt: AttemptId,
    /// Its place in the gang.
    pub rank: Rank,
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job/{}", self.0)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node/{}", self.0)
    }
}

impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.job, self.attempt)
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.attempt, self.rank)
    }
}

/// Why a text is not a job id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a job id; write `job/7` or `7`")]
pub struct BadJobId(String);

impl FromStr for JobId {
    type Err = BadJobId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix("job/").unwrap_or(text);
        digits
            .parse::<u64>()
            .ok()
            .filter(|number| *number > 0 && digits.bytes().all(|byte| byte.is_ascii_digit()))
            .map(JobId)
            .ok_or_else(|| BadJobId(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_ids_read_back_as_printed() {
        assert_eq!(JobId(7).to_string().parse(), Ok(JobId(7)));
        assert_eq!("7".parse(), Ok(JobId(7)));
        for bad in ["", "0", "job/0", "job/", "+7", "-1", "7 ", "job/7/1"] {
            assert!(bad.parse::<JobId>().is_err(), "{bad:?}");
        }
    }
}
