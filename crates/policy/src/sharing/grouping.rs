//! Which jobs share accelerators: groups of jobs of one width whose stages interleave well, and the set of groups of the
//! greatest worth that fits.
//!
//! Invariant: each job is in one group at most; members of a group have one shape, and so one width; together they are never slower than
//! one after another, so sharing never loses against taking turns; the widths of the groups fit the capacity.
//! Cost: with at most `EXACT` jobs every grouping is tried. With more, each class of width takes its best group, again and
//! again; jobs with equal stages are interchangeable but for their worth, so a class with k kinds has C(k + 4, 4) - 1
//! candidates for a group, 494 for the `KINDS` (8) that are considered at a time, each with its period worked out once:
//! 1 to 6 ms for 10 to 1,000 jobs of eight kinds and four widths on 64 accelerators.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use dh_core::time::Span;

use super::{Contention, Kind, LARGEST, Together, Where};
use crate::order::knapsack::{Item, knapsack};

/// Up to this many jobs, every grouping is tried.
const EXACT: usize = 6;
/// Kinds of job that a class considers at a time: those with the most worth at the head of their lines.
const KINDS: usize = 8;

/// A job that may share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sharer {
    /// Accelerators it needs; at least 1.
    pub width: u32,
    /// Only jobs of one shape share; those of one shape have one width.
    pub shape: u32,
    /// What is known of it.
    pub kind: Kind,
    /// What its progress is worth, see [`worth`].
    pub worth: u64,
}

/// Jobs on the same accelerators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Positions in the slice given, ascending.
    pub members: Vec<usize>,
    /// How fast each of them is, in millionths of its speed alone.
    pub speeds: Vec<u64>,
}

/// What is known of jobs together, and what sharing costs.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// What is known.
    pub together: &'a Together,
    /// What it costs.
    pub contention: &'a Contention,
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
pub fn group(sharers: &[Sharer], capacity: u32, terms: Terms<'_>) -> Vec<Group> {
    if sharers.len() <= EXACT { exact(sharers, capacity, terms) } else { greedy(sharers, capacity, terms) }
}

/// The group of `members`, if sharing is worth it.
fn formed(sharers: &[Sharer], mut members: Vec<usize>, terms: Terms<'_>) -> Option<Group> {
    members.sort_unstable();
    let kinds: Vec<Kind> = members.iter().map(|at| sharers[*at].kind).collect();
    let speeds = terms.together.gain(&kinds, Where::Anywhere, terms.contention)?;
    Some(Group { members, speeds })
}

/// What it is worth to run `group`: the worth of each member, as fast as it then is.
fn worth_of(sharers: &[Sharer], group: &Group) -> u128 {
    let worth = |(at, speed): (&usize, &u64)| u128::from(sharers[*at].worth) * u128::from(*speed);
    group.members.iter().zip(&group.speeds).map(worth).sum()
}

/// Tries every grouping.
fn exact(sharers: &[Sharer], capacity: u32, terms: Terms<'_>) -> Vec<Group> {
    let mut best = (0, Vec::new());
    let mut open = Vec::new();
    extend(sharers, 0, capacity, &mut open, &mut |parts| {
        let groups: Option<Vec<Group>> = parts.iter().map(|members| formed(sharers, members.clone(), terms)).collect();
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
        if open[part].len() < LARGEST && sharers[open[part][0]].shape == sharer.shape {
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
fn greedy(sharers: &[Sharer], capacity: u32, terms: Terms<'_>) -> Vec<Group> {
    let mut shapes: BTreeMap<(u32, u32), BTreeMap<Kind, Vec<usize>>> = BTreeMap::new();
    for (at, sharer) in sharers.iter().enumerate().filter(|(_, sharer)| (1..=capacity).contains(&sharer.width)) {
        shapes.entry((sharer.width, sharer.shape)).or_default().entry(sharer.kind).or_default().push(at);
    }
    let mut groups = Vec::new();
    for ((width, _), kinds) in shapes {
        let mut class = Class::of(sharers, kinds.into_values().collect());
        groups.extend((0..capacity / width).map_while(|_| class.best(sharers, terms)));
    }
    let width = |group: &Group| sharers[group.members[0]].width;
    let items: Vec<Item> =
        groups.iter().map(|group| Item { width: width(group), worth: worth_of(sharers, group) }).collect();
    let mut groups: Vec<Group> = knapsack(&items, capacity).into_iter().map(|at| groups[at].clone()).collect();
    let used: u32 = groups.iter().map(width).sum();
    spread(sharers, &mut groups, capacity - used, terms);
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
}

impl Class {
    fn of(sharers: &[Sharer], mut lines: Vec<Vec<usize>>) -> Self {
        for line in &mut lines {
            line.sort_by_key(|at| (sharers[*at].worth, Reverse(*at)));
        }
        Self { lines, kinds: Vec::new(), rounds: Vec::new() }
    }

    /// Takes the group of the greatest worth that the heads of the lines can form.
    fn best(&mut self, sharers: &[Sharer], terms: Terms<'_>) -> Option<Group> {
        let head = |kind: &usize| self.lines[*kind].last().map(|at| (sharers[*at].worth, Reverse(*at)));
        let mut kinds: Vec<usize> = (0..self.lines.len()).filter(|kind| !self.lines[*kind].is_empty()).collect();
        kinds.sort_by_key(|kind| Reverse(head(kind)));
        kinds.truncate(KINDS);
        kinds.sort_unstable();
        if kinds.iter().any(|kind| !self.kinds.contains(kind)) {
            self.rounds.clear();
            self.extend(sharers, terms, &kinds, &mut Vec::new());
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
        let kinds: Vec<(usize, u64)> = round.members.iter().map(|(kind, _, speed)| (*kind, *speed)).collect();
        let members = kinds.into_iter().filter_map(|(kind, speed)| Some((self.lines[kind].pop()?, speed)));
        let mut members: Vec<(usize, u64)> = members.collect();
        members.sort_unstable();
        let (members, speeds) = members.into_iter().unzip();
        Some(Group { members, speeds })
    }

    /// The job at `depth` behind the head of the line of `kind`.
    fn member(&self, kind: usize, depth: usize) -> Option<usize> {
        let line = &self.lines[kind];
        line.get(line.len().checked_sub(depth + 1)?).copied()
    }

    /// Adds every round that begins with `chosen` and goes on with `kinds`.
    fn extend(&mut self, sharers: &[Sharer], terms: Terms<'_>, kinds: &[usize], chosen: &mut Vec<usize>) {
        for (at, kind) in kinds.iter().enumerate() {
            chosen.push(*kind);
            // Any job of a kind stands for the kind; lines in question are not empty.
            let jobs: Option<Vec<usize>> = chosen.iter().map(|kind| self.lines[*kind].last().copied()).collect();
            if let Some((jobs, group)) = jobs.and_then(|jobs| Some((jobs.clone(), formed(sharers, jobs, terms)?))) {
                let members = chosen.iter().enumerate().map(|(place, kind)| {
                    let depth = chosen[..place].iter().filter(|earlier| *earlier == kind).count();
                    // Jobs of one kind are equally fast, so any of them tells.
                    let member = group.members.iter().position(|member| *member == jobs[place]);
                    (*kind, depth, member.and_then(|at| group.speeds.get(at)).copied().unwrap_or(1))
                });
                self.rounds.push(Round { members: members.collect() });
            }
            if chosen.len() < LARGEST {
                self.extend(sharers, terms, &kinds[at..], chosen);
            }
            chosen.pop();
        }
    }
}

/// Takes members out of their groups onto free accelerators, the greatest gain per accelerator first. Members that are in
/// the way of others stay together even where parting them would be worth more now: groups carry more work per hour.
fn spread(sharers: &[Sharer], groups: &mut Vec<Group>, mut free: u32, terms: Terms<'_>) {
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
                let parts = (formed(sharers, others, terms), formed(sharers, vec![*member], terms));
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
    use crate::sharing::{Iteration, Stages};

    const SHARING: Contention = Contention { millionths: [1_310_345, 1_477_833, 1_349_754] };

    /// Jobs with what is known of their kinds.
    struct Jobs {
        sharers: Vec<Sharer>,
        together: Together,
    }

    impl Jobs {
        fn terms(&self) -> Terms<'_> {
            Terms { together: &self.together, contention: &SHARING }
        }
    }

    fn draw(seed: &mut u64, below: u64) -> u64 {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 33) % below
    }

    fn jobs(seed: &mut u64, count: usize) -> Jobs {
        let mut together = Together::default();
        for kind in 1..=4 {
            let input = Span(1 + draw(seed, 500));
            let (compute, network) = (Span(1 + draw(seed, 500)), Span(draw(seed, 200)));
            let stages = Stages { input, compute, network };
            let alone = Span(input.0 + compute.0 + network.0);
            together.tell(kind, Some(Iteration { stages, alone, memory_milli: 0 }));
        }
        let sharers = (0..count).map(|_| {
            let kind = 1 + Kind::try_from(draw(seed, 4)).unwrap();
            let remaining = Span((1 + draw(seed, 1000)) * 60_000_000_000);
            let shape = u32::try_from(draw(seed, 3)).unwrap();
            Sharer { width: 1 << shape, shape, kind, worth: worth(remaining, Foresight::Known) }
        });
        Jobs { sharers: sharers.collect(), together }
    }

    fn total(jobs: &Jobs, groups: &[Group]) -> u128 {
        groups.iter().map(|group| worth_of(&jobs.sharers, group)).sum()
    }

    fn check(jobs: &Jobs, capacity: u32, groups: &[Group]) {
        let mut seen: Vec<usize> = groups.iter().flat_map(|group| group.members.clone()).collect();
        let all = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), all, "a job is in two groups");
        let mut used = 0;
        for group in groups {
            let shape = jobs.sharers[group.members[0]].shape;
            used += jobs.sharers[group.members[0]].width;
            assert!(group.members.iter().all(|at| jobs.sharers[*at].shape == shape));
            let kinds: Vec<Kind> = group.members.iter().map(|at| jobs.sharers[*at].kind).collect();
            assert_eq!(jobs.together.gain(&kinds, Where::Anywhere, &SHARING).as_ref(), Some(&group.speeds));
        }
        assert!(used <= capacity);
    }

    /// Every way to label jobs with groups, straight from the definition.
    fn brute_force(jobs: &Jobs, capacity: u32) -> u128 {
        let n = jobs.sharers.len();
        let mut best = 0;
        let mut labels = vec![0_usize; n];
        loop {
            let parts: Vec<Vec<usize>> = (1..=n)
                .map(|label| (0..n).filter(|at| labels[*at] == label).collect::<Vec<_>>())
                .filter(|part| !part.is_empty())
                .collect();
            let shape = |at: &usize| jobs.sharers[*at].shape;
            let same = |part: &Vec<usize>| part.iter().all(|at| shape(at) == shape(&part[0]));
            let used: u32 = parts.iter().map(|part| jobs.sharers[part[0]].width).sum();
            if used <= capacity && parts.iter().all(same) {
                let groups: Option<Vec<Group>> =
                    parts.into_iter().map(|part| formed(&jobs.sharers, part, jobs.terms())).collect();
                best = best.max(groups.map_or(0, |groups| total(jobs, &groups)));
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
            let jobs = jobs(&mut seed, 3 + round % 3);
            let best = brute_force(&jobs, 4);
            let groups = group(&jobs.sharers, 4, jobs.terms());
            check(&jobs, 4, &groups);
            assert_eq!(total(&jobs, &groups), best, "{:?}", jobs.sharers);
            let groups = greedy(&jobs.sharers, 4, jobs.terms());
            check(&jobs, 4, &groups);
            let near = total(&jobs, &groups);
            assert!(near <= best && near * 10 >= best * 6, "{near} of {best}: {:?}", jobs.sharers);
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
            let jobs = jobs(&mut seed, 60);
            let groups = group(&jobs.sharers, 16, jobs.terms());
            check(&jobs, 16, &groups);
            let width = |group: &Group| jobs.sharers[group.members[0]].width;
            assert_eq!(groups.iter().map(width).sum::<u32>(), 16);
            room += 16_000_000;
            work += groups.iter().map(|group| group.speeds.iter().sum::<u64>() * u64::from(width(group))).sum::<u64>();
        }
        assert!(work * 10 > room * 13, "{work} of {room}");
    }

    #[test]
    fn what_is_free_is_used_before_anybody_shares() {
        let mut seed = 9;
        let mut jobs = jobs(&mut seed, 12);
        for sharer in &mut jobs.sharers {
            (sharer.width, sharer.shape) = (2, 0);
        }
        let groups = group(&jobs.sharers, 24, jobs.terms());
        assert!(groups.iter().all(|group| group.members.len() == 1) && groups.len() == 12);
    }

    #[test]
    fn whoever_nothing_is_known_of_runs_alone() {
        let mut seed = 11;
        let mut jobs = jobs(&mut seed, 40);
        for sharer in jobs.sharers.iter_mut().step_by(2) {
            sharer.kind = 0;
        }
        let groups = group(&jobs.sharers, 8, jobs.terms());
        let knows = |group: &Group| group.members.iter().all(|at| jobs.sharers[*at].kind > 0);
        assert!(groups.iter().all(|group| group.members.len() == 1 || knows(group)));
        assert!(groups.iter().any(|group| group.members.len() > 1));
    }
}
