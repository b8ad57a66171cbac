//! Guarantees: stories, and storms in which nobody waits for what is his own, and nobody loses it.

use std::collections::BTreeMap;

use dh_policy::fairness::Stretch;

use super::super::job::Phase;
use super::super::reclaim::granted;
use super::super::share::way_up;
use super::*;

fn own(guarantee: u64) -> QueueRules {
    QueueRules { guarantee_milli: 1000 * guarantee, share: 1, ..QueueRules::default() }
}

fn below(parent: QueueId, guarantee: u64) -> QueueRules {
    QueueRules { parent: Some(parent), ..own(guarantee) }
}

/// One node of 16 accelerators.
fn hall(queues: Vec<QueueRules>, backfill: Backfill) -> Scheduler {
    Scheduler::new(Settings { queues, backfill, ..settings(1, 1, 16) }).unwrap()
}

fn submit(
    scheduler: &mut Scheduler,
    at: u64,
    queue: QueueId,
    job: u64,
    accelerators: u8,
) -> (Vec<u64>, Vec<(u64, u64)>) {
    let since = SimTime(at * 1_000_000_000);
    let event = Event::Submitted(Submission { queue, since, ..submission(job, gang(1, accelerators)) });
    let actions = step(scheduler, at, &event);
    (started(&actions), stopped(&actions))
}

fn answer(scheduler: &mut Scheduler, at: u64, job: u64) -> Vec<u64> {
    started(&step(scheduler, at, &Event::Stopped { job: JobId(job), run: PRESENT, attained: Span(0) }))
}

fn end(scheduler: &mut Scheduler, at: u64, job: u64) -> Vec<u64> {
    started(&step(scheduler, at, &Event::Ended { job: JobId(job), run: PRESENT }))
}

const NOTHING: (Vec<u64>, Vec<(u64, u64)>) = (Vec::new(), Vec::new());

#[test]
fn what_a_parent_is_guaranteed_is_taken_back_for_a_queue_below_it_and_from_whom_it_was_lent() {
    // 0 and 1 stand below 2, which is guaranteed 8; 3 and 4 below 5, of whose 8 queue 3 is guaranteed 6.
    let queues = vec![below(2, 0), below(2, 0), own(8), below(5, 6), below(5, 0), own(8)];
    let mut scheduler = hall(queues, Backfill::Any);
    submit(&mut scheduler, 1, 3, 1, 6);
    submit(&mut scheduler, 2, 4, 2, 6);
    submit(&mut scheduler, 3, 5, 3, 4);
    // 3 is the youngest, and its stop costs least; but 1 would do too, were it not guaranteed.
    assert_eq!(submit(&mut scheduler, 4, 0, 4, 4).1, [(3, 4)]);
    assert_eq!(answer(&mut scheduler, 5, 3), [4]);
    // Of the 12 that 5 holds, four are lent: six of one gang are more than that. Once it has run for a quantum it goes.
    assert_eq!(submit(&mut scheduler, 6, 1, 5, 4), NOTHING);
    assert_eq!(stopped(&step(&mut scheduler, 62, &Event::Tick)), [(2, 5)]);
    assert_eq!(answer(&mut scheduler, 63, 2), [5]);
    // Nothing more is owed to 2, and nothing is to be had of 5.
    assert_eq!(submit(&mut scheduler, 200, 1, 6, 4), NOTHING);
    assert_eq!(step(&mut scheduler, 5000, &Event::Tick), []);
}

#[test]
fn queues_below_one_parent_take_back_among_themselves_whatever_it_holds() {
    // Queue 2 holds twice its guarantee. Of that, 0 has its own coming from 1, and nothing from 3.
    let queues = vec![below(2, 4), below(2, 0), own(4), own(4)];
    let mut scheduler = hall(queues, Backfill::Any);
    submit(&mut scheduler, 1, 1, 1, 4);
    submit(&mut scheduler, 2, 1, 2, 4);
    submit(&mut scheduler, 3, 3, 3, 8);
    assert_eq!(submit(&mut scheduler, 4, 0, 4, 4).1, [(2, 4)]);
    assert_eq!(answer(&mut scheduler, 5, 2), [4]);
}

#[test]
fn what_is_coming_already_is_not_taken_twice() {
    let mut scheduler = hall(vec![own(4), own(8), own(4)], Backfill::Any);
    for job in 1..=4 {
        submit(&mut scheduler, job, 1, job, 4);
    }
    // A job of queue 1 is cancelled, and has not gone yet; another goes for queue 0. With those two, 1 holds what is its own.
    step(&mut scheduler, 5, &Event::Cancelled { job: JobId(1) });
    assert_eq!(submit(&mut scheduler, 6, 0, 5, 4).1.len(), 1);
    assert_eq!(submit(&mut scheduler, 7, 2, 6, 4), NOTHING);
    assert_eq!(end(&mut scheduler, 8, 1), [6]);
}

#[test]
fn who_takes_back_does_not_wait_for_other_queues_nor_for_what_is_kept_for_them() {
    for backfill in [Backfill::None, Backfill::Easy, Backfill::Conservative { reservations: 3 }] {
        let mut scheduler = hall(vec![own(4), own(0)], backfill);
        for job in [1, 2] {
            let length = Some(Span::from_secs(100));
            step(
                &mut scheduler,
                job,
                &Event::Submitted(Submission { queue: 1, length, ..submission(job, gang(1, 6)) }),
            );
        }
        assert_eq!(submit(&mut scheduler, 3, 1, 3, 16), NOTHING);
        assert_eq!(submit(&mut scheduler, 4, 0, 4, 4).0, [4], "{backfill:?}");
        end(&mut scheduler, 5, 4);
        submit(&mut scheduler, 6, 1, 5, 4);
        assert_eq!(submit(&mut scheduler, 7, 0, 6, 4).0, [6], "{backfill:?}");
    }
}

#[test]
fn who_is_due_is_displaced_neither_by_priority_nor_for_a_guarantee() {
    let rules = QueueRules { preempts: true, ..own(16) };
    let stretch = Some(Stretch { due_milli: 1800, released_milli: 1000, floor: Span::from_secs(60) });
    let settings = Settings { queues: vec![rules, own(0)], backfill: Backfill::Any, stretch, ..settings(1, 1, 16) };
    let mut scheduler = Scheduler::new(settings).unwrap();
    let protected = Gang { grace: Grace::Protected, ..gang(1, 16) };
    step(&mut scheduler, 1, &Event::Submitted(submission(1, protected)));
    submit(&mut scheduler, 2, 1, 2, 16);
    // It waited for a thousand seconds, of which it should have had half.
    assert_eq!(end(&mut scheduler, 1002, 1), [2]);
    let urgent = |job| Submission { priority: 9, since: SimTime(1_003_000_000_000), ..submission(job, gang(1, 16)) };
    assert_eq!(step(&mut scheduler, 1003, &Event::Submitted(urgent(3))), []);
    let stops = |at: &u64| stopped(&step(&mut scheduler, *at, &Event::Tick)) == [(2, 3)];
    let released = (1004..3000).find(stops);
    assert!(released.is_some_and(|at| (1400..1600).contains(&at)), "{released:?}: released, it is a job like others");
}

/// A hall of some nodes whose accelerators are all alike, so that only counts decide; everybody answers within seconds.
struct Storm {
    dice: u64,
    scheduler: Scheduler,
    now: u64,
    jobs: BTreeMap<JobId, Submission>,
    /// Answers to come.
    leaving: BTreeMap<(u64, JobId), RunId>,
    /// Since when jobs wait for what is their queue's own.
    entitled: BTreeMap<JobId, u64>,
    next: u64,
    strict: bool,
    stops: u64,
    lent: u64,
    /// Starts in the same step as their stops.
    wasted: u64,
}

/// What each step may take at most until somebody has what is his own: a quantum, two answers, and some slack, seconds.
const PATIENCE: u64 = 45;
const QUANTUM: u64 = 10;
const QUEUES: u64 = 7;

impl Storm {
    fn new(seed: u64) -> Self {
        let mut dice = seed;
        let mut roll = |end: u64| {
            dice = dice.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut mixed = dice;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            (mixed ^ (mixed >> 31)) % end
        };
        let backfills = [Backfill::None, Backfill::Any, Backfill::Easy, Backfill::Conservative { reservations: 3 }];
        let sharing = if roll(2) == 0 { Sharing::OneLine } else { Sharing::Fair { half_life: Span::from_secs(100) } };
        let queues = vec![QueueRules { share: 1, ..QueueRules::default() }; usize::try_from(QUEUES).unwrap()];
        let settings = Settings {
            queues,
            sharing,
            backfill: backfills[usize::try_from(roll(4)).unwrap()],
            order: ["fifo", "least-attained", "shortest-remaining"][usize::try_from(roll(3)).unwrap()].to_owned(),
            quantum: Span::from_secs(QUANTUM),
            claim: Span::from_secs(60),
            grow_after: None,
            ..settings(1 + u32::try_from(roll(2)).unwrap(), 2 + u32::try_from(roll(3)).unwrap(), 4)
        };
        let strict = settings.backfill == Backfill::None;
        let scheduler = Scheduler::new(settings).unwrap();
        Self {
            dice,
            scheduler,
            now: 1,
            jobs: BTreeMap::new(),
            leaving: BTreeMap::new(),
            entitled: BTreeMap::new(),
            next: 1,
            strict,
            stops: 0,
            lent: 0,
            wasted: 0,
        }
    }

    fn roll(&mut self, end: u64) -> u64 {
        self.dice = self.dice.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.dice;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end
    }

    /// What a queue holds without those who are about to leave it, and what it is guaranteed.
    fn stands(&self, queue: QueueId) -> (u64, u64) {
        let queue = &self.scheduler.state.queues[usize::from(queue)];
        (queue.used_milli - queue.leaving_milli, queue.granted_milli)
    }

    fn way(&self, queue: QueueId) -> Vec<QueueId> {
        way_up(&self.scheduler.state.queues, queue).map(|(id, _)| id).collect()
    }

    fn tell(&mut self, event: &Event) {
        let actions = step(&mut self.scheduler, self.now, event);
        let (begun, stopped) = (started(&actions), stopped(&actions));
        for (job, by) in &stopped {
            let (victim, claimant) = (self.jobs[&JobId(*job)], self.jobs[&JobId(*by)]);
            self.wasted += u64::from(begun.contains(job));
            self.stops += 1;
            self.lent += u64::from(victim.queue != claimant.queue && victim.priority >= claimant.priority);
            let theirs = self.way(claimant.queue);
            for queue in self.way(victim.queue).into_iter().take_while(|queue| !theirs.contains(queue)) {
                let (holds, granted) = self.stands(queue);
                // Of the last one a part may have been lent.
                let last = stopped.iter().map(|(job, _)| JobId(*job)).filter(|job| {
                    let run =
                        self.scheduler.state.jobs.get(self.scheduler.state.jobs.slot(*job).unwrap()).unwrap().run();
                    let run = run.unwrap();
                    self.way(self.jobs[job].queue).contains(&queue)
                        && holds + 1000 * u64::try_from(run.ranks.len()).unwrap() > granted
                        && self.now * 1_000_000_000 >= run.started.0 + QUANTUM * 1_000_000_000
                });
                assert!(holds >= granted || last.count() > 0, "queue {queue} lost what is its own to {by}");
            }
        }
        for (job, _) in stopped {
            let at = self.now + self.roll(6);
            let run = self.scheduler.run_of(JobId(job)).unwrap();
            self.leaving.insert((at, JobId(job)), run);
        }
    }

    /// Whoever could have what is his queue's own gets it in time.
    fn judge(&mut self) {
        let mut entitled = BTreeMap::new();
        let mut first: BTreeMap<QueueId, (dh_policy::order::Key, JobId)> = BTreeMap::new();
        for (_, job) in self.scheduler.state.jobs.iter() {
            if matches!(job.phase, Phase::Waiting { .. }) {
                let at = first.entry(job.queue).or_insert((job.key, job.id));
                *at = (*at).min((job.key, job.id));
            }
        }
        for (slot, job) in self.scheduler.state.jobs.iter() {
            let Phase::Waiting { group } = &job.phase else { continue };
            if self.scheduler.state.lines.top(*group) != Some(slot)
                || (self.strict && first[&job.queue] != (job.key, job.id))
            {
                continue;
            }
            let top = self.way(job.queue).pop().unwrap();
            let top = &self.scheduler.state.queues[usize::from(top)];
            let wants = 1000 * u64::from(self.jobs[&job.id].gang.least_ranks);
            if top.used_milli + wants <= top.granted_milli {
                let since = *self.entitled.get(&job.id).unwrap_or(&self.now);
                assert!(self.now <= since + PATIENCE, "{} waits since {since} for what is its queue's own", job.id);
                entitled.insert(job.id, since);
            }
        }
        self.entitled = entitled;
    }

    /// Answers and moments that come before `until`; nothing else happens meanwhile.
    fn pass(&mut self, until: u64) {
        let mut left = 500;
        loop {
            let leaves = self.leaving.first_key_value().map(|((at, job), run)| (*at, Some((*job, *run))));
            let tick = self.scheduler.wakeup().map(|at| (at.0.div_ceil(1_000_000_000), None));
            let Some((at, leaves)) = leaves.into_iter().chain(tick).min().filter(|(at, _)| *at <= until) else { break };
            self.now = self.now.max(at);
            match leaves {
                Some((job, run)) => {
                    self.leaving.pop_first();
                    self.tell(&Event::Stopped { job, run, attained: Span::from_secs(5) });
                }
                None => self.tell(&Event::Tick),
            }
            left -= 1;
            assert!(left > 0, "it goes round in a circle");
        }
        self.now = self.now.max(until);
    }

    fn act(&mut self) {
        match self.roll(12) {
            0..=5 if self.jobs.len() < 40 => {
                let ranks = 1 + u32::try_from(self.roll(4)).unwrap();
                let least_ranks = if self.roll(4) == 0 { 1 } else { ranks };
                let job = JobId(self.next);
                self.next += 1;
                let submission = Submission {
                    queue: u16::try_from(self.roll(QUEUES)).unwrap(),
                    priority: i32::try_from(self.roll(4)).unwrap(),
                    since: SimTime(self.now * 1_000_000_000),
                    length: (self.roll(2) == 0).then(|| Span::from_secs(100)),
                    ..submission(job.0, Gang { least_ranks, ..gang(ranks, 1) })
                };
                self.jobs.insert(job, submission);
                self.tell(&Event::Submitted(submission));
            }
            0..=8 => {
                let running: Vec<JobId> =
                    self.jobs.keys().copied().filter(|job| self.scheduler.run_of(*job).is_some()).collect();
                if !running.is_empty() {
                    let at = usize::try_from(self.roll(u64::try_from(running.len()).unwrap())).unwrap();
                    self.jobs.remove(&running[at]);
                    self.leaving.retain(|(_, job), _| *job != running[at]);
                    self.tell(&Event::Ended { job: running[at], run: PRESENT });
                }
            }
            9 => {
                let queue = u16::try_from(self.roll(QUEUES)).unwrap();
                let rules = QueueRules {
                    guarantee_milli: 1000 * self.roll(8),
                    lends_milli: (self.roll(3) == 0).then(|| 1000 * self.roll(3)),
                    // The last ones stand on top, so that many stand below each.
                    parent: (self.roll(3) > 0).then(|| 4 + u16::try_from(self.roll(3)).unwrap()),
                    preempts: self.roll(2) == 0,
                    share: 1,
                    ..QueueRules::default()
                };
                self.tell(&Event::Queue { queue, rules });
            }
            _ => {}
        }
        let until = self.now + self.roll(8);
        self.pass(until);
    }
}

#[test]
fn nobody_waits_for_what_is_his_own_and_nobody_loses_it() {
    let (mut stops, mut lent, mut wasted) = (0, 0, 0);
    for seed in 0..60 {
        let played = std::panic::catch_unwind(|| {
            let mut storm = Storm::new(seed);
            for _ in 0..300 {
                storm.act();
                storm.judge();
            }
            (storm.stops, storm.lent, storm.wasted)
        });
        let played = played.unwrap_or_else(|panic| panic!("seed {seed}: {:?}", panic.downcast_ref::<String>()));
        stops += played.0;
        lent += played.1;
        wasted += played.2;
    }
    assert!(stops > 500 && lent > 200, "{stops} stops, {lent} of them for a guarantee alone");
    // An elastic gang takes what is free beyond its own, and may lose that to the next who comes.
    assert!(wasted * 20 < stops, "{wasted} of {stops} started only to be stopped");
}

#[test]
fn a_guarantee_is_cut_to_what_its_parent_has_left() {
    let rules = [below(2, 6), below(2, 6), own(8), own(20)];
    assert_eq!(granted(&rules, 16_000), [6_000, 2_000, 8_000, 8_000]);
    assert_eq!(granted(&[below(9, 5)], 16_000), [0]);
}
