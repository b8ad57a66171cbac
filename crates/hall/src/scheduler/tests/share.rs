//! Queues that share a hall: textbook cases through the whole scheduler.

use super::*;

/// One node of 16 accelerators, with these queues in lines of their own.
fn fair(queues: Vec<QueueRules>, half_life: u64) -> Settings {
    let half_life = Span::from_secs(half_life);
    // What may overtake is the matter of others.
    Settings { queues, sharing: Sharing::Fair { half_life }, backfill: Backfill::Any, ..settings(1, 1, 16) }
}

fn of(queue: QueueId, job: u64, accelerators: u8) -> Event {
    Event::Submitted(Submission { queue, ..submission(job, gang(1, accelerators)) })
}

fn ended(job: u64) -> Event {
    Event::Ended { job: JobId(job), run: PRESENT }
}

fn queue(share: u32) -> QueueRules {
    QueueRules { share, ..QueueRules::default() }
}

/// 9 processors and 18 GB; tasks of <1, 4> and <3, 1>: three of the first, two of the second (Ghodsi et al. 2011).
#[test]
fn the_example_of_the_drf_paper() {
    let mut settings = fair(vec![queue(1), queue(1), queue(1)], 0);
    (settings.nodes[0].cpu_milli, settings.nodes[0].memory_mib) = (9_000, 18 * 1024);
    let mut scheduler = Scheduler::new(settings).unwrap();
    let submit = |scheduler: &mut Scheduler, job: u64, queue: QueueId, cpu: u32, memory: u32| {
        let mut gang = gang(1, 0);
        (gang.need.rank.cpu_milli, gang.need.rank.memory_mib) = (1000 * cpu, 1024 * memory);
        started(&step(scheduler, job, &Event::Submitted(Submission { queue, ..submission(job, gang) })))
    };
    assert_eq!(submit(&mut scheduler, 1, 2, 9, 0), [1]);
    for job in 0..10 {
        let (queue, cpu, memory) = if job < 5 { (0, 1, 4) } else { (1, 3, 1) };
        assert_eq!(submit(&mut scheduler, 2 + job, queue, cpu, memory), [0; 0]);
    }
    let mut begun = started(&step(&mut scheduler, 20, &ended(1)));
    begun.sort_unstable();
    assert_eq!(begun, [2, 3, 4, 7, 8]);
    assert_eq!((scheduler.share_ppm(0), scheduler.share_ppm(1)), (666_667, 666_667));
}

#[test]
fn weights_divide_a_level_and_levels_do_not_mix() {
    // 0 has two thirds; 1, 2, 3 divide what 4 has, the last third.
    let mut queues = vec![queue(2), queue(1), queue(1), queue(2), queue(1)];
    for rules in &mut queues[1..4] {
        rules.parent = Some(4);
    }
    let mut scheduler = Scheduler::new(Settings { nodes: nodes(1, 3, 8), ..fair(queues, 0) }).unwrap();
    step(&mut scheduler, 1, &Event::Submitted(submission(1, gang(3, 8))));
    for job in 0..96 {
        step(&mut scheduler, 2 + job, &of(QueueId::try_from(job % 4).unwrap(), 2 + job, 1));
    }
    let begun = started(&step(&mut scheduler, 200, &ended(1)));
    let of_queue = |queue| begun.iter().filter(|job| (*job - 2) % 4 == queue).count();
    assert_eq!([0, 1, 2, 3].map(of_queue), [16, 2, 2, 4]);
}

#[test]
fn queues_that_cannot_start_are_passed_over_and_not_forgotten() {
    let mut scheduler = Scheduler::new(fair(vec![queue(1); 20], 0)).unwrap();
    step(&mut scheduler, 1, &of(19, 1, 8));
    step(&mut scheduler, 2, &of(18, 2, 8));
    for job in 10..30 {
        let event = of(QueueId::try_from(job - 10).unwrap(), job, if job < 20 { 16 } else { 1 });
        assert_eq!(started(&step(&mut scheduler, job, &event)), [0; 0]);
    }
    // Queues 0 to 9 go first by share, and do not fit.
    assert_eq!(started(&step(&mut scheduler, 30, &ended(2))), [20, 21, 22, 23, 24, 25, 26, 27]);
    assert_eq!(started(&step(&mut scheduler, 31, &ended(1))), [28, 29]);
    for job in 20..30 {
        let begun = started(&step(&mut scheduler, 40, &ended(job)));
        assert_eq!(begun, if job == 29 { vec![10] } else { Vec::new() });
    }
    assert_eq!(started(&step(&mut scheduler, 41, &ended(10))), [11]);
}

#[test]
fn what_was_held_counts_and_is_forgotten() {
    // What queue 0 held lately lets queue 1 go first; with no memory, they are alike and the first is first.
    for (half_life, first) in [(100, 3), (0, 2)] {
        let mut scheduler = Scheduler::new(fair(vec![queue(1), queue(1)], half_life)).unwrap();
        step(&mut scheduler, 1, &of(0, 1, 16));
        step(&mut scheduler, 2, &of(0, 2, 16));
        step(&mut scheduler, 3, &of(1, 3, 16));
        assert_eq!(started(&step(&mut scheduler, 101, &ended(1))), [first]);
    }
    // Queue 0 held all for a hundred seconds, queue 1 for ten, thirty half-lives later: that outweighs it.
    let mut scheduler = Scheduler::new(fair(vec![queue(1), queue(1)], 100)).unwrap();
    step(&mut scheduler, 1, &of(0, 1, 16));
    step(&mut scheduler, 101, &ended(1));
    step(&mut scheduler, 3000, &of(1, 2, 16));
    step(&mut scheduler, 3001, &of(1, 3, 16));
    step(&mut scheduler, 3002, &of(0, 4, 16));
    assert_eq!(started(&step(&mut scheduler, 3010, &ended(2))), [4]);
}

/// What queues 0 and 1 hold of 16 accelerators half a thousand seconds after 1 came to 0, which had all for long. Jobs take
/// ten seconds, and many wait in both queues.
fn held_after_a_newcomer(half_life: u64) -> [usize; 2] {
    let mut scheduler = Scheduler::new(fair(vec![queue(1), queue(1)], half_life)).unwrap();
    // When jobs end, and how many wait: an even job is of queue 0.
    let mut ends = std::collections::BTreeSet::new();
    let (mut waits, mut next) = ([0, 0], [2, 3]);
    let newcomer = 6000;
    for at in 1..newcomer + 500 {
        loop {
            let lacks = (0..2).find(|line| waits[*line] < 20 && (*line == 0 || at >= newcomer));
            let event = match (ends.first().copied(), lacks) {
                (Some((end, job)), _) if end <= at => {
                    ends.pop_first();
                    ended(job)
                }
                (_, Some(line)) => {
                    waits[line] += 1;
                    next[line] += 2;
                    of(QueueId::try_from(line).unwrap(), next[line], 1)
                }
                (_, None) => break,
            };
            for job in started(&step(&mut scheduler, at, &event)) {
                waits[usize::try_from(job % 2).unwrap()] -= 1;
                // The first ones end one after the other.
                ends.insert((at + if at == 1 { 1 + job % 10 } else { 10 }, job));
            }
        }
    }
    [0, 1].map(|line| ends.iter().filter(|(_, job)| job % 2 == line).count())
}

/// Shares that count what was held are equal where what they hold differs by 16 / 4^(time / half-life).
#[test]
fn the_half_life_says_how_long_a_newcomer_goes_first() {
    assert_eq!(held_after_a_newcomer(0), [8, 8]);
    assert_eq!(held_after_a_newcomer(100), [8, 8]);
    let held = held_after_a_newcomer(1000);
    assert!(
        (11..=13).contains(&held[1]) && held[0] + held[1] == 16,
        "{held:?}: half the way to equal after half of it"
    );
}

#[test]
fn what_runs_long_counts_before_it_ends() {
    let mut scheduler = Scheduler::new(fair(vec![queue(1), queue(1), queue(1)], 100)).unwrap();
    // Queues 0 and 1 hold as much, but 0 has for long.
    step(&mut scheduler, 1, &of(0, 1, 4));
    step(&mut scheduler, 2, &of(2, 2, 12));
    step(&mut scheduler, 1000, &ended(2));
    step(&mut scheduler, 1000, &of(1, 3, 4));
    step(&mut scheduler, 1001, &of(2, 4, 8));
    step(&mut scheduler, 1002, &of(0, 5, 8));
    step(&mut scheduler, 1003, &of(1, 6, 8));
    assert_eq!(started(&step(&mut scheduler, 1004, &ended(4))), [6]);
}

#[test]
fn a_guarantee_is_lent_unless_it_is_withheld() {
    for (lends_milli, borrowed) in [(None, 4), (Some(4_000), 3), (Some(0), 2)] {
        let own = QueueRules { guarantee_milli: 8_000, lends_milli, ..queue(1) };
        let mut scheduler = Scheduler::new(fair(vec![own, queue(1)], 0)).unwrap();
        for job in 1..=5 {
            step(&mut scheduler, job, &of(1, job, 4));
        }
        assert_eq!(scheduler.running(), borrowed);
        // What is withheld is there for its owner at once; the rest is taken back.
        let actions = step(&mut scheduler, 10, &of(0, 10, 8));
        assert_eq!(started(&actions).len(), usize::from(lends_milli == Some(0)));
        let stopped = stopped(&actions);
        assert_eq!(stopped.len(), borrowed - 2);
        let mut begun = Vec::new();
        for (job, by) in stopped {
            assert_eq!(by, 10);
            begun = step(&mut scheduler, 11, &Event::Stopped { job: JobId(job), run: PRESENT, attained: Span(0) });
        }
        assert!(lends_milli == Some(0) || started(&begun) == [10], "{begun:?}");
        assert_eq!(step(&mut scheduler, 5000, &Event::Tick), [], "nobody takes it back");
    }
}

#[test]
fn what_is_withheld_is_lent_once_the_rules_say_so_or_others_give_back() {
    let own = QueueRules { guarantee_milli: 8_000, lends_milli: Some(0), ..queue(1) };
    let mut scheduler = Scheduler::new(fair(vec![own, queue(1), queue(1)], 0)).unwrap();
    step(&mut scheduler, 1, &of(1, 1, 4));
    step(&mut scheduler, 2, &of(1, 2, 4));
    step(&mut scheduler, 3, &of(2, 3, 4));
    step(&mut scheduler, 4, &of(2, 4, 4));
    assert_eq!(scheduler.running(), 2);
    assert_eq!(started(&step(&mut scheduler, 5, &ended(1))), [3]);
    let rules = QueueRules { lends_milli: None, ..own };
    assert_eq!(started(&step(&mut scheduler, 6, &Event::Queue { queue: 0, rules })), [4]);
}

#[test]
fn a_quota_above_holds_for_all_below_whatever_the_sharing() {
    for sharing in [Sharing::OneLine, Sharing::Fair { half_life: Span(0) }] {
        let below = QueueRules { parent: Some(2), ..queue(1) };
        let queues = vec![below, below, QueueRules { quota_milli: Some(8_000), ..queue(1) }, queue(1)];
        let mut scheduler = Scheduler::new(Settings { sharing, ..fair(queues, 0) }).unwrap();
        assert_eq!(started(&step(&mut scheduler, 1, &of(0, 1, 6))), [1]);
        assert_eq!(started(&step(&mut scheduler, 2, &of(1, 2, 4))), [0; 0]);
        assert_eq!(started(&step(&mut scheduler, 3, &of(2, 3, 4))), [0; 0]);
        assert_eq!(started(&step(&mut scheduler, 4, &of(3, 4, 8))), [4]);
        // A queue that is moved takes what it holds along, and leaves room.
        let rules = QueueRules { parent: Some(3), ..queue(1) };
        let mut moved = started(&step(&mut scheduler, 5, &Event::Queue { queue: 0, rules }));
        assert_eq!(moved.len(), 0, "the node is full");
        moved = started(&step(&mut scheduler, 6, &ended(4)));
        moved.sort_unstable();
        assert_eq!(moved, [2, 3]);
    }
}

#[test]
fn every_queue_starts_in_the_end_however_little_it_weighs() {
    let mut scheduler = Scheduler::new(fair(vec![queue(1000), queue(1), queue(1000)], 3600)).unwrap();
    step(&mut scheduler, 1, &of(0, 1, 16));
    step(&mut scheduler, 2, &of(1, 2, 16));
    let mut runs = 1;
    for turn in 3.. {
        step(&mut scheduler, 2 * turn, &of(if turn % 2 == 0 { 0 } else { 2 }, turn, 16));
        let begun = started(&step(&mut scheduler, 2 * turn + 1, &ended(runs)));
        runs = begun[0];
        if runs == 2 {
            return;
        }
        assert!(turn < 100, "queue 1 starves");
    }
}

#[test]
fn parents_that_cannot_be_are_refused_and_changes_to_them_not_taken() {
    let under = |parent| QueueRules { parent: Some(parent), ..queue(1) };
    let new = |queues| Scheduler::new(fair(queues, 0)).map(|_| ());
    assert_eq!(new(vec![queue(1), under(7)]), Err(Error::Parent(1)));
    assert_eq!(new(vec![under(1), under(0)]), Err(Error::Parent(0)));
    let promised = |guarantee_milli| QueueRules { guarantee_milli, ..queue(1) };
    assert_eq!(new(vec![promised(10_000), promised(7_000)]), Err(Error::Overbooked(1)));
    let mut scheduler = Scheduler::new(fair(vec![queue(1), under(0)], 0)).unwrap();
    step(&mut scheduler, 1, &of(1, 1, 8));
    step(&mut scheduler, 2, &Event::Queue { queue: 0, rules: under(1) });
    step(&mut scheduler, 3, &Event::Queue { queue: 0, rules: QueueRules { guarantee_milli: 99_000, ..under(9) } });
    assert_eq!(started(&step(&mut scheduler, 4, &of(0, 2, 8))), [2]);
}

#[test]
fn guarantees_in_one_line_are_taken_back() {
    let own = |parent| QueueRules { guarantee_milli: 8_000, parent, ..queue(1) };
    let settings = Settings { sharing: Sharing::OneLine, ..fair(vec![own(None), own(None), queue(1)], 0) };
    let mut scheduler = Scheduler::new(settings).unwrap();
    for job in 1..=4 {
        step(&mut scheduler, job, &of(1, job, 4));
    }
    assert_eq!(stopped(&step(&mut scheduler, 5, &of(2, 5, 8))), []);
    assert_eq!(stopped(&step(&mut scheduler, 6, &of(0, 6, 8))), [(3, 6), (4, 6)]);
    for job in [3, 4] {
        step(&mut scheduler, 7, &Event::Stopped { job: JobId(job), run: PRESENT, attained: Span(0) });
    }
    // Queues 0 and 1 hold what is theirs.
    assert_eq!(step(&mut scheduler, 8, &of(0, 7, 1)), []);
    assert_eq!(step(&mut scheduler, 9, &of(1, 8, 1)), []);
    assert_eq!(scheduler.ranks(JobId(6)).map(<[Holding]>::len), Some(1));
}

#[test]
fn a_saved_hall_shares_as_the_other_would_have() {
    let below = |parent| QueueRules { parent: Some(parent), ..queue(2) };
    let mut queues = vec![below(3), below(3), queue(1), QueueRules { guarantee_milli: 8_000, ..queue(3) }];
    queues[3].lends_milli = Some(4_000);
    let mut scheduler = Scheduler::new(Settings {
        order: "expected-service".to_owned(),
        predict: Some(Predict {
            history: dh_policy::prediction::Settings { samples_min: 2, ..Default::default() },
            statistic: dh_policy::prediction::Statistic::PerMille(500),
            good_for: GoodFor::Plans,
            learn: Learn::Lengths,
        }),
        stretch: Some(dh_policy::fairness::Stretch::default()),
        ..fair(queues, 500)
    })
    .unwrap();
    let mut other = scheduler.clone();
    let mut seed = 5_u64;
    let mut die = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for at in 1..=400 {
        let event = match die(5) {
            0..=2 => of(QueueId::try_from(die(4)).unwrap(), at, 1 + u8::try_from(die(8)).unwrap()),
            3 => ended(1 + die(at)),
            _ => Event::Queue { queue: 1, rules: QueueRules { share: u32::try_from(die(5)).unwrap(), ..below(3) } },
        };
        assert_eq!(step(&mut scheduler, 20 * at, &event), step(&mut other, 20 * at, &event));
        other = serde_json::from_slice(&serde_json::to_vec(&other).unwrap()).unwrap();
    }
    assert_eq!(scheduler.digest(), other.digest());
}
