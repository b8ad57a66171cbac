//! The part of ZMTP 3 that a subscriber needs: greeting without a mechanism, one subscription, messages of several frames, pings;
//! and a dealer's question for what was missed.
//!
//! *Invariant*: a message has at most [`FRAMES_MAX`] frames and [`FRAME_BYTES_MAX`] bytes in each, whatever the peer says; a peer that
//! says nothing for [`SILENCE`], pings unanswered, is gone. Source: `ZeroMQ` RFC 23 (ZMTP 3.0) and 37 (3.1, for pings).

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// A batch of a step of the largest engines is some hundred thousand bytes.
const FRAME_BYTES_MAX: u64 = 8 << 20;
const FRAMES_MAX: usize = 8;
/// To connect and greet.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two pings.
const PING_EVERY: Duration = Duration::from_secs(15);
const SILENCE: Duration = Duration::from_mins(1);

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Socket {
    /// Hears all that is published.
    Subscriber,
    /// Asks a router.
    Dealer,
}

/// A greeted connection.
pub(super) struct Peer {
    stream: BufReader<TcpStream>,
    heard: Instant,
    pinged: Instant,
    /// Frames of a message that has not ended.
    frames: Vec<Vec<u8>>,
    /// What of the next frame has come.
    partial: Vec<u8>,
}

fn broken(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// The host and port of `tcp://host:port`.
pub(super) fn address(endpoint: &str) -> Option<&str> {
    let address = endpoint.strip_prefix("tcp://")?;
    let (host, port) = address.rsplit_once(':')?;
    let named = !host.is_empty() && host != "*" && !host.chars().any(|letter| letter.is_whitespace() || letter == '/');
    (named && port.parse::<u16>().is_ok_and(|port| port > 0)).then_some(address)
}

impl Peer {
    /// # Errors
    /// What connecting says; [`io::ErrorKind::TimedOut`]; [`io::ErrorKind::InvalidData`] if the peer does not speak as a publisher or
    /// router does.
    pub(super) async fn open(endpoint: &str, socket: Socket) -> io::Result<Self> {
        let greeted = timeout(PATIENCE, Self::greet(endpoint, socket));
        greeted.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    async fn greet(endpoint: &str, socket: Socket) -> io::Result<Self> {
        let address = address(endpoint).ok_or_else(|| broken("no address"))?;
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let now = Instant::now();
        let mut peer =
            Self { stream: BufReader::new(stream), heard: now, pinged: now, frames: Vec::new(), partial: Vec::new() };
        let mut greeting = [0_u8; 64];
        greeting[..10].copy_from_slice(b"\xff\0\0\0\0\0\0\0\x01\x7f");
        greeting[10] = 3;
        greeting[12..16].copy_from_slice(b"NULL");
        peer.stream.write_all(&greeting).await?;
        let mut theirs = [0_u8; 64];
        peer.stream.read_exact(&mut theirs).await?;
        if theirs[0] != 0xff || theirs[9] & 1 != 1 || theirs[10] < 3 {
            return Err(broken("the peer does not speak ZMTP 3"));
        }
        if theirs[12..32] != greeting[12..32] {
            return Err(broken("the peer wants a mechanism of security"));
        }
        let (kind, partner) = match socket {
            Socket::Subscriber => (&b"SUB"[..], &[&b"PUB"[..], b"XPUB"][..]),
            Socket::Dealer => (&b"DEALER"[..], &[&b"ROUTER"[..], b"DEALER", b"REP"][..]),
        };
        let mut ready = b"\x05READY".to_vec();
        ready.extend_from_slice(b"\x0bSocket-Type\0\0\0");
        ready.push(u8::try_from(kind.len()).unwrap_or(0));
        ready.extend_from_slice(kind);
        peer.write(COMMAND, &ready).await?;
        let (flags, said) = peer.frame().await?;
        if flags & COMMAND == 0 || !is_ready_of(&said, partner) {
            return Err(broken("the peer is of another kind"));
        }
        if socket == Socket::Subscriber {
            // To all topics.
            peer.write(0, b"\x01").await?;
        }
        Ok(peer)
    }

    async fn write(&mut self, flags: u8, body: &[u8]) -> io::Result<()> {
        // All that is written here is short.
        let length = u8::try_from(body.len()).map_err(|_| broken("a frame is too long"))?;
        let frame = [&[flags, length], body].concat();
        timeout(PATIENCE, self.stream.write_all(&frame)).await.map_err(|_| io::ErrorKind::TimedOut)?
    }

    /// Sends a message of some short frames.
    pub(super) async fn send(&mut self, frames: &[&[u8]]) -> io::Result<()> {
        for (left, frame) in (0..frames.len()).rev().zip(frames) {
            self.write(if left > 0 { MORE } else { 0 }, frame).await?;
        }
        Ok(())
    }

    /// The next message.
    /// # Errors
    /// Those of the connection; [`io::ErrorKind::TimedOut`] if it is silent for too long.
    pub(super) async fn message(&mut self) -> io::Result<Vec<Vec<u8>>> {
        loop {
            let now = Instant::now();
            if now.duration_since(self.heard) > SILENCE {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let due = self.pinged + PING_EVERY;
            if now >= due {
                self.pinged = now;
                self.write(COMMAND, b"\x04PING\0\0").await?;
            }
            let Ok(read) = tokio::time::timeout_at(self.pinged + PING_EVERY, self.frame()).await else { continue };
            let (flags, body) = read?;
            self.heard = Instant::now();
            if flags & COMMAND != 0 {
                if let Some(rest) = body.strip_prefix(b"\x04PING") {
                    // Two bytes of a time to live, then up to 16 that come back.
                    let context = rest.get(2..).unwrap_or_default();
                    let pong = [b"\x04PONG", context.get(..16).unwrap_or(context)].concat();
                    self.write(COMMAND, &pong).await?;
                }
                continue;
            }
            if self.frames.len() >= FRAMES_MAX {
                return Err(broken("a message of too many frames"));
            }
            self.frames.push(body);
            if flags & MORE == 0 {
                return Ok(std::mem::take(&mut self.frames));
            }
        }
    }

    /// One frame: its flags and its body. May be dropped at any time: what was read is kept.
    async fn frame(&mut self) -> io::Result<(u8, Vec<u8>)> {
        loop {
            let head = if self.partial.first().is_some_and(|flags| flags & LONG != 0) { 9 } else { 2 };
            let length = self
                .partial
                .get(1..head)
                .map(|length| length.iter().fold(0_u64, |length, byte| (length << 8) | u64::from(*byte)));
            let missing = match length {
                None => head - self.partial.len(),
                Some(length) if length > FRAME_BYTES_MAX => return Err(broken("a frame is too long")),
                Some(length) => {
                    let whole = head + usize::try_from(length).map_err(|_| broken("a frame is too long"))?;
                    if self.partial.len() >= whole {
                        let flags = self.partial.first().copied().unwrap_or(0);
                        let body = self.partial.get(head..).unwrap_or_default().to_vec();
                        self.partial.clear();
                        // A long frame's room is not kept.
                        self.partial.shrink_to(64 << 10);
                        return Ok((flags, body));
                    }
                    whole - self.partial.len()
                }
            };
            let mut limited = (&mut self.stream).take(u64::try_from(missing).unwrap_or(0));
            if limited.read_buf(&mut self.partial).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// Whether it is a READY of one of these kinds.
fn is_ready_of(said: &[u8], kinds: &[&[u8]]) -> bool {
    let Some(mut rest) = said.strip_prefix(b"\x05READY") else { return false };
    while let Some((&length, behind)) = rest.split_first() {
        let Some((name, behind)) = behind.split_at_checked(usize::from(length)) else { return false };
        let Some((length, behind)) = behind.split_first_chunk::<4>() else { return false };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let Some((value, behind)) = behind.split_at_checked(length) else { return false };
        if name.eq_ignore_ascii_case(b"Socket-Type") {
            return kinds.contains(&value);
        }
        rest = behind;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[test]
    fn addresses_name_a_host_and_a_port() {
        assert_eq!(address("tcp://127.0.0.1:5557"), Some("127.0.0.1:5557"));
        assert_eq!(address("tcp://[::1]:1"), Some("[::1]:1"));
        for bad in [
            "",
            "tcp://",
            "127.0.0.1:1",
            "tcp://h",
            "tcp://*:5557",
            "tcp://h:0",
            "tcp://h:x",
            "ipc:///x",
            "tcp://a b:1",
        ] {
            assert_eq!(address(bad), None, "{bad}");
        }
    }

    /// A peer that greets, is ready, and then says `rest`.
    async fn publisher(greeting: &'static [u8], rest: Vec<u8>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = [0; 64];
            bytes[..greeting.len()].copy_from_slice(greeting);
            stream.write_all(&bytes).await.unwrap();
            stream.write_all(b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03PUB").await.unwrap();
            for byte in rest {
                stream.write_all(&[byte]).await.unwrap();
            }
            // Open until the other side leaves.
            let mut sink = Vec::new();
            let _end = stream.read_to_end(&mut sink).await;
        });
        endpoint
    }

    const GREETING: &[u8] = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01NULL";

    #[tokio::test]
    async fn messages_come_whole_however_they_are_cut_and_pings_stand_between() {
        let rest = b"\x01\x00\x04\x07\x04PING\0\0\x01\x02no\x02\0\0\0\0\0\0\0\x03abc\x00\x01z".to_vec();
        let endpoint = publisher(GREETING, rest).await;
        let mut peer = Peer::open(&endpoint, Socket::Subscriber).await.unwrap();
        assert_eq!(peer.message().await.unwrap(), [&b""[..], b"no", b"abc"]);
        assert_eq!(peer.message().await.unwrap(), [b"z"]);
    }

    #[tokio::test]
    async fn peers_that_speak_otherwise_or_too_much_are_left() {
        let other: &[&[u8]] = &[
            b"HTTP/1.1 400 Bad Request",
            b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01PLAIN",
            b"\xff\0\0\0\0\0\0\0\x01\x7f\x02\x00NULL",
        ];
        for greeting in other {
            let endpoint = publisher(greeting, Vec::new()).await;
            assert!(Peer::open(&endpoint, Socket::Subscriber).await.is_err(), "{greeting:?}");
        }
        let endpoint = publisher(GREETING, Vec::new()).await;
        assert!(Peer::open(&endpoint, Socket::Dealer).await.is_err(), "a publisher is no router");
        for rest in [b"\x02\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(), b"\x01\x00".repeat(20)] {
            let endpoint = publisher(GREETING, rest).await;
            let mut peer = Peer::open(&endpoint, Socket::Subscriber).await.unwrap();
            assert_eq!(peer.message().await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }
}
