//! A service whose replicas follow its load: none runs, a request waits while the first one starts, and none runs again.

use std::time::{Duration, Instant};

use dh_infer::standin::{self, Standin};
use serde_json::Value;

use crate::support::{BLUEPRINT, PATIENCE, TestHall, http};

/// A model of the catalogue as the blueprint has it; random weights must say so by their name.
const MODEL: &str = standin::NAME;

/// The jobs of the service that run, and are going to.
fn replicas(hall: &TestHall) -> usize {
    let services = hall.api("GET", "/v1/services", None).1;
    let open = |view: &&Value| view["service"] == "chat" && !view["job"].is_null();
    services.as_array().unwrap().iter().filter(open).count()
}

fn until(hall: &TestHall, what: &str, holds: impl Fn(&TestHall) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds(hall) {
        assert!(Instant::now() < deadline, "{what}: {}", hall.server_log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn ask(hall: &TestHall) -> (u16, String) {
    let bearer = format!("Bearer {}", hall.key("model"));
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let body = format!(r#"{{"model":"{MODEL}","messages":[{{"role":"user","content":"hello"}}],"max_tokens":3}}"#);
    http("POST", &format!("{}/v1/chat/completions", hall.url("gateway")), &headers, Some(&body))
}

#[test]
fn a_request_starts_the_first_replica_waits_for_it_and_idleness_ends_it() {
    let service = format!(
        "[catalog.model.{MODEL}]\nbase = \"smollm2-135m-instruct\"\n\
         [service.chat]\nmodel = \"{MODEL}\"\nreplicas_max = 2\nidle_after = \"3 s\"\n"
    );
    let mut hall = TestHall::start(&format!("{BLUEPRINT}{service}"));
    assert_eq!(replicas(&hall), 0);
    // Its model comes into the store with a service of another name, which ends again.
    let file = hall.path(&format!("{MODEL}.gguf"));
    Standin::default().write(&file).unwrap();
    hall.ok(&["serve", file.to_str().unwrap()]);
    hall.ok(&["serve", MODEL, "--stop"]);
    hall.wait_for_job(1, "stopped", |view| view["state"] == "cancelled");
    for _ in 0..2 {
        let (status, text) = ask(&hall);
        assert_eq!(status, 200, "{text}: {}", hall.server_log());
        assert_eq!(replicas(&hall), 1);
        until(&hall, "nobody asks for it", |hall| replicas(hall) == 0);
    }
    // Replicas came and went through the log, in its own name.
    let why = hall.json(&["jobs"]).to_string();
    assert!(why.contains("cancelled"), "{why}");
    // A hall that was killed begins with none, and starts one again.
    hall.kill9();
    hall.spawn();
    hall.wait_until_up();
    assert_eq!(ask(&hall).0, 200);
}
