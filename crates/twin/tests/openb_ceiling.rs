//! What no policy can exceed on the default list of the openb trace, with or without moves, whatever it refuses.
//!
//! Each size of a pod's part of an accelerator has a weight, in twelfths of an accelerator, such that no accelerator holds more
//! than twelve. So pods of no more than twelve for each accelerator are allocated, and the most that they can demand is that of
//! those which demand most for their weight. Processors, memory and models only lower it. The weights are the solution of the
//! dual linear program; that they are valid is checked here by trying every filling.

/// Thousandths of an accelerator, how many pods of the list ask for them, and the weight.
const SIZES: [(u64, u64, u64); 21] = [
    (1000, 4355, 12),
    (810, 1078, 12),
    (650, 253, 8),
    (590, 75, 8),
    (550, 72, 8),
    (480, 19, 6),
    (470, 750, 6),
    (460, 128, 6),
    (440, 2, 4),
    (370, 47, 4),
    (350, 6, 4),
    (330, 7, 4),
    (320, 328, 4),
    (290, 1, 3),
    (270, 4, 3),
    (230, 140, 3),
    (220, 62, 1),
    (160, 74, 0),
    (140, 1, 0),
    (110, 24, 0),
    (50, 7, 0),
];

/// The heaviest filling of what is `left` with sizes from `at` on.
fn heaviest(left: u64, at: usize) -> u64 {
    let Some((size, _, weight)) = SIZES.get(at).filter(|(_, _, weight)| *weight > 0) else { return 0 };
    (0..=left / size).map(|count| count * weight + heaviest(left - count * size, at + 1)).max().unwrap_or(0)
}

#[test]
fn no_policy_allocates_97_percent_of_the_default_list() {
    assert_eq!(heaviest(1000, 0), 12, "an accelerator holds no more than its twelve twelfths");
    // When as much is asked for as there is, the list is served by as many accelerators as it asks for.
    let asked: u64 = SIZES.iter().map(|(size, count, _)| size * count).sum();
    assert_eq!(asked, 6_086_800);
    // Room in twelfths of thousandths of accelerators; pods in thousandths, so that the last one may be a part.
    let mut room = asked * 12;
    let mut by_density = SIZES;
    by_density.sort_by_key(|(size, _, weight)| if *weight == 0 { 0 } else { u64::MAX - size * 1_000_000 / weight });
    let mut allocated = 0;
    for (size, count, weight) in by_density {
        let taken = room.checked_div(weight).unwrap_or(u64::MAX).min(count * 1000);
        room -= taken * weight;
        allocated += taken * size / 1000;
    }
    let per_10_000 = allocated * 10_000 / asked;
    assert_eq!(per_10_000, 9690, "96.9 %");
}
