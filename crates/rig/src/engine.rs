//! The stub engine: answers like an engine, computes nothing, and takes the time that one would.
//!
//! Prefill is one queue at a fixed pace for the tokens that the cache does not hold; decoding is a fixed time a token, for up
//! to `slots` requests at once, and those beyond wait. With every time at 0 an answer is one read and one write. Faults come
//! by a request's own header `x-stub` (`status=503`, `delay-ms=20`, `cut=100` bytes of the answer) or for so many requests in
//! a thousand, drawn from a seed. A cut closes the connection, as an engine does that dies.
//!
//! Usage is reported as engines report it, cached tokens included; `GET /metrics` speaks vLLM's names.

use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use memchr::memmem;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use crate::events::{self, Publisher};
use crate::kv::{KvCache, Lease};
use crate::message::{field, head_end, is_true, number_after};
use crate::{TOKEN_BYTES, mix};

/// Longer heads are nobody's.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Longer bodies are nobody's.
const BODY_BYTES_MAX: usize = 64 << 20;

/// How an engine behaves.
#[derive(Debug, Clone)]
pub struct Config {
    /// The model it serves, for `GET /v1/models`.
    pub model: String,
    /// For one token of a prompt that is not cached.
    pub prefill: Duration,
    /// For one token of an answer.
    pub decode: Duration,
    /// Requests that it works on at once; others wait.
    pub slots: usize,
    /// Blocks of its cache; 0 for an engine without one.
    pub blocks: u32,
    /// Tokens of a block.
    pub block_tokens: usize,
    /// Tokens of an answer, if the request asks for no fewer.
    pub answer: u64,
    /// Requests in a thousand that get status 503.
    pub refuse_per_mille: u64,
    /// Requests in a thousand whose connection is cut in the middle of the answer.
    pub cut_per_mille: u64,
    /// For those draws.
    pub seed: u64,
    /// Whether it publishes what happens in its cache; see [`Engine::publish`].
    pub kv_events: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            model: "stub".to_owned(),
            prefill: Duration::ZERO,
            decode: Duration::ZERO,
            slots: Semaphore::MAX_PERMITS,
            blocks: 0,
            block_tokens: 16,
            answer: 16,
            refuse_per_mille: 0,
            cut_per_mille: 0,
            seed: 1,
            kv_events: false,
        }
    }
}

/// What an engine did.
#[derive(Debug, Default)]
struct Counts {
    requests: AtomicU64,
    prompt: AtomicU64,
    cached: AtomicU64,
    answer: AtomicU64,
    running: AtomicU64,
}

/// A stub engine. A clone is another handle to the same one.
#[derive(Debug, Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: Config,
    cache: Mutex<KvCache>,
    /// When the queue of prefills is empty.
    prefilled: Mutex<Option<Instant>>,
    slots: Semaphore,
    released: Notify,
    counts: Counts,
    publisher: Option<Publisher>,
}

/// What a request asks for.
struct Asked {
    prompt: u64,
    cached: u64,
    answer: u64,
    stream: bool,
    usage: bool,
    /// Whether another engine writes the answer.
    hands_on: bool,
}

/// What is to go wrong with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Fault {
    status: Option<u16>,
    cut: Option<usize>,
    delay_ms: u64,
}

/// The blocks of a request; given back when it ends, also by a caller that left.
struct Held<'e>(&'e Shared, Lease);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        lock(&self.0.cache).release(&self.1);
        self.0.counts.running.fetch_sub(1, Ordering::Relaxed);
        self.0.released.notify_waiters();
    }
}

// No step under these locks can panic half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Engine {
    /// An engine that has served nothing yet.
    pub fn new(config: Config) -> Self {
        let mut cache = KvCache::new(config.blocks);
        if config.kv_events {
            cache.keep_journal();
        }
        let shared = Shared {
            cache: Mutex::new(cache),
            publisher: config.kv_events.then(Publisher::default),
            prefilled: Mutex::new(None),
            slots: Semaphore::new(config.slots.min(Semaphore::MAX_PERMITS)),
            released: Notify::new(),
            counts: Counts::default(),
            config,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Serves connections until the listener fails.
    /// # Errors
    /// The listener's.
    pub async fn serve(&self, listener: TcpListener) -> std::io::Result<()> {
        loop {
            let (stream, _) = listener.accept().await?;
            let engine = self.clone();
            // A caller that breaks off is the caller's affair.
            tokio::spawn(async move { drop(engine.connection(stream).await) });
        }
    }

    /// Publishes what happens in its cache to subscribers of `ZeroMQ`, as vLLM does, until the listener fails. Needs `kv_events`.
    /// # Errors
    /// The listener's.
    pub async fn publish(&self, listener: TcpListener) -> std::io::Result<()> {
        match &self.shared.publisher {
            Some(publisher) => publisher.serve(listener).await,
            None => Ok(()),
        }
    }

    /// Requests that it answered.
    pub fn requests(&self) -> u64 {
        self.shared.counts.requests.load(Ordering::Relaxed)
    }

    /// Tokens of all prompts, and those of them that were cached.
    pub fn prompt_tokens(&self) -> (u64, u64) {
        let Counts { prompt, cached, .. } = &self.shared.counts;
        (prompt.load(Ordering::Relaxed), cached.load(Ordering::Relaxed))
    }

    async fn connection(&self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut buffer = Vec::with_capacity(4 << 10);
        let mut out = Vec::with_capacity(4 << 10);
        loop {
            let head = loop {
                if let Some(end) = head_end(&buffer) {
                    break end;
                }
                if buffer.len() > HEAD_BYTES_MAX || stream.read_buf(&mut buffer).await? == 0 {
                    return Ok(());
                }
            };
            let length: usize = buffer
                .get(..head)
                .and_then(|head| field(head, "content-length"))
                .and_then(|length| length.parse().ok())
                .unwrap_or(0);
            if length > BODY_BYTES_MAX {
                return Ok(());
            }
            buffer.reserve((head + length).saturating_sub(buffer.len()));
            while buffer.len() < head + length {
                if stream.read_buf(&mut buffer).await? == 0 {
                    return Ok(());
                }
            }
            let (first, body) = buffer.split_at_checked(head).unwrap_or_default();
            let body = body.get(..length).unwrap_or_default();
            out.clear();
            if !self.answer(first, body, &mut stream, &mut out).await? {
                return Ok(());
            }
            buffer.drain(..head + length);
        }
    }

    /// Answers one request; tells whether the connection goes on.
    async fn answer(
        &self,
        head: &[u8],
        body: &[u8],
        stream: &mut TcpStream,
        out: &mut Vec<u8>,
    ) -> std::io::Result<bool> {
        if head.starts_with(b"GET ") {
            let text = self.state(head);
            plain(out, 200, "text/plain", text.as_bytes());
            stream.write_all(out).await?;
            return Ok(true);
        }
        if head.starts_with(b"POST /tokenize ") {
            plain(out, 200, "application/json", events::tokens_said(prompt_of(body)).as_bytes());
            stream.write_all(out).await?;
            return Ok(true);
        }
        let fault = self.fault(head);
        if fault.delay_ms > 0 {
            tokio::time::sleep(Duration::from_millis(fault.delay_ms)).await;
        }
        if let Some(status) = fault.status {
            plain(
                out,
                status,
                "application/json",
                br#"{"error":{"message":"the stub was told to refuse","type":"server_error"}}"#,
            );
            stream.write_all(out).await?;
            return Ok(true);
        }
        let config = &self.shared.config;
        let prompt = prompt_of(body);
        let (held, asked) = self.admit(prompt, body).await;
        if asked.stream {
            let went_on = self.stream(&asked, fault, stream, out).await?;
            drop(held);
            return Ok(went_on);
        }
        if !config.decode.is_zero() {
            tokio::time::sleep(config.decode.saturating_mul(u32::try_from(asked.answer).unwrap_or(u32::MAX))).await;
        }
        whole(out, head, &asked);
        drop(held);
        self.counted(&asked);
        send(stream, out, fault.cut).await
    }

    /// Waits for a slot, for blocks and for the prefill.
    async fn admit(&self, prompt: &[u8], body: &[u8]) -> (Held<'_>, Asked) {
        let shared = &*self.shared;
        let config = &shared.config;
        let tokens = |bytes: usize| u64::try_from(bytes.div_ceil(TOKEN_BYTES)).unwrap_or(u64::MAX);
        let wanted = [&b"\"max_tokens\""[..], b"\"max_completion_tokens\"", b"\"max_output_tokens\""]
            .iter()
            .find_map(|key| number_after(body, key));
        let mut asked = Asked {
            prompt: tokens(prompt.len()),
            cached: 0,
            answer: wanted.map_or(config.answer, |wanted| wanted.min(config.answer)),
            stream: is_true(body, b"\"stream\""),
            usage: is_true(body, b"\"include_usage\""),
            hands_on: is_true(body, b"\"do_remote_decode\""),
        };
        shared.counts.running.fetch_add(1, Ordering::Relaxed);
        let mut held = Held(shared, Lease::default());
        if config.blocks > 0 {
            let digests = digests(prompt, config.block_tokens.max(1) * TOKEN_BYTES);
            let answer = usize::try_from(asked.answer).unwrap_or(0).div_ceil(config.block_tokens.max(1));
            let size = usize::try_from(config.blocks).unwrap_or(usize::MAX);
            // A prompt longer than the cache is served all the same, from its first blocks.
            let digests = digests.get(..digests.len().min(size)).unwrap_or_default();
            let answer = answer.min(size - digests.len());
            loop {
                let released = shared.released.notified();
                let taken = {
                    let mut cache = lock(&shared.cache);
                    let taken = cache.take(digests, answer);
                    if let Some(publisher) = &shared.publisher {
                        publisher.tell(&cache.changes(), digests, prompt, config.block_tokens.max(1));
                    }
                    taken
                };
                if let Some((lease, cached)) = taken {
                    held.1 = lease;
                    asked.cached = tokens(cached * config.block_tokens.max(1) * TOKEN_BYTES).min(asked.prompt);
                    break;
                }
                // A moment at most: a release between the look and the wait must not be missed for ever.
                drop(tokio::time::timeout(Duration::from_millis(5), released).await);
            }
        }
        if is_true(body, b"\"do_remote_prefill\"") {
            // Another engine has read it.
            asked.cached = asked.prompt;
        }
        let slot = match shared.slots.try_acquire() {
            Ok(slot) => Some(slot),
            Err(_) => shared.slots.acquire().await.ok(),
        };
        if !config.prefill.is_zero() {
            let work = config.prefill.saturating_mul(u32::try_from(asked.prompt - asked.cached).unwrap_or(u32::MAX));
            let done = {
                let mut prefilled = lock(&shared.prefilled);
                let start = prefilled.map_or_else(Instant::now, |then| then.max(Instant::now()));
                *prefilled.insert(start + work)
            };
            tokio::time::sleep_until(done).await;
        }
        // Slots bound what is prefilled at once; decoding is batched.
        drop(slot);
        (held, asked)
    }

    async fn stream(
        &self,
        asked: &Asked,
        fault: Fault,
        stream: &mut TcpStream,
        out: &mut Vec<u8>,
    ) -> std::io::Result<bool> {
        let decode = self.shared.config.decode;
        out.extend_from_slice(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
        );
        for number in 0..asked.answer {
            if !decode.is_zero() {
                tokio::time::sleep(decode).await;
            }
            chunk(out, EVENT);
            if !decode.is_zero() {
                if !send(stream, out, fault.cut.filter(|cut| u64::try_from(*cut).is_ok_and(|cut| cut <= number)))
                    .await?
                {
                    return Ok(false);
                }
                out.clear();
            }
        }
        if asked.usage {
            let mut event = Vec::with_capacity(256);
            event.extend_from_slice(b"data: {\"id\":\"stub\",\"object\":\"chat.completion.chunk\",\"model\":\"stub\",\"choices\":[],\"usage\":");
            usage(&mut event, asked);
            event.extend_from_slice(b"}\n\n");
            chunk(out, &event);
        }
        chunk(out, b"data: [DONE]\n\n");
        out.extend_from_slice(b"0\r\n\r\n");
        self.counted(asked);
        send(stream, out, fault.cut).await
    }

    fn counted(&self, asked: &Asked) {
        let Counts { requests, prompt, cached, answer, .. } = &self.shared.counts;
        for (counter, by) in [(requests, 1), (prompt, asked.prompt), (cached, asked.cached), (answer, asked.answer)] {
            counter.fetch_add(by, Ordering::Relaxed);
        }
    }

    /// What is to go wrong: what the request says, else what is drawn.
    fn fault(&self, head: &[u8]) -> Fault {
        let config = &self.shared.config;
        let mut fault = Fault::default();
        if config.refuse_per_mille + config.cut_per_mille > 0 {
            let drawn = mix(config.seed, self.shared.counts.requests.fetch_add(0, Ordering::Relaxed)) % 1_000;
            fault.status = (drawn < config.refuse_per_mille).then_some(503);
            fault.cut = (drawn >= config.refuse_per_mille && drawn < config.refuse_per_mille + config.cut_per_mille)
                .then_some(40);
            if fault.status.is_some() {
                self.shared.counts.requests.fetch_add(1, Ordering::Relaxed);
            }
        }
        for part in field(head, "x-stub").unwrap_or_default().split(',') {
            match part.trim().split_once('=') {
                Some(("status", status)) => fault.status = status.parse().ok(),
                Some(("cut", bytes)) => fault.cut = bytes.parse().ok(),
                Some(("delay-ms", delay)) => fault.delay_ms = delay.parse().unwrap_or(0),
                Some(_) | None => {}
            }
        }
        fault
    }

    /// The answer to a `GET`: models, metrics, health.
    fn state(&self, head: &[u8]) -> String {
        let Shared { config, counts, cache, .. } = &*self.shared;
        if head.starts_with(b"GET /v1/models") {
            return format!("{{\"object\":\"list\",\"data\":[{{\"id\":\"{}\",\"object\":\"model\"}}]}}", config.model);
        }
        if !head.starts_with(b"GET /metrics") {
            return "ok".to_owned();
        }
        let (free, size) = {
            let cache = lock(cache);
            (cache.free(), cache.size())
        };
        let used = (size - free) * 1_000 / size.max(1);
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        format!(
            "vllm:num_requests_running {}\nvllm:kv_cache_usage_perc {}.{:03}\nvllm:prefix_cache_queries_total {}\nvllm:prefix_cache_hits_total {}\nvllm:generation_tokens_total {}\nvllm:request_success_total {}\n",
            load(&counts.running),
            used / 1_000,
            used % 1_000,
            load(&counts.prompt),
            load(&counts.cached),
            load(&counts.answer),
            load(&counts.requests),
        )
    }
}

const EVENT: &[u8] = b"data: {\"id\":\"stub\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"stub\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"word \"},\"finish_reason\":null}]}\n\n";

/// What the engine that writes the answer is told of what this one holds, as vLLM says it.
const HANDED: &[u8] = b",\"kv_transfer_params\":{\"do_remote_prefill\":true,\"do_remote_decode\":false,\"remote_engine_id\":\"stub\",\"remote_block_ids\":[0]}";

/// The bytes that hold the prompt: from the first of these keys on.
fn prompt_of(body: &[u8]) -> &[u8] {
    let keys = [&b"\"messages\""[..], b"\"prompt\"", b"\"input\"", b"\"query\""];
    let at = keys.iter().find_map(|key| memmem::find(body, key).map(|at| at + key.len()));
    at.and_then(|at| body.get(at..)).unwrap_or_default()
}

/// The digests of the whole blocks, each of all that comes before its end; never 0.
fn digests(prompt: &[u8], block: usize) -> Vec<u64> {
    let mut digest = 0;
    let whole = prompt.chunks_exact(block);
    whole
        .map(|block| {
            for word in block.chunks(8) {
                let mut bytes = [0; 8];
                for (to, from) in bytes.iter_mut().zip(word) {
                    *to = *from;
                }
                digest = mix(digest, u64::from_le_bytes(bytes));
            }
            digest = digest.max(1);
            digest
        })
        .collect()
}

fn usage(out: &mut Vec<u8>, asked: &Asked) {
    let Asked { prompt, cached, answer, .. } = asked;
    // Writing to a vector cannot fail.
    let _infallible = write!(
        out,
        "{{\"prompt_tokens\":{prompt},\"completion_tokens\":{answer},\"total_tokens\":{},\"prompt_tokens_details\":{{\"cached_tokens\":{cached}}}}}",
        prompt + answer
    );
}

fn plain(out: &mut Vec<u8>, status: u16, kind: &str, body: &[u8]) {
    let _infallible =
        write!(out, "HTTP/1.1 {status} Stub\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n", body.len());
    out.extend_from_slice(body);
}

/// A whole answer, in the shape of the route that was asked.
fn whole(out: &mut Vec<u8>, head: &[u8], asked: &Asked) {
    let words = "word ".repeat(usize::try_from(asked.answer.min(4_096)).unwrap_or(0));
    let path = head.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    let mut body = Vec::with_capacity(512 + words.len());
    let (before, after) = if path.ends_with(b"/messages") {
        (
            "{\"id\":\"stub\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"stub\",\"stop_reason\":\"end_turn\",\"content\":[{\"type\":\"text\",\"text\":\"",
            "\"}]",
        )
    } else if path.ends_with(b"/responses") {
        (
            "{\"id\":\"stub\",\"object\":\"response\",\"status\":\"completed\",\"model\":\"stub\",\"output\":[{\"type\":\"message\",\"role\":\"assistant\",\"content\":[{\"type\":\"output_text\",\"text\":\"",
            "\"}]}]",
        )
    } else if path.ends_with(b"/embeddings") {
        (
            "{\"object\":\"list\",\"model\":\"stub\",\"data\":[{\"object\":\"embedding\",\"index\":0,\"embedding\":[0.5,0.25]}],\"note\":\"",
            "\"",
        )
    } else if path.ends_with(b"/rerank") {
        ("{\"id\":\"stub\",\"model\":\"stub\",\"results\":[{\"index\":0,\"relevance_score\":0.5}],\"note\":\"", "\"")
    } else if path.ends_with(b"/chat/completions") {
        (
            "{\"id\":\"stub\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"stub\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"",
            "\"},\"finish_reason\":\"stop\"}]",
        )
    } else {
        (
            "{\"id\":\"stub\",\"object\":\"text_completion\",\"created\":1,\"model\":\"stub\",\"choices\":[{\"index\":0,\"text\":\"",
            "\",\"finish_reason\":\"stop\"}]",
        )
    };
    for part in [before, words.as_str(), after, ",\"usage\":"] {
        body.extend_from_slice(part.as_bytes());
    }
    usage(&mut body, asked);
    if asked.hands_on {
        body.extend_from_slice(HANDED);
    }
    body.push(b'}');
    plain(out, 200, "application/json", &body);
}

fn chunk(out: &mut Vec<u8>, content: &[u8]) {
    let _infallible = write!(out, "{:x}\r\n", content.len());
    out.extend_from_slice(content);
    out.extend_from_slice(b"\r\n");
}

/// Sends all of it and goes on, or its beginning and stops.
async fn send(stream: &mut TcpStream, out: &[u8], cut: Option<usize>) -> std::io::Result<bool> {
    match cut {
        None => stream.write_all(out).await.map(|()| true),
        Some(cut) => stream.write_all(out.get(..cut).unwrap_or(out)).await.map(|()| false),
    }
}

#[cfg(test)]
mod tests;
