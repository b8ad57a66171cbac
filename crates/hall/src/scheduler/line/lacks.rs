//! What waiting groups lack: room of a kind, for classes of groups, or what no room would give them.

use dh_policy::fleet::{Level, View};
use serde::{Deserialize, Serialize};

use crate::scheduler::event::QueueId;

/// What a parked group waits for; no room would help it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(in crate::scheduler) enum Lacks {
    /// The quota of its queue or of one above; of [`crate::scheduler::share::HALL`] if others do not lend what it would have to borrow.
    Quota { queue: QueueId },
    /// Power.
    Power,
    /// Nodes whose cores, memory or rails are free as well as their accelerators.
    Nodes,
    /// A box of accelerators that are free already, but not together.
    Box,
}

/// Room of one kind in domains of one level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(in crate::scheduler) struct RoomKind {
    pub(in crate::scheduler) level: Level,
    pub(in crate::scheduler) models: u32,
    pub(in crate::scheduler) accelerators: u8,
    pub(in crate::scheduler) milli: u16,
    pub(in crate::scheduler) view: View,
}

/// Groups that need the same room. Where they fit does not depend on their line: a class has none, a group's home does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(in crate::scheduler) struct ClassKey {
    pub(in crate::scheduler) kind: RoomKind,
    pub(in crate::scheduler) ranks: u32,
    pub(in crate::scheduler) line: u16,
}

impl Default for ClassKey {
    /// Room for nobody.
    fn default() -> Self {
        let kind = RoomKind { level: 0, models: 0, accelerators: 0, milli: 0, view: View::All };
        Self { kind, ranks: 0, line: 0 }
    }
}
