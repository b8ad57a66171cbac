//! The page of a run: whole by itself, safe whatever its texts hold, small whatever the run was.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::collections::BTreeSet;

use dh_core::JobId;
use dh_core::time::{SimTime, Span};
use dh_twin::comparison::{Comparison, Runs};
use dh_twin::measure::{
    Cause, Curve, End, Fate, JobFacts, Measures, NodeChange, NodeState, Outcome, Pending, Piece, Power, Setup, Start,
    Stop, Tariff, Window,
};
use dh_twin::page::{Page, SIZE_MAX, html};
use dh_twin::timeline::{Chart, Colour, Mark, Nodes, Series, Stay, Timeline, What};
use dh_units::{UsdPerHour, Watts, real};

const SECOND: u64 = 1_000_000_000;

/// What would run, or break out of an attribute or a script, if it were written as it is.
const HOSTILE: &str = "\"><script>alert(1)</script><img src=x onerror='y'>&</script>";

struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

struct Flat;

impl Curve for Flat {
    fn at(&self, _: SimTime) -> Piece {
        Piece { value: 0.1, until: SimTime(u64::MAX) }
    }
}

/// Jobs one after the other, each on its own accelerators.
fn run(seed: u64, queues: &[String], jobs: u64) -> Outcome {
    let mut dice = Dice(seed);
    let tariff = Tariff { price: Some(&Flat), carbon: Some(&Flat), capital: Some(UsdPerHour(100.0)) };
    let mut measures = Measures::new(Setup { queues: queues.to_vec(), window: Window::default(), tariff });
    measures.node_changed(SimTime(0), NodeChange { milli: 64_000, from: NodeState::Absent, to: NodeState::Up });
    let mut now = 0;
    for job in 1..=jobs {
        now += (1 + dice.below(50)) * SECOND;
        let submit = SimTime(now);
        let length = (1 + dice.below(2_000)) * SECOND;
        let queue = usize::try_from(dice.below(5)).unwrap();
        let milli = 1_000 << dice.below(6);
        let facts = JobFacts { job: JobId(job), queue, milli, length: Span(length), submit };
        measures.submitted(submit, &facts);
        let start = now + dice.below(100) * SECOND;
        measures.pending(submit, Pending { jobs: dice.below(9), milli: 1_000 });
        measures.started(SimTime(start), &facts, Start { attempt: 1, waited: Span(start - now) });
        measures.power(
            SimTime(start),
            Power { it: Watts(real(dice.below(9_000))), facility: Watts(9_999.0), ..Power::default() },
        );
        now = start + length;
        let stop = Stop {
            cause: Cause::Ended,
            since: SimTime(start),
            kept: Span(length),
            lost: Span(0),
            checkpoints: Span(0),
        };
        measures.stopped(SimTime(now), &facts, stop);
        let alone = Some(Span(length));
        measures.ended(SimTime(now), &facts, End { fate: Fate::Completed, first_start: Some(SimTime(start)), alone });
    }
    measures.finish(SimTime(now))
}

/// A picture of noise: every series, many nodes, every cell another job.
fn noise(nodes: u32, colour: Colour, stays: u64, steps: u64) -> Chart {
    let mut dice = Dice(5);
    let mut timeline = Timeline::new(SimTime(0), Some(Nodes { nodes, nodes_per_rack: 4, milli: 8_000, colour }));
    let series = [
        Series::HeldMilli,
        Series::FreeMilli,
        Series::AsleepMilli,
        Series::DownMilli,
        Series::FragmentedMilli,
        Series::RunningJobs,
        Series::PendingJobs,
        Series::ItWatts,
        Series::FacilityWatts,
    ];
    let end = 2_000_000 * SECOND;
    for step in 0..steps {
        let now = SimTime(end / steps * step);
        for one in series {
            timeline.set(now, one, dice.below(100_000_000));
        }
        timeline
            .mark(now, [Mark::Failure, Mark::Preemption, Mark::JobFailure][usize::try_from(dice.below(3)).unwrap()]);
    }
    for _ in 0..stays {
        let from = dice.below(2_000_000) * SECOND;
        let what = match dice.below(5) {
            0 => What::Down,
            1 => What::Asleep,
            _ if colour == Colour::Queue => What::Work(dice.below(6)),
            _ => What::Work(dice.below(10_000_000)),
        };
        let node = u32::try_from(dice.below(nodes.into())).unwrap();
        let to = SimTime(from + dice.below(9_000) * SECOND);
        timeline.stayed(Stay { node, what, milli: 1_000 + dice.below(7_000), from: SimTime(from), to });
    }
    timeline.finish(SimTime(end))
}

fn comparison(policies: &[&str], queues: &[String]) -> Comparison {
    let runs = policies.iter().zip(0..).map(|(policy, place)| Runs {
        policy: (*policy).to_owned(),
        outcomes: (0..4).map(|seed| (seed, run(seed * 10 + place, queues, 40))).collect(),
    });
    Comparison::of(&runs.collect::<Vec<_>>())
}

/// Tags in their order, closing ones with their slash; not those inside of style and script.
fn tags(page: &str) -> Vec<&str> {
    let mut tags = Vec::new();
    let mut rest = page;
    while let Some(start) = rest.find('<') {
        rest = &rest[start + 1..];
        let end = rest.find('>').expect("a tag that is never closed");
        let tag = &rest[..end];
        tags.push(tag);
        rest = &rest[end + 1..];
        if let Some(raw) = ["style", "script"].into_iter().find(|raw| tag.split(' ').next() == Some(raw)) {
            rest = &rest[rest.find(&format!("</{raw}>")).unwrap()..];
        }
    }
    tags
}

/// Every element is closed, in the order in which it must be; ids are there once, links lead to one.
fn assert_whole(page: &str) {
    let mut open: Vec<&str> = Vec::new();
    for tag in tags(page).into_iter().filter(|tag| !tag.starts_with('!') && !tag.ends_with('/')) {
        let name = tag.split_whitespace().next().unwrap();
        match name.strip_prefix('/') {
            Some(closed) => assert_eq!(open.pop(), Some(closed)),
            None if ["meta", "input", "br"].contains(&name) => {}
            None => open.push(name),
        }
    }
    assert!(open.is_empty(), "{open:?}");
    let values = |attribute: &str| -> Vec<&str> {
        let start = format!(" {attribute}=\"");
        page.split(start.as_str()).skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
    };
    let ids = values("id");
    let known: BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(known.len(), ids.len(), "an id is there twice");
    for target in values("href") {
        let anchor = target.strip_prefix('#').unwrap_or_else(|| panic!("a link leaves the page: {target}"));
        assert!(known.contains(anchor), "nothing is called {anchor}");
    }
    for word in [" src=\"", "<link", "@import", "<iframe", "url(", "fetch(", "http:", "https:"] {
        assert!(!page.contains(word), "{word}");
    }
    assert!(!page.contains("NaN") && !page.contains("=\"inf") && !page.contains("Infinity"));
    for data in page.split("<script type=\"application/json\"").skip(1) {
        let text = data.split_once('>').unwrap().1.split("</script>").next().unwrap();
        assert!(serde_json::from_str::<serde_json::Value>(text).is_ok(), "{}", &text[..text.len().min(200)]);
    }
}

fn queues() -> Vec<String> {
    ["a", "b", "c", "d"].map(str::to_owned).to_vec()
}

#[test]
fn a_page_is_whole_by_itself_and_the_same_again() {
    let queues = queues();
    let facts = [("cluster".to_owned(), "8 nodes".to_owned()), ("policy".to_owned(), "fifo".to_owned())];
    for colour in [Colour::Queue, Colour::Job] {
        let write = || {
            let (outcome, chart) = (run(1, &queues, 100), noise(8, colour, 300, 200));
            let comparison = comparison(&["fifo", "sjf", "srtf"], &queues);
            let page = Page {
                title: "a run",
                lead: "of tests",
                facts: &facts,
                outcome: &outcome,
                chart: Some(&chart),
                queues: &queues,
                comparison: Some(&comparison),
                services: &[],
            };
            html(&page)
        };
        let page = write();
        assert_whole(&page);
        for anchor in ["figures", "policies", "timeline", "nodes", "jobs", "queues"] {
            assert!(page.contains(&format!("<section id=\"{anchor}\"")), "{anchor}");
        }
        assert_eq!(page, write());
    }
}

#[test]
fn a_run_of_nothing_has_a_page() {
    let outcome = Measures::new(Setup::default()).finish(SimTime(0));
    let chart = Timeline::new(SimTime(0), None).finish(SimTime(0));
    let empty = Comparison::of(&[]);
    let page = Page {
        title: "",
        lead: "",
        facts: &[],
        outcome: &outcome,
        chart: Some(&chart),
        queues: &[],
        comparison: Some(&empty),
        services: &[],
    };
    assert_whole(&html(&page));
    let chart = noise(3, Colour::Queue, 0, 1);
    assert_whole(&html(&Page { chart: Some(&chart), comparison: None, ..page }));
}

#[test]
fn whatever_texts_hold_is_text() {
    let queues = vec![HOSTILE.to_owned(); 4];
    let outcome = run(2, &queues, 60);
    let comparison = comparison(&[HOSTILE, "b", HOSTILE], &queues);
    let chart = noise(8, Colour::Queue, 300, 50);
    let page = html(&Page {
        title: HOSTILE,
        lead: HOSTILE,
        facts: &[(HOSTILE.to_owned(), HOSTILE.to_owned())],
        outcome: &outcome,
        chart: Some(&chart),
        queues: &queues,
        comparison: Some(&comparison),
        services: &[],
    });
    assert!(!page.contains("<script>alert") && !page.contains("<img"), "a text became markup");
    assert!(!page.contains("\"><script>") && !page.contains("alert(1)</script>"), "a text left its attribute");
    assert_eq!((page.matches("<script>").count(), page.matches("</script>").count()), (1, 3));
    assert_whole(&page);
}

#[test]
fn no_run_makes_a_large_page() {
    let queues: Vec<String> = (0..300).map(|queue| format!("queue with a name of some length {queue}")).collect();
    let outcome = run(3, &queues, 3_000);
    let chart = noise(12_500, Colour::Job, 200_000, 40_000);
    let names = ["first policy", "second policy", "third policy", "fourth", "fifth", "sixth", "seventh", "eighth"];
    let comparison = comparison(&names, &queues);
    let page = html(&Page {
        title: "large",
        lead: "large",
        facts: &[],
        outcome: &outcome,
        chart: Some(&chart),
        queues: &queues,
        comparison: Some(&comparison),
        services: &[],
    });
    assert!(page.len() < SIZE_MAX, "{} bytes", page.len());
    assert!(page.len() > 500_000, "{} bytes: the noise is not noise", page.len());
    assert_whole(&page);
}
