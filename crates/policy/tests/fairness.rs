//! Trees of queues: textbook cases, a model in floats, and what must hold whatever happens.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use dh_core::SimTime;
use dh_core::time::Span;
use dh_policy::fairness::{Amounts, Error, Part, Queue, QueueId, Quota, Resource, Right, Tree, Usage};

const ROOT: QueueId = QueueId(0);
const NO_PAST: Span = Span(0);

fn accelerators(count: u64) -> Amounts {
    Amounts { accelerators_milli: count * 1000, ..Amounts::NONE }
}

fn at(seconds: u64) -> SimTime {
    SimTime(seconds * 1_000_000_000)
}

fn random(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) % below
}

/// Starts jobs of each leaf, as the order says, until nothing fits; how many each has.
fn fill(tree: &mut Tree, jobs: &[(QueueId, Amounts)]) -> Vec<u64> {
    let mut counts = vec![0; jobs.len()];
    for (leaf, _) in jobs {
        tree.wake(*leaf);
    }
    while let Some(leaf) = tree.next(at(0)) {
        let index = jobs.iter().position(|(known, _)| *known == leaf).unwrap();
        if tree.admits(leaf, jobs[index].1).is_ok() {
            tree.start(leaf, jobs[index].1);
            counts[index] += 1;
        } else {
            tree.rest(leaf);
        }
    }
    counts
}

#[test]
fn the_example_of_the_drf_paper() {
    // 9 processors and 18 GB; tasks of <1, 4> and <3, 1>: three of the first, two of the second, 2/3 of the dominant share each.
    let amounts = |cpu: u64, memory: u64| Amounts { cpu_milli: cpu * 1000, memory_mib: memory * 1024, ..Amounts::NONE };
    let mut tree = Tree::new(amounts(9, 18), NO_PAST);
    let a = tree.add(ROOT, Queue::new("a")).unwrap();
    let b = tree.add(ROOT, Queue::new("b")).unwrap();
    assert_eq!(fill(&mut tree, &[(a, amounts(1, 4)), (b, amounts(3, 1))]), [3, 2]);
    assert_eq!((tree.share_ppm(a, at(0)), tree.share_ppm(b, at(0))), (666_667, 666_667));
}

#[test]
fn weights_divide_a_level_and_levels_do_not_mix() {
    let mut tree = Tree::new(accelerators(120), NO_PAST);
    let big = tree.add(ROOT, Queue { weight: 2, ..Queue::new("big") }).unwrap();
    let small = tree.add(ROOT, Queue::new("small")).unwrap();
    let leaves: Vec<_> = (0..4).map(|i| tree.add(small, Queue::new(format!("s{i}"))).unwrap()).collect();
    let mut jobs: Vec<_> = leaves.iter().map(|leaf| (*leaf, accelerators(1))).collect();
    jobs.push((big, accelerators(1)));
    assert_eq!(fill(&mut tree, &jobs), [10, 10, 10, 10, 80]);
}

#[test]
fn a_limit_holds_on_every_level_and_names_its_queue() {
    let mut tree = Tree::new(accelerators(100), NO_PAST);
    let team = tree.add(ROOT, Queue { limit: accelerators(10), ..Queue::new("team") }).unwrap();
    let user = tree.add(team, Queue::new("user")).unwrap();
    assert_eq!(fill(&mut tree, &[(user, accelerators(3))]), [3]);
    let blocked = tree.admits(user, accelerators(3)).unwrap_err();
    assert_eq!((blocked.queue, blocked.quota, blocked.resource), (team, Quota::Limit, Resource::AcceleratorsMilli));
}

#[test]
fn guarantees_are_checked_when_a_queue_is_added() {
    let mut tree = Tree::new(accelerators(10), NO_PAST);
    let six = Queue { guaranteed: accelerators(6), ..Queue::new("six") };
    tree.add(ROOT, six.clone()).unwrap();
    assert_eq!(tree.add(ROOT, six), Err(Error::Overbooked(ROOT, Resource::AcceleratorsMilli)));
    assert_eq!(tree.add(QueueId(9), Queue::new("lost")), Err(Error::NoParent(QueueId(9))));
    assert_eq!(tree.add(ROOT, Queue { weight: 0, ..Queue::new("none") }), Err(Error::NoWeight("none".into())));
}

#[test]
fn borrowed_capacity_returns_and_is_not_taken_back() {
    let mut tree = Tree::new(accelerators(16), NO_PAST);
    let own = |name: &str| Queue { guaranteed: accelerators(8), ..Queue::new(name) };
    let lender = tree.add(ROOT, own("lender")).unwrap();
    let borrower = tree.add(ROOT, own("borrower")).unwrap();
    let gang = accelerators(4);
    assert_eq!(fill(&mut tree, &[(borrower, gang)]), [4]);
    assert_eq!(tree.borrowed(borrower), accelerators(8));

    let blocked = tree.admits(lender, gang).unwrap_err();
    assert_eq!((blocked.queue, blocked.quota), (lender, Quota::Guarantee));
    let (wants, gives) = (Part { queue: lender, amounts: gang }, Part { queue: borrower, amounts: gang });
    for turn in 1..=2 {
        assert_eq!(tree.reclaims(&wants, &gives), Some(Right::Guarantee));
        tree.stop(borrower, &Usage { amounts: gang, from: at(0), to: at(turn) });
        tree.start(lender, gang);
        assert_eq!(tree.reclaims(&gives, &wants), None, "it is not taken back");
    }
    assert_eq!((tree.deficit(lender), tree.borrowed(borrower)), (Amounts::NONE, Amounts::NONE));
    assert_eq!(tree.reclaims(&wants, &gives), None, "a guarantee is not exceeded by force");
    assert_eq!(tree.admits(lender, gang).unwrap_err().quota, Quota::Lent);
}

#[test]
fn what_is_withheld_deep_down_is_lent_by_nobody_above() {
    let mut tree = Tree::new(accelerators(20), NO_PAST);
    let department = tree.add(ROOT, Queue { guaranteed: accelerators(10), ..Queue::new("department") }).unwrap();
    let careful = Queue { guaranteed: accelerators(8), lends: accelerators(3), ..Queue::new("careful") };
    let team = tree.add(department, careful).unwrap();
    let other = tree.add(ROOT, Queue::new("other")).unwrap();
    assert_eq!(fill(&mut tree, &[(other, accelerators(1))]), [15]);
    assert_eq!(tree.admits(team, accelerators(5)), Ok(()));
    assert_eq!(tree.admits(team, accelerators(6)).unwrap_err().quota, Quota::Guarantee);
}

/// A tree of three levels below the root; its leaves come last.
fn three_levels(seed: &mut u64, half_life: Span) -> (Tree, Vec<QueueId>) {
    let mut tree = Tree::new(accelerators(64), half_life);
    let mut level = vec![(ROOT, 64)];
    for depth in 0..3 {
        let mut below = Vec::new();
        for (parent, has) in level {
            let children = 2 + random(seed, 2);
            for child in 0..children {
                let guaranteed = random(seed, has / children + 1);
                let queue = Queue {
                    weight: 1 + u32::try_from(random(seed, 3)).unwrap(),
                    guaranteed: accelerators(guaranteed),
                    lends: accelerators(random(seed, 8)),
                    limit: if random(seed, 4) == 0 {
                        accelerators(guaranteed + random(seed, 20))
                    } else {
                        Amounts::ALL
                    },
                    name: format!("{depth}.{child}"),
                };
                below.push((tree.add(parent, queue).unwrap(), guaranteed));
            }
        }
        level = below;
    }
    (tree, level.into_iter().map(|(leaf, _)| leaf).collect())
}

/// What `queue` takes of its guarantee, from first principles: what its children withhold, and what they took beyond that.
fn gone(tree: &Tree, children: &[Vec<QueueId>], queue: QueueId) -> u64 {
    let below = &children[queue.0 as usize];
    if below.is_empty() {
        return tree.holds(queue).accelerators_milli;
    }
    below.iter().map(|child| gone(tree, children, *child).max(withholds(tree, *child))).sum()
}

fn withholds(tree: &Tree, queue: QueueId) -> u64 {
    let known = tree.queue(queue);
    known.guaranteed.less(known.lends).accelerators_milli
}

#[test]
fn admission_agrees_with_first_principles_in_random_trees() {
    let mut seed = 11;
    for _ in 0..40 {
        let (mut tree, leaves) = three_levels(&mut seed, NO_PAST);
        let last = leaves.last().unwrap().0;
        // Parents, told from names and order by asking: rebuilt here from a copy of the tree as data.
        let data = serde_json::to_value(&tree).unwrap();
        let parent =
            |id: u32| data["places"][id as usize]["parent"].as_u64().map(|up| QueueId(u32::try_from(up).unwrap()));
        let mut children = vec![Vec::new(); last as usize + 1];
        for id in 1..=last {
            children[parent(id).unwrap().0 as usize].push(QueueId(id));
        }
        let mut running: Vec<(QueueId, Amounts)> = Vec::new();
        for turn in 0..300 {
            let leaf = leaves[usize::try_from(random(&mut seed, leaves.len() as u64)).unwrap()];
            let amounts = accelerators(1 + random(&mut seed, 6));
            let admitted = tree.admits(leaf, amounts);
            let mut trial = tree.clone();
            trial.start(leaf, amounts);
            let fits = gone(&trial, &children, ROOT) <= 64_000;
            let mut way = vec![leaf];
            while let Some(up) = parent(way[way.len() - 1].0) {
                way.push(up);
            }
            let limited = way.iter().any(|id| trial.holds(*id).beyond(tree.queue(*id).limit).is_some());
            assert_eq!(admitted.is_ok(), fits && !limited, "turn {turn}: {admitted:?}");
            if admitted.is_ok() {
                tree = trial;
                running.push((leaf, amounts));
            }
            if random(&mut seed, 3) == 0 && !running.is_empty() {
                let index = usize::try_from(random(&mut seed, running.len() as u64)).unwrap();
                let (leaf, amounts) = running.swap_remove(index);
                tree.stop(leaf, &Usage { amounts, from: at(0), to: at(0) });
            }
        }
        for (leaf, amounts) in running {
            tree.stop(leaf, &Usage { amounts, from: at(0), to: at(0) });
        }
        assert_eq!(tree.holds(ROOT), Amounts::NONE);
    }
}

/// Everybody waits for ever and takes by force what it may. Each claim must be answered by fewer claims, not by more.
#[test]
fn claims_come_to_an_end() {
    let mut seed = 5;
    let mut rights = [0, 0];
    for _ in 0..30 {
        let (mut tree, leaves) = three_levels(&mut seed, NO_PAST);
        let mut running: Vec<(QueueId, Amounts)> = Vec::new();
        // Jobs of one size: then what is freed is what is taken.
        let gang = accelerators(1 + random(&mut seed, 4));
        for _ in 0..200 {
            let leaf = leaves[usize::try_from(random(&mut seed, leaves.len() as u64)).unwrap()];
            if tree.admits(leaf, gang).is_ok() {
                tree.start(leaf, gang);
                running.push((leaf, gang));
            }
        }
        let mut claims = 0;
        loop {
            let mut claim = None;
            for leaf in &leaves {
                let wants = Part { queue: *leaf, amounts: gang };
                claim = running.iter().enumerate().find_map(|(index, (queue, amounts))| {
                    let right = tree.reclaims(&wants, &Part { queue: *queue, amounts: *amounts })?;
                    tree.stop(*queue, &Usage { amounts: *amounts, from: at(0), to: at(0) });
                    let admitted = tree.admits(*leaf, gang).is_ok();
                    tree.start(*queue, *amounts);
                    admitted.then_some((*leaf, index, right))
                });
                if claim.is_some() {
                    break;
                }
            }
            let Some((leaf, index, right)) = claim else { break };
            let (victim, amounts) = running.swap_remove(index);
            tree.stop(victim, &Usage { amounts, from: at(0), to: at(0) });
            tree.start(leaf, gang);
            running.push((leaf, gang));
            rights[usize::from(right == Right::FairShare)] += 1;
            claims += 1;
            assert!(claims < 2000, "claims go round");
        }
    }
    assert!(rights.iter().all(|count| *count > 5), "both rights were used: {rights:?}");
}

/// A queue in floats: what ran, and until when.
#[derive(Default, Clone)]
struct Model {
    now: f64,
    ran: Vec<(f64, f64, f64)>,
}

impl Model {
    fn share(&self, now: f64, half_life: f64, weight: f64) -> f64 {
        let past: f64 = self
            .ran
            .iter()
            .map(|(much, from, to)| much * (((to - now) / half_life).exp2() - ((from - now) / half_life).exp2()))
            .sum();
        (self.now + past) / 64_000.0 / weight
    }
}

#[test]
fn shares_and_order_agree_with_a_model_in_floats() {
    let mut seed = 3;
    let half_life = Span::from_secs(5000);
    for _ in 0..10 {
        let mut tree = Tree::new(accelerators(64), half_life);
        let weights = [1, 2, 3, 5];
        let leaves = weights.map(|weight| tree.add(ROOT, Queue { weight, ..Queue::new("q") }).unwrap());
        let mut models = vec![Model::default(); 4];
        let mut running: Vec<(usize, Amounts, u64)> = Vec::new();
        for leaf in leaves {
            tree.wake(leaf);
        }
        let mut now = random(&mut seed, 1_000_000_000);
        for _ in 0..400 {
            now += random(&mut seed, 300);
            let chosen = tree.next(at(now)).unwrap();
            let index = leaves.iter().position(|leaf| *leaf == chosen).unwrap();
            let shares: Vec<f64> = models
                .iter()
                .zip(weights)
                .map(|(model, weight)| model.share(dh_units::real(now), 5000.0, f64::from(weight)))
                .collect();
            let least = shares.iter().copied().fold(f64::INFINITY, f64::min);
            assert!(shares[index] <= least * 1.004 + 1e-9, "{index} of {shares:?}");
            for (leaf, share) in leaves.iter().zip(&shares) {
                let ppm = dh_units::real(tree.share_ppm(*leaf, at(now)));
                assert!((ppm - share * 1e6).abs() <= 1.0 + share * 10.0, "{ppm} is not {share}");
            }
            let amounts = accelerators(1 + random(&mut seed, 8));
            if tree.admits(chosen, amounts).is_ok() {
                tree.start(chosen, amounts);
                models[index].now += dh_units::real(amounts.accelerators_milli);
                running.push((index, amounts, now));
            }
            if running.len() > 8 || random(&mut seed, 3) == 0 && !running.is_empty() {
                let place = usize::try_from(random(&mut seed, running.len() as u64)).unwrap();
                let (index, amounts, from) = running.swap_remove(place);
                tree.stop(leaves[index], &Usage { amounts, from: at(from), to: at(now) });
                let much = dh_units::real(amounts.accelerators_milli);
                models[index].now -= much;
                models[index].ran.push((much, dh_units::real(from), dh_units::real(now)));
            }
        }
    }
}

#[test]
fn nobody_starves_and_service_follows_weight() {
    let mut seed = 9;
    let mut tree = Tree::new(accelerators(8), Span::from_secs(50_000));
    let weights = [1, 1, 2, 4];
    let leaves = weights.map(|weight| tree.add(ROOT, Queue { weight, ..Queue::new("q") }).unwrap());
    for leaf in leaves {
        tree.wake(leaf);
    }
    let (mut now, mut served, mut last) = (0, [0; 4], [0; 4]);
    // One job at a time takes everything; a queue with short ones must not lose by it.
    for _ in 0..20_000 {
        let chosen = tree.next(at(now)).unwrap();
        let index = leaves.iter().position(|leaf| *leaf == chosen).unwrap();
        let length = (1 + random(&mut seed, 100)) * if index == 1 { 10 } else { 1 };
        tree.start(chosen, accelerators(8));
        tree.stop(chosen, &Usage { amounts: accelerators(8), from: at(now), to: at(now + length) });
        now += length;
        served[index] += length;
        last[index] = now;
        assert!(last.iter().all(|last| now - last < 25_000), "one waits since {last:?}, and it is {now}");
    }
    for (served, weight) in served.iter().zip(weights) {
        let fair = now * u64::from(weight) / 8;
        // Long jobs gain a little: they are chosen when the past has just sunk low enough, and then run on.
        assert!(served.abs_diff(fair) * 20 < fair, "{served} is not within 5 % of {fair}");
    }
}

#[test]
fn a_saved_tree_goes_on_as_if_nothing_had_been() {
    let mut seed = 21;
    let (mut tree, leaves) = three_levels(&mut seed, Span::from_secs(600));
    for leaf in &leaves {
        tree.wake(*leaf);
    }
    let mut twin = tree.clone();
    for second in 0..60 {
        for tree in [&mut tree, &mut twin] {
            let leaf = tree.next(at(second)).unwrap();
            let amounts = accelerators(2);
            if tree.admits(leaf, amounts).is_ok() {
                tree.start(leaf, amounts);
                tree.stop(leaf, &Usage { amounts, from: at(second), to: at(second + 7) });
            }
        }
        assert_eq!(tree, twin);
        twin = serde_json::from_str(&serde_json::to_string(&twin).unwrap()).unwrap();
    }
}

#[test]
fn what_comes_later_weighs_more_and_the_rest_is_forgotten() {
    let mut tree = Tree::new(accelerators(10), Span::from_secs(100));
    let [early, late] = ["early", "late"].map(|name| tree.add(ROOT, Queue::new(name)).unwrap());
    tree.charge(early, &Usage { amounts: accelerators(10), from: at(0), to: at(100) });
    assert_eq!(tree.share_ppm(early, at(100)), 500_000);
    assert_eq!(tree.share_ppm(early, at(300)), 125_000);
    tree.charge(late, &Usage { amounts: accelerators(10), from: at(100), to: at(200) });
    tree.wake(early);
    tree.wake(late);
    assert_eq!(tree.next(at(200)), Some(early));
    // Half a day later nothing of it is left to see, and the order of the two still stands.
    assert_eq!(tree.share_ppm(late, at(43_200)), 0);
    assert_eq!(tree.next(at(43_200)), Some(early));
    tree.rest(early);
    assert_eq!(tree.next(at(43_200)), Some(late));
    tree.rest(late);
    assert_eq!(tree.next(at(43_200)), None);
}

#[test]
fn capacity_may_change() {
    let mut tree = Tree::new(accelerators(10), NO_PAST);
    let queue = tree.add(ROOT, Queue { guaranteed: accelerators(8), ..Queue::new("q") }).unwrap();
    tree.start(queue, accelerators(5));
    tree.set_capacity(accelerators(5));
    assert_eq!(tree.share_ppm(queue, at(0)), 1_000_000);
    assert_eq!(tree.admits(queue, accelerators(1)).unwrap_err().quota, Quota::Guarantee);
    tree.set_capacity(accelerators(20));
    assert_eq!(tree.share_ppm(queue, at(0)), 250_000);
    assert_eq!(tree.admits(queue, accelerators(15)), Ok(()));
}

#[test]
fn comparing_leaves_two_by_two_finds_the_one_that_the_tree_names() {
    for mut seed in 0..40 {
        let half_life = Span::from_secs([0, 100][usize::try_from(seed % 2).unwrap()]);
        let (mut tree, leaves) = three_levels(&mut seed, half_life);
        let mut awake = Vec::new();
        for turn in 1..200 {
            let now = at(turn);
            let leaf = leaves[usize::try_from(random(&mut seed, leaves.len() as u64)).unwrap()];
            match random(&mut seed, 4) {
                0 => {
                    tree.wake(leaf);
                    awake.retain(|known| *known != leaf);
                    awake.push(leaf);
                }
                1 => {
                    tree.rest(leaf);
                    awake.retain(|known| *known != leaf);
                }
                2 => tree.start(leaf, accelerators(1)),
                _ if tree.holds(leaf) == Amounts::NONE => {}
                _ => tree.stop(leaf, &Usage { amounts: accelerators(1), from: at(turn - 1), to: now }),
            }
            let first = awake.iter().copied().reduce(|one, other| tree.first_of_two(now, one, other));
            assert_eq!(tree.next(now), first);
        }
    }
}

#[test]
fn a_tree_that_inherits_all_leaves_has_the_same_shares() {
    let half_life = Span::from_secs(50);
    let build = |mut seed: u64| three_levels(&mut seed, half_life);
    let (mut tree, leaves) = build(3);
    for (turn, leaf) in (1..).zip(&leaves) {
        tree.start(*leaf, accelerators(3));
        tree.stop(*leaf, &Usage { amounts: accelerators(turn % 3), from: at(turn), to: at(2 * turn) });
    }
    let (mut heir, _) = build(3);
    for leaf in &leaves {
        heir.inherit(*leaf, &tree, *leaf);
    }
    for queue in (0..=leaves.last().unwrap().0).map(QueueId) {
        assert_eq!(heir.holds(queue), tree.holds(queue));
        assert!(heir.share_ppm(queue, at(90)).abs_diff(tree.share_ppm(queue, at(90))) <= 1);
        assert_eq!(heir.deficit(queue), tree.deficit(queue));
    }
    assert!(tree.share_ppm(leaves[0], at(90)) > 0);
}
