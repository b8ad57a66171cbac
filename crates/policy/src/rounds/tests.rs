//! Rounds against what a look at every choice finds.

use dh_core::{JobId, NodeId};

use super::*;
use crate::fleet::{Fleet, NodeFacts, View};
use crate::packing::{Request, WHOLE};
use crate::placement::{Rails, by_name};

const PER: u8 = 4;

fn fleet(nodes: usize) -> Fleet {
    let node = NodeFacts { class: 0, accelerators: PER, cpu_milli: 1_000_000, memory_mib: 1_000_000, path: vec![0] };
    Fleet::new(&["rack".to_owned()], &vec![node; nodes]).unwrap()
}

/// A gang of so many accelerators, on whole nodes if it needs more than one.
fn need(width: u32) -> Need {
    let per = width.min(u32::from(PER));
    let accelerators = u8::try_from(per).unwrap();
    let rank = Request { cpu_milli: 0, memory_mib: 0, accelerators, milli: WHOLE, models: u32::MAX };
    Need { ranks: width / per, rank, within: 0, rails: Rails::Any }
}

struct Draw(u64);

impl Draw {
    fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

/// A job: number, width, value of its key, what it holds.
type Job = (u64, u32, u64, Vec<crate::fleet::Holding>);

fn entrants(jobs: &[Job]) -> Vec<Entrant<'_>> {
    let key = |value| Key { class: 0, value };
    jobs.iter()
        .map(|(job, width, value, held)| Entrant { job: JobId(*job), need: need(*width), key: key(*value), held })
        .collect()
}

#[test]
fn one_accelerator_on_each_node_makes_room_for_a_wide_job() {
    let mut fleet = fleet(4);
    let mut jobs: Vec<Job> = (0..4).map(|job| (job, 1, 10, Vec::new())).collect();
    for (node, job) in (0..4).zip(&mut jobs) {
        job.3 = vec![fleet.take(NodeId(node), &need(1).rank, 0).unwrap()];
    }
    jobs.push((9, 12, 500, Vec::new()));
    let round = round(&fleet, by_name("best").unwrap(), &entrants(&jobs), Choice::InOrder);
    assert_eq!(round.stops.len(), 3, "{round:?}");
    assert_eq!(round.starts.len(), 4, "{round:?}");
}

#[test]
fn whoever_was_chosen_holds_what_nobody_else_holds_and_all_stops_are_needed() {
    let placement = by_name("best").unwrap();
    let mut draw = Draw(3);
    for choice in [Choice::InOrder, Choice::Worth] {
        let mut hall = fleet(6);
        let mut jobs: Vec<Job> = Vec::new();
        let (mut moved, mut stopped) = (0, 0);
        for number in 0..800 {
            // Some end, one comes.
            while jobs.len() > 10 || (jobs.len() > 3 && draw.below(3) == 0) {
                let at = usize::try_from(draw.below(jobs.len() as u64)).unwrap();
                for held in jobs.swap_remove(at).3 {
                    hall.release(&held);
                }
            }
            jobs.push((number, [1, 1, 2, 4, 8, 16][usize::try_from(draw.below(6)).unwrap()], draw.below(1000), vec![]));
            let made = {
                let entrants = entrants(&jobs);
                let chosen = choose(&entrants, 6 * u32::from(PER), choice);
                let made = round(&hall, placement, &entrants, choice);
                for at in &chosen {
                    let starts = made.starts.iter().any(|(start, _)| start == at);
                    assert!(starts || (entrants[*at].runs() && !made.stops.contains(at)), "{at} was chosen: {made:?}");
                }
                for at in &made.stops {
                    let moves = made.starts.iter().any(|(start, _)| start == at);
                    assert!(entrants[*at].runs() && (moves || !chosen.contains(at)));
                    moved += u32::from(moves);
                    stopped += 1;
                }
                made
            };
            for at in &made.stops {
                for held in std::mem::take(&mut jobs[*at].3) {
                    hall.release(&held);
                }
            }
            for (at, ranks) in made.starts {
                assert_eq!(jobs[at].1, ranks.iter().map(|held| held.mask.count_ones()).sum::<u32>());
                for held in &ranks {
                    assert_eq!(hall.free_of(held), [*held], "somebody holds it");
                    hall.occupy(held);
                }
                jobs[at].3 = ranks;
            }
            let again = round(&hall, placement, &entrants(&jobs), choice);
            assert_eq!(again, Round::default(), "a second round has nothing to do");
        }
        assert!(moved > 20 && stopped > moved, "{moved} of {stopped}");
        assert!(hall.free_in(crate::fleet::Domain::HALL, View::All) < 24);
    }
}
