//! Shares against a model that fills them one unit at a time, and courses against one that goes on in small steps.

use dh_core::time::Span;
use dh_core::{NodeId, SimTime};
use dh_hall::scheduler::{Backfill, Gang, Grace, Scheduler, Settings, Submission};
use dh_policy::fleet::NodeFacts;
use dh_policy::packing::{Request, WHOLE};
use dh_policy::placement::{Need, Rails};

use super::*;
use crate::kernel::{Arrival, Costs, Fate, Fault, Happening, Kernel, Observer, Profile, Stopped, Work};
use crate::random::Stream;

const SECOND: u64 = 1_000_000_000;

fn arrival(job: u64, at: u64, ranks: u32, length: u64, profile: u16) -> Arrival {
    let rank = Request { cpu_milli: 0, memory_mib: 0, accelerators: 8, milli: WHOLE, models: 0 };
    let need = Need { ranks, rank, within: 0, rails: Rails::Any };
    let gang = Gang { need, least_ranks: ranks, dataset: None, speeds: 0, rank_watts: 0, grace: Grace::Preemptible };
    let submission = Submission {
        job: JobId(job),
        gang,
        queue: 0,
        priority: 0,
        length: Some(Span(length)),
        attained: Span(0),
        kind: 0,
        since: SimTime(at),
        deadline: None,
    };
    Arrival { at: SimTime(at), submission, work: Work { length: Span(length), profile, fate: Fate::Completed } }
}

/// When each job ended, and the work it kept and lost.
#[derive(Default)]
struct Ends(BTreeMap<u64, u64>);

impl Observer for Ends {
    fn happened(&mut self, now: SimTime, what: Happening<'_>, _: &Scheduler) {
        if let Happening::Ended { job, .. } = what {
            self.0.insert(job.job.0, now.0);
        }
    }
}

/// A hall of racks of two nodes.
fn play(nodes: u32, arrivals: Vec<Arrival>, faults: Vec<Fault>, sharing: Sharing, costs: Costs) -> Ends {
    let node =
        |number: u32| NodeFacts { class: 0, accelerators: 8, cpu_milli: 0, memory_mib: 0, path: vec![number / 2] };
    let settings = Settings {
        levels: vec!["rack".to_owned()],
        nodes: (0..nodes).map(node).collect(),
        backfill: Backfill::None,
        ..Settings::default()
    };
    let profiles = vec![Profile { costs, ..Profile::default() }; sharing.demands.len().max(1)];
    let scheduler = Scheduler::new(settings).unwrap();
    let mut kernel = Kernel::new(scheduler, arrivals.into_iter(), faults.into_iter(), profiles).sharing(sharing);
    let mut ends = Ends::default();
    assert_eq!(kernel.run(SimTime(u64::MAX), &mut ends), Stopped::Done);
    ends
}

fn store(capacity: u64, demands: &[(u64, u32)]) -> Sharing {
    let resource = Resource { name: "store".to_owned(), capacity, reach: Reach::Hall };
    let demand =
        |(per_rank, exposed): &(u64, u32)| vec![Demand { resource: 0, per_rank: *per_rank, exposed: *exposed }];
    Sharing { resources: vec![resource], demands: demands.iter().map(demand).collect() }
}

#[test]
fn two_jobs_that_share_a_store_get_half_each() {
    let arrivals = vec![arrival(1, 0, 1, 100 * SECOND, 0), arrival(2, 0, 1, 100 * SECOND, 0)];
    let ends = play(2, arrivals, Vec::new(), store(100, &[(100, 1_000_000)]), Costs::default());
    assert_eq!(ends.0, BTreeMap::from([(1, 200 * SECOND), (2, 200 * SECOND)]));
    // Half of the time waits for the store, which gives half: 0.5 + 0.5 x 2.
    let arrivals = vec![arrival(1, 0, 1, 100 * SECOND, 0), arrival(2, 0, 1, 100 * SECOND, 0)];
    let ends = play(2, arrivals, Vec::new(), store(100, &[(100, 500_000)]), Costs::default());
    assert!(ends.0.values().all(|at| at.abs_diff(150 * SECOND) < SECOND / 1000), "{:?}", ends.0);
}

#[test]
fn a_job_that_ends_leaves_its_share_to_the_other() {
    let arrivals = vec![arrival(1, 0, 1, 50 * SECOND, 0), arrival(2, 0, 1, 100 * SECOND, 0)];
    let ends = play(2, arrivals, Vec::new(), store(100, &[(100, 1_000_000)]), Costs::default());
    assert_eq!(ends.0, BTreeMap::from([(1, 100 * SECOND), (2, 150 * SECOND)]));
}

#[test]
fn an_uplink_is_asked_only_by_gangs_that_leave_their_rack() {
    let resource = Resource { name: "uplink".to_owned(), capacity: 50, reach: Reach::Uplinks(1) };
    let demand = Demand { resource: 0, per_rank: 100, exposed: 1_000_000 };
    let sharing = Sharing { resources: vec![resource], demands: vec![vec![demand]] };
    let ends = play(2, vec![arrival(1, 0, 2, 10 * SECOND, 0)], Vec::new(), sharing.clone(), Costs::default());
    assert_eq!(ends.0, BTreeMap::from([(1, 10 * SECOND)]));
    // Two ranks in one rack ask for 200 of 50, the third alone for 100 of 50: the slower counts.
    let ends = play(4, vec![arrival(1, 0, 3, 10 * SECOND, 0)], Vec::new(), sharing, Costs::default());
    assert_eq!(ends.0, BTreeMap::from([(1, 40 * SECOND)]));
}

#[test]
fn what_a_checkpoint_holds_is_kept_when_speeds_change_in_between() {
    let costs = Costs { checkpoint_every: Span::from_secs(10), ..Costs::default() };
    // Alone to 25 s, then half speed: the checkpoint at 40 s holds 25 + 7.5 s. The fault at 44 s loses 2 s of work.
    let arrivals = vec![arrival(1, 0, 1, 100 * SECOND, 0), arrival(2, 25 * SECOND, 1, 1_000 * SECOND, 0)];
    let down = Fault { at: SimTime(44 * SECOND), node: NodeId(0), service: dh_policy::fleet::Service::Down };
    let ends = play(2, arrivals, vec![down], store(100, &[(100, 1_000_000)]), costs);
    let first = ends.0.get(&1).copied().unwrap();
    // It starts again when the other ends, which was alone from 44 s: 9.5 s were done by then, 990.5 are left.
    assert_eq!(ends.0.get(&2), Some(&(44 * SECOND + 990 * SECOND + SECOND / 2)));
    assert_eq!(first, 44 * SECOND + 990 * SECOND + SECOND / 2 + (100 * SECOND - 32 * SECOND - SECOND / 2));
}

#[test]
fn shares_are_max_min_and_never_more_than_there_is() {
    let mut dice = Stream::new(5);
    for _ in 0..2_000 {
        let count = 1 + dice.next() % 9;
        let wanted: Vec<u64> = (0..count).map(|_| 1 + dice.next() % 40).collect();
        let capacity = count + dice.next() % 120;
        let askers: BTreeSet<(u64, u64)> = wanted.iter().copied().zip(0..).collect();
        let pool = Pool { capacity, askers, wanted: wanted.iter().copied().map(u128::from).sum(), level: u64::MAX };
        let level = pool.fair();
        let mut filled = vec![0; wanted.len()];
        // A unit to everybody who wants one, as long as there is one for each of them.
        let mut left = capacity;
        loop {
            let hungry: Vec<usize> = (0..wanted.len()).filter(|at| filled[*at] < wanted[*at]).collect();
            if hungry.is_empty() || left < u64::try_from(hungry.len()).unwrap() {
                break;
            }
            left -= u64::try_from(hungry.len()).unwrap();
            for at in hungry {
                filled[at] += 1;
            }
        }
        let shares: Vec<u64> = wanted.iter().map(|wanted| level.min(*wanted)).collect();
        assert_eq!(shares, filled, "{wanted:?} of {capacity}");
        assert!(shares.iter().sum::<u64>() <= capacity);
    }
}

/// The course of jobs that all run at once, in steps.
fn stepwise(jobs: &[(u64, u64, usize)], capacity: u64, demands: &[(u64, u32)], step: f64) -> BTreeMap<u64, f64> {
    let mut left: Vec<f64> = jobs.iter().map(|(_, length, _)| dh_units::real(*length)).collect();
    let mut ends = BTreeMap::new();
    let mut now = 0.0;
    while ends.len() < jobs.len() {
        let running: Vec<usize> = (0..jobs.len())
            .filter(|at| !ends.contains_key(&u64::try_from(*at).unwrap()) && dh_units::real(jobs[*at].0) <= now)
            .collect();
        // Water level by bisection.
        let wanted = |at: &usize| dh_units::real(demands[jobs[*at].2].0);
        let (mut low, mut high) = (0.0, 1e6);
        for _ in 0..60 {
            let level = f64::midpoint(low, high);
            let given: f64 = running.iter().map(|at| wanted(at).min(level)).sum();
            if given > dh_units::real(capacity) { high = level } else { low = level }
        }
        for at in &running {
            let exposed = f64::from(demands[jobs[*at].2].1) / 1e6;
            let ratio = wanted(at) / wanted(at).min(low);
            left[*at] -= step / (1.0 - exposed + exposed * ratio);
            if left[*at] <= 0.0 {
                ends.insert(u64::try_from(*at).unwrap(), now + step);
            }
        }
        now += step;
    }
    ends
}

#[test]
fn work_is_conserved_while_shares_change() {
    let mut dice = Stream::new(11);
    for _ in 0..6 {
        let demands: Vec<(u64, u32)> = (0..4)
            .map(|_| {
                let exposed = u32::try_from(dice.next() % 1_000_000).unwrap();
                (1_000 * (1 + dice.next() % 50), 1 + exposed)
            })
            .collect();
        let capacity = 20_000 + dice.next() % 80_000;
        let jobs: Vec<(u64, u64, usize)> = (0..12)
            .map(|_| {
                let at = dice.next() % 20;
                let length = 5 + dice.next() % 30;
                (at * SECOND, length * SECOND, usize::try_from(dice.next() % 4).unwrap())
            })
            .collect();
        let mut arrivals: Vec<Arrival> = (0_u64..)
            .zip(&jobs)
            .map(|(job, (at, length, profile))| arrival(job, *at, 1, *length, u16::try_from(*profile).unwrap()))
            .collect();
        arrivals.sort_by_key(|arrival| arrival.at);
        let ends = play(12, arrivals, Vec::new(), store(capacity, &demands), Costs::default());
        let want = stepwise(&jobs, capacity, &demands, 5e6);
        for (job, at) in &ends.0 {
            // A step at every change of the set, and rounding of shares to whole units.
            let off = (dh_units::real(*at) - want[job]).abs() / 1e9;
            assert!(off < 0.2, "job {job} ends at {at}, not {}", want[job]);
        }
    }
}
