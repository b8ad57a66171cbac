//! Every route of the three listeners asks for a key first, and a key opens only what its role may use.

use dh_core::Secret;
use dh_learn::store::Error as StoreError;
use dh_learn::{ObjectStore, S3};

use crate::support::{BLUEPRINT, TestHall, http};

/// The job API's routes. `/healthz` alone is open.
const API: &[(&str, &str)] = &[
    ("GET", "/v1/status"),
    ("GET", "/v1/nodes"),
    ("POST", "/v1/nodes/{node}/drain"),
    ("GET", "/v1/events"),
    ("POST", "/v1/shutdown"),
    ("GET", "/v1/jobs"),
    ("POST", "/v1/jobs"),
    ("GET", "/v1/jobs/{job}"),
    ("GET", "/v1/jobs/{job}/why"),
    ("GET", "/v1/jobs/{job}/plan"),
    ("GET", "/v1/jobs/{job}/usage"),
    ("GET", "/v1/jobs/{job}/energy"),
    ("POST", "/v1/jobs/{job}/ranks/{rank}/exec"),
    ("GET", "/v1/jobs/{job}/files"),
    ("PUT", "/v1/jobs/{job}/files"),
    ("POST", "/v1/jobs/{job}/cancel"),
    ("POST", "/v1/jobs/{job}/ranks/{rank}/kill"),
    ("GET", "/v1/jobs/{job}/logs"),
    ("GET", "/v1/services"),
    ("POST", "/v1/services"),
    ("POST", "/v1/services/{service}/stop"),
    ("GET", "/v1/keys"),
    ("POST", "/v1/keys"),
    ("POST", "/v1/keys/{id}/revoke"),
    ("GET", "/v1/secrets"),
    ("POST", "/v1/secrets"),
    ("POST", "/v1/secrets/{name}/remove"),
    ("GET", "/v1/openapi.json"),
    ("GET", "/metrics"),
];

/// The gateway's routes. `/healthz` alone is open.
const GATEWAY: &[(&str, &str)] = &[
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{*id}"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/embeddings"),
    ("POST", "/v1/responses"),
    ("POST", "/v1/rerank"),
    ("POST", "/v1/messages"),
    ("GET", "/v2/models/{*path}"),
    ("POST", "/v2/models/{*path}"),
    ("GET", "/metrics"),
];

/// Requests of every kind that S3 knows: by method, with and without bucket, key and sub-resource.
const STORE: &[(&str, &str)] = &[
    ("GET", "/"),
    ("GET", "/healthz"),
    ("GET", "/-/health"),
    ("GET", "/-/status"),
    ("POST", "/-/scrub"),
    ("GET", "/datasets"),
    ("GET", "/datasets?list-type=2"),
    ("GET", "/datasets?location"),
    ("GET", "/datasets?uploads"),
    ("GET", "/datasets/key"),
    ("HEAD", "/datasets"),
    ("HEAD", "/datasets/key"),
    ("PUT", "/stranger"),
    ("PUT", "/datasets/key"),
    ("PUT", "/datasets/key?partNumber=1&uploadId=x"),
    ("POST", "/datasets?delete"),
    ("POST", "/datasets/key?uploads"),
    ("POST", "/datasets/key?uploadId=x"),
    ("DELETE", "/datasets"),
    ("DELETE", "/datasets/key"),
    ("OPTIONS", "/datasets/key"),
];

/// A path for a route with placeholders.
fn path(route: &str) -> String {
    let named = |part: &str| match part {
        "{job}" | "{rank}" => "1".to_owned(),
        "{node}" => "local-0".to_owned(),
        "{*path}" => "some-model/infer".to_owned(),
        other => other.trim_start_matches("{*").trim_matches(['{', '}']).to_owned(),
    };
    route.split('/').map(named).collect::<Vec<_>>().join("/")
}

/// The status that a request gets; bodies are there where a method has one.
fn status(base: &str, method: &str, path: &str, authorization: Option<&str>) -> u16 {
    let body = matches!(method, "POST" | "PUT").then_some("{}");
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(authorization.map(|value| ("authorization", value)));
    http(method, &format!("{base}{path}"), &headers, body).0
}

/// The routes in a source file, without their methods, so that a new one cannot be forgotten here.
fn assert_lists_all_routes(source: &str, listed: &[(&str, &str)]) {
    let mut found = 0;
    // A table of routes begins each with its path; a router names it in a call.
    let pieces =
        source.split(".route(\"").skip(1).chain(source.split(['(', ' ']).filter_map(|word| word.strip_prefix("\"/")));
    for piece in pieces {
        let route = piece.split('"').next().unwrap();
        let whole = format!("/{}", route.trim_start_matches('/'));
        let route = whole.as_str();
        if !route.starts_with("/v1/") && !route.starts_with("/v2/") && route != "/metrics" {
            continue;
        }
        if route != "/healthz" {
            assert!(listed.iter().any(|(_, known)| *known == route), "{route} is not among the routes tested here");
            found += 1;
        }
    }
    assert!(found >= 7, "the routes are declared in another way; read them here in that way, too");
}

#[test]
fn the_lists_here_are_whole() {
    assert_lists_all_routes(include_str!("../../../server/src/api/routes.rs"), API);
    assert_lists_all_routes(include_str!("../../../gateway/src/handlers.rs"), GATEWAY);
}

#[test]
fn without_a_known_key_every_route_of_both_apis_answers_401() {
    let hall = TestHall::start(BLUEPRINT);
    let admin = hall.key("admin");
    let cut = &admin[..admin.len() - 1];
    let wrong = [
        None,
        Some("Bearer ".to_owned()),
        Some("Bearer wrong".to_owned()),
        Some(format!("Bearer {cut}")),
        Some(format!("Bearer {admin}x")),
        Some(format!("Basic {admin}")),
        Some(admin.clone()),
    ];
    let events = hall.json(&["status"])["events"].clone();
    for (listener, routes) in [("api", API), ("gateway", GATEWAY)] {
        let base = hall.url(listener);
        let strange = [
            ("GET", "/"),
            ("GET", "/v1/nothing"),
            ("DELETE", "/v1/jobs"),
            ("PUT", "/v1/models"),
            ("GET", "/v1/jobs/.."),
        ];
        for (method, route) in routes.iter().chain(&strange) {
            for key in &wrong {
                let got = status(&base, method, &path(route), key.as_deref());
                assert_eq!(
                    got,
                    401,
                    "{listener} {method} {route} with {} key",
                    if key.is_some() { "a wrong" } else { "no" }
                );
            }
        }
        assert_eq!(http("GET", &format!("{base}/healthz"), &[], None), (200, "ok".to_owned()));
    }
    let after = hall.json(&["status"]);
    assert_eq!(after["events"], events, "a refused request reached the hall");
}

#[test]
fn keys_open_what_their_role_may_use_and_strange_requests_with_a_key_are_404_or_405() {
    let hall = TestHall::start(BLUEPRINT);
    let (admin, model) = (format!("Bearer {}", hall.key("admin")), format!("Bearer {}", hall.key("model")));
    let (api, gateway) = (hall.url("api"), hall.url("gateway"));
    for (method, route) in API {
        assert_eq!(status(&api, method, &path(route), Some(&model)), 403, "{method} {route} with the model key");
    }
    for (method, route) in [("GET", "/v1/nothing"), ("POST", "/"), ("GET", "/v1/jobs/1/ranks")] {
        assert_eq!(status(&api, method, route, Some(&model)), 403);
        assert_eq!(status(&api, method, route, Some(&admin)), 404, "{method} {route}");
    }
    for (method, route) in [("DELETE", "/v1/jobs"), ("GET", "/v1/shutdown"), ("POST", "/v1/status")] {
        assert_eq!(status(&api, method, route, Some(&admin)), 405, "{method} {route}");
    }
    for key in [&admin, &model] {
        assert_eq!(status(&gateway, "GET", "/v1/models", Some(key)), 200);
        assert_eq!(status(&gateway, "GET", "/metrics", Some(key)), 200);
        // Before any engine serves, the gateway cannot know which models there will be: ask again later.
        assert_eq!(status(&gateway, "GET", "/v1/models/nothing", Some(key)), 503);
        assert_eq!(status(&gateway, "GET", "/v1/nothing", Some(key)), 404);
        assert_eq!(status(&gateway, "DELETE", "/v1/models", Some(key)), 405);
        assert_eq!(status(&gateway, "GET", "/v1/chat/completions", Some(key)), 405);
    }
    // Errors have one shape on both listeners: OpenAI's.
    for url in [format!("{api}/v1/nothing"), format!("{gateway}/v1/nothing")] {
        let (_, text) = http("GET", &url, &[("authorization", &admin)], None);
        let body: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(body["error"]["message"].is_string() && body["error"]["type"].is_string(), "{body}");
    }
}

#[test]
fn the_store_refuses_whatever_is_not_signed() {
    let hall = TestHall::start(BLUEPRINT);
    let (store, admin) = (hall.url("store"), hall.key("admin"));
    for (method, route) in STORE {
        assert_eq!(status(&store, method, route, None), 403, "{method} {route} without a signature");
        for other in [format!("Bearer {admin}"), format!("AWS nobody:{admin}"), "AWS4-HMAC-SHA256 nonsense".to_owned()]
        {
            let got = status(&store, method, route, Some(&other));
            assert!(matches!(got, 400 | 401 | 403 | 501), "{method} {route} gave {got} for another kind of key");
        }
        let query = if route.contains('?') { '&' } else { '?' };
        let forged = format!(
            "{route}{query}X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={}%2F20260101%2Fus-east-1%2Fs3%2Faws4_request\
             &X-Amz-Date=20260101T000000Z&X-Amz-Expires=600&X-Amz-SignedHeaders=host&X-Amz-Signature={}",
            hall.variables()["AWS_ACCESS_KEY_ID"],
            "0".repeat(64)
        );
        let got = status(&store, method, &forged, None);
        assert!(matches!(got, 400 | 403 | 501), "{method} {route} gave {got} for a forged signature");
    }
}

/// A client of the store with this key.
fn s3(hall: &TestHall, id: &str, secret: &str) -> S3 {
    S3::new(&hall.url("store"), id, Secret::new(secret.to_owned()), "us-east-1").unwrap()
}

fn assert_refused<T: std::fmt::Debug>(outcome: &Result<T, StoreError>) {
    assert!(matches!(outcome, Err(StoreError::Refused { status: 403, .. })), "{outcome:?}");
}

#[test]
fn the_model_key_and_wrong_secrets_do_not_open_the_store() {
    let hall = TestHall::start(BLUEPRINT);
    let id = hall.variables()["AWS_ACCESS_KEY_ID"].clone();
    let keys: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(hall.data().join("keys.json")).unwrap()).unwrap();
    let model = keys["keys"].as_array().unwrap().iter().find(|key| key["name"] == "model").unwrap();
    for store in [
        s3(&hall, model["id"].as_str().unwrap(), &hall.key("model")),
        s3(&hall, &id, &hall.key("model")),
        s3(&hall, "nobody", &hall.key("admin")),
    ] {
        assert_refused(&store.put("datasets", "key", b"x"));
        assert_refused(&store.get("datasets", "key"));
        assert_refused(&store.list("datasets", ""));
    }
    let store = s3(&hall, &id, &hall.key("admin"));
    store.put("datasets", "key", b"x").unwrap();
    assert_eq!(store.get("datasets", "key").unwrap(), b"x");
}

#[test]
fn a_jobs_key_opens_its_own_data_only_and_dies_with_its_attempt() {
    let hall = TestHall::start(BLUEPRINT);
    let out = hall.path("key");
    let script = "printf '%s %s' \"$AWS_ACCESS_KEY_ID\" \"$AWS_SECRET_ACCESS_KEY\" > \"$OUT.new\"; mv \"$OUT.new\" \"$OUT\"; sleep 600";
    let variable = format!("OUT={}", out.display());
    let data = "DH_DATA=s3://checkpoints/mine ro:s3://models";
    assert!(hall.submit(&["--env", &variable, "--env", data], &["sh", "-c", script]).status.success());
    hall.wait_for_job(1, "writing its key", |_| out.exists());
    let text = std::fs::read_to_string(&out).unwrap();
    let (id, secret) = text.split_once(' ').unwrap();
    let store = s3(&hall, id, secret);
    let admin = s3(&hall, &hall.variables()["AWS_ACCESS_KEY_ID"], &hall.key("admin"));
    for (bucket, key) in [("checkpoints", "others/a"), ("datasets", "a"), ("models", "a"), ("jobs", "default/job-2/a")]
    {
        admin.put(bucket, key, b"secret").unwrap();
    }
    // Its own place, what it says it uses, and that alone.
    for (bucket, key) in [("jobs", "default/job-1/a"), ("checkpoints", "mine"), ("checkpoints", "mine/a")] {
        store.put(bucket, key, b"x").unwrap();
        assert_eq!(store.get(bucket, key).unwrap(), b"x");
    }
    assert_eq!(store.list("checkpoints", "mine/").unwrap().len(), 1);
    assert_eq!(store.get("models", "a").unwrap(), b"secret");
    assert_refused(&store.put("models", "b", b"x"));
    for (bucket, key) in
        [("checkpoints", "others/a"), ("checkpoints", "minesweeper"), ("datasets", "a"), ("jobs", "default/job-2/a")]
    {
        assert_refused(&store.get(bucket, key));
        assert_refused(&store.put(bucket, key, b"x"));
    }
    assert_refused(&store.list("checkpoints", ""));
    assert_refused(&store.list("datasets", ""));
    let bearer = format!("Bearer {secret}");
    assert_eq!(status(&hall.url("api"), "GET", "/v1/jobs", Some(&bearer)), 403);
    assert_eq!(status(&hall.url("gateway"), "GET", "/v1/models", Some(&bearer)), 403);

    hall.ok(&["cancel", "1"]);
    hall.wait_for_job(1, "over", |view| view["state"] == "cancelled");
    let begin = std::time::Instant::now();
    while status(&hall.url("api"), "GET", "/v1/jobs", Some(&bearer)) != 401 {
        assert!(begin.elapsed() < crate::support::PATIENCE, "the key of an ended attempt is still known");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_refused(&store.put("checkpoints", "mine/a", b"y"));
    assert_refused(&store.get("jobs", "default/job-1/a"));
}
