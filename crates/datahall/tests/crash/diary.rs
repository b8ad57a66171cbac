//! What the ranks of all jobs wrote down, and what must never be found in it.
//!
//! One file, opened to append, one write per line: the order of its lines is the order in which things happened, on all
//! processes together, without any clock. The ranks write `start`, `step`, `end` and `overlap`, the test writes `up`,
//! `kill` and `over`.
//!
//! ```text
//! start JOB ATTEMPT RANK          its process runs
//! step JOB ATTEMPT RANK NUMBER    it has done this step of its work
//! end JOB ATTEMPT RANK            it has done all
//! overlap JOB ATTEMPT RANK OLD    at its start some process of attempt OLD still lived
//! over JOB ATTEMPTS               the API had answered that the job succeeded, in its ATTEMPTS-th attempt
//! ```
//!
//! `overlap` is the kernel's word: each process of an attempt holds a shared lock on the attempt's file to its last
//! moment, also a process that never came to write a line, and a later attempt's rank tries to take the file alone.

use std::collections::{BTreeMap, BTreeSet};

/// A job's ranks run this, then [`SMALL`] or [`LONG`]. `LOCKS` and `DIARY` are in its environment.
pub const OPENING: &str = r#"
exec 9>>"$LOCKS/$DH_JOB.$DH_ATTEMPT"
flock -s 9
# One rank at a time, with all its children: two that try the same file would take each other for its owner.
exec 8>>"$LOCKS/$DH_JOB.check"
flock 8
# The last few are enough, and a job that was cut off often stays as quick as in its first attempt.
old=$((DH_ATTEMPT > 4 ? DH_ATTEMPT - 4 : 1))
while [ "$old" -lt "$DH_ATTEMPT" ]; do
  file="$LOCKS/$DH_JOB.$old"
  if [ -e "$file" ] && ! flock -n -x "$file" true 9>&-; then
    echo "overlap $DH_JOB $DH_ATTEMPT $DH_RANK $old" >>"$DIARY"
  fi
  old=$((old + 1))
done
exec 8>&-
echo "start $DH_JOB $DH_ATTEMPT $DH_RANK" >>"$DIARY"
"#;

/// A job that only takes `PAUSE` seconds.
pub const SMALL: &str = r#"
sleep "$PAUSE"
echo "end $DH_JOB $DH_ATTEMPT $DH_RANK" >>"$DIARY"
"#;

/// A job of `STEPS` steps that goes on after the last one that it has kept, as a training run does.
pub const LONG: &str = r#"
kept="$LOCKS/$DH_JOB.kept.$DH_RANK"
step=0
[ -e "$kept" ] && step=$(cat "$kept")
while [ "$step" -lt "$STEPS" ]; do
  sleep 0.02
  step=$((step + 1))
  echo "$step" >"$kept.new" && mv "$kept.new" "$kept"
  echo "step $DH_JOB $DH_ATTEMPT $DH_RANK $step" >>"$DIARY"
done
echo "end $DH_JOB $DH_ATTEMPT $DH_RANK" >>"$DIARY"
"#;

#[derive(Default)]
struct Story {
    latest: u64,
    started: BTreeSet<(u64, u64)>,
    ended: BTreeSet<(u64, u64)>,
    steps: BTreeMap<u64, u64>,
    over: Option<u64>,
}

/// What the hall says about a job after everything.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    pub job: u64,
    pub ranks: u64,
    pub attempts: u64,
}

/// Everything that contradicts the promise, in the order of the diary, then of the jobs.
pub fn violations(diary: &str, jobs: &[Told]) -> Vec<String> {
    let mut found = Vec::new();
    let mut stories: BTreeMap<u64, Story> = BTreeMap::new();
    for (number, line) in (1..).zip(diary.lines()) {
        if let Err(why) = read(line, &mut stories) {
            found.push(format!("diary line {number}, `{line}`: {why}"));
        }
    }
    for told in jobs {
        let Some(story) = stories.get(&told.job) else {
            found.push(format!("job/{} is called succeeded and never ran", told.job));
            continue;
        };
        let Told { job, ranks, attempts } = *told;
        if !(0..ranks).all(|rank| story.ended.contains(&(attempts, rank))) {
            found.push(format!(
                "job/{job} is called succeeded in attempt {attempts}, of which only {:?} ended",
                story.ended
            ));
        }
        if story.latest > attempts {
            found.push(format!("job/{job} ran attempt {}, and the hall knows of {attempts}", story.latest));
        }
        if let Some((_, rank)) = story.started.iter().find(|(_, rank)| *rank >= ranks) {
            found.push(format!("job/{job} has {ranks} ranks, and rank {rank} ran"));
        }
        if story.over.is_some_and(|over| over != attempts) {
            found.push(format!("job/{job} was over in attempt {:?}, later in attempt {attempts}", story.over));
        }
    }
    let told: BTreeSet<u64> = jobs.iter().map(|told| told.job).collect();
    found.extend(
        stories.keys().filter(|job| !told.contains(job)).map(|job| format!("job/{job} ran, and nobody submitted it")),
    );
    found
}

fn read(line: &str, stories: &mut BTreeMap<u64, Story>) -> Result<(), String> {
    let mut words = line.split(' ');
    let word = words.next().unwrap_or_default();
    let numbers: Vec<u64> = words.map(str::parse).collect::<Result<_, _>>().map_err(|_| "a torn line".to_owned())?;
    match (word, numbers.as_slice()) {
        ("up" | "kill", [_]) => Ok(()),
        ("over", [job, attempts]) => {
            let story = stories.entry(*job).or_default();
            match story.over.replace(*attempts) {
                Some(before) if before != *attempts => Err(format!("it was over in attempt {before} before")),
                _ if story.latest > *attempts => Err("a later attempt ran".to_owned()),
                _ => Ok(()),
            }
        }
        ("start", [job, attempt, rank]) => {
            let story = stories.entry(*job).or_default();
            story.lives(*attempt)?;
            story.latest = *attempt;
            story.started.insert((*attempt, *rank)).then_some(()).ok_or_else(|| "it was started twice".to_owned())
        }
        ("step", [job, attempt, rank, step]) => {
            let story = stories.entry(*job).or_default();
            story.lives(*attempt)?;
            match story.steps.insert(*rank, *step) {
                Some(before) if before >= *step => Err(format!("step {before} was done before")),
                _ => Ok(()),
            }
        }
        ("end", [job, attempt, rank]) => {
            let story = stories.entry(*job).or_default();
            story.lives(*attempt)?;
            if !story.started.contains(&(*attempt, *rank)) {
                return Err("it never started".to_owned());
            }
            story.ended.insert((*attempt, *rank)).then_some(()).ok_or_else(|| "it ended twice".to_owned())
        }
        ("overlap", [_, _, _, old]) => Err(format!("processes of attempt {old} were still alive")),
        _ => Err("it makes no sense".to_owned()),
    }
}

impl Story {
    /// Whether a process of `attempt` may live at this point.
    fn lives(&self, attempt: u64) -> Result<(), String> {
        match self.over {
            Some(over) => Err(format!("the API had called the job succeeded in attempt {over}")),
            None if attempt < self.latest => Err(format!("attempt {} had started", self.latest)),
            None => Ok(()),
        }
    }
}

#[test]
fn a_good_diary_passes_and_each_broken_promise_is_found() {
    let good = "up 1\nstart 1 1 0\nstart 1 1 1\nend 1 1 0\nkill 1\nup 2\nstart 1 2 1\nstart 1 2 0\nstep 1 2 0 1\n\
                step 1 2 0 3\nend 1 2 0\nend 1 2 1\nover 1 2\nover 1 2\n";
    let told = [Told { job: 1, ranks: 2, attempts: 2 }];
    assert_eq!(violations(good, &told), Vec::<String>::new());
    let bad = |diary: &str, told: &[Told], part: &str| {
        let found = violations(diary, told).join("\n");
        assert!(found.contains(part), "{part} is not among: {found}");
    };
    let more = |line: &str| good.replace("over 1 2\nover 1 2\n", &format!("{line}\nover 1 2\n"));
    bad(&more("end 1 1 1"), &told, "attempt 2 had started");
    bad(&more("start 1 1 1"), &told, "attempt 2 had started");
    bad(&more("start 1 2 1"), &told, "started twice");
    bad(&more("end 1 2 1"), &told, "ended twice");
    bad(&more("step 1 2 0 3"), &told, "step 3 was done before");
    bad(&more("overlap 1 2 0 1"), &told, "attempt 1 were still alive");
    bad(&more("start 1 3 0"), &told, "a later attempt ran");
    bad(&more("sta"), &told, "makes no sense");
    bad(&more("start 1 3 0\nend 1 3 0").replace("over 1 2\n", ""), &told, "the hall knows of 2");
    bad(&format!("{good}start 1 3 0\n"), &told, "called the job succeeded");
    bad(&good.replace("end 1 2 1\n", ""), &told, "only");
    bad(good, &[], "nobody submitted it");
    bad(good, &[told[0], Told { job: 2, ranks: 1, attempts: 1 }], "job/2 is called succeeded and never ran");
    bad(good, &[Told { ranks: 1, ..told[0] }], "rank 1 ran");
}
