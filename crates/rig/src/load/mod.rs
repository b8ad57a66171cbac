//! A load generator for anything that speaks the API of `OpenAI`.
//!
//! *Closed loop*: so many connections, each asks again when its answer has ended. *Open loop*: requests come when a trace
//! says, whether or not earlier ones have been answered, and a time counts from when the request should have been sent, so a
//! server that stalls cannot hide it (Tene, "How not to measure latency"). An answer counts as good if its status is 200 and
//! it came whole, for streams with `[DONE]`.

mod client;
mod histogram;
mod prompt;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;

use client::{Connection, End};
pub use histogram::Histogram;
pub use prompt::{BLOCK_TOKENS, Dress, Shape};

/// Why a load could not be run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens there.
    #[error("cannot connect to {0}: {1}")]
    Connect(SocketAddr, std::io::Error),
}

/// What came of a load.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Whole answers with status 200.
    pub good: u64,
    /// Whole answers with another status: 429 and all others.
    pub limited: u64,
    /// Those others.
    pub refused: u64,
    /// Answers that broke off, and connections that failed.
    pub broken: u64,
    /// Events of streams.
    pub events: u64,
    /// Bytes of answers.
    pub bytes: u64,
    /// Tokens that the answers reported.
    pub tokens: Tokens,
    /// Whole answers with status 200: from when they were due to their last byte.
    pub latency: Histogram,
    /// The same to the first event of a stream or the first byte of the body.
    pub first: Histogram,
    /// How long it took.
    pub took: Duration,
}

/// Tokens that answers reported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Of prompts.
    pub prompt: u64,
    /// Of prompts, and not computed again.
    pub cached: u64,
    /// Of answers.
    pub answer: u64,
}

impl Report {
    fn merge(&mut self, other: &Self) {
        self.good += other.good;
        self.limited += other.limited;
        self.refused += other.refused;
        self.broken += other.broken;
        self.events += other.events;
        self.bytes += other.bytes;
        self.tokens.prompt += other.tokens.prompt;
        self.tokens.cached += other.tokens.cached;
        self.tokens.answer += other.tokens.answer;
        self.latency.merge(&other.latency);
        self.first.merge(&other.first);
    }

    /// Whole answers in a thousand seconds.
    pub fn per_kilosecond(&self) -> u64 {
        let millis = self.took.as_millis().max(1);
        u64::try_from(u128::from(self.good) * 1_000_000 / millis).unwrap_or(u64::MAX)
    }

    fn count(&mut self, end: &End, due: Instant) {
        let nanos = |until: Instant| u64::try_from((until - due).as_nanos()).unwrap_or(u64::MAX);
        match end {
            End::Whole { status: 200, first, last, events, bytes, tokens } => {
                self.good += 1;
                self.events += events;
                self.bytes += bytes;
                self.tokens.prompt += tokens.prompt;
                self.tokens.cached += tokens.cached;
                self.tokens.answer += tokens.answer;
                self.latency.add(nanos(*last));
                self.first.add(nanos(*first));
            }
            End::Whole { status: 429, .. } => self.limited += 1,
            End::Whole { .. } => self.refused += 1,
            End::Broken => self.broken += 1,
        }
    }
}

/// How long a closed loop goes on.
#[derive(Debug, Clone, Copy)]
pub struct Closed {
    /// Connections that ask at once.
    pub connections: usize,
    /// At most so long.
    pub time: Duration,
    /// At most so many requests.
    pub requests: u64,
}

/// Which prompts a closed loop sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Prompts {
    /// The given ones in turn.
    InTurn,
    /// The same with a number of their own at the beginning, so that no two share anything.
    Fresh,
}

/// Asks on so many connections, each as soon as it was answered; the requests are taken in turn.
/// # Errors
/// [`Error::Connect`] if nobody listens.
pub async fn closed(address: SocketAddr, requests: Arc<Vec<Vec<u8>>>, how: Closed) -> Result<Report, Error> {
    run(address, requests, how, Prompts::InTurn).await
}

/// The same with a number of its own at the beginning of each prompt, so that no two share anything.
/// # Errors
/// Those of [`closed`].
pub async fn fresh(address: SocketAddr, requests: Arc<Vec<Vec<u8>>>, how: Closed) -> Result<Report, Error> {
    run(address, requests, how, Prompts::Fresh).await
}

async fn run(address: SocketAddr, requests: Arc<Vec<Vec<u8>>>, how: Closed, prompts: Prompts) -> Result<Report, Error> {
    drop(Connection::open(address).await.map_err(|error| Error::Connect(address, error))?);
    let start = Instant::now();
    let deadline = start + how.time;
    let turn = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..how.connections {
        let (requests, turn) = (Arc::clone(&requests), Arc::clone(&turn));
        tasks.spawn(async move {
            let mut report = Report::default();
            let mut connection = None;
            let mut numbered = Vec::new();
            while Instant::now() < deadline {
                let number = turn.fetch_add(1, Ordering::Relaxed);
                let count = u64::try_from(requests.len()).unwrap_or(u64::MAX).max(1);
                let at = usize::try_from(number % count).unwrap_or(0);
                let Some(request) = requests.get(at).filter(|_| number < how.requests) else { break };
                let due = Instant::now();
                let request = match prompts {
                    Prompts::InTurn => request,
                    Prompts::Fresh => {
                        numbered.clear();
                        numbered.extend_from_slice(request);
                        number_prompt(&mut numbered, number);
                        &numbered
                    }
                };
                let end = ask(address, &mut connection, request).await;
                report.count(&end, due);
            }
            report
        });
    }
    Ok(gather(tasks, start).await)
}

/// Writes `number` over the beginning of the prompt.
fn number_prompt(request: &mut [u8], number: u64) {
    const KEY: &[u8] = b"\"content\":\"";
    let text = format!("{number:016x}");
    let begins = memchr::memmem::find(request, KEY).map(|at| at + KEY.len());
    if let Some(place) = begins.and_then(|at| request.get_mut(at..at + text.len())) {
        place.copy_from_slice(text.as_bytes());
    }
}

/// How a trace is played.
#[derive(Debug, Clone, Copy)]
pub struct Open {
    /// Requests under way at most; a further one waits, and its time counts.
    pub connections: usize,
    /// How many times as fast as the trace says.
    pub speed: u64,
}

/// Sends each request of a trace when it is due.
/// # Errors
/// [`Error::Connect`] if nobody listens.
pub async fn open(address: SocketAddr, dress: Arc<Dress>, shapes: Vec<Shape>, how: Open) -> Result<Report, Error> {
    let first = Connection::open(address).await.map_err(|error| Error::Connect(address, error))?;
    let idle = Arc::new(Mutex::new(vec![first]));
    let places = Arc::new(Semaphore::new(how.connections.clamp(1, Semaphore::MAX_PERMITS)));
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    let mut report = Report::default();
    for (number, shape) in (0..).zip(shapes) {
        let due = start + Duration::from_nanos(shape.at / how.speed.max(1));
        tokio::time::sleep_until(due).await;
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
        while let Some(done) = tasks.try_join_next() {
            report.merge(&done.unwrap_or_default());
        }
        let (idle, dress) = (Arc::clone(&idle), Arc::clone(&dress));
        tasks.spawn(async move {
            let request = dress.request(&shape, number);
            let mut connection = idle.lock().await.pop();
            let end = ask(address, &mut connection, &request).await;
            if let Some(connection) = connection {
                idle.lock().await.push(connection);
            }
            drop(place);
            let mut report = Report::default();
            report.count(&end, due);
            report
        });
    }
    report.merge(&gather(tasks, start).await);
    report.took = start.elapsed();
    Ok(report)
}

async fn gather(mut tasks: JoinSet<Report>, start: Instant) -> Report {
    let mut report = Report::default();
    while let Some(done) = tasks.join_next().await {
        report.merge(&done.unwrap_or_default());
    }
    report.took = start.elapsed();
    report
}

/// Asks over a kept connection, or a fresh one; what can go on is left in `connection`.
async fn ask(address: SocketAddr, connection: &mut Option<Connection>, request: &[u8]) -> End {
    // A server may close what was kept; whoever waits long enough sees that and does not ask there.
    let mut open = match connection.take().filter(Connection::is_open) {
        Some(open) => open,
        None => match Connection::open(address).await {
            Ok(open) => open,
            Err(_) => return End::Broken,
        },
    };
    let end = open.ask(request).await.unwrap_or(End::Broken);
    if matches!(end, End::Whole { .. }) && open.goes_on() {
        *connection = Some(open);
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Config, Engine};
    use tokio::net::TcpListener;

    async fn engine(config: Config) -> (Engine, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let engine = Engine::new(config);
        let serving = engine.clone();
        tokio::spawn(async move { serving.serve(listener).await });
        (engine, address)
    }

    fn dress(stream: bool) -> Dress {
        Dress { host: "h".into(), path: "/v1/chat/completions".into(), model: "stub".into(), key: None, stream }
    }

    #[tokio::test]
    async fn both_ends_count_the_same() {
        let (engine, address) = engine(Config { blocks: 1_000, ..Config::default() }).await;
        for stream in [false, true] {
            let shape = |number| Shape { at: 0, prompt: 600, answer: 7, blocks: vec![1, number % 3] };
            let requests = (0..9).map(|number| dress(stream).request(&shape(number), number)).collect();
            let how = Closed { connections: 4, time: Duration::from_mins(1), requests: 90 };
            let before = (engine.requests(), engine.prompt_tokens());
            let report = closed(address, Arc::new(requests), how).await.unwrap();
            assert_eq!((report.good, report.broken, report.latency.count()), (90, 0, 90));
            assert_eq!(engine.requests() - before.0, 90);
            let (prompt, cached) = engine.prompt_tokens();
            assert_eq!((report.tokens.prompt, report.tokens.cached), (prompt - before.1.0, cached - before.1.1));
            assert_eq!((report.tokens.answer, report.events), (630, if stream { 90 * 8 } else { 0 }));
            assert!(report.tokens.cached * 2 > report.tokens.prompt);
        }
    }

    #[tokio::test]
    async fn fresh_prompts_share_nothing_and_stay_as_long() {
        let (engine, address) = engine(Config { blocks: 1_000, ..Config::default() }).await;
        let requests = vec![dress(false).request(&Shape { at: 0, prompt: 600, answer: 1, blocks: vec![1] }, 0)];
        let time = Duration::from_mins(1);
        let how = Closed { connections: 2, time, requests: 20 };
        let report = fresh(address, Arc::new(requests), how).await.unwrap();
        let (prompt, cached) = engine.prompt_tokens();
        assert_eq!((report.good, cached), (20, 0));
        assert!(prompt >= 20 * 600);
    }

    #[tokio::test]
    async fn an_open_loop_counts_from_when_a_request_was_due() {
        // One at a time, 20 ms each, all due at once: the tenth waits for nine.
        let config = Config { prefill: Duration::from_millis(20), ..Config::default() };
        let (_, address) = engine(config).await;
        let shapes = vec![Shape { at: 0, prompt: 0, answer: 1, blocks: Vec::new() }; 10];
        let how = Open { connections: 2, speed: 1 };
        let report = open(address, Arc::new(dress(false)), shapes, how).await.unwrap();
        assert_eq!(report.good, 10);
        assert!(report.latency.max() >= 200_000_000, "{}", report.latency.max());
    }

    #[tokio::test]
    async fn what_goes_wrong_is_counted_by_kind() {
        let (_, address) = engine(Config { refuse_per_mille: 300, cut_per_mille: 300, ..Config::default() }).await;
        let requests = vec![dress(false).request(&Shape { prompt: 1, answer: 1, ..Shape::default() }, 0)];
        let how = Closed { connections: 1, time: Duration::from_mins(1), requests: 400 };
        let report = closed(address, Arc::new(requests), how).await.unwrap();
        assert_eq!(report.good + report.refused + report.broken, 400);
        assert!(report.good > 50 && report.refused > 50 && report.broken > 50, "{report:?}");
    }

    #[tokio::test]
    async fn a_kept_connection_that_the_server_closed_is_not_asked() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 64];
                assert!(tokio::io::AsyncReadExt::read(&mut stream, &mut request).await.unwrap() > 0);
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
                tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await.unwrap();
            }
        });
        let mut connection = None;
        for _ in 0..2 {
            let end = ask(address, &mut connection, b"POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n").await;
            assert!(matches!(end, End::Whole { status: 200, .. }));
            // It closes without having said so.
            while connection.as_ref().is_some_and(Connection::is_open) {
                tokio::task::yield_now().await;
            }
        }
        server.await.unwrap();
    }
}
