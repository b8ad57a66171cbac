//! Which of the waiting and running jobs should hold accelerators now, when preemption is cheap: the set of the greatest
//! worth that fits. Taking jobs in their order, and skipping what does not fit, lets a narrow job of a middling rank keep a
//! wide one out; the set does not.
//!
//! Invariant: the chosen widths never exceed the capacity; the answer follows from the items and their order.
//! Cost: O(n log n). Exact if all widths are powers of two and the capacity is a multiple of the widest (the usual case: 1,
//! 2, 4, 8 accelerators, then whole nodes), by joining the two best halves into one whole, level by level. Otherwise the
//! better of the densest first and the single best, which is worth at least half of the greatest (Dantzig 1957).

use std::cmp::Reverse;

/// A job, or a group that shares accelerators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item {
    /// Accelerators it needs; at least 1.
    pub width: u32,
    /// What it is worth to run it now; compared and added, nothing else.
    pub worth: u128,
}

/// Positions of the chosen items, the most worth for its width first.
pub fn knapsack(items: &[Item], capacity: u32) -> Vec<usize> {
    let widest = items.iter().map(|item| item.width).filter(|width| *width <= capacity).max().unwrap_or(1);
    let regular = items.iter().all(|item| item.width.is_power_of_two()) && capacity.is_multiple_of(widest);
    let mut chosen = if regular { joined(items, capacity, widest) } else { densest(items, capacity) };
    chosen.sort_by_key(|at| (Reverse(density(items, *at)), *at));
    chosen
}

/// Worth per accelerator, in a scale that keeps the order of small ones.
fn density(items: &[Item], at: usize) -> u128 {
    items.get(at).map_or(0, |item| (item.worth << 5) / u128::from(item.width.max(1)))
}

/// Halves joined in pairs, best first, until all are as wide as the widest item; the best of those fill the capacity.
fn joined(items: &[Item], capacity: u32, widest: u32) -> Vec<usize> {
    let mut parts: Vec<(u128, Vec<usize>)> = Vec::new();
    let mut width = 1;
    loop {
        let whole = items.iter().enumerate().filter(|(_, item)| item.width == width);
        parts.extend(whole.map(|(at, item)| (item.worth, vec![at])));
        // Stable, so that equals stay in the order in which they were given.
        parts.sort_by_key(|(worth, _)| Reverse(*worth));
        if width >= widest {
            break;
        }
        let mut pairs = Vec::with_capacity(parts.len().div_ceil(2));
        let mut halves = parts.into_iter();
        while let Some((worth, mut members)) = halves.next() {
            let (more, others) = halves.next().unwrap_or_default();
            members.extend(others);
            pairs.push((worth + more, members));
        }
        parts = pairs;
        width *= 2;
    }
    let room = usize::try_from(capacity / widest).unwrap_or(usize::MAX);
    parts.into_iter().take(room).flat_map(|(_, members)| members).collect()
}

/// The densest first, or the one item that is worth more than all of those.
fn densest(items: &[Item], capacity: u32) -> Vec<usize> {
    let mut line: Vec<usize> = (0..items.len()).filter(|at| items[*at].width <= capacity).collect();
    line.sort_by_key(|at| (Reverse(density(items, *at)), *at));
    let best = line.iter().copied().max_by_key(|at| (items[*at].worth, Reverse(*at)));
    let mut free = capacity;
    let mut chosen = Vec::new();
    for at in line {
        if let Some(rest) = free.checked_sub(items[at].width) {
            free = rest;
            chosen.push(at);
        }
    }
    let together: u128 = chosen.iter().map(|at| items[*at].worth).sum();
    match best {
        Some(best) if items[best].worth > together => vec![best],
        Some(_) | None => chosen,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    fn worth(items: &[Item], chosen: &[usize]) -> u128 {
        chosen.iter().map(|at| items[*at].worth).sum()
    }

    fn greatest(items: &[Item], capacity: u32) -> u128 {
        (0_usize..1 << items.len())
            .map(|set| (0..items.len()).filter(|at| set >> at & 1 == 1).collect::<Vec<_>>())
            .filter(|set| set.iter().map(|at| items[*at].width).sum::<u32>() <= capacity)
            .map(|set| worth(items, &set))
            .max()
            .unwrap_or(0)
    }

    fn check(widths: &[u32], mut judge: impl FnMut(u128, u128)) {
        let mut seed = 11_u64;
        let mut draw = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        for _ in 0..400 {
            let items: Vec<Item> = (0..draw(9))
                .map(|_| Item {
                    width: widths[usize::try_from(draw(widths.len() as u64)).unwrap()],
                    worth: draw(100).into(),
                })
                .collect();
            let chosen = knapsack(&items, 8);
            assert!(chosen.iter().map(|at| items[*at].width).sum::<u32>() <= 8);
            judge(worth(&items, &chosen), greatest(&items, 8));
        }
    }

    #[test]
    fn powers_of_two_are_chosen_exactly() {
        check(&[1, 2, 4, 8, 16], |ours, best| assert_eq!(ours, best));
    }

    #[test]
    fn other_widths_are_worth_half_at_least() {
        check(&[1, 2, 3, 5, 7], |ours, best| assert!(2 * ours >= best, "{ours} of {best}"));
    }
}
