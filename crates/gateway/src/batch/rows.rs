//! What is kept about a file and a batch, and how callers see it.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::lines::Problem;

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileRow {
    pub(crate) id: String,
    pub(crate) owner: String,
    pub(crate) bytes: u64,
    /// Seconds since 1970, as all times here.
    pub(crate) created_at: u64,
    pub(crate) filename: String,
    pub(crate) purpose: String,
}

impl FileRow {
    pub(crate) fn view(&self) -> Value {
        let Self { id, bytes, created_at, filename, purpose, .. } = self;
        json!({
            "id": id, "object": "file", "bytes": bytes, "created_at": created_at, "expires_at": null,
            "filename": filename, "purpose": purpose, "status": "processed", "status_details": null
        })
    }
}

/// Where a batch is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    Validating,
    Failed,
    InProgress,
    Finalizing,
    Completed,
    Expired,
    Cancelling,
    Cancelled,
}

impl Status {
    /// Whether nothing happens to it any more.
    pub(crate) const fn is_over(self) -> bool {
        matches!(self, Self::Failed | Self::Completed | Self::Expired | Self::Cancelled)
    }
}

/// How many requests a batch has, and how they went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub(crate) total: u64,
    pub(crate) completed: u64,
    pub(crate) failed: u64,
}

/// A batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BatchRow {
    pub(crate) id: String,
    pub(crate) owner: String,
    pub(crate) endpoint: String,
    pub(crate) input_file_id: String,
    pub(crate) completion_window: String,
    pub(crate) metadata: Option<Map<String, Value>>,
    pub(crate) status: Status,
    /// How it ends, once only its files are still to be made.
    pub(crate) ends: Option<Status>,
    pub(crate) errors: Vec<Problem>,
    /// Names that the results will have as files.
    pub(crate) output_id: String,
    pub(crate) error_id: String,
    pub(crate) output_file_id: Option<String>,
    pub(crate) error_file_id: Option<String>,
    pub(crate) counts: Counts,
    pub(crate) created_at: u64,
    pub(crate) expires_at: u64,
    pub(crate) in_progress_at: Option<u64>,
    pub(crate) finalizing_at: Option<u64>,
    pub(crate) completed_at: Option<u64>,
    pub(crate) failed_at: Option<u64>,
    pub(crate) expired_at: Option<u64>,
    pub(crate) cancelling_at: Option<u64>,
    pub(crate) cancelled_at: Option<u64>,
}

impl BatchRow {
    /// Whether the file called `id` will hold its results.
    pub(crate) fn writes(&self, id: &str) -> bool {
        self.output_id == id || self.error_id == id
    }

    pub(crate) fn view(&self) -> Value {
        let errors = (!self.errors.is_empty()).then(|| json!({ "object": "list", "data": self.errors }));
        json!({
            "id": self.id, "object": "batch", "endpoint": self.endpoint, "errors": errors,
            "input_file_id": self.input_file_id, "completion_window": self.completion_window, "status": self.status,
            "output_file_id": self.output_file_id, "error_file_id": self.error_file_id, "created_at": self.created_at,
            "in_progress_at": self.in_progress_at, "expires_at": self.expires_at, "finalizing_at": self.finalizing_at,
            "completed_at": self.completed_at, "failed_at": self.failed_at, "expired_at": self.expired_at,
            "cancelling_at": self.cancelling_at, "cancelled_at": self.cancelled_at, "request_counts": self.counts,
            "metadata": self.metadata
        })
    }
}

/// A name that nothing has yet. It is no secret: whose a thing is decides who sees it.
pub(crate) fn fresh(prefix: &str) -> String {
    let word = || RandomState::new().build_hasher().finish();
    let mut name = format!("{prefix}{:016x}{:016x}", word(), word());
    name.truncate(prefix.len() + 24);
    name
}
