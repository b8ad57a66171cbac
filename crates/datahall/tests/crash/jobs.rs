//! Clients that submit jobs until each is acknowledged, and watch them to their end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dh_core::JobId;
use dh_server::wire::{Accepted, JobList, JobRequest, JobView};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::diary::{LONG, OPENING, SMALL, Told, violations};
use crate::dice::Dice;
use crate::site::{Reply, Site, pause, sort};

/// Jobs that one client has open: enough that the hall is never idle, few enough that the end comes soon.
const OPEN_MAX: usize = 4;

/// How long the jobs that are open at the end may take.
const END_TIMEOUT: Duration = Duration::from_mins(2);

/// One client of the job API.
pub struct Client {
    site: Arc<Site>,
    agent: ureq::Agent,
}

/// What was submitted under one idempotency key.
pub struct Submission {
    pub key: String,
    pub request: JobRequest,
    pub job: JobId,
}

impl Client {
    pub fn new(site: &Arc<Site>) -> Self {
        Self { site: Arc::clone(site), agent: crate::reply::agent() }
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.site.key().secret.expose())
    }

    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Reply<T> {
        let url = format!("{}{path}", self.site.listeners().api);
        let outcome = self.agent.get(&url).header("authorization", self.bearer()).call();
        sort(&self.site, outcome, |body| serde_json::from_slice(&body).ok())
    }

    fn submit_once(&self, key: &str, request: &JobRequest) -> Reply<JobId> {
        let call = self
            .agent
            .post(format!("{}/v1/jobs", self.site.listeners().api))
            .header("authorization", self.bearer())
            .header("content-type", "application/json")
            .header("idempotency-key", key);
        let outcome = call.send(serde_json::to_string(request).unwrap());
        sort(&self.site, outcome, |body| {
            let accepted: Accepted = serde_json::from_slice(&body).ok()?;
            accepted.jobs.first().copied()
        })
    }

    /// Submits until that is acknowledged. It is for the caller to see that there is a server in the end.
    pub fn submit(&self, key: &str, request: &JobRequest) -> Option<JobId> {
        loop {
            match self.submit_once(key, request) {
                Reply::Yes(job) => return Some(job),
                Reply::Unknown => pause(),
                Reply::No(status, text) => {
                    self.site.violation(format!("{key}: a good job was refused: {status} {text}"));
                    return None;
                }
            }
        }
    }

    /// Whether the job is over; then the diary knows that the API said so.
    fn is_over(&self, job: JobId) -> bool {
        match self.get::<JobView>(&format!("/v1/jobs/{}", job.0)) {
            Reply::Yes(view) if view.over() => {
                if view.state != "succeeded" {
                    self.site.violation(format!("{job} did not succeed: {view:?}"));
                }
                self.site.note(&format!("over {} {}", job.0, view.attempts));
                true
            }
            Reply::Yes(_) => false,
            Reply::Unknown => {
                pause();
                false
            }
            Reply::No(status, text) => {
                self.site.violation(format!("{job} was acknowledged and is lost: {status} {text}"));
                true
            }
        }
    }
}

/// A gang that sleeps for a moment.
fn small(site: &Site, dice: &mut Dice) -> JobRequest {
    let ranks = 1 + u32::try_from(dice.below(3)).unwrap();
    request(
        site,
        "small",
        SMALL,
        ranks,
        &[("PAUSE", format!("{:.3}", f64::from(u32::try_from(dice.below(300)).unwrap()) / 1e3))],
    )
}

/// A gang that needs several lives of the server. Its retries are zero: a server's death is not its fault.
fn long(site: &Site, dice: &mut Dice) -> JobRequest {
    let ranks = 1 + u32::try_from(dice.below(2)).unwrap();
    request(site, "long", LONG, ranks, &[("STEPS", (30 + dice.below(60)).to_string())])
}

fn request(site: &Site, name: &str, script: &str, ranks: u32, more: &[(&str, String)]) -> JobRequest {
    let mut env = BTreeMap::from([
        ("DIARY".to_owned(), site.path("diary").to_str().unwrap().to_owned()),
        ("LOCKS".to_owned(), site.path("locks").to_str().unwrap().to_owned()),
    ]);
    env.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    JobRequest {
        name: Some(name.to_owned()),
        command: Some(["sh", "-c", &format!("{OPENING}{script}")].map(str::to_owned).to_vec()),
        env,
        ranks: Some(ranks),
        retries: Some(0),
        ..JobRequest::default()
    }
}

/// Keeps some small jobs open until the site wants no more. Some submissions are sent twice, at once or one after the
/// other, and must be one job.
pub fn submit_small(site: Arc<Site>, number: u64, seed: u64) -> Vec<Submission> {
    let client = Client::new(&site);
    let mut dice = Dice::new(seed, 20 + number);
    let mut open: Vec<JobId> = Vec::new();
    let mut all = Vec::new();
    while !site.stopping() {
        open.retain(|job| !client.is_over(*job));
        if open.len() >= OPEN_MAX {
            std::thread::sleep(Duration::from_millis(15));
            continue;
        }
        let key = format!("small-{number}-{}", all.len());
        let request = small(&site, &mut dice);
        let jobs = match dice.below(8) {
            0 => std::thread::scope(|scope| {
                let other = scope.spawn(|| Client::new(&site).submit(&key, &request));
                vec![client.submit(&key, &request), other.join().unwrap()]
            }),
            1 => vec![client.submit(&key, &request), client.submit(&key, &request)],
            _ => vec![client.submit(&key, &request)],
        };
        if let Some(job) = agreed(&site, &key, &jobs) {
            open.push(job);
            all.push(Submission { key, request, job });
        }
    }
    all
}

fn agreed(site: &Site, key: &str, jobs: &[Option<JobId>]) -> Option<JobId> {
    if jobs.iter().any(|job| *job != jobs[0]) {
        site.violation(format!("{key} became more than one job: {jobs:?}"));
    }
    jobs[0]
}

/// Keeps one long job open until the site wants no more.
pub fn submit_long(site: Arc<Site>, seed: u64) -> Vec<Submission> {
    let client = Client::new(&site);
    let mut dice = Dice::new(seed, 30);
    let mut all: Vec<Submission> = Vec::new();
    while !site.stopping() {
        let key = format!("long-{}", all.len());
        let request = long(&site, &mut dice);
        let Some(job) = client.submit(&key, &request) else { break };
        all.push(Submission { key, request, job });
        while !site.stopping() && !client.is_over(job) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    all
}

/// What the jobs came to.
pub struct Tally {
    /// Attempts that were cut off, so that another one had to follow.
    pub cut_off: u64,
    /// The most attempts that a long job needed.
    pub long_attempts: u64,
}

/// On a server that runs and is left alone: every acknowledged job ends well, and the diary agrees.
pub fn check(site: &Arc<Site>, submissions: &[Submission]) -> Tally {
    let client = Client::new(site);
    let begin = Instant::now();
    let jobs = loop {
        let Reply::Yes(JobList { jobs, .. }) = client.get("/v1/jobs") else { panic!("the jobs cannot be listed") };
        let open: Vec<&JobView> = jobs.iter().filter(|job| !job.over()).collect();
        if open.is_empty() {
            break jobs;
        }
        assert!(begin.elapsed() < END_TIMEOUT, "jobs do not end: {open:?}");
        std::thread::sleep(Duration::from_millis(30));
    };
    // Every key still means the same job, and there is no job without a key.
    for Submission { key, request, job } in submissions {
        let again = client.submit(key, request);
        if again != Some(*job) {
            site.violation(format!("{key} was acknowledged as {job} and is {again:?} now"));
        }
    }
    let mut acknowledged: Vec<JobId> = submissions.iter().map(|submission| submission.job).collect();
    acknowledged.sort_unstable();
    let known: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
    if acknowledged != known {
        let missing: Vec<_> = acknowledged.iter().filter(|job| !known.contains(job)).collect();
        let surplus: Vec<_> = known.iter().filter(|job| !acknowledged.contains(job)).collect();
        site.violation(format!("acknowledged and lost: {missing:?}; known and never acknowledged: {surplus:?}"));
    }
    for job in jobs.iter().filter(|job| job.state != "succeeded") {
        site.violation(format!("a good job did not succeed: {job:?}"));
    }
    let told = |job: &JobView| Told { job: job.id.0, ranks: u64::from(job.ranks), attempts: u64::from(job.attempts) };
    let told: Vec<Told> = jobs.iter().map(told).collect();
    for violation in violations(&site.diary(), &told) {
        site.violation(violation);
    }
    for told in &told {
        check_exits(site, *told);
    }
    Tally {
        cut_off: told.iter().map(|told| told.attempts - 1).sum(),
        long_attempts: jobs
            .iter()
            .filter(|job| job.name == "long")
            .map(|job| u64::from(job.attempts))
            .max()
            .unwrap_or(0),
    }
}

/// An attempt of which all ranks are on record as done is the last one, and the last one is on record as done.
fn check_exits(site: &Site, Told { job, ranks, attempts }: Told) {
    for attempt in 1..=attempts {
        let folder: PathBuf = site.data().join(format!("tasks/tasks/job-{job}/attempt-{attempt}"));
        let done = |rank: u64| {
            let text = std::fs::read_to_string(folder.join(format!("rank-{rank}.exit.json"))).ok()?;
            let record: Value = serde_json::from_str(&text).ok()?;
            (record["code"] == 0 && record["reason"] == "exited").then_some(())
        };
        let all = (0..ranks).all(|rank| done(rank).is_some());
        if all != (attempt == attempts) {
            let fact =
                if all { "was done, and another attempt followed" } else { "is called done, and is not on record" };
            site.violation(format!("job/{job}: attempt {attempt} of {attempts} {fact}"));
        }
    }
}
