//! Full-duplex transfer with all peers at once, in one thread.
//!
//! A frame is 24 bytes, little-endian: magic `DHC1` | exchange kind u32 | sequence u64 | payload length u64, then the
//! payload. Both sides know the length that must come, so a frame that says otherwise ends the rank instead of filling
//! memory. Sockets do not block; when nothing moves for a while, the thread sleeps in `poll` until something can, so a
//! rank that waits leaves its core to others.

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt;

use super::Error;
use crate::number;

const MAGIC: u32 = u32::from_le_bytes(*b"DHC1");
const HEADER_BYTES: usize = 24;

/// A machine that vanished is noticed after this long without any sign of life.
const LIFE_SIGN_AFTER: Duration = Duration::from_secs(2);
const LIFE_SIGN_EVERY: Duration = Duration::from_secs(1);
const LIFE_SIGNS_MISSED: u32 = 3;
const UNACKNOWLEDGED_MS_MAX: u32 = 5_000;

/// For so long a rank asks again before it sleeps. Waking a sleeping core costs about as much, and most waits within an
/// exchange are shorter; it offers its core to others each time.
const ASK_AGAIN_FOR: Duration = Duration::from_micros(100);

/// An authenticated connection to one peer.
#[derive(Debug)]
pub(super) struct Link {
    peer: u32,
    stream: TcpStream,
}

impl Link {
    /// Prepares `stream` for exchanges.
    pub(super) fn new(peer: u32, stream: TcpStream) -> Result<Self, Error> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        sockopt::set_socket_keepalive(&stream, true).map_err(std::io::Error::from)?;
        sockopt::set_tcp_keepidle(&stream, LIFE_SIGN_AFTER).map_err(std::io::Error::from)?;
        sockopt::set_tcp_keepintvl(&stream, LIFE_SIGN_EVERY).map_err(std::io::Error::from)?;
        sockopt::set_tcp_keepcnt(&stream, LIFE_SIGNS_MISSED).map_err(std::io::Error::from)?;
        sockopt::set_tcp_user_timeout(&stream, UNACKNOWLEDGED_MS_MAX).map_err(std::io::Error::from)?;
        Ok(Self { peer, stream })
    }

    pub(super) const fn peer(&self) -> u32 {
        self.peer
    }
}

/// What goes to and comes from one peer in one exchange.
pub(super) struct Transfer<'a> {
    link: &'a Link,
    outgoing: &'a [u8],
    incoming: &'a mut [u8],
    out_header: [u8; HEADER_BYTES],
    in_header: [u8; HEADER_BYTES],
    /// Bytes of header and payload that went and came.
    sent: usize,
    received: usize,
}

impl<'a> Transfer<'a> {
    pub(super) const fn new(link: &'a Link, outgoing: &'a [u8], incoming: &'a mut [u8]) -> Self {
        let header = [0; HEADER_BYTES];
        Self { link, outgoing, incoming, out_header: header, in_header: header, sent: 0, received: 0 }
    }

    const fn wants_to_send(&self) -> bool {
        self.sent < HEADER_BYTES + self.outgoing.len()
    }

    const fn wants_to_receive(&self) -> bool {
        self.received < HEADER_BYTES + self.incoming.len()
    }

    /// Sends what the socket takes; true if anything went.
    fn send(&mut self, sequence: u64) -> Result<bool, Error> {
        let mut moved = false;
        while self.wants_to_send() {
            let header = self.out_header.get(self.sent..).unwrap_or_default();
            let payload = self.outgoing.get(self.sent.saturating_sub(HEADER_BYTES)..).unwrap_or_default();
            match (&self.link.stream).write_vectored(&[IoSlice::new(header), IoSlice::new(payload)]) {
                Ok(0) => return Err(self.lost(sequence, "the connection takes nothing more".to_owned())),
                Ok(count) => {
                    self.sent += count;
                    moved = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.lost(sequence, error.to_string())),
            }
        }
        Ok(moved)
    }

    /// Takes what the socket has; true if anything came.
    fn receive(&mut self, kind: u32, sequence: u64) -> Result<bool, Error> {
        let mut moved = false;
        while self.wants_to_receive() {
            let in_header = self.received < HEADER_BYTES;
            let room = if in_header {
                self.in_header.get_mut(self.received..).unwrap_or_default()
            } else {
                self.incoming.get_mut(self.received - HEADER_BYTES..).unwrap_or_default()
            };
            match (&self.link.stream).read(room) {
                Ok(0) => return Err(self.lost(sequence, "its process ended".to_owned())),
                Ok(count) => {
                    self.received += count;
                    moved = true;
                    if in_header && self.received == HEADER_BYTES {
                        self.check_header(kind, sequence)?;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.lost(sequence, error.to_string())),
            }
        }
        Ok(moved)
    }

    fn check_header(&self, kind: u32, sequence: u64) -> Result<(), Error> {
        let expected = header(kind, sequence, self.incoming.len());
        if self.in_header == expected {
            return Ok(());
        }
        let [_, kind_got, ..] = words(&self.in_header);
        let [.., low, high] = words(&self.in_header);
        let length = u64::from(low) | u64::from(high) << 32;
        let why = format!(
            "its frame has kind {kind_got} and {length} bytes, expected was kind {kind} with {}",
            self.incoming.len()
        );
        Err(Error::OutOfStep { peer: self.link.peer, sequence, why })
    }

    const fn lost(&self, sequence: u64, why: String) -> Error {
        Error::PeerLost { peer: self.link.peer, sequence, why }
    }
}

fn header(kind: u32, sequence: u64, length: usize) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    let fields = [u64::from(MAGIC) | u64::from(kind) << 32, sequence, number::wide(length)];
    for (place, field) in header.as_chunks_mut::<8>().0.iter_mut().zip(fields) {
        *place = field.to_le_bytes();
    }
    header
}

fn words(header: &[u8; HEADER_BYTES]) -> [u32; 6] {
    let mut words = [0; 6];
    for (word, raw) in words.iter_mut().zip(header.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*raw);
    }
    words
}

/// Carries all transfers out; returns when the last byte went and came.
pub(super) fn exchange(
    mut transfers: Vec<Transfer<'_>>,
    kind: u32,
    sequence: u64,
    timeout: Duration,
) -> Result<(), Error> {
    for transfer in &mut transfers {
        transfer.out_header = header(kind, sequence, transfer.outgoing.len());
    }
    let mut last_move = Instant::now();
    loop {
        let mut moved = false;
        for transfer in &mut transfers {
            moved |= transfer.send(sequence)?;
            moved |= transfer.receive(kind, sequence)?;
        }
        transfers.retain(|transfer| transfer.wants_to_send() || transfer.wants_to_receive());
        let Some(waiting) = transfers.first() else { return Ok(()) };
        let now = Instant::now();
        let idle = now.saturating_duration_since(last_move);
        if moved {
            last_move = now;
        } else if idle >= timeout {
            return Err(Error::PeerSilent { peer: waiting.link.peer, sequence, seconds: timeout.as_secs() });
        } else if idle < ASK_AGAIN_FOR {
            thread::yield_now();
        } else {
            sleep_until_ready(&transfers, timeout.saturating_sub(idle))?;
        }
    }
}

fn sleep_until_ready(transfers: &[Transfer<'_>], at_most: Duration) -> Result<(), Error> {
    let mut sockets: Vec<PollFd<'_>> = transfers
        .iter()
        .map(|transfer| {
            let mut events = PollFlags::empty();
            events.set(PollFlags::IN, transfer.wants_to_receive());
            events.set(PollFlags::OUT, transfer.wants_to_send());
            PollFd::new(&transfer.link.stream, events)
        })
        .collect();
    wait(&mut sockets, at_most)
}

/// `poll` that takes a signal for an early end.
pub(super) fn wait(sockets: &mut [PollFd<'_>], at_most: Duration) -> Result<(), Error> {
    let limit =
        Timespec { tv_sec: at_most.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: at_most.subsec_nanos().into() };
    match poll(sockets, Some(&limit)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(Error::System(error.into())),
    }
}
