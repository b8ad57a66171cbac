//! Which jobs share accelerators: groups of jobs of one width whose stages interleave well, and the set of groups of the
//! greatest worth that fits.
//!
//! Invariant: each job is in one group at most; members of a group have one width; a group's round is never longer than its
//! members one after another, so sharing never loses against taking turns; the widths of the groups fit the capacity.
//! Cost: with at most `EXACT` jobs every grouping is tried. With more, each class of width takes its best group, again and
//! again; jobs with equal stages are interchangeable but for their worth, so a class with k kinds has C(k + 4, 4) - 1
//! candidates for a group, 494 for the `KINDS` (8) that are considered at a time, each with its period worked out once:
//! 1 to 6 ms for 10 to 1,000 jobs of eight kinds and four widths on 64 accelerators.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use dh_core::time::Span;

use super::{Contention, LARGEST, Stages, period};
use crate::order::knapsack::{Item, knapsack};

/// Up to this many jobs, every grouping is tried.
const EXACT: usize = 6;
/// Kinds of job that a class considers at a time: those with the most worth at the head of their lines.
const KINDS: usize = 8;

/// A job that may share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sharer {
    /// Accelerators it needs.
    pub width: u32,
    /// Stages of one iteration.
    pub stages: Stages,
    /// One iteration with the accelerators to itself; not always the sum of the stages, which may overlap within the job.
    pub alone: Span,
    /// What its progress is worth, see [`worth`].
    pub worth: u64,
}

/// Jobs on the same accelerators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Positions in the slice given, ascending.
    pub members: Vec<usize>,
    /// One iteration of each member takes this long.
    pub period: Span,
}

/// Where a remaining time comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foresight {
    /// It is known.
    Known,
    /// It is predicted, and may be far off.
    Predicted,
}

/// What the progress of a job with `remaining` to run (alone) is worth, scaled: 1 / remaining^(5/8) where that is known and
/// 1 / remaining^(1/2) where it is a guess. A set of the greatest worth with the exponent 1 ends the most jobs per hour now;
/// a smaller one lets more work through, which pays later, the more so the less the ends are known. Chosen on the Muri
/// traces among 1/2, 5/8, 3/4 and 1.
pub fn worth(remaining: Span, foresight: Foresight) -> u64 {
    let half = remaining.0.max(1_000_000_000).isqrt();
    let (scale, divisor) = match foresight {
        Foresight::Known => (80, half * half.isqrt().isqrt()),
        Foresight::Predicted => (77, half),
    };
    u64::try_from((1_u128 << scale) / u128::from(divisor)).unwrap_or(u64::MAX)
}

/// The groups to run on `capacity` accelerators, the most worth for its width first.
pub fn group(sharers: &[Sharer], capacity: u32, contention: &Contention) -> Vec<Group> {
    if sharers.len() <= EXACT { exact(sharers, capacity, contention) } else { greedy(sharers, capacity, contention) }
}

/// The group of `members`, if sharing is worth it.
fn formed(sharers: &[Sharer], mut members: Vec<usize>, contention: &Contention) -> Option<Group> {
    members.sort_unstable();
    let alone: u64 = members.iter().map(|at| sharers[*at].alone.0).sum();
    if members.len() == 1 {
        return Some(Group { members, period: Span(alone) });
    }
    let stages: Vec<Stages> = members.iter().map(|at| sharers[*at].stages).collect();
    let period = contention.of(members.len(), period(&stages)?);
    (period.0 <= alone).then_some(Group { members, period })
}

/// How fast a job runs whose iteration takes `period` instead of `alone`, in 1 / 65536.
fn speed(alone: Span, period: Span) -> u64 {
    u64::try_from((u128::from(alone.0) << 16) / u128::from(period.0.max(1))).unwrap_or(u64::MAX)
}

/// What it is worth to run `group`: the worth of each member, as fast as it then is.
fn worth_of(sharers: &[Sharer], group: &Group) -> u128 {
    let worth = |at: &usize| u128::from(sharers[*at].worth) * u128::from(speed(sharers[*at].alone, group.period));
    group.members.iter().map(worth).sum()
}

/// Tries every grouping.
fn exact(sharers: &[Sharer], capacity: u32, contention: &Contention) -> Vec<Group> {
    let mut best = (0, Vec::new());
    let mut open = Vec::new();
    extend(sharers, 0, capacity, &mut open, &mut |parts| {
        let groups: Option<Vec<Group>> =
            parts.iter().map(|members| formed(sharers, members.clone(), contention)).collect();
        if let Some(groups) = groups {
            let total = groups.iter().map(|group| worth_of(sharers, group)).sum();
            if total > best.0 {
                best = (total, groups);
            }
        }
    });
    let mut groups = best.1;
    groups.sort_by_key(|group| Reverse(density(sharers, group)));
    groups
}

/// Puts job `at` and all after it into a group of `open`, into one of its own, or nowhere, and shows each outcome to `judge`.
fn extend(sharers: &[Sharer], at: usize, free: u32, open: &mut Vec<Vec<usize>>, judge: &mut impl FnMut(&[Vec<usize>])) {
    let Some(sharer) = sharers.get(at) else { return judge(open) };
    extend(sharers, at + 1, free, open, judge);
    for part in 0..open.len() {
        if open[part].len() < LARGEST && sharers[open[part][0]].width == sharer.width {
            open[part].push(at);
            extend(sharers, at + 1, free, open, judge);
            open[part].pop();
        }
    }
    if let Some(free) = free.checked_sub(sharer.width) {
        open.push(vec![at]);
        extend(sharers, at + 1, free, open, judge);
        open.pop();
    }
}

fn density(sharers: &[Sharer], group: &Group) -> u128 {
    worth_of(sharers, group) / u128::from(sharers[group.members[0]].width.max(1))
}

/// The best group of each class of width, again and again; then the set that fits; then what is left over is spread.
fn greedy(sharers: &[Sharer], capacity: u32, contention: &Contention) -> Vec<Group> {
    let mut classes: BTreeMap<u32, BTreeMap<(Stages, Span), Vec<usize>>> = BTreeMap::new();
    for (at, sharer) in sharers.iter().enumerate().filter(|(_, sharer)| (1..=capacity).contains(&sharer.width)) {
        classes.entry(sharer.width).or_default().entry((sharer.stages, sharer.alone)).or_default().push(at);
    }
    let mut groups = Vec::new();
    for (width, kinds) in classes {
        let mut class = Class::of(sharers, kinds.into_values().collect());
        groups.extend((0..capacity / width).map_while(|_| class.best(sharers, contention)));
    }
    let width = |group: &Group| sharers[group.members[0]].width;
    let items: Vec<Item> =
        groups.iter().map(|group| Item { width: width(group), worth: worth_of(sharers, group) }).collect();
    let mut groups: Vec<Group> = knapsack(&items, capacity).into_iter().map(|at| groups[at].clone()).collect();
    let used: u32 = groups.iter().map(width).sum();
    spread(sharers, &mut groups, capacity - used, contention);
    groups
}

/// Jobs of one width, in a line for each kind.
struct Class {
    /// Positions in the slice of sharers; the head of a line is at its end, where it is taken from.
    lines: Vec<Vec<usize>>,
    /// The kinds that `rounds` was made for, ascending positions in `lines`.
    kinds: Vec<usize>,
    rounds: Vec<Round>,
}

/// A group by kinds.
struct Round {
    /// Ascending, with repeats: position in [`Class::lines`], how many of that kind come before it, and the member's speed.
    members: Vec<(usize, usize, u64)>,
    period: Span,
}

impl Class {
    fn of(sharers: &[Sharer], mut lines: Vec<Vec<usize>>) -> Self {
        for line in &mut lines {
            line.sort_by_key(|at| (sharers[*at].worth, Reverse(*at)));
        }
        Self { lines, kinds: Vec::new(), rounds: Vec::new() }
    }

    /// Takes the group of the greatest worth that the heads of the lines can form.
    fn best(&mut self, sharers: &[Sharer], contention: &Contention) -> Option<Group> {
        let head = |kind: &usize| self.lines[*kind].last().map(|at| (sharers[*at].worth, Reverse(*at)));
        let mut kinds: Vec<usize> = (0..self.lines.len()).filter(|kind| !self.lines[*kind].is_empty()).collect();
        kinds.sort_by_key(|kind| Reverse(head(kind)));
        kinds.truncate(KINDS);
        kinds.sort_unstable();
        if kinds.iter().any(|kind| !self.kinds.contains(kind)) {
            self.rounds.clear();
            self.extend(sharers, contention, &kinds, &mut Vec::new());
            self.kinds = kinds;
        }
        let mut best: Option<(u128, &Round)> = None;
        for round in &self.rounds {
            let mut worth = 0_u128;
            let complete = round.members.iter().all(|(kind, depth, speed)| {
                let member = self.member(*kind, *depth);
                worth += member.map_or(0, |at| u128::from(sharers[at].worth) * u128::from(*speed));
                member.is_some()
            });
            if complete && best.is_none_or(|(most, _)| worth > most) {
                best = Some((worth, round));
            }
        }
        let (_, round) = best?;
        let period = round.period;
        let kinds: Vec<usize> = round.members.iter().map(|(kind, ..)| *kind).collect();
        let mut members: Vec<usize> = kinds.into_iter().filter_map(|kind| self.lines[kind].pop()).collect();
        members.sort_unstable();
        Some(Group { members, period })
    }

    /// The job at `depth` behind the head of the line of `kind`.
    fn member(&self, kind: usize, depth: usize) -> Option<usize> {
        let line = &self.lines[kind];
        line.get(line.len().checked_sub(depth + 1)?).copied()
    }

    /// Adds every round that begins with `chosen` and goes on with `kinds`.
    fn extend(&mut self, sharers: &[Sharer], contention: &Contention, kinds: &[usize], chosen: &mut Vec<usize>) {
        for (at, kind) in kinds.iter().enumerate() {
            chosen.push(*kind);
            // Any job of a kind stands for the kind; lines in question are not empty.
            let jobs: Option<Vec<usize>> = chosen.iter().map(|kind| self.lines[*kind].last().copied()).collect();
            if let Some((jobs, group)) = jobs.and_then(|jobs| Some((jobs.clone(), formed(sharers, jobs, contention)?)))
            {
                let members = chosen.iter().enumerate().map(|(place, kind)| {
                    let depth = chosen[..place].iter().filter(|earlier| *earlier == kind).count();
                    (*kind, depth, speed(sharers[jobs[place]].alone, group.period))
                });
                self.rounds.push(Round { members: members.collect(), period: group.period });
            }
            if chosen.len() < LARGEST {
                self.extend(sharers, contention, &kinds[at..], chosen);
            }
            chosen.pop();
        }
    }
}

/// Takes members out of their groups onto free accelerators, the greatest gain per accelerator first. Members that are in
/// the way of others stay together even where parting them would be worth more now: groups carry more work per hour.
fn spread(sharers: &[Sharer], groups: &mut Vec<Group>, mut free: u32, contention: &Contention) {
    loop {
        let mut best: Option<(u128, usize, Group, Group)> = None;
        for (at, group) in groups.iter().enumerate() {
            let width = sharers[group.members[0]].width;
            if group.members.len() < 2 || width > free {
                continue;
            }
            let before = worth_of(sharers, group);
            for member in &group.members {
                let others = group.members.iter().copied().filter(|other| other != member).collect();
                let parts = (formed(sharers, others, contention), formed(sharers, vec![*member], contention));
                if let (Some(rest), Some(one)) = parts {
                    let after = worth_of(sharers, &rest) + worth_of(sharers, &one);
                    let gain = after.saturating_sub(before) / u128::from(width);
                    if gain > 0 && best.as_ref().is_none_or(|(most, ..)| gain > *most) {
                        best = Some((gain, at, rest, one));
                    }
                }
            }
        }
        let Some((_, at, rest, one)) = best else { return };
        free -= sharers[one.members[0]].width;
        groups[at] = rest;
        groups.push(one);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    const SHARING: Contention = Contention { millionths: [1_310_345, 1_477_833, 1_349_754] };

    fn draw(seed: &mut u64, below: u64) -> u64 {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 33) % below
    }

    fn jobs(seed: &mut u64, count: usize) -> Vec<Sharer> {
        let kinds: Vec<Stages> = (0..4)
            .map(|_| Stages {
                input: Span(1 + draw(seed, 500)),
                compute: Span(1 + draw(seed, 500)),
                network: Span(draw(seed, 200)),
            })
            .collect();
        (0..count)
            .map(|_| {
                let stages = kinds[usize::try_from(draw(seed, 4)).unwrap()];
                let alone = Span(stages.input.0 + stages.compute.0 + stages.network.0);
                let remaining = Span((1 + draw(seed, 1000)) * 60_000_000_000);
                Sharer { width: 1 << draw(seed, 3), stages, alone, worth: worth(remaining, Foresight::Known) }
            })
            .collect()
    }

    fn total(sharers: &[Sharer], groups: &[Group]) -> u128 {
        groups.iter().map(|group| worth_of(sharers, group)).sum()
    }

    fn check(sharers: &[Sharer], capacity: u32, groups: &[Group]) {
        let mut seen: Vec<usize> = groups.iter().flat_map(|group| group.members.clone()).collect();
        let all = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), all, "a job is in two groups");
        let mut used = 0;
        for group in groups {
            let width = sharers[group.members[0]].width;
            used += width;
            assert!(group.members.iter().all(|at| sharers[*at].width == width));
            assert!(group.period.0 <= group.members.iter().map(|at| sharers[*at].alone.0).sum());
        }
        assert!(used <= capacity);
    }

    /// Every way to label jobs with groups, straight from the definition.
    fn brute_force(sharers: &[Sharer], capacity: u32) -> u128 {
        let n = sharers.len();
        let mut best = 0;
        let mut labels = vec![0_usize; n];
        loop {
            let parts: Vec<Vec<usize>> = (1..=n)
                .map(|label| (0..n).filter(|at| labels[*at] == label).collect::<Vec<_>>())
                .filter(|part| !part.is_empty())
                .collect();
            let same = |part: &Vec<usize>| part.iter().all(|at| sharers[*at].width == sharers[part[0]].width);
            let used: u32 = parts.iter().map(|part| sharers[part[0]].width).sum();
            if used <= capacity && parts.iter().all(same) {
                let groups: Option<Vec<Group>> =
                    parts.into_iter().map(|part| formed(sharers, part, &SHARING)).collect();
                best = best.max(groups.map_or(0, |groups| total(sharers, &groups)));
            }
            let Some(at) = labels.iter().position(|label| *label < n) else { return best };
            labels[at] += 1;
            labels[..at].fill(0);
        }
    }

    #[test]
    fn few_jobs_are_grouped_exactly_and_the_greedy_way_is_near() {
        let mut seed = 3;
        let (mut ours, mut most) = (0, 0);
        for round in 0..60 {
            let sharers = jobs(&mut seed, 3 + round % 3);
            let best = brute_force(&sharers, 4);
            let groups = group(&sharers, 4, &SHARING);
            check(&sharers, 4, &groups);
            assert_eq!(total(&sharers, &groups), best, "{sharers:?}");
            let groups = greedy(&sharers, 4, &SHARING);
            check(&sharers, 4, &groups);
            let near = total(&sharers, &groups);
            assert!(near <= best && near * 10 >= best * 6, "{near} of {best}: {sharers:?}");
            ours += near * 1000 / best.max(1);
            most += 1000;
        }
        assert!(ours * 100 > most * 95, "greedy reaches {ours} of {most} on average");
    }

    #[test]
    fn many_jobs_make_valid_groups_that_fill_the_hall_and_carry_more_work() {
        let mut seed = 5;
        let (mut work, mut room) = (0, 0);
        for _ in 0..30 {
            let sharers = jobs(&mut seed, 60);
            let groups = group(&sharers, 16, &SHARING);
            check(&sharers, 16, &groups);
            assert_eq!(groups.iter().map(|group| sharers[group.members[0]].width).sum::<u32>(), 16);
            room += 16 << 16;
            for group in &groups {
                let member = |at: &usize| speed(sharers[*at].alone, group.period) * u64::from(sharers[*at].width);
                work += group.members.iter().map(member).sum::<u64>();
            }
        }
        assert!(work * 10 > room * 13, "{work} of {room}");
    }

    #[test]
    fn what_is_free_is_used_before_anybody_shares() {
        let mut seed = 9;
        let sharers: Vec<Sharer> = jobs(&mut seed, 12).into_iter().map(|one| Sharer { width: 2, ..one }).collect();
        let groups = group(&sharers, 24, &SHARING);
        assert!(groups.iter().all(|group| group.members.len() == 1) && groups.len() == 12);
    }
}
