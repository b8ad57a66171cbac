//! More of what travels between the command line and the server: plans, use, energy, programs beside a rank.

use dh_core::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a job starts, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StartPlan {
    /// The job's state in one word.
    pub state: String,
    /// `now`, `expected` (if what runs ends by its time limit), `unknown` (it rests on jobs without one), or `over`.
    pub starts: String,
    /// When it took its slots, or is expected to.
    pub at_ns: Option<u64>,
    /// Where; nothing if no place is known.
    pub nodes: Vec<NodeRanks>,
    /// Waiting jobs that are considered before it.
    pub ahead: u64,
    /// What it waits for.
    pub because: Option<String>,
}

/// Ranks on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeRanks {
    /// The node.
    pub node: String,
    /// How many ranks.
    pub ranks: u32,
}

/// What a running job uses at this moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobUsage {
    /// [`super::wire::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The attempt that runs.
    pub attempt: u32,
    /// When it took its slots.
    pub started_ns: u64,
    /// When its time limit is over, if it has one.
    pub ends_ns: Option<u64>,
    /// Each rank that runs.
    pub ranks: Vec<RankUse>,
}

/// What a rank uses, all its processes together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RankUse {
    /// The rank.
    pub rank: u32,
    /// Its node.
    pub node: String,
    /// Processor time since its start.
    pub cpu_seconds: f64,
    /// Memory in use.
    pub resident_bytes: u64,
    /// Living processes.
    pub processes: u32,
}

/// What a job used of energy so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EnergyView {
    /// [`super::wire::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The job.
    pub job: u64,
    /// Of its attempts together, without what the building takes on top.
    pub joules: f64,
    /// `measured`, `estimated`, or `mixed` where some attempts are the one and some the other.
    pub source: String,
    /// What that means here, in a sentence.
    pub how: String,
    /// Time times slots.
    pub slot_seconds: f64,
    /// The building's power over that of its computers.
    pub pue: f64,
    /// At the meter: `joules` times `pue`, in kilowatt-hours.
    pub kilowatt_hours: f64,
    /// What that costs at the site's price.
    pub usd: f64,
    /// The site's price of a kilowatt-hour.
    pub usd_per_kwh: f64,
    /// What it emits, if the site says what electricity does.
    pub co2_grams: Option<f64>,
    /// Attempt by attempt; of a job with many, only the newest.
    pub attempts: Vec<EnergyAttempt>,
}

/// What an attempt used of energy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EnergyAttempt {
    /// Its number.
    pub attempt: u32,
    /// How long it has or had its slots.
    pub seconds: f64,
    /// What it used.
    pub joules: f64,
    /// `measured` or `estimated`.
    pub source: String,
}

/// A program to run beside a rank.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecRequest {
    /// Program and arguments.
    pub command: Vec<String>,
}

/// How such a program ended: the last frame of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExecEnd {
    /// Its exit code, or 128 and the number of the signal that ended it.
    pub code: u8,
}

/// A text that is sent and not shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Hidden(String);

impl Hidden {
    /// Hides `text`.
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// Its bytes.
    pub(crate) const fn len(&self) -> usize {
        self.0.len()
    }

    /// The text, to be kept.
    pub fn into_secret(self) -> Secret<String> {
        Secret::new(self.0)
    }
}

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hidden(..)")
    }
}

/// A secret for the hall to keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretRequest {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Hidden,
}

/// The secrets that a hall keeps. Their values leave it to ranks alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretList {
    /// [`super::wire::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Their names.
    pub secrets: Vec<String>,
}
