//! What operators complain about when nodes fail, each a story.

use dh_policy::fleet::Service;

use super::*;

fn down(scheduler: &mut Scheduler, at: u64, node: u32) -> Vec<Action> {
    step(scheduler, at, &Event::Node { node: NodeId(node), service: Service::Down })
}

fn service(scheduler: &mut Scheduler, at: u64, node: u32, service: Service) -> Vec<Action> {
    step(scheduler, at, &Event::Node { node: NodeId(node), service })
}

fn repaired(actions: &[Action]) -> Vec<(u64, Vec<(u32, u32)>)> {
    let repairs = actions.iter().filter_map(|action| match action {
        Action::Repair { job, ranks } => Some((job.0, ranks.iter().map(|(rank, held)| (*rank, held.node.0)).collect())),
        Action::Start { .. }
        | Action::Stop { .. }
        | Action::Resize { .. }
        | Action::Wake { .. }
        | Action::Sleep { .. }
        | Action::Quarantined { .. }
        | Action::NotApplied { .. }
        | Action::Refused { .. } => None,
    });
    repairs.collect()
}

/// Volcano 5805: the node that came back went to a younger job, and the gang that had lost it never ran again.
#[test]
fn a_node_that_comes_back_goes_to_the_gang_that_lost_it() {
    let mut scheduler = Scheduler::new(settings(1, 4, 8)).unwrap();
    step(&mut scheduler, 1, &Event::Submitted(submission(1, gang(4, 8))));
    step(&mut scheduler, 2, &Event::Submitted(Submission { priority: 100, ..submission(2, gang(1, 8)) }));
    assert_eq!(down(&mut scheduler, 3, 2), []);
    let back = service(&mut scheduler, 4, 2, Service::Up);
    assert_eq!((repaired(&back), started(&back)), (vec![(1, vec![(2, 2)])], vec![]));
}

/// Kueue 14244, 12344, 5230: one failed node evicted a gang of 500.
#[test]
fn fifty_failed_nodes_of_five_hundred_are_replaced_in_place() {
    let mut scheduler = Scheduler::new(settings(36, 16, 8)).unwrap();
    step(&mut scheduler, 1, &Event::Submitted(submission(1, gang(500, 8))));
    let before: Vec<Holding> = scheduler.ranks(JobId(1)).unwrap().to_vec();
    let mut replaced = 0;
    for failed in 0..50 {
        let actions = down(&mut scheduler, 2, failed * 10);
        assert!(actions.iter().all(|action| !matches!(action, Action::Stop { .. })));
        replaced += repaired(&actions).iter().map(|(_, ranks)| ranks.len()).sum::<usize>();
    }
    assert_eq!(replaced, 50);
    let after = scheduler.ranks(JobId(1)).unwrap();
    assert_eq!(before.iter().zip(after).filter(|(before, after)| before.node == after.node).count(), 450);
}

#[test]
fn a_spare_of_the_same_rack_is_taken_first_and_made_up_for() {
    let mut scheduler = Scheduler::new(settings(2, 3, 8)).unwrap();
    for spare in [2, 5] {
        service(&mut scheduler, 1, spare, Service::Spare);
    }
    step(
        &mut scheduler,
        2,
        &Event::Submitted(submission(1, Gang { need: Need { within: 1, ..gang(2, 8).need }, ..gang(2, 8) })),
    );
    assert_eq!(scheduler.ranks(JobId(1)).unwrap()[0].node, NodeId(0));
    assert_eq!(repaired(&down(&mut scheduler, 3, 1)), [(1, vec![(1, 2)])]);
    service(&mut scheduler, 4, 1, Service::Up);
    assert_eq!(scheduler.fleet().service(NodeId(1)), Service::Spare);
    assert_eq!(repaired(&down(&mut scheduler, 5, 0)), [(1, vec![(0, 1)])], "the other rack's spare is too far");
}

#[test]
fn a_gang_that_cannot_be_repaired_gives_up_at_the_end_of_its_patience() {
    let mut scheduler = Scheduler::new(settings(1, 2, 8)).unwrap();
    step(&mut scheduler, 1, &Event::Submitted(submission(1, gang(2, 8))));
    down(&mut scheduler, 2, 0);
    assert_eq!(scheduler.wakeup(), Some(SimTime(1_802_000_000_000)));
    assert_eq!(step(&mut scheduler, 1801, &Event::Tick), []);
    assert_eq!(step(&mut scheduler, 1802, &Event::Tick), [Action::Stop { job: JobId(1), cause: Cause::Broken }]);
    step(&mut scheduler, 1803, &Event::Stopped { job: JobId(1), run: PRESENT, attained: Span(0) });
    assert_eq!((scheduler.running(), scheduler.waiting()), (0, 1));
    assert_eq!(started(&service(&mut scheduler, 1804, 0, Service::Up)), [1]);
}

#[test]
fn an_elastic_gang_goes_on_with_fewer_ranks_and_grows_again() {
    let mut scheduler = Scheduler::new(settings(1, 4, 8)).unwrap();
    step(&mut scheduler, 1, &Event::Submitted(submission(1, Gang { least_ranks: 2, ..gang(4, 8) })));
    let shrunk = down(&mut scheduler, 2, 3);
    assert!(matches!(shrunk.as_slice(), [Action::Resize { ranks, .. }] if ranks.len() == 3), "{shrunk:?}");
    assert_eq!(service(&mut scheduler, 3, 3, Service::Up), [], "not within ten minutes");
    let grown = step(&mut scheduler, 700, &Event::Tick);
    assert!(matches!(grown.as_slice(), [Action::Resize { ranks, .. }] if ranks.len() == 4), "{grown:?}");
    let mut small = Scheduler::new(settings(1, 3, 8)).unwrap();
    let actions = step(&mut small, 1, &Event::Submitted(submission(1, Gang { least_ranks: 2, ..gang(4, 8) })));
    assert!(matches!(actions.as_slice(), [Action::Start { ranks, .. }] if ranks.len() == 3), "{actions:?}");
}

#[test]
fn a_lemon_is_kept_away_when_it_comes_back() {
    let mut scheduler = Scheduler::new(settings(1, 1, 8)).unwrap();
    down(&mut scheduler, 1, 0);
    assert_eq!(service(&mut scheduler, 2, 0, Service::Up), []);
    down(&mut scheduler, 3, 0);
    let kept = service(&mut scheduler, 4, 0, Service::Up);
    assert_eq!(kept, [Action::Quarantined { node: NodeId(0), until: SimTime(21_604_000_000_000) }]);
    assert_eq!(started(&step(&mut scheduler, 5, &Event::Submitted(submission(1, gang(1, 8))))), [0; 0]);
    assert_eq!(started(&step(&mut scheduler, 21_604, &Event::Tick)), [1]);
    let suspected = step(&mut scheduler, 21_605, &Event::Suspected { node: NodeId(0), evidence: 2000 });
    assert!(matches!(suspected.as_slice(), [Action::Quarantined { .. }]));
    assert_eq!(scheduler.running(), 1, "what runs goes on");
}
