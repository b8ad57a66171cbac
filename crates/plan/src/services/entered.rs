//! The numbers of a service in the ledger, each with its formula.
//!
//! Invariant: what is entered is what the search found; nothing is computed again but sums and quotients that a reader can
//! check.

use dh_blueprint::{AcceleratorItem, Kind, Service};
use dh_perf::deploy::{Answer, Choice, Prefill};
use dh_perf::hardware::Format;
use dh_units::{Joules, Seconds, Watts, real, significant};

use super::case::Ready;
use super::words;
use crate::book::Book;

/// Enters `best` under `service.NAME`.
pub(super) fn best(book: &mut Book<'_>, ready: &Ready, service: &Service, best: &Choice, answer: &Answer) {
    let id = |key: &str| format!("service.{}.{key}", ready.name);
    let inputs = given(book, ready, service);
    let formula = match (ready.demand.rate, ready.space.degrees) {
        (_, Some(_)) => "as the blueprint says".to_owned(),
        (Some(_), None) => format!("the fewest accelerators that keep the targets, of {} layouts", answer.tried),
        (None, None) => {
            format!("the fewest accelerators for its tokens within the targets, of {} layouts", answer.tried)
        }
    };
    let layout = words::degrees(best.degrees);
    let layout = book.sum(&id("replica.layout"), "layout of a replica", layout.as_str(), formula, &inputs);
    let degrees = best.degrees;
    let formula = format!("tp {} x pp {} x {} of attention", degrees.tp, degrees.pp, degrees.attention_replicas);
    let size = degrees.accelerators();
    let size = book.sum(
        &id("replica.accelerators"),
        "accelerators of a replica",
        size,
        formula,
        std::slice::from_ref(&layout),
    );
    let prefill = best.prefill.map(|side| prefill_side(book, ready, side, &inputs));
    let capacity = capacity(book, ready, best, &layout);
    let replicas = replicas(book, ready, service, best, &capacity);
    let mut parts = vec![replicas.clone(), size];
    parts.extend(prefill);
    let formula = match best.prefill {
        None => format!("{} replicas x {}", best.replicas, degrees.accelerators()),
        Some(side) => format!(
            "{} replicas x {} + {} that read prompts x {}",
            best.replicas,
            degrees.accelerators(),
            side.replicas,
            side.degrees.accelerators()
        ),
    };
    let accelerators = book.sum(&id("accelerators"), "accelerators of the service", best.accelerators, formula, &parts);
    times(book, ready, best, &[layout, replicas.clone()]);
    let output = id("output_tokens");
    let (rate, rate_id) = (best.rate, id("requests_per_second"));
    let rate_inputs =
        if ready.demand.rate.is_some() { vec![rate_id, output] } else { vec![capacity, replicas, output] };
    let formula = format!("{} requests/s x {} tokens", significant(rate), significant(ready.demand.output));
    let title = "generated tokens a second";
    let tokens = book.sum(&id("tokens_per_second"), title, best.tokens_per_second, formula, &rate_inputs);
    worth(book, ready, best, &accelerators, &tokens);
}

/// Enters what the search starts from; returns the ids.
fn given(book: &mut Book<'_>, ready: &Ready, service: &Service) -> Vec<String> {
    let settings = book.settings;
    let path = |key: &str| format!("service.{}.{key}", ready.name);
    let mut ids = Vec::new();
    if let Some(model) = settings.catalog.model(&ready.model) {
        ids.push(book.fact(Kind::Model, &model.name, "parameters", "parameters of the model", &model.parameters));
    }
    let name = &ready.machine.accelerator.name;
    if let Some(item) = settings.catalog.accelerator(name) {
        accelerator(book, ready, item, &mut ids);
    }
    let engine = if ready.engine.is_empty() { "any" } else { ready.engine };
    for (key, title, share) in [
        ("gemm", "share of the dense peak that products of prompts reach", ready.profile.gemm),
        ("bandwidth", "share of memory bandwidth that decoding reaches", ready.profile.bandwidth),
    ] {
        let id = format!("efficiency.serving.{name}.{engine}.{key}");
        let source = "efficiency profiles of the catalogue (`datahall catalog efficiency`), and where they say nothing the model's own";
        book.ledger.given(&id, title, share, source);
        ids.push(id);
    }
    if let Some(network) = &ready.network {
        ids.push(format!("network.{network}.port-speed"));
    }
    let (input, output) = ("tokens of an ordinary prompt", "tokens of an ordinary answer");
    ids.push(book.says(&path("input_tokens"), input, service.input));
    ids.push(book.says(&path("output_tokens"), output, service.output));
    let shared = "share of a prompt that is cached from before";
    ids.push(book.says(&path("prefix_hit"), shared, service.prefix_hit));
    let accepted = "tokens that a step yields";
    ids.push(book.says(&path("accepted_tokens"), accepted, service.accepted_tokens));
    if let Some(rate) = service.requests_per_second {
        ids.push(book.says(&path("requests_per_second"), "requests that arrive in a second", rate));
    }
    for (key, title, target) in [
        ("ttft_p99", "time to the first token that 99 of 100 requests must keep", service.ttft_p99),
        ("tpot_p99", "time per further token that 99 of 100 requests must keep", service.tpot_p99),
    ] {
        if let Some(target) = target {
            ids.push(book.says(&path(key), title, target));
        }
    }
    if let Some(size) = ready.space.size {
        ids.push(book.says(&path("slots_per_replica"), "slots of a replica, an accelerator each", size));
    }
    if let Some(most) = service.max_accelerators {
        ids.push(book.says(&path("max_accelerators"), "the most accelerators of the service", most));
    }
    ids
}

/// Enters memory, bandwidth and peak of the accelerator.
fn accelerator(book: &mut Book<'_>, ready: &Ready, item: &AcceleratorItem, ids: &mut Vec<String>) {
    let fact = |key| (Kind::Accelerator, key);
    if let Some(memory) = &item.memory {
        let (kind, key) = fact("memory");
        ids.push(book.fact(kind, &item.name, key, "memory of an accelerator", memory));
    }
    if let Some(bandwidth) = &item.bandwidth {
        let (kind, key) = fact("bandwidth");
        ids.push(book.fact(kind, &item.name, key, "bandwidth of its memory", bandwidth));
    }
    let products = ready.space.formats.first().map_or(Format::Bf16, |formats| formats.products);
    let (key, peak) = match products {
        Format::Fp8 => ("fp8", &item.fp8),
        Format::Fp4 => ("fp4", &item.fp4),
        Format::Tf32 => ("tf32", &item.tf32),
        Format::Bf16 | Format::Fp16 if item.bf16.is_some() => ("bf16", &item.bf16),
        Format::Bf16 | Format::Fp16 => ("fp16", &item.fp16),
    };
    if let Some(peak) = peak {
        let title = format!("peak speed of an accelerator in {key}");
        ids.push(book.fact(Kind::Accelerator, &item.name, key, &title, peak));
    }
}

/// Enters the side that reads prompts; returns the id of its accelerators.
fn prefill_side(book: &mut Book<'_>, ready: &Ready, side: Prefill, inputs: &[String]) -> String {
    let id = |key: &str| format!("service.{}.prefill.{key}", ready.name);
    let layout = words::degrees(side.degrees);
    let formula = "the fewest accelerators whose queue of prompts keeps the target";
    let layout = book.sum(&id("layout"), "layout of a replica that reads prompts", layout.as_str(), formula, inputs);
    let title = "time to send the cache of a prompt to the side that answers";
    let formula = "each accelerator sends its part over its own port";
    book.sum(&id("transfer"), title, side.transfer, formula, std::slice::from_ref(&layout));
    let formula = "requests/s over what the queue of one allows, rounded up";
    book.sum(&id("replicas"), "replicas that read prompts", side.replicas, formula, std::slice::from_ref(&layout));
    let each = side.degrees.accelerators();
    let formula = format!("{} x {each}", side.replicas);
    let title = "accelerators that read prompts";
    book.sum(&id("accelerators"), title, each * side.replicas, formula, &[id("replicas"), layout])
}

/// Enters the rate that one replica can serve.
fn capacity(book: &mut Book<'_>, ready: &Ready, best: &Choice, layout: &str) -> String {
    let id = format!("service.{}.replica.capacity", ready.name);
    let each = best.capacity / real(best.replicas.max(1));
    let formula = "requests in flight over the time that each stays (Little 1961), as many as targets allow for 99 of 100 and memory holds 99 % of the time";
    book.sum(&id, "requests a second that a replica can serve", each, formula, &[layout.to_owned()])
}

/// Enters the number of replicas: as written, or as many as the rate needs.
fn replicas(book: &mut Book<'_>, ready: &Ready, service: &Service, best: &Choice, capacity: &str) -> String {
    let id = format!("service.{}.replicas", ready.name);
    match (ready.demand.rate, ready.space.replicas) {
        (Some(rate), None) => {
            let each = best.capacity / real(best.replicas.max(1));
            let formula = format!("{} requests/s / {}, rounded up", significant(rate), significant(each));
            let inputs = [format!("service.{}.requests_per_second", ready.name), capacity.to_owned()];
            book.sum(&id, "replicas", best.replicas, formula, &inputs)
        }
        (_, _) => book.says(&id, "replicas", service.replicas),
    }
}

/// Enters what is predicted of times.
fn times(book: &mut Book<'_>, ready: &Ready, best: &Choice, inputs: &[String]) {
    let id = |key: &str| format!("service.{}.predicted.{key}", ready.name);
    let load = format!("rooflines of prompt and answer with {} requests in flight", significant(best.concurrency));
    for (key, title, time) in
        [("ttft", "time to the first token", best.ttft), ("tpot", "time per further token", best.tpot)]
    {
        let mean = book.sum(&id(key), &format!("{title}, in the mean"), time.value, load.as_str(), inputs);
        for (end, word, value) in [("low", "shorter", time.low), ("high", "longer", time.high)] {
            let title = format!("{title}: one in ten runs is {word}");
            let formula = "end of the interval that four of five measurements should lie in";
            book.sum(&id(&format!("{key}.{end}")), &title, value, formula, std::slice::from_ref(&mean));
        }
    }
    let title = "time to the first token, for 99 of 100 requests";
    let formula = "with the wait of a queue M/M/1 of prompts, or the model's own if longer (Pollaczek and Khinchine; Kingman 1961)";
    book.sum(&id("ttft_p99"), title, best.ttft_99, formula, &[id("ttft")]);
    let title = "time per further token, for 99 of 100 requests";
    book.sum(&id("tpot_p99"), title, best.tpot_99, "the high end of its interval", &[id("tpot.high")]);
    let title = "requests in flight on a replica";
    let each = best.rate / real(best.replicas.max(1));
    let stays = Seconds(best.ttft.value.0 + (ready.demand.output - 1.0).max(0.0) * best.tpot.value.0);
    let formula = format!("about {} requests/s x {stays} that each stays (Little 1961)", significant(each));
    book.sum(&id("concurrency"), title, best.concurrency, formula, &[id("ttft"), id("tpot")]);
}

/// Enters energy and money.
fn worth(book: &mut Book<'_>, ready: &Ready, best: &Choice, accelerators: &str, tokens: &str) {
    let id = |key: &str| format!("service.{}.{key}", ready.name);
    let (accelerators, tokens) = (accelerators.to_owned(), tokens.to_owned());
    let per = significant(best.tokens_per_second);
    if let Some(energy) = best.energy {
        let power = Watts(energy.0 * best.tokens_per_second / 1e6);
        let formula = format!(
            "{} accelerators by what they do, {} of the rest of a node for each, x PUE {}",
            best.accelerators,
            ready.worth.overhead,
            significant(ready.worth.pue)
        );
        let title = "power of the service, with the building's";
        book.sum(&id("power"), title, power, formula, std::slice::from_ref(&accelerators));
        let inputs = [id("power"), tokens.clone()];
        let formula = format!("{power} / {per} tokens/s x 1,000,000");
        book.sum(&id("energy"), "energy of a million generated tokens", Joules(energy.0), formula, &inputs);
    }
    if let (Some(cost), Some(hour)) = (best.cost, ready.worth.accelerator_hour) {
        let formula = format!("{hour} x {} accelerators / 3,600 s / {per} tokens/s x 1,000,000", best.accelerators);
        let inputs = ["cost.accelerator_hour".to_owned(), accelerators, tokens];
        book.sum(&id("cost"), "price of a million generated tokens", cost, formula, &inputs);
    }
}
