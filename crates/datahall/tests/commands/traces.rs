//! Traces reach a collector, and a job is one trace from its caller down to its ranks.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::{Value, json};

use crate::support::{BLUEPRINT, PATIENCE, TestHall, http};

/// A collector: what was posted to `/v1/traces`, span by span.
#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<Value>>>,
}

impl Collector {
    /// Begins to listen; its address.
    fn listen(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let collector = self.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, collector) = (stream.unwrap(), collector.clone());
                std::thread::spawn(move || collector.serve(&stream));
            }
        });
        url
    }

    /// Answers every request of a connection.
    fn serve(&self, stream: &std::net::TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut first = String::new();
        while reader.read_line(&mut first).unwrap_or(0) > 0 {
            let (mut length, mut line) = (0, String::new());
            while reader.read_line(&mut line).unwrap_or(0) > 2 {
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            if first.starts_with("POST /v1/traces ") {
                let request: Value = serde_json::from_slice(&body).unwrap();
                let of = &request["resourceSpans"][0];
                assert_eq!(of["resource"]["attributes"][0]["value"]["stringValue"], "datahall");
                self.spans.lock().unwrap().extend(of["scopeSpans"][0]["spans"].as_array().unwrap().iter().cloned());
            }
            let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
            let mut stream = stream;
            stream.write_all(answer.as_bytes()).unwrap();
            first.clear();
        }
    }

    /// Waits for a span of this name.
    fn wait(&self, name: &str) -> Value {
        let begin = Instant::now();
        loop {
            let spans = self.spans.lock().unwrap().clone();
            if let Some(found) = spans.iter().find(|span| span["name"] == name) {
                return found.clone();
            }
            assert!(begin.elapsed() < PATIENCE, "no span `{name}` came: {spans:?}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

#[test]
fn a_job_is_one_trace_from_its_caller_to_its_ranks() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const CALLER: &str = "b7ad6b7169203331";
    let collector = Collector::default();
    let hall = TestHall::start_with(BLUEPRINT, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.listen())]);
    let bearer = format!("Bearer {}", hall.key("admin"));
    let context = format!("00-{TRACE}-{CALLER}-01");
    let headers =
        [("authorization", bearer.as_str()), ("content-type", "application/json"), ("traceparent", context.as_str())];
    let script = "[ $DH_ATTEMPT = 2 ] || exit 3; echo $TRACEPARENT";
    let body = json!({ "name": "traced", "command": ["sh", "-c", script], "retries": 1 }).to_string();
    let (status, text) = http("POST", &format!("{}/v1/jobs", hall.url("api")), &headers, Some(&body));
    assert_eq!(status, 200, "{text}");
    let [job, queued, failed, ran] =
        ["job traced", "queued 1", "attempt 1", "attempt 2"].map(|name| collector.wait(name));
    let request = collector.wait("POST /v1/jobs");
    for span in [&job, &queued, &failed, &ran, &request] {
        assert_eq!(span["traceId"], TRACE, "{span}");
        let time = |name: &str| span[name].as_str().unwrap().parse::<u64>().unwrap();
        assert!(time("startTimeUnixNano") <= time("endTimeUnixNano"), "{span}");
    }
    assert_eq!((&job["parentSpanId"], &request["parentSpanId"]), (&CALLER.into(), &CALLER.into()));
    for span in [&queued, &failed, &ran] {
        assert_eq!(span["parentSpanId"], job["spanId"], "{span}");
    }
    assert_eq!((&failed["status"]["code"], &ran["status"]["code"]), (&2.into(), &Value::Null));
    // What a rank traces is below its attempt.
    let told = format!("[2.0] 00-{TRACE}-{}-01", ran["spanId"].as_str().unwrap());
    let log = hall.ok(&["logs", "1"]);
    assert!(log.contains(&told), "{told} is not in {log}");
    // Without a caller's trace a job has its own.
    assert!(hall.submit(&["--wait", "--name", "alone"], &["true"]).status.success());
    let alone = collector.wait("job alone");
    assert!(alone["traceId"] != TRACE && alone["parentSpanId"].is_null(), "{alone}");
}

#[test]
fn nobody_waits_for_a_collector_that_is_not_there() {
    // A port that takes connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let hall = TestHall::start_with(BLUEPRINT, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &url)]);
    for _ in 0..3 {
        assert!(hall.submit(&["--wait"], &["true"]).status.success());
    }
    let mut wrong = hall.command();
    let output = wrong.arg("up").arg(hall.path("hall.toml")).args(["--data", "other", "--otlp", "https://h"]).output();
    let said = String::from_utf8(output.unwrap().stderr).unwrap();
    assert!(said.contains("only plain `http`"), "{said}");
}
