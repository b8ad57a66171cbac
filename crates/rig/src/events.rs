//! What happens in a stub's cache, published as vLLM publishes it: `ZeroMQ`'s PUB over ZMTP 3.0, batches of events in `MessagePack`
//! with fields by name, each batch with its number before it. Nothing is repeated to those that come late.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;

use crate::TOKEN_BYTES;
use crate::kv::Change;

/// Batches that a slow subscriber may be behind; then it misses some, as with `ZeroMQ`.
const BEHIND_MAX: usize = 1_024;
/// What subscribers say is short.
const SAID_MAX: usize = 4 << 10;

const COMMAND: u8 = 4;

#[derive(Debug)]
pub(crate) struct Publisher {
    send: broadcast::Sender<Arc<[u8]>>,
    next: Mutex<u64>,
}

impl Default for Publisher {
    fn default() -> Self {
        Self { send: broadcast::channel(BEHIND_MAX).0, next: Mutex::new(0) }
    }
}

/// The stub's tokens: each is four bytes of the prompt.
fn tokens(prompt: &[u8]) -> impl Iterator<Item = u32> + '_ {
    prompt.chunks(TOKEN_BYTES).map(|bytes| bytes.iter().rev().fold(0, |token, byte| (token << 8) | u32::from(*byte)))
}

/// The answer of `/tokenize`.
pub(crate) fn tokens_said(prompt: &[u8]) -> String {
    let mut list = String::new();
    for token in tokens(prompt) {
        let comma = if list.is_empty() { "" } else { "," };
        // Writing to a string cannot fail.
        let _infallible = write!(list, "{comma}{token}");
    }
    format!("{{\"count\":{},\"max_model_len\":1000000,\"tokens\":[{list}]}}", prompt.chunks(TOKEN_BYTES).count())
}

impl Publisher {
    /// Publishes the changes as a batch; called in the order in which they happened. The whole blocks of `prompt` have `digests`.
    pub(crate) fn tell(&self, changes: &[Change], digests: &[u64], prompt: &[u8], block_tokens: usize) {
        let mut events = Vec::new();
        let mut count: u32 = 0;
        for change in changes {
            count += 1;
            match *change {
                Change::Removed(digest) => {
                    events.push(0x82);
                    text(&mut events, "type");
                    text(&mut events, "BlockRemoved");
                    text(&mut events, "block_hashes");
                    events.push(0x91);
                    number(&mut events, digest);
                }
                Change::Stored { digest, parent } => {
                    let place = digests.iter().position(|one| *one == digest).unwrap_or(0);
                    let block = prompt.chunks_exact(block_tokens * TOKEN_BYTES).nth(place).unwrap_or_default();
                    events.push(0x86);
                    text(&mut events, "type");
                    text(&mut events, "BlockStored");
                    text(&mut events, "block_hashes");
                    events.push(0x91);
                    number(&mut events, digest);
                    text(&mut events, "parent_block_hash");
                    match parent {
                        Some(parent) => number(&mut events, parent),
                        None => events.push(0xc0),
                    }
                    text(&mut events, "token_ids");
                    array(&mut events, u32::try_from(block_tokens).unwrap_or(0));
                    for token in tokens(block) {
                        events.push(0xce);
                        events.extend_from_slice(&token.to_be_bytes());
                    }
                    text(&mut events, "block_size");
                    number(&mut events, u64::try_from(block_tokens).unwrap_or(0));
                    text(&mut events, "lora_id");
                    events.push(0xc0);
                }
            }
        }
        if count == 0 {
            return;
        }
        let mut batch = vec![0x82];
        text(&mut batch, "ts");
        batch.extend_from_slice(&[0xcb, 0, 0, 0, 0, 0, 0, 0, 0]);
        text(&mut batch, "events");
        array(&mut batch, count);
        batch.extend_from_slice(&events);
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        // An empty topic, the number, the batch as a long frame.
        let mut message = vec![1, 0, 1, 8];
        message.extend_from_slice(&next.to_be_bytes());
        message.push(2);
        message.extend_from_slice(&u64::try_from(batch.len()).unwrap_or(0).to_be_bytes());
        message.extend_from_slice(&batch);
        *next += 1;
        // Nobody may be listening.
        let _unheard = self.send.send(message.into());
    }

    pub(crate) async fn serve(&self, listener: TcpListener) -> std::io::Result<()> {
        loop {
            let (stream, _) = listener.accept().await?;
            let batches = self.send.subscribe();
            // A subscriber that leaves is the subscriber's affair.
            tokio::spawn(async move { drop(subscribed(stream, batches).await) });
        }
    }
}

async fn subscribed(mut stream: TcpStream, mut batches: broadcast::Receiver<Arc<[u8]>>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut greeting = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\0NULL".to_vec();
    greeting.resize(64, 0);
    stream.write_all(&greeting).await?;
    stream.read_exact(&mut greeting).await?;
    stream.write_all(b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03PUB").await?;
    let mut said: Vec<u8> = Vec::new();
    let mut subscribes = false;
    loop {
        while let Some([flags, length]) = said.first_chunk().copied() {
            let Some(body) = said.get(2..2 + usize::from(length)) else { break };
            if flags & COMMAND == 0 {
                subscribes |= body.first() == Some(&1);
            } else if body.starts_with(b"\x09SUBSCRIBE") {
                subscribes = true;
            } else if body.starts_with(b"\x04PING") {
                stream.write_all(b"\x04\x05\x04PONG").await?;
            }
            said.drain(..2 + usize::from(length));
        }
        tokio::select! {
            read = stream.read_buf(&mut said) => {
                if read? == 0 || said.len() > SAID_MAX {
                    return Ok(());
                }
            }
            batch = batches.recv(), if subscribes => match batch {
                Ok(batch) => stream.write_all(&batch).await?,
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return Ok(()),
            },
        }
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    // Names of fields have fewer than 32 bytes.
    out.push(0xa0 | u8::try_from(text.len() % 32).unwrap_or(0));
    out.extend_from_slice(text.as_bytes());
}

fn number(out: &mut Vec<u8>, number: u64) {
    out.push(0xcf);
    out.extend_from_slice(&number.to_be_bytes());
}

fn array(out: &mut Vec<u8>, count: u32) {
    out.push(0xdd);
    out.extend_from_slice(&count.to_be_bytes());
}
