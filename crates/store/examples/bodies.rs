//! What bodies cost: encode and decode of the erasure code, and CPU per PUT and GET of 64 KiB and 8 MiB, on real drives.
//!
//! `cargo run --release -p dh-store --example bodies -- DIR [K M]`: directories `DIR/drive0..` stand for drives. Bodies cannot be
//! compressed and are unique. CPU is user and system time of the whole process, so that it does not depend on the load.

use std::time::Instant;

use bytes::Bytes;
use dh_store::{Code, Compression, DriveConfig, Store, StoreConfig};
use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};

const SHARD: usize = 256 << 10;
const WINDOW: usize = 16 << 10;

fn cpu_us() -> Result<u64, Box<dyn std::error::Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    // Ticks of 10 ms.
    Ok((ticks(11) + ticks(12)) * 10_000)
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn say(line: std::fmt::Arguments<'_>) -> std::io::Result<()> {
    use std::io::Write as _;
    writeln!(std::io::stdout(), "{line}")
}

fn coding(k: usize, m: usize) -> Result<(), Box<dyn std::error::Error>> {
    let shards: Vec<Vec<u8>> = (0..k).map(|index| noise(index as u64 + 1, SHARD)).collect();
    let rounds = 64_u32;
    let mut encoder = ReedSolomonEncoder::new(k, m, WINDOW)?;
    let started = Instant::now();
    for _round in 0..rounds {
        for at in (0..SHARD).step_by(WINDOW) {
            encoder.reset(k, m, WINDOW)?;
            for shard in &shards {
                encoder.add_original_shard(shard.get(at..at + WINDOW).unwrap_or_default())?;
            }
            std::hint::black_box(encoder.encode()?.recovery(0).map(<[u8]>::len));
        }
    }
    let bytes = u32::try_from(k * SHARD)?;
    let encode = f64::from(rounds) * f64::from(bytes) / started.elapsed().as_secs_f64() / 1e9;
    encoder.reset(k, m, WINDOW)?;
    for shard in &shards {
        encoder.add_original_shard(shard.get(..WINDOW).unwrap_or_default())?;
    }
    let parity: Vec<Vec<u8>> = encoder.encode()?.recovery_iter().map(<[u8]>::to_vec).collect();
    let mut decoder = ReedSolomonDecoder::new(k, m, WINDOW)?;
    let started = Instant::now();
    let windows = u32::try_from(SHARD / WINDOW)?;
    for _round in 0..rounds * windows {
        decoder.reset(k, m, WINDOW)?;
        for (index, shard) in shards.iter().enumerate().skip(m.min(k)) {
            decoder.add_original_shard(index, shard.get(..WINDOW).unwrap_or_default())?;
        }
        for (index, shard) in parity.iter().enumerate() {
            decoder.add_recovery_shard(index, shard)?;
        }
        std::hint::black_box(decoder.decode()?.restored_original(0).map(<[u8]>::len));
    }
    let decode = f64::from(rounds) * f64::from(bytes) / started.elapsed().as_secs_f64() / 1e9;
    say(format_args!(
        "code {k}+{m}: encode {encode:.2} GB/s of data, decode with {m} lost {decode:.2} GB/s, one core"
    ))?;
    Ok(())
}

async fn life(store: &Store, size: usize, count: u32) -> Result<(), Box<dyn std::error::Error>> {
    let bodies: Vec<Bytes> = (0..count.min(64)).map(|index| noise(u64::from(index) + 7, size).into()).collect();
    let (cpu, started) = (cpu_us()?, Instant::now());
    let mut waiting = tokio::task::JoinSet::new();
    for index in 0..count {
        if waiting.len() >= 16
            && let Some(done) = waiting.join_next().await
        {
            done??;
        }
        let (store, body) = (store.clone(), bodies.get(index as usize % bodies.len()).cloned().unwrap_or_default());
        waiting.spawn(async move { store.put_bytes("bench", &format!("{size}/{index}"), body).await.map(|_info| ()) });
    }
    while let Some(done) = waiting.join_next().await {
        done??;
    }
    let put = (cpu_us()? - cpu) / u64::from(count);
    let rate = f64::from(count) / started.elapsed().as_secs_f64();
    let (cpu, started) = (cpu_us()?, Instant::now());
    for index in 0..count {
        store.get_bytes("bench", &format!("{size}/{index}")).await?;
    }
    let get = (cpu_us()? - cpu) / u64::from(count);
    let read = f64::from(count) / started.elapsed().as_secs_f64();
    say(format_args!("{size} bytes: PUT {put} us CPU, {rate:.0}/s; GET {get} us CPU, {read:.0}/s"))?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = std::path::PathBuf::from(arguments.next().ok_or("usage: bodies DIR [K M]")?);
    let data: u8 = arguments.next().map_or(Ok(1), |k| k.parse())?;
    let parity: u8 = arguments.next().map_or(Ok(0), |m| m.parse())?;
    for (k, m) in [(2, 1), (4, 2), (8, 3)] {
        coding(k, m)?;
    }
    let code = Code { data, parity };
    let drives = (0..code.total()).map(|index| DriveConfig { dir: dir.join(format!("drive{index}")) }).collect();
    let config = StoreConfig {
        drives,
        code,
        cache_bytes: 0,
        compression: Compression::Auto,
        ..StoreConfig::new(dir.join("meta"))
    };
    let store = Store::open(config).await?;
    store.create_bucket("bench").await?;
    say(format_args!("{code} on {} directories, cache off, concurrency 16", code.total()))?;
    life(&store, 64 << 10, 4_000).await?;
    life(&store, 8 << 20, 40).await?;
    store.close().await;
    Ok(())
}
