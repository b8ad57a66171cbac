//! Exchange between rank processes: the average of gradients, exact sums of counts, a broadcast from rank 0.
//!
//! Every rank holds a TCP connection to every other ([`rendezvous`] makes and authenticates them). The average is a
//! direct reduce-scatter and all-gather: the vector is cut into one chunk per rank, each rank receives its chunk from all
//! others, adds the contributions *in the order of the ranks*, scales, and sends the result to all. So every rank ends
//! with the same bits, run after run, and each moves `2 (n-1)/n` of the vector each way, the least that is possible.
//! Nothing is copied on the way but by the kernel; sends and receives overlap in one thread (`wire`).
//!
//! A peer whose process ends closes its connection, which ends this rank's call at once. A machine that vanishes is
//! noticed by keep-alive within seconds, a peer that stands still by [`World::peer_timeout`](crate::World).

pub mod rendezvous;
mod wire;

use std::time::Duration;

use dh_core::{HasKind, Kind};

use crate::number;
use wire::{Link, Transfer};

/// The largest broadcast: a checkpoint of the largest network with its moments.
const BROADCAST_BYTES_MAX: u64 = 4 << 30;

/// Why the ranks cannot work together.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The description of this rank's world makes no sense.
    #[error("rank {rank} of {ranks}: {why}")]
    World {
        /// This rank.
        rank: u32,
        /// Of how many.
        ranks: u32,
        /// What is wrong.
        why: String,
    },
    /// Rank 0's address cannot be used.
    #[error("cannot {action} {address}: {source}")]
    Address {
        /// `listen on` or `resolve`.
        action: &'static str,
        /// The address.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// Not all ranks came.
    #[error("rank {rank}: the gang did not gather within {seconds} s: {missing}")]
    NotGathered {
        /// This rank.
        rank: u32,
        /// How long it waited.
        seconds: u64,
        /// Who was missing, or what happened last.
        missing: String,
    },
    /// The other side has another token, attempt or world.
    #[error("rank {rank} was refused by rank {peer}: {why}")]
    Refused {
        /// This rank.
        rank: u32,
        /// The one who refused.
        peer: u32,
        /// Its reason.
        why: &'static str,
    },
    /// The other side cannot show that it belongs to the gang.
    #[error("rank {rank}: whoever answers as rank {peer} does not know the gang token")]
    Impostor {
        /// This rank.
        rank: u32,
        /// The one it claims to be.
        peer: u32,
    },
    /// A peer's process ended or its machine vanished.
    #[error("rank {peer} is gone (exchange {sequence}): {why}")]
    PeerLost {
        /// The peer.
        peer: u32,
        /// Which exchange, counted from the start of the attempt.
        sequence: u64,
        /// What the connection said.
        why: String,
    },
    /// A peer stands still.
    #[error("rank {peer} sent nothing for {seconds} s (exchange {sequence})")]
    PeerSilent {
        /// The peer.
        peer: u32,
        /// Which exchange.
        sequence: u64,
        /// The limit.
        seconds: u64,
    },
    /// A peer does something else than this rank.
    #[error("rank {peer} is out of step (exchange {sequence}): {why}")]
    OutOfStep {
        /// The peer.
        peer: u32,
        /// Which exchange.
        sequence: u64,
        /// What differs.
        why: String,
    },
    /// The operating system.
    #[error("exchange between ranks: {0}")]
    System(#[from] std::io::Error),
}

impl HasKind for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::World { .. } | Self::Address { .. } => Kind::Invalid,
            Self::NotGathered { .. } | Self::PeerSilent { .. } => Kind::Timeout,
            Self::Refused { .. } | Self::Impostor { .. } => Kind::Unauthorized,
            Self::PeerLost { .. } => Kind::Unreachable,
            Self::OutOfStep { .. } => Kind::Corrupt,
            Self::System(_) => Kind::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::PeerLost { .. } | Self::PeerSilent { .. } => {
                Some("the next attempt resumes from the newest checkpoint".to_owned())
            }
            Self::Refused { .. } | Self::Impostor { .. } => {
                Some("all ranks of one attempt need the same DH_GANG_TOKEN and DH_ATTEMPT".to_owned())
            }
            Self::World { .. }
            | Self::Address { .. }
            | Self::NotGathered { .. }
            | Self::OutOfStep { .. }
            | Self::System(_) => None,
        }
    }
}

/// What kind of exchange a frame belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Exchange {
    Reduce = 1,
    Gather = 2,
    Counts = 3,
    Broadcast = 4,
}

/// The connections of one rank to all others.
#[derive(Debug)]
pub struct Collective {
    rank: u32,
    ranks: u32,
    /// One per peer, in the order of the ranks.
    links: Vec<Link>,
    sequence: u64,
    peer_timeout: Duration,
    /// Room for each peer's copy of this rank's chunk.
    incoming: Vec<Vec<f32>>,
    sum: Vec<f32>,
}

impl Collective {
    /// The world of a single rank: every exchange is the identity.
    pub const fn alone() -> Self {
        Self::new(0, 1, Vec::new(), Duration::ZERO)
    }

    const fn new(rank: u32, ranks: u32, links: Vec<Link>, peer_timeout: Duration) -> Self {
        Self { rank, ranks, links, sequence: 0, peer_timeout, incoming: Vec::new(), sum: Vec::new() }
    }

    /// This rank.
    pub const fn rank(&self) -> u32 {
        self.rank
    }

    /// How many ranks there are.
    pub const fn ranks(&self) -> u32 {
        self.ranks
    }

    /// Replaces `values` by the average over all ranks. All get the same bits.
    ///
    /// # Errors
    /// [`Error::PeerLost`], [`Error::PeerSilent`] or [`Error::OutOfStep`]; `values` are then worthless.
    pub fn average(&mut self, values: &mut [f32]) -> Result<(), Error> {
        if self.ranks == 1 {
            return Ok(());
        }
        let mut chunks = cut(values, self.ranks);
        let own = self.rank as usize;
        let own_length = chunks.get(own).map_or(0, |chunk| chunk.len());
        self.incoming.resize(self.links.len(), Vec::new());
        for room in &mut self.incoming {
            room.resize(own_length, 0.0);
        }
        let mut rooms = std::mem::take(&mut self.incoming);
        let transfers = self.links.iter().zip(&mut rooms).filter_map(|(link, room)| {
            let chunk = chunks.get(link.peer() as usize)?;
            Some(Transfer::new(link, bytemuck::cast_slice(chunk), bytemuck::cast_slice_mut(room)))
        });
        let done = wire::exchange(transfers.collect(), Exchange::Reduce as u32, self.sequence, self.peer_timeout);
        self.sequence += 1;
        done?;
        if let Some(chunk) = chunks.get_mut(own) {
            sum_in_rank_order(chunk, own, &rooms, &mut self.sum);
            let scale = 1.0 / number::single(f64::from(self.ranks));
            chunk.iter_mut().zip(&self.sum).for_each(|(value, sum)| *value = sum * scale);
        }
        self.incoming = rooms;
        let (before, rest) = chunks.split_at_mut(own);
        let Some((mine, after)) = rest.split_first_mut() else { return Ok(()) };
        let mine: &[u8] = bytemuck::cast_slice(mine);
        let others = before.iter_mut().chain(after);
        let transfers = self
            .links
            .iter()
            .zip(others)
            .map(|(link, chunk)| Transfer::new(link, mine, bytemuck::cast_slice_mut(chunk)));
        wire::exchange(transfers.collect(), Exchange::Gather as u32, self.sequence, self.peer_timeout)?;
        self.sequence += 1;
        Ok(())
    }

    /// Replaces `counts` by the exact sums over all ranks.
    ///
    /// # Errors
    /// As [`Collective::average`].
    pub fn sum_counts(&mut self, counts: &mut [u64]) -> Result<(), Error> {
        let mine = counts.to_vec();
        let mut rooms = vec![vec![0_u64; counts.len()]; self.links.len()];
        let transfers = self
            .links
            .iter()
            .zip(&mut rooms)
            .map(|(link, room)| Transfer::new(link, bytemuck::cast_slice(&mine), bytemuck::cast_slice_mut(room)));
        wire::exchange(transfers.collect(), Exchange::Counts as u32, self.sequence, self.peer_timeout)?;
        self.sequence += 1;
        for room in &rooms {
            counts.iter_mut().zip(room).for_each(|(count, other)| *count = count.saturating_add(*other));
        }
        Ok(())
    }

    /// Gives every rank the bytes that rank 0 passes; what the others pass is ignored.
    ///
    /// # Errors
    /// As [`Collective::average`].
    pub fn broadcast(&mut self, bytes: Vec<u8>) -> Result<Vec<u8>, Error> {
        let mut length = [if self.rank == 0 { number::wide(bytes.len()) } else { 0 }];
        self.sum_counts(&mut length)?;
        let [length] = length;
        if length > BROADCAST_BYTES_MAX {
            let why = format!("a broadcast of {length} bytes");
            return Err(Error::OutOfStep { peer: 0, sequence: self.sequence, why });
        }
        let root = self.rank == 0;
        let mut received = if root { Vec::new() } else { vec![0; number::index(length)] };
        let mut room = Some(received.as_mut_slice());
        let transfers = self.links.iter().map(|link| {
            let incoming = if link.peer() == 0 { room.take().unwrap_or_default() } else { &mut [] };
            Transfer::new(link, if root { &bytes } else { &[] }, incoming)
        });
        wire::exchange(transfers.collect(), Exchange::Broadcast as u32, self.sequence, self.peer_timeout)?;
        self.sequence += 1;
        Ok(if root { bytes } else { received })
    }
}

/// Cuts `values` into `parts` chunks whose lengths differ by at most one.
fn cut(values: &mut [f32], parts: u32) -> Vec<&mut [f32]> {
    let parts = parts as usize;
    let total = values.len();
    let mut rest = values;
    let mut chunks = Vec::with_capacity(parts);
    for part in 0..parts {
        let length = total * (part + 1) / parts - total * part / parts;
        let (chunk, behind) = rest.split_at_mut(length);
        chunks.push(chunk);
        rest = behind;
    }
    chunks
}

/// `sum = v0 + v1 + ...` in the order of the ranks, where `own` is the place of `mine` among `others`.
fn sum_in_rank_order(mine: &[f32], own: usize, others: &[Vec<f32>], sum: &mut Vec<f32>) {
    sum.clear();
    let (before, after) = others.split_at(own.min(others.len()));
    let contributions = before.iter().map(Vec::as_slice).chain([mine]).chain(after.iter().map(Vec::as_slice));
    for contribution in contributions {
        if sum.is_empty() {
            sum.extend_from_slice(contribution);
        } else {
            sum.iter_mut().zip(contribution).for_each(|(sum, value)| *sum += value);
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
