//! A hall's own gateway with what its blueprint asks for: an answer given twice, a line that is full, and a service that stands
//! in for one whose engine is gone.

use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::support::{BLUEPRINT, PATIENCE, TestHall, command_at_home, http};

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A port that nobody has at the moment.
fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A stub engine whose answers are as long as its arguments say.
fn engine(home: &std::path::Path, port: u16, arguments: &[&str]) -> Running {
    let mut command = command_at_home(home);
    command.args(["bench", "stub", "--port", &port.to_string()]).args(arguments);
    let running = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let deadline = Instant::now() + PATIENCE;
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "no stub engine on {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
    running
}

/// Requests that a stub engine has answered.
fn answered(port: u16) -> String {
    let (_, text) = http("GET", &format!("http://127.0.0.1:{port}/metrics"), &[], None);
    text.lines().find_map(|line| line.strip_prefix("vllm:request_success_total ")).unwrap().to_owned()
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: ureq::http::HeaderMap,
    text: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// A question to the hall's gateway; a copy can go to a thread of its own.
#[derive(Clone)]
struct Door {
    url: String,
    key: String,
}

impl Door {
    fn ask(&self, model: &str, text: &str, tokens: u32) -> Answer {
        let body = format!(
            r#"{{"model":"{model}","temperature":0,"messages":[{{"role":"user","content":"{text}"}}],"max_tokens":{tokens}}}"#
        );
        let agent = ureq::Agent::config_builder().proxy(None).http_status_as_error(false).build().new_agent();
        let mut answer = agent
            .post(format!("{}/v1/chat/completions", self.url))
            .header("authorization", format!("Bearer {}", self.key))
            .header("content-type", "application/json")
            .send(&body)
            .unwrap();
        let text = answer.body_mut().read_to_string().unwrap();
        Answer { status: answer.status().as_u16(), headers: answer.headers().clone(), text }
    }

    /// The sum of all series of a metric of the gateway.
    fn metric(&self, name: &str) -> u64 {
        let headers = [("authorization", format!("Bearer {}", self.key))];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        let (status, text) = http("GET", &format!("{}/metrics", self.url), &headers, None);
        assert_eq!(status, 200, "{text}");
        let values =
            text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
        values.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    fn until(&self, name: &str, value: u64) {
        let deadline = Instant::now() + PATIENCE;
        while self.metric(name) != value {
            assert!(Instant::now() < deadline, "{name} is {} and not {value}", self.metric(name));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn a_hall_keeps_answers_refuses_early_and_lets_others_stand_in() {
    let home = tempfile::tempdir().unwrap();
    let ports = [port(), port(), port()];
    let [quick, slow, gone] = ports;
    let _quick = engine(home.path(), quick, &["--model", "quick"]);
    // Its answers take four seconds, so whoever asks meanwhile finds it busy.
    let _slow = engine(home.path(), slow, &["--model", "slow", "--answer", "40", "--decode-us", "100000"]);
    let hall = TestHall::start(&format!(
        "{BLUEPRINT}\
         [gateway]\ncache = \"16 MiB\"\nengine_in_flight = 1\nqueue = 1\nclass = \"standard\"\n\
         [service.quick]\nurl = \"http://127.0.0.1:{quick}\"\n\
         [service.slow]\nurl = \"http://127.0.0.1:{slow}\"\n\
         [service.gone]\nurl = \"http://127.0.0.1:{gone}\"\nfallback = [\"quick\"]\n"
    ));
    let door = Door { url: hall.url("gateway"), key: hall.key("admin") };

    // The same question twice: the engine hears it once.
    let answers = [door.ask("quick", "one", 40), door.ask("quick", "one", 40), door.ask("quick", "two", 40)];
    for (answer, cache) in answers.iter().zip(["miss", "hit", "miss"]) {
        assert_eq!((answer.status, answer.header("x-datahall-cache")), (200, cache), "{answer:?}");
    }
    assert_eq!(answers[0].text, answers[1].text);
    assert_eq!(answered(quick), "2");

    // Nobody listens where `gone` should be, so `quick` answers and says so.
    let answer = door.ask("gone", "three", 40);
    assert_eq!((answer.status, answer.header("x-datahall-model")), (200, "quick"), "{answer:?}");
    assert_eq!(answered(quick), "3");

    // One is worked on, one waits, and there is no place for a third: it hears so at once, and when to come again.
    let asked = |text: &'static str| {
        let door = door.clone();
        std::thread::spawn(move || door.ask("slow", text, 40))
    };
    let first = asked("four");
    door.until("datahall_gateway_in_flight", 1);
    let second = asked("five");
    door.until("datahall_gateway_queue_depth", 1);
    let third = door.ask("slow", "six", 40);
    assert_eq!(third.status, 429, "{third:?}");
    assert!(third.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds >= 1), "{third:?}");
    let error: serde_json::Value = serde_json::from_str(&third.text).unwrap();
    assert!(error["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{error}");
    for waits in [first, second] {
        let answer = waits.join().unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(answered(slow), "2");
    // Who was refused is answered once there is room.
    assert_eq!(door.ask("slow", "six", 1).status, 200);
}
