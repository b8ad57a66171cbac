//! What a run reports while it goes. Each event is one line of JSON (`{"event":"step",...}`) on rank 0's standard output.

use serde::{Deserialize, Serialize};

/// A finished epoch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EpochResult {
    /// Which, from 1.
    pub epoch: u64,
    /// Share of the test samples that are classified rightly.
    pub accuracy: f64,
    /// Mean loss of the epoch's steps.
    pub loss: f64,
    /// Time it took in the attempt that finished it.
    pub seconds: f64,
}

/// What a run came to. Times and counts are of this attempt; `epochs` are of the whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Steps done in this attempt.
    pub steps: u64,
    /// Samples trained on in this attempt, over all ranks.
    pub samples: u64,
    /// Wall time of the training loop, evaluation included.
    pub seconds: f64,
    /// Samples over seconds.
    pub samples_per_second: f64,
    /// Time this rank waited for data.
    pub wait_seconds: f64,
    /// Time this rank spent in exchanges, waiting for slower ranks included.
    pub allreduce_seconds: f64,
    /// Time this rank spent with forward and backward.
    pub compute_seconds: f64,
    /// Time this rank spent with Adam and copying parameters.
    pub update_seconds: f64,
    /// Time this rank spent measuring accuracy.
    pub evaluation_seconds: f64,
    /// Bytes of the dataset that this rank read.
    pub bytes_read: u64,
    /// The epochs of the whole run.
    pub epochs: Vec<EpochResult>,
    /// Where the training data comes from.
    pub origin: String,
    /// Ranks of this attempt.
    pub ranks: u32,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The ranks are together and go on from here.
    Started {
        /// Steps that were done before; zero for a new run.
        resumed_from_step: u64,
        /// Steps of the whole run.
        steps: u64,
        /// Ranks of this attempt.
        ranks: u32,
        /// Damaged checkpoints that were passed over, with what is wrong with each.
        skipped_checkpoints: Vec<String>,
    },
    /// Some steps are done.
    Step {
        /// Steps done since the start of the run.
        step: u64,
        /// The epoch, from 1.
        epoch: u64,
        /// Mean loss over all ranks at this step.
        loss: f64,
        /// Samples trained on since the start of the run, over all ranks.
        samples: u64,
    },
    /// An epoch is done.
    Epoch(EpochResult),
    /// A checkpoint is durable.
    Checkpoint {
        /// Steps done at its moment.
        step: u64,
        /// Its size.
        bytes: u64,
    },
    /// The run is done and the model is in the store.
    Finished(Report),
}

impl Event {
    /// The line of JSON, without a line end.
    pub fn to_json(&self) -> String {
        // Every field is a number, a text or a list of them, which JSON always can say.
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_single_lines_that_read_back() {
        let result = EpochResult { epoch: 1, accuracy: 0.5, loss: 1.25, seconds: 2.0 };
        let events = [
            Event::Step { step: 50, epoch: 1, loss: 0.75, samples: 3200 },
            Event::Epoch(result),
            Event::Checkpoint { step: 50, bytes: 9 },
            Event::Started { resumed_from_step: 0, steps: 9, ranks: 2, skipped_checkpoints: vec!["a\nb".to_owned()] },
        ];
        assert_eq!(events[0].to_json(), r#"{"event":"step","step":50,"epoch":1,"loss":0.75,"samples":3200}"#);
        assert!(events[1].to_json().starts_with(r#"{"event":"epoch","epoch":1,"accuracy":0.5"#));
        for event in events {
            let line = event.to_json();
            assert!(!line.contains('\n'));
            assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event);
        }
    }
}
