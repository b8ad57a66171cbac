//! The layout of a training: searched for, kept where it is written, followed down to what it rests on.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]

mod planned;

use dh_blueprint::Blueprint;
use dh_perf::search::Partial;
use dh_plan::{Plan, Weight, page, plan_with};
use planned::{entry, number, planned};

const SMALL: &str = r#"
schema = 1
name = "small"

[pool.train]
nodes = 8
node = "dgx-h100"

[fabric.compute]
topology = "rail"
switch = "qm9700"

[workload.llm]
kind = "pretrain"
model = "llama-3-8b"
tokens = "100 B tokens"
batch_tokens = "1048576 tokens"
sequence = "4096 tokens"
"#;

fn with(line: &str) -> Plan {
    planned(&format!("{SMALL}{line}\n"))
}

fn wrong(plan: &Plan) -> Vec<&str> {
    let wrong = plan.findings.iter().filter(|finding| finding.weight == Weight::Infeasible);
    wrong.map(|finding| finding.text.as_str()).collect()
}

#[test]
fn the_time_of_a_training_is_that_of_its_best_layout() {
    let plan = with("");
    let training = plan.trainings.first().unwrap();
    let found = training.prediction.as_ref().unwrap();
    let close = |id: &str, value: f64| {
        let had = number(&plan, id);
        assert!((had / value - 1.0).abs() < 1e-9, "{id} is {had}, expected {value}");
    };
    close("training.llm.step", found.way.step.0);
    close("training.llm.time", found.way.step.0 * number(&plan, "training.llm.steps"));
    close("training.llm.mfu", found.way.mfu);
    let parts: f64 = entry(&plan, "training.llm.step").inputs.iter().map(|id| number(&plan, id)).sum();
    close("training.llm.step", parts);
    let degrees = &found.way.degrees;
    assert_eq!(degrees.tp * degrees.pp * degrees.dp * degrees.cp, found.way.accelerators);
    assert!(found.low < found.way.step && found.way.step < found.high && found.needed <= found.memory);
    assert!(training.energy.is_some_and(|energy| energy.0 > 0.0));
    assert!(found.front.iter().any(|way| way == &found.way));
    assert!(!found.runners_up.is_empty() && wrong(&plan).is_empty());
}

#[test]
fn what_is_written_of_a_layout_is_kept() {
    let plan = with("layout = { tp = 4, pp = 2, micro_batch = 2 }\naccelerators = 32");
    let degrees = &plan.trainings.first().unwrap().prediction.as_ref().unwrap().way.degrees;
    assert_eq!((degrees.tp, degrees.pp, degrees.micro_batch), (4, 2, 2));
    assert_eq!(degrees.dp * degrees.cp, 4);
    let plan = with("layout = { tp = 4, pp = 2, dp = 3, cp = 1 }\naccelerators = 32");
    let [why] = plan.unfit.as_slice() else { panic!("{:?}", plan.unfit) };
    assert!(why.why.starts_with("no layout makes 32 accelerators"), "{}", why.why);
}

#[test]
fn a_written_utilisation_comes_before_the_predicted_one() {
    let plan = with("mfu = 0.25");
    let work = number(&plan, "training.llm.work");
    let speed = number(&plan, "training.llm.accelerators") * number(&plan, "catalog.accelerator.h100-80gb-sxm.bf16");
    assert!((number(&plan, "training.llm.time") / (work / speed / 0.25) - 1.0).abs() < 1e-9);
    assert!(number(&plan, "training.llm.predicted.step") > 0.0);
    assert!(plan.ledger.get("training.llm.mfu").is_none());
}

#[test]
fn a_budget_that_is_too_small_is_infeasible() {
    let text = |plan: &Plan| wrong(plan).join("; ");
    assert_eq!(text(&with("budget = \"$100 M\"")), "");
    assert!(text(&with("budget = \"$1\"")).contains("may cost $1"));
}

#[test]
fn threads_and_other_orders_give_the_same_plan() {
    let read = Blueprint::read("hall.toml", SMALL, |_, _| Err(String::new()));
    let (settings, origins) = read.unwrap();
    let shared = plan_with(&settings, &origins, &mut |_, search| {
        let partials: Vec<Partial> =
            search.shares(dh_perf::search::SHARES).iter().rev().map(|share| share.run(&mut |_| {})).collect();
        search.merge(partials)
    });
    assert_eq!(shared.unwrap(), planned(SMALL));
}

#[test]
fn the_page_draws_the_step_and_the_ways() {
    let read = Blueprint::read("hall.toml", SMALL, |_, _| Err(String::new()));
    let (settings, _) = read.unwrap();
    let plan = planned(SMALL);
    let html = page::html(&plan, &settings);
    assert!(html.contains("How llm is laid out") && html.contains("id=\"step-llm-t\""));
    let ways = plan.trainings.first().unwrap().prediction.as_ref().unwrap().front.len();
    assert_eq!(html.contains("id=\"front-llm-t\""), ways > 1);
}
