//! What news of pods make of gangs: every order of the same news tells of each start at most once and of each end exactly once.

use std::time::{Duration, Instant};

use dh_core::{AttemptId, JobId, Rank};
use serde_json::json;

use super::*;

const RANKS: u32 = 3;

fn attempt() -> AttemptId {
    AttemptId { job: JobId(7), attempt: 1 }
}

fn pod(rank: u32, uid: &str, status: &serde_json::Value) -> Pod {
    let labels = json!({ "datahall/job": "7", "datahall/attempt": "1", "datahall/rank": rank.to_string() });
    let metadata = json!({ "name": format!("dh-lab-7-1-{rank}"), "uid": uid, "labels": labels });
    serde_json::from_value(json!({ "metadata": metadata, "status": status })).unwrap()
}

fn running(rank: u32) -> Pod {
    let status = json!({ "phase": "Running", "containerStatuses": [{ "state": { "running": {} } }] });
    pod(rank, &format!("uid-{rank}"), &status)
}

fn finished(rank: u32) -> Pod {
    let state = json!({ "terminated": { "exitCode": 0, "reason": "Completed" } });
    pod(rank, &format!("uid-{rank}"), &json!({ "phase": "Succeeded", "containerStatuses": [{ "state": state }] }))
}

fn table() -> Table {
    let hosts = (0..RANKS).map(|rank| format!("n{rank}"));
    Table { gangs: [(attempt(), Gang::new(hosts))].into(), ..Table::default() }
}

/// A stream of numbers that look random (`SplitMix64`).
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*seed ^ (*seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 16
}

#[test]
fn whatever_the_watch_repeats_or_leaves_out_each_rank_starts_at_most_once_and_ends_once() {
    for seed in 0..2_000 {
        let mut random = seed;
        let (mut table, start) = (table(), Instant::now());
        let mut out = Vec::new();
        for moment in 0..40_u64 {
            let at = start + Duration::from_secs(moment);
            let rank = u32::try_from(next(&mut random) % u64::from(RANKS)).unwrap();
            match next(&mut random) % 6 {
                0 | 1 => table.put(&running(rank), at, &mut out),
                2 => table.put(&finished(rank), at, &mut out),
                3 => table.gone(&running(rank), at, &mut out),
                4 => table.all(&[running(rank)], at, at, &mut out),
                _ => table.gangs.get_mut(&attempt()).unwrap().ask(Stop::Polite, at),
            }
        }
        let at = start + Duration::from_secs(50);
        table.all(&[], at, at, &mut out);
        for rank in (0..RANKS).map(Rank) {
            let of = |effect: &&Effect| match effect {
                Effect::Started(task) | Effect::Ended(task, _) => task.rank == rank,
            };
            let told: Vec<&Effect> = out.iter().filter(of).collect();
            let seen = table.gangs[&attempt()].ranks[usize::try_from(rank.0).unwrap()].pod.is_some();
            match told.as_slice() {
                [Effect::Started(_), Effect::Ended(..)] | [Effect::Ended(..)] => assert!(seen),
                [] => assert!(!seen, "seed {seed}: {rank} was seen and never ended"),
                other => panic!("seed {seed}: {other:?}"),
            }
        }
    }
}

#[test]
fn another_pod_of_the_same_name_is_a_stranger() {
    let (mut table, at, mut out) = (table(), Instant::now(), Vec::new());
    table.put(&running(0), at, &mut out);
    table.put(&pod(0, "another", &json!({ "phase": "Failed" })), at, &mut out);
    assert_eq!(out.len(), 1);
    assert!(table.strangers.contains_key("dh-lab-7-1-0"));
}

#[test]
fn a_list_that_was_asked_for_before_a_pod_was_made_does_not_miss_it() {
    let (mut table, at, mut out) = (table(), Instant::now(), Vec::new());
    table.put(&running(0), at + Duration::from_secs(2), &mut out);
    table.all(&[], at + Duration::from_secs(1), at + Duration::from_secs(3), &mut out);
    assert_eq!(out.len(), 1);
    table.all(&[], at + Duration::from_secs(4), at + Duration::from_secs(5), &mut out);
    assert_eq!(out.len(), 2);
}

#[test]
fn what_a_pod_waits_for_in_vain_fails_its_gang() {
    let waiting = |reason: &str| {
        let status = json!({ "phase": "Pending", "containerStatuses": [{ "state": { "waiting": { "reason": reason, "message": "m" } } }] });
        pod(1, "uid-1", &status)
    };
    for (reason, fails) in [("ImagePullBackOff", true), ("ContainerCreating", false)] {
        let (mut table, at, mut out) = (table(), Instant::now(), Vec::new());
        table.gangs.get_mut(&attempt()).unwrap().released = Some(at);
        table.put(&waiting(reason), at, &mut out);
        table.overdue(Duration::from_mins(10), Duration::from_mins(1), at + STUCK, &mut out);
        let gang = &table.gangs[&attempt()];
        assert_eq!(gang.failed.as_deref(), fails.then_some("ImagePullBackOff: m"));
        assert_eq!(gang.asked.is_some(), fails);
    }
}
