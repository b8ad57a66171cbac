//! The orders compared here that are not in the policy table.

use dh_policy::order::{Candidate, Key, Order};

#[derive(Debug)]
pub(crate) struct ByLength;
#[derive(Debug)]
pub(crate) struct ByService;

fn remaining(job: &Candidate) -> u64 {
    job.length.map_or(1, |length| length.as_secs().saturating_sub(job.attained.as_secs()))
}

impl Order for ByLength {
    fn name(&self) -> &'static str {
        "srtf"
    }
    fn about(&self) -> &'static str {
        ""
    }
    fn key(&self, job: &Candidate) -> Key {
        Key { class: 0, value: remaining(job) }
    }
}
impl Order for ByService {
    fn name(&self) -> &'static str {
        "srsf"
    }
    fn about(&self) -> &'static str {
        ""
    }
    fn key(&self, job: &Candidate) -> Key {
        Key { class: 0, value: remaining(job) * job.milli }
    }
}
