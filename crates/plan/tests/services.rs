//! Services are laid out, sized and priced; what cannot be had says by how much and what would do.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]

mod planned;

use dh_plan::{Plan, ServicePlan, Weight};
use planned::{entry, number, planned, text_of};

/// Four nodes of eight, and a service.
const HALL: &str = r#"
schema = 1
name = "serving"

[pool.serve]
nodes = 4
node = "dgx-h100"

[fabric.compute]
topology = "rail"
switch = "qm9700"
"#;

fn with(lines: &str) -> Plan {
    planned(&format!("{HALL}\n{lines}\n"))
}

/// A service of a 70B model with `lines` added.
fn chat(lines: &str) -> Plan {
    with(&format!("[service.chat]\nmodel = \"llama-3-70b\"\n{lines}"))
}

fn only(plan: &Plan) -> &ServicePlan {
    plan.services.first().expect("there is a service")
}

fn infeasible(plan: &Plan) -> Vec<&str> {
    let wrong = plan.findings.iter().filter(|finding| finding.weight == Weight::Infeasible);
    wrong
        .map(|finding| {
            entry(plan, &finding.number);
            finding.text.as_str()
        })
        .collect()
}

const ASKED: &str = "requests_per_second = 5\nttft_p99 = \"2 s\"\ntpot_p99 = \"80 ms\"";

#[test]
fn a_service_is_laid_out_sized_timed_and_priced() {
    let plan = chat(ASKED);
    assert_eq!(infeasible(&plan), [""; 0]);
    let service = only(&plan);
    let best = service.best.as_ref().unwrap();
    assert!(best.keeps && best.accelerators <= 32 && best.capacity_per_second >= 5.0, "{best:?}");
    assert!(best.ttft_p99.0 <= 2.0 && best.tpot_p99.0 <= 0.08, "{best:?}");
    assert!(best.ttft.low < best.ttft.value && best.ttft.value < best.ttft.high, "{best:?}");
    assert!((best.tokens_per_second - 5.0 * 256.0).abs() < 1e-9);
    assert!(service.runner_up.is_some() && !service.front.is_empty());
    let accelerators = number(&plan, "service.chat.accelerators");
    let each = number(&plan, "service.chat.replica.accelerators");
    assert!((accelerators - each * number(&plan, "service.chat.replicas")).abs() < 1e-9);
    // Power over tokens is energy; a million tokens at the hall's price of an accelerator-hour.
    let (power, tokens) = (number(&plan, "service.chat.power"), number(&plan, "service.chat.tokens_per_second"));
    assert!((number(&plan, "service.chat.energy") / (power / tokens * 1e6) - 1.0).abs() < 1e-9);
    let cost = number(&plan, "cost.accelerator_hour") * accelerators / 3_600.0 / tokens * 1e6;
    assert!((number(&plan, "service.chat.cost") / cost - 1.0).abs() < 1e-9);
    // Accelerators alone draw at least a tenth of their rating, and with their nodes and the building no more than all.
    assert!(power > 70.0 * accelerators && power < 1_275.0 * accelerators, "{power} W");
}

#[test]
fn what_replicas_rest_on_goes_down_to_the_blueprint_and_the_catalogue() {
    let plan = chat(ASKED);
    let mut below = vec!["service.chat.replicas".to_owned()];
    let mut place = 0;
    while let Some(id) = below.get(place).cloned() {
        place += 1;
        for input in &entry(&plan, &id).inputs {
            if !below.contains(input) {
                below.push(input.clone());
            }
        }
    }
    for id in [
        "service.chat.requests_per_second",
        "service.chat.tpot_p99",
        "service.chat.input_tokens",
        "catalog.model.llama-3-70b.parameters",
        "catalog.accelerator.h100-80gb-sxm.bandwidth",
        "service.chat.replica.capacity",
    ] {
        assert!(below.iter().any(|below| below == id), "{id} is not below: {below:?}");
    }
    assert!(entry(&plan, "service.chat.tpot_p99").source.as_ref().unwrap().starts_with("hall.toml:"));
}

#[test]
fn more_requests_never_need_fewer_accelerators() {
    let mut last = 0;
    for rate in [1, 4, 16, 64] {
        let plan = chat(&format!("requests_per_second = {rate}\nttft_p99 = \"2 s\"\ntpot_p99 = \"80 ms\""));
        let needs = only(&plan).best.as_ref().unwrap().accelerators;
        assert!(needs >= last, "{rate} requests/s need {needs}, fewer {last}");
        last = needs;
    }
}

#[test]
fn too_many_requests_say_how_many_accelerators_would_do() {
    let plan = chat("requests_per_second = 5000\ntpot_p99 = \"80 ms\"");
    let said = infeasible(&plan);
    let [said] = said.as_slice() else { panic!("{said:?}") };
    let needs = only(&plan).best.as_ref().unwrap().accelerators;
    assert!(needs > 32 && said.contains(&format!("it needs {needs} accelerators")), "{said}");
    assert!(said.contains("pool `serve` has 32") && said.contains("32 serve"), "{said}");
    assert!(said.contains("with precision = \"fp8\""), "{said}");
    let few = chat(&format!("{ASKED}\nmax_accelerators = 8\nlayout = {{ tp = 8 }}\nreplicas = 3"));
    assert!(infeasible(&few).iter().any(|said| said.contains("`max_accelerators` is 8")), "{:?}", few.findings);
}

#[test]
fn a_target_that_cannot_be_kept_says_what_is_reached() {
    let said = chat("requests_per_second = 1\ntpot_p99 = \"100 us\"");
    let said = infeasible(&said);
    assert!(said.len() == 1 && said.iter().all(|said| said.contains("per token where 100 µs is asked")), "{said:?}");
}

#[test]
fn a_replica_too_small_for_the_weights_says_what_it_lacks_and_what_would_do() {
    let plan = chat("slots_per_replica = 1");
    let said = infeasible(&plan);
    let [said] = said.as_slice() else { panic!("{said:?}") };
    assert!(said.contains("weights and the cache of one request need") && said.contains("GB more than"), "{said}");
    assert!(said.contains("accelerators (") && said.contains("would do"), "{said}");
}

#[test]
fn replicas_that_are_written_are_kept_or_called_too_few() {
    let plan = chat(&format!("{ASKED}\nreplicas = 4"));
    assert_eq!(only(&plan).best.as_ref().unwrap().replicas, 4);
    let plan = chat("requests_per_second = 1000\nreplicas = 1\ndisaggregated = false\ntpot_p99 = \"80 ms\"");
    let said = infeasible(&plan);
    let few = |said: &&str| said.contains("1 replicas serve") && said.contains("would do");
    assert!(said.len() == 1 && said.iter().all(few), "{said:?}");
}

#[test]
fn a_format_that_the_accelerator_lacks_is_refused_with_those_it_has() {
    let said = chat("precision = \"fp4\"");
    assert_eq!(
        infeasible(&said),
        ["service `chat`: h100-80gb-sxm does not compute in fp4; it does in bf16, fp8, int8"]
    );
}

#[test]
fn two_sides_are_planned_where_they_are_asked_for() {
    let plan = chat("requests_per_second = 20\nttft_p99 = \"2 s\"\ntpot_p99 = \"80 ms\"\ndisaggregated = true");
    let best = only(&plan).best.as_ref().unwrap();
    assert!(best.prefill_replicas > 0 && best.layout.contains("prefill"), "{best:?}");
    let sides = number(&plan, "service.chat.prefill.accelerators")
        + number(&plan, "service.chat.replicas") * number(&plan, "service.chat.replica.accelerators");
    assert!((sides - number(&plan, "service.chat.accelerators")).abs() < 1e-9);
    assert!(number(&plan, "service.chat.prefill.transfer") > 0.0);
    let never = chat("requests_per_second = 20\ndisaggregated = false");
    assert_eq!(only(&never).best.as_ref().unwrap().prefill_replicas, 0);
}

#[test]
fn what_cannot_be_predicted_is_said_and_stops_nothing() {
    let plan = planned(text_of("laptop"));
    let why = only(&plan).unpredicted.as_ref().unwrap();
    assert!(why.contains("does not know the accelerators of pool"), "{why}");
    assert_eq!(infeasible(&plan), [""; 0]);
    let plan = with("[service.far]\nurl = \"http://127.0.0.1:8080\"");
    let why = only(&plan).unpredicted.as_ref().unwrap();
    assert!(why.contains("URL") && only(&plan).pool.is_none(), "{why}");
}

#[test]
fn services_and_trainings_that_want_one_pool_are_told() {
    let train = "[workload.llm]\nkind = \"pretrain\"\nmodel = \"llama-3-8b\"\ntokens = \"1 B tokens\"\nbatch_tokens = \"1 M tokens\"\n";
    let plan = with(&format!("{train}accelerators = 32\n[service.chat]\nmodel = \"llama-3-8b\"\n{ASKED}"));
    assert_eq!(infeasible(&plan), [""; 0]);
    let told = |finding: &&dh_plan::Finding| finding.text.contains("trainings would have to wait");
    assert_eq!(plan.findings.iter().filter(told).count(), 1, "{:?}", plan.findings);
    let wanted = number(&plan, "service.chat.accelerators") + 32.0;
    assert!((number(&plan, "demand.serve.accelerators") - wanted).abs() < 1e-9);
    let plan = with(&format!("{train}accelerators = 8\n[service.chat]\nmodel = \"llama-3-8b\"\n{ASKED}"));
    assert!(!plan.findings.iter().any(|finding| told(&finding)), "{:?}", plan.findings);
}

#[test]
fn services_that_fit_alone_and_not_together_are_infeasible() {
    let one = |name: &str, more: &str| {
        format!("[service.{name}]\nmodel = \"llama-3-8b\"\nlayout = {{ tp = 8 }}\ntpot_p99 = \"80 ms\"\n{more}\n")
    };
    let capacity = number(&with(&one("a", "")), "service.a.replica.capacity");
    let rate = format!("requests_per_second = {}", capacity * 2.5);
    let plan = with(&format!("{}{}", one("a", &rate), one("b", &rate)));
    assert_eq!(infeasible(&plan), ["services want 48 accelerators of pool `serve`, which has 32: 16 more would do"]);
}

#[test]
fn the_checkpoint_of_a_pretraining_is_served_as_its_model() {
    let plan = with(
        "[workload.llm]\nkind = \"pretrain\"\nmodel = \"llama-3-8b\"\ntokens = \"1 B tokens\"\nbatch_tokens = \"1 M tokens\"\n\
         [service.own]\nmodel = \"workload:llm\"\nrequests_per_second = 1",
    );
    assert_eq!(only(&plan).model, "llama-3-8b");
    assert!(only(&plan).best.is_some());
}
