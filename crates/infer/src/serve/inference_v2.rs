//! The Open Inference Protocol, version 2 (`KServe`, Triton), for dense classifiers.
//!
//! One input `pixels` of `[n, inputs]`, `UINT8` or `FP32`, values from 0 to 255; outputs `probabilities`, `label` and
//! `class`. Tensor data is JSON, flat or nested by rows; the binary extension is not read.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use dh_core::Kind;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::reply::{InferenceRefusal, Refusal, read_json};
use super::{Engine, Work};
use crate::classifier::{DenseModel, ROWS_MAX, Verdict};

const INPUT: &str = "pixels";

/// A classifier with a bound on what waits for it.
pub(super) struct Classifier {
    model: Arc<DenseModel>,
    /// One permit per processor.
    permits: Arc<Semaphore>,
    processors: usize,
    inside: AtomicUsize,
    inside_max: usize,
}

impl Classifier {
    pub(super) fn new(model: DenseModel, waiting_max: usize) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            model: Arc::new(model),
            permits: Arc::new(Semaphore::new(processors)),
            processors,
            inside: AtomicUsize::new(0),
            inside_max: processors.saturating_add(waiting_max),
        }
    }

    /// Requests that wait, and requests that are being answered.
    pub(super) fn load(&self) -> (usize, usize) {
        let inside = self.inside.load(Ordering::Relaxed);
        let running = self.processors - self.permits.available_permits().min(self.processors);
        (inside.saturating_sub(running), running)
    }

    async fn classify(&self, pixels: Vec<f32>) -> Result<Vec<Verdict>, Refusal> {
        let _place = self.enter()?;
        let internal = |why: String| Refusal::new(Kind::Internal, why);
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|error| internal(error.to_string()))?;
        let model = Arc::clone(&self.model);
        let work = move || {
            let verdicts = model.classify(&pixels);
            drop(permit);
            verdicts
        };
        let verdicts = tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| internal(format!("classifying failed: {error}")))?;
        Ok(verdicts?)
    }

    fn enter(&self) -> Result<Place<'_>, Refusal> {
        let place = Place(&self.inside);
        if self.inside.fetch_add(1, Ordering::Relaxed) >= self.inside_max {
            return Err(Refusal {
                retry_after: Some(1),
                ..Refusal::new(Kind::Busy, "the queue is full; try again later")
            });
        }
        Ok(place)
    }
}

/// A place in the queue, given back when dropped.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct InferRequest {
    #[serde(default)]
    id: Option<String>,
    inputs: Vec<Input>,
    #[serde(default)]
    outputs: Option<Vec<Output>>,
}

#[derive(Debug, Deserialize)]
struct Input {
    name: String,
    shape: Vec<u64>,
    datatype: String,
    data: Data,
}

#[derive(Debug, Deserialize)]
struct Output {
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Data {
    Flat(Vec<f32>),
    Rows(Vec<Vec<f32>>),
}

impl Input {
    /// The pixels, if what the request says of them is true.
    fn pixels(self, width: usize) -> Result<Vec<f32>, Refusal> {
        let bad = |why: String| Refusal::param("inputs", why);
        if self.name != INPUT {
            return Err(bad(format!("the input is named `{INPUT}`, not `{}`", self.name)));
        }
        let rows = match self.shape.as_slice() {
            [rows, columns] if usize::try_from(*columns) == Ok(width) => usize::try_from(*rows).unwrap_or(usize::MAX),
            shape => return Err(bad(format!("the shape is {shape:?}; this model takes [n, {width}]"))),
        };
        if !(1..=ROWS_MAX).contains(&rows) {
            return Err(bad(format!("{rows} rows; 1 to {ROWS_MAX} can be classified at once")));
        }
        let pixels = match self.data {
            Data::Flat(pixels) => pixels,
            Data::Rows(rows) => rows.concat(),
        };
        if pixels.len() != rows * width {
            return Err(bad(format!("{} values of data; the shape asks for {}", pixels.len(), rows * width)));
        }
        match self.datatype.as_str() {
            "FP32" => Ok(pixels),
            "UINT8" if pixels.iter().all(|pixel| pixel.fract().abs() < f32::EPSILON) => Ok(pixels),
            "UINT8" => Err(bad("data of UINT8 must be whole numbers".to_owned())),
            other => Err(bad(format!("the datatype is `{other}`; this model takes UINT8 and FP32"))),
        }
    }
}

/// `GET /v2/health/ready` and `/live`: a loaded model is all there is to being ready.
pub(super) async fn ready() -> Json<Value> {
    Json(json!({ "ready": true, "live": true }))
}

/// `GET /v2/models/{name}/ready`.
pub(super) async fn model_ready(
    State(engine): State<Arc<Engine>>,
    Path(name): Path<String>,
) -> Result<Json<Value>, InferenceRefusal> {
    classifier(&engine, &name)?;
    Ok(Json(json!({ "name": name, "ready": true })))
}

/// `GET /v2/models/{name}`.
pub(super) async fn describe(
    State(engine): State<Arc<Engine>>,
    Path(name): Path<String>,
) -> Result<Json<Value>, InferenceRefusal> {
    let model = &classifier(&engine, &name)?.model;
    let classes = model.classes().len();
    Ok(Json(json!({
        "name": name,
        "versions": ["1"],
        "platform": "datahall-dense-1",
        "inputs": [{ "name": INPUT, "datatype": "UINT8", "shape": [-1, model.inputs()] }],
        "outputs": [
            { "name": "probabilities", "datatype": "FP32", "shape": [-1, classes] },
            { "name": "label", "datatype": "INT64", "shape": [-1] },
            { "name": "class", "datatype": "BYTES", "shape": [-1] },
        ],
        "parameters": { "classes": model.classes(), "origin": model.origin(), "accuracy": model.accuracy() },
    })))
}

/// `POST /v2/models/{name}/infer`.
pub(super) async fn infer(
    State(engine): State<Arc<Engine>>,
    Path(name): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, InferenceRefusal> {
    let result = infer_counted(&engine, &name, body).await;
    if let Err(refusal) = &result {
        engine.metrics.count(refusal.outcome());
    }
    Ok(result.map(Json)?)
}

async fn infer_counted(engine: &Engine, name: &str, body: Result<Bytes, BytesRejection>) -> Result<Value, Refusal> {
    let classifier = classifier(engine, name)?;
    let request: InferRequest = read_json(body)?;
    let Ok([input]) = <[Input; 1]>::try_from(request.inputs) else {
        return Err(Refusal::param("inputs", format!("this model takes one input, `{INPUT}`")));
    };
    let verdicts = classifier.classify(input.pixels(classifier.model.inputs())?).await?;
    engine.metrics.classified(verdicts.len());
    let classes = classifier.model.classes();
    let probabilities: Vec<f32> = verdicts.iter().flat_map(|verdict| verdict.probabilities.iter().copied()).collect();
    let labels: Vec<usize> = verdicts.iter().map(|verdict| verdict.label).collect();
    let names: Vec<&str> = labels.iter().filter_map(|label| classes.get(*label)).map(String::as_str).collect();
    let rows = verdicts.len();
    let mut outputs = vec![
        json!({ "name": "probabilities", "datatype": "FP32", "shape": [rows, classes.len()], "data": probabilities }),
        json!({ "name": "label", "datatype": "INT64", "shape": [rows], "data": labels }),
        json!({ "name": "class", "datatype": "BYTES", "shape": [rows], "data": names }),
    ];
    if let Some(wanted) = request.outputs.filter(|wanted| !wanted.is_empty()) {
        outputs.retain(|output| wanted.iter().any(|wanted| output["name"] == wanted.name.as_str()));
        if outputs.len() != wanted.len() {
            let why = "the outputs are `probabilities`, `label` and `class`; others, or one twice, cannot be had";
            return Err(Refusal::param("outputs", why));
        }
    }
    let mut answer = json!({ "model_name": name, "model_version": "1", "outputs": outputs });
    if let (Some(id), Some(object)) = (request.id, answer.as_object_mut()) {
        object.insert("id".to_owned(), Value::String(id));
    }
    Ok(answer)
}

fn classifier<'a>(engine: &'a Engine, name: &str) -> Result<&'a Classifier, Refusal> {
    match &engine.work {
        Work::Dense(classifier) if name == engine.name => Ok(classifier),
        Work::Dense(_) => Err(Refusal::no_model(name, &engine.name)),
        Work::Language { .. } => {
            let message = format!("`{}` is a language model; use POST /v1/chat/completions", engine.name);
            Err(Refusal::new(Kind::Invalid, message))
        }
    }
}
