//! Both ends from a shell, for work on a gateway: `rig stub PORT [events] [blocks]`, `rig load ADDRESS [connections] [seconds] [prompt
//! tokens] [answer tokens] [stream] [key]`.
#![expect(clippy::print_stdout, reason = "an example prints")]

use std::sync::Arc;
use std::time::Duration;

use dh_rig::engine::{Config, Engine};
use dh_rig::load::{Closed, Dress, Shape, closed};
use tokio::net::TcpListener;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let word = |place: usize, default: &str| arguments.get(place).map_or(default, String::as_str).to_owned();
    if word(1, "stub") == "stub" {
        let listener = TcpListener::bind(("127.0.0.1", word(2, "9101").parse()?)).await?;
        let config = Config { answer: word(3, "16").parse()?, blocks: word(4, "0").parse()?, ..Config::default() };
        return Ok(Engine::new(config).serve(listener).await?);
    }
    let host = word(2, "127.0.0.1:9101");
    let key = arguments.get(8).map(|key| dh_core::Secret::new(key.clone()));
    let dress = Dress {
        host: host.clone(),
        path: "/v1/chat/completions".into(),
        model: "stub".into(),
        key,
        stream: word(7, "no") == "stream",
    };
    let (prompt, answer) = (word(5, "40").parse()?, word(6, "8").parse()?);
    let requests =
        (0..64).map(|number| dress.request(&Shape { at: 0, prompt, answer, blocks: vec![number % 16] }, number));
    let how = Closed {
        connections: word(3, "64").parse()?,
        time: Duration::from_secs(word(4, "5").parse()?),
        requests: u64::MAX,
    };
    let report = closed(host.parse()?, Arc::new(requests.collect()), how).await?;
    println!(
        "{} requests/s, p50 {} us, p99 {} us, good {} refused {} limited {} broken {} events {}",
        report.per_kilosecond() / 1_000,
        report.latency.quantile(5_000) / 1_000,
        report.latency.quantile(9_900) / 1_000,
        report.good,
        report.refused,
        report.limited,
        report.broken,
        report.events,
    );
    Ok(())
}
