//! Where a job starts and when, for whoever has just submitted it.

use dh_core::{JobId, NodeId, SimTime};

use crate::job::Phase;
use crate::machine::Hall;
use crate::scheduler::Foreseen;

/// Where a job starts and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forecast {
    /// Its state in one word.
    pub state: &'static str,
    /// When.
    pub when: When,
    /// Nodes with the ranks on each, in order; none where no place is known.
    pub nodes: Vec<(NodeId, u32)>,
    /// Waiting jobs that are considered before it.
    pub ahead: usize,
    /// What it waits for, if it does.
    pub because: Option<String>,
}

/// When a job starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// It did.
    Started(SimTime),
    /// Then, if what runs ends by its time limit and what is ahead of it does not take the place.
    Expected(SimTime),
    /// That rests on jobs without a time limit.
    Unknown,
    /// It is over.
    Over,
}

impl Hall {
    /// Where and when `id` starts; `None` if there is no such job. Cost: that of [`Hall::why`].
    pub fn forecast(&self, id: JobId) -> Option<Forecast> {
        let job = self.jobs.get(id)?;
        let mut forecast =
            Forecast { state: job.word(), when: When::Unknown, nodes: Vec::new(), ahead: 0, because: None };
        match &job.phase {
            Phase::Done { .. } => forecast.when = When::Over,
            Phase::Active { attempt } => {
                forecast.when = When::Started(attempt.started);
                forecast.nodes = counted(attempt.placement.iter().map(|placed| placed.node).collect());
            }
            Phase::Waiting { not_before } => {
                forecast.ahead = self.ahead(id).0;
                forecast.because = self.why(id).map(|why| why.because);
                if *not_before > self.now {
                    forecast.when = When::Expected(*not_before);
                } else if let Some(Foreseen { at, ranks: nodes }) =
                    self.scheduler.as_ref().and_then(|scheduler| scheduler.place_of(id))
                {
                    forecast.when = at.map_or(When::Unknown, When::Expected);
                    forecast.nodes = nodes;
                }
            }
        }
        Some(forecast)
    }
}

/// Each node once, with how often it stands there.
fn counted(mut nodes: Vec<NodeId>) -> Vec<(NodeId, u32)> {
    nodes.sort_unstable();
    let mut counted: Vec<(NodeId, u32)> = Vec::new();
    for node in nodes {
        match counted.last_mut() {
            Some((last, ranks)) if *last == node => *ranks += 1,
            Some(_) | None => counted.push((node, 1)),
        }
    }
    counted
}
