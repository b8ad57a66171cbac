//! How long one round of a group takes, in which each member makes one iteration.
//!
//! The model: a round has four slots, and each member owns one of them, all different. A member's input stage spans its own
//! slot and the next (storage, then processors), its compute stage fills the third, its network stage the fourth. Every
//! stage starts at a boundary between slots and holds the next boundary back until it has ended. The steady period is then
//! the heaviest cycle of a graph of four boundaries whose edges are stages of one or two slots. Every simple cycle goes
//! round once, so the heaviest is a maximum of two sums.
//!
//! Invariant: no shorter than any member's own stages in a row, nor than all computing (or all network) stages together.
//! Cost: at most six arrangements, under a microsecond. Source: the paper's simulator plays the boundaries forward from a
//! cold start and takes the first two rounds that agree; for two and three members the two agree, for four it can stop
//! before the round is steady, and then promises up to 29 % less than it takes.

use dh_core::time::Span;

use super::Stages;

/// Slots of a round, and so the most members of a group.
pub const LARGEST: usize = 4;

/// Where the second, third and fourth member can go when the first has slot 0; a round has no beginning, so that is general.
const SLOTS: [&[&[usize]]; LARGEST - 1] = [
    &[&[1], &[2], &[3]],
    &[&[1, 2], &[2, 1], &[1, 3], &[3, 1], &[2, 3], &[3, 2]],
    &[&[1, 2, 3], &[1, 3, 2], &[2, 1, 3], &[2, 3, 1], &[3, 1, 2], &[3, 2, 1]],
];

/// The shortest round of `members` (two to [`LARGEST`]) over all arrangements; `None` for any other number of them.
pub fn period(members: &[Stages]) -> Option<Span> {
    let arrangements = SLOTS.get(members.len().checked_sub(2)?)?;
    let (first, rest) = members.split_first()?;
    arrangements
        .iter()
        .map(|slots| {
            let mut owner = [None; LARGEST];
            owner[0] = Some(first);
            for (slot, member) in slots.iter().zip(rest) {
                owner[*slot] = Some(member);
            }
            round(&owner)
        })
        .min()
}

/// The period of one arrangement.
fn round(owner: &[Option<&Stages>; LARGEST]) -> Span {
    // What holds boundary `slot + 1` back from boundary `slot`: the network stage of whoever owns the next slot, the
    // compute stage of the owner of the one after. Nobody there: no edge at all, the boundaries may pass each other.
    let single = |slot: usize| {
        let network = owner[(slot + 1) % LARGEST].map(|stages| stages.network.0);
        let compute = owner[(slot + 2) % LARGEST].map(|stages| stages.compute.0);
        network.max(compute)
    };
    // What holds boundary `slot + 1` back from boundary `slot - 1`: an input stage, or two short edges.
    let double = |slot: usize| {
        let input = owner[(slot + 3) % LARGEST].map(|stages| stages.input.0);
        let both = match (single((slot + 3) % LARGEST), single(slot)) {
            (Some(one), Some(other)) => Some(one.saturating_add(other)),
            (Some(_) | None, None) | (None, Some(_)) => None,
        };
        input.max(both)
    };
    let cycle = |from: usize| match (double(from), double(from + 2)) {
        (Some(one), Some(other)) => one.saturating_add(other),
        (Some(_) | None, None) | (None, Some(_)) => 0,
    };
    Span(cycle(0).max(cycle(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stages(input: u64, compute: u64, network: u64) -> Stages {
        Stages { input: Span(input), compute: Span(compute), network: Span(network) }
    }

    /// The same model played forward: boundaries of many rounds, each as early as its stages let it be.
    fn played(owner: &[Option<&Stages>; LARGEST]) -> u64 {
        const ROUNDS: usize = 64;
        let mut at = vec![0_u64; LARGEST * ROUNDS + 1];
        for slot in 0..LARGEST * ROUNDS {
            let mut next = 0;
            if let Some(stages) = owner[(slot + 1) % LARGEST] {
                next = next.max(at[slot] + stages.network.0);
            }
            if let Some(stages) = owner[(slot + 2) % LARGEST] {
                next = next.max(at[slot] + stages.compute.0);
            }
            if let Some(stages) = owner[(slot + 3) % LARGEST].filter(|_| slot > 0) {
                next = next.max(at[slot - 1] + stages.input.0);
            }
            at[slot + 1] = next;
        }
        // Twelve rounds are a whole number of rounds of every cycle there is.
        (at[LARGEST * ROUNDS] - at[LARGEST * (ROUNDS - 12)]) / 12
    }

    #[test]
    fn the_heaviest_cycle_is_what_the_round_settles_at() {
        let mut seed = 7_u64;
        let mut draw = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 40) % 1000
        };
        for members in 2..=LARGEST {
            for _ in 0..500 {
                let group: Vec<Stages> = (0..members).map(|_| stages(draw(), draw(), draw())).collect();
                for slots in SLOTS[members - 2] {
                    let mut owner = [None; LARGEST];
                    owner[0] = Some(&group[0]);
                    for (slot, member) in slots.iter().zip(&group[1..]) {
                        owner[*slot] = Some(member);
                    }
                    assert_eq!(round(&owner).0, played(&owner), "{group:?} in {slots:?}");
                }
            }
        }
    }

    #[test]
    fn different_bottlenecks_cost_each_other_nothing() {
        assert_eq!(period(&[stages(446, 8, 0), stages(1, 410, 0)]), Some(Span(454)));
        assert_eq!(period(&[stages(0, 100, 0), stages(0, 100, 0)]), Some(Span(200)));
        assert_eq!(period(&[stages(0, 100, 50), stages(0, 100, 50)]), Some(Span(200)));
    }

    #[test]
    fn only_groups_have_a_period() {
        assert_eq!(period(&[]), None);
        assert_eq!(period(&[stages(1, 1, 1)]), None);
        assert_eq!(period(&[stages(1, 1, 1); 5]), None);
    }
}
