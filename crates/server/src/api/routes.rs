//! Every route, once: the router and the `OpenAPI` document are both made from this table. Adding one: a line here.

use std::sync::Arc;

use axum::Json;
use axum::routing::{MethodRouter, get, post, put};
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::{Api, energy, events, exec, files, jobs, keys, logs, secrets, services, status, usage};
use crate::wire::{
    Accepted, EnergyView, ErrorBody, ExecRequest, JobList, JobRequest, JobUsage, JobView, KeyRequest, KeyView, LogLine,
    NewKey, NodeList, SCHEMA_VERSION, SecretList, SecretRequest, ServiceRequest, ServiceView, StartPlan, Status,
};

/// A route.
pub(super) struct Route {
    pub(super) path: &'static str,
    method: &'static str,
    about: &'static str,
    /// Parameters of the query, each with its type and what it is.
    query: &'static [(&'static str, &'static str, &'static str)],
    takes: Option<Shape>,
    gives: Gives,
    pub(super) handler: fn() -> MethodRouter<Arc<Api>>,
}

/// The schema of a body.
type Shape = fn(&mut SchemaGenerator) -> Value;

/// What the answer's body is.
enum Gives {
    Json(Shape),
    /// A line of JSON each.
    Lines(Shape),
    Events,
    Text,
    Bytes,
}

fn shape<T: schemars::JsonSchema>(of: &mut SchemaGenerator) -> Value {
    of.subschema_for::<T>().to_value()
}

fn any(_: &mut SchemaGenerator) -> Value {
    json!({ "type": "object" })
}

fn drained(_: &mut SchemaGenerator) -> Value {
    json!({ "type": "object", "required": ["drained"], "properties": { "drained": { "type": "boolean" } } })
}

const PAGE: &[(&str, &str, &str)] = &[
    ("limit", "integer", "At most so many; all if absent."),
    ("after", "integer", "Only jobs with larger numbers, oldest first."),
    ("before", "integer", "Only jobs with smaller numbers, newest first; 0 begins with the newest."),
    ("open", "boolean", "Only jobs that are not over."),
    ("state", "string", "Only jobs in this state."),
    ("queue", "string", "Only jobs of this queue."),
];

const PLAN: &[(&str, &str, &str)] = &[("plan", "boolean", "Also where and when it starts.")];

const PATH: &[(&str, &str, &str)] = &[("path", "string", "Where in the job's working folder.")];

const STATUS: &[(&str, &str, &str)] = &[("hash", "boolean", "Also the hash of the whole state, which takes a while.")];

const LOGS: &[(&str, &str, &str)] =
    &[("rank", "integer", "Only this rank."), ("follow", "boolean", "Go on until the job is over.")];

const EVENTS: &[(&str, &str, &str)] =
    &[("after", "integer", "Events with larger numbers; only new ones if absent. `Last-Event-ID` goes before.")];

const fn read(path: &'static str, about: &'static str, gives: Gives, handler: fn() -> MethodRouter<Arc<Api>>) -> Route {
    Route { path, method: "get", about, query: &[], takes: None, gives, handler }
}

const fn change(
    path: &'static str,
    about: &'static str,
    (takes, gives): (Option<Shape>, Gives),
    handler: fn() -> MethodRouter<Arc<Api>>,
) -> Route {
    Route { path, method: "post", about, query: &[], takes, gives, handler }
}

/// All routes but `/healthz`. Each is behind the one check of keys.
pub(super) const ROUTES: &[Route] = &[
    Route {
        query: STATUS,
        ..read("/v1/status", "The whole hall on one page.", Gives::Json(shape::<Status>), || get(status::status))
    },
    read("/v1/nodes", "Nodes, and the jobs on them.", Gives::Json(shape::<NodeList>), || get(status::nodes)),
    change(
        "/v1/nodes/{node}/drain",
        "Keeps new work away from a node, or lets it come back.",
        (Some(drained), Gives::Json(shape::<NodeList>)),
        || post(status::drain),
    ),
    change("/v1/shutdown", "Stops the hall in order.", (None, Gives::Json(any)), || post(status::shutdown)),
    Route { query: PAGE, ..read("/v1/jobs", "Jobs.", Gives::Json(shape::<JobList>), || get(jobs::list)) },
    Route {
        query: PLAN,
        ..change(
            "/v1/jobs",
            "Submits a job; the same `Idempotency-Key` twice is the same job. Answered when it is durable.",
            (Some(shape::<JobRequest>), Gives::Json(shape::<Accepted>)),
            || post(jobs::submit),
        )
    },
    read("/v1/jobs/{job}", "One job.", Gives::Json(shape::<JobView>), || get(jobs::show)),
    read("/v1/jobs/{job}/why", "Why a job waits, runs or ended.", Gives::Json(any), || get(jobs::why)),
    read("/v1/jobs/{job}/plan", "Where and when a job starts.", Gives::Json(shape::<StartPlan>), || get(jobs::plan)),
    read("/v1/jobs/{job}/usage", "What the ranks of a running job use.", Gives::Json(shape::<JobUsage>), || {
        get(usage::usage)
    }),
    read("/v1/jobs/{job}/energy", "What a job used of energy.", Gives::Json(shape::<EnergyView>), || {
        get(energy::energy)
    }),
    change(
        "/v1/jobs/{job}/ranks/{rank}/exec",
        "Runs a program beside a running rank. The answer is frames: a byte (1 output, 2 errors, 3 the end as JSON), four bytes of length, most significant first, and what they say.",
        (Some(shape::<ExecRequest>), Gives::Bytes),
        || post(exec::exec),
    ),
    Route {
        query: PATH,
        ..read("/v1/jobs/{job}/files", "A file of the job's working folder.", Gives::Bytes, || get(files::read))
    },
    Route {
        query: PATH,
        method: "put",
        ..change(
            "/v1/jobs/{job}/files",
            "Writes a file of the job's working folder: all of it, or nothing.",
            (None, Gives::Json(any)),
            || put(files::write),
        )
    },
    change("/v1/jobs/{job}/cancel", "Ends a job.", (None, Gives::Json(shape::<JobView>)), || post(jobs::cancel)),
    change(
        "/v1/jobs/{job}/ranks/{rank}/kill",
        "Kills a rank on purpose, as a failing machine would.",
        (None, Gives::Json(shape::<JobView>)),
        || post(jobs::kill_rank),
    ),
    Route {
        query: LOGS,
        ..read("/v1/jobs/{job}/logs", "What the ranks printed.", Gives::Lines(shape::<LogLine>), || get(logs::logs))
    },
    Route {
        query: EVENTS,
        ..read("/v1/events", "What happens, from the event log.", Gives::Events, || get(events::events))
    },
    read("/v1/services", "Model services.", Gives::Json(shape::<Vec<ServiceView>>), || get(services::list)),
    change(
        "/v1/services",
        "Starts a model service.",
        (Some(shape::<ServiceRequest>), Gives::Json(shape::<Accepted>)),
        || post(services::start),
    ),
    change(
        "/v1/services/{service}/stop",
        "Stops a model service.",
        (None, Gives::Json(shape::<Vec<ServiceView>>)),
        || post(services::stop),
    ),
    read("/v1/keys", "Keys of applications.", Gives::Json(shape::<Vec<KeyView>>), || get(keys::list)),
    change(
        "/v1/keys",
        "Makes a key for an application; its secret is in this answer alone.",
        (Some(shape::<KeyRequest>), Gives::Json(shape::<NewKey>)),
        || post(keys::issue),
    ),
    change("/v1/keys/{id}/revoke", "Ends a key.", (None, Gives::Json(shape::<Vec<KeyView>>)), || post(keys::revoke)),
    read("/v1/secrets", "Names of the secrets that the hall keeps for jobs.", Gives::Json(shape::<SecretList>), || {
        get(secrets::list)
    }),
    change(
        "/v1/secrets",
        "Keeps a secret for jobs, in place of the one of that name; no answer ever holds a value.",
        (Some(shape::<SecretRequest>), Gives::Json(shape::<SecretList>)),
        || post(secrets::set),
    ),
    change("/v1/secrets/{name}/remove", "Ends a secret.", (None, Gives::Json(shape::<SecretList>)), || {
        post(secrets::remove)
    }),
    read("/v1/openapi.json", "This document.", Gives::Json(any), || get(openapi)),
    read("/metrics", "Figures for Prometheus.", Gives::Text, || get(crate::metrics::metrics)),
];

async fn openapi() -> Json<Value> {
    Json(document())
}

/// The `OpenAPI` 3.1 document of [`ROUTES`].
fn document() -> Value {
    let mut generator = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into())
        .into_generator();
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES {
        let operation = route.operation(&mut generator);
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(route.method.to_owned(), operation);
        }
    }
    let error = shape::<ErrorBody>(&mut generator);
    let schemas = generator.take_definitions(true);
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Datahall", "version": SCHEMA_VERSION.to_string(), "license": { "name": "Apache-2.0" } },
        "security": [{ "key": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "key": { "type": "http", "scheme": "bearer" } },
            "responses": {
                "failure": {
                    "description": "What went wrong: `type` is a stable word, `hint` what to do.",
                    "content": { "application/json": { "schema": error } },
                },
            },
        },
    })
}

impl Route {
    fn operation(&self, generator: &mut SchemaGenerator) -> Value {
        let in_path = self.path.split('/').filter_map(|piece| piece.strip_prefix('{')?.strip_suffix('}'));
        let mut parameters: Vec<Value> = in_path
            .map(|name| {
                let kind = if name == "rank" { "integer" } else { "string" };
                json!({ "name": name, "in": "path", "required": true, "schema": { "type": kind } })
            })
            .collect();
        let query = self.query.iter().map(|(name, kind, about)| {
            json!({ "name": name, "in": "query", "description": about, "schema": { "type": kind } })
        });
        parameters.extend(query);
        if self.path == "/v1/jobs" && self.method == "post" {
            let about = "The same key twice is the same job.";
            parameters.push(json!({
                "name": "Idempotency-Key", "in": "header", "description": about, "schema": { "type": "string" },
            }));
        }
        let (kind, schema) = match &self.gives {
            Gives::Json(shape) => ("application/json", shape(generator)),
            Gives::Lines(shape) => ("application/x-ndjson", shape(generator)),
            Gives::Events => ("text/event-stream", json!({ "type": "string" })),
            Gives::Bytes => ("application/octet-stream", json!({ "type": "string", "format": "binary" })),
            Gives::Text => ("text/plain", json!({ "type": "string" })),
        };
        let mut operation = json!({
            "summary": self.about,
            "operationId": self.name(),
            "parameters": parameters,
            "responses": {
                "200": { "description": "Done.", "content": { kind: { "schema": schema } } },
                "default": { "$ref": "#/components/responses/failure" },
            },
        });
        if self.method == "put"
            && let Some(operation) = operation.as_object_mut()
        {
            let body = json!({ "schema": { "type": "string", "format": "binary" } });
            let body = json!({ "required": true, "content": { "application/octet-stream": body } });
            operation.insert("requestBody".to_owned(), body);
        }
        if let (Some(takes), Some(operation)) = (&self.takes, operation.as_object_mut()) {
            let body = json!({ "required": true, "content": { "application/json": { "schema": takes(generator) } } });
            operation.insert("requestBody".to_owned(), body);
        }
        operation
    }

    /// A name for generated clients: `get_jobs_job_why`.
    fn name(&self) -> String {
        let words = self.path.split(['/', '.']).filter(|word| !word.is_empty() && *word != "v1" && *word != "json");
        let words: Vec<&str> = words.map(|word| word.trim_matches(['{', '}'])).collect();
        format!("{}_{}", self.method, words.join("_"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every `$ref` of a document.
    fn references(value: &Value, into: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                into.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|field| references(field, into));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, into)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    #[test]
    fn the_document_names_every_route_and_every_reference_leads_somewhere() {
        let document = document();
        for route in ROUTES {
            let operation = &document["paths"][route.path][route.method];
            assert!(operation["summary"].is_string(), "{} {}", route.method, route.path);
        }
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 20);
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
        }
        let request = &document["components"]["schemas"]["JobRequest"]["properties"];
        assert!(request["ranks"].is_object() && request["env"].is_object(), "{request}");
    }

    #[test]
    fn names_of_operations_are_unique() {
        let mut names: Vec<String> = ROUTES.iter().map(Route::name).collect();
        names.sort();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
