//! Who may take from whom.
//!
//! Two queues meet at the lowest queue above both; their two ancestors just below it are the parties. There are two rights:
//! - *Guarantee*: with what it takes, the claimant's party is within its guarantee; the other holds more than its own of
//!   something that is wanted.
//! - *Fair share*: with what it takes, the claimant's party has less weighted dominant share than the other has before, which
//!   has less after; and together they hold no more beyond their guarantees than before.
//!
//! Why it ends: judge a state by what the parties hold beyond their guarantees, and of equal states by the greater of their
//! shares, then the lesser. A guarantee claimed lowers the first: the claimant adds nothing to it and the other gives of it.
//! A fair share claimed does not raise the first, and lowers the second: after it both shares are less than the greater one
//! was. Claims between parties on one level leave the levels above as they are, if no more is taken than was freed. So with
//! what waits and what runs fixed, claims come to an end, and two queues never take from each other in turn.
//! Only what is held now counts here: with the past in it, time alone could turn a claim round.

use serde::{Deserialize, Serialize};

use super::queue::{Amounts, QueueId};
use super::tree::{Place, Tree, within};

/// By what right a queue takes from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Right {
    /// It is guaranteed what it wants, and the other has borrowed.
    Guarantee,
    /// It has the lesser share, and has so still when it has taken.
    FairShare,
}

/// A queue that wants, or gives, so much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The queue.
    pub queue: QueueId,
    /// How much.
    pub amounts: Amounts,
}

/// What a party holds beyond its guarantee, with `holds` in place of what it holds.
fn excess(place: &Place, holds: Amounts) -> Amounts {
    holds.less(place.queue.guaranteed)
}

impl Tree {
    /// The ancestors of two queues just below the lowest queue above both; none if one is above the other.
    pub(super) fn parties(&self, one: QueueId, other: QueueId) -> Option<(QueueId, QueueId)> {
        let (mut one, mut other) = (one, other);
        loop {
            let (here, there) = (self.at(one), self.at(other));
            match here.depth.cmp(&there.depth) {
                std::cmp::Ordering::Greater => one = here.parent?,
                std::cmp::Ordering::Less => other = there.parent?,
                std::cmp::Ordering::Equal if one == other => return None,
                std::cmp::Ordering::Equal if here.parent == there.parent => return Some((one, other)),
                std::cmp::Ordering::Equal => (one, other) = (here.parent?, there.parent?),
            }
        }
    }

    /// By what right `claimant` may start what it wants at the cost of `victim`, if by any. Cost: one step a level.
    pub fn reclaims(&self, claimant: &Part, victim: &Part) -> Option<Right> {
        let (one, other) = self.parties(claimant.queue, victim.queue)?;
        let (gains, loses) = (self.at(one), self.at(other));
        let (wants, gives) = (claimant.amounts, victim.amounts);
        let borrowed = excess(loses, loses.holds);
        let of_use = wants.least(gives);
        if within(gains, wants) && of_use.least(borrowed) != Amounts::NONE {
            return Some(Right::Guarantee);
        }
        let (gained, left) = (gains.holds.plus(wants), loses.holds.less(gives));
        let before = excess(gains, gains.holds).plus(borrowed);
        let after = excess(gains, gained).plus(excess(loses, left));
        let fairer = self.less_share((gains, gained), (loses, loses.holds))
            && self.less_share((loses, left), (loses, loses.holds));
        let fair = fairer && after.beyond(before).is_none() && of_use != Amounts::NONE;
        fair.then_some(Right::FairShare)
    }

    /// Whether the first would have strictly less weighted dominant share than the second; exact.
    fn less_share(&self, one: (&Place, Amounts), other: (&Place, Amounts)) -> bool {
        let (mine, theirs) = (self.dominant(one.1), self.dominant(other.1));
        mine * u128::from(other.0.queue.weight) < theirs * u128::from(one.0.queue.weight)
    }

    /// The dominant share in units of 2^-64, rounded down.
    fn dominant(&self, holds: Amounts) -> u128 {
        let each = holds.each().into_iter().zip(self.capacity().each());
        each.filter(|(_, capacity)| *capacity > 0)
            .map(|(holds, capacity)| ((u128::from(holds) << 64) / u128::from(capacity)).min(1 << 90))
            .max()
            .unwrap_or(0)
    }

    /// How much of its guarantee `queue` could still claim.
    pub fn deficit(&self, queue: QueueId) -> Amounts {
        let place = self.at(queue);
        place.queue.guaranteed.less(place.holds)
    }

    /// How much `queue` holds beyond its guarantee: what others may claim of it.
    pub fn borrowed(&self, queue: QueueId) -> Amounts {
        let place = self.at(queue);
        excess(place, place.holds)
    }
}
