//! The jobs of a group, least key first: in tracks by length, each a sorted run, and a heap for those that come out of turn.
//!
//! Most jobs come in the order in which they will go: they are added to a run's end and taken from its front, without a look
//! at any other job's record, which among a million would have to be fetched from memory. A track has jobs of which none is
//! twice as long as another, so that the first job that is short enough is found without a look at those that are not.
//!
//! Invariant: a run ascends by key and id, and no key in it is above `last`; a track's `top` is the least of both parts, the
//! group's the least of all tracks. Forgotten jobs are members until they are on top. Cost: a look at the tops of the tracks,
//! some tens at most; nothing but the end of a list for a job in order; the levels of a heap for another. The one track whose
//! jobs may be short enough or not is gone through, and not again before a shorter one comes or more time is given.

use dh_core::JobId;
use dh_core::time::Span;
use dh_policy::order::Key;
use dh_policy::pages::Pages;
use serde::{Deserialize, Serialize};

use super::job::{Job, Jobs, Phase, Slot};

/// Where a job stands in its group.
type Place = (Key, JobId);

type List = Pages<Slot, 32>;

/// Whether a group's jobs are told apart by length.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Tracks {
    /// Nobody asks for short ones.
    #[default]
    One,
    /// A track for each power of two.
    ByLength,
}

/// The track of jobs whose length is not known.
const UNKNOWN: u8 = u8::MAX;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Members {
    /// By length.
    tracks: Vec<Track>,
    top: Option<(Place, Slot)>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Track {
    /// Bits of what its jobs have left to run, nanoseconds.
    bits: u8,
    run: List,
    /// Where the run begins; what is before is gone.
    from: usize,
    last: Option<Place>,
    /// A binary heap.
    heap: List,
    top: Option<(Place, Slot)>,
    /// No job here has less left to run.
    least: u64,
}

impl Members {
    /// The job of least key.
    pub(super) fn top(&self) -> Option<Slot> {
        self.top.map(|(_, slot)| slot)
    }

    /// No job of known length has less left to run, nanoseconds; the most there is if there is none.
    pub(super) fn least(&self) -> u64 {
        let known = self.tracks.iter().filter(|track| track.bits != UNKNOWN);
        known.map(|track| track.least).min().unwrap_or(u64::MAX)
    }

    /// All slots, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Slot> {
        self.tracks.iter().flat_map(Track::iter)
    }

    pub(super) fn push(&mut self, tracks: Tracks, jobs: &Jobs, slot: Slot) {
        let place = place(jobs, slot);
        if let Some(track) = self.track_of(tracks, jobs, slot) {
            track.push(jobs, slot);
        }
        if self.top.is_none_or(|(top, _)| place < top) {
            self.top = Some((place, slot));
        }
    }

    /// Takes the job of least key out.
    pub(super) fn pop(&mut self, jobs: &Jobs) -> Option<Slot> {
        let top = self.top?;
        let track = self.tracks.iter_mut().find(|track| track.top == Some(top))?;
        track.pop(jobs);
        self.look();
        Some(top.1)
    }

    /// Takes any job out.
    pub(super) fn take(&mut self, tracks: Tracks, jobs: &Jobs, slot: Slot) {
        if let Some(track) = self.track_of(tracks, jobs, slot) {
            track.take(jobs, slot);
        }
        self.look();
    }

    /// A member's key has fallen to what its record says.
    pub(super) fn fell(&mut self, tracks: Tracks, jobs: &Jobs, slot: Slot) {
        if let Some(track) = self.track_of(tracks, jobs, slot)
            && track.take(jobs, slot)
        {
            track.add(jobs, slot);
            track.least = track.least.min(left(jobs, slot));
            track.look(jobs);
        }
        self.look();
    }

    /// The first job that has no more than `most` left to run, if the very first has more. Buried jobs that are in the way are
    /// taken out and `buried` is told.
    pub(super) fn short(
        &mut self,
        jobs: &mut Jobs,
        most: Span,
        mut buried: impl FnMut(&mut Jobs, Slot),
    ) -> Option<Slot> {
        let short = |job: &Job| job.remaining().is_some_and(|remaining| remaining <= most);
        if jobs.get(self.top()?).is_none_or(short) {
            return None;
        }
        let mut first: Option<(Place, Slot)> = None;
        for track in &mut self.tracks {
            if track.least > most.0 || track.bits == UNKNOWN {
                continue;
            }
            while let Some((_, top)) = track.top
                && jobs.get(top).is_none_or(|job| job.phase == Phase::Gone)
            {
                track.pop(jobs);
                buried(jobs, top);
            }
            let all_are = track.bits == 0 || most.0.checked_shr(track.bits.into()).unwrap_or(0) > 0;
            let found = if all_are { track.top } else { track.first_within(jobs, most) };
            first = first.into_iter().chain(found).min();
        }
        self.look();
        first.map(|(_, slot)| slot)
    }

    /// Keys have changed: all are sorted again, without those that are not to `stay`.
    pub(super) fn sort(&mut self, tracks: Tracks, jobs: &mut Jobs, mut stay: impl FnMut(&mut Jobs, Slot) -> bool) {
        let mut all: Vec<Slot> = self.iter().collect();
        all.retain(|slot| stay(jobs, *slot));
        all.sort_by_cached_key(|slot| place(jobs, *slot));
        *self = Self::default();
        for slot in all {
            if let Some(track) = self.track_of(tracks, jobs, slot) {
                track.push(jobs, slot);
            }
        }
        self.look();
    }

    fn track_of(&mut self, tracks: Tracks, jobs: &Jobs, slot: Slot) -> Option<&mut Track> {
        let bits = match tracks {
            Tracks::One => UNKNOWN,
            Tracks::ByLength => jobs.get(slot).and_then(Job::remaining).map_or(UNKNOWN, bits),
        };
        let at = self.tracks.partition_point(|track| track.bits < bits);
        if self.tracks.get(at).is_none_or(|track| track.bits != bits) {
            self.tracks.insert(at, Track { bits, least: u64::MAX, ..Track::default() });
        }
        self.tracks.get_mut(at)
    }

    fn look(&mut self) {
        self.top = self.tracks.iter().filter_map(|track| track.top).min();
    }
}

/// What a job has left to run, nanoseconds.
fn left(jobs: &Jobs, slot: Slot) -> u64 {
    jobs.get(slot).and_then(Job::remaining).map_or(u64::MAX, |left| left.0)
}

/// Bits of a length, nanoseconds: those of `b` bits are below 2 to the `b`.
fn bits(length: Span) -> u8 {
    u8::try_from(u64::BITS - length.0.leading_zeros()).unwrap_or(UNKNOWN)
}

impl Track {
    fn iter(&self) -> impl Iterator<Item = Slot> {
        self.run.iter().skip(self.from).chain(self.heap.iter()).copied()
    }

    fn front(&self) -> Option<Slot> {
        self.run.get(self.from).copied()
    }

    fn push(&mut self, jobs: &Jobs, slot: Slot) {
        let place = place(jobs, slot);
        self.least = self.least.min(left(jobs, slot));
        let first = self.front().is_none();
        if first || Some(place) >= self.last {
            self.run.push(slot);
            self.last = Some(place);
        } else {
            self.add(jobs, slot);
        }
        if self.top.is_none_or(|(top, _)| place < top) {
            self.top = Some((place, slot));
        }
    }

    fn pop(&mut self, jobs: &Jobs) {
        let Some((_, top)) = self.top else { return };
        if self.front() == Some(top) {
            self.skip();
        } else {
            take_at(&mut self.heap, jobs, 0);
        }
        self.look(jobs);
    }

    /// Takes a job out; whether it was there.
    fn take(&mut self, jobs: &Jobs, slot: Slot) -> bool {
        if self.front() == Some(slot) {
            self.skip();
            self.look(jobs);
            return true;
        }
        let at = self.heap.iter().position(|other| *other == slot);
        if let Some(at) = at {
            take_at(&mut self.heap, jobs, at);
        } else {
            let rest: List = self.run.iter().skip(self.from).copied().filter(|other| *other != slot).collect();
            if rest.len() + self.from == self.run.len() {
                return false;
            }
            (self.run, self.from) = (rest, 0);
        }
        self.look(jobs);
        true
    }

    /// The first of those that have no more than `most` left to run.
    fn first_within(&mut self, jobs: &Jobs, most: Span) -> Option<(Place, Slot)> {
        let mut least = u64::MAX;
        let mut fits = |slot: &Slot| {
            let left = jobs.get(*slot).filter(|job| job.phase != Phase::Gone).and_then(Job::remaining);
            least = left.map_or(least, |left| least.min(left.0));
            left.is_some_and(|left| left <= most)
        };
        let of_run = self.run.iter().skip(self.from).copied().find(|slot| fits(slot));
        let of_heap = self.heap.iter().copied().filter(|slot| fits(slot)).map(|slot| (place(jobs, slot), slot)).min();
        let first = of_run.map(|slot| (place(jobs, slot), slot)).into_iter().chain(of_heap).min();
        if first.is_none() {
            self.least = least;
        }
        first
    }

    fn add(&mut self, jobs: &Jobs, slot: Slot) {
        let end = self.heap.len();
        self.heap.push(slot);
        up(&mut self.heap, jobs, end);
    }

    fn skip(&mut self) {
        self.from = self.run.skip_page(self.from + 1);
        if self.from >= self.run.len() {
            (self.run, self.from) = (List::default(), 0);
        }
    }

    fn look(&mut self, jobs: &Jobs) {
        let both = self.front().into_iter().chain(self.heap.get(0).copied());
        self.top = both.map(|slot| (place(jobs, slot), slot)).min();
        if self.top.is_none() {
            self.least = u64::MAX;
        }
    }
}

fn place(jobs: &Jobs, slot: Slot) -> Place {
    jobs.get(slot).map_or((Key { class: i64::MIN, value: 0 }, JobId(0)), |job| (job.key, job.id))
}

fn up(heap: &mut List, jobs: &Jobs, from: usize) {
    let mut at = from;
    while at > 0 {
        let parent = (at - 1) / 2;
        let (Some(child), Some(above)) = (heap.get(at).copied(), heap.get(parent).copied()) else { return };
        if place(jobs, child) >= place(jobs, above) {
            return;
        }
        heap.swap(at, parent);
        at = parent;
    }
}

fn take_at(heap: &mut List, jobs: &Jobs, from: usize) {
    let Some(end) = heap.len().checked_sub(1) else { return };
    heap.swap(from, end);
    heap.pop();
    up(heap, jobs, from.min(end.saturating_sub(1)));
    let mut at = from;
    loop {
        let least = (2 * at + 1..=2 * at + 2)
            .filter_map(|child| Some((child, *heap.get(child)?)))
            .min_by_key(|(_, slot)| place(jobs, *slot));
        let Some((child, below)) = least else { return };
        let Some(here) = heap.get(at).copied() else { return };
        if place(jobs, here) <= place(jobs, below) {
            return;
        }
        heap.swap(at, child);
        at = child;
    }
}
